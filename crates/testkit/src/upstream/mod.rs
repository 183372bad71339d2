//! Scripted HTTP/1.1 backends over raw sockets: any bytes at any moment, and a record of every byte received.
//!
//! Owns the backend's life (start, stop, restart, black hole) and its records; must never help the gateway under test by
//! repairing, retrying or hiding anything. Read `reply` for what a backend can be told to do, `conn` for how it does it.

mod conn;
mod reply;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;

pub use crate::clock::Gate;
use crate::clock::{DEADLINE, within};
use crate::host::Host;
use crate::net::{ANY_PORT, BlackHole, Reservation, lock};
use crate::wire::Head;
pub use reply::{End, Pause, Reply};

/// Records kept per backend; older ones are forgotten, so that a load test may run for ever.
pub const MAX_RECORDS: usize = 20_000;
/// Bytes of a request body kept; longer bodies are counted only.
pub const MAX_BODY_KEPT: usize = 8 << 20;

/// One request as a backend received it.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Which connection it came on; the first is 1.
    pub connection: u64,
    /// Which request of its connection it is; the first is 1.
    pub nth: u64,
    /// Every byte of head, body and trailers, at most 8 MiB.
    pub raw: Vec<u8>,
    /// Request line and header lines, in order, unrepaired.
    pub head: Head,
    /// The body, decoded, at most [`MAX_BODY_KEPT`].
    pub body: Vec<u8>,
    /// The length of the whole body.
    pub body_len: u64,
    /// Trailer lines of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// True once the whole body has arrived.
    pub complete: bool,
    /// Why reading the request failed, if it did.
    pub error: Option<String>,
}

impl Received {
    /// The method as sent.
    #[must_use]
    pub fn method(&self) -> &str {
        self.head.first_line.split(' ').next().unwrap_or_default()
    }

    /// The request target as sent.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.first_line.split(' ').nth(1).unwrap_or_default()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }
}

/// What a backend has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections accepted.
    pub connections: u64,
    /// Connections that are over.
    pub closed: u64,
    /// Requests whose head arrived.
    pub requests: u64,
    /// Requests that arrived whole.
    pub complete: u64,
    /// Replies written to their end.
    pub replies: u64,
}

impl Seen {
    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.connections - self.closed
    }
}

/// When a backend ends idle or much-used connections. Nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAlive {
    /// Close after this many requests of a connection.
    pub max_requests: Option<u64>,
    /// Close after this long without a further request.
    pub idle: Option<Duration>,
    /// Say so: `connection: close` on the last answer, `keep-alive: timeout=N` on the others.
    pub announce: bool,
}

type Script = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

pub(crate) struct Shared {
    name: String,
    script: Mutex<Script>,
    next: Mutex<VecDeque<Reply>>,
    keep_alive: Mutex<KeepAlive>,
    records: Mutex<VecDeque<Received>>,
    seen: watch::Sender<Seen>,
}

enum Life {
    Up(Host),
    Hole { _kept: BlackHole },
    Down,
}

/// A backend on a loopback port of its own. Dropping it closes everything it has open.
pub struct Upstream {
    shared: Arc<Shared>,
    port: Reservation,
    life: Life,
}

impl Upstream {
    /// A backend that answers every request with `{"data":"This is service NAME"}` and the header `x-v: NAME`.
    ///
    /// # Errors
    /// When the system gives no port or thread.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_on(name, ANY_PORT)
    }

    /// The same on a given loopback address.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start_on(name: &str, addr: SocketAddr) -> Result<Self> {
        let port = Reservation::new(addr).with_context(|| format!("a port for {name}"))?;
        let answer = Reply::service(name);
        let script: Script = Arc::new(move |_: &Received| answer.clone());
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            script: Mutex::new(script),
            next: Mutex::default(),
            keep_alive: Mutex::default(),
            records: Mutex::default(),
            seen: watch::Sender::new(Seen::default()),
        });
        let mut upstream = Self { shared, port, life: Life::Down };
        upstream.restart()?;
        Ok(upstream)
    }

    /// A backend whose every answer is what `script` makes of the request's head (the body has not been read yet).
    ///
    /// # Errors
    /// As [`Upstream::start`].
    pub fn start_with(
        name: &str,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let upstream = Self::start(name)?;
        upstream.set_script(script);
        Ok(upstream)
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens; the same after a restart.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr().port()
    }

    /// Answers every following request with this.
    pub fn set_reply(&self, reply: Reply) {
        self.set_script(move |_| reply.clone());
    }

    /// Answers every following request with what the script says.
    pub fn set_script(&self, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// Answers the next request that nothing pushed earlier answers with this; then the script goes on.
    pub fn push(&self, reply: Reply) {
        lock(&self.shared.next).push_back(reply);
    }

    /// Changes when connections are ended, from the next request on.
    pub fn set_keep_alive(&self, keep_alive: KeepAlive) {
        *lock(&self.shared.keep_alive) = keep_alive;
    }

    /// The counts so far; they survive a restart.
    #[must_use]
    pub fn seen(&self) -> Seen {
        *self.shared.seen.borrow()
    }

    /// Waits until the counts are as wanted.
    ///
    /// # Errors
    /// When they are not within [`DEADLINE`]; the error shows what they are.
    pub async fn until(&self, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let mut watch = self.shared.seen.subscribe();
        let event = async { watch.wait_for(|seen| wanted(seen)).await.map(|seen| *seen) };
        let reached = within(DEADLINE, "what was awaited of the upstream", event).await;
        Ok(reached.with_context(|| format!("{} has {:?}", self.name(), self.seen()))??)
    }

    /// The requests received so far, oldest first, at most [`MAX_RECORDS`].
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.records).iter().cloned().collect()
    }

    /// The newest request.
    #[must_use]
    pub fn last(&self) -> Option<Received> {
        lock(&self.shared.records).back().cloned()
    }

    /// Forgets the records (the counts go on).
    pub fn forget(&self) {
        lock(&self.shared.records).clear();
    }

    /// Dies as a killed process: every connection is cut, new ones are refused.
    pub fn stop(&mut self) {
        self.life = Life::Down;
    }

    /// Listens again on the same port, after [`Upstream::stop`] or [`Upstream::black_hole`].
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub fn restart(&mut self) -> Result<()> {
        self.life = Life::Down;
        let listener = self.port.listen().with_context(|| format!("listening on {}", self.addr()))?;
        let shared = Arc::clone(&self.shared);
        self.life = Life::Up(Host::spawn(&shared.name.clone(), move || conn::accept(listener, shared))?);
        Ok(())
    }

    /// Dies as a machine without power: every connection is cut, new ones neither accepted nor refused.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub fn black_hole(&mut self) -> Result<()> {
        self.life = Life::Down;
        self.life = Life::Hole { _kept: self.port.black_hole()? };
        Ok(())
    }

    /// True while it accepts connections.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match &self.life {
            Life::Up(host) => host.is_running(),
            Life::Hole { .. } | Life::Down => false,
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream {} on {}: {:?}", self.name(), self.addr(), self.seen())
    }
}

#[cfg(test)]
mod tests;
