//! Request framing, and what Connection says.

use http1::{Framing, connection_persists, has_token, request_framing};

use crate::strict;

fn framing(method: &str, lines: &str) -> Framing {
    let head = strict(format!("{method} / HTTP/1.1\r\nhost: a\r\n{lines}\r\n").as_bytes()).unwrap();
    request_framing(&head).unwrap()
}

#[test]
fn a_request_without_framing_has_no_body_whatever_its_method() {
    for method in ["GET", "POST", "PUT", "PURGE"] {
        assert_eq!(framing(method, ""), Framing::None);
    }
}

#[test]
fn a_length_or_chunked_announces_a_body_of_any_method() {
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        assert_eq!(framing(method, "content-length: 5\r\n"), Framing::Length(5));
        assert_eq!(framing(method, "transfer-encoding: chunked\r\n"), Framing::Chunked);
    }
    assert_eq!(framing("POST", "content-length: 0\r\n"), Framing::Length(0));
    assert_eq!(framing("POST", "content-length: 005\r\n"), Framing::Length(5));
    assert_eq!(framing("POST", "content-length: 18446744073709551615\r\n"), Framing::Length(u64::MAX));
}

#[test]
fn a_head_made_by_hand_is_judged_too() {
    let mut head = http1::RequestHead::default();
    head.fields.push("Content-Length", b"5");
    assert_eq!(request_framing(&head), Ok(Framing::Length(5)));
    head.fields.push("Transfer-Encoding", b"chunked");
    assert_eq!(request_framing(&head), Err(http1::RequestError::LengthAndEncoding));
}

#[test]
fn tokens_are_found_in_any_case_and_any_line() {
    let head = strict(b"GET / HTTP/1.1\r\nhost: a\r\nConnection: x ,, Close\r\nconnection: Upgrade\r\n\r\n")
        .unwrap();
    for token in ["x", "close", "CLOSE", "upgrade"] {
        assert!(has_token(&head.fields, "connection", token), "{token}");
    }
    for token in ["clos", "x ,", "", "keep-alive"] {
        assert!(!has_token(&head.fields, "connection", token), "{token}");
    }
}

#[test]
fn the_connection_persists_unless_closed_and_in_http_1_0_only_when_asked() {
    let persists = |line: &str, http10: bool| {
        let head = strict(format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n").as_bytes()).unwrap();
        connection_persists(&head.fields, http10)
    };
    assert!(persists("", false));
    assert!(persists("connection: keep-alive\r\n", false));
    assert!(!persists("connection: x, Close\r\n", false));
    assert!(!persists("", true));
    assert!(persists("connection: Keep-Alive\r\n", true));
    assert!(!persists("connection: keep-alive, close\r\n", true));
}
