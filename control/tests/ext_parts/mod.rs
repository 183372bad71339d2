//! A control as its own process with tokens, gateways and backends around it, for the tests with outside programs.
//!
//! Owns how the parts are started and asked; it must never judge. Next: `../ext_envoy.rs`, `../ext_app_mesh.rs`.
#![allow(dead_code)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::client::{self, RawClient, Response};
use testkit::clock::{real_sleep, within};
use testkit::process::{Envoy, Process, bin};
use testkit::upstream::Upstream;

/// Between two looks at something that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For what comes within a second or two unless something is broken.
pub const SOON: Duration = Duration::from_secs(30);
/// The page whose bootstrap the tests start Envoy with.
const PAGE: &str = include_str!("../../../docs/envoy.md");

pub const GATEWAY_TOKEN: &str = "gateway-token-of-the-tests";
const OPERATOR_TOKEN: &str = "operator-token-of-the-tests";

/// What a command of the CLI said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Where one control lives: its folder and its port, both of which outlive its process.
pub struct Site {
    folder: TempDir,
    open: bool,
    pub addr: SocketAddr,
}

impl Site {
    /// One whose control has tokens.
    pub fn new() -> Self {
        Self::with(false)
    }

    /// One whose control has none.
    pub fn open() -> Self {
        Self::with(true)
    }

    fn with(open: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], testkit::free_port().unwrap()));
        let site = Self { folder, open, addr };
        std::fs::write(site.path("gateway-token"), GATEWAY_TOKEN).unwrap();
        std::fs::write(site.path("operator-token"), OPERATOR_TOKEN).unwrap();
        // With the end of line that an editor leaves.
        std::fs::write(site.path("authorization"), format!("Bearer {GATEWAY_TOKEN}\n")).unwrap();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts control on the routes given as YAML.
    pub async fn control(&self, routes: &str, envs: &[(String, String)]) -> Process {
        let show = |name: &str| self.path(name).display().to_string();
        let mut text = format!("listen: {}\nstate: {{file: {}}}\n", self.addr, show("state.json"));
        if !self.open {
            text += &format!(
                "tokens:\n  gateway: [{{name: fleet, file: {}}}]\n  operator: [{{name: ops, file: {}}}]\n",
                show("gateway-token"),
                show("operator-token"),
            );
        }
        text += &format!("routes:\n{routes}");
        std::fs::write(self.path("control.yaml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
        command.args(["serve", "--config"]).arg(self.path("control.yaml"));
        command.envs(envs.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn("control", &mut command).unwrap();
        process.line("control listens on http://").await.unwrap();
        process
    }

    /// Runs one command of the CLI.
    pub async fn cli(&self, args: &[&str]) -> Said {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_control"));
        command.arg("--url").arg(format!("http://{}", self.addr));
        command.arg("--token-file").arg(self.path("operator-token")).args(args);
        command.env_remove("CONTROL_TOKEN").kill_on_drop(true);
        let output = within(Duration::from_secs(90), "the command", command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// `control set-weight svc1 WEIGHT --json`, which every gateway must have acknowledged.
    pub async fn set_weight(&self, weight: &str) -> Value {
        let said = self.cli(&["--json", "set-weight", "svc1", weight]).await;
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Response> {
        let token = format!("Bearer {OPERATOR_TOKEN}");
        client::once(self.addr, "GET", path, &[("authorization", token.as_str())], b"").await
    }

    /// One GET of the REST API.
    pub async fn get(&self, path: &str) -> Value {
        self.ask(path).await.unwrap().json().unwrap()
    }

    /// Looks at the route until it is as wanted.
    pub async fn route(&self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until("/v1/routes/svc1", limit, |answer| wanted(&answer["routes"][0])).await["routes"][0].clone()
    }

    /// Looks at the gateways until they are as wanted.
    pub async fn gateways(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let list = |answer: &Value| answer["gateways"].as_array().cloned().unwrap_or_default();
        list(&self.until("/v1/gateways", SOON, |answer| wanted(&list(answer))).await)
    }

    async fn until(&self, path: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.ask(path).await.and_then(|answer| answer.json());
            match answer {
                Ok(answer) if wanted(&answer) => return answer,
                Ok(answer) if Instant::now() > deadline => panic!("{path} was at last {answer:#}"),
                Err(error) if Instant::now() > deadline => panic!("{path}: {error:#}"),
                _ => real_sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The value of one series of `/metrics`; 0 if it is not there yet.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = client::get(self.addr, "/metrics").await.unwrap().text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    /// Waits until a series of `/metrics` is at least this.
    pub async fn metric_reaches(&self, series: &str, value: f64) {
        let deadline = Instant::now() + SOON;
        while self.metric(series).await < value {
            assert!(Instant::now() < deadline, "{series} is {}", self.metric(series).await);
            real_sleep(LOOK_AGAIN).await;
        }
    }
}

/// v1 and v2.
pub struct Backends {
    pub v1: Upstream,
    pub v2: Upstream,
}

impl Backends {
    pub fn start() -> Self {
        Self { v1: Upstream::start("v1").unwrap(), v2: Upstream::start("v2").unwrap() }
    }
}

/// Who answered `count` requests on one connection; every answer must be good.
pub async fn answers(addr: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    let mut client = RawClient::connect(addr).await.unwrap();
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        *seen.entry(answer.header("x-v").unwrap_or("nobody").to_owned()).or_default() += 1;
    }
    seen
}

/// All of them by one version.
pub fn only(version: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(version.to_owned(), count)])
}

/// A running Envoy and where its listener is.
pub struct Edge {
    pub envoy: Envoy,
    pub addr: SocketAddr,
}

impl Edge {
    /// Starts Envoy on the bootstrap of the page, with loopback addresses and these changes, and waits until it
    /// serves.
    pub async fn start(site: &Site, backends: &Backends, changes: &[(&str, &str)]) -> Self {
        let envoy = Envoy::start(&bootstrap(site, backends, changes)).await.unwrap();
        let admin = envoy.admin.unwrap();
        let listed = |answer: &Response| address(answer).is_some();
        let addr = address(&client::poll(admin, "/listeners?format=json", listed).await.unwrap()).unwrap();
        client::poll(addr, "/", |answer| answer.status == 200).await.unwrap();
        Self { envoy, addr }
    }

    /// One of Envoy's own statistics of its discovery of svc1.
    pub async fn rds(&self, name: &str) -> u64 {
        let full = format!("http.ingress.rds.svc1.{name}");
        let answer = client::get(self.envoy.admin.unwrap(), &format!("/stats?filter={full}$")).await.unwrap();
        let text = answer.text();
        let value = text.trim().strip_prefix(&full).and_then(|rest| rest.strip_prefix(": "));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{full}: {text:?}"))
    }
}

fn address(listeners: &Response) -> Option<SocketAddr> {
    let json = listeners.json().ok()?;
    let socket = &json["listener_statuses"][0]["local_address"]["socket_address"];
    format!("{}:{}", socket["address"].as_str()?, socket["port_value"].as_u64()?).parse().ok()
}

/// The bootstrap of the page with loopback addresses.
pub fn bootstrap(site: &Site, backends: &Backends, changes: &[(&str, &str)]) -> String {
    let mut text = PAGE.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    let socket = |port: u16| format!("address: 127.0.0.1, port_value: {port}");
    let file = site.path("authorization").display().to_string();
    let places = [
        ("address: 127.0.0.1, port_value: 9901", socket(0)),
        ("address: 0.0.0.0, port_value: 9080", socket(0)),
        ("address: control.internal, port_value: 18000", socket(site.addr.port())),
        ("address: v1.internal, port_value: 3000", socket(backends.v1.port())),
        ("address: v2.internal, port_value: 3000", socket(backends.v2.port())),
        ("/run/secrets/control-authorization", file),
    ];
    for (from, to) in places.iter().map(|(from, to)| (*from, to.as_str())).chain(changes.iter().copied()) {
        assert_eq!(text.matches(from).count(), 1, "`{from}` stands once in the bootstrap");
        text = text.replace(from, to);
    }
    text
}

/// A Weir gateway and where it listens.
pub struct Weir {
    pub process: Process,
    pub addr: SocketAddr,
}

impl Weir {
    /// Starts the program with fixed backends and the site's control, and waits until it is LIVE.
    pub async fn start(site: &Site, backends: &Backends) -> Self {
        let endpoint = |port: u16| {
            format!(
                "{{static: {{endpoints: [{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}]}}}}"
            )
        };
        let text = format!(
            r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    http_connection_manager:
      route_config:
        virtual_hosts:
        - name: all
          domains: ["*"]
          routes:
          - name: svc1
            match: {{prefix: "/"}}
            route: {{weighted_clusters: {{stable: v1, clusters: [{{name: v1, weight: 1}}, {{name: v2, weight: 0}}]}}}}
  clusters:
  - {{name: v1, discovery: {v1}}}
  - {{name: v2, discovery: {v2}}}
control: {{url: "http://{control}", token_file: {token}}}
"#,
            v1 = endpoint(backends.v1.port()),
            v2 = endpoint(backends.v2.port()),
            control = site.addr,
            token = site.path("gateway-token").display(),
        );
        let file = site.path("gateway.yaml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(bin("gateway").unwrap());
        command.arg("--config").arg(file).args(["--concurrency", "1"]);
        let process = Process::spawn("gateway", &mut command).unwrap();
        let line = process.line("name=\"ingress\" address=").await.unwrap();
        let addr = line.rsplit("address=").next().unwrap().trim().parse().unwrap();
        process.line("live").await.unwrap();
        Self { process, addr }
    }
}
