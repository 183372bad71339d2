//! How long a message body is (RFC 9112 section 6.3).
//!
//! Owns: the rules on Content-Length and Transfer-Encoding, the heart of request smuggling, for both directions.
//! Must never: guess. What is not plain is an error. Read next: `body.rs`.

use crate::error::{RequestError, ResponseError};
use crate::fields::Fields;
use crate::head::{RequestHead, ResponseHead};

/// How the end of a message body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, not even an empty one.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// All bytes until the end of the stream; responses only.
    UntilClose,
    /// The chunked transfer coding (RFC 9112 section 7.1).
    Chunked,
}

/// The framing of a request's body.
///
/// # Errors
/// [`RequestError::LengthAndEncoding`] and [`RequestError::ContentLength`] (400; a second length too, even an equal
/// one), [`RequestError::TransferEncoding`] (501: anything but one `chunked`).
pub fn request_framing(head: &RequestHead) -> Result<Framing, RequestError> {
    let found = Found::in_fields(&head.fields);
    match (found.lengths, found.encodings) {
        (0, 0) => Ok(Framing::None),
        (0, 1) if found.chunked => Ok(Framing::Chunked),
        (0, _) => Err(RequestError::TransferEncoding),
        (1, 0) => found.length.map(Framing::Length).ok_or(RequestError::ContentLength),
        (_, 0) => Err(RequestError::ContentLength),
        (_, _) => Err(RequestError::LengthAndEncoding),
    }
}

/// The framing of a response's body. `request_was_head`: the answer to HEAD never has one.
///
/// A 1xx, 204 or 304 has no body either. Equal repeated lengths count as one.
///
/// # Errors
/// Each a 502 downstream: [`ResponseError::LengthAndEncoding`], [`ResponseError::ContentLength`],
/// [`ResponseError::TransferEncoding`], [`ResponseError::BodyNotAllowed`].
pub fn response_framing(head: &ResponseHead, request_was_head: bool) -> Result<Framing, ResponseError> {
    let found = Found::in_fields(&head.fields);
    let framing = match (found.lengths, found.encodings) {
        (0, 0) => Framing::UntilClose,
        (0, 1) if found.chunked => Framing::Chunked,
        (0, _) => return Err(ResponseError::TransferEncoding),
        (_, 0) => found.length.map(Framing::Length).ok_or(ResponseError::ContentLength)?,
        (_, _) => return Err(ResponseError::LengthAndEncoding),
    };
    if is_bodiless(head.status) {
        // RFC 9110 section 8.6 and RFC 9112 section 6.1: such a response must not announce a body.
        return match framing {
            Framing::Chunked => Err(ResponseError::BodyNotAllowed),
            Framing::Length(length) if length > 0 => Err(ResponseError::BodyNotAllowed),
            _ => Ok(Framing::None),
        };
    }
    Ok(if request_was_head || head.status == 304 { Framing::None } else { framing })
}

/// A status that neither has a body nor may announce one: 1xx and 204.
pub(crate) fn is_bodiless(status: u16) -> bool {
    status < 200 || status == 204
}

/// What a head says about its framing.
#[derive(Default)]
struct Found {
    lengths: usize,
    /// The length, unless it is malformed or two lines differ.
    length: Option<u64>,
    encodings: usize,
    chunked: bool,
}

impl Found {
    fn in_fields(fields: &Fields) -> Found {
        let mut found = Found::default();
        for (name, value) in fields.iter() {
            match name {
                "content-length" => {
                    let length = decimal(value);
                    found.length = if found.lengths == 0 || found.length == length { length } else { None };
                    found.lengths += 1;
                }
                "transfer-encoding" => {
                    found.encodings += 1;
                    found.chunked = value.eq_ignore_ascii_case(b"chunked");
                }
                _ => {}
            }
        }
        found
    }
}

/// `1*DIGIT` that fits 64 bits. `str::parse` would take a sign.
pub(crate) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
