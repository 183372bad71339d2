//! Who changes what runs: the file, DNS, Cloud Map, control.
//!
//! Owns nothing but the start of each source. Sources send changes to the store and never read a request.
//! Next: `endpoints.rs`.

pub mod backoff;
pub mod cloud_map;
pub mod configuration;
pub mod control;
pub mod dialing;
pub mod dns;
pub mod endpoints;
pub mod fallback;
pub mod file;
pub mod link;
pub mod membership;
pub mod memory;
pub mod overrides;
pub mod report;
pub mod saved;
mod state_item;
pub mod vital;

use crate::environment::Environment;
use crate::process::{Origin, Process};
use configuration::{Configuration, Open};
use link::{Link, LinkError};
use memory::Memory;
use saved::Saver;
use std::path::PathBuf;
use std::sync::Arc;
use vital::Vital;

/// What the sources are told beside the configuration.
pub struct Settings {
    /// `--config`: watched when it has the listeners.
    pub file: Option<PathBuf>,
    /// `--state-dir`: wins over the configuration's.
    pub state_dir: Option<String>,
    /// Completes the file at each reading.
    pub environment: Environment,
    /// Opens the first configuration from control, when the gateway has no listeners of its own.
    pub open: Open,
}

/// Starts every source that the configuration asks for, on the present thread's local set. What LIVE waits for is
/// registered before this returns. The answer is for [`report::farewell`]: control, if there is one.
///
/// # Errors
/// When control is configured and could never be asked: certificates that cannot be used.
pub fn start(process: &Arc<Process>, settings: Settings) -> Result<Option<Link>, LinkError> {
    let vital = Vital::of(process);
    vital.spawn("overrides", overrides::end(Arc::clone(&process.store)));
    let bootstrap = Arc::clone(&process.store.snapshot().routes.bootstrap);
    let own = !bootstrap.listeners.is_empty();
    if own {
        endpoints::start(process);
        if let Some(path) = settings.file {
            vital.spawn("file", file::watch(Arc::clone(process), path, settings.environment));
        }
    }
    let Some(mut control) = bootstrap.control.clone() else { return Ok(None) };
    control.state_dir = settings.state_dir.or(control.state_dir);
    let link = Link::new(&control)?;
    let memory = Memory::start(process, &control);
    let saver = control.state_dir.map(Saver::start);
    if own {
        control::start(process, &link, saver, memory);
    } else {
        process.note_provenance(|provenance| provenance.origin = Origin::Awaited);
        let guard = process.ready.register_task("listeners and clusters from control");
        let talk = Configuration::new(Arc::clone(process), link.another(), saver, settings.open);
        vital.spawn("configuration", talk.run(guard, memory));
    }
    Ok(Some(link))
}
