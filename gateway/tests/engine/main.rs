//! The data plane as its clients and its backends see it: real bytes on real sockets, the gateway as a process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod client_leaves;
mod connections;
mod differential;
mod drain;
mod endpoints;
mod headers;
mod http2;
mod limits;
mod mixed;
mod refusals;
mod retries;
mod routing;
mod upgrades;
mod upstream_ends;
