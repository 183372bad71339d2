//! HTTP/1.1 with a client: heads in, answers out, one request after another on one connection.
//!
//! Owns the client's side of a connection and the pump from an HTTP/1 upstream to it. It must never route.
//! Next: `h2.rs`, the same for HTTP/2.

use super::attempt::{Answer, Downstream, SendFailure};
use super::headers::{self, Wishes};
use super::outbox::Outbox;
use super::pump::{Encoding, Pump, PumpFailure};
use super::record::Record;
use super::timer::{Expired, Timer};
use super::{reply, tunnel};
use crate::error::Failure;
use crate::io::Stream;
use crate::response_flags::ResponseFlags;
use crate::stats::names::HttpStat;
use crate::upstream::UpstreamConnection;
use crate::worker::{CAUTIOUS_READ, Current, Worker};
use http1::{Framing, Limits, Parsed, RequestError, RequestHead, parse_request, request_framing};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most bytes of further requests that are read while an answer is awaited.
const READ_AHEAD: usize = 64 * 1024;
/// How long a closing connection is read, so that the client sees the answer and not a reset.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection.
pub struct Client {
    worker: Rc<Worker>,
    listener: usize,
    peer: SocketAddr,
    stream: Stream,
    unread: Vec<u8>,
    timer: Timer,
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

#[derive(PartialEq)]
enum After {
    KeepAlive,
    Close,
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

    fn count(&self, stat: HttpStat) {
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

    /// Waits for the next head.
    async fn next(&mut self) -> Next {
        let current = self.worker.snapshot();
        let Some(manager) = current.routes.listeners.get(self.listener) else { return Next::Closed };
        let config = &manager.config;
        let limits = Limits {
            max_head_bytes: config.max_request_headers_kb * 1024,
            max_headers: config.max_headers_count,
        };
        let some = |limit: Duration| (!limit.is_zero()).then_some(limit);
        let mut started = !self.unread.is_empty();
        self.timer.start(
            if started { some(config.request_headers_timeout) } else { None },
            some(config.idle_timeout),
        );
        let place = self.worker.enter_idle();
        let mut head = self.worker.take_request();
        let mut fresh = started;
        let outcome = poll_fn(|cx| {
            loop {
                if fresh {
                    fresh = false;
                    if let Some(outcome) = self.parse(&limits, config.lenient, &mut head) {
                        return Poll::Ready(outcome);
                    }
                }
                if self.unread.is_empty() && self.worker.closing.get() {
                    return Poll::Ready(Outcome::Closed);
                }
                match self.poll_more(cx) {
                    Poll::Ready(true) => fresh = true,
                    Poll::Ready(false) => return Poll::Ready(Outcome::Closed),
                    Poll::Pending => break,
                }
                if !started {
                    started = true;
                    self.timer.start(some(config.request_headers_timeout), None);
                }
            }
            self.worker.wake_when_closing(place, cx);
            self.timer.poll(cx).map(|_| if started { Outcome::TimedOut } else { Outcome::Idle })
        })
        .await;
        self.worker.leave_idle(place);
        self.first = false;
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

    /// Reads once into `unread`; false = the client has finished.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.worker.with_scratch(|scratch| {
            let Some(space) = scratch.get_mut(..CAUTIOUS_READ) else { return Poll::Pending };
            match self.stream.poll_read(cx, space) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => {
                    if self.unread.capacity() == 0 {
                        self.unread = self.worker.take_buffer();
                    }
                    self.unread.extend_from_slice(space.get(..count).unwrap_or_default());
                    Poll::Ready(true)
                }
                Poll::Ready(_) => Poll::Ready(false),
            }
        })
    }

    fn parse(&mut self, limits: &Limits, lenient: bool, head: &mut RequestHead) -> Option<Outcome> {
        if self.first && self.unread.first() == Some(&b'P') {
            let seen = self.unread.len().min(PREFACE.len());
            if self.unread.get(..seen) == PREFACE.get(..seen) {
                return (seen == PREFACE.len()).then_some(Outcome::Http2);
            }
        }
        match parse_request(&self.unread, limits, lenient, head) {
            Ok(Parsed::Partial) => None,
            Ok(Parsed::Complete(length)) => {
                self.unread.drain(..length);
                if self.unread.is_empty() {
                    self.worker.give_buffer(std::mem::take(&mut self.unread));
                }
                Some(Outcome::Complete)
            }
            Err(error) => Some(Outcome::Refused(error)),
        }
    }

    /// Serves one request.
    async fn request(&mut self, head: RequestHead) -> After {
        let current = self.worker.snapshot();
        let mut record =
            Record::new(&self.worker, Current::clone(&current), (self.listener, self.peer), head, "HTTP/1.1");
        let Some(manager) = current.routes.listeners.get(self.listener) else { return After::Cut };
        let config = &manager.config;
        let (wishes, framing) = match open_request(&mut record, config) {
            Ok(opened) => opened,
            Err(failure) => return self.reply(record, failure, true).await,
        };
        let mut pump = Pump::new(&self.worker, framing, config.lenient, encoding_of(framing));
        pump = pump.with_trailers(config.enable_trailers);
        if wishes.expects_continue {
            self.stream_continue().await;
        }
        let mut source = Source {
            worker: &self.worker,
            stream: &mut self.stream,
            unread: &mut self.unread,
            pump,
            framing,
        };
        let answered = super::answer(&mut record, wishes, framing, &mut source, &mut self.timer).await;
        let pump = source.pump;
        record.received = pump.bytes;
        match answered {
            Err(failure) => {
                // After a refused CONNECT nobody knows what the client sends next.
                let close = !wishes.keep_alive || !pump.source_done() || record.head.method() == "CONNECT";
                self.reply(record, failure, close).await
            }
            Ok(answer) if answer.head.status == 101 && wishes.upgrade => self.tunnel(record, answer).await,
            Ok(answer) => self.respond(record, answer, wishes, pump).await,
        }
    }

    /// Tells a waiting client to send its body (RFC 9110, 10.1.1).
    async fn stream_continue(&mut self) {
        let mut rest: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        poll_fn(|cx| {
            while !rest.is_empty() {
                match self.stream.poll_write(cx, rest) {
                    Poll::Ready(Ok(count)) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                    // A client that cannot be written to is found gone by the next read.
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// A head that could not be read.
    async fn refuse(&mut self, failure: Failure, mut head: RequestHead) -> After {
        if failure.reply().flags.contains(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) {
            // What was read of it is not to be believed, not even in the log.
            head.clear();
        }
        let current = self.worker.snapshot();
        let record = Record::new(&self.worker, current, (self.listener, self.peer), head, "HTTP/1.1");
        self.reply(record, failure, true).await
    }

    /// Answers in the gateway's own words.
    async fn reply(&mut self, mut record: Record, failure: Failure, close: bool) -> After {
        record.fail(failure);
        let local = failure.reply();
        if local.status == 0 {
            return After::Cut;
        }
        let close = close || local.close || self.worker.leaving();
        let server = record.manager().map_or("", |manager| manager.config.server_name.as_str()).to_owned();
        let was_head = record.head.method() == "HEAD";
        let mut out = Outbox::new(&self.worker);
        reply::write(out.buffer(), local, close, &server, was_head, &self.worker);
        record.sent = if was_head { 0 } else { local.body.len() as u64 };
        self.timer.start(Some(LINGER * 5), None);
        let written = poll_fn(|cx| match out.poll_flush(cx, &mut self.stream) {
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
            Poll::Pending => self.timer.poll(cx).map(|_| false),
        })
        .await;
        match (written, close) {
            (false, _) => After::Cut,
            (true, true) => After::Close,
            (true, false) => After::KeepAlive,
        }
    }

    /// Brings an upstream's answer to the client.
    async fn respond(
        &mut self,
        mut record: Record,
        answer: Answer,
        wishes: Wishes,
        mut request: Pump,
    ) -> After {
        let Answer { mut connection, mut head, framing, mut request_sent, reuse } = answer;
        let current = Current::clone(&record.current);
        let Some(manager) = current.routes.listeners.get(self.listener) else { return After::Cut };
        let config = &manager.config;
        let draining = self.worker.leaving();
        let close = !wishes.keep_alive || draining || wishes.upgrade;
        if draining {
            self.count(HttpStat::DownstreamCxDrainClose);
        }
        let service_time = record.service_time.filter(|_| !wishes.upgrade);
        headers::stamp_response(&mut head, config, service_time, &self.worker);
        let encoding = encoding_of(framing);
        if close {
            head.fields.push("connection", b"close");
        }
        let unframed_head = record.head.method() == "HEAD" && !head.fields.contains("content-length");
        if encoding == Encoding::Chunked || (unframed_head && head.status != 204 && head.status != 304) {
            head.fields.push("transfer-encoding", b"chunked");
        }
        record.status = head.status;
        let mut body =
            Pump::new(&self.worker, framing, false, encoding).with_trailers(config.enable_trailers);
        http1::write_response_head(body.out.buffer(), &head);
        self.worker.give_response(head);
        let first = body.take_leftover(&mut connection.leftover);
        let ended = match first {
            Err(failure) => Err(failure_of(failure)),
            Ok(()) => self.pump(&mut body, &mut request, &mut connection, &mut request_sent).await,
        };
        record.received = request.bytes;
        record.sent = body.bytes;
        if let Err(end) = ended {
            return cut(&mut record, end);
        }
        self.keep(connection, reuse.filter(|_| request_sent));
        // A client that still sends a body nobody wants cannot be understood afterwards.
        if close || !request.source_done() { After::Close } else { After::KeepAlive }
    }

    /// Both bodies at once, until the answer is complete.
    async fn pump(
        &mut self,
        body: &mut Pump,
        request: &mut Pump,
        connection: &mut UpstreamConnection,
        request_sent: &mut bool,
    ) -> Result<(), End> {
        let mut abandoned = false;
        let Self { worker, stream, unread, timer, .. } = self;
        let worker: &Worker = worker;
        timer.touch();
        poll_fn(|cx| {
            if !*request_sent && !abandoned {
                match request.poll(cx, timer, worker, (&mut *stream, &mut *unread), &mut connection.stream) {
                    Poll::Ready(Ok(())) => *request_sent = true,
                    // The upstream wants no more of the body; its answer goes on.
                    Poll::Ready(Err(PumpFailure::Sink)) => abandoned = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(End::ClientGone)),
                    Poll::Pending => {}
                }
            }
            let source = (&mut connection.stream, &mut connection.leftover);
            if let Poll::Ready(ended) = body.poll(cx, timer, worker, source, stream) {
                return Poll::Ready(ended.map_err(failure_of));
            }
            if *request_sent && poll_client_gone(cx, worker, stream, unread).is_ready() {
                return Poll::Ready(Err(End::ClientGone));
            }
            timer.poll(cx).map(|expired| Err(End::Expired(expired)))
        })
        .await
    }

    fn keep(&self, mut connection: UpstreamConnection, reuse: Option<Duration>) {
        connection.busy = false;
        connection.count_bytes();
        if let Some(reuse) = reuse {
            if connection.leftover.is_empty() {
                self.worker.give_buffer(std::mem::take(&mut connection.leftover));
            }
            self.worker.pools.checkin(connection, reuse);
        }
    }

    async fn tunnel(&mut self, mut record: Record, answer: Answer) -> After {
        let Answer { mut connection, mut head, .. } = answer;
        let current = Current::clone(&record.current);
        let Some(manager) = current.routes.listeners.get(self.listener) else { return After::Cut };
        if !head.fields.contains("date") {
            head.fields.push("date", &self.worker.date());
        }
        head.fields.set("server", manager.config.server_name.as_bytes());
        record.status = head.status;
        self.count(HttpStat::DownstreamCxUpgradesTotal);
        let mut text = Vec::with_capacity(256);
        http1::write_response_head(&mut text, &head);
        self.worker.give_response(head);
        let Self { worker, stream, unread, timer, .. } = self;
        let upstream = (&mut connection.stream, &mut connection.leftover);
        let ended = tunnel::run(worker, &text, (stream, unread), upstream, timer).await;
        (record.received, record.sent) = (ended.received, ended.sent);
        if ended.idle {
            record.flags.insert(ResponseFlags::STREAM_IDLE_TIMEOUT);
        }
        After::Cut
    }

    /// Ends the writing half and reads for a while: closing a socket with unread bytes would reset it, and the
    /// client could lose the answer.
    async fn linger(&mut self) {
        self.timer.start(Some(LINGER), None);
        poll_fn(|cx| {
            let _ = self.stream.poll_shutdown(cx);
            let mut budget = READ_AHEAD;
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

enum Outcome {
    Complete,
    Http2,
    Refused(RequestError),
    TimedOut,
    Idle,
    Closed,
}

/// How an answer was cut short.
#[derive(Clone, Copy)]
enum End {
    ClientGone,
    UpstreamBroken,
    Expired(Expired),
}

fn failure_of(failure: PumpFailure) -> End {
    match failure {
        PumpFailure::Sink => End::ClientGone,
        PumpFailure::SourceEnded | PumpFailure::SourceMalformed => End::UpstreamBroken,
    }
}

/// The status is sent already: only the flag can tell.
fn cut(record: &mut Record, end: End) -> After {
    record.flags.insert(match end {
        End::ClientGone => ResponseFlags::DOWNSTREAM_TERMINATION,
        End::UpstreamBroken => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        End::Expired(Expired::Whole) => ResponseFlags::UPSTREAM_TIMEOUT,
        End::Expired(Expired::Idle) => ResponseFlags::STREAM_IDLE_TIMEOUT,
    });
    record.count(match end {
        End::ClientGone => HttpStat::DownstreamRqRxReset,
        _ => HttpStat::DownstreamRqTxReset,
    });
    After::Cut
}

fn encoding_of(framing: Framing) -> Encoding {
    match framing {
        Framing::Chunked | Framing::UntilClose => Encoding::Chunked,
        Framing::None | Framing::Length(_) => Encoding::Raw,
    }
}

fn open_request(
    record: &mut Record,
    config: &gateway_config::model::HttpConnectionManager,
) -> Result<(Wishes, Framing), Failure> {
    record.head.to_origin_form(false).map_err(Failure::Malformed)?;
    let framing = request_framing(&record.head).map_err(Failure::Malformed)?;
    let wishes = headers::take_connection_headers(&mut record.head, config)?;
    Ok((wishes, framing))
}

/// Keeps a read armed on a client that waits: its end cancels the request (Envoy: a FIN is a full close), bytes are
/// the next request.
fn poll_client_gone(
    cx: &mut Context<'_>,
    worker: &Worker,
    stream: &mut Stream,
    unread: &mut Vec<u8>,
) -> Poll<()> {
    while unread.len() < READ_AHEAD {
        let read = worker.with_scratch(|scratch| {
            let Some(space) = scratch.get_mut(..CAUTIOUS_READ) else { return Poll::Pending };
            match stream.poll_read(cx, space) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => {
                    unread.extend_from_slice(space.get(..count).unwrap_or_default());
                    Poll::Ready(true)
                }
                Poll::Ready(_) => Poll::Ready(false),
            }
        });
        match read {
            Poll::Ready(true) => {}
            Poll::Ready(false) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Pending
}

/// The request of an HTTP/1 client, on its way upstream.
struct Source<'a> {
    worker: &'a Rc<Worker>,
    stream: &'a mut Stream,
    unread: &'a mut Vec<u8>,
    pump: Pump,
    framing: Framing,
}

impl Downstream for Source<'_> {
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
        self.pump.poll(cx, timer, self.worker, (&mut *self.stream, &mut *self.unread), to).map_err(
            |f| match f {
                PumpFailure::Sink => SendFailure::Upstream,
                PumpFailure::SourceMalformed => SendFailure::Malformed,
                PumpFailure::SourceEnded => SendFailure::ClientGone,
            },
        )
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        poll_client_gone(cx, self.worker, self.stream, self.unread)
    }

    fn restart(&mut self) -> &mut Outbox {
        if self.repeatable() {
            self.pump = Pump::new(self.worker, self.framing, false, Encoding::Raw);
        }
        self.pump.out.clear();
        &mut self.pump.out
    }

    fn repeatable(&self) -> bool {
        matches!(self.framing, Framing::None | Framing::Length(0))
    }
}
