//! Every refusal of a request head: status, body and response flag as Envoy answers it.

use http1::RequestError;

use crate::strict;

/// Status, whether the body is the reason phrase, and the error.
fn refused(input: &[u8]) -> (u16, &'static str, bool) {
    let error = strict(input).map(|head| panic!("accepted: {head:?}")).unwrap_err();
    (error.status(), error.body(), error.from_codec())
}

const BAD_REQUEST: (u16, &str, bool) = (400, "Bad Request", true);
const BAD_REQUEST_BY_MANAGER: (u16, &str, bool) = (400, "", false);
const UPGRADE_REQUIRED: (u16, &str, bool) = (426, "Upgrade Required", true);
const NOT_IMPLEMENTED: (u16, &str, bool) = (501, "Not Implemented", true);

/// A head with this request line.
fn with_line(line: &[u8]) -> Vec<u8> {
    [line, b"\r\nhost: a.test\r\n\r\n"].concat()
}

/// A head of a POST with these lines after its Host.
fn with_lines(lines: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nhost: a.test\r\n", lines, b"\r\n"].concat()
}

#[test]
fn a_malformed_request_line_is_a_bad_request() {
    let lines: [&[u8]; 15] = [
        b"nonsense",
        b"GET",
        b"GET /",
        b"GET /x",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1\r",
        b"GET\t/ HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.11",
        b"GET / HTTPS/1.1",
        b"GET / FTP/1.1",
        b"/ HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for line in lines {
        assert_eq!(refused(&with_line(line)), BAD_REQUEST, "{}", line.escape_ascii());
    }
}

#[test]
fn two_spaces_in_the_request_line_are_a_bad_request() {
    for line in [b"GET  / HTTP/1.1", b"GET /  HTTP/1.1"] {
        assert_eq!(refused(&with_line(line)), BAD_REQUEST, "{}", line.escape_ascii());
    }
}

#[test]
fn a_method_must_be_an_upper_case_token() {
    for method in ["get", "Get", "GEt", "G@T", "GET(", "p", "G\"T"] {
        assert_eq!(refused(&with_line(format!("{method} / HTTP/1.1").as_bytes())), BAD_REQUEST, "{method}");
    }
    for method in ["GET", "PURGE", "M-SEARCH", "X", "A1!"] {
        assert_eq!(strict(&with_line(format!("{method} / HTTP/1.1").as_bytes())).unwrap().method(), method);
    }
}

#[test]
fn a_target_with_a_blank_a_control_or_a_high_byte_is_a_bad_request() {
    let targets: [&[u8]; 7] = [b"/a b", b"/a\0b", b"/a\x01b", b"/a\tb", b"/caf\xc3\xa9", b"/\xff", b"/\x7f"];
    for target in targets {
        let line = [b"GET ", target, b" HTTP/1.1"].concat();
        assert_eq!(refused(&with_line(&line)), BAD_REQUEST, "{}", target.escape_ascii());
    }
}

#[test]
fn a_target_of_no_known_form_is_a_bad_request() {
    for target in [
        "foo",
        "foo/bar",
        "?q",
        "*",
        "ftp://a/",
        "http://",
        "http:///p",
        "http:/a",
        "http://:80/",
        "a.test:80",
    ] {
        assert_eq!(refused(&with_line(format!("GET {target} HTTP/1.1").as_bytes())), BAD_REQUEST, "{target}");
    }
    for target in
        ["/", "*", "http://a/", "a b", "a/b", "a", ":443", "a:", "a:b", "a:4:4", "::1:443", "u@a:443"]
    {
        assert_eq!(
            refused(&with_line(format!("CONNECT {target} HTTP/1.1").as_bytes())),
            BAD_REQUEST,
            "{target}"
        );
    }
}

#[test]
fn user_information_in_an_absolute_target_is_a_bad_request() {
    assert_eq!(refused(&with_line(b"GET http://a.test@evil.test/ HTTP/1.1")), BAD_REQUEST);
}

#[test]
fn a_fragment_is_refused_with_an_empty_body_and_leaves_the_head_for_the_log() {
    for target in ["/p?q=1#f", "/#", "http://a.test/x#f"] {
        assert_eq!(
            refused(&with_line(format!("GET {target} HTTP/1.1").as_bytes())),
            BAD_REQUEST_BY_MANAGER,
            "{target}"
        );
    }
    let mut head = http1::RequestHead::default();
    let input = b"GET /p#f HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let refused = http1::parse_request(input, &http1::Limits::default(), false, &mut head);
    assert_eq!(refused, Err(RequestError::Fragment));
    assert_eq!((head.method(), head.target()), ("GET", "/p#f"));
}

#[test]
fn every_version_but_1_1_is_told_to_upgrade() {
    for version in ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/3.7", "HTTP/1.2", "HTTP/9.9"] {
        assert_eq!(refused(&with_line(format!("GET / {version}").as_bytes())), UPGRADE_REQUIRED, "{version}");
    }
}

#[test]
fn http_1_0_is_taken_when_asked_for_and_then_needs_no_host() {
    let rules = http1::RequestRules { accept_http10: true, ..Default::default() };
    let mut head = http1::RequestHead::default();
    let input = b"GET /old HTTP/1.0\r\nx: 1\r\n\r\n";
    assert_eq!(http1::parse_request_with(input, &rules, &mut head), Ok(http1::Parsed::Complete(input.len())));
    assert!(head.http10());
    assert_eq!(head.target(), "/old");
    let without_host = b"GET / HTTP/1.1\r\nx: 1\r\n\r\n";
    assert_eq!(http1::parse_request_with(without_host, &rules, &mut head), Err(RequestError::NoHost));
}

#[test]
fn a_request_without_host_is_refused_with_an_empty_body() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), BAD_REQUEST_BY_MANAGER);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nhos: a\r\n\r\n"), BAD_REQUEST_BY_MANAGER);
}

#[test]
fn two_hosts_are_a_bad_request_even_when_equal() {
    assert_eq!(refused(&with_lines(b"host: b.test\r\n")), BAD_REQUEST);
    assert_eq!(refused(&with_lines(b"Host: a.test\r\n")), BAD_REQUEST);
}

#[test]
fn a_host_that_is_no_authority_is_a_bad_request() {
    let hosts: [&[u8]; 5] = [b"a b", b"a.test/x", b"u@a.test", b"caf\xc3\xa9", b"http://a.test\\"];
    for host in hosts {
        let input = [b"GET / HTTP/1.1\r\nhost: ", host, b"\r\n\r\n"].concat();
        assert_eq!(refused(&input), BAD_REQUEST, "{}", host.escape_ascii());
    }
    for host in ["a.test", "A.Test:8080", "[::1]:80", "10.0.0.1:9080", "a_b-c~d", ""] {
        let head = strict(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(head.fields.get("host"), Some(host.as_bytes()));
    }
}

#[test]
fn a_malformed_header_name_is_a_bad_request() {
    let lines: [&[u8]; 9] = [
        b"x-bad : 1\r\n",
        b"x bad: 1\r\n",
        b": 1\r\n",
        b"no-colon\r\n",
        b"x\xe9: 1\r\n",
        b"(x): 1\r\n",
        b"x\0: 1\r\n",
        b"x\r: 1\r\n",
        b"x\t: 1\r\n",
    ];
    for line in lines {
        assert_eq!(refused(&with_lines(line)), BAD_REQUEST, "{}", line.escape_ascii());
    }
}

#[test]
fn a_control_in_a_header_value_is_a_bad_request() {
    for byte in (0..=0x1f).chain([0x7f]).filter(|byte| ![b'\t', b'\n'].contains(byte)) {
        let line = [b"x: a", [byte].as_slice(), b"b\r\n"].concat();
        assert_eq!(refused(&with_lines(&line)), BAD_REQUEST, "{}", line.escape_ascii());
    }
}

#[test]
fn a_folded_line_is_a_bad_request() {
    for lines in [b"x: a\r\n  b\r\n".as_slice(), b"x: a\r\n\tb\r\n", b"x: a\n b\r\n", b"x:\r\n \r\n"] {
        assert_eq!(refused(&with_lines(lines)), BAD_REQUEST, "{}", lines.escape_ascii());
    }
    assert_eq!(refused(b"GET / HTTP/1.1\r\n host: a.test\r\n\r\n"), BAD_REQUEST);
}

#[test]
fn content_length_beside_transfer_encoding_is_a_bad_request() {
    for lines in [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n".as_slice(),
        b"transfer-encoding: chunked\r\ncontent-length: 0\r\n",
        b"content-length: 5\r\ntransfer-encoding: identity\r\n",
    ] {
        assert_eq!(refused(&with_lines(lines)), BAD_REQUEST, "{}", lines.escape_ascii());
    }
}

#[test]
fn a_content_length_that_is_not_digits_of_64_bits_is_a_bad_request() {
    for length in [
        "-1",
        "+5",
        "5x",
        "x5",
        "0x5",
        "5,5",
        "5, 5",
        "5 5",
        "",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        assert_eq!(
            refused(&with_lines(format!("content-length: {length}\r\n").as_bytes())),
            BAD_REQUEST,
            "{length}"
        );
    }
}

#[test]
fn two_content_lengths_are_a_bad_request_even_when_equal() {
    assert_eq!(refused(&with_lines(b"content-length: 5\r\ncontent-length: 5\r\n")), BAD_REQUEST);
    assert_eq!(refused(&with_lines(b"content-length: 5\r\ncontent-length: 6\r\n")), BAD_REQUEST);
}

#[test]
fn a_transfer_encoding_other_than_one_chunked_is_not_implemented() {
    for lines in [
        "transfer-encoding: foo\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: \r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
    ] {
        let expected = if lines.contains('\u{b}') { BAD_REQUEST } else { NOT_IMPLEMENTED };
        assert_eq!(refused(&with_lines(lines.as_bytes())), expected, "{lines}");
    }
}

#[test]
fn connection_may_not_nominate_what_tells_the_client() {
    for name in [
        "x-forwarded-for",
        "X-Forwarded-Host",
        "close, x-forwarded-proto",
        ":path",
        "Content-Length",
        "transfer-encoding",
    ] {
        assert_eq!(refused(&with_lines(format!("connection: {name}\r\n").as_bytes())), BAD_REQUEST, "{name}");
    }
    assert_eq!(refused(&with_lines(b"connection: close\r\nconnection: x, x-forwarded-for\r\n")), BAD_REQUEST);
}

#[test]
fn connection_nominating_host_is_refused_with_an_empty_body() {
    assert_eq!(refused(&with_lines(b"connection: host\r\n")), BAD_REQUEST_BY_MANAGER);
    assert_eq!(refused(&with_lines(b"connection: keep-alive,\tHOST\r\n")), BAD_REQUEST_BY_MANAGER);
}

#[test]
fn connection_nominating_ten_headers_is_a_bad_request() {
    assert!(strict(&with_lines(b"connection: a,b,c,d,e,f,g,h,i\r\n")).is_ok());
    assert_eq!(refused(&with_lines(b"connection: a,b,c,d,e,f,g,h,i,j\r\n")), BAD_REQUEST);
}

#[test]
fn what_envoys_codec_refuses_goes_before_what_its_connection_manager_refuses() {
    let both = b"POST /#f HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(strict(both).unwrap_err(), RequestError::LengthAndEncoding);
}

#[test]
fn every_refusal_has_a_status_of_the_table_and_a_detail_of_one_word() {
    use RequestError::*;
    let all = [
        RequestLine,
        Method,
        Target,
        Fragment,
        Version,
        HeaderName,
        HeaderValue,
        HeadTooLong,
        TooManyHeaders,
        NoHost,
        ManyHosts,
        Host,
        ConnectionNominatesHost,
        ConnectionNominates,
        ContentLength,
        LengthAndEncoding,
        TransferEncoding,
        HttpsOnPlaintext,
    ];
    for error in all {
        assert!([400, 403, 426, 431, 501].contains(&error.status()), "{error:?}");
        let body = if error.from_codec() { http1::reason(error.status()) } else { "" };
        assert_eq!(error.body(), body, "{error:?}");
        assert!(!error.detail().contains(' ') && !error.detail().is_empty(), "{error:?}");
    }
    assert_eq!((HttpsOnPlaintext.status(), HttpsOnPlaintext.body()), (403, "Forbidden"));
}
