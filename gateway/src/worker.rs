//! One worker: one thread, one runtime, everything a request touches that is not shared.
//!
//! Owns the scratch buffer, recycled heads and buffers, the random numbers, the pools and round robin positions.
//! Nothing here is ever borrowed across an await, and nothing is seen by another thread.
//! Next: `listener.rs`, which feeds it connections.

use crate::few_clients::Clients;
use crate::process::Process;
use crate::state::snapshot::Snapshot;
use crate::state::swap::Reader;
use crate::stats::cells::Shard;
use crate::upstream::pool::Pools;
use http1::{RequestHead, ResponseHead};
use lifecycle::drain::DrainWatch;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

/// One read of a body; large bodies need few system calls, idle connections own none of it.
pub const SCRATCH: usize = 256 * 1024;
/// Most bytes read while a peer has not taken all of the last write: what does not fit must be kept.
pub const CAUTIOUS_READ: usize = 32 * 1024;
/// Recycled heads and buffers beyond this are given back to the allocator.
const KEEP: usize = 256;
/// A recycled head that grew beyond this is given back.
const KEEP_HEAD: usize = 16 * 1024;
/// A recycled buffer that grew beyond this is given back.
const KEEP_CAPACITY: usize = 64 * 1024;

/// Bytes of request bodies that a worker keeps so that they can be sent again.
const REPLAY_BUDGET: usize = 32 << 20;

/// The snapshot as this worker's requests share it: a count of its own, so that workers do not contend for one.
pub type Current = Rc<Arc<Snapshot>>;

/// What one thread owns.
pub struct Worker {
    /// Which statistics cells it writes.
    pub shard: Shard,
    /// The process.
    pub process: Arc<Process>,
    /// Whether the process drains.
    pub drain: DrainWatch,
    /// Idle upstream connections.
    pub pools: Pools,
    /// Whom its requests are taken to be from.
    pub clients: Clients,
    /// Downstream connections of this worker, seen by the others when they decide whether to accept.
    pub connections: Arc<AtomicU32>,
    /// Requests in flight on this worker.
    pub active_requests: Cell<u32>,
    /// Idle client connections are to be closed: the last phase of a drain.
    pub closing: Cell<bool>,
    work: Cell<u64>,
    leftovers: Cell<usize>,
    leftover_budget: usize,
    replays: Cell<usize>,
    budget_waiters: RefCell<Vec<Waker>>,
    idle_clients: RefCell<Slab<Waker>>,
    scratch: RefCell<Box<[u8]>>,
    reader: RefCell<Reader<Snapshot>>,
    current: RefCell<Current>,
    rng: RefCell<SmallRng>,
    positions: RefCell<HashMap<*const (), usize>>,
    requests: RefCell<Vec<RequestHead>>,
    responses: RefCell<Vec<ResponseHead>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    date: RefCell<(u64, [u8; 29])>,
}

impl Worker {
    /// A worker with empty pools.
    pub fn new(index: usize, process: Arc<Process>, connections: Arc<AtomicU32>) -> Self {
        let store = &process.store;
        Self {
            shard: Shard::worker(index),
            drain: process.drain.watch(),
            pools: Pools::default(),
            clients: Clients::default(),
            connections,
            active_requests: Cell::new(0),
            closing: Cell::new(false),
            work: Cell::new(0),
            leftovers: Cell::new(0),
            leftover_budget: store.snapshot().routes.bootstrap.limits.leftover_budget,
            replays: Cell::new(0),
            budget_waiters: RefCell::default(),
            idle_clients: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            reader: RefCell::new(store.reader()),
            current: RefCell::new(Rc::new(store.snapshot())),
            // Seeded from the operating system: workers must not draw the same numbers.
            rng: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            positions: RefCell::default(),
            requests: RefCell::default(),
            responses: RefCell::default(),
            buffers: RefCell::default(),
            date: RefCell::new((0, [b' '; 29])),
            process,
        }
    }

    /// The snapshot in force; one call per request, so that everything it sees is of one version.
    pub fn snapshot(&self) -> Current {
        let mut reader = self.reader.borrow_mut();
        let newest = reader.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(newest, &current) {
            *current = Rc::new(Arc::clone(newest));
        }
        Rc::clone(&current)
    }

    /// Lends the scratch buffer for one poll.
    pub fn with_scratch<T>(&self, job: impl FnOnce(&mut [u8]) -> T) -> T {
        job(&mut self.scratch.borrow_mut())
    }

    /// Lends the random numbers.
    pub fn with_rng<T>(&self, job: impl FnOnce(&mut SmallRng) -> T) -> T {
        job(&mut self.rng.borrow_mut())
    }

    /// Lends this worker's round robin position of something shared (keyed by its address).
    pub fn with_position<T>(&self, of: *const (), job: impl FnOnce(&mut usize) -> T) -> T {
        let mut positions = self.positions.borrow_mut();
        // Workers that start in step would all begin with the first endpoint.
        let position = positions.entry(of).or_insert_with(|| self.with_rng(start_position));
        job(position)
    }

    /// An empty request head, recycled when there is one.
    pub fn take_request(&self) -> RequestHead {
        self.requests.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a request head back.
    pub fn give_request(&self, mut head: RequestHead) {
        let mut kept = self.requests.borrow_mut();
        if kept.len() < KEEP && head.heap_bytes() <= KEEP_HEAD {
            head.clear();
            kept.push(head);
        }
    }

    /// An empty response head, recycled when there is one.
    pub fn take_response(&self) -> ResponseHead {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a response head back.
    pub fn give_response(&self, mut head: ResponseHead) {
        let mut kept = self.responses.borrow_mut();
        if kept.len() < KEEP && head.fields.heap_bytes() <= KEEP_HEAD {
            head.clear();
            kept.push(head);
        }
    }

    /// An empty buffer, recycled when there is one.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give_buffer(&self, mut buffer: Vec<u8>) {
        let mut kept = self.buffers.borrow_mut();
        if kept.len() < KEEP && buffer.capacity() <= KEEP_CAPACITY && buffer.capacity() > 0 {
            buffer.clear();
            kept.push(buffer);
        }
    }

    /// Whether answers ask the client to take its next request elsewhere.
    pub fn leaving(&self) -> bool {
        self.drain.is_draining() || self.process.asks_to_leave()
    }

    /// Notes that something new arrived: a drain goes on while it does.
    pub fn note_work(&self) {
        self.work.set(self.work.get().wrapping_add(1));
    }

    /// Changes whenever something new arrived.
    pub fn work(&self) -> u64 {
        self.work.get()
    }

    /// Exchanges a part of the leftover budget; who waits for it is woken when it is there again.
    pub fn change_leftovers(&self, before: usize, now: usize) {
        self.leftovers.set(self.leftovers.get().saturating_sub(before) + now);
        if self.leftovers.get() <= self.leftover_budget {
            self.budget_waiters.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    /// Ready while there is room for what another read may leave behind.
    pub fn poll_budget(&self, cx: &Context<'_>) -> Poll<()> {
        if self.leftovers.get() <= self.leftover_budget {
            return Poll::Ready(());
        }
        let mut waiters = self.budget_waiters.borrow_mut();
        if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes a part of the replay budget; false = it is used up, and the request can be sent only once.
    pub fn reserve_replay(&self, bytes: usize) -> bool {
        let after = self.replays.get() + bytes;
        let fits = after <= REPLAY_BUDGET;
        if fits {
            self.replays.set(after);
        }
        fits
    }

    /// Gives it back.
    pub fn release_replay(&self, bytes: usize) {
        self.replays.set(self.replays.get().saturating_sub(bytes));
    }

    /// A place for the waker of a client connection while it is idle.
    pub fn enter_idle(&self) -> usize {
        self.idle_clients.borrow_mut().insert(Waker::noop().clone())
    }

    /// Keeps the waker of an idle connection up to date.
    pub fn wake_when_closing(&self, place: usize, cx: &Context<'_>) {
        if let Some(waker) = self.idle_clients.borrow_mut().get_mut(place)
            && !waker.will_wake(cx.waker())
        {
            waker.clone_from(cx.waker());
        }
    }

    /// Gives the place back.
    pub fn leave_idle(&self, place: usize) {
        self.idle_clients.borrow_mut().try_remove(place);
    }

    /// Begins the last phase of a drain: idle client connections close now, busy ones after their answer.
    pub fn close_idle(&self) {
        self.closing.set(true);
        self.idle_clients.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// The `date` header's value (RFC 9110, 5.6.7), made once a second.
    pub fn date(&self) -> [u8; 29] {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut cached = self.date.borrow_mut();
        if cached.0 != second {
            use std::io::Write as _;
            let mut text = [b' '; 29];
            // The form has 29 characters; were it longer, the rest would be cut, never more written.
            let _ = write!(text.as_mut_slice(), "{}", httpdate::HttpDate::from(now));
            *cached = (second, text);
        }
        cached.1
    }
}

fn start_position(rng: &mut SmallRng) -> usize {
    use rand::RngExt as _;
    rng.random_range(0..1024)
}
