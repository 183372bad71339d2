//! HTTP/2 with a client, HTTP/1.1 with the upstream.
//!
//! Owns the translation of heads both ways and the connection's life; hyper speaks the protocol. It must never let
//! a head through that HTTP/1 would read differently. Next: `h2_source.rs` and `h2_body.rs`, the bodies.

use super::attempt::Answer;
use super::h2_body::Outgoing;
use super::h2_source::{Incoming, Source};
use super::headers::{self, Wishes};
use super::record::Record;
use super::reply;
use super::timer::Timer;
use crate::error::Failure;
use crate::io::{Rewind, Stream};
use crate::state::snapshot::HttpManager;
use crate::stats::names::HttpStat;
use crate::worker::{Current, Worker};
use http1::{Framing, RequestError, RequestHead, ResponseHead};
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A client that answers no ping for so long is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pings on an open connection, so that a vanished client is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// Streams that a client reset before they were answered, at once (rapid reset, CVE-2023-44487).
const MAX_RESETS: usize = 50;
/// Bytes of a request body that a client may send ahead, per stream and per connection: what an upstream does not take
/// waits here, outside of every other budget.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How often a connection looks whether it is asked to leave.
const LOOK: Duration = Duration::from_secs(1);
/// How often a connection that leaves looks whether its first request has come.
const FIRST_REQUEST_LOOK: Duration = Duration::from_millis(20);
/// Buffered bytes of an answer per stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams run on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct OnThisWorker;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisWorker {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Streams of a connection that wait for their answer, and when the last one ended.
struct Activity {
    open: Cell<u32>,
    /// A stream was opened at least once.
    used: Cell<bool>,
    last: Cell<Instant>,
}

/// One of those streams; hyper drops it when the client resets it.
struct OpenStream(Rc<Activity>);

impl OpenStream {
    fn new(activity: Rc<Activity>) -> Self {
        activity.open.set(activity.open.get() + 1);
        activity.used.set(true);
        Self(activity)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.last.set(Instant::now());
    }
}

/// Serves a connection whose first bytes are in `first`.
pub async fn serve(
    worker: Rc<Worker>,
    (listener, peer): (usize, SocketAddr),
    stream: Stream,
    first: Vec<u8>,
) {
    let current = worker.snapshot();
    let Some(manager) = current.routes.listeners.get(listener) else { return };
    let config = &manager.config;
    let activity =
        Rc::new(Activity { open: Cell::new(0), used: Cell::new(false), last: Cell::new(Instant::now()) });
    let (shared, seen) = (Rc::clone(&worker), Rc::clone(&activity));
    let service = hyper::service::service_fn(move |request| {
        let (worker, activity) = (Rc::clone(&shared), Rc::clone(&seen));
        async move {
            let _open = OpenStream::new(activity);
            Ok::<_, Infallible>(handle(&worker, (listener, peer), request).await)
        }
    });
    let header_bytes = u32::try_from(config.max_request_headers_kb * 1024).unwrap_or(u32::MAX);
    let connection = http2::Builder::new(OnThisWorker)
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_header_list_size(header_bytes)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS * 2)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(Rewind::new(first, stream, count_bytes(&worker, listener)), service);
    let mut connection = std::pin::pin!(connection);
    let mut idle = std::pin::pin!(idle(&activity, config.idle_timeout));
    let leaving = tokio::select! {
        _ = connection.as_mut() => false,
        () = asked_to_leave(&worker, &activity) => true,
        () = idle.as_mut() => true,
    };
    if leaving {
        // Two GOAWAYs: the first lets through what is on its way (RFC 9113, 6.8).
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Adds to the listener's byte counters.
fn count_bytes(worker: &Rc<Worker>, listener: usize) -> impl Fn(u64, u64) + use<> {
    let (shard, current) = (worker.shard, worker.snapshot());
    let stats = current.routes.listeners.get(listener).map(|manager| Arc::clone(&manager.stats));
    move |read, written| {
        if let Some(stats) = &stats {
            stats.scope.add(shard, HttpStat::DownstreamCxRxBytesTotal, read);
            stats.scope.add(shard, HttpStat::DownstreamCxTxBytesTotal, written);
        }
    }
}

/// Ready when clients are to leave: the process drains, or an operator wants it (`POST /healthcheck/fail`,
/// `/drain_listeners?graceful`). A connection that was accepted all the same may send its first request: a GOAWAY
/// before it would refuse what the accept had promised.
async fn asked_to_leave(worker: &Worker, activity: &Activity) {
    let by_hand = async {
        while !worker.leaving() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = worker.drain.draining() => {}
        () = by_hand => {}
    }
    while !activity.used.get() && !worker.closing.get() {
        tokio::time::sleep(FIRST_REQUEST_LOOK).await;
    }
}

/// Ready when no stream was open for `limit`.
async fn idle(activity: &Activity, limit: Duration) {
    if limit.is_zero() {
        return std::future::pending().await;
    }
    loop {
        let busy = activity.open.get() > 0;
        let since = if busy { Instant::now() } else { activity.last.get() };
        tokio::time::sleep_until(since + limit).await;
        if activity.open.get() == 0 && activity.last.get().elapsed() >= limit {
            return;
        }
    }
}

async fn handle(
    worker: &Rc<Worker>,
    place: (usize, SocketAddr),
    request: http::Request<Incoming>,
) -> http::Response<Outgoing> {
    let (parts, body) = request.into_parts();
    let mut head = worker.take_request();
    let translated = translate(&parts, &mut head);
    let current = worker.snapshot();
    let mut record = Record::new(worker, Current::clone(&current), place, head, "HTTP/2");
    let Some(manager) = current.routes.listeners.get(place.0) else {
        return refuse(record, Failure::NoRoute, "");
    };
    let server = &manager.config.server_name;
    if let Err(error) = translated {
        return refuse(record, Failure::Malformed(error), server);
    }
    if record.head.fields.len() > manager.config.max_headers_count {
        return refuse(record, Failure::Malformed(RequestError::TooManyHeaders), server);
    }
    let framing = framing_of(&record.head, &body);
    let wishes = Wishes { keep_alive: true, upgrade: false, expects_continue: false };
    let mut timer = Timer::new();
    let trailers = manager.config.enable_trailers;
    let mut source = Source::new(worker, body, record.head.method(), framing, trailers);
    match super::answer(&mut record, wishes, framing, &mut source, &mut timer).await {
        Err(failure) => {
            record.received = source.bytes();
            refuse(record, failure, server)
        }
        Ok(answer) => respond(record, answer, source, timer, manager),
    }
}

/// An HTTP/2 head as HTTP/1 has it. What the two could read differently is refused.
fn translate(parts: &http::request::Parts, head: &mut RequestHead) -> Result<(), RequestError> {
    let method = parts.method.as_str();
    if method.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(RequestError::Method);
    }
    head.set_method(method);
    let authority = parts.uri.authority().map(|a| a.as_str());
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let whole = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
    if !whole.starts_with('/') && whole != "*" || whole.bytes().any(|b| !b.is_ascii_graphic() || b == b'#') {
        return Err(RequestError::Target);
    }
    // CONNECT has no path (RFC 9113, 8.5); its authority is no path either, so that no route takes it.
    head.set_target(authority.filter(|_| method == "CONNECT").unwrap_or(&whole));
    let host = authority.map(str::as_bytes).or_else(|| parts.headers.get("host").map(|host| host.as_bytes()));
    head.fields.push("host", host.filter(|host| !host.is_empty()).ok_or(RequestError::NoHost)?);
    for (name, value) in &parts.headers {
        let kept = !matches!(
            name.as_str(),
            "host"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "upgrade"
                | "te"
        );
        // A client that waits for a 100 sends its body all the same after a while; the upstream is not asked.
        let waits = name == "expect" && value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if (kept && !waits) || (name == "te" && value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
            head.fields.push(name.as_str(), value.as_bytes());
        }
    }
    // RFC 9113, 8.2.3: crumbs are one cookie again on HTTP/1.
    head.fields.join("cookie", b"; ");
    Ok(())
}

/// hyper has already held content-length against END_STREAM.
fn framing_of(head: &RequestHead, body: &Incoming) -> Framing {
    use hyper::body::Body as _;
    let length = head.fields.get("content-length").and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    match length {
        _ if body.is_end_stream() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

fn refuse(mut record: Record, failure: Failure, server: &str) -> http::Response<Outgoing> {
    record.fail(failure);
    let local = failure.reply();
    let mut head = record.worker.take_response();
    reply::fill(&mut head, local, server, &record.worker);
    let body = if record.head.method() == "HEAD" { "" } else { local.body };
    record.sent = body.len() as u64;
    let worker = Rc::clone(&record.worker);
    let response = response_of(&head, Outgoing::local(record, body));
    worker.give_response(head);
    response
}

fn respond(
    mut record: Record,
    answer: Answer,
    source: Source,
    mut timer: Timer,
    manager: &HttpManager,
) -> http::Response<Outgoing> {
    let worker = Rc::clone(&record.worker);
    let Answer { connection, mut head, framing, request_sent, reuse } = answer;
    headers::stamp_response(&mut head, &manager.config, record.service_time, &worker);
    if head.status == 101 {
        // Nobody asked for an upgrade.
        return refuse(record, Failure::UpstreamProtocol, &manager.config.server_name);
    }
    record.status = head.status;
    if worker.drain.is_draining() {
        record.count(HttpStat::DownstreamCxDrainClose);
    }
    timer.touch();
    let body = Outgoing::upstream(record, connection, (framing, reuse), (source, request_sent), timer);
    let response = response_of(&head, body);
    worker.give_response(head);
    response
}

fn response_of(head: &ResponseHead, body: Outgoing) -> http::Response<Outgoing> {
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(head.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    for (name, value) in head.fields.iter() {
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(name.as_bytes()), http::HeaderValue::from_bytes(value))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}
