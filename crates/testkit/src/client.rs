//! Clients for tests: one that sends exact HTTP/1.1 bytes, one that speaks HTTP/2 with prior knowledge, and one-line requests.
//!
//! The raw client must never correct what it sends or forgive what it reads. Every read has a deadline in real time, so that a
//! gateway that never answers fails a test instead of hanging it. Read `upstream` next.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::clock::{DEADLINE, real_sleep, within};
use crate::net::reset_on_drop;
use crate::wire::{Framing, Head, MAX_KEPT, Wire};

/// Between two questions of [`poll`]: short beside what is waited for, long beside the question.
const POLL_PAUSE: Duration = Duration::from_millis(20);
/// How long [`poll`] asks: the slowest thing polled for is a program's start.
pub const POLL_DEADLINE: Duration = Duration::from_secs(60);

/// One answer as it came off the wire.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and header lines, in order, unrepaired.
    pub head: Head,
    /// Every byte of it without the interim answers, at most 8 MiB.
    pub raw: Vec<u8>,
    /// The interim answers (1xx) that came before.
    pub interim: Vec<Head>,
    /// How the body's length was told.
    pub framing: Framing,
    /// The body, decoded, at most 8 MiB.
    pub body: Vec<u8>,
    /// The length of the whole body.
    pub body_len: u64,
    /// Trailer lines of a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none; the error shows the body.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }
}

/// An HTTP/1.1 connection under the test's full control.
#[derive(Debug)]
pub struct RawClient {
    wire: Wire,
    deadline: Duration,
}

impl RawClient {
    /// Connects.
    ///
    /// # Errors
    /// When the connection is refused or takes longer than [`DEADLINE`].
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = within(DEADLINE, "connecting", TcpStream::connect(addr)).await?;
        let stream = stream.with_context(|| format!("connecting to {addr}"))?;
        Ok(Self { wire: Wire::new(stream), deadline: DEADLINE })
    }

    /// Changes how long each read may take.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Our end of the connection.
    ///
    /// # Errors
    /// When the socket has none.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.wire.stream.local_addr()?)
    }

    /// Sends exactly these bytes.
    ///
    /// # Errors
    /// When the socket refuses them, or takes none of them for too long.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(within(self.deadline, "sending", self.wire.write(bytes.as_ref())).await??)
    }

    /// Sends a GET for `target` with the header `host: test` and reads the answer.
    ///
    /// # Errors
    /// As [`RawClient::send`] and [`RawClient::response`].
    pub async fn get(&mut self, target: &str) -> Result<Response> {
        self.request("GET", target, &[], b"").await
    }

    /// Sends a request with `host: test`, these headers and, unless it is empty, this body with its length; reads the answer.
    ///
    /// # Errors
    /// As [`RawClient::send`] and [`RawClient::response`].
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("content-length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes).await?;
        self.response(method).await
    }

    /// Reads the next answer, to a request with this method, to its end.
    ///
    /// # Errors
    /// When the connection ends or fails first, or the answer is not HTTP/1, or [`DEADLINE`] passes between two pieces.
    pub async fn response(&mut self, method: &str) -> Result<Response> {
        let mut interim = Vec::new();
        let mut response = loop {
            let head = self.head().await?;
            let status = status(&head)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                self.wire.take_kept();
                continue;
            }
            let framing = match status {
                101 | 204 | 304 => Framing::None,
                _ if method == "HEAD" => Framing::None,
                _ => head.framing(Framing::UntilClose),
            };
            break Response {
                status,
                head,
                raw: Vec::new(),
                interim,
                framing,
                body: Vec::new(),
                body_len: 0,
                trailers: Vec::new(),
            };
        };
        self.body(&mut response).await?;
        response.raw = self.wire.take_kept();
        Ok(response)
    }

    /// Reads one head, interim or final, and nothing of its body.
    ///
    /// # Errors
    /// As [`RawClient::response`].
    pub async fn head(&mut self) -> Result<Head> {
        let head = within(self.deadline, "the head of an answer", self.wire.head()).await??;
        let head = head.context("the connection was closed without an answer")?;
        Ok(Head::parse(&head))
    }

    async fn body(&mut self, response: &mut Response) -> Result<()> {
        let (body, len) = (&mut response.body, &mut response.body_len);
        let mut sink = |piece: &[u8]| {
            *len += piece.len() as u64;
            if body.len() + piece.len() <= MAX_KEPT {
                body.extend_from_slice(piece);
            }
        };
        let read = self.wire.body(response.framing, &mut sink);
        let read = within(self.deadline, "the body of an answer", read).await?;
        response.trailers = read.with_context(|| format!("in the body of {:?}", response.head))?;
        Ok(())
    }

    /// Reads exactly this many raw bytes: the part of a body that is awaited, or what comes after an upgrade.
    ///
    /// # Errors
    /// When the connection ends or fails first.
    pub async fn read(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        let read = self.wire.body(Framing::Length(count as u64), &mut sink);
        within(self.deadline, "more bytes", read).await??;
        Ok(bytes)
    }

    /// Reads until the peer closes, and returns all that came. A reset is an error.
    ///
    /// # Errors
    /// When the connection is reset, or not closed in time.
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        let read = self.wire.body(Framing::UntilClose, &mut sink);
        within(self.deadline, "the end of the connection", read).await??;
        Ok(bytes)
    }

    /// Waits until the peer closes or resets the connection without sending another byte.
    ///
    /// # Errors
    /// When bytes come, or nothing in time.
    pub async fn closed(&mut self) -> Result<()> {
        within(self.deadline, "the end of the connection", self.wire.closed()).await?;
        let ahead = self.wire.ahead();
        ensure!(ahead.is_empty(), "bytes instead of the end: {:?}", String::from_utf8_lossy(ahead));
        Ok(())
    }

    /// True if nothing has come that has not been read and the connection is open, as far as can be told now.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let nothing =
            self.wire.stream.try_read(&mut [0; 1]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        nothing && self.wire.ahead().is_empty()
    }

    /// Sends FIN; reading goes on.
    ///
    /// # Errors
    /// When the connection has failed already.
    pub async fn half_close(&mut self) -> Result<()> {
        Ok(self.wire.stream.shutdown().await?)
    }

    /// Ends the connection with RST.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn abort(self) -> Result<()> {
        Ok(reset_on_drop(&self.wire.stream)?)
    }
}

fn status(head: &Head) -> Result<u16> {
    let mut parts = head.first_line.split(' ');
    ensure!(parts.next().is_some_and(|version| version.starts_with("HTTP/1.")), "not HTTP/1: {head:?}");
    match parts.next().map(str::parse) {
        Some(Ok(status)) => Ok(status),
        _ => bail!("no status: {head:?}"),
    }
}

/// One GET on a connection of its own.
///
/// # Errors
/// As [`RawClient`].
pub async fn get(addr: SocketAddr, target: &str) -> Result<Response> {
    once(addr, "GET", target, &[], b"").await
}

/// One POST on a connection of its own.
///
/// # Errors
/// As [`RawClient`].
pub async fn post(addr: SocketAddr, target: &str, body: &[u8]) -> Result<Response> {
    // An empty body must still say so: servers wait for, or refuse, a POST of unknown length.
    let length: &[_] = if body.is_empty() { &[("content-length", "0")] } else { &[] };
    once(addr, "POST", target, length, body).await
}

/// One request on a connection of its own.
///
/// # Errors
/// As [`RawClient`].
pub async fn once(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut all = vec![("connection", "close")];
    all.extend_from_slice(headers);
    RawClient::connect(addr).await?.request(method, target, &all, body).await
}

/// Asks again and again, on a new connection each time, until the answer is as wanted: for states that no event tells of.
///
/// # Errors
/// When it has not been within [`POLL_DEADLINE`]; the error shows the last answer.
pub async fn poll(addr: SocketAddr, target: &str, wanted: impl Fn(&Response) -> bool) -> Result<Response> {
    let mut last = None;
    let asking = async {
        loop {
            match get(addr, target).await {
                Ok(answer) if wanted(&answer) => return answer,
                other => last = Some(other.map(|answer| format!("{} {}", answer.status, answer.text()))),
            }
            real_sleep(POLL_PAUSE).await;
        }
    };
    let answer = within(POLL_DEADLINE, "the wanted answer", asking).await;
    answer.with_context(|| format!("http://{addr}{target} last answered {last:?}"))
}

/// An answer of the HTTP/2 client.
#[derive(Clone, Debug)]
pub struct H2Response {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: http::HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The trailers, empty if none came.
    pub trailers: http::HeaderMap,
}

/// An HTTP/2 connection with prior knowledge. Clones share the connection and run streams side by side.
#[derive(Clone, Debug)]
pub struct H2Client {
    sender:
        hyper::client::conn::http2::SendRequest<http_body_util::combinators::BoxBody<Bytes, hyper::Error>>,
    authority: String,
}

impl H2Client {
    /// Connects; the connection's own work runs in the caller's runtime.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = within(DEADLINE, "connecting", TcpStream::connect(addr)).await??;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (sender, connection) = within(DEADLINE, "the HTTP/2 handshake", handshake).await??;
        tokio::spawn(connection);
        Ok(Self { sender, authority: addr.to_string() })
    }

    /// Sends a request whose body is this; the uri may be a path alone.
    ///
    /// # Errors
    /// When the stream or the connection fails.
    pub async fn send(&mut self, request: http::Request<Bytes>) -> Result<http::Response<Incoming>> {
        self.send_body(request.map(|body| Full::new(body).map_err(|never| match never {}).boxed())).await
    }

    /// The same with any body, such as a stream or one with trailers.
    ///
    /// # Errors
    /// When the stream or the connection fails.
    pub async fn send_body(
        &mut self,
        mut request: http::Request<http_body_util::combinators::BoxBody<Bytes, hyper::Error>>,
    ) -> Result<http::Response<Incoming>> {
        if request.uri().authority().is_none() {
            let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            *request.uri_mut() = format!("http://{}{path}", self.authority).parse()?;
        }
        Ok(within(DEADLINE, "an HTTP/2 answer", self.sender.send_request(request)).await??)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the stream or the connection fails.
    pub async fn request(&mut self, request: http::Request<Bytes>) -> Result<H2Response> {
        let (parts, body) = self.send(request).await?.into_parts();
        let body = within(DEADLINE, "an HTTP/2 body", body.collect()).await??;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        Ok(H2Response { status, headers, body: body.to_bytes(), trailers })
    }

    /// Sends a GET and reads the whole answer.
    ///
    /// # Errors
    /// When the stream or the connection fails.
    pub async fn get(&mut self, path: &str) -> Result<H2Response> {
        self.request(http::Request::get(path).body(Bytes::new())?).await
    }

    /// True once the peer has closed the connection or said GOAWAY.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Reply, Upstream};
    use hyper::service::service_fn;

    /// One HTTP/2 connection of hyper's server, which echoes bodies and trailers and names the path.
    async fn h2_echo(listener: tokio::net::TcpListener) {
        let (stream, _) = listener.accept().await.unwrap();
        let echo = service_fn(|request: http::Request<Incoming>| async {
            let uri = request.uri().to_string();
            http::Response::builder().header("x-uri", uri).body(request.into_body())
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.serve_connection(TokioIo::new(stream), echo).await.unwrap();
    }

    #[tokio::test]
    async fn http2_streams_run_side_by_side_with_bodies_and_trailers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(h2_echo(listener));
        let client = H2Client::connect(addr).await.unwrap();
        let (mut one, mut two) = (client.clone(), client.clone());
        let post = http::Request::post("/two").body(Bytes::from_static(b"body")).unwrap();
        let (one, two) = tokio::join!(one.get("/one?x"), two.request(post));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.headers.get("x-uri").unwrap(), &format!("http://{addr}/one?x"));
        assert_eq!((two.status, two.body.as_ref()), (200, b"body".as_slice()));
        let trailers = http::HeaderMap::from_iter([("x-end".parse().unwrap(), "yes".parse().unwrap())]);
        let body =
            Full::new(Bytes::from_static(b"body")).with_trailers(std::future::ready(Some(Ok(trailers))));
        let body = body.map_err(|never| match never {}).boxed();
        let answer = client.clone().send_body(http::Request::post("/").body(body).unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap().get("x-end").unwrap(), "yes");
        assert!(!client.is_closed());
    }

    #[tokio::test]
    async fn polling_goes_on_until_the_answer_is_as_wanted() {
        let v1 = Upstream::start("v1").unwrap();
        (0..3).for_each(|_| v1.push(Reply::status(503)));
        v1.push(Reply::close());
        let answer = poll(v1.addr(), "/", |answer| answer.status == 200).await.unwrap();
        assert_eq!((answer.header("x-v"), v1.seen().requests), (Some("v1"), 5));
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_an_error_and_what_is_no_answer_too() {
        let v1 = Upstream::start("v1").unwrap();
        v1.push(Reply::hang());
        let mut client =
            RawClient::connect(v1.addr()).await.unwrap().with_deadline(Duration::from_millis(20));
        assert!(client.get("/").await.unwrap_err().to_string().contains("did not happen"));
        v1.push(Reply::raw("SMTP ready\r\n\r\n"));
        assert!(get(v1.addr(), "/").await.unwrap_err().to_string().contains("not HTTP/1"));
        let whole = Reply::status(200).chunked(["abc"]);
        let cut = whole.head_len() + 4;
        v1.push(whole.cut_at(cut).end(crate::upstream::End::Close));
        assert!(get(v1.addr(), "/").await.is_err());
    }
}
