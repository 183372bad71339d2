//! Opening a connection to an endpoint.
//!
//! Owns the counts of it. It must never retry: the request decides that.
//! Next: `pool.rs`.

use super::{Place, UpstreamConnection, waiting};
use crate::cluster::{Cluster, Endpoint};
use crate::io::{ConnectFailure, Stream, dial};
use crate::stats::names::ClusterStat;
use crate::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Why a request got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// The endpoint is then a suspect until a connect to it succeeds.
    Connect(ConnectFailure),
    /// As many requests wait as may.
    Overflow,
}

/// A connection for a request that found none idle: to `endpoint`, or, where no more may be opened, the first one to
/// any endpoint of the cluster that becomes free.
///
/// # Errors
/// [`Unopened`].
pub async fn open(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    repeatable: bool,
) -> Result<UpstreamConnection, Unopened> {
    let breakers = &cluster.config.circuit_breakers;
    if cluster.shared.pending_requests.load(Relaxed) >= breakers.max_pending_requests {
        cluster.shared.stats.scope.inc(worker.shard, ClusterStat::UpstreamRqPendingOverflow);
        return Err(Unopened::Overflow);
    }
    let _pending = Pending::new(worker, cluster);
    if let Some(free) = waiting::for_room(worker, cluster, endpoint, repeatable).await {
        return Ok(free);
    }
    connect(worker, cluster, endpoint).await.map_err(Unopened::Connect)
}

/// Opens a connection, with every count.
async fn connect(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
) -> Result<UpstreamConnection, ConnectFailure> {
    let scope = &cluster.shared.stats.scope;
    let started = Instant::now();
    let place = Place::take(endpoint, &cluster.shared);
    match dial(endpoint.address, cluster.config.connect_timeout).await {
        Ok(socket) => {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            cluster.shared.stats.connect_time.record(worker.shard, micros);
            endpoint.trust();
            Ok(UpstreamConnection::new(Stream::plain(socket), place, worker.shard))
        }
        Err(failure) => {
            match failure {
                ConnectFailure::Failed => endpoint.doubt(true),
                ConnectFailure::TimedOut => endpoint.doubt(false),
                ConnectFailure::Local => {}
            }
            endpoint.connect_failures.fetch_add(1, Relaxed);
            scope.inc(worker.shard, ClusterStat::UpstreamCxConnectFail);
            if failure == ConnectFailure::TimedOut {
                scope.inc(worker.shard, ClusterStat::UpstreamCxConnectTimeout);
            }
            Err(failure)
        }
    }
}

/// A request that waits for a connection.
struct Pending<'a> {
    worker: &'a Worker,
    cluster: &'a Cluster,
}

impl<'a> Pending<'a> {
    fn new(worker: &'a Worker, cluster: &'a Cluster) -> Self {
        let scope = &cluster.shared.stats.scope;
        scope.inc(worker.shard, ClusterStat::UpstreamRqPendingTotal);
        scope.inc(worker.shard, ClusterStat::UpstreamRqPendingActive);
        cluster.shared.pending_requests.fetch_add(1, Relaxed);
        Self { worker, cluster }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.cluster.shared.stats.scope.dec(self.worker.shard, ClusterStat::UpstreamRqPendingActive);
        self.cluster.shared.pending_requests.fetch_sub(1, Relaxed);
    }
}
