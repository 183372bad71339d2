//! What is kept of gateways, and for how long: bounded, counted once, gone when they say so.

use super::counters::{Key, target_view};
use super::fleet::Fleet;
use crate::settings::{RouteSettings, Routes};
use gateway_config::wire::{
    DiscoveryNode, DiscoveryRequest, ErrorDetail, GatewayStatus, NodeMetadata, Report, RouteStatus,
    TargetReport, WeightSource,
};
use std::collections::BTreeMap;

fn routes() -> Routes {
    let settings = RouteSettings {
        targets: vec!["v1".to_owned(), "v2".to_owned()],
        stable: "v1".to_owned(),
        weights: None,
    };
    BTreeMap::from([("svc1".to_owned(), settings)])
}

fn status(id: &str, boot: &str) -> GatewayStatus {
    let route = RouteStatus { weights: BTreeMap::from([("v1".to_owned(), 1)]), ..RouteStatus::default() };
    GatewayStatus {
        instance_id: id.to_owned(),
        boot_id: boot.to_owned(),
        state: "LIVE".to_owned(),
        routes: BTreeMap::from([("svc1".to_owned(), route)]),
        ..GatewayStatus::default()
    }
}

fn request(status: GatewayStatus) -> DiscoveryRequest {
    let metadata = NodeMetadata { hold: false, weir: Some(status) };
    DiscoveryRequest {
        node: DiscoveryNode { metadata, ..DiscoveryNode::default() },
        ..DiscoveryRequest::default()
    }
}

fn report(id: &str, boot: &str, uptime_ms: u64, requests: u64) -> Report {
    let target = TargetReport { requests, ..TargetReport::default() };
    Report {
        boot_id: boot.to_owned(),
        uptime_ms,
        status: status(id, boot),
        routes: BTreeMap::from([("svc1".to_owned(), BTreeMap::from([("v1".to_owned(), target)]))]),
        ..Report::default()
    }
}

fn requests(fleet: &Fleet) -> u64 {
    let key: Key = ("svc1".to_owned(), "v1".to_owned());
    target_view(&key, fleet.retired(&key), fleet.counters(), std::iter::empty()).requests
}

#[test]
fn of_a_senders_word_only_a_bounded_part_is_kept() {
    let mut fleet = Fleet::default();
    let long = "x".repeat(10_000);
    let mut status = status("g1", "b");
    status.build.clone_from(&long);
    status.state.clone_from(&long);
    let route = status.routes.get_mut("svc1").unwrap();
    route.version.clone_from(&long);
    route.stable.clone_from(&long);
    for number in 0..1_000 {
        route.weights.insert(format!("unknown-{number}"), 1);
        route.weights.insert(format!("idle-{number}"), 0);
    }
    route.weights.insert(format!("a{long}"), 1);
    route.weights.insert("v1\u{7}".to_owned(), 1);
    for number in 0..1_000 {
        status.routes.insert(format!("unmanaged-{number}"), RouteStatus::default());
    }
    for round in 0..100 {
        let mut request = request(status.clone());
        request.version_info.clone_from(&long);
        request.resource_names = (0..50).map(|name| format!("{name}-{round}")).collect();
        fleet.hear(round, "10.0.0.1", &request, &routes()).unwrap();
    }
    let kept = format!("{:?}", fleet.get("g1").unwrap());
    assert!(kept.len() < 30_000, "{} bytes", kept.len());
    let weights = &fleet.get("g1").unwrap().route("svc1").unwrap().weights;
    assert_eq!(weights["v1"], 1, "and what is known is as it was told");
    assert!(weights.len() > 2, "an unknown target with weight is a difference");
}

#[test]
fn a_gateway_that_was_forgotten_and_comes_back_is_counted_once() {
    let mut fleet = Fleet::default();
    fleet.report(1, "g1", &report("g1", "b", 10, 100), &routes()).unwrap();
    assert!(fleet.forget("g1"));
    assert_eq!(requests(&fleet), 100);
    fleet.report(2, "g1", &report("g1", "b", 20, 110), &routes()).unwrap();
    assert_eq!(requests(&fleet), 110);
    // Of those that do not come back nothing is lost, however many there are.
    for number in 0..500_u64 {
        let id = format!("n{number}");
        fleet.report(3, &id, &report(&id, "b", 1, 1), &routes()).unwrap();
        fleet.forget(&id);
    }
    assert_eq!(requests(&fleet), 610);
}

#[test]
fn an_epoch_that_no_control_can_have_come_to_is_not_believed() {
    let mut fleet = Fleet::default();
    for (version, believed) in [("18446744073709551615.1-x", 0), ("7.1-x", 1)] {
        let mut request = request(status("g1", "b"));
        request.version_info = version.to_owned();
        fleet.hear(1, "10.0.0.1", &request, &routes()).unwrap();
        assert_eq!(fleet.get("g1").unwrap().versions().count(), believed, "{version}");
    }
}

#[test]
fn a_source_that_is_not_known_makes_no_request_unreadable() {
    let route: RouteStatus = serde_json::from_str(r#"{"source": "moonlight", "version": "1.2-x"}"#).unwrap();
    assert_eq!((route.source, route.version.as_str()), (WeightSource::File, "1.2-x"));
    for source in [WeightSource::File, WeightSource::Tripwire, WeightSource::Saved] {
        let text = serde_json::to_string(&source).unwrap();
        assert_eq!(serde_json::from_str::<WeightSource>(&text).unwrap(), source);
    }
}

#[test]
fn a_goodbye_stands_until_another_process_comes() {
    let mut fleet = Fleet::default();
    let mut goodbye = status("g1", "b");
    goodbye.goodbye = true;
    fleet.hear(1, "10.0.0.1", &request(goodbye), &routes()).unwrap();
    fleet.hear(2, "10.0.0.1", &request(status("g1", "b")), &routes()).unwrap();
    fleet.report(3, "g1", &report("g1", "b", 1, 1), &routes()).unwrap();
    assert_eq!(fleet.get("g1").unwrap().state(3), "gone", "overtaken words");
    fleet.hear(4, "10.0.0.1", &request(status("g1", "another")), &routes()).unwrap();
    assert_eq!(fleet.get("g1").unwrap().state(4), "connected");
}

#[test]
fn weights_that_were_refused_are_sent_again_to_a_gateway_that_has_another_configuration() {
    let mut fleet = Fleet::default();
    let mut asks = request(status("g1", "b"));
    asks.node.metadata.weir.as_mut().unwrap().config_version = "1.1-x".to_owned();
    let (client, _) = fleet.hear(1, "10.0.0.1", &asks, &routes()).unwrap();
    asks.response_nonce = fleet.note_sent(1, &client, "1.4-x", true);
    asks.error_detail = Some(ErrorDetail { code: 3, message: "there is no v2 here".to_owned() });
    let (_, refusal) = fleet.hear(2, "10.0.0.1", &asks, &routes()).unwrap();
    assert!(refusal.is_some() && fleet.has_refused(&client, "1.4-x"));
    asks.error_detail = None;
    fleet.hear(3, "10.0.0.1", &asks, &routes()).unwrap();
    assert!(fleet.has_refused(&client, "1.4-x"), "nothing has changed there");
    asks.node.metadata.weir.as_mut().unwrap().config_version = "1.5-x".to_owned();
    let (client, refusal) = fleet.hear(4, "10.0.0.1", &asks, &routes()).unwrap();
    assert_eq!((refusal, fleet.has_refused(&client, "1.4-x")), (None, false));
    assert_eq!(fleet.get("g1").unwrap().refused, None);
}
