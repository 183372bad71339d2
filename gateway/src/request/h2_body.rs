//! Bodies between an HTTP/2 client and an HTTP/1 upstream.
//!
//! Owns back-pressure on this path: hyper asks for a frame when the client has room, and only then is the upstream
//! read. It must never look at heads. Next: `../listener.rs`.

use super::attempt::{Downstream, SendFailure};
use super::outbox::Outbox;
use super::pump::Encoding;
use super::record::Record;
use super::timer::{Expired, Timer};
use crate::io::Stream;
use crate::response_flags::ResponseFlags;
use crate::stats::names::HttpStat;
use crate::upstream::UpstreamConnection;
use crate::worker::{CAUTIOUS_READ, Worker};
use bytes::Bytes;
use http1::{BodyDecoder, CHUNK_END, Fields, Framing, write_chunk_head, write_last_chunk};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use hyper::body::Incoming;

/// The request body of an HTTP/2 client, on its way upstream.
pub struct Source {
    worker: Rc<Worker>,
    body: Incoming,
    framing: Framing,
    encoding: Encoding,
    out: Outbox,
    ended: bool,
    trailers: bool,
    bytes: u64,
}

impl Source {
    /// A body that has not begun.
    pub fn new(worker: &Rc<Worker>, body: Incoming, framing: Framing, trailers: bool) -> Self {
        let encoding = if framing == Framing::Chunked { Encoding::Chunked } else { Encoding::Raw };
        let ended = framing == Framing::None;
        let (worker, out) = (Rc::clone(worker), Outbox::new(worker));
        Self { worker, body, framing, encoding, out, ended, trailers, bytes: 0 }
    }

    /// Body bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                self.bytes += data.len() as u64;
                if self.encoding == Encoding::Chunked {
                    write_chunk_head(self.out.buffer(), data.len());
                }
                self.out.buffer().extend_from_slice(&data);
                if self.encoding == Encoding::Chunked {
                    self.out.buffer().extend_from_slice(CHUNK_END);
                }
            }
            Err(frame) => {
                if let Ok(map) = frame.into_trailers()
                    && self.trailers
                {
                    let mut fields = Fields::default();
                    let passed = map.iter().filter(|(name, _)| http1::may_be_trailer(name.as_str()));
                    passed.for_each(|(name, value)| fields.push(name.as_str(), value.as_bytes()));
                    self.end(Some(&fields));
                }
            }
        }
    }

    fn end(&mut self, trailers: Option<&Fields>) {
        if !self.ended && self.encoding == Encoding::Chunked {
            write_last_chunk(self.out.buffer(), trailers);
        }
        self.ended = true;
    }
}

impl Downstream for Source {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        to: &mut Stream,
    ) -> Poll<Result<(), SendFailure>> {
        loop {
            if !self.out.is_empty() {
                ready!(self.out.poll_flush(cx, to)).map_err(|_| SendFailure::Upstream)?;
                timer.touch();
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.worker.poll_budget(cx));
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.take(frame),
                Some(Err(_)) => return Poll::Ready(Err(SendFailure::ClientGone)),
                None => self.end(None),
            }
        }
    }

    /// hyper drops the whole request when its stream is reset.
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn restart(&mut self) -> &mut Outbox {
        self.out.clear();
        &mut self.out
    }

    fn repeatable(&self) -> bool {
        matches!(self.framing, Framing::None | Framing::Length(0))
    }
}

/// What hyper asks for frames.
pub enum Outgoing {
    /// The gateway's own words.
    Local(Option<Bytes>),
    /// An upstream's answer.
    Upstream(Box<Relay>),
}

/// An answer on its way from an HTTP/1 upstream.
pub struct Relay {
    record: Record,
    connection: Option<UpstreamConnection>,
    decoder: BodyDecoder,
    reuse: Option<Duration>,
    source: Source,
    request_sent: bool,
    abandoned: bool,
    timer: Timer,
    finished: bool,
}

impl Outgoing {
    /// A reply made here; the record ends with the call.
    pub fn local(record: Record, body: &'static str) -> Self {
        drop(record);
        Self::Local((!body.is_empty()).then(|| Bytes::from_static(body.as_bytes())))
    }

    /// The answer that comes over `connection`.
    pub fn upstream(
        record: Record,
        connection: UpstreamConnection,
        (framing, reuse): (Framing, Option<Duration>),
        (source, request_sent): (Source, bool),
        timer: Timer,
    ) -> Self {
        let decoder = BodyDecoder::new(framing, false);
        let mut relay = Relay {
            record,
            connection: Some(connection),
            decoder,
            reuse,
            source,
            request_sent,
            abandoned: false,
            timer,
            finished: false,
        };
        if relay.decoder.is_done() {
            relay.finish();
        }
        Self::Upstream(Box::new(relay))
    }
}

impl Relay {
    fn finish(&mut self) {
        self.finished = true;
        let Some(mut connection) = self.connection.take() else { return };
        connection.busy = false;
        connection.count_bytes();
        let worker = &self.record.worker;
        if connection.leftover.is_empty() {
            worker.give_buffer(std::mem::take(&mut connection.leftover));
        }
        if let Some(reuse) = self.reuse.filter(|_| self.request_sent) {
            worker.pools.checkin(connection, reuse);
        }
    }

    fn fail(&mut self, flag: ResponseFlags) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.record.flags.insert(flag);
        self.record.count(HttpStat::DownstreamRqTxReset);
        self.finished = true;
        self.connection = None;
        Poll::Ready(Some(Err(Cut)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.poll_request(cx);
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match decode(&mut self.decoder, &mut connection.leftover) {
                Err(()) => return self.fail(ResponseFlags::UPSTREAM_PROTOCOL_ERROR),
                Ok(Some(data)) => {
                    self.record.sent += data.len() as u64;
                    self.timer.touch();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(None) => {}
            }
            if self.decoder.is_done() {
                self.finish();
                return self.trailers();
            }
            let worker = Rc::clone(&self.record.worker);
            match read(cx, &worker, connection) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(ended) => {
                    if ended.is_err() || self.decoder.end_of_stream().is_err() {
                        return self.fail(ResponseFlags::UPSTREAM_PROTOCOL_ERROR);
                    }
                }
                Poll::Pending => {
                    return match ready!(self.timer.poll(cx)) {
                        Expired::Whole => self.fail(ResponseFlags::UPSTREAM_TIMEOUT),
                        Expired::Idle => self.fail(ResponseFlags::STREAM_IDLE_TIMEOUT),
                    };
                }
            }
        }
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if self.request_sent || self.abandoned {
            return;
        }
        match self.source.poll_send(cx, &mut self.timer, &mut connection.stream) {
            Poll::Ready(Ok(())) => self.request_sent = true,
            // The upstream wants no more of it; its answer goes on.
            Poll::Ready(Err(_)) => self.abandoned = true,
            Poll::Pending => {}
        }
        self.record.received = self.source.bytes();
    }

    fn trailers(&mut self) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let pass = self.source.trailers;
        let Some(fields) = self.decoder.trailers().filter(|fields| pass && !fields.is_empty()) else {
            return Poll::Ready(None);
        };
        let mut map = http::HeaderMap::new();
        for (name, value) in fields.iter() {
            if let (Ok(name), Ok(value)) =
                (http::HeaderName::from_bytes(name.as_bytes()), http::HeaderValue::from_bytes(value))
            {
                map.append(name, value);
            }
        }
        Poll::Ready(Some(Ok(Frame::trailers(map))))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.finished {
            self.record.flags.insert(ResponseFlags::DOWNSTREAM_RESET);
            self.record.count(HttpStat::DownstreamRqRxReset);
        }
    }
}

fn read(
    cx: &mut Context<'_>,
    worker: &Worker,
    connection: &mut UpstreamConnection,
) -> Poll<std::io::Result<usize>> {
    worker.with_scratch(|scratch| {
        let Some(space) = scratch.get_mut(..CAUTIOUS_READ) else { return Poll::Pending };
        let read = ready!(connection.stream.poll_read(cx, space));
        if let Ok(count) = read {
            connection.leftover.extend_from_slice(space.get(..count).unwrap_or_default());
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
            Self::Local(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(body) => body.is_none(),
            Self::Upstream(relay) => relay.finished && relay.connection.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream(relay) => {
                relay.decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
