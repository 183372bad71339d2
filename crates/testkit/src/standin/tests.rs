//! The stand-in spoken to over its wire, as an SDK would.

use serde_json::{Value, json};

use super::*;
use crate::client::{Response, get, once};

async fn cloud_map(standin: &Standin, operation: &str, body: Value) -> Response {
    let target = format!("Route53AutoNaming_v20170314.{operation}");
    let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
    once(standin.addr, "POST", "/", &headers, body.to_string().as_bytes()).await.unwrap()
}

async fn discover(standin: &Standin, more: Value) -> (u64, Vec<String>) {
    let mut body = json!({"NamespaceName": "ns", "ServiceName": "v1"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = cloud_map(standin, "DiscoverInstances", body).await.json().unwrap();
    let ids =
        answer["Instances"].as_array().unwrap().iter().map(|i| i["InstanceId"].as_str().unwrap().to_owned());
    (answer["InstancesRevision"].as_u64().unwrap(), ids.collect())
}

async fn mesh(standin: &Standin, method: &str, path: &str, body: Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    once(standin.addr, method, &format!("/v20190125/{path}"), &[], body.as_bytes()).await.unwrap()
}

fn instance(n: u16) -> Instance {
    Instance::new(&format!("i-{n}"), std::net::Ipv4Addr::LOCALHOST.into(), Some(9000 + n))
}

fn weights(list: &[(&str, u64)]) -> Value {
    let target = |(node, weight): &(&str, u64)| json!({"virtualNode": node, "weight": weight});
    let targets: Vec<Value> = list.iter().map(target).collect();
    json!({"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": targets}}})
}

#[tokio::test]
async fn instances_are_discovered_as_cloud_map_answers_them() {
    let standin = Standin::start().unwrap();
    standin.register("ns", "v1", instance(1).with("version", "v1"));
    let body = json!({"NamespaceName": "ns", "ServiceName": "v1"});
    let answer = cloud_map(&standin, "DiscoverInstances", body).await;
    assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.1"));
    let attributes = json!({"AWS_INSTANCE_IPV4": "127.0.0.1", "AWS_INSTANCE_PORT": "9001", "version": "v1"});
    let wanted = json!({
        "InstanceId": "i-1", "NamespaceName": "ns", "ServiceName": "v1", "HealthStatus": "HEALTHY", "Attributes": attributes,
    });
    assert_eq!(answer.json().unwrap()["Instances"], json!([wanted]));
}

#[tokio::test]
async fn the_revision_rises_on_register_and_deregister_only() {
    let standin = Standin::start().unwrap();
    standin.register("ns", "v1", instance(1));
    let (first, _) = discover(&standin, json!({})).await;
    standin.register("ns", "v1", instance(2));
    let (second, _) = discover(&standin, json!({})).await;
    assert!(standin.set_health("ns", "v1", "i-2", Health::Unhealthy));
    let (same, _) = discover(&standin, json!({"QueryParameters": {"a": "b"}})).await;
    assert!(standin.deregister("ns", "v1", "i-2"));
    assert!(!standin.deregister("ns", "v1", "i-2"));
    let body = json!({"NamespaceName": "ns", "ServiceName": "v1"});
    let third = cloud_map(&standin, "DiscoverInstancesRevision", body).await.json().unwrap();
    let third = third["InstancesRevision"].as_u64().unwrap();
    assert!(first < second && second == same && same < third, "{first} {second} {same} {third}");
}

#[tokio::test]
async fn filters_by_health_attributes_and_number() {
    let standin = Standin::start().unwrap();
    standin.register("ns", "v1", instance(1).health(Health::Unhealthy).with("zone", "a"));
    let or_all = json!({"HealthStatus": "HEALTHY_OR_ELSE_ALL"});
    assert_eq!(discover(&standin, json!({})).await.1.len(), 0);
    assert_eq!(discover(&standin, or_all.clone()).await.1, ["i-1"]);
    standin.register("ns", "v1", instance(2).with("zone", "b"));
    assert_eq!(discover(&standin, or_all).await.1, ["i-2"]);
    assert_eq!(discover(&standin, json!({"HealthStatus": "UNHEALTHY"})).await.1, ["i-1"]);
    let all = |more: Value| {
        let mut filter = json!({"HealthStatus": "ALL"});
        filter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        filter
    };
    assert_eq!(discover(&standin, all(json!({"QueryParameters": {"zone": "a"}}))).await.1, ["i-1"]);
    assert_eq!(discover(&standin, all(json!({"OptionalParameters": {"zone": "c"}}))).await.1.len(), 2);
    for n in 3..=120 {
        standin.register("ns", "v1", instance(n).health(Health::Unknown));
    }
    let (_, first) = discover(&standin, json!({})).await;
    assert_eq!(first.len(), 100, "MaxResults is 100 by default");
    let (_, second) = discover(&standin, json!({"MaxResults": 1000})).await;
    assert_eq!(second.len(), 119, "all but the unhealthy one");
    assert_ne!(first, second[..100], "the order is random");
}

#[tokio::test]
async fn errors_have_cloud_maps_names() {
    let standin = Standin::start().unwrap();
    standin.create_service("ns", "v1");
    for (body, status, name) in [
        (json!({"NamespaceName": "no", "ServiceName": "v1"}), 404, "NamespaceNotFound"),
        (json!({"NamespaceName": "ns", "ServiceName": "no"}), 404, "ServiceNotFound"),
        (json!({"NamespaceName": "ns"}), 400, "InvalidInput"),
        (json!({"NamespaceName": "ns", "ServiceName": "v1", "MaxResults": 5000}), 400, "InvalidInput"),
        (json!({"NamespaceName": "ns", "ServiceName": "v1", "HealthStatus": "WELL"}), 400, "InvalidInput"),
    ] {
        let answer = cloud_map(&standin, "DiscoverInstances", body).await;
        assert_eq!((answer.status, answer.json().unwrap()["__type"].as_str()), (status, Some(name)));
    }
    assert_eq!(discover(&standin, json!({})).await.1.len(), 0);
}

#[tokio::test]
async fn a_backend_can_register_itself_by_the_api() {
    let standin = Standin::start().unwrap();
    let operation = cloud_map(&standin, "CreateHttpNamespace", json!({"Name": "ns"})).await.json().unwrap();
    let operation = cloud_map(&standin, "GetOperation", operation).await.json().unwrap();
    let namespace = &operation["Operation"]["Targets"]["NAMESPACE"];
    let service = json!({"Name": "v1", "NamespaceId": namespace});
    let service =
        cloud_map(&standin, "CreateService", service).await.json().unwrap()["Service"]["Id"].clone();
    let attributes = json!({"AWS_INSTANCE_IPV4": "127.0.0.1", "AWS_INIT_HEALTH_STATUS": "UNHEALTHY"});
    let id = json!({"ServiceId": service, "InstanceId": "i-1"});
    let mut registration = id.clone();
    registration["Attributes"] = attributes;
    assert_eq!(cloud_map(&standin, "RegisterInstance", registration).await.status, 200);
    assert_eq!(discover(&standin, json!({"HealthStatus": "UNHEALTHY"})).await.1, ["i-1"]);
    let mut health = id.clone();
    health["Status"] = json!("HEALTHY");
    assert_eq!(cloud_map(&standin, "UpdateInstanceCustomHealthStatus", health).await.status, 200);
    assert_eq!(discover(&standin, json!({})).await.1, ["i-1"]);
    assert_eq!(cloud_map(&standin, "DeregisterInstance", id.clone()).await.status, 200);
    assert_eq!(cloud_map(&standin, "DeregisterInstance", id).await.status, 404);
}

#[tokio::test]
async fn services_are_listed_in_pages_and_by_namespace() {
    let standin = Standin::start().unwrap();
    for n in 0..3 {
        standin.create_service("one", &format!("v{n}"));
    }
    standin.create_service("two", "v0");
    let spaces = cloud_map(&standin, "ListNamespaces", json!({})).await.json().unwrap();
    assert_eq!(spaces["Namespaces"].as_array().unwrap().len(), 2);
    let filter =
        json!([{"Name": "NAMESPACE_ID", "Values": [spaces["Namespaces"][1]["Id"]], "Condition": "EQ"}]);
    let second = cloud_map(&standin, "ListServices", json!({"Filters": filter})).await.json().unwrap();
    let all = cloud_map(&standin, "ListServices", json!({})).await.json().unwrap();
    assert_eq!(second["Services"], json!([all["Services"][3]]));
    let page = cloud_map(&standin, "ListServices", json!({"MaxResults": 3})).await.json().unwrap();
    assert_eq!(page["Services"].as_array().unwrap().len(), 3);
    let next = json!({"MaxResults": 3, "NextToken": page["NextToken"]});
    assert_eq!(cloud_map(&standin, "ListServices", next).await.json().unwrap(), second);
    let unknown = json!({"Filters": [{"Name": "COLOUR"}]});
    assert_eq!(cloud_map(&standin, "ListServices", unknown).await.status, 400);
}

#[tokio::test]
async fn the_life_of_a_route() {
    let standin = Standin::start().unwrap();
    let spec = weights(&[("v1", 99), ("v2", 1)]);
    let create = json!({"routeName": "svc1", "spec": spec, "clientToken": "one", "tags": [{"key": "k", "value": "v"}]});
    let routes = "meshes/m/virtualRouter/r/routes";
    assert_eq!(mesh(&standin, "PUT", routes, create.clone()).await.status, 404);
    mesh(&standin, "PUT", "meshes", json!({"meshName": "m"})).await;
    mesh(&standin, "PUT", "meshes/m/virtualRouters", json!({"virtualRouterName": "r", "spec": {}})).await;
    assert_eq!(mesh(&standin, "PUT", routes, create.clone()).await.status, 400, "no virtual nodes yet");
    for node in ["v1", "v2"] {
        mesh(&standin, "PUT", "meshes/m/virtualNodes", json!({"virtualNodeName": node, "spec": {}})).await;
    }
    let made = mesh(&standin, "PUT", routes, create.clone()).await.json().unwrap();
    assert_eq!(
        (&made["routeName"], &made["spec"], &made["status"]["status"]),
        (&json!("svc1"), &spec, &json!("ACTIVE"))
    );
    assert!(made["metadata"]["createdAt"].is_f64() && made["metadata"]["version"] == 1);
    assert_eq!(mesh(&standin, "PUT", routes, create).await.json().unwrap(), made, "the token was replayed");

    let route = "meshes/m/virtualRouter/r/routes/svc1";
    let update = json!({"spec": weights(&[("v1", 90), ("v2", 10)]), "clientToken": "two"});
    for _ in 0..2 {
        let updated = mesh(&standin, "PUT", route, update.clone()).await.json().unwrap();
        assert_eq!(updated["metadata"]["version"], 2);
    }
    let other = json!({"spec": weights(&[("v1", 1)]), "clientToken": "two"});
    let conflict = mesh(&standin, "PUT", route, other).await;
    assert_eq!((conflict.status, conflict.header("x-amzn-errortype")), (409, Some("ConflictException")));
    assert_eq!(standin.route_weights("m", "r", "svc1"), [("v1".to_owned(), 90), ("v2".to_owned(), 10)]);
    assert_eq!(standin.set_route("m", "r", "svc1", spec)["metadata"]["version"], 3);

    let list = mesh(&standin, "GET", routes, Value::Null).await.json().unwrap();
    assert_eq!((&list["routes"][0]["routeName"], &list["routes"][0]["version"]), (&json!("svc1"), &json!(3)));
    assert_eq!(mesh(&standin, "DELETE", "meshes/m/virtualRouters/r", Value::Null).await.status, 409);
    assert_eq!(mesh(&standin, "DELETE", "meshes/m/virtualNodes/v1", Value::Null).await.status, 409);
    let gone = mesh(&standin, "DELETE", route, Value::Null).await.json().unwrap();
    assert_eq!(gone["status"]["status"], "DELETED");
    let missing = mesh(&standin, "GET", route, Value::Null).await;
    assert_eq!((missing.status, missing.header("x-amzn-errortype")), (404, Some("NotFoundException")));
    assert_eq!(mesh(&standin, "DELETE", "meshes/m/virtualNodes/v1", Value::Null).await.status, 200);
}

#[tokio::test]
async fn routes_that_app_mesh_refuses_are_refused() {
    let standin = Standin::start().unwrap();
    standin.set_route("m", "r", "svc1", weights(&[("v1", 100)]));
    let many: Vec<_> = (0..11).map(|_| ("v1", 1)).collect();
    for spec in [
        weights(&[("v1", 90), ("v1", 90)]),
        weights(&[("v1", 0)]),
        weights(&[("v3", 1)]),
        weights(&[]),
        weights(&many),
        json!({"httpRoute": {}, "tcpRoute": {}}),
        json!({}),
    ] {
        let answer =
            mesh(&standin, "PUT", "meshes/m/virtualRouter/r/routes/svc1", json!({"spec": spec})).await;
        assert_eq!(answer.header("x-amzn-errortype"), Some("BadRequestException"), "{spec}");
    }
    assert_eq!(standin.route("m", "r", "svc1").unwrap()["metadata"]["version"], 1);
}

#[tokio::test]
async fn lists_come_in_pages_and_tags_stay_with_their_resource() {
    let standin = Standin::start().unwrap();
    for name in ["a", "b", "c"] {
        mesh(&standin, "PUT", "meshes", json!({"meshName": name, "tags": [{"key": "is", "value": name}]}))
            .await;
    }
    let page = mesh(&standin, "GET", "meshes?limit=2", Value::Null).await.json().unwrap();
    assert_eq!(page["meshes"].as_array().unwrap().len(), 2);
    let next = format!("meshes?limit=2&nextToken={}", page["nextToken"].as_str().unwrap());
    let page = mesh(&standin, "GET", &next, Value::Null).await.json().unwrap();
    assert_eq!((&page["meshes"][0]["meshName"], page.get("nextToken")), (&json!("c"), None));
    let arn = "resourceArn=arn%3Aaws%3Aappmesh%3Aeu-west-1%3A123456789012%3Amesh%2Fc";
    mesh(&standin, "PUT", &format!("tag?{arn}"), json!({"tags": [{"key": "x", "value": "y"}]})).await;
    mesh(&standin, "PUT", &format!("untag?{arn}"), json!({"tagKeys": ["is"]})).await;
    let tags = mesh(&standin, "GET", &format!("tags?{arn}"), Value::Null).await.json().unwrap();
    assert_eq!(tags["tags"], json!([{"key": "x", "value": "y"}]));
}

#[tokio::test]
async fn faults_look_like_the_services_own() {
    let standin = Standin::start().unwrap();
    standin.register("ns", "v1", instance(1));
    standin.set_route("m", "r", "svc1", weights(&[("v1", 100)]));
    let body = || json!({"NamespaceName": "ns", "ServiceName": "v1"});
    for (kind, status, name) in [
        (Kind::Throttle, 429, Some("RequestLimitExceeded")),
        (Kind::NotFound, 404, Some("ServiceNotFound")),
        (Kind::Status { status: 500 }, 500, Some("InternalServerErrorException")),
        (Kind::Empty, 200, None),
    ] {
        standin.faults().set(Fault::of(Service::CloudMap, kind));
        let answer = cloud_map(&standin, "DiscoverInstances", body()).await;
        assert_eq!((answer.status, answer.header("x-amzn-errortype")), (status, name));
    }
    assert_eq!(discover(&standin, json!({})).await.1.len(), 0);
    let route = "meshes/m/virtualRouter/r/routes/svc1";
    assert_eq!(mesh(&standin, "GET", route, Value::Null).await.status, 200, "the other service is well");
    let throttle =
        json!({"service": "app_mesh", "kind": "throttle", "operation": "DescribeRoute", "times": 1});
    let text = throttle.to_string();
    assert_eq!(
        once(standin.addr, "POST", "/_standin/faults", &[], text.as_bytes()).await.unwrap().status,
        200
    );
    let throttled = mesh(&standin, "GET", route, Value::Null).await;
    assert_eq!(
        (throttled.status, throttled.header("x-amzn-errortype")),
        (429, Some("TooManyRequestsException"))
    );
    assert_eq!(mesh(&standin, "GET", route, Value::Null).await.status, 200);
    assert_eq!(once(standin.addr, "DELETE", "/_standin/faults", &[], b"").await.unwrap().status, 200);
    assert_eq!(discover(&standin, json!({})).await.1, ["i-1"]);
}

#[tokio::test]
async fn a_timeout_takes_the_request_and_never_answers() {
    let standin = Standin::start().unwrap();
    standin.faults().set(Fault::of(Service::Ecs, Kind::Timeout).times(1));
    let mut client = crate::client::RawClient::connect(standin.addr).await.unwrap();
    client.send("GET /ecs/v4/task HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    standin.until_requests("/ecs/v4/task", 1).await.unwrap();
    // A second request, answered, shows that the first one was not merely slow to be read.
    let task = get(standin.addr, "/ecs/v4/task").await.unwrap().json().unwrap();
    assert_eq!(task["Limits"]["CPU"], 0.25);
    assert!(client.is_quiet());
}

#[tokio::test]
async fn requests_are_kept_for_assertions() {
    let standin = Standin::start().unwrap();
    standin.set_route("m", "r", "svc1", weights(&[("v1", 100)]));
    let update = json!({"spec": weights(&[("v1", 7)])});
    mesh(&standin, "PUT", "meshes/m/virtualRouter/r/routes/svc1", update.clone()).await;
    let seen = standin.until_requests("UpdateRoute", 1).await.unwrap();
    assert_eq!((seen[0].service, &seen[0].body), (Service::AppMesh, &update));
    let listed = get(standin.addr, "/_standin/requests").await.unwrap().json().unwrap();
    assert_eq!(listed[0]["operation"], "UpdateRoute");
    standin.forget();
    assert!(standin.requests().is_empty());
}

#[tokio::test]
async fn the_demo_registers_over_http() {
    let standin = Standin::start().unwrap();
    let instance =
        json!({"namespace": "ns", "service": "v1", "id": "i-1", "address": "127.0.0.1", "port": 9001});
    let call = |method: &'static str, path: &'static str, body: Value| {
        let addr = standin.addr;
        async move { once(addr, method, path, &[], body.to_string().as_bytes()).await.unwrap() }
    };
    assert_eq!(call("POST", "/_standin/instances", instance.clone()).await.status, 200);
    assert_eq!(discover(&standin, json!({})).await.1, ["i-1"]);
    let id = json!({"namespace": "ns", "service": "v1", "id": "i-1"});
    assert_eq!(call("DELETE", "/_standin/instances", id).await.json().unwrap()["deregistered"], true);
    assert_eq!(discover(&standin, json!({})).await.1.len(), 0);
    let route = json!({"mesh": "m", "virtualRouter": "r", "route": "svc1", "spec": weights(&[("v1", 1)])});
    assert_eq!(call("POST", "/_standin/routes", route).await.json().unwrap()["routeName"], "svc1");
    let wrong = call("POST", "/_standin/instances", json!({"namespace": "ns", "servise": "v1"})).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("servise"), "{}", wrong.text());
}

#[test]
fn only_loopback_is_listened_on() {
    let error = Standin::start_on(([0, 0, 0, 0], 0).into()).unwrap_err().to_string();
    assert!(error.contains("loopback"), "{error}");
}
