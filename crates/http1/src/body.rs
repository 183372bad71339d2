//! From bytes to a message body, whatever its framing.
//!
//! Owns: the chunked coding's state machine (RFC 9112 section 7.1). It reads byte by byte outside of the data, keeps
//! nothing but a few counters, and so gives the same result however the input is split. Data are never copied: a step
//! names a range of its input. Must never: take a chunk size from a library (`httparse` takes an empty line for the
//! last chunk and a bare LF inside an extension). Read next: `trailers.rs`.

use std::ops::Range;

use crate::error::BodyError;
use crate::fields::Fields;
use crate::framing::Framing;
use crate::tokens::is_value_byte;
use crate::trailers::Trailers;

/// The longest line of a chunk's size and extensions, its CR LF included. Sizes are at most 16 digits and extensions
/// mean nothing to anybody; without a bound they would be a body that no body limit sees.
pub const MAX_CHUNK_LINE_BYTES: usize = 4096;

/// What one call of [`BodyDecoder::decode`] found at the front of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How many bytes of the input are done with.
    pub consumed: usize,
    /// Where in `input[..consumed]` body data stand; maybe empty.
    pub data: Range<usize>,
    /// The body is complete; what follows in the input belongs to the next message.
    pub done: bool,
}

/// Decodes one message body from bytes as they arrive.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    lenient: bool,
    trailers: Option<Box<Trailers>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Chunk(Chunk),
    Done,
    Failed(BodyError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In the size; `digits` says whether there was one.
    Size { size: u64, digits: bool, line: usize },
    /// In the blanks after the size.
    Blanks { size: u64, line: usize },
    /// In the extensions.
    Extension { size: u64, line: usize },
    /// After the CR of the size line.
    SizeLf { size: u64 },
    /// This much data of the chunk is to come.
    Data(u64),
    /// After the data.
    DataCr,
    /// Lenient only: in what follows the data and should not be there.
    Garbage { line: usize, cr: bool },
    /// After the CR that follows the data.
    DataLf,
    /// After the last chunk: an empty line or the first trailer line.
    Last,
    /// After the CR of that empty line.
    LastLf,
    /// In the trailer lines.
    Trailers,
}

const CHUNK_START: Chunk = Chunk::Size { size: 0, digits: false, line: 0 };

impl BodyDecoder {
    /// A decoder for a body of this framing. `lenient`: pass over what follows the data of a chunk up to the line end,
    /// as Envoy does.
    pub fn new(framing: Framing, lenient: bool) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::UntilClose => State::UntilClose,
            Framing::Chunked => State::Chunk(CHUNK_START),
        };
        BodyDecoder { state, lenient, trailers: None }
    }

    /// Looks at the front of `input`: passes over framing and finds at most one run of data. Call again with the rest
    /// until nothing is consumed (more input is needed) or the body is done.
    ///
    /// # Errors
    /// [`BodyError`] when the coding is malformed; the decoder then stays failed.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        match self.state {
            State::Done => Ok(Step { consumed: 0, data: 0..0, done: true }),
            State::Failed(error) => Err(error),
            State::UntilClose => Ok(Step { consumed: input.len(), data: 0..input.len(), done: false }),
            State::Length(left) => {
                let (taken, left) = take(input.len(), left);
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                Ok(Step { consumed: taken, data: 0..taken, done: left == 0 })
            }
            State::Chunk(chunk) => self.decode_chunks(chunk, input),
        }
    }

    /// Whether the whole body has been decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when the body was not complete. A body of [`Framing::UntilClose`] becomes complete.
    pub fn end_of_stream(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            State::Length(_) | State::Chunk(_) => {
                self.state = State::Failed(BodyError::Truncated);
                Err(BodyError::Truncated)
            }
        }
    }

    /// How many bytes are to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// The trailers of a chunked body that is done, the forbidden ones left out. None when there is none.
    pub fn trailers(&mut self) -> Option<&mut Fields> {
        if self.state != State::Done {
            return None;
        }
        self.trailers.as_mut().map(|trailers| trailers.fields()).filter(|fields| !fields.is_empty())
    }

    fn decode_chunks(&mut self, mut chunk: Chunk, input: &[u8]) -> Result<Step, BodyError> {
        let mut data = 0..0;
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if let Chunk::Data(left) = chunk {
                if !data.is_empty() {
                    break;
                }
                let (taken, left) = take(input.len() - at, left);
                data = at..at + taken;
                at += taken;
                chunk = if left == 0 { Chunk::DataCr } else { Chunk::Data(left) };
                continue;
            }
            at += 1;
            match self.framing_byte(chunk, byte) {
                Ok(Some(next)) => chunk = next,
                Ok(None) => {
                    self.state = State::Done;
                    return Ok(Step { consumed: at, data, done: true });
                }
                Err(error) => {
                    self.state = State::Failed(error);
                    // Data before the fault are given first; the byte at fault stays, so the next call tells.
                    let step = Step { consumed: at - 1, data, done: false };
                    return if step.data.is_empty() { Err(error) } else { Ok(step) };
                }
            }
        }
        self.state = State::Chunk(chunk);
        Ok(Step { consumed: at, data, done: false })
    }

    /// The state after this byte, which is none of the data; None when it was the last of the body.
    fn framing_byte(&mut self, chunk: Chunk, byte: u8) -> Result<Option<Chunk>, BodyError> {
        let next = match chunk {
            Chunk::Size { size, digits, line } => size_byte(size, digits, line, byte)?,
            Chunk::Blanks { size, line } => blank_byte(size, line, byte)?,
            Chunk::Extension { size, .. } if byte == b'\r' => Chunk::SizeLf { size },
            Chunk::Extension { size, line } if is_value_byte(byte) => {
                Chunk::Extension { size, line: longer(line)? }
            }
            Chunk::Extension { .. } => return Err(BodyError::ChunkLine),
            Chunk::SizeLf { size: 0 } if byte == b'\n' => Chunk::Last,
            Chunk::SizeLf { size } if byte == b'\n' => Chunk::Data(size),
            Chunk::SizeLf { .. } => return Err(BodyError::ChunkLine),
            Chunk::DataCr if byte == b'\r' => Chunk::DataLf,
            Chunk::DataCr if self.lenient && byte != b'\n' => Chunk::Garbage { line: 0, cr: false },
            Chunk::DataLf if byte == b'\n' => CHUNK_START,
            Chunk::Garbage { cr: true, .. } if byte == b'\n' => CHUNK_START,
            Chunk::Garbage { line, .. } if byte != b'\n' => {
                Chunk::Garbage { line: longer(line)?, cr: byte == b'\r' }
            }
            Chunk::DataCr | Chunk::DataLf | Chunk::Garbage { .. } => return Err(BodyError::ChunkEnd),
            Chunk::Last if byte == b'\r' => Chunk::LastLf,
            Chunk::LastLf if byte == b'\n' => return Ok(None),
            Chunk::LastLf => return Err(BodyError::Trailer),
            Chunk::Last | Chunk::Trailers => {
                let ended = self.trailers.get_or_insert_default().byte(byte)?;
                return Ok((!ended).then_some(Chunk::Trailers));
            }
            Chunk::Data(_) => chunk,
        };
        Ok(Some(next))
    }
}

fn take(available: usize, left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    (taken, left - taken as u64)
}

fn longer(line: usize) -> Result<usize, BodyError> {
    // The CR LF to come counts too.
    if line + 3 > MAX_CHUNK_LINE_BYTES { Err(BodyError::ChunkLineTooLong) } else { Ok(line + 1) }
}

fn size_byte(size: u64, digits: bool, line: usize, byte: u8) -> Result<Chunk, BodyError> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        let size = size.checked_mul(16).ok_or(BodyError::ChunkSize)? | u64::from(digit);
        return Ok(Chunk::Size { size, digits: true, line: longer(line)? });
    }
    if digits { blank_byte(size, line, byte) } else { Err(BodyError::ChunkSize) }
}

/// RFC 9112 section 7.1.1 allows blanks before an extension; without one, some servers pad the size with them.
fn blank_byte(size: u64, line: usize, byte: u8) -> Result<Chunk, BodyError> {
    match byte {
        b'\r' => Ok(Chunk::SizeLf { size }),
        b' ' | b'\t' => Ok(Chunk::Blanks { size, line: longer(line)? }),
        b';' => Ok(Chunk::Extension { size, line: longer(line)? }),
        b'\n' => Err(BodyError::ChunkLine),
        _ => Err(BodyError::ChunkSize),
    }
}
