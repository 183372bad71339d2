//! Traffic of every kind at once: nothing is mixed up, and nothing is left behind.

use crate::common::{Gateway, Setup, chunked, pattern};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::Arc;
use std::time::Duration;
use testkit::upstream::{End, Received, Reply, Upstream};

/// One request, the way it is framed, and the body that is to come back.
fn random_request(rng: &mut SmallRng, n: usize) -> (Vec<u8>, &'static str, Vec<u8>) {
    let body = pattern(match rng.random_range(0..4) {
        0 => 0,
        1 => rng.random_range(1..100),
        2 => rng.random_range(100..5_000),
        _ => rng.random_range(5_000..120_000),
    });
    let empty_lines = "\r\n".repeat(rng.random_range(0..2));
    let head =
        |method: &str, more: &str| format!("{empty_lines}{method} /{n} HTTP/1.1\r\nHost: test\r\n{more}\r\n");
    match rng.random_range(0..4) {
        0 => (head("GET", "").into_bytes(), "GET", Vec::new()),
        1 => {
            let size = rng.random_range(1..40_000);
            let bytes =
                [head("POST", "Transfer-Encoding: chunked\r\n").as_bytes(), &chunked(&body, size)].concat();
            (bytes, "POST", body)
        }
        which => {
            let method = if which == 2 { "PUT" } else { "POST" };
            let length = format!("Content-Length: {}\r\n", body.len());
            ([head(method, &length).as_bytes(), &body].concat(), method, body)
        }
    }
}

#[tokio::test]
async fn random_requests_in_random_packets_are_answered_each_with_its_own_body() {
    let v1 = Upstream::start_with("v1", |r| Reply::echo().header("x-target", r.target())).unwrap();
    let gateway = Setup::to(&v1).start().await;
    for seed in 0..12 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let requests: Vec<_> = (0..25).map(|n| random_request(&mut rng, n)).collect();
        let stream: Vec<u8> = requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
        let mut client = gateway.client().await;
        let (mut sent, mut answered) = (0, 0);
        let mut ends = requests.iter().scan(0, |end, (bytes, ..)| {
            *end += bytes.len();
            Some(*end)
        });
        let mut next_end = ends.next();
        while sent < stream.len() {
            let most = [1, 30, 1_500, 40_000, 200_000][rng.random_range(0..5)];
            let until = (sent + rng.random_range(1..=most)).min(stream.len());
            client.send(&stream[sent..until]).await.unwrap();
            sent = until;
            // Answers are read as soon as their requests are out: else both sides could wait for each other.
            while next_end.is_some_and(|end| end <= sent) {
                let (_, method, body) = &requests[answered];
                let answer = client.response(method).await.unwrap();
                assert_eq!(answer.header("x-target"), Some(format!("/{answered}").as_str()), "seed {seed}");
                assert!(answer.body == *body, "seed {seed}, request {answered}");
                answered += 1;
                next_end = ends.next();
            }
        }
        assert_eq!(answered, requests.len());
    }
    gateway.log(12 * 25).await;
}

#[tokio::test]
async fn answers_in_odd_pieces_arrive_whole() {
    let body = pattern(3_000);
    let sent = body.clone();
    let v1 = Upstream::start_with("v1", move |r| {
        let piece: usize = r.target()[1..].parse().unwrap();
        let reply = if piece.is_multiple_of(2) {
            Reply::status(200).chunked(sent.chunks(piece))
        } else {
            Reply::ok(sent.clone())
        };
        reply.slow(piece, Duration::ZERO)
    })
    .unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for piece in [1, 2, 3, 7, 16, 61, 100, 1023] {
        assert!(client.get(&format!("/{piece}")).await.unwrap().body == body, "pieces of {piece}");
    }
    assert_eq!(v1.seen().connections, 1);
}

/// A backend that does as the path says.
fn moody(name: &str) -> Upstream {
    let script = |r: &Received| match r.target() {
        "/close" => Reply::close(),
        "/reset" => Reply::reset(),
        "/cut" => Reply::ok(pattern(5_000)).cut_at(1_000).end(End::Reset),
        "/nonsense" => Reply::raw("nonsense\r\n\r\n"),
        "/until-close" => Reply::status(200).until_close(pattern(5_000)),
        "/early" => Reply::status(413).before_body(),
        "/large" => Reply::ok(pattern(300_000)),
        "/echo" => Reply::echo(),
        _ => Reply::hang(),
    };
    Upstream::start_with(name, script).unwrap()
}

const PATHS: [&str; 9] =
    ["/close", "/reset", "/cut", "/nonsense", "/until-close", "/early", "/large", "/echo", "/hang"];

async fn one_client(gateway: &Gateway, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut client = gateway.client().await;
    for _ in 0..rng.random_range(1..6) {
        let path = PATHS[rng.random_range(0..PATHS.len())];
        let body = pattern(rng.random_range(0..50_000));
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
        let bytes = [head.as_bytes(), &body].concat();
        // Some leave inside the request, some inside the answer, some wait for it.
        let until = if rng.random_bool(0.2) { rng.random_range(0..bytes.len()) } else { bytes.len() };
        if client.send(&bytes[..until]).await.is_err() {
            return;
        }
        if until < bytes.len() || path == "/hang" || rng.random_bool(0.2) {
            break;
        }
        if client.response("POST").await.is_err() {
            return;
        }
    }
    if rng.random_bool(0.5) {
        client.abort().unwrap();
    }
}

async fn one_h2_client(gateway: &Gateway, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let client = gateway.h2().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut client = client.clone();
        let path = PATHS[rng.random_range(0..PATHS.len())];
        let body = Bytes::from(pattern(rng.random_range(0..50_000)));
        streams.push(tokio::spawn(async move {
            let _outcome = client.request(http::Request::post(path).body(body).unwrap()).await;
        }));
    }
    tokio::task::yield_now().await;
    for stream in streams {
        if rng.random_bool(0.5) {
            let _in_time = tokio::time::timeout(Duration::from_millis(50), stream).await;
        } else {
            stream.abort();
        }
    }
}

#[tokio::test]
async fn whatever_clients_and_backends_do_nothing_is_left_behind() {
    let (v1, v2) = (moody("v1"), moody("v2"));
    let gateway =
        Setup::split(&[(&v1, 1), (&v2, 1)], "stable: v1").arg("--concurrency").arg("2").start().await;
    let gateway = Arc::new(gateway);
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..150 {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move { one_client(&gateway, seed).await });
    }
    for seed in 0..20 {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move { one_h2_client(&gateway, seed).await });
    }
    clients.join_all().await;
    for name in [
        "http.ingress.downstream_cx_active",
        "http.ingress.downstream_cx_http2_active",
        "http.ingress.downstream_rq_active",
        "cluster.v1.upstream_rq_active",
        "cluster.v2.upstream_rq_active",
        "cluster.v1.upstream_rq_pending_active",
        "cluster.v2.upstream_rq_pending_active",
        // Idle upstream connections are closed after four seconds.
        "cluster.v1.upstream_cx_active",
        "cluster.v2.upstream_cx_active",
    ] {
        gateway.until_stat(name, 0).await;
    }
    let total = gateway.stat("http.ingress.downstream_rq_total").await;
    gateway.until_stat("http.ingress.downstream_rq_completed", total).await;
    assert!(total > 300, "{total}");
    gateway.log(usize::try_from(total).unwrap()).await;
    gateway.until_stat("gateway.task_panics", 0).await;
    let seen = [v1.seen(), v2.seen()];
    assert!(seen.iter().all(|seen| seen.open() == 0), "{seen:?}");
}
