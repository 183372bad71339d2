//! The App Mesh client over HTTP, through the real SDK.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use aws::Error;
use aws::app_mesh::{AppMesh, RouteRef};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use support::{Asked, Server};

fn svc1() -> RouteRef {
    RouteRef {
        mesh: "my mesh".to_owned(),
        virtual_router: "svc1".to_owned(),
        route: "main".to_owned(),
        mesh_owner: None,
    }
}

fn weights(pairs: &[(&str, i32)]) -> BTreeMap<String, i32> {
    pairs.iter().map(|(node, weight)| ((*node).to_owned(), *weight)).collect()
}

fn targets() -> Value {
    json!({"weightedTargets": [{"virtualNode": "v1", "weight": 99, "port": 3000}, {"virtualNode": "v2", "weight": 1}]})
}

/// Every type of route, with every field that the type has.
fn specifications() -> Vec<Value> {
    let http = json!({
        "match": {"prefix": "/a", "method": "GET", "scheme": "http", "port": 8080,
            "headers": [{"name": "x-user", "invert": true, "match": {"range": {"start": 1, "end": 9}}},
                {"name": "x-any"}],
            "queryParameters": [{"name": "q", "match": {"exact": "1"}}]},
        "action": targets(),
        "retryPolicy": {"maxRetries": 2, "perRetryTimeout": {"unit": "ms", "value": 250},
            "httpRetryEvents": ["server-error", "gateway-error"], "tcpRetryEvents": ["connection-error"]},
        "timeout": {"perRequest": {"unit": "s", "value": 15}, "idle": {"unit": "s", "value": 300}}
    });
    let grpc = json!({
        "match": {"serviceName": "shop.Cart", "methodName": "Add", "port": 8081,
            "metadata": [{"name": "tenant", "invert": false, "match": {"prefix": "a"}}]},
        "action": targets(),
        "retryPolicy": {"maxRetries": 1, "perRetryTimeout": {"unit": "s", "value": 1},
            "grpcRetryEvents": ["unavailable"], "httpRetryEvents": ["stream-error"]},
        "timeout": {"perRequest": {"unit": "s", "value": 5}}
    });
    let tcp = json!({"match": {"port": 9000}, "action": targets(), "timeout": {"idle": {"unit": "s", "value": 30}}});
    vec![
        json!({"priority": 7, "httpRoute": http}),
        json!({"priority": 0, "http2Route": http}),
        json!({"grpcRoute": grpc}),
        json!({"priority": 1000, "tcpRoute": tcp}),
    ]
}

/// A route in a server, as App Mesh keeps it.
fn keep(spec: Value) -> impl Fn(&Asked) -> (u16, &'static str, String) {
    let route = Mutex::new((1, spec));
    move |asked| {
        let mut route = route.lock().unwrap();
        if asked.method == "PUT" {
            *route = (route.0 + 1, asked.body["spec"].clone());
        }
        let metadata = json!({"arn": "arn:aws:appmesh:us-east-1:1:mesh/m", "version": route.0, "uid": "u-1",
            "createdAt": 1_750_000_000, "lastUpdatedAt": 1_750_000_000.25, "meshOwner": "1", "resourceOwner": "1"});
        let body = json!({"meshName": "my mesh", "virtualRouterName": "svc1", "routeName": "main",
            "spec": route.1, "metadata": metadata, "status": {"status": "ACTIVE"}});
        (200, "", body.to_string())
    }
}

#[tokio::test]
async fn an_update_touches_the_weights_and_nothing_else_in_all_four_types_of_route() {
    for spec in specifications() {
        let server = Server::start(keep(spec.clone())).await;
        let app_mesh = AppMesh::for_endpoint(&server.url);
        let described = app_mesh.describe_route(&svc1()).await.unwrap();
        assert_eq!((described.version, described.uid.as_str()), (1, "u-1"));
        assert_eq!(described.weights, weights(&[("v1", 99), ("v2", 1)]));
        let wanted = weights(&[("v1", 90), ("v2", 10)]);
        let updated = app_mesh.update_weights(&described, &wanted).await.unwrap();
        assert_eq!((updated.version, &updated.weights), (2, &wanted));

        let asked = server.asked();
        assert_eq!(asked[0].target, "/v20190125/meshes/my%20mesh/virtualRouter/svc1/routes/main");
        assert_eq!(asked[1].target, asked[0].target);
        let text = spec
            .to_string()
            .replace("\"weight\":99", "\"weight\":90")
            .replace("\"weight\":1}", "\"weight\":10}");
        let expected: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(asked[1].body["spec"], expected);
        assert_ne!(expected, spec);
    }
}

#[tokio::test]
async fn a_virtual_node_that_is_not_named_keeps_its_weight() {
    let server = Server::start(keep(specifications().swap_remove(0))).await;
    let app_mesh = AppMesh::for_endpoint(&server.url);
    let described = app_mesh.describe_route(&svc1()).await.unwrap();
    let updated = app_mesh.update_weights(&described, &weights(&[("v2", 0)])).await.unwrap();
    assert_eq!(updated.weights, weights(&[("v1", 99), ("v2", 0)]));
}

#[tokio::test]
async fn a_virtual_node_that_the_route_does_not_have_is_refused_before_anything_is_sent() {
    let server = Server::start(keep(specifications().swap_remove(0))).await;
    let app_mesh = AppMesh::for_endpoint(&server.url);
    let described = app_mesh.describe_route(&svc1()).await.unwrap();
    let error = app_mesh.update_weights(&described, &weights(&[("v3", 5)])).await.unwrap_err();
    assert!(matches!(error, Error::Other { retriable: false, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("`v3`") && text.contains("v1, v2"), "{text}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_virtual_node_that_occurs_twice_is_shown_in_sum_and_refused_for_writing() {
    let twice = json!({"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": [
        {"virtualNode": "v1", "weight": 60, "port": 80}, {"virtualNode": "v1", "weight": 40, "port": 81}]}}});
    let server = Server::start(keep(twice)).await;
    let app_mesh = AppMesh::for_endpoint(&server.url);
    let described = app_mesh.describe_route(&svc1()).await.unwrap();
    assert_eq!(described.weights, weights(&[("v1", 100)]));
    let error = app_mesh.update_weights(&described, &weights(&[("v1", 5)])).await.unwrap_err();
    assert!(error.to_string().contains("occurs 2 times"), "{error}");
}

#[tokio::test]
async fn the_owner_of_a_shared_mesh_is_sent_along() {
    let server = Server::start(keep(specifications().swap_remove(0))).await;
    let shared = RouteRef { mesh_owner: Some("123456789012".to_owned()), ..svc1() };
    let app_mesh = AppMesh::for_endpoint(&server.url);
    let described = app_mesh.describe_route(&shared).await.unwrap();
    app_mesh.update_weights(&described, &weights(&[("v1", 1)])).await.unwrap();
    for asked in server.asked() {
        assert!(asked.target.ends_with("?meshOwner=123456789012"), "{}", asked.target);
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (status, code, retriable) in [
        (404, "NotFoundException", false),
        (429, "TooManyRequestsException", true),
        (403, "ForbiddenException", false),
        (503, "ServiceUnavailableException", true),
        (400, "BadRequestException", false),
    ] {
        let server = Server::start(move |_| (status, code, json!({"message": "because"}).to_string())).await;
        let error = AppMesh::for_endpoint(&server.url).describe_route(&svc1()).await.unwrap_err();
        let expected = match status {
            404 => matches!(error, Error::NotFound { .. }),
            429 => matches!(error, Error::Throttled { .. }),
            403 => matches!(error, Error::AccessDenied { .. }),
            _ => matches!(error, Error::Other { .. }),
        };
        assert!(expected && error.is_retriable() == retriable, "{error:?}");
        assert!(error.to_string().contains("route `main` of virtual router `svc1`"), "{error}");
    }
}
