//! The state as an item of DynamoDB: written before it is published, shared by two, lost and found again.
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

use ::control::core::change::{Author, Change, What};
use aws::dynamodb::StateTable;
use dynamo::{Dynamo, Fault, KEY, control};
use gateway_config::control_config::parse_control;
use gateway_config::state_item::StateView;
use gateway_config::wire::{Version, WeightSource};
use lifecycle::drain::Drain;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use support::{Answer, FakeGateway, Local, ROUTES, Remote, Running, Target};
use testkit::process::{Moto, Process};

/// For what comes within seconds unless something is broken.
const SOON: Duration = Duration::from_secs(60);
/// Held requests of these tests.
const WAIT: u64 = 5;

async fn begun(dynamo: &Dynamo) -> (Local, FakeGateway, Running) {
    let control = control(dynamo, ROUTES, false).await.unwrap();
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&control.target, WAIT);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    (control, gateway, running)
}

async fn view(target: &Target) -> Value {
    target.get("/v1/routes").await.json()
}

/// Asks again with each revision until it is so.
async fn until(target: &Target, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let view = view(target).await;
            if is(&view) {
                return view;
            }
            let after = view["control"]["revision"].as_u64().unwrap();
            target.get(&format!("/v1/routes?after={after}&wait=1")).await;
        }
    };
    match tokio::time::timeout(SOON, look).await {
        Ok(view) => view,
        Err(_) => panic!("{what}: {}", view(target).await),
    }
}

fn version(view: &Value) -> Version {
    Version::parse(view["control"]["version"].as_str().unwrap()).unwrap()
}

fn canary(document: &Value) -> u64 {
    document["routes"]["svc1"]["weights"]["v2"].as_u64().unwrap()
}

async fn rollback(target: &Target) -> Answer {
    target.post("/v1/routes/svc1/rollback", &json!({})).await
}

#[tokio::test]
async fn a_change_is_in_the_item_and_a_gateway_can_read_it() {
    let dynamo = Dynamo::start().await;
    let (control, _gateway, _running) = begun(&dynamo).await;
    let outcome = control.target.set("svc1", "v2=10").await.json();
    assert_eq!((&outcome["saved"], &outcome["acknowledged"]), (&json!(true), &json!(1)), "{outcome}");
    let read = StateView::parse(&dynamo.text(KEY).unwrap()).unwrap();
    assert_eq!(read.routes["svc1"].weights["v2"], 1_000);
    assert_eq!(read.control.version().to_string(), outcome["version"].as_str().unwrap());
    assert_eq!(dynamo.revision(KEY), Some(2), "one write each: the first weights, the change");
}

#[tokio::test]
async fn a_control_with_an_empty_disk_goes_on_at_the_next_epoch() {
    let dynamo = Dynamo::start().await;
    let (first, gateway, running) = begun(&dynamo).await;
    first.target.set("svc1", "v2=10").await;
    let before = version(&view(&first.target).await);
    first.stop_with(running).await;
    let again = control(&dynamo, ROUTES, false).await.unwrap();
    let seen = view(&again.target).await;
    let now = version(&seen);
    assert_eq!((now.epoch, now.seq), (before.epoch + 1, before.seq), "{seen}");
    assert_eq!(
        dynamo.document()["control"]["id"],
        now.control_id.as_str(),
        "written before anything is answered"
    );
    let _running = gateway.run(&again.target, WAIT);
    let outcome = again.target.set("svc1", "v2=20").await.json();
    assert_eq!(outcome["routes"]["svc1"]["from"]["v2"], 1_000, "{outcome}");
}

#[tokio::test]
async fn of_two_controls_the_newer_leads_and_the_older_says_who_is_ahead() {
    let dynamo = Dynamo::start().await;
    let (older, gateway, running) = begun(&dynamo).await;
    let newer = control(&dynamo, ROUTES, false).await.unwrap();
    let leader = version(&view(&newer.target).await).control_id;
    let refused = older.target.set("svc1", "v2=50").await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains(&leader) && refused.text.contains("item `default`"), "{}", refused.text);
    drop(running);
    assert_eq!(gateway.ask(&older.target, 0).await.unwrap().status, 503);
    assert_eq!(rollback(&older.target).await.status, 409, "who does not lead does not roll back");
    let seen = view(&older.target).await;
    assert_eq!(seen["control"]["phase"], "fenced", "{seen}");
    let _running = gateway.run(&newer.target, WAIT);
    assert_eq!(newer.target.set("svc1", "v2=20").await.json()["acknowledged"], 1);
    assert_eq!(canary(&dynamo.document()), 2_000);
}

#[tokio::test]
async fn a_control_that_never_writes_learns_that_another_has_written() {
    let dynamo = Dynamo::start().await;
    let (older, _gateway, _running) = begun(&dynamo).await;
    let newer = control(&dynamo, ROUTES, false).await.unwrap();
    let seen = until(&older.target, "fenced", |view| view["control"]["phase"] == "fenced").await;
    let leader = version(&view(&newer.target).await).control_id;
    assert!(seen["control"]["message"].as_str().unwrap().contains(&leader), "{seen}");
    assert_eq!(view(&newer.target).await["control"]["phase"], "active");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_does_not_fence_its_sender() {
    let dynamo = Dynamo::start().await;
    let (control, _gateway, _running) = begun(&dynamo).await;
    for (faults, canary_now) in [
        (vec![Fault::Landed], 1_000),
        (vec![Fault::Lost], 2_000),
        (vec![Fault::Landed, Fault::Lost], 3_000),
        (vec![Fault::Refused("ThrottlingException"), Fault::Landed], 4_000),
    ] {
        dynamo.next_writes(&faults);
        let outcome = control.target.set("svc1", &format!("v2={}", canary_now / 100)).await;
        assert_eq!(outcome.status, 200, "{faults:?}: {}", outcome.text);
        assert_eq!(outcome.json()["saved"], true);
        assert_eq!(canary(&dynamo.document()), canary_now);
    }
    assert_eq!(view(&control.target).await["control"]["phase"], "active");
}

#[tokio::test]
async fn a_refused_change_that_landed_is_written_over_and_moves_nobody() {
    let dynamo = Dynamo::start().await;
    let (control, gateway, _running) = begun(&dynamo).await;
    // It lands, and then nothing is answered for as long as the change waits.
    dynamo.next_writes(&[Fault::Landed]);
    dynamo.next_writes(&[Fault::Lost; 40]);
    let refused = control.target.set("svc1", "v2=50").await;
    assert_eq!(refused.status, 507, "{}", refused.text);
    assert!(refused.text.contains("DynamoDB"), "{}", refused.text);
    assert_eq!(canary(&dynamo.document()), 5_000, "the fault has happened");
    dynamo.state_is_answered();
    tokio::time::timeout(SOON, async {
        while canary(&dynamo.document()) != 100 {
            let after = view(&control.target).await["control"]["revision"].as_u64().unwrap();
            control.target.get(&format!("/v1/routes?after={after}&wait=1")).await;
        }
    })
    .await
    .expect("what is in force is written again");
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    assert_eq!(control.target.set("svc1", "v2=2").await.status, 200);
}

#[tokio::test]
async fn a_refused_change_that_landed_is_written_over_though_the_last_answer_was_another_one() {
    let dynamo = Dynamo::start().await;
    let (control, _gateway, _running) = begun(&dynamo).await;
    for last in ["ThrottlingException", "AccessDeniedException"] {
        dynamo.next_writes(&[Fault::Landed]);
        dynamo.next_writes(&[Fault::Refused(last); 40]);
        let refused = control.target.set("svc1", "v2=50").await;
        assert_eq!(refused.status, 507, "{}", refused.text);
        assert_eq!(canary(&dynamo.document()), 5_000, "the fault has happened");
        dynamo.state_is_answered();
        let written = async {
            while canary(&dynamo.document()) != 100 {
                let after = view(&control.target).await["control"]["revision"].as_u64().unwrap();
                control.target.get(&format!("/v1/routes?after={after}&wait=1")).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), written)
            .await
            .expect("what is in force is written again");
    }
}

#[tokio::test]
async fn a_gateway_that_began_from_a_refused_change_in_the_item_is_no_witness_of_another_control() {
    let dynamo = Dynamo::start().await;
    let (control, gateway, _running) = begun(&dynamo).await;
    dynamo.next_writes(&[Fault::Landed]);
    dynamo.next_writes(&[Fault::Lost; 40]);
    assert_eq!(control.target.set("svc1", "v2=50").await.status, 507);
    let read = StateView::parse(&dynamo.text(KEY).unwrap()).unwrap();
    let early = FakeGateway::new("g2", "svc1", &[("v1", 50), ("v2", 50)], WeightSource::Saved)
        .with_version(&read.control.version().to_string());
    let _early = early.run(&control.target, WAIT);
    early.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    dynamo.state_is_answered();
    let seen = until(&control.target, "saved", |view| view["control"]["saved"] == true).await;
    assert_eq!(seen["control"]["phase"], "active", "{seen}");
    assert_eq!(canary(&dynamo.document()), 100);
    assert_eq!(control.target.set("svc1", "v2=2").await.json()["acknowledged"], 2);
    gateway.serves("svc1", &[("v1", 98), ("v2", 2)]).await;
}

#[tokio::test]
async fn a_rollback_that_could_not_be_written_is_written_at_the_end_at_the_latest() {
    let dynamo = Dynamo::start().await;
    left_behind(&dynamo, "9.4-old");
    let config = parse_control("control.yaml", format!("listen: 127.0.0.1:0\n{ROUTES}").as_bytes()).unwrap();
    let (table, drain) = (StateTable::for_endpoint(&dynamo.url, dynamo::TABLE, KEY), Drain::new());
    // Nothing writes again by itself.
    let (shared, _handles) = ::control::begin::begin_with(&config, table, false, &drain).await.unwrap();
    dynamo.down(true);
    let what = What::Rollback("svc1".to_owned());
    let change = Change { what, author: Author::default(), reason: String::new() };
    shared.change(change).await.unwrap();
    assert_eq!(canary(&dynamo.document()), 3_000);
    drain.start(Duration::from_secs(5));
    dynamo.down(false);
    shared.retry_unsaved().await;
    assert_eq!(canary(&dynamo.document()), 0, "the next start begins from it");
}

#[tokio::test]
async fn without_dynamodb_a_rollback_goes_out_and_a_raise_does_not() {
    let dynamo = Dynamo::start().await;
    let (control, gateway, _running) = begun(&dynamo).await;
    assert_eq!(control.target.set("svc1", "v2=30").await.status, 200);
    dynamo.down(true);
    let refused = control.target.set("svc1", "v2=40").await;
    assert_eq!(refused.status, 507, "{}", refused.text);
    assert!(refused.json()["cure"].as_str().unwrap().contains("control rollback"), "{}", refused.text);
    let rolled = rollback(&control.target).await.json();
    assert_eq!((&rolled["saved"], &rolled["acknowledged"]), (&json!(false), &json!(1)), "{rolled}");
    gateway.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
    assert_eq!(canary(&dynamo.document()), 3_000);
    dynamo.down(false);
    until(&control.target, "saved", |view| view["control"]["saved"] == true).await;
    assert_eq!(canary(&dynamo.document()), 0);
}

/// A control of which only the item and a gateway are left.
fn left_behind(dynamo: &Dynamo, version: &str) -> FakeGateway {
    let left = Version::parse(version).unwrap();
    let entry = json!({"version": version, "at": "2026-01-01T00:00:00Z", "actor": "alice@laptop", "kind": "set",
        "to": {"v1": 7_000, "v2": 3_000}, "stable": "v1", "reason": "before the night"});
    dynamo.put(&json!({
        "format": {"major": 1, "minor": 0},
        "control": {"id": left.control_id, "epoch": left.epoch, "seq": left.seq},
        "routes": {"svc1": {"weights": {"v1": 7_000, "v2": 3_000}, "stable": "v1", "configured_stable": "v1",
            "version": version, "history": [entry]}},
    }));
    FakeGateway::new("g1", "svc1", &[("v1", 70), ("v2", 30)], WeightSource::Control).with_version(version)
}

#[tokio::test]
async fn a_start_without_dynamodb_serves_from_the_fleet_and_joins_the_item_later() {
    let dynamo = Dynamo::start().await;
    let gateway = left_behind(&dynamo, "9.4-old");
    dynamo.down(true);
    let control = control(&dynamo, ROUTES, false).await.unwrap();
    let _running = gateway.run(&control.target, WAIT);
    let adopted = until(&control.target, "adopted", |view| view["control"]["phase"] == "active").await;
    assert_eq!(adopted["routes"][0]["weights"]["v2"], 3_000);
    assert_eq!(adopted["routes"][0]["changed"]["reason"], "recovered from gateway g1");
    assert!(adopted["control"]["message"].as_str().unwrap().contains("cannot reach"), "{adopted}");
    let metrics = control.target.get("/metrics").await.text;
    assert!(metrics.contains("control_state_unread 1"), "{metrics}");
    assert_eq!(control.target.set("svc1", "v2=40").await.status, 507, "nothing is raised unwritten");
    let rolled = rollback(&control.target).await.json();
    assert_eq!((&rolled["saved"], &rolled["acknowledged"]), (&json!(false), &json!(1)), "{rolled}");
    let spoken = version(&view(&control.target).await);
    dynamo.down(false);
    let joined = until(&control.target, "joined", |view| view["control"]["saved"] == true).await;
    assert!(version(&joined).epoch >= spoken.epoch && joined["control"]["message"] == "", "{joined}");
    assert_eq!(canary(&dynamo.document()), 0, "what the fleet serves stays");
    let history = dynamo.document()["routes"]["svc1"]["history"].clone();
    let kinds: Vec<&str> =
        history.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["set", "adopt", "rollback", "adopt"], "{history}");
    assert_eq!(control.target.set("svc1", "v2=5").await.json()["acknowledged"], 1);
}

#[tokio::test]
async fn a_higher_epoch_in_the_item_is_never_written_over_from_below() {
    let dynamo = Dynamo::start().await;
    let gateway = left_behind(&dynamo, "4.2-old");
    left_behind(&dynamo, "12.7-other");
    dynamo.down(true);
    let control = control(&dynamo, ROUTES, false).await.unwrap();
    let _running = gateway.run(&control.target, WAIT);
    let adopted = until(&control.target, "adopted", |view| view["control"]["phase"] == "active").await;
    assert_eq!(version(&adopted).epoch, 5);
    dynamo.down(false);
    let joined = until(&control.target, "joined", |view| view["control"]["saved"] == true).await;
    assert_eq!(version(&joined).epoch, 13, "{joined}");
    assert_eq!(dynamo.document()["control"]["epoch"], 13);
    gateway.serves("svc1", &[("v1", 70), ("v2", 30)]).await;
}

#[tokio::test]
async fn weights_of_the_configuration_wait_for_an_item_that_may_say_otherwise() {
    let dynamo = Dynamo::start().await;
    left_behind(&dynamo, "9.4-old");
    dynamo.down(true);
    let control = control(&dynamo, ROUTES, false).await.unwrap();
    // A fleet that was started anew remembers nothing.
    let gateway = FakeGateway::fresh("g1");
    let _running = gateway.run(&control.target, WAIT);
    let waiting = until(&control.target, "waiting", |view| {
        view["control"]["message"].as_str().unwrap().contains("wait for the state")
    })
    .await;
    assert_eq!(waiting["control"]["version"], "", "{waiting}");
    dynamo.down(false);
    gateway.serves("svc1", &[("v1", 70), ("v2", 30)]).await;
    assert_eq!(version(&view(&control.target).await).epoch, 10);
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_and_does_not_keep_control_down() {
    let dynamo = Dynamo::start().await;
    dynamo.refuse_all("AccessDeniedException");
    let control = control(&dynamo, ROUTES, false).await.unwrap();
    let seen = view(&control.target).await;
    assert!(seen["control"]["message"].as_str().unwrap().contains("dynamodb:GetItem"), "{seen}");
}

#[tokio::test]
async fn a_table_that_is_not_there_and_a_newer_document_end_the_start_with_a_sentence() {
    let dynamo = Dynamo::start().await;
    dynamo.refuse_all("ResourceNotFoundException");
    let error = control(&dynamo, ROUTES, false).await.err().unwrap().to_string();
    assert!(error.contains("control init-store"), "{error}");
    dynamo.down(false);
    for (document, why) in [
        (
            json!({"format": {"major": 2, "minor": 0}, "control": {"id": "n", "epoch": 3}}),
            "format 2 is newer",
        ),
        (json!({"format": {"major": 1, "minor": 0}}), "is not a state document"),
    ] {
        dynamo.put(&document);
        let before = (dynamo.revision(KEY), dynamo.text(KEY));
        let error = control(&dynamo, ROUTES, false).await.err().unwrap().to_string();
        assert!(error.contains(why) && error.contains("--recover"), "{error}");
        assert_eq!((dynamo.revision(KEY), dynamo.text(KEY)), before, "kept as it is");
    }
}

#[tokio::test]
async fn recover_keeps_the_old_item_beside_and_stays_above_its_epoch() {
    let dynamo = Dynamo::start().await;
    dynamo.put(&json!({"format": {"major": 2, "minor": 0}, "control": {"id": "n", "epoch": 30, "seq": 1}}));
    let old = dynamo.text(KEY);
    let control = control(&dynamo, ROUTES, true).await.unwrap();
    assert_eq!(dynamo.text("default.before-recover-1"), old);
    let gateway = FakeGateway::new("g1", "svc1", &[("v1", 70), ("v2", 30)], WeightSource::Control)
        .with_version("4.2-old");
    let _running = gateway.run(&control.target, WAIT);
    let adopted = until(&control.target, "adopted", |view| view["control"]["phase"] == "active").await;
    assert_eq!(version(&adopted).epoch, 31);
    assert_eq!((dynamo.revision(KEY), canary(&dynamo.document())), (Some(2), 3_000));
}

#[tokio::test]
async fn what_was_put_aside_once_is_never_written_over_and_never_taken_for_another_document() {
    let dynamo = Dynamo::start().await;
    let mut documents = Vec::new();
    for number in 1..=3 {
        left_behind(&dynamo, &format!("{number}.1-old"));
        documents.push(dynamo.text(KEY));
        for _ in 0..2 {
            drop(control(&dynamo, ROUTES, true).await.unwrap());
        }
        dynamo.remove();
    }
    let kept = ["", "-2", "-3"].map(|more| dynamo.text(&format!("default.before-recover-1{more}")));
    assert_eq!(kept.to_vec(), documents);
}

#[tokio::test]
async fn recover_is_not_forgotten_while_dynamodb_does_not_answer() {
    let dynamo = Dynamo::start().await;
    left_behind(&dynamo, "9.4-old");
    let old = dynamo.text(KEY);
    for spoken in [false, true] {
        dynamo.down(true);
        let control = control(&dynamo, ROUTES, true).await.unwrap();
        let gateway = FakeGateway::new("g1", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control)
            .with_version("4.2-old");
        let early = spoken.then(|| gateway.run(&control.target, WAIT));
        if spoken {
            until(&control.target, "adopted", |view| view["control"]["phase"] == "active").await;
        }
        let kept = format!("default.before-recover-{}", dynamo.revision(KEY).unwrap());
        assert_eq!(dynamo.text(&kept), None);
        dynamo.down(false);
        until(&control.target, "kept", |_| dynamo.text(&kept).is_some()).await;
        let _running = early.unwrap_or_else(|| gateway.run(&control.target, WAIT));
        let adopted = until(&control.target, "saved", |view| {
            view["control"]["saved"] == true && view["control"]["phase"] == "active"
        })
        .await;
        assert!(version(&adopted).epoch > 9, "{adopted}");
        assert_eq!(
            (canary(&dynamo.document()), dynamo.text("default.before-recover-1")),
            (1_000, old.clone())
        );
    }
}

#[tokio::test]
async fn a_fenced_control_takes_the_lead_over_the_item_when_it_is_told_to() {
    let dynamo = Dynamo::start().await;
    let (control, gateway, _running) = begun(&dynamo).await;
    left_behind(&dynamo, "20.1-gone");
    assert_eq!(control.target.set("svc1", "v2=50").await.status, 409);
    let adopted = control.target.post("/v1/adopt", &json!({"from": "g1"})).await;
    assert_eq!(adopted.status, 200, "{}", adopted.text);
    assert!(adopted.json()["version"].as_str().unwrap().starts_with("21."), "{}", adopted.text);
    let document = dynamo.document();
    assert_eq!((canary(&document), &document["control"]["epoch"]), (100, &json!(21)));
    let history = document["routes"]["svc1"]["history"].as_array().unwrap();
    assert!(history.iter().any(|entry| entry["reason"] == "before the night"), "{history:?}");
    assert_eq!(history.last().unwrap()["reason"], "recovered from gateway g1");
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    assert_eq!(control.target.set("svc1", "v2=7").await.json()["acknowledged"], 1);
}

#[tokio::test]
async fn a_start_that_another_control_overtakes_begins_again_from_what_that_one_wrote() {
    let dynamo = Dynamo::start().await;
    left_behind(&dynamo, "9.4-old");
    // The first write of the start does not come through at all; then the older control writes once more.
    dynamo.next_writes(&[Fault::Lost; 60]);
    let control = control(&dynamo, ROUTES, false).await.unwrap();
    let gateway = left_behind(&dynamo, "9.5-old");
    dynamo.state_is_answered();
    let seen = until(&control.target, "saved", |view| view["control"]["saved"] == true).await;
    assert_eq!(
        (seen["control"]["phase"].as_str().unwrap(), version(&seen).epoch >= 10),
        ("active", true),
        "{seen}"
    );
    let _running = gateway.run(&control.target, WAIT);
    assert_eq!(control.target.set("svc1", "v2=31").await.json()["acknowledged"], 1);
}

/// `control` as its own process, with nothing but variables.
fn spawn(moto: &Moto, args: &[&str], config: &str) -> Process {
    let mut command = Command::new(support::binary());
    command.args(args).env_remove("CONTROL_TOKEN").env("CONTROL_CONFIG", config);
    command.env("AWS_ENDPOINT_URL", moto.url()).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "not-a-secret");
    Process::spawn("control", &mut command).unwrap()
}

async fn serve(moto: &Moto, config: &str) -> Remote {
    let process = spawn(moto, &["serve"], config);
    let line = process.line("control listens on http://").await.unwrap();
    let addr: std::net::SocketAddr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    Remote { process, addr, target: Target::There(addr) }
}

#[tokio::test]
#[ignore = "needs moto"]
async fn a_control_of_variables_alone_is_killed_and_another_goes_on_from_the_item() {
    let moto = Moto::start().await.unwrap();
    let config =
        format!("listen: 127.0.0.1:0\nstate: {{dynamodb: {{table: weir-state, key: default}}}}\n{ROUTES}");
    let early = spawn(&moto, &["serve"], &config);
    assert_eq!(early.exit().await.unwrap().code(), Some(1), "there is no table yet");
    for word in ["made", "there already"] {
        let made = spawn(&moto, &["init-store", "--table", "weir-state", "--key", "default"], "");
        made.line(&format!("table `weir-state` is {word} and ready")).await.unwrap();
        assert_eq!(made.exit().await.unwrap().code(), Some(0));
    }
    let first = serve(&moto, &config).await;
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&first.target, WAIT);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    assert_eq!(first.target.set("svc1", "v2=10").await.json()["saved"], true);
    first.process.kill().await.unwrap();
    drop(running);
    let second = serve(&moto, &config).await;
    let seen = view(&second.target).await;
    assert_eq!((version(&seen).epoch, &seen["routes"][0]["weights"]["v2"]), (2, &json!(1_000)), "{seen}");
    let _running = gateway.run(&second.target, WAIT);
    assert_eq!(second.target.set("svc1", "v2=20").await.json()["acknowledged"], 1);
}
