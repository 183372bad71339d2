//! Endpoints from Cloud Map: what a fault may do to them, which is nothing.

use std::path::Path;

use testkit::client;
use testkit::standin::{Fault, Kind, Service, Standin};

use super::world::{Spec, assert_clean, loadtest, register, until, upstream};

fn spec(folder: &Path, standin: &Standin) -> Spec {
    Spec::new(folder, "gateway", &[("v1", 50), ("v2", 50)])
        .cloud_map("v1")
        .cloud_map("v2")
        .envs(&standin.envs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_throttling_and_silence_of_cloud_map_change_no_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start().unwrap();
    let (one, two) = (upstream("v1"), upstream("v2"));
    register(&standin, "v1", "v1-1", one.addr());
    register(&standin, "v2", "v2-1", two.addr());
    let gateway = spec(folder.path(), &standin).live().await;
    for kind in [Kind::Status { status: 503 }, Kind::Throttle, Kind::Close, Kind::Garbage, Kind::Timeout] {
        let failures = gateway.stat("cluster.v1.update_failure").await;
        standin.faults().set(Fault::of(Service::CloudMap, kind));
        until("a failed discovery", || async {
            (gateway.stat("cluster.v1.update_failure").await > failures).then_some(())
        })
        .await;
        gateway.until_endpoints("v1", &[one.addr()]).await;
        gateway.until_endpoints("v2", &[two.addr()]).await;
        assert_eq!(gateway.ask().await.status, 200, "{kind:?}");
        let shown = client::get(gateway.admin, "/clusters").await.unwrap().text();
        assert!(shown.contains("v1::discovery::error::"), "{kind:?} is shown: {shown}");
        let successes = gateway.stat("cluster.v1.update_success").await;
        standin.faults().clear_all();
        until("a good discovery", || async {
            (gateway.stat("cluster.v1.update_success").await > successes).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_doubted_while_backends_accept_and_believed_at_once_when_they_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start().unwrap();
    let (mut one, mut two) = (upstream("v1"), upstream("v2"));
    register(&standin, "v1", "v1-1", one.addr());
    register(&standin, "v2", "v2-1", two.addr());
    let gateway = spec(folder.path(), &standin).live().await;
    // One service loses its last instance, the other is deleted.
    assert!(standin.deregister("demo.local", "v1", "v1-1"));
    assert!(standin.delete_service("demo.local", "v2"));
    for cluster in ["v1", "v2"] {
        let empty = format!("cluster.{cluster}.update_empty");
        until("answers of nobody", || async { (gateway.stat(&empty).await >= 2).then_some(()) }).await;
    }
    gateway.until_endpoints("v1", &[one.addr()]).await;
    gateway.until_endpoints("v2", &[two.addr()]).await;
    assert_eq!(gateway.ask().await.status, 200);

    one.stop();
    gateway.until_endpoints("v1", &[]).await;
    gateway.until_endpoints("v2", &[two.addr()]).await;
    for _ in 0..10 {
        assert_eq!(gateway.ask().await.header("x-v"), Some("v2"), "health_aware: v1 has nobody left");
    }
    two.stop();
    gateway.until_endpoints("v2", &[]).await;
    let answer = gateway.ask().await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "no healthy upstream"));

    one.restart().unwrap();
    two.restart().unwrap();
    register(&standin, "v1", "v1-2", one.addr());
    register(&standin, "v2", "v2-2", two.addr());
    gateway.until_endpoints("v1", &[one.addr()]).await;
    gateway.until_endpoints("v2", &[two.addr()]).await;
    until("both answer again", || async { (gateway.ask().await.header("x-v") == Some("v1")).then_some(()) })
        .await;
    until("both answer again", || async { (gateway.ask().await.header("x-v") == Some("v2")).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_instance_gets_requests_only_after_it_accepts_connections() {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start().unwrap();
    let (one, mut second, mut canary) = (upstream("v1"), upstream("v1"), upstream("v2"));
    register(&standin, "v1", "v1-1", one.addr());
    standin.create_service("demo.local", "v2");
    second.stop();
    canary.stop();
    let gateway = spec(folder.path(), &standin).live().await;
    let url = gateway.url();
    let load = loadtest(&["run", &url, "--rate", "200/s", "--duration", "4s"]);
    // A second instance of v1, and the very first of v2: registered, not listening yet.
    let success = gateway.stat("cluster.v1.update_success").await;
    register(&standin, "v1", "v1-2", second.addr());
    register(&standin, "v2", "v2-1", canary.addr());
    until("answers that name them", || async {
        (gateway.stat("cluster.v1.update_success").await >= success + 2).then_some(())
    })
    .await;
    let (code, report) = load.await.unwrap();
    assert_clean(code, &report);
    assert_eq!(report["versions"][0]["name"], "v1", "{report:#}");
    assert_eq!(report["versions"].as_array().unwrap().len(), 1, "{report:#}");

    second.restart().unwrap();
    canary.restart().unwrap();
    gateway.until_endpoints("v1", &[one.addr(), second.addr()]).await;
    gateway.until_endpoints("v2", &[canary.addr()]).await;
    until("the canary answers", || async { (gateway.ask().await.header("x-v") == Some("v2")).then_some(()) })
        .await;
    until("the second instance answers", || async {
        assert_eq!(gateway.ask().await.status, 200);
        (second.seen().requests > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loopback_address_from_cloud_map_is_refused_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start().unwrap();
    let one = upstream("v1");
    register(&standin, "v1", "v1-1", one.addr());
    let cloud_map =
        "{cloud_map: {namespace_name: demo.local, service_name: v1, full_poll: 1s, revision_poll: 1s}}";
    let spec =
        Spec::new(folder.path(), "gateway", &[("v1", 1)]).discovery("v1", cloud_map).envs(&standin.envs());
    let gateway = spec.start().await;
    let shown =
        client::poll(gateway.admin, "/clusters", |answer| answer.text().contains("discovery::error")).await;
    let shown = shown.unwrap().text();
    assert!(shown.contains("127.0.0.1 is loopback or link-local"), "{shown}");
    gateway.until_endpoints("v1", &[]).await;
    assert!(one.received().is_empty());
}
