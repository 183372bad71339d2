//! The way out: SIGTERM, what is still served, and the end.

use crate::common::Setup;
use std::time::{Duration, Instant};
use testkit::client::RawClient;
use testkit::upstream::{Gate, Reply, Upstream};

/// As the gateway promises load balancers.
const AT_LEAST: Duration = Duration::from_secs(5);

#[tokio::test]
async fn after_sigterm_everything_is_served_for_five_seconds_and_asked_to_leave() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut busy = gateway.client().await;
    assert_eq!(busy.get("/").await.unwrap().header("connection"), None);
    let mut idle = gateway.client().await;
    assert_eq!(idle.get("/").await.unwrap().header("connection"), None);
    let mut never_used = gateway.client().await;
    let started = Instant::now();
    gateway.process.terminate().unwrap();
    gateway.process.line("draining").await.unwrap();
    let answer = busy.get("/").await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    busy.closed().await.unwrap();
    assert!(testkit::client::get(gateway.admin, "/server_info").await.unwrap().text().contains("DRAINING"));
    assert_eq!(testkit::client::get(gateway.admin, "/ready").await.unwrap().status, 503);
    // New connections are served as long as load balancers may still send them.
    let mut served = 0;
    while let Ok(mut client) = RawClient::connect(gateway.addr).await {
        match client.get("/").await {
            Ok(answer) => {
                assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
                served += 1;
            }
            Err(error) => panic!("an accepted connection was not served: {error:#}"),
        }
        testkit::clock::real_sleep(Duration::from_millis(100)).await;
        if started.elapsed() > AT_LEAST - Duration::from_millis(500) {
            break;
        }
    }
    assert!(
        started.elapsed() > AT_LEAST - Duration::from_millis(600),
        "refused after {:?}",
        started.elapsed()
    );
    assert!(served > 10, "{served}");
    // Idle connections are closed at the end, in order.
    idle.closed().await.unwrap();
    never_used.closed().await.unwrap();
    assert!(started.elapsed() >= AT_LEAST);
    assert_eq!(gateway.process.exit().await.unwrap().code(), Some(0));
    gateway.log(3 + served).await;
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_end() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    v1.push(Reply::ok("late").after(&gate));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let mut idle = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    gate.until_arrived(1).await.unwrap();
    gateway.process.terminate().unwrap();
    // The idle one is closed when accepting has ended; the busy one is still awaited.
    idle.closed().await.unwrap();
    assert!(gateway.process.ended().is_none());
    gate.open();
    let answer = client.response("GET").await.unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("late", Some("close")));
    assert_eq!(gateway.process.exit().await.unwrap().code(), Some(0));
    assert_eq!(gateway.logged().await["response_code"], 200);
}

/// As under a load balancer that never learns: accepting ends before the drain time is over all the same.
#[tokio::test]
async fn steady_traffic_does_not_keep_a_draining_process_from_ending_in_order() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).arg("--drain-time-s").arg("8").start().await;
    gateway.process.terminate().unwrap();
    gateway.process.line("draining").await.unwrap();
    let mut served = 0;
    while let Ok(mut client) = RawClient::connect(gateway.addr).await {
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.status, 200, "an accepted connection is served");
        served += 1;
        testkit::clock::real_sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(gateway.process.exit().await.unwrap().code(), Some(0));
    assert!(!gateway.process.stderr().contains("what is left is cut"), "{}", gateway.process.stderr());
    gateway.log(served).await;
}

#[tokio::test]
async fn what_is_left_at_the_end_of_the_drain_time_is_cut() {
    let v1 = Upstream::start_with("v1", |_| Reply::hang()).unwrap();
    let gateway = Setup::to(&v1).arg("--drain-time-s").arg("5").start().await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    v1.until(|seen| seen.requests == 1).await.unwrap();
    gateway.process.terminate().unwrap();
    assert_eq!(gateway.process.exit().await.unwrap().code(), Some(0));
    assert!(client.read_to_end().await.unwrap_or_default().is_empty());
    gateway.log(1).await;
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let v1 = Upstream::start_with("v1", |_| Reply::hang()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    v1.until(|seen| seen.requests == 1).await.unwrap();
    let started = Instant::now();
    gateway.process.terminate().unwrap();
    gateway.process.line("draining").await.unwrap();
    gateway.process.terminate().unwrap();
    assert_eq!(gateway.process.exit().await.unwrap().code(), Some(0));
    assert!(started.elapsed() < AT_LEAST, "{:?}", started.elapsed());
}

#[tokio::test]
async fn http_2_clients_are_told_to_leave_and_lose_no_stream() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.h2().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    v1.push(Reply::ok("late").after(&gate));
    let mut other = client.clone();
    let late = tokio::spawn(async move { other.get("/late").await });
    gate.until_arrived(1).await.unwrap();
    gateway.process.terminate().unwrap();
    gateway.process.line("draining").await.unwrap();
    gate.open();
    assert_eq!(late.await.unwrap().unwrap().body.as_ref(), b"late");
    crate::common::until("GOAWAY", async || client.is_closed().then_some(())).await;
    let mut fresh = gateway.h2().await;
    assert_eq!(fresh.get("/").await.unwrap().status, 200, "new connections are still served");
    assert_eq!(gateway.process.exit().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn listeners_drained_by_hand_close_and_connections_go_on() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    gateway.change("/drain_listeners").await;
    crate::common::until("refusal", async || RawClient::connect(gateway.addr).await.is_err().then_some(()))
        .await;
    assert_eq!(client.get("/").await.unwrap().header("connection"), None);
    // The process leaves later; this connection is idle then and has its five seconds.
    let started = Instant::now();
    gateway.process.terminate().unwrap();
    client.closed().await.unwrap();
    assert!(started.elapsed() >= AT_LEAST);
    assert_eq!(gateway.process.exit().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_failed_health_check_asks_clients_to_leave_until_it_is_taken_back() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    gateway.change("/healthcheck/fail").await;
    assert_eq!(gateway.client().await.get("/").await.unwrap().header("connection"), Some("close"));
    let mut http2 = gateway.h2().await;
    assert_eq!(http2.get("/").await.unwrap().status, 200);
    crate::common::until("GOAWAY", async || http2.is_closed().then_some(())).await;
    gateway.change("/healthcheck/ok").await;
    assert_eq!(gateway.client().await.get("/").await.unwrap().header("connection"), None);
}
