//! The admin interface over a real socket: shapes, states, statistics, and who may change what.
//!
//! Reading order: `support` (a gateway without traffic), `pages`, `changes`, `statistics`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod changes;
mod pages;
mod statistics;
mod support;
