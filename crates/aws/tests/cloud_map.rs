//! The Cloud Map client over HTTP, through the real SDK.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use aws::Error;
use aws::cloud_map::{CloudMap, Query};
use serde_json::json;
use std::net::IpAddr;
use support::{Server, nobody, silence};

fn v1() -> Query {
    Query { namespace_name: "dev.local".to_owned(), service_name: "v1".to_owned(), ..Query::default() }
}

/// What `discover` makes of one answer.
async fn refused(status: u16, code: &'static str) -> Error {
    let server = Server::start(move |_| (status, code, json!({"message": "because"}).to_string())).await;
    let error = CloudMap::for_endpoint(&server.url).discover(&v1()).await.unwrap_err();
    assert_eq!(server.asked().len(), 1, "a refused call is not repeated by the SDK");
    error
}

#[tokio::test]
async fn instances_are_asked_for_all_at_once_and_even_when_none_is_healthy() {
    let server =
        Server::start(|_| (200, "", json!({"Instances": [], "InstancesRevision": 3}).to_string())).await;
    let mut query = v1();
    query.attributes.insert("version".to_owned(), "2".to_owned());
    let found = CloudMap::for_endpoint(&server.url).discover(&query).await.unwrap();
    assert_eq!((found.instances.len(), found.revision), (0, Some(3)));
    let asked = &server.asked()[0];
    assert_eq!(asked.amz_target, "Route53AutoNaming_v20170314.DiscoverInstances");
    let body = json!({"NamespaceName": "dev.local", "ServiceName": "v1", "MaxResults": 1000,
        "QueryParameters": {"version": "2"}, "HealthStatus": "HEALTHY_OR_ELSE_ALL"});
    assert_eq!(asked.body, body);
}

#[tokio::test]
async fn an_endpoint_set_by_hand_is_dialled_as_it_is_written() {
    let server = Server::start(|_| (200, "", json!({"InstancesRevision": 1}).to_string())).await;
    let cloud_map = CloudMap::for_endpoint(&server.url);
    assert_eq!(cloud_map.revision("dev.local", "v1").await.unwrap(), 1);
    assert_eq!(format!("http://{}", server.asked()[0].host), server.url);
}

#[tokio::test]
async fn instances_come_with_address_port_health_and_attributes() {
    let server = Server::start(|_| {
        let one = json!({"InstanceId": "a", "HealthStatus": "HEALTHY",
            "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "3000", "color": "blue"}});
        let two = json!({"InstanceId": "b", "HealthStatus": "UNHEALTHY", "Attributes": {"AWS_INSTANCE_IPV6": "fd00::1"}});
        let three = json!({"InstanceId": "c", "HealthStatus": "UNKNOWN"});
        (200, "", json!({"Instances": [one, two, three]}).to_string())
    })
    .await;
    let found = CloudMap::for_endpoint(&server.url).discover(&v1()).await.unwrap();
    assert_eq!(found.revision, None);
    let [one, two, three] = &found.instances[..] else { panic!("{found:?}") };
    assert_eq!((one.ip, one.port, one.healthy), (Some(IpAddr::from([10, 0, 0, 1])), Some(3000), Some(true)));
    assert_eq!(one.attributes["color"], "blue");
    assert_eq!((two.ip, two.port, two.healthy), ("fd00::1".parse().ok(), None, Some(false)));
    assert_eq!((three.ip, three.port, three.healthy), (None, None, None));
}

#[tokio::test]
async fn an_unknown_service_is_not_found_and_the_text_says_what_to_check() {
    let error = refused(404, "ServiceNotFound").await;
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    assert!(!error.is_retriable());
    let text = error.to_string();
    for words in ["DiscoverInstances", "`v1`", "`dev.local`", "because", "HTTP name", "region"] {
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn throttling_is_told_apart_and_can_be_retried() {
    for (status, code) in [(429, "RequestLimitExceeded"), (400, "ThrottlingException")] {
        let error = refused(status, code).await;
        assert!(matches!(error, Error::Throttled { .. }) && error.is_retriable(), "{error:?}");
        assert!(error.to_string().contains("throttled"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let error = refused(400, "AccessDeniedException").await;
    assert!(matches!(error, Error::AccessDenied { .. }), "{error:?}");
    assert!(error.to_string().contains("servicediscovery:DiscoverInstances"), "{error}");
}

#[tokio::test]
async fn a_failing_service_can_be_retried_and_a_wrong_request_cannot() {
    assert!(refused(500, "InternalFailure").await.is_retriable());
    assert!(!refused(400, "InvalidInput").await.is_retriable());
}

#[tokio::test]
async fn a_web_page_at_the_endpoint_is_no_proof_that_the_service_is_gone() {
    let server = Server::start(|_| (404, "", "<html>nothing here</html>".to_owned())).await;
    let error = CloudMap::for_endpoint(&server.url).discover(&v1()).await.unwrap_err();
    assert!(matches!(error, Error::Other { .. }), "{error:?}");
    assert!(error.to_string().contains("AWS_ENDPOINT_URL_SERVICEDISCOVERY"), "{error}");
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_unreachable() {
    let error = CloudMap::for_endpoint(nobody().await).discover(&v1()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains("AWS_ENDPOINT_URL_SERVICEDISCOVERY"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_times_out() {
    let error = CloudMap::for_endpoint(silence().await).discover(&v1()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }) && error.is_retriable(), "{error:?}");
}
