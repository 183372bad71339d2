//! Bytes that a peer has not taken yet.
//!
//! Owns one recycled buffer and its part of the worker's leftover budget. It must never grow beyond what one read
//! brought: who fills it waits until it is flushed. Next: `pump.rs`.

use crate::io::Stream;
use crate::worker::Worker;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A buffer on its way to a peer.
pub struct Outbox {
    worker: Rc<Worker>,
    bytes: Vec<u8>,
    sent: usize,
    charged: usize,
}

impl Outbox {
    /// Empty, with a recycled buffer.
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self { worker: Rc::clone(worker), bytes: worker.take_buffer(), sent: 0, charged: 0 }
    }

    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.sent >= self.bytes.len()
    }

    /// Where bytes are added.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Drops what was not sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.charge(0);
    }

    /// Writes until the peer has everything. What stays behind counts against the worker's budget.
    ///
    /// # Errors
    /// The stream's; the connection is then of no use.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..)
            && !rest.is_empty()
        {
            match stream.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let left = rest.len();
                    self.charge(left);
                    return Poll::Pending;
                }
            }
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    fn charge(&mut self, now: usize) {
        if now != self.charged {
            self.worker.change_leftovers(self.charged, now);
            self.charged = now;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.charge(0);
        self.worker.give_buffer(std::mem::take(&mut self.bytes));
    }
}
