//! What is remembered of control's last word, for a start while control is away.
//!
//! Owns the choice between the saved copy and control's state item: the newer one. It must never be asked once control
//! has spoken. Next: `state_item.rs`.

use super::saved;
use super::state_item;
use crate::process::{Origin, Process};
use crate::state::change::RouteWeights;
use gateway_config::discovered::GatewayResources;
use gateway_config::model::{Control, StateItem};
use gateway_config::wire::Version;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// Between two readings of a state item that gave nothing: somebody may be giving the task the permission just now.
const AGAIN: Duration = Duration::from_secs(30);

/// Control's word from one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// Which place.
    pub origin: Origin,
    /// The version of the weights; none when there are none.
    pub version: Option<Version>,
    /// Their source is `saved`.
    pub routes: Vec<RouteWeights>,
    /// Listeners and clusters.
    pub configuration: Option<Configured>,
}

/// Listeners and clusters as control gave them.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured {
    /// Their version_info; empty when it is not known.
    pub version: String,
    /// Since when they are known.
    pub since: SystemTime,
    /// As on the wire.
    pub resources: GatewayResources,
}

impl Remembered {
    /// How far control had come.
    fn reached(&self) -> (u64, u64) {
        let of = |version: &Version| (version.epoch, version.seq);
        let configured = self.configuration.as_ref().and_then(|c| Version::parse(&c.version));
        self.version.iter().chain(&configured).map(of).max().unwrap_or_default()
    }
}

/// All places.
#[derive(Debug, Default)]
pub struct Memory {
    found: Vec<Remembered>,
    item: Option<oneshot::Receiver<Remembered>>,
}

impl Memory {
    /// Reads the saved copy, and begins to read the state item on the present thread's local set.
    pub fn start(process: &Arc<Process>, control: &Control) -> Self {
        let mut memory = Self::default();
        if let Some(folder) = &control.state_dir {
            let found = saved::read(folder, SystemTime::now());
            if found.as_ref().is_none_or(|found| found.configuration.is_none()) {
                let text = format!("no listeners and clusters are saved in {folder}");
                process.note_provenance(|p| drop(p.waiting.insert("saved copy", text)));
            }
            memory.found.extend(found);
        }
        if let Some(item) = control.state_item.clone() {
            let (tell, told) = oneshot::channel();
            memory.item = Some(told);
            tokio::task::spawn_local(read_item(Arc::clone(process), item, tell));
        }
        memory
    }

    /// Ready once, when the state item has come; pending for ever when it will not. Cancel safe.
    pub async fn more(&mut self) {
        if let Some(item) = &mut self.item
            && let Ok(found) = item.await
        {
            self.item = None;
            self.found.push(found);
            return;
        }
        self.item = None;
        std::future::pending().await
    }

    /// Control has spoken: nothing more is read.
    pub fn close(&mut self) {
        self.item = None;
    }

    /// The newest of all.
    pub fn newest(&self) -> Option<&Remembered> {
        self.found.iter().max_by_key(|found| found.reached())
    }

    /// Those with listeners, the newest first: an older one that can be used is better than none.
    pub fn configurations(&self) -> Vec<(Origin, &Configured)> {
        let mut with: Vec<&Remembered> = self.found.iter().filter(|found| has_listeners(found)).collect();
        with.sort_by_key(|found| std::cmp::Reverse(found.reached()));
        with.into_iter().filter_map(|found| Some((found.origin, found.configuration.as_ref()?))).collect()
    }
}

fn has_listeners(found: &Remembered) -> bool {
    found.configuration.as_ref().is_some_and(|configured| !configured.resources.is_empty())
}

/// Reads until there is an item, or nobody waits for it any more.
async fn read_item(process: Arc<Process>, item: StateItem, mut tell: oneshot::Sender<Remembered>) {
    let mut last = String::new();
    loop {
        let why = match state_item::read(&item).await {
            Ok(found) => {
                tracing::info!(table = item.table, key = item.key, "control's state item was read");
                let why = if has_listeners(&found) { "" } else { "it has no listeners and clusters" };
                process.note_provenance(|p| drop(p.waiting.insert("state item", why.to_owned())));
                let _ = tell.send(found);
                return;
            }
            Err(why) => why,
        };
        if why != last {
            tracing::warn!(table = item.table, key = item.key, "control's state item: {why}");
            process.note_provenance(|p| drop(p.waiting.insert("state item", why.clone())));
            last = why;
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = tell.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn remembered(origin: Origin, weights: Option<&str>, configuration: Option<&str>) -> Remembered {
        let resources = GatewayResources { listeners: vec![json!({})], clusters: Vec::new() };
        let configured = |version: &str| Configured {
            version: version.to_owned(),
            since: SystemTime::now(),
            resources: resources.clone(),
        };
        Remembered {
            origin,
            version: weights.and_then(Version::parse),
            routes: Vec::new(),
            configuration: configuration.map(configured),
        }
    }

    #[test]
    fn the_newer_of_saved_copy_and_state_item_wins_by_epoch_then_seq() {
        for (saved, item, winner) in [
            ("3.9-a", "3.10-a", Origin::StateItem),
            ("4.1-b", "3.10-a", Origin::Saved),
            ("3.10-a", "3.9-a", Origin::Saved),
        ] {
            let found = vec![
                remembered(Origin::Saved, Some(saved), Some("1.1-a")),
                remembered(Origin::StateItem, Some(item), Some("1.1-a")),
            ];
            let memory = Memory { found, item: None };
            assert_eq!(memory.newest().unwrap().origin, winner, "{saved} {item}");
            assert_eq!(memory.configurations()[0].0, winner, "{saved} {item}");
            assert_eq!(memory.configurations().len(), 2, "the other one comes after it");
        }
    }

    #[test]
    fn the_older_one_gives_the_listeners_when_the_newer_one_has_none() {
        let found = vec![
            remembered(Origin::Saved, Some("3.1-a"), Some("3.1-a")),
            remembered(Origin::StateItem, Some("3.2-a"), None),
        ];
        let memory = Memory { found, item: None };
        assert_eq!(memory.newest().unwrap().origin, Origin::StateItem);
        assert_eq!(memory.configurations().iter().map(|found| found.0).collect::<Vec<_>>(), [Origin::Saved]);
    }

    #[tokio::test]
    async fn a_state_item_that_comes_late_is_told_once() {
        let (tell, told) = oneshot::channel();
        let mut memory = Memory { found: Vec::new(), item: Some(told) };
        tell.send(remembered(Origin::StateItem, Some("3.1-a"), None)).unwrap();
        memory.more().await;
        assert_eq!(memory.newest().unwrap().origin, Origin::StateItem);
        let again = tokio::time::timeout(Duration::ZERO, memory.more()).await;
        assert!(again.is_err(), "nothing more comes");
    }
}
