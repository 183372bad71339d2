//! The configuration file, read again when it changes.
//!
//! Owns the polling: bind mounts, EFS and symlink swaps defeat file notifications. It must never apply half of a
//! file: what is refused is named, and what ran goes on. Next: `control.rs`.

use crate::environment::Environment;
use crate::process::Process;
use crate::state::change::Change;
use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

/// How often the file is looked at. What is new is taken when two looks in a row saw the same.
const POLL: Duration = Duration::from_secs(1);

/// Watches for ever.
pub async fn watch(process: Arc<Process>, path: PathBuf, environment: Environment) {
    // Nothing is known at first: the file may have changed between the start's reading and now.
    let mut taken = None;
    let mut before = None;
    loop {
        tokio::time::sleep(POLL).await;
        let now = fingerprint(&path);
        // A file that cannot be read for a moment is being replaced, one that still changes is being written.
        if now.is_some() && now == before && now != taken {
            reload(&process, &path, &environment, taken.is_none());
            taken = now;
        }
        before = now;
    }
}

fn fingerprint(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

/// `first`: nothing was taken from this watch yet, so what is read is most likely what runs already.
fn reload(process: &Process, path: &Path, environment: &Environment, first: bool) {
    let read = environment.read_file(path);
    if first && read.as_ref().is_ok_and(|read| *read == *process.store.snapshot().routes.bootstrap) {
        return;
    }
    let apply = |bootstrap| process.store.apply(Change::Config(Arc::new(bootstrap)));
    let result = read.and_then(|bootstrap| apply(bootstrap).map_err(|rejected| rejected.to_string()));
    let (stat, error) = match result {
        Ok(snapshot) => {
            tracing::info!(path = %path.display(), generation = snapshot.generation, "configuration reloaded");
            process.note_provenance(|provenance| provenance.since = SystemTime::now());
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
