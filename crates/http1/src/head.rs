//! The two kinds of head, request and response, and their recyclable buffers.
//!
//! Owns: the storage of method, target, status and version. Must never: judge what it stores (`check.rs` does).
//! Read next: `parse.rs`, which fills them.

use crate::fields::Fields;
use crate::parse::Progress;

/// The head of one request. Every buffer is kept by `clear`, so a recycled head allocates nothing.
///
/// Call [`RequestHead::clear`] between messages: while a head is incomplete it also remembers how far its input
/// has been looked at, which is what makes a head that arrives byte by byte cheap.
#[derive(Default, Clone, Debug)]
pub struct RequestHead {
    /// The header lines, in the order received.
    pub fields: Fields,
    method: String,
    target: String,
    http10: bool,
    pub(crate) progress: Progress,
}

impl RequestHead {
    /// Forgets the message and keeps the buffers.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.method.clear();
        self.target.clear();
        self.http10 = false;
        self.progress = Progress::default();
    }

    /// The method, for example `GET`. Empty in a cleared head.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request target as received: origin form, absolute form, authority form or `*` (RFC 9112 section 3.2).
    /// [`RequestHead::authority_and_path`] splits it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Replaces the method.
    pub fn set_method(&mut self, method: &str) {
        self.method.clear();
        self.method.push_str(method);
    }

    /// Replaces the target.
    pub fn set_target(&mut self, target: &str) {
        self.target.clear();
        self.target.push_str(target);
    }

    /// Whether the message said `HTTP/1.0`.
    pub fn http10(&self) -> bool {
        self.http10
    }

    /// Says whether the message is of version 1.0.
    pub fn set_http10(&mut self, http10: bool) {
        self.http10 = http10;
    }

    /// How many bytes of heap the buffers hold, for a caller that bounds what it recycles.
    pub fn heap_bytes(&self) -> usize {
        self.fields.heap_bytes() + self.method.capacity() + self.target.capacity()
    }
}

/// The head of one response. The reason phrase is not kept: Envoy writes its own (`reason.rs`).
#[derive(Default, Clone, Debug)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: u16,
    /// Whether the message said `HTTP/1.0`.
    pub http10: bool,
    /// The header lines, in the order received.
    pub fields: Fields,
}

impl ResponseHead {
    /// Forgets the message and keeps the buffers.
    pub fn clear(&mut self) {
        self.status = 0;
        self.http10 = false;
        self.fields.clear();
    }
}
