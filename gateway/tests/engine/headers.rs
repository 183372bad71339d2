//! What happens to headers on their way, both ways (Envoy 1.40's rules).

use crate::common::{Gateway, Setup};
use testkit::client::Response;
use testkit::upstream::{Received, Reply, Upstream};

/// Sends these header lines after Host through `setup` and gives what the backend received.
async fn pass(setup: impl Fn(Setup) -> Setup, lines: &str) -> (Received, Response, Gateway) {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = setup(Setup::to(&v1)).start().await;
    let mut client = gateway.client().await;
    client.send(format!("GET /p?q=1 HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).await.unwrap();
    let answer = client.response("GET").await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    (v1.last().unwrap(), answer, gateway)
}

fn names(received: &Received) -> Vec<&str> {
    received.head.headers.iter().map(|(name, _)| name.as_str()).collect()
}

fn is_uuid4(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        && parts[2].starts_with('4')
        && parts[3].starts_with(['8', '9', 'a', 'b'])
}

const EDGE: &str = "xff_num_trusted_hops: 0";
const SIDECAR: &str = "use_remote_address: false";

#[tokio::test]
async fn behind_an_alb_the_address_is_appended_and_the_scheme_kept() {
    let (received, ..) = pass(
        |setup| setup,
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Amzn-Trace-Id: Root=1\r\n",
    )
    .await;
    assert_eq!(received.head.first_line, "GET /p?q=1 HTTP/1.1");
    assert_eq!(
        names(&received),
        [
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-amzn-trace-id",
            "x-envoy-external-address",
            "x-request-id",
            "x-envoy-expected-rq-timeout-ms"
        ]
    );
    assert_eq!(received.header("x-forwarded-for"), Some("203.0.113.7,127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("x-envoy-external-address"), Some("203.0.113.7"));
    assert_eq!(received.header("x-envoy-expected-rq-timeout-ms"), Some("15000"));
    assert!(is_uuid4(received.header("x-request-id").unwrap()));
}

#[tokio::test]
async fn of_several_forwarded_addresses_the_last_trusted_one_is_the_client() {
    let lines = "x-forwarded-for: 198.51.100.9\r\nx-forwarded-for: 10.1.1.1, 203.0.113.7\r\n";
    let (received, ..) = pass(|setup| setup, lines).await;
    assert_eq!(received.header("x-envoy-external-address"), Some("203.0.113.7"));
    assert_eq!(received.header("x-forwarded-for"), Some("198.51.100.9,10.1.1.1, 203.0.113.7,127.0.0.1"));
    assert_eq!(received.head.all("x-forwarded-for").count(), 1);
}

#[tokio::test]
async fn at_the_edge_nothing_a_client_says_of_itself_is_believed() {
    let lines = "x-forwarded-for: 203.0.113.7\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n";
    let (received, ..) = pass(|setup| setup.manager(EDGE), lines).await;
    assert_eq!(received.header("x-forwarded-for"), Some("203.0.113.7,127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(received.header("x-envoy-external-address"), Some("127.0.0.1"));
    assert!(is_uuid4(received.header("x-request-id").unwrap()));
}

#[tokio::test]
async fn as_a_sidecar_addresses_and_ids_pass_untouched() {
    let lines = "x-forwarded-for: 203.0.113.7\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n";
    let (received, ..) = pass(|setup| setup.manager(SIDECAR), lines).await;
    assert_eq!(received.header("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("x-request-id"), Some("mine"));
    assert_eq!(received.header("x-envoy-external-address"), None);
}

#[tokio::test]
async fn as_a_sidecar_a_missing_id_is_made_and_no_address_is_added() {
    let (received, ..) = pass(|setup| setup.manager(SIDECAR), "").await;
    assert_eq!(received.header("x-forwarded-for"), None);
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert!(is_uuid4(received.header("x-request-id").unwrap()));
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..50 {
        client.get("/").await.unwrap();
    }
    let ids: std::collections::BTreeSet<_> =
        v1.received().iter().map(|r| r.header("x-request-id").unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn the_order_and_the_bytes_of_other_headers_are_kept() {
    let lines = "X-B: 1\r\nX-A:  two  \r\nx-b: 2\r\nCookie: a=1\r\nCookie: b=2\r\nX-Latin: caf\r\n";
    let (received, ..) = pass(|setup| setup, lines).await;
    let kept: Vec<_> = received.head.headers[1..7].iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(kept, ["x-b=1", "x-a=two", "x-b=2", "cookie=a=1", "cookie=b=2", "x-latin=caf"]);
}

#[tokio::test]
async fn bytes_above_ascii_pass_in_values() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-l: caf\xe9\r\n\r\n").await.unwrap();
    assert_eq!(client.response("GET").await.unwrap().status, 200);
    let raw = v1.last().unwrap().raw;
    assert!(raw.windows(11).any(|w| w == b"x-l: caf\xe9\r\n"));
}

#[tokio::test]
async fn hop_by_hop_headers_of_a_request_end_here() {
    let lines = "Connection: keep-alive, x-mine, Close-Not\r\nx-mine: 1\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nTE: gzip, trailers\r\nProxy-Authorization: b\r\nTrailer: x\r\n";
    let (received, ..) = pass(|setup| setup, lines).await;
    assert_eq!(names(&received)[..4], ["host", "te", "proxy-authorization", "trailer"]);
    assert_eq!(received.header("te"), Some("trailers"));
}

#[tokio::test]
async fn te_without_trailers_is_dropped() {
    let (received, ..) = pass(|setup| setup, "TE: gzip\r\n").await;
    assert_eq!(received.header("te"), None);
}

#[tokio::test]
async fn a_connection_header_cannot_take_away_who_sent_the_request() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    for name in ["x-forwarded-for", "Host"] {
        let text = gateway.exchange(format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: {name}\r\n\r\n")).await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    }
    assert_eq!(v1.seen().requests, 0);
}

#[tokio::test]
async fn envoys_internal_headers_are_not_believed_from_a_client() {
    let lines = "x-envoy-internal: true\r\nx-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 9\r\n\
                 x-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-original-path: /evil\r\nx-envoy-attempt-count: 3\r\n\
                 x-envoy-foo: bar\r\nx-envoy-expected-rq-timeout-ms: 5\r\n";
    let (received, ..) = pass(|setup| setup, lines).await;
    for gone in ["internal", "retry-on", "max-retries", "upstream-rq-timeout-ms", "original-path"] {
        assert_eq!(received.header(&format!("x-envoy-{gone}")), None);
    }
    assert_eq!(received.header("x-envoy-attempt-count"), Some("3"));
    assert_eq!(received.header("x-envoy-foo"), Some("bar"));
    assert_eq!(received.header("x-envoy-expected-rq-timeout-ms"), Some("15000"));
}

#[tokio::test]
async fn methods_that_may_have_a_body_say_that_they_have_none() {
    let v1 = Upstream::start("v1").unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for (method, length) in
        [("POST", Some("0")), ("PURGE", Some("0")), ("OPTIONS", Some("0")), ("GET", None), ("HEAD", None)]
    {
        assert_eq!(client.request(method, "/", &[], b"").await.unwrap().status, 200);
        assert_eq!(v1.last().unwrap().header("content-length"), length, "{method}");
    }
}

#[tokio::test]
async fn an_answer_is_stamped_in_envoys_order() {
    let v1 = Upstream::start_with("v1", |_| {
        Reply::ok("ok")
            .header("Content-Type", "text/plain")
            .header("server", "nginx")
            .header("x-envoy-upstream-service-time", "999999")
            .header("connection", "x-foo")
            .header("keep-alive", "timeout=9")
            .header("x-foo", "stays")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
    })
    .unwrap();
    let gateway = Setup::to(&v1).start().await;
    let answer = gateway.client().await.get("/").await.unwrap();
    assert_eq!(answer.head.first_line, "HTTP/1.1 200 OK");
    let lines: Vec<_> = answer.head.headers.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(
        lines,
        [
            "content-type",
            "server",
            "x-envoy-upstream-service-time",
            "x-foo",
            "set-cookie",
            "set-cookie",
            "content-length",
            "date"
        ]
    );
    assert_eq!(answer.header("server"), Some("envoy"));
    assert_ne!(answer.header("x-envoy-upstream-service-time"), Some("999999"));
    let date = answer.header("date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
}

#[tokio::test]
async fn the_backends_date_is_kept_and_its_reason_replaced() {
    let v1 = Upstream::start_with("v1", |_| {
        Reply::raw("HTTP/1.1 418 Short And Stout\r\ndate: yesterday\r\ncontent-length: 0\r\n\r\n")
    })
    .unwrap();
    let gateway = Setup::to(&v1).manager("server_name: weir").start().await;
    let answer = gateway.client().await.get("/").await.unwrap();
    assert_eq!(answer.head.first_line, "HTTP/1.1 418 Unknown");
    assert_eq!((answer.header("date"), answer.header("server")), (Some("yesterday"), Some("weir")));
}

#[tokio::test]
async fn the_access_log_says_what_was_received_and_sent() {
    let (_, _, gateway) = pass(|setup| setup, "User-Agent: curl/8\r\nx-forwarded-for: 203.0.113.7\r\n").await;
    let line = gateway.logged().await;
    assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/p?q=1".into()));
    assert_eq!((&line["protocol"], &line["response_code"]), (&"HTTP/1.1".into(), &200.into()));
    assert_eq!(line["user_agent"], "curl/8");
    assert_eq!(line["authority"], "a.test");
    assert_eq!(line["upstream_cluster"], "v1");
    assert!(line["x_forwarded_for"].as_str().unwrap().starts_with("203.0.113.7,"));
    assert!(line["response_flags"].as_str().is_none_or(|flags| flags == "-"), "{line}");
}
