//! Statistics as dashboards, alarms and a Prometheus read them.

use super::support::{CONFIG, Gateway};
use gateway::state::change::Change;
use gateway::stats::cells::Shard;
use gateway::stats::names::{ClusterStat, HttpStat, ListenerStat, TargetStat};
use gateway::stats::registry::Registry;
use gateway::stats::render::{Query, collect};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What AWS's CloudWatch agent keeps, and what the dashboards in use read. Left out because nothing here has it:
/// certificates, TCP proxying, HTTP/2 flood counters.
const NEEDED: &[&str] = &[
    "envoy_cluster_circuit_breakers_default_cx_open",
    "envoy_cluster_circuit_breakers_default_cx_pool_open",
    "envoy_cluster_circuit_breakers_default_rq_open",
    "envoy_cluster_health_check_attempt",
    "envoy_cluster_health_check_healthy",
    "envoy_cluster_health_check_success",
    "envoy_cluster_lb_healthy_panic",
    "envoy_cluster_manager_active_clusters",
    "envoy_cluster_manager_cluster_added",
    "envoy_cluster_manager_cluster_modified",
    "envoy_cluster_manager_cluster_removed",
    "envoy_cluster_manager_cluster_updated",
    "envoy_cluster_manager_warming_clusters",
    "envoy_cluster_membership_change",
    "envoy_cluster_membership_degraded",
    "envoy_cluster_membership_excluded",
    "envoy_cluster_membership_healthy",
    "envoy_cluster_membership_total",
    "envoy_cluster_outlier_detection_ejections_active",
    "envoy_cluster_outlier_detection_ejections_enforced_total",
    "envoy_cluster_outlier_detection_ejections_overflow",
    "envoy_cluster_upstream_cx_active",
    "envoy_cluster_upstream_cx_connect_fail",
    "envoy_cluster_upstream_cx_connect_timeout",
    "envoy_cluster_upstream_cx_destroy",
    "envoy_cluster_upstream_cx_destroy_local_with_active_rq",
    "envoy_cluster_upstream_cx_overflow",
    "envoy_cluster_upstream_cx_rx_bytes_total",
    "envoy_cluster_upstream_cx_total",
    "envoy_cluster_upstream_cx_tx_bytes_total",
    "envoy_cluster_upstream_flow_control_backed_up_total",
    "envoy_cluster_upstream_flow_control_drained_total",
    "envoy_cluster_upstream_flow_control_paused_reading_total",
    "envoy_cluster_upstream_flow_control_resumed_reading_total",
    "envoy_cluster_upstream_rq",
    "envoy_cluster_upstream_rq_active",
    "envoy_cluster_upstream_rq_maintenance_mode",
    "envoy_cluster_upstream_rq_pending_active",
    "envoy_cluster_upstream_rq_pending_failure_eject",
    "envoy_cluster_upstream_rq_pending_overflow",
    "envoy_cluster_upstream_rq_pending_total",
    "envoy_cluster_upstream_rq_per_try_timeout",
    "envoy_cluster_upstream_rq_retry",
    "envoy_cluster_upstream_rq_retry_overflow",
    "envoy_cluster_upstream_rq_retry_success",
    "envoy_cluster_upstream_rq_rx_reset",
    "envoy_cluster_upstream_rq_time_bucket",
    "envoy_cluster_upstream_rq_timeout",
    "envoy_cluster_upstream_rq_total",
    "envoy_cluster_upstream_rq_xx",
    "envoy_cluster_version",
    "envoy_http_downstream_cx_active",
    "envoy_http_downstream_cx_destroy",
    "envoy_http_downstream_cx_destroy_remote_active_rq",
    "envoy_http_downstream_cx_idle_timeout",
    "envoy_http_downstream_cx_rx_bytes_total",
    "envoy_http_downstream_cx_total",
    "envoy_http_downstream_cx_tx_bytes_total",
    "envoy_http_downstream_rq_rx_reset",
    "envoy_http_downstream_rq_time_bucket",
    "envoy_http_downstream_rq_timeout",
    "envoy_http_downstream_rq_total",
    "envoy_http_downstream_rq_tx_reset",
    "envoy_http_downstream_rq_xx",
    "envoy_http_rq_total",
    "envoy_listener_downstream_cx_active",
    "envoy_listener_http_downstream_rq_xx",
    "envoy_listener_manager_listener_create_failure",
    "envoy_listener_manager_total_listeners_active",
    "envoy_listener_manager_total_listeners_draining",
    "envoy_listener_manager_total_listeners_warming",
    "envoy_server_live",
    "envoy_server_memory_allocated",
    "envoy_server_memory_heap_size",
    "envoy_server_parent_connections",
    "envoy_server_uptime",
    "envoy_server_version",
];

/// A Prometheus text, read strictly: series name and label set to value.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut series = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "TYPE twice: {line}");
            current = name.to_owned();
            continue;
        }
        let open = line.find('{').expect("braces");
        let name = &line[..open];
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        assert!(!name.as_bytes()[0].is_ascii_digit(), "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
        let is_part = family == Some(current.as_str()) && types[&current] == "histogram";
        assert!(is_part || name == current, "{line} does not belong to {current}");
        let end = labels_end(&line[open..]) + open;
        let value: f64 = line[end..].trim().parse().unwrap_or_else(|_| panic!("no value: {line}"));
        assert!(series.insert(line[..end].to_owned(), value).is_none(), "series twice: {line}");
    }
    series
}

/// Position after the closing brace, with escapes and duplicate names checked.
fn labels_end(text: &str) -> usize {
    let mut names = BTreeSet::new();
    let mut rest = &text[1..];
    while !rest.starts_with('}') {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(names.insert(name.to_owned()), "label twice: {text}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{text}");
        let mut escaped = false;
        let close = after
            .char_indices()
            .find(|(_, c)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            })
            .expect("an end of the value")
            .0;
        rest = &after[close + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    text.len() - rest.len() + 1
}

#[tokio::test]
async fn every_name_that_dashboards_read_is_there_from_the_start() {
    let gateway = Gateway::start().await;
    let series = parse(&gateway.get("/stats/prometheus").await.text());
    let names: BTreeSet<&str> = series.keys().map(|k| k.split('{').next().unwrap()).collect();
    let missing: Vec<_> = NEEDED.iter().filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for class in 1..=5 {
        let key = format!(
            "envoy_http_downstream_rq_xx{{envoy_response_code_class=\"{class}\",\
             envoy_http_conn_manager_prefix=\"ingress\"}}"
        );
        assert_eq!(series.get(&key), Some(&0.0), "{key}");
    }
}

#[tokio::test]
async fn the_stats_of_text_json_and_prometheus_agree() {
    let gateway = Gateway::start().await;
    let registry = &gateway.process.registry;
    registry.http("ingress").scope.add(Shard::worker(0), HttpStat::DownstreamRq2xx, 41);
    registry.http("ingress").rq_time.record(Shard::worker(0), 2_010);
    let text = gateway.get("/stats?filter=^http.ingress.downstream_rq_2xx$").await.text();
    assert_eq!(text, "http.ingress.downstream_rq_2xx: 41\n");
    let json = gateway.get("/stats?format=json&usedonly&filter=^http.ingress").await.json().unwrap();
    let stats = json["stats"].as_array().unwrap();
    assert!(stats.contains(&serde_json::json!({ "name": "http.ingress.downstream_rq_2xx", "value": 41 })));
    let quantiles = &stats.last().unwrap()["histograms"]["computed_quantiles"][0];
    assert_eq!(quantiles["name"], "http.ingress.downstream_rq_time");
    let series = parse(&gateway.get("/stats?format=prometheus&usedonly").await.text());
    let key = "envoy_listener_http_downstream_rq_xx{envoy_response_code_class=\"2\",\
               envoy_http_conn_manager_prefix=\"ingress\",envoy_listener_address=\"127.0.0.1_9080\"}";
    assert_eq!(series[key], 41.0);
    assert!(!series.keys().any(|key| key.starts_with("envoy_cluster_upstream_rq_retry")));
    assert_eq!(gateway.get("/stats?filter=(").await.status, 400);
    assert_eq!(gateway.get("/stats?format=xml").await.status, 400);
}

#[tokio::test]
async fn a_weight_is_shown_as_the_share_that_the_next_draw_has() {
    let gateway = Gateway::start().await;
    let share = |series: &BTreeMap<String, f64>, target: &str| {
        series[&format!("gateway_route_weight{{route=\"svc1\",target=\"{target}\"}}")]
    };
    let series = parse(&gateway.get("/stats/prometheus").await.text());
    assert_eq!((share(&series, "v1"), share(&series, "v2")), (1.0, 0.0), "v2 has no endpoint yet");
    assert_eq!(series["gateway_route_weight_source{route=\"svc1\",source=\"file\"}"], 1.0);
    assert!(series.contains_key("gateway_discovery_age_seconds{cluster=\"v2\"}"));
    assert!(
        !series.contains_key("gateway_discovery_age_seconds{cluster=\"v1\"}"),
        "fixed addresses do not age"
    );

    let endpoint = gateway.process.store.new_endpoint("10.0.0.7:8080".parse().unwrap(), String::new());
    let change = Change::Endpoints { cluster: "v2".to_owned(), endpoints: vec![endpoint] };
    gateway.process.store.apply(change).unwrap();
    let series = parse(&gateway.get("/stats/prometheus").await.text());
    assert_eq!((share(&series, "v1"), share(&series, "v2")), (0.9, 0.1));
}

#[tokio::test]
async fn labels_of_app_mesh_are_on_every_series() {
    let labels = vec![("appmesh_mesh", "shop".to_owned()), ("appmesh_virtual_gateway", "front".to_owned())];
    let gateway = Gateway::with(CONFIG, labels).await;
    let series = parse(&gateway.get("/stats/prometheus").await.text());
    let all =
        series.keys().all(|key| key.contains("appmesh_mesh=\"shop\",appmesh_virtual_gateway=\"front\""));
    assert!(all);
}

#[tokio::test]
async fn server_gauges_are_fresh_in_every_answer() {
    let gateway = Gateway::start().await;
    let series = parse(&gateway.get("/stats/prometheus").await.text());
    assert_eq!(series["envoy_server_live{}"], 1.0);
    assert_eq!(series["envoy_server_state{}"], 0.0);
    assert_eq!(series["envoy_cluster_manager_active_clusters{}"], 2.0);
    assert_eq!(series["envoy_cluster_manager_warming_clusters{}"], 1.0);
    assert_eq!(series["envoy_listener_manager_total_listeners_active{}"], 1.0);
    assert!(series["envoy_server_memory_physical_size{}"] >= series["envoy_server_memory_allocated{}"]);
    assert!(series["envoy_server_memory_allocated{}"] > 0.0);
}

#[tokio::test]
#[ignore = "needs prometheus"]
async fn prometheus_own_checker_reads_the_scrape() {
    let gateway = Gateway::start().await;
    gateway.process.registry.cluster("v1").rq_time.record(Shard::worker(0), 1_234);
    let text = gateway.get("/stats/prometheus").await.text();
    testkit::process::promtool_check_metrics(&text).unwrap();
}

#[tokio::test]
#[ignore = "needs prometheus"]
async fn a_real_prometheus_scrapes_without_error() {
    let gateway = Gateway::start().await;
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: gateway\n  metrics_path: /stats/prometheus\n  \
         static_configs: [{{targets: ['{}']}}]\n",
        gateway.address
    );
    let prometheus = testkit::process::Prometheus::start(&config).await.unwrap();
    let target = "/api/v1/query?query=gateway_route_weight";
    let answer = testkit::client::poll(prometheus.addr, target, |answer| {
        answer.json().is_ok_and(|json| json["data"]["result"].as_array().is_some_and(|r| !r.is_empty()))
    });
    let json = answer.await.unwrap().json().unwrap();
    let share = json["data"]["result"].as_array().unwrap().iter().find(|r| r["metric"]["target"] == "v1");
    assert_eq!(share.unwrap()["value"][1], "1");
    let up = testkit::client::get(prometheus.addr, "/api/v1/query?query=up").await.unwrap().json().unwrap();
    assert_eq!(up["data"]["result"][0]["value"][1], "1", "{up}");
}

proptest! {
    #[test]
    fn any_registry_renders_text_that_prometheus_can_read(
        names in proptest::collection::vec("\\PC{0,12}", 0..6),
        counts in proptest::collection::vec((100u16..600, 0u64..1_000_000), 0..12),
    ) {
        let registry = Registry::new(2);
        for (index, name) in names.iter().enumerate() {
            let worker = Shard::worker(index % 2);
            let (http, cluster) = (registry.http(name), registry.cluster(name));
            http.scope.inc(worker, HttpStat::ALL[index % HttpStat::ALL.len()]);
            registry.listener(name).scope.inc(worker, ListenerStat::DownstreamCxTotal);
            registry.target(name, "v1\n\"\\").scope.inc(worker, TargetStat::Requests);
            for (code, micros) in &counts {
                cluster.scope.code(worker, *code);
                cluster.scope.dec(worker, ClusterStat::UpstreamCxActive);
                cluster.rq_time.record(worker, *micros);
                http.rq_time.record(worker, *micros);
            }
        }
        let query = Query::parse(&[("format".to_owned(), "prometheus".to_owned())]).unwrap();
        let series = parse(&query.render(collect::registry(&registry), &[]));
        let distinct: BTreeSet<_> = names.iter().collect();
        let totals = series.keys().filter(|k| k.starts_with("envoy_http_downstream_rq_total{")).count();
        prop_assert_eq!(totals, distinct.len());
        let answers: f64 = series.iter()
            .filter(|(key, _)| key.starts_with("envoy_cluster_upstream_rq{"))
            .map(|(_, value)| value).sum();
        prop_assert_eq!(answers as usize, names.len() * counts.len());
    }
}
