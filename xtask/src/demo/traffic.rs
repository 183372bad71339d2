//! The demo's own traffic: requests at a fixed rate, whatever the answers do (an open loop), counted by phase.
//!
//! Owns the sending and the counting. Each request belongs to the phase of its intended time, and its latency
//! counts from then, so that a stall cannot hide. It must never retry: a failure is one. Next: `script.rs`.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::{Answer, Client};

/// Connections at once. At 1,000 requests a second they are all busy only when an answer takes 64 ms.
const CONNECTIONS: usize = 64;

/// What happened in one phase.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Answers of v1.
    pub v1: u64,
    /// Answers of v2.
    pub v2: u64,
    /// Requests without a good answer of either.
    pub failed: u64,
    /// What the first failure was.
    pub first_failure: Option<String>,
    /// From the intended time, one for each request.
    pub latencies_us: Vec<u64>,
}

impl Counts {
    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.v1 + self.v2 + self.failed
    }

    /// Latency in milliseconds that this share (0..=1) of the requests did not exceed.
    pub fn latency_ms(&self, share: f64) -> f64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (last as f64 * share).round() as usize;
        #[allow(clippy::cast_precision_loss)]
        sorted.get(at).map_or(0.0, |us| *us as f64 / 1_000.0)
    }

    fn see(&mut self, answer: anyhow::Result<Answer>, took: Duration) {
        self.latencies_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let failure = match answer {
            Ok(answer) if answer.status == 200 && answer.body.contains("service v1") => {
                self.v1 += 1;
                return;
            }
            Ok(answer) if answer.status == 200 && answer.body.contains("service v2") => {
                self.v2 += 1;
                return;
            }
            Ok(answer) => format!("status {}: {}", answer.status, answer.body.trim()),
            Err(error) => format!("{error:#}"),
        };
        self.failed += 1;
        self.first_failure.get_or_insert(failure);
    }
}

/// Running traffic; dropping it stops it.
pub struct Traffic {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
}

struct Shared {
    port: u16,
    per_second: f64,
    started: Instant,
    next: AtomicU64,
    phase: AtomicUsize,
    stopped: AtomicBool,
    phases: Mutex<Vec<Counts>>,
}

impl Traffic {
    /// Starts sending to a port of this machine, in phase 0 of `phases`.
    pub fn start(port: u16, per_second: f64, phases: usize) -> Self {
        let shared = Arc::new(Shared {
            port,
            per_second,
            started: Instant::now(),
            next: AtomicU64::new(0),
            phase: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            phases: Mutex::new(vec![Counts::default(); phases]),
        });
        let sender = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.send())
        };
        let senders = (0..CONNECTIONS).map(sender).collect();
        Self { shared, senders }
    }

    /// Counts requests to the next phase from now on.
    pub fn enter_phase(&self, phase: usize) {
        self.shared.phase.store(phase, Relaxed);
    }

    /// Stops, waits for the answers that are under way and gives the counts of each phase.
    pub fn finish(mut self) -> Vec<Counts> {
        self.stop();
        self.shared.counts().clone()
    }

    fn stop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        for sender in self.senders.drain(..) {
            // A sender that panicked has sent nothing more; the counts stay true.
            let _ = sender.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Vec<Counts>> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection: takes the next free place in the schedule, waits for its time, sends.
    fn send(&self) {
        let mut client = Client::new(self.port);
        while !self.stopped.load(Relaxed) {
            #[allow(clippy::cast_precision_loss)]
            let place = self.next.fetch_add(1, Relaxed) as f64;
            let due = self.started + Duration::from_secs_f64(place / self.per_second);
            if !self.wait_until(due) {
                return;
            }
            let phase = self.phase.load(Relaxed);
            let answer = client.get_root();
            let took = due.elapsed();
            if let Some(counts) = self.counts().get_mut(phase) {
                counts.see(answer, took);
            }
        }
    }

    /// False when the traffic was stopped meanwhile.
    fn wait_until(&self, due: Instant) -> bool {
        loop {
            if self.stopped.load(Relaxed) {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> anyhow::Result<Answer> {
        Ok(Answer { status, body: body.to_owned() })
    }

    #[test]
    fn only_a_good_answer_of_a_version_counts_as_one() {
        let mut counts = Counts::default();
        counts.see(answer(200, "{\"data\":\"This is service v1\"}"), Duration::from_millis(1));
        counts.see(answer(200, "{\"data\":\"This is service v2\"}"), Duration::from_millis(2));
        counts.see(answer(503, "no healthy upstream"), Duration::from_millis(3));
        counts.see(answer(200, "something else"), Duration::from_millis(4));
        counts.see(Err(anyhow::anyhow!("reset")), Duration::from_millis(5));
        assert_eq!((counts.v1, counts.v2, counts.failed, counts.requests()), (1, 1, 3, 5));
        assert_eq!(counts.first_failure.as_deref(), Some("status 503: no healthy upstream"));
    }

    #[test]
    fn latencies_are_quantiles_in_milliseconds() {
        let mut counts = Counts::default();
        for ms in (1..=101).rev() {
            counts.see(answer(200, "service v1"), Duration::from_millis(ms));
        }
        assert!((counts.latency_ms(0.5) - 51.0).abs() < 1e-9);
        assert!((counts.latency_ms(1.0) - 101.0).abs() < 1e-9);
        assert!(Counts::default().latency_ms(0.5).abs() < 1e-9);
    }
}
