//! Keeps the endpoints of each cluster: asks discovery, probes, publishes.
//!
//! Owns one keeper task per cluster, started and ended with the configuration. It must never give up what was good
//! because an answer failed (the rules are in `membership.rs`). Next: `dns.rs` and `cloud_map.rs`, who answer.

use super::membership::{Answer, Found, Membership, Told};
use super::vital::Vital;
use super::{cloud_map, dns};
use crate::io::{ConnectFailure, dial};
use crate::process::Process;
use crate::state::change::Change;
use crate::state::store::Store;
use crate::stats::cells::Shard;
use crate::stats::names::ClusterStat;
use gateway_config::model::{Cluster, Discovery};
use lifecycle::readiness::TaskGuard;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// How often new endpoints and suspects are tried.
const PROBE: Duration = Duration::from_secs(1);
/// Probes in a row without an answer that count like a refusal while discovery says that nobody is there.
const SILENT: u32 = 3;
/// Probes of one cluster at the same time.
const PROBES_AT_ONCE: usize = 32;
/// Answers on their way to a keeper; discovery waits when they are not taken.
const ANSWERS: usize = 4;

/// Starts a keeper per cluster. What LIVE waits for is registered before this returns.
pub fn start(process: &Arc<Process>) {
    let snapshot = process.store.snapshot();
    let mut keepers = BTreeMap::new();
    let vital = Vital::of(process);
    for cluster in snapshot.clusters.iter() {
        let waits = !matches!(cluster.config.discovery, Discovery::Static(_));
        let guard = waits.then(|| process.ready.register_task(format!("endpoints of {}", cluster.name)));
        let keeper = Keeper::start(&vital, &process.store, cluster.config.clone(), guard);
        keepers.insert(cluster.name.to_string(), keeper);
    }
    vital.spawn("clusters", follow(Arc::clone(process), vital.clone(), keepers));
}

/// Follows reloads: a cluster that is new or looks elsewhere gets a new keeper, one that is gone loses its own.
async fn follow(process: Arc<Process>, vital: Vital, mut keepers: BTreeMap<String, Keeper>) {
    let mut changes = process.store.watch();
    while changes.changed().await.is_ok() {
        let snapshot = process.store.snapshot();
        keepers.retain(|name, _| snapshot.cluster(name).is_some());
        for cluster in snapshot.clusters.iter() {
            let same = keepers.get(&*cluster.name).is_some_and(|keeper| keeper.config == cluster.config);
            if !same {
                let keeper = Keeper::start(&vital, &process.store, cluster.config.clone(), None);
                keepers.insert(cluster.name.to_string(), keeper);
            }
        }
    }
}

/// A running keeper; dropping it ends its tasks.
struct Keeper {
    config: Cluster,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    fn start(vital: &Vital, store: &Arc<Store>, config: Cluster, guard: Option<TaskGuard>) -> Self {
        let name = format!("endpoints of {}", config.name);
        let task = vital.spawn(name, keep(Arc::clone(store), config.clone(), guard));
        Self { config, task }
    }
}

async fn keep(store: Arc<Store>, config: Cluster, mut guard: Option<TaskGuard>) {
    // `tell` lives as long as this task, so that the channel of a static cluster stays open.
    let (tell, mut answers) = mpsc::channel(ANSWERS);
    // Ends with this task: dropping the set aborts it.
    let mut asking = JoinSet::new();
    match config.discovery.clone() {
        Discovery::Static(_) => {}
        Discovery::Dns(dns) => {
            asking.spawn_local(dns::ask(dns, tell.clone()));
        }
        Discovery::CloudMap(cloud_map) => {
            asking.spawn_local(cloud_map::ask(cloud_map, tell.clone()));
        }
    }
    let before = store.snapshot().cluster(&config.name).map(|c| c.endpoints.to_vec()).unwrap_or_default();
    let mut keeping = Keeping { store, members: Membership::new(before), config };
    let mut probe = tokio::time::interval(PROBE);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(told) = answers.recv() => {
                keeping.take(&told);
                keeping.probe().await;
                // Not before the probes: LIVE means that requests can be answered.
                if !matches!(told.answer, Answer::Failed(_)) {
                    drop(guard.take());
                }
            }
            _ = probe.tick() => keeping.probe().await,
            Some(Err(error)) = asking.join_next() => {
                // Who asks has panicked: so has this task, and it is known to be vital.
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

struct Keeping {
    store: Arc<Store>,
    config: Cluster,
    members: Membership,
}

impl Keeping {
    fn take(&mut self, told: &Told) {
        let now = Instant::now();
        let store = Arc::clone(&self.store);
        // With nobody there, all are published at once; until one accepts a connection other versions serve.
        let alone = self.members.published().is_empty();
        let make = |found: &Found| {
            let endpoint = store.new_endpoint(found.address, found.zone.clone());
            endpoint.suspect.store(alone, Relaxed);
            endpoint
        };
        let changed = self.members.take(now, &told.answer, make);
        self.note(now, told);
        if changed {
            self.publish();
        }
    }

    fn note(&self, now: Instant, told: &Told) {
        let snapshot = self.store.snapshot();
        let Some(cluster) = snapshot.cluster(&self.config.name) else { return };
        let count = |stat| cluster.shared.stats.scope.inc(Shard::SHARED, stat);
        count(ClusterStat::UpdateAttempt);
        let error = match &told.answer {
            Answer::Found(_) => {
                count(ClusterStat::UpdateSuccess);
                String::new()
            }
            Answer::Nobody(why) => {
                count(ClusterStat::UpdateEmpty);
                why.clone()
            }
            Answer::Failed(why) => {
                count(ClusterStat::UpdateFailure);
                why.clone()
            }
        };
        if !error.is_empty() && cluster.shared.discovery().error != error {
            tracing::warn!(cluster = self.config.name, %error, "discovery: the endpoints known so far are kept");
        }
        let good = !matches!(told.answer, Answer::Failed(_));
        cluster.shared.note_discovery(|status| {
            status.error = error;
            status.answered |= good;
            status.source = told.by;
            status.notice.clone_from(&told.notice);
            if good {
                status.last_success = Some(now);
            }
        });
    }

    fn publish(&self) {
        let endpoints = self.members.published().to_vec();
        let addresses: Vec<_> = endpoints.iter().map(|e| e.address.to_string()).collect();
        tracing::info!(cluster = self.config.name, endpoints = addresses.join(" "), "endpoints changed");
        let change = Change::Endpoints { cluster: self.config.name.clone(), endpoints };
        if let Err(error) = self.store.apply(change) {
            tracing::warn!(%error, "endpoints were not taken");
        }
    }

    /// Connects once to whoever has to prove something.
    async fn probe(&mut self) {
        let doubts = self.members.doubts();
        let suspects = self.members.published().iter().filter(|e| doubts || e.suspect.load(Relaxed));
        let mut open: Vec<SocketAddr> =
            self.members.candidates().iter().chain(suspects).map(|endpoint| endpoint.address).collect();
        if let Discovery::Static(_) = self.config.discovery {
            let snapshot = self.store.snapshot();
            let known = snapshot.cluster(&self.config.name).map(|c| c.endpoints.to_vec()).unwrap_or_default();
            open = known.iter().filter(|e| e.suspect.load(Relaxed)).map(|e| e.address).collect();
            self.members = Membership::new(known);
        }
        let limit = self.config.connect_timeout;
        let mut probes = JoinSet::new();
        let mut rest = open.into_iter();
        for address in rest.by_ref().take(PROBES_AT_ONCE) {
            probes.spawn_local(async move { (address, dial(address, limit).await.err()) });
        }
        while let Some(Ok((address, failure))) = probes.join_next().await {
            self.probed(address, failure);
            if let Some(address) = rest.next() {
                probes.spawn_local(async move { (address, dial(address, limit).await.err()) });
            }
        }
        self.note_health();
    }

    fn probed(&mut self, address: SocketAddr, failure: Option<ConnectFailure>) {
        let endpoint = self.members.published().iter().find(|e| e.address == address).cloned();
        if let Some(endpoint) = &endpoint {
            match failure {
                None => endpoint.trust(),
                Some(ConnectFailure::Failed) => endpoint.doubt(true),
                Some(ConnectFailure::TimedOut) => endpoint.doubt(false),
                Some(ConnectFailure::Local) => {}
            }
        }
        // A closed door settles it at once; silence must last, for it may be a burst or our own trouble.
        let silent = endpoint.is_some_and(|e| e.unanswered.load(Relaxed) >= SILENT);
        let changed = match failure {
            None => self.members.proven(address),
            Some(ConnectFailure::Failed) => self.members.refused(address),
            Some(_) => silent && self.members.refused(address),
        };
        if changed {
            self.publish();
        }
    }

    fn note_health(&self) {
        let snapshot = self.store.snapshot();
        let Some(cluster) = snapshot.cluster(&self.config.name) else { return };
        let healthy = cluster.endpoints.iter().filter(|e| e.healthy()).count();
        cluster.shared.stats.scope.set(ClusterStat::MembershipHealthy, healthy as u64);
    }
}
