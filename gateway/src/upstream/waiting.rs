//! Requests that wait because their cluster has as many connections as it may (Envoy: pending requests).
//!
//! Owns who is told when a connection becomes free: a request of the same worker takes it, else it is closed and its
//! place given to a request of another worker. It must never open a connection. Next: `connect.rs`.

use super::UpstreamConnection;
use crate::cluster::{Cluster, ClusterShared, Endpoint};
use crate::stats::names::ClusterStat;
use crate::worker::Worker;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;

/// A request that waits looks by itself now and then: who was told may have left in the same moment.
const LOOK: Duration = Duration::from_millis(100);

/// The requests of one worker that wait, by cluster.
#[derive(Default)]
pub struct Queues(RefCell<HashMap<*const ClusterShared, Rc<Queue>>>);

#[derive(Default)]
struct Queue {
    waiting: Cell<u32>,
    free: Notify,
}

impl Queues {
    fn of(&self, cluster: &Arc<ClusterShared>) -> Rc<Queue> {
        Rc::clone(self.0.borrow_mut().entry(Arc::as_ptr(cluster)).or_default())
    }

    /// Whether a connection that has become free is to be kept; `false`: only requests of other workers wait for it.
    pub fn may_keep(&self, cluster: &Arc<ClusterShared>) -> bool {
        if cluster.waiting_requests.load(Relaxed) == 0 {
            return true;
        }
        let queues = self.0.borrow();
        let Some(queue) = queues.get(&Arc::as_ptr(cluster)).filter(|queue| queue.waiting.get() > 0) else {
            return false;
        };
        queue.free.notify_one();
        true
    }
}

/// A request in a queue.
struct InQueue<'a> {
    queues: &'a Queues,
    queue: Rc<Queue>,
    cluster: &'a Arc<ClusterShared>,
}

impl<'a> InQueue<'a> {
    fn enter(queues: &'a Queues, cluster: &'a Arc<ClusterShared>) -> Self {
        let queue = queues.of(cluster);
        queue.waiting.set(queue.waiting.get() + 1);
        cluster.waiting_requests.fetch_add(1, Relaxed);
        Self { queues, queue, cluster }
    }
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        self.cluster.waiting_requests.fetch_sub(1, Relaxed);
        self.queue.waiting.set(self.queue.waiting.get() - 1);
        if self.queue.waiting.get() == 0 {
            self.queues.0.borrow_mut().remove(&Arc::as_ptr(self.cluster));
        }
    }
}

/// Ready when the cluster may have another connection (`None`), or with one that has become free. An endpoint without
/// any connection may always have one, as in Envoy: it must not wait for others.
pub async fn for_room(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Endpoint,
    repeatable: bool,
) -> Option<UpstreamConnection> {
    let shared = &cluster.shared;
    let most = cluster.config.circuit_breakers.max_connections;
    let full =
        || shared.active_connections.load(Relaxed) >= most && endpoint.active_connections.load(Relaxed) > 0;
    if !full() {
        return None;
    }
    shared.stats.scope.inc(worker.shard, ClusterStat::UpstreamCxOverflow);
    let place = InQueue::enter(worker.pools.queues(), shared);
    // Who came earlier is told first.
    let mut turn = place.queue.waiting.get() == 1;
    loop {
        let (free, room) = (place.queue.free.notified(), shared.room.notified());
        if turn {
            let idle = cluster.endpoints.iter().find_map(|e| worker.pools.checkout(e.id, repeatable));
            if idle.is_some() {
                return idle;
            }
            if !full() {
                return None;
            }
        }
        tokio::select! {
            () = free => {}
            () = room => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        turn = true;
    }
}
