//! Where scopes live, by name, so that a reload finds the statistics of what stays.
//!
//! Owns the life of scopes; it must never be asked on the request path (handles are kept in the snapshot).
//! Next: `render.rs`, which prints all of it.

use super::cells::{Histogram, Scope};
use super::names::{ClusterStat, HttpStat, ListenerStat, ServerStat, TargetStat};
use crate::few_clients::Verdict;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One HttpConnectionManager.
#[derive(Debug)]
pub struct HttpStats {
    /// Its stat_prefix.
    pub name: String,
    /// Counters and gauges.
    pub scope: Scope<HttpStat>,
    /// `downstream_rq_time`.
    pub rq_time: Histogram,
}

/// One cluster.
#[derive(Debug)]
pub struct ClusterStats {
    /// Its name.
    pub name: String,
    /// Counters and gauges, answers by code.
    pub scope: Scope<ClusterStat>,
    /// `upstream_rq_time`.
    pub rq_time: Histogram,
    /// `upstream_cx_connect_ms`.
    pub connect_time: Histogram,
}

/// One target of one route.
#[derive(Debug)]
pub struct TargetStats {
    /// Route name.
    pub route: String,
    /// Target (cluster) name.
    pub target: String,
    /// Counters and gauges.
    pub scope: Scope<TargetStat>,
    /// From the request's first byte to the end of the response, of drawn requests.
    pub latency: Histogram,
}

/// One listener.
#[derive(Debug)]
pub struct ListenerStats {
    /// Its address as Envoy writes it in a statistic: `0.0.0.0_9080`.
    pub name: String,
    /// Counters and gauges.
    pub scope: Scope<ListenerStat>,
    /// Whether a load balancer is taken for its clients.
    pub clients: Verdict,
}

type Table<T> = Mutex<BTreeMap<String, Arc<T>>>;

/// All scopes of the process.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    /// The process itself.
    pub server: Scope<ServerStat>,
    http: Table<HttpStats>,
    clusters: Table<ClusterStats>,
    listeners: Table<ListenerStats>,
    targets: Mutex<BTreeMap<(String, String), Arc<TargetStats>>>,
}

fn locked<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    // The tables hold only Arcs: a panic elsewhere cannot leave them half-changed.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Empty, for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            server: Scope::new(workers),
            http: Mutex::default(),
            clusters: Mutex::default(),
            listeners: Mutex::default(),
            targets: Mutex::default(),
        }
    }

    /// How many workers write statistics.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The statistics of a stat_prefix.
    pub fn http(&self, name: &str) -> Arc<HttpStats> {
        let make = || HttpStats {
            name: name.to_owned(),
            scope: Scope::new(self.workers),
            rq_time: Histogram::new(self.workers),
        };
        Arc::clone(locked(&self.http).entry(name.to_owned()).or_insert_with(|| Arc::new(make())))
    }

    /// The statistics of a cluster.
    pub fn cluster(&self, name: &str) -> Arc<ClusterStats> {
        let make = || ClusterStats {
            name: name.to_owned(),
            scope: Scope::new(self.workers),
            rq_time: Histogram::new(self.workers),
            connect_time: Histogram::new(self.workers),
        };
        Arc::clone(locked(&self.clusters).entry(name.to_owned()).or_insert_with(|| Arc::new(make())))
    }

    /// The statistics of a listener, by its address as Envoy writes it.
    pub fn listener(&self, name: &str) -> Arc<ListenerStats> {
        let make = || ListenerStats {
            name: name.to_owned(),
            scope: Scope::new(self.workers),
            clients: Verdict::default(),
        };
        Arc::clone(locked(&self.listeners).entry(name.to_owned()).or_insert_with(|| Arc::new(make())))
    }

    /// The statistics of a target of a route.
    pub fn target(&self, route: &str, target: &str) -> Arc<TargetStats> {
        let make = || TargetStats {
            route: route.to_owned(),
            target: target.to_owned(),
            scope: Scope::new(self.workers),
            latency: Histogram::new(self.workers),
        };
        let key = (route.to_owned(), target.to_owned());
        Arc::clone(locked(&self.targets).entry(key).or_insert_with(|| Arc::new(make())))
    }

    /// Drops the clusters that no longer exist, so that their series end.
    pub fn retain_clusters(&self, keep: impl Fn(&str) -> bool) {
        locked(&self.clusters).retain(|name, _| keep(name));
    }

    /// All, by name.
    pub fn all_http(&self) -> Vec<Arc<HttpStats>> {
        locked(&self.http).values().cloned().collect()
    }

    /// All, by name.
    pub fn all_clusters(&self) -> Vec<Arc<ClusterStats>> {
        locked(&self.clusters).values().cloned().collect()
    }

    /// All, by address.
    pub fn all_listeners(&self) -> Vec<Arc<ListenerStats>> {
        locked(&self.listeners).values().cloned().collect()
    }

    /// All, by route and target.
    pub fn all_targets(&self) -> Vec<Arc<TargetStats>> {
        locked(&self.targets).values().cloned().collect()
    }
}
