//! What can be read.

use super::support::Gateway;
use gateway::state::change::{Change, RouteWeights};
use gateway_config::wire::WeightSource;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;
use testkit::wire::Framing;

fn weights(source: WeightSource, v1: u32, v2: u32, version: &str) -> Change {
    Change::Weights(vec![RouteWeights {
        route: "svc1".to_owned(),
        weights: BTreeMap::from([("v1".to_owned(), v1), ("v2".to_owned(), v2)]),
        stable: None,
        source,
        version: version.to_owned(),
        since: SystemTime::now(),
    }])
}

#[tokio::test]
async fn server_info_has_the_state_on_a_line_that_grep_finds() {
    let gateway = Gateway::start().await;
    let answer = gateway.get("/server_info").await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert!(text.lines().any(|line| line == " \"state\": \"LIVE\","), "{text}");
    let info = answer.json().unwrap();
    for key in [
        "version",
        "state",
        "uptime_current_epoch",
        "uptime_all_epochs",
        "hot_restart_version",
        "command_line_options",
        "node",
    ] {
        assert!(info.get(key).is_some(), "{key} is missing");
    }
    assert_eq!(info["version"].as_str().unwrap().split('/').count(), 5);
    assert_eq!(info["node"]["id"], "gw-1");
    assert_eq!(info["node"]["metadata"]["weir"]["instance_id"], "task-1");
    assert_eq!(info["command_line_options"]["concurrency"], 1);
    assert_eq!(info["command_line_options"]["drain_time"], "20s");
    assert!(text.len() < 4096, "server_info stays small: {}", text.len());
}

#[tokio::test]
async fn server_info_and_ready_are_503_before_the_first_live_and_server_info_never_again() {
    let gateway = Gateway::start().await;
    gateway.process.live.store(false, Relaxed);
    let waiting = gateway.process.ready.register_task("cluster v2");
    let info = gateway.get("/server_info").await;
    assert_eq!((info.status, &info.json().unwrap()["state"]), (503, &serde_json::json!("INITIALIZING")));
    let ready = gateway.get("/ready").await;
    assert_eq!((ready.status, ready.text().as_str()), (503, "INITIALIZING\n"));
    let dump = gateway.get("/init_dump").await.json().unwrap();
    assert_eq!(dump["unready_targets_dumps"][0]["target_names"][0], "cluster v2");
    waiting.ready();
    gateway.process.live.store(true, Relaxed);
    let ready = gateway.get("/ready").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "LIVE\n"));
    assert_eq!(gateway.get("/server_info").await.status, 200);
    assert_eq!(gateway.get("/init_dump").await.json().unwrap(), serde_json::json!({}));
    gateway.process.health_failed.store(true, Relaxed);
    let info = gateway.get("/server_info").await;
    assert_eq!((info.status, &info.json().unwrap()["state"]), (200, &serde_json::json!("DRAINING")));
}

#[tokio::test]
async fn every_answer_has_envoys_headers_and_is_chunked() {
    let gateway = Gateway::start().await;
    for (target, kind) in [
        ("/", "text/html; charset=UTF-8"),
        ("/help", "text/plain; charset=UTF-8"),
        ("/ready", "text/plain; charset=UTF-8"),
        ("/stats", "text/plain; charset=UTF-8"),
        ("/stats?filter=nothing_is_called_so", "text/plain; charset=UTF-8"),
        ("/stats?format=json", "application/json"),
        ("/stats/prometheus", "text/plain; version=0.0.4"),
        ("/stats?format=prometheus", "text/plain; version=0.0.4"),
        ("/server_info", "application/json"),
        ("/config_dump", "application/json"),
        ("/certs", "application/json"),
        ("/memory", "application/json"),
        ("/runtime", "application/json"),
        ("/clusters", "text/plain; charset=UTF-8"),
        ("/clusters?format=json", "application/json"),
        ("/listeners", "text/plain; charset=UTF-8"),
        ("/listeners?format=json", "application/json"),
    ] {
        let answer = gateway.get(target).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(answer.header("content-type"), Some(kind), "{target}");
        assert_eq!(answer.header("cache-control"), Some("no-cache, max-age=0"), "{target}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert_eq!(answer.header("server"), Some("envoy"), "{target}");
        assert_eq!(answer.header("connection"), Some("close"), "{target}");
        assert!(answer.header("date").is_some(), "{target}");
        assert_eq!(answer.framing, Framing::Chunked, "{target}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_with_the_list_of_paths() {
    let gateway = Gateway::start().await;
    let answer = gateway.get("/nope").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().starts_with("invalid path. admin commands are:\n"), "{}", answer.text());
    let help = gateway.get("/help").await.text();
    assert!(help.starts_with("admin commands are:\n"));
    for path in ["/clusters:", "/config_dump:", "/drain_listeners (POST):", "/stats/prometheus:"] {
        assert!(help.contains(path), "{path}");
    }
}

#[tokio::test]
async fn listeners_are_shown_where_they_are_bound() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/listeners").await.text(), "ingress::127.0.0.1:19080\n");
    let json = gateway.get("/listeners?format=json").await.json().unwrap();
    let expected = serde_json::json!({ "listener_statuses": [{
        "name": "ingress",
        "local_address": { "socket_address": { "address": "127.0.0.1", "port_value": 19080 } },
    }] });
    assert_eq!(json, expected);
}

#[tokio::test]
async fn clusters_show_endpoints_with_health_and_counts() {
    let gateway = Gateway::start().await;
    let snapshot = gateway.process.store.snapshot();
    let endpoint = &snapshot.cluster("v1").unwrap().endpoints[0];
    endpoint.requests.store(7, Relaxed);
    endpoint.active_connections.store(2, Relaxed);
    let text = gateway.get("/clusters").await.text();
    for line in [
        "v1::observability_name::v1",
        "v1::default_priority::max_connections::1024",
        "v1::127.0.0.1:9101::rq_total::7",
        "v1::127.0.0.1:9101::health_flags::healthy",
        "v2::observability_name::v2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    endpoint.suspect.store(true, Relaxed);
    assert!(gateway.get("/clusters").await.text().contains("::health_flags::/failed_active_hc\n"));
    let json = gateway.get("/clusters?format=json").await.json().unwrap();
    let status = &json["cluster_statuses"][0];
    assert_eq!(status["name"], "v1");
    let host = &status["host_statuses"][0];
    assert_eq!(host["address"]["socket_address"]["port_value"], 9101);
    let stats = host["stats"].as_array().unwrap();
    let total = stats.iter().find(|s| s["name"] == "rq_total").unwrap();
    assert_eq!(total, &serde_json::json!({ "value": "7", "name": "rq_total" }), "64-bit numbers are strings");
    let active = stats.iter().find(|s| s["name"] == "cx_active").unwrap();
    assert_eq!(active["type"], "GAUGE");
    let zero = stats.iter().find(|s| s["name"] == "rq_error").unwrap();
    assert!(zero.get("value").is_none(), "proto3 JSON leaves zeros out");
}

#[tokio::test]
async fn the_config_dump_has_envoys_sections_in_envoys_order() {
    let gateway = Gateway::start().await;
    let dump = gateway.get("/config_dump").await.json().unwrap();
    let types: Vec<&str> = dump["configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["@type"].as_str().unwrap().rsplit('.').next().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "BootstrapConfigDump",
            "ClustersConfigDump",
            "ListenersConfigDump",
            "ScopedRoutesConfigDump",
            "RoutesConfigDump",
            "SecretsConfigDump"
        ]
    );
    let bootstrap = &dump["configs"][0]["bootstrap"];
    assert_eq!(bootstrap["node"]["id"], "gw-1");
    assert_eq!(bootstrap["static_resources"]["clusters"][0]["type"], "STATIC");
    let cluster = &dump["configs"][1]["static_clusters"][1]["cluster"];
    assert_eq!((cluster["name"].as_str(), cluster["type"].as_str()), (Some("v2"), Some("STRICT_DNS")));
    let listener = &dump["configs"][2]["static_listeners"][0]["listener"];
    let filter = &listener["filter_chains"][0]["filters"][0];
    assert_eq!(filter["name"], "envoy.filters.network.http_connection_manager");
    assert_eq!(filter["typed_config"]["stat_prefix"], "ingress");
    assert_eq!(filter["typed_config"]["stream_idle_timeout"], "300s");
    let eds = gateway.get("/config_dump?include_eds").await.json().unwrap();
    let endpoints = &eds["configs"][2]["static_endpoint_configs"][0]["endpoint_config"];
    assert_eq!(endpoints["cluster_name"], "v1");
}

#[tokio::test]
async fn the_config_dump_shows_effective_weights_their_source_and_version() {
    let gateway = Gateway::start().await;
    let routes = gateway.get("/config_dump?resource=static_route_configs").await.json().unwrap();
    let route = &routes["configs"][0]["route_config"]["virtual_hosts"][0]["routes"][0];
    assert_eq!(route["match"], serde_json::json!({ "prefix": "/" }));
    assert_eq!(route["route"]["timeout"], "15s");
    assert_eq!(route["metadata"]["filter_metadata"]["weir"]["weight_source"], "file");

    gateway.process.store.apply(weights(WeightSource::Control, 9900, 100, "3.42-c1")).unwrap();
    let dump = gateway.get("/config_dump?resource=dynamic_route_configs").await.json().unwrap();
    let config = &dump["configs"][0];
    assert_eq!(config["@type"], "type.googleapis.com/envoy.admin.v3.RoutesConfigDump.DynamicRouteConfig");
    assert_eq!(config["version_info"], "3.42-c1");
    let route = &config["route_config"]["virtual_hosts"][0]["routes"][0];
    let expected = serde_json::json!([{ "name": "v1", "weight": 9900 }, { "name": "v2", "weight": 100 }]);
    assert_eq!(route["route"]["weighted_clusters"]["clusters"], expected);
    let weir = &route["metadata"]["filter_metadata"]["weir"];
    assert_eq!((weir["weight_source"].as_str(), weir["stable"].as_str()), (Some("control"), Some("v1")));
    let fixed = gateway.get("/config_dump?resource=static_route_configs").await.json().unwrap();
    assert_eq!(fixed["configs"], serde_json::json!([]));
}

#[tokio::test]
async fn the_config_dump_knows_its_resources() {
    let gateway = Gateway::start().await;
    assert!(gateway.get("/config_dump").await.text().contains("http://127.0.0.1:18000"));
    let unknown = gateway.get("/config_dump?resource=static_zebras").await;
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "static_zebras not found in config dump"));
    assert_eq!(gateway.get("/config_dump?mask=bootstrap").await.status, 400);
    let one = gateway.get("/config_dump?resource=static_listeners").await.json().unwrap();
    let kind = one["configs"][0]["@type"].as_str().unwrap();
    assert!(kind.ends_with("ListenersConfigDump.StaticListener"), "{kind}");
}

#[tokio::test]
async fn memory_is_told_in_strings_as_envoy_does() {
    let gateway = Gateway::start().await;
    let memory = gateway.get("/memory").await.json().unwrap();
    for key in ["allocated", "heap_size", "total_physical_bytes"] {
        assert!(memory[key].as_str().unwrap().parse::<u64>().unwrap() > 0, "{key}");
    }
}

#[tokio::test]
async fn head_has_no_body_and_other_methods_are_405() {
    let gateway = Gateway::start().await;
    let head = gateway.send("HEAD", "/stats", &["host: x"]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let delete = gateway.send("DELETE", "/stats", &["host: x"]).await;
    assert_eq!(delete.status, 405);
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let gateway = Gateway::start().await;
    let mut client = testkit::client::RawClient::connect(gateway.address).await.unwrap();
    let head = "POST /ready HTTP/1.1\r\nhost: localhost\r\ncontent-length: 70000\r\n\r\n";
    client.send(head).await.unwrap();
    client.send(vec![b'x'; 70_000]).await.unwrap();
    assert_eq!(client.response("POST").await.unwrap().status, 413);
}
