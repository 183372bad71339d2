//! Break glass: `gateway override` beside a gateway, with control alive, dead and saying something else.

use gateway_config::wire::WeightSource;
use serde_json::Value;
use std::path::Path;
use testkit::client;

use super::world::{Control, Gateway, Ran, Spec, gateway_command, run, until, upstream};

const ROUTES: &str = "{svc1: {targets: [v1, v2], stable: v1, weights: {v1: 90, v2: 10}}}";

/// `gateway override WORDS...` as in the gateway's own task.
async fn override_at(gateway: &Gateway, words: &[&str]) -> Ran {
    let mut command = gateway_command(&[]);
    command.arg("override").args(words).args(["--admin", &format!("http://{}", gateway.admin)]);
    run(command).await
}

async fn start(folder: &Path, control: Option<&str>) -> (Gateway, [testkit::upstream::Upstream; 2]) {
    let backends = [upstream("v1"), upstream("v2")];
    let mut spec = Spec::new(folder, "gateway", &[("v1", 90), ("v2", 10)])
        .fixed("v1", &[backends[0].addr()])
        .fixed("v2", &[backends[1].addr()]);
    if let Some(url) = control {
        spec = spec.control(url);
    }
    (spec.live().await, backends)
}

/// `node.metadata.weir.overrides` of `/server_info`.
async fn shown(gateway: &Gateway) -> Value {
    let info = client::get(gateway.admin, "/server_info").await.unwrap().json().unwrap();
    info["node"]["metadata"]["weir"]["overrides"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_wins_over_control_is_seen_everywhere_and_gives_way_to_what_control_says_now() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::start(folder.path(), "control", 0, ROUTES, &[]).await;
    let (gateway, _backends) = start(folder.path(), Some(&control.url())).await;
    control.until_agreed(1).await;
    control.until_endpoints(1, &["v1", "v2"]).await;
    assert_eq!(gateway.stat("gateway.route.svc1.override_seconds_left").await, 0);

    let ran = override_at(&gateway, &["svc1", "v2", "--for", "60m"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in ["everything goes to v2", "for 1h, until 20", "gateway override svc1 --release"] {
        assert!(ran.stdout.contains(part), "{ran:?}");
    }
    for _ in 0..20 {
        assert_eq!(gateway.ask().await.header("x-served-by"), Some("v2"));
    }
    let left = shown(&gateway).await["svc1"].clone();
    assert!(left["target"] == "v2" && left["expires_seconds"].as_u64() > Some(3000), "{left}");
    assert!(gateway.stat("gateway.route.svc1.override_seconds_left").await > 3000);
    let scrape = client::get(gateway.admin, "/stats/prometheus").await.unwrap().text();
    for line in
        ["gateway_route_weight{route=\"svc1\",target=\"v2\"} 1\n", "{route=\"svc1\",source=\"override\"} 1\n"]
    {
        assert!(scrape.contains(line), "{line} in {scrape}");
    }
    // Control is told within a report, and does not count the gateway among those that have its weights.
    until("control knows of the override", || async {
        let view = control.get("/v1/routes/svc1").await;
        let text = view.to_string();
        (text.contains("\"override\"") && view["routes"][0]["agree"] == 0).then_some(())
    })
    .await;

    // What control says meanwhile waits, and is in force at once when the override is released.
    let (status, answer) = control.set("v1=75 v2=25").await;
    assert_eq!(status, 200, "{answer}");
    until("control's new weights have come", || async {
        (gateway.stat("gateway.discovery_update_success").await >= 2).then_some(())
    })
    .await;
    assert_eq!(gateway.weights().await.0, [0, 1]);
    let ran = override_at(&gateway, &["svc1", "--release"]).await;
    assert!(ran.code == 0 && ran.stdout.contains("v1=7500 v2=2500 (source: control)"), "{ran:?}");
    assert_eq!(gateway.weights().await.0, [7500, 2500]);
    assert_eq!(shown(&gateway).await, serde_json::json!({}));
    control.until_agreed(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_works_with_control_dead_and_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::start(folder.path(), "control", 0, ROUTES, &[]).await;
    let (gateway, _backends) = start(folder.path(), Some(&control.url())).await;
    gateway.until_weights(&[9000, 1000]).await;
    control.process.kill().await.unwrap();
    let ran = override_at(&gateway, &["svc1", "stable"]).await;
    assert!(ran.code == 0 && ran.stdout.contains("everything goes to v1"), "{ran:?}");
    assert_eq!(gateway.weights().await, (vec![1, 0], "override".to_owned(), String::new()));

    // A reload of the file does not end it.
    let text = gateway.spec.yaml().replace("domains: ['*']", "domains: ['*', extra.test]");
    super::world::write_whole(&gateway.spec.file(), &text);
    until("a reload", || async { (gateway.stat("gateway.config_reload_success").await >= 1).then_some(()) })
        .await;
    assert_eq!(gateway.weights().await.0, [1, 0]);

    let ran = override_at(&gateway, &["svc1", "v2", "--for", "1s"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    gateway.until_weights(&[9000, 1000]).await;
    gateway.process.line("the override is over").await.unwrap();
    assert_eq!(gateway.weights().await.1, "control");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_lists_what_there_is_and_its_exit_code_tells_unknown_from_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, _backends) = start(folder.path(), None).await;
    let ran = override_at(&gateway, &[]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "route svc1: v1=90 v2=10 (source: file)\n"));
    let ran = override_at(&gateway, &["svc9", "v1"]).await;
    assert!(ran.code == 2 && ran.stderr.contains("`svc9`") && ran.stderr.contains("it has: svc1"), "{ran:?}");
    let ran = override_at(&gateway, &["svc1", "v9"]).await;
    assert!(ran.code == 2 && ran.stderr.contains("its targets are: v1, v2, or `stable`"), "{ran:?}");
    let ran = override_at(&gateway, &["svc9", "--release"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    for words in
        [&["svc1"][..], &["svc1", "v1", "--for", "25h"], &["svc1", "v1", "--release"], &["--release"]]
    {
        assert_eq!(override_at(&gateway, words).await.code, 64, "{words:?}");
    }
    assert_eq!(gateway.weights().await, (vec![90, 10], "file".to_owned(), String::new()));

    let nobody = testkit::net::Reservation::new(testkit::net::ANY_PORT).unwrap();
    let mut command =
        gateway_command(&[("ENVOY_ADMIN_ACCESS_PORT".to_owned(), nobody.addr().port().to_string())]);
    command.args(["override", "svc1", "v1"]);
    let ran = run(command).await;
    let named = ran.stderr.contains(&format!("http://127.0.0.1:{}", nobody.addr().port()));
    assert!(ran.code == 1 && named && ran.stderr.contains("--admin"), "{ran:?}");

    // A route of a file alone can be overridden too; what has no endpoints is said.
    let ran = override_at(&gateway, &["svc1", "stable", "--for", "90s"]).await;
    assert!(ran.code == 0 && ran.stdout.contains("for 1m30s"), "{ran:?}");
    let ran = override_at(&gateway, &[]).await;
    assert!(
        ran.stdout.contains("everything goes to v1 by override") && ran.stdout.contains("--release"),
        "{ran:?}"
    );
    assert_eq!(gateway.weights().await.1, serde_json::to_value(WeightSource::Override).unwrap());
}
