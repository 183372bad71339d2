//! The clients against the stand-in that the demo and other tests use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use aws::Error;
use aws::app_mesh::{AppMesh, RouteRef};
use aws::cloud_map::{CloudMap, Query};
use aws::ecs::task_metadata_at;
use serde_json::json;
use testkit::standin::{Fault, Instance, Kind, Service, Standin};

fn service(name: &str) -> Query {
    Query { namespace_name: "dev.local".to_owned(), service_name: name.to_owned(), ..Query::default() }
}

#[tokio::test]
async fn instances_are_found_by_attribute_and_the_revision_rises_with_each_registration() {
    let standin = Standin::start().unwrap();
    let cloud_map = CloudMap::for_endpoint(standin.url());
    for (id, version) in [("a", "1"), ("b", "2")] {
        standin.register("dev.local", "v1", instance(id, version));
    }
    let mut query = service("v1");
    let all = cloud_map.discover(&query).await.unwrap();
    assert_eq!(all.instances.len(), 2);
    query.attributes.insert("version".to_owned(), "2".to_owned());
    let some = cloud_map.discover(&query).await.unwrap();
    let [found] = &some.instances[..] else { panic!("{some:?}") };
    assert_eq!((found.id.as_str(), found.port), ("b", Some(3000)));
    let before = cloud_map.revision("dev.local", "v1").await.unwrap();
    assert_eq!(Some(before), all.revision);
    standin.deregister("dev.local", "v1", "a");
    assert!(cloud_map.revision("dev.local", "v1").await.unwrap() > before);
}

#[tokio::test]
async fn every_fault_of_the_stand_in_has_its_error() {
    let standin = Standin::start().unwrap();
    standin.register("dev.local", "v1", instance("a", "1"));
    let cloud_map = CloudMap::for_endpoint(standin.url());
    let fault = |kind| standin.faults().set(Fault::of(Service::CloudMap, kind));
    fault(Kind::Throttle);
    assert!(matches!(cloud_map.discover(&service("v1")).await, Err(Error::Throttled { .. })));
    fault(Kind::Status { status: 503 });
    assert!(matches!(cloud_map.discover(&service("v1")).await, Err(Error::Other { retriable: true, .. })));
    fault(Kind::Close);
    assert!(matches!(cloud_map.discover(&service("v1")).await, Err(Error::Unreachable { .. })));
    fault(Kind::NotFound);
    assert!(matches!(cloud_map.discover(&service("v1")).await, Err(Error::NotFound { .. })));
    fault(Kind::Garbage);
    assert!(matches!(cloud_map.discover(&service("v1")).await, Err(Error::Other { retriable: true, .. })));
    fault(Kind::Empty);
    assert_eq!(cloud_map.discover(&service("v1")).await.unwrap().instances, []);
    standin.faults().clear_all();
    assert_eq!(cloud_map.discover(&service("v1")).await.unwrap().instances.len(), 1);
    assert!(standin.delete_service("dev.local", "v1"));
    assert!(matches!(cloud_map.discover(&service("v1")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_route_is_described_and_given_weights() {
    let standin = Standin::start().unwrap();
    let spec = json!({"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": [
        {"virtualNode": "v1", "weight": 99}, {"virtualNode": "v2", "weight": 1}]}}});
    standin.set_route("mesh", "svc1", "main", spec);
    let app_mesh = AppMesh::for_endpoint(standin.url());
    let mut name = RouteRef {
        mesh: "mesh".into(),
        virtual_router: "svc1".into(),
        route: "main".into(),
        mesh_owner: None,
    };
    let route = app_mesh.describe_route(&name).await.unwrap();
    let wanted = [("v1".to_owned(), 90), ("v2".to_owned(), 10)].into();
    let updated = app_mesh.update_weights(&route, &wanted).await.unwrap();
    assert_eq!((updated.version, updated.weights), (route.version + 1, wanted));
    assert_eq!(updated.uid, route.uid);
    name.route = "other".to_owned();
    assert!(matches!(app_mesh.describe_route(&name).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn the_task_is_told_by_the_metadata_endpoint() {
    let standin = Standin::start().unwrap();
    let task = json!({"TaskARN": "arn:aws:ecs:eu-west-1:1:task/c/77", "Limits": {"CPU": 0.25}, "AvailabilityZone": "eu-west-1a"});
    standin.set_task(task);
    let task = task_metadata_at(&standin.ecs_metadata_uri()).await.unwrap();
    assert_eq!((task.task_id.as_str(), task.cpu_limit), ("77", Some(0.25)));
}

fn instance(id: &str, version: &str) -> Instance {
    Instance::at(id, ([127, 0, 0, 1], 3000).into()).with("version", version)
}
