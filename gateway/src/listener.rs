//! Accepting connections, and the end of it.
//!
//! Owns the listening socket's clone of one worker, the fairness between workers, and the phases of a drain. It must
//! never read a byte of a request. Next: `request/h1.rs`.

use crate::io::{Stream, set_client_options};
use crate::request::h1::{Client, Served};
use crate::request::h2;
use crate::state::snapshot::HttpManager;
use crate::stats::names::{HttpStat, ListenerStat};
use crate::worker::{Current, Worker};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most connections that a worker has more than the least busy one before it lets others accept.
const FAIRNESS: u32 = 8;
/// How long a worker that stands back waits for the others to change, at most.
const STAND_BACK: Duration = Duration::from_millis(50);
/// How long the kernel's queue is looked at when accepting ends.
const LAST_LOOK: Duration = Duration::from_millis(1);
/// ... and how long in all, if connections go on arriving.
const EMPTYING: Duration = Duration::from_millis(200);
/// Accepting and idle connections go on for at least so long after a drain began: load balancers need time to learn.
pub const MIN_DRAIN: Duration = Duration::from_secs(5);
/// ... and until nothing new arrived for so long.
pub const QUIET: Duration = Duration::from_secs(1);
/// Before its deadline a drain stops accepting all the same, so that what is open can end in order.
const CLOSING: Duration = Duration::from_secs(2);
/// How often a drain looks for new work.
const LOOK: Duration = Duration::from_millis(50);
/// A pause after accept failed (no descriptors left): the kernel would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Connections of each worker, and how many the process may have.
#[derive(Debug)]
pub struct Crew {
    /// One per worker.
    pub connections: Vec<Arc<AtomicU32>>,
    /// Most connections of the process.
    pub limit: u32,
    standing_back: AtomicU32,
    changed: Notify,
}

impl Crew {
    /// Nobody busy.
    pub fn new(workers: usize, limit: u32) -> Self {
        Self {
            connections: (0..workers).map(|_| Arc::default()).collect(),
            limit,
            standing_back: AtomicU32::new(0),
            changed: Notify::new(),
        }
    }

    /// A worker has one connection more or less.
    fn changed(&self) {
        if self.standing_back.load(Relaxed) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Waits while this worker has too many connections more than the least busy one, but not for ever: a count that
    /// was read a moment too early must not stop it.
    async fn stand_back(&self, own: &AtomicU32) {
        self.standing_back.fetch_add(1, Relaxed);
        let changed = self.changed.notified();
        if self.is_ahead(own) {
            let _ = tokio::time::timeout(STAND_BACK, changed).await;
        }
        self.standing_back.fetch_sub(1, Relaxed);
    }

    fn is_ahead(&self, own: &AtomicU32) -> bool {
        own.load(Relaxed) > self.least() + FAIRNESS
    }

    fn least(&self) -> u32 {
        self.connections.iter().map(|count| count.load(Relaxed)).min().unwrap_or(0)
    }

    fn total(&self) -> u32 {
        self.connections.iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// Accepts on one listener until the drain is over, then closes it, emptied. Ready when a drain has been quiet, also
/// when accepting was ended by hand before.
pub async fn run(worker: Rc<Worker>, index: usize, listener: TcpListener, crew: Arc<Crew>) {
    let drained = quiet(&worker);
    tokio::pin!(drained);
    let mut stop = worker.process.stop_accepting.subscribe();
    let by_hand = loop {
        let ahead = crew.is_ahead(&worker.connections);
        tokio::select! {
            biased;
            () = &mut drained => break false,
            _ = stop.wait_for(|stop| *stop) => break true,
            () = crew.stand_back(&worker.connections), if ahead => {}
            accepted = listener.accept(), if !ahead => match accepted {
                Ok((socket, peer)) => start(&worker, index, socket, peer, &crew),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    };
    // What the kernel has queued was promised: it is served before the socket closes.
    let until = Instant::now() + EMPTYING;
    while Instant::now() < until
        && let Ok(Ok((socket, peer))) = tokio::time::timeout(LAST_LOOK, listener.accept()).await
    {
        start(&worker, index, socket, peer, &crew);
    }
    drop(listener);
    if by_hand {
        // Idle connections go on until the drain is over.
        drained.await;
    }
}

/// Ready when a drain has lasted long enough and nothing new arrives any more.
async fn quiet(worker: &Worker) {
    worker.drain.draining().await;
    let begun = Instant::now();
    let (mut seen, mut since) = (worker.work(), begun);
    let deadline = worker.drain.deadline().and_then(|deadline| deadline.checked_sub(CLOSING));
    let latest = deadline.map_or(begun, |deadline| deadline.max(begun + MIN_DRAIN));
    loop {
        tokio::time::sleep(LOOK).await;
        if worker.work() != seen {
            (seen, since) = (worker.work(), Instant::now());
        }
        let quiet = begun.elapsed() >= MIN_DRAIN && since.elapsed() >= QUIET;
        if quiet || Instant::now() >= latest {
            return;
        }
    }
}

fn start(worker: &Rc<Worker>, index: usize, socket: TcpStream, peer: SocketAddr, crew: &Arc<Crew>) {
    let current = worker.snapshot();
    let Some(manager) = current.routes.listeners.get(index) else { return };
    worker.note_work();
    if crew.total() >= crew.limit {
        manager.listener_stats.scope.inc(worker.shard, ListenerStat::DownstreamCxOverflow);
        manager.stats.scope.inc(worker.shard, HttpStat::DownstreamCxOverflow);
        return;
    }
    set_client_options(&socket);
    let open = Open::new(worker, Current::clone(&current), index, crew);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move { serve(worker, (index, peer), socket, open).await });
}

async fn serve(worker: Rc<Worker>, (index, peer): (usize, SocketAddr), socket: TcpStream, open: Open) {
    let client = Client::new(Rc::clone(&worker), index, peer, Stream::plain(socket));
    let served = client.serve().await;
    if let Served::Http2(stream, first) = served {
        let _http2 = open.counted(HttpStat::DownstreamCxHttp2Total, HttpStat::DownstreamCxHttp2Active);
        // Boxed, so that an HTTP/1 connection does not carry the size of an HTTP/2 one.
        Box::pin(h2::serve(worker, (index, peer), stream, first)).await;
    }
    drop(open);
}

/// An open downstream connection in the counts.
struct Open {
    worker: Rc<Worker>,
    current: Current,
    index: usize,
    crew: Arc<Crew>,
}

impl Open {
    fn new(worker: &Rc<Worker>, current: Current, index: usize, crew: &Arc<Crew>) -> Self {
        worker.connections.fetch_add(1, Relaxed);
        crew.changed();
        let open = Self { worker: Rc::clone(worker), current, index, crew: Arc::clone(crew) };
        if let Some(manager) = open.manager() {
            manager.stats.scope.inc(worker.shard, HttpStat::DownstreamCxTotal);
            manager.stats.scope.inc(worker.shard, HttpStat::DownstreamCxActive);
            manager.listener_stats.scope.inc(worker.shard, ListenerStat::DownstreamCxTotal);
            manager.listener_stats.scope.inc(worker.shard, ListenerStat::DownstreamCxActive);
        }
        open
    }

    fn manager(&self) -> Option<&Arc<HttpManager>> {
        self.current.routes.listeners.get(self.index)
    }

    fn counted(&self, total: HttpStat, active: HttpStat) -> Counted<'_> {
        if let Some(manager) = self.manager() {
            manager.stats.scope.inc(self.worker.shard, total);
            manager.stats.scope.inc(self.worker.shard, active);
        }
        Counted { open: self, active }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.connections.fetch_sub(1, Relaxed);
        self.crew.changed();
        if let Some(manager) = self.manager() {
            manager.stats.scope.dec(self.worker.shard, HttpStat::DownstreamCxActive);
            manager.stats.scope.inc(self.worker.shard, HttpStat::DownstreamCxDestroy);
            manager.listener_stats.scope.dec(self.worker.shard, ListenerStat::DownstreamCxActive);
            manager.listener_stats.scope.inc(self.worker.shard, ListenerStat::DownstreamCxDestroy);
        }
    }
}

/// One more in a gauge while it lives.
struct Counted<'a> {
    open: &'a Open,
    active: HttpStat,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(manager) = self.open.manager() {
            manager.stats.scope.dec(self.open.worker.shard, self.active);
        }
    }
}
