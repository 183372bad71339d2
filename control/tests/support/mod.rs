//! A control in this process or as one of its own, and gateways that speak the wire.
//!
//! Owns what the tests of control share; it must never judge.
#![allow(dead_code)]

use control::api::Api;
use control::serve;
use control::shared::Shared;
use control::tokens::Tokens;
use gateway_config::control_config::parse_control;
use gateway_config::wire::{
    DiscoveryNode, DiscoveryRequest, DiscoveryResponse, ErrorDetail, GatewayStatus, NodeMetadata, Report,
    RouteStatus, TargetReport, Version, WeightSource,
};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use lifecycle::drain::Drain;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::process::Process;
use tokio::sync::watch;
use tower::ServiceExt;

pub type Weights = BTreeMap<String, u32>;

pub fn weights(pairs: &[(&str, u32)]) -> Weights {
    pairs.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
}

pub const ROUTES: &str = "routes:\n  svc1: {targets: [v1, v2], stable: v1, weights: {v1: 99, v2: 1}}\n";

/// The section for gateways that goes with [`ROUTES`].
pub const GATEWAY: &str = r#"
gateway:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 9080}}
    http_connection_manager:
      route_config:
        virtual_hosts:
        - name: all
          domains: ["*"]
          routes:
          - name: svc1
            match: {prefix: /}
            route:
              weighted_clusters:
                stable: v1
                clusters: [{name: v1, weight: 1}, {name: v2, weight: 0}]
  clusters:
  - {name: v1, discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: 3001}}]}}}
  - {name: v2, discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: 3002}}]}}}
"#;

pub fn config_text(state: &Path, rest: &str) -> String {
    format!("listen: 127.0.0.1:0\nstate: {{file: {}}}\n{rest}", state.display())
}

/// Where requests go.
#[derive(Clone)]
pub enum Target {
    Here(Api),
    There(SocketAddr),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text))
    }
}

impl Target {
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        match self {
            Self::Here(api) => {
                let mut builder =
                    Request::builder().method(method).uri(path).header("host", "127.0.0.1:18000");
                for (name, value) in headers {
                    builder = builder.header(*name, *value);
                }
                let request = builder.body(Full::from(body.to_owned())).unwrap();
                let response = api.clone().oneshot(request).await.unwrap();
                let status = response.status().as_u16();
                let bytes = response.into_body().collect().await.unwrap().to_bytes();
                Some(Answer { status, text: String::from_utf8(bytes.to_vec()).unwrap() })
            }
            Self::There(addr) => {
                // The host of the test client is not a loopback one; an absolute target overrules it.
                let target = format!("http://127.0.0.1{path}");
                let mut all = headers.to_vec();
                if body.is_empty() {
                    all.push(("content-length", "0"));
                }
                let response =
                    testkit::client::once(*addr, method, &target, &all, body.as_bytes()).await.ok()?;
                Some(Answer { status: response.status, text: response.text() })
            }
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET.as_str(), path, &[], "").await.expect("an answer")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("x-actor", "alice@laptop")], &body.to_string()).await.expect("an answer")
    }

    pub async fn set(&self, route: &str, text: &str) -> Answer {
        self.post("/v1/weights", &json!({"routes": {route: text}})).await
    }

    pub async fn discover(&self, request: &DiscoveryRequest, wait: u64) -> Option<Answer> {
        let prefer = format!("wait={wait}");
        let headers: Vec<(&str, &str)> = if wait > 0 { vec![("prefer", prefer.as_str())] } else { vec![] };
        let body = serde_json::to_string(request).unwrap();
        self.send("POST", "/v3/discovery:routes", &headers, &body).await
    }
}

/// A control in this process.
pub struct Local {
    pub target: Target,
    pub shared: Arc<Shared>,
    pub drain: Drain,
}

impl Local {
    pub async fn start(text: &str) -> Self {
        Self::try_start(text, false).await.expect("control starts")
    }

    pub async fn try_start(text: &str, recover: bool) -> Result<Self, serve::ServeError> {
        let config = parse_control("control.yaml", text.as_bytes()).expect("a good configuration");
        let drain = Drain::new();
        let (shared, _handles) = serve::begin(&config, recover, &drain).await?;
        serve::spawn_tasks(&shared);
        let tokens = Tokens::load(&config.tokens)?;
        let target = Target::Here(Api::new(Arc::clone(&shared), Arc::new(tokens)));
        Ok(Self { target, shared, drain })
    }
}

impl Local {
    /// Ends it and waits until its state file is free.
    pub async fn stop(self) {
        self.drain.close();
        let shared = Arc::downgrade(&self.shared);
        drop(self);
        while shared.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Local {
    /// The same, with a gateway that speaks to it.
    pub async fn stop_with(self, running: Running) {
        drop(running);
        self.stop().await;
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.drain.close();
    }
}

/// A control as its own process.
pub struct Remote {
    pub process: Process,
    pub addr: SocketAddr,
    pub target: Target,
}

pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_control"))
}

impl Remote {
    pub async fn start(config: &Path, more: &[&str]) -> Self {
        let process = Self::spawn(config, more);
        let line = process.line("control listens on http://").await.unwrap();
        let addr: SocketAddr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { process, addr, target: Target::There(addr) }
    }

    pub fn spawn(config: &Path, more: &[&str]) -> Process {
        let mut command = std::process::Command::new(binary());
        command.args(["serve", "--config"]).arg(config).args(more);
        Process::spawn("control", &mut command).unwrap()
    }
}

/// Runs one command of the CLI: exit code, stdout, stderr.
pub async fn cli(addr: SocketAddr, args: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(binary());
    command
        .args(["--url", &format!("http://{addr}")])
        .args(args)
        .env("USER", "alice")
        .env_remove("CONTROL_TOKEN");
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// What a gateway serves.
#[derive(Clone, Debug, Default)]
pub struct Served {
    pub version: String,
    pub nonce: String,
    pub routes: BTreeMap<String, RouteStatus>,
    /// What it refused last, and why.
    pub refused: Option<(String, String)>,
    /// Versions taken, in order.
    pub taken: Vec<String>,
    pub last_status: u16,
}

/// A gateway that speaks the wire and serves nobody.
#[derive(Clone)]
pub struct FakeGateway {
    pub id: String,
    pub boot: String,
    pub state: Arc<Mutex<String>>,
    pub served: Arc<watch::Sender<Served>>,
    /// Refuse every version that gives this target weight.
    pub refuses: Option<String>,
    /// ACK, but serve the old weights on.
    pub deaf: bool,
}

impl FakeGateway {
    pub fn new(id: &str, route: &str, now: &[(&str, u32)], source: WeightSource) -> Self {
        let status =
            RouteStatus { weights: weights(now), stable: "v1".to_owned(), source, ..RouteStatus::default() };
        let served = Served { routes: BTreeMap::from([(route.to_owned(), status)]), ..Served::default() };
        Self {
            id: id.to_owned(),
            boot: format!("{id}-boot"),
            state: Arc::new(Mutex::new("LIVE".to_owned())),
            served: Arc::new(watch::Sender::new(served)),
            refuses: None,
            deaf: false,
        }
    }

    pub fn fresh(id: &str) -> Self {
        Self::new(id, "svc1", &[("v1", 100), ("v2", 0)], WeightSource::File)
    }

    pub fn with_version(self, version: &str) -> Self {
        self.served.send_modify(|served| {
            served.version = version.to_owned();
            for route in served.routes.values_mut() {
                version.clone_into(&mut route.version);
                route.source = WeightSource::Control;
            }
        });
        self
    }

    pub fn status(&self) -> GatewayStatus {
        GatewayStatus {
            wire: 1,
            instance_id: self.id.clone(),
            boot_id: self.boot.clone(),
            state: self.state.lock().unwrap().clone(),
            build: "test".to_owned(),
            routes: self.served.borrow().routes.clone(),
            ..GatewayStatus::default()
        }
    }

    pub fn request(&self) -> DiscoveryRequest {
        let served = self.served.borrow().clone();
        let error_detail = served.refused.map(|(_, message)| ErrorDetail { code: 3, message });
        DiscoveryRequest {
            version_info: served.version,
            response_nonce: served.nonce,
            error_detail,
            node: DiscoveryNode {
                id: "ecs-service".to_owned(),
                metadata: NodeMetadata { hold: false, weir: Some(self.status()) },
                ..DiscoveryNode::default()
            },
            ..DiscoveryRequest::default()
        }
    }

    /// Asks once and takes or refuses the answer.
    pub async fn ask(&self, target: &Target, wait: u64) -> Option<Answer> {
        let answer = target.discover(&self.request(), wait).await?;
        self.served.send_modify(|served| served.last_status = answer.status);
        if answer.status == 200 {
            self.take(&serde_json::from_str(&answer.text).unwrap());
        }
        Some(answer)
    }

    fn take(&self, response: &DiscoveryResponse) {
        let next = Version::parse(&response.version_info).expect("a version");
        self.served.send_modify(|served| {
            served.nonce = response.nonce.clone();
            if let Some(now) = Version::parse(&served.version)
                && !now.may_become(&next)
            {
                served.refused = Some((next.to_string(), format!("{next} is not after {now}")));
                return;
            }
            let gives = |target: &String| {
                response.resources.iter().flat_map(|resource| &resource.virtual_hosts).any(|host| {
                    let clusters = host.routes.iter().flat_map(|r| &r.route.weighted_clusters.clusters);
                    clusters.into_iter().any(|cluster| cluster.name == *target && cluster.weight > 0)
                })
            };
            if self.refuses.as_ref().is_some_and(gives) {
                served.refused = Some((next.to_string(), "no such cluster".to_owned()));
                return;
            }
            served.refused = None;
            if served.version != response.version_info {
                served.taken.push(response.version_info.clone());
            }
            served.version.clone_from(&response.version_info);
            if self.deaf {
                return;
            }
            for resource in &response.resources {
                let route = &resource.virtual_hosts[0].routes[0];
                let status = served.routes.entry(resource.name.clone()).or_default();
                status.weights = route
                    .route
                    .weighted_clusters
                    .clusters
                    .iter()
                    .map(|cluster| (cluster.name.clone(), cluster.weight))
                    .collect();
                status.source = WeightSource::Control;
                status.version.clone_from(&response.version_info);
                if let Some(metadata) = &route.metadata {
                    status.stable.clone_from(&metadata.filter_metadata["weir"].stable);
                }
            }
        });
    }

    /// Asks for ever, until the answer is dropped.
    pub fn run(&self, target: &Target, wait: u64) -> Running {
        let (gateway, target) = (self.clone(), target.clone());
        Running(tokio::spawn(async move {
            loop {
                let answered = gateway.ask(&target, wait).await;
                if answered.is_none_or(|answer| answer.status != 200) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }))
    }

    /// Waits until it serves a route so.
    pub async fn serves(&self, route: &str, wanted: &[(&str, u32)]) {
        let wanted = weights(wanted);
        let mut served = self.served.subscribe();
        let wait = served.wait_for(|served| {
            served
                .routes
                .get(route)
                .is_some_and(|status| control::core::fleet::same_shares(&status.weights, &wanted))
        });
        testkit::clock::within(Duration::from_secs(30), "the weights", wait)
            .await
            .unwrap_or_else(|error| panic!("{} serves {:?}: {error}", self.id, self.served.borrow()))
            .unwrap();
    }

    pub fn report(&self, uptime_ms: u64, targets: &[(&str, TargetReport)]) -> Report {
        let targets: BTreeMap<String, TargetReport> =
            targets.iter().map(|(name, report)| ((*name).to_owned(), report.clone())).collect();
        Report {
            wire: 1,
            boot_id: self.boot.clone(),
            uptime_ms,
            status: self.status(),
            routes: BTreeMap::from([("svc1".to_owned(), targets)]),
        }
    }

    pub async fn send_report(&self, target: &Target, report: &Report) -> Answer {
        let path = format!("/v1/gateways/{}/report", self.id);
        target.post(&path, &serde_json::to_value(report).unwrap()).await
    }
}

/// Ends with its owner.
pub struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
