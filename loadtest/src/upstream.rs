//! The backend: answers `{"data":"This is service NAME"}` over HTTP/1.1, with faults on request.
//!
//! Owns listening, answering, breaking connections and draining. Must never decide on traffic: it does what
//! the request (`fault.rs`) and its flags say. Next: `register.rs`.

use crate::fault::{Breakage, Faults};
use crate::pieces::{BodyError, Pieces};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections that the kernel may hold for us: enough for a burst of a whole load test.
const BACKLOG: u32 = 4096;

/// Most connections at a time; further ones wait in the backlog.
const MAX_CONNECTIONS: usize = 20_000;

/// How long a draining backend waits for the answers it still owes.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Pause after a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Where the counters are read.
const STATS_PATH: &str = "/_upstream/stats";

type Body = UnsyncBoxBody<Bytes, BodyError>;

/// What a backend is like, whatever the request asks.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its version, in the body and in the header `x-v`.
    pub name: String,
    /// Share of requests, from 0 to 1, that are answered with `error_status`.
    pub error_rate: f64,
    /// The status of those.
    pub error_status: StatusCode,
    /// Wait this long before each answer.
    pub delay: Duration,
    /// Close a connection that has been idle this long; none keeps it open.
    pub keep_alive: Option<Duration>,
    /// Tell it: `keep-alive: timeout=N`.
    pub keep_alive_header: bool,
}

impl Options {
    /// A backend without faults.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            error_rate: 0.0,
            error_status: StatusCode::INTERNAL_SERVER_ERROR,
            delay: Duration::ZERO,
            keep_alive: None,
            keep_alive_header: false,
        }
    }
}

/// A backend that listens.
#[derive(Debug)]
pub struct Upstream {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    options: Options,
    version: HeaderValue,
    requests: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
}

impl Upstream {
    /// Listens on `address`; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// What the operating system says, or `InvalidInput` for a name that cannot stand in a header.
    pub fn bind(address: SocketAddr, options: Options) -> io::Result<Self> {
        let version = HeaderValue::from_str(&options.name)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name must be plain ASCII text"))?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let (requests, connections, open) = Default::default();
        let state = Arc::new(State { options, version, requests, connections, open });
        Ok(Self { listener, address, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` becomes true or its sender is gone; then closes idle connections, answers what is
    /// owed with `connection: close`, and returns at the latest [`DRAIN_LIMIT`] later.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let told = stop.clone();
        loop {
            while connections.try_join_next().is_some() {}
            if connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            tokio::select! {
                () = told_to_stop(&mut stop) => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve_connection(Arc::clone(&self.state), stream, told.clone()));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        // What is left after the limit is cut when the set is dropped.
        drop(tokio::time::timeout(DRAIN_LIMIT, drained).await);
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which says the same.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn serve_connection(state: Arc<State>, stream: TcpStream, mut stop: watch::Receiver<bool>) {
    state.connections.fetch_add(1, Ordering::Relaxed);
    state.open.fetch_add(1, Ordering::Relaxed);
    drop(stream.set_nodelay(true));
    let socket = Socket(Arc::new(stream));
    let service = {
        let (state, socket) = (Arc::clone(&state), socket.clone());
        service_fn(move |request| answer(Arc::clone(&state), socket.clone(), request))
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    // hyper starts this timer when a connection turns idle, so it is the keep-alive time as well.
    builder.timer(TokioTimer::new()).header_read_timeout(state.options.keep_alive);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    // Errors here are the breakages asked for, or a client that went away.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
    state.open.fetch_sub(1, Ordering::Relaxed);
}

async fn answer(
    state: Arc<State>,
    socket: Socket,
    request: Request<Incoming>,
) -> Result<Response<Body>, BodyError> {
    match request.uri().path() {
        "/healthz" => return Ok(text(StatusCode::OK, "ok\n")),
        STATS_PATH => return Ok(stats(&state)),
        _ => {}
    }
    state.requests.fetch_add(1, Ordering::Relaxed);
    let faults = match Faults::read(request.uri().query(), request.headers()) {
        Ok(faults) => faults,
        Err(error) => return Ok(text(StatusCode::BAD_REQUEST, &format!("{error}\n"))),
    };
    let delay = faults.delay.unwrap_or(state.options.delay);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match faults.breakage {
        Some(Breakage::Reset) => {
            socket.0.set_zero_linger()?;
            return Err("reset as asked".into());
        }
        Some(Breakage::Close) => return Err("closed as asked".into()),
        Some(Breakage::Cut) | None => {}
    }
    let options = &state.options;
    let unlucky = options.error_rate > 0.0 && rand::random::<f64>() < options.error_rate;
    let status = faults.status.or(unlucky.then_some(options.error_status)).unwrap_or(StatusCode::OK);
    let mut response = whole(&state, &faults, request);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-v"), state.version.clone());
    add_keep_alive(headers, options, faults.last);
    Ok(response)
}

fn add_keep_alive(headers: &mut HeaderMap, options: &Options, last: bool) {
    if last {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if let (true, Some(time)) = (options.keep_alive_header, options.keep_alive)
        && let Ok(value) = HeaderValue::try_from(format!("timeout={}", time.as_secs()))
    {
        headers.insert(HeaderName::from_static("keep-alive"), value);
    }
}

/// The answer without its status: the request's own body for a POST, bytes made up for `size`, else the
/// sentence that names the version.
fn whole(state: &State, faults: &Faults, request: Request<Incoming>) -> Response<Body> {
    let echo = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if echo && faults.size.is_none() && faults.slow_body.is_none() && faults.breakage.is_none() {
        let (parts, body) = request.into_parts();
        let mut response = Response::new(body.map_err(BodyError::from).boxed_unsync());
        let kind = parts.headers.get(header::CONTENT_TYPE).cloned();
        let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return response;
    }
    let content = match faults.size {
        Some(size) => Bytes::from(vec![b'x'; usize::try_from(size).unwrap_or(0)]),
        None => Bytes::from(json!({"data": format!("This is service {}", state.options.name)}).to_string()),
    };
    let kind = if faults.size.is_some() { "application/octet-stream" } else { "application/json" };
    let length = content.len();
    let cut = faults.breakage == Some(Breakage::Cut);
    let body = match faults.slow_body {
        None if !cut => Full::new(content).map_err(|never| match never {}).boxed_unsync(),
        slow => Pieces::new(content, slow.unwrap_or((1, Duration::ZERO)), cut).boxed_unsync(),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn stats(state: &State) -> Response<Body> {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let body = json!({
        "name": state.options.name,
        "requests": count(&state.requests),
        "connections": count(&state.connections),
        "connections_open": count(&state.open),
    });
    let mut response = text(StatusCode::OK, &body.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A socket that can be told to reset while hyper owns the connection.
#[derive(Clone)]
struct Socket(Arc<TcpStream>);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|n| buf.advance(n))),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping the last handle closes the socket; hyper drops its own right after this.
        Poll::Ready(Ok(()))
    }
}
