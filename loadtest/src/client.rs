//! One connection and its requests: connect, send, read the whole answer, say how it failed.
//!
//! Owns the wire. Must never retry a request that may have reached the peer: the customer would have seen
//! that error, so it is counted. Next: `drive.rs`, which says when to send.

use crate::identify::BODY_SEARCHED;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// How long a connection may take to come up: what a gateway allows its own backends, with room for a
/// saturated machine.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP version spoken from the first byte on (no negotiation, no TLS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2 with prior knowledge, several requests at a time.
    #[serde(rename = "h2c")]
    Http2,
}

/// Where the requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address that is connected to.
    pub address: SocketAddr,
    /// What stands in the Host header.
    pub authority: Authority,
    /// Path and query.
    pub path: PathAndQuery,
}

/// Why a URL cannot be used; the text names the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL, or without `http://`.
    #[error("`{0}` is not a URL; write it in full, for example http://localhost:9080/")]
    NotUrl(String),
    /// https or another scheme.
    #[error(
        "`{0}` is not http://; loadtest speaks plain HTTP only, so name the listener behind the TLS of the load balancer"
    )]
    Scheme(String),
    /// The host has no address.
    #[error("the host of `{url}` has no address ({cause}); check the name, or use an IP address")]
    Resolve {
        /// As it was given.
        url: String,
        /// What the resolver said.
        cause: String,
    },
}

/// Checks a URL without looking its host up.
///
/// # Errors
/// [`UrlError::NotUrl`], [`UrlError::Scheme`].
pub fn parse_url(text: &str) -> Result<Uri, UrlError> {
    let uri: Uri = text.parse().map_err(|_| UrlError::NotUrl(text.to_owned()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) if !host.is_empty() => Ok(uri),
        (Some("http") | None, _) => Err(UrlError::NotUrl(text.to_owned())),
        (Some(_), _) => Err(UrlError::Scheme(text.to_owned())),
    }
}

impl Target {
    /// Looks the host up once; the first address is used for the whole run.
    ///
    /// # Errors
    /// [`UrlError::Resolve`] when the name has no address.
    pub async fn resolve(uri: &Uri) -> Result<Self, UrlError> {
        let failed = |cause: String| UrlError::Resolve { url: uri.to_string(), cause };
        let authority = uri.authority().ok_or_else(|| UrlError::NotUrl(uri.to_string()))?.clone();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut found = tokio::net::lookup_host((host, authority.port_u16().unwrap_or(80)))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let address = found.next().ok_or_else(|| failed("an empty answer".to_owned()))?;
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { address, authority, path })
    }
}

/// One request, as often as it is to be sent.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Where to.
    pub target: Target,
    /// GET, POST, ...
    pub method: Method,
    /// Sent besides Host and Content-Length, in this order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The request body; empty means none.
    pub body: Bytes,
    /// HTTP/1.1 or HTTP/2.
    pub protocol: Protocol,
    /// Whether each request has a connection of its own (`connection: close`).
    pub close: bool,
}

impl Recipe {
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(self.target.path.clone());
        if self.protocol == Protocol::Http2 {
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = Some(self.target.authority.clone());
        }
        // The parts come from a URL that was parsed already, so putting them together again cannot fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let headers = request.headers_mut();
        let own_host = self.headers.iter().any(|(name, _)| name == header::HOST);
        if self.protocol == Protocol::Http1
            && !own_host
            && let Ok(host) = HeaderValue::from_str(self.target.authority.as_str())
        {
            headers.append(header::HOST, host);
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if self.close && self.protocol == Protocol::Http1 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }
}

/// How a request failed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection came up.
    Connect,
    /// No whole answer within the request time-out.
    Timeout,
    /// The peer closed the connection before the whole answer had come.
    Closed,
    /// The peer reset the connection or the stream.
    Reset,
    /// The answer was not HTTP.
    Protocol,
}

impl FailureKind {
    /// The word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
        }
    }
}

/// A request without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For counting.
    pub kind: FailureKind,
    /// For reading.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.text)
    }
}

impl Failure {
    fn connect(text: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Connect, text: text.to_string() }
    }

    fn timeout(limit: Duration) -> Self {
        Self { kind: FailureKind::Timeout, text: format!("no whole answer within {limit:?}") }
    }

    fn from_hyper(error: &hyper::Error) -> Self {
        let mut text = error.to_string();
        let mut kind = if error.is_parse() { FailureKind::Protocol } else { FailureKind::Closed };
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                kind = match io.kind() {
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => FailureKind::Reset,
                    _ => FailureKind::Closed,
                };
            }
            if text.contains("stream error") || text.contains("RST_STREAM") {
                kind = FailureKind::Reset;
            }
            source = cause.source();
        }
        Self { kind, text }
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status of the final response.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The first [`BODY_SEARCHED`] bytes of its body.
    pub body: Vec<u8>,
    /// Length of the whole body in bytes.
    pub length: u64,
}

type Body = Full<Bytes>;

/// An HTTP/2 connection that several [`Client`]s send on.
pub type SharedLine = Arc<Mutex<Option<http2::SendRequest<Body>>>>;

enum Line {
    Http1(Option<http1::SendRequest<Body>>),
    Http2(SharedLine),
}

/// One place to send requests from, one at a time: its own HTTP/1.1 connection, or a share of an HTTP/2 one.
pub struct Client {
    recipe: Arc<Recipe>,
    line: Line,
    opened: Arc<AtomicU64>,
}

impl Client {
    /// A client with an HTTP/1.1 connection of its own, opened when first needed; `opened` counts connections.
    #[must_use]
    pub fn http1(recipe: Arc<Recipe>, opened: Arc<AtomicU64>) -> Self {
        Self { recipe, line: Line::Http1(None), opened }
    }

    /// A client that shares an HTTP/2 connection.
    #[must_use]
    pub fn http2(recipe: Arc<Recipe>, opened: Arc<AtomicU64>, line: SharedLine) -> Self {
        Self { recipe, line: Line::Http2(line), opened }
    }

    /// Opens the connection now, so that the first request need not wait for it.
    ///
    /// # Errors
    /// The failure to connect.
    pub async fn open(&mut self) -> Result<(), Failure> {
        match &mut self.line {
            Line::Http1(line) => {
                if line.is_none() {
                    *line = Some(open_http1(&self.recipe.target, &self.opened).await?);
                }
            }
            Line::Http2(shared) => {
                let mut line = shared.lock().await;
                if line.is_none() {
                    *line = Some(open_http2(&self.recipe.target, &self.opened).await?);
                }
            }
        }
        Ok(())
    }

    /// Sends the request and reads the whole answer, within `limit`.
    ///
    /// # Errors
    /// How it failed. After a failure the next call opens a new connection.
    pub async fn exchange(&mut self, limit: Duration) -> Result<Answer, Failure> {
        let result = match tokio::time::timeout(limit, self.exchange_unlimited()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timeout(limit)),
        };
        if let Line::Http1(line) = &mut self.line
            && (result.is_err() || self.recipe.close)
        {
            *line = None;
        }
        result
    }

    async fn exchange_unlimited(&mut self) -> Result<Answer, Failure> {
        let response = match &mut self.line {
            Line::Http1(line) => send_http1(&self.recipe, line, &self.opened).await?,
            Line::Http2(shared) => send_http2(&self.recipe, shared, &self.opened).await?,
        };
        read_answer(response).await
    }
}

async fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target.address)).await;
    let stream = connected
        .map_err(|_| Failure::connect(format!("no connection within {CONNECT_TIMEOUT:?}")))?
        .map_err(Failure::connect)?;
    stream.set_nodelay(true).map_err(Failure::connect)?;
    Ok(stream)
}

async fn open_http1(target: &Target, opened: &AtomicU64) -> Result<http1::SendRequest<Body>, Failure> {
    let stream = connect(target).await?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| Failure::from_hyper(&e))?;
    opened.fetch_add(1, Ordering::Relaxed);
    // Its errors reach the request that is on it; without one there is nobody to tell.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn open_http2(target: &Target, opened: &AtomicU64) -> Result<http2::SendRequest<Body>, Failure> {
    let stream = connect(target).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| Failure::from_hyper(&e))?;
    opened.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn send_http1(
    recipe: &Recipe,
    line: &mut Option<http1::SendRequest<Body>>,
    opened: &AtomicU64,
) -> Result<hyper::Response<Incoming>, Failure> {
    let mut request = recipe.request();
    if let Some(mut sender) = line.take()
        && sender.ready().await.is_ok()
    {
        match sender.try_send_request(request).await {
            Ok(response) => {
                *line = Some(sender);
                return Ok(response);
            }
            Err(error) => request = unsent(error)?,
        }
    }
    let mut sender = open_http1(&recipe.target, opened).await?;
    let response = sender.send_request(request).await.map_err(|e| Failure::from_hyper(&e))?;
    *line = Some(sender);
    Ok(response)
}

async fn send_http2(
    recipe: &Recipe,
    shared: &SharedLine,
    opened: &AtomicU64,
) -> Result<hyper::Response<Incoming>, Failure> {
    let mut request = recipe.request();
    let current = shared.lock().await.clone();
    if let Some(mut sender) = current
        && sender.ready().await.is_ok()
    {
        match sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => request = unsent(error)?,
        }
    }
    let mut sender = {
        let mut line = shared.lock().await;
        match line.as_mut() {
            // Another client has opened a new connection meanwhile.
            Some(sender) if !sender.is_closed() => sender.clone(),
            _ => line.insert(open_http2(&recipe.target, opened).await?).clone(),
        }
    };
    sender.send_request(request).await.map_err(|e| Failure::from_hyper(&e))
}

/// Gives back a request of which no byte was sent (the peer had closed the idle connection); it may go out
/// on a new connection without anybody noticing.
fn unsent(mut error: TrySendError<Request<Body>>) -> Result<Request<Body>, Failure> {
    match error.take_message() {
        Some(request) => Ok(request),
        None => Err(Failure::from_hyper(error.error())),
    }
}

async fn read_answer(response: hyper::Response<Incoming>) -> Result<Answer, Failure> {
    let (parts, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    let mut length = 0_u64;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| Failure::from_hyper(&e))?;
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            let room = BODY_SEARCHED.saturating_sub(body.len()).min(data.len());
            body.extend_from_slice(data.get(..room).unwrap_or_default());
        }
    }
    Ok(Answer { status: parts.status, headers: parts.headers, body, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(url: &str, protocol: Protocol) -> Recipe {
        let uri = parse_url(url).unwrap();
        Recipe {
            target: Target {
                address: ([127, 0, 0, 1], 1).into(),
                authority: uri.authority().unwrap().clone(),
                path: uri.path_and_query().unwrap().clone(),
            },
            method: Method::GET,
            headers: vec![(HeaderName::from_static("x-a"), HeaderValue::from_static("1"))],
            body: Bytes::new(),
            protocol,
            close: false,
        }
    }

    #[test]
    fn a_wrong_url_says_how_to_write_one() {
        for text in ["localhost:9080", "/", "", "http://", "not a url", "http:///x"] {
            assert!(matches!(parse_url(text), Err(UrlError::NotUrl(_) | UrlError::Scheme(_))), "{text}");
        }
        assert!(matches!(parse_url("https://localhost/"), Err(UrlError::Scheme(_))));
        assert!(parse_url("http://localhost:9080").is_ok());
        assert!(parse_url("http://[::1]:9080/a?b=c").is_ok());
    }

    #[test]
    fn http1_sends_a_path_and_a_host_and_http2_the_whole_uri() {
        let request = recipe("http://h:1/a?b=c", Protocol::Http1).request();
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.headers().get("host").unwrap(), "h:1");
        let request = recipe("http://h:1/a?b=c", Protocol::Http2).request();
        assert_eq!(request.uri(), "http://h:1/a?b=c");
        assert!(request.headers().get("host").is_none());
    }

    #[test]
    fn a_host_header_given_by_hand_is_the_only_one() {
        let mut recipe = recipe("http://h:1/", Protocol::Http1);
        recipe.headers.push((header::HOST, HeaderValue::from_static("svc.example")));
        let request = recipe.request();
        assert_eq!(request.headers().get_all("host").iter().count(), 1);
        assert_eq!(request.headers().get("host").unwrap(), "svc.example");
    }

    #[tokio::test]
    async fn an_ipv6_address_resolves_to_itself() {
        let target = Target::resolve(&parse_url("http://[::1]:9080/x").unwrap()).await.unwrap();
        assert_eq!(target.address, "[::1]:9080".parse().unwrap());
        assert_eq!(target.authority.as_str(), "[::1]:9080");
    }
}
