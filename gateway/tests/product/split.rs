//! The main job: v1 and v2 found through Cloud Map, instances that come and go, the split, App Mesh in line.

use serde_json::{Value, json};
use std::net::SocketAddr;
use testkit::client::once;
use testkit::process::Moto;
use testkit::standin::Standin;

use super::world::{Control, Spec, assert_clean, backend, loadtest, route_spec, until};

const ROUTES: &str = "{svc1: {targets: [v1, v2], stable: v1, weights: {v1: 99, v2: 1}, app_mesh: \
                      {mesh: demo, virtual_router: svc1, route: svc1, targets: {v1: svc1-v1, v2: svc1-v2}}}}";

/// One AWS call by hand; what plays AWS tells services apart by the scope of the signature and checks none.
async fn call(
    addr: SocketAddr,
    service: &str,
    method: &str,
    path: &str,
    target: &str,
    body: &Value,
) -> Value {
    let credential = format!("AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/{service}/aws4_request");
    let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
    let mut headers = vec![("authorization", authorization.as_str())];
    if !target.is_empty() {
        headers.extend([("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")]);
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = once(addr, method, path, &headers, text.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{method} {path} {target}: {}", answer.text());
    answer.json().unwrap()
}

async fn cloud_map(moto: &Moto, operation: &str, body: Value) -> Value {
    let target = format!("Route53AutoNaming_v20170314.{operation}");
    call(moto.addr, "servicediscovery", "POST", "/", &target, &body).await
}

const ROUTE_PATH: &str = "/v20190125/meshes/demo/virtualRouter/svc1/routes/svc1";

/// The route's specification, without the nulls that moto spells.
async fn route(addr: SocketAddr) -> Value {
    fn clean(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
                Value::Object(fields.map(|(name, value)| (name, clean(value))).collect())
            }
            Value::Array(items) => items.into_iter().map(clean).collect(),
            other => other,
        }
    }
    let answer = call(addr, "appmesh", "GET", ROUTE_PATH, "", &Value::Null).await;
    clean(answer.get("route").unwrap_or(&answer)["spec"].clone())
}

/// Everything against what plays AWS at `addr`, where both services and the route exist already.
async fn the_main_job(addr: SocketAddr, requests: u32, rate: u32) {
    let folder = tempfile::tempdir().unwrap();
    let registry = format!("http://{addr}");
    let mut envs = testkit::standin::envs(&registry);
    // Services of moto are per region; this is the one that the calls by hand and the backends name.
    envs.push(("AWS_REGION".to_owned(), "us-east-1".to_owned()));
    let service = |name: &str| format!("svc1-{name}");
    let v1 = backend("v1", "v1-1", &service("v1"), &registry).await;
    let v2 = backend("v2", "v2-1", &service("v2"), &registry).await;
    let control = Control::start(folder.path(), "control", 0, ROUTES, &envs).await;
    let discovery = |name: &str| {
        format!(
            "{{cloud_map: {{namespace_name: demo.local, service_name: svc1-{name}, allow_loopback: true, \
             full_poll: 1s, revision_poll: 200ms}}}}"
        )
    };
    let spec = Spec::new(folder.path(), "gateway", &[("v1", 50), ("v2", 50)])
        .discovery("v1", discovery("v1"))
        .discovery("v2", discovery("v2"))
        .control(control.url())
        .envs(&envs);
    let gateway = spec.live().await;
    control.until_agreed(1).await;
    control.until_endpoints(1, &["v1", "v2"]).await;
    let ran = control.cli(&["set-weight", "svc1", "v1=90", "v2=10", "--reason", "the main job"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");

    let (count, rate) = (requests.to_string(), format!("{rate}/s"));
    let url = gateway.url();
    let words = ["split", &url, "--requests", &count, "--expect", "v1=90,v2=10", "--rate", &rate];
    let load = loadtest(&words);
    // Each version gets a second instance and loses its first.
    let mut there = Vec::new();
    for (name, first) in [("v1", v1), ("v2", v2)] {
        let second = backend(name, &format!("{name}-2"), &service(name), &registry).await;
        until("two endpoints", || async { (gateway.endpoints(name).await.len() == 2).then_some(()) }).await;
        first.terminate().unwrap();
        until("one endpoint", || async { (gateway.endpoints(name).await.len() == 1).then_some(()) }).await;
        assert_eq!(first.exit().await.unwrap().code(), Some(0));
        there.push(second);
    }
    assert!(!load.is_finished(), "instances came and went while traffic flowed");
    let (code, report) = load.await.unwrap();
    assert_clean(code, &report);
    assert_eq!(report["answered"], requests, "{report:#}");

    let weights = |v1: u64, v2: u64| route_spec(&[("svc1-v1", v1), ("svc1-v2", v2)]);
    until("App Mesh at 90/10, all else as it was", || async {
        (route(addr).await == weights(90, 10)).then_some(())
    })
    .await;
    let ran = control.cli(&["set-weight", "svc1", "v2=12.5%"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    gateway.until_weights(&[8750, 1250]).await;
    until("App Mesh at what fits a hundred", || async {
        let spec = route(addr).await;
        (spec == weights(88, 12) || spec == weights(87, 13)).then_some(())
    })
    .await;
    drop(there);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_come_and_go_under_load_and_the_split_holds_with_the_stand_in() {
    let standin = Standin::start().unwrap();
    standin.create_service("demo.local", "svc1-v1");
    standin.create_service("demo.local", "svc1-v2");
    standin.set_route("demo", "svc1", "svc1", route_spec(&[("svc1-v1", 99), ("svc1-v2", 1)]));
    the_main_job(standin.addr, 6_000, 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn instances_come_and_go_under_load_and_the_split_holds_with_moto() {
    let moto = Moto::start().await.unwrap();
    cloud_map(&moto, "CreateHttpNamespace", json!({"Name": "demo.local", "CreatorRequestId": "1"})).await;
    let namespaces = cloud_map(&moto, "ListNamespaces", json!({})).await;
    let namespace = &namespaces["Namespaces"][0]["Id"];
    for name in ["svc1-v1", "svc1-v2"] {
        let service = json!({"Name": name, "NamespaceId": namespace, "CreatorRequestId": name});
        cloud_map(&moto, "CreateService", service).await;
    }
    let put = |path: &'static str, body: Value| async move {
        call(moto.addr, "appmesh", "PUT", &format!("/v20190125{path}"), "", &body).await
    };
    put("/meshes", json!({"meshName": "demo", "clientToken": "1", "spec": {}})).await;
    let router = json!({"virtualRouterName": "svc1", "clientToken": "2",
        "spec": {"listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}]}});
    put("/meshes/demo/virtualRouters", router).await;
    let spec = route_spec(&[("svc1-v1", 99), ("svc1-v2", 1)]);
    let route = json!({"routeName": "svc1", "clientToken": "3", "spec": spec});
    put("/meshes/demo/virtualRouter/svc1/routes", route).await;
    the_main_job(moto.addr, 20_000, 800).await;
}
