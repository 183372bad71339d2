//! What runs now: one immutable value, swapped as a whole.
//!
//! Owns the compiled form of routes, splits and clusters. It must never change after it was published; what
//! changes while requests run (load, health) is in atomics behind its Arcs. Next: `compile.rs`.

use super::change::RouteWeights;
use crate::access_log::AccessLog;
use crate::cluster::Cluster;
use crate::router::VirtualHosts;
use crate::stats::registry::{HttpStats, ListenerStats, TargetStats};
use gateway_config::model::{self, Bootstrap};
use gateway_config::wire::WeightSource;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Position of a cluster in [`Snapshot::clusters`].
pub type ClusterIndex = usize;
/// Position of a split in [`Snapshot::splits`].
pub type SplitIndex = usize;

/// Everything a request needs, consistent in itself.
#[derive(Debug)]
pub struct Snapshot {
    /// Rises with every publication, in this process only.
    pub generation: u64,
    /// Listeners and routes; shared with the snapshots before and after while the configuration stays.
    pub routes: Arc<RouteTables>,
    /// Weighted splits in force. Routes of one name have equal weights in every snapshot.
    pub splits: Arc<[Arc<Split>]>,
    /// Clusters with their endpoints.
    pub clusters: Arc<[Arc<Cluster>]>,
}

/// The part that only a configuration change replaces.
#[derive(Debug)]
pub struct RouteTables {
    /// The configuration it was compiled from.
    pub bootstrap: Arc<Bootstrap>,
    /// When it was compiled.
    pub updated: SystemTime,
    /// In file order; a listener keeps its position for its lifetime.
    pub listeners: Vec<Arc<HttpManager>>,
}

/// A compiled HttpConnectionManager.
#[derive(Debug)]
pub struct HttpManager {
    /// Listener name.
    pub listener: String,
    /// The configured address (the bound one is known to the listener).
    pub address: SocketAddr,
    /// Settings.
    pub config: model::HttpConnectionManager,
    /// Statistics of its stat_prefix.
    pub stats: Arc<HttpStats>,
    /// Statistics of the listener.
    pub listener_stats: Arc<ListenerStats>,
    /// Routes.
    pub virtual_hosts: VirtualHosts,
    /// Where finished requests are written.
    pub access_log: Option<AccessLog>,
}

/// The weighted targets of a route and the weights in force.
#[derive(Debug)]
pub struct Split {
    /// Route name; empty for an unnamed route.
    pub route: Arc<str>,
    /// In file order.
    pub targets: Arc<[Target]>,
    /// One per target, same order.
    pub weights: Box<[u32]>,
    /// Their sum, > 0.
    pub total: u32,
    /// Position of the stable target, if named.
    pub stable: Option<usize>,
    /// Where the weights came from.
    pub source: WeightSource,
    /// version_info that set them; empty when not from control.
    pub version: Arc<str>,
    /// When these weights were made (for a saved copy: when control set them).
    pub since: SystemTime,
    /// A target without endpoints gets no share while another has some.
    pub health_aware: bool,
    /// Control may set the weights.
    pub managed: bool,
    /// When these weights end by themselves: an override's end.
    pub until: Option<Instant>,
}

/// One target of a split.
#[derive(Debug)]
pub struct Target {
    /// Name = cluster name.
    pub name: Arc<str>,
    /// Its cluster.
    pub cluster: ClusterIndex,
    /// Its counters.
    pub stats: Arc<TargetStats>,
}

impl Split {
    /// Everything to the stable target: what a route under control has before anybody has spoken. `None` without one.
    pub fn all_to_stable(&self) -> Option<RouteWeights> {
        let stable = self.targets.get(self.stable?)?;
        Some(RouteWeights {
            route: self.route.to_string(),
            weights: [(stable.name.to_string(), 1)].into(),
            stable: None,
            source: WeightSource::Stable,
            version: String::new(),
            since: SystemTime::now(),
        })
    }

    /// Until these weights end by themselves; `None` unless they are an override's.
    pub fn ends_in(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }
}

impl Snapshot {
    /// A cluster by name. Not for the request path.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|c| &*c.name == name)
    }
}
