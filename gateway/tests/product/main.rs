//! The product as its users have it: gateways, control and load as processes, AWS, DNS and the load balancer played.
//!
//! Owns the promises that only the whole can keep. Programs beside the gateway come from `cargo build --workspace`,
//! which `cargo test --workspace` does by itself. Next: `world.rs`, how each part is started.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod app_mesh;
mod bad_input;
mod clients;
mod config_control;
mod discovery;
mod dns;
mod dns_fallback;
mod doctor;
mod drain;
mod environment_control;
mod environment_only;
mod environment_refused;
mod fake_control;
mod load;
mod losing_control;
mod overrides;
mod reload;
mod split;
mod start;
mod switching;
mod world;
