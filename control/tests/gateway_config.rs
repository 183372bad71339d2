//! Listeners and clusters by discovery: one version for both, held, refused once, never moved by weights.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod support;

use gateway_config::state_item::StateView;
use gateway_config::wire::{
    CLUSTER_TYPE_URL, DiscoveryNode, DiscoveryRequest, ErrorDetail, GatewayStatus, LISTENER_TYPE_URL,
    NodeMetadata, Version, WeightSource,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use support::{Answer, FakeGateway, GATEWAY, Local, ROUTES, Remote, Target, config_text};
use tokio::time::Instant;

fn text(folder: &Path, gateway: &str) -> String {
    config_text(&folder.join("state.json"), &format!("{ROUTES}{gateway}"))
}

async fn control(folder: &tempfile::TempDir) -> Local {
    Local::start(&text(folder.path(), GATEWAY)).await
}

/// A gateway that knows nothing but control and its token.
#[derive(Clone, Default)]
struct Bare {
    id: String,
    version: String,
    nonce: String,
    refused: Option<String>,
}

impl Bare {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    fn request(&self) -> DiscoveryRequest {
        let weir = GatewayStatus {
            instance_id: self.id.clone(),
            boot_id: "b".to_owned(),
            state: "INITIALIZING".to_owned(),
            zone: "eu-west-1a".to_owned(),
            config_version: self.version.clone(),
            ..GatewayStatus::default()
        };
        DiscoveryRequest {
            version_info: self.version.clone(),
            response_nonce: self.nonce.clone(),
            error_detail: self.refused.clone().map(|message| ErrorDetail { code: 3, message }),
            node: DiscoveryNode {
                metadata: NodeMetadata { hold: false, weir: Some(weir) },
                ..DiscoveryNode::default()
            },
            ..DiscoveryRequest::default()
        }
    }

    async fn ask(&self, target: &Target, what: &str, wait: u64) -> Answer {
        post(target, what, &self.request(), wait).await
    }

    fn took(&self, answer: &Answer) -> Self {
        let answer = answer.json();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self { version: text("version_info"), nonce: text("nonce"), refused: None, id: self.id.clone() }
    }

    fn refuses(&self, answer: &Answer, why: &str) -> Self {
        let nonce = answer.json()["nonce"].as_str().unwrap().to_owned();
        Self { nonce, refused: Some(why.to_owned()), ..self.clone() }
    }
}

async fn post(target: &Target, what: &str, request: &DiscoveryRequest, wait: u64) -> Answer {
    let prefer = format!("wait={wait}");
    let headers: Vec<(&str, &str)> = if wait > 0 { vec![("prefer", prefer.as_str())] } else { vec![] };
    let body = serde_json::to_string(request).unwrap();
    target.send("POST", &format!("/v3/discovery:{what}"), &headers, &body).await.unwrap()
}

async fn gateway_view(target: &Target, id: &str) -> Value {
    let all = target.get("/v1/gateways").await.json();
    let found = all["gateways"].as_array().unwrap().iter().find(|gateway| gateway["id"] == id);
    found.unwrap_or_else(|| panic!("{id} in {all}")).clone()
}

#[tokio::test(start_paused = true)]
async fn a_bare_gateway_gets_both_at_once_under_one_version_and_in_the_words_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let bare = Bare::new("task-1");
    let before = Instant::now();
    let listeners = bare.ask(&control.target, "listeners", 30).await.json();
    let clusters = bare.ask(&control.target, "clusters", 30).await.json();
    assert_eq!(before.elapsed(), Duration::ZERO, "before any weights are known");
    assert_eq!(listeners["version_info"], clusters["version_info"]);
    assert!(Version::parse(listeners["version_info"].as_str().unwrap()).is_some());
    assert_eq!(
        (&listeners["type_url"], &clusters["type_url"]),
        (&json!(LISTENER_TYPE_URL), &json!(CLUSTER_TYPE_URL))
    );
    assert_eq!(listeners["resources"][0]["@type"], LISTENER_TYPE_URL);
    let route = &listeners["resources"][0]["http_connection_manager"]["route_config"]["virtual_hosts"][0]["routes"]
        [0];
    assert_eq!(route["route"]["weighted_clusters"]["stable"], "v1");
    let names: Vec<&Value> = clusters["resources"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["v1", "v2"]);
    let view = gateway_view(&control.target, "task-1").await;
    assert_eq!((&view["zone"], &view["kind"]), (&json!("eu-west-1a"), &json!("weir")));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_weights_brings_no_new_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let gateway = FakeGateway::fresh("task-1");
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let bare = Bare::new("task-1");
    let first = bare.ask(&control.target, "listeners", 30).await;
    let has = bare.took(&first);
    assert_eq!(control.target.set("svc1", "v2=10").await.json()["acknowledged"], 1);
    let before = Instant::now();
    let held = has.ask(&control.target, "listeners", 30).await;
    assert_eq!((held.status, &held.json()["version_info"]), (200, &first.json()["version_info"]));
    assert_eq!(before.elapsed().as_secs(), 30, "held, as there is no news");
    assert_eq!(gateway_view(&control.target, "task-1").await["config_version"], first.json()["version_info"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_configuration_is_shown_and_not_sent_to_that_gateway_again() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let bare = Bare::new("task-1");
    let sent = bare.ask(&control.target, "listeners", 30).await;
    let refusing = bare.refuses(&sent, "port 9080 is taken");
    let before = Instant::now();
    assert_eq!(refusing.ask(&control.target, "listeners", 30).await.status, 304);
    assert_eq!(before.elapsed().as_secs(), 30, "the refusal is held like any request");
    let view = gateway_view(&control.target, "task-1").await;
    assert!(view["config_refused"].as_str().unwrap().contains("port 9080 is taken"), "{view}");
    assert_eq!(view["refused"], Value::Null, "its weights it has not refused");
    let metrics = control.target.get("/metrics").await.text;
    assert!(metrics.contains("control_gateways_config_refused 1"), "{metrics}");
    assert_eq!(
        Bare::new("task-2").ask(&control.target, "listeners", 30).await.status,
        200,
        "it blocks nobody"
    );
    let accepted = bare.took(&sent);
    accepted.ask(&control.target, "listeners", 0).await;
    assert_eq!(gateway_view(&control.target, "task-1").await["config_refused"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn another_section_is_published_at_the_next_start_above_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let first = control(&folder).await;
    let gateway = FakeGateway::fresh("task-1");
    let running = gateway.run(&first.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let bare = Bare::new("task-1");
    let has = bare.took(&bare.ask(&first.target, "clusters", 30).await);
    first.stop_with(running).await;
    let again = Local::start(&text(folder.path(), &GATEWAY.replace("3002", "3003"))).await;
    let news = has.ask(&again.target, "clusters", 30).await;
    assert!(news.text.contains("3003"), "{}", news.text);
    let old = Version::parse(&has.version).unwrap();
    let new = Version::parse(news.json()["version_info"].as_str().unwrap()).unwrap();
    assert!(new.epoch > old.epoch && old.may_become(&new), "{old} {new}");
}

#[tokio::test(start_paused = true)]
async fn without_a_state_a_gateway_that_serves_waits_and_then_gets_what_is_above_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let mut serving = Bare::new("task-1");
    serving.version = "7.3-gone".to_owned();
    let held = tokio::spawn({
        let (serving, target) = (serving.clone(), control.target.clone());
        async move { serving.ask(&target, "listeners", 30).await }
    });
    // A bare one is served in the meantime, below whatever comes.
    let bare = Bare::new("task-2").ask(&control.target, "listeners", 0).await.json();
    let provisional = Version::parse(bare["version_info"].as_str().unwrap()).unwrap();
    let gateway = FakeGateway::new("task-1", "svc1", &[("v1", 90), ("v2", 10)], WeightSource::Control)
        .with_version("7.9-gone");
    let _running = gateway.run(&control.target, 30);
    let news = held.await.unwrap();
    assert_eq!(news.status, 200, "{}", news.text);
    let version = Version::parse(news.json()["version_info"].as_str().unwrap()).unwrap();
    assert_eq!(version.epoch, 8);
    assert!(provisional.may_become(&version), "{provisional} {version}");
    let history = control.target.get("/v1/routes/svc1/history").await.json();
    assert_eq!(history["history"][0]["kind"], "adopt", "the weights were adopted all the same: {history}");
}

#[tokio::test(start_paused = true)]
async fn its_own_first_configuration_does_not_push_the_epoch_up() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let mut bare = Bare::new("task-1");
    for _ in 0..5 {
        let answer = bare.ask(&control.target, "listeners", 0).await;
        bare = bare.took(&answer);
    }
    assert!(bare.version.starts_with("1.0-"), "{}", bare.version);
    let gateway = FakeGateway::fresh("task-1");
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    assert!(gateway.served.borrow().version.starts_with("1.1-"), "{:?}", gateway.served.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_fenced_control_gives_nobody_a_configuration_and_its_version_fences() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let gateway = FakeGateway::fresh("task-1");
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let mut ahead = Bare::new("task-9");
    ahead.version = "9.1-other".to_owned();
    let refused = ahead.ask(&control.target, "listeners", 30).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text.contains("control other is ahead"), "{}", refused.text);
    assert_eq!(Bare::new("task-2").ask(&control.target, "clusters", 30).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_stock_envoy_is_told_what_to_do_instead() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let mut envoy = DiscoveryRequest {
        type_url: "type.googleapis.com/envoy.config.listener.v3.Listener".to_owned(),
        ..DiscoveryRequest::default()
    };
    let mut weir = Bare::new("g").request();
    weir.type_url = envoy.type_url.clone();
    for request in [&envoy, &weir] {
        let refused = post(&control.target, "listeners", request, 30).await;
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains("control export envoy"), "{}", refused.text);
    }
    envoy.type_url = String::new();
    assert_eq!(post(&control.target, "clusters", &envoy, 30).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_control_without_the_section_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&text(folder.path(), "")).await;
    let refused = Bare::new("task-1").ask(&control.target, "listeners", 30).await;
    assert_eq!(refused.status, 404);
    assert!(refused.text.contains("section `gateway`"), "{}", refused.text);
    assert_eq!(control.target.get("/v1/gateway-config").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn people_and_the_state_have_the_same_configuration_as_the_gateways() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder).await;
    let gateway = FakeGateway::fresh("task-1");
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let sent = Bare::new("task-2").ask(&control.target, "clusters", 0).await.json();
    let shown = control.target.get("/v1/gateway-config").await.json();
    assert_eq!(
        (&shown["version"], shown["clusters"][1]["name"].as_str()),
        (&sent["version_info"], Some("v2"))
    );
    let state = std::fs::read_to_string(folder.path().join("state.json")).unwrap();
    let read = StateView::parse(&state).unwrap();
    assert_eq!(json!(read.gateway.listeners), shown["listeners"]);
    assert_eq!(json!(read.gateway.clusters), shown["clusters"]);
    let whole: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(whole["gateway"]["version"], shown["version"]);
}

#[tokio::test]
async fn a_changed_section_in_the_file_is_published_without_a_start_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control.yaml");
    let put = |text: String| {
        // Whole at once, as an editor or a deployment writes it.
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
    };
    let with_port = |port: &str| text(folder.path(), &GATEWAY.replace("3002", port));
    put(with_port("3002"));
    let control = Remote::start(&file, &[]).await;
    let gateway = FakeGateway::fresh("task-1");
    let _running = gateway.run(&control.target, 5);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let bare = Bare::new("task-1");
    let has = bare.took(&bare.ask(&control.target, "clusters", 0).await);
    put("routes: [".to_owned());
    control.process.line("is not good; nothing was changed").await.unwrap();
    put(with_port("3003").replace("v1: 99, v2: 1", "v1: 98, v2: 2"));
    control.process.line("start control again to use it").await.unwrap();
    put(with_port("3004"));
    let news = has.ask(&control.target, "clusters", 30).await;
    assert!(news.text.contains("3004") && !news.text.contains("3003"), "{}", news.text);
    let old = Version::parse(&has.version).unwrap();
    let new = Version::parse(news.json()["version_info"].as_str().unwrap()).unwrap();
    assert!(new.epoch == old.epoch && new.seq > old.seq, "{old} {new}");
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let state = std::fs::read_to_string(folder.path().join("state.json")).unwrap();
    assert!(state.contains("3004"), "written before it was published");
}
