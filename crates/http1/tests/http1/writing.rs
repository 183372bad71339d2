//! What goes on the wire.

use http1::{
    Fields, ResponseHead, reason, write_chunk_head, write_last_chunk, write_request_head,
    write_response_head, write_status_line,
};

fn fields(of: &[(&str, &[u8])]) -> Fields {
    let mut fields = Fields::default();
    fields.extend(of.iter().copied());
    fields
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before ".to_vec();
    write(&mut out);
    out.escape_ascii().to_string().strip_prefix("before ").unwrap().to_owned()
}

#[test]
fn a_request_head_has_host_first_and_the_rest_in_order() {
    let list = fields(&[("X-A", b"1"), ("Host", b"a.test"), ("x-b", b"\xe9"), ("x-a", b"")]);
    let written = text(|out| write_request_head(out, "GET", "/p?q", &list));
    assert_eq!(written, r"GET /p?q HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r\nx-b: \xe9\r\nx-a: \r\n\r\n");
}

#[test]
fn a_response_head_has_envoys_reason_and_version_1_1() {
    let head = ResponseHead { status: 404, http10: true, fields: fields(&[("x", b"1"), ("host", b"h")]) };
    let written = text(|out| write_response_head(out, &head));
    assert_eq!(written, r"HTTP/1.1 404 Not Found\r\nx: 1\r\nhost: h\r\n\r\n");
    assert_eq!(text(|out| write_status_line(out, 200, true)), r"HTTP/1.0 200 OK\r\n");
}

#[test]
fn reason_phrases_are_envoys() {
    for (status, phrase) in [
        (100, "Continue"),
        (101, "Switching Protocols"),
        (200, "OK"),
        (203, "Non-Authoritative Information"),
        (205, "Reset Content"),
        (302, "Found"),
        (307, "Temporary Redirect"),
        (400, "Bad Request"),
        (408, "Request Timeout"),
        (413, "Payload Too Large"),
        (426, "Upgrade Required"),
        (429, "Too Many Requests"),
        (431, "Request Header Fields Too Large"),
        (501, "Not Implemented"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (599, "Last Unassigned Server Error Code"),
    ] {
        assert_eq!(reason(status), phrase, "{status}");
    }
}

#[test]
fn a_status_that_envoy_does_not_list_is_unknown() {
    for status in [199, 299, 306, 418, 451, 498, 509, 598, 600, 999] {
        assert_eq!(reason(status), "Unknown", "{status}");
    }
}

#[test]
fn chunk_sizes_are_hexadecimal_and_an_empty_chunk_is_never_written() {
    let head = |len: usize| text(|out| write_chunk_head(out, len));
    assert_eq!(head(1), r"1\r\n");
    assert_eq!(head(255), r"ff\r\n");
    assert_eq!(head(0x4000), r"4000\r\n");
    assert_eq!(head(usize::MAX), r"ffffffffffffffff\r\n");
    assert_eq!(head(0), "");
}

#[test]
fn the_last_chunk_carries_the_trailers() {
    assert_eq!(
        text(|out| write_last_chunk(out, None)).as_bytes(),
        http1::LAST_CHUNK.escape_ascii().to_string().as_bytes()
    );
    let trailers = fields(&[("x-t", b"1")]);
    assert_eq!(text(|out| write_last_chunk(out, Some(&trailers))), r"0\r\nx-t: 1\r\n\r\n");
}
