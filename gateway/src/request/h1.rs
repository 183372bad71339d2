//! HTTP/1.1 with a client: one request after another on one connection.
//!
//! Owns the client's side of a connection: waiting for a head, its limits, and the end. It must never route.
//! Next: `h1_respond.rs`, what happens to one request.

use super::record::Record;
use super::timer::Timer;
use crate::error::Failure;
use crate::io::Stream;
use crate::response_flags::ResponseFlags;
use crate::stats::names::HttpStat;
use crate::worker::{CAUTIOUS_READ, Worker};
use http1::{Limits, Parsed, RequestError, RequestHead, parse_request};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a closing connection is read, so that the client sees the answer and not a reset.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are read then: a client that still sends a large body needs its time to see the answer.
const LINGER_BYTES: usize = 64 << 20;

/// A client's connection.
pub struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: usize,
    pub(super) peer: SocketAddr,
    pub(super) stream: Stream,
    pub(super) unread: Vec<u8>,
    pub(super) timer: Timer,
    first: bool,
}

/// What serving a connection came to.
pub enum Served {
    /// It is closed.
    Closed,
    /// The client speaks HTTP/2: the stream and what was read of it.
    Http2(Stream, Vec<u8>),
}

enum Next {
    Request(RequestHead),
    Http2,
    Refused(Failure, RequestHead),
    Closed,
}

/// How a connection goes on after an answer.
#[derive(PartialEq)]
pub(super) enum After {
    /// With the next request.
    KeepAlive,
    /// It ends in order.
    Close,
    /// It ends at once.
    Cut,
}

impl Client {
    /// A connection that has just been accepted on `listener`.
    pub fn new(worker: Rc<Worker>, listener: usize, peer: SocketAddr, stream: Stream) -> Self {
        Self { worker, listener, peer, stream, unread: Vec::new(), timer: Timer::new(), first: true }
    }

    /// Serves requests until one side ends the connection.
    pub async fn serve(mut self) -> Served {
        loop {
            let after = match self.next().await {
                Next::Request(head) => self.request(head).await,
                Next::Http2 => {
                    let Self { stream, unread, .. } = self;
                    return Served::Http2(stream, unread);
                }
                Next::Refused(failure, head) => self.refuse(failure, head).await,
                Next::Closed => After::Close,
            };
            self.count_bytes();
            match after {
                After::KeepAlive => {}
                After::Close => {
                    self.linger().await;
                    return Served::Closed;
                }
                After::Cut => return Served::Closed,
            }
        }
    }

    pub(super) fn count(&self, stat: HttpStat) {
        if let Some(manager) = self.worker.snapshot().routes.listeners.get(self.listener) {
            manager.stats.scope.inc(self.worker.shard, stat);
        }
    }

    fn count_bytes(&mut self) {
        let (read, written) = self.stream.take_counts();
        if let Some(manager) = self.worker.snapshot().routes.listeners.get(self.listener) {
            manager.stats.scope.add(self.worker.shard, HttpStat::DownstreamCxRxBytesTotal, read);
            manager.stats.scope.add(self.worker.shard, HttpStat::DownstreamCxTxBytesTotal, written);
        }
    }

    /// Waits for the next head. While nothing has come the connection holds no buffer and no snapshot.
    async fn next(&mut self) -> Next {
        let Some(rules) = self.rules() else { return Next::Closed };
        let mut head = None;
        let mut started = false;
        self.timer.start(None, rules.idle);
        let place = self.worker.enter_idle();
        let outcome = poll_fn(|cx| {
            let polled = self.poll_head(cx, &rules, &mut head, &mut started);
            if polled.is_pending() {
                self.worker.wake_when_closing(place, cx);
            }
            polled
        })
        .await;
        self.worker.leave_idle(place);
        self.first = false;
        let head = head.unwrap_or_default();
        match outcome {
            Outcome::Complete => Next::Request(head),
            Outcome::Http2 => Next::Http2,
            Outcome::Refused(error) => Next::Refused(Failure::Malformed(error), head),
            Outcome::TimedOut => Next::Refused(Failure::HeadTimeout, head),
            Outcome::Idle | Outcome::Closed => {
                if matches!(outcome, Outcome::Idle) {
                    self.count(HttpStat::DownstreamCxIdleTimeout);
                }
                self.worker.give_request(head);
                Next::Closed
            }
        }
    }

    fn rules(&self) -> Option<Rules> {
        let current = self.worker.snapshot();
        let config = &current.routes.listeners.get(self.listener)?.config;
        let some = |limit: Duration| (!limit.is_zero()).then_some(limit);
        Some(Rules {
            limits: Limits {
                max_head_bytes: config.max_request_headers_kb * 1024,
                max_headers: config.max_headers_count,
            },
            lenient: config.lenient,
            whole: some(config.request_headers_timeout),
            idle: some(config.idle_timeout),
        })
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        rules: &Rules,
        head: &mut Option<RequestHead>,
        started: &mut bool,
    ) -> Poll<Outcome> {
        loop {
            if !self.unread.is_empty() {
                if let Some(outcome) = self.parse(rules, head) {
                    return Poll::Ready(outcome);
                }
                if !*started && !self.unread.is_empty() {
                    *started = true;
                    self.timer.start(rules.whole, None);
                }
            }
            match poll_more(cx, &self.worker, &mut self.stream, &mut self.unread) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Outcome::Closed),
                // Only when nothing has arrived: a request that the kernel holds already was accepted.
                Poll::Pending if self.unread.is_empty() && self.worker.closing.get() => {
                    return Poll::Ready(Outcome::Closed);
                }
                Poll::Pending => {
                    let timer = self.timer.poll(cx);
                    return timer.map(|_| if *started { Outcome::TimedOut } else { Outcome::Idle });
                }
            }
        }
    }

    /// Looks at what has been read; `None` = more is needed.
    fn parse(&mut self, rules: &Rules, head: &mut Option<RequestHead>) -> Option<Outcome> {
        if self.first && self.unread.first() == Some(&b'P') {
            let seen = self.unread.len().min(PREFACE.len());
            if self.unread.get(..seen) == PREFACE.get(..seen) {
                return (seen == PREFACE.len()).then_some(Outcome::Http2);
            }
        }
        let head = head.get_or_insert_with(|| self.worker.take_request());
        let outcome = match parse_request(&self.unread, &rules.limits, rules.lenient, head) {
            Ok(Parsed::Partial) => {
                // Empty lines before a request are no request (RFC 9112, 2.2): the connection is still idle.
                if self.unread.ends_with(b"\n") && self.unread.iter().all(|b| matches!(b, b'\r' | b'\n')) {
                    self.unread.clear();
                    head.clear();
                }
                None
            }
            Ok(Parsed::Complete(length)) => {
                self.unread.drain(..length);
                Some(Outcome::Complete)
            }
            Err(error) => Some(Outcome::Refused(error)),
        };
        if self.unread.is_empty() {
            self.worker.give_buffer(std::mem::take(&mut self.unread));
        }
        outcome
    }

    /// A head that could not be read.
    async fn refuse(&mut self, failure: Failure, mut head: RequestHead) -> After {
        if failure.reply().flags.contains(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) {
            // What was read of it is not to be believed, not even in the log.
            head.clear();
        }
        let current = self.worker.snapshot();
        let mut record = Record::new(&self.worker, current, (self.listener, self.peer), head, "HTTP/1.1");
        self.reply(&mut record, failure, true).await
    }

    /// Ends the writing half and reads for a while: closing a socket with unread bytes would reset it, and the
    /// client could lose the answer.
    async fn linger(&mut self) {
        self.timer.start(Some(LINGER), None);
        poll_fn(|cx| {
            let _ = self.stream.poll_shutdown(cx);
            let mut budget = LINGER_BYTES;
            loop {
                let read = self.worker.with_scratch(|scratch| self.stream.poll_read(cx, scratch));
                match read {
                    Poll::Ready(Ok(count)) if count > 0 && budget > count => budget -= count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx).map(|_| ()),
                }
            }
        })
        .await;
    }
}

/// What a head must keep to.
struct Rules {
    limits: Limits,
    lenient: bool,
    whole: Option<Duration>,
    idle: Option<Duration>,
}

enum Outcome {
    Complete,
    Http2,
    Refused(RequestError),
    TimedOut,
    Idle,
    Closed,
}

/// Reads once into `unread`; false = the client has finished.
pub(super) fn poll_more(
    cx: &mut Context<'_>,
    worker: &Worker,
    stream: &mut Stream,
    unread: &mut Vec<u8>,
) -> Poll<bool> {
    worker.with_scratch(|scratch| {
        let Some(space) = scratch.get_mut(..CAUTIOUS_READ) else { return Poll::Pending };
        match stream.poll_read(cx, space) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(count)) if count > 0 => {
                if unread.capacity() == 0 {
                    *unread = worker.take_buffer();
                }
                unread.extend_from_slice(space.get(..count).unwrap_or_default());
                Poll::Ready(true)
            }
            Poll::Ready(_) => Poll::Ready(false),
        }
    })
}
