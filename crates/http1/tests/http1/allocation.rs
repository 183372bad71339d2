//! A codec with warm buffers allocates nothing.

use http1::{
    BodyDecoder, Framing, Limits, RequestHead, ResponseHead, parse_request, parse_response, request_framing,
    response_framing, write_chunk_head, write_request_head, write_response_head,
};

const REQUEST: &[u8] = b"POST /p?q=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\
    X-Forwarded-For: 1.2.3.4\r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nX-A: 1\r\n\r\n";
const BODY: &[u8] = b"3;ext\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

struct Buffers {
    request: RequestHead,
    response: ResponseHead,
    out: Vec<u8>,
}

fn one_exchange(buffers: &mut Buffers) {
    let Buffers { request, response, out } = buffers;
    let limits = Limits::default();
    out.clear();
    request.clear();
    parse_request(REQUEST, &limits, false, request).unwrap();
    let mut body = BodyDecoder::new(request_framing(request).unwrap(), false);
    let mut at = 0;
    while !body.is_done() {
        let step = body.decode(&BODY[at..]).unwrap();
        write_chunk_head(out, step.data.len());
        out.extend_from_slice(&BODY[at..][step.data]);
        at += step.consumed;
    }
    assert!(body.trailers().is_none());
    request.fields.append_to("x-forwarded-for", b",", b"10.0.0.1");
    request.fields.set("x-request-id", b"11111111-2222-4333-8444-555555555555");
    request.fields.remove("transfer-encoding");
    write_request_head(out, request.method(), request.target(), &request.fields);
    parse_response(RESPONSE, &limits, response).unwrap();
    assert_eq!(response_framing(response, false), Ok(Framing::Length(2)));
    response.fields.push("server", b"envoy");
    write_response_head(out, response);
}

#[test]
fn a_warm_codec_allocates_nothing_for_a_whole_exchange() {
    let mut buffers =
        Buffers { request: RequestHead::default(), response: ResponseHead::default(), out: Vec::new() };
    let cold = allocation_counter::measure(|| one_exchange(&mut buffers));
    assert!(cold.count_total > 0, "the counter counts");
    let warm = allocation_counter::measure(|| (0..10).for_each(|_| one_exchange(&mut buffers)));
    assert_eq!(warm.count_total, 0);
}
