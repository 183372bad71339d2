//! The kit's own task definitions in an account on one machine: nights when something is gone.
//!
//! Everything that the tasks know is what `config/ecs/example` gives them. Run by `cargo xtask test`; needs root for the
//! network namespaces, and moto.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod bad_input;
mod documents;
mod migration;
mod nights;
mod world;
