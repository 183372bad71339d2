//! From bytes to a head: requests and responses.
//!
//! Owns: the limits on a head, the call into `httparse`, and the translation of what it says. A head that is still
//! incomplete costs a look at the new bytes only. Must never: wait for more input than it needs, or pass on a head
//! that `check.rs` has not seen. Read next: `check.rs`.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

use crate::check::check_request;
use crate::error::{RequestError, ResponseError};
use crate::fields::Fields;
use crate::framing::{decimal, is_bodiless};
use crate::head::{RequestHead, ResponseHead};
use crate::repair::{self, Repaired};

/// Envoy's default for `max_request_headers_kb`: 60 KiB, here of the whole head.
pub const DEFAULT_MAX_HEAD_BYTES: usize = 60 * 1024;

/// Envoy's default for `max_headers_count`.
pub const DEFAULT_MAX_HEADERS: usize = 100;

/// The highest `Limits::max_headers` that is honoured; the lines of a head are collected on the stack.
pub const HIGHEST_MAX_HEADERS: usize = 1024;

/// What a head may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes from the first of the request or status line to the last of the empty line.
    pub max_head_bytes: usize,
    /// Header lines; at most [`HIGHEST_MAX_HEADERS`].
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_head_bytes: DEFAULT_MAX_HEAD_BYTES, max_headers: DEFAULT_MAX_HEADERS }
    }
}

/// How far a head has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// More input is needed; nothing of it was consumed.
    Partial,
    /// The head is complete and took this many bytes of the input. The body, if any, follows.
    Complete(usize),
}

/// How strictly a request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestRules {
    /// What a head may be at most.
    pub limits: Limits,
    /// Repair what Envoy repairs: two Hosts, two spaces in the request line, CR in a value, folded lines.
    pub lenient: bool,
    /// Envoy's `accept_http_10`: take HTTP/1.0, also without Host.
    pub accept_http10: bool,
}

/// Reads a request head from the front of `input`, which holds all bytes of it that have arrived so far.
///
/// Empty lines before the request line are skipped. `into` is filled when the head is complete. Call again with
/// the same `into` when more bytes are there; call [`RequestHead::clear`] before the next message.
///
/// # Errors
/// [`RequestError`], which knows what Envoy answers. When [`RequestError::from_codec`] is false, `into` is filled.
pub fn parse_request(
    input: &[u8],
    limits: &Limits,
    lenient: bool,
    into: &mut RequestHead,
) -> Result<Parsed, RequestError> {
    parse_request_with(input, &RequestRules { limits: *limits, lenient, accept_http10: false }, into)
}

/// [`parse_request`] with every rule.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_request_with(
    input: &[u8],
    rules: &RequestRules,
    into: &mut RequestHead,
) -> Result<Parsed, RequestError> {
    let window = rules.limits.window(input);
    if !into.progress.is_worth_parsing(window) && !rules.limits.is_full(input) {
        return Ok(Parsed::Partial);
    }
    let read = read_request(window, rules, into);
    if read != Ok(Parsed::Partial) {
        into.progress = Progress::default();
    } else if rules.limits.is_full(input) {
        return Err(RequestError::HeadTooLong);
    }
    read
}

/// Reads a response head from the front of `input`, as [`parse_request`] does.
///
/// Two things are put right in passing, because both sides of the gateway would have to: equal repeated
/// `content-length` lines become one, and `content-length: 0` of a 1xx or 204 is dropped (RFC 9110 section 8.6).
///
/// # Errors
/// [`ResponseError`]; each is a 502 downstream.
pub fn parse_response(
    input: &[u8],
    limits: &Limits,
    into: &mut ResponseHead,
) -> Result<Parsed, ResponseError> {
    let read = if limits.max_headers <= DEFAULT_MAX_HEADERS {
        read_response::<DEFAULT_MAX_HEADERS>(input, limits, into)?
    } else {
        read_response::<HIGHEST_MAX_HEADERS>(input, limits, into)?
    };
    if read == Parsed::Partial && limits.is_full(input) {
        return Err(ResponseError::HeadTooLong);
    }
    Ok(read)
}

impl Limits {
    fn window<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        input.get(..self.max_head_bytes).unwrap_or(input)
    }

    fn is_full(&self, input: &[u8]) -> bool {
        input.len() > self.max_head_bytes
    }
}

/// How far the input of an incomplete head has been looked at.
///
/// Parsing from the start at each arriving byte would make a slow 60 KiB head cost 60 thousand parses. So a parse is
/// tried when it can end the matter (an empty line came), when the request line became complete, and otherwise only
/// when the input has doubled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    seen: usize,
    parsed: usize,
    line_end_seen: bool,
}

impl Progress {
    fn is_worth_parsing(&mut self, input: &[u8]) -> bool {
        if input.len() < self.seen {
            *self = Progress::default();
        }
        // An empty line may have begun in the three bytes before the new ones.
        let fresh = input.get(self.seen.saturating_sub(3)..).unwrap_or_default();
        let line_end = fresh.contains(&b'\n');
        let worth = self.parsed == 0
            || (line_end && !self.line_end_seen)
            || input.len() >= self.parsed.saturating_mul(2)
            || (line_end && has_empty_line(fresh));
        self.seen = input.len();
        self.line_end_seen |= line_end;
        if worth {
            self.parsed = input.len();
        }
        worth
    }
}

fn has_empty_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

fn read_request(window: &[u8], rules: &RequestRules, into: &mut RequestHead) -> Result<Parsed, RequestError> {
    let read = split_request(window, rules, into);
    let repairable = matches!(read, Err(RequestError::HeaderName | RequestError::HeaderValue));
    if !rules.lenient || !repairable {
        return read;
    }
    match repair::repair(window) {
        Repaired::Partial => Ok(Parsed::Partial),
        Repaired::Head { bytes, taken } => match split_request(&bytes, rules, into)? {
            Parsed::Complete(_) => Ok(Parsed::Complete(taken)),
            Parsed::Partial => Err(RequestError::HeaderName),
        },
    }
}

fn split_request(
    window: &[u8],
    rules: &RequestRules,
    into: &mut RequestHead,
) -> Result<Parsed, RequestError> {
    if rules.limits.max_headers <= DEFAULT_MAX_HEADERS {
        split_request_into::<DEFAULT_MAX_HEADERS>(window, rules, into)
    } else {
        split_request_into::<HIGHEST_MAX_HEADERS>(window, rules, into)
    }
}

fn split_request_into<const LINES: usize>(
    window: &[u8],
    rules: &RequestRules,
    into: &mut RequestHead,
) -> Result<Parsed, RequestError> {
    let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; LINES];
    let lines = lines.get_mut(..rules.limits.max_headers.min(LINES)).unwrap_or_default();
    let mut config = ParserConfig::default();
    config.allow_multiple_spaces_in_request_line_delimiters(rules.lenient);
    let mut request = httparse::Request::new(&mut []);
    let taken = match config.parse_request_with_uninit_headers(&mut request, window, lines) {
        Ok(Status::Complete(taken)) => taken,
        Ok(Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return request_error(error, window, rules.lenient),
    };
    into.clear();
    into.set_method(request.method.unwrap_or_default());
    into.set_target(request.path.unwrap_or_default());
    into.set_http10(request.version == Some(0));
    push_all(&mut into.fields, request.headers);
    if into.http10() && !rules.accept_http10 {
        into.clear();
        return Err(RequestError::Version);
    }
    check_request(into, rules.lenient)?;
    Ok(Parsed::Complete(taken))
}

fn push_all(fields: &mut Fields, lines: &[Header<'_>]) {
    for line in lines {
        fields.push(line.name, line.value);
    }
}

fn request_error(error: httparse::Error, window: &[u8], lenient: bool) -> Result<Parsed, RequestError> {
    match error {
        httparse::Error::HeaderName => Err(RequestError::HeaderName),
        httparse::Error::HeaderValue => Err(RequestError::HeaderValue),
        httparse::Error::TooManyHeaders => Err(RequestError::TooManyHeaders),
        httparse::Error::Version => version_error(window, lenient),
        _ => Err(RequestError::RequestLine),
    }
}

/// What `httparse` takes for a bad version is `HTTP/` digit `.` digit at the end of the request line (then Envoy
/// answers 426), or anything else (then the line is malformed), or not to be told before the line is complete.
fn version_error(window: &[u8], lenient: bool) -> Result<Parsed, RequestError> {
    let mut lines = window.split_inclusive(|byte| *byte == b'\n');
    let line = lines.find(|line| !matches!(*line, b"\n" | b"\r\n")).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\n") else { return Ok(Parsed::Partial) };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !(lenient && word.is_empty())).skip(2);
    match (words.next().unwrap_or_default(), words.next()) {
        ([b'H', b'T', b'T', b'P', b'/', major, b'.', minor], None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(RequestError::Version)
        }
        _ => Err(RequestError::RequestLine),
    }
}

fn read_response<const LINES: usize>(
    input: &[u8],
    limits: &Limits,
    into: &mut ResponseHead,
) -> Result<Parsed, ResponseError> {
    let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; LINES];
    let lines = lines.get_mut(..limits.max_headers.min(LINES)).unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let parser = ParserConfig::default();
    let window = limits.window(input);
    let taken = match parser.parse_response_with_uninit_headers(&mut response, window, lines) {
        Ok(Status::Complete(taken)) => taken,
        Ok(Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return Err(response_error(error)),
    };
    let status = response.code.unwrap_or_default();
    if status < 100 {
        return Err(ResponseError::StatusLine);
    }
    into.clear();
    into.status = status;
    into.http10 = response.version == Some(0);
    push_all(&mut into.fields, response.headers);
    put_lengths_right(into);
    Ok(Parsed::Complete(taken))
}

fn put_lengths_right(head: &mut ResponseHead) {
    let mut lengths = head.fields.get_all("content-length").map(decimal);
    let Some(Some(first)) = lengths.next() else { return };
    let (mut repeated, mut equal) = (false, true);
    for length in lengths {
        repeated = true;
        equal &= length == Some(first);
    }
    if first == 0 && equal && is_bodiless(head.status) {
        head.fields.remove("content-length");
    } else if repeated && equal {
        let mut kept = false;
        head.fields.retain(|name, _| name != "content-length" || !std::mem::replace(&mut kept, true));
    }
}

fn response_error(error: httparse::Error) -> ResponseError {
    match error {
        httparse::Error::HeaderName => ResponseError::HeaderName,
        httparse::Error::HeaderValue => ResponseError::HeaderValue,
        httparse::Error::TooManyHeaders => ResponseError::TooManyHeaders,
        httparse::Error::Version => ResponseError::Version,
        _ => ResponseError::StatusLine,
    }
}
