//! Control killed, without its state, twice, and on a full disk: the fleet serves on and nothing moves by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use testkit::free_port;
use testkit::upstream::Upstream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::world::{Control, Gateway, Spec, assert_clean, loadtest, until, upstream};

/// Weights of the configuration count once; a test that finds them in force later has found a fault.
const ROUTES: &str = "{svc1: {targets: [v1, v2], stable: v1, weights: {v1: 99, v2: 1}}}";

/// Two gateways and their backends.
struct Fleet {
    gateways: Vec<Gateway>,
    _backends: [Upstream; 2],
}

impl Fleet {
    async fn start(folder: &Path, control: &str) -> Self {
        let backends = [upstream("v1"), upstream("v2")];
        let mut gateways = Vec::new();
        for name in ["one", "two"] {
            let spec = Spec::new(folder, name, &[("v1", 50), ("v2", 50)])
                .fixed("v1", &[backends[0].addr()])
                .fixed("v2", &[backends[1].addr()])
                .control(control);
            gateways.push(spec.start().await);
        }
        for gateway in &gateways {
            gateway.until_live().await;
        }
        Self { gateways, _backends: backends }
    }

    async fn assert_weights(&self, wanted: [u64; 2]) {
        for gateway in &self.gateways {
            assert_eq!(gateway.weights().await.0, wanted, "{}", gateway.spec.name);
        }
    }

    /// A load on every gateway, at 200 requests a second each.
    fn load(&self, words: &[&str]) -> Vec<tokio::task::JoinHandle<(i32, serde_json::Value)>> {
        let one = |gateway: &Gateway| {
            let url = gateway.url();
            let mut all = vec![words[0], &url, "--rate", "200/s"];
            all.extend_from_slice(&words[1..]);
            loadtest(&all)
        };
        self.gateways.iter().map(one).collect()
    }
}

async fn set(control: &Control, words: &[&str]) {
    let mut all = vec!["set-weight", "svc1"];
    all.extend_from_slice(words);
    let ran = control.cli(&all).await;
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_killed_in_the_middle_of_changes_comes_back_to_a_fleet_that_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let mut control = Control::start(folder.path(), "control", port, ROUTES, &[]).await;
    let fleet = Fleet::start(folder.path(), &control.url()).await;
    control.until_agreed(2).await;
    control.until_endpoints(2, &["v1", "v2"]).await;
    let loads = fleet.load(&["run", "--duration", "10s"]);
    for round in 0..3 {
        let changing = Arc::new(AtomicBool::new(true));
        let (flag, addr) = (Arc::clone(&changing), control.addr);
        let changes = tokio::spawn(async move {
            let mut made = 0;
            while flag.load(SeqCst) {
                let weights = ["v1=90 v2=10", "v1=80 v2=20"][made % 2];
                let body = serde_json::json!({"routes": {"svc1": weights}}).to_string();
                let text = format!(
                    "POST /v1/weights HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                // Ends when control dies under it.
                let Ok(mut client) = testkit::client::RawClient::connect(addr).await else { break };
                if client.send(text).await.is_err() || client.response("POST").await.is_err() {
                    break;
                }
                made += 1;
            }
            made
        });
        let version =
            || async { control.get("/v1/routes/svc1").await["control"]["version"].as_str().map(seq) };
        let before = version().await.unwrap();
        until("a few changes", || async { (version().await? >= before + 3 + round).then_some(()) }).await;
        control.process.kill().await.unwrap();
        assert!(changes.await.unwrap() > 0);
        changing.store(false, SeqCst);
        control = Control::start(folder.path(), "control", port, ROUTES, &[]).await;
        control.until_agreed(2).await;
        // Weights agree before versions do: a report may be faster than the first discovery answer.
        until("one version everywhere", || async {
            let mut versions = Vec::new();
            for gateway in &fleet.gateways {
                versions.push(gateway.weights().await.2);
            }
            let view = control.get("/v1/routes/svc1").await;
            let published = view["control"]["version"].as_str()?;
            versions.iter().all(|version| version == published).then_some(())
        })
        .await;
        set(&control, &["v1=70", "v2=30"]).await;
        fleet.assert_weights([7000, 3000]).await;
    }
    for load in loads {
        let (code, report) = load.await.unwrap();
        assert_clean(code, &report);
    }
}

fn seq(version: &str) -> u64 {
    version.split_once('.').unwrap().1.split_once('-').unwrap().0.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_without_its_state_moves_nothing_and_the_next_change_works() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let control = Control::start(folder.path(), "control", port, ROUTES, &[]).await;
    let fleet = Fleet::start(folder.path(), &control.url()).await;
    control.until_agreed(2).await;
    control.until_endpoints(2, &["v1", "v2"]).await;
    set(&control, &["v1=90", "v2=10"]).await;
    let loads = fleet.load(&["split", "--requests", "2000", "--expect", "v1=90,v2=10"]);
    control.process.kill().await.unwrap();
    std::fs::remove_file(&control.state).unwrap();
    let control = Control::start(folder.path(), "control", port, ROUTES, &[]).await;
    let view = control.until_agreed(2).await;
    assert_eq!((&view["weights"]["v1"], &view["weights"]["v2"]), (&9000.into(), &1000.into()), "{view:#}");
    for load in loads {
        let (code, report) = load.await.unwrap();
        assert_clean(code, &report);
    }
    fleet.assert_weights([9000, 1000]).await;
    set(&control, &["v2=20%"]).await;
    fleet.assert_weights([8000, 2000]).await;
}

/// Forwards connections to whoever is behind the name at the moment; a change cuts what is open.
struct Name {
    addr: SocketAddr,
    behind: watch::Sender<SocketAddr>,
}

impl Name {
    async fn start(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let behind = watch::Sender::new(behind);
        let reader = behind.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut reader = reader.clone();
                tokio::spawn(async move {
                    let target = *reader.borrow_and_update();
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = reader.changed() => {}
                    }
                });
            }
        });
        Self { addr, behind }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_controls_from_copies_of_one_state_one_moves_traffic_and_the_other_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Control::start(folder.path(), "origin", 0, ROUTES, &[]).await;
    let name = Name::start(origin.addr).await;
    let fleet = Fleet::start(folder.path(), &format!("http://{}", name.addr)).await;
    origin.until_agreed(2).await;
    origin.until_endpoints(2, &["v1", "v2"]).await;
    set(&origin, &["v1=70", "v2=30"]).await;
    origin.process.kill().await.unwrap();
    for copy in ["left", "right"] {
        std::fs::copy(&origin.state, folder.path().join(format!("{copy}.state.json"))).unwrap();
    }
    let left = Control::start(folder.path(), "left", 0, ROUTES, &[]).await;
    let right = Control::start(folder.path(), "right", 0, ROUTES, &[]).await;

    name.behind.send_replace(left.addr);
    left.until_agreed(2).await;
    set(&left, &["v1=60", "v2=40", "--force"]).await;
    fleet.assert_weights([6000, 4000]).await;
    let leader = left.get("/v1/routes").await["control"]["id"].as_str().unwrap().to_owned();

    name.behind.send_replace(right.addr);
    let fenced = until("the other control is fenced", || async {
        let control = right.get("/v1/routes").await["control"].clone();
        (control["phase"] == "fenced").then_some(control)
    })
    .await;
    assert!(fenced["message"].as_str().unwrap().contains(&leader), "{fenced:#}");
    let refused = right.cli(&["set-weight", "svc1", "v1=10", "v2=90", "--force"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains(&leader), "{refused:?}");
    fleet.assert_weights([6000, 4000]).await;

    name.behind.send_replace(left.addr);
    left.until_agreed(2).await;
    set(&left, &["v1=55", "v2=45", "--force"]).await;
    fleet.assert_weights([5500, 4500]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_a_raise_but_not_a_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::start(folder.path(), "control", 0, ROUTES, &[]).await;
    let fleet = Fleet::start(folder.path(), &control.url()).await;
    control.until_agreed(2).await;
    control.until_endpoints(2, &["v1", "v2"]).await;
    set(&control, &["v1=80", "v2=20"]).await;

    // Every byte written to the state's temporary file meets ENOSPC, for root too.
    let mut temporary = control.state.clone().into_os_string();
    temporary.push(".tmp");
    std::os::unix::fs::symlink("/dev/full", &temporary).unwrap();
    let refused = control.cli(&["set-weight", "svc1", "v1=50", "v2=50"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("No space left"), "{refused:?}");
    fleet.assert_weights([8000, 2000]).await;

    let rolled_back = control.cli(&["rollback", "svc1", "--reason", "v2 is broken"]).await;
    assert_eq!(rolled_back.code, 0, "{rolled_back:?}");
    fleet.assert_weights([10_000, 0]).await;
    assert_eq!(control.get("/v1/routes").await["control"]["saved"], false);

    std::fs::remove_file(&temporary).unwrap();
    until("the rollback is written", || async {
        (control.get("/v1/routes").await["control"]["saved"] == true).then_some(())
    })
    .await;
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&control.state).unwrap()).unwrap();
    assert_eq!(state["routes"]["svc1"]["weights"]["v2"], 0);
    set(&control, &["v2=5%"]).await;
    fleet.assert_weights([9500, 500]).await;
}
