//! Sends a schedule of requests over a fixed set of connections, each at its time or as soon after it as a
//! connection is free.
//!
//! A thread of its own releases the requests when they are due (a timer of the runtime is only good to a
//! millisecond); each client takes the next one released. So a slow peer makes requests wait, and that wait
//! is measured, but it never makes them fewer. Must never drop a request silently: what could not be sent
//! before the time limit is reported as not sent. Next: `record.rs`.

use crate::client::{Client, Failure, Protocol, Recipe, SharedLine};
use crate::identify::Identify;
use crate::record::{Recorder, Sample, Seen, Trace};
use crate::schedule::Schedule;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Most connections of one run: below the usual limit of 65,536 file descriptors, and of ports.
pub const MAX_CONNECTIONS: usize = 20_000;

/// How long the pacer sleeps at most, so that it sees the end of the run.
const PACER_NAP: Duration = Duration::from_millis(50);

/// How often the progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What to send, when and over what.
#[derive(Debug, Clone)]
pub struct Stream {
    /// When each request is due.
    pub schedule: Schedule,
    /// The request.
    pub recipe: Recipe,
    /// Number of connections.
    pub connections: usize,
    /// Requests at a time on one connection; more than 1 needs HTTP/2.
    pub streams: usize,
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// After this no request is sent any more.
    pub time_limit: Duration,
    /// How to tell the versions apart.
    pub identify: Identify,
    /// Whether to keep who answered each request.
    pub trace: bool,
}

/// Why a run ended before its last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The time limit had passed.
    TimeLimit,
    /// Somebody asked for it.
    Interrupted,
}

/// What a run gave.
#[derive(Debug)]
pub struct Driven {
    /// Counts and latencies.
    pub recorder: Recorder,
    /// Requests that were never sent.
    pub not_sent: u64,
    /// When the first request was due.
    pub start: Instant,
    /// From then to the last answer.
    pub elapsed: Duration,
    /// Connections opened.
    pub opened: u64,
    /// Set when the run ended early.
    pub stopped: Option<Stopped>,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The first connections did not come up.
    #[error(
        "cannot connect to {address} ({failure}); check that something listens there, and the port: curl -v http://{authority}/"
    )]
    Unreachable {
        /// The address tried.
        address: std::net::SocketAddr,
        /// As in the URL.
        authority: String,
        /// What happened.
        failure: Failure,
    },
    /// The pacer thread could not be started.
    #[error("cannot start the pacing thread: {0}; the machine is out of threads or memory")]
    Thread(#[from] std::io::Error),
}

struct Shared {
    stream: Stream,
    start: Instant,
    /// One permit for each request that is due and not yet taken.
    released: Semaphore,
    /// The index of the next request to take.
    next: AtomicU64,
    done: AtomicU64,
    recorder: Mutex<Recorder>,
}

/// Runs `stream` to its end, its time limit or until `stop` is ready; calls `progress` with the number of
/// finished requests from time to time.
///
/// # Errors
/// [`DriveError::Unreachable`] when a connection fails before the first request.
pub async fn drive(
    stream: Stream,
    progress: impl Fn(u64),
    stop: impl Future<Output = ()>,
) -> Result<Driven, DriveError> {
    let opened = Arc::new(AtomicU64::new(0));
    let clients = open_clients(&stream, &opened).await?;
    let recorder = Recorder { trace: stream.trace.then(Trace::default), ..Recorder::default() };
    let shared = Arc::new(Shared {
        stream,
        start: Instant::now(),
        released: Semaphore::new(0),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        recorder: Mutex::new(recorder),
    });
    let pacer = {
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().name("pacer".into()).spawn(move || pace(&shared))?
    };
    let mut workers = JoinSet::new();
    for client in clients {
        workers.spawn(work(Arc::clone(&shared), client));
    }
    let stopped = supervise(&shared, &mut workers, progress, stop).await;
    let elapsed = shared.start.elapsed();
    // It wakes at least every PACER_NAP and ends because the semaphore is closed by now; a panic of it
    // shows as requests not sent.
    drop(pacer.join());
    let recorder = std::mem::take(&mut *shared.recorder.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Driven {
        // Whatever has no outcome was not sent, for whatever reason.
        not_sent: shared.stream.schedule.total().saturating_sub(recorder.sent),
        recorder,
        start: shared.start,
        elapsed,
        opened: opened.load(Ordering::Relaxed),
        stopped,
    })
}

async fn supervise(
    shared: &Shared,
    workers: &mut JoinSet<()>,
    progress: impl Fn(u64),
    stop: impl Future<Output = ()>,
) -> Option<Stopped> {
    let limit = tokio::time::sleep(shared.stream.time_limit);
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    tokio::pin!(limit, stop);
    let mut stopped = None;
    loop {
        tokio::select! {
            ended = workers.join_next() => if ended.is_none() { break },
            () = &mut limit, if stopped.is_none() => {
                stopped = Some(Stopped::TimeLimit);
                shared.released.close();
            }
            () = &mut stop, if stopped.is_none() => {
                stopped = Some(Stopped::Interrupted);
                shared.released.close();
            }
            _ = ticks.tick() => progress(shared.done.load(Ordering::Relaxed)),
        }
    }
    shared.released.close();
    progress(shared.done.load(Ordering::Relaxed));
    // The limit may have passed while the last answers came in.
    stopped.filter(|_| shared.next.load(Ordering::Relaxed) < shared.stream.schedule.total())
}

/// All connections are opened before the clock starts, so that no request pays for one (unless each is to
/// have its own).
async fn open_clients(stream: &Stream, opened: &Arc<AtomicU64>) -> Result<Vec<Client>, DriveError> {
    let recipe = Arc::new(stream.recipe.clone());
    let unreachable = |failure| DriveError::Unreachable {
        address: recipe.target.address,
        authority: recipe.target.authority.to_string(),
        failure,
    };
    let mut clients = Vec::new();
    for _ in 0..stream.connections {
        match recipe.protocol {
            Protocol::Http1 => {
                let mut client = Client::http1(Arc::clone(&recipe), Arc::clone(opened));
                if clients.is_empty() || !recipe.close {
                    client.open().await.map_err(unreachable)?;
                }
                clients.push(client);
            }
            Protocol::Http2 => {
                let line = SharedLine::default();
                for _ in 0..stream.streams.max(1) {
                    let mut client =
                        Client::http2(Arc::clone(&recipe), Arc::clone(opened), Arc::clone(&line));
                    client.open().await.map_err(unreachable)?;
                    clients.push(client);
                }
            }
        }
    }
    Ok(clients)
}

fn pace(shared: &Shared) {
    // The default slack of 50 us would make every send late by that much. Without it sends are a little
    // later, and reported so.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let schedule = shared.stream.schedule;
    let mut released = 0;
    while released < schedule.total() && !shared.released.is_closed() {
        let elapsed = shared.start.elapsed();
        let due = schedule.due(elapsed);
        if due > released {
            let permits = usize::try_from(due - released).unwrap_or(usize::MAX);
            shared.released.add_permits(permits.min(Semaphore::MAX_PERMITS / 2));
            released = due;
            continue;
        }
        std::thread::sleep(schedule.offset(released).saturating_sub(elapsed).min(PACER_NAP));
    }
}

async fn work(shared: Arc<Shared>, mut client: Client) {
    let stream = &shared.stream;
    loop {
        let free = shared.start.elapsed();
        let Ok(permit) = shared.released.acquire().await else { return };
        permit.forget();
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index + 1 >= stream.schedule.total() {
            // The last one: nobody else has anything to wait for.
            shared.released.close();
        }
        let sent = shared.start.elapsed();
        let outcome = client.exchange(stream.request_timeout).await.map(|answer| Seen {
            version: stream
                .identify
                .from_headers(&answer.headers)
                .or_else(|| stream.identify.from_body(&answer.body)),
            status: answer.status.as_u16(),
            length: answer.length,
        });
        let done = shared.start.elapsed();
        let sample = Sample { intended: stream.schedule.offset(index), free, sent, done, outcome };
        shared.recorder.lock().unwrap_or_else(PoisonError::into_inner).record(sample);
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}
