//! Who changes what runs: the file, DNS, Cloud Map, control.
//!
//! Owns nothing but the start of each source. Sources send changes to the store and never read a request.
//! Next: `endpoints.rs`.

pub mod backoff;
pub mod cloud_map;
pub mod control;
pub mod dns;
pub mod endpoints;
pub mod file;
pub mod link;
pub mod membership;
pub mod report;
pub mod saved;
pub mod vital;

use crate::environment::Environment;
use crate::process::Process;
use link::Link;
use std::path::PathBuf;
use std::sync::Arc;

/// Starts every source that the configuration asks for, on the present thread's local set. What LIVE waits for is
/// registered before this returns. The answer is for [`report::farewell`]: control, if there is one.
pub fn start(
    process: &Arc<Process>,
    file: Option<PathBuf>,
    state_dir: Option<String>,
    environment: &Environment,
) -> Option<Link> {
    endpoints::start(process);
    if let Some(path) = file {
        vital::Vital::of(process).spawn("file", file::watch(Arc::clone(process), path, environment.clone()));
    }
    let bootstrap = Arc::clone(&process.store.snapshot().routes.bootstrap);
    let mut config = bootstrap.control.clone()?;
    config.state_dir = state_dir.or(config.state_dir);
    control::start(process, config)
}
