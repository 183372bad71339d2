//! Starts that cannot be: the environment says too little, or nonsense; and control's state item as the last resort.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use aws::dynamodb::StateTable;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testkit::free_port;
use testkit::process::{Moto, Process};

use super::config_control::{
    ConfigControl, admin_of, clusters, configuration, environment, launch, listeners, live, server_info,
};
use super::world::{Spec, until, upstream};

/// A wrong start must be over before anybody wonders.
const SOON: Duration = Duration::from_secs(5);

fn with(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn refused(pairs: &[(&str, &str)]) -> (i32, String) {
    let process = launch("gateway", &with(pairs), &[]);
    let code = process.exit_within(SOON).await.unwrap().code().unwrap();
    (code, process.stderr())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_former_meshs_variable_alone_ends_with_one_message_that_says_what_to_add() {
    let (code, said) =
        refused(&[("APPMESH_VIRTUAL_NODE_NAME", "mesh/m/virtualGateway/g"), ("GATEWAY_TOKEN", "")]).await;
    assert_eq!(code, 64, "{said}");
    for part in [
        "mesh/m/virtualGateway/g",
        "GATEWAY_CONTROL=http://HOST:18000",
        "GATEWAY_TOKEN is set but empty",
        "GATEWAY_CONFIG",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("gateway:").count(), 1, "one message: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_that_cannot_be_used_is_named() {
    for (name, value) in [
        ("GATEWAY_CONTROL", "control.weir.local"),
        ("GATEWAY_CONTROL", "ftp://control.weir.local:18000"),
        ("GATEWAY_TOKEN", "two words"),
        ("GATEWAY_CONTROL_CA", "not a certificate"),
        ("GATEWAY_CONTROL_CA", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----"),
    ] {
        let url = ("GATEWAY_CONTROL", "https://127.0.0.1:1");
        let admin = ("ENVOY_ADMIN_ACCESS_PORT", "0");
        let (code, said) = refused(&[url, admin, (name, value)]).await;
        assert_eq!(code, 78, "{name}={value}: {said}");
        assert_eq!(said.matches(name).count(), 1, "{said}");
        assert!(!said.contains("two words"), "{said}");
    }
}

/// The document as control writes it.
fn document(resources: [&Value; 2]) -> Value {
    json!({
        "format": {"major": 1, "minor": 7},
        "control": {"id": "lost", "epoch": 5, "seq": 9},
        "lineage": [],
        "routes": {"svc1": {"weights": {"v1": 2000, "v2": 8000}, "stable": "v1", "version": "5.9-lost", "history": []}},
        "gateway": {"version": "5.2-lost", "listeners": resources[0], "clusters": resources[1]},
        "a_field_of_tomorrow": true,
    })
}

/// A gateway whose control is dead, with a state item.
fn orphan(moto: &Moto, table: &str) -> Process {
    launch("gateway", &orphaned(moto, table), &[])
}

fn orphaned(moto: &Moto, table: &str) -> BTreeMap<String, String> {
    let mut variables = environment(&format!("http://127.0.0.1:{}", free_port().unwrap()));
    variables.insert("GATEWAY_STATE_TABLE".to_owned(), table.to_owned());
    variables.insert("GATEWAY_STATE_KEY".to_owned(), "here".to_owned());
    variables.extend(moto.envs());
    variables.insert("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), moto.url());
    // Tables of moto are per region; this is the one that the test writes to.
    variables.insert("AWS_REGION".to_owned(), "us-east-1".to_owned());
    variables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn with_control_dead_its_state_item_serves_with_its_listeners_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let moto = Moto::start().await.unwrap();
    let table = StateTable::for_endpoint(moto.url(), "weir-state", "here");
    table.create().await.unwrap();
    let all = clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr())]);
    table.write(None, &document([&listeners(0, &[]), &all]).to_string()).await.unwrap();

    let gateway = live(orphan(&moto, "weir-state"), folder.path()).await;
    assert_eq!(gateway.weights().await, (vec![2000, 8000], "saved".to_owned(), "5.9-lost".to_owned()));
    let from = configuration(&server_info(gateway.admin).await.1);
    assert_eq!(
        (&from["source"], &from["version_info"]),
        (&json!("state_item"), &json!("5.2-lost")),
        "{from}"
    );
    assert_eq!(gateway.ask().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn the_saved_copy_serves_when_the_newer_state_item_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let moto = Moto::start().await.unwrap();
    let table = StateTable::for_endpoint(moto.url(), "weir-state", "here");
    table.create().await.unwrap();
    let all = clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr())]);
    let mut tomorrows = all.clone();
    tomorrows[0]["a_field_of_tomorrow"] = json!(1);
    table.write(None, &document([&listeners(0, &[]), &tomorrows]).to_string()).await.unwrap();
    let copy = json!({"format": 1, "version_info": "", "saved_at": 0, "routes": {}, "configuration": {
        "version_info": "5.1-lost", "saved_at": 1_700_000_000, "listeners": listeners(0, &[]), "clusters": all}});
    std::fs::write(folder.path().join("weights.json"), copy.to_string()).unwrap();

    let args = ["--state-dir", folder.path().to_str().unwrap()];
    let gateway = live(launch("gateway", &orphaned(&moto, "weir-state"), &args), folder.path()).await;
    let from = configuration(&server_info(gateway.admin).await.1);
    assert_eq!((&from["source"], &from["version_info"]), (&json!("saved"), &json!("5.1-lost")), "{from}");
    assert_eq!(gateway.weights().await, (vec![2000, 8000], "saved".to_owned(), "5.9-lost".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn an_item_that_is_missing_or_of_a_newer_build_is_named_and_left_alone() {
    let moto = Moto::start().await.unwrap();
    let table = StateTable::for_endpoint(moto.url(), "weir-state", "here");
    table.create().await.unwrap();
    let why = |process: Process, part: &'static str| async move {
        let admin = admin_of(&process).await;
        until(part, || async {
            let (status, info) = server_info(admin).await;
            assert_eq!(status, 503);
            let why = configuration(&info)["waiting"]["state item"].clone();
            why.as_str().is_some_and(|why| why.contains(part)).then_some(())
        })
        .await;
        process.line("nothing to serve yet").await.unwrap();
    };
    why(orphan(&moto, "weir-state"), "no item `here` yet").await;
    why(orphan(&moto, "no-such-table"), "control init-store").await;
    let mut newer = document([&json!([]), &json!([])]);
    newer["format"]["major"] = json!(2);
    table.write(None, &newer.to_string()).await.unwrap();
    why(orphan(&moto, "weir-state"), "use a newer gateway").await;
    let kept = table.read().await.unwrap().unwrap();
    assert_eq!((kept.revision, kept.document), (1, newer.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn a_gateway_with_listeners_of_its_own_takes_its_first_weights_from_the_state_item() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let moto = Moto::start().await.unwrap();
    let table = StateTable::for_endpoint(moto.url(), "weir-state", "here");
    table.create().await.unwrap();
    table.write(None, &document([&json!([]), &json!([])]).to_string()).await.unwrap();
    let mut variables = orphaned(&moto, "weir-state");
    variables.remove("GATEWAY_CONFIG");
    let spec = Spec::new(folder.path(), "gateway", &[("v1", 1), ("v2", 1)])
        .fixed("v1", &[backends[0].addr()])
        .fixed("v2", &[backends[1].addr()])
        .envs(&variables.into_iter().collect::<Vec<_>>());
    let gateway = spec.live().await;
    assert_eq!(gateway.weights().await, (vec![2000, 8000], "saved".to_owned(), "5.9-lost".to_owned()));
    assert_eq!(configuration(&server_info(gateway.admin).await.1)["source"], "file");
}

/// A DynamoDB that lets nobody in.
async fn closed_table() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let refuse = service_fn(|_: Request<Incoming>| async {
                let body = r#"{"__type": "com.amazonaws.dynamodb.v20120810#AccessDeniedException",
                    "Message": "User is not authorized to perform dynamodb:GetItem"}"#;
                let answer =
                    Response::builder().status(400).header("content-type", "application/x-amz-json-1.0");
                answer.body(Full::new(Bytes::from(body)))
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), refuse).await });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_the_state_item_is_given_the_iam_statement_and_goes_on_asking_control() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = ConfigControl::start(None).await;
    let mut variables = environment(&control.url());
    variables.extend(testkit::standin::envs(&format!("http://{}", closed_table().await)));
    variables.insert("GATEWAY_STATE_TABLE".to_owned(), "weir-state".to_owned());
    let process = launch("gateway", &variables, &[]);
    let line = process.line("nothing to serve yet").await.unwrap();
    for part in ["\"dynamodb:GetItem\"", "table/weir-state", "section `gateway`"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let all = clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr())]);
    control.configure("1.1-x", listeners(0, &[]), all);
    let gateway = live(process, folder.path()).await;
    assert_eq!(gateway.ask().await.header("x-v"), Some("v1"));
}
