//! The tests of the HTTP/1 codec: sentences about single rules, a reference parser to differ from, and properties.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::too_many_lines,
    missing_docs
)]

mod allocation;
mod chunked;
mod compare;
mod differential;
mod fields;
mod framing;
mod generate;
mod lenient;
mod limits;
mod properties;
mod reference;
mod refusals;
mod responses;
mod targets;
mod writing;

use http1::{
    Limits, Parsed, RequestError, RequestHead, ResponseError, ResponseHead, parse_request, parse_response,
};

/// Parses a whole request head strictly.
fn strict(input: &[u8]) -> Result<RequestHead, RequestError> {
    parsed(input, false)
}

/// Parses a whole request head in lenient mode.
fn lenient(input: &[u8]) -> Result<RequestHead, RequestError> {
    parsed(input, true)
}

fn parsed(input: &[u8], lenient: bool) -> Result<RequestHead, RequestError> {
    let mut head = RequestHead::default();
    match parse_request(input, &Limits::default(), lenient, &mut head)? {
        Parsed::Complete(_) => Ok(head),
        Parsed::Partial => panic!("incomplete: {}", input.escape_ascii()),
    }
}

fn answer(input: &[u8]) -> Result<ResponseHead, ResponseError> {
    let mut head = ResponseHead::default();
    match parse_response(input, &Limits::default(), &mut head)? {
        Parsed::Complete(_) => Ok(head),
        Parsed::Partial => panic!("incomplete: {}", input.escape_ascii()),
    }
}

/// The lines of a head, for comparing.
fn lines(fields: &http1::Fields) -> Vec<(&str, &[u8])> {
    fields.iter().collect()
}
