//! `control apply`, as a pipeline runs it, and the exit codes of looking.

use super::support::{FakeGateway, Local, ROUTES, Remote, cli, config_text};
use serde_json::json;

async fn begun(folder: &tempfile::TempDir) -> (Remote, FakeGateway, super::support::Running) {
    let file = folder.path().join("control.yaml");
    std::fs::write(&file, config_text(&folder.path().join("state.json"), ROUTES)).unwrap();
    let control = Remote::start(&file, &[]).await;
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&control.target, 5);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    (control, gateway, running)
}

fn file(folder: &tempfile::TempDir, one: u32, two: u32) -> String {
    let text = json!({"app_name": "shop", "service1_name": "shop-svc1-v1", "service1_port": 3000,
        "service2_name": "shop-svc1-v2", "traffic_weight_route1": one, "traffic_weight_route2": two,
        "setLatestStableOnce": false, "setLatestStable": false});
    let path = folder.path().join("app.properties.json");
    std::fs::write(&path, text.to_string()).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_file_is_applied_says_what_it_took_and_changes_nothing_the_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = begun(&folder).await;
    let path = file(&folder, 70, 30);
    let (code, out, err) = cli(control.addr, &["apply", &path, "--route", "svc1", "--reason", "r42"]).await;
    assert_eq!(code, 0, "{out} {err}");
    assert!(out.contains("v1 70 %, v2 30 %"), "{out}");
    assert!(err.contains("service1 `shop-svc1-v1` is v1 (the names end alike)"), "{err}");
    assert!(err.contains("service2 `shop-svc1-v2` is v2"), "{err}");
    gateway.serves("svc1", &[("v1", 70), ("v2", 30)]).await;
    let (code, out, _) = cli(control.addr, &["apply", &path, "--route", "svc1"]).await;
    assert_eq!((code, out.as_str()), (0, "svc1: nothing to change: v1 70 %, v2 30 %\n"));
    let history = control.target.get("/v1/routes/svc1/history").await.json();
    let entries = history["history"].as_array().unwrap();
    assert_eq!(entries.iter().filter(|entry| entry["kind"] == "set").count(), 1, "{history}");
    assert_eq!(entries.last().unwrap()["reason"], "r42");
}

#[tokio::test]
async fn what_a_file_leaves_open_is_asked_for_and_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let ninety = file(&folder, 70, 20);
    let strange = json!({"service1_name": "old", "service2_name": "new", "traffic_weight_route1": 60,
        "traffic_weight_route2": 40, "setLatestStable": true})
    .to_string();
    for (args, said, cure) in [
        (vec!["apply", &ninety], "70 + 20 = 90, not 100", "--normalize"),
        (
            vec!["apply", "--text", &strange],
            "`old` is none of the targets",
            "--map service1=v1 (one of v1, v2)",
        ),
        (vec!["apply", "--text", "{"], "not an app.properties.json", "service1_name"),
        (vec!["apply", "/nowhere.json"], "/nowhere.json", "stdin"),
    ] {
        let args: Vec<&str> = args.into_iter().chain(["--route", "svc1"]).collect();
        let (code, _, err) = cli(control.addr, &args).await;
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(said) && err.contains(cure), "{err}");
    }
    let (code, _, err) = cli(control.addr, &["apply", &ninety, "--route", "svc9"]).await;
    assert_eq!(code, 2);
    assert!(err.contains("no route `svc9`"), "{err}");
    let map = ["apply", "--text", &strange, "--route", "svc1", "--map", "service1=v1,service2=v2"];
    let (code, out, err) = cli(control.addr, &map).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("v1 60 %, v2 40 %") && err.contains("note: setLatestStable is true"), "{out} {err}");
    let (code, out, _) = cli(control.addr, &["apply", &ninety, "--route", "svc1", "--normalize"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("v1 77.78 %, v2 22.22 %"), "{out}");
}

#[tokio::test]
async fn a_canary_that_was_rolled_back_is_not_raised_again_without_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = begun(&folder).await;
    let path = file(&folder, 70, 30);
    let apply = ["apply", path.as_str(), "--route", "svc1"];
    assert_eq!(cli(control.addr, &apply).await.0, 0);
    assert_eq!(cli(control.addr, &["rollback", "svc1", "--reason", "errors in v2"]).await.0, 0);
    let (code, _, err) = cli(control.addr, &apply).await;
    assert_eq!(code, 1);
    assert!(err.contains("rolled back from v1 70 %, v2 30 % at ") && err.contains("alice@"), "{err}");
    assert!(err.contains("errors in v2") && err.contains("--force"), "{err}");
    gateway.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
    let forced: Vec<&str> = apply.into_iter().chain(["--force"]).collect();
    assert_eq!(cli(control.addr, &forced).await.0, 0);
    gateway.serves("svc1", &[("v1", 70), ("v2", 30)]).await;
    // Another build is another canary.
    assert_eq!(cli(control.addr, &["rollback", "svc1"]).await.0, 0);
    assert_eq!(cli(control.addr, &["stable", "svc1", "v1", "--build", "b2"]).await.0, 0);
    assert_eq!(cli(control.addr, &apply).await.0, 0);
}

#[tokio::test]
async fn another_build_is_raised_after_a_rollback_and_the_same_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = begun(&folder).await;
    let path = file(&folder, 70, 30);
    let apply = async |build: &str| {
        cli(control.addr, &["apply", &path, "--route", "svc1", "--reason", "r", "--build", build]).await
    };
    assert_eq!(apply("b1").await.0, 0);
    // Deployed under a share that stays: from now on it is this one.
    let (code, out, _) = apply("b2").await;
    assert!(code == 0 && !out.contains("nothing to change"), "{out}");
    let (code, out, _) = apply("b2").await;
    assert!(code == 0 && out.contains("nothing to change"), "{out}");
    let history = cli(control.addr, &["history", "svc1"]).await.1;
    assert!(history.contains(": r [build b2]"), "{history}");
    assert_eq!(cli(control.addr, &["rollback", "svc1"]).await.0, 0);
    let (code, _, err) = apply("b2").await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("svc1 was rolled back") && err.contains("--build ID"), "{err}");
    assert_eq!(cli(control.addr, &["apply", &path, "--route", "svc1"]).await.0, 1, "no build is any build");
    assert_eq!(apply("b 3").await.0, 2);
    assert_eq!(apply("b3").await.0, 0);
    gateway.serves("svc1", &[("v1", 70), ("v2", 30)]).await;
}

#[tokio::test]
async fn a_file_waits_for_nobody_elses_change() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, running) = begun(&folder).await;
    // Nobody acknowledges any more: the next change is under way until its time is over.
    drop(running);
    let path = file(&folder, 70, 30);
    let target = control.target.clone();
    let slow = tokio::spawn(async move {
        let body = json!({"routes": {"svc1": "v2=5"}, "timeout_ms": 60_000});
        target.post("/v1/weights", &body).await
    });
    control.process.line("published").await.unwrap();
    let (code, _, err) = cli(control.addr, &["apply", &path, "--route", "svc1"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("a change of svc1 by alice@laptop is under way since 2"), "{err}");
    assert_eq!(
        cli(control.addr, &["rollback", "svc1", "--timeout", "1ms"]).await.0,
        3,
        "a rollback is never held up"
    );
    slow.abort();
}

#[tokio::test]
async fn no_gateway_at_all_has_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control.yaml");
    std::fs::write(&file, config_text(&folder.path().join("state.json"), ROUTES)).unwrap();
    let control = Remote::start(&file, &[]).await;
    for args in [vec!["get"], vec!["get", "svc1"], vec!["gateways"], vec!["--json", "get"]] {
        let (code, out, err) = cli(control.addr, &args).await;
        assert_eq!(code, 4, "{args:?} {out} {err}");
        assert!(args[0] == "--json" || out.contains("no gateway"), "{out}");
    }
    let gateway = FakeGateway::fresh("g1");
    let _running = gateway.run(&control.target, 5);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    for args in [vec!["get"], vec!["get", "svc1"], vec!["gateways"]] {
        assert_eq!(cli(control.addr, &args).await.0, 0, "{args:?}");
    }
}

#[tokio::test]
async fn a_rollback_whose_client_has_left_is_still_in_the_way_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let body = json!({"routes": {"svc1": "v2=30"}, "force": true, "timeout_ms": 1});
    assert_eq!(control.target.post("/v1/weights", &body).await.status, 200);
    let target = control.target.clone();
    let mut rollback =
        Box::pin(async move { target.post("/v1/routes/svc1/rollback", &json!({"timeout_ms": 1})).await });
    // As far as it comes at once: it is on its way to the disk.
    tokio::select! {
        biased;
        answer = &mut rollback => panic!("{}", answer.text),
        () = std::future::ready(()) => {}
    }
    drop(rollback);
    let body = json!({"routes": {"svc1": "v2=30"}, "careful": true, "timeout_ms": 1});
    let answer = control.target.post("/v1/weights", &body).await;
    assert_eq!(answer.status, 409, "{}", answer.text);
    let mut progress = control.shared.subscribe_progress();
    let rolled_back = progress.wait_for(|_| {
        control.shared.with_core(|core| core.weights("svc1").is_some_and(|weights| weights["v2"] == 0))
    });
    testkit::clock::within(std::time::Duration::from_secs(30), "the rollback", rolled_back)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_file_that_changes_nothing_does_not_say_that_the_gateways_serve_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("control.yaml");
    std::fs::write(&config, config_text(&folder.path().join("state.json"), ROUTES)).unwrap();
    let control = Remote::start(&config, &[]).await;
    let path = file(&folder, 70, 30);
    let apply = ["apply", path.as_str(), "--route", "svc1", "--timeout", "1ms"];
    assert_eq!(cli(control.addr, &apply).await.0, 4);
    let (code, out, err) = cli(control.addr, &apply).await;
    assert_eq!(code, 4, "{out} {err}");
    assert!(out.contains("nothing to change") && err.contains("no gateway is connected"), "{out} {err}");
    let mut gateway = FakeGateway::fresh("g1");
    gateway.deaf = true;
    let _running = gateway.run(&control.target, 5);
    let mut served = gateway.served.subscribe();
    served.wait_for(|served| !served.taken.is_empty()).await.unwrap();
    let (code, _, err) = cli(control.addr, &apply).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("missing: g1"), "{err}");
}

/// A control that answers everything but one question.
async fn half_a_control(broken: &'static str) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4_096];
            let read = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let (status, body) = if head.contains(broken) {
                (500, json!({"error": "a fault", "cure": "look at the log"}))
            } else {
                let route = json!({"name": "svc1", "targets": ["v1", "v2"], "stable": "v1"});
                (200, json!({"control": {}, "routes": [route]}))
            };
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn when_the_names_of_the_backends_cannot_be_asked_for_nothing_is_matched_by_less() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, 70, 30);
    let address = half_a_control("/v1/gateway-config").await;
    let (code, _, err) = cli(address, &["apply", &path, "--route", "svc1"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("a fault") && !err.contains("is v1"), "{err}");
}
