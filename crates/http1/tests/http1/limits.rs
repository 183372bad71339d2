//! The limits on a head, and that an incomplete one is refused as soon as it passes them.

use http1::{
    Limits, Parsed, RequestError, RequestHead, ResponseError, ResponseHead, parse_request, parse_response,
};

use crate::strict;

fn with_headers(count: usize) -> Vec<u8> {
    let more: String = (1..count).map(|index| format!("x-h-{index}: v\r\n")).collect();
    format!("GET / HTTP/1.1\r\nhost: a.test\r\n{more}\r\n").into_bytes()
}

#[test]
fn a_hundred_headers_pass_and_one_more_is_431() {
    assert_eq!(strict(&with_headers(100)).unwrap().fields.len(), 100);
    let refused = strict(&with_headers(101)).unwrap_err();
    assert_eq!((refused, refused.status()), (RequestError::TooManyHeaders, 431));
    assert_eq!(refused.body(), "Request Header Fields Too Large");
}

#[test]
fn the_number_of_headers_can_be_set_up_to_its_ceiling() {
    let few = Limits { max_headers: 3, ..Limits::default() };
    let many = Limits { max_headers: 500, ..Limits::default() };
    let endless = Limits { max_headers: usize::MAX, max_head_bytes: usize::MAX };
    let mut head = RequestHead::default();
    let mut parse =
        |count: usize, limits: &Limits| parse_request(&with_headers(count), limits, false, &mut head);
    assert!(parse(3, &few).is_ok());
    assert_eq!(parse(4, &few), Err(RequestError::TooManyHeaders));
    assert!(parse(500, &many).is_ok());
    assert_eq!(parse(501, &many), Err(RequestError::TooManyHeaders));
    assert!(parse(http1::HIGHEST_MAX_HEADERS, &endless).is_ok());
    assert_eq!(parse(http1::HIGHEST_MAX_HEADERS + 1, &endless), Err(RequestError::TooManyHeaders));
}

#[test]
fn a_head_of_exactly_60_kib_passes_and_one_byte_more_is_431() {
    let frame = b"GET / HTTP/1.1\r\nhost: a.test\r\nx: \r\n\r\n".len();
    let sized =
        |size: usize| format!("GET / HTTP/1.1\r\nhost: a.test\r\nx: {}\r\n\r\n", "a".repeat(size - frame));
    assert!(strict(sized(61_440).as_bytes()).is_ok());
    assert_eq!(strict(sized(61_441).as_bytes()).unwrap_err(), RequestError::HeadTooLong);
}

#[test]
fn a_url_of_70_kb_is_431() {
    let input = format!("GET /{} HTTP/1.1\r\nhost: a.test\r\n\r\n", "a".repeat(70_000));
    assert_eq!(strict(input.as_bytes()).unwrap_err(), RequestError::HeadTooLong);
}

#[test]
fn a_body_behind_the_head_does_not_count() {
    let input =
        [b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 100000\r\n\r\n".as_slice(), &[b'x'; 100_000]]
            .concat();
    assert!(strict(&input).is_ok());
}

#[test]
fn an_incomplete_head_is_refused_with_the_first_byte_beyond_the_limit() {
    let endless: [Vec<u8>; 4] = [
        vec![b'A'; 70_000],
        [b"GET /".as_slice(), &[b'a'; 70_000]].concat(),
        [b"GET / HTTP/1.1\r\nhost: a\r\nx: ".as_slice(), &[b'a'; 70_000]].concat(),
        b"\r\n".repeat(35_000),
    ];
    for input in endless {
        for lenient in [false, true] {
            let mut head = RequestHead::default();
            let mut parse =
                |length: usize| parse_request(&input[..length], &Limits::default(), lenient, &mut head);
            for length in [1, 5, 1000, 61_439, 61_440] {
                assert_eq!(parse(length), Ok(Parsed::Partial), "{length}");
            }
            assert_eq!(parse(61_441), Err(RequestError::HeadTooLong));
        }
    }
}

#[test]
fn a_long_head_that_arrives_byte_by_byte_is_read_at_its_last_byte() {
    let input =
        format!("GET / HTTP/1.1\r\nhost: a.test\r\nx: {}\r\ny: 1\r\n\r\n", "a".repeat(50_000)).into_bytes();
    let mut head = RequestHead::default();
    for length in 0..input.len() {
        assert_eq!(
            parse_request(&input[..length], &Limits::default(), false, &mut head),
            Ok(Parsed::Partial)
        );
    }
    assert_eq!(
        parse_request(&input, &Limits::default(), false, &mut head),
        Ok(Parsed::Complete(input.len()))
    );
    assert_eq!(head.fields.get("y"), Some(b"1".as_slice()));
}

#[test]
fn a_bad_request_line_is_refused_when_it_is_complete_without_waiting_for_the_headers() {
    let input = b"GET /ab HTTP/3.7\r\n";
    let mut head = RequestHead::default();
    for length in 0..input.len() {
        assert_eq!(
            parse_request(&input[..length], &Limits::default(), false, &mut head),
            Ok(Parsed::Partial)
        );
    }
    assert_eq!(parse_request(input, &Limits::default(), false, &mut head), Err(RequestError::Version));
}

#[test]
fn a_bad_header_line_is_refused_at_the_latest_when_the_input_has_doubled() {
    let start = b"GET / HTTP/1.1\r\nhost: a.test\r\nx y: 1\r\n";
    let input = [start.as_slice(), &b"z: 1\r\n".repeat(20)].concat();
    let mut head = RequestHead::default();
    let refused_at = (0..input.len())
        .find(|length| parse_request(&input[..*length], &Limits::default(), false, &mut head).is_err());
    assert!(refused_at.is_some_and(|length| length <= 2 * start.len()), "{refused_at:?}");
}

#[test]
fn a_head_can_be_used_again_after_a_refusal_without_being_cleared() {
    let mut head = RequestHead::default();
    let limits = Limits::default();
    assert!(parse_request(b"nonsense\r\n\r\n", &limits, false, &mut head).is_err());
    let input = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(parse_request(input, &limits, false, &mut head), Ok(Parsed::Complete(input.len())));
    assert_eq!(parse_request(input, &limits, false, &mut head), Ok(Parsed::Complete(input.len())));
    assert_eq!(head.fields.len(), 1);
}

#[test]
fn a_response_head_has_the_same_limits() {
    let mut head = ResponseHead::default();
    let many: String = (0..101).map(|index| format!("x-{index}: v\r\n")).collect();
    let input = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    let parsed = parse_response(input.as_bytes(), &Limits::default(), &mut head);
    assert_eq!(parsed, Err(ResponseError::TooManyHeaders));
    let more = Limits { max_headers: 200, ..Limits::default() };
    assert_eq!(parse_response(input.as_bytes(), &more, &mut head), Ok(Parsed::Complete(input.len())));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "b".repeat(61_440));
    assert_eq!(
        parse_response(&long.as_bytes()[..61_440], &Limits::default(), &mut head),
        Ok(Parsed::Partial)
    );
    assert_eq!(
        parse_response(long.as_bytes(), &Limits::default(), &mut head),
        Err(ResponseError::HeadTooLong)
    );
}
