//! How gateways get weights: holding, acknowledging, refusing, fencing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod support;

use gateway_config::wire::{DiscoveryNode, DiscoveryRequest, ROUTE_TYPE_URL, WeightSource};
use serde_json::json;
use std::time::Duration;
use support::{FakeGateway, Local, ROUTES, Target, config_text};
use tokio::time::Instant;

async fn control(folder: &tempfile::TempDir) -> Local {
    Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await
}

/// A control that has begun with 99/1.
async fn begun(folder: &tempfile::TempDir) -> (Local, FakeGateway, support::Running) {
    let control = control(folder).await;
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    (control, gateway, running)
}

fn envoy(version: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: version.to_owned(),
        node: DiscoveryNode { id: "envoy-1".to_owned(), ..DiscoveryNode::default() },
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: ROUTE_TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    }
}

async fn ask(target: &Target, request: &DiscoveryRequest) -> support::Answer {
    target.discover(request, 0).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_weights_of_the_configuration_count_at_the_very_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let route = control.target.get("/v1/routes/svc1").await.json();
    assert_eq!(route["routes"][0]["weights"], json!({"v1": 9900, "v2": 100}));
    assert_eq!(route["routes"][0]["changed"]["kind"], "initial");
    assert_eq!(route["control"]["phase"], "active");
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_a_held_request_and_is_acknowledged_by_effect() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = begun(&folder).await;
    let outcome = control.target.set("svc1", "v1=90 v2=10").await;
    assert_eq!(outcome.status, 200, "{}", outcome.text);
    let outcome = outcome.json();
    assert_eq!((&outcome["awaited"], &outcome["acknowledged"]), (&json!(1), &json!(1)));
    assert_eq!(outcome["saved"], true);
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_only_when_it_asks_for_that() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let version = control.target.get("/v1/routes").await.json()["control"]["version"].clone();
    let request = envoy(version.as_str().unwrap(), &[]);
    let before = Instant::now();
    assert_eq!(ask(&control.target, &request).await.status, 200);
    assert_eq!(before.elapsed(), Duration::ZERO, "answered at once");
    let mut holding = request.clone();
    holding.node.metadata.hold = true;
    let answer = ask(&control.target, &holding).await;
    assert_eq!((answer.status, answer.json()["version_info"].clone()), (200, version));
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_held_request_is_answered_at_once_when_the_version_differs() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let before = Instant::now();
    let answer = control.target.discover(&envoy("", &[]), 30).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(before.elapsed(), Duration::ZERO);
    let resource = &answer.json()["resources"][0];
    assert_eq!(resource["@type"], ROUTE_TYPE_URL);
    let route = &resource["virtual_hosts"][0]["routes"][0];
    assert_eq!(route["match"], json!({"prefix": "/"}));
    assert_eq!(
        route["route"]["weighted_clusters"]["clusters"],
        json!([{"name": "v1", "weight": 9900}, {"name": "v2", "weight": 100}])
    );
    assert_eq!(route["metadata"]["filter_metadata"]["weir"]["stable"], "v1");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_acknowledges_but_serves_other_weights_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let mut deaf = FakeGateway::new("deaf", "svc1", &[("v1", 99), ("v2", 1)], WeightSource::Override);
    deaf.deaf = true;
    let _deaf = deaf.run(&control.target, 30);
    let outcome = control.target.set("svc1", "v2=10").await.json();
    assert_eq!((&outcome["awaited"], &outcome["acknowledged"]), (&json!(2), &json!(1)), "{outcome}");
    assert_eq!(outcome["missing"][0]["gateway"], "deaf");
    let why = outcome["missing"][0]["why"].as_str().unwrap();
    assert!(why.contains("v1 99 %, v2 1 %") && why.contains("override"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_version_is_never_sent_again_to_that_gateway_and_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (control, good, _running) = begun(&folder).await;
    let mut bad = FakeGateway::new("bad", "svc1", &[("v1", 100)], WeightSource::File);
    bad.refuses = Some("v2".to_owned());
    let answer = bad.ask(&control.target, 30).await.unwrap();
    assert_eq!(answer.status, 200);
    let before = Instant::now();
    assert_eq!(bad.ask(&control.target, 30).await.unwrap().status, 304);
    assert_eq!(before.elapsed().as_secs(), 30, "the refusal is held like any request");
    let outcome = control.target.set("svc1", "v2=10").await.json();
    assert_eq!(outcome["acknowledged"], 1);
    let why = outcome["missing"][0]["why"].as_str().unwrap();
    assert!(why.contains("refused") && why.contains("no such cluster"), "{why}");
    good.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    // Another version is offered, and this one is taken.
    let rolled = tokio::spawn({
        let target = control.target.clone();
        async move { target.post("/v1/routes/svc1/rollback", &json!({})).await.json() }
    });
    bad.ask(&control.target, 30).await.unwrap();
    let _bad = bad.run(&control.target, 30);
    assert_eq!(rolled.await.unwrap()["acknowledged"], 2);
    let gateways = control.target.get("/v1/gateways").await.json();
    assert!(gateways["gateways"].as_array().unwrap().iter().all(|gateway| gateway["refused"].is_null()));
}

#[tokio::test(start_paused = true)]
async fn a_stock_envoy_that_comes_back_with_its_old_version_has_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let first = ask(&control.target, &envoy("", &["svc1"])).await.json();
    let first = first["version_info"].as_str().unwrap().to_owned();
    assert_eq!(ask(&control.target, &envoy(&first, &["svc1"])).await.status, 200);
    let _ = control.target.post("/v1/weights", &json!({"routes": {"svc1": "v2=10"}, "timeout_ms": 1})).await;
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(ask(&control.target, &envoy(&first, &["svc1"])).await.status);
    }
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "sent once, then never again");
    let gateways = control.target.get("/v1/gateways").await.json();
    let refused = gateways["gateways"].to_string();
    assert!(refused.contains("came back with its old version"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_stock_envoy_that_was_started_anew_gets_the_version_again() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let first = ask(&control.target, &envoy("", &["svc1"])).await.json();
    let version = first["version_info"].as_str().unwrap().to_owned();
    ask(&control.target, &envoy(&version, &["svc1"])).await;
    assert_eq!(ask(&control.target, &envoy("", &["svc1"])).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_only_the_routes_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let routes = "routes:\n  a: {targets: [v1], stable: v1}\n  b: {targets: [v1], stable: v1}\n";
    let control = Local::start(&config_text(&folder.path().join("s"), routes)).await;
    let gateway = FakeGateway::new("g1", "a", &[("v1", 1)], WeightSource::File);
    let other = FakeGateway::new("g2", "b", &[("v1", 1)], WeightSource::File);
    let _running = (gateway.run(&control.target, 30), other.run(&control.target, 30));
    let mut served = gateway.served.subscribe();
    served.wait_for(|served| !served.version.is_empty()).await.unwrap();
    let answer = ask(&control.target, &envoy("", &["b"])).await.json();
    let names: Vec<&str> =
        answer["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn several_routes_are_one_change() {
    let folder = tempfile::tempdir().unwrap();
    let routes = "routes:\n  a: {targets: [v1, v2], stable: v1}\n  b: {targets: [v1, v2], stable: v1}\n";
    let control = Local::start(&config_text(&folder.path().join("s"), routes)).await;
    let gateway = FakeGateway::new("g1", "a", &[("v1", 1)], WeightSource::File);
    gateway.served.send_modify(|served| {
        let status = served.routes["a"].clone();
        served.routes.insert("b".to_owned(), status);
    });
    let _running = gateway.run(&control.target, 30);
    let body = json!({"routes": {"a": "v2=10", "b": "v2=20%"}});
    let outcome = control.target.post("/v1/weights", &body).await.json();
    assert_eq!(outcome["acknowledged"], 1, "{outcome}");
    gateway.serves("a", &[("v1", 90), ("v2", 10)]).await;
    gateway.serves("b", &[("v1", 80), ("v2", 20)]).await;
    let taken = gateway.served.borrow().taken.clone();
    assert_eq!(taken.len(), 2, "one version at the start, one for both: {taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_says_goodbye_is_not_awaited() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let leaving = FakeGateway::fresh("leaving");
    leaving.ask(&control.target, 0).await;
    let mut goodbye = leaving.request();
    goodbye.node.metadata.weir.as_mut().unwrap().goodbye = true;
    let before = Instant::now();
    assert_eq!(control.target.discover(&goodbye, 30).await.unwrap().status, 200);
    assert_eq!(before.elapsed(), Duration::ZERO, "a goodbye is not held");
    let outcome = control.target.set("svc1", "v2=10").await.json();
    assert_eq!((&outcome["awaited"], &outcome["missing"]), (&json!(1), &json!([])));
}

#[tokio::test(start_paused = true)]
async fn an_unheard_gateway_is_lost_named_and_not_awaited_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    FakeGateway::fresh("silent").ask(&control.target, 0).await;
    tokio::time::sleep(Duration::from_secs(46)).await;
    let outcome = control.target.set("svc1", "v2=10").await.json();
    assert_eq!((&outcome["awaited"], &outcome["connected"]), (&json!(2), &json!(1)));
    let why = outcome["missing"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("lost: unheard for"), "{why}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let outcome = control.target.set("svc1", "v2=20").await.json();
    assert_eq!(outcome["awaited"], 1, "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_gateway_is_not_awaited() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    FakeGateway::fresh("silent").ask(&control.target, 0).await;
    assert_eq!(control.target.send("DELETE", "/v1/gateways/silent", &[], "").await.unwrap().status, 200);
    assert_eq!(control.target.send("DELETE", "/v1/gateways/silent", &[], "").await.unwrap().status, 404);
    assert_eq!(control.target.set("svc1", "v2=10").await.json()["awaited"], 1);
}

#[tokio::test(start_paused = true)]
async fn only_gateways_that_asked_for_a_route_count_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    FakeGateway::new("elsewhere", "other", &[("v1", 1)], WeightSource::File).ask(&control.target, 0).await;
    assert_eq!(control.target.set("svc1", "v2=10").await.json()["awaited"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_control_that_sees_a_higher_version_stops_and_says_who_is_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let foreign = FakeGateway::fresh("g9").with_version("9.4-other");
    assert_eq!(foreign.ask(&control.target, 30).await.unwrap().status, 503);
    for path in ["/v1/routes", "/v1/gateways"] {
        let view = control.target.get(path).await.json();
        assert_eq!(view["control"]["phase"], "fenced");
        let message = view["control"]["message"].as_str().unwrap();
        assert!(message.contains("other") && message.contains("9.4-other"), "{message}");
    }
    let refused = control.target.set("svc1", "v2=10").await;
    assert_eq!(refused.status, 409);
    assert!(refused.json()["cure"].as_str().unwrap().contains("control adopt --from"), "{}", refused.text);
    let rollback = control.target.post("/v1/routes/svc1/rollback", &json!({})).await;
    assert_eq!(rollback.status, 409, "it does not lead, so it cannot roll back either: it says so");
    // The operator decides.
    let adopted = control.target.post("/v1/adopt", &json!({"from": "g9", "timeout_ms": 1})).await;
    assert_eq!(adopted.status, 200, "{}", adopted.text);
    assert!(adopted.json()["version"].as_str().unwrap().starts_with("10."), "{}", adopted.text);
    assert_eq!(foreign.ask(&control.target, 30).await.unwrap().status, 200);
    foreign.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_state_moves_nothing_and_goes_on_at_the_next_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let a = FakeGateway::new("a", "svc1", &[("v1", 9000), ("v2", 1000)], WeightSource::Control)
        .with_version("4.7-old");
    let b = FakeGateway::new("b", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Saved);
    let _running = (a.run(&control.target, 30), b.run(&control.target, 30));
    let outcome = control.target.set("svc1", "v1=50 v2=50").await.json();
    assert_eq!(outcome["acknowledged"], 2, "{outcome}");
    assert_eq!(outcome["routes"]["svc1"]["from"], json!({"v1": 9000, "v2": 1000}));
    assert!(outcome["version"].as_str().unwrap().starts_with("5."), "{outcome}");
    let history = control.target.get("/v1/routes/svc1/history").await.json();
    assert_eq!(history["history"][0]["kind"], "adopt");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_does_not_agree_waits_for_an_operator() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let a = FakeGateway::new("a", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control)
        .with_version("4.7-old");
    let b = FakeGateway::new("b", "svc1", &[("v1", 50), ("v2", 50)], WeightSource::Control)
        .with_version("4.6-old");
    let _running = (a.run(&control.target, 1), b.run(&control.target, 1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let view = control.target.get("/v1/routes").await.json();
    assert_eq!(view["control"]["phase"], "adopting");
    let message = view["control"]["message"].as_str().unwrap();
    assert!(message.contains("v1 90 %") && message.contains("v1 50 %"), "{message}");
    assert_eq!(a.served.borrow().taken.len() + b.served.borrow().taken.len(), 0, "nothing moved");
    assert_eq!(control.target.set("svc1", "v2=10").await.status, 409);
    assert_eq!(control.target.post("/v1/adopt", &json!({})).await.status, 409);
    let adopted = control.target.post("/v1/adopt", &json!({"from": "b"})).await;
    assert_eq!(adopted.json()["acknowledged"], 2, "{}", adopted.text);
    a.serves("svc1", &[("v1", 50), ("v2", 50)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_does_not_wait_for_an_adoption() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let a = FakeGateway::new("a", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control)
        .with_version("4.7-old");
    let b = FakeGateway::new("b", "svc1", &[("v1", 50), ("v2", 50)], WeightSource::Control)
        .with_version("4.6-old");
    let _running = (a.run(&control.target, 1), b.run(&control.target, 1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let outcome = control.target.post("/v1/routes/svc1/rollback", &json!({})).await.json();
    assert_eq!(outcome["acknowledged"], 2, "{outcome}");
    a.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_starting_gateway_has_no_say_in_an_adoption() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let old = FakeGateway::new("old", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control)
        .with_version("4.7-x");
    let new = FakeGateway::fresh("new");
    *new.state.lock().unwrap() = "INITIALIZING".to_owned();
    let _running = (old.run(&control.target, 30), new.run(&control.target, 30));
    new.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_of_the_state_moves_nothing_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let copy = folder.path().join("copy.json");
    let (control, gateway, running) = begun(&folder).await;
    std::fs::copy(&state, &copy).unwrap();
    control.target.set("svc1", "v2=10").await;
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    drop(running);
    let stale = Local::start(&config_text(&copy, ROUTES)).await;
    assert_eq!(gateway.ask(&stale.target, 30).await.unwrap().status, 503);
    let message = stale.target.get("/v1/routes").await.json()["control"]["message"].to_string();
    assert!(message.contains("g1"), "{message}");
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    // The first one goes on.
    let _running = gateway.run(&control.target, 30);
    assert_eq!(control.target.set("svc1", "v2=20").await.json()["acknowledged"], 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_controls_from_one_copy_one_moves_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let (first, gateway, running) = begun(&folder).await;
    drop(running);
    let copies = [folder.path().join("a.json"), folder.path().join("b.json")];
    for copy in &copies {
        std::fs::copy(folder.path().join("state.json"), copy).unwrap();
    }
    drop(first);
    let a = Local::start(&config_text(&copies[0], ROUTES)).await;
    let b = Local::start(&config_text(&copies[1], ROUTES)).await;
    assert_eq!(gateway.ask(&a.target, 30).await.unwrap().status, 200);
    assert_eq!(gateway.ask(&b.target, 30).await.unwrap().status, 503);
    let refused = b.target.set("svc1", "v2=50").await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let _running = gateway.run(&a.target, 30);
    assert_eq!(a.target.set("svc1", "v2=10").await.json()["acknowledged"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_was_at_the_next_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, running) = begun(&folder).await;
    let before = control.target.set("svc1", "v2=10").await.json()["version"].as_str().unwrap().to_owned();
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    drop(running);
    control.stop().await;
    let again = self::control(&folder).await;
    let _running = gateway.run(&again.target, 30);
    let outcome = again.target.set("svc1", "v2=20").await.json();
    assert_eq!(outcome["acknowledged"], 1, "{outcome}");
    let parse = |text: &str| gateway_config::wire::Version::parse(text).unwrap();
    let (old, new) = (parse(&before), parse(outcome["version"].as_str().unwrap()));
    assert_eq!((new.epoch, new.seq), (old.epoch + 1, old.seq + 1));
    assert_ne!(new.control_id, old.control_id);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_a_gateway_does_not_know_yet_stops_only_changes_that_give_it_weight() {
    let folder = tempfile::tempdir().unwrap();
    let routes = "routes:\n  svc1: {targets: [v1, v2, v3], stable: v1, weights: {v2: 10, v3: 0}}\n";
    let control = Local::start(&config_text(&folder.path().join("s"), routes)).await;
    let gateway = FakeGateway::fresh("g1");
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    let known: Vec<String> = gateway.served.borrow().routes["svc1"].weights.keys().cloned().collect();
    assert_eq!(known, ["v1", "v2"], "v3 was not sent");
    assert_eq!(control.target.set("svc1", "v2=20 v3=0").await.json()["acknowledged"], 1);
    control.target.post("/v1/weights", &json!({"routes": {"svc1": "v2=20 v3=1"}, "timeout_ms": 1})).await;
    gateway.serves("svc1", &[("v1", 79), ("v2", 20), ("v3", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_held_request_that_was_sent_too_much_gets_it_when_the_window_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    // A gateway whose connections break before it reads: it asks again, and never has it.
    let unlucky = FakeGateway::fresh("unlucky");
    for _ in 0..2 {
        assert_eq!(control.target.discover(&unlucky.request(), 30).await.unwrap().status, 200);
    }
    let before = Instant::now();
    assert_eq!(control.target.discover(&unlucky.request(), 30).await.unwrap().status, 200);
    assert_eq!(before.elapsed().as_secs(), 5, "not at once, and not only after the whole hold");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_without_a_state_hears_the_fleet_before_it_takes_an_epoch() {
    for forced in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let control = control(&folder).await;
        let target = control.target.clone();
        let change = tokio::spawn(async move {
            if forced {
                let body = json!({"routes": {"svc1": "v1=100 v2=0"}, "force": true});
                return target.post("/v1/weights", &body).await.json();
            }
            target.post("/v1/routes/svc1/rollback", &json!({})).await.json()
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let gateway = FakeGateway::new("g1", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control)
            .with_version("4.7-old");
        let _running = gateway.run(&control.target, 30);
        let outcome = change.await.unwrap();
        assert_eq!(outcome["acknowledged"], 1, "{outcome}");
        assert!(outcome["version"].as_str().unwrap().starts_with("5."), "{outcome}");
        gateway.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_waits_for_nobody_longer_than_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let before = Instant::now();
    let rolled = control.target.post("/v1/routes/svc1/rollback", &json!({"timeout_ms": 700})).await;
    assert_eq!((rolled.status, before.elapsed().as_millis()), (200, 700), "{}", rolled.text);
}

#[tokio::test(start_paused = true)]
async fn an_adoption_from_one_gateway_takes_the_other_routes_from_those_that_serve_them() {
    let folder = tempfile::tempdir().unwrap();
    let routes = "routes:\n  a: {targets: [v1, v2], stable: v1}\n  b: {targets: [v1, v2], stable: v1}\n";
    let control = Local::start(&config_text(&folder.path().join("s"), routes)).await;
    let serving = |id: &str, route: &str, canary: u32| {
        let weights = [("v1", 100 - canary), ("v2", canary)];
        FakeGateway::new(id, route, &weights, WeightSource::Control).with_version("4.7-old")
    };
    // A state that knows both routes, and is fenced later.
    let first = FakeGateway::new("first", "a", &[("v1", 1)], WeightSource::File);
    first.served.send_modify(|served| {
        let status = served.routes["a"].clone();
        served.routes.insert("b".to_owned(), status);
    });
    let running = first.run(&control.target, 30);
    control.target.post("/v1/weights", &json!({"routes": {"a": "v2=1", "b": "v2=2"}})).await;
    drop(running);
    control.target.send("DELETE", "/v1/gateways/first", &[], "").await;
    let (a, b, c) = (serving("ga", "a", 30), serving("gb", "b", 40), serving("gc", "b", 50));
    for gateway in [&a, &b, &c] {
        gateway.ask(&control.target, 0).await;
    }
    let refused = control.target.post("/v1/adopt", &json!({"from": "ga"})).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("ga does not serve b"), "{error}");
    control.target.send("DELETE", "/v1/gateways/gc", &[], "").await;
    let adopted = control.target.post("/v1/adopt", &json!({"from": "ga", "timeout_ms": 1})).await.json();
    assert_eq!(adopted["routes"]["a"]["to"]["v2"], 3_000, "{adopted}");
    assert_eq!(adopted["routes"]["b"]["to"]["v2"], 4_000, "{adopted}");
}
