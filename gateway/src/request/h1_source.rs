//! The request of an HTTP/1.1 client on its way upstream.
//!
//! Owns what the pipeline asks of a client: its head and body in order, and whether it is still there. It must never
//! write to the client. Next: `pump.rs`.

use super::attempt::{Downstream, SendFailure};
use super::h1::poll_more;
use super::pump::{Pump, PumpFailure};
use super::replay::Replay;
use super::timer::Timer;
use crate::io::Stream;
use crate::worker::Worker;
use http1::{Framing, RequestHead};
use std::rc::Rc;
use std::task::{Context, Poll};

/// Most bytes of further requests that are read while an answer is awaited.
const READ_AHEAD: usize = 4 * 1024;

/// The request of an HTTP/1 client, on its way upstream.
pub struct Source<'a> {
    /// Whose scratch buffer is used.
    pub worker: &'a Rc<Worker>,
    /// The client.
    pub stream: &'a mut Stream,
    /// What was read of it and belongs to the body or to the next request.
    pub unread: &'a mut Vec<u8>,
    /// The body's way.
    pub pump: &'a mut Pump,
    /// How the body is framed.
    pub framing: Framing,
}

impl Downstream for Source<'_> {
    fn begin(&mut self, head: &RequestHead, last: bool) {
        self.pump.out.clear();
        let out = self.pump.out.buffer();
        http1::write_request_head(out, head.method(), head.target(), &head.fields);
        if let Some(replay) = &self.pump.replay {
            out.extend_from_slice(replay.bytes());
        }
        if last {
            self.pump.replay = None;
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        to: &mut Stream,
    ) -> Poll<Result<(), SendFailure>> {
        // What has been read of the body leaves together with the head.
        if !self.unread.is_empty() && self.pump.take_leftover(self.unread).is_err() {
            return Poll::Ready(Err(SendFailure::Malformed));
        }
        let source = (&mut *self.stream, &mut *self.unread);
        self.pump.poll(cx, timer, self.worker, source, to).map_err(|failure| match failure {
            PumpFailure::Sink => SendFailure::Upstream,
            PumpFailure::SourceMalformed => SendFailure::Malformed,
            PumpFailure::SourceEnded => SendFailure::ClientGone,
        })
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        poll_client_gone(cx, self.worker, self.stream, self.unread)
    }

    fn keep_body(&mut self) {
        if self.pump.replay.is_none() {
            self.pump.replay = Replay::by_policy(self.worker, self.framing);
        }
    }

    fn repeatable(&self) -> bool {
        !self.has_body() || self.pump.replay.is_some()
    }

    fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }
}

/// Keeps a read armed on a client that waits: its end cancels the request (Envoy: a FIN is a full close), bytes are
/// the next request.
pub(super) fn poll_client_gone(
    cx: &mut Context<'_>,
    worker: &Worker,
    stream: &mut Stream,
    unread: &mut Vec<u8>,
) -> Poll<()> {
    while unread.len() < READ_AHEAD {
        match poll_more(cx, worker, stream, unread) {
            Poll::Ready(true) => {}
            Poll::Ready(false) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Pending
}
