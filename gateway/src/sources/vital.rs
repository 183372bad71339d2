//! Tasks that the gateway cannot do without.
//!
//! Owns what happens when one of them panics: discovery or weights would stand still and nobody would see it, so the
//! process drains and its platform starts another. It must never cut a request for that. Next: `endpoints.rs`.

use crate::process::Process;
use lifecycle::drain::Drain;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Who is told when a vital task is lost.
#[derive(Clone, Debug)]
pub struct Vital {
    drain: Drain,
    limit: Duration,
}

impl Vital {
    /// The process drains when a task is lost.
    pub fn of(process: &Process) -> Self {
        Self { drain: process.drain.clone(), limit: process.command_line.drain_time }
    }

    /// Runs a task on the present thread's local set.
    pub fn spawn(&self, what: impl Into<String>, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let running = tokio::task::spawn_local(task);
        let abort = running.abort_handle();
        let (vital, what) = (self.clone(), what.into());
        tokio::task::spawn_local(async move {
            if running.await.is_err_and(|error| error.is_panic()) {
                tracing::error!(
                    task = what,
                    "ended by a panic: the process drains, another has to take its place"
                );
                vital.drain.start(vital.limit);
            }
        });
        abort
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    fn vital() -> Vital {
        Vital { drain: Drain::new(), limit: Duration::from_secs(1) }
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_drains_the_process() {
        let vital = vital();
        let watch = vital.drain.watch();
        LocalSet::new()
            .run_until(async {
                vital.spawn("test", async { panic!("lost") });
                watch.draining().await;
            })
            .await;
    }

    #[tokio::test]
    async fn a_task_that_ends_or_is_aborted_is_no_loss() {
        let vital = vital();
        LocalSet::new()
            .run_until(async {
                vital.spawn("ends", async {});
                vital.spawn("aborted", std::future::pending()).abort();
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert!(!vital.drain.watch().is_draining());
    }
}
