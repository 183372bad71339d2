//! From the start of a gateway to LIVE, and its goodbye.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::client::RawClient;
use testkit::free_port;
use testkit::upstream::Upstream;

use super::world::{Control, Gateway, Spec, run, until, upstream};

const ROUTES: &str = "{svc1: {targets: [v1, v2], stable: v1, weights: {v1: 100, v2: 0}}}";

/// Slower than this the gateway breaks a deployment: ECS gives a task with the usual health check that long.
const DEADLINE: Duration = Duration::from_secs(75);

fn spec(folder: &Path, weights: [u32; 2], backends: &[Upstream; 2]) -> Spec {
    Spec::new(folder, "gateway", &[("v1", weights[0]), ("v2", weights[1])])
        .fixed("v1", &[backends[0].addr()])
        .fixed("v2", &[backends[1].addr()])
}

async fn assert_all_from(gateway: &Gateway, name: &str) {
    for _ in 0..30 {
        let answer = gateway.ask().await;
        assert_eq!((answer.status, answer.header("x-v")), (200, Some(name)), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_control_the_gateway_is_live_in_time_and_all_goes_to_the_stable() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
    let begun = Instant::now();
    let gateway = spec(folder.path(), [1, 99], &backends).control(nobody).live().await;
    let took = begun.elapsed();
    println!("LIVE without control after {:.2} s (deadline {DEADLINE:?})", took.as_secs_f64());
    assert!(took < DEADLINE, "{took:?}");
    assert_eq!(gateway.weights().await, (vec![1, 0], "stable".to_owned(), String::new()));
    assert_all_from(&gateway, "v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_control_the_saved_copy_is_used_for_a_day_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = Control::start(folder.path(), "control", 0, ROUTES, &[]).await;
    let mut spec = spec(folder.path(), [99, 1], &backends).control(control.url());
    spec.control_more = format!(", state_dir: {}", spec.state_dir().display());
    let gateway = spec.live().await;
    control.until_agreed(1).await;
    let ran = control.cli(&["set-weight", "svc1", "v1=0", "v2=100", "--force"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let version = gateway.weights().await.2;
    let copy = spec.state_dir().join("weights.json");
    let read = || serde_json::from_slice::<Value>(&std::fs::read(&copy).ok()?).ok();
    until("the copy is saved", || async { (read()?["version_info"] == version.as_str()).then_some(()) })
        .await;
    control.process.kill().await.unwrap();
    gateway.process.kill().await.unwrap();

    let begun = Instant::now();
    let gateway = spec.live().await;
    println!("LIVE with a saved copy after {:.2} s", begun.elapsed().as_secs_f64());
    assert_eq!(gateway.weights().await, (vec![0, 10_000], "saved".to_owned(), version));
    assert_all_from(&gateway, "v2").await;
    gateway.process.kill().await.unwrap();

    let mut old = read().unwrap();
    old["saved_at"] = (old["saved_at"].as_u64().unwrap() - 25 * 3600).into();
    std::fs::write(&copy, old.to_string()).unwrap();
    let gateway = spec.live().await;
    assert_eq!(gateway.weights().await.1, "stable");
    assert_all_from(&gateway, "v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_served_with_the_weights_of_the_file_while_control_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = Control::start(folder.path(), "control", 0, ROUTES, &[]).await;
    let begun = Instant::now();
    let gateway = spec(folder.path(), [1, 99], &backends).control(control.url()).start().await;
    // Sent before LIVE: they wait in the listener's queue.
    let mut early = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect(gateway.data).await.unwrap();
        client.send("GET /early HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        early.push(client);
    }
    for mut client in early {
        let answer = client.response("GET").await.unwrap();
        assert_eq!((answer.status, answer.header("x-v")), (200, Some("v1")), "{answer:?}");
    }
    println!("first answer of a fleet's very first start after {:.2} s", begun.elapsed().as_secs_f64());
    assert!(backends[1].received().is_empty());
    for line in gateway.log_lines(20).await {
        assert!(line["route_version"].is_string(), "served before control had spoken: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_leaves_says_goodbye_and_brings_its_last_counts() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = Control::start(folder.path(), "control", 0, ROUTES, &[]).await;
    let spec = spec(folder.path(), [1, 1], &backends).control(control.url());
    let stays = spec.live().await;
    let mut other = spec.clone();
    other.name = "leaves".to_owned();
    let leaves = other.live().await;
    control.until_agreed(2).await;
    control.until_endpoints(2, &["v1", "v2"]).await;
    leaves.process.terminate().unwrap();
    let states = || async {
        let ran = control.cli(&["--json", "gateways"]).await;
        let view: Value = serde_json::from_str(&ran.stdout).unwrap();
        let gateways = view["gateways"].as_array().unwrap().clone();
        gateways.iter().map(|g| g["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let gone = |states: &[String]| states.iter().filter(|state| *state == "gone").count() == 1;
    until("one gateway said goodbye", || async { gone(&states().await).then_some(()) }).await;
    // It still serves, and follows the weights although nobody waits for it.
    assert_all_from(&leaves, "v1").await;
    let ran = control.cli(&["set-weight", "svc1", "v1=0", "v2=100"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    leaves.until_weights(&[0, 10_000]).await;
    assert_all_from(&leaves, "v2").await;
    assert_eq!(leaves.process.exit_within(Duration::from_secs(30)).await.unwrap().code(), Some(0));
    assert!(gone(&states().await), "nothing took the goodbye back: {:?}", states().await);
    let view = control.get("/v1/routes/svc1").await;
    let requests = |target: &str| view["routes"][0]["traffic"][target]["requests"].as_u64();
    assert_eq!((requests("v1"), requests("v2")), (Some(30), Some(30)), "{view:#}");
    let attempts = leaves.process.stderr().matches("weights taken").count();
    assert!(attempts < 10, "an equal version is no news: {attempts} lines");
    drop(stays);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs curl"]
async fn the_health_check_of_the_ecs_task_definition_passes_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let port = free_port().unwrap();
    let envs = [("ENVOY_ADMIN_ACCESS_PORT".to_owned(), port.to_string())];
    let gateway = spec(folder.path(), [1, 1], &backends).envs(&envs).live().await;
    assert_eq!(gateway.admin.port(), port, "the variable moves admin");
    let check = format!("curl -s http://localhost:{port}/server_info | grep state | grep -q LIVE");
    let health = || async {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&check);
        run(command).await.code
    };
    assert_eq!(health().await, 0, "{check}");
    gateway.process.terminate().unwrap();
    gateway.process.line("draining").await.unwrap();
    assert_ne!(health().await, 0, "a gateway that leaves is not healthy");
}
