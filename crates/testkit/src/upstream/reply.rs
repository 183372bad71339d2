//! What a scripted backend can be told to do with one request: which bytes, in which pieces, when, and how it ends.
//!
//! Only describes; `conn` carries it out. Nothing here checks that the result is HTTP: that is the point.

use std::time::Duration;

use crate::clock::Gate;

/// What to wait for.
#[derive(Clone, Debug)]
pub enum Pause {
    /// Until the test opens the gate.
    Gate(Gate),
    /// Real time. For demos and load; tests use gates.
    Time(Duration),
}

impl From<Gate> for Pause {
    fn from(gate: Gate) -> Self {
        Self::Gate(gate)
    }
}

impl From<&Gate> for Pause {
    fn from(gate: &Gate) -> Self {
        Self::Gate(gate.clone())
    }
}

impl From<Duration> for Pause {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

/// What happens to the connection after the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The next request is read.
    #[default]
    KeepAlive,
    /// FIN, then everything is read until the peer closes too.
    Close,
    /// RST.
    Reset,
    /// Nothing is ever sent again, the connection stays open until the peer closes it.
    Hang,
}

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Built from the fields of [`Reply`].
    Message(Body),
    /// Exactly these bytes.
    Raw(Vec<u8>),
    /// 200 with the request's own body.
    Echo,
    /// 101, then every byte comes back.
    UpgradeEcho(String),
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Length(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, trailers: Vec<(String, String)> },
    UntilClose(Vec<u8>),
}

/// One scripted answer; built by chaining.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    pub(super) interim: Vec<(u16, Vec<(String, String)>)>,
    pub(super) before_body: bool,
    pub(super) pause: Option<Pause>,
    pub(super) pauses_at: Vec<(usize, Pause)>,
    pub(super) slow: Option<(usize, Pause)>,
    pub(super) cut_at: Option<usize>,
    pub(super) end: End,
}

impl Reply {
    /// A status with an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content: Content::Message(Body::Length(Vec::new())),
            interim: Vec::new(),
            before_body: false,
            pause: None,
            pauses_at: Vec::new(),
            slow: None,
            cut_at: None,
            end: End::KeepAlive,
        }
    }

    /// 200 with this body and its length.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200).body(body)
    }

    /// The demo's answer: `{"data":"This is service NAME"}`, `x-v: NAME`.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self::ok(format!(r#"{{"data":"This is service {name}"}}"#))
            .header("content-type", "application/json")
            .header("x-v", name)
    }

    /// Exactly these bytes, whatever they are. The connection is kept unless told otherwise.
    #[must_use]
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let mut reply = Self::status(200);
        reply.content = Content::Raw(bytes.into());
        reply
    }

    /// FIN instead of an answer.
    #[must_use]
    pub fn close() -> Self {
        Self::raw("").end(End::Close)
    }

    /// RST instead of an answer.
    #[must_use]
    pub fn reset() -> Self {
        Self::raw("").end(End::Reset)
    }

    /// No answer at all, on a connection that stays open.
    #[must_use]
    pub fn hang() -> Self {
        Self::raw("").end(End::Hang)
    }

    /// 200 with the body of the request.
    #[must_use]
    pub fn echo() -> Self {
        let mut reply = Self::status(200);
        reply.content = Content::Echo;
        reply
    }

    /// 101 to the given protocol, then every byte that comes is sent back until the peer closes. (No frame is parsed, so any
    /// protocol's bytes come back as they are; there is no Sec-WebSocket-Accept.)
    #[must_use]
    pub fn upgrade_echo(protocol: &str) -> Self {
        let mut reply = Self::status(101);
        reply.content = Content::UpgradeEcho(protocol.to_owned());
        reply
    }

    /// Adds a header line after those added before.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes the status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// A body with Content-Length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.content = Content::Message(Body::Length(body.into()));
        self
    }

    /// A chunked body, one chunk per item.
    #[must_use]
    pub fn chunked<C: Into<Vec<u8>>>(mut self, chunks: impl IntoIterator<Item = C>) -> Self {
        let chunks = chunks.into_iter().map(Into::into).collect();
        self.content = Content::Message(Body::Chunked { chunks, trailers: Vec::new() });
        self
    }

    /// Adds a trailer to a chunked body; anything else is left as it is.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        if let Content::Message(Body::Chunked { trailers, .. }) = &mut self.content {
            trailers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// A body that ends with the connection.
    #[must_use]
    pub fn until_close(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.content = Content::Message(Body::UntilClose(body.into()));
        self.end(End::Close)
    }

    /// Sends an interim answer (1xx) first, before the request's body is read. Several are sent in order.
    #[must_use]
    pub fn interim(mut self, status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.interim.push((status, headers));
        self
    }

    /// Answers before reading the request's body (which is read afterwards if the connection is kept), and sends no 100.
    #[must_use]
    pub fn before_body(mut self) -> Self {
        self.before_body = true;
        self
    }

    /// Waits before the first byte of the answer; the request has been read by then.
    #[must_use]
    pub fn after(mut self, pause: impl Into<Pause>) -> Self {
        self.pause = Some(pause.into());
        self
    }

    /// Waits once this many bytes of the answer (head included) are out.
    #[must_use]
    pub fn pause_at(mut self, bytes: usize, pause: impl Into<Pause>) -> Self {
        self.pauses_at.push((bytes, pause.into()));
        self.pauses_at.sort_by_key(|(at, _)| *at);
        self
    }

    /// Sends the answer in pieces of this many bytes with a wait between them.
    #[must_use]
    pub fn slow(mut self, piece: usize, pause: impl Into<Pause>) -> Self {
        self.slow = Some((piece.max(1), pause.into()));
        self
    }

    /// Sends only this many bytes of the answer (head included), then ends as [`Reply::end`] says.
    #[must_use]
    pub fn cut_at(mut self, bytes: usize) -> Self {
        self.cut_at = Some(bytes);
        self
    }

    /// How the connection goes on. [`End::Close`] adds no header of its own.
    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// The bytes of the head alone, for [`Reply::cut_at`] and [`Reply::pause_at`].
    #[must_use]
    pub fn head_len(&self) -> usize {
        let image = self.image(false, &[], &[]);
        image.windows(4).position(|window| window == b"\r\n\r\n").map_or(image.len(), |at| at + 4)
    }

    /// The whole answer as bytes, with `extra` header lines; `head_only` for HEAD, `echo` is the request's body.
    pub(super) fn image(&self, head_only: bool, echo: &[u8], extra: &[(String, String)]) -> Vec<u8> {
        let mut headers = self.headers.clone();
        headers.extend_from_slice(extra);
        let mut header = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        let body = match &self.content {
            Content::Raw(bytes) => return bytes.clone(),
            Content::UpgradeEcho(protocol) => {
                header("connection", "upgrade");
                header("upgrade", protocol);
                Vec::new()
            }
            Content::Echo => {
                header("content-length", &echo.len().to_string());
                echo.to_vec()
            }
            Content::Message(Body::Length(body)) => {
                if self.status >= 200 && self.status != 204 && self.status != 304 {
                    header("content-length", &body.len().to_string());
                }
                body.clone()
            }
            Content::Message(Body::Chunked { chunks, trailers }) => {
                header("transfer-encoding", "chunked");
                chunked(chunks, trailers)
            }
            Content::Message(Body::UntilClose(body)) => body.clone(),
        };
        let mut bytes = head(self.status, &headers);
        if !head_only {
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}

/// A status line with a reason and header lines.
pub(super) fn head(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let known = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    let mut text = format!("HTTP/1.1 {status} {}\r\n", known.unwrap_or("Unknown"));
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text.into_bytes()
}

fn chunked(chunks: &[Vec<u8>], trailers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
