//! The codec against the reference on one input; each function panics where they differ.
//!
//! Shared by the seeded tests and the fuzz targets. Read next: `differential.rs`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use http1::{
    BodyDecoder, BodyError, Fields, Framing, Limits, Parsed, RequestHead, ResponseHead, parse_request,
    parse_response, request_framing, response_framing, write_request_head,
};

use crate::reference::{self, Body, Lines, Verdict};

/// What may follow an incomplete head. A head refused early must be refused with each of them.
const COMPLETIONS: [&[u8]; 6] = [
    b"\r\n\r\n",
    b"\n\n",
    b"\r\nhost: a\r\n\r\n",
    b": v\r\nhost: a\r\n\r\n",
    b" HTTP/1.1\r\nhost: a\r\n\r\n",
    b" / HTTP/1.1\r\nhost: a\r\n\r\n",
];

fn same_fields(fields: &Fields, expected: &Lines, input: &[u8]) {
    let got: Vec<_> = fields.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    assert_eq!(&got, expected, "fields of {}", input.escape_ascii());
}

fn same_framing(framing: Framing, expected: Body, input: &[u8]) {
    let expected = match expected {
        Body::None => Framing::None,
        Body::Length(length) => Framing::Length(length),
        Body::UntilClose => Framing::UntilClose,
        Body::Chunked => Framing::Chunked,
    };
    assert_eq!(framing, expected, "framing of {}", input.escape_ascii());
}

/// Request heads: same verdict; a good one also in lenient mode, and written and read again.
pub fn request(input: &[u8]) {
    let mut head = RequestHead::default();
    let got = parse_request(input, &Limits::default(), false, &mut head);
    let shown = input.escape_ascii();
    match (reference::request(input), got) {
        (Verdict::Good(expected), Ok(Parsed::Complete(consumed))) => {
            assert_eq!(consumed, expected.consumed, "consumed of {shown}");
            assert_eq!(
                (head.method(), head.target()),
                (&*expected.method, &*expected.target),
                "line of {shown}"
            );
            same_fields(&head.fields, &expected.fields, input);
            same_framing(request_framing(&head).unwrap(), expected.body, input);
            lenient_agrees(input, &head, consumed);
            survives_writing(&head);
        }
        (Verdict::Faulty(faults), Err(error)) => {
            let fault = (error.status(), error.from_codec());
            assert!(faults.contains(&fault), "{error:?} but the reference found {faults:?} in {shown}");
            assert_eq!(error.body().is_empty(), !error.from_codec());
        }
        (Verdict::Partial, Ok(Parsed::Partial)) => {}
        (Verdict::Partial, Err(error)) => {
            for completion in COMPLETIONS {
                let whole = reference::request(&[input, completion].concat());
                let refused = matches!(whole, Verdict::Faulty(_));
                assert!(refused, "{error:?} too early for {shown}: {whole:?}");
            }
        }
        (expected, got) => panic!("the codec says {got:?}, the reference {expected:?} of {shown}"),
    }
}

fn lenient_agrees(input: &[u8], head: &RequestHead, consumed: usize) {
    let mut lenient = RequestHead::default();
    let got = parse_request(input, &Limits::default(), true, &mut lenient);
    assert_eq!(got, Ok(Parsed::Complete(consumed)), "lenient mode on {}", input.escape_ascii());
    assert_eq!((lenient.method(), lenient.target()), (head.method(), head.target()));
    assert_eq!(lenient.fields, head.fields);
}

fn survives_writing(head: &RequestHead) {
    let mut written = Vec::new();
    write_request_head(&mut written, head.method(), head.target(), &head.fields);
    let mut again = RequestHead::default();
    // Without leading blanks and with one blank after each colon the head may have become longer than allowed.
    let limits = Limits { max_head_bytes: usize::MAX, ..Limits::default() };
    let parsed = parse_request(&written, &limits, false, &mut again);
    assert_eq!(parsed, Ok(Parsed::Complete(written.len())), "{}", written.escape_ascii());
    let others = |head: &RequestHead| -> Vec<_> {
        head.fields.iter().filter(|line| line.0 != "host").map(|(n, v)| (n.to_owned(), v.to_vec())).collect()
    };
    assert_eq!(others(&again), others(head));
    assert_eq!(again.fields.get("host"), head.fields.get("host"));
    assert_eq!(again.fields.iter().next().map(|line| line.0.to_owned()), Some("host".to_owned()));
}

/// Response heads, as the answer to GET and to HEAD.
pub fn response(input: &[u8]) {
    let shown = input.escape_ascii();
    for answers_head in [false, true] {
        let mut head = ResponseHead::default();
        let got = parse_response(input, &Limits::default(), &mut head);
        let framing = match got {
            Ok(Parsed::Complete(_)) => Some(response_framing(&head, answers_head)),
            _ => None,
        };
        match (reference::response(input, answers_head), got, framing) {
            (Verdict::Good(expected), Ok(Parsed::Complete(consumed)), Some(Ok(framing))) => {
                assert_eq!(consumed, expected.consumed, "consumed of {shown}");
                assert_eq!((head.status, head.http10), (expected.status, expected.http10), "line of {shown}");
                same_framing(framing, expected.body, input);
                same_fields(&head.fields, &expected.fields, input);
            }
            (Verdict::Faulty(_), Err(_), _) | (Verdict::Faulty(_), _, Some(Err(_))) => {}
            (Verdict::Partial, Ok(Parsed::Partial) | Err(_), _) => {}
            (expected, got, framing) => {
                panic!("the codec says {got:?} {framing:?}, the reference {expected:?} of {shown}");
            }
        }
    }
}

/// What a decoder made of an input that came in these pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub data: Vec<u8>,
    pub consumed: usize,
    pub done: bool,
    pub error: Option<BodyError>,
    pub trailers: Lines,
}

/// Feeds a decoder. A piece that is not consumed whole is offered again together with the next.
pub fn decode<'a>(decoder: &mut BodyDecoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoded = Decoded {
        data: Vec::new(),
        consumed: 0,
        done: decoder.is_done(),
        error: None,
        trailers: Lines::new(),
    };
    let mut pending = Vec::new();
    'pieces: for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            match decoder.decode(&pending) {
                Ok(step) => {
                    assert!(step.data.end <= step.consumed && step.consumed <= pending.len());
                    decoded.data.extend_from_slice(&pending[step.data]);
                    decoded.consumed += step.consumed;
                    pending.drain(..step.consumed);
                    decoded.done = step.done;
                    assert_eq!(step.done, decoder.is_done());
                    if step.done {
                        break 'pieces;
                    }
                    if step.consumed == 0 || pending.is_empty() {
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&pending), Err(error), "a failed decoder stays failed");
                    decoded.error = Some(error);
                    break 'pieces;
                }
            }
        }
    }
    if let Some(trailers) = decoder.trailers() {
        decoded.trailers = trailers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    }
    decoded
}

/// Chunked bodies: same verdict, same data, same trailers.
pub fn chunks(input: &[u8]) {
    let got = decode(&mut BodyDecoder::new(Framing::Chunked, false), [input]);
    let shown = input.escape_ascii();
    match reference::chunked(input) {
        Verdict::Good(expected) => {
            assert_eq!((got.done, got.error), (true, None), "{shown}");
            assert_eq!((&got.data, got.consumed), (&expected.data, expected.consumed), "{shown}");
            let kept: Lines =
                got.trailers.iter().filter(|line| http1::may_be_trailer(&line.0)).cloned().collect();
            assert_eq!(got.trailers, kept, "a forbidden trailer of {shown}");
            let expected: Lines =
                expected.trailers.into_iter().filter(|line| http1::may_be_trailer(&line.0)).collect();
            assert_eq!(got.trailers, expected, "{shown}");
            let lenient = decode(&mut BodyDecoder::new(Framing::Chunked, true), [input]);
            assert_eq!(lenient, got, "lenient mode on {shown}");
        }
        Verdict::Faulty(_) => assert!(got.error.is_some() && !got.done, "{got:?} of {shown}"),
        Verdict::Partial => assert!(got.error.is_none() && !got.done, "{got:?} of {shown}"),
    }
}

/// The verdict on a request head, and the head, are the same however its input is cut.
pub fn request_in_pieces(input: &[u8], lenient: bool, pieces: &[&[u8]]) {
    let mut whole = RequestHead::default();
    let expected = parse_request(input, &Limits::default(), lenient, &mut whole);
    let mut head = RequestHead::default();
    let mut arrived = 0;
    for piece in pieces {
        arrived += piece.len();
        let got = parse_request(&input[..arrived], &Limits::default(), lenient, &mut head);
        if got == Ok(Parsed::Partial) {
            continue;
        }
        assert_eq!(got, expected, "{}", input.escape_ascii());
        if got.is_ok() {
            assert_eq!((head.method(), head.target()), (whole.method(), whole.target()));
            assert_eq!(head.fields, whole.fields);
        }
        return;
    }
    // A head that is wrong and incomplete may be refused only when more of it comes.
    if expected != Ok(Parsed::Partial) {
        let incomplete = matches!(reference::request(input), Verdict::Partial);
        assert!(incomplete, "{expected:?} is never said of {}", input.escape_ascii());
    }
}

/// The verdict on a chunked body, its data and its trailers are the same however its input is cut.
pub fn chunks_in_pieces(input: &[u8], lenient: bool, pieces: &[&[u8]]) {
    let decoder = || BodyDecoder::new(Framing::Chunked, lenient);
    let whole = decode(&mut decoder(), [input]);
    let split = decode(&mut decoder(), pieces.iter().copied());
    assert_eq!(
        (&split.data, split.done, split.error),
        (&whole.data, whole.done, whole.error),
        "{}",
        input.escape_ascii()
    );
    assert_eq!(split.trailers, whole.trailers, "{}", input.escape_ascii());
    assert!(whole.error.is_some() || split.consumed == whole.consumed);
}
