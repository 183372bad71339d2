//! Birth and death of the process.
//!
//! Owns the order: configuration, store, sockets, admin and sources on a thread of their own, workers, LIVE, drain,
//! exit. It must never serve anything itself. Next: `listener.rs`, where connections begin.

use crate::access_log::AccessLogs;
use crate::admin::{self, Admin, AdminHooks, ListenerDrain};
use crate::cli::Cli;
use crate::environment::Environment;
use crate::listener::{self, Crew};
use crate::process::{CommandLine, Process};
use crate::sources;
use crate::state::store::Store;
use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use crate::stats::registry::Registry;
use crate::worker::Worker;
use gateway_config::model::Bootstrap;
use lifecycle::drain::{Drain, Phase};
use lifecycle::logging::LogHandle;
use lifecycle::readiness::Ready;
use lifecycle::signals::{self, Shutdown};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;

/// Connections that may wait to be accepted; tokio's 1,024 was measured to lose bursts.
const BACKLOG: i32 = 4096;
/// LIVE whatever is still awaited: a gateway that never becomes healthy is never given traffic.
const LIVE_DUE: Duration = Duration::from_secs(15);
/// Exit code: a worker or the control thread died (sysexits EX_SOFTWARE).
const EXIT_DIED: u8 = 70;
/// Exit code: an address could not be bound (sysexits EX_OSERR).
const EXIT_BIND: u8 = 71;

/// What `main` has read before anything is started.
pub struct Start {
    /// Command line.
    pub cli: Cli,
    /// Variables.
    pub environment: Environment,
    /// Validated configuration.
    pub bootstrap: Bootstrap,
    /// The log.
    pub log: LogHandle,
}

/// Runs the gateway until it has drained. Returns the exit code.
pub fn run(start: Start) -> u8 {
    let control_runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot start");
            return EXIT_DIED;
        }
    };
    let task = control_runtime.block_on(aws::ecs::task_metadata());
    let workers = start.cli.workers(&start.environment, task.as_ref().and_then(|task| task.cpu_limit));
    let (process, access_logs) = match assemble(&start, workers, task) {
        Ok(assembled) => assembled,
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be used");
            return 78;
        }
    };
    let sockets = match bind(&start.bootstrap, &process) {
        Ok(sockets) => sockets,
        Err(error) => {
            tracing::error!("{error}");
            return EXIT_BIND;
        }
    };
    count_panics(&process);
    let died = Arc::new(AtomicBool::new(false));
    let crew = Arc::new(Crew::new(workers, start.bootstrap.limits.max_downstream_connections));
    let threads = match start_workers(&process, &sockets.listeners, &crew, &died) {
        Ok(threads) => threads,
        Err(error) => {
            tracing::error!(%error, "a worker cannot start");
            return EXIT_DIED;
        }
    };
    drop(sockets.listeners);
    let code = control_thread(&control_runtime, &process, sockets.admin, &died, (&start, &access_logs));
    if code == 0 {
        for thread in threads {
            let _ = thread.join();
        }
    }
    access_logs.flush();
    code
}

fn assemble(
    start: &Start,
    workers: usize,
    task: Option<aws::ecs::TaskMetadata>,
) -> anyhow::Result<(Arc<Process>, Arc<AccessLogs>)> {
    let registry = Arc::new(Registry::new(workers));
    let access_logs = Arc::new(AccessLogs::new(Arc::clone(&registry)));
    let bootstrap = Arc::new(start.bootstrap.clone());
    let store = Arc::new(Store::new(bootstrap, Arc::clone(&registry), Arc::clone(&access_logs))?);
    registry.server.set(ServerStat::Concurrency, workers as u64);
    let boot_id = uuid();
    let (task_id, zone) = task.map_or((None, None), |task| (Some(task.task_id), task.availability_zone));
    let process = Process {
        started: Instant::now(),
        started_at: SystemTime::now(),
        instance_id: task_id
            .unwrap_or_else(|| format!("{}-{}", host_name(), boot_id.get(..8).unwrap_or_default())),
        boot_id,
        zone: zone.unwrap_or_default(),
        command_line: CommandLine {
            concurrency: workers,
            config_path: start.cli.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            log_level: start.cli.level(&start.environment),
            drain_time: start.cli.drain_time(&start.environment),
        },
        store,
        registry,
        ready: Ready::new(),
        drain: Drain::new(),
        log: start.log.clone(),
        health_failed: AtomicBool::new(false),
        live: AtomicBool::new(false),
        live_signal: watch::Sender::new(false),
        stop_accepting: watch::Sender::new(false),
        advise_close: AtomicBool::new(false),
        workers_done: AtomicUsize::new(0),
        listeners: Mutex::default(),
        last_reload_error: Mutex::default(),
    };
    Ok((Arc::new(process), access_logs))
}

fn uuid() -> String {
    let text = crate::request::headers::uuid4(&mut rand::rng());
    String::from_utf8_lossy(&text).into_owned()
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "gateway".to_owned() } else { name.trim().to_owned() }
}

struct Sockets {
    listeners: Vec<TcpListener>,
    admin: TcpListener,
}

fn bind(bootstrap: &Bootstrap, process: &Process) -> Result<Sockets, String> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for listener in &bootstrap.listeners {
        let socket = bind_one(listener.address, &format!("listener `{}`", listener.name))?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        tracing::info!(name = listener.name, %address, "listening");
        bound.push((listener.name.clone(), address));
        listeners.push(socket);
    }
    let admin = bind_one(bootstrap.admin.address, "admin")?;
    let address = admin.local_addr().map_err(|error| error.to_string())?;
    tracing::info!(%address, "admin listening");
    bound.push(("admin".to_owned(), address));
    process.registry.server.set(ServerStat::TotalListenersActive, bootstrap.listeners.len() as u64);
    *process.listeners.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = bound;
    Ok(Sockets { listeners, admin })
}

fn bind_one(address: SocketAddr, what: &str) -> Result<TcpListener, String> {
    let attempt = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the last process's connections to time out; SO_REUSEPORT is not set, so that
        // a second process cannot silently take half of the traffic.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    attempt().map_err(|error| {
        let cure = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another port",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; choose a higher one",
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address; 0.0.0.0 means all of them"
            }
            _ => "check address and port",
        };
        format!("{what} cannot listen on {address}: {error}; {cure}")
    })
}

/// A panic in a task ends that task alone; here it is counted and named.
fn count_panics(process: &Arc<Process>) {
    let registry = Arc::clone(&process.registry);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        registry.server.inc(Shard::SHARED, ServerStat::TaskPanics);
        tracing::error!(panic = %info, "a task ended by a panic");
        before(info);
    }));
}

/// Says so when its thread ends for whatever reason.
struct Watched {
    died: Arc<AtomicBool>,
    process: Arc<Process>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.process.drain.watch().is_draining() || std::thread::panicking() {
            self.died.store(true, Relaxed);
        }
    }
}

fn start_workers(
    process: &Arc<Process>,
    listeners: &[TcpListener],
    crew: &Arc<Crew>,
    died: &Arc<AtomicBool>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for (index, connections) in crew.connections.iter().enumerate() {
        let sockets = listeners.iter().map(TcpListener::try_clone).collect::<std::io::Result<Vec<_>>>()?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (process, crew, connections) = (Arc::clone(process), Arc::clone(crew), Arc::clone(connections));
        let watched = Watched { died: Arc::clone(died), process: Arc::clone(&process) };
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let _watched = watched;
            let worker = Rc::new(Worker::new(index, process, connections));
            LocalSet::new().block_on(&runtime, work(worker, sockets, crew));
        })?;
        threads.push(thread);
    }
    Ok(threads)
}

/// One worker from LIVE to the end of the drain.
async fn work(worker: Rc<Worker>, sockets: Vec<TcpListener>, crew: Arc<Crew>) {
    let watcher = Rc::clone(&worker);
    tokio::task::spawn_local(async move { watcher.pools.watch().await });
    // Before the first weights are known a request could go to the wrong version: connections wait in the queue.
    let mut live = worker.process.live_signal.subscribe();
    tokio::select! {
        _ = live.wait_for(|live| *live) => {}
        () = worker.drain.draining() => {}
    }
    let mut accepting = Vec::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                let run = listener::run(Rc::clone(&worker), index, socket, Arc::clone(&crew));
                accepting.push(tokio::task::spawn_local(run));
            }
            Err(error) => {
                // A worker that cannot serve ends, and the process with it: LIVE would be a lie.
                tracing::error!(%error, "a listener cannot be served");
                return;
            }
        }
    }
    let leave = async {
        for listener in accepting {
            let _ = listener.await;
        }
        // Listeners may have been closed by hand: what is connected goes on until the process leaves.
        worker.drain.draining().await;
        worker.close_idle();
        while worker.connections.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = leave => {}
        () = worker.drain.closed() => {
            let cut = u64::from(worker.active_requests.get());
            worker.process.registry.server.add(worker.shard, ServerStat::DrainCutRequests, cut);
            tracing::warn!(requests = cut, "the drain time is over: what is left is cut");
        }
    }
    worker.process.workers_done.fetch_add(1, Relaxed);
}

/// Admin, sources and signals; returns the exit code.
fn control_thread(
    runtime: &Runtime,
    process: &Arc<Process>,
    admin_socket: TcpListener,
    died: &AtomicBool,
    (start, access_logs): (&Start, &Arc<AccessLogs>),
) -> u8 {
    LocalSet::new().block_on(runtime, async {
        let Ok(admin_socket) = tokio::net::TcpListener::from_std(admin_socket) else { return EXIT_DIED };
        let quit = Arc::new(Notify::new());
        let wishes = watch::Sender::new(ListenerDrain::Open);
        let wished = wishes.subscribe();
        let hooks = AdminHooks {
            quit: Arc::clone(&quit),
            drain_listeners: wishes,
            access_logs: Arc::clone(access_logs),
        };
        let labels = start.environment.stats_labels();
        let admin = Admin::new(Arc::clone(process), hooks, labels);
        tokio::task::spawn_local(admin::serve(admin_socket, admin));
        tokio::task::spawn_local(follow_admin(Arc::clone(process), wished, quit));
        let (file, state_dir) = (start.cli.config.clone(), start.cli.state_dir.clone());
        let control = sources::start(process, file, state_dir, &start.environment);
        tokio::task::spawn_local(become_live(Arc::clone(process)));
        tokio::select! {
            () = until_signals_end(process) => 0,
            () = death(died) => {
                tracing::error!("a worker ended before its time: the process ends with it");
                EXIT_DIED
            }
            () = drained(process) => {
                if let Some(control) = &control {
                    sources::report::farewell(process, control).await;
                }
                0
            }
        }
    })
}

/// What admin wishes of listeners and process.
async fn follow_admin(process: Arc<Process>, mut wished: watch::Receiver<ListenerDrain>, quit: Arc<Notify>) {
    loop {
        tokio::select! {
            () = quit.notified() => {
                tracing::info!("draining: asked to quit by admin");
                process.drain.start(process.command_line.drain_time);
            }
            changed = wished.changed() => {
                if changed.is_err() {
                    return;
                }
                let wish = *wished.borrow_and_update();
                match wish {
                    ListenerDrain::Open => {}
                    ListenerDrain::Graceful { skip_exit } => {
                        process.advise_close.store(true, Relaxed);
                        let process = Arc::clone(&process);
                        tokio::task::spawn_local(async move {
                            tokio::time::sleep(process.command_line.drain_time).await;
                            if !skip_exit {
                                process.stop_accepting.send_replace(true);
                            }
                        });
                    }
                    ListenerDrain::Close => {
                        process.stop_accepting.send_replace(true);
                    }
                }
            }
        }
    }
}

async fn become_live(process: Arc<Process>) {
    if tokio::time::timeout(LIVE_DUE, process.ready.wait()).await.is_err() {
        tracing::warn!(awaited = ?process.ready.pending(), "live although not everything has answered");
    }
    process.become_live();
    tracing::info!("live");
}

/// SIGTERM drains; a second one ends at once.
async fn until_signals_end(process: &Process) {
    let Ok(mut signals) = signals::shutdown() else { return std::future::pending().await };
    loop {
        match signals.recv().await {
            Shutdown::Drain => {
                let limit = process.command_line.drain_time;
                tracing::info!(seconds = limit.as_secs(), "draining");
                process.drain.start(limit);
            }
            Shutdown::Immediate => {
                tracing::warn!("ended at once by a second signal");
                process.drain.close();
                return;
            }
        }
    }
}

async fn death(died: &AtomicBool) {
    while !died.load(Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Ready when the drain is over on every worker, or its time.
async fn drained(process: &Process) {
    let watch = process.drain.watch();
    watch.draining().await;
    loop {
        if process.workers_done.load(Relaxed) >= process.command_line.concurrency
            || watch.phase() == Phase::Closed
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
