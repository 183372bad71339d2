//! What can be wrong with a message, and what Envoy answers to it.
//!
//! Owns: the table from fault to status, body, log detail and response flag. Must never: carry bytes of the message
//! (the errors are `Copy` and safe to log). Read next: `check.rs`, which raises most of them.

use crate::reason::reason;

/// Why a request is refused. After any of these the connection cannot be read further and must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The first line is not `METHOD SP target SP HTTP/x.y` (RFC 9112 section 3).
    #[error("the request line is malformed")]
    RequestLine,
    /// The method is not a token, or holds a lower-case letter.
    #[error("the method is not an upper-case token")]
    Method,
    /// The target holds a blank, a control or a byte above 126, or is of no form that fits the method.
    #[error("the request target is malformed")]
    Target,
    /// The target holds a `#`. Envoy's connection manager refuses it, not its codec.
    #[error("the request target holds a fragment")]
    Fragment,
    /// The version is not 1.1.
    #[error("the HTTP version is not supported")]
    Version,
    /// A header name is empty or no token, a colon is missing, or a line is folded.
    #[error("a header name is malformed")]
    HeaderName,
    /// A header value holds NUL, CR or another control.
    #[error("a header value holds a forbidden byte")]
    HeaderValue,
    /// The head is longer than `Limits::max_head_bytes`.
    #[error("the request head is too long")]
    HeadTooLong,
    /// There are more than `Limits::max_headers` header lines.
    #[error("the request has too many headers")]
    TooManyHeaders,
    /// There is no Host (RFC 9112 section 3.2). Envoy's connection manager refuses it, not its codec.
    #[error("the request has no Host")]
    NoHost,
    /// There is more than one Host (RFC 9112 section 3.2).
    #[error("the request has more than one Host")]
    ManyHosts,
    /// The Host is no `host[:port]` (RFC 9112 section 3.2).
    #[error("the Host is malformed")]
    Host,
    /// `Connection` names Host: removing it would leave none. The connection manager refuses it.
    #[error("Connection nominates Host")]
    ConnectionNominatesHost,
    /// `Connection` names a header whose removal would hide the client, or names too many.
    #[error("Connection nominates a header that it may not")]
    ConnectionNominates,
    /// `Content-Length` is not one line of digits that fits 64 bits (RFC 9112 section 6.3).
    #[error("the Content-Length is malformed or there is more than one")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.1: an attempt at smuggling).
    #[error("the request has both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// A `Transfer-Encoding` that is not exactly one `chunked`.
    #[error("the Transfer-Encoding is not supported")]
    TransferEncoding,
    /// An absolute `https://` target on a connection without TLS.
    #[error("an https target on a plain connection")]
    HttpsOnPlaintext,
}

impl RequestError {
    /// The status that Envoy answers with: 400, 403, 426, 431 or 501.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::HttpsOnPlaintext => 403,
            RequestError::Version => 426,
            RequestError::HeadTooLong | RequestError::TooManyHeaders => 431,
            RequestError::TransferEncoding => 501,
            _ => 400,
        }
    }

    /// The body that Envoy answers with: the reason phrase, or nothing when its connection manager refuses.
    pub fn body(&self) -> &'static str {
        if self.from_codec() { reason(self.status()) } else { "" }
    }

    /// Whether Envoy's codec refuses it, which its access log shows as the response flag `DPE`. Then nothing of the
    /// request is logged; else the head has been filled and can be.
    pub fn from_codec(&self) -> bool {
        !matches!(self, RequestError::Fragment | RequestError::NoHost | RequestError::ConnectionNominatesHost)
    }

    /// The response code detail for the log, in Envoy's words where it has some.
    pub fn detail(&self) -> &'static str {
        match self {
            RequestError::RequestLine => "http1.codec_error",
            RequestError::Method => "http1.invalid_method",
            RequestError::Target => "http1.invalid_url",
            RequestError::Fragment => "fragment_in_path",
            RequestError::Version => "low_version",
            RequestError::HeaderName => "http1.invalid_header_name",
            RequestError::HeaderValue => "http1.invalid_characters",
            RequestError::HeadTooLong => "http1.headers_too_large",
            RequestError::TooManyHeaders => "http1.too_many_headers",
            RequestError::NoHost | RequestError::ConnectionNominatesHost => "missing_host_header",
            RequestError::ManyHosts => "http1.multiple_host_headers",
            RequestError::Host => "http1.invalid_host",
            RequestError::ConnectionNominates => "http1.connection_header_rejected",
            RequestError::ContentLength => "http1.invalid_content_length",
            RequestError::LengthAndEncoding => "http1.content_length_and_chunked_not_allowed",
            RequestError::TransferEncoding => "http1.invalid_transfer_encoding",
            RequestError::HttpsOnPlaintext => "http1.https_url_on_plaintext_connection",
        }
    }
}

/// Why a response cannot be passed on; Envoy answers 502 `protocol error` with the response flag `UPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The first line is not `HTTP/1.x SP 3DIGIT [SP reason]`, or the code is below 100.
    #[error("the status line is malformed")]
    StatusLine,
    /// The version is neither 1.0 nor 1.1.
    #[error("the HTTP version of the response is not supported")]
    Version,
    /// A header name is empty or no token, a colon is missing, or a line is folded.
    #[error("a response header name is malformed")]
    HeaderName,
    /// A header value holds NUL, CR or another control.
    #[error("a response header value holds a forbidden byte")]
    HeaderValue,
    /// The head is longer than `Limits::max_head_bytes`.
    #[error("the response head is too long")]
    HeadTooLong,
    /// There are more than `Limits::max_headers` header lines.
    #[error("the response has too many headers")]
    TooManyHeaders,
    /// `Content-Length` is not digits that fit 64 bits, or two lines differ.
    #[error("the Content-Length of the response is malformed or there are two that differ")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("the response has both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// A `Transfer-Encoding` that is not exactly one `chunked`.
    #[error("the Transfer-Encoding of the response is not supported")]
    TransferEncoding,
    /// A body announced by a status that has none: 1xx or 204 with `Transfer-Encoding` or a length above 0.
    #[error("the response announces a body that its status cannot have")]
    BodyNotAllowed,
}

/// Why a message body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk size is empty, not hexadecimal or does not fit 64 bits.
    #[error("a chunk size is malformed")]
    ChunkSize,
    /// A chunk line holds a forbidden byte or does not end with CR LF.
    #[error("a chunk line is malformed")]
    ChunkLine,
    /// A chunk line is longer than [`crate::MAX_CHUNK_LINE_BYTES`].
    #[error("a chunk line is too long")]
    ChunkLineTooLong,
    /// The data of a chunk is not followed by CR LF.
    #[error("the data of a chunk is not followed by a line end")]
    ChunkEnd,
    /// A trailer line is malformed.
    #[error("a trailer is malformed")]
    Trailer,
    /// The trailers are more than [`crate::MAX_TRAILERS`] lines or [`crate::MAX_TRAILER_BYTES`].
    #[error("the trailers are too long or too many")]
    TrailersTooLong,
    /// The stream ended inside the body.
    #[error("the stream ended before the end of the body")]
    Truncated,
}

impl BodyError {
    /// The response code detail for the log.
    pub fn detail(&self) -> &'static str {
        match self {
            BodyError::ChunkSize => "http1.invalid_chunk_size",
            BodyError::ChunkLine => "http1.invalid_chunk_line",
            BodyError::ChunkLineTooLong => "http1.chunk_line_too_long",
            BodyError::ChunkEnd => "http1.invalid_chunk_end",
            BodyError::Trailer => "http1.invalid_trailer",
            BodyError::TrailersTooLong => "http1.trailers_too_large",
            BodyError::Truncated => "http1.body_truncated",
        }
    }
}
