//! Clusters and their endpoints.
//!
//! Owns what is shared by all workers about a cluster: endpoints, relaxed atomics of load and health, breakers.
//! It must never do I/O. Next: `balance.rs`, how one endpoint is picked.

pub mod balance;

use crate::stats::registry::ClusterStats;
use gateway_config::model;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Connects in a row without an answer that make an endpoint a suspect.
pub const UNANSWERED: u32 = 2;

/// One address of a cluster. It lives as long as the address stays in the cluster, over any number of snapshots,
/// so that pools, counts and health survive a change elsewhere.
#[derive(Debug)]
pub struct Endpoint {
    /// Unique in the process; workers key their pools by it.
    pub id: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// Requests in flight over all workers.
    pub active_requests: AtomicU32,
    /// Connections over all workers.
    pub active_connections: AtomicU32,
    /// Requests ever given to it.
    pub requests: AtomicU64,
    /// Answers below 500.
    pub successes: AtomicU64,
    /// Answers from 500 up, resets, time-outs and connect failures.
    pub errors: AtomicU64,
    /// Connections ever opened, and those that failed.
    pub connections: AtomicU64,
    /// Connects that failed.
    pub connect_failures: AtomicU64,
    /// The last connect failed, so others are tried before it (a hint, never a ban).
    pub suspect: AtomicBool,
    /// Connects in a row that were not answered in time; one alone is a lost packet.
    pub unanswered: AtomicU32,
    /// Connected at least once, or there from the start: new addresses prove themselves first.
    pub proven: AtomicBool,
    /// Left the cluster: idle connections are closed, none is kept.
    pub gone: AtomicBool,
    /// Availability zone, empty when unknown.
    pub zone: String,
}

impl Endpoint {
    /// An address that has just appeared.
    pub fn new(id: u64, address: SocketAddr, zone: String) -> Self {
        Self {
            id,
            address,
            active_requests: AtomicU32::new(0),
            active_connections: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            proven: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            zone,
        }
    }

    /// It accepted a connection, or answered.
    pub fn trust(&self) {
        // Looked at first: a store on every answer would be shared by all workers.
        if self.suspect.load(Relaxed) || self.unanswered.load(Relaxed) > 0 {
            self.suspect.store(false, Relaxed);
            self.unanswered.store(0, Relaxed);
        }
    }

    /// It refused a connection (`refused`), or did not answer one in time.
    pub fn doubt(&self, refused: bool) {
        let unanswered = self.unanswered.fetch_add(1, Relaxed) + 1;
        if refused || unanswered >= UNANSWERED {
            self.suspect.store(true, Relaxed);
        }
    }

    /// Whether new requests should go to it while others can take them.
    pub fn healthy(&self) -> bool {
        !self.suspect.load(Relaxed)
    }
}

/// Who is asked for the endpoints of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiscoverySource {
    /// Nobody: they stand in the configuration.
    #[default]
    Static,
    /// Cloud Map's API.
    Api,
    /// DNS.
    Dns,
}

impl DiscoverySource {
    /// As the wire spells it (`ClusterStatus.source`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Api => "api",
            Self::Dns => "dns",
        }
    }
}

/// What discovery last said of a cluster, for admin and reports.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryStatus {
    /// When the last good answer came.
    pub last_success: Option<Instant>,
    /// What went wrong since, if anything; empty = nothing.
    pub error: String,
    /// A first answer (good or empty) has come.
    pub answered: bool,
    /// Who gave the last answer, good or not. For `ClusterStatus.source` on the wire.
    pub source: DiscoverySource,
    /// What people should know although endpoints come (`ClusterStatus.notice` on the wire): that DNS is asked in place
    /// of an API that is shut off, and the cure. Empty when all is well.
    pub notice: String,
}

/// What stays of a cluster over snapshots.
#[derive(Debug)]
pub struct ClusterShared {
    /// Statistics.
    pub stats: Arc<ClusterStats>,
    /// Requests in flight, for the breaker.
    pub active_requests: AtomicU32,
    /// Retries in flight, for the breaker.
    pub active_retries: AtomicU32,
    /// Connections open, for the breaker.
    pub active_connections: AtomicU32,
    /// Requests that wait for a connection, for the breaker.
    pub pending_requests: AtomicU32,
    /// Those of them that wait because there are as many connections as there may be.
    pub waiting_requests: AtomicU32,
    /// Tells one of these, in whatever worker, that a connection has closed.
    pub room: Notify,
    discovery: Mutex<DiscoveryStatus>,
}

impl ClusterShared {
    /// Nothing yet.
    pub fn new(stats: Arc<ClusterStats>) -> Self {
        Self {
            stats,
            active_requests: AtomicU32::new(0),
            active_retries: AtomicU32::new(0),
            active_connections: AtomicU32::new(0),
            pending_requests: AtomicU32::new(0),
            waiting_requests: AtomicU32::new(0),
            room: Notify::new(),
            discovery: Mutex::default(),
        }
    }

    /// A connection has closed, or could not be opened.
    pub fn connection_ended(&self) {
        self.active_connections.fetch_sub(1, Relaxed);
        if self.waiting_requests.load(Relaxed) > 0 {
            self.room.notify_one();
        }
    }

    /// What discovery last said. Not for the request path.
    pub fn discovery(&self) -> DiscoveryStatus {
        self.discovery.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what discovery said.
    pub fn note_discovery(&self, change: impl FnOnce(&mut DiscoveryStatus)) {
        change(&mut self.discovery.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A cluster as one snapshot has it.
#[derive(Debug)]
pub struct Cluster {
    /// Unique name.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: model::Cluster,
    /// What outlives this snapshot.
    pub shared: Arc<ClusterShared>,
    /// May get requests, in address order.
    pub endpoints: Arc<[Arc<Endpoint>]>,
}

impl Cluster {
    /// Whether an endpoint is there that accepts connections, as far as is known.
    pub fn usable(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.healthy())
    }
}
