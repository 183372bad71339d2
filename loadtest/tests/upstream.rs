//! The backend over raw sockets: what each fault looks like on the wire, keep-alive and drain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{backend, raw, recipe};
use http::Method;
use loadtest::client::{Answer, Client, Protocol};
use loadtest::upstream::Options;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn get(address: SocketAddr, path: &str) -> Answer {
    let recipe = recipe(address, path, Protocol::Http1).await;
    Client::http1(Arc::new(recipe), Arc::default()).exchange(common::DEADLINE).await.unwrap()
}

#[tokio::test]
async fn the_answer_names_the_version_in_body_and_header() {
    let v1 = backend(Options::named("v1"));
    let answer = get(v1.address, "/anything?q=1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, br#"{"data":"This is service v1"}"#);
    assert_eq!(answer.headers["x-v"], "v1");
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn an_asked_for_status_size_and_slow_body_are_given() {
    let v1 = backend(Options::named("v1"));
    assert_eq!(get(v1.address, "/?status=503").await.status, 503);
    let answer = get(v1.address, "/?size=100000").await;
    assert_eq!((answer.length, &answer.headers["content-length"]), (100_000, &"100000".parse().unwrap()));
    let answer = get(v1.address, "/?slow_body=5x1ms").await;
    assert_eq!(answer.body, br#"{"data":"This is service v1"}"#);
    assert_eq!(get(v1.address, "/?status=204&size=0").await.status, 204);
}

#[tokio::test]
async fn a_fault_that_cannot_be_read_is_a_bad_request() {
    let v1 = backend(Options::named("v1"));
    let answer = get(v1.address, "/?status=abc").await;
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8_lossy(&answer.body).contains("200 to 599"));
}

#[tokio::test]
async fn a_post_gets_its_own_body_back() {
    let v1 = backend(Options::named("v1"));
    let mut recipe = recipe(v1.address, "/", Protocol::Http1).await;
    recipe.method = Method::POST;
    recipe.body = vec![7_u8; 50_000].into();
    let answer = Client::http1(Arc::new(recipe), Arc::default()).exchange(common::DEADLINE).await.unwrap();
    assert_eq!((answer.length, answer.body), (50_000, vec![7_u8; 50_000]));
    assert_eq!(answer.headers["x-v"], "v1");
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_close_is_a_close() {
    let v1 = backend(Options::named("v1"));
    let (got, error) = raw(v1.address, b"GET /?reset=1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((got.len(), error), (0, Some(ErrorKind::ConnectionReset)));
    let (got, error) = raw(v1.address, b"GET /?close=1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((got.len(), error), (0, None));
}

#[tokio::test]
async fn a_cut_body_ends_in_its_middle() {
    let v1 = backend(Options::named("v1"));
    let (got, _) = raw(v1.address, b"GET /?cut=1&size=1000 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let text = String::from_utf8(got).unwrap();
    assert!(text.contains("content-length: 1000\r\n"), "{text}");
    let body = text.split("\r\n\r\n").nth(1).unwrap().len();
    assert!((1..1_000).contains(&body), "{body} bytes of body");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_keep_alive_time_that_was_told() {
    let mut options = Options::named("v1");
    options.keep_alive = Some(Duration::from_secs(1));
    options.keep_alive_header = true;
    let v1 = backend(options);
    // raw() reads to the end: without the keep-alive time it would never come.
    let (got, error) = raw(v1.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let text = String::from_utf8(got).unwrap();
    assert!(error.is_none() && text.contains("keep-alive: timeout=1\r\n"), "{text}");
}

#[tokio::test]
async fn an_error_rate_of_one_spares_only_the_health_check() {
    let mut options = Options::named("v1");
    options.error_rate = 1.0;
    options.error_status = http::StatusCode::BAD_GATEWAY;
    let v1 = backend(options);
    let answer = get(v1.address, "/").await;
    assert_eq!((answer.status.as_u16(), &answer.headers["x-v"]), (502, &"v1".parse().unwrap()));
    assert_eq!(get(v1.address, "/?status=200").await.status, 200);
    assert_eq!(get(v1.address, "/healthz").await.status, 200);
}

#[tokio::test]
async fn its_counters_count_requests_but_not_health_checks() {
    let v1 = backend(Options::named("v1"));
    get(v1.address, "/").await;
    get(v1.address, "/healthz").await;
    get(v1.address, "/?status=500").await;
    let stats: serde_json::Value =
        serde_json::from_slice(&get(v1.address, "/_upstream/stats").await.body).unwrap();
    assert_eq!((&stats["name"], &stats["requests"]), (&"v1".into(), &2.into()));
    assert_eq!(stats["connections"], 4);
}

#[tokio::test]
async fn a_draining_backend_answers_what_it_owes_and_closes_what_is_idle() {
    let v1 = backend(Options::named("v1"));
    let mut idle = tokio::net::TcpStream::connect(v1.address).await.unwrap();
    let mut owed = tokio::net::TcpStream::connect(v1.address).await.unwrap();
    owed.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    // The head of the echo comes at once, so the request is certainly in its hands.
    let mut head = vec![0; 12];
    owed.read_exact(&mut head).await.unwrap();
    assert_eq!(head, b"HTTP/1.1 200");

    v1.stop.send_replace(true);
    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
    owed.write_all(b"hello").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(common::DEADLINE, owed.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("hello"));
    tokio::time::timeout(common::DEADLINE, v1.served).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(v1.address).await.is_err());
}

#[tokio::test]
async fn a_name_that_cannot_stand_in_a_header_is_refused() {
    let options = Options::named("v\n1");
    let error = loadtest::upstream::Upstream::bind(common::any_port(), options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
