//! The HTTP face of control: discovery, reports, REST, metrics.
//!
//! Owns the table of paths, the reading of bounded bodies and who may ask what; it must never decide about weights.
//! It is a `tower::Service`, so that tests call it without a socket. Next: `handlers.rs`, `error.rs`.

mod config;
pub mod error;
mod guard;
mod handlers;

use crate::apply::guard::Running;
use crate::shared::Shared;
use crate::tokens::{Kind, Tokens};
use bytes::Bytes;
use error::ApiError;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longest request body. A report of a hundred targets with full histograms is a quarter of that.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// A body that takes longer than this comes from nobody that we serve.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Where a request came from; the server puts it into the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// See the module.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    tokens: Arc<Tokens>,
    running: Arc<Running>,
}

/// A request that was let in, with its whole body.
struct Call {
    method: Method,
    segments: Vec<String>,
    query: String,
    headers: http::HeaderMap,
    body: Bytes,
    peer: String,
    token: Option<String>,
    running: Arc<Running>,
}

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Open,
    Of(Kind),
}

impl Api {
    /// The API over a running control.
    pub fn new(shared: Arc<Shared>, tokens: Arc<Tokens>) -> Self {
        Self { shared, tokens, running: Arc::default() }
    }

    async fn serve<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let head_only = request.method() == Method::HEAD;
        let mut response = match self.handle(request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        if head_only {
            *response.body_mut() = Full::default();
        }
        response
    }

    async fn handle<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, ApiError>
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let segments = segments(parts.uri.path())?;
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (token, body) = match area(&parts.method, &words) {
            // Of what anybody may send nothing is read: memory is for those who were let in.
            Area::Open => (None, Bytes::new()),
            Area::Of(kind) => {
                let token = guard::admit(&self.tokens, kind, &parts)
                    .inspect_err(|_| self.shared.metrics.unauthorized.inc())?;
                (token, read_body(body).await?)
            }
        };
        let peer = parts.extensions.get::<Peer>().map_or_else(String::new, |peer| peer.0.ip().to_string());
        let call = Call {
            method: if parts.method == Method::HEAD { Method::GET } else { parts.method },
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body,
            peer,
            token,
            running: Arc::clone(&self.running),
            segments,
        };
        handlers::dispatch(&self.shared, &call).await
    }
}

fn area(method: &Method, segments: &[&str]) -> Area {
    match segments {
        ["healthz" | "metrics"] | [] => Area::Open,
        ["v1", "gateways", _, "report"] => Area::Of(Kind::Gateway),
        // Nothing under /v1 changes by a GET.
        ["v1", ..] if matches!(*method, Method::GET | Method::HEAD) => Area::Of(Kind::Viewer),
        ["v1", ..] => Area::Of(Kind::Operator),
        _ => Area::Of(Kind::Gateway),
    }
}

/// The decoded segments of a path.
fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        segments.push(decode(segment).ok_or_else(|| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "the path is not well encoded",
                "encode it as RFC 3986 says",
            )
        })?);
    }
    Ok(segments)
}

/// RFC 3986 section 2.1.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = segment.bytes();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            decoded.push(digit(bytes.next()?)? * 16 + digit(bytes.next()?)?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

async fn read_body<B>(body: B) -> Result<Bytes, ApiError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {MAX_BODY_BYTES} bytes"),
            "send less",
        )),
        Ok(Err(_)) => Err(ApiError::new(StatusCode::BAD_REQUEST, "the body broke off", "send it again")),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body took too long", "send it again")),
    }
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first value of a query parameter.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| decode(value))
    }

    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ApiError> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        let refuse = |why: String| {
            let error = format!("the body is not what is expected here: {why}");
            ApiError::new(StatusCode::BAD_REQUEST, error, "send a JSON object with the documented fields")
        };
        // serde reads a list into a struct too.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(refuse("not an object".to_owned()));
        }
        serde_json::from_slice(body).map_err(|error| refuse(error.to_string()))
    }
}

fn json_response<T: serde::Serialize>(
    status: StatusCode,
    body: &T,
) -> Result<Response<Full<Bytes>>, ApiError> {
    let mut bytes = serde_json::to_vec(body).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("answer not writable: {error}"), "report it")
    })?;
    bytes.push(b'\n');
    Ok(plain_response(status, "application/json", bytes))
}

fn plain_response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

impl<B> tower::Service<Request<B>> for Api
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.serve(request).await) })
    }
}
