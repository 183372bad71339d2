//! `cargo demo`: the whole product on one machine.
//!
//! Owns the order of what the demo does.

use anyhow::{Result, bail};
use clap::Args;

/// What may be said after `cargo demo --`.
#[derive(Args)]
pub struct Options {}

/// Runs the demo.
pub fn run(_: Options) -> Result<bool> {
    bail!("the demo is not there yet")
}
