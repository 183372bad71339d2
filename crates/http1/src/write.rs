//! From a head, a chunk or trailers to bytes.
//!
//! Owns: the order and spelling on the wire, which are Envoy's: lower-case names, Host first, its own reason phrases.
//! Must never: add or drop a header; that is the gateway's business. Read next: `lib.rs` has the rest.

use crate::fields::Fields;
use crate::head::ResponseHead;
use crate::reason::reason;
use crate::tokens::is_value_byte;

/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends `METHOD target HTTP/1.1`, the headers with Host in front, and the empty line.
pub fn write_request_head(out: &mut Vec<u8>, method: &str, target: &str, fields: &Fields) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for host in fields.get_all("host") {
        write_field(out, "host", host);
    }
    for (name, value) in fields.iter().filter(|(name, _)| *name != "host") {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `HTTP/1.1 status reason`, the headers in order, and the empty line. The version is 1.1 whatever the head
/// came with; for a client of version 1.0 use [`write_status_line`] and [`write_fields`].
pub fn write_response_head(out: &mut Vec<u8>, head: &ResponseHead) {
    write_status_line(out, head.status, false);
    write_fields(out, &head.fields);
}

/// Appends the status line with Envoy's reason phrase.
pub fn write_status_line(out: &mut Vec<u8>, status: u16, http10: bool) {
    out.extend_from_slice(if http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    write_number(out, u64::from(status), 10);
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends every line of `fields` and the empty line.
pub fn write_fields(out: &mut Vec<u8>, fields: &Fields) {
    for (name, value) in fields.iter() {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk of `len` bytes. The data and [`CHUNK_END`] follow. A `len` of 0 would end the
/// body, so nothing is written for it.
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    if len > 0 {
        write_number(out, len as u64, 16);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the last chunk, the trailers if any, and the empty line.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    match trailers {
        Some(trailers) => write_fields(out, trailers),
        None => out.extend_from_slice(b"\r\n"),
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    // Parsers and configuration refuse such bytes; a line that slips through must not become two.
    debug_assert!(value.iter().copied().all(is_value_byte), "a header value holds a control byte");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_number(out: &mut Vec<u8>, mut number: u64, base: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // u64::MAX has 20 decimal digits.
    let mut digits = [0_u8; 20];
    let mut length = 0;
    for slot in digits.iter_mut().rev() {
        *slot = DIGITS.get((number % base) as usize).copied().unwrap_or_default();
        length += 1;
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - length..).unwrap_or_default());
}
