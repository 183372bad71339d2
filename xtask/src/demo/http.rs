//! The few HTTP/1.1 words that the demo says itself: one request to the parts' own ports, and a client that keeps
//! its connection for the demo's traffic.
//!
//! Owns no product code; it must never be used by a part of Weir. Next: `traffic.rs`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// No answer of the demo takes longer, not even one that the gateway has retried.
const PATIENCE: Duration = Duration::from_secs(20);
/// The parts answer with a few hundred bytes; the statistics with some ten thousand.
const LARGEST_ANSWER: usize = 4 << 20;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body as text.
    pub body: String,
}

/// One request on a connection of its own to a port of this machine. Without a body it is a GET, else a POST of JSON.
pub fn ask(port: u16, target: &str, json: Option<&str>) -> Result<Answer> {
    let mut client = Client::new(port);
    let head = match json {
        None => format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"),
        Some(body) => format!(
            "POST {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    };
    client.send(&head)
}

/// A client with one connection that it keeps while it can.
pub struct Client {
    address: SocketAddr,
    connection: Option<TcpStream>,
}

impl Client {
    /// Not connected yet.
    pub fn new(port: u16) -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), connection: None }
    }

    /// `GET /` with keep-alive.
    pub fn get_root(&mut self) -> Result<Answer> {
        let host = self.address;
        self.send(&format!("GET / HTTP/1.1\r\nhost: {host}\r\nuser-agent: weir-demo\r\n\r\n"))
    }

    fn send(&mut self, request: &str) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.address)?,
        };
        connection.write_all(request.as_bytes())?;
        let (answer, reusable) = read_answer(&mut connection)?;
        if reusable {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("no connection to {address}"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// How the end of a body is known.
enum Length {
    Bytes(usize),
    Chunks,
    Close,
}

/// Reads one answer; the second value says whether the connection may be used again.
fn read_answer(connection: &mut impl Read) -> Result<(Answer, bool)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        ensure!(
            read_more(connection, &mut bytes)? > 0,
            "the connection was closed before an answer was whole"
        );
    };
    let rest = bytes.split_off(head_end).split_off(4);
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.split_once(':').filter(|(key, _)| *key == name))
            .map(|(_, value)| value.trim())
    };
    let length = match (field("transfer-encoding"), field("content-length")) {
        (Some("chunked"), _) => Length::Chunks,
        (_, Some(length)) => Length::Bytes(length.parse().context("content-length is not a number")?),
        _ => Length::Close,
    };
    let reusable = field("connection") != Some("close") && !matches!(length, Length::Close);
    let body = read_body(connection, rest, &length)?;
    Ok((Answer { status, body: String::from_utf8_lossy(&body).into_owned() }, reusable))
}

fn read_more(connection: &mut impl Read, bytes: &mut Vec<u8>) -> Result<usize> {
    ensure!(bytes.len() < LARGEST_ANSWER, "an answer of more than {LARGEST_ANSWER} bytes");
    let mut buffer = [0; 16 * 1024];
    let count = connection.read(&mut buffer)?;
    bytes.extend(buffer.iter().take(count));
    Ok(count)
}

fn read_body(connection: &mut impl Read, mut bytes: Vec<u8>, length: &Length) -> Result<Vec<u8>> {
    loop {
        match length {
            Length::Bytes(wanted) if bytes.len() >= *wanted => {
                bytes.truncate(*wanted);
                return Ok(bytes);
            }
            Length::Chunks => {
                if let Some(body) = unchunk(&bytes)? {
                    return Ok(body);
                }
            }
            _ => {}
        }
        if read_more(connection, &mut bytes)? == 0 {
            if matches!(length, Length::Close) {
                return Ok(bytes);
            }
            bail!("the connection was closed in the middle of a body");
        }
    }
}

/// The body of whole chunks, or `None` while the last one has not come.
fn unchunk(mut bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let (line, rest) = bytes.split_at(line_end);
        let size = usize::from_str_radix(&String::from_utf8_lossy(line), 16)
            .context("a chunk size is not a number")?;
        ensure!(size <= LARGEST_ANSWER, "a chunk of {size} bytes");
        let Some((data, after)) = rest.split_at_checked(2).and_then(|(_, data)| data.split_at_checked(size))
        else {
            return Ok(None);
        };
        let Some(next) = after.strip_prefix(b"\r\n") else { return Ok(None) };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend(data);
        bytes = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, then the end.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let mut one = self.0.get(..1).unwrap_or_default();
            self.0 = self.0.get(1..).unwrap_or_default();
            one.read(buffer)
        }
    }

    #[test]
    fn a_body_with_a_length_leaves_the_connection_usable() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let (answer, reusable) = read_answer(&mut Slow(text)).unwrap();
        assert_eq!((answer.status, answer.body.as_str(), reusable), (200, "hello", true));
    }

    #[test]
    fn chunks_are_joined() {
        let text = b"HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let (answer, reusable) = read_answer(&mut Slow(text)).unwrap();
        assert_eq!((answer.status, answer.body.as_str(), reusable), (503, "abcde", false));
    }

    #[test]
    fn a_body_may_end_with_the_connection_only_without_a_length() {
        let (answer, reusable) = read_answer(&mut Slow(b"HTTP/1.1 200 OK\r\n\r\nall")).unwrap();
        assert_eq!((answer.body.as_str(), reusable), ("all", false));
        assert!(read_answer(&mut Slow(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nall")).is_err());
        assert!(read_answer(&mut Slow(b"HTTP/1.1 200 OK\r\ncontent")).is_err());
    }
}
