//! The running control: the core, its state, and who waits for news.
//!
//! Owns who is woken and who waits for what. It must never hold the core's lock across an await. Next:
//! `shared/saving.rs`, how a change is made; then `discovery/`, `api/`.

mod saving;

use crate::core::change::{Change, ChangeError, Planned};
use crate::core::event::Event;
use crate::core::fleet::{Client, Full, Subject};
use crate::core::watch::Watcher;
use crate::core::{Core, Now};
use crate::metrics::Metrics;
use crate::rest::{Missing, Outcome, RouteOutcome};
use crate::state::store::Store;
use gateway_config::wire::{DiscoveryRequest, Report};
use lifecycle::drain::DrainWatch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// How long a change waits for the disk before it is refused.
/// A rollback that comes behind it waits as long.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(3);
/// How long a change that only lowers the canary waits for the disk before it goes out without it.
pub const LOWERING_PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to write what is not in the state file yet.
pub const RETRY_UNSAVED: Duration = Duration::from_secs(1);
/// How often it is looked whether an adoption is due or a gateway is gone for long.
pub const TICK: Duration = Duration::from_millis(250);
/// How long a change waits for gateways when it does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Events that a listener may be behind; an older one is lost to it, never waited for.
pub const MAX_EVENTS: usize = 256;
/// The longest that a change may wait.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Weights of one route in the order of its targets, or why there are none to follow.
pub type Wanted = Result<Vec<(String, u32)>, String>;
/// Whoever follows the published weights of one route: App Mesh sync.
pub type WantedSender = watch::Sender<Wanted>;
/// What a follower says about itself, as JSON for people.
pub type StatusReader = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// See the module.
pub struct Shared {
    core: Mutex<Core>,
    // What discovery would answer may have changed.
    version: watch::Sender<u64>,
    // Anything that is shown may have changed.
    progress: watch::Sender<u64>,
    // One change at a time: plans build on one another.
    changes: tokio::sync::Mutex<()>,
    store: Store,
    started: Instant,
    drain: DrainWatch,
    followers: BTreeMap<String, Follower>,
    events: broadcast::Sender<Event>,
    watcher: Mutex<Watcher>,
    /// Counters of this process.
    pub metrics: Metrics,
}

/// App Mesh sync of one route.
pub struct Follower {
    /// Gets the weights of the route with each change.
    pub wanted: WantedSender,
    /// Rises when an operator asks for the weights that are wanted already: after drift that is the word to write
    /// them again.
    pub again: watch::Sender<u64>,
    /// Tells how it does.
    pub status: StatusReader,
}

impl Shared {
    /// Everything that is needed to serve. `core` must be written already if it is established.
    pub fn new(core: Core, store: Store, drain: DrainWatch, followers: BTreeMap<String, Follower>) -> Self {
        let shared = Self {
            core: Mutex::new(core),
            version: watch::Sender::new(0),
            progress: watch::Sender::new(0),
            changes: tokio::sync::Mutex::new(()),
            store,
            started: Instant::now(),
            drain,
            followers,
            events: broadcast::Sender::new(MAX_EVENTS),
            watcher: Mutex::new(Watcher::default()),
            metrics: Metrics::new(),
        };
        shared.tell_followers(&[]);
        shared
    }

    /// The time now.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Looks at or changes the core; short, never across an await.
    pub fn with_core<T>(&self, action: impl FnOnce(&mut Core) -> T) -> T {
        action(&mut self.core.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Woken when what discovery would answer may have changed.
    pub fn subscribe_version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What happens from now on, at most [`MAX_EVENTS`] behind.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Woken when anything shown may have changed; its value is the revision.
    pub fn subscribe_progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Ends when the process is to stop.
    pub async fn stopping(&self) {
        self.drain.draining().await;
    }

    /// How App Mesh sync of a route does, if it is configured.
    pub fn follower_status(&self, route: &str) -> Option<serde_json::Value> {
        self.followers.get(route).map(|follower| (follower.status)())
    }

    /// The routes with App Mesh sync.
    pub fn followed(&self) -> impl Iterator<Item = (&String, serde_json::Value)> {
        self.followers.iter().map(|(route, follower)| (route, (follower.status)()))
    }

    /// Something that is shown has changed.
    pub fn note_progress(&self) {
        self.progress.send_modify(|revision| *revision += 1);
    }

    /// Takes a discovery request in.
    pub fn hear(&self, peer: &str, request: &DiscoveryRequest) -> Result<Client, Full> {
        self.hear_about(peer, request, Subject::Routes)
    }

    /// Takes a discovery request about a subject in.
    pub fn hear_about(
        &self,
        peer: &str,
        request: &DiscoveryRequest,
        subject: Subject,
    ) -> Result<Client, Full> {
        let now = self.now();
        let (result, fenced) = self.watching_fence(|core| match subject {
            Subject::Routes => core.hear(now, peer, request),
            Subject::Listeners | Subject::Clusters => core.hear_config(now, peer, request, subject),
        });
        let (client, refusal) = result?;
        if let Some(refusal) = refusal {
            self.metrics.refusals.inc();
            tracing::warn!(gateway = client.id, version = refusal.version, why = refusal.message, "refused");
        }
        self.after_hearing(fenced);
        Ok(client)
    }

    /// Takes a report in. False = overtaken.
    pub fn hear_report(&self, id: &str, report: &Report) -> Result<bool, Full> {
        let now = self.now();
        let (result, fenced) = self.watching_fence(|core| core.hear_report(now, id, report));
        self.after_hearing(fenced);
        result
    }

    fn watching_fence<T>(&self, action: impl FnOnce(&mut Core) -> T) -> (T, Option<String>) {
        let (result, text, leads) = self.with_core(|core| {
            let (before, was_sure) = (core.fence().cloned(), core.is_sure());
            let result = action(core);
            let fence = core.fence().filter(|fence| before.as_ref() != Some(fence));
            let text = fence.map(|fence| core.fence_text(fence));
            (result, text, core.is_sure() != was_sure)
        });
        if leads || text.is_some() {
            self.tell_followers(&[]);
        }
        (result, text)
    }

    fn after_hearing(&self, fenced: Option<String>) {
        if let Some(text) = fenced {
            tracing::error!("{text}");
            self.version.send_modify(|version| *version += 1);
        }
        self.note_progress();
    }

    /// Plans, writes, commits and publishes a change. It is carried to its end though nobody waits for it any more:
    /// a client that leaves amid the write must not leave a document on the disk that is not in force.
    pub async fn change(self: &Arc<Self>, change: Change) -> Result<Planned, ChangeError> {
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move { shared.make(&change).await });
        // A panic was told by the panic hook.
        task.await.unwrap_or(Err(ChangeError::Broken))
    }

    /// Waits until every awaited gateway serves `planned`, a newer change takes its place, or `deadline`.
    pub async fn effect(&self, planned: &Planned, begun: Instant, deadline: Instant) -> Outcome {
        let version = planned.document.control.version().to_string();
        let mut progress = self.subscribe_progress();
        let mut had_it = BTreeSet::new();
        let mut outcome = loop {
            progress.borrow_and_update();
            let outcome = self.look_at_effect(planned, &version, &mut had_it);
            // An override does not end by waiting.
            if outcome.missing.iter().all(|missing| missing.overridden) || outcome.superseded_by.is_some() {
                break outcome;
            }
            let waited = tokio::select! {
                changed = progress.changed() => changed.is_err(),
                () = tokio::time::sleep_until(deadline) => true,
                () = self.stopping() => true,
            };
            if waited {
                break self.look_at_effect(planned, &version, &mut had_it);
            }
        };
        outcome.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if outcome.missing.is_empty() && outcome.acknowledged > 0 {
            self.metrics.change_seconds.observe(begun.elapsed().as_secs_f64());
            self.with_core(|core| core.note_acknowledged(&version, &planned.routes, outcome.elapsed_ms));
        }
        outcome
    }

    fn look_at_effect(&self, planned: &Planned, version: &str, had_it: &mut BTreeSet<String>) -> Outcome {
        let now = self.now();
        let (standing, superseded_by, saved) = self.with_core(|core| {
            (core.standing(now, &planned.routes), core.superseded(version, &planned.routes), core.is_saved())
        });
        for id in &standing.awaited {
            if superseded_by.is_none() && !standing.missing.iter().any(|(missing, _)| missing == id) {
                had_it.insert(id.clone());
            }
        }
        let overridden = standing.overridden;
        let missing: Vec<Missing> = standing
            .missing
            .into_iter()
            .filter(|(gateway, _)| !had_it.contains(gateway))
            .map(|(gateway, why)| Missing { overridden: overridden.contains(&gateway), gateway, why })
            .collect();
        Outcome {
            version: version.to_owned(),
            routes: self.route_outcomes(planned),
            elapsed_ms: 0,
            connected: standing.connected,
            awaited: standing.awaited.len(),
            acknowledged: standing.awaited.len() - missing.len(),
            missing,
            saved,
            superseded_by,
        }
    }

    fn route_outcomes(&self, planned: &Planned) -> BTreeMap<String, RouteOutcome> {
        let outcome = |name: &String| {
            let record = planned.document.routes.get(name)?;
            let entry = record.history.back()?;
            let now = self.now();
            let (targets, load) = self.with_core(|core| {
                let targets = core.routes().get(name).map(|route| route.targets.clone());
                (targets, core.load_sentences(now, name, &entry.to, entry.from.as_ref()))
            });
            let outcome = RouteOutcome {
                from: entry.from.clone(),
                to: entry.to.clone(),
                stable: entry.stable.clone(),
                targets: targets.unwrap_or_default(),
                load,
            };
            Some((name.clone(), outcome))
        };
        planned.routes.iter().filter_map(outcome).collect()
    }

    /// Waits until the first gateway was heard, when nothing else tells the epoch of the fleet, or `deadline`. A
    /// change that goes out before that would be at an epoch that the fleet left long ago, and be refused by all.
    pub async fn heard(&self, deadline: Instant) {
        let mut progress = self.subscribe_progress();
        loop {
            progress.borrow_and_update();
            let now = self.now();
            if !self.with_core(|core| core.is_deaf(now)) {
                return;
            }
            tokio::select! {
                _ = progress.changed() => {}
                // Whether it still waits is also a matter of time.
                () = tokio::time::sleep(TICK) => {}
                () = tokio::time::sleep_until(deadline) => return,
                () = self.stopping() => return,
            }
        }
    }

    /// Waits until the weights of all `routes` are known, or `deadline`.
    pub async fn adopted(&self, routes: &[String], deadline: Instant) {
        let mut progress = self.subscribe_progress();
        loop {
            progress.borrow_and_update();
            let now = self.now();
            let waits = self.with_core(|core| {
                routes.iter().any(|route| {
                    core.routes().contains_key(route)
                        && core.weights(route).is_none()
                        && core.is_settling(now, route)
                })
            });
            if !waits {
                return;
            }
            tokio::select! {
                _ = progress.changed() => {}
                // Whether it still waits is also a matter of time.
                () = tokio::time::sleep(TICK) => {}
                () = tokio::time::sleep_until(deadline) => return,
                () = self.stopping() => return,
            }
        }
    }

    /// Looks after adoption and old gateways, for as long as control runs.
    pub async fn keep_house(self: &Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stopping() => return,
            }
            let now = self.now();
            let (due, _) = self.watching_fence(|core| {
                core.prune(now);
                core.due_adoption(now)
            });
            self.watch_faults();
            let Some(change) = due else { continue };
            match self.change(change).await {
                // `Nothing`: an operator was faster.
                Ok(_) | Err(ChangeError::Nothing) => {}
                Err(error) => {
                    tracing::error!(%error, "the first weights could not be taken");
                    tokio::time::sleep(RETRY_UNSAVED).await;
                }
            }
        }
    }

    fn watch_faults(&self) {
        let now = self.now();
        let drifted = |(route, status): (&String, serde_json::Value)| {
            let detail = status.get("detail").and_then(serde_json::Value::as_str).unwrap_or_default();
            (status.get("state")? == "drift").then(|| (route.clone(), detail.to_owned()))
        };
        let drift: Vec<(String, String)> = self.followed().filter_map(drifted).collect();
        let events = {
            let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
            self.with_core(|core| watcher.look(now, core, &drift))
        };
        self.emit(events);
    }

    fn tell_followers(&self, asked: &[String]) {
        // Under the lock, so that of two tellers the later one is the newer one.
        self.with_core(|core| {
            for (route, follower) in &self.followers {
                let wanted = core.sync_weights(route);
                let news = follower.wanted.send_if_modified(|current| {
                    let changed = *current != wanted;
                    *current = wanted;
                    changed
                });
                if !news && asked.contains(route) {
                    follower.again.send_modify(|times| *times += 1);
                }
            }
        });
    }
}
