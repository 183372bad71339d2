//! A byte stream to a client or a backend, whatever protects it.
//!
//! Owns the socket and counts what went through it. It must never buffer. TLS becomes a second variant of
//! [`Io`], so that nobody else learns of it. Next: `worker.rs`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

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
}

impl Stream {
    /// Wraps a connected socket.
    pub fn plain(socket: TcpStream) -> Self {
        Self { io: Io::Plain(socket), read: 0, written: 0 }
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
#[derive(Debug)]
pub struct Rewind {
    first: Vec<u8>,
    stream: Stream,
}

impl Rewind {
    /// Gives `first`, then what `stream` reads.
    pub fn new(first: Vec<u8>, stream: Stream) -> Self {
        Self { first, stream }
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
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl hyper::rt::Write for Rewind {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}
