//! A second opinion: HTTP/1 messages read by plain recursive descent, written from the grammar of RFC 9112 and
//! RFC 9110 and from the list of Envoy's refusals, with neither `httparse` nor a line of this crate's parser.
//!
//! It reads whole messages only, is slow, and collects every fault of a head instead of stopping at the first, so
//! that the order in which the codec looks is free. Shared with the fuzz targets. Read next: `grammar.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, missing_docs)]

mod chunks;
mod grammar;
mod request;
mod response;

pub use chunks::chunked;
pub use request::request;
pub use response::response;

/// Status and whether Envoy's body is the reason phrase (true) or empty (false).
pub type Fault = (u16, bool);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    Partial,
    Faulty(Vec<Fault>),
    Good(T),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    UntilClose,
    Chunked,
}

pub type Lines = Vec<(String, Vec<u8>)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: Lines,
    pub body: Body,
    pub consumed: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub http10: bool,
    pub fields: Lines,
    pub body: Body,
    pub consumed: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    pub data: Vec<u8>,
    pub trailers: Lines,
    pub consumed: usize,
}

const BAD: Fault = (400, true);
const BAD_BY_MANAGER: Fault = (400, false);
const MAX_BYTES: usize = 61_440;
const MAX_LINES: usize = 100;
