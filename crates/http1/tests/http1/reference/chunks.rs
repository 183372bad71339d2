//! Chunked bodies. Read next: `../compare.rs`.

use super::grammar::{blank, field_byte, field_line};
use super::{BAD, Chunked, Lines, MAX_BYTES, MAX_LINES, Verdict};

/// Why reading stopped before the end.
enum Stop {
    NeedsMore,
    Fault,
}

/// `chunked-body = *chunk last-chunk trailer-section CRLF`. Blanks are taken after a chunk size.
pub fn chunked(input: &[u8]) -> Verdict<Chunked> {
    let mut data = Vec::new();
    let mut at = 0;
    let read = (|| {
        while let Some(size) = chunk_line(input, &mut at)? {
            for _ in 0..size {
                data.push(*input.get(at).ok_or(Stop::NeedsMore)?);
                at += 1;
            }
            literal(input, &mut at, b"\r\n")?;
        }
        trailer_section(input, &mut at)
    })();
    match read {
        Ok(trailers) => Verdict::Good(Chunked { data, trailers, consumed: at }),
        Err(Stop::NeedsMore) => Verdict::Partial,
        Err(Stop::Fault) => Verdict::Faulty(vec![BAD]),
    }
}

fn literal(input: &[u8], at: &mut usize, bytes: &[u8]) -> Result<(), Stop> {
    for byte in bytes {
        if input.get(*at).ok_or(Stop::NeedsMore)? != byte {
            return Err(Stop::Fault);
        }
        *at += 1;
    }
    Ok(())
}

/// `chunk-size [ chunk-ext ] CRLF`; None for the last chunk.
fn chunk_line(input: &[u8], at: &mut usize) -> Result<Option<u64>, Stop> {
    let start = *at;
    let (mut size, mut digits) = (0_u128, 0);
    let mut next = || -> Result<u8, Stop> {
        // The line may be 4,096 bytes long, so no byte but the two of its end may stand at 4,094 or later.
        let byte = *input.get(*at).ok_or(Stop::NeedsMore)?;
        *at += 1;
        if byte != b'\r' && *at - start > 4_094 { Err(Stop::Fault) } else { Ok(byte) }
    };
    let mut byte = next()?;
    while byte.is_ascii_hexdigit() {
        size = size * 16 + u128::from(char::from(byte).to_digit(16).unwrap());
        if size > u128::from(u64::MAX) {
            return Err(Stop::Fault);
        }
        digits += 1;
        byte = next()?;
    }
    if digits == 0 {
        return Err(Stop::Fault);
    }
    while blank(byte) {
        byte = next()?;
    }
    if byte == b';' {
        byte = next()?;
        while field_byte(byte) {
            byte = next()?;
        }
    }
    if byte != b'\r' {
        return Err(Stop::Fault);
    }
    literal(input, at, b"\n")?;
    Ok(u64::try_from(size).ok().filter(|size| *size > 0))
}

fn trailer_section(input: &[u8], at: &mut usize) -> Result<Lines, Stop> {
    let (start, mut count, mut kept) = (*at, 0, Lines::new());
    // An empty section is known by its first bytes, before any line end.
    if input.get(*at) == Some(&b'\r') {
        literal(input, at, b"\r\n")?;
        return Ok(kept);
    }
    loop {
        let length = match input[*at..].iter().position(|byte| *byte == b'\n') {
            Some(length) if *at + length + 1 - start <= MAX_BYTES => length,
            None if input.len() - start <= MAX_BYTES => return Err(Stop::NeedsMore),
            _ => return Err(Stop::Fault),
        };
        let line = input[*at..*at + length].strip_suffix(b"\r").ok_or(Stop::Fault)?;
        *at += length + 1;
        if line.is_empty() {
            return Ok(kept);
        }
        count += 1;
        let line = field_line(line).filter(|_| count <= MAX_LINES).ok_or(Stop::Fault)?;
        if allowed_in_trailer(&line.0) {
            kept.push(line);
        }
    }
}

/// The names that the generators make trailers of, told apart by hand.
fn allowed_in_trailer(name: &str) -> bool {
    !["host", "content-length", "transfer-encoding", "te", "connection", "cookie", "authorization"]
        .contains(&name)
        && !name.starts_with("x-forwarded-")
}
