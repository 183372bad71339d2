//! An Application Load Balancer's behaviour towards its targets: health checks, kept-alive connections, deregistration, no retries.
//!
//! Owns who is a target and what went wrong, counted by cause. It must never do a target a favour that an ALB would not: a request
//! that was written to a connection which then fails is a 502 for the client. HTTP/1.1 on both sides; upgrades are not passed on.
//! Read `forward` next for the life of a request.

mod forward;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::watch;

use crate::client;
use crate::clock::{DEADLINE, within};
use crate::host::Host;
use crate::net::{ANY_PORT, lock};

/// A gateway as a target group knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where requests go.
    pub data: SocketAddr,
    /// Where health is checked.
    pub admin: SocketAddr,
}

/// What an operator sets on a target group. The defaults are those of the App Mesh starter projects, without a timer of its own.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path that must answer 200.
    pub health_path: String,
    /// So many successes in a row make an unhealthy target healthy; a new one needs only one.
    pub healthy_threshold: u32,
    /// So many failures in a row make a healthy target unhealthy.
    pub unhealthy_threshold: u32,
    /// How long one check may take.
    pub health_timeout: Duration,
    /// Checks by itself this often; None: only [`Alb::tick`] checks.
    pub interval: Option<Duration>,
    /// How long a target may take to begin its answer (ALB: idle_timeout.timeout_seconds, 60).
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            health_path: "/server_info".to_owned(),
            healthy_threshold: 3,
            unhealthy_threshold: 2,
            health_timeout: Duration::from_secs(10),
            interval: None,
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// A target's state, in the words of the ALB's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetHealth {
    /// Registered, not checked yet: gets no requests.
    Initial,
    /// Gets requests.
    Healthy,
    /// Gets none, unless all are unhealthy (an ALB fails open).
    Unhealthy,
    /// Deregistered: gets no new requests, its old ones are finished.
    Draining,
}

/// What happened so far. Every request is counted in `requests`, and in at most one of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests received.
    pub requests: u64,
    /// Answers below 500 that a target gave.
    pub passed: u64,
    /// 5xx answers that a target gave itself (HTTPCode_Target_5XX).
    pub target_5xx: u64,
    /// 503: no target could be given the request.
    pub no_target: u64,
    /// 502: a connection to the target could not be made.
    pub connect_failed: u64,
    /// 502: a connection used before failed under a request that was written to it.
    pub reset_reused: u64,
    /// 502: a fresh connection failed under the request, or answered what is not HTTP.
    pub reset_fresh: u64,
    /// 504: the target did not begin its answer in time.
    pub timeout: u64,
    /// The target broke off in the middle of an answer; also counted as passed or target_5xx, by its head.
    pub cut: u64,
    /// Connections opened to targets.
    pub connections: u64,
    /// Idle connections found closed by the target before anything was written to them: harmless.
    pub closed_idle: u64,
}

impl Counts {
    /// Requests whose client saw an error of the ALB's or the target's making.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.target_5xx
            + self.no_target
            + self.connect_failed
            + self.reset_reused
            + self.reset_fresh
            + self.timeout
            + self.cut
    }
}

type Idle = SendRequest<hyper::body::Incoming>;

pub(crate) struct Entry {
    target: Target,
    health: TargetHealth,
    streak: u32,
    in_flight: u64,
    idle: VecDeque<Idle>,
}

pub(crate) struct Shared {
    settings: Settings,
    port: u16,
    targets: Mutex<Vec<Entry>>,
    next: Mutex<usize>,
    counts: watch::Sender<Counts>,
    /// Goes up whenever a target's requests in flight, or its health, change.
    changes: watch::Sender<u64>,
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    fn with<T>(&self, data: SocketAddr, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let out = lock(&self.targets).iter_mut().find(|entry| entry.target.data == data).map(change);
        self.changes.send_modify(|changes| *changes += 1);
        out
    }

    async fn check(self: Arc<Self>, target: Target) {
        let headers = [("user-agent", "ELB-HealthChecker/2.0")];
        let asked = client::once(target.admin, "GET", &self.settings.health_path, &headers, b"");
        let answer = within(self.settings.health_timeout, "health check", asked).await;
        let good = matches!(answer, Ok(Ok(answer)) if answer.status == 200);
        self.with(target.data, |entry| entry.judge(good, &self.settings));
    }

    async fn check_all(self: Arc<Self>) {
        let targets: Vec<Target> = lock(&self.targets).iter().map(|entry| entry.target).collect();
        let checks: Vec<_> = targets.into_iter().map(|t| tokio::spawn(Arc::clone(&self).check(t))).collect();
        for check in checks {
            let _ended = check.await;
        }
    }
}

impl Entry {
    /// Takes one check's outcome in.
    fn judge(&mut self, good: bool, settings: &Settings) {
        let agrees = match self.health {
            TargetHealth::Healthy => good,
            TargetHealth::Unhealthy => !good,
            TargetHealth::Initial => {
                self.health = if good { TargetHealth::Healthy } else { TargetHealth::Unhealthy };
                true
            }
            TargetHealth::Draining => true,
        };
        self.streak = if agrees { 0 } else { self.streak + 1 };
        let (needed, other) = match self.health {
            TargetHealth::Healthy => (settings.unhealthy_threshold, TargetHealth::Unhealthy),
            _ => (settings.healthy_threshold, TargetHealth::Healthy),
        };
        if !agrees && self.streak >= needed {
            self.health = other;
            self.streak = 0;
        }
    }
}

/// The running load balancer. Dropping it cuts every connection.
pub struct Alb {
    addr: SocketAddr,
    shared: Arc<Shared>,
    host: Host,
}

impl Alb {
    /// Starts it with the default settings.
    ///
    /// # Errors
    /// When the system gives no port or thread.
    pub fn start() -> Result<Self> {
        Self::start_with(Settings::default())
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no port or thread.
    pub fn start_with(settings: Settings) -> Result<Self> {
        let listener = std::net::TcpListener::bind(ANY_PORT)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let interval = settings.interval;
        let shared = Arc::new(Shared {
            settings,
            port: addr.port(),
            targets: Mutex::default(),
            next: Mutex::default(),
            counts: watch::Sender::default(),
            changes: watch::Sender::default(),
        });
        let serving = Arc::clone(&shared);
        let host = Host::spawn("alb", move || async move {
            if let Some(interval) = interval {
                let checking = Arc::clone(&serving);
                tokio::spawn(async move {
                    loop {
                        Arc::clone(&checking).check_all().await;
                        tokio::time::sleep(interval).await;
                    }
                });
            }
            forward::accept(listener, serving).await;
        })?;
        Ok(Self { addr, shared, host })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Adds a target; it gets requests after its first successful check. A draining one is taken back.
    pub fn register(&self, target: Target) {
        let mut targets = lock(&self.shared.targets);
        match targets.iter_mut().find(|entry| entry.target.data == target.data) {
            Some(entry) => (entry.target, entry.health, entry.streak) = (target, TargetHealth::Initial, 0),
            None => targets.push(Entry {
                target,
                health: TargetHealth::Initial,
                streak: 0,
                in_flight: 0,
                idle: VecDeque::new(),
            }),
        }
    }

    /// Checks every target once.
    ///
    /// # Errors
    /// When the load balancer has died.
    pub async fn tick(&self) -> Result<()> {
        let checked = self.host.handle().spawn(Arc::clone(&self.shared).check_all());
        checked.await.context("the load balancer has died")
    }

    /// Waits until a target is healthy; something must check meanwhile, by the interval or by [`Alb::tick`].
    ///
    /// # Errors
    /// When it is not within [`DEADLINE`].
    pub async fn until_healthy(&self, data: SocketAddr) -> Result<()> {
        let healthy = || self.health(data) == Some(TargetHealth::Healthy);
        within(DEADLINE, &format!("{data} healthy"), self.until(healthy)).await
    }

    async fn until(&self, done: impl Fn() -> bool) {
        let mut watch = self.shared.changes.subscribe();
        while !done() && watch.changed().await.is_ok() {}
    }

    /// Deregisters a target: from this call on it gets no new request. Resolves when those in flight are finished (at once if it
    /// is not awaited for long, the rest goes on), and then closes its idle connections and forgets it.
    ///
    /// # Errors
    /// When requests are still in flight after `delay` (ALB: deregistration_delay.timeout_seconds); it stays draining.
    pub async fn deregister(&self, data: SocketAddr, delay: Duration) -> Result<()> {
        self.begin_deregister(data);
        within(delay, &format!("{data} drained"), self.until(|| self.in_flight(data) == 0)).await?;
        lock(&self.shared.targets).retain(|entry| entry.target.data != data);
        Ok(())
    }

    /// The first half of [`Alb::deregister`]: no new requests from now on.
    pub fn begin_deregister(&self, data: SocketAddr) {
        self.shared.with(data, |entry| entry.health = TargetHealth::Draining);
    }

    /// A target's state; None if it is not registered.
    #[must_use]
    pub fn health(&self, data: SocketAddr) -> Option<TargetHealth> {
        lock(&self.shared.targets).iter().find(|entry| entry.target.data == data).map(|entry| entry.health)
    }

    /// Requests in flight to a target.
    #[must_use]
    pub fn in_flight(&self, data: SocketAddr) -> u64 {
        lock(&self.shared.targets)
            .iter()
            .find(|entry| entry.target.data == data)
            .map_or(0, |entry| entry.in_flight)
    }

    /// Idle connections kept to a target, closed ones included until they are noticed.
    #[must_use]
    pub fn idle(&self, data: SocketAddr) -> usize {
        lock(&self.shared.targets)
            .iter()
            .find(|entry| entry.target.data == data)
            .map_or(0, |entry| entry.idle.len())
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }
}

impl std::fmt::Debug for Alb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Alb on {}: {:?}", self.addr, self.counts())
    }
}

#[cfg(test)]
mod tests;
