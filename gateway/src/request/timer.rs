//! The time limits of a stream: the route's over all of it, and idleness.
//!
//! Owns one sleep per connection that is re-armed only when it fires, so that a request costs no timer operation.
//! It must never act on an expiry. Next: `pump.rs`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Far enough to mean never, near enough for the clock's arithmetic.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The limit over all of it.
    Whole,
    /// The limit without activity.
    Idle,
}

/// Two limits on one sleep.
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    whole: Option<Instant>,
    idle: Option<Duration>,
    activity: Instant,
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer {
    /// No limit yet.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            sleep: Box::pin(tokio::time::sleep_until(now + NEVER)),
            whole: None,
            idle: None,
            activity: now,
        }
    }

    /// Begins anew: `whole` from now on, `idle` from the last [`Timer::touch`].
    pub fn start(&mut self, whole: Option<Duration>, idle: Option<Duration>) {
        let now = Instant::now();
        self.whole = whole.map(|limit| now + limit);
        self.idle = idle;
        self.activity = now;
        // An armed sleep that fires too early only looks and is armed again; one that fires too late is moved.
        if self.sleep.is_elapsed() || self.next() < self.sleep.deadline() {
            let next = self.next();
            self.sleep.as_mut().reset(next);
        }
    }

    /// Something moved.
    pub fn touch(&mut self) {
        self.activity = Instant::now();
    }

    /// What is left of the whole limit.
    pub fn remaining(&self) -> Option<Duration> {
        self.whole.map(|limit| limit.saturating_duration_since(Instant::now()))
    }

    fn next(&self) -> Instant {
        let idle = self.idle.map(|limit| self.activity + limit);
        let never = self.activity + NEVER;
        self.whole.unwrap_or(never).min(idle.unwrap_or(never))
    }

    /// Ready when a limit has passed; else armed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if self.whole.is_some_and(|limit| limit <= now) {
                return Poll::Ready(Expired::Whole);
            }
            if self.idle.is_some_and(|limit| self.activity + limit <= now) {
                return Poll::Ready(Expired::Idle);
            }
            let next = self.next();
            self.sleep.as_mut().reset(next);
        }
    }
}

use std::future::Future as _;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn the_whole_limit_passes_whatever_moves() {
        let mut timer = Timer::new();
        timer.start(Some(Duration::from_secs(15)), Some(Duration::from_secs(20)));
        let start = Instant::now();
        timer.touch();
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Expired::Whole);
        assert_eq!(start.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn activity_puts_idleness_off_and_a_later_start_is_not_cut_by_an_earlier_one() {
        let mut timer = Timer::new();
        timer.start(None, Some(Duration::from_secs(5)));
        tokio::time::advance(Duration::from_secs(4)).await;
        timer.start(Some(Duration::from_secs(60)), Some(Duration::from_secs(10)));
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Expired::Idle);
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
