//! One request of an HTTP/1.1 client: in, through the pipeline, and its answer out.
//!
//! Owns the pump from an HTTP/1 upstream to an HTTP/1 client and the gateway's own answers. It must never decide which
//! upstream. Next: `h1_source.rs`, the request's way upstream.

use super::attempt::Answer;
use super::h1::{After, Client};
use super::h1_source::{Source, poll_client_gone};
use super::headers::{self, Wishes};
use super::outbox::Outbox;
use super::pump::{Encoding, Pump, PumpFailure};
use super::record::Record;
use super::replay::Replay;
use super::timer::Expired;
use super::{reply, tunnel};
use crate::error::Failure;
use crate::response_flags::ResponseFlags;
use crate::stats::names::HttpStat;
use crate::worker::{Current, Worker};
use http1::{Framing, RequestHead, request_framing};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Longest that writing one of the gateway's own answers may take.
const REPLY_TIME: Duration = Duration::from_secs(5);

impl Client {
    /// Serves one request.
    pub(super) async fn request(&mut self, head: RequestHead) -> After {
        let current = self.worker.snapshot();
        let place = (self.listener, self.peer);
        let mut record = Record::new(&self.worker, Current::clone(&current), place, head, "HTTP/1.1");
        let Some(manager) = current.routes.listeners.get(self.listener) else { return After::Cut };
        let config = &manager.config;
        let (wishes, framing) = match open_request(&mut record, config) {
            Ok(opened) => opened,
            Err(failure) => return self.reply(&mut record, failure, true).await,
        };
        let mut pump = Pump::new(&self.worker, framing, config.lenient, encoding_of(framing));
        pump.pass_trailers = config.enable_trailers;
        pump.replay = Replay::new(&self.worker, record.head.method(), framing);
        if wishes.expects_continue {
            self.stream_continue().await;
        }
        let Self { worker, stream, unread, timer, .. } = self;
        let mut source = Source { worker, stream, unread, pump: &mut pump, framing };
        let answered = super::answer(&mut record, wishes, framing, &mut source, timer).await;
        pump.replay = None;
        record.received = pump.bytes;
        match answered {
            Err(failure) => {
                // A body that is here already, or was never sent on, does not stand in the way of the next request.
                let _ = pump.take_leftover(&mut self.unread);
                // After a refused CONNECT nobody knows what the client sends next.
                let close = !wishes.keep_alive || !pump.source_done() || record.head.method() == "CONNECT";
                self.reply(&mut record, failure, close).await
            }
            Ok(mut answer) if answer.head.status == 101 && wishes.upgrade => {
                self.tunnel(&mut record, &mut answer).await
            }
            Ok(mut answer) => {
                let after = self.respond(&mut record, &mut answer, wishes, &mut pump).await;
                if after != After::Cut {
                    self.keep(answer);
                }
                after
            }
        }
    }

    /// Tells a waiting client to send its body (RFC 9110, 10.1.1).
    async fn stream_continue(&mut self) {
        let mut rest: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        self.timer.start(Some(REPLY_TIME), None);
        poll_fn(|cx| {
            while !rest.is_empty() {
                match self.stream.poll_write(cx, rest) {
                    Poll::Ready(Ok(count)) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                    // A client that cannot be written to is found gone by the next read.
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx).map(|_| ()),
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Answers in the gateway's own words.
    pub(super) async fn reply(&mut self, record: &mut Record, failure: Failure, close: bool) -> After {
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
        self.timer.start(Some(REPLY_TIME), None);
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
        record: &mut Record,
        answer: &mut Answer,
        wishes: Wishes,
        request: &mut Pump,
    ) -> After {
        let mut head = std::mem::take(&mut answer.head);
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
        let bodiless = wishes.upgrade && (200..300).contains(&head.status);
        if bodiless {
            head.fields.remove("content-length");
        }
        if close {
            head.fields.push("connection", b"close");
        }
        if bodiless {
            // Envoy gives an upgrade that was answered by 2xx no body.
            (answer.framing, answer.reuse) = (Framing::None, None);
            head.fields.push("content-length", b"0");
        }
        let encoding = encoding_of(answer.framing);
        let unframed_head = record.head.method() == "HEAD" && !head.fields.contains("content-length");
        if encoding == Encoding::Chunked || (unframed_head && head.status != 204 && head.status != 304) {
            head.fields.push("transfer-encoding", b"chunked");
        }
        record.status = head.status;
        let mut body = Pump::new(&self.worker, answer.framing, false, encoding);
        body.pass_trailers = config.enable_trailers;
        http1::write_response_head(body.out.buffer(), &head);
        self.worker.give_response(head);
        let ended = match body.take_leftover(&mut answer.connection.leftover) {
            Err(failure) => Err(failure_of(failure)),
            Ok(()) => self.pump(&mut body, request, answer).await,
        };
        record.received = request.bytes;
        record.sent = body.bytes;
        if let Err(end) = ended {
            record.client_stalled = !body.out.is_empty();
            return cut(record, end);
        }
        // A client that still sends a body nobody wants cannot be understood afterwards; nor one that was told of an
        // upgrade that it did not ask for, which Envoy passes on.
        if close || record.status == 101 || !request.source_done() { After::Close } else { After::KeepAlive }
    }

    /// Both bodies at once, until the answer is complete.
    async fn pump(&mut self, body: &mut Pump, request: &mut Pump, answer: &mut Answer) -> Result<(), End> {
        let mut abandoned = false;
        let Self { worker, stream, unread, timer, .. } = self;
        let worker: &Worker = worker;
        let Answer { connection, request_sent, .. } = answer;
        timer.touch();
        poll_fn(|cx| {
            if !*request_sent && !abandoned {
                match request.poll(cx, timer, worker, (&mut *stream, &mut *unread), &mut connection.stream) {
                    Poll::Ready(Ok(())) => {
                        *request_sent = true;
                        timer.request_complete();
                    }
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

    /// Gives the upstream connection to the next request, if it may have one.
    fn keep(&self, answer: Answer) {
        let Answer { mut connection, request_sent, reuse, .. } = answer;
        connection.busy = false;
        connection.count_bytes();
        if let Some(reuse) = reuse.filter(|_| request_sent) {
            if connection.leftover.is_empty() {
                self.worker.give_buffer(std::mem::take(&mut connection.leftover));
            }
            self.worker.pools.checkin(connection, reuse);
        }
    }

    async fn tunnel(&mut self, record: &mut Record, answer: &mut Answer) -> After {
        let (connection, mut head) = (&mut answer.connection, std::mem::take(&mut answer.head));
        connection.stream.set_patient(true);
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
        End::Expired(Expired::Whole | Expired::Try) => ResponseFlags::UPSTREAM_TIMEOUT,
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
