//! Opening a connection to an endpoint.
//!
//! Owns socket options and the connect time limit. It must never retry: the request decides that.
//! Next: `pool.rs`.

use super::UpstreamConnection;
use crate::cluster::{Cluster, Endpoint};
use crate::io::Stream;
use crate::stats::names::ClusterStat;
use crate::worker::Worker;
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// A peer that acknowledges nothing for so long is gone (RFC 5482); without it a black hole holds a request for
/// 15 minutes of retransmissions.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// First keep-alive probe on an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Refused, unreachable, out of descriptors.
    Failed,
    /// Not within `connect_timeout`.
    TimedOut,
}

/// Options that every socket of the gateway has. Failures are ignored: a socket without them still works.
pub fn set_options(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

/// Connects within the time limit.
///
/// # Errors
/// [`ConnectFailure`].
pub async fn dial(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectFailure> {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => {
            set_options(&socket);
            Ok(socket)
        }
        Ok(Err(_)) => Err(ConnectFailure::Failed),
        Err(_) => Err(ConnectFailure::TimedOut),
    }
}

/// Opens a connection for a request, with every count.
///
/// # Errors
/// [`ConnectFailure`]; the endpoint is then a suspect until a connect to it succeeds.
pub async fn connect(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
) -> Result<UpstreamConnection, ConnectFailure> {
    let scope = &cluster.shared.stats.scope;
    let started = Instant::now();
    let _pending = Pending::new(worker, cluster);
    match dial(endpoint.address, cluster.config.connect_timeout).await {
        Ok(socket) => {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            cluster.shared.stats.connect_time.record(worker.shard, micros);
            endpoint.suspect.store(false, Relaxed);
            let (stream, shared) = (Stream::plain(socket), Arc::clone(&cluster.shared));
            Ok(UpstreamConnection::new(stream, Arc::clone(endpoint), shared, worker.shard))
        }
        Err(failure) => {
            endpoint.suspect.store(true, Relaxed);
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
