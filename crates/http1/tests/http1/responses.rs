//! Response heads: what a backend may say, and what is a protocol error.

use http1::{Framing, ResponseError, response_framing};

use crate::{answer, lines};

fn framing(head: &str) -> Result<Framing, ResponseError> {
    response_framing(&answer(head.as_bytes()).unwrap(), false)
}

#[test]
fn the_reason_phrase_may_be_anything_or_missing() {
    for line in [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 Fine By Me",
        "HTTP/1.1 200 ",
        "HTTP/1.1 200",
        "HTTP/1.0 200 caf\u{e9}",
    ] {
        let head = answer(format!("{line}\r\nx: 1\r\n\r\n").as_bytes()).unwrap();
        assert_eq!((head.status, head.http10), (200, line.contains("1.0")), "{line}");
    }
}

#[test]
fn nonsense_is_a_status_line_or_version_error() {
    for line in [
        "nonsense",
        "HTTP/1.1 20",
        "HTTP/1.1 2000 X",
        "HTTP/1.1 099 X",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 200OK",
        "200 OK",
    ] {
        let error = answer(format!("{line}\r\n\r\n").as_bytes()).unwrap_err();
        assert!(matches!(error, ResponseError::StatusLine | ResponseError::Version), "{line}: {error:?}");
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "ICY"] {
        assert_eq!(
            answer(format!("{version} 200 OK\r\n\r\n").as_bytes()).unwrap_err(),
            ResponseError::Version
        );
    }
}

#[test]
fn bad_header_lines_are_errors() {
    for line in ["x bad: 1", "x : 1", ": 1", "no-colon", "x: 1\r\n folded"] {
        let error = answer(format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n").as_bytes()).unwrap_err();
        assert_eq!(error, ResponseError::HeaderName, "{line}");
    }
    let error = answer(b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n").unwrap_err();
    assert_eq!(error, ResponseError::HeaderValue);
}

#[test]
fn without_framing_the_body_lasts_until_the_stream_ends() {
    assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n"), Ok(Framing::UntilClose));
    assert_eq!(framing("HTTP/1.0 200 OK\r\n\r\n"), Ok(Framing::UntilClose));
}

#[test]
fn length_and_chunked_are_taken_as_announced() {
    assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"), Ok(Framing::Length(10)));
    assert_eq!(framing("HTTP/1.1 205 X\r\ncontent-length: 0\r\n\r\n"), Ok(Framing::Length(0)));
    assert_eq!(framing("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"), Ok(Framing::Chunked));
}

#[test]
fn the_answer_to_head_and_a_304_have_no_body_whatever_they_announce() {
    for announced in ["content-length: 10\r\n", "transfer-encoding: chunked\r\n", ""] {
        let head = answer(format!("HTTP/1.1 200 OK\r\n{announced}\r\n").as_bytes()).unwrap();
        assert_eq!(response_framing(&head, true), Ok(Framing::None), "{announced}");
        let unchanged = framing(&format!("HTTP/1.1 304 X\r\n{announced}\r\n"));
        assert_eq!(unchanged, Ok(Framing::None), "{announced}");
    }
    let head = answer(b"HTTP/1.1 304 X\r\ncontent-length: 10\r\n\r\n").unwrap();
    assert_eq!(head.fields.get("content-length"), Some(b"10".as_slice()));
}

#[test]
fn a_204_or_1xx_may_not_announce_a_body() {
    for status in [100, 101, 103, 204] {
        assert_eq!(framing(&format!("HTTP/1.1 {status} X\r\n\r\n")), Ok(Framing::None));
        assert_eq!(framing(&format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")), Ok(Framing::None));
        for announced in ["content-length: 5", "transfer-encoding: chunked"] {
            let refused = framing(&format!("HTTP/1.1 {status} X\r\n{announced}\r\n\r\n"));
            assert_eq!(refused, Err(ResponseError::BodyNotAllowed), "{status} {announced}");
        }
    }
}

#[test]
fn a_length_of_zero_is_dropped_from_a_204() {
    let head = answer(b"HTTP/1.1 204 No Content\r\nx: 1\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert_eq!(lines(&head.fields), vec![("x", b"1".as_slice())]);
}

#[test]
fn equal_lengths_become_one_line_and_different_ones_are_an_error() {
    for second in ["5", "05"] {
        let head = answer(
            format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: 1\r\ncontent-length: {second}\r\n\r\n")
                .as_bytes(),
        );
        let head = head.unwrap();
        assert_eq!(lines(&head.fields), vec![("content-length", b"5".as_slice()), ("x", b"1".as_slice())]);
        assert_eq!(response_framing(&head, false), Ok(Framing::Length(5)));
    }
    let different = framing("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n");
    assert_eq!(different, Err(ResponseError::ContentLength));
    let third =
        framing("HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-length: x\r\ncontent-length: x\r\n\r\n");
    assert_eq!(third, Err(ResponseError::ContentLength));
}

#[test]
fn framing_that_could_be_read_two_ways_is_an_error() {
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(framing(both), Err(ResponseError::LengthAndEncoding));
    for length in ["-1", "+5", "5x", "5, 5", "", "18446744073709551616"] {
        let refused = framing(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"));
        assert_eq!(refused, Err(ResponseError::ContentLength), "{length}");
    }
    for coding in ["gzip", "gzip, chunked", "identity", "chunked\r\ntransfer-encoding: chunked"] {
        let refused = framing(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\n"));
        assert_eq!(refused, Err(ResponseError::TransferEncoding), "{coding}");
    }
    // Even where no body is expected: the next reader may not know that.
    let head = answer(both.as_bytes()).unwrap();
    assert_eq!(response_framing(&head, true), Err(ResponseError::LengthAndEncoding));
}
