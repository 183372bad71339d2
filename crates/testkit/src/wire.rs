//! Reading HTTP/1.1 off a socket byte by byte, as the raw client and the scripted upstream both need it.
//!
//! Keeps every byte it consumed, repairs nothing, and knows nothing of what a message means. It is written from the grammar of
//! RFC 9112 and shares no code with the gateway, so that the two can disagree. Read `upstream` or `client` next.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Heads beyond this are an error: far above any limit a gateway under test has, small enough to stop a runaway.
pub const MAX_HEAD: usize = 1 << 20;
/// Kept bytes of one message's raw image; longer messages are counted but not kept, so that a test may stream gigabytes.
pub const MAX_KEPT: usize = 8 << 20;
const READ: usize = 64 << 10;

/// How long a body is, by RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Everything until the peer closes.
    UntilClose,
}

/// The first line and the header lines of a message, in order and unrepaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Request line or status line, without its line end.
    pub first_line: String,
    /// Names (as spelled) and values (without surrounding blanks). A line without a colon has an empty value.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Splits the bytes of a head; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let first_line = lines.next().unwrap_or_default().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
        };
        let headers = lines.filter(|line| !line.is_empty()).map(header).collect();
        Self { first_line, headers }
    }

    /// The first value of a header, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of a header in order, whatever its case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// True if a comma-separated header holds the token.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// The framing that the header fields ask for; `otherwise` when they say nothing.
    #[must_use]
    pub fn framing(&self, otherwise: Framing) -> Framing {
        if self.has_token("transfer-encoding", "chunked") {
            return Framing::Chunked;
        }
        match self.get("content-length").and_then(|value| value.parse().ok()) {
            Some(length) => Framing::Length(length),
            None => otherwise,
        }
    }
}

/// A TCP stream with what has been read ahead and what has been consumed.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: TcpStream,
    ahead: Vec<u8>,
    kept: Vec<u8>,
}

impl Wire {
    /// Wraps a connected stream.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        // Odd pieces must leave as they were written.
        let _best_effort = stream.set_nodelay(true);
        Self { stream, ahead: Vec::new(), kept: Vec::new() }
    }

    /// The bytes consumed since the last call, at most [`MAX_KEPT`].
    pub fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// Read from the socket, but not consumed yet.
    #[must_use]
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads once more; 0 at the end of the stream.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn fill(&mut self) -> Result<usize> {
        let before = self.ahead.len();
        self.ahead.reserve(READ);
        self.stream.read_buf(&mut self.ahead).await?;
        Ok(self.ahead.len() - before)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    fn consume(&mut self, count: usize) -> Vec<u8> {
        let rest = self.ahead.split_off(count.min(self.ahead.len()));
        let taken = std::mem::replace(&mut self.ahead, rest);
        if self.kept.len() + taken.len() <= MAX_KEPT {
            self.kept.extend_from_slice(&taken);
        }
        taken
    }

    /// Everything up to and including `end`; None if the stream ends before its first byte.
    async fn until(&mut self, end: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut from = 0;
        loop {
            let fresh = self.ahead.get(from..).unwrap_or_default();
            if let Some(at) = fresh.windows(end.len()).position(|window| window == end) {
                return Ok(Some(self.consume(from + at + end.len())));
            }
            if self.ahead.len() > MAX_HEAD {
                return Err(Error::new(ErrorKind::InvalidData, "the head does not end"));
            }
            from = self.ahead.len().saturating_sub(end.len() - 1);
            if self.fill().await? == 0 {
                let cut = || Error::new(ErrorKind::UnexpectedEof, "the stream ended inside a head");
                return if self.ahead.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// The next head with its empty line; None if the peer closed before it began.
    ///
    /// # Errors
    /// What the socket says; `UnexpectedEof` inside the head; `InvalidData` beyond [`MAX_HEAD`].
    pub async fn head(&mut self) -> Result<Option<Vec<u8>>> {
        self.until(b"\r\n\r\n").await
    }

    async fn line(&mut self) -> Result<String> {
        let line = self.until(b"\r\n").await?.ok_or(ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn pass(&mut self, mut count: u64, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        while count > 0 {
            if self.ahead.is_empty() && self.fill().await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the stream ended inside a body"));
            }
            let take = usize::try_from(count).unwrap_or(usize::MAX).min(self.ahead.len());
            sink(&self.consume(take));
            count -= take as u64;
        }
        Ok(())
    }

    /// Reads a body, giving each decoded piece to `sink` as it comes, and returns the trailers.
    ///
    /// # Errors
    /// What the socket says; `UnexpectedEof` when the body is cut; `InvalidData` for a chunk size that is none.
    pub async fn body(
        &mut self,
        framing: Framing,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Vec<(String, String)>> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.pass(length, sink).await?,
            Framing::Chunked => return self.chunks(sink).await,
            Framing::UntilClose => {
                while !self.ahead.is_empty() || self.fill().await? > 0 {
                    sink(&self.consume(usize::MAX));
                }
            }
        }
        Ok(Vec::new())
    }

    async fn chunks(&mut self, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Vec<(String, String)>> {
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16)
                .map_err(|_| Error::new(ErrorKind::InvalidData, format!("not a chunk size: {line:?}")))?;
            if size == 0 {
                break;
            }
            self.pass(size, sink).await?;
            if !self.line().await?.is_empty() {
                return Err(Error::new(ErrorKind::InvalidData, "bytes after a chunk"));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.extend(Head::parse(format!("\n{line}").as_bytes()).headers);
        }
    }

    /// Reads and drops until the peer closes or resets.
    pub async fn drain(&mut self) {
        loop {
            self.ahead.clear();
            if !matches!(self.fill().await, Ok(1..)) {
                return;
            }
        }
    }

    /// Resolves when the peer closes or resets; what it sends before is kept for the next reader. Beyond 256 KiB of that it stops
    /// reading (a peer under back-pressure must feel it) and so never resolves.
    pub async fn closed(&mut self) {
        while self.ahead.len() < 4 * READ {
            if !matches!(self.fill().await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }
}
