//! Properties over arbitrary input: nothing panics, and what is written reads back.

use http1::{
    BodyDecoder, CHUNK_END, Fields, Framing, Limits, Parsed, RequestHead, RequestRules, ResponseHead,
    parse_request_with, parse_response, request_framing, response_framing, write_chunk_head,
    write_last_chunk, write_response_head,
};
use proptest::prelude::*;

use crate::compare::{self, decode};

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..longest)
}

/// Bytes of which most are ones that the grammar cares about.
fn telling(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => proptest::sample::select(b"\r\n :;a0X/\t,".to_vec()), 1 => any::<u8>()];
    proptest::collection::vec(byte, 0..longest)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\t'), 0x20_u8..=0x7e, 0x80_u8..=0xff];
    proptest::collection::vec(byte, 0..20).prop_map(|value| value.trim_ascii().to_vec())
}

fn read_everything(input: &[u8]) {
    for (lenient, accept_http10) in [(false, false), (true, false), (false, true), (true, true)] {
        let rules =
            RequestRules { limits: Limits { max_head_bytes: 200, max_headers: 5 }, lenient, accept_http10 };
        let mut head = RequestHead::default();
        if let Ok(Parsed::Complete(consumed)) = parse_request_with(input, &rules, &mut head) {
            assert!(consumed <= input.len() && consumed <= 200);
            assert!(head.authority_and_path().is_ok());
            assert!(request_framing(&head).is_ok());
            let _ = head.to_origin_form(true);
        }
        decode(&mut BodyDecoder::new(Framing::Chunked, lenient), [input]);
    }
    let mut head = ResponseHead::default();
    if let Ok(Parsed::Complete(consumed)) = parse_response(input, &Limits::default(), &mut head) {
        assert!(consumed <= input.len());
        let _ = response_framing(&head, false);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_codec_panic_or_differ(input in bytes(300)) {
        read_everything(&input);
        compare::request(&input);
        compare::response(&input);
        compare::chunks(&input);
    }

    #[test]
    fn no_telling_bytes_make_the_codec_panic_or_differ(input in telling(60)) {
        read_everything(&input);
        compare::chunks(&input);
        compare::request(&[b"GET / HTTP/1.1\r\nhost: a\r\n".as_slice(), &input].concat());
        compare::request(&[b"GET ".as_slice(), &input, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat());
        compare::request(&[b"GET / HTTP/1.1\r\nhost: a\r\nx:".as_slice(), &input, b"\r\n\r\n"].concat());
        compare::response(&[b"HTTP/1.1 200".as_slice(), &input, b"\r\n\r\n"].concat());
        read_everything(&[b"GET / HTTP/1.1\r\nhost: a\r\n".as_slice(), &input, b"\r\n\r\n"].concat());
    }

    #[test]
    fn a_body_written_in_chunks_reads_back(
        chunks in proptest::collection::vec(bytes(50), 0..6),
        trailers in proptest::collection::vec(("x-[a-z]{1,5}", value()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut written = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            write_chunk_head(&mut written, chunk.len());
            written.extend_from_slice(chunk);
            written.extend_from_slice(CHUNK_END);
        }
        let mut fields = Fields::default();
        fields.extend(trailers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        write_last_chunk(&mut written, Some(&fields).filter(|fields| !fields.is_empty()));
        let (first, second) = written.split_at(cut.index(written.len()));
        let got = decode(&mut BodyDecoder::new(Framing::Chunked, false), [first, second]);
        prop_assert_eq!(got.data, chunks.concat());
        prop_assert_eq!(got.trailers, trailers);
        prop_assert!(got.done && got.consumed == written.len());
    }

    #[test]
    fn a_response_head_reads_back(
        status in 200_u16..=999,
        lines in proptest::collection::vec(("x-[a-z]{1,5}", value()), 0..8),
    ) {
        let mut head = ResponseHead { status, ..ResponseHead::default() };
        head.fields.extend(lines.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        let mut written = Vec::new();
        write_response_head(&mut written, &head);
        let mut again = ResponseHead::default();
        let parsed = parse_response(&written, &Limits::default(), &mut again);
        prop_assert_eq!(parsed, Ok(Parsed::Complete(written.len())));
        prop_assert_eq!((again.status, again.fields), (head.status, head.fields));
    }

    #[test]
    fn a_length_body_gives_exactly_its_bytes(length in 0_u64..200, input in bytes(300), cut in any::<prop::sample::Index>()) {
        let (first, second) = input.split_at(cut.index(input.len() + 1).min(input.len()));
        let mut decoder = BodyDecoder::new(Framing::Length(length), false);
        let got = decode(&mut decoder, [first, second]);
        let expected = input.len().min(usize::try_from(length).unwrap());
        prop_assert_eq!(got.data, &input[..expected]);
        prop_assert_eq!(got.done, input.len() as u64 >= length);
        prop_assert_eq!(decoder.end_of_stream().is_ok(), got.done);
    }
}
