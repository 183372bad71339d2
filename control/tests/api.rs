//! The REST API: who may ask, what bad requests get, what is stored and shown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod support;

use gateway_config::wire::{TargetReport, WeightSource};
use serde_json::json;
use std::time::Duration;
use support::{FakeGateway, Local, ROUTES, config_text};

async fn begun(folder: &tempfile::TempDir) -> (Local, FakeGateway, support::Running) {
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    (control, gateway, running)
}

fn counted(requests: u64, endpoints_healthy: u32) -> TargetReport {
    TargetReport {
        requests,
        errors: requests / 10,
        latency: vec![(1_000, requests / 2), (5_000, requests - requests / 2)],
        endpoints: 1,
        endpoints_healthy,
        ..TargetReport::default()
    }
}

#[tokio::test(start_paused = true)]
async fn bad_weights_are_refused_with_a_cure_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let cases = [
        ("svc9", "v2=10", 404, "no route `svc9`", "svc1"),
        ("svc1", "v3=10", 400, "no target `v3`", "v1, v2"),
        ("svc1", "v2", 400, "TARGET=WEIGHT", "v2=10"),
        ("svc1", "v1=90 v2=20", 400, "110 %", "correct one"),
        ("svc1", "v2=-1", 400, "below 0", "0 sends nothing"),
        ("svc1", "v2=1.234", 400, "two decimals", "0.01"),
        ("svc1", "v2=101", 400, "over 100", "100"),
        ("svc1", "v2=x", 400, "not a percentage", "number"),
        ("svc1", "", 400, "no weight", "v1=90 v2=10"),
    ];
    for (route, text, status, error, cure) in cases {
        let answer = control.target.set(route, text).await;
        assert_eq!(answer.status, status, "{text}: {}", answer.text);
        let body = answer.json();
        assert!(body["error"].as_str().unwrap().contains(error), "{text}: {body}");
        assert!(body["cure"].as_str().unwrap().contains(cure), "{text}: {body}");
    }
    let route = control.target.get("/v1/routes/svc1").await.json();
    assert_eq!(route["routes"][0]["weights"]["v2"], 100);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_not_understood_are_refused_with_a_cure() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let long = format!("{{\"reason\": \"{}\"}}", "x".repeat(1 << 20));
    let names = json!({"resource_names": vec!["a"; 1_001]}).to_string();
    let cases = [
        ("POST", "/v1/weights", "{", 400),
        ("POST", "/v1/weights", "{\"rotes\": {}}", 400),
        ("POST", "/v1/weights", "{\"routes\": {}}", 400),
        ("POST", "/v1/weights", long.as_str(), 413),
        ("GET", "/v1/weights", "", 405),
        ("GET", "/v1/nothing", "", 404),
        ("GET", "/v1/routes/nothing", "", 404),
        ("POST", "/v1/routes/nothing/rollback", "", 404),
        ("GET", "/v1/routes/%zz", "", 400),
        ("POST", "/v1/routes/svc1/stable", "{\"target\": \"v9\"}", 400),
        ("POST", "/v3/discovery:routes", "[]", 400),
        ("POST", "/v3/discovery:routes", "{\"type_url\": \"clusters\"}", 400),
        ("POST", "/v3/discovery:routes", names.as_str(), 400),
        ("POST", "/v1/gateways/g1/report", "{}", 400),
        ("POST", "/v1/adopt", "{\"from\": \"nobody\"}", 409),
    ];
    for (method, path, body, status) in cases {
        let answer = control.target.send(method, path, &[], body).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        let json = answer.json();
        assert!(!json["error"].as_str().unwrap().is_empty(), "{path}: {json}");
        assert!(!json["cure"].as_str().unwrap().is_empty(), "{path}: {json}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_weight_for_a_version_without_endpoints_needs_force() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = begun(&folder).await;
    let report = gateway.report(1_000, &[("v1", counted(100, 1)), ("v2", counted(0, 0))]);
    assert_eq!(gateway.send_report(&control.target, &report).await.status, 204);
    let refused = control.target.set("svc1", "v2=10").await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.json()["cure"].as_str().unwrap().contains("--force"), "{}", refused.text);
    assert_eq!(control.target.set("svc1", "v2=0.5").await.status, 200, "less than before is no question");
    assert_eq!(control.target.post("/v1/routes/svc1/rollback", &json!({})).await.status, 200);
    let forced = json!({"routes": {"svc1": "v2=10"}, "force": true});
    assert_eq!(control.target.post("/v1/weights", &forced).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn reports_add_up_over_gateways_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (control, first, _running) = begun(&folder).await;
    let mut second = FakeGateway::fresh("g2");
    second.ask(&control.target, 0).await;
    first.send_report(&control.target, &first.report(1_000, &[("v1", counted(100, 1))])).await;
    second.send_report(&control.target, &second.report(1_000, &[("v1", counted(50, 1))])).await;
    // Overtaken, then a restart.
    second.send_report(&control.target, &second.report(900, &[("v1", counted(40, 1))])).await;
    second.boot = "again".to_owned();
    second.send_report(&control.target, &second.report(10, &[("v1", counted(7, 1))])).await;
    let view = control.target.get("/v1/routes/svc1").await.json();
    let traffic = &view["routes"][0]["traffic"]["v1"];
    assert_eq!(traffic["requests"], 157, "{traffic}");
    assert_eq!((&traffic["p50_us"], &traffic["p99_us"]), (&json!(5_000), &json!(5_000)));
    control.target.send("DELETE", "/v1/gateways/g2", &[], "").await;
    let view = control.target.get("/v1/routes/svc1").await.json();
    assert_eq!(view["routes"][0]["traffic"]["v1"]["requests"], 157, "a forgotten gateway's counts stay");
    let metrics = control.target.get("/metrics").await.text;
    assert!(metrics.contains("control_target_requests_total{route=\"svc1\",target=\"v1\"} 157"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn the_history_says_who_when_from_to_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let body = json!({"routes": {"svc1": "v2=10"}, "reason": "ticket 7\u{7}"});
    control.target.post("/v1/weights", &body).await;
    control.target.post("/v1/routes/svc1/rollback", &json!({"reason": "errors"})).await;
    let body = json!({"target": "v2", "build": "2026.11.1"});
    assert_eq!(control.target.post("/v1/routes/svc1/stable", &body).await.status, 200);
    let history = control.target.get("/v1/routes/svc1/history").await.json()["history"].clone();
    let kinds: Vec<&str> =
        history.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["initial", "set", "rollback", "stable"]);
    let set = &history[1];
    assert_eq!((&set["actor"], &set["reason"]), (&json!("alice@laptop"), &json!("ticket 7")));
    assert_eq!(set["from"], json!({"v1": 9900, "v2": 100}));
    assert_eq!(set["to"], json!({"v1": 9000, "v2": 1000}));
    assert!(set["acknowledged_ms"].is_u64(), "{set}");
    assert!(set["at"].as_str().unwrap().ends_with('Z'));
    let route = control.target.get("/v1/routes/svc1").await.json()["routes"][0].clone();
    assert_eq!((&route["stable"], &route["build"]), (&json!("v2"), &json!("2026.11.1")));
    let rolled = control.target.post("/v1/routes/svc1/rollback", &json!({})).await.json();
    assert_eq!(rolled["routes"]["svc1"]["to"], json!({"v1": 0, "v2": 10_000}), "to the new stable");
}

#[tokio::test(start_paused = true)]
async fn a_change_without_gateways_is_stored_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("s"), ROUTES)).await;
    let outcome = control.target.set("svc1", "v2=10").await.json();
    assert_eq!((&outcome["connected"], &outcome["awaited"]), (&json!(0), &json!(0)), "{outcome}");
    assert_eq!(outcome["saved"], true);
}

#[tokio::test(start_paused = true)]
async fn a_newer_change_takes_the_place_of_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let silent = FakeGateway::fresh("silent");
    silent.ask(&control.target, 0).await;
    let target = control.target.clone();
    let first = tokio::spawn(async move { target.set("svc1", "v2=10").await.json() });
    let mut versions = control.shared.subscribe_version();
    versions.changed().await.unwrap();
    let body = json!({"routes": {"svc1": "v2=20"}, "timeout_ms": 1});
    let second = control.target.post("/v1/weights", &body).await.json();
    assert_eq!(first.await.unwrap()["superseded_by"], second["version"]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_hears_of_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, running) = begun(&folder).await;
    drop(running);
    let view = control.target.get("/v1/routes").await.json();
    let revision = view["control"]["revision"].as_u64().unwrap();
    let target = control.target.clone();
    let watcher =
        tokio::spawn(async move { target.get(&format!("/v1/routes?after={revision}")).await.json() });
    let body = json!({"routes": {"svc1": "v2=20"}, "timeout_ms": 1});
    control.target.post("/v1/weights", &body).await;
    let seen = watcher.await.unwrap();
    assert!(seen["control"]["revision"].as_u64().unwrap() > revision);
    let before = tokio::time::Instant::now();
    let now = control.target.get("/v1/routes").await.json()["control"]["revision"].clone();
    control.target.get(&format!("/v1/routes?after={now}&wait=3")).await;
    assert_eq!(before.elapsed(), Duration::from_secs(3), "nothing new: the wait ends");
}

#[tokio::test(start_paused = true)]
async fn tokens_open_only_what_they_are_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let tokens = format!(
        "tokens: {{gateway: [{{name: fleet, file: {}}}], operator: [{{name: ops, file: {}}}]}}\n{ROUTES}",
        file("g", "gateway-token-0001"),
        file("o", "operator-token-001")
    );
    let control = Local::start(&config_text(&folder.path().join("s"), &tokens)).await;
    let gateway = FakeGateway::fresh("g1");
    let discovery = serde_json::to_string(&gateway.request()).unwrap();
    let report = serde_json::to_string(&gateway.report(1, &[])).unwrap();
    let weights = json!({"routes": {"svc1": "v2=10"}, "force": true}).to_string();
    let ask = async |method: &str, path: &str, token: &str, body: &str| {
        let value = format!("Bearer {token}");
        let headers = [("authorization", value.as_str())];
        let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
        control.target.send(method, path, headers, body).await.unwrap().status
    };
    let fleet = "gateway-token-0001";
    let ops = "operator-token-001";
    for (method, path, body) in [
        ("POST", "/v3/discovery:routes", discovery.as_str()),
        ("POST", "/v1/gateways/g1/report", report.as_str()),
    ] {
        assert_eq!(ask(method, path, "", body).await, 401, "{path}");
        assert_eq!(ask(method, path, ops, body).await, 401, "{path}");
        assert_ne!(ask(method, path, fleet, body).await, 401, "{path}");
    }
    for (method, path, body) in [
        ("GET", "/v1/routes", ""),
        ("GET", "/v1/gateways", ""),
        ("POST", "/v1/weights", weights.as_str()),
        ("DELETE", "/v1/gateways/zz", ""),
    ] {
        assert_eq!(ask(method, path, "", body).await, 401, "{path}");
        assert_eq!(ask(method, path, fleet, body).await, 401, "{path}");
        assert_ne!(ask(method, path, ops, body).await, 401, "{path}");
    }
    assert_eq!(ask("GET", "/healthz", "", "").await, 200);
    assert_eq!(ask("GET", "/metrics", "", "").await, 200);
    let history = control.target.send(
        "GET",
        "/v1/routes/svc1/history",
        &[("authorization", "Bearer operator-token-001")],
        "",
    );
    let text = history.await.unwrap().text;
    assert!(text.contains("\"token\":\"ops\"") && !text.contains(ops), "named, never shown: {text}");
}

#[tokio::test(start_paused = true)]
async fn without_tokens_no_web_page_and_no_other_host_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let body = json!({"routes": {"svc1": "v2=10"}}).to_string();
    let page = [("origin", "http://evil.example")];
    assert_eq!(control.target.send("POST", "/v1/weights", &page, &body).await.unwrap().status, 403);
    let support::Target::Here(api) = &control.target else { panic!("local") };
    for (host, status) in
        [("evil.example", 403), ("127.0.0.1:18000", 200), ("localhost", 200), ("[::1]:1", 200)]
    {
        let request = http::Request::get("/v1/routes").header("host", host);
        let request = request.body(http_body_util::Full::<bytes::Bytes>::default()).unwrap();
        let response = tower::ServiceExt::oneshot(api.clone(), request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{host}");
    }
    let request = http::Request::get("/v1/routes")
        .header("host", "127.0.0.1")
        .extension(control::api::Peer("10.0.0.9:1".parse().unwrap()));
    let request = request.body(http_body_util::Full::<bytes::Bytes>::default()).unwrap();
    let response = tower::ServiceExt::oneshot(api.clone(), request).await.unwrap();
    assert_eq!(response.status().as_u16(), 403, "another machine");
}

#[tokio::test(start_paused = true)]
async fn the_fleet_is_bounded_and_lost_gateways_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    for number in 0..999 {
        let gateway = FakeGateway::fresh(&format!("n{number}"));
        assert_eq!(gateway.ask(&control.target, 0).await.unwrap().status, 200);
    }
    let more = FakeGateway::new("more", "svc1", &[("v1", 1)], WeightSource::File);
    assert_eq!(more.ask(&control.target, 0).await.unwrap().status, 503);
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert_eq!(more.ask(&control.target, 0).await.unwrap().status, 200);
    let gateways = control.target.get("/v1/gateways").await.json();
    assert_eq!(gateways["gateways"].as_array().unwrap().len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_asks_is_closed_and_one_that_asked_is_not() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, running) = begun(&folder).await;
    drop(running);
    let support::Target::Here(api) = control.target.clone() else { panic!("local") };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let watch = control.drain.watch();
    tokio::spawn(async move { control::port::accept(&listener, &api, None, &watch).await });
    let mut asks = tokio::net::TcpStream::connect(address).await.unwrap();
    let text =
        "POST /v3/discovery:routes HTTP/1.1\r\nhost: a\r\nprefer: wait=25\r\ncontent-length: 2\r\n\r\n{}";
    let version = control.target.get("/v1/routes").await.json()["control"]["version"].clone();
    let body = json!({"version_info": version}).to_string();
    let text = text.replace("content-length: 2", &format!("content-length: {}", body.len()));
    asks.write_all(text.replace("{}", &body).as_bytes()).await.unwrap();
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "closed");
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    let mut answer = [0; 12];
    asks.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200", "a held request is no silence");
}

#[tokio::test]
async fn a_dead_task_ends_control_and_a_dead_sync_shows_as_an_error() {
    let drain = lifecycle::drain::Drain::new();
    let alive = tokio::spawn(std::future::pending());
    let dead = tokio::spawn(async {});
    let lost = control::serve::watch_tasks([("one", alive), ("other", dead)], drain.clone()).await.unwrap();
    assert_eq!(lost, Some("other"));
    assert!(drain.watch().is_draining());
    let drain = lifecycle::drain::Drain::new();
    let (sender, status) = tokio::sync::watch::channel(control::app_mesh::SyncStatus::default());
    let read = control::serve::status_reader(status, drain.watch());
    assert_eq!(read()["state"], "disabled");
    drop(sender);
    assert_eq!(read()["state"], "error");
    drain.close();
    assert_eq!(read()["state"], "disabled", "the end of everything is no fault");
}
