//! Real time for tests, whatever the test does to tokio's clock: deadlines for events that should have come long ago.
//!
//! Must never be used to *order* things (that is what [`Gate`] and the `until` functions are for): a deadline only turns a
//! test that would hang into one that fails. Read `host` next.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;

/// How long an event may take before a test gives up on it: far beyond any loaded machine's hiccup, short enough to sit out.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for `event` at most `limit` of real time; `what` names the event in the error.
///
/// # Errors
/// When the time is over.
pub async fn within<T>(limit: Duration, what: &str, event: impl Future<Output = T>) -> Result<T> {
    tokio::select! {
        biased;
        out = event => Ok(out),
        () = real_sleep(limit) => bail!("{what}: did not happen within {limit:?}"),
    }
}

/// Sleeps real time, even where the caller's tokio clock is paused.
pub async fn real_sleep(time: Duration) {
    struct Abort(tokio::task::JoinHandle<()>);
    impl Drop for Abort {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    match timers() {
        Some(handle) => {
            let mut task = Abort(handle.spawn(tokio::time::sleep(time)));
            let _ended = (&mut task.0).await;
        }
        None => tokio::time::sleep(time).await,
    }
}

/// One thread for the life of the process, whose only work is timers.
fn timers() -> Option<&'static tokio::runtime::Handle> {
    static TIMERS: OnceLock<Option<tokio::runtime::Handle>> = OnceLock::new();
    TIMERS
        .get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
            let handle = runtime.handle().clone();
            let run = move || runtime.block_on(std::future::pending::<()>());
            std::thread::Builder::new().name("testkit-timers".into()).spawn(run).ok()?;
            Some(handle)
        })
        .as_ref()
}

/// A door that others wait at until the test opens it; once open it stays open. Clones share the door.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<Door>>);

#[derive(Clone, Copy, Debug, Default)]
struct Door {
    open: bool,
    arrived: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Door::default())))
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.send_modify(|door| door.open = true);
    }

    /// Waits at the gate.
    pub async fn pass(&self) {
        self.0.send_modify(|door| door.arrived += 1);
        // The sender lives in self, so the wait cannot end with an error.
        let mut watch = self.0.subscribe();
        let _door = watch.wait_for(|door| door.open).await;
    }

    /// How many have come to the gate so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.0.borrow().arrived
    }

    /// Waits until at least `count` have come to the gate.
    ///
    /// # Errors
    /// When they have not come within [`DEADLINE`].
    pub async fn until_arrived(&self, count: u64) -> Result<()> {
        let mut watch = self.0.subscribe();
        let arrived = async { watch.wait_for(|door| door.arrived >= count).await.is_ok() };
        within(DEADLINE, "arrival at the gate", arrived).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_holds_until_it_is_opened_and_says_who_came() {
        let gate = Gate::new();
        let other = gate.clone();
        let waiter = tokio::spawn(async move { other.pass().await });
        gate.until_arrived(1).await.unwrap();
        assert!(!waiter.is_finished());
        gate.open();
        waiter.await.unwrap();
        gate.pass().await;
        assert_eq!(gate.arrived(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_never_comes_is_named_even_when_the_clock_is_paused() {
        let error = within(Duration::from_millis(10), "the sky falling", std::future::pending::<()>()).await;
        assert!(error.unwrap_err().to_string().contains("the sky falling"));
    }
}
