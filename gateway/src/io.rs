//! A byte stream to a client or a backend, whatever protects it.
//!
//! Owns the socket, its options and how it is opened, and counts what went through it. It must never buffer. TLS
//! becomes a second variant of [`Io`], so that nobody else learns of it. Next: `worker.rs`.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A peer that acknowledges nothing for so long is gone (RFC 5482); without it a black hole holds a request for
/// 15 minutes of retransmissions.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// First keep-alive probe on an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Refused, unreachable.
    Failed,
    /// This machine could not: out of descriptors, ports or memory. It says nothing about the peer.
    Local,
    /// Not within `connect_timeout`.
    TimedOut,
}

/// Options of a connection that the gateway opened. Failures are ignored: a socket without them still works.
pub fn set_options(socket: &TcpStream) {
    set_client_options(socket);
    let _ = SockRef::from(socket).set_tcp_user_timeout(Some(USER_TIMEOUT));
}

/// Options of a connection that a client opened. The kernel's user timeout is not among them: Linux counts a closed
/// window as silence, and a client may stop reading for longer; the stream idle time is the limit there.
pub fn set_client_options(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
}

/// Connects within the time limit.
///
/// # Errors
/// [`ConnectFailure`].
pub async fn dial(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectFailure> {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => {
            set_options(&socket);
            Ok(socket)
        }
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err(ConnectFailure::TimedOut),
    }
}

fn reason(error: &io::Error) -> ConnectFailure {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    match error.kind() {
        TimedOut => ConnectFailure::TimedOut,
        ConnectionRefused | ConnectionReset | ConnectionAborted | HostUnreachable | NetworkUnreachable => {
            ConnectFailure::Failed
        }
        _ => ConnectFailure::Local,
    }
}

/// A connected stream.
#[derive(Debug)]
pub enum Io {
    /// TCP in the clear.
    Plain(TcpStream),
}

/// A stream and the bytes that went through it since they were last taken.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    read: u64,
    written: u64,
    patient: bool,
}

impl Stream {
    /// Wraps a connected socket.
    pub fn plain(socket: TcpStream) -> Self {
        Self { io: Io::Plain(socket), read: 0, written: 0, patient: false }
    }

    /// Whether the peer may stop reading for longer than the kernel's user timeout: one that is sent a body may be
    /// busy with it, one that is sent a head only never is.
    pub fn set_patient(&mut self, patient: bool) {
        if self.patient != patient {
            self.patient = patient;
            let Io::Plain(socket) = &self.io;
            let _ = SockRef::from(socket).set_tcp_user_timeout((!patient).then_some(USER_TIMEOUT));
        }
    }

    /// Bytes read and written since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.read), std::mem::take(&mut self.written))
    }

    /// Reads into `buffer`; 0 = the peer has finished. Registers for a wake-up when there is nothing.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(buffer);
        let Io::Plain(socket) = &mut self.io;
        match Pin::new(socket).poll_read(cx, &mut target) {
            Poll::Ready(Ok(())) => {
                let count = target.filled().len();
                self.read += count as u64;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Registers for a wake-up when bytes, an end or an error arrive; `Ready` when something may be there.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Io::Plain(socket) = &mut self.io;
        socket.poll_read_ready(cx).map(|_| ())
    }

    /// Writes what fits.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Io::Plain(socket) = &mut self.io;
        let result = Pin::new(socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &result {
            self.written += *count as u64;
        }
        result
    }

    /// Ends the writing half.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Io::Plain(socket) = &mut self.io;
        Pin::new(socket).poll_shutdown(cx)
    }
}

/// A stream whose first bytes were already read, as hyper reads it.
pub struct Rewind {
    first: Vec<u8>,
    stream: Stream,
    count: Box<dyn Fn(u64, u64)>,
}

impl Rewind {
    /// Gives `first`, then what `stream` reads. `count` is told of bytes read and written.
    pub fn new(first: Vec<u8>, stream: Stream, count: impl Fn(u64, u64) + 'static) -> Self {
        Self { first, stream, count: Box::new(count) }
    }

    fn tell(&mut self) {
        let (read, written) = self.stream.take_counts();
        (self.count)(read, written);
    }
}

impl hyper::rt::Read for Rewind {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut target: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(target.remaining());
            let rest = self.first.split_off(count);
            let now = std::mem::replace(&mut self.first, rest);
            target.put_slice(&now);
            return Poll::Ready(Ok(()));
        }
        // hyper's cursor is uninitialised memory; a bounded buffer on the stack keeps this crate free of unsafe.
        let mut bytes = [0u8; 16 * 1024];
        let limit = bytes.len().min(target.remaining());
        let part = bytes.get_mut(..limit).unwrap_or_default();
        match self.stream.poll_read(cx, part) {
            Poll::Ready(Ok(count)) => {
                target.put_slice(part.get(..count).unwrap_or_default());
                self.tell();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl hyper::rt::Write for Rewind {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream.poll_write(cx, bytes);
        self.tell();
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn user_timeout(socket: &TcpStream) -> Option<Duration> {
        SockRef::from(socket).tcp_user_timeout().expect("an option")
    }

    #[tokio::test]
    async fn silence_ends_a_backend_that_was_sent_a_head_and_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let backend = dial(address, Duration::from_secs(10)).await.expect("connected");
        assert_eq!(user_timeout(&backend), Some(USER_TIMEOUT));
        let (client, _) = listener.accept().await.expect("accepted");
        set_client_options(&client);
        assert_eq!(user_timeout(&client), None);
        let mut stream = Stream::plain(backend);
        for (patient, wanted) in [(true, None), (true, None), (false, Some(USER_TIMEOUT))] {
            stream.set_patient(patient);
            let Io::Plain(socket) = &stream.io;
            assert_eq!(user_timeout(socket), wanted);
        }
    }
}
