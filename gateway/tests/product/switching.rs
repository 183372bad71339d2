//! Two hundred weight changes in twenty seconds: never a request for a target that its version does not allow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;
use testkit::standin::Standin;
use testkit::upstream::Upstream;

use super::load::{Load, Sent};
use super::world::{Control, Gateway, Spec, route_spec, until, upstream};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ROUTES: &str = "{svc1: {targets: [a, b, c, d], stable: a, weights: {a: 50, b: 50, c: 0, d: 0}, app_mesh: {mesh: demo, \
                      virtual_router: svc1, route: svc1, targets: {a: node-a, b: node-b, c: node-c, d: node-d}}}}";
const CHANGES: usize = 200;
const EVERY: Duration = Duration::from_millis(100);

fn seq(version: &str) -> u64 {
    let rest = version.split_once('.').unwrap_or_else(|| panic!("version {version:?}")).1;
    rest.split_once('-').unwrap().0.parse().unwrap()
}

/// Sent requests and log lines of one gateway, judged.
async fn judge(gateway: &Gateway, sent: Vec<Sent>, allowed: &BTreeMap<u64, [&str; 2]>) -> usize {
    let lines = gateway.log_lines(sent.len()).await;
    assert_eq!(lines.len(), sent.len(), "one line per request");
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let by_path: BTreeMap<String, &Value> = lines.iter().map(|line| (text(line, "path"), line)).collect();
    for request in &sent {
        let body = request.answer.as_ref().unwrap_or_else(|error| panic!("{}: {error}", request.path));
        let line = by_path[&request.path];
        let version = seq(&text(line, "route_version"));
        let cluster = text(line, "upstream_cluster");
        assert!(body.contains(&format!("service {cluster}\"")), "{body} but {line}");
        let allowed = allowed.get(&version).unwrap_or_else(|| panic!("a version nobody made: {line}"));
        assert!(allowed.contains(&cluster.as_str()), "weight 0 in its own version: {line}");
        assert!(
            version >= request.floor,
            "older than {}, acknowledged before it began: {line}",
            request.floor
        );
    }
    sent.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_meets_a_target_that_its_version_gives_nothing_in_200_changes_in_20_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start().unwrap();
    let nodes = |weights: [u64; 4]| {
        let named =
            [("node-a", weights[0]), ("node-b", weights[1]), ("node-c", weights[2]), ("node-d", weights[3])];
        route_spec(&named)
    };
    standin.set_route("demo", "svc1", "svc1", nodes([50, 50, 0, 0]));
    let control = Control::start(folder.path(), "control", 0, ROUTES, &standin.envs()).await;
    let backends: Vec<Upstream> = NAMES.iter().map(|name| upstream(name)).collect();
    let mut gateways = Vec::new();
    for name in ["one", "two"] {
        let mut spec = Spec::new(folder.path(), name, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        for backend in &backends {
            spec = spec.fixed(backend.name(), &[backend.addr()]);
        }
        gateways.push(spec.control(control.url()).live().await);
    }
    let first = control.until_agreed(2).await;
    control.until_endpoints(2, &NAMES).await;

    let mut allowed = BTreeMap::from([(seq(first["version"].as_str().unwrap()), ["a", "b"])]);
    let floor = Arc::new(AtomicU64::new(0));
    let loads: Vec<Load> = gateways
        .iter()
        .map(|gateway| Load::start(gateway.data, 8, Duration::from_millis(40), &floor))
        .collect();
    let mut tick = tokio::time::interval(EVERY);
    let mut slowest = 0;
    for change in 0..CHANGES {
        tick.tick().await;
        let (text, pair) = match change % 2 {
            0 => ("a=0 b=0 c=30 d=70", ["c", "d"]),
            _ => ("a=60 b=40 c=0 d=0", ["a", "b"]),
        };
        let (status, outcome) = control.set(text).await;
        assert_eq!((status, outcome["acknowledged"].as_u64()), (200, Some(2)), "{outcome:#}");
        slowest = slowest.max(outcome["elapsed_ms"].as_u64().unwrap());
        let version = seq(outcome["version"].as_str().unwrap());
        allowed.insert(version, pair);
        floor.store(version, SeqCst);
    }
    let mut requests = 0;
    for (gateway, load) in gateways.iter().zip(loads) {
        requests += judge(gateway, load.end().await, &allowed).await;
    }
    println!("{CHANGES} changes, {requests} requests, the slowest change took {slowest} ms at two gateways");
    assert!(requests > 2_000, "only {requests} requests");

    until("App Mesh equal to the last change, all else as it was", || async {
        (standin.route("demo", "svc1", "svc1")?["spec"] == nodes([60, 40, 0, 0])).then_some(())
    })
    .await;
}
