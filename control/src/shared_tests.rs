//! What followers are told: nothing by a control that does not lead, or cannot know that yet.

use crate::core::change::{Author, Change, ChangeError, What};
use crate::core::{Core, Now};
use crate::settings::{RouteSettings, Routes};
use crate::shared::{Follower, Shared, Wanted};
use crate::state::document::{Document, Identity, RouteRecord, Weights};
use crate::state::file::StateFile;
use crate::state::store::Store;
use gateway_config::wire::{
    DiscoveryNode, DiscoveryRequest, GatewayStatus, NodeMetadata, RouteStatus, WeightSource,
};
use lifecycle::drain::Drain;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

const ROUTE: &str = "svc1";

fn split(canary: u32) -> Weights {
    BTreeMap::from([("v1".to_owned(), 10_000 - canary), ("v2".to_owned(), canary)])
}

fn told(canary: u32) -> Wanted {
    Ok(vec![("v1".to_owned(), 10_000 - canary), ("v2".to_owned(), canary)])
}

fn routes() -> Routes {
    let settings = RouteSettings {
        targets: vec!["v1".to_owned(), "v2".to_owned()],
        stable: "v1".to_owned(),
        weights: None,
    };
    BTreeMap::from([(ROUTE.to_owned(), settings)])
}

/// The state of a control that was at 3.7-x with a canary of 10 %.
fn state() -> Document {
    let record = RouteRecord {
        weights: split(1_000),
        stable: "v1".to_owned(),
        configured_stable: "v1".to_owned(),
        version: "3.7-x".to_owned(),
        ..RouteRecord::default()
    };
    Document {
        control: Identity { id: "x".to_owned(), epoch: 3, seq: 7, ..Identity::default() },
        routes: BTreeMap::from([(ROUTE.to_owned(), record)]),
        ..Document::default()
    }
}

fn request(version: &str, canary: u32) -> DiscoveryRequest {
    let route = RouteStatus {
        weights: split(canary),
        stable: "v1".to_owned(),
        source: WeightSource::Control,
        version: version.to_owned(),
        ..RouteStatus::default()
    };
    let status = GatewayStatus {
        instance_id: "g1".to_owned(),
        boot_id: "b".to_owned(),
        state: "LIVE".to_owned(),
        routes: BTreeMap::from([(ROUTE.to_owned(), route)]),
        ..GatewayStatus::default()
    };
    DiscoveryRequest {
        version_info: version.to_owned(),
        node: DiscoveryNode {
            metadata: NodeMetadata { hold: false, weir: Some(status) },
            ..DiscoveryNode::default()
        },
        ..DiscoveryRequest::default()
    }
}

fn change(what: What) -> Change {
    Change { what, author: Author::default(), reason: String::new() }
}

fn set(canary: u32) -> Change {
    change(What::Set { routes: BTreeMap::from([(ROUTE.to_owned(), split(canary))]), force: false })
}

struct Control {
    shared: Arc<Shared>,
    wanted: watch::Receiver<Wanted>,
    again: watch::Receiver<u64>,
    drain: Drain,
    _folder: tempfile::TempDir,
}

impl Control {
    fn start(state: Option<Document>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = StateFile::open(&folder.path().join("state.json"), false).unwrap();
        let core = Core::start(routes(), state, "y", Now::default());
        let (sender, wanted) = watch::channel(Err(String::new()));
        let (again_sender, again) = watch::channel(0);
        let status = Box::new(|| serde_json::Value::Null);
        let follower = Follower { wanted: sender, again: again_sender, status };
        let followers = BTreeMap::from([(ROUTE.to_owned(), follower)]);
        let drain = Drain::new();
        let shared = Arc::new(Shared::new(core, Store::new(file), drain.watch(), followers));
        Self { shared, wanted, again, drain, _folder: folder }
    }

    fn hear(&self, version: &str, canary: u32) {
        self.shared.hear("10.0.0.1", &request(version, canary)).unwrap();
    }

    fn told(&self) -> Wanted {
        self.wanted.borrow().clone()
    }

    fn says_why_not(&self, why: &str) {
        let told = self.told().unwrap_err();
        assert!(told.contains(why), "{told}");
    }
}

#[tokio::test]
async fn a_stale_copy_tells_nothing_before_it_heard_a_gateway_nor_after() {
    let control = Control::start(Some(state()));
    control.says_why_not("hears first");
    control.hear("3.9-x", 5_000);
    control.says_why_not("3.9-x");
    assert!(matches!(control.shared.change(set(2_000)).await, Err(ChangeError::Fenced(_))));
    control.says_why_not("3.9-x");
}

#[tokio::test]
async fn a_version_that_was_left_behind_does_not_show_who_leads() {
    let control = Control::start(Some(state()));
    control.hear("2.9-other", 1_000);
    control.says_why_not("hears first");
    control.hear("3.7-x", 1_000);
    assert_eq!(control.told(), told(1_000));
}

#[tokio::test]
async fn a_fence_silences_and_the_lead_speaks_again() {
    let control = Control::start(Some(state()));
    control.hear("3.6-x", 1_000);
    assert_eq!(control.told(), told(1_000));
    control.hear("9.1-z", 3_000);
    control.says_why_not("9.1-z");
    control.hear("9.2-z", 3_000);
    control.says_why_not("9.2-z");
    let weights = control.shared.with_core(|core| core.adoptable(Now::default(), Some("g1"))).unwrap();
    control.shared.change(change(What::Adopt(weights))).await.unwrap();
    assert_eq!(control.told(), told(3_000));
}

#[tokio::test(start_paused = true)]
async fn silence_of_the_fleet_is_consent_after_a_while() {
    let mut control = Control::start(Some(state()));
    let begun = tokio::time::Instant::now();
    let house = Arc::clone(&control.shared);
    let house = tokio::spawn(async move { house.keep_house().await });
    control.wanted.wait_for(Result::is_ok).await.unwrap();
    assert!(begun.elapsed().as_millis() >= u128::from(crate::core::adoption::HEAR_FIRST_MS));
    control.drain.close();
    house.await.unwrap();
}

#[tokio::test]
async fn an_own_change_needs_no_other_word() {
    let control = Control::start(Some(state()));
    control.shared.change(set(2_000)).await.unwrap();
    assert_eq!(control.told(), told(2_000));
}

#[tokio::test]
async fn the_same_weights_again_are_asked_for_by_set_and_rollback_and_not_by_stable() {
    let control = Control::start(Some(state()));
    let asked = || *control.again.borrow();
    control.shared.change(set(0)).await.unwrap();
    assert_eq!(asked(), 0, "these are news");
    control.shared.change(set(0)).await.unwrap();
    assert_eq!(asked(), 1);
    control.shared.change(change(What::Rollback(ROUTE.to_owned()))).await.unwrap();
    assert_eq!(asked(), 2);
    let stable = What::Stable { route: ROUTE.to_owned(), target: "v2".to_owned(), build: None };
    control.shared.change(change(stable)).await.unwrap();
    assert_eq!(asked(), 2, "another stable target asks for no weights");
}

#[tokio::test]
async fn an_adoption_that_a_rollback_went_ahead_of_undoes_nothing_and_is_no_fault() {
    let control = Control::start(None);
    control.hear("3.7-x", 1_000);
    let later = Now { mono_ms: 60_000, unix_ms: 0 };
    let due = control.shared.with_core(|core| {
        let mut then = core.clone();
        then.hear(later, "10.0.0.1", &request("3.7-x", 1_000)).unwrap();
        then.due_adoption(later)
    });
    let due = due.expect("due a minute later");
    control.shared.change(change(What::Rollback(ROUTE.to_owned()))).await.unwrap();
    assert!(matches!(control.shared.change(due).await, Err(ChangeError::Nothing)));
    assert_eq!(control.told(), told(0));
}
