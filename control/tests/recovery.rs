//! What is left when something is lost: names in the history, overrides that are seen, events that are told once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod dynamo;
mod support;

use control::core::event::{Event, EventKind};
use dynamo::Dynamo;
use gateway_config::wire::{DiscoveryRequest, ErrorDetail, TargetReport, WeightSource};
use serde_json::{Value, json};
use std::time::Duration;
use support::{FakeGateway, GATEWAY, Local, ROUTES, Running, config_text};
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

async fn control(folder: &tempfile::TempDir) -> Local {
    Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await
}

async fn begun(folder: &tempfile::TempDir) -> (Local, FakeGateway, Running) {
    let control = control(folder).await;
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    (control, gateway, running)
}

fn left(id: &str) -> FakeGateway {
    FakeGateway::new(id, "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control).with_version("4.7-old")
}

async fn first_entry(control: &Local) -> Value {
    let mut progress = control.shared.subscribe_progress();
    loop {
        let history = control.target.get("/v1/routes/svc1/history").await.json();
        if let Some(first) = history["history"].get(0) {
            return first.clone();
        }
        progress.changed().await.unwrap();
    }
}

/// The next event of a kind; those before it are passed over.
async fn next(events: &mut Receiver<Event>, kind: EventKind) -> Event {
    let wait = async {
        loop {
            let event = events.recv().await.unwrap();
            if event.kind == kind {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), wait).await.unwrap_or_else(|_| panic!("no {kind:?}"))
}

#[tokio::test(start_paused = true)]
async fn the_history_names_the_gateway_that_the_weights_were_recovered_from() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let _running: Vec<Running> = ["a", "b", "c"].map(|id| left(id).run(&control.target, 30)).into();
    let entry = first_entry(&control).await;
    assert_eq!(
        (entry["kind"].as_str(), entry["reason"].as_str()),
        (Some("adopt"), Some("recovered from gateway a (2 more agree)")),
        "{entry}"
    );
}

#[tokio::test]
async fn an_empty_item_is_recovered_from_the_fleet_like_an_empty_disk() {
    let dynamo = Dynamo::start().await;
    let control = dynamo::control(&dynamo, ROUTES, false).await.unwrap();
    let _running = left("a").run(&control.target, 5);
    let entry = first_entry(&control).await;
    assert_eq!(entry["reason"], "recovered from gateway a", "{entry}");
    assert_eq!(dynamo.document()["routes"]["svc1"]["weights"]["v2"], 1_000);
    assert_eq!(dynamo.document()["control"]["epoch"], 5);
}

#[tokio::test(start_paused = true)]
async fn an_adoption_by_hand_names_its_gateway_unless_a_reason_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    for (reason, kept) in [("", "recovered from gateway g1"), ("after the outage", "after the outage")] {
        let body = json!({"from": "g1", "reason": reason});
        assert_eq!(control.target.post("/v1/adopt", &body).await.status, 200);
        let history = control.target.get("/v1/routes/svc1/history").await.json();
        assert_eq!(history["history"].as_array().unwrap().last().unwrap()["reason"], kept);
    }
}

#[tokio::test(start_paused = true)]
async fn an_overridden_gateway_is_named_as_that_and_no_change_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let mut over = FakeGateway::new("over", "svc1", &[("v1", 100), ("v2", 0)], WeightSource::Override);
    over.deaf = true;
    over.served.send_modify(|served| served.routes.get_mut("svc1").unwrap().expires_seconds = Some(3_540));
    let _over = over.run(&control.target, 30);
    let before = Instant::now();
    let outcome = control.target.set("svc1", "v2=10").await.json();
    assert!(before.elapsed() < Duration::from_secs(9), "an override does not end by waiting");
    assert_eq!((&outcome["awaited"], &outcome["acknowledged"]), (&json!(2), &json!(1)), "{outcome}");
    assert_eq!(outcome["missing"][0]["overridden"], true);
    let why = outcome["missing"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("is overridden for another 59 min: serves v1 100 %"), "{why}");
    let view = control.target.get("/v1/routes/svc1").await.json();
    assert_eq!(
        (&view["control"]["fleet"], &view["routes"][0]["overridden"]),
        (&json!("overridden"), &json!(1))
    );
    let gateways = control.target.get("/v1/gateways").await.json();
    assert_eq!(gateways["gateways"][1]["overrides"][0]["expires_seconds"], 3_540, "{gateways}");
}

#[tokio::test(start_paused = true)]
async fn no_gateway_at_all_is_a_state_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, running) = begun(&folder).await;
    let fleet = async || control.target.get("/v1/routes").await.json()["control"]["fleet"].clone();
    assert_eq!(fleet().await, "current");
    drop(running);
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert_eq!(fleet().await, "none");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_with_both_weights_and_the_author() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let mut events = control.shared.events();
    control.target.post("/v1/weights", &json!({"routes": {"svc1": "v2=10"}, "reason": "looks good"})).await;
    let event = next(&mut events, EventKind::WeightsChanged).await;
    assert_eq!(event.route.as_deref(), Some("svc1"));
    assert_eq!(event.text, "svc1: v1 99 %, v2 1 % -> v1 90 %, v2 10 % (by alice@laptop: looks good)");
    assert!(event.at.ends_with('Z'));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_killed_is_told_once_and_its_return_once() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, running) = begun(&folder).await;
    let mut events = control.shared.events();
    drop(running);
    let gone = next(&mut events, EventKind::GatewayGone).await;
    assert_eq!(gone.gateway.as_deref(), Some("g1"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(events.is_empty(), "told once");
    let _running = gateway.run(&control.target, 30);
    let back = next(&mut events, EventKind::Recovered).await;
    assert_eq!(back.text, "gateway g1 is heard again");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_says_goodbye_is_nobodys_event() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, running) = begun(&folder).await;
    drop(running);
    let mut events = control.shared.events();
    let mut goodbye = gateway.request();
    goodbye.node.metadata.weir.as_mut().unwrap().goodbye = true;
    control.target.discover(&goodbye, 0).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stays_behind_is_told_and_an_overridden_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let mut events = control.shared.events();
    let mut over = FakeGateway::new("over", "svc1", &[("v1", 100)], WeightSource::Override);
    over.deaf = true;
    let mut deaf = FakeGateway::fresh("deaf");
    deaf.deaf = true;
    let _both = (over.run(&control.target, 30), deaf.run(&control.target, 30));
    let behind = next(&mut events, EventKind::GatewayBehind).await;
    assert_eq!(behind.gateway.as_deref(), Some("deaf"), "{}", behind.text);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(events.is_empty());
    deaf.deaf = false;
    let _heals = deaf.run(&control.target, 30);
    control.target.set("svc1", "v2=3").await;
    let back = next(&mut events, EventKind::Recovered).await;
    assert_eq!(back.text, "gateway deaf serves what is wanted again");
}

#[tokio::test(start_paused = true)]
async fn a_version_without_endpoints_is_told_while_it_has_a_share() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = begun(&folder).await;
    let mut events = control.shared.events();
    let report = async |uptime, usable| {
        let v2 = TargetReport { endpoints: 2, endpoints_healthy: usable, ..TargetReport::default() };
        let v1 = TargetReport { endpoints: 4, endpoints_healthy: 4, ..TargetReport::default() };
        gateway.send_report(&control.target, &gateway.report(uptime, &[("v1", v1), ("v2", v2)])).await;
    };
    report(1, 0).await;
    let empty = next(&mut events, EventKind::EndpointsEmpty).await;
    assert_eq!(empty.route.as_deref(), Some("svc1"));
    assert!(empty.text.starts_with("v2 of svc1 has a share"), "{}", empty.text);
    report(2, 2).await;
    next(&mut events, EventKind::Recovered).await;
    let outcome = control.target.set("svc1", "v2=50").await.json();
    assert_eq!(
        outcome["routes"]["svc1"]["load"],
        json!(["each v2 endpoint gets 2.0 times what a v1 endpoint has"])
    );
    let view = control.target.get("/v1/routes/svc1").await.json();
    assert_eq!(view["routes"][0]["load_per_endpoint"], json!({"v2": 2.0}));
    assert_eq!(view["routes"][0]["traffic"]["v2"]["endpoints_healthy_max"], 2);
}

#[tokio::test(start_paused = true)]
async fn another_control_that_is_ahead_is_told_as_drift() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _gateway, _running) = begun(&folder).await;
    let mut events = control.shared.events();
    FakeGateway::fresh("g9").with_version("9.4-other").ask(&control.target, 0).await;
    let drift = next(&mut events, EventKind::Drift).await;
    assert!(drift.text.contains("control other is ahead"), "{}", drift.text);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_does_not_agree_is_one_event_and_not_one_of_each_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let mut events = control.shared.events();
    let other = FakeGateway::new("b", "svc1", &[("v1", 80), ("v2", 20)], WeightSource::Control)
        .with_version("4.8-old");
    let _running = [left("a").run(&control.target, 30), other.run(&control.target, 30)];
    let undecided = events.recv().await.unwrap();
    assert_eq!((undecided.kind, undecided.route.as_deref()), (EventKind::Drift, Some("svc1")));
    assert!(undecided.text.contains("a serves svc1 at v1 90 %, v2 10 %"), "{}", undecided.text);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(events.is_empty(), "{:?}", events.try_recv());
    let adopted = control.target.post("/v1/adopt", &json!({"from": "b"})).await;
    assert_eq!(adopted.status, 200, "{}", adopted.text);
    let over = async {
        while next(&mut events, EventKind::Recovered).await.text != "the weights of svc1 are known again" {}
    };
    tokio::time::timeout(Duration::from_secs(600), over).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn gateways_of_a_first_start_are_not_behind() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let mut events = control.shared.events();
    // New tasks that come one by one hold the first weights back.
    let mut running = Vec::new();
    for number in 0..28 {
        running.push(FakeGateway::fresh(&format!("g{number}")).run(&control.target, 30));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut kinds = Vec::new();
    while let Ok(event) = events.try_recv() {
        kinds.push(event.kind);
    }
    assert_eq!(kinds, [EventKind::WeightsChanged]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_refuses_listeners_or_clusters_is_told_and_takes_its_weights_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let text = config_text(&folder.path().join("state.json"), &format!("{ROUTES}{GATEWAY}"));
    let control = Local::start(&text).await;
    let gateway = FakeGateway::fresh("g1");
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let mut events = control.shared.events();
    let mut request = gateway.request();
    request.version_info.clear();
    let body = |request: &DiscoveryRequest| serde_json::to_value(request).unwrap();
    let sent = control.target.post("/v3/discovery:clusters", &body(&request)).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    request.response_nonce = sent.json()["nonce"].as_str().unwrap().to_owned();
    request.error_detail = Some(ErrorDetail { code: 3, message: "v1 is there twice".to_owned() });
    control.target.post("/v3/discovery:clusters", &body(&request)).await;
    let refused = next(&mut events, EventKind::Drift).await;
    assert_eq!(refused.gateway.as_deref(), Some("g1"));
    assert!(refused.text.contains("v1 is there twice"), "{}", refused.text);
    assert_eq!(control.target.set("svc1", "v2=10").await.json()["acknowledged"], 1);
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
    request.error_detail = None;
    request.version_info = sent.json()["version_info"].as_str().unwrap().to_owned();
    control.target.post("/v3/discovery:clusters", &body(&request)).await;
    let back = next(&mut events, EventKind::Recovered).await;
    assert_eq!(back.text, "gateway g1 has taken the listeners and clusters");
}
