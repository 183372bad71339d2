//! The saved copy of control's last word, for a start while control is away.
//!
//! Owns one small file. Its weights must never be trusted for longer than a day, and a copy that cannot be read is no
//! copy. Next: `memory.rs`, which copy is used.

use super::memory::{Configured, Remembered};
use crate::process::Origin;
use crate::state::change::RouteWeights;
use gateway_config::discovered::GatewayResources;
use gateway_config::wire::{Version, WeightSource};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Older weights say nothing about today. Listeners and clusters have no such age: they change with a release of
/// control's file, and without them the gateway serves nobody.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// A copy that control confirmed is written anew after so long: its age counts from the last confirmation.
const REFRESH: Duration = Duration::from_secs(600);
/// The shape of the document; one without a configuration is of the same.
const FORMAT: u32 = 1;

/// Writes copies away from the thread that answers health checks: a disk may hang. Clones write one file.
#[derive(Clone, Debug)]
pub struct Saver {
    latest: Rc<watch::Sender<Document>>,
    kept: Rc<RefCell<Kept>>,
}

/// What was given to the writer, and when.
#[derive(Debug, Default)]
struct Kept {
    weights: Option<(String, Instant)>,
    configuration: Option<(String, Instant)>,
}

impl Saver {
    /// Starts the writer on the present thread's local set. What the file has stays until control says more.
    pub fn start(folder: String) -> Self {
        let before = document(&folder).unwrap_or_default();
        let latest = watch::Sender::new(before);
        tokio::task::spawn_local(write_latest(folder, latest.subscribe()));
        Self { latest: Rc::new(latest), kept: Rc::default() }
    }

    /// Control said this of weights just now.
    pub fn keep(&self, version_info: &str, routes: &[RouteWeights]) {
        if is_news(&mut self.kept.borrow_mut().weights, version_info) {
            self.latest.send_modify(|document| document.put_weights(version_info, routes));
        }
    }

    /// Control said this of listeners and clusters just now.
    pub fn keep_configuration(&self, version_info: &str, resources: &GatewayResources) {
        if is_news(&mut self.kept.borrow_mut().configuration, version_info) {
            self.latest.send_modify(|document| document.put_configuration(version_info, resources));
        }
    }
}

fn is_news(kept: &mut Option<(String, Instant)>, version_info: &str) -> bool {
    let fresh = |(version, at): &(String, Instant)| version == version_info && at.elapsed() < REFRESH;
    let news = !kept.as_ref().is_some_and(fresh);
    if news {
        *kept = Some((version_info.to_owned(), Instant::now()));
    }
    news
}

async fn write_latest(folder: String, mut latest: watch::Receiver<Document>) {
    while latest.changed().await.is_ok() {
        let document = latest.borrow_and_update().clone();
        let place = folder.clone();
        let written = tokio::task::spawn_blocking(move || write(&place, &document)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, folder, "control's word could not be saved for the next start");
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    /// Of the weights; empty when there are none.
    version_info: String,
    saved_at: u64,
    routes: BTreeMap<String, Saved>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configuration: Option<SavedConfiguration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    weights: BTreeMap<String, u32>,
    stable: Option<String>,
    since: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedConfiguration {
    version_info: String,
    saved_at: u64,
    #[serde(flatten)]
    resources: GatewayResources,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            format: FORMAT,
            version_info: String::new(),
            saved_at: 0,
            routes: BTreeMap::new(),
            configuration: None,
        }
    }
}

impl Document {
    fn put_weights(&mut self, version_info: &str, routes: &[RouteWeights]) {
        let saved = |route: &RouteWeights| Saved {
            weights: route.weights.clone(),
            stable: route.stable.clone(),
            since: seconds(route.since),
        };
        version_info.clone_into(&mut self.version_info);
        self.saved_at = seconds(SystemTime::now());
        self.routes = routes.iter().map(|route| (route.route.clone(), saved(route))).collect();
    }

    fn put_configuration(&mut self, version_info: &str, resources: &GatewayResources) {
        self.configuration = Some(SavedConfiguration {
            version_info: version_info.to_owned(),
            saved_at: seconds(SystemTime::now()),
            resources: resources.clone(),
        });
    }

    fn weights(self) -> Vec<RouteWeights> {
        let version = self.version_info;
        let route = |(route, saved): (String, Saved)| RouteWeights {
            route,
            weights: saved.weights,
            stable: saved.stable,
            source: WeightSource::Saved,
            version: version.clone(),
            since: time(saved.since),
        };
        self.routes.into_iter().map(route).collect()
    }
}

fn path(folder: &str) -> PathBuf {
    Path::new(folder).join("weights.json")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A time that cannot be is as old as can be.
fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

/// Writes the copy: a temporary file beside it, then a rename. The old copy stays when that fails.
fn write(folder: &str, document: &Document) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (target, temporary) = (path(folder), path(folder).with_extension("tmp"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(serde_json::to_string_pretty(document)?.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, target)
}

fn document(folder: &str) -> Option<Document> {
    let text = std::fs::read(path(folder)).ok()?;
    let document: Document = serde_json::from_slice(&text)
        .inspect_err(
            |error| tracing::warn!(%error, folder, "the saved copy cannot be read and is passed over"),
        )
        .ok()?;
    if document.format != FORMAT {
        tracing::warn!(
            folder,
            format = document.format,
            "the saved copy is of another build and is passed over"
        );
        return None;
    }
    Some(document)
}

/// The copy, if there is one; its weights only while they are not too old.
pub fn read(folder: &str, now: SystemTime) -> Option<Remembered> {
    let document = document(folder)?;
    let since = time(document.saved_at);
    let age = now.duration_since(since).unwrap_or_default();
    let configuration = document.configuration.clone().map(|saved| Configured {
        version: saved.version_info,
        since: time(saved.saved_at),
        resources: saved.resources,
    });
    let version = Version::parse(&document.version_info);
    let mut found = Remembered { origin: Origin::Saved, version: None, routes: Vec::new(), configuration };
    if age <= MAX_AGE {
        found.version = version;
        found.routes = document.weights();
    } else if version.is_some() {
        tracing::warn!(folder, age_seconds = age.as_secs(), "the saved weights are too old");
    }
    (found.version.is_some() || found.configuration.is_some()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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

    fn both() -> (Document, GatewayResources) {
        let resources =
            GatewayResources { listeners: vec![json!({"name": "ingress"})], clusters: vec![json!({})] };
        let mut document = Document::default();
        document.put_weights("3.7-c", &[one()]);
        document.put_configuration("3.2-c", &resources);
        (document, resources)
    }

    #[test]
    fn what_was_saved_is_read_back_and_says_that_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        let (document, resources) = both();
        write(folder, &document).unwrap();
        let found = read(folder, SystemTime::now()).unwrap();
        assert_eq!(found.version, Version::parse("3.7-c"));
        assert_eq!(found.routes, [RouteWeights { source: WeightSource::Saved, ..one() }]);
        let configured = found.configuration.unwrap();
        assert_eq!((configured.version.as_str(), configured.resources), ("3.2-c", resources));
    }

    #[test]
    fn weights_older_than_a_day_are_no_weights_and_the_configuration_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        write(folder, &both().0).unwrap();
        let found = read(folder, SystemTime::now() + MAX_AGE + Duration::from_secs(60)).unwrap();
        assert_eq!((found.version, found.routes), (None, Vec::new()));
        assert_eq!(found.configuration.unwrap().version, "3.2-c");
    }

    #[test]
    fn a_copy_that_is_missing_broken_or_of_another_build_is_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        assert!(read(folder, SystemTime::now()).is_none());
        std::fs::write(path(folder), "{\"format\": 1, \"ver").unwrap();
        assert!(read(folder, SystemTime::now()).is_none());
        write(folder, &Document { format: 2, ..both().0 }).unwrap();
        assert!(read(folder, SystemTime::now()).is_none());
    }

    #[test]
    fn a_copy_of_a_build_that_knew_weights_only_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = json!({"format": 1, "version_info": "3.7-c", "saved_at": seconds(SystemTime::now()),
            "routes": {"svc1": {"weights": {"v1": 1}, "stable": null, "since": u64::MAX}}});
        std::fs::write(folder.path().join("weights.json"), text.to_string()).unwrap();
        let found = read(folder.path().to_str().unwrap(), SystemTime::now()).unwrap();
        assert_eq!(found.routes[0].weights["v1"], 1);
        assert!(found.configuration.is_none());
    }
}
