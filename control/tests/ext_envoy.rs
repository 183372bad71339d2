//! The real Envoy driven by control over REST discovery, on the bootstrap of docs/envoy.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod ext_parts;

use ext_parts::{Backends, Edge, SOON, Site, Weir, answers, bootstrap, only};
use testkit::client::{get, poll};
use testkit::process::Envoy;

const ROUTES: &str = "  svc1: {targets: [v1, v2], stable: v1, weights: {v1: 100, v2: 0}}\n";
const WITH_V3: &str = "  svc1: {targets: [v1, v2, v3], stable: v1}\n";
const POLLS: [(&str, &str); 2] =
    [("metadata: {hold: true}", "metadata: {}"), ("refresh_delay: 0.001s", "refresh_delay: 0.2s")];
const SENT: &str = "control_discovery_requests_total{answer=\"sent\"}";
const NOT_MODIFIED: &str = "control_discovery_requests_total{answer=\"not_modified\"}";

#[tokio::test]
#[ignore = "needs envoy"]
async fn an_envoy_whose_requests_are_held_serves_each_change_and_is_asked_no_more_often_than_it_changes() {
    let (site, backends) = (Site::new(), Backends::start());
    let _control = site.control(ROUTES, &[]).await;
    let edge = Edge::start(&site, &backends, &[]).await;
    assert_eq!(answers(edge.addr, 20).await, only("v1", 20));
    for (weight, version) in [("v2=100%", "v2"), ("v2=0%", "v1"), ("v2=100%", "v2")] {
        let outcome = site.set_weight(weight).await;
        assert_eq!((&outcome["acknowledged"], &outcome["awaited"]), (&1.into(), &1.into()), "{outcome}");
        poll(edge.addr, "/", |answer| answer.header("x-v") == Some(version)).await.unwrap();
        assert_eq!(answers(edge.addr, 20).await, only(version, 20));
        println!("{weight}: acknowledged after {} ms", outcome["elapsed_ms"]);
    }
    site.set_weight("v2=50%").await;
    let both = answers(edge.addr, 200).await;
    assert!(both.len() == 2 && both.values().all(|count| *count > 50), "{both:?}");
    // The first weights and four changes. A request is open, and whatever was open longer than 30 s says so too.
    let held_out = edge.rds("update_attempt").await.saturating_sub(6);
    assert!(held_out <= 1, "Envoy asked {} times", held_out + 6);
    assert_eq!(edge.rds("update_rejected").await, 0);
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn an_envoy_that_polls_has_a_change_with_its_next_poll_and_control_shows_it_as_far_as_it_is_known() {
    let (site, backends) = (Site::new(), Backends::start());
    let _control = site.control(ROUTES, &[]).await;
    let edge = Edge::start(&site, &backends, &POLLS).await;
    let outcome = site.set_weight("v2=100%").await;
    println!("acknowledged after {} ms", outcome["elapsed_ms"]);
    poll(edge.addr, "/", |answer| answer.header("x-v") == Some("v2")).await.unwrap();
    assert_eq!(answers(edge.addr, 20).await, only("v2", 20));

    let gateways = site.gateways(|gateways| gateways.len() == 1).await;
    assert_eq!(gateways[0]["id"], "edge-1@127.0.0.1");
    assert_eq!((&gateways[0]["kind"], &gateways[0]["state"]), (&"envoy".into(), &"connected".into()));
    assert_eq!(gateways[0]["version"], outcome["version"]);
    assert_eq!(gateways[0]["routes"], serde_json::json!(["svc1"]));
    let said = site.cli(&["get", "svc1"]).await.out;
    assert!(
        said.starts_with("svc1: v1 0 %, v2 100 %, health not reported, 1 gateway agrees"),
        "what an Envoy does not tell is not claimed: {said}"
    );
    let row = said.lines().find(|line| line.contains("edge-1@")).unwrap();
    assert!(row.contains("not told") && row.contains("agrees"), "{row}");
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn a_version_that_an_envoy_refuses_is_named_and_not_sent_again_and_a_rollback_gets_through() {
    for (manner, changes) in [("held", &[][..]), ("polling", &POLLS[..])] {
        let (site, backends) = (Site::new(), Backends::start());
        let control = site.control(ROUTES, &[]).await;
        let edge = Edge::start(&site, &backends, changes).await;
        site.set_weight("v2=100%").await;
        // v3 is a target from now on, and this Envoy has no such cluster: at weight 0 that is no matter.
        control.kill().await.unwrap();
        let _control = site.control(WITH_V3, &[]).await;
        site.route(SOON, |route| route["agree"] == 1).await;
        let taken = edge.rds("update_success").await;

        for weights in [["v1=50", "v2=0", "v3=50"], ["v1=40", "v2=0", "v3=60"]] {
            let command = [&["set-weight", "svc1"], &weights[..], &["--timeout", "1s"]].concat();
            let said = site.cli(&command).await;
            assert_eq!(said.code, 3, "{manner}: {said:?}");
            assert!(said.err.contains("edge-1@127.0.0.1: refused 2."), "{manner}: {said:?}");
        }
        let log = edge.envoy.process.line("config for").await.unwrap();
        assert!(log.contains("rejected") && log.contains("unknown weighted cluster 'v3'"), "{log}");
        assert_eq!(answers(edge.addr, 20).await, only("v2", 20), "{manner}: it serves what it had");
        if manner == "polling" {
            let now = site.metric(NOT_MODIFIED).await;
            site.metric_reaches(NOT_MODIFIED, now + 5.0).await;
        }
        // The version of the start, and two that were sent once and refused once.
        assert_eq!(edge.rds("update_rejected").await, 2, "{manner}");
        assert_eq!(site.metric("control_refusals_total").await, 2.0, "{manner}");
        if manner == "held" {
            assert_eq!(site.metric(SENT).await, 3.0);
            assert_eq!(edge.rds("update_success").await, taken);
        }
        let gateways = site.cli(&["gateways"]).await.out;
        assert!(gateways.contains("it came back with its old version"), "{manner}: {gateways}");

        let said = site.cli(&["rollback", "svc1"]).await;
        assert_eq!(said.code, 0, "{manner}: {said:?}");
        poll(edge.addr, "/", |answer| answer.header("x-v") == Some("v1")).await.unwrap();
        assert_eq!(site.gateways(|_| true).await[0]["refused"], serde_json::Value::Null, "{manner}");
    }
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn a_weir_gateway_and_an_envoy_on_one_control_agree() {
    let (site, backends) = (Site::new(), Backends::start());
    let control = site.control(ROUTES, &[]).await;
    let weir = Weir::start(&site, &backends).await;
    let edge = Edge::start(&site, &backends, &[]).await;
    site.route(SOON, |route| route["agree"] == 2).await;
    for (weight, version) in [("v2=100%", "v2"), ("v2=0%", "v1")] {
        let outcome = site.set_weight(weight).await;
        assert_eq!((&outcome["acknowledged"], &outcome["awaited"]), (&2.into(), &2.into()), "{outcome}");
        println!("{weight}: both after {} ms", outcome["elapsed_ms"]);
        for addr in [weir.addr, edge.addr] {
            poll(addr, "/", |answer| answer.header("x-v") == Some(version)).await.unwrap();
            assert_eq!(answers(addr, 20).await, only(version, 20));
        }
    }
    let said = site.cli(&["get", "svc1"]).await.out;
    assert!(said.starts_with("svc1: v1 100 %, v2 0 %, both healthy, 2 gateways agree"), "{said}");
    let kinds = |gateways: &[serde_json::Value]| {
        let mut kinds: Vec<_> = gateways.iter().map(|gateway| gateway["kind"].clone()).collect();
        kinds.sort_by_key(ToString::to_string);
        kinds
    };
    assert_eq!(kinds(&site.gateways(|gateways| gateways.len() == 2).await), ["envoy", "weir"]);

    // Both serve on without control, and take a change from the control that comes after it.
    control.kill().await.unwrap();
    for addr in [weir.addr, edge.addr] {
        assert_eq!(answers(addr, 20).await, only("v1", 20));
    }
    let _control = site.control(ROUTES, &[]).await;
    site.route(SOON, |route| route["agree"] == 2).await;
    let outcome = site.set_weight("v2=100%").await;
    assert_eq!(outcome["acknowledged"], 2, "{outcome}");
    for addr in [weir.addr, edge.addr] {
        poll(addr, "/", |answer| answer.header("x-v") == Some("v2")).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn an_envoy_with_a_wrong_token_gets_nothing_until_its_file_is_right() {
    let (site, backends) = (Site::new(), Backends::start());
    let _control = site.control(ROUTES, &[]).await;
    std::fs::write(site.path("authorization"), "Bearer not-the-token-of-the-tests").unwrap();
    let envoy = Envoy::start(&bootstrap(&site, &backends, &POLLS)).await.unwrap();
    site.metric_reaches("control_unauthorized_total", 3.0).await;
    assert_eq!(site.metric(SENT).await, 0.0);
    assert!(site.gateways(|_| true).await.is_empty());
    assert_eq!(get(envoy.admin.unwrap(), "/ready").await.unwrap().status, 503, "no weights, no traffic");
    drop(envoy);
    std::fs::write(site.path("authorization"), format!("Bearer {}", ext_parts::GATEWAY_TOKEN)).unwrap();
    let edge = Edge::start(&site, &backends, &POLLS).await;
    assert_eq!(answers(edge.addr, 1).await, only("v1", 1));
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn a_control_that_lost_its_state_moves_no_envoy_until_it_is_told_the_weights() {
    let (site, backends) = (Site::new(), Backends::start());
    let control = site.control(ROUTES, &[]).await;
    let edge = Edge::start(&site, &backends, &[]).await;
    let before = site.set_weight("v2=100%").await;
    control.kill().await.unwrap();
    std::fs::remove_file(site.path("state.json")).unwrap();
    let _control = site.control(ROUTES, &[]).await;
    // The weights of the configuration, v1 at 100 %, are for a first start, which this is not.
    site.gateways(|gateways| gateways.len() == 1 && gateways[0]["version"] == before["version"]).await;
    let said = site.cli(&["set-weight", "svc1", "v2=50%"]).await;
    assert!(said.code == 1 && said.err.contains("--force"), "{said:?}");
    assert_eq!(answers(edge.addr, 20).await, only("v2", 20));
    let said = site.cli(&["set-weight", "svc1", "v2=0%", "--force"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    poll(edge.addr, "/", |answer| answer.header("x-v") == Some("v1")).await.unwrap();
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn without_tokens_an_envoy_on_loopback_is_let_in_whatever_it_calls_control() {
    let (site, backends) = (Site::open(), Backends::start());
    let _control = site.control(ROUTES, &[]).await;
    // Its Host is the name of its cluster: `control`.
    let edge = Edge::start(&site, &backends, &[]).await;
    assert_eq!(answers(edge.addr, 1).await, only("v1", 1));
    assert_eq!(site.metric("control_unauthorized_total").await, 0.0);
}
