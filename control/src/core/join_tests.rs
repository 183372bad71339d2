//! A state that is read only after this control has spoken: what was written there since counts, what is older does not.

use super::change::{Author, Change, What};
use super::fleet::Subject;
use super::simulation::{Gateway, request, routes, split};
use super::{Answer, Core, Now};
use crate::state::document::Document;
use gateway_config::discovered::GatewayResources;
use gateway_config::wire::Version;
use std::collections::BTreeMap;

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: 0 }
}

fn make(core: &mut Core, what: What) {
    let change = Change { what, author: Author::default(), reason: String::new() };
    let planned = core.plan(at(4_000), &change).unwrap();
    core.commit(&planned, true);
}

fn set(canary: u32) -> What {
    What::Set { routes: BTreeMap::from([("svc1".to_owned(), split(canary))]), force: true }
}

fn rollback() -> What {
    What::Rollback("svc1".to_owned())
}

/// A control with 10 % on the canary, at 1.1-a.
fn leader() -> Core {
    let mut core = Core::start(routes(), None, "a", at(0));
    make(&mut core, set(1_000));
    core
}

/// A start that cannot read the state, and has taken over what a gateway of `leader` serves.
fn adopter(leader: &Core) -> Core {
    let mut core = Core::start(routes(), None, "b", at(0));
    core.note_unread("no answer".to_owned());
    let gateway = Gateway {
        version: leader.version().unwrap(),
        weights: leader.weights("svc1").unwrap().clone(),
        ..Gateway::default()
    };
    core.hear(at(0), "10.0.0.1", &request(0, &gateway)).unwrap();
    let change = core.due_adoption(at(4_000)).unwrap();
    let planned = core.plan(at(4_000), &change).unwrap();
    core.commit(&planned, false);
    core
}

fn join(core: &mut Core, found: &Document) {
    core.note_epoch(found.control.epoch);
    let planned = core.plan_join(at(5_000), found.clone()).unwrap();
    core.commit(&planned, true);
}

fn canary(core: &Core) -> u32 {
    core.weights("svc1").unwrap()["v2"]
}

#[test]
fn a_rollback_that_the_older_control_wrote_since_is_not_undone() {
    let mut older = leader();
    let mut newer = adopter(&older);
    make(&mut older, rollback());
    let before = newer.document().control.clone();
    join(&mut newer, older.document());
    assert_eq!(canary(&newer), 0, "{:?}", newer.document());
    let record = &newer.document().routes["svc1"];
    assert_eq!(record.version, newer.version().unwrap(), "the gateways get it as news");
    assert!(newer.document().control.seq > before.seq);
    assert_eq!(record.history.back().unwrap().from.as_ref().unwrap()["v2"], 1_000);
    // The same through one more start of the older side.
    let mut older = leader();
    let mut newer = adopter(&older);
    make(&mut older, rollback());
    let again = Core::start(routes(), Some(Document::clone(older.document())), "c", at(0));
    join(&mut newer, again.document());
    assert_eq!((canary(&newer), newer.document().control.epoch), (0, 3));
}

#[test]
fn what_was_changed_here_stays_whatever_was_written_there() {
    let mut older = leader();
    let mut newer = adopter(&older);
    make(&mut newer, rollback());
    make(&mut older, set(5_000));
    join(&mut newer, older.document());
    assert_eq!(canary(&newer), 0);
}

#[test]
fn what_the_gateways_served_stays_over_an_older_state_and_a_strange_one() {
    let mut older = leader();
    let old = Document::clone(older.document());
    make(&mut older, rollback());
    // The rollback went out unwritten.
    let mut newer = adopter(&older);
    join(&mut newer, &old);
    assert_eq!(canary(&newer), 0);
    let mut strange = old;
    strange.control.id = "z".to_owned();
    strange.control.epoch = 9;
    strange.routes.get_mut("svc1").unwrap().version = "9.9-z".to_owned();
    let mut newer = adopter(&older);
    join(&mut newer, &strange);
    assert_eq!((canary(&newer), newer.document().control.epoch), (0, 10));
}

#[test]
fn a_first_configuration_that_was_given_out_early_is_below_what_the_state_brings() {
    let found = leader();
    let mut core = Core::start(routes(), None, "b", at(0)).with_gateway(Some(GatewayResources::default()));
    core.note_unread("no answer".to_owned());
    for number in 0..5 {
        let cluster = serde_json::json!({"name": format!("v{number}")});
        let resources = GatewayResources { clusters: vec![cluster], ..GatewayResources::default() };
        assert!(core.replace_config(Some(&resources)));
    }
    let mut asks = request(0, &Gateway::default());
    asks.node.metadata.weir.as_mut().unwrap().routes.clear();
    core.note_epoch(1);
    let (client, _) = core.hear_config(at(1), "10.0.0.1", &asks, Subject::Clusters).unwrap();
    assert_eq!(core.answer_config(at(1), &client, &asks), Answer::Send);
    let (early, nonce) = core.note_config_sent(at(1), &client, true);
    join(&mut core, found.document());
    let late = core.config_version().unwrap();
    let (before, after) = (Version::parse(&early).unwrap(), Version::parse(&late).unwrap());
    assert!(before.may_become(&after), "{early} {late}");
    asks.version_info = early;
    asks.response_nonce = nonce;
    core.hear_config(at(2), "10.0.0.1", &asks, Subject::Clusters).unwrap();
    assert_eq!(core.fence(), None, "nobody is ahead of oneself");
}

#[test]
fn a_state_without_routes_is_not_written_over_from_below() {
    let mut newer = adopter(&leader());
    let mut found = Document::default();
    found.control.epoch = 40;
    join(&mut newer, &found);
    assert_eq!((newer.document().control.epoch, canary(&newer)), (41, 1_000));
}
