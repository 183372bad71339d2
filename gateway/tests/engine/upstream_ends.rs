//! Backends that close, reset or talk nonsense, and connections that were closed while idle.

use crate::common::{Setup, pattern};
use std::time::Duration;
use testkit::upstream::{End, Gate, KeepAlive, Reply, Upstream};

const TERMINATED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
const NONSENSE: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: protocol error";

/// What the client and the log see when a fresh connection's backend does this.
async fn local_reply(reply: Reply, status: u16, body: &str, flag: &str) {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(reply);
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let answer = client.get("/").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (status, body));
    assert_eq!(answer.header("x-envoy-upstream-service-time"), None);
    assert_eq!(client.get("/").await.unwrap().status, 200, "the client's connection goes on");
    let line = gateway.log(2).await.remove(0);
    assert_eq!((&line["response_code"], &line["response_flags"]), (&status.into(), &flag.into()));
    assert_eq!(v1.seen().requests, 2, "nothing was sent twice");
}

#[tokio::test]
async fn a_backend_that_closes_before_its_answer_is_503_uc() {
    local_reply(Reply::close(), 503, TERMINATED, "UC").await;
}

#[tokio::test]
async fn a_backend_that_resets_before_its_answer_is_503_uc() {
    local_reply(Reply::reset(), 503, TERMINATED, "UC").await;
}

#[tokio::test]
async fn a_backend_that_closes_inside_its_head_is_502_upe() {
    local_reply(Reply::ok("x").cut_at(20).end(End::Close), 502, NONSENSE, "UPE").await;
}

#[tokio::test]
async fn a_backend_that_talks_nonsense_is_502_upe() {
    local_reply(Reply::raw("SMTP ready\r\n\r\n"), 502, NONSENSE, "UPE").await;
}

#[tokio::test]
async fn an_answer_with_both_framings_is_502_upe() {
    let both =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    local_reply(Reply::raw(both), 502, NONSENSE, "UPE").await;
}

#[tokio::test]
async fn an_answer_with_more_than_100_headers_is_502_upe() {
    let mut reply = Reply::ok("x");
    for n in 0..101 {
        reply = reply.header(&format!("x-{n}"), "v");
    }
    local_reply(reply, 502, NONSENSE, "UPE").await;
}

#[tokio::test]
async fn a_backend_that_dies_after_an_interim_answer_is_503_uc() {
    local_reply(Reply::raw("HTTP/1.1 103 Early Hints\r\n\r\n").end(End::Close), 503, TERMINATED, "UC").await;
}

#[tokio::test]
async fn a_backend_that_dies_inside_its_body_cuts_the_client() {
    for end in [End::Close, End::Reset] {
        let v1 = Upstream::start("v1").unwrap();
        let answer = Reply::ok("0123456789");
        v1.push(answer.clone().cut_at(answer.head_len() + 4).end(end));
        let gateway = Setup::to(&v1).start().await;
        let mut client = gateway.client().await;
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        assert_eq!(client.head().await.unwrap().first_line, "HTTP/1.1 200 OK");
        // Reset may overtake the four bytes; nothing else may come, above all no end of the body.
        let rest = client.read_to_end().await.unwrap_or_default();
        assert!(b"0123".starts_with(&rest), "{rest:?}");
        let line = gateway.logged().await;
        assert_eq!((&line["response_code"], &line["response_flags"]), (&200.into(), &"UPE".into()));
    }
}

#[tokio::test]
async fn a_chunked_body_that_is_cut_has_no_last_chunk() {
    let v1 = Upstream::start("v1").unwrap();
    let answer = Reply::status(200).chunked(["abc", "def"]);
    v1.push(answer.clone().cut_at(answer.head_len() + 8).end(End::Close));
    let gateway = Setup::to(&v1).start().await;
    let text = gateway.exchange("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(text.ends_with("\r\n\r\n3\r\nabc\r\n"), "{text:?}");
}

#[tokio::test]
async fn bytes_after_an_answer_are_dropped_with_their_connection() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::raw(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    ));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert!(client.get("/").await.unwrap().text().contains("service v1"));
    assert_eq!(v1.seen().connections, 2);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_an_idle_connection() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    let answer =
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok HTTP/1.1 408 Request Timeout\r\n\r\n");
    v1.push(answer.pause_at(40, &gate));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    gate.open();
    v1.until(|seen| seen.closed == 1).await.unwrap();
    assert!(client.get("/").await.unwrap().text().contains("service v1"));
}

/// A backend whose second request of a connection meets its end: the connection was closed while idle, and the
/// gateway could not know it yet.
fn stale() -> Upstream {
    Upstream::start_with("v1", |r| if r.nth == 1 { Reply::echo() } else { Reply::close().before_body() })
        .unwrap()
}

#[tokio::test]
async fn a_stale_connection_costs_a_get_nothing() {
    let v1 = stale();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
    assert_eq!((v1.seen().requests, v1.seen().connections), (5, 3));
    gateway.until_stat("http.ingress.downstream_rq_active", 0).await;
    let clusters = testkit::client::get(gateway.admin, "/clusters").await.unwrap().text();
    assert!(clusters.contains("rq_error::0"), "{clusters}");
    gateway.log(3).await;
}

#[tokio::test]
async fn a_stale_connection_costs_a_put_with_a_small_body_nothing() {
    let v1 = Upstream::start_with("v1", |r| if r.nth == 1 { Reply::echo() } else { Reply::close() }).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let body = pattern(64 * 1024);
    assert_eq!(client.get("/").await.unwrap().status, 200);
    let answer = client.request("PUT", "/", &[], &body).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "the whole body was sent again");
    assert_eq!(v1.seen().requests, 3);
    assert!(v1.received()[1].body == body && v1.received()[2].body == body);
}

#[tokio::test]
async fn a_body_whose_second_half_comes_after_the_replay_arrives_whole() {
    let v1 =
        Upstream::start_with("v1", |r| if r.nth == 1 { Reply::echo() } else { Reply::close().before_body() })
            .unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    client.send("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
    v1.until(|seen| seen.requests == 3).await.unwrap();
    client.send("more").await.unwrap();
    assert_eq!(client.response("PUT").await.unwrap().body, b"halfmore");
}

#[tokio::test]
async fn a_put_with_a_large_body_is_not_sent_twice() {
    let v1 = stale();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    let answer = client.request("PUT", "/", &[], &pattern(64 * 1024 + 1)).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, TERMINATED));
    assert_eq!(v1.seen().requests, 2);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let v1 = stale();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    for body in [b"".as_slice(), b"body"] {
        let headers: &[_] = if body.is_empty() { &[("content-length", "0")] } else { &[] };
        assert_eq!(client.get("/").await.unwrap().status, 200);
        let before = v1.seen().requests;
        let answer = client.request("POST", "/", headers, body).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (503, TERMINATED));
        assert_eq!(v1.seen().requests, before + 1);
    }
}

#[tokio::test]
async fn a_fresh_connection_that_ends_is_not_tried_again() {
    let v1 = Upstream::start_with("v1", |_| Reply::close()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    assert_eq!(gateway.get("/").await.status, 503);
    assert_eq!(v1.seen().requests, 1);
}

#[tokio::test]
async fn an_idle_connection_that_the_backend_closes_is_not_used_again() {
    let v1 = Upstream::start("v1").unwrap();
    v1.set_keep_alive(KeepAlive { max_requests: Some(1), ..KeepAlive::default() });
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for n in 1..=5 {
        let answer = client.request("POST", "/", &[("content-length", "0")], b"").await.unwrap();
        assert_eq!(answer.status, 200);
        v1.until(|seen| seen.closed == n).await.unwrap();
    }
    assert_eq!(v1.seen().requests, 5);
}

#[tokio::test]
async fn the_backends_keep_alive_time_is_kept_to() {
    let v1 = Upstream::start_with("v1", |_| Reply::ok("ok").header("keep-alive", "timeout=1")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
    assert_eq!(v1.seen().connections, 3, "one second less a second for what is on its way is nothing");
}

#[tokio::test]
async fn a_long_keep_alive_time_keeps_the_connection() {
    let v1 =
        Upstream::start_with("v1", |_| Reply::ok("ok").header("keep-alive", "timeout=60, max=100")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
    assert_eq!(v1.seen().connections, 1);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_504_ut() {
    let v1 = Upstream::start_with("v1", |_| Reply::hang()).unwrap();
    let gateway =
        Setup::new().cluster("v1", &[v1.addr()], "").everything_to("v1", "timeout: 0.1s").start().await;
    let mut client = gateway.client().await;
    let answer = client.get("/").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(v1.last().unwrap().header("x-envoy-expected-rq-timeout-ms"), Some("100"));
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&504.into(), &"UT".into()));
    v1.set_reply(Reply::ok("ok"));
    assert_eq!(client.get("/").await.unwrap().status, 200);
    gateway.until_stat("cluster.v1.upstream_rq_timeout", 1).await;
}

#[tokio::test]
async fn the_route_timeout_spans_the_whole_answer() {
    let answer = Reply::ok("0123456789");
    let slow = answer.clone().pause_at(answer.head_len() + 4, Duration::from_secs(60));
    let v1 = Upstream::start_with("v1", move |_| slow.clone()).unwrap();
    let gateway =
        Setup::new().cluster("v1", &[v1.addr()], "").everything_to("v1", "timeout: 0.2s").start().await;
    let text = gateway.exchange("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n0123"), "{text:?}");
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&200.into(), &"UT".into()));
}

#[tokio::test]
async fn a_backend_that_says_nothing_for_the_stream_idle_time_is_504() {
    let v1 = Upstream::start_with("v1", |_| Reply::hang()).unwrap();
    let gateway = Setup::to(&v1).manager("stream_idle_timeout: 0.1s").start().await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (504, "stream timeout"));
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&504.into(), &"SI".into()));
}

#[tokio::test]
async fn a_body_that_keeps_moving_outlives_the_stream_idle_time() {
    let v1 = Upstream::start("v1").unwrap();
    // 20 pieces, each well inside the idle time, together beyond it.
    v1.set_reply(Reply::ok(pattern(20_000)).slow(1000, Duration::from_millis(40)));
    let gateway = Setup::to(&v1).manager("stream_idle_timeout: 0.4s").start().await;
    assert!(gateway.get("/").await.body == pattern(20_000));
}
