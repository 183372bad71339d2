//! `split` and `run` end to end: real sockets, two backends, a splitter before them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{backend, recipe, splitter};
use http::HeaderValue;
use loadtest::client::Protocol;
use loadtest::drive::{DriveError, Stopped, Stream, drive};
use loadtest::identify::Identify;
use loadtest::report::Report;
use loadtest::schedule::{Rate, Schedule};
use loadtest::upstream::Options;
use std::net::SocketAddr;
use std::time::Duration;

async fn stream(address: SocketAddr, path: &str, total: u64, protocol: Protocol) -> Stream {
    Stream {
        schedule: Schedule::for_count(Rate::per_second(5_000.0).unwrap(), total).unwrap(),
        recipe: recipe(address, path, protocol).await,
        connections: 8,
        streams: if protocol == Protocol::Http2 { 4 } else { 1 },
        request_timeout: common::DEADLINE,
        time_limit: common::DEADLINE,
        identify: Identify::Auto,
        trace: false,
    }
}

async fn report(stream: &Stream, expect: Option<&str>) -> Report {
    let driven = drive(stream.clone(), |_| {}, std::future::pending()).await.unwrap();
    let expected = expect.map(|text| text.parse().unwrap());
    Report::new("http://test/", stream, &driven, expected.as_ref())
}

fn one_in_ten(n: u64) -> usize {
    usize::from(n % 10 == 9)
}

#[tokio::test]
async fn ninety_ten_before_two_backends_is_seen_as_ninety_ten() {
    let (v1, v2) = (backend(Options::named("v1")), backend(Options::named("v2")));
    let front = splitter(vec![v1.address, v2.address], one_in_ten, Protocol::Http1).await;
    let stream = stream(front, "/", 1_000, Protocol::Http1).await;
    let r = report(&stream, Some("v1=90,v2=10")).await;
    assert!(r.ok, "{r}");
    assert_eq!((r.sent, r.answered, r.not_sent), (1_000, 1_000, 0));
    assert_eq!((r.versions[0].count, r.versions[1].count), (900, 100));
    assert_eq!(r.connections_opened, 8);
    assert_eq!(r.latency_from_intended_ms.count, 1_000);

    let r = report(&stream, Some("v1=50,v2=50")).await;
    assert!(!r.ok && r.split.as_ref().unwrap().p_value < 1e-10, "{r}");
    let r = report(&stream, Some("v1=100,v2=0")).await;
    assert!(!r.ok && r.reasons[0].contains("`v2`, whose share is 0"), "{r}");
}

#[tokio::test]
async fn http2_requests_share_connections_and_are_counted_alike() {
    let (v1, v2) = (backend(Options::named("v1")), backend(Options::named("v2")));
    let front = splitter(vec![v1.address, v2.address], one_in_ten, Protocol::Http2).await;
    let stream = stream(front, "/", 500, Protocol::Http2).await;
    let r = report(&stream, Some("v1=90,v2=10")).await;
    assert!(r.ok, "{r}");
    assert_eq!((r.answered, r.connections_opened), (500, 8));
}

#[tokio::test]
async fn one_broken_backend_fails_the_split_and_is_named() {
    let (v1, v2) = (backend(Options::named("v1")), backend(Options::named("v2")));
    let front = splitter(vec![v1.address, v2.address], one_in_ten, Protocol::Http1).await;
    let mut stream = stream(front, "/?status=500", 100, Protocol::Http1).await;
    let r = report(&stream, Some("v1=90,v2=10")).await;
    assert!(!r.ok && r.errors == 100 && r.versions[1].errors == 10, "{r}");

    drop(v2.stop);
    v2.served.await.unwrap();
    stream.recipe = recipe(front, "/", Protocol::Http1).await;
    let r = report(&stream, Some("v1=90,v2=10")).await;
    assert!(!r.ok && r.statuses[&503] == 10 && r.unidentified == 10, "{r}");
}

#[tokio::test]
async fn a_reset_is_a_failure_and_the_next_request_has_a_new_connection() {
    let v1 = backend(Options::named("v1"));
    let mut stream = stream(v1.address, "/", 20, Protocol::Http1).await;
    stream
        .recipe
        .headers
        .push((http::HeaderName::from_static("x-fault"), HeaderValue::from_static("reset=1")));
    let r = report(&stream, None).await;
    assert!(!r.ok && r.failures["reset"] == 20 && r.connections_opened >= 20, "{r}");
}

#[tokio::test]
async fn an_answer_cut_short_is_a_failure_not_an_answer() {
    let v1 = backend(Options::named("v1"));
    let stream = stream(v1.address, "/?cut=1&size=1000", 10, Protocol::Http1).await;
    let r = report(&stream, None).await;
    assert_eq!((r.answered, r.failures.values().sum::<u64>()), (0, 10), "{r}");
}

#[tokio::test]
async fn a_request_without_an_answer_in_time_is_a_timeout() {
    let v1 = backend(Options::named("v1"));
    let mut stream = stream(v1.address, "/?delay=1h", 3, Protocol::Http1).await;
    stream.request_timeout = Duration::from_millis(50);
    let r = report(&stream, None).await;
    assert!(!r.ok && r.failures["timeout"] == 3, "{r}");
}

#[tokio::test]
async fn a_slow_peer_makes_requests_late_but_never_fewer() {
    let v1 = backend(Options::named("v1"));
    let mut stream = stream(v1.address, "/?delay=5ms", 60, Protocol::Http1).await;
    stream.connections = 1;
    let r = report(&stream, None).await;
    assert_eq!((r.sent, r.answered, r.not_sent), (60, 60, 0), "{r}");
    // One connection, 5 ms each, all 60 due within 12 ms: the last waits for 59 others.
    assert!(r.late > 50, "{r}");
    assert!(r.latency_from_intended_ms.max >= 59.0 * 5.0 - 12.0, "{r}");
    assert!(r.latency_from_sent_ms.p50 < r.latency_from_intended_ms.p50, "{r}");
}

#[tokio::test]
async fn what_does_not_fit_into_the_time_limit_is_reported_as_not_sent() {
    let v1 = backend(Options::named("v1"));
    let mut stream = stream(v1.address, "/?delay=30ms", 10_000, Protocol::Http1).await;
    stream.connections = 1;
    stream.time_limit = Duration::from_millis(100);
    let driven = drive(stream.clone(), |_| {}, std::future::pending()).await.unwrap();
    assert_eq!(driven.stopped, Some(Stopped::TimeLimit));
    assert_eq!(driven.recorder.sent + driven.not_sent, 10_000);
    let r = Report::new("http://test/", &stream, &driven, None);
    assert!(!r.ok && r.reasons.iter().any(|reason| reason.contains("never sent")), "{r}");
}

#[tokio::test]
async fn an_interrupted_run_reports_what_it_has() {
    let v1 = backend(Options::named("v1"));
    let mut stream = stream(v1.address, "/", 10, Protocol::Http1).await;
    stream.schedule = Schedule::for_count(Rate::per_second(0.01).unwrap(), 10).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stop = std::cell::Cell::new(Some(stop));
    let progress = |done: u64| {
        if done == 1 {
            drop(stop.take());
        }
    };
    let driven = drive(stream, progress, async { drop(stopped.await) }).await.unwrap();
    assert_eq!((driven.stopped, driven.not_sent), (Some(Stopped::Interrupted), 9));
    assert_eq!(driven.recorder.answered, 1);
}

#[tokio::test]
async fn a_connection_per_request_opens_one_for_each() {
    let v1 = backend(Options::named("v1"));
    let mut stream = stream(v1.address, "/", 50, Protocol::Http1).await;
    stream.recipe.close = true;
    let r = report(&stream, None).await;
    assert!(r.ok, "{r}");
    // The one that showed that somebody listens serves a request too.
    assert_eq!(r.connections_opened, 50);
}

#[tokio::test]
async fn an_idle_connection_that_the_peer_closed_is_no_error() {
    // The answer carries `connection: close`, so every request but the first of a connection needs a new one.
    let v1 = backend(Options::named("v1"));
    let r = report(&stream(v1.address, "/?last=1", 50, Protocol::Http1).await, None).await;
    assert!(r.ok && r.connections_opened >= 50, "{r}");
}

#[tokio::test]
async fn nobody_listening_is_said_before_anything_is_sent() {
    let gone = backend(Options::named("v1"));
    let stream = stream(gone.address, "/", 10, Protocol::Http1).await;
    drop(gone.stop);
    gone.served.await.unwrap();
    let error = drive(stream, |_| {}, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, DriveError::Unreachable { .. }));
    assert!(error.to_string().contains("check that something listens there"), "{error}");
}
