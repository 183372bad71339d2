//! Clients that leave: the backend is told, and the request is counted once.

use crate::common::Setup;
use testkit::upstream::{Gate, Reply, Upstream};

async fn abort(how: &str) {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("never").after(&gate));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("GET /left HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gate.until_arrived(1).await.unwrap();
    match how {
        "fin" => client.half_close().await.unwrap(),
        "reset" => client.abort().unwrap(),
        _ => drop(client),
    }
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!(line["path"], "/left");
    assert_eq!((&line["response_code"], &line["response_flags"]), (&0.into(), &"DC".into()), "{line}");
    gateway.until_stat("http.ingress.downstream_rq_rx_reset", 1).await;
    gateway.until_stat("http.ingress.downstream_rq_active", 0).await;
    gateway.until_stat("cluster.v1.upstream_rq_cancelled", 1).await;
    gateway.until_stat("cluster.v1.upstream_rq_active", 0).await;
    gateway.until_stat("cluster.v1.upstream_cx_active", 0).await;
    gateway.until_stat("http.ingress.downstream_rq_active", 0).await;
    let clusters = testkit::client::get(gateway.admin, "/clusters").await.unwrap().text();
    assert!(clusters.contains("rq_error::0"), "a client that left is not the endpoint's error: {clusters}");
}

#[tokio::test]
async fn a_client_that_resets_while_it_waits_cancels_its_request() {
    abort("reset").await;
}

#[tokio::test]
async fn a_client_that_closes_while_it_waits_cancels_its_request() {
    abort("close").await;
}

/// Envoy takes a FIN after the request as a full close.
#[tokio::test]
async fn a_client_that_ends_its_half_while_it_waits_cancels_its_request() {
    abort("fin").await;
}

#[tokio::test]
async fn a_client_that_leaves_inside_the_answer_stops_the_backend() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    let answer = Reply::ok("0123456789");
    v1.push(answer.clone().pause_at(answer.head_len() + 4, &gate));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    client.head().await.unwrap();
    assert_eq!(client.read(4).await.unwrap(), b"0123");
    client.abort().unwrap();
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&200.into(), &"DC".into()));
    assert_eq!(line["bytes_sent"], 4);
}

#[tokio::test]
async fn a_client_that_leaves_inside_its_body_cancels_its_request() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    v1.until(|seen| seen.requests == 1).await.unwrap();
    drop(client);
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&0.into(), &"DC".into()));
    assert_eq!(v1.seen().complete, 0);
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_head_was_no_request() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: te").await.unwrap();
    client.half_close().await.unwrap();
    client.closed().await.unwrap();
    gateway.until_stat("http.ingress.downstream_cx_active", 0).await;
    gateway.until_stat("http.ingress.downstream_rq_total", 0).await;
    assert_eq!(v1.seen().requests, 0);
}
