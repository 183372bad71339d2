//! What strict reading tolerates all the same, and what lenient mode repairs, each as Envoy does.

use http1::{Limits, Parsed, RequestError, RequestHead, parse_request};

use crate::{lenient, lines, strict};

const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\nx: 1\r\n\r\n";

#[test]
fn line_ends_of_lf_alone_are_tolerated() {
    let head = strict(b"GET / HTTP/1.1\nhost: a.test\nx: 1\n\n").unwrap();
    assert_eq!(head.fields, strict(PLAIN).unwrap().fields);
    let mixed = strict(b"GET / HTTP/1.1\r\nhost: a.test\nx: 1\r\n\n").unwrap();
    assert_eq!(mixed.fields, head.fields);
}

#[test]
fn empty_lines_before_the_request_are_skipped_and_counted_as_consumed() {
    for before in ["\r\n", "\n", "\r\n\r\n\n"] {
        let input = [before.as_bytes(), PLAIN].concat();
        let mut head = RequestHead::default();
        assert_eq!(
            parse_request(&input, &Limits::default(), false, &mut head),
            Ok(Parsed::Complete(input.len()))
        );
        assert_eq!(head.method(), "GET");
    }
}

#[test]
fn names_are_lower_cased_and_values_are_kept_byte_for_byte_without_the_blanks_around_them() {
    let head =
        strict(b"GET / HTTP/1.1\r\nHOST:a.Test\r\nX-T: \t \xe9t\xe9  V \t\r\nX-Empty:\r\nx-t:b\r\n\r\n")
            .unwrap();
    let expected: Vec<(&str, &[u8])> =
        vec![("host", b"a.Test"), ("x-t", b"\xe9t\xe9  V"), ("x-empty", b""), ("x-t", b"b")];
    assert_eq!(lines(&head.fields), expected);
}

#[test]
fn chunked_is_known_in_any_case() {
    for coding in ["chunked", "CHUNKED", "Chunked"] {
        let head =
            strict(format!("POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: {coding}\r\n\r\n").as_bytes())
                .unwrap();
        assert_eq!(http1::request_framing(&head), Ok(http1::Framing::Chunked));
    }
}

#[test]
fn underscores_in_names_pass() {
    assert!(strict(b"GET / HTTP/1.1\r\nhost: a\r\nx_under_score: 1\r\n\r\n").is_ok());
}

#[test]
fn two_spaces_in_the_request_line_are_repaired() {
    for line in ["GET  /p HTTP/1.1", "GET /p  HTTP/1.1", "GET   /p   HTTP/1.1"] {
        let head = lenient(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
        assert_eq!((head.method(), head.target()), ("GET", "/p"), "{line}");
    }
    let refused = lenient(b"GET  /  HTTP/3.7\r\nhost: a\r\n\r\n").unwrap_err();
    assert_eq!(refused, RequestError::Version);
}

#[test]
fn two_hosts_are_joined_where_the_first_stood() {
    let head = lenient(b"GET / HTTP/1.1\r\nx: 1\r\nhost: a.test\r\ny: 2\r\nHost: b.test\r\n\r\n").unwrap();
    let expected: Vec<(&str, &[u8])> = vec![("x", b"1"), ("host", b"a.test,b.test"), ("y", b"2")];
    assert_eq!(lines(&head.fields), expected);
}

#[test]
fn a_cr_inside_a_value_is_removed() {
    let input = b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\nrest";
    let mut head = RequestHead::default();
    let taken = input.len() - 4;
    assert_eq!(parse_request(input, &Limits::default(), true, &mut head), Ok(Parsed::Complete(taken)));
    assert_eq!(head.fields.get("x"), Some(b"ab".as_slice()));
}

#[test]
fn a_folded_line_is_joined_with_the_blanks_it_began_with() {
    let input = b"\r\nGET / HTTP/1.1\r\nhost: a\r\nx: a\r\n  b\r\n\tc\r\ny: 1\r\n\r\nrest";
    let mut head = RequestHead::default();
    let taken = input.len() - 4;
    assert_eq!(parse_request(input, &Limits::default(), true, &mut head), Ok(Parsed::Complete(taken)));
    assert_eq!(head.fields.get("x"), Some(b"a  b\tc".as_slice()));
    assert_eq!(head.fields.get("y"), Some(b"1".as_slice()));
}

#[test]
fn a_head_under_repair_waits_for_its_end() {
    let input = b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n  b\r\ny: 1\r\n\r\n";
    let mut head = RequestHead::default();
    for length in 0..input.len() {
        let parsed = parse_request(&input[..length], &Limits::default(), true, &mut head);
        assert_eq!(parsed, Ok(Parsed::Partial), "after {length} bytes");
    }
    assert!(matches!(parse_request(input, &Limits::default(), true, &mut head), Ok(Parsed::Complete(_))));
}

#[test]
fn lenient_mode_repairs_nothing_else() {
    let heads: [(&[u8], RequestError); 9] = [
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", RequestError::HeaderValue),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n", RequestError::HeaderName),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx\r: a\r\n\r\n", RequestError::HeaderName),
        (b"GET / HTTP/1.1\r\n host: a\r\n\r\n", RequestError::HeaderName),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\0\r\n\r\n", RequestError::HeaderValue),
        (b"get / HTTP/1.1\r\nhost: a\r\n\r\n", RequestError::Method),
        (b"GET / HTTP/1.1\r\n\r\n", RequestError::NoHost),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
            RequestError::ContentLength,
        ),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding:\r\n chunked\r\n\r\n",
            RequestError::LengthAndEncoding,
        ),
    ];
    for (input, expected) in heads {
        assert_eq!(lenient(input).unwrap_err(), expected, "{}", input.escape_ascii());
    }
}
