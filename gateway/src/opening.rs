//! From a configuration to workers that accept: listeners are bound, then every worker gets a clone of each.
//!
//! Owns the sockets' options, the workers' threads and what happens when one dies. It must never decide when: a gateway
//! with a file opens at its start, one without when control has given it listeners. Next: `listener.rs`.

use crate::listener::{self, Crew};
use crate::process::Process;
use crate::state::change::Change;
use crate::stats::names::ServerStat;
use crate::worker::Worker;
use gateway_config::model::Bootstrap;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Connections that may wait to be accepted; tokio's 1,024 was measured to lose bursts.
const BACKLOG: i32 = 4096;

/// The workers, before and after they are started.
pub struct Opening {
    process: Arc<Process>,
    crew: Arc<Crew>,
    died: Arc<AtomicBool>,
    threads: RefCell<Vec<JoinHandle<()>>>,
}

/// Listeners that are bound and not served yet, by name.
pub type Bound = Vec<(String, TcpListener)>;

impl Opening {
    /// Nothing is bound yet.
    pub fn new(process: Arc<Process>) -> Self {
        let limits = process.store.snapshot().routes.bootstrap.limits.clone();
        let crew = Crew::new(process.command_line.concurrency, limits.max_downstream_connections);
        Self { process, crew: Arc::new(crew), died: Arc::default(), threads: RefCell::default() }
    }

    /// Binds the admin address.
    ///
    /// # Errors
    /// Why not and what to do, for people.
    pub fn bind_admin(&self) -> Result<TcpListener, String> {
        let socket = bind_one(self.process.store.snapshot().routes.bootstrap.admin.address, "admin")?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        tracing::info!(%address, "admin listening");
        self.note_bound("admin", address);
        Ok(socket)
    }

    /// Binds the listeners of a configuration, all or none.
    ///
    /// # Errors
    /// Why not and what to do, for people.
    pub fn bind(bootstrap: &Bootstrap) -> Result<Bound, String> {
        let bind = |listener: &gateway_config::model::Listener| {
            let socket = bind_one(listener.address, &format!("listener `{}`", listener.name))?;
            Ok((listener.name.clone(), socket))
        };
        bootstrap.listeners.iter().map(bind).collect()
    }

    /// A first configuration from control: bound, applied, served. Nothing is different after an error.
    ///
    /// # Errors
    /// An address that cannot be bound, or what the store refuses.
    pub fn open_first(&self, bootstrap: Bootstrap) -> Result<(), String> {
        let bound = Self::bind(&bootstrap)?;
        let applied = self.process.store.apply(Change::Config(Arc::new(bootstrap)));
        applied.map_err(|rejected| rejected.to_string())?;
        self.serve(bound);
        Ok(())
    }

    /// Starts the workers. One that cannot start counts as dead.
    pub fn serve(&self, bound: Bound) {
        let mut sockets = Vec::new();
        for (name, socket) in bound {
            if let Ok(address) = socket.local_addr() {
                tracing::info!(name, %address, "listening");
                self.note_bound(&name, address);
            }
            sockets.push(socket);
        }
        self.process.registry.server.set(ServerStat::TotalListenersActive, sockets.len() as u64);
        match self.start_workers(&sockets) {
            Ok(threads) => *self.threads.borrow_mut() = threads,
            Err(error) => {
                tracing::error!(%error, "a worker cannot start");
                self.died.store(true, Relaxed);
            }
        }
    }

    fn note_bound(&self, name: &str, address: SocketAddr) {
        let mut bound = self.process.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        bound.push((name.to_owned(), address));
    }

    fn start_workers(&self, listeners: &[TcpListener]) -> std::io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        for (index, connections) in self.crew.connections.iter().enumerate() {
            let sockets =
                listeners.iter().map(TcpListener::try_clone).collect::<std::io::Result<Vec<_>>>()?;
            let (process, crew) = (Arc::clone(&self.process), Arc::clone(&self.crew));
            let connections = Arc::clone(connections);
            let watched = Watched { died: Arc::clone(&self.died), process: Arc::clone(&process) };
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _watched = watched;
                // Made here: a runtime must not be dropped where another one runs.
                match Builder::new_current_thread().enable_io().enable_time().build() {
                    Ok(runtime) => {
                        let worker = Rc::new(Worker::new(index, process, connections));
                        LocalSet::new().block_on(&runtime, work(worker, sockets, crew));
                    }
                    Err(error) => tracing::error!(%error, "a worker has no runtime"),
                }
            })?;
            threads.push(thread);
        }
        Ok(threads)
    }

    /// Whether workers were started.
    pub fn is_open(&self) -> bool {
        !self.threads.borrow().is_empty()
    }

    /// Ready when a worker ended before its time.
    pub async fn death(&self) {
        while !self.died.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for the threads' ends.
    pub fn join(&self) {
        for thread in self.threads.take() {
            let _ = thread.join();
        }
    }
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
