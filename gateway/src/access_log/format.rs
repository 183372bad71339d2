//! One line per request: Envoy's default text format, or a JSON object with the same fields and ours.
//!
//! Owns the bytes of a line. It must never allocate beyond the buffer it is given, nor let a client's bytes end a
//! line or a quoted field. Next: `writer.rs`, where lines wait.

use super::{Entry, timestamp};
use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// Bytes of a line beside those that come from the request; generous, it only guards the queue.
const FIXED_BYTES: usize = 384;

/// About how long the line of an entry is, before escapes.
pub fn estimate(entry: &Entry<'_>) -> usize {
    let value = |bytes: Option<&[u8]>| bytes.map_or(1, <[u8]>::len);
    FIXED_BYTES
        + entry.method.len()
        + entry.path.len()
        + value(entry.forwarded_for)
        + value(entry.user_agent)
        + value(entry.request_id)
        + value(entry.authority)
        + entry.route_name.len()
        + entry.upstream_cluster.len()
        + entry.route_version.len()
}

/// Appends a line in Envoy's default format (Envoy: access logging, "Default format string").
pub fn text(out: &mut Vec<u8>, entry: &Entry<'_>) {
    out.push(b'[');
    timestamp::append(out, entry.start);
    out.extend_from_slice(b"] \"");
    escape_text(out, entry.method.as_bytes());
    out.push(b' ');
    escape_text(out, entry.path.as_bytes());
    out.push(b' ');
    out.extend_from_slice(entry.protocol.as_bytes());
    out.extend_from_slice(b"\" ");
    show(out, entry.status);
    out.push(b' ');
    show(out, entry.flags);
    out.push(b' ');
    show(out, entry.bytes_received);
    out.push(b' ');
    show(out, entry.bytes_sent);
    out.push(b' ');
    show(out, entry.duration.as_millis());
    out.push(b' ');
    match entry.upstream_service_time {
        Some(time) => show(out, time.as_millis()),
        None => out.push(b'-'),
    }
    for value in [entry.forwarded_for, entry.user_agent, entry.request_id, entry.authority] {
        out.extend_from_slice(b" \"");
        escape_text(out, value.unwrap_or(b"-"));
        out.push(b'"');
    }
    out.extend_from_slice(b" \"");
    match entry.upstream_host {
        Some(host) => show(out, host),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\"\n");
}

/// Appends a line of JSON; what is absent is null.
pub fn json(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let known = |text: &'static str| (text != "-").then_some(text.as_bytes());
    let given = |text: &str| text != "-";
    out.extend_from_slice(b"{\"start_time\":\"");
    timestamp::append(out, entry.start);
    out.push(b'"');
    string(out, "method", given(entry.method).then_some(entry.method.as_bytes()));
    string(out, "path", given(entry.path).then_some(entry.path.as_bytes()));
    string(out, "protocol", known(entry.protocol));
    number(out, "response_code", Some(entry.status));
    let flagged = !entry.flags.is_empty();
    key(out, "response_flags");
    if flagged {
        quoted(out, entry.flags)
    } else {
        out.extend_from_slice(b"null")
    }
    number(out, "bytes_received", Some(entry.bytes_received));
    number(out, "bytes_sent", Some(entry.bytes_sent));
    number(out, "duration", Some(entry.duration.as_millis()));
    number(out, "upstream_service_time", entry.upstream_service_time.as_ref().map(Duration::as_millis));
    string(out, "x_forwarded_for", entry.forwarded_for);
    string(out, "user_agent", entry.user_agent);
    string(out, "request_id", entry.request_id);
    string(out, "authority", entry.authority);
    key(out, "upstream_host");
    match entry.upstream_host {
        Some(host) => quoted(out, host),
        None => out.extend_from_slice(b"null"),
    }
    let filled = |text: &str| !text.is_empty();
    string(out, "route_name", filled(entry.route_name).then_some(entry.route_name.as_bytes()));
    string(
        out,
        "upstream_cluster",
        filled(entry.upstream_cluster).then_some(entry.upstream_cluster.as_bytes()),
    );
    string(out, "route_version", filled(entry.route_version).then_some(entry.route_version.as_bytes()));
    key(out, "downstream_remote_address");
    quoted(out, entry.downstream_remote_address);
    out.extend_from_slice(b"}\n");
}

fn show(out: &mut Vec<u8>, value: impl Display) {
    // A vector takes every write.
    let _ = write!(out, "{value}");
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn quoted(out: &mut Vec<u8>, value: impl Display) {
    out.push(b'"');
    show(out, value);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, name: &str, value: Option<impl Display>) {
    key(out, name);
    match value {
        Some(value) => show(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn string(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    key(out, name);
    match value {
        None => out.extend_from_slice(b"null"),
        Some(value) => {
            out.push(b'"');
            escape_json(out, value);
            out.push(b'"');
        }
    }
}

/// Envoy writes values as they are; we do so too, but a quote, a backslash, a control byte or a byte that is not
/// UTF-8 is escaped, so that no client can forge a field, a line, or a file that is not text.
fn escape_text(out: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        return out.extend_from_slice(value);
    }
    let is_utf8 = value.is_ascii() || std::str::from_utf8(value).is_ok();
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x00..=0x1f | 0x7f => hex(out, b"\\x", byte),
            0x80.. if !is_utf8 => hex(out, b"\\x", byte),
            _ => out.push(byte),
        }
    }
}

/// RFC 8259, section 7. Bytes that are not UTF-8 are written as the Latin-1 characters they stand for in HTTP.
fn escape_json(out: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        return out.extend_from_slice(value);
    }
    let is_utf8 = value.is_ascii() || std::str::from_utf8(value).is_ok();
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x00..=0x1f | 0x7f => hex(out, b"\\u00", byte),
            0x80.. if !is_utf8 => hex(out, b"\\u00", byte),
            _ => out.push(byte),
        }
    }
}

/// Nearly every value: printable ASCII without quote and backslash, which both formats take as it is.
fn is_plain(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'))
}

fn hex(out: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    out.extend_from_slice(prefix);
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;
    use crate::response_flags::ResponseFlags;
    use proptest::prelude::*;

    fn line(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        text(&mut out, entry);
        String::from_utf8(out).expect("UTF-8")
    }

    fn object(entry: &Entry<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        json(&mut out, entry);
        assert_eq!(out.pop(), Some(b'\n'));
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn the_default_format_is_envoys() {
        let expected = "[2026-11-23T02:37:09.430Z] \"GET /api?x=1 HTTP/1.1\" 200 - 3 25 12 11 \"192.0.2.2\" \
                        \"curl/8\" \"0acdfd81\" \"svc1.local\" \"10.0.0.7:8080\"\n";
        assert_eq!(line(&entry()), expected);
    }

    #[test]
    fn what_is_absent_is_a_dash() {
        let mut refused = entry();
        (refused.method, refused.path, refused.status) = ("-", "-", 400);
        refused.flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        (refused.forwarded_for, refused.user_agent, refused.request_id) = (None, None, None);
        (refused.authority, refused.upstream_host, refused.upstream_service_time) = (None, None, None);
        let line = line(&refused);
        assert!(
            line.ends_with("\"- - HTTP/1.1\" 400 DPE 3 25 12 - \"-\" \"-\" \"-\" \"-\" \"-\"\n"),
            "{line}"
        );
    }

    #[test]
    fn a_quote_in_a_header_cannot_end_its_field() {
        let mut forged = entry();
        forged.user_agent = Some(b"x\" \"forged\n\xff\\");
        let line = line(&forged);
        assert!(line.contains(r#""x\" \"forged\x0a\xff\\""#), "{line}");
    }

    #[test]
    fn json_has_the_same_fields_and_names_route_target_and_version() {
        let value = object(&entry());
        assert_eq!(value["start_time"], "2026-11-23T02:37:09.430Z");
        assert_eq!(value["response_code"], 200);
        assert_eq!(value["response_flags"], serde_json::Value::Null);
        assert_eq!(value["upstream_service_time"], 11);
        assert_eq!(value["upstream_host"], "10.0.0.7:8080");
        assert_eq!(value["route_name"], "svc1");
        assert_eq!(value["upstream_cluster"], "v2");
        assert_eq!(value["route_version"], "1.42-c1");
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(19));
    }

    proptest! {
        #[test]
        fn any_bytes_make_exactly_one_line_with_six_quoted_fields(
            agent in proptest::collection::vec(any::<u8>(), 0..40),
            path in "\\PC{0,20}",
        ) {
            let mut any = entry();
            any.user_agent = Some(&agent);
            any.path = &path;
            let line = line(&any);
            prop_assert!(line.bytes().filter(|b| *b < 0x20).eq(std::iter::once(b'\n')));
            let mut quotes = 0;
            let mut bytes = line.bytes();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' => { bytes.next(); }
                    b'"' => quotes += 1,
                    _ => {}
                }
            }
            prop_assert_eq!(quotes, 12);
        }

        #[test]
        fn any_bytes_make_valid_json(agent in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut any = entry();
            any.user_agent = Some(&agent);
            let value = object(&any);
            if let Ok(text) = std::str::from_utf8(&agent) {
                prop_assert_eq!(value["user_agent"].as_str(), Some(text));
            }
        }
    }
}
