//! Which parts of a process have not come up yet.
//!
//! Owns a list of named tasks. It must never decide how long one may take: who waits brings the limit. Next:
//! [`crate::signals`].

use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The tasks that a process waits for before it is ready. Cheap to clone; every clone sees the same list.
#[derive(Clone, Debug)]
pub struct Ready {
    tasks: Arc<watch::Sender<Tasks>>,
}

#[derive(Debug, Default)]
struct Tasks {
    next_id: u64,
    pending: BTreeMap<u64, String>,
}

/// Held while a task is coming up. Dropping it says that the task is ready, or will never be: a task that ended
/// by an error holds back nobody.
#[derive(Debug)]
#[must_use = "a guard that is dropped at once says that the task is ready"]
pub struct TaskGuard {
    id: u64,
    tasks: Arc<watch::Sender<Tasks>>,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

impl Ready {
    /// An empty list: ready.
    pub fn new() -> Self {
        Self { tasks: Arc::new(watch::Sender::new(Tasks::default())) }
    }

    /// Adds a task that is waited for until its guard is dropped. Names need not be unique.
    pub fn register_task(&self, name: impl Into<String>) -> TaskGuard {
        let mut id = 0;
        self.tasks.send_modify(|tasks| {
            id = tasks.next_id;
            tasks.next_id += 1;
            tasks.pending.insert(id, name.into());
        });
        TaskGuard { id, tasks: Arc::clone(&self.tasks) }
    }

    /// The names of the tasks that are not ready, in the order in which they were registered.
    pub fn pending(&self) -> Vec<String> {
        self.tasks.borrow().pending.values().cloned().collect()
    }

    /// Whether no task is pending.
    pub fn is_ready(&self) -> bool {
        self.tasks.borrow().pending.is_empty()
    }

    /// Waits until no task is pending. Cancel safe.
    pub async fn wait(&self) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.tasks.subscribe().wait_for(|tasks| tasks.pending.is_empty()).await;
    }
}

impl TaskGuard {
    /// Says that the task is ready; the same as dropping the guard, for the reader's sake.
    pub fn ready(self) {}
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.tasks.send_modify(|tasks| {
            tasks.pending.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_process_without_tasks_is_ready() {
        let ready = Ready::new();
        assert!(ready.is_ready());
        assert!(ready.pending().is_empty());
    }

    #[test]
    fn pending_names_what_is_waited_for_in_order() {
        let ready = Ready::new();
        let listeners = ready.register_task("listeners");
        let clusters = ready.clone().register_task("clusters");
        assert_eq!(ready.pending(), ["listeners", "clusters"]);
        listeners.ready();
        assert_eq!(ready.pending(), ["clusters"]);
        drop(clusters);
        assert!(ready.is_ready());
    }

    #[test]
    fn two_tasks_of_one_name_are_two_tasks() {
        let ready = Ready::new();
        let first = ready.register_task("cluster");
        let second = ready.register_task("cluster");
        drop(first);
        assert_eq!(ready.pending(), ["cluster"]);
        drop(second);
        assert!(ready.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn wait_returns_when_the_last_guard_is_dropped() {
        let ready = Ready::new();
        let guard = ready.register_task("slow");
        let started = tokio::time::Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(7)).await;
            drop(guard);
        });
        ready.wait().await;
        assert_eq!(started.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn wait_can_be_bounded_and_then_names_the_culprit() {
        let ready = Ready::new();
        let _guard = ready.register_task("never");
        assert!(tokio::time::timeout(Duration::from_secs(15), ready.wait()).await.is_err());
        assert_eq!(ready.pending(), ["never"]);
    }

    #[tokio::test]
    async fn a_task_that_panics_holds_back_nobody() {
        let ready = Ready::new();
        let guard = ready.register_task("broken");
        let task = tokio::spawn(async move {
            let _guard = guard;
            panic!("on purpose");
        });
        assert!(task.await.is_err());
        ready.wait().await;
    }
}
