//! What has been sent of a small request body, so that it can be sent again.
//!
//! Owns one recycled buffer and its part of the worker's replay budget; both go back when the answer begins. It must
//! never hold a body whose length is not known beforehand. Next: `attempt.rs`, who decides to repeat.

use crate::worker::Worker;
use http1::Framing;
use std::rc::Rc;

/// Longest body that is kept for a second attempt where the route has no retry policy.
pub const MAX_REPLAY: usize = 64 * 1024;
/// Longest body that is kept where it has one (Envoy: the buffer limit of a connection, 1 MiB).
pub const MAX_POLICY_REPLAY: usize = 1024 * 1024;

/// Whether a request with this method may be sent twice (RFC 9110, 9.2.2).
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// The body bytes of one request that have left so far.
pub struct Replay {
    worker: Rc<Worker>,
    reserved: usize,
    bytes: Vec<u8>,
}

impl Replay {
    /// For a request that may be repeated and whose body is small, while the worker's budget lasts.
    pub fn new(worker: &Rc<Worker>, method: &str, framing: Framing) -> Option<Self> {
        if is_idempotent(method) { Self::up_to(worker, framing, MAX_REPLAY) } else { None }
    }

    /// For a request of any method on a route with a retry policy.
    pub fn by_policy(worker: &Rc<Worker>, framing: Framing) -> Option<Self> {
        Self::up_to(worker, framing, MAX_POLICY_REPLAY)
    }

    fn up_to(worker: &Rc<Worker>, framing: Framing, most: usize) -> Option<Self> {
        let Framing::Length(length) = framing else { return None };
        let reserved = usize::try_from(length).ok().filter(|length| (1..=most).contains(length))?;
        if !worker.reserve_replay(reserved) {
            return None;
        }
        Some(Self { worker: Rc::clone(worker), reserved, bytes: worker.take_buffer() })
    }

    /// Keeps a piece that is about to leave.
    pub fn keep(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// Everything that has left.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.worker.release_replay(self.reserved);
        self.worker.give_buffer(std::mem::take(&mut self.bytes));
    }
}
