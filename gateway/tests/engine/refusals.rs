//! Malformed HTTP/1.1: what the client is told, and that nothing of it reaches a backend.

use crate::common::{Gateway, Setup};
use testkit::upstream::{Reply, Upstream};

const OK: &str = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

/// A head with these lines after Host.
fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n").into_bytes()
}

fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n{body}").into_bytes()
}

fn line(line: &[u8]) -> Vec<u8> {
    [line, b"\r\nhost: a.test\r\n\r\n"].concat()
}

/// Sends it followed by a well-formed request: what was refused must not be followed by anything.
async fn status(gateway: &Gateway, bytes: &[u8]) -> (u16, String) {
    let text = gateway.exchange([bytes, OK.as_bytes()].concat()).await;
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "one answer and no more: {text:?}");
    let status = text.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0);
    (status, text)
}

async fn refused(cases: Vec<(&str, Vec<u8>, u16)>) {
    let v1 = Upstream::start_with("v1", |_| Reply::ok("ok")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let count = cases.len();
    for (name, bytes, wanted) in cases {
        let (status, text) = status(&gateway, &bytes).await;
        assert_eq!(status, wanted, "{name}: {text:?}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{name}: {text:?}");
        assert!(text.contains("\r\nserver: envoy\r\n"), "{name}: {text:?}");
    }
    assert_eq!(v1.seen().connections, 0, "a refused request reached the backend: {:?}", v1.received());
    let log = gateway.log(count).await;
    assert!(log.iter().all(|line| line["response_code"].as_u64() >= Some(400)));
}

#[tokio::test]
async fn a_malformed_request_line_is_refused() {
    refused(vec![
        ("garbage", b"garbage\r\n\r\n".to_vec(), 400),
        ("no version", line(b"GET /"), 400),
        ("lower-case method", line(b"get / HTTP/1.1"), 400),
        ("method with a separator", line(b"G(T / HTTP/1.1"), 400),
        ("space in the target", line(b"GET /a b HTTP/1.1"), 400),
        ("two spaces", line(b"GET  / HTTP/1.1"), 400),
        ("relative target", line(b"GET foo HTTP/1.1"), 400),
        ("NUL in the target", line(b"GET /a\0b HTTP/1.1"), 400),
        ("control byte in the target", line(b"GET /a\x01b HTTP/1.1"), 400),
        ("byte above ASCII in the target", line("GET /café HTTP/1.1".as_bytes()), 400),
        ("fragment in the target", line(b"GET /a#b HTTP/1.1"), 400),
        ("HTTP/3.7", line(b"GET / HTTP/3.7"), 426),
        ("HTTP/2.0", line(b"GET / HTTP/2.0"), 426),
        ("HTTP/1.0", line(b"GET / HTTP/1.0"), 426),
        ("absolute https on a plain listener", line(b"GET https://a.test/ HTTP/1.1"), 403),
    ])
    .await;
}

#[tokio::test]
async fn malformed_header_lines_are_refused() {
    refused(vec![
        ("no host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("two hosts", b"GET / HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n\r\n".to_vec(), 400),
        ("NUL in a value", get("x-nul: a\0b\r\n"), 400),
        ("CR in a value", get("x-cr: a\rb\r\n"), 400),
        ("blank before the colon", get("x-bad : 1\r\n"), 400),
        ("no colon", get("x-bad\r\n"), 400),
        ("no name", get(": 1\r\n"), 400),
        ("folded line", get("x-fold: a\r\n  b\r\n"), 400),
        ("first header folded", b"GET / HTTP/1.1\r\n host: a.test\r\n\r\n".to_vec(), 400),
        ("name with a separator", get("x(y): 1\r\n"), 400),
        ("connection names host", get("connection: host\r\n"), 400),
    ])
    .await;
}

#[tokio::test]
async fn unclear_framing_is_refused() {
    let chunked = "transfer-encoding: chunked\r\n";
    refused(vec![
        ("length and encoding", post(&format!("content-length: 5\r\n{chunked}"), "0\r\n\r\n"), 400),
        ("encoding and length", post(&format!("{chunked}content-length: 5\r\n"), "0\r\n\r\n"), 400),
        ("negative length", post("content-length: -1\r\n", ""), 400),
        ("length with letters", post("content-length: 5x\r\n", "hello"), 400),
        ("length with a plus", post("content-length: +5\r\n", "hello"), 400),
        ("empty length", post("content-length: \r\n", ""), 400),
        ("hexadecimal length", post("content-length: 0x5\r\n", "hello"), 400),
        ("two equal lengths", post("content-length: 5\r\ncontent-length: 5\r\n", "hello"), 400),
        ("two different lengths", post("content-length: 5\r\ncontent-length: 6\r\n", "hello"), 400),
        ("a list of lengths", post("content-length: 5, 5\r\n", "hello"), 400),
        ("length beyond 64 bits", post("content-length: 99999999999999999999999\r\n", ""), 400),
        ("unknown encoding", post("transfer-encoding: foo\r\n", ""), 501),
        ("identity", post("transfer-encoding: identity\r\n", ""), 501),
        ("gzip and chunked", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501),
        ("chunked twice", post("transfer-encoding: chunked, chunked\r\n", "0\r\n\r\n"), 501),
        ("two lines of chunked", post(&format!("{chunked}{chunked}"), "0\r\n\r\n"), 501),
    ])
    .await;
}

#[tokio::test]
async fn a_head_beyond_its_limits_is_refused() {
    let many: String = (0..100).map(|n| format!("x-{n}: v\r\n")).collect();
    refused(vec![
        ("101 headers", get(&many), 431),
        ("a value of 62,000 bytes", get(&format!("x-big: {}\r\n", "a".repeat(62_000))), 431),
        ("a target of 70,000 bytes", line(format!("GET /{} HTTP/1.1", "a".repeat(70_000)).as_bytes()), 431),
    ])
    .await;
}

#[tokio::test]
async fn a_head_within_its_limits_passes() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let many: String = (0..99).map(|n| format!("x-{n}: v\r\n")).collect();
    for head in [get(&many), get(&format!("x-big: {}\r\n", "a".repeat(50_000)))] {
        client.send(&head).await.unwrap();
        assert_eq!(client.response("GET").await.unwrap().status, 200);
    }
    assert_eq!(v1.last().unwrap().header("x-big").map(str::len), Some(50_000));
}

#[tokio::test]
async fn a_malformed_chunked_body_is_refused_and_never_complete_at_the_backend() {
    let v1 = Upstream::start_with("v1", |_| Reply::ok("ok")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let long = format!("{}\r\n", "1".repeat(17));
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(5_000));
    let bodies = [
        ("size that is no number", "zz\r\nabc\r\n0\r\n\r\n"),
        ("negative size", "-1\r\nabc\r\n0\r\n\r\n"),
        ("size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("empty size", "\r\nabc\r\n0\r\n\r\n"),
        ("size beyond 64 bits", long.as_str()),
        ("bytes after a chunk", "3\r\nabcde\r\n0\r\n\r\n"),
        ("line feeds only", "3\nabc\n0\n\n"),
        ("line feed in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("extension without end", extension.as_str()),
        ("trailer without colon", "0\r\nbad trailer\r\n\r\n"),
    ];
    for (name, body) in bodies {
        let (status, text) = status(&gateway, &post("transfer-encoding: chunked\r\n", body)).await;
        assert_eq!(status, 400, "{name}: {text:?}");
    }
    assert_eq!(v1.seen().complete, 0, "{:?}", v1.received());
    v1.until(|seen| seen.closed == seen.connections).await.unwrap();
    let log = gateway.log(bodies.len()).await;
    assert!(log.iter().all(|line| line["response_flags"] == "DPE"), "{log:#?}");
}

#[tokio::test]
async fn bad_bodies_of_clients_do_not_make_a_version_look_bad() {
    let v1 = Upstream::start_with("v1", |_| Reply::ok("ok")).unwrap();
    let gateway = Setup::split(&[(&v1, 1)], "stable: v1").start().await;
    for _ in 0..3 {
        status(&gateway, &post("transfer-encoding: chunked\r\n", "zz\r\n")).await;
    }
    gateway.until_stat("http.ingress.downstream_rq_active", 0).await;
    let stats = testkit::client::get(gateway.admin, "/stats?filter=gateway.route").await.unwrap().text();
    assert!(stats.contains("v1.errors: 0") && stats.contains("v1.requests: 3"), "{stats}");
}

#[tokio::test]
async fn what_envoy_tolerates_and_is_harmless_passes() {
    let v1 = Upstream::start_with("v1", |_| Reply::echo()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let cases: [(&str, Vec<u8>, &[u8]); 4] = [
        ("line feeds only", b"POST / HTTP/1.1\nhost: a\ncontent-length: 2\n\nab".to_vec(), b"ab"),
        ("upper-case CHUNKED", post("Transfer-Encoding: CHUNKED\r\n", "2\r\nab\r\n0\r\n\r\n"), b"ab"),
        ("chunk extensions", post("transfer-encoding: chunked\r\n", "2;x=y\r\nab\r\n0;z\r\n\r\n"), b"ab"),
        ("empty lines first", [b"\r\n\r\n".as_slice(), &post("content-length: 2\r\n", "ab")].concat(), b"ab"),
    ];
    for (name, bytes, body) in cases {
        client.send(bytes).await.unwrap();
        let answer = client.response("POST").await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, body), "{name}");
    }
}

#[tokio::test]
async fn lenient_repairs_what_envoy_repairs() {
    let v1 = Upstream::start_with("v1", |_| Reply::echo()).unwrap();
    let gateway = Setup::to(&v1).manager("lenient: true").start().await;
    let mut client = gateway.client().await;
    let cases: [(&str, Vec<u8>); 5] = [
        ("two hosts", b"GET / HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n\r\n".to_vec()),
        ("two spaces", line(b"GET  / HTTP/1.1")),
        ("CR in a value", get("x-cr: a\rb\r\n")),
        ("folded line", get("x-fold: a\r\n  b\r\n")),
        ("bytes after a chunk", post("transfer-encoding: chunked\r\n", "3\r\nabcde\r\n0\r\n\r\n")),
    ];
    for (name, bytes) in cases {
        client.send(bytes).await.unwrap();
        assert_eq!(client.response("GET").await.unwrap().status, 200, "{name}");
    }
    let received = v1.received();
    assert_eq!(received[0].header("host"), Some("a.test,b.test"));
    assert_eq!(received[2].header("x-cr"), Some("ab"));
    assert_eq!(received[4].body, b"abc");
}

#[tokio::test]
async fn a_refusal_looks_like_envoys() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let text = gateway.exchange("garbage\r\n\r\n").await;
    let (before, rest) = text.split_once("date: ").unwrap();
    assert_eq!(before, "HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\ncontent-type: text/plain\r\n");
    assert_eq!(rest.split_once("\r\n").unwrap().1, "server: envoy\r\nconnection: close\r\n\r\nBad Request");
    let line = gateway.logged().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&400.into(), &"DPE".into()));
    assert!(line["method"].is_null() && line["path"].is_null(), "{line}");
}
