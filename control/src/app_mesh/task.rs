//! The task that keeps one App Mesh route in line.
//!
//! Owns the loop around `decide.rs`: it waits, calls App Mesh, and tells how it stands. It must never have two
//! calls in flight, since the later one could overtake the earlier, and never decide anything itself. Next:
//! `simulation.rs`.

use super::decide::{Action, Core, Failure, Moment, Seen};
use super::{NodeWeights, SyncConfig, SyncState, SyncStatus, Wanted};
use aws::Error;
use aws::app_mesh::{AppMesh, Route, RouteRef};
use lifecycle::drain::DrainWatch;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The task of one route.
#[derive(Debug)]
pub struct SyncHandle {
    resume: Arc<Notify>,
    task: JoinHandle<()>,
}

impl SyncHandle {
    /// Ends a pause after drift: the wanted weights are written now, over whatever is there.
    pub fn resume(&self) {
        self.resume.notify_one();
    }

    /// Waits until the task has ended.
    pub async fn join(self) {
        // A task that panicked has told so through the panic hook, and there is nothing left to clean up.
        let _ = self.task.await;
    }
}

/// Starts the task of one route. It writes the newest of `wanted`, tells `status` how it stands, and ends when
/// `wanted` has no sender any more or the process drains; a change that is not written yet is tried until the
/// drain's deadline.
///
/// At the start a route that differs is written, not taken for drift: the change may be one that a control
/// before this one had no time to write.
pub fn spawn(
    client: AppMesh,
    config: SyncConfig,
    wanted: watch::Receiver<Wanted>,
    status: watch::Sender<SyncStatus>,
    shutdown: DrainWatch,
) -> SyncHandle {
    let resume = Arc::new(Notify::new());
    let SyncConfig { route_ref, targets, on_drift } = config;
    let core = Core::new(targets, on_drift, rand::make_rng::<SmallRng>());
    let started = Instant::now();
    let task =
        Task { client, route_ref, core, wanted, status, shutdown, resume: Arc::clone(&resume), started };
    SyncHandle { resume, task: tokio::spawn(task.run()) }
}

struct Task {
    client: AppMesh,
    route_ref: RouteRef,
    core: Core,
    wanted: watch::Receiver<Wanted>,
    status: watch::Sender<SyncStatus>,
    shutdown: DrainWatch,
    resume: Arc<Notify>,
    started: Instant,
}

impl Task {
    async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = self.keep_in_line() => {}
            () = shutdown.closed() => {}
        }
    }

    async fn keep_in_line(&mut self) {
        loop {
            self.take_wanted();
            self.publish();
            if self.shutdown.is_draining() && !self.core.is_pending() {
                return;
            }
            match self.core.next(self.now()) {
                Action::Describe => self.look_and_write().await,
                Action::Wait(until) => {
                    let until = until.map(|since_start| self.started + since_start);
                    if !self.wait(until).await {
                        return;
                    }
                }
            }
        }
    }

    async fn look_and_write(&mut self) {
        let answer = self.client.describe_route(&self.route_ref).await;
        // The describe took its time: what is written must be the newest at the moment of writing.
        self.take_wanted();
        let now = self.now();
        let weights = match &answer {
            Ok(route) => self.core.described(now, Ok(seen(route))),
            Err(error) => self.core.described(now, Err(failure(error))),
        };
        self.publish();
        if let (Ok(described), Some(weights)) = (answer, weights) {
            self.write(&described, weights).await;
        }
    }

    async fn write(&mut self, described: &Route, weights: NodeWeights) {
        let answer = self.client.update_weights(described, &weights).await;
        let answer = answer.map(|route| seen(&route)).map_err(|error| failure(&error));
        self.core.updated(self.now(), weights, answer);
        self.publish();
    }

    /// False when nothing will ever be wanted again.
    async fn wait(&mut self, until: Option<Instant>) -> bool {
        let elapsed = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let draining = self.shutdown.is_draining();
        tokio::select! {
            changed = self.wanted.changed() => changed.is_ok(),
            () = self.resume.notified() => {
                self.core.resume(self.now());
                true
            }
            () = self.shutdown.draining(), if !draining => true,
            () = elapsed => true,
        }
    }

    fn take_wanted(&mut self) {
        let now = self.now();
        self.core.want(now, &self.wanted.borrow_and_update());
    }

    fn publish(&self) {
        let new = self.core.status();
        let before = self.status.borrow().state;
        self.status.send_if_modified(|status| {
            let changed = status != new;
            if changed {
                status.clone_from(new);
            }
            changed
        });
        if before != new.state {
            let (route, detail, last_error) = (&self.route_ref, &new.detail, new.last_error.as_deref());
            match new.state {
                SyncState::Drift | SyncState::Error => {
                    tracing::warn!(%route, state = ?new.state, detail, last_error, "App Mesh sync");
                }
                SyncState::Disabled | SyncState::InSync | SyncState::Pending => {
                    tracing::info!(%route, state = ?new.state, detail, version = new.version, "App Mesh sync");
                }
            }
        }
    }

    fn now(&self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        Moment { since_start: self.started.elapsed(), unix_ms }
    }
}

fn seen(route: &Route) -> Seen {
    Seen { version: route.version, uid: route.uid.clone(), weights: route.weights.clone() }
}

fn failure(error: &Error) -> Failure {
    let in_doubt = match error {
        Error::Timeout { .. } | Error::Unreachable { .. } => true,
        Error::Other { retriable, .. } => *retriable,
        _ => false,
    };
    Failure { text: error.to_string(), in_doubt }
}
