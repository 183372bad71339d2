//! Leaving without a lost request: behind a load balancer as ECS does it, and by a signal alone.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testkit::alb::{Alb, Target};
use testkit::upstream::Upstream;

use super::world::{Gateway, Spec, assert_clean, loadtest, upstream};

/// A drain may last 20 s.
const DRAINED: Duration = Duration::from_secs(30);

async fn gateway(folder: &Path, name: &str, backends: &[Upstream; 2]) -> Gateway {
    Spec::new(folder, name, &[("v1", 90), ("v2", 10)])
        .fixed("v1", &[backends[0].addr()])
        .fixed("v2", &[backends[1].addr()])
        .live()
        .await
}

async fn join(alb: &Alb, gateway: &Gateway) -> SocketAddr {
    alb.register(Target { data: gateway.data, admin: gateway.admin });
    alb.tick().await.unwrap();
    alb.until_healthy(gateway.data).await.unwrap();
    gateway.data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_behind_the_load_balancer_loses_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let alb = Alb::start().unwrap();
    let mut running = gateway(folder.path(), "first", &backends).await;
    join(&alb, &running).await;
    let url = alb.url();
    let load = loadtest(&["run", &url, "--rate", "200/s", "--duration", "17s"]);
    // Twice: the second time the gateway that leaves has come up under load.
    for name in ["second", "third"] {
        let next = gateway(folder.path(), name, &backends).await;
        join(&alb, &next).await;
        alb.deregister(running.data, DRAINED).await.unwrap();
        running.process.terminate().unwrap();
        let ended = running.process.exit_within(DRAINED).await.unwrap();
        assert_eq!(ended.code(), Some(0), "{}", running.process.tail());
        running = next;
    }
    assert!(!load.is_finished(), "both changes happened under load");
    let (code, report) = load.await.unwrap();
    assert_clean(code, &report);
    let counts = alb.counts();
    assert_eq!((counts.errors(), counts.passed), (0, counts.requests), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_alone_loses_no_request_of_kept_connections() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    for (name, words) in [("http1", &[][..]), ("http2", &["--http2"][..])] {
        let gateway = gateway(folder.path(), name, &backends).await;
        let url = gateway.url();
        let mut all = vec!["run", &url, "--rate", "200/s", "--duration", "4s", "--connections", "16"];
        all.extend_from_slice(words);
        let load = loadtest(&all);
        let seen = || backends[0].seen().requests + backends[1].seen().requests;
        let before = seen();
        super::world::until("the load flows", || async { (seen() > before + 100).then_some(()) }).await;
        gateway.process.terminate().unwrap();
        let (code, report) = load.await.unwrap();
        assert_clean(code, &report);
        let ended = gateway.process.exit_within(DRAINED).await.unwrap();
        assert_eq!(ended.code(), Some(0), "{}", gateway.process.tail());
        assert!(!gateway.process.stderr().contains("what is left is cut"), "{}", gateway.process.tail());
    }
}
