//! Connections to endpoints.
//!
//! Owns one upstream connection and its counts; `pool.rs` keeps the idle ones, `connect.rs` opens new ones,
//! `waiting.rs` holds up who may not have one yet. It must never pick an endpoint. Next: `pool.rs`.

pub mod connect;
pub mod pool;
pub mod waiting;

use crate::cluster::{ClusterShared, Endpoint};
use crate::io::Stream;
use crate::stats::cells::Shard;
use crate::stats::names::ClusterStat;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// How long an idle connection is kept when its server never said: Node closes after 5 s, and a canary at 1 %
/// lives on cold pools.
pub const DEFAULT_REUSE: Duration = Duration::from_secs(4);

/// A connection in the counts that limits look at, from the attempt to open it to its end.
#[derive(Debug)]
pub struct Place {
    endpoint: Arc<Endpoint>,
    cluster: Arc<ClusterShared>,
}

impl Place {
    /// Counts one more.
    pub fn take(endpoint: &Arc<Endpoint>, cluster: &Arc<ClusterShared>) -> Self {
        cluster.active_connections.fetch_add(1, Relaxed);
        endpoint.active_connections.fetch_add(1, Relaxed);
        Self { endpoint: Arc::clone(endpoint), cluster: Arc::clone(cluster) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.endpoint.active_connections.fetch_sub(1, Relaxed);
        self.cluster.connection_ended();
    }
}

/// An open connection to an endpoint. Dropping it closes it and corrects every gauge.
#[derive(Debug)]
pub struct UpstreamConnection {
    /// The stream.
    pub stream: Stream,
    /// Bytes read beyond what was asked for; empty between requests.
    pub leftover: Vec<u8>,
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    /// Whose it is.
    pub cluster: Arc<ClusterShared>,
    _place: Place,
    /// It has carried a request before.
    pub reused: bool,
    /// When it became idle.
    pub idle_since: Instant,
    /// How long it may stay idle.
    pub reuse_for: Duration,
    /// A request is on it.
    pub busy: bool,
    /// The endpoint ended it under a request.
    pub ended_by_peer: bool,
    shard: Shard,
}

impl UpstreamConnection {
    /// Counts a connection that has just been opened.
    pub fn new(stream: Stream, place: Place, shard: Shard) -> Self {
        let (endpoint, cluster) = (Arc::clone(&place.endpoint), Arc::clone(&place.cluster));
        let scope = &cluster.stats.scope;
        scope.inc(shard, ClusterStat::UpstreamCxTotal);
        scope.inc(shard, ClusterStat::UpstreamCxHttp1Total);
        scope.inc(shard, ClusterStat::UpstreamCxActive);
        endpoint.connections.fetch_add(1, Relaxed);
        Self {
            stream,
            leftover: Vec::new(),
            endpoint,
            cluster,
            _place: place,
            reused: false,
            idle_since: Instant::now(),
            reuse_for: DEFAULT_REUSE,
            busy: false,
            ended_by_peer: false,
            shard,
        }
    }

    /// Adds the bytes since the last call to the cluster's counters.
    pub fn count_bytes(&mut self) {
        let (read, written) = self.stream.take_counts();
        let scope = &self.cluster.stats.scope;
        scope.add(self.shard, ClusterStat::UpstreamCxRxBytesTotal, read);
        scope.add(self.shard, ClusterStat::UpstreamCxTxBytesTotal, written);
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        self.count_bytes();
        let scope = &self.cluster.stats.scope;
        scope.dec(self.shard, ClusterStat::UpstreamCxActive);
        scope.inc(self.shard, ClusterStat::UpstreamCxDestroy);
        if self.busy {
            scope.inc(self.shard, ClusterStat::UpstreamCxDestroyWithActiveRq);
            scope.inc(
                self.shard,
                if self.ended_by_peer {
                    ClusterStat::UpstreamCxDestroyRemoteWithActiveRq
                } else {
                    ClusterStat::UpstreamCxDestroyLocalWithActiveRq
                },
            );
        }
    }
}
