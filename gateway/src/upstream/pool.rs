//! Idle upstream connections of one worker, by endpoint.
//!
//! Owns reuse: newest first, a read armed on every idle connection, so that an end or stray bytes remove it before
//! a request is lost on it. It must never open a connection. Next: `request/attempt.rs`, who checks out.

use super::UpstreamConnection;
use super::waiting::Queues;
use crate::stats::names::ClusterStat;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// A request that may not be repeated takes a connection that was idle for less, or a new one.
const FRESH: Duration = Duration::from_secs(1);
/// Idle connections kept per endpoint and worker; more would outlive any burst that made them.
const MAX_IDLE: usize = 1024;
/// How often connections that stayed idle too long are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// An endpoint without an idle connection for so many sweeps (one minute) is forgotten.
const FORGET: u8 = 120;

/// All idle connections of a worker.
#[derive(Default)]
pub struct Pools {
    idle: RefCell<HashMap<u64, Idle>>,
    /// Wakes the watcher; connections are armed with it when they are checked in.
    watcher: RefCell<Option<Waker>>,
    queues: Queues,
}

/// The idle connections of one endpoint, oldest first.
#[derive(Default)]
struct Idle {
    connections: Vec<UpstreamConnection>,
    /// How many sweeps in a row found none: the list is kept over a moment in which all are in use.
    empty_sweeps: u8,
}

impl Pools {
    /// The newest idle connection of an endpoint that is still good.
    pub fn checkout(&self, endpoint: u64, repeatable: bool) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        let connections = &mut idle.get_mut(&endpoint)?.connections;
        let now = Instant::now();
        while let Some(mut connection) = connections.pop() {
            let age = now.saturating_duration_since(connection.idle_since);
            let limit = if repeatable { connection.reuse_for } else { connection.reuse_for.min(FRESH) };
            if age >= limit {
                // Older ones lie below: for a repeatable request all of them are too old as well.
                if repeatable {
                    connections.clear();
                } else {
                    connections.push(connection);
                }
                return None;
            }
            // The watcher may not have run since the end arrived.
            let quiet = connection.stream.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending();
            if quiet {
                connection.reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for reuse; one whose endpoint has left is closed.
    pub fn checkin(&self, mut connection: UpstreamConnection, reuse_for: Duration) {
        if reuse_for.is_zero() || connection.endpoint.gone.load(Relaxed) || !connection.leftover.is_empty() {
            return;
        }
        connection.idle_since = Instant::now();
        connection.reuse_for = reuse_for;
        if let Some(waker) = &*self.watcher.borrow()
            && connection.stream.poll_readable(&mut Context::from_waker(waker)).is_ready()
            && !still_quiet(&mut connection, &mut Context::from_waker(waker))
        {
            return;
        }
        if !self.queues.may_keep(&connection.cluster) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let connections = &mut idle.entry(connection.endpoint.id).or_default().connections;
        if connections.len() < MAX_IDLE {
            connections.push(connection);
        }
    }

    /// Requests of this worker that wait for a connection.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Idle connections now.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().values().map(|idle| idle.connections.len()).sum()
    }

    /// Removes idle connections that ended, got stray bytes, grew too old or whose endpoint left. One task per
    /// worker runs this for the worker's life.
    pub async fn watch(&self) {
        loop {
            let sweep = tokio::time::sleep(SWEEP);
            tokio::pin!(sweep);
            poll_fn(|cx| {
                self.watcher.replace(Some(cx.waker().clone()));
                self.remove_ended(cx);
                sweep.as_mut().poll(cx)
            })
            .await;
            self.remove_old();
        }
    }

    fn remove_ended(&self, cx: &mut Context<'_>) {
        for idle in self.idle.borrow_mut().values_mut() {
            idle.connections.retain_mut(|connection| still_quiet(connection, cx));
        }
    }

    fn remove_old(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, idle| {
            idle.connections.retain(|connection| {
                let old = now.saturating_duration_since(connection.idle_since) >= connection.reuse_for;
                if old {
                    connection
                        .cluster
                        .stats
                        .scope
                        .inc(crate::stats::cells::Shard::SHARED, ClusterStat::UpstreamCxIdleTimeout);
                }
                !old && !connection.endpoint.gone.load(Relaxed)
            });
            idle.empty_sweeps = if idle.connections.is_empty() { idle.empty_sweeps + 1 } else { 0 };
            idle.empty_sweeps < FORGET
        });
    }
}

/// Whether nothing has arrived on an idle connection; a false alarm of readiness is read away.
fn still_quiet(connection: &mut UpstreamConnection, cx: &mut Context<'_>) -> bool {
    let mut byte = [0u8; 1];
    match connection.stream.poll_read(cx, &mut byte) {
        Poll::Pending => true,
        Poll::Ready(_) => {
            connection
                .cluster
                .stats
                .scope
                .inc(crate::stats::cells::Shard::SHARED, ClusterStat::UpstreamCxDestroyRemote);
            false
        }
    }
}

#[cfg(test)]
mod tests;
