//! Registration against what plays Cloud Map: the stand-in of the demo, and moto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use loadtest::register::{RegisterError, Registration, register};
use serde_json::{Value, json};
use std::net::SocketAddr;
use testkit::client::once;
use testkit::process::Moto;
use testkit::standin::Standin;

const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/servicediscovery/aws4_request, SignedHeaders=host, Signature=x";

async fn call(registry: SocketAddr, operation: &str, body: Value) -> Value {
    let target = format!("Route53AutoNaming_v20170314.{operation}");
    let headers = [
        ("host", "localhost"),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", target.as_str()),
        ("authorization", AUTHORIZATION),
    ];
    let answer = once(registry, "POST", "/", &headers, body.to_string().as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{operation}: {answer:?}");
    answer.json().unwrap()
}

async fn instances(registry: SocketAddr) -> Vec<Value> {
    let asked = json!({"NamespaceName": "demo.local", "ServiceName": "svc1-v1"});
    let found = call(registry, "DiscoverInstances", asked).await;
    found["Instances"].as_array().unwrap().clone()
}

/// Registers, looks, deregisters, looks; the service is there already.
async fn comes_and_goes(registry: SocketAddr) {
    let url = format!("http://{registry}");
    let registration: Registration =
        "namespace=demo.local,service=svc1-v1,id=v1-1,attr.version=v1".parse().unwrap();
    let listening = "127.0.0.1:9001".parse().unwrap();
    let registered = register(&url, &registration, listening).await.unwrap();
    let found = instances(registry).await;
    assert_eq!((found.len(), &found[0]["InstanceId"]), (1, &"v1-1".into()));
    let attributes = &found[0]["Attributes"];
    assert_eq!(attributes["AWS_INSTANCE_IPV4"], "127.0.0.1");
    assert_eq!((&attributes["AWS_INSTANCE_PORT"], &attributes["version"]), (&"9001".into(), &"v1".into()));
    registered.deregister().await.unwrap();
    assert!(instances(registry).await.is_empty());

    let unknown: Registration = "namespace=demo.local,service=svc9,id=a".parse().unwrap();
    let error = register(&url, &unknown, listening).await.unwrap_err();
    assert!(matches!(error, RegisterError::Unknown { kind: "service", .. }), "{error}");
    let everywhere = "0.0.0.0:9001".parse().unwrap();
    let error = register(&url, &registration, everywhere).await.unwrap_err();
    assert!(error.to_string().contains("ip=ADDRESS"), "{error}");
}

#[tokio::test]
async fn an_instance_comes_and_goes_in_the_stand_in() {
    let standin = Standin::start().unwrap();
    let service = br#"{"namespace": "demo.local", "service": "svc1-v1"}"#;
    let made =
        once(standin.addr, "POST", "/_standin/services", &[("host", "localhost")], service).await.unwrap();
    assert_eq!(made.status, 200);
    comes_and_goes(standin.addr).await;
}

#[tokio::test]
#[ignore = "needs moto"]
async fn an_instance_comes_and_goes_in_moto() {
    let moto = Moto::start().await.unwrap();
    call(moto.addr, "CreateHttpNamespace", json!({"Name": "demo.local", "CreatorRequestId": "1"})).await;
    let namespaces = call(moto.addr, "ListNamespaces", json!({})).await;
    let namespace = &namespaces["Namespaces"][0]["Id"];
    let service = json!({"Name": "svc1-v1", "NamespaceId": namespace, "CreatorRequestId": "2"});
    call(moto.addr, "CreateService", service).await;
    comes_and_goes(moto.addr).await;
}
