//! The request body of an HTTP/2 client on its way to an HTTP/1 upstream.
//!
//! Owns the framing of that body as HTTP/1 has it, and its back-pressure: the next frame is taken when the last one
//! has left, and only then does hyper open the client's window again. It must never look at heads.
//! Next: `h2_body.rs`, the other direction.

use super::attempt::{Downstream, SendFailure};
use super::outbox::Outbox;
use super::pump::Encoding;
use super::replay::Replay;
use super::timer::Timer;
use crate::io::Stream;
use crate::worker::Worker;
use bytes::Bytes;
use http1::{CHUNK_END, Fields, Framing, RequestHead, write_chunk_head, write_last_chunk};
use hyper::body::{Body, Frame};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

pub use hyper::body::Incoming;

/// The request body of an HTTP/2 client, on its way upstream.
pub struct Source {
    worker: Rc<Worker>,
    body: Incoming,
    framing: Framing,
    encoding: Encoding,
    out: Outbox,
    replay: Option<Replay>,
    ended: bool,
    /// Trailers are passed on, both ways.
    pub trailers: bool,
    bytes: u64,
}

impl Source {
    /// A body that has not begun.
    pub fn new(worker: &Rc<Worker>, body: Incoming, method: &str, framing: Framing, trailers: bool) -> Self {
        Self {
            worker: Rc::clone(worker),
            body,
            framing,
            encoding: if framing == Framing::Chunked { Encoding::Chunked } else { Encoding::Raw },
            out: Outbox::new(worker),
            replay: Replay::new(worker, method, framing),
            ended: framing == Framing::None,
            trailers,
            bytes: 0,
        }
    }

    /// Body bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The answer has begun: the request will not be sent again.
    pub fn answered(&mut self) {
        self.replay = None;
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                self.bytes += data.len() as u64;
                if self.encoding == Encoding::Chunked {
                    write_chunk_head(self.out.buffer(), data.len());
                }
                self.out.buffer().extend_from_slice(&data);
                if self.encoding == Encoding::Chunked {
                    self.out.buffer().extend_from_slice(CHUNK_END);
                }
                if let Some(replay) = &mut self.replay {
                    replay.keep(&data);
                }
            }
            Err(frame) => {
                if let Ok(map) = frame.into_trailers()
                    && self.trailers
                {
                    let mut fields = Fields::default();
                    let passed = map.iter().filter(|(name, _)| http1::may_be_trailer(name.as_str()));
                    passed.for_each(|(name, value)| fields.push(name.as_str(), value.as_bytes()));
                    self.end(Some(&fields));
                }
            }
        }
    }

    fn end(&mut self, trailers: Option<&Fields>) {
        if !self.ended && self.encoding == Encoding::Chunked {
            write_last_chunk(self.out.buffer(), trailers);
        }
        self.ended = true;
    }
}

impl Downstream for Source {
    fn begin(&mut self, head: &RequestHead, last: bool) {
        self.out.clear();
        let out = self.out.buffer();
        http1::write_request_head(out, head.method(), head.target(), &head.fields);
        if let Some(replay) = &self.replay {
            out.extend_from_slice(replay.bytes());
        }
        if last {
            self.replay = None;
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        to: &mut Stream,
    ) -> Poll<Result<(), SendFailure>> {
        loop {
            if !self.out.is_empty() {
                ready!(self.out.poll_flush(cx, to)).map_err(|_| SendFailure::Upstream)?;
                timer.touch();
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.worker.poll_budget(cx));
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.take(frame),
                Some(Err(_)) => return Poll::Ready(Err(SendFailure::ClientGone)),
                None => self.end(None),
            }
        }
    }

    /// hyper drops the whole request when its stream is reset.
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn keep_body(&mut self) {
        if self.replay.is_none() {
            self.replay = Replay::by_policy(&self.worker, self.framing);
        }
    }

    fn repeatable(&self) -> bool {
        !self.has_body() || self.replay.is_some()
    }

    fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }
}
