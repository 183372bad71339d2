//! Upgrades: WebSocket passes, the rest does not.

use crate::common::{Gateway, Setup, pattern, until};
use testkit::client::RawClient;
use testkit::upstream::{Reply, Upstream};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: x\r\n\r\n";

async fn upgraded(gateway: &Gateway) -> RawClient {
    let mut client = gateway.client().await;
    client.send(UPGRADE).await.unwrap();
    let head = client.head().await.unwrap();
    assert_eq!(head.first_line, "HTTP/1.1 101 Switching Protocols");
    assert_eq!((head.get("connection"), head.get("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!((head.get("server"), head.get("x-envoy-upstream-service-time")), (Some("envoy"), None));
    client
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways() {
    let v1 = Upstream::start_with("v1", |_| Reply::upgrade_echo("websocket")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = upgraded(&gateway).await;
    let received = v1.last().unwrap();
    assert_eq!(
        (received.header("connection"), received.header("upgrade")),
        (Some("Upgrade"), Some("websocket"))
    );
    for length in [1, 100, 60_000] {
        let bytes = pattern(length);
        client.send(&bytes).await.unwrap();
        assert!(client.read(length).await.unwrap() == bytes);
    }
    drop(client);
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let line = gateway.logged().await;
    assert_eq!(line["response_code"], 101);
    assert_eq!((line["bytes_received"].as_u64(), line["bytes_sent"].as_u64()), (Some(60_101), Some(60_101)));
    gateway.until_stat("http.ingress.downstream_cx_upgrades_total", 1).await;
}

#[tokio::test]
async fn a_websocket_client_may_end_its_half_first() {
    let v1 = Upstream::start_with("v1", |_| Reply::upgrade_echo("websocket")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = upgraded(&gateway).await;
    client.send("last words").await.unwrap();
    client.half_close().await.unwrap();
    assert_eq!(client.read_to_end().await.unwrap(), b"last words");
    v1.until(|seen| seen.closed == 1).await.unwrap();
}

#[tokio::test]
async fn bytes_sent_before_the_101_are_not_lost() {
    let v1 = Upstream::start_with("v1", |_| Reply::upgrade_echo("websocket")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send(format!("{UPGRADE}early")).await.unwrap();
    client.head().await.unwrap();
    assert_eq!(client.read(5).await.unwrap(), b"early");
}

#[tokio::test]
async fn a_websocket_outlives_the_route_timeout_and_dies_of_idleness() {
    let v1 = Upstream::start_with("v1", |_| Reply::upgrade_echo("websocket")).unwrap();
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "")
        .everything_to("v1", "timeout: 0.1s")
        .manager("stream_idle_timeout: 0.5s")
        .start()
        .await;
    let mut client = upgraded(&gateway).await;
    // Another request runs into the route timeout meanwhile.
    v1.push(Reply::hang());
    assert_eq!(gateway.get("/").await.status, 504);
    client.send("still here").await.unwrap();
    assert_eq!(client.read(10).await.unwrap(), b"still here");
    client.closed().await.unwrap();
    let log = gateway.log(2).await;
    assert_eq!((&log[1]["response_code"], &log[1]["response_flags"]), (&101.into(), &"SI".into()));
}

#[tokio::test]
async fn a_backend_that_refuses_an_upgrade_answers_and_the_connection_ends() {
    let v1 = Upstream::start_with("v1", |_| Reply::status(403).body("no")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send(UPGRADE).await.unwrap();
    let answer = client.response("GET").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    assert_eq!(
        (answer.header("connection"), answer.header("x-envoy-upstream-service-time")),
        (Some("close"), None)
    );
    client.closed().await.unwrap();
}

/// As Envoy does.
#[tokio::test]
async fn an_upgrade_that_is_answered_by_200_gets_no_body() {
    let v1 = Upstream::start_with("v1", |_| Reply::ok("ok")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send(UPGRADE).await.unwrap();
    let answer = client.response("GET").await.unwrap();
    assert_eq!((answer.status, answer.header("content-length"), answer.body_len), (200, Some("0"), 0));
    assert_eq!(answer.head.all("content-length").count(), 1);
    client.closed().await.unwrap();
}

#[tokio::test]
async fn an_upgrade_that_is_not_configured_is_403() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let text =
        gateway.exchange("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
    assert!(text.contains("content-length: 0\r\n"), "{text}");
    assert_eq!(v1.seen().requests, 0);
}

#[tokio::test]
async fn no_upgrade_passes_when_none_is_configured() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).manager("upgrade_configs: []").start().await;
    assert!(gateway.exchange(UPGRADE).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn h2c_is_ignored_and_answered_in_http_1() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let headers = [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ];
    for _ in 0..2 {
        assert_eq!(client.request("GET", "/", &headers, b"").await.unwrap().status, 200);
    }
    let received = v1.last().unwrap();
    assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None));
}

#[tokio::test]
async fn an_upgrade_header_without_connection_is_no_upgrade() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.request("GET", "/", &[("upgrade", "websocket")], b"").await.unwrap().status, 200);
    assert_eq!(v1.last().unwrap().header("upgrade"), None);
}

#[tokio::test]
async fn an_unasked_101_is_passed_on_and_its_connection_never_used_again() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::raw("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let answer = client.get("/").await.unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, None));
    v1.until(|seen| seen.closed == 1).await.unwrap();
}

#[tokio::test]
async fn websockets_on_all_workers_are_counted_and_end() {
    let v1 = Upstream::start_with("v1", |_| Reply::upgrade_echo("websocket")).unwrap();
    let gateway = Setup::to(&v1).arg("--concurrency").arg("2").start().await;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(upgraded(&gateway).await);
    }
    for client in &mut all {
        client.send("x").await.unwrap();
        assert_eq!(client.read(1).await.unwrap(), b"x");
    }
    drop(all);
    v1.until(|seen| seen.closed == 20).await.unwrap();
    until("no request in flight", async || {
        (gateway.stat("http.ingress.downstream_rq_active").await == 0).then_some(())
    })
    .await;
}
