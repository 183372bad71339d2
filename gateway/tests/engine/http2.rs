//! HTTP/2 with prior knowledge on the same port.

use crate::common::{Setup, pattern, until};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use testkit::upstream::{End, Gate, Reply, Upstream};

const MIB: usize = 1 << 20;

/// Frames that are there already; afterwards it ends, or (`endless`) nothing ever comes.
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    endless: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.endless => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

fn frames(
    pieces: &[&'static [u8]],
    trailer: Option<(&'static str, &'static str)>,
) -> BoxBody<Bytes, hyper::Error> {
    let mut frames: VecDeque<_> = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece))).collect();
    if let Some((name, value)) = trailer {
        let name = http::HeaderName::from_static(name);
        frames.push_back(Frame::trailers([(name, value.parse().unwrap())].into_iter().collect()));
    }
    Frames { frames, endless: false }.boxed()
}

fn unfinished(piece: &'static [u8]) -> BoxBody<Bytes, hyper::Error> {
    Frames { frames: [Frame::data(Bytes::from_static(piece))].into(), endless: true }.boxed()
}

fn post(path: &str, body: Vec<u8>) -> http::Request<Bytes> {
    http::Request::post(path).body(Bytes::from(body)).unwrap()
}

#[tokio::test]
async fn a_get_reaches_the_backend_as_http_1() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    let request = http::Request::get("/p?q=1")
        .header("x-b", "1")
        .header("x-a", "2")
        .header("te", "trailers")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-forwarded-proto", "https")
        .body(Bytes::new())
        .unwrap();
    let answer = client.request(request).await.unwrap();
    assert_eq!((answer.status, answer.headers["x-v"].as_bytes()), (200, b"v1".as_slice()));
    assert_eq!(answer.headers["server"], "envoy");
    assert!(
        answer.headers.contains_key("date") && answer.headers.contains_key("x-envoy-upstream-service-time")
    );
    assert!(!answer.headers.contains_key("connection") && !answer.headers.contains_key("transfer-encoding"));
    let received = v1.last().unwrap();
    assert_eq!(received.head.first_line, "GET /p?q=1 HTTP/1.1");
    assert_eq!(received.header("host"), Some(gateway.addr.to_string().as_str()));
    assert_eq!(received.head.all("cookie").collect::<Vec<_>>(), ["a=1; b=2"], "crumbs are one cookie again");
    assert_eq!(received.header("te"), Some("trailers"));
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("content-length"), None);
    let line = gateway.logged().await;
    assert_eq!((&line["protocol"], &line["response_code"]), (&"HTTP/2".into(), &200.into()));
    gateway.until_stat("http.ingress.downstream_rq_http2_total", 1).await;
}

#[tokio::test]
async fn bodies_of_any_size_go_both_ways() {
    let v1 = Upstream::start_with("v1", |_| Reply::echo()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    for length in [0, 1, 30_000, 5 * MIB] {
        let body = pattern(length);
        let answer = client.request(post("/", body.clone())).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "{length} bytes");
    }
    let log = gateway.log(4).await;
    assert_eq!(
        (log[3]["bytes_received"].as_u64(), log[3]["bytes_sent"].as_u64()),
        (Some(5 << 20), Some(5 << 20))
    );
    assert_eq!(v1.seen().connections, 1);
}

#[tokio::test]
async fn a_body_without_a_length_is_chunked_upstream_and_trailers_are_dropped() {
    let v1 = Upstream::start_with("v1", |_| Reply::status(200).chunked(["an", "swer"]).trailer("x-end", "1"))
        .unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    let request = http::Request::post("/").body(frames(&[b"one", b"two"], Some(("x-sum", "1")))).unwrap();
    let answer = client.send_body(request).await.unwrap().into_body().collect().await.unwrap();
    assert!(answer.trailers().is_none());
    assert_eq!(answer.to_bytes().as_ref(), b"answer");
    let received = v1.last().unwrap();
    assert_eq!(
        (received.header("transfer-encoding"), received.header("content-length")),
        (Some("chunked"), None)
    );
    assert_eq!((received.body.as_slice(), received.trailers.len()), (b"onetwo".as_slice(), 0));
}

#[tokio::test]
async fn trailers_pass_both_ways_when_enabled() {
    let v1 = Upstream::start_with("v1", |_| Reply::status(200).chunked(["an", "swer"]).trailer("x-end", "1"))
        .unwrap();
    let gateway = Setup::to(&v1).manager("http_protocol_options: {enable_trailers: true}").start().await;
    let mut client = gateway.h2().await;
    let request = http::Request::post("/").body(frames(&[b"one"], Some(("x-sum", "1")))).unwrap();
    let answer = client.send_body(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-end"], "1");
    assert_eq!(v1.last().unwrap().trailers, [("x-sum".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let v1 = Upstream::start_with("v1", |r| match r.target() {
        "/204" => Reply::status(204),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
        _ => Reply::ok("123456789"),
    })
    .unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    assert_eq!(client.get("/204").await.unwrap().status, 204);
    let answer = client.get("/304").await.unwrap();
    assert_eq!(
        (answer.status, &answer.headers["content-length"]),
        (304, &http::HeaderValue::from_static("9"))
    );
    let head = http::Request::head("/").body(Bytes::new()).unwrap();
    let answer = client.request(head).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.headers["content-length"], "9");
    assert_eq!(v1.seen().connections, 1);
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("slow").after(&gate));
    let gateway = Setup::to(&v1).start().await;
    let client = gateway.h2().await;
    let mut slow = client.clone();
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    gate.until_arrived(1).await.unwrap();
    let mut fast = client.clone();
    for _ in 0..5 {
        assert_eq!(fast.get("/fast").await.unwrap().status, 200);
    }
    gate.open();
    assert_eq!(slow.await.unwrap().unwrap().body.as_ref(), b"slow");
}

#[tokio::test]
async fn a_stream_that_is_reset_cancels_its_request() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("never").after(&gate));
    let gateway = Setup::to(&v1).start().await;
    let client = gateway.h2().await;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.get("/").await });
    gate.until_arrived(1).await.unwrap();
    waiting.abort();
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&0.into(), &"DR".into()));
    gateway.until_stat("http.ingress.downstream_rq_rx_reset", 1).await;
    gateway.until_stat("cluster.v1.upstream_rq_active", 0).await;
    assert_eq!(client.clone().get("/").await.unwrap().status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_stream_that_is_reset_inside_the_answer_stops_the_backend() {
    let answer = Reply::ok(pattern(64 * MIB));
    let v1 = Upstream::start_with("v1", move |_| answer.clone()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    let answer = client.send(http::Request::get("/").body(Bytes::new()).unwrap()).await.unwrap();
    drop(answer);
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&200.into(), &"DR".into()));
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_backend_and_is_cut_after_the_stream_idle_time() {
    let answer = Reply::ok(pattern(32 * MIB));
    let v1 = Upstream::start_with("v1", move |_| answer.clone()).unwrap();
    let gateway = Setup::to(&v1).manager("stream_idle_timeout: 2s").start().await;
    let mut client = gateway.h2().await;
    let before = gateway.resident();
    let blocked = client.send(http::Request::get("/").body(Bytes::new()).unwrap()).await.unwrap();
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&200.into(), &"SI".into()));
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{} KiB", grown / 1024);
    gateway.until_stat("http.ingress.downstream_rq_active", 0).await;
    assert!(blocked.into_body().collect().await.is_err(), "a cut answer must not look complete");
}

#[tokio::test]
async fn a_backend_that_stops_inside_its_answer_is_cut_at_the_route_timeout() {
    let answer = Reply::ok("0123456789");
    let v1 = Upstream::start("v1").unwrap();
    v1.push(answer.clone().pause_at(answer.head_len() + 4, Gate::new()));
    let gateway =
        Setup::new().cluster("v1", &[v1.addr()], "").everything_to("v1", "timeout: 0.2s").start().await;
    let mut client = gateway.h2().await;
    let answer = client.send(http::Request::get("/").body(Bytes::new()).unwrap()).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&200.into(), &"UT".into()));
    assert_eq!(client.get("/").await.unwrap().status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_backend_that_dies_inside_its_answer_resets_the_stream_alone() {
    let answer = Reply::ok("0123456789");
    let v1 = Upstream::start("v1").unwrap();
    v1.push(answer.clone().cut_at(answer.head_len() + 4).end(End::Close));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    // The reset may overtake the head.
    if let Ok(answer) = client.send(http::Request::get("/").body(Bytes::new()).unwrap()).await {
        assert!(answer.into_body().collect().await.is_err());
    }
    assert_eq!(gateway.logged().await["response_flags"], "UPE");
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

/// A backend that sends a long answer at once, and counts what it reads of the request meanwhile.
async fn answers_while_it_reads(listener: tokio::net::TcpListener, read: std::sync::Arc<AtomicUsize>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (stream, _) = listener.accept().await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let mut space = vec![0; 64 * 1024];
    let first = from.read(&mut space).await.unwrap();
    read.fetch_add(first, Relaxed);
    tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 64 * MIB);
        let _cut = to.write_all(head.as_bytes()).await;
        let _cut = to.write_all(&pattern(64 * MIB)).await;
    });
    while let Ok(count @ 1..) = from.read(&mut space).await {
        read.fetch_add(count, Relaxed);
    }
}

#[tokio::test]
async fn an_upload_goes_on_while_a_long_answer_is_not_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let read = std::sync::Arc::new(AtomicUsize::new(0));
    tokio::spawn(answers_while_it_reads(listener, read.clone()));
    let gateway = Setup::new().cluster("v1", &[addr], "").everything_to("v1", "timeout: 0s").start().await;
    let mut client = gateway.h2().await;
    let unread = client.send(post("/", pattern(8 * MIB))).await.unwrap();
    until("the whole upload", async || (read.load(Relaxed) > 8 * MIB).then_some(())).await;
    drop(unread);
}

#[tokio::test]
async fn a_stale_connection_costs_a_get_and_a_small_put_nothing() {
    let v1 = Upstream::start_with("v1", |r| if r.nth == 1 { Reply::echo() } else { Reply::close() }).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    assert_eq!(client.get("/").await.unwrap().status, 200);
    let put = http::Request::put("/").body(Bytes::from(pattern(60_000))).unwrap();
    let answer = client.request(put).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 60_000));
    assert_eq!(client.request(post("/", b"x".to_vec())).await.unwrap().status, 503);
}

#[tokio::test]
async fn refusals_and_local_replies_are_envoys() {
    let mut v1 = Upstream::start("v1").unwrap();
    v1.stop();
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "")
        .route("{match: {prefix: /a}, route: {cluster: v1}}")
        .start()
        .await;
    let mut client = gateway.h2().await;
    let answer = client.get("/b").await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (404, 0));
    let answer = client.get("/a").await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.ends_with(b"reset reason: remote connection failure"));
    assert_eq!(
        (&answer.headers["content-type"], &answer.headers["content-length"]),
        (&"text/plain".parse().unwrap(), &"98".parse().unwrap())
    );
    let mut many = http::Request::get("/a");
    for n in 0..101 {
        many = many.header(format!("x-{n}"), "v");
    }
    assert_eq!(client.request(many.body(Bytes::new()).unwrap()).await.unwrap().status, 431);
}

#[tokio::test]
async fn an_early_answer_ends_the_upload() {
    let v1 = Upstream::start_with("v1", |_| Reply::status(413).body("too large").before_body()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    let request = http::Request::post("/").body(unfinished(b"first")).unwrap();
    let answer = client.send_body(request).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().as_ref(), b"too large");
    v1.until(|seen| seen.closed == 1).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).manager("common_http_protocol_options: {idle_timeout: 0.2s}").start().await;
    let mut client = gateway.h2().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    until("GOAWAY", async || client.is_closed().then_some(())).await;
    gateway.until_stat("http.ingress.downstream_cx_http2_active", 0).await;
}

#[tokio::test]
async fn a_connection_whose_only_stream_was_reset_is_idle() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::hang());
    let gateway = Setup::to(&v1).manager("common_http_protocol_options: {idle_timeout: 0.2s}").start().await;
    let client = gateway.h2().await;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.get("/").await });
    v1.until(|seen| seen.requests == 1).await.unwrap();
    waiting.abort();
    until("GOAWAY", async || client.is_closed().then_some(())).await;
}

#[tokio::test]
async fn what_begins_like_http_2_and_is_not_is_refused() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let text = gateway.exchange("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 4"), "{text}");
    let mut client = gateway.client().await;
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(client.response("PUT").await.unwrap().status, 200, "P alone is not the preface");
}
