//! The parts of the product as processes on ports that the kernel chose, and how to ask them.
//!
//! Must never judge: that is what tests do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::client::{self, RawClient, Response};
use testkit::process::{Process, bin};
use testkit::standin::{Instance, Standin};
use testkit::upstream::Upstream;

/// Far beyond any loaded machine's hiccup, for what no event tells of.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something; `what` names it in the failure.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            testkit::clock::real_sleep(LOOK).await;
        }
    };
    testkit::within(PATIENCE, what, looking).await.unwrap()
}

/// One of the programs beside the gateway.
fn program(name: &str) -> Command {
    let path = bin(name).unwrap_or_else(|error| {
        panic!("the product's tests run control, loadtest and standin: `cargo build --workspace` first ({error:#})")
    });
    without_aws(Command::new(path))
}

/// Nothing that the caller's environment says may lead a part to the real AWS, or to another configuration.
fn without_aws(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let prefixes = ["AWS_", "ECS_", "ENVOY_", "APPMESH_", "GATEWAY_", "CONTROL_", "LISTENER_"];
        if prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// What a gateway is told.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub folder: PathBuf,
    /// Of the route `svc1`; the first is the stable.
    pub targets: Vec<(String, u32)>,
    /// By cluster: the value of `discovery`.
    pub discovery: Vec<(String, String)>,
    pub control: Option<String>,
    /// More lines of the HttpConnectionManager, with their indent of six.
    pub manager_more: String,
    /// More YAML below `control`.
    pub control_more: String,
    pub admin_port: u16,
    pub concurrency: u16,
    pub envs: Vec<(String, String)>,
    pub args: Vec<String>,
}

impl Spec {
    /// Targets with their weights in the file; each needs a discovery.
    pub fn new(folder: &Path, name: &str, targets: &[(&str, u32)]) -> Self {
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            targets: targets.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
            discovery: Vec::new(),
            control: None,
            manager_more: String::new(),
            control_more: String::new(),
            admin_port: 0,
            concurrency: 2,
            envs: Vec::new(),
            args: Vec::new(),
        }
    }

    pub fn discovery(mut self, cluster: &str, discovery: impl Into<String>) -> Self {
        self.discovery.push((cluster.to_owned(), discovery.into()));
        self
    }

    /// Fixed endpoints.
    pub fn fixed(self, cluster: &str, addresses: &[SocketAddr]) -> Self {
        let endpoint = |address: &SocketAddr| {
            format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
        };
        let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
        self.discovery(cluster, format!("{{static: {{endpoints: [{}]}}}}", endpoints.join(", ")))
    }

    /// Found in the namespace `demo.local` under the cluster's own name, asked for often.
    pub fn cloud_map(self, cluster: &str) -> Self {
        let text = format!(
            "{{cloud_map: {{namespace_name: demo.local, service_name: {cluster}, allow_loopback: true, \
             full_poll: 500ms, revision_poll: 100ms}}}}"
        );
        self.discovery(cluster, text)
    }

    pub fn control(mut self, url: impl Into<String>) -> Self {
        self.control = Some(url.into());
        self
    }

    pub fn envs(mut self, envs: &[(String, String)]) -> Self {
        self.envs.extend_from_slice(envs);
        self
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.yaml", self.name))
    }

    pub fn access_log(&self) -> PathBuf {
        self.folder.join(format!("{}.access.log", self.name))
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.join(format!("{}.state", self.name))
    }

    pub fn yaml(&self) -> String {
        let target = |(name, weight): &(String, u32)| format!("{{name: {name}, weight: {weight}}}");
        let targets: Vec<_> = self.targets.iter().map(target).collect();
        let cluster = |(name, text): &(String, String)| format!("  - {{name: {name}, discovery: {text}}}\n");
        let clusters: String = self.discovery.iter().map(cluster).collect();
        let control =
            self.control.as_ref().map(|url| format!("control: {{url: '{url}'{}}}\n", self.control_more));
        format!(
            "node: {{id: gw, cluster: gw}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    http_connection_manager:
      access_log: {{path: {log}, format: json}}
{manager}      route_config:
        virtual_hosts:
        - name: all
          domains: ['*']
          routes:
          - name: svc1
            match: {{prefix: /}}
            route: {{weighted_clusters: {{clusters: [{targets}], stable: {stable}, target_header: x-served-by}}}}
  clusters:
{clusters}{control}",
            admin = self.admin_port,
            manager = self.manager_more,
            log = self.access_log().display(),
            targets = targets.join(", "),
            stable = self.targets[0].0,
            control = control.unwrap_or_default(),
        )
    }

    pub fn write(&self) {
        write_whole(&self.file(), &self.yaml());
    }

    /// Starts a gateway and waits for its ports, not for LIVE.
    pub async fn start(&self) -> Gateway {
        self.write();
        let mut command = gateway_command(&self.envs);
        command.arg("--config").arg(self.file()).args(&self.args);
        command.args(["--concurrency", &self.concurrency.to_string()]);
        let process = Process::spawn(&self.name, &mut command).unwrap();
        let admin = address(&process.line("admin listening").await.unwrap());
        let data = address(&process.line("listening name=").await.unwrap());
        Gateway { process, data, admin, spec: self.clone() }
    }

    /// Starts a gateway and waits until it is LIVE.
    pub async fn live(&self) -> Gateway {
        let gateway = self.start().await;
        gateway.until_live().await;
        gateway
    }
}

/// The address in a line of the log.
pub fn address(line: &str) -> SocketAddr {
    let text = line.rsplit("address=").next().unwrap().split_whitespace().next().unwrap();
    text.parse().unwrap_or_else(|_| panic!("no address in {line}"))
}

/// A gateway's command line without words.
pub fn gateway_command(envs: &[(String, String)]) -> Command {
    let mut command = without_aws(Command::new(env!("CARGO_BIN_EXE_gateway")));
    command.envs(envs.iter().map(|(name, value)| (name, value)));
    command
}

/// Replaces a file as an operator's tool does: nobody ever sees half of it.
pub fn write_whole(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// A running gateway.
pub struct Gateway {
    pub process: Process,
    pub data: SocketAddr,
    pub admin: SocketAddr,
    pub spec: Spec,
}

impl Gateway {
    pub fn url(&self) -> String {
        format!("http://{}/", self.data)
    }

    pub async fn until_live(&self) {
        let live = |answer: &Response| answer.text().contains("\"LIVE\"");
        let live = client::poll(self.admin, "/server_info", live).await;
        live.unwrap_or_else(|error| panic!("{error:#}\n{}", self.process.tail()));
    }

    /// One request; who answered.
    pub async fn ask(&self) -> Response {
        client::get(self.data, "/").await.unwrap()
    }

    /// A value of `/stats`.
    pub async fn stat(&self, name: &str) -> u64 {
        let answer = client::get(self.admin, "/stats?format=json").await.unwrap().json().unwrap();
        let stats = answer["stats"].as_array().unwrap();
        stats.iter().find(|stat| stat["name"] == name).and_then(|stat| stat["value"].as_u64()).unwrap_or(0)
    }

    /// `host:port::name::value` lines of `/clusters` as (cluster, address).
    pub async fn endpoints(&self, cluster: &str) -> Vec<SocketAddr> {
        let text = client::get(self.admin, "/clusters").await.unwrap().text();
        let of = |line: &str| {
            let mut parts = line.split("::");
            (parts.next() == Some(cluster)).then(|| parts.next()?.parse().ok()).flatten()
        };
        let mut found: Vec<SocketAddr> = text.lines().filter_map(of).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    pub async fn until_endpoints(&self, cluster: &str, wanted: &[SocketAddr]) {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        let what = format!("{cluster} at {wanted:?}");
        until(&what, || async { (self.endpoints(cluster).await == wanted).then_some(()) }).await;
    }

    /// The weights in force on route `svc1`, in the order of its targets, their source and version.
    pub async fn weights(&self) -> (Vec<u64>, String, String) {
        let dump = client::get(self.admin, "/config_dump").await.unwrap().json().unwrap();
        let shown = |value: &Value| value["metadata"]["filter_metadata"]["weir"]["weight_source"].is_string();
        let route = find(&dump, &|value| value["name"] == "svc1" && shown(value));
        let route = route.unwrap_or_else(|| panic!("no route svc1 in {dump:#}"));
        let clusters = route["route"]["weighted_clusters"]["clusters"].as_array().unwrap().clone();
        let weir = &route["metadata"]["filter_metadata"]["weir"];
        let text = |name: &str| weir[name].as_str().unwrap_or_default().to_owned();
        let weight = |cluster: &Value| cluster["weight"].as_u64().unwrap();
        (clusters.iter().map(weight).collect(), text("weight_source"), text("version_info"))
    }

    pub async fn until_weights(&self, wanted: &[u64]) {
        let what = format!("weights {wanted:?} at {}", self.spec.name);
        until(&what, || async { (self.weights().await.0 == wanted).then_some(()) }).await;
    }

    /// The lines of the access log, once the gateway has ended or `count` of them are there.
    pub async fn log_lines(&self, count: usize) -> Vec<Value> {
        let file = self.spec.access_log();
        let read = || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        };
        let what = format!("{count} lines in {}", file.display());
        until(&what, || async {
            let whole = std::fs::read_to_string(&file).unwrap_or_default().ends_with('\n');
            (whole && read().len() >= count).then_some(())
        })
        .await;
        read()
    }
}

/// The first value anywhere in a document that `fits`.
pub fn find<'v>(value: &'v Value, fits: &dyn Fn(&Value) -> bool) -> Option<&'v Value> {
    if value.is_object() && fits(value) {
        return Some(value);
    }
    match value {
        Value::Object(fields) => fields.values().find_map(|value| find(value, fits)),
        Value::Array(items) => items.iter().find_map(|value| find(value, fits)),
        _ => None,
    }
}

/// A running control.
pub struct Control {
    pub process: Process,
    pub addr: SocketAddr,
    pub state: PathBuf,
}

/// What a command line printed, and its exit code.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Control {
    /// Starts on a port (0: any) with its state in `folder`; `routes` is the value of `routes`.
    pub async fn start(
        folder: &Path,
        name: &str,
        port: u16,
        routes: &str,
        envs: &[(String, String)],
    ) -> Self {
        let state = folder.join(format!("{name}.state.json"));
        let config = folder.join(format!("{name}.control.yaml"));
        let text =
            format!("listen: 127.0.0.1:{port}\nstate: {{file: {}}}\nroutes: {routes}\n", state.display());
        write_whole(&config, &text);
        let mut command = program("control");
        command.envs(envs.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--config"]).arg(&config);
        let process = Process::spawn(name, &mut command).unwrap();
        let line = process.line("control listens on http://").await.unwrap();
        let addr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        Self { process, addr, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// `control WORDS...` against this control.
    pub async fn cli(&self, words: &[&str]) -> Ran {
        let mut command = program("control");
        command.args(["--url", &self.url()]).args(words);
        run(command).await
    }

    pub async fn get(&self, path: &str) -> Value {
        rest(self.addr, "GET", path, &Value::Null).await.1
    }

    /// `POST /v1/weights`; status and answer.
    pub async fn set(&self, weights: &str) -> (u16, Value) {
        rest(self.addr, "POST", "/v1/weights", &json!({"routes": {"svc1": weights}, "reason": "test"})).await
    }

    /// Waits until so many gateways are there and all serve what is wanted of `svc1`; the route's view.
    pub async fn until_agreed(&self, gateways: u64) -> Value {
        let what = format!("{gateways} gateways agree with {}", self.addr);
        until(&what, || async {
            let view = self.get("/v1/routes/svc1").await;
            let route = view["routes"].get(0)?.clone();
            let there = route["agree"].as_u64()? == gateways && route["awaited"].as_u64()? == gateways;
            (there && route["weights"].is_object()).then_some(route)
        })
        .await
    }

    /// Waits until every connected gateway has told of a healthy endpoint of each target.
    pub async fn until_endpoints(&self, gateways: u64, targets: &[&str]) {
        until("reports of endpoints", || async {
            let view = self.get("/v1/routes/svc1").await;
            let traffic = &view["routes"].get(0)?["traffic"];
            let known = |target: &&&str| {
                traffic[**target]["reporting"].as_u64() == Some(gateways)
                    && traffic[**target]["endpoints_healthy"].as_u64() > Some(0)
            };
            targets.iter().all(|target| known(&target)).then_some(())
        })
        .await;
    }
}

/// One REST call, with a Host that is let in without tokens.
pub async fn rest(addr: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = RawClient::connect(addr).await.unwrap();
    client.send(text).await.unwrap();
    let answer = client.response(method).await.unwrap();
    let json = serde_json::from_slice(&answer.body).unwrap_or_else(|_| Value::String(answer.text()));
    (answer.status, json)
}

/// Runs a command to its end.
pub async fn run(command: Command) -> Ran {
    let output = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output =
        testkit::within(Duration::from_secs(120), "the end of a command", output).await.unwrap().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `loadtest WORDS... --json`, started; its report is read at the end.
pub fn loadtest(words: &[&str]) -> tokio::task::JoinHandle<(i32, Value)> {
    let mut command = program("loadtest");
    command.args(words).arg("--json");
    tokio::spawn(async move {
        let ran = run(command).await;
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("loadtest printed {ran:?}"));
        (ran.code, report)
    })
}

/// A backend process that registers itself, deregisters at SIGTERM, and serves on for a while.
pub async fn backend(name: &str, id: &str, service: &str, registry: &str) -> Process {
    let mut command = program("loadtest");
    command.args(["upstream", "--name", name, "--registry", registry, "--drain", "3s"]);
    command.args(["--register", &format!("namespace=demo.local,service={service},id={id}")]);
    let process = Process::spawn(id, &mut command).unwrap();
    process.line("ready:").await.unwrap();
    process
}

/// A backend inside the test that says its name.
pub fn upstream(name: &str) -> Upstream {
    Upstream::start(name).unwrap()
}

/// Registers a backend of the test in `demo.local`.
pub fn register(standin: &Standin, service: &str, id: &str, addr: SocketAddr) {
    standin.register("demo.local", service, Instance::at(id, addr));
}

/// The spec of an App Mesh route with everything beside the weights that must not be touched.
pub fn route_spec(weights: &[(&str, u64)]) -> Value {
    let target = |(node, weight): &(&str, u64)| json!({"virtualNode": node, "weight": weight, "port": 80});
    json!({"priority": 3, "httpRoute": {
        "match": {"prefix": "/", "headers": [{"name": "x-user", "invert": false, "match": {"exact": "a"}}]},
        "action": {"weightedTargets": weights.iter().map(target).collect::<Vec<_>>()},
        "retryPolicy": {"maxRetries": 2, "perRetryTimeout": {"unit": "ms", "value": 250},
            "httpRetryEvents": ["server-error"], "tcpRetryEvents": ["connection-error"]},
        "timeout": {"perRequest": {"unit": "s", "value": 15}, "idle": {"unit": "s", "value": 300}}}})
}

/// The report of a run in which nothing went wrong.
pub fn assert_clean(code: i32, report: &Value) {
    let zero = |name: &str| report[name].as_u64() == Some(0);
    assert!(
        zero("errors") && zero("not_sent") && report["ok"] == true && code == 0,
        "exit {code}: {report:#}"
    );
}
