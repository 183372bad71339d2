//! A thread with its own single-threaded tokio runtime, in which one stand-in lives and dies.
//!
//! Dropping the [`Host`] ends every task of it and closes every socket, as a killed process would. Must never share a runtime with
//! the code under test. Read `net` next.

use std::future::Future;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

/// The running thread; dropping it stops it and waits until its sockets are closed.
#[derive(Debug)]
pub struct Host {
    stop: Option<oneshot::Sender<()>>,
    handle: tokio::runtime::Handle,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Starts a thread named `name` that runs the future which `make` builds inside it.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn spawn<F>(name: &str, make: impl FnOnce() -> F + Send + 'static) -> Result<Self>
    where
        F: Future<Output = ()>,
    {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = stopped => {}
                    () = make() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name(format!("testkit-{name}")).spawn(run)?;
        Ok(Self { stop: Some(stop), handle, thread: Some(thread) })
    }

    /// True until the main future has ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The runtime of the thread, to run something beside the main future.
    #[must_use]
    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic inside has already been printed by the thread itself.
            let _ended = thread.join();
        }
    }
}
