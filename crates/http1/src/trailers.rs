//! The trailer section of a chunked body (RFC 9112 section 7.1.2).
//!
//! Owns: collecting, bounding and validating trailer lines, and which fields may not be trailers. Must never: let a
//! trailer say what only a header may (framing, routing, credentials). Read next: `write.rs`.

use crate::error::BodyError;
use crate::fields::Fields;
use crate::tokens::{is_token_byte, is_value_byte, trim_blanks};

/// The most trailer lines; as many as headers.
pub const MAX_TRAILERS: usize = 100;

/// The most bytes of trailer lines together; as many as a head may have.
pub const MAX_TRAILER_BYTES: usize = 60 * 1024;

/// Fields that take effect before the body or on the connection, so that a late value would be a lie or an attack
/// (RFC 9110 section 6.5.1): framing, routing, request control, credentials, response control, content form, and the
/// names that say who the client is.
const FORBIDDEN: [&str; 40] = [
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "server",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
];

/// Prefixes of names that speak of the client or of the gateway itself.
const FORBIDDEN_PREFIXES: [&str; 2] = ["x-forwarded-", "x-envoy-"];

/// Whether a field of this name (in any case) may be sent as a trailer.
pub fn may_be_trailer(name: &str) -> bool {
    let begins =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
        && !FORBIDDEN_PREFIXES.iter().any(|prefix| begins(prefix))
}

/// Collects trailer lines byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Trailers {
    fields: Fields,
    line: Vec<u8>,
    lines: usize,
    bytes: usize,
}

impl Trailers {
    pub(crate) fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }

    /// Takes one byte; true when it ended the section.
    pub(crate) fn byte(&mut self, byte: u8) -> Result<bool, BodyError> {
        self.bytes += 1;
        if self.bytes > MAX_TRAILER_BYTES {
            return Err(BodyError::TrailersTooLong);
        }
        if byte != b'\n' {
            self.line.push(byte);
            return Ok(false);
        }
        let line = self.line.strip_suffix(b"\r").ok_or(BodyError::Trailer)?;
        if line.is_empty() {
            return Ok(true);
        }
        self.lines += 1;
        if self.lines > MAX_TRAILERS {
            return Err(BodyError::TrailersTooLong);
        }
        let (name, value) = split(line)?;
        if may_be_trailer(name) {
            self.fields.push(name, value);
        }
        self.line.clear();
        Ok(false)
    }
}

fn split(line: &[u8]) -> Result<(&str, &[u8]), BodyError> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(BodyError::Trailer)?;
    let (name, value) = line.split_at_checked(colon).ok_or(BodyError::Trailer)?;
    if name.is_empty() || !name.iter().copied().all(is_token_byte) {
        return Err(BodyError::Trailer);
    }
    let value = trim_blanks(value.get(1..).unwrap_or_default());
    if !value.iter().copied().all(is_value_byte) {
        return Err(BodyError::Trailer);
    }
    let name = std::str::from_utf8(name).map_err(|_| BodyError::Trailer)?;
    Ok((name, value))
}
