//! moto as App Mesh behind a running control: what reaches the route, how soon somebody else's change is noticed, and
//! what an outage costs the gateways (nothing).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod ext_parts;

use ext_parts::{Backends, SOON, Site, Weir, answers, only};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::client::{RawClient, poll};
use testkit::clock::real_sleep;
use testkit::process::{Process, test_env};

const ROUTE: &str = "/v20190125/meshes/mesh/virtualRouter/svc1/routes";
/// Five looks at the route: drift is to be noticed within 15 s, on a machine that is not overloaded.
const DRIFT: Duration = Duration::from_secs(75);
/// The longest pause between two attempts is 30 s, and one attempt may take 5.
const RECOVERY: Duration = Duration::from_secs(75);

/// moto on a port of its own, which it can come back to.
struct Mesh {
    process: Process,
    addr: SocketAddr,
}

impl Mesh {
    async fn start() -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], testkit::free_port().unwrap()));
        Self { process: serve(addr).await, addr }
    }

    /// One call by hand. moto tells services apart by the scope of the signature and checks no signature.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let scope = "AKIAIOSFODNN7EXAMPLE/20260101/eu-west-1/appmesh/aws4_request";
        let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let headers = [("authorization", authorization.as_str()), ("connection", "close")];
        let mut client = RawClient::connect(self.addr).await.unwrap();
        let answer = client.request(method, path, &headers, body.to_string().as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json().unwrap()
    }

    /// A mesh with one route, which does more than split.
    async fn create(&self, v1: u32, v2: u32) {
        self.call("PUT", "/v20190125/meshes", &json!({"meshName": "mesh", "clientToken": "1", "spec": {}}))
            .await;
        let router = json!({"virtualRouterName": "svc1", "clientToken": "2",
            "spec": {"listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}]}});
        self.call("PUT", "/v20190125/meshes/mesh/virtualRouters", &router).await;
        let route = json!({"routeName": "main", "clientToken": "3", "spec": spec(v1, v2)});
        self.call("PUT", ROUTE, &route).await;
    }

    /// Somebody else writes.
    async fn write(&self, v1: u32, v2: u32) {
        let body = json!({"clientToken": format!("{v1}-{v2}"), "spec": spec(v1, v2)});
        self.call("PUT", &format!("{ROUTE}/main"), &body).await;
    }

    async fn version_and_spec(&self) -> (i64, Value) {
        let route = self.call("GET", &format!("{ROUTE}/main"), &Value::Null).await;
        (route["metadata"]["version"].as_i64().unwrap(), without_nulls(route["spec"].clone()))
    }

    /// Waits until the route has these weights and everything else as it was; its version then.
    async fn until(&self, limit: Duration, v1: u32, v2: u32) -> i64 {
        let deadline = Instant::now() + limit;
        loop {
            let (version, found) = self.version_and_spec().await;
            if found == spec(v1, v2) {
                return version;
            }
            assert!(Instant::now() < deadline, "version {version} has {found:#}");
            real_sleep(Duration::from_millis(50)).await;
        }
    }

    fn envs(&self) -> Vec<(String, String)> {
        testkit::standin::envs(&format!("http://{}", self.addr))
    }
}

async fn serve(addr: SocketAddr) -> Process {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/testkit/python/moto_epoch.py");
    let mut command = Command::new(test_env("venv/bin/python3").unwrap());
    command.args(["-u", script, "-H", "127.0.0.1", "-p", &addr.port().to_string()]);
    let process = Process::spawn("moto", &mut command).unwrap();
    process.line("Running on http://").await.unwrap();
    process
}

/// Everything that App Mesh lets a route say beside the weights.
fn spec(v1: u32, v2: u32) -> Value {
    json!({"priority": 3, "httpRoute": {
        "match": {"prefix": "/shop", "method": "GET",
            "headers": [{"name": "x-user", "invert": false, "match": {"exact": "a"}}]},
        "action": {"weightedTargets": [
            {"virtualNode": "svc1-v1", "weight": v1, "port": 3000},
            {"virtualNode": "svc1-v2", "weight": v2, "port": 3000}]},
        "retryPolicy": {"maxRetries": 2, "perRetryTimeout": {"unit": "ms", "value": 250},
            "httpRetryEvents": ["server-error"], "tcpRetryEvents": ["connection-error"]},
        "timeout": {"perRequest": {"unit": "s", "value": 7}, "idle": {"unit": "s", "value": 200}}}})
}

/// moto spells fields that are not set as null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn routes(on_drift: &str) -> String {
    format!(
        "  svc1:\n    targets: [v1, v2]\n    stable: v1\n    weights: {{v1: 100, v2: 0}}\n    app_mesh:\n      \
         mesh: mesh\n      virtual_router: svc1\n      route: main\n      \
         targets: {{v1: svc1-v1, v2: svc1-v2}}\n      on_drift: {on_drift}\n"
    )
}

fn is(state: &'static str) -> impl Fn(&Value) -> bool {
    move |route| route["app_mesh"]["state"] == state
}

/// moto with the route at 100/0, control and one gateway, all in line.
async fn in_line(on_drift: &str) -> (Site, Mesh, Backends, [Process; 1], Weir) {
    let (site, backends, mesh) = (Site::new(), Backends::start(), Mesh::start().await);
    mesh.create(100, 0).await;
    let control = site.control(&routes(on_drift), &mesh.envs()).await;
    let weir = Weir::start(&site, &backends).await;
    site.route(SOON, |route| route["agree"] == 1 && route["app_mesh"]["state"] == "in_sync").await;
    assert_eq!(mesh.version_and_spec().await, (1, spec(100, 0)), "what is right is not written");
    (site, mesh, backends, [control], weir)
}

#[tokio::test]
#[ignore = "needs moto"]
async fn each_change_reaches_the_route_as_whole_percent_and_leaves_the_rest_of_it_alone() {
    let (site, mesh, _backends, _control, _weir) = in_line("pause").await;
    for (weight, percent, version) in
        [("v2=10%", (90, 10), 2), ("v2=0.01%", (99, 1), 3), ("v2=100%", (0, 100), 4)]
    {
        let begun = Instant::now();
        site.set_weight(weight).await;
        assert_eq!(mesh.until(SOON, percent.0, percent.1).await, version, "{weight}");
        println!("{weight}: the route has it {} ms after the command began", begun.elapsed().as_millis());
        let route = site.route(SOON, is("in_sync")).await;
        assert_eq!(route["app_mesh"]["version"], version, "{route:#}");
        assert_eq!(route["app_mesh"]["writes"], version - 1, "{route:#}");
    }
    assert_eq!(site.metric("control_app_mesh_in_sync{route=\"svc1\"}").await, 1.0);
    let said = site.cli(&["get", "svc1"]).await.out;
    assert!(said.contains("App Mesh: in sync, version 4"), "{said}");
}

#[tokio::test]
#[ignore = "needs moto"]
async fn a_change_by_somebody_else_is_noticed_and_left_alone_until_the_next_own_change() {
    let (site, mesh, _backends, _control, weir) = in_line("pause").await;
    mesh.write(60, 40).await;
    let begun = Instant::now();
    let route = site.route(DRIFT, is("drift")).await;
    println!("drift (pause): noticed after {} ms", begun.elapsed().as_millis());
    assert_eq!(route["app_mesh"]["version"], 2, "{route:#}");
    assert_eq!(route["app_mesh"]["weights"], json!({"svc1-v1": 60, "svc1-v2": 40}));
    assert_eq!(site.metric("control_app_mesh_in_sync{route=\"svc1\"}").await, 0.0);
    let said = site.cli(&["get", "svc1"]).await.out;
    assert!(said.contains("App Mesh: drift, version 2, somebody else gave the route"), "{said}");
    assert_eq!(mesh.version_and_spec().await, (2, spec(60, 40)), "it stays");
    assert_eq!(answers(weir.addr, 20).await, only("v1", 20), "the gateways follow control alone");

    site.set_weight("v2=30%").await;
    assert_eq!(mesh.until(SOON, 70, 30).await, 3);
    site.route(SOON, is("in_sync")).await;
}

#[tokio::test]
#[ignore = "needs moto"]
async fn a_change_by_somebody_else_is_written_over_where_the_configuration_says_so() {
    let (site, mesh, _backends, _control, _weir) = in_line("enforce").await;
    mesh.write(60, 40).await;
    let begun = Instant::now();
    assert_eq!(mesh.until(DRIFT, 100, 0).await, 3);
    println!("drift (enforce): undone after {} ms", begun.elapsed().as_millis());
    let route = site.route(SOON, |route| route["app_mesh"]["version"] == 3).await;
    assert_eq!(route["app_mesh"]["state"], "in_sync", "{route:#}");
}

#[tokio::test]
#[ignore = "needs moto"]
async fn an_app_mesh_that_is_gone_delays_no_gateway_and_gets_the_newest_weights_when_it_is_back() {
    let (site, mut mesh, _backends, _control, weir) = in_line("pause").await;
    mesh.process.kill().await.unwrap();
    for (weight, version) in [("v2=100%", "v2"), ("v2=0%", "v1")] {
        let outcome = site.set_weight(weight).await;
        println!("{weight}: the gateway had it after {} ms, App Mesh gone", outcome["elapsed_ms"]);
        poll(weir.addr, "/", |answer| answer.header("x-v") == Some(version)).await.unwrap();
    }
    site.set_weight("v2=25%").await;
    let route = site.route(SOON, is("error")).await;
    assert_eq!(route["agree"], 1, "{route:#}");
    let said = site.cli(&["get", "svc1"]).await.out;
    assert!(said.contains("App Mesh: error"), "{said}");
    assert!(said.contains("AWS_ENDPOINT_URL_APP_MESH"), "the error says where to look: {said}");

    mesh.process = serve(mesh.addr).await;
    mesh.create(100, 0).await;
    let begun = Instant::now();
    assert_eq!(mesh.until(RECOVERY, 75, 25).await, 2, "the weights in between are not written");
    println!("in line {} ms after it was back", begun.elapsed().as_millis());
    let route = site.route(SOON, is("in_sync")).await;
    assert_eq!(route["app_mesh"]["last_error"], Value::Null, "{route:#}");
}

#[tokio::test]
#[ignore = "needs moto"]
async fn an_app_mesh_that_hangs_delays_no_gateway_and_has_the_newest_weights_in_the_end() {
    let (site, mesh, _backends, _control, weir) = in_line("pause").await;
    mesh.process.signal("STOP").unwrap();
    let outcome = site.set_weight("v2=100%").await;
    println!("the gateway had it after {} ms, App Mesh hanging", outcome["elapsed_ms"]);
    poll(weir.addr, "/", |answer| answer.header("x-v") == Some("v2")).await.unwrap();
    let failed = |route: &Value| route["app_mesh"]["failures"].as_u64().is_some_and(|failures| failures > 0);
    site.route(SOON, failed).await;
    site.set_weight("v2=25%").await;
    mesh.process.signal("CONT").unwrap();
    mesh.until(RECOVERY, 75, 25).await;
    let route = site.route(SOON, is("in_sync")).await;
    assert_eq!(route["app_mesh"]["weights"], json!({"svc1-v1": 75, "svc1-v2": 25}), "{route:#}");
}
