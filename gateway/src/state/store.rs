//! The single writer of the snapshot.
//!
//! Owns the order of changes and the layers of weights. A change is compiled whole, then published by one pointer,
//! or refused and nothing is different. It must never be called on the request path.
//! Next: `sources/`, who sends changes.

use super::change::{Change, Override, Rejected, RouteWeights};
use super::compile::{self, Context};
use super::snapshot::{ClusterIndex, Snapshot, Split};
use super::swap::{Reader, Swap};
use crate::access_log::AccessLogs;
use crate::cluster::{Cluster, Endpoint};
use crate::stats::cells::Shard;
use crate::stats::names::{ClusterStat, ServerStat};
use crate::stats::registry::Registry;
use gateway_config::model::{Bootstrap, Discovery};
use gateway_config::wire::WeightSource;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// What sources have said about the weights of one route; the strongest that applies is in force.
type Layers = BTreeMap<WeightSource, RouteWeights>;

/// Applies changes, one at a time.
#[derive(Debug)]
pub struct Store {
    swap: Swap<Snapshot>,
    registry: Arc<Registry>,
    access_logs: Arc<AccessLogs>,
    inner: Mutex<Inner>,
    generation: watch::Sender<u64>,
    endpoint_ids: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    layers: BTreeMap<String, Layers>,
    /// When the override of a route ends; each has a word in its layers.
    overrides: BTreeMap<String, Instant>,
    /// Splits with the weights of the file, same positions as the snapshot's.
    file_splits: Vec<Arc<Split>>,
}

impl Store {
    /// Compiles the first configuration.
    ///
    /// # Errors
    /// [`Rejected`] as [`compile::routes`].
    pub fn new(
        bootstrap: Arc<Bootstrap>,
        registry: Arc<Registry>,
        access_logs: Arc<AccessLogs>,
    ) -> Result<Self, Rejected> {
        let endpoint_ids = AtomicU64::new(1);
        let clusters = Self::clusters(&bootstrap, &[], &registry, &endpoint_ids);
        let positions = positions(&clusters);
        let context = Context { registry: &registry, access_logs: &access_logs, clusters: &positions };
        let (routes, splits) = compile::routes(&bootstrap, &context)?;
        let file_splits: Vec<_> = splits.into_iter().map(Arc::new).collect();
        let first = Snapshot {
            generation: 1,
            routes: Arc::new(routes),
            splits: file_splits.clone().into(),
            clusters: clusters.into(),
        };
        let inner = Mutex::new(Inner { file_splits, ..Inner::default() });
        let store = Self {
            swap: Swap::new(first),
            registry,
            access_logs,
            inner,
            generation: watch::Sender::new(1),
            endpoint_ids,
        };
        store.note_clusters(&store.snapshot());
        Ok(store)
    }

    /// The snapshot in force. Not for the request path: workers have a [`Reader`].
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.swap.load()
    }

    /// A reader for one worker.
    pub fn reader(&self) -> Reader<Snapshot> {
        self.swap.reader()
    }

    /// Changes with every publication.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The statistics.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// An endpoint with an id of its own.
    pub fn new_endpoint(&self, address: std::net::SocketAddr, zone: String) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(self.endpoint_ids.fetch_add(1, Relaxed), address, zone))
    }

    /// Applies a change whole and publishes it, or refuses it and nothing is different.
    ///
    /// # Errors
    /// [`Rejected`] names what does not fit and what would.
    pub fn apply(&self, change: Change) -> Result<Arc<Snapshot>, Rejected> {
        let mut inner = self.lock();
        let now = self.swap.load();
        let next = match change {
            Change::Config(bootstrap) => self.reconfigure(&now, &mut inner, &bootstrap)?,
            Change::Endpoints { cluster, endpoints } => self.with_endpoints(&now, &cluster, endpoints)?,
            Change::Weights(routes) => with_weights(&now, &mut inner, routes)?,
            Change::ReleaseWeights { route, source } => {
                release(&mut inner, &route, source);
                with_layers(&now, &inner)?
            }
            Change::Override(wanted) => with_override(&now, &mut inner, wanted)?,
            Change::EndOverrides(moment) => {
                let over = inner.overrides.iter().filter(|(_, until)| **until <= moment);
                let over: Vec<String> = over.map(|(route, _)| route.clone()).collect();
                over.iter().for_each(|route| release(&mut inner, route, WeightSource::Override));
                with_layers(&now, &inner)?
            }
        };
        let next = Arc::new(next);
        self.swap.store(Arc::clone(&next));
        self.generation.send_replace(next.generation);
        self.note_clusters(&next);
        Ok(next)
    }

    /// What a source said of a route, if it did. For admin and discovery.
    pub fn layer(&self, route: &str, source: WeightSource) -> Option<RouteWeights> {
        self.lock().layers.get(route)?.get(&source).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change replaces whole values: a panic between cannot leave one half-changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reconfigure(
        &self,
        now: &Snapshot,
        inner: &mut Inner,
        bootstrap: &Arc<Bootstrap>,
    ) -> Result<Snapshot, Rejected> {
        fits_running_process(&now.routes.bootstrap, bootstrap)?;
        let clusters = Self::clusters(bootstrap, &now.clusters, &self.registry, &self.endpoint_ids);
        let positions = positions(&clusters);
        let context =
            Context { registry: &self.registry, access_logs: &self.access_logs, clusters: &positions };
        let (routes, splits) = compile::routes(bootstrap, &context)?;
        let file_splits: Vec<_> = splits.into_iter().map(Arc::new).collect();
        still_fits(&file_splits, &inner.layers)?;
        let stays = |route: &String| file_splits.iter().any(|split| *split.route == **route);
        inner.layers.retain(|route, _| stays(route));
        inner.overrides.retain(|route, _| stays(route));
        for stable in file_splits.iter().filter(|split| split.managed).filter_map(|s| s.all_to_stable()) {
            // A route that is new here does not start on the weights of a file while control was not asked.
            inner.layers.entry(stable.route.clone()).or_default().insert(stable.source, stable);
        }
        inner.file_splits = file_splits;
        let splits = layered(inner);
        for old in now.clusters.iter().filter(|old| !positions.contains_key(&*old.name)) {
            old.endpoints.iter().for_each(|e| e.gone.store(true, Relaxed));
        }
        self.registry.retain_clusters(|name| positions.contains_key(name));
        Ok(Snapshot {
            generation: now.generation + 1,
            routes: Arc::new(routes),
            splits: splits.into(),
            clusters: clusters.into(),
        })
    }

    /// Clusters of a configuration; endpoints of those that stay are kept, static ones are made.
    fn clusters(
        bootstrap: &Bootstrap,
        before: &[Arc<Cluster>],
        registry: &Registry,
        ids: &AtomicU64,
    ) -> Vec<Arc<Cluster>> {
        let make = |config: &gateway_config::model::Cluster| {
            let old = before.iter().find(|c| *c.name == *config.name);
            let mut cluster = compile::cluster(config, old.map(AsRef::as_ref), registry);
            if let Discovery::Static(addresses) = &config.discovery {
                let kept = |address| cluster.endpoints.iter().find(|e| e.address == address).cloned();
                let endpoint =
                    |address| Arc::new(Endpoint::new(ids.fetch_add(1, Relaxed), address, String::new()));
                let endpoints: Vec<_> =
                    addresses.iter().map(|a| kept(*a).unwrap_or_else(|| endpoint(*a))).collect();
                mark_gone(&cluster.endpoints, &endpoints);
                cluster.endpoints = endpoints.into();
                cluster.shared.note_discovery(|status| status.answered = true);
            }
            Arc::new(cluster)
        };
        bootstrap.clusters.iter().map(make).collect()
    }

    fn with_endpoints(
        &self,
        now: &Snapshot,
        name: &str,
        endpoints: Vec<Arc<Endpoint>>,
    ) -> Result<Snapshot, Rejected> {
        let index = now
            .clusters
            .iter()
            .position(|c| &*c.name == name)
            .ok_or_else(|| Rejected::UnknownCluster(name.to_owned()))?;
        let mut clusters: Vec<_> = now.clusters.to_vec();
        if let Some(slot) = clusters.get_mut(index) {
            mark_gone(&slot.endpoints, &endpoints);
            slot.shared.stats.scope.inc(Shard::SHARED, ClusterStat::MembershipChange);
            *slot = Arc::new(Cluster {
                name: Arc::clone(&slot.name),
                config: slot.config.clone(),
                shared: Arc::clone(&slot.shared),
                endpoints: endpoints.into(),
            });
        }
        Ok(Snapshot {
            generation: now.generation + 1,
            routes: Arc::clone(&now.routes),
            splits: Arc::clone(&now.splits),
            clusters: clusters.into(),
        })
    }

    fn note_clusters(&self, snapshot: &Snapshot) {
        for cluster in snapshot.clusters.iter() {
            let scope = &cluster.shared.stats.scope;
            scope.set(ClusterStat::MembershipTotal, cluster.endpoints.len() as u64);
            let healthy = cluster.endpoints.iter().filter(|e| e.healthy()).count();
            scope.set(ClusterStat::MembershipHealthy, healthy as u64);
        }
        self.registry.server.set(ServerStat::ActiveClusters, snapshot.clusters.len() as u64);
    }
}

fn positions(clusters: &[Arc<Cluster>]) -> BTreeMap<String, ClusterIndex> {
    clusters.iter().enumerate().map(|(index, c)| (c.name.to_string(), index)).collect()
}

fn mark_gone(before: &[Arc<Endpoint>], after: &[Arc<Endpoint>]) {
    for endpoint in before {
        let stays = after.iter().any(|e| e.id == endpoint.id);
        endpoint.gone.store(!stays, Relaxed);
    }
}

/// A listener's address, the admin address and the number of listeners are bound to the process.
fn fits_running_process(old: &Bootstrap, new: &Bootstrap) -> Result<(), Rejected> {
    let listeners =
        |b: &Bootstrap| -> Vec<_> { b.listeners.iter().map(|l| (l.name.clone(), l.address)).collect() };
    // Without listeners nothing is bound yet: the first ones come from control.
    if !old.listeners.is_empty() && listeners(old) != listeners(new) {
        let text = "listeners (names, addresses, order) cannot change while the gateway runs; \
                    start a new gateway task with this configuration";
        return Err(Rejected::NeedsRestart(text.to_owned()));
    }
    if old.admin != new.admin
        || old.node != new.node
        || old.control != new.control
        || old.limits != new.limits
    {
        let text = "admin, node, control and limits cannot change while the gateway runs; \
                    start a new gateway task with this configuration";
        return Err(Rejected::NeedsRestart(text.to_owned()));
    }
    Ok(())
}

/// A file reload never changes weights that are not from files: it may not take a target that has some. Under an
/// override control's word must fit as well, for it is in force when the override ends.
fn still_fits(file_splits: &[Arc<Split>], layers: &BTreeMap<String, Layers>) -> Result<(), Rejected> {
    for split in file_splits {
        let words = || layers.get(&*split.route).into_iter().flat_map(|layers| layers.values());
        let over = words().find(|word| word.source <= WeightSource::Override);
        let under = words().find(|word| word.source > WeightSource::Override);
        let under = under.filter(|word| split.managed && word.source < WeightSource::Stable);
        for word in over.into_iter().chain(under) {
            compile::reweigh(split, word).map_err(|why| Rejected::WeightsInForce {
                route: split.route.to_string(),
                why: why.to_string(),
            })?;
        }
    }
    Ok(())
}

fn release(inner: &mut Inner, route: &str, source: WeightSource) {
    if let Some(layers) = inner.layers.get_mut(route) {
        layers.remove(&source);
    }
    if source == WeightSource::Override {
        inner.overrides.remove(route);
    }
}

fn with_override(now: &Snapshot, inner: &mut Inner, wanted: Override) -> Result<Snapshot, Rejected> {
    let word = RouteWeights {
        route: wanted.route.clone(),
        weights: [(wanted.target, 1)].into(),
        stable: None,
        source: WeightSource::Override,
        version: String::new(),
        since: SystemTime::now(),
    };
    check(now, &word)?;
    inner.layers.entry(wanted.route.clone()).or_default().insert(word.source, word);
    inner.overrides.insert(wanted.route, wanted.until);
    with_layers(now, inner)
}

fn with_weights(now: &Snapshot, inner: &mut Inner, routes: Vec<RouteWeights>) -> Result<Snapshot, Rejected> {
    for wanted in &routes {
        check(now, wanted)?;
    }
    for wanted in routes {
        inner.layers.entry(wanted.route.clone()).or_default().insert(wanted.source, wanted);
    }
    with_layers(now, inner)
}

fn check(now: &Snapshot, wanted: &RouteWeights) -> Result<(), Rejected> {
    let mut found = false;
    for split in now.splits.iter().filter(|split| *split.route == *wanted.route) {
        found = true;
        compile::reweigh(split, wanted)?;
    }
    if found && !wanted.route.is_empty() {
        return Ok(());
    }
    let mut known: Vec<&str> = now.splits.iter().map(|s| &*s.route).filter(|n| !n.is_empty()).collect();
    known.sort_unstable();
    known.dedup();
    Err(Rejected::UnknownRoute { route: wanted.route.clone(), known: known.join(", ") })
}

fn with_layers(now: &Snapshot, inner: &Inner) -> Result<Snapshot, Rejected> {
    Ok(Snapshot {
        generation: now.generation + 1,
        routes: Arc::clone(&now.routes),
        splits: layered(inner).into(),
        clusters: Arc::clone(&now.clusters),
    })
}

/// The splits with the strongest word that fits each; a word that no longer fits a changed file is passed over.
fn layered(inner: &Inner) -> Vec<Arc<Split>> {
    inner.file_splits.iter().map(|split| effective(split, inner)).collect()
}

/// An override moves the weights only: which target is the stable one is said by whoever would be in force without it.
fn effective(split: &Arc<Split>, inner: &Inner) -> Arc<Split> {
    let words = || inner.layers.get(&*split.route).into_iter().flat_map(|layers| layers.values());
    let below = words().filter(|word| word.source > WeightSource::Override);
    let below = below.filter_map(|word| compile::reweigh(split, word).ok()).next();
    let below = below.map_or_else(|| Arc::clone(split), Arc::new);
    let above = words().filter(|word| word.source <= WeightSource::Override);
    let Some(above) = above.filter_map(|word| compile::reweigh(&below, word).ok()).next() else {
        return below;
    };
    let until = inner.overrides.get(&*split.route).copied();
    Arc::new(Split { until: until.filter(|_| above.source == WeightSource::Override), ..above })
}

#[cfg(test)]
mod tests;
