//! The gateway's own answers on HTTP/1, header by header as Envoy 1.40 writes them.
//!
//! Owns the order of headers of a local reply. It must never write to a stream. Next: `h1.rs`.

use crate::error::LocalReply;
use crate::worker::Worker;
use http1::ResponseHead;
use std::io::Write as _;

/// Writes a local reply into `out`. `close` = the connection ends after it.
pub fn write(
    out: &mut Vec<u8>,
    reply: LocalReply,
    close: bool,
    server: &str,
    was_head: bool,
    worker: &Worker,
) {
    let mut head = worker.take_response();
    fill(&mut head, reply, server, worker);
    if close {
        head.fields.push("connection", b"close");
    }
    if reply.body.is_empty() {
        // Envoy says so even of an answer to HEAD that would have had no body.
        let (name, value) = if was_head {
            ("transfer-encoding", b"chunked".as_slice())
        } else {
            ("content-length", b"0".as_slice())
        };
        head.fields.push(name, value);
    }
    http1::write_response_head(out, &head);
    if !was_head {
        out.extend_from_slice(reply.body.as_bytes());
    }
    worker.give_response(head);
}

/// The headers that are the same on both protocols.
pub fn fill(head: &mut ResponseHead, reply: LocalReply, server: &str, worker: &Worker) {
    head.status = reply.status;
    if reply.overloaded {
        head.fields.push("x-envoy-overloaded", b"true");
    }
    if !reply.body.is_empty() {
        let mut length = [0u8; 20];
        let free = {
            let mut rest = length.as_mut_slice();
            // 20 digits hold any length.
            let _ = write!(rest, "{}", reply.body.len());
            rest.len()
        };
        head.fields.push("content-length", length.get(..length.len() - free).unwrap_or_default());
        head.fields.push("content-type", b"text/plain");
    }
    head.fields.push("date", &worker.date());
    head.fields.push("server", server.as_bytes());
}
