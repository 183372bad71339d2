//! The end of a process: it runs, drains, is closed.
//!
//! Owns the phase and the deadline. It must never cut anything itself: who serves watches, and leaves. Phases only
//! go forward. Next: [`crate::assertions`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Serving what comes, asking everybody to leave. At `deadline` the rest is cut.
    Draining {
        /// When the drain ends whatever is left.
        deadline: Instant,
    },
    /// Nothing more is served.
    Closed,
}

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    // Beside the channel because the question is asked once per request and must cost one load.
    draining: AtomicBool,
}

/// Moves the process from phase to phase. Cheap to clone: SIGTERM and the admin interface each hold one.
#[derive(Clone, Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

/// Sees the phase. Cheap to clone; it never misses the end, however late it looks.
#[derive(Clone, Debug)]
pub struct DrainWatch {
    shared: Arc<Shared>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A process that runs.
    pub fn new() -> Self {
        let phase = watch::Sender::new(Phase::Running);
        Self { shared: Arc::new(Shared { phase, draining: AtomicBool::new(false) }) }
    }

    /// A view for who has to leave in time.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { shared: Arc::clone(&self.shared) }
    }

    /// Begins to drain, for `limit` at most. Answers whether this call began it: a second call changes nothing,
    /// not even the deadline.
    pub fn start(&self, limit: Duration) -> bool {
        self.shared.advance(|phase| match phase {
            Phase::Running => Some(Phase::Draining { deadline: Instant::now() + limit }),
            Phase::Draining { .. } | Phase::Closed => None,
        })
    }

    /// Ends everything. Answers whether this call did it.
    pub fn close(&self) -> bool {
        self.shared.advance(|phase| (phase != Phase::Closed).then_some(Phase::Closed))
    }
}

impl Shared {
    fn advance(&self, next: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        self.phase.send_if_modified(|phase| {
            let Some(next) = next(*phase) else { return false };
            *phase = next;
            // Inside the channel's lock: who is woken by the phase finds the flag set.
            self.draining.store(true, Ordering::Release);
            true
        })
    }
}

impl DrainWatch {
    /// Whether the process drains or is closed. One atomic load.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    /// When the rest is cut; `None` while the process runs or when it is closed.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Draining { deadline } => Some(deadline),
            Phase::Running | Phase::Closed => None,
        }
    }

    /// Waits until the process drains or is closed. Cancel safe.
    pub async fn draining(&self) {
        // `self` keeps the sender alive, so the channel cannot close while this waits; the same holds below.
        let _ = self.shared.phase.subscribe().wait_for(|phase| *phase != Phase::Running).await;
    }

    /// Waits until the process is closed, or its drain has reached the deadline. Cancel safe.
    pub async fn closed(&self) {
        self.draining().await;
        let mut phases = self.shared.phase.subscribe();
        let closed = phases.wait_for(|phase| *phase == Phase::Closed);
        match self.deadline() {
            Some(deadline) => {
                let _ = tokio::time::timeout_at(deadline, closed).await;
            }
            None => {
                let _ = closed.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_process_runs() {
        let watch = Drain::new().watch();
        assert_eq!(watch.phase(), Phase::Running);
        assert!(!watch.is_draining());
        assert_eq!(watch.deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_start_does_not_move_the_deadline() {
        let drain = Drain::new();
        let watch = drain.watch();
        assert!(drain.start(Duration::from_secs(20)));
        let deadline = watch.deadline();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!drain.clone().start(Duration::from_secs(20)));
        assert_eq!(watch.deadline(), deadline);
        assert!(watch.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn closed_is_reached_at_the_deadline_though_nobody_closes() {
        let drain = Drain::new();
        let watch = drain.watch();
        let started = Instant::now();
        drain.start(Duration::from_secs(20));
        watch.closed().await;
        assert_eq!(started.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_early_wakes_who_waits_for_the_deadline() {
        let drain = Drain::new();
        let watch = drain.watch();
        drain.start(Duration::from_secs(20));
        let started = Instant::now();
        let waiter = tokio::spawn(async move { watch.closed().await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(drain.close());
        waiter.await.expect("waiter");
        assert_eq!(started.elapsed().as_secs(), 2);
    }

    #[tokio::test]
    async fn a_watch_that_looks_late_still_sees_the_end() {
        let drain = Drain::new();
        drain.close();
        let watch = drain.watch();
        drop(drain);
        watch.draining().await;
        watch.closed().await;
        assert_eq!(watch.phase(), Phase::Closed);
    }

    #[test]
    fn a_closed_process_does_not_drain_again() {
        let drain = Drain::new();
        assert!(drain.close());
        assert!(!drain.start(Duration::from_secs(1)));
        assert!(!drain.close());
        assert_eq!(drain.watch().phase(), Phase::Closed);
        assert!(drain.watch().is_draining());
    }

    #[tokio::test]
    async fn who_is_woken_by_the_phase_finds_the_flag_set() {
        let drain = Drain::new();
        let watch = drain.watch();
        let waiter = tokio::spawn(async move {
            watch.draining().await;
            watch.is_draining()
        });
        tokio::task::yield_now().await;
        drain.start(Duration::from_secs(1));
        assert!(waiter.await.expect("waiter"));
    }
}
