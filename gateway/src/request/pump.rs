//! A body on its way from one HTTP/1 stream to another, either direction.
//!
//! Owns back-pressure: nothing is read while the sink has not taken what was read before. Bytes go from the
//! worker's scratch buffer straight to the sink; only what it does not take is kept. It must never look at heads.
//! Next: `h1.rs`.

use super::outbox::Outbox;
use super::replay::Replay;
use super::timer::Timer;
use crate::io::Stream;
use crate::worker::{CAUTIOUS_READ, SCRATCH, Worker};
use http1::{BodyDecoder, CHUNK_END, Framing, write_chunk_head, write_last_chunk};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// How the body is framed at the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it comes: the length is in the head, or there is no body.
    Raw,
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// Which side broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpFailure {
    /// The source ended or failed inside the body.
    SourceEnded,
    /// The source broke the rules of its framing.
    SourceMalformed,
    /// The sink takes no more.
    Sink,
}

/// One body.
pub struct Pump {
    decoder: BodyDecoder,
    encoding: Encoding,
    /// Trailers are passed on instead of dropped.
    pub pass_trailers: bool,
    /// To the sink; the head may be put in before the first poll.
    pub out: Outbox,
    /// Keeps what leaves of a body that may have to be sent again.
    pub replay: Option<Replay>,
    finished: bool,
    cautious: bool,
    /// Body bytes that came from the source.
    pub bytes: u64,
}

impl Pump {
    /// A body that has not begun.
    pub fn new(worker: &Rc<Worker>, framing: Framing, lenient: bool, encoding: Encoding) -> Self {
        let decoder = BodyDecoder::new(framing, lenient);
        let finished = decoder.is_done();
        let mut pump = Self {
            decoder,
            encoding,
            pass_trailers: false,
            out: Outbox::new(worker),
            replay: None,
            finished: false,
            cautious: false,
            bytes: 0,
        };
        if finished && encoding == Encoding::Raw {
            pump.finished = true;
        }
        pump
    }

    /// Whether the source's body has been read to its end.
    pub fn source_done(&self) -> bool {
        self.finished || self.decoder.is_done()
    }

    /// Encodes what has already been read of the body into the outbox, without writing: so that the first bytes
    /// leave together with the head.
    ///
    /// # Errors
    /// [`PumpFailure::SourceMalformed`].
    pub fn take_leftover(&mut self, leftover: &mut Vec<u8>) -> Result<(), PumpFailure> {
        let mut used = 0;
        while !self.decoder.is_done()
            && let Some(rest) = leftover.get(used..)
            && !rest.is_empty()
        {
            let step = self.decoder.decode(rest).map_err(|_| PumpFailure::SourceMalformed)?;
            if step.consumed == 0 {
                break;
            }
            let data = rest.get(step.data.clone()).unwrap_or_default();
            self.note(data);
            encode(self.out.buffer(), self.encoding, data);
            used += step.consumed;
        }
        leftover.drain(..used);
        if self.decoder.is_done() {
            self.finish();
        }
        Ok(())
    }

    /// Moves bytes until the body has ended and the sink has all of it.
    ///
    /// # Errors
    /// [`PumpFailure`].
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        worker: &Worker,
        (source, leftover): (&mut Stream, &mut Vec<u8>),
        sink: &mut Stream,
    ) -> Poll<Result<(), PumpFailure>> {
        loop {
            if !self.out.is_empty() {
                match self.out.poll_flush(cx, sink) {
                    Poll::Ready(Ok(())) => timer.touch(),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(PumpFailure::Sink)),
                    Poll::Pending => {
                        self.cautious = true;
                        return Poll::Pending;
                    }
                }
            }
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if self.decoder.is_done() {
                self.finish();
                continue;
            }
            if !leftover.is_empty() {
                let before = leftover.len();
                self.take_leftover(leftover)?;
                if leftover.len() < before {
                    continue;
                }
            }
            ready!(worker.poll_budget(cx));
            ready!(self.poll_source(cx, worker, (&mut *source, &mut *leftover), sink))?;
            timer.touch();
        }
    }

    /// One read, and the write of what it brought.
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        (source, leftover): (&mut Stream, &mut Vec<u8>),
        sink: &mut Stream,
    ) -> Poll<Result<(), PumpFailure>> {
        let cautious = self.cautious || self.encoding == Encoding::Chunked || !leftover.is_empty();
        let most = if cautious { CAUTIOUS_READ } else { SCRATCH };
        worker.with_scratch(|scratch| {
            let Some(space) = scratch.get_mut(..most) else { return Poll::Pending };
            match ready!(source.poll_read(cx, space)) {
                Err(_) => return Poll::Ready(Err(PumpFailure::SourceEnded)),
                Ok(0) => {
                    let ended = self.decoder.end_of_stream().map_err(|_| PumpFailure::SourceEnded);
                    return Poll::Ready(ended.map(|()| self.finish()));
                }
                Ok(count) => {
                    let read = space.get(..count).unwrap_or_default();
                    if leftover.is_empty() {
                        self.forward(cx, read, leftover, sink)?;
                    } else {
                        // A part of a chunk line was kept: it and what follows are read together.
                        leftover.extend_from_slice(read);
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    fn forward(
        &mut self,
        cx: &mut Context<'_>,
        mut read: &[u8],
        leftover: &mut Vec<u8>,
        sink: &mut Stream,
    ) -> Result<(), PumpFailure> {
        while !self.decoder.is_done() && !read.is_empty() {
            let step = self.decoder.decode(read).map_err(|_| PumpFailure::SourceMalformed)?;
            if step.consumed == 0 {
                break;
            }
            let data = read.get(step.data.clone()).unwrap_or_default();
            self.note(data);
            let sent = self.send(cx, data, sink);
            read = read.get(step.consumed..).unwrap_or_default();
            if let Err(failure) = sent {
                // The request may go elsewhere; what follows it is the client's next one all the same.
                leftover.extend_from_slice(read);
                return Err(failure);
            }
        }
        // The beginning of a pipelined request, or of a chunk line that is not whole.
        leftover.extend_from_slice(read);
        if self.decoder.is_done() {
            self.finish();
        }
        Ok(())
    }

    fn note(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        if let Some(replay) = &mut self.replay {
            replay.keep(data);
        }
    }

    /// Writes at once what can be written; the rest is kept.
    fn send(&mut self, cx: &mut Context<'_>, data: &[u8], sink: &mut Stream) -> Result<(), PumpFailure> {
        if self.encoding == Encoding::Chunked || !self.out.is_empty() {
            encode(self.out.buffer(), self.encoding, data);
            return Ok(());
        }
        let mut rest = data;
        while !rest.is_empty() {
            match sink.poll_write(cx, rest) {
                Poll::Ready(Ok(count)) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                Poll::Ready(_) => return Err(PumpFailure::Sink),
                Poll::Pending => {
                    self.cautious = true;
                    self.out.buffer().extend_from_slice(rest);
                    return Ok(());
                }
            }
        }
        self.cautious = false;
        Ok(())
    }

    fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        if self.encoding == Encoding::Chunked {
            let trailers = if self.pass_trailers { self.decoder.trailers() } else { None };
            write_last_chunk(self.out.buffer(), trailers.map(|fields| &*fields));
        }
    }
}

fn encode(out: &mut Vec<u8>, encoding: Encoding, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    match encoding {
        Encoding::Raw => out.extend_from_slice(data),
        Encoding::Chunked => {
            write_chunk_head(out, data.len());
            out.extend_from_slice(data);
            out.extend_from_slice(CHUNK_END);
        }
    }
}
