//! Endpoints that refuse or swallow connections, and what takes their place.

use crate::common::Setup;
use testkit::client;
use testkit::upstream::{Reply, Upstream};

const REFUSED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
const TIMED_OUT: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection timeout";

fn stopped(name: &str) -> Upstream {
    let mut upstream = Upstream::start(name).unwrap();
    upstream.stop();
    upstream
}

#[tokio::test]
async fn another_endpoint_takes_what_one_refuses_bodies_included() {
    let (dead, live) = (stopped("dead"), Upstream::start_with("v1", |_| Reply::echo()).unwrap());
    let gateway =
        Setup::new().cluster("v1", &[dead.addr(), live.addr()], "").everything_to("v1", "").start().await;
    for n in 0..10 {
        let answer = client::post(gateway.addr, "/", format!("body {n}").as_bytes()).await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, format!("body {n}")));
    }
    assert_eq!(live.seen().requests, 10);
    gateway.until_stat("cluster.v1.upstream_cx_connect_fail", 1).await;
    gateway.until_stat("cluster.v1.upstream_rq_total", 11).await;
}

#[tokio::test]
async fn a_suspect_is_tried_again_when_nobody_else_is_left() {
    let mut v1 = Upstream::start("v1").unwrap();
    v1.stop();
    let gateway = Setup::to(&v1).start().await;
    assert_eq!(gateway.get("/").await.status, 503);
    v1.restart().unwrap();
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn refused_connections_everywhere_are_503_uf() {
    let v1 = stopped("v1");
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (503, REFUSED));
        assert_eq!(answer.header("connection"), None);
    }
    let line = gateway.log(2).await.remove(0);
    assert_eq!((&line["response_code"], &line["response_flags"]), (&503.into(), &"UF".into()));
    assert_eq!(line["upstream_host"], v1.addr().to_string());
}

#[tokio::test]
async fn a_connect_that_is_never_answered_ends_after_connect_timeout() {
    let mut v1 = Upstream::start("v1").unwrap();
    v1.black_hole().unwrap();
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "connect_timeout: 0.1s")
        .everything_to("v1", "")
        .start()
        .await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, TIMED_OUT));
    assert_eq!(gateway.logged().await["response_flags"], "UF");
    gateway.until_stat("cluster.v1.upstream_cx_connect_timeout", 1).await;
}

#[tokio::test]
async fn another_endpoint_takes_what_one_never_answers() {
    let mut hole = Upstream::start("hole").unwrap();
    hole.black_hole().unwrap();
    let live = Upstream::start("v1").unwrap();
    let gateway = Setup::new()
        .cluster("v1", &[hole.addr(), live.addr()], "connect_timeout: 0.1s")
        .everything_to("v1", "")
        .start()
        .await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_a_connection_is_opened_is_noticed() {
    let mut v1 = Upstream::start("v1").unwrap();
    v1.black_hole().unwrap();
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "connect_timeout: 60s")
        .everything_to("v1", "")
        .start()
        .await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gateway.until_stat("cluster.v1.upstream_rq_pending_active", 1).await;
    client.abort().unwrap();
    gateway.until_stat("cluster.v1.upstream_rq_pending_active", 0).await;
    assert_eq!(gateway.logged().await["response_flags"], "DC");
}

#[tokio::test]
async fn the_route_timeout_ends_a_connect_too() {
    let mut v1 = Upstream::start("v1").unwrap();
    v1.black_hole().unwrap();
    let gateway = Setup::new()
        .cluster("v1", &[v1.addr()], "connect_timeout: 60s")
        .everything_to("v1", "timeout: 0.1s")
        .start()
        .await;
    assert_eq!(gateway.get("/").await.status, 504);
    assert_eq!(gateway.logged().await["response_flags"], "UT");
}

#[tokio::test]
async fn a_dead_version_costs_nobody_a_request() {
    let (v1, v2) = (Upstream::start("v1").unwrap(), stopped("v2"));
    let gateway = Setup::split(&[(&v1, 50), (&v2, 50)], "stable: v1").start().await;
    for _ in 0..40 {
        assert_eq!(gateway.get("/").await.header("x-v"), Some("v1"));
    }
    // Its first failed connect makes it a suspect; from then on the draw leaves it out.
    gateway.until_stat("cluster.v2.upstream_cx_connect_fail", 1).await;
}

#[tokio::test]
async fn a_dead_version_keeps_its_share_when_the_split_is_not_health_aware() {
    let (v1, v2) = (Upstream::start("v1").unwrap(), stopped("v2"));
    let gateway = Setup::split(&[(&v1, 50), (&v2, 50)], "health_aware: false").start().await;
    let mut failed = 0;
    for _ in 0..60 {
        failed += u32::from(gateway.get("/").await.status == 503);
    }
    assert!((10..=50).contains(&failed), "{failed} of 60");
}

#[tokio::test]
async fn a_canary_at_weight_zero_takes_nobodys_place() {
    let (v1, v2) = (stopped("v1"), Upstream::start("v2").unwrap());
    let gateway = Setup::split(&[(&v1, 100), (&v2, 0)], "stable: v1").start().await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 503);
    }
    assert_eq!(v2.seen().connections, 0);
}

#[tokio::test]
async fn a_stable_at_weight_zero_takes_the_place_of_a_dead_canary() {
    let (v1, v2) = (Upstream::start("v1").unwrap(), stopped("v2"));
    let gateway = Setup::split(&[(&v1, 0), (&v2, 100)], "stable: v1").start().await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.header("x-v"), Some("v1"));
    }
}

#[tokio::test]
async fn a_version_that_dies_between_requests_loses_none() {
    let (v1, mut v2) = (Upstream::start("v1").unwrap(), Upstream::start("v2").unwrap());
    let gateway = Setup::split(&[(&v1, 50), (&v2, 50)], "stable: v1").start().await;
    let mut client = gateway.client().await;
    for n in 0..60 {
        if n == 20 {
            v2.stop();
        }
        assert_eq!(client.get("/").await.unwrap().status, 200, "request {n}");
    }
    assert!(v2.seen().requests > 0);
}
