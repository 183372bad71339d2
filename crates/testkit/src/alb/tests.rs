//! The load balancer in front of scripted targets: data and health are two ports of one target, as with the gateway.

use super::*;
use crate::client::RawClient;
use crate::upstream::{End, Gate, KeepAlive, Reply, Upstream};

struct Pair {
    data: Upstream,
    admin: Upstream,
}

impl Pair {
    fn start(name: &str) -> Self {
        Self { data: Upstream::start(name).unwrap(), admin: Upstream::start("admin").unwrap() }
    }

    fn target(&self) -> Target {
        Target { data: self.data.addr(), admin: self.admin.addr() }
    }
}

async fn balanced(pairs: &[&Pair]) -> Alb {
    let alb = Alb::start().unwrap();
    pairs.iter().for_each(|pair| alb.register(pair.target()));
    alb.tick().await.unwrap();
    alb
}

#[tokio::test]
async fn requests_are_spread_stamped_and_sent_over_kept_connections() {
    let (a, b) = (Pair::start("a"), Pair::start("b"));
    let alb = balanced(&[&a, &b]).await;
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    for _ in 0..10 {
        let headers = [("x-forwarded-for", "192.0.2.1"), ("x-odd", "kept")];
        let answer = client.request("POST", "/p?q=1", &headers, b"body").await.unwrap();
        assert_eq!(answer.status, 200);
    }
    for pair in [&a, &b] {
        let seen = pair.data.seen();
        assert_eq!((seen.requests, seen.connections), (5, 1));
        let got = pair.data.last().unwrap();
        assert_eq!(
            (got.target(), got.header("host"), got.body.as_slice()),
            ("/p?q=1", Some("test"), b"body".as_slice())
        );
        assert_eq!(got.header("x-forwarded-for"), Some("192.0.2.1, 127.0.0.1"));
        assert_eq!(got.header("x-forwarded-proto"), Some("http"));
        assert_eq!(got.header("x-forwarded-port"), Some(alb.addr().port().to_string().as_str()));
        assert!(got.header("x-amzn-trace-id").unwrap().starts_with("Root=1-"));
        let check = pair.admin.last().unwrap();
        assert_eq!(
            (check.target(), check.header("user-agent")),
            ("/server_info", Some("ELB-HealthChecker/2.0"))
        );
    }
    let counts = alb.counts();
    assert_eq!((counts.requests, counts.passed, counts.errors(), counts.connections), (10, 10, 0, 2));
}

#[tokio::test]
async fn health_follows_the_thresholds_and_fails_open() {
    let (a, b) = (Pair::start("a"), Pair::start("b"));
    let alb = Alb::start().unwrap();
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    alb.register(a.target());
    assert_eq!(client.get("/").await.unwrap().status, 503, "not checked yet");
    alb.register(b.target());
    alb.tick().await.unwrap();
    let health = |alb: &Alb, pair: &Pair| alb.health(pair.data.addr()).unwrap();
    a.admin.set_reply(Reply::status(500));
    alb.tick().await.unwrap();
    assert_eq!(health(&alb, &a), TargetHealth::Healthy);
    alb.tick().await.unwrap();
    assert_eq!(health(&alb, &a), TargetHealth::Unhealthy);
    for _ in 0..4 {
        assert_eq!(client.get("/").await.unwrap().header("x-v"), Some("b"));
    }
    b.admin.set_reply(Reply::close());
    alb.tick().await.unwrap();
    alb.tick().await.unwrap();
    let mut versions: Vec<String> = Vec::new();
    for _ in 0..4 {
        versions.push(client.get("/").await.unwrap().header("x-v").unwrap().to_owned());
    }
    assert!(versions.contains(&"a".to_owned()), "all are unhealthy: it fails open");
    a.admin.set_reply(Reply::status(200));
    for wanted in [TargetHealth::Unhealthy, TargetHealth::Unhealthy, TargetHealth::Healthy] {
        alb.tick().await.unwrap();
        assert_eq!(health(&alb, &a), wanted);
    }
    assert_eq!(alb.counts().no_target, 1);
}

#[tokio::test]
async fn an_idle_connection_that_the_target_closed_is_no_error() {
    let a = Pair::start("a");
    a.data.set_keep_alive(KeepAlive { max_requests: Some(1), ..KeepAlive::default() });
    let alb = balanced(&[&a]).await;
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    for n in 1..=5 {
        assert_eq!(client.get("/").await.unwrap().status, 200);
        a.data.until(|seen| seen.closed == n).await.unwrap();
    }
    let counts = alb.counts();
    assert_eq!((counts.errors(), counts.connections), (0, 5));
}

#[tokio::test]
async fn a_reset_under_a_written_request_is_a_502_by_its_cause() {
    let a = Pair::start("a");
    let alb = balanced(&[&a]).await;
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    a.data.push(Reply::reset());
    assert_eq!(client.get("/").await.unwrap().status, 502);
    assert_eq!(client.get("/").await.unwrap().status, 200);
    alb.until(|| alb.idle(a.data.addr()) == 1).await;
    a.data.push(Reply::reset());
    assert_eq!(client.get("/").await.unwrap().status, 502);
    let counts = alb.counts();
    assert_eq!((counts.reset_fresh, counts.reset_reused), (1, 1));
    assert_eq!(a.data.seen().requests, 3, "nothing was sent twice");
}

#[tokio::test]
async fn every_other_failure_is_counted_by_its_cause_too() {
    let mut a = Pair::start("a");
    let alb = balanced(&[&a]).await;
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    a.data.push(Reply::status(503));
    assert_eq!(client.get("/").await.unwrap().status, 503);
    let whole = Reply::ok("0123456789");
    let cut = whole.head_len() + 3;
    a.data.push(whole.cut_at(cut).end(End::Close));
    assert!(client.get("/").await.is_err());
    a.data.stop();
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status, 502);
    let counts = alb.counts();
    assert_eq!((counts.target_5xx, counts.cut, counts.connect_failed), (1, 1, 1));
    assert_eq!(counts.errors(), 3);
}

#[tokio::test]
async fn a_target_that_does_not_answer_in_time_is_a_504() {
    let a = Pair::start("a");
    let settings = Settings { idle_timeout: Duration::from_millis(50), ..Settings::default() };
    let alb = Alb::start_with(settings).unwrap();
    alb.register(a.target());
    alb.tick().await.unwrap();
    a.data.set_reply(Reply::hang());
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status, 504);
    assert_eq!((alb.counts().timeout, alb.counts().errors()), (1, 1));
}

#[tokio::test]
async fn deregistration_stops_new_requests_first_and_waits_for_the_old_ones() {
    let (a, b) = (Pair::start("a"), Pair::start("b"));
    let alb = Arc::new(balanced(&[&a]).await);
    let gate = Gate::new();
    a.data.push(Reply::service("a").after(&gate));
    let mut slow = RawClient::connect(alb.addr()).await.unwrap();
    slow.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    gate.until_arrived(1).await.unwrap();
    alb.register(b.target());
    alb.tick().await.unwrap();
    let (balancer, data) = (Arc::clone(&alb), a.data.addr());
    alb.begin_deregister(data);
    let drained = tokio::spawn(async move { balancer.deregister(data, DEADLINE).await });
    let mut client = RawClient::connect(alb.addr()).await.unwrap();
    for _ in 0..6 {
        assert_eq!(client.get("/").await.unwrap().header("x-v"), Some("b"));
    }
    assert!(!drained.is_finished());
    assert_eq!((alb.in_flight(data), alb.health(data)), (1, Some(TargetHealth::Draining)));
    gate.open();
    assert_eq!(slow.response("GET").await.unwrap().header("x-v"), Some("a"));
    drained.await.unwrap().unwrap();
    assert_eq!((alb.health(data), a.data.seen().requests), (None, 1));
    assert_eq!(alb.counts().errors(), 0);
}

#[tokio::test]
async fn it_checks_by_itself_when_told_an_interval() {
    let a = Pair::start("a");
    let settings = Settings { interval: Some(Duration::from_millis(5)), ..Settings::default() };
    let alb = Alb::start_with(settings).unwrap();
    alb.register(a.target());
    alb.until_healthy(a.data.addr()).await.unwrap();
    a.admin.until(|seen| seen.replies >= 3).await.unwrap();
}
