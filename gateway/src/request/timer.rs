//! The time limits of a stream: the route's over all of it, and idleness.
//!
//! Owns one sleep per connection that is re-armed only when it fires, so that a request costs no timer operation.
//! It must never act on an expiry. Next: `pump.rs`.

use std::future::Future as _;
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
    /// The limit over one try.
    Try,
    /// The limit without activity.
    Idle,
}

/// Two limits on one sleep.
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    whole: Option<Instant>,
    /// The request is still coming in.
    incoming: bool,
    /// The limit over the whole answer, while the request is still coming in.
    waiting: Option<Duration>,
    /// The end of this try's time.
    one_try: Option<Instant>,
    /// The limit over this try, while the request is still coming in.
    try_waiting: Option<Duration>,
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
            incoming: false,
            waiting: None,
            one_try: None,
            try_waiting: None,
            idle: None,
            activity: now,
        }
    }

    /// Begins anew: `whole` from now on, `idle` from the last [`Timer::touch`].
    pub fn start(&mut self, whole: Option<Duration>, idle: Option<Duration>) {
        let now = Instant::now();
        self.whole = whole.map(|limit| now + limit);
        self.incoming = false;
        self.waiting = None;
        self.end_try();
        self.idle = idle;
        self.activity = now;
        self.arm();
    }

    /// Begins anew, with `answer` as the limit from [`Timer::request_complete`] on (Envoy's route timeout spans from
    /// the end of the request to the end of the answer, so that a long upload is not cut).
    pub fn start_request(&mut self, answer: Option<Duration>, idle: Option<Duration>) {
        self.start(None, idle);
        self.incoming = true;
        self.waiting = answer;
    }

    /// The request has been taken whole: the time of the answer begins. Later calls change nothing.
    pub fn request_complete(&mut self) {
        self.incoming = false;
        let (whole, one_try) = (self.waiting.take(), self.try_waiting.take());
        if whole.is_none() && one_try.is_none() {
            return;
        }
        self.activity = Instant::now();
        self.whole = whole.map(|limit| self.activity + limit).or(self.whole);
        self.one_try = one_try.map(|limit| self.activity + limit).or(self.one_try);
        self.arm();
    }

    /// A try begins: its time runs from now on, or from the end of the request.
    pub fn start_try(&mut self, limit: Option<Duration>) {
        let Some(limit) = limit else { return };
        if self.incoming {
            self.try_waiting = Some(limit);
        } else {
            self.one_try = Some(Instant::now() + limit);
            self.arm();
        }
    }

    /// The try is over.
    pub fn end_try(&mut self) {
        self.one_try = None;
        self.try_waiting = None;
    }

    /// An armed sleep that fires too early only looks and is armed again; one that fires too late is moved.
    fn arm(&mut self) {
        let next = self.next();
        if self.sleep.is_elapsed() || next < self.sleep.deadline() {
            self.sleep.as_mut().reset(next);
        }
    }

    /// Something moved.
    pub fn touch(&mut self) {
        self.activity = Instant::now();
    }

    fn next(&self) -> Instant {
        let idle = self.idle.map(|limit| self.activity + limit);
        let never = self.activity + NEVER;
        self.whole.unwrap_or(never).min(idle.unwrap_or(never)).min(self.one_try.unwrap_or(never))
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
            if self.one_try.is_some_and(|limit| limit <= now) {
                return Poll::Ready(Expired::Try);
            }
            if self.idle.is_some_and(|limit| self.activity + limit <= now) {
                return Poll::Ready(Expired::Idle);
            }
            let next = self.next();
            self.sleep.as_mut().reset(next);
        }
    }
}

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
    async fn the_time_of_the_answer_begins_when_the_request_is_complete() {
        let mut timer = Timer::new();
        timer.start_request(Some(Duration::from_secs(15)), Some(Duration::from_secs(300)));
        tokio::time::advance(Duration::from_secs(100)).await;
        let start = Instant::now();
        timer.request_complete();
        timer.request_complete();
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Expired::Whole);
        assert_eq!(start.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_without_a_limit_over_the_whole_has_its_time_after_the_request_too() {
        let mut timer = Timer::new();
        timer.start_request(None, Some(Duration::from_secs(300)));
        timer.start_try(Some(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(100)).await;
        let start = Instant::now();
        timer.request_complete();
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Expired::Try);
        assert_eq!(start.elapsed().as_secs(), 2);
        timer.end_try();
        let start = Instant::now();
        timer.start_try(Some(Duration::from_secs(3)));
        timer.request_complete();
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Expired::Try);
        assert_eq!(start.elapsed().as_secs(), 3);
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
