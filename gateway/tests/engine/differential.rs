//! The recorded exchanges with the real Envoy, replayed against this gateway by the harness that recorded them.
//!
//! The harness and its recordings are kept beside the repository, not in it; without them there is nothing to compare with.
//! What may differ, and why, is in `accepted_differences.txt`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::process::Process;

/// Variants of Envoy's configuration that this gateway can be given.
const VARIANTS: &str =
    "base,hops,sidecar,trailers,vhost,errors,timeout,breaker,websocket,h2,rewrite,weighted,match";
/// Cases of these variants that need what this gateway does not have.
const NOT_SUPPORTED: [&str; 14] = [
    "err-no-cluster",
    "err-no-healthy-head",
    "err-no-healthy-grpc",
    "err-no-healthy-accept-json",
    "err-tls-required",
    "retry-attempt-count",
    "rewrite-forwarded-host",
    "weighted-header-0",
    "weighted-header-89",
    "weighted-header-90",
    "match-sep",
    "match-regex-partial",
    "match-query-no",
    "match-method",
];

fn harness() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/envoy/differential.py");
    folder.is_file().then_some(folder)
}

fn accepted(lenient: bool) -> BTreeMap<&'static str, &'static str> {
    let text = include_str!("accepted_differences.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    lines.filter(|(_, why)| !(lenient && why.starts_with("strict:"))).collect()
}

struct Ports {
    v1: u16,
    v2: u16,
    refused: u16,
    blackhole: u16,
}

fn listening(gateway: &Process, name: &str) -> SocketAddr {
    let needle = format!("listening name=\"{name}\"");
    let line = gateway.lines_since(0).into_iter().find(|line| line.text.contains(&needle)).unwrap();
    line.text.rsplit_once("address=").unwrap().1.trim().parse().unwrap()
}

async fn compare(lenient: bool) {
    let Some(harness) = harness() else {
        println!("not compared with Envoy: ../shared/envoy is not there");
        return;
    };
    let port = || testkit::free_port().unwrap();
    let ports = Ports { v1: port(), v2: port(), refused: port(), blackhole: port() };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.yaml");
    let mut text = include_str!("differential.yaml")
        .replace("BLACKHOLE", &ports.blackhole.to_string())
        .replace("REFUSED", &ports.refused.to_string())
        .replace("V1", &ports.v1.to_string())
        .replace("V2", &ports.v2.to_string());
    if lenient {
        text = text.replace("http_connection_manager:\n", "http_connection_manager:\n      lenient: true\n");
    }
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    let gateway =
        Process::spawn("gateway", command.arg("--config").arg(&config).args(["--concurrency", "1"])).unwrap();
    gateway.line(" live").await.unwrap();
    let report = folder.path().join("report.json");
    let mut python = Command::new("python3");
    python.arg(&harness).arg("--gateway").arg(listening(&gateway, "base").to_string());
    for name in ["hops", "sidecar", "trailers"] {
        python.arg("--map").arg(format!("{name}={}", listening(&gateway, name)));
    }
    for (flag, port) in [("--v1", ports.v1), ("--v2", ports.v2), ("--blackhole", ports.blackhole)] {
        python.arg(flag).arg(port.to_string());
    }
    python.args(["--variant", VARIANTS, "--quiet", "--json"]).arg(&report);
    let replay = Process::spawn("differential.py", &mut python).unwrap();
    replay.exit_within(std::time::Duration::from_secs(300)).await.unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert!(cases.len() > 140, "{} cases: {}", cases.len(), replay.tail());
    let accepted = accepted(lenient);
    let mut same = 0;
    let mut unexpected = Vec::new();
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let different = case["verdict"] != "same";
        if NOT_SUPPORTED.contains(&id) {
            continue;
        }
        match (different, accepted.get(id)) {
            (false, None) => same += 1,
            (true, Some(_)) => {}
            (false, Some(why)) if why.starts_with("sometimes:") => same += 1,
            (true, None) => unexpected.push(format!("{id}: {case}")),
            (false, Some(why)) => unexpected.push(format!("{id} does not differ any more: {why}")),
        }
    }
    let (all, differ, beyond) = (cases.len(), accepted.len(), NOT_SUPPORTED.len());
    println!(
        "{same} of {all} recorded exchanges are the same, {differ} may differ, {beyond} are not supported"
    );
    assert!(unexpected.is_empty(), "{}\n{}", unexpected.join("\n"), replay.tail());
}

#[tokio::test]
#[ignore = "needs python3"]
async fn recorded_exchanges_are_the_same_as_with_envoy() {
    compare(false).await;
}

#[tokio::test]
#[ignore = "needs python3"]
async fn lenient_is_the_same_as_envoy_where_strict_is_not() {
    compare(true).await;
}
