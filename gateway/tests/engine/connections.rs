//! The client's connection: keep-alive, pipelining, early answers, time limits.

use crate::common::{Setup, pattern};
use testkit::upstream::{Gate, Reply, Upstream};

fn named() -> Upstream {
    Upstream::start_with("v1", |r| Reply::ok(r.target().to_owned())).unwrap()
}

#[tokio::test]
async fn requests_of_one_connection_share_one_upstream_connection() {
    let v1 = named();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for n in 0..20 {
        assert_eq!(client.get(&format!("/{n}")).await.unwrap().text(), format!("/{n}"));
    }
    assert_eq!((v1.seen().connections, v1.seen().requests), (1, 20));
    gateway.until_stat("http.ingress.downstream_cx_total", 1).await;
    gateway.until_stat("http.ingress.downstream_rq_total", 20).await;
}

#[tokio::test]
async fn pipelined_requests_in_one_packet_are_answered_in_order() {
    let v1 = named();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let mut all = String::new();
    for n in 0..50 {
        all += &format!("POST /{n} HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc");
        all += &format!("GET /get{n} HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    client.send(all).await.unwrap();
    for n in 0..50 {
        assert_eq!(client.response("POST").await.unwrap().text(), format!("/{n}"));
        assert_eq!(client.response("GET").await.unwrap().text(), format!("/get{n}"));
    }
    assert!(v1.received().iter().filter(|r| r.method() == "POST").all(|r| r.body == b"abc"));
    assert!(client.is_quiet());
}

#[tokio::test]
async fn requests_sent_while_an_answer_is_awaited_wait_their_turn() {
    let v1 = named();
    let gate = Gate::new();
    v1.push(Reply::ok("slow").after(&gate));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("GET /0 HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gate.until_arrived(1).await.unwrap();
    client.send("GET /1 HTTP/1.1\r\nhost: test\r\n\r\nGET /2 HTTP/1.1\r\nhost:").await.unwrap();
    gate.open();
    assert_eq!(client.response("GET").await.unwrap().text(), "slow");
    assert_eq!(client.response("GET").await.unwrap().text(), "/1");
    client.send(" test\r\n\r\n").await.unwrap();
    assert_eq!(client.response("GET").await.unwrap().text(), "/2");
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte_and_after_empty_lines() {
    let v1 = named();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for byte in b"\r\n\r\nGET /slow HTTP/1.1\r\nhost: test\r\n\r\n" {
        client.send([*byte]).await.unwrap();
    }
    assert_eq!(client.response("GET").await.unwrap().text(), "/slow");
}

#[tokio::test]
async fn connection_close_of_the_client_is_obeyed_and_said() {
    let v1 = named();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let answer = client.request("GET", "/", &[("connection", "close")], b"").await.unwrap();
    assert_eq!(answer.header("connection"), Some("close"));
    client.closed().await.unwrap();
    assert_eq!(v1.last().unwrap().header("connection"), None);
    assert_eq!(v1.seen().open(), 1, "the upstream connection is kept");
}

#[tokio::test]
async fn connection_close_of_the_backend_does_not_reach_the_client() {
    let v1 = Upstream::start_with("v1", |_| Reply::ok("ok").header("connection", "close")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.unwrap().header("connection"), None);
    }
    assert_eq!(v1.seen().connections, 2);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_delivered_and_the_connection_closed() {
    let v1 = Upstream::start_with("v1", |_| Reply::status(413).body("too large").before_body()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 50000000\r\n\r\nsome").await.unwrap();
    let answer = client.response("POST").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too large"));
    client.closed().await.unwrap();
    v1.until(|seen| seen.closed == 1).await.unwrap();
    assert_eq!(gateway.logged().await["response_code"], 413);
}

#[tokio::test]
async fn a_client_that_goes_on_sending_still_sees_the_early_answer() {
    let v1 = Upstream::start_with("v1", |_| Reply::status(413).body("too large").before_body()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 50000000\r\n\r\n").await.unwrap();
    let chunk = pattern(1 << 20);
    // Sends several MiB more without reading; a reset would lose the answer.
    for _ in 0..8 {
        if client.send(&chunk).await.is_err() {
            break;
        }
    }
    assert_eq!(client.response("POST").await.unwrap().status, 413);
}

#[tokio::test]
async fn both_bodies_flow_at_once_and_the_connection_goes_on_when_both_have_ended() {
    let gate = Gate::new();
    let answer = Reply::ok("0123456789").before_body();
    let answer = answer.clone().pause_at(answer.head_len() + 4, &gate);
    let v1 = Upstream::start_with("v1", move |_| answer.clone()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 8\r\n\r\nsome").await.unwrap();
    client.head().await.unwrap();
    assert_eq!(client.read(4).await.unwrap(), b"0123");
    client.send("more").await.unwrap();
    // The worker has only one thread: when it has served others, it has read this too.
    for _ in 0..5 {
        assert_eq!(testkit::client::get(gateway.admin, "/ready").await.unwrap().status, 200);
    }
    let mut other = gateway.client().await;
    other.send("garbage\r\n\r\n").await.unwrap();
    assert_eq!(other.response("GET").await.unwrap().status, 400);
    gate.open();
    assert_eq!(client.read(6).await.unwrap(), b"456789");
    v1.until(|seen| seen.complete == 1).await.unwrap();
    assert_eq!(v1.last().unwrap().body, b"somemore");
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_answered_408() {
    let v1 = named();
    let gateway = Setup::to(&v1).manager("request_headers_timeout: 0.1s").start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    client.send("GET / HTTP/1.1\r\nhost: te").await.unwrap();
    let answer = client.response("GET").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (408, "request header timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    client.closed().await.unwrap();
    assert_eq!(v1.seen().requests, 1);
    gateway.until_stat("http.ingress.downstream_rq_header_timeout", 1).await;
}

#[tokio::test]
async fn empty_lines_between_requests_do_not_start_the_clock_of_a_head() {
    let v1 = named();
    let gateway = Setup::to(&v1)
        .manager("request_headers_timeout: 0.1s")
        .manager("common_http_protocol_options: {idle_timeout: 0.5s}")
        .start()
        .await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    client.send("\r\n").await.unwrap();
    // Closed as idle, without a 408.
    client.closed().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let v1 = named();
    let gateway = Setup::to(&v1).manager("common_http_protocol_options: {idle_timeout: 0.1s}").start().await;
    let mut fresh = gateway.client().await;
    let mut used = gateway.client().await;
    assert_eq!(used.get("/").await.unwrap().status, 200);
    fresh.closed().await.unwrap();
    used.closed().await.unwrap();
    gateway.until_stat("http.ingress.downstream_cx_idle_timeout", 2).await;
    gateway.until_stat("http.ingress.downstream_cx_active", 0).await;
    gateway.log(1).await;
}

#[tokio::test]
async fn a_client_that_stops_sending_its_body_is_answered_408() {
    let v1 = named();
    let gateway = Setup::to(&v1).manager("stream_idle_timeout: 0.1s").start().await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    let answer = client.response("POST").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (408, "stream timeout"));
    client.closed().await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_flags"], &line["response_code"]), (&"SI".into(), &408.into()));
    v1.until(|seen| seen.closed == 1).await.unwrap();
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_after_the_stream_idle_time() {
    let answer = Reply::ok(pattern(32 << 20));
    let v1 = Upstream::start_with("v1", move |_| answer.clone()).unwrap();
    let gateway = Setup::to(&v1).manager("stream_idle_timeout: 2s").start().await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    client.head().await.unwrap();
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_flags"], &line["response_code"]), (&"SI".into(), &200.into()));
}
