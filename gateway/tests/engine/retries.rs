//! What a route's retry policy repeats, how often, and what it leaves alone.

use crate::common::{Gateway, Setup, pattern, until};
use testkit::upstream::{End, Gate, Reply, Upstream};

const EXHAUSTED: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
                         connection termination";

async fn start(upstreams: &[&Upstream], policy: &str, cluster: &str) -> Gateway {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.addr()).collect();
    let route = format!("retry_policy: {{{policy}}}, timeout: 30s");
    Setup::new().cluster("v1", &addresses, cluster).everything_to("v1", &route).start().await
}

#[tokio::test]
async fn an_answer_that_the_policy_covers_is_asked_for_again_and_never_seen() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::status(503).body("no"));
    v1.push(Reply::status(503).chunked(["no"]));
    let policy = "retry_on: retriable-status-codes, num_retries: 2, retriable_status_codes: [503]";
    let gateway = start(&[&v1], policy, "").await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, v1.seen().requests), (200, 3));
    for (stat, wanted) in [
        ("upstream_rq_total", 3),
        ("upstream_rq_retry", 2),
        ("upstream_rq_retry_success", 1),
        ("upstream_rq_2xx", 1),
        ("upstream_rq_5xx", 0),
        ("retry.upstream_rq_5xx", 2),
    ] {
        gateway.until_stat(&format!("cluster.v1.{stat}"), wanted).await;
    }
}

#[tokio::test]
async fn the_last_answer_is_passed_on_as_it_is_with_its_flag() {
    let v1 = Upstream::start("v1").unwrap();
    v1.set_reply(Reply::status(500).body("broken"));
    let gateway = start(&[&v1], "retry_on: 5xx, num_retries: 2", "").await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.text().as_str(), v1.seen().requests), (500, "broken", 3));
    assert_eq!(gateway.logged().await["response_flags"], "URX");
    assert_eq!(gateway.stat("cluster.v1.upstream_rq_retry_limit_exceeded").await, 1);
}

#[tokio::test]
async fn a_backend_that_keeps_closing_says_that_it_was_retried() {
    let v1 = Upstream::start("v1").unwrap();
    v1.set_reply(Reply::close());
    let gateway = start(&[&v1], "retry_on: reset", "").await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.text().as_str(), v1.seen().requests), (503, EXHAUSTED, 2));
    assert_eq!(gateway.logged().await["response_flags"], "URX,UC");
}

#[tokio::test]
async fn a_body_of_any_method_is_sent_again_whole() {
    let v1 = Upstream::start("v1").unwrap();
    let body = pattern(300_000);
    v1.push(Reply::reset());
    v1.push(Reply::status(503));
    let gateway = start(&[&v1], "retry_on: '5xx,reset', num_retries: 2", "").await;
    let mut client = gateway.client().await;
    let answer = client.request("POST", "/", &[], &body).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(v1.last().unwrap().body, body);
    let mut h2 = gateway.h2().await;
    v1.push(Reply::status(503));
    let request = http::Request::post("http://test/").body(bytes::Bytes::from(body.clone())).unwrap();
    assert_eq!(h2.request(request).await.unwrap().status, 200);
    assert_eq!((v1.last().unwrap().body, v1.seen().requests), (body, 5));
}

#[tokio::test]
async fn a_body_over_a_mebibyte_or_of_unknown_length_is_sent_once() {
    let v1 = Upstream::start("v1").unwrap();
    v1.set_reply(Reply::status(503));
    let gateway = start(&[&v1], "retry_on: 5xx, num_retries: 3", "").await;
    let mut client = gateway.client().await;
    let answer = client.request("POST", "/", &[], &pattern((1 << 20) + 1)).await.unwrap();
    assert_eq!((answer.status, v1.seen().requests), (503, 1));
    let chunked = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    client.send(chunked).await.unwrap();
    assert_eq!((client.response("POST").await.unwrap().status, v1.seen().requests), (503, 2));
    assert_eq!(gateway.stat("cluster.v1.upstream_rq_retry").await, 0);
}

#[tokio::test]
async fn another_endpoint_is_asked_before_the_same_one_again() {
    let (bad, good) = (Upstream::start("bad").unwrap(), Upstream::start("good").unwrap());
    bad.set_reply(Reply::status(503));
    let gateway = start(&[&bad, &good], "retry_on: 5xx", "").await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert!(bad.seen().requests >= 1);
    assert_eq!(good.seen().requests, 10);
}

#[tokio::test]
async fn a_try_has_its_own_time_and_the_last_one_too() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::hang());
    let gateway = start(&[&v1], "retry_on: 5xx, per_try_timeout: 0.2s", "").await;
    assert_eq!(gateway.get("/").await.status, 200);
    v1.set_reply(Reply::hang());
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(gateway.log(2).await[1]["response_flags"], "URX,UT");
    assert_eq!(v1.seen().requests, 4);
}

#[tokio::test]
async fn retries_in_flight_are_limited_by_the_cluster() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::status(503));
    v1.push(Reply::ok("second try").after(gate.clone()));
    v1.push(Reply::status(503));
    let gateway = start(&[&v1], "retry_on: 5xx", "circuit_breakers: {thresholds: [{max_retries: 1}]}").await;
    let mut waits = gateway.client().await;
    waits.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gateway.until_stat("cluster.v1.upstream_rq_total", 2).await;
    assert_eq!(gateway.get("/").await.status, 503, "the one retry is taken");
    assert_eq!(gateway.stat("cluster.v1.upstream_rq_retry_overflow").await, 1);
    assert_eq!(gateway.logged().await["response_flags"], "UO");
    gate.open();
    assert_eq!(waits.response("GET").await.unwrap().text(), "second try");
}

#[tokio::test]
async fn nothing_is_repeated_once_the_answer_has_begun() {
    let v1 = Upstream::start("v1").unwrap();
    let answer = Reply::ok("0123456789");
    v1.push(answer.clone().cut_at(answer.head_len() + 4).end(End::Close));
    let gateway = start(&[&v1], "retry_on: '5xx,reset', num_retries: 3", "").await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    assert_eq!(client.head().await.unwrap().first_line, "HTTP/1.1 200 OK");
    let _ = client.read_to_end().await;
    assert_eq!(v1.seen().requests, 1);
}

#[tokio::test]
async fn a_retry_stays_with_the_version_and_counts_against_it() {
    let (v1, v2) = (Upstream::start("v1").unwrap(), Upstream::start("v2").unwrap());
    v2.push(Reply::status(503));
    let setup = Setup::new().cluster("v1", &[v1.addr()], "").cluster("v2", &[v2.addr()], "");
    let route = "{name: svc1, match: {prefix: /}, route: {weighted_clusters: {stable: v1, clusters: [{name: v1, weight: 0}, \
                 {name: v2, weight: 1}]}, retry_policy: {retry_on: 5xx}}}";
    let gateway = setup.route(route).start().await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!((v1.seen().requests, v2.seen().requests), (0, 2));
    // Counted when the request's last byte has left, which may be a moment after the client has it.
    until("the first attempt counts as an error of v2", async || {
        let page = testkit::client::get(gateway.admin, "/stats/prometheus").await.unwrap().text();
        let errors = |line: &&str| line.contains("errors") && line.contains("\"v2\"");
        page.lines().find(errors).filter(|line| line.ends_with(" 1")).map(drop)
    })
    .await;
}

#[tokio::test]
async fn the_last_answer_to_a_request_with_a_body_has_its_flag_too() {
    let v1 = Upstream::start("v1").unwrap();
    v1.set_reply(Reply::status(503));
    let gateway = start(&[&v1], "retry_on: 5xx, num_retries: 2", "").await;
    let mut client = gateway.client().await;
    let answer = client.request("POST", "/", &[], b"body").await.unwrap();
    assert_eq!((answer.status, v1.seen().requests), (503, 3));
    assert_eq!(gateway.logged().await["response_flags"], "URX");
    assert_eq!(gateway.stat("cluster.v1.upstream_rq_retry_limit_exceeded").await, 1);
}

#[tokio::test]
async fn failures_that_are_repeated_are_counted_each() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::hang());
    v1.push(Reply::close());
    let gateway = start(&[&v1], "retry_on: 5xx, num_retries: 2, per_try_timeout: 0.2s", "").await;
    assert_eq!((gateway.get("/").await.status, v1.seen().requests), (200, 3));
    gateway.until_stat("cluster.v1.upstream_rq_per_try_timeout", 1).await;
    gateway.until_stat("cluster.v1.upstream_rq_rx_reset", 1).await;
}

#[tokio::test]
async fn an_endpoint_whose_answer_was_not_passed_on_is_asked_again_when_the_others_refuse() {
    let (busy, mut gone) = (Upstream::start("busy").unwrap(), Upstream::start("gone").unwrap());
    gone.stop();
    busy.push(Reply::status(503));
    let gateway = start(&[&busy, &gone], "retry_on: 5xx", "").await;
    assert_eq!((gateway.get("/").await.status, busy.seen().requests), (200, 2));
}

#[tokio::test]
async fn an_endpoint_that_failed_is_not_asked_again_before_the_others() {
    let (bad, good) = (Upstream::start("bad").unwrap(), Upstream::start("good").unwrap());
    bad.set_reply(Reply::close());
    let gateway = start(&[&bad, &good], "retry_on: 5xx", "lb_policy: LEAST_REQUEST").await;
    for _ in 0..40 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert!(bad.seen().requests >= 1);
    assert_eq!(good.seen().requests, 40);
}
