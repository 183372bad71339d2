//! The state file: whole or refused, locked, kept, and no obstacle to a rollback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod support;

use control::state::document::{Document, Identity, RouteRecord};
use control::state::file::{StateError, StateFile};
use gateway_config::wire::WeightSource;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use support::{FakeGateway, Local, ROUTES, config_text, weights};

fn document(seq: u64) -> Document {
    let record = RouteRecord {
        weights: weights(&[("v1", 9_000), ("v2", 1_000)]),
        stable: "v1".to_owned(),
        configured_stable: "v1".to_owned(),
        version: format!("1.{seq}-x"),
        ..RouteRecord::default()
    };
    Document {
        control: Identity { id: "x".to_owned(), epoch: 1, seq, ..Identity::default() },
        routes: [("svc1".to_owned(), record)].into(),
        ..Document::default()
    }
}

fn write(path: &Path, document: &Document) {
    StateFile::open(path, false).unwrap().0.write(document).unwrap();
}

fn edit(path: &Path, action: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    action(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn what_was_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/state.json");
    assert!(StateFile::open(&path, false).unwrap().1.is_none());
    write(&path, &document(7));
    assert_eq!(StateFile::open(&path, false).unwrap().1, Some(document(7)));
}

#[test]
fn a_second_control_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let held = StateFile::open(&path, false).unwrap();
    let error = StateFile::open(&path, false).unwrap_err();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another control"), "{error}");
    drop(held);
    assert!(StateFile::open(&path, false).is_ok());
}

#[test]
fn every_truncation_is_refused_with_path_and_cure_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write(&path, &document(7));
    let whole = std::fs::read(&path).unwrap();
    // The last byte is a newline: without it the document is whole.
    for length in 0..whole.len() - 1 {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = StateFile::open(&path, false).unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{length}: {error}");
        let text = error.to_string();
        assert!(text.contains("state.json") && text.contains("--recover"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..length], "kept as it was");
    }
}

#[test]
fn contents_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    type Case = (&'static str, fn(&mut Value));
    let cases: [Case; 5] = [
        ("sum up to", |value| value["routes"]["svc1"]["weights"]["v2"] = json!(1)),
        ("stable", |value| value["routes"]["svc1"]["stable"] = json!("v9")),
        ("format.major", |value| value["format"] = json!({})),
        ("control.id", |value| value["control"]["id"] = json!("")),
        ("not a state document", |value| value["routes"] = json!([])),
    ];
    for (expected, change) in cases {
        write(&path, &document(7));
        edit(&path, change);
        let error = StateFile::open(&path, false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_newer_major_is_refused_and_a_newer_minor_keeps_its_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write(&path, &document(7));
    edit(&path, |value| {
        value["format"]["minor"] = json!(9);
        value["rollouts"] = json!({"a": 1});
        value["routes"]["svc1"]["sticky"] = json!("cookie");
        value["control"]["lease"] = json!(5);
    });
    let (mut file, document) = StateFile::open(&path, false).unwrap();
    file.write(&document.unwrap()).unwrap();
    let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(value["format"], json!({"major": 1, "minor": 9}));
    assert_eq!(value["rollouts"], json!({"a": 1}));
    assert_eq!(value["routes"]["svc1"]["sticky"], "cookie");
    assert_eq!(value["control"]["lease"], 5);
    drop(file);
    edit(&path, |value| value["format"]["major"] = json!(2));
    let before = std::fs::read(&path).unwrap();
    let error = StateFile::open(&path, false).unwrap_err();
    assert!(matches!(error, StateError::Newer { major: 2, .. }), "{error}");
    assert!(error.to_string().contains("--recover"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn the_file_of_an_older_major_is_kept_before_the_first_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write(&path, &document(7));
    edit(&path, |value| value["format"]["major"] = json!(0));
    let before = std::fs::read(&path).unwrap();
    let (mut file, document) = StateFile::open(&path, false).unwrap();
    file.write(&document.unwrap()).unwrap();
    assert_eq!(std::fs::read(folder.path().join("state.json.format-0")).unwrap(), before);
}

#[test]
fn recover_puts_the_old_file_aside_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for (number, text) in [(1, "broken"), (2, "broken again")] {
        std::fs::write(&path, text).unwrap();
        assert!(StateFile::open(&path, true).unwrap().1.is_none());
        let kept = folder.path().join(format!("state.json.before-recover-{number}"));
        assert_eq!(std::fs::read_to_string(kept).unwrap(), text);
    }
}

#[test]
fn a_failed_write_leaves_the_old_document_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (mut file, _) = StateFile::open(&path, false).unwrap();
    file.write(&document(1)).unwrap();
    std::fs::create_dir(folder.path().join("state.json.tmp")).unwrap();
    let error = file.write(&document(2)).unwrap_err();
    assert!(error.to_string().contains("free space"), "{error}");
    drop(file);
    assert_eq!(StateFile::open(&path, false).unwrap().1.unwrap().control.seq, 1);
}

/// A control that has begun, with a disk that takes nothing more.
async fn with_full_disk(folder: &tempfile::TempDir) -> (Local, FakeGateway, support::Running) {
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let gateway = FakeGateway::fresh("g1");
    let running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    control.target.set("svc1", "v2=50").await;
    std::fs::create_dir(folder.path().join("state.json.tmp")).unwrap();
    (control, gateway, running)
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_a_rise_and_not_a_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = with_full_disk(&folder).await;
    let refused = control.target.set("svc1", "v2=60").await;
    assert_eq!(refused.status, 507, "{}", refused.text);
    assert!(refused.json()["cure"].as_str().unwrap().contains("control rollback"), "{}", refused.text);
    gateway.serves("svc1", &[("v1", 50), ("v2", 50)]).await;
    let lower = control.target.set("svc1", "v2=40").await.json();
    assert_eq!((&lower["acknowledged"], &lower["saved"]), (&json!(1), &json!(false)), "{lower}");
    let rolled = control.target.post("/v1/routes/svc1/rollback", &json!({})).await.json();
    assert_eq!((&rolled["acknowledged"], &rolled["saved"]), (&json!(1), &json!(false)), "{rolled}");
    gateway.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
    let metrics = control.target.get("/metrics").await.text;
    assert!(metrics.contains("control_state_unsaved 1"), "{metrics}");
    assert_eq!(control.target.get("/v1/routes").await.json()["control"]["saved"], false);
    // The disk is freed: what was published is written without being asked.
    std::fs::remove_dir(folder.path().join("state.json.tmp")).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(control.target.get("/v1/routes").await.json()["control"]["saved"], true);
    control.stop_with(_running).await;
    let document = StateFile::open(&folder.path().join("state.json"), false).unwrap().1.unwrap();
    assert_eq!(document.routes["svc1"].weights, weights(&[("v1", 10_000), ("v2", 0)]));
}

#[tokio::test(start_paused = true)]
async fn control_starts_on_a_full_disk_and_can_still_roll_back() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, running) = with_full_disk(&folder).await;
    control.stop_with(running).await;
    let again = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let _running = gateway.run(&again.target, 30);
    let rolled = again.target.post("/v1/routes/svc1/rollback", &json!({})).await.json();
    assert_eq!(rolled["saved"], false, "{rolled}");
    gateway.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_left_the_configuration_gives_its_weight_to_the_stable_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write(&path, &document(7));
    let routes = "routes:\n  svc1: {targets: [v1, v3], stable: v1}\n";
    let control = Local::start(&config_text(&path, routes)).await;
    let view = control.target.get("/v1/routes/svc1").await.json();
    assert_eq!(view["routes"][0]["weights"], json!({"v1": 10_000, "v3": 0}));
    assert_eq!(view["routes"][0]["changed"]["kind"], "config");
    assert!(view["control"]["version"].as_str().unwrap().starts_with("2.8-"), "{view}");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_new_in_the_configuration_begins_with_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write(&path, &document(7));
    let routes = "routes:\n  svc1: {targets: [v1, v2], stable: v1}\n  svc2: {targets: [a, b], stable: a, weights: {b: 5}}\n";
    let control = Local::start(&config_text(&path, routes)).await;
    let gateway = FakeGateway::new("g1", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control)
        .with_version("1.7-x");
    gateway.served.send_modify(|served| {
        let status =
            gateway_config::wire::RouteStatus { weights: weights(&[("a", 1)]), ..Default::default() };
        served.routes.insert("svc2".to_owned(), status);
    });
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc2", &[("a", 95), ("b", 5)]).await;
    gateway.serves("svc1", &[("v1", 90), ("v2", 10)]).await;
}

/// A disk that hangs: opening a named pipe for writing waits for a reader.
struct Hang(std::path::PathBuf);

impl Hang {
    fn new(folder: &tempfile::TempDir) -> Self {
        let path = folder.path().join("state.json.tmp");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self(path)
    }

    /// The write that hung fails, and the next ones find a disk as it should be.
    fn end(self) -> std::fs::File {
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(&self.0).unwrap();
        std::fs::remove_file(&self.0).unwrap();
        reader
    }
}

/// Lets time pass: by itself it stands still while a write hangs.
async fn pass(time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        tokio::time::advance(Duration::from_millis(50)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

/// A control at 50/50 whose disk takes everything.
async fn at_half(folder: &tempfile::TempDir) -> (Local, FakeGateway, support::Running) {
    let (control, gateway, running) = with_full_disk(folder).await;
    std::fs::remove_dir(folder.path().join("state.json.tmp")).unwrap();
    (control, gateway, running)
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_refused_and_landed_late_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let (control, _gateway, running) = at_half(&folder).await;
    let hang = Hang::new(&folder);
    let target = control.target.clone();
    let rise = tokio::spawn(async move { target.set("svc1", "v2=60").await });
    pass(Duration::from_secs(4)).await;
    let refused = rise.await.unwrap();
    assert_eq!(refused.status, 507, "{}", refused.text);
    let view = control.target.get("/v1/routes").await.json();
    assert_eq!(
        (&view["control"]["saved"], &view["routes"][0]["weights"]["v2"]),
        (&json!(false), &json!(5_000))
    );
    // What the disk would hold had the write come to its end after all.
    edit(&path, |value| value["routes"]["svc1"]["weights"] = json!({"v1": 4_000, "v2": 6_000}));
    let _reader = hang.end();
    let mut saved = json!(false);
    while saved == json!(false) {
        pass(Duration::from_secs(1)).await;
        saved = control.target.get("/v1/routes").await.json()["control"]["saved"].clone();
    }
    control.stop_with(running).await;
    let document = StateFile::open(&path, false).unwrap().1.unwrap();
    assert_eq!(document.routes["svc1"].weights, weights(&[("v1", 5_000), ("v2", 5_000)]));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_carried_to_its_end_though_its_client_left() {
    let folder = tempfile::tempdir().unwrap();
    let (control, gateway, _running) = at_half(&folder).await;
    let hang = Hang::new(&folder);
    let target = control.target.clone();
    let rollback = tokio::spawn(async move { target.post("/v1/routes/svc1/rollback", &json!({})).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    rollback.abort();
    assert!(rollback.await.unwrap_err().is_cancelled(), "it was still being written");
    pass(Duration::from_secs(3)).await;
    gateway.serves("svc1", &[("v1", 100), ("v2", 0)]).await;
    let _reader = hang.end();
}

#[tokio::test(start_paused = true)]
async fn what_the_fleet_serves_is_adopted_on_a_full_disk_because_it_moves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("state.json.tmp")).unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let gateway = FakeGateway::new("g1", "svc1", &[("v1", 70), ("v2", 30)], WeightSource::Control)
        .with_version("4.7-old");
    let _running = gateway.run(&control.target, 30);
    let mut served = gateway.served.subscribe();
    served.wait_for(|served| served.version.starts_with("5.")).await.unwrap();
    let view = control.target.get("/v1/routes").await.json();
    assert_eq!(
        (&view["control"]["phase"], &view["control"]["saved"]),
        (&json!("active"), &json!(false)),
        "{view}"
    );
    assert_eq!(view["routes"][0]["weights"]["v2"], 3_000);
    assert_eq!(control.target.set("svc1", "v2=40").await.status, 507, "a rise is refused all the same");
}
