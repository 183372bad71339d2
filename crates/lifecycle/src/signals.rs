//! What the outside tells a process by signals: the first SIGTERM or SIGINT asks it to drain, the second ends it.
//!
//! Owns the handlers of those two signals. It must never end the process itself. Next: [`crate::drain`].

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// The first signal: serve what is in flight, then leave.
    Drain,
    /// Any later one: leave now.
    Immediate,
}

/// The signals that end a process, counted.
#[derive(Debug)]
pub struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
    seen: bool,
}

/// Takes over SIGTERM and SIGINT from now on.
///
/// # Errors
/// What the operating system says when handlers cannot be set.
pub fn shutdown() -> io::Result<ShutdownSignals> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    Ok(ShutdownSignals { terminate, interrupt, seen: false })
}

impl ShutdownSignals {
    /// Waits for the next signal. Cancel safe.
    pub async fn recv(&mut self) -> Shutdown {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        if std::mem::replace(&mut self.seen, true) { Shutdown::Immediate } else { Shutdown::Drain }
    }
}
