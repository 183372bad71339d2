//! The real binary: killed, restarted, twinned, misfed; and its command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod support;

use gateway_config::wire::WeightSource;
use serde_json::json;
use std::path::{Path, PathBuf};
use support::{FakeGateway, ROUTES, Remote, cli, config_text};

/// Held requests of these tests: short beside the client's patience.
const WAIT: u64 = 5;

fn config(folder: &Path, name: &str, rest: &str) -> PathBuf {
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, config_text(&folder.join(format!("{name}.json")), rest)).unwrap();
    file
}

async fn begun(config: &Path) -> (Remote, FakeGateway, support::Running) {
    let control = Remote::start(config, &[]).await;
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&control.target, WAIT);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    (control, gateway, running)
}

#[tokio::test]
async fn control_that_is_killed_amid_changes_goes_on_with_what_it_had_promised() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "control", ROUTES);
    let (control, gateway, running) = begun(&config).await;
    let target = control.target.clone();
    let changes = tokio::spawn(async move {
        let mut promised = 1;
        for weight in (2..=100).cycle() {
            let body = json!({"routes": {"svc1": format!("v2={weight}")}}).to_string();
            match target.send("POST", "/v1/weights", &[], &body).await {
                Some(answer) if answer.status == 200 => promised = weight,
                _ => return (promised, weight),
            }
        }
        unreachable!("the cycle has no end");
    });
    // Killed once a few changes have gone through.
    let mut served = gateway.served.subscribe();
    served.wait_for(|served| served.taken.len() > 5).await.unwrap();
    control.process.kill().await.unwrap();
    let (promised, in_flight) = changes.await.unwrap();
    drop(running);
    let again = Remote::start(&config, &[]).await;
    let view = again.target.get("/v1/routes/svc1").await.json();
    let now = view["routes"][0]["weights"]["v2"].as_u64().unwrap();
    assert!(now == promised * 100 || now == in_flight * 100, "{now}, promised {promised}, then {in_flight}");
    let _running = gateway.run(&again.target, WAIT);
    let outcome = again.target.set("svc1", "v2=33").await.json();
    assert_eq!(outcome["acknowledged"], 1, "{outcome}");
    gateway.serves("svc1", &[("v1", 67), ("v2", 33)]).await;
}

#[tokio::test]
async fn a_bad_state_file_is_refused_with_path_and_cure_and_recover_begins_from_the_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "control", ROUTES);
    let (control, gateway, running) = begun(&config).await;
    control.target.set("svc1", "v2=10").await;
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    control.process.kill().await.unwrap();
    drop(running);
    let state = folder.path().join("control.json");
    let whole = std::fs::read_to_string(&state).unwrap();
    let newer = whole.replacen("\"major\": 1", "\"major\": 2", 1);
    for (bad, why) in [
        (&whole[..whole.len() / 2], "not a whole JSON document"),
        ("", "empty"),
        ("not json", "not a whole JSON document"),
        (newer.as_str(), "format 2 is newer"),
    ] {
        std::fs::write(&state, bad).unwrap();
        let process = Remote::spawn(&config, &[]);
        assert_eq!(process.exit().await.unwrap().code(), Some(1));
        let text = process.stderr();
        assert!(text.contains("control.json") && text.contains(why) && text.contains("--recover"), "{text}");
        assert_eq!(std::fs::read_to_string(&state).unwrap(), bad, "kept");
    }
    let again = Remote::start(&config, &["--recover"]).await;
    let _running = gateway.run(&again.target, WAIT);
    let outcome = again.target.set("svc1", "v2=20").await.json();
    assert_eq!(outcome["routes"]["svc1"]["from"]["v2"], 1_000, "adopted, not the configuration: {outcome}");
    assert_eq!(outcome["acknowledged"], 1, "{outcome}");
    assert!(folder.path().join("control.json.before-recover-1").exists());
}

#[tokio::test]
async fn a_lost_state_moves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "control", ROUTES);
    let (control, gateway, running) = begun(&config).await;
    control.target.set("svc1", "v2=10").await;
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    control.process.kill().await.unwrap();
    drop(running);
    std::fs::remove_file(folder.path().join("control.json")).unwrap();
    let mark = gateway.served.borrow().taken.len();
    let again = Remote::start(&config, &[]).await;
    let _running = gateway.run(&again.target, WAIT);
    let (code, stdout, stderr) = cli(again.addr, &["set-weight", "svc1", "v2=20"]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("v1 90 %, v2 10 % -> v1 80 %, v2 20 %"), "{stdout}");
    assert!(gateway.served.borrow().taken.len() > mark);
}

#[tokio::test]
async fn two_controls_from_copies_of_one_state_do_not_both_move_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let first_config = config(folder.path(), "first", ROUTES);
    let second_config = config(folder.path(), "second", ROUTES);
    let (first, gateway, running) = begun(&first_config).await;
    std::fs::copy(folder.path().join("first.json"), folder.path().join("second.json")).unwrap();
    first.target.set("svc1", "v2=10").await;
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    let second = Remote::start(&second_config, &[]).await;
    drop(running);
    gateway.ask(&second.target, 0).await;
    let (code, stdout, stderr) = cli(second.addr, &["set-weight", "svc1", "v2=50"]).await;
    assert_eq!(code, 1, "{stdout}");
    assert!(stderr.contains("is ahead of") && stderr.contains("cure:"), "{stderr}");
    let (_, stdout, _) = cli(second.addr, &["get"]).await;
    assert!(stdout.contains("fenced: control") && stdout.contains("g1"), "{stdout}");
    let _running = gateway.run(&first.target, WAIT);
    let (code, stdout, _) = cli(first.addr, &["set-weight", "svc1", "v2=20"]).await;
    assert_eq!(code, 0, "{stdout}");
    gateway.serves("svc1", &[("v1", 80), ("v2", 20)]).await;
    // And a second process on the very same file does not even start.
    let third = Remote::spawn(&first_config, &[]);
    assert_eq!(third.exit().await.unwrap().code(), Some(1));
    assert!(third.stderr().contains("another control is running"), "{}", third.stderr());
}

#[tokio::test]
async fn a_disk_that_takes_no_more_bytes_does_not_stop_a_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "control", ROUTES);
    let (control, gateway, running) = begun(&config).await;
    control.target.set("svc1", "v2=50").await;
    gateway.serves("svc1", &[("v1", 50), ("v2", 50)]).await;
    control.process.kill().await.unwrap();
    drop(running);
    // Every write to a file fails from here on, for root too: the size limit stands in for a full disk.
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg("trap '' XFSZ; ulimit -f 0; exec \"$0\" serve --config \"$1\"");
    command.arg(support::binary()).arg(&config);
    let process = testkit::process::Process::spawn("control", &mut command).unwrap();
    let line = process.line("control listens on http://").await.unwrap();
    let addr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    let _running = gateway.run(&support::Target::There(addr), WAIT);
    let (code, _, stderr) = cli(addr, &["set-weight", "svc1", "v2=60"]).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("could not be written") && stderr.contains("control rollback"), "{stderr}");
    let (code, stdout, stderr) = cli(addr, &["rollback", "svc1", "--reason", "errors"]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stderr.contains("not saved"), "{stderr}");
    gateway.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
}

#[tokio::test]
async fn the_command_line_says_what_happened_in_words_json_and_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "control", ROUTES);
    let control = Remote::start(&config, &[]).await;
    let (code, stdout, _) = cli(control.addr, &["get"]).await;
    assert_eq!((code, stdout.lines().next()), (4, Some("svc1: the weights are not known yet")));
    let (code, stdout, _) = cli(control.addr, &["set-weight", "svc1", "v2=1", "--timeout", "100ms"]).await;
    assert_eq!(code, 4, "{stdout}");
    assert!(stdout.contains("stored; no gateway is connected"), "{stdout}");
    let gateway = FakeGateway::fresh("g1");
    let _running = gateway.run(&control.target, WAIT);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let report = gateway.report(1, &[("v1", endpoints(1)), ("v2", endpoints(1))]);
    gateway.send_report(&control.target, &report).await;
    let (code, stdout, _) =
        cli(control.addr, &["set-weight", "svc1", "v1=90", "v2=10", "--reason", "why not"]).await;
    assert_eq!(code, 0, "{stdout}");
    assert!(stdout.contains("1/1 gateways at") && stdout.contains("after"), "{stdout}");
    let (_, stdout, _) = cli(control.addr, &["get", "svc1"]).await;
    assert_eq!(
        stdout.lines().next(),
        Some("svc1: v1 90 %, v2 10 %, both healthy, 1 gateway agrees"),
        "{stdout}"
    );
    let (_, stdout, _) = cli(control.addr, &["history", "svc1"]).await;
    assert!(stdout.contains("alice@") && stdout.contains("why not"), "{stdout}");
    let (code, stdout, _) = cli(control.addr, &["get", "--json"]).await;
    let view: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &view["routes"][0]["weights"]["v2"]), (0, &json!(1_000)));
    let (code, stdout, _) = cli(control.addr, &["stable", "svc1", "v2", "--build", "42"]).await;
    assert_eq!(code, 0, "{stdout}");
    let (_, stdout, _) = cli(control.addr, &["gateways"]).await;
    assert!(stdout.contains("g1") && stdout.contains("weir"), "{stdout}");
    let deaf = FakeGateway::new("deaf", "svc1", &[("v1", 1)], WeightSource::File);
    deaf.ask(&control.target, 0).await;
    let glass = FakeGateway::new("glass", "svc1", &[("v1", 1)], WeightSource::Override);
    glass.ask(&control.target, 0).await;
    let (code, _, stderr) = cli(control.addr, &["set-weight", "svc1", "v1=50", "--timeout", "300ms"]).await;
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("missing: deaf") && stderr.contains("overridden: glass"), "{stderr}");
    let (_, stdout, _) = cli(control.addr, &["get", "svc1"]).await;
    assert!(stdout.lines().next().unwrap().contains("1 overridden"), "{stdout}");
    assert_eq!(cli(control.addr, &["gateways", "forget", "deaf"]).await.0, 0);
    for (args, code) in [
        (vec!["set-weight", "svc9", "v2=1"], 2),
        (vec!["set-weight", "svc1", "v9=1"], 2),
        (vec!["set-weight", "svc1", "v1"], 2),
        (vec!["rollback"], 2),
        (vec!["gateways", "forget", "nobody"], 2),
        (vec!["--json", "rollback", "svc9"], 2),
    ] {
        let (got, stdout, stderr) = cli(control.addr, &args).await;
        assert_eq!(got, code, "{args:?}: {stdout}{stderr}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
    let nobody = testkit::free_port().unwrap();
    let (code, _, stderr) = cli(([127, 0, 0, 1], nobody).into(), &["get"]).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("is `control serve` running there?"), "{stderr}");
}

fn endpoints(healthy: u32) -> gateway_config::wire::TargetReport {
    gateway_config::wire::TargetReport {
        endpoints: healthy,
        endpoints_healthy: healthy,
        ..Default::default()
    }
}

#[tokio::test]
async fn get_watch_shows_again_when_something_changes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "control", ROUTES);
    let (control, _gateway, _running) = begun(&config).await;
    let mut command = std::process::Command::new(support::binary());
    command.args(["--url", &format!("http://{}", control.addr), "get", "svc1", "--watch"]);
    let watch = testkit::process::Process::spawn("watch", &mut command).unwrap();
    watch.line("svc1: v1 99 %, v2 1 %").await.unwrap();
    control.target.set("svc1", "v2=10").await;
    watch.line("svc1: v1 90 %, v2 10 %").await.unwrap();
    // Started again on the same port: the watch goes on.
    control.process.kill().await.unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("127.0.0.1:0", &control.addr.to_string())).unwrap();
    let again = Remote::start(&config, &[]).await;
    again.target.post("/v1/weights", &json!({"routes": {"svc1": "v2=20"}, "timeout_ms": 1})).await;
    watch.line("svc1: v1 80 %, v2 20 %").await.unwrap();
}

#[tokio::test]
async fn a_change_just_before_the_end_reaches_app_mesh() {
    let folder = tempfile::tempdir().unwrap();
    let standin = testkit::standin::Standin::start().unwrap();
    let spec = json!({"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": [
        {"virtualNode": "n1", "weight": 100}, {"virtualNode": "n2", "weight": 0}]}}});
    standin.set_route("m", "r", "main", spec);
    let sync = "app_mesh: {mesh: m, virtual_router: r, route: main, targets: {v1: n1, v2: n2}}";
    let routes = format!("routes:\n  svc1: {{targets: [v1, v2], stable: v1, {sync}}}\n");
    let config = config(folder.path(), "control", &routes);
    let mut command = std::process::Command::new(support::binary());
    command.args(["serve", "--config"]).arg(&config).envs(standin.envs());
    let process = testkit::process::Process::spawn("control", &mut command).unwrap();
    let line = process.line("control listens on http://").await.unwrap();
    let target = support::Target::There(line.rsplit("http://").next().unwrap().trim().parse().unwrap());
    // The first answer fails, so that the write is still to be done when control is told to end.
    let throttle = testkit::standin::Kind::Throttle;
    let fault = testkit::standin::Fault::of(testkit::standin::Service::AppMesh, throttle).times(1);
    standin.faults().add(fault);
    let body = json!({"routes": {"svc1": "v2=30"}, "timeout_ms": 1, "force": true});
    let asked = tokio::spawn(async move { target.post("/v1/weights", &body).await });
    standin.until_requests("DescribeRoute", 1).await.unwrap();
    process.terminate().unwrap();
    assert_eq!(process.exit().await.unwrap().code(), Some(0));
    assert_eq!(asked.await.unwrap().status, 200);
    assert_eq!(standin.route_weights("m", "r", "main"), [("n1".to_owned(), 70), ("n2".to_owned(), 30)]);
}

#[tokio::test]
async fn an_open_address_without_tokens_and_a_taken_port_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |listen: &str| {
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, format!("listen: {listen}\n{ROUTES}")).unwrap();
        file
    };
    let process = Remote::spawn(&write("0.0.0.0:0"), &[]);
    assert_eq!(process.exit().await.unwrap().code(), Some(1));
    assert!(process.stderr().contains("tokens"), "{}", process.stderr());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = folder.path().join("taken.yaml");
    let state = folder.path().join("taken.json");
    std::fs::write(&file, format!("listen: {address}\nstate: {{file: {}}}\n{ROUTES}", state.display()))
        .unwrap();
    let process = Remote::spawn(&file, &[]);
    assert_eq!(process.exit().await.unwrap().code(), Some(1));
    let text = process.stderr();
    assert!(text.contains(&address.to_string()) && text.contains("`listen`"), "{text}");
    // A start that came to nothing used up no epoch: the state of a control that ran before is as it was.
    let again = std::fs::read_to_string(&file).unwrap().replace(&address.to_string(), "127.0.0.1:0");
    std::fs::write(&file, again).unwrap();
    let control = Remote::start(&file, &[]).await;
    control.target.post("/v1/weights", &json!({"routes": {"svc1": "v2=5"}, "timeout_ms": 1})).await;
    control.process.kill().await.unwrap();
    let before = std::fs::read_to_string(&state).unwrap();
    std::fs::write(
        &file,
        std::fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &address.to_string()),
    )
    .unwrap();
    assert_eq!(Remote::spawn(&file, &[]).exit().await.unwrap().code(), Some(1));
    assert_eq!(std::fs::read_to_string(&state).unwrap(), before);
}

#[tokio::test]
async fn every_fault_of_a_configuration_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, "lissten: x\nroutes:\n  svc1: {targets: [v1], stable: v9}\n").unwrap();
    let process = Remote::spawn(&file, &[]);
    assert_eq!(process.exit().await.unwrap().code(), Some(1));
    let text = process.stderr();
    assert!(text.contains("lissten") && text.contains("v9") && text.contains("bad.yaml:1"), "{text}");
}

#[tokio::test]
async fn sigterm_answers_who_waits_and_ends_with_zero() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "control", ROUTES);
    let (control, gateway, running) = begun(&config).await;
    drop(running);
    let mut request = gateway.request();
    request.version_info = gateway.served.borrow().version.clone();
    let target = control.target.clone();
    let held = tokio::spawn(async move { target.discover(&request, 15).await });
    // The held request has been heard when the revision moves on from what it was before.
    let before = control.target.get("/v1/routes").await.json()["control"]["revision"].as_u64().unwrap();
    if before < 4 {
        control.target.get(&format!("/v1/routes?after={before}&wait=2")).await;
    }
    control.process.terminate().unwrap();
    assert_eq!(control.process.exit().await.unwrap().code(), Some(0));
    let answer = held.await.unwrap();
    assert!(answer.is_none_or(|answer| answer.status == 200), "answered, or never accepted");
}

#[tokio::test]
#[ignore = "needs prometheus"]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("control.yaml");
    std::fs::write(&config, config_text(&folder.path().join("state.json"), ROUTES)).unwrap();
    let control = Remote::start(&config, &[]).await;
    let metrics = control.target.get("/metrics").await.text;
    assert_eq!(testkit::process::promtool_check_metrics(&metrics).unwrap(), "");
}

#[tokio::test]
async fn the_configuration_may_be_the_text_of_a_variable_and_one_of_both_must_be() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |config: Option<&str>| {
        let mut command = std::process::Command::new(support::binary());
        command.arg("serve").env_remove("CONTROL_CONFIG");
        if let Some(config) = config {
            command.env("CONTROL_CONFIG", config);
        }
        testkit::process::Process::spawn("control", &mut command).unwrap()
    };
    let good = serve(Some(&config_text(&folder.path().join("state.json"), ROUTES)));
    good.line("control listens on http://").await.unwrap();
    good.terminate().unwrap();
    assert_eq!(good.exit().await.unwrap().code(), Some(0));
    for (config, words) in [
        (None, "no configuration: name a file"),
        (Some(" "), "CONTROL_CONFIG"),
        (Some("routes: 7"), "CONTROL_CONFIG:1:"),
    ] {
        let bad = serve(config);
        bad.line(words).await.unwrap();
        assert_eq!(bad.exit().await.unwrap().code(), Some(1), "{config:?}");
    }
}
