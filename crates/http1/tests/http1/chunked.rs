//! Message bodies: the chunked coding above all.

use http1::{BodyDecoder, BodyError, Framing};

use crate::compare::{Decoded, decode};

fn chunked(input: &[u8]) -> Decoded {
    decode(&mut BodyDecoder::new(Framing::Chunked, false), [input])
}

fn lenient(input: &[u8]) -> Decoded {
    decode(&mut BodyDecoder::new(Framing::Chunked, true), [input])
}

fn failure(input: &[u8]) -> Option<BodyError> {
    chunked(input).error
}

#[test]
fn chunks_are_joined_and_what_follows_the_body_is_left_alone() {
    let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let got = chunked(&[body.as_slice(), b"GET / HTTP/1.1\r\n"].concat());
    assert_eq!((got.data, got.consumed, got.done), (b"abcde".to_vec(), body.len(), true));
}

#[test]
fn extensions_padding_case_and_leading_zeros_are_passed_over() {
    for body in [
        "A;ext=1\r\n0123456789\r\n0;last\r\n\r\n",
        "a ; q=\"x y\"\r\n0123456789\r\n000\r\n\r\n",
        "000000000000000000000a  \r\n0123456789\r\n0\r\n\r\n",
    ] {
        let got = chunked(body.as_bytes());
        assert_eq!((got.data, got.done), (b"0123456789".to_vec(), true), "{body}");
    }
}

#[test]
fn a_bad_size_is_an_error() {
    for size in ["zz", "", " 3", "-3", "+3", "0x3", "g", "3 4", "3,", "\u{e9}"] {
        assert_eq!(
            failure(format!("{size}\r\nabc\r\n0\r\n\r\n").as_bytes()),
            Some(BodyError::ChunkSize),
            "{size}"
        );
    }
}

#[test]
fn an_empty_line_is_not_the_last_chunk() {
    assert_eq!(failure(b"\r\n\r\n"), Some(BodyError::ChunkSize));
    assert_eq!(failure(b"3\r\nabc\r\n\r\n\r\n"), Some(BodyError::ChunkSize));
}

#[test]
fn a_size_above_64_bits_is_an_error_and_the_highest_is_not() {
    assert_eq!(failure(b"ffffffffffffffff\r\nabc"), None);
    assert_eq!(failure(b"10000000000000000\r\nabc"), Some(BodyError::ChunkSize));
    assert_eq!(failure(b"fffffffffffffffff\r\nabc"), Some(BodyError::ChunkSize));
}

#[test]
fn a_chunk_line_that_ends_with_lf_alone_is_an_error() {
    assert_eq!(failure(b"3\nabc\r\n0\r\n\r\n"), Some(BodyError::ChunkLine));
    assert_eq!(failure(b"3;x\nabc\r\n0\r\n\r\n"), Some(BodyError::ChunkLine));
    assert_eq!(failure(b"3 \nabc\r\n0\r\n\r\n"), Some(BodyError::ChunkLine));
    assert_eq!(failure(b"3\r\nabc\n0\r\n\r\n"), Some(BodyError::ChunkEnd));
    assert_eq!(failure(b"0\n\n"), Some(BodyError::ChunkLine));
    assert_eq!(failure(b"0\r\n\n"), Some(BodyError::Trailer));
    assert_eq!(lenient(b"3\nabc\n0\n\n").error, Some(BodyError::ChunkLine));
    assert_eq!(lenient(b"3\r\nabc\n0\r\n\r\n").error, Some(BodyError::ChunkEnd));
}

#[test]
fn a_cr_that_no_lf_follows_is_an_error() {
    assert_eq!(failure(b"3\rxabc"), Some(BodyError::ChunkLine));
    assert_eq!(failure(b"3;a\rb\r\nabc"), Some(BodyError::ChunkLine));
    assert_eq!(failure(b"3\r\nabc\rx"), Some(BodyError::ChunkEnd));
    assert_eq!(failure(b"0\r\n\rx"), Some(BodyError::Trailer));
}

#[test]
fn a_control_in_an_extension_is_an_error() {
    assert_eq!(failure(b"3;a\0b\r\nabc"), Some(BodyError::ChunkLine));
    assert_eq!(failure(b"3;\x7f\r\nabc"), Some(BodyError::ChunkLine));
}

#[test]
fn bytes_between_the_data_and_the_line_end_are_an_error_unless_lenient() {
    let body = b"3\r\nabcde\r\n0\r\n\r\n";
    assert_eq!(failure(body), Some(BodyError::ChunkEnd));
    let got = lenient(body);
    assert_eq!((got.data, got.done, got.consumed), (b"abc".to_vec(), true, body.len()));
    let endless = [b"3\r\nabc".as_slice(), &[b'x'; 5000]].concat();
    assert_eq!(lenient(&endless).error, Some(BodyError::ChunkLineTooLong));
}

#[test]
fn the_data_before_a_fault_are_given_first() {
    let got = chunked(b"3\r\nabc\r\n2\r\ndeX\r\n");
    assert_eq!((got.data, got.error), (b"abcde".to_vec(), Some(BodyError::ChunkEnd)));
}

#[test]
fn a_chunk_line_has_a_longest_length() {
    let line = |extension: usize| [b"1;".as_slice(), &vec![b'x'; extension], b"\r\na\r\n0\r\n\r\n"].concat();
    assert!(chunked(&line(4092)).done);
    assert_eq!(failure(&line(4093)), Some(BodyError::ChunkLineTooLong));
    let zeros = [vec![b'0'; 5000], b"1\r\n".to_vec()].concat();
    assert_eq!(failure(&zeros), Some(BodyError::ChunkLineTooLong));
}

#[test]
fn trailers_are_collected_in_order_and_the_forbidden_dropped() {
    let input = b"0\r\nX-T: 1\r\nHost: evil\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nTE: x\r\n\
        X-Forwarded-For: 1.2.3.4\r\nX-Envoy-Internal: true\r\nCookie: a\r\ngrpc-status:\t0 \r\nx-t: 2\r\n\r\n";
    let got = chunked(input);
    let expected = [("x-t", b"1".as_slice()), ("grpc-status", b"0"), ("x-t", b"2")];
    assert_eq!(got.trailers, expected.map(|(name, value)| (name.to_owned(), value.to_vec())));
    assert!(got.done && got.consumed == input.len());
}

#[test]
fn a_body_without_trailers_or_with_forbidden_ones_only_has_none() {
    for input in [b"0\r\n\r\n".as_slice(), b"0\r\nhost: a\r\n\r\n"] {
        let mut decoder = BodyDecoder::new(Framing::Chunked, false);
        assert!(decode(&mut decoder, [input]).done);
        assert!(decoder.trailers().is_none());
    }
}

#[test]
fn trailers_are_out_of_reach_before_the_body_is_done() {
    let mut decoder = BodyDecoder::new(Framing::Chunked, false);
    assert!(!decode(&mut decoder, [b"0\r\nx: 1\r\n".as_slice()]).done);
    assert!(decoder.trailers().is_none());
    assert!(decode(&mut decoder, [b"\r\n".as_slice()]).done);
    assert_eq!(decoder.trailers().unwrap().get("x"), Some(b"1".as_slice()));
}

#[test]
fn a_malformed_trailer_is_an_error() {
    for line in
        ["no-colon", ": v", "x y: 1", " x: 1", "x : 1", "x: a\0b", "x: a\rb", "x: 1\r\n folded", "\u{e9}: 1"]
    {
        assert_eq!(failure(format!("0\r\n{line}\r\n\r\n").as_bytes()), Some(BodyError::Trailer), "{line}");
    }
    assert_eq!(failure(b"0\r\nx: 1\n\r\n"), Some(BodyError::Trailer));
}

#[test]
fn trailers_are_bounded_in_number_and_in_bytes() {
    let lines = |count: usize| format!("0\r\n{}\r\n", "x: 1\r\n".repeat(count));
    assert!(chunked(lines(100).as_bytes()).done);
    assert_eq!(failure(lines(101).as_bytes()), Some(BodyError::TrailersTooLong));
    let dropped = format!("0\r\n{}\r\n", "host: 1\r\n".repeat(101));
    assert_eq!(failure(dropped.as_bytes()), Some(BodyError::TrailersTooLong));
    let long = |length: usize| format!("0\r\nx:{}\r\n\r\n", "a".repeat(length - 6));
    assert!(chunked(long(http1::MAX_TRAILER_BYTES).as_bytes()).done);
    assert_eq!(failure(long(http1::MAX_TRAILER_BYTES + 1).as_bytes()), Some(BodyError::TrailersTooLong));
}

#[test]
fn a_length_body_ends_after_exactly_its_bytes() {
    let mut decoder = BodyDecoder::new(Framing::Length(5), false);
    assert_eq!(decoder.remaining(), Some(5));
    let step = decoder.decode(b"hel").unwrap();
    assert_eq!((step.consumed, step.data, step.done), (3, 0..3, false));
    assert_eq!(decoder.remaining(), Some(2));
    let step = decoder.decode(b"loGET").unwrap();
    assert_eq!((step.consumed, step.data, step.done), (2, 0..2, true));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(0), true));
    assert_eq!(decoder.decode(b"GET").unwrap().consumed, 0);
}

#[test]
fn no_body_and_an_empty_body_are_done_at_once() {
    for framing in [Framing::None, Framing::Length(0)] {
        let mut decoder = BodyDecoder::new(framing, false);
        assert!(decoder.is_done());
        let step = decoder.decode(b"GET").unwrap();
        assert_eq!((step.consumed, step.done), (0, true));
        assert_eq!(decoder.end_of_stream(), Ok(()));
    }
}

#[test]
fn the_end_of_the_stream_completes_only_what_lasts_until_then() {
    let mut until_close = BodyDecoder::new(Framing::UntilClose, false);
    let got = decode(&mut until_close, [b"ab".as_slice(), b"c"]);
    assert_eq!((got.data, got.done), (b"abc".to_vec(), false));
    assert_eq!((until_close.end_of_stream(), until_close.is_done()), (Ok(()), true));

    let mut length = BodyDecoder::new(Framing::Length(3), false);
    decode(&mut length, [b"ab".as_slice()]);
    assert_eq!(length.end_of_stream(), Err(BodyError::Truncated));
    assert_eq!(length.decode(b"c"), Err(BodyError::Truncated));

    for start in [b"".as_slice(), b"3", b"3\r\nab", b"3\r\nabc\r\n", b"0\r\n", b"0\r\nx: 1\r\n"] {
        let mut chunks = BodyDecoder::new(Framing::Chunked, false);
        decode(&mut chunks, [start]);
        assert_eq!(chunks.end_of_stream(), Err(BodyError::Truncated), "{}", start.escape_ascii());
    }
}

#[test]
fn a_chunked_body_has_no_known_rest() {
    assert_eq!(BodyDecoder::new(Framing::Chunked, false).remaining(), None);
    assert_eq!(BodyDecoder::new(Framing::UntilClose, false).remaining(), None);
}
