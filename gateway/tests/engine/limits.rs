//! What the gateway has enough of: connections, requests in flight, memory.

use crate::common::Setup;
use testkit::upstream::{Gate, Reply, Upstream};

const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).limit("max_downstream_connections: 2").start().await;
    let (mut one, mut two) = (gateway.client().await, gateway.client().await);
    assert_eq!(one.get("/").await.unwrap().status, 200);
    assert_eq!(two.get("/").await.unwrap().status, 200);
    let mut three = gateway.client().await;
    three.closed().await.unwrap();
    gateway.until_stat("http.ingress.downstream_cx_overflow", 1).await;
    drop(one);
    gateway.until_stat("http.ingress.downstream_cx_active", 1).await;
    let mut four = gateway.client().await;
    assert_eq!(four.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn requests_beyond_max_requests_are_503_uo() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("first").after(&gate));
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "circuit_breakers: {thresholds: [{max_requests: 1}]}")
        .everything_to("v1", "")
        .start()
        .await;
    let mut first = gateway.client().await;
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gate.until_arrived(1).await.unwrap();
    let mut second = gateway.client().await;
    let answer = second.get("/").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, OVERFLOW));
    assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
    gate.open();
    assert_eq!(first.response("GET").await.unwrap().status, 200);
    assert_eq!(second.get("/").await.unwrap().status, 200);
    let log = gateway.log(3).await;
    assert_eq!(log[0]["response_flags"], "UO");
    gateway.until_stat("cluster.v1.upstream_rq_pending_overflow", 1).await;
}

#[tokio::test]
async fn a_request_waits_for_a_connection_when_all_that_are_allowed_are_busy() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("first").after(&gate));
    let gateway = Setup::new()
        .cluster(
            "v1",
            &[v1.addr()],
            "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}",
        )
        .everything_to("v1", "")
        .start()
        .await;
    let mut first = gateway.client().await;
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gate.until_arrived(1).await.unwrap();
    let mut second = gateway.client().await;
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gateway.until_stat("cluster.v1.upstream_rq_pending_active", 1).await;
    let mut third = gateway.client().await;
    let answer = third.get("/").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, OVERFLOW));
    gate.open();
    assert_eq!(first.response("GET").await.unwrap().status, 200);
    assert_eq!(second.response("GET").await.unwrap().status, 200);
    assert_eq!(v1.seen().connections, 1);
}

#[tokio::test]
async fn requests_that_wait_for_a_connection_are_served_in_their_order() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("first").after(&gate));
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "circuit_breakers: {thresholds: [{max_connections: 1}]}")
        .everything_to("v1", "")
        .start()
        .await;
    let mut clients = Vec::new();
    for n in 0..10 {
        let mut client = gateway.client().await;
        client.send(format!("GET /{n} HTTP/1.1\r\nhost: test\r\n\r\n")).await.unwrap();
        if n == 0 {
            gate.until_arrived(1).await.unwrap();
        } else {
            gateway.until_stat("cluster.v1.upstream_rq_pending_active", n).await;
        }
        clients.push(client);
    }
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").await.unwrap().status, 200);
    }
    let order: Vec<_> = v1.received().iter().map(|r| r.target().to_owned()).collect();
    assert_eq!(order, (0..10).map(|n| format!("/{n}")).collect::<Vec<_>>());
    assert_eq!(v1.seen().connections, 1);
}

#[tokio::test]
async fn a_request_that_waits_for_a_connection_takes_the_place_of_one_that_closed() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("first").header("connection", "close").after(&gate));
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "circuit_breakers: {thresholds: [{max_connections: 1}]}")
        .everything_to("v1", "")
        .start()
        .await;
    let mut first = gateway.client().await;
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gate.until_arrived(1).await.unwrap();
    let mut second = gateway.client().await;
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gateway.until_stat("cluster.v1.upstream_rq_pending_active", 1).await;
    gate.open();
    assert_eq!(second.response("GET").await.unwrap().status, 200);
    assert_eq!(v1.seen().connections, 2);
}

#[tokio::test]
async fn many_connections_at_once_are_all_served() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).arg("--concurrency").arg("2").start().await;
    let mut all = Vec::new();
    for _ in 0..300 {
        all.push(gateway.client().await);
    }
    for client in &mut all {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    }
    for client in &mut all {
        assert_eq!(client.response("GET").await.unwrap().status, 200);
    }
    drop(all);
    gateway.until_stat("http.ingress.downstream_cx_active", 0).await;
    gateway.until_stat("http.ingress.downstream_cx_total", 300).await;
}

#[tokio::test]
async fn an_idle_connection_costs_little() {
    const IDLE: usize = 500;
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let head = format!("GET / HTTP/1.1\r\nhost: test\r\ncookie: {}\r\n\r\n", "a".repeat(3000));
    let mut warm = gateway.client().await;
    warm.send(&head).await.unwrap();
    warm.response("GET").await.unwrap();
    let before = gateway.resident();
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut client = gateway.client().await;
        client.send(&head).await.unwrap();
        assert_eq!(client.response("GET").await.unwrap().status, 200);
        idle.push(client);
    }
    let each = gateway.resident().saturating_sub(before) / IDLE as u64;
    println!("an idle client connection costs {each} bytes");
    assert!(each < 6 * 1024, "{each} bytes for an idle connection");
}

#[tokio::test]
async fn a_worker_with_all_the_requests_it_can_hold_refuses_more() {
    const MOST: usize = 8192;
    let mut v1 = Upstream::start("v1").unwrap();
    v1.black_hole().unwrap();
    let many = "circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, \
                max_requests: 100000}]}, connect_timeout: 600s";
    let gateway =
        Setup::new().cluster("v1", &[v1.addr()], many).everything_to("v1", "timeout: 0s").start().await;
    let mut waiting = Vec::new();
    // HTTP/2 needs a connection per 100 of them only.
    for _ in 0..MOST.div_ceil(100) {
        let client = gateway.h2().await;
        for _ in 0..100 {
            let mut client = client.clone();
            waiting.push(tokio::spawn(async move { client.get("/").await.map(|answer| answer.status) }));
        }
    }
    // All but the last eight of 8,200 are taken in; those are refused at once.
    gateway.until_stat("http.ingress.downstream_rq_overload_close", (waiting.len() - MOST) as u64).await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "envoy overloaded"));
    assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
    waiting.iter().for_each(|one| one.abort());
}
