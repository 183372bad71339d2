//! Leaving without a lost request: behind a load balancer as ECS does it, and by a signal alone.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use testkit::alb::{Alb, Target};
use testkit::client::H2Client;
use testkit::upstream::Upstream;

use super::world::{Gateway, Spec, assert_clean, loadtest, until, upstream};

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
    let gateway = gateway(folder.path(), "http1", &backends).await;
    let url = gateway.url();
    let load = loadtest(&["run", &url, "--rate", "200/s", "--duration", "4s", "--connections", "16"]);
    let seen = || backends[0].seen().requests + backends[1].seen().requests;
    until("the load flows", || async { (seen() > 100).then_some(()) }).await;
    gateway.process.terminate().unwrap();
    let (code, report) = load.await.unwrap();
    assert_clean(code, &report);
    assert_left_alone(&gateway).await;
}

/// It left by itself, in time, and cut nothing.
async fn assert_left_alone(gateway: &Gateway) {
    let ended = gateway.process.exit_within(DRAINED).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{}", gateway.process.tail());
    assert!(!gateway.process.stderr().contains("what is left is cut"), "{}", gateway.process.tail());
}

/// One request; what GOAWAY says was not looked at is asked again on a new connection (RFC 9113, 6.8).
async fn ask_http2(addr: SocketAddr, kept: &mut Option<H2Client>) -> Result<u16, String> {
    for _ in 0..10 {
        let mut client = match kept.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => H2Client::connect(addr).await.map_err(|error| format!("{error:#}"))?,
        };
        match client.get("/").await {
            Ok(answer) => {
                *kept = Some(client);
                return Ok(answer.status);
            }
            Err(error) => {
                let text = format!("{error:#}");
                if !text.contains("not a result of an error") && !text.contains("operation was canceled") {
                    return Err(text);
                }
            }
        }
    }
    Err("refused ten times".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_alone_loses_no_request_of_http2_connections() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let gateway = gateway(folder.path(), "http2", &backends).await;
    let addr = gateway.data;
    let (answers, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let one = || {
        let (answers, stop) = (Arc::clone(&answers), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut kept, mut tick) = (None, tokio::time::interval(Duration::from_millis(25)));
            while !stop.load(SeqCst) {
                tick.tick().await;
                assert_eq!(ask_http2(addr, &mut kept).await, Ok(200));
                answers.fetch_add(1, SeqCst);
            }
        })
    };
    let clients: Vec<_> = (0..8).map(|_| one()).collect();
    let reached = |count| {
        let answers = Arc::clone(&answers);
        move || {
            let answers = Arc::clone(&answers);
            async move { (answers.load(SeqCst) >= count).then_some(()) }
        }
    };
    until("the load flows", reached(200)).await;
    gateway.process.terminate().unwrap();
    gateway.process.line("draining").await.unwrap();
    until("the load flows on", reached(answers.load(SeqCst) + 600)).await;
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert_left_alone(&gateway).await;
}
