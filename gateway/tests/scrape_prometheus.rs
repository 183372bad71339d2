//! A real Prometheus reads a gateway and a control, as processes, with the configuration that we ship, and finds
//! everything there that dashboards, alarms and the CloudWatch agent look for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use testkit::client::{RawClient, Response, get, poll};
use testkit::process::{Process, Prometheus, bin, promtool_check_metrics};
use testkit::upstream::{Reply, Upstream};

const SHIPPED: &str = include_str!("../../config/prometheus/prometheus.yml");
const ALERTS: &str = include_str!("../../config/prometheus/alerts.yml");
const BOARD: &str = include_str!("../../config/grafana/weir.json");

/// What the CloudWatch agent of AWS's ECS canary pipeline keeps of an Envoy's scrape.
const CLOUDWATCH: &str = "
    http_downstream_rq_total http_downstream_rq_xx http_downstream_cx_destroy_remote_active_rq
    cluster_upstream_cx_rx_bytes_total cluster_upstream_cx_tx_bytes_total
    cluster_membership_healthy cluster_membership_total
    server_memory_allocated server_memory_heap_size server_version server_uptime server_live
    cluster_upstream_cx_connect_timeout cluster_upstream_cx_destroy_local_with_active_rq
    cluster_upstream_rq_pending_failure_eject cluster_upstream_rq_pending_overflow cluster_upstream_rq_timeout
    cluster_upstream_rq_per_try_timeout cluster_upstream_rq_rx_reset cluster_upstream_rq_maintenance_mode
    cluster_upstream_flow_control_paused_reading_total cluster_upstream_flow_control_resumed_reading_total
    cluster_upstream_flow_control_backed_up_total cluster_upstream_flow_control_drained_total
    cluster_upstream_rq_retry cluster_upstream_rq_retry_success cluster_upstream_rq_retry_overflow";

/// What the AWS dashboards, Grafana 11021 and 11022, the Envoy mixin and Envoy Gateway's dashboards read beside it.
/// Left out, as docs/metrics.md says: those of TLS, of TCP proxies and of HTTP/2 floods.
const DASHBOARDS: &str = "
    http_downstream_rq_time_bucket http_downstream_rq_rx_reset http_downstream_rq_tx_reset http_downstream_rq_timeout
    http_downstream_cx_total http_downstream_cx_active http_downstream_cx_destroy http_downstream_cx_idle_timeout
    http_downstream_cx_rx_bytes_total http_downstream_cx_tx_bytes_total http_rq_total
    cluster_upstream_rq cluster_upstream_rq_total cluster_upstream_rq_xx cluster_upstream_rq_time_bucket
    cluster_upstream_rq_active cluster_upstream_rq_pending_active cluster_upstream_rq_pending_total
    cluster_upstream_cx_total cluster_upstream_cx_active cluster_upstream_cx_destroy cluster_upstream_cx_connect_fail
    cluster_upstream_cx_overflow cluster_membership_degraded cluster_membership_excluded cluster_membership_change
    cluster_health_check_attempt cluster_health_check_success cluster_health_check_healthy cluster_lb_healthy_panic
    cluster_outlier_detection_ejections_active cluster_outlier_detection_ejections_enforced_total
    cluster_outlier_detection_ejections_overflow
    cluster_circuit_breakers_default_rq_open cluster_circuit_breakers_default_cx_open
    cluster_circuit_breakers_default_cx_pool_open cluster_version
    cluster_manager_active_clusters cluster_manager_warming_clusters cluster_manager_cluster_added
    cluster_manager_cluster_modified cluster_manager_cluster_removed cluster_manager_cluster_updated
    listener_downstream_cx_active listener_http_downstream_rq_xx
    listener_manager_total_listeners_active listener_manager_total_listeners_warming
    listener_manager_total_listeners_draining listener_manager_listener_create_failure
    server_parent_connections";

/// Requests answered well by each of the two, and answered with 503 by v2.
const GOOD: usize = 40;
const BAD: usize = 7;

/// A gateway and its control as processes, with two backends that have answered.
struct Stack {
    _folder: TempDir,
    _backends: [Upstream; 2],
    _control: Process,
    gateway: Process,
    admin: SocketAddr,
    control: SocketAddr,
}

impl Stack {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let backends = [Upstream::start("v1").unwrap(), Upstream::start("v2").unwrap()];
        let control = folder.path().join("control.yaml");
        let text = format!(
            "listen: 127.0.0.1:0\nstate: {{file: {}}}\nroutes:\n  svc1:\n    targets: [v1, v2]\n    stable: v1\n    \
             weights: {{v1: 50, v2: 50}}\n    app_mesh: {{mesh: shop, virtual_router: svc1, route: svc1, targets: \
             {{v1: svc1-v1, v2: svc1-v2}}}}\n",
            folder.path().join("state.json").display()
        );
        std::fs::write(&control, text).unwrap();
        let mut command = Command::new(bin("control").unwrap());
        // An App Mesh that nobody serves: its metrics are there all the same.
        let nowhere = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
        command.envs(testkit::standin::envs(&nowhere)).args(["serve", "--config"]).arg(control);
        let process = Process::spawn("control", &mut command).unwrap();
        let line = process.line("control listens on http://").await.unwrap();
        let control: SocketAddr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        let gateway = gateway(folder.path(), &backends, control);
        let [listener, admin] =
            [bound(&gateway, "name=\"ingress\"").await, bound(&gateway, "admin listening").await];
        gateway.line("live").await.unwrap();
        requests(listener, &backends).await;
        Self { _folder: folder, _backends: backends, _control: process, gateway, admin, control }
    }
}

fn gateway(folder: &Path, backends: &[Upstream; 2], control: SocketAddr) -> Process {
    let file = folder.join("gateway.yaml");
    let endpoint = |port: u16| {
        format!("{{static: {{endpoints: [{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}]}}}}")
    };
    let text = format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    http_connection_manager:
      stat_prefix: ingress
      route_config:
        virtual_hosts:
        - name: all
          domains: ["*"]
          routes:
          - name: svc1
            match: {{prefix: "/"}}
            route:
              weighted_clusters:
                clusters: [{{name: v1, weight: 50}}, {{name: v2, weight: 50}}]
                stable: v1
                override_header: x-canary
  clusters:
  - {{name: v1, discovery: {}}}
  - {{name: v2, discovery: {}}}
control: {{url: "http://{control}"}}
"#,
        endpoint(backends[0].port()),
        endpoint(backends[1].port()),
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.arg("--config").arg(file).args(["--concurrency", "2"]);
    command.env("ENABLE_ENVOY_STATS_TAGS", "1");
    command
        .env("APPMESH_RESOURCE_ARN", "arn:aws:appmesh:eu-west-1:123456789012:mesh/shop/virtualGateway/edge");
    Process::spawn("gateway", &mut command).unwrap()
}

async fn bound(gateway: &Process, what: &str) -> SocketAddr {
    let line = gateway.line(what).await.unwrap();
    line.rsplit("address=").next().unwrap().trim().parse().unwrap()
}

async fn requests(listener: SocketAddr, backends: &[Upstream; 2]) {
    let mut client = RawClient::connect(listener).await.unwrap();
    for version in ["v1", "v2"] {
        for _ in 0..GOOD {
            let answer = client.request("GET", "/", &[("x-canary", version)], b"").await.unwrap();
            assert_eq!((answer.status, answer.header("x-v")), (200, Some(version)));
        }
    }
    (0..BAD).for_each(|_| backends[1].push(Reply::status(503)));
    for _ in 0..BAD {
        let answer = client.request("GET", "/", &[("x-canary", "v2")], b"").await.unwrap();
        assert_eq!(answer.status, 503);
    }
    // Drawn ones: what control counts.
    for _ in 0..GOOD {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
}

fn query(promql: &str) -> String {
    format!("/api/v1/query?query={}", utf8_percent_encode(promql, NON_ALPHANUMERIC))
}

fn result(answer: &Response) -> Vec<Value> {
    let json = answer.json().unwrap();
    json["data"]["result"].as_array().unwrap_or_else(|| panic!("{json}")).clone()
}

/// Waits until a query has this one value.
async fn becomes(prometheus: SocketAddr, promql: &str, value: usize) {
    let wanted = |answer: &Response| {
        let result = result(answer);
        result.len() == 1 && result[0]["value"][1] == value.to_string().as_str()
    };
    let answer = poll(prometheus, &query(promql), wanted).await;
    answer.unwrap_or_else(|error| panic!("{promql}: {error:#}"));
}

/// Every name of ours that stands in a text of rules or panels.
fn names_in(text: &str) -> BTreeSet<String> {
    // With its sign, a variable of the board is no name of ours.
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let words = text.split(|c: char| !is_word(c));
    let ours = |word: &&str| ["envoy_", "control_", "gateway_"].iter().any(|prefix| word.starts_with(prefix));
    // What stands behind `by` or in a selector is a label.
    let is_label = |word: &&str| {
        ["envoy_cluster_name", "envoy_response_code_class", "envoy_http_conn_manager_prefix"].contains(word)
    };
    words.filter(ours).filter(|word| !is_label(word)).map(str::to_owned).collect()
}

/// What the panels of a board ask for.
fn expressions(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let text = |(name, value): (&String, &Value)| match value.as_str() {
                Some(text) if name == "expr" => format!("{text}\n"),
                _ => expressions(value),
            };
            fields.iter().map(text).collect()
        }
        Value::Array(items) => items.iter().map(expressions).collect(),
        _ => String::new(),
    }
}

/// The shipped configuration with the addresses of this test, as fast as Prometheus scrapes.
fn configuration(stack: &Stack) -> String {
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/prometheus/alerts.yml");
    let mut text = SHIPPED.to_owned();
    for (from, to) in [
        ("localhost:9901", stack.admin.to_string()),
        ("localhost:18000", stack.control.to_string()),
        ("- alerts.yml", format!("- {}", alerts.display())),
        ("_interval: 15s", "_interval: 1s".to_owned()),
    ] {
        assert!(text.contains(from), "the shipped configuration has no {from}");
        text = text.replace(from, &to);
    }
    text
}

#[tokio::test]
#[ignore = "needs prometheus"]
async fn a_real_prometheus_reads_gateway_and_control_and_finds_every_name_that_dashboards_and_alarms_use() {
    let stack = Stack::start().await;
    let prometheus = Prometheus::start(&configuration(&stack)).await.unwrap();
    let at = prometheus.addr;
    becomes(at, "count(up == 1)", 2).await;

    let ingress =
        "envoy_http_conn_manager_prefix=\"ingress\",appmesh_mesh=\"shop\",appmesh_virtual_gateway=\"edge\"";
    let class =
        |class: u8| format!("envoy_http_downstream_rq_xx{{envoy_response_code_class=\"{class}\",{ingress}}}");
    becomes(at, &class(2), 3 * GOOD).await;
    becomes(at, &class(5), BAD).await;
    becomes(at, "sum(envoy_cluster_upstream_rq_total)", 3 * GOOD + BAD).await;
    becomes(at, "envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"v2\"}", BAD)
        .await;
    becomes(at, "sum(envoy_http_downstream_rq_time_bucket{le=\"+Inf\"})", 3 * GOOD + BAD).await;
    becomes(at, "sum(gateway_route_requests{route=\"svc1\"})", GOOD).await;
    becomes(at, "sum(gateway_route_overridden{route=\"svc1\"})", 2 * GOOD + BAD).await;
    // The gateway's report comes every 5 s: what control tells is what the gateway counted.
    becomes(at, "sum(control_target_requests_total{route=\"svc1\"})", GOOD).await;
    for target in ["v1", "v2"] {
        let equal = format!(
            "control_target_requests_total{{target=\"{target}\"}} - on(target) gateway_route_requests{{target=\"{target}\"}}"
        );
        becomes(at, &equal, 0).await;
    }

    let envoys = CLOUDWATCH.split_whitespace().chain(DASHBOARDS.split_whitespace());
    let mut wanted: BTreeSet<String> = envoys.map(|name| format!("envoy_{name}")).collect();
    assert_eq!(wanted.len(), 77, "no name stands twice");
    wanted.extend(names_in(&expressions(&serde_json::from_str(BOARD).unwrap())));
    wanted.extend(names_in(ALERTS));
    let mut missing = Vec::new();
    for name in &wanted {
        if result(&get(at, &query(&format!("count({name})"))).await.unwrap()).is_empty() {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "not in Prometheus: {missing:?}");

    let rules = get(at, "/api/v1/rules").await.unwrap().json().unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
    let targets = get(at, "/api/v1/targets").await.unwrap().json().unwrap();
    for target in targets["data"]["activeTargets"].as_array().unwrap() {
        assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target:#}");
    }
    let log = prometheus.process.stderr();
    let complaints: Vec<&str> =
        log.lines().filter(|line| line.contains("level=warn") || line.contains("level=error")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(stack.gateway.ended().is_none());
}

#[tokio::test]
#[ignore = "needs prometheus"]
async fn promtool_finds_nothing_malformed_and_the_page_knows_every_family() {
    let stack = Stack::start().await;
    let scrape = get(stack.admin, "/stats/prometheus").await.unwrap();
    let said = promtool_check_metrics(&scrape.text()).unwrap();
    // Envoy prints no HELP, and its names have their own rules.
    let remarks = ["no help text", "\"_total\" suffix", "abbreviated units", "use base unit", "camelCase"];
    let other: Vec<&str> =
        said.lines().filter(|line| !remarks.iter().any(|remark| line.contains(remark))).collect();
    assert!(other.is_empty(), "{other:#?}");
    let page = include_str!("../../docs/metrics.md");
    let text = scrape.text();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unknown: Vec<&str> = families.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    let scrape = get(stack.control, "/metrics").await.unwrap();
    assert_eq!(promtool_check_metrics(&scrape.text()).unwrap(), "");
}
