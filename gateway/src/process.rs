//! The process as the admin interface and control see it: identity, state, age, and the switches of drain.
//!
//! Owns the server state of Envoy's words; it must never touch a request. Next: `app.rs`, which drives it.

use crate::state::store::Store;
use crate::stats::names::ServerStat;
use crate::stats::registry::Registry;
use lifecycle::drain::Drain;
use lifecycle::logging::LogHandle;
use lifecycle::readiness::Ready;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// Envoy: `admin.v3.ServerInfo.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Serving.
    Live = 0,
    /// Leaving, or failed by hand: load balancers should stop sending.
    Draining = 1,
    /// Listeners are not bound yet.
    PreInitializing = 2,
    /// First discovery answers or weights are awaited.
    Initializing = 3,
}

impl ServerState {
    /// As `/server_info` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }
}

/// What was said on the command line, for `/server_info`.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// Worker threads.
    pub concurrency: usize,
    /// `--config`; empty when the text came from the environment.
    pub config_path: String,
    /// `-l`.
    pub log_level: String,
    /// Upper bound of a drain.
    pub drain_time: Duration,
}

/// Who gave the listeners and clusters in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody yet: control is asked.
    Awaited,
    /// The file, or the text in `GATEWAY_CONFIG`.
    #[default]
    File,
    /// Control, since the start.
    Control,
    /// The copy of control's last word in `--state-dir`.
    Saved,
    /// Control's state item.
    StateItem,
}

impl Origin {
    /// As admin spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Awaited => "awaited",
            Self::File => "file",
            Self::Control => "control",
            Self::Saved => "saved",
            Self::StateItem => "state_item",
        }
    }
}

/// Where the listeners and clusters in force are from, for admin and control.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// Who gave them.
    pub origin: Origin,
    /// Their version_info; empty when they are from a file.
    pub version: String,
    /// When control gave them, or the copy was made; for a state item and a file: when it was read.
    pub since: SystemTime,
    /// While they are awaited: who was asked, and why there is no answer.
    pub waiting: BTreeMap<&'static str, String>,
}

impl Default for Provenance {
    fn default() -> Self {
        Self {
            origin: Origin::File,
            version: String::new(),
            since: SystemTime::now(),
            waiting: BTreeMap::new(),
        }
    }
}

/// Facts about this process, shared by admin, discovery and reports.
#[derive(Debug)]
pub struct Process {
    /// When it started.
    pub started: Instant,
    /// When it started, by the clock.
    pub started_at: SystemTime,
    /// ECS task id, else host name + boot id.
    pub instance_id: String,
    /// Random, new with each start.
    pub boot_id: String,
    /// Availability zone from ECS, empty when unknown.
    pub zone: String,
    /// Command line.
    pub command_line: CommandLine,
    /// Snapshots.
    pub store: Arc<Store>,
    /// Statistics.
    pub registry: Arc<Registry>,
    /// What LIVE still waits for.
    pub ready: Ready,
    /// The way out; started by a signal or admin.
    pub drain: Drain,
    /// Level of the log.
    pub log: LogHandle,
    /// `POST /healthcheck/fail`.
    pub health_failed: AtomicBool,
    /// LIVE was reached: nothing is awaited, or 15 s have passed since listeners were bound. Never taken back.
    pub live: AtomicBool,
    /// Bound addresses, listener name first.
    pub listeners: Mutex<Vec<(String, SocketAddr)>>,
    /// Told when the gateway becomes live.
    pub live_signal: watch::Sender<bool>,
    /// Told when accepting is to end although the process stays (`POST /drain_listeners`).
    pub stop_accepting: watch::Sender<bool>,
    /// Answers ask clients to leave (`POST /drain_listeners?graceful`).
    pub advise_close: AtomicBool,
    /// Workers whose drain is over.
    pub workers_done: AtomicUsize,
    /// Why the last file reload, or the last configuration from control, was refused; empty when it was taken.
    pub last_reload_error: Mutex<String>,
    /// Where the configuration in force is from.
    pub provenance: Mutex<Provenance>,
}

impl Process {
    /// State by Envoy's words.
    pub fn state(&self) -> ServerState {
        if self.health_failed.load(Relaxed) || self.drain.watch().is_draining() {
            ServerState::Draining
        } else if self.live.load(Relaxed) {
            ServerState::Live
        } else if self.listeners.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            ServerState::PreInitializing
        } else {
            ServerState::Initializing
        }
    }

    /// Serving begins.
    pub fn become_live(&self) {
        self.live.store(true, Relaxed);
        self.live_signal.send_replace(true);
        self.registry.server.set(ServerStat::Live, 1);
    }

    /// Where the configuration in force is from.
    pub fn provenance(&self) -> Provenance {
        self.provenance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes where the configuration in force is from, or why there is none.
    pub fn note_provenance(&self, change: impl FnOnce(&mut Provenance)) {
        change(&mut self.provenance.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether answers should ask clients to take their next request elsewhere.
    pub fn asks_to_leave(&self) -> bool {
        self.health_failed.load(Relaxed) || self.advise_close.load(Relaxed)
    }

    /// Bound addresses, listener name first.
    pub fn bound(&self) -> Vec<(String, SocketAddr)> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
