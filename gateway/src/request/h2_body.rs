//! The answer of an HTTP/1 upstream on its way to an HTTP/2 client.
//!
//! Owns back-pressure on this path: hyper asks for a frame when the client has room, and only then is the upstream
//! read. What must go on while the client has no room (the rest of the request, the time limits) is moved by a task
//! of its own, the driver. It must never look at heads. Next: `../listener.rs`.

use super::attempt::Downstream;
use super::h2_source::Source;
use super::record::Record;
use super::timer::{Expired, Timer};
use crate::io::Stream;
use crate::response_flags::ResponseFlags;
use crate::stats::names::HttpStat;
use crate::upstream::UpstreamConnection;
use crate::worker::{CAUTIOUS_READ, Worker};
use bytes::Bytes;
use http1::{BodyDecoder, Framing};
use hyper::body::{Body, Frame, SizeHint};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// What hyper asks for frames.
pub enum Outgoing {
    /// All of it is here.
    Whole(Option<Bytes>),
    /// More comes from an upstream.
    Upstream(Rc<RefCell<Relay>>),
}

/// An answer on its way from an HTTP/1 upstream.
pub struct Relay {
    /// Gone when the request is counted.
    record: Option<Record>,
    /// Gone when the answer has been read.
    connection: Option<UpstreamConnection>,
    decoder: BodyDecoder,
    reuse: Option<Duration>,
    source: Source,
    sending: Sending,
    timer: Timer,
    /// The stream is to be reset.
    cut: bool,
    /// hyper's task, waiting for the upstream.
    reader: Waker,
    driver: Waker,
}

/// How far the request has got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    On,
    Sent,
    /// The upstream wants no more of it; its answer goes on.
    Abandoned,
}

impl Outgoing {
    /// A reply made here; the record ends with the call.
    pub fn local(record: Record, body: &'static str) -> Self {
        drop(record);
        Self::Whole((!body.is_empty()).then(|| Bytes::from_static(body.as_bytes())))
    }

    /// The answer that comes over `connection`.
    pub fn upstream(
        mut record: Record,
        connection: UpstreamConnection,
        (framing, reuse): (Framing, Option<Duration>),
        (source, request_sent): (Source, bool),
        timer: Timer,
    ) -> Self {
        record.received = source.bytes();
        let mut relay = Relay {
            record: Some(record),
            connection: Some(connection),
            decoder: BodyDecoder::new(framing, false),
            reuse,
            source,
            sending: if request_sent { Sending::Sent } else { Sending::On },
            timer,
            cut: false,
            reader: Waker::noop().clone(),
            driver: Waker::noop().clone(),
        };
        relay.source.answered();
        if relay.decoder.is_done() {
            relay.finish();
            return Self::Whole(None);
        }
        // A short answer has come with its head: then nothing is left to wait for.
        if let Some(length) = relay.is_here() {
            let data = relay.next_piece().ok().flatten();
            if relay.decoder.is_done() {
                relay.count(length);
                relay.finish();
                return Self::Whole(data);
            }
        }
        let relay = Rc::new(RefCell::new(relay));
        tokio::task::spawn_local(drive(Rc::downgrade(&relay)));
        Self::Upstream(relay)
    }
}

/// Moves the rest of the request and watches the time while hyper waits for the client.
async fn drive(relay: Weak<RefCell<Relay>>) {
    poll_fn(|cx| match relay.upgrade() {
        Some(relay) => relay.borrow_mut().drive(cx),
        None => Poll::Ready(()),
    })
    .await;
}

impl Relay {
    /// The length of a body of which every byte has been read.
    fn is_here(&self) -> Option<u64> {
        let read = self.connection.as_ref()?.leftover.len() as u64;
        self.decoder.remaining().filter(|length| self.sending == Sending::Sent && *length <= read)
    }

    fn count(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.sent += bytes;
        }
    }

    /// The answer is complete: the connection may be used again, the request is counted.
    fn finish(&mut self) {
        let (Some(mut connection), Some(record)) = (self.connection.take(), self.record.take()) else {
            return;
        };
        connection.busy = false;
        connection.count_bytes();
        if connection.leftover.is_empty() {
            record.worker.give_buffer(std::mem::take(&mut connection.leftover));
        }
        if let Some(reuse) = self.reuse.filter(|_| self.sending == Sending::Sent) {
            record.worker.pools.checkin(connection, reuse);
        }
    }

    fn fail(&mut self, flag: ResponseFlags) {
        if let Some(mut record) = self.record.take() {
            record.flags.insert(flag);
            record.count(if flag == ResponseFlags::DOWNSTREAM_RESET {
                HttpStat::DownstreamRqRxReset
            } else {
                HttpStat::DownstreamRqTxReset
            });
        }
        self.connection = None;
        self.cut = true;
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.driver.clone_from(cx.waker());
        let Some(connection) = &mut self.connection else { return Poll::Ready(()) };
        if self.sending == Sending::On {
            match self.source.poll_send(cx, &mut self.timer, &mut connection.stream) {
                Poll::Ready(Ok(())) => {
                    self.sending = Sending::Sent;
                    self.timer.request_complete();
                }
                Poll::Ready(Err(_)) => self.sending = Sending::Abandoned,
                Poll::Pending => {}
            }
            if let Some(record) = &mut self.record {
                record.received = self.source.bytes();
            }
        }
        let flag = match ready!(self.timer.poll(cx)) {
            Expired::Whole | Expired::Try => ResponseFlags::UPSTREAM_TIMEOUT,
            Expired::Idle => ResponseFlags::STREAM_IDLE_TIMEOUT,
        };
        self.fail(flag);
        self.reader.wake_by_ref();
        Poll::Ready(())
    }

    fn next_piece(&mut self) -> Result<Option<Bytes>, ()> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        decode(&mut self.decoder, &mut connection.leftover)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if std::mem::take(&mut self.cut) {
                return Poll::Ready(Some(Err(Cut)));
            }
            match self.next_piece() {
                Err(()) => {
                    self.fail(ResponseFlags::UPSTREAM_PROTOCOL_ERROR);
                    continue;
                }
                Ok(Some(data)) => {
                    self.count(data.len() as u64);
                    self.timer.touch();
                    if self.decoder.is_done() && self.trailer_fields().is_none() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(None) => {}
            }
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            if self.decoder.is_done() {
                let trailers = self.trailer_fields();
                self.finish();
                return Poll::Ready(trailers.map(|map| Ok(Frame::trailers(map))));
            }
            let Some(record) = &self.record else { return Poll::Ready(None) };
            match read(cx, &record.worker, &mut connection.stream, &mut connection.leftover) {
                Poll::Ready(Ok(count)) if count > 0 => self.timer.touch(),
                Poll::Ready(ended) => {
                    if ended.is_err() || self.decoder.end_of_stream().is_err() {
                        self.fail(ResponseFlags::UPSTREAM_PROTOCOL_ERROR);
                    }
                }
                Poll::Pending => {
                    self.reader.clone_from(cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    fn trailer_fields(&mut self) -> Option<http::HeaderMap> {
        let pass = self.source.trailers;
        let fields = self.decoder.trailers().filter(|fields| pass && !fields.is_empty())?;
        let mut map = http::HeaderMap::new();
        for (name, value) in fields.iter() {
            if let (Ok(name), Ok(value)) =
                (http::HeaderName::from_bytes(name.as_bytes()), http::HeaderValue::from_bytes(value))
            {
                map.append(name, value);
            }
        }
        Some(map)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.connection.is_some() {
            self.fail(ResponseFlags::DOWNSTREAM_RESET);
        }
        self.driver.wake_by_ref();
    }
}

fn read(
    cx: &mut Context<'_>,
    worker: &Worker,
    stream: &mut Stream,
    leftover: &mut Vec<u8>,
) -> Poll<std::io::Result<usize>> {
    worker.with_scratch(|scratch| {
        let Some(space) = scratch.get_mut(..CAUTIOUS_READ) else { return Poll::Pending };
        let read = ready!(stream.poll_read(cx, space));
        if let Ok(count) = read {
            leftover.extend_from_slice(space.get(..count).unwrap_or_default());
        }
        Poll::Ready(read)
    })
}

/// The next piece of the body, if a whole one is there.
fn decode(decoder: &mut BodyDecoder, leftover: &mut Vec<u8>) -> Result<Option<Bytes>, ()> {
    let mut used = 0;
    let mut found = None;
    while !decoder.is_done()
        && found.is_none()
        && let Some(rest) = leftover.get(used..)
        && !rest.is_empty()
    {
        let step = decoder.decode(rest).map_err(|_| ())?;
        let data = rest.get(step.data.clone()).unwrap_or_default();
        if !data.is_empty() {
            found = Some(Bytes::copy_from_slice(data));
        }
        used += step.consumed;
        if step.consumed == 0 {
            break;
        }
    }
    leftover.drain(..used);
    Ok(found)
}

/// The stream is reset: the answer could not be completed.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer was cut short")]
pub struct Cut;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(relay) => relay.borrow_mut().poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Upstream(relay) => {
                let relay = relay.borrow();
                relay.connection.is_none() && !relay.cut
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream(relay) => {
                relay.borrow().decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
