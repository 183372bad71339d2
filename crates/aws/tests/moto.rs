//! The clients against moto, which others wrote from the same service models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use aws::Error;
use aws::app_mesh::{AppMesh, RouteRef};
use aws::cloud_map::{CloudMap, Query};
use serde_json::{Value, json};
use std::net::IpAddr;
use testkit::client::RawClient;
use testkit::process::Moto;

/// One call by hand. moto tells services apart by the scope of the signature and checks no signature.
async fn call(moto: &Moto, service: &str, method: &str, path: &str, target: &str, body: &Value) -> Value {
    let credential = format!("AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/{service}/aws4_request");
    let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
    let mut headers = vec![("authorization", authorization.as_str()), ("connection", "close")];
    if !target.is_empty() {
        headers.extend([("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")]);
    }
    let mut client = RawClient::connect(moto.addr).await.unwrap();
    let answer = client.request(method, path, &headers, body.to_string().as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{method} {path} {target}: {}", answer.text());
    answer.json().unwrap()
}

async fn cloud_map(moto: &Moto, operation: &str, body: Value) -> Value {
    let target = format!("Route53AutoNaming_v20170314.{operation}");
    call(moto, "servicediscovery", "POST", "/", &target, &body).await
}

async fn app_mesh(moto: &Moto, path: &str, body: Value) -> Value {
    call(moto, "appmesh", "PUT", &format!("/v20190125{path}"), "", &body).await
}

#[tokio::test]
#[ignore = "needs moto"]
async fn instances_registered_in_moto_are_found_by_their_attributes() {
    let moto = Moto::start().await.unwrap();
    cloud_map(&moto, "CreateHttpNamespace", json!({"Name": "dev.local", "CreatorRequestId": "1"})).await;
    let namespaces = cloud_map(&moto, "ListNamespaces", json!({})).await;
    let namespace = &namespaces["Namespaces"][0]["Id"];
    let service = cloud_map(&moto, "CreateService", json!({"Name": "v1", "NamespaceId": namespace})).await;
    let service = &service["Service"]["Id"];
    for (id, version) in [("a", "1"), ("b", "2")] {
        let attributes =
            json!({"AWS_INSTANCE_IPV4": "10.0.0.7", "AWS_INSTANCE_PORT": "3000", "version": version});
        let body =
            json!({"ServiceId": service, "InstanceId": id, "Attributes": attributes, "CreatorRequestId": id});
        cloud_map(&moto, "RegisterInstance", body).await;
    }

    let client = CloudMap::for_endpoint(moto.url());
    let mut query =
        Query { namespace_name: "dev.local".into(), service_name: "v1".into(), ..Query::default() };
    assert_eq!(client.discover(&query).await.unwrap().instances.len(), 2);
    query.attributes.insert("version".to_owned(), "2".to_owned());
    let found = client.discover(&query).await.unwrap();
    let [instance] = &found.instances[..] else { panic!("{found:?}") };
    assert_eq!(instance.id, "b");
    assert_eq!((instance.ip, instance.port), (Some(IpAddr::from([10, 0, 0, 7])), Some(3000)));
    assert!(client.revision("dev.local", "v1").await.unwrap() > 0);
    query.service_name = "v9".to_owned();
    let error = client.discover(&query).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs moto"]
async fn a_route_in_moto_gets_weights_and_keeps_every_other_field() {
    let moto = Moto::start().await.unwrap();
    app_mesh(&moto, "/meshes", json!({"meshName": "mesh", "clientToken": "1", "spec": {}})).await;
    let router = json!({"virtualRouterName": "svc1", "clientToken": "2",
        "spec": {"listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}]}});
    app_mesh(&moto, "/meshes/mesh/virtualRouters", router).await;
    let spec = |v1: u32, v2: u32| {
        json!({"priority": 3, "httpRoute": {
            "match": {"prefix": "/", "headers": [{"name": "x-user", "invert": false, "match": {"exact": "a"}}]},
            "action": {"weightedTargets": [
                {"virtualNode": "v1", "weight": v1, "port": 3000}, {"virtualNode": "v2", "weight": v2, "port": 3000}]},
            "retryPolicy": {"maxRetries": 2, "perRetryTimeout": {"unit": "ms", "value": 250},
                "httpRetryEvents": ["server-error"], "tcpRetryEvents": ["connection-error"]},
            "timeout": {"perRequest": {"unit": "s", "value": 15}, "idle": {"unit": "s", "value": 300}}}})
    };
    let path = "/meshes/mesh/virtualRouter/svc1/routes";
    let created =
        app_mesh(&moto, path, json!({"routeName": "main", "clientToken": "3", "spec": spec(99, 1)})).await;
    assert_eq!(created["metadata"]["version"], 1);

    let client = AppMesh::for_endpoint(moto.url());
    let mut name = RouteRef {
        mesh: "mesh".into(),
        virtual_router: "svc1".into(),
        route: "main".into(),
        mesh_owner: None,
    };
    let route = client.describe_route(&name).await.unwrap();
    let wanted = [("v1".to_owned(), 90), ("v2".to_owned(), 10)].into();
    let updated = client.update_weights(&route, &wanted).await.unwrap();
    assert_eq!((route.version, updated.version, &updated.weights), (1, 2, &wanted));
    let kept = call(&moto, "appmesh", "GET", &format!("/v20190125{path}/main"), "", &Value::Null).await;
    assert_eq!(without_nulls(kept["spec"].clone()), spec(90, 10));
    name.route = "other".to_owned();
    let error = client.describe_route(&name).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
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
