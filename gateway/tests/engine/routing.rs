//! Which backend a request goes to, and how it is rewritten for it.

use crate::common::Setup;
use testkit::upstream::Upstream;

fn two() -> (Upstream, Upstream) {
    (Upstream::start("v1").unwrap(), Upstream::start("v2").unwrap())
}

fn clusters(v1: &Upstream, v2: &Upstream) -> Setup {
    Setup::new().cluster("v1", &[v1.addr()], "").cluster("v2", &[v2.addr()], "")
}

#[tokio::test]
async fn the_first_route_that_matches_by_prefix_path_or_header_wins() {
    let (v1, v2) = two();
    let gateway = clusters(&v1, &v2)
        .route("{match: {prefix: /, headers: [{name: x-canary, string_match: {exact: v2}}]}, route: {cluster: v2}}")
        .route("{match: {path: /exact}, route: {cluster: v2}}")
        .route("{match: {prefix: /pre}, route: {cluster: v1}}")
        .start()
        .await;
    let mut client = gateway.client().await;
    for (target, header, wanted) in [
        ("/exact", None, Some("v2")),
        ("/exact?q", None, Some("v2")),
        ("/exact/more", None, None),
        ("/prefix", None, Some("v1")),
        ("/prefix", Some("v2"), Some("v2")),
        ("/prefix", Some("V2"), Some("v1")),
        ("/other", None, None),
        ("/other", Some("v2"), Some("v2")),
    ] {
        let headers: Vec<_> = header.map(|value| ("x-canary", value)).into_iter().collect();
        let answer = client.request("GET", target, &headers, b"").await.unwrap();
        assert_eq!(answer.header("x-v"), wanted, "{target} {header:?}");
        assert_eq!(answer.status, if wanted.is_some() { 200 } else { 404 });
    }
}

#[tokio::test]
async fn nothing_that_matches_is_404_nr_with_an_empty_body() {
    let (v1, v2) = two();
    let gateway = clusters(&v1, &v2).route("{match: {prefix: /a}, route: {cluster: v1}}").start().await;
    let mut client = gateway.client().await;
    let answer = client.get("/b").await.unwrap();
    assert_eq!((answer.status, answer.body_len, answer.header("content-length")), (404, 0, Some("0")));
    let answer = client.request("HEAD", "/b", &[], b"").await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(client.get("/a").await.unwrap().status, 200);
    assert_eq!(gateway.log(3).await[0]["response_flags"], "NR");
    gateway.until_stat("http.ingress.no_route", 2).await;
}

#[tokio::test]
async fn prefix_and_host_are_rewritten_and_the_originals_told() {
    let (v1, v2) = two();
    let gateway = clusters(&v1, &v2)
        .route("{match: {prefix: /api/}, route: {cluster: v1, prefix_rewrite: /, host_rewrite_literal: svc.local}}")
        .start()
        .await;
    let mut client = gateway.client().await;
    client.send("GET /api/users?x=1 HTTP/1.1\r\nhost: a.test:8080\r\n\r\n").await.unwrap();
    assert_eq!(client.response("GET").await.unwrap().status, 200);
    let received = v1.last().unwrap();
    assert_eq!(received.head.first_line, "GET /users?x=1 HTTP/1.1");
    assert_eq!(received.header("host"), Some("svc.local"));
    assert_eq!(received.header("x-envoy-original-path"), Some("/api/users?x=1"));
    assert_eq!(received.header("x-envoy-original-host"), Some("a.test:8080"));
    assert_eq!(gateway.logged().await["path"], "/api/users?x=1");
}

#[tokio::test]
async fn weights_are_kept_to_and_a_weight_of_zero_gets_nothing() {
    let (v1, v2) = two();
    let v3 = Upstream::start("v3").unwrap();
    let gateway = Setup::split(&[(&v1, 3), (&v2, 1), (&v3, 0)], "stable: v1").start().await;
    let mut client = gateway.client().await;
    for _ in 0..800 {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
    // 200 expected, standard deviation 12: seven of them on each side.
    let second = v2.seen().requests;
    assert!((115..=285).contains(&second), "{second} of 800 at 1:3");
    assert_eq!((v1.seen().requests + second, v3.seen().requests), (800, 0));
}

#[tokio::test]
async fn the_override_header_reaches_a_target_at_any_weight_and_is_no_evidence() {
    let (v1, v2) = two();
    let gateway = Setup::split(
        &[(&v1, 100), (&v2, 0)],
        "stable: v1, override_header: x-canary, target_header: x-target",
    )
    .start()
    .await;
    let mut client = gateway.client().await;
    for (value, wanted) in [("v2", "v2"), ("v1", "v1"), ("v3", "v1"), ("", "v1")] {
        let answer = client.request("GET", "/", &[("x-canary", value)], b"").await.unwrap();
        assert_eq!(
            (answer.header("x-v"), answer.header("x-target")),
            (Some(wanted), Some(wanted)),
            "{value:?}"
        );
    }
    gateway.until_stat("http.ingress.downstream_rq_active", 0).await;
    let stats = testkit::client::get(gateway.admin, "/stats?filter=gateway.route").await.unwrap().text();
    assert!(stats.contains("v2.overridden: 1") && stats.contains("v2.requests: 0"), "{stats}");
    assert!(stats.contains("v1.overridden: 1") && stats.contains("v1.requests: 2"), "{stats}");
}

#[tokio::test]
async fn who_names_a_dead_target_is_not_given_another() {
    let (v1, mut v2) = two();
    v2.stop();
    let gateway =
        Setup::split(&[(&v1, 100), (&v2, 0)], "stable: v1, override_header: x-canary").start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.request("GET", "/", &[("x-canary", "v2")], b"").await.unwrap().status, 503);
    assert_eq!(v1.seen().requests, 0);
}

#[tokio::test]
async fn the_target_header_names_who_answered_not_who_was_drawn() {
    let (v1, mut v2) = two();
    v2.stop();
    let gateway = Setup::split(&[(&v1, 1), (&v2, 99)], "stable: v1, target_header: x-target").start().await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.header("x-target"), Some("v1"));
    }
}

#[tokio::test]
async fn an_absolute_target_is_taken_apart_and_its_authority_wins() {
    let (v1, v2) = two();
    let gateway = clusters(&v1, &v2).everything_to("v1", "").start().await;
    let mut client = gateway.client().await;
    client.send("GET http://real.test/p?q HTTP/1.1\r\nhost: other\r\n\r\n").await.unwrap();
    assert_eq!(client.response("GET").await.unwrap().status, 200);
    let received = v1.last().unwrap();
    assert_eq!((received.target(), received.header("host")), ("/p?q", Some("real.test")));
}

#[tokio::test]
async fn connect_and_options_of_the_server_have_no_route() {
    let (v1, v2) = two();
    let gateway = clusters(&v1, &v2).everything_to("v1", "").start().await;
    for request in
        ["CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n", "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"]
    {
        let mut client = gateway.client().await;
        client.send(request).await.unwrap();
        assert_eq!(client.response("GET").await.unwrap().status, 404, "{request}");
    }
    assert_eq!(v1.seen().requests, 0);
}
