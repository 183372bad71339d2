//! The strict HTTP/1 codec of the gateway, for both of its sides. Sans-I/O: bytes in, bytes out.
//!
//! Owns: what a well-formed HTTP/1 message is (RFC 9110 and RFC 9112, Envoy where the two differ), how long its
//! body is, and how a head, a chunk and a reason phrase are written. `httparse` splits the lines; everything it
//! lets pass and a gateway must not (two Hosts, Content-Length beside Transfer-Encoding, an empty chunk size ...)
//! is refused here.
//!
//! Must never: do I/O, read a clock, know routes or clusters, or allocate once its buffers are warm.
//!
//! Read next: `parse.rs` (a head), then `framing.rs` (how long its body is), then `body.rs` (the body).
//!
//! ```
//! use http1::{Framing, Limits, Parsed, RequestHead, parse_request, request_framing};
//!
//! let mut head = RequestHead::default();
//! let input = b"POST /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi";
//! let parsed = parse_request(input, &Limits::default(), false, &mut head)?;
//! assert_eq!(parsed, Parsed::Complete(input.len() - 2));
//! assert_eq!((head.method(), head.target()), ("POST", "/p"));
//! assert_eq!(request_framing(&head)?, Framing::Length(2));
//! # Ok::<(), http1::RequestError>(())
//! ```
#![forbid(unsafe_code)]

mod body;
mod check;
mod error;
mod fields;
mod framing;
mod head;
mod parse;
mod reason;
mod repair;
mod target;
mod tokens;
mod trailers;
mod write;

pub use body::{BodyDecoder, MAX_CHUNK_LINE_BYTES, Step};
pub use error::{BodyError, RequestError, ResponseError};
pub use fields::Fields;
pub use framing::{Framing, request_framing, response_framing};
pub use head::{RequestHead, ResponseHead};
pub use parse::{
    DEFAULT_MAX_HEAD_BYTES, DEFAULT_MAX_HEADERS, HIGHEST_MAX_HEADERS, Limits, Parsed, RequestRules,
    parse_request, parse_request_with, parse_response,
};
pub use reason::reason;
pub use target::{Target, TargetForm};
pub use tokens::{connection_persists, has_token};
pub use trailers::{MAX_TRAILER_BYTES, MAX_TRAILERS, may_be_trailer};
pub use write::{
    CHUNK_END, LAST_CHUNK, write_chunk_head, write_fields, write_last_chunk, write_request_head,
    write_response_head, write_status_line,
};
