//! Processes made of `sh`, and, where the test environment is set up, the outside programs.

use super::*;
use crate::client::get;
use crate::upstream::Upstream;

fn sh(script: &str) -> Process {
    Process::spawn("sh", Command::new("sh").args(["-c", script])).unwrap()
}

#[tokio::test]
async fn lines_are_waited_for_and_told_apart() {
    let process = sh("echo one; echo two >&2; echo three; exec sleep 1000");
    assert_eq!(process.line("thr").await.unwrap(), "three");
    assert_eq!(process.line("two").await.unwrap(), "two");
    assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("one\nthree\n", "two\n"));
    assert!(process.ended().is_none());
}

#[tokio::test]
async fn a_line_that_never_comes_is_an_error_with_the_last_words() {
    let process = sh("echo alas; exit 3");
    let error = process.line("hurrah").await.unwrap_err().to_string();
    assert!(error.contains("alas") && error.contains("hurrah"), "{error}");
    assert_eq!(process.exit().await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn sigterm_can_be_handled_and_kill_cannot() {
    let polite = sh("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done");
    polite.line("up").await.unwrap();
    let mark = polite.mark();
    polite.terminate().unwrap();
    polite.line_since(mark, "bye").await.unwrap();
    assert_eq!(polite.exit().await.unwrap().code(), Some(7));
    polite.terminate().unwrap();
    let stubborn = sh("trap '' TERM; echo up; while :; do sleep 0.01; done");
    stubborn.line("up").await.unwrap();
    stubborn.terminate().unwrap();
    assert_eq!(stubborn.kill().await.unwrap().code(), None);
}

#[test]
fn a_dropped_process_is_gone() {
    let process = sh("exec sleep 1000");
    let proc = format!("/proc/{}", process.pid());
    assert!(std::path::Path::new(&proc).exists());
    drop(process);
    assert!(!std::path::Path::new(&proc).exists());
}

#[test]
fn a_program_that_is_missing_is_named_with_what_to_do() {
    let error = bin("no-such-binary").unwrap_err().to_string();
    assert!(error.contains("no-such-binary") && error.contains("cargo build"), "{error}");
    assert!(Process::spawn("nothing", &mut Command::new("/no/such/program")).is_err());
}

#[tokio::test]
#[ignore = "needs moto"]
async fn moto_tells_app_mesh_times_as_numbers_and_each_resource_its_own_uid() {
    let moto = Moto::start().await.unwrap();
    let sign = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-west-1/appmesh/aws4_request, \
                SignedHeaders=host, Signature=0";
    let headers = [("authorization", sign), ("content-type", "application/json")];
    let mut uids = Vec::new();
    for mesh in ["a", "b"] {
        let body = format!(r#"{{"meshName":"{mesh}"}}"#);
        let made = crate::client::once(moto.addr, "PUT", "/v20190125/meshes", &headers, body.as_bytes())
            .await
            .unwrap();
        let metadata = made.json().unwrap()["metadata"].clone();
        assert!(metadata["createdAt"].is_f64() && metadata["lastUpdatedAt"].is_f64(), "{metadata}");
        assert_eq!(metadata["meshOwner"], "123456789012");
        uids.push(metadata["uid"].clone());
    }
    assert_ne!(uids[0], uids[1]);
    assert_eq!(moto.reset().await.unwrap().status, 200);
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn the_real_envoy_serves_a_scripted_backend() {
    let v1 = Upstream::start("v1").unwrap();
    let port = crate::free_port().unwrap();
    let address = |port: u16| format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
    let config = format!(
        r#"
admin: {{address: {admin}}}
static_resources:
  listeners:
  - address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: v1}}}}]}}
  clusters:
  - name: v1
    load_assignment: {{cluster_name: v1, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {backend}}}}}]}}]}}
"#,
        admin = address(0),
        listen = address(port),
        backend = address(v1.port()),
    );
    let envoy = Envoy::start(&config).await.unwrap();
    let answer = get(([127, 0, 0, 1], port).into(), "/").await.unwrap();
    assert_eq!((answer.header("x-v"), answer.header("server")), (Some("v1"), Some("envoy")));
    assert!(v1.last().unwrap().header("x-request-id").is_some());
    let info = get(envoy.admin.unwrap(), "/server_info").await.unwrap();
    assert_eq!(info.json().unwrap()["state"], "LIVE");
}

#[tokio::test]
#[ignore = "needs prometheus"]
async fn the_real_prometheus_scrapes_and_checks() {
    let scraped = Upstream::start_with("metrics", |_| {
        crate::upstream::Reply::ok("# TYPE up_and_well gauge\nup_and_well 1\n")
            .header("content-type", "text/plain")
    })
    .unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: t, static_configs: [{{targets: ['{}']}}]}}]\n",
        scraped.addr()
    );
    let prometheus = Prometheus::start(&config).await.unwrap();
    scraped.until(|seen| seen.replies >= 1).await.unwrap();
    let query = "/api/v1/query?query=up_and_well";
    let found =
        crate::client::poll(prometheus.addr, query, |answer| answer.text().contains("up_and_well")).await;
    assert!(found.unwrap().text().contains(r#""1""#));
    assert!(promtool_check_metrics("# TYPE a gauge\na{b= 1\n").is_err());
    promtool_check_metrics("# HELP a_total How many.\n# TYPE a_total counter\na_total 1\n").unwrap();
}
