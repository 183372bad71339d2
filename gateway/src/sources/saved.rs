//! The saved copy of control's last word, for a start while control is away.
//!
//! Owns one small file. It must never be trusted for longer than a day, and a copy that cannot be read is no copy.
//! Next: `report.rs`.

use crate::state::change::RouteWeights;
use gateway_config::wire::WeightSource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Older copies say nothing about today.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// A copy that control confirmed is written anew after so long: its age counts from the last confirmation.
const REFRESH: Duration = Duration::from_secs(600);

/// Writes copies away from the thread that answers health checks: a disk may hang.
#[derive(Debug)]
pub struct Saver {
    latest: watch::Sender<(String, Vec<RouteWeights>)>,
    kept: Option<(String, Instant)>,
}

impl Saver {
    /// Starts the writer on the present thread's local set.
    pub fn start(folder: String) -> Self {
        let latest = watch::Sender::default();
        tokio::task::spawn_local(write_latest(folder, latest.subscribe()));
        Self { latest, kept: None }
    }

    /// Control said this just now.
    pub fn keep(&mut self, version_info: &str, routes: Vec<RouteWeights>) {
        let fresh = |(version, at): &(String, Instant)| version == version_info && at.elapsed() < REFRESH;
        if !self.kept.as_ref().is_some_and(fresh) {
            self.kept = Some((version_info.to_owned(), Instant::now()));
            self.latest.send_replace((version_info.to_owned(), routes));
        }
    }
}

async fn write_latest(folder: String, mut latest: watch::Receiver<(String, Vec<RouteWeights>)>) {
    while latest.changed().await.is_ok() {
        let (version, routes) = latest.borrow_and_update().clone();
        let place = folder.clone();
        let written = tokio::task::spawn_blocking(move || write(&place, &version, &routes)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, folder, "the weights could not be saved for the next start");
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    version_info: String,
    saved_at: u64,
    routes: BTreeMap<String, Saved>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    weights: BTreeMap<String, u32>,
    stable: Option<String>,
    since: u64,
}

fn path(folder: &str) -> PathBuf {
    Path::new(folder).join("weights.json")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Writes the copy: a temporary file beside it, then a rename.
///
/// # Errors
/// The operating system's; the old copy stays.
pub fn write(folder: &str, version_info: &str, routes: &[RouteWeights]) -> std::io::Result<()> {
    let saved = |route: &RouteWeights| Saved {
        weights: route.weights.clone(),
        stable: route.stable.clone(),
        since: seconds(route.since),
    };
    let document = Document {
        format: 1,
        version_info: version_info.to_owned(),
        saved_at: seconds(SystemTime::now()),
        routes: routes.iter().map(|route| (route.route.clone(), saved(route))).collect(),
    };
    std::fs::create_dir_all(folder)?;
    let (target, temporary) = (path(folder), path(folder).with_extension("tmp"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(serde_json::to_string_pretty(&document)?.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, target)
}

/// The copy and its version, if there is one that is not too old.
pub fn read(folder: &str, now: SystemTime) -> Option<(String, Vec<RouteWeights>)> {
    let text = std::fs::read(path(folder)).ok()?;
    let document: Document = serde_json::from_slice(&text)
        .inspect_err(
            |error| tracing::warn!(%error, folder, "the saved weights cannot be read and are passed over"),
        )
        .ok()?;
    let saved_at = UNIX_EPOCH + Duration::from_secs(document.saved_at);
    let age = now.duration_since(saved_at).unwrap_or_default();
    if document.format != 1 || age > MAX_AGE {
        tracing::warn!(
            folder,
            age_seconds = age.as_secs(),
            "the saved weights are too old or of another format"
        );
        return None;
    }
    let version = document.version_info.clone();
    let route = |(route, saved): (String, Saved)| RouteWeights {
        route,
        weights: saved.weights,
        stable: saved.stable,
        source: WeightSource::Saved,
        version: version.clone(),
        since: UNIX_EPOCH + Duration::from_secs(saved.since),
    };
    Some((document.version_info, document.routes.into_iter().map(route).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> RouteWeights {
        RouteWeights {
            route: "svc1".into(),
            weights: [("v1".to_owned(), 9000), ("v2".to_owned(), 1000)].into(),
            stable: Some("v1".into()),
            source: WeightSource::Control,
            version: "3.7-c".into(),
            since: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
    }

    #[test]
    fn what_was_saved_is_read_back_and_says_that_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        write(folder, "3.7-c", &[one()]).unwrap();
        let (version, routes) = read(folder, SystemTime::now()).unwrap();
        assert_eq!(version, "3.7-c");
        assert_eq!(routes, [RouteWeights { source: WeightSource::Saved, ..one() }]);
    }

    #[test]
    fn a_copy_older_than_a_day_or_broken_is_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        assert_eq!(read(folder, SystemTime::now()), None);
        write(folder, "3.7-c", &[one()]).unwrap();
        assert_eq!(read(folder, SystemTime::now() + MAX_AGE + Duration::from_secs(60)), None);
        std::fs::write(path(folder), "{\"format\": 1, \"ver").unwrap();
        assert_eq!(read(folder, SystemTime::now()), None);
    }
}
