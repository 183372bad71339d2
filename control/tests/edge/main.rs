//! The edge of control: who may do what, TLS, `control apply`, and what it tells the world outside.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod apply;
mod emf;
mod roles;
#[path = "../support/mod.rs"]
mod support;
mod tls_port;
mod webhooks;
