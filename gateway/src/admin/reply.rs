//! An answer of the admin interface, with the headers that Envoy's has.
//!
//! Owns headers and framing (always chunked, as Envoy). It must never carry anything that was not asked for.
//! Next: `pages.rs`.

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=UTF-8";

/// An answer before it is HTTP.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: String,
    /// End the process once this was sent.
    pub quit: bool,
}

impl Reply {
    /// Of any content type.
    pub fn new(content_type: &'static str, body: String) -> Self {
        Self { status: StatusCode::OK, content_type, body, quit: false }
    }

    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, ..Self::new(TEXT, body.into()) }
    }

    /// `OK`, as after every change.
    pub fn ok() -> Self {
        Self::text(StatusCode::OK, "OK\n")
    }

    /// Ends the process once the answer was sent.
    pub fn then_quit(self) -> Self {
        Self { quit: true, ..self }
    }

    /// A page.
    pub fn html(body: String) -> Self {
        Self::new(HTML, body)
    }

    /// JSON as it is.
    pub fn compact_json(body: String) -> Self {
        Self::new(JSON, body)
    }

    /// JSON as Envoy prints messages: one space of indent, so that `"state": "LIVE"` is a line that grep finds.
    pub fn json(value: &Value) -> Self {
        let mut out = Vec::new();
        let formatter = PrettyFormatter::with_indent(b" ");
        // A value of text keys into a vector cannot fail.
        let _ = value.serialize(&mut Serializer::with_formatter(&mut out, formatter));
        out.push(b'\n');
        Self::new(JSON, String::from_utf8(out).unwrap_or_default())
    }

    /// With another status than 200.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// As HTTP, in Envoy's order of headers.
    pub fn into_response(self) -> Response<Page> {
        let mut response = Response::new(Page(Some(Bytes::from(self.body))));
        *response.status_mut() = self.status;
        let date = httpdate::fmt_http_date(SystemTime::now());
        let headers = [
            ("content-type", self.content_type),
            ("cache-control", "no-cache, max-age=0"),
            ("x-content-type-options", "nosniff"),
            ("date", date.as_str()),
            ("server", "envoy"),
            ("connection", "close"),
        ];
        for (name, value) in headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

/// A body of one piece that does not tell its length, so that it goes out chunked.
#[derive(Debug)]
pub struct Page(Option<Bytes>);

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}
