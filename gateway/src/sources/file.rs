//! The configuration file, read again when it changes.
//!
//! Owns the polling: bind mounts, EFS and symlink swaps defeat file notifications. It must never apply half of a
//! file: what is refused is named, and what ran goes on. Next: `control.rs`.

use crate::environment::Environment;
use crate::process::Process;
use crate::state::change::Change;
use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use gateway_config::read_bootstrap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(2);

/// Watches for ever.
pub async fn watch(process: Arc<Process>, path: PathBuf, environment: Environment) {
    let mut seen = fingerprint(&path);
    loop {
        tokio::time::sleep(POLL).await;
        let now = fingerprint(&path);
        // A file that cannot be read for a moment is being replaced.
        if now.is_some() && now != seen {
            seen = now;
            reload(&process, &path, &environment);
        }
    }
}

fn fingerprint(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

fn reload(process: &Process, path: &Path, environment: &Environment) {
    let result =
        read_bootstrap(path).map_err(|diagnostics| diagnostics.to_string()).and_then(|mut bootstrap| {
            environment.complete(&mut bootstrap);
            process.store.apply(Change::Config(Arc::new(bootstrap))).map_err(|rejected| rejected.to_string())
        });
    let (stat, error) = match result {
        Ok(snapshot) => {
            tracing::info!(path = %path.display(), generation = snapshot.generation, "configuration reloaded");
            (ServerStat::ConfigReloadSuccess, String::new())
        }
        Err(error) => {
            tracing::error!(path = %path.display(), "configuration refused, the one before goes on:\n{error}");
            (ServerStat::ConfigReloadRejected, error)
        }
    };
    process.registry.server.inc(Shard::SHARED, stat);
    *process.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
}
