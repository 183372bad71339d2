//! Birth and death of the process.
//!
//! Owns the order: configuration, store, admin and sources on a thread of their own, listeners and workers as soon as
//! there are listeners, LIVE, drain, exit. It must never serve anything itself. Next: `opening.rs`.

use crate::access_log::AccessLogs;
use crate::admin::{self, Admin, AdminHooks, ListenerDrain};
use crate::cli::Cli;
use crate::environment::Environment;
use crate::few_clients;
use crate::opening::Opening;
use crate::process::{CommandLine, Process};
use crate::sources::{self, Settings};
use crate::state::store::Store;
use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use crate::stats::registry::Registry;
use gateway_config::model::Bootstrap;
use lifecycle::drain::{Drain, Phase};
use lifecycle::logging::LogHandle;
use lifecycle::readiness::Ready;
use lifecycle::signals::{self, Shutdown, ShutdownSignals};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;

/// LIVE whatever is still awaited, from when listeners are bound: a gateway that never becomes healthy is never given
/// traffic.
const LIVE_DUE: Duration = Duration::from_secs(15);
/// Exit code: the configuration is refused (sysexits EX_CONFIG).
const EXIT_CONFIG: u8 = 78;
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
    // First of all: the first process of a container hears no signal that it has no handler for.
    let signals = control_runtime.block_on(async { signals::shutdown().ok() });
    let task = control_runtime.block_on(aws::ecs::task_metadata());
    let workers = start.cli.workers(&start.environment, task.as_ref().and_then(|task| task.cpu_limit));
    let (process, access_logs) = match assemble(&start, workers, task) {
        Ok(assembled) => assembled,
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be used");
            return EXIT_CONFIG;
        }
    };
    count_panics(&process);
    let opening = Rc::new(Opening::new(Arc::clone(&process)));
    let admin = match bind(&opening, &start.bootstrap) {
        Ok(admin) => admin,
        Err(error) => {
            tracing::error!("{error}");
            return EXIT_BIND;
        }
    };
    let parts = (&process, &start, &access_logs);
    let code = control_thread(&control_runtime, &opening, (admin, signals), parts);
    if code == 0 {
        opening.join();
    }
    access_logs.flush();
    // A name that is being resolved, or a disk that hangs, must not hold up the end.
    control_runtime.shutdown_background();
    code
}

/// Admin first: whoever asks it learns what is missing. Listeners that are known are bound before anything else starts.
fn bind(opening: &Opening, bootstrap: &Bootstrap) -> Result<TcpListener, String> {
    let admin = opening.bind_admin()?;
    if !bootstrap.listeners.is_empty() {
        opening.serve(Opening::bind(bootstrap)?);
    }
    Ok(admin)
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
        provenance: Mutex::default(),
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

/// Admin, sources and signals; returns the exit code.
fn control_thread(
    runtime: &Runtime,
    opening: &Rc<Opening>,
    (admin_socket, signals): (TcpListener, Option<ShutdownSignals>),
    (process, start, access_logs): (&Arc<Process>, &Start, &Arc<AccessLogs>),
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
        tokio::task::spawn_local(few_clients::warn(Arc::clone(process)));
        let control = match sources::start(process, settings(process, opening, start)) {
            Ok(control) => control,
            Err(error) => {
                tracing::error!("{error}");
                return EXIT_CONFIG;
            }
        };
        if opening.is_open() {
            tokio::task::spawn_local(become_live(Arc::clone(process)));
        }
        tokio::select! {
            () = until_signals_end(process, signals) => 0,
            () = opening.death() => {
                tracing::error!("a worker ended before its time: the process ends with it");
                EXIT_DIED
            }
            () = drained(process, opening) => {
                if let Some(control) = control.filter(|_| opening.is_open()) {
                    sources::report::farewell(process, &control).await;
                }
                0
            }
        }
    })
}

fn settings(process: &Arc<Process>, opening: &Rc<Opening>, start: &Start) -> Settings {
    let (process, opening) = (Arc::clone(process), Rc::clone(opening));
    Settings {
        file: start.cli.config.clone(),
        state_dir: start.cli.state_dir.clone(),
        environment: start.environment.clone(),
        open: Box::new(move |bootstrap| {
            opening.open_first(bootstrap)?;
            tokio::task::spawn_local(become_live(Arc::clone(&process)));
            Ok(())
        }),
    }
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
async fn until_signals_end(process: &Process, signals: Option<ShutdownSignals>) {
    let Some(mut signals) = signals else { return std::future::pending().await };
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

/// Ready when the drain is over on every worker, or its time; at once when there are no workers yet.
async fn drained(process: &Process, opening: &Opening) {
    let watch = process.drain.watch();
    watch.draining().await;
    loop {
        if !opening.is_open()
            || process.workers_done.load(Relaxed) >= process.command_line.concurrency
            || watch.phase() == Phase::Closed
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
