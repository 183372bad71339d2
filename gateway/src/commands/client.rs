//! One HTTP/1.1 request to an address nearby.
//!
//! Owns the time limit and the size limit of an answer. It must never follow a redirect or try again: whoever asks
//! says what happened. Next: `override_route.rs`.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A whole exchange, the connect included.
pub const LIMIT: Duration = Duration::from_secs(5);
/// Most bytes of an answer: a configuration is the longest.
const MAX_ANSWER: usize = 4 << 20;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body, as text.
    pub body: String,
}

/// Sends a request without a body to `http://host:port`, the URL's own host as Host.
///
/// # Errors
/// What failed, for people.
pub async fn ask(method: &str, url: &str, headers: &[(&str, String)]) -> Result<Answer, String> {
    match tokio::time::timeout(LIMIT, exchange(method, url, headers)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

async fn exchange(method: &str, url: &str, headers: &[(&str, String)]) -> Result<Answer, String> {
    let url: Uri = url.parse().map_err(|error| format!("`{url}` is no URL: {error}"))?;
    let authority = url.authority().filter(|_| url.scheme_str() == Some("http"));
    let authority = authority.ok_or_else(|| format!("`{url}` is not http://host:port"))?;
    let (host, port) = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::builder().method(method).uri(target).header("host", authority.as_str());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    over(stream, request, Vec::new()).await
}

/// Sends a request over a connection that is there. The caller has a time limit.
///
/// # Errors
/// What failed, for people.
pub async fn over<I>(io: I, request: http::request::Builder, body: Vec<u8>) -> Result<Answer, String>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(text)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    };
    // Polled here, not in a task of its own, so that nothing outlives the question.
    tokio::pin!(answer, connection);
    let mut connected = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = &mut connection, if connected => connected = false,
        }
    }
}

fn text(error: hyper::Error) -> String {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// A runtime for a command.
///
/// # Errors
/// When the system gives none.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
