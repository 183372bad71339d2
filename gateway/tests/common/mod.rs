//! A gateway as a process of its own on ports that the kernel chose, its access log and its statistics.
//!
//! Must never judge: that is what tests do.

#![allow(dead_code, reason = "each test program uses a part of it")]

use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testkit::client::{self, H2Client, RawClient, Response};
use testkit::clock::real_sleep;
use testkit::process::Process;
use testkit::upstream::Upstream;
use testkit::within;

/// Far beyond any loaded machine's hiccup, for what no event tells of.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds something; `what` names it in the failure.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            real_sleep(LOOK).await;
        }
    };
    within(PATIENCE, what, looking).await.unwrap()
}

/// What a gateway is told: one listener, built line by line.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    manager: Vec<String>,
    routes: Vec<String>,
    clusters: Vec<String>,
    limits: Vec<String>,
    args: Vec<String>,
}

/// A cluster with fixed endpoints; `more` are further fields in flow style, such as `connect_timeout: 0.1s`.
fn cluster(name: &str, addresses: &[SocketAddr], more: &str) -> String {
    let endpoint = |address: &SocketAddr| {
        format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
    };
    let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!("{{name: {name}, discovery: {{static: {{endpoints: [{}]}}}}{more}}}", endpoints.join(", "))
}

impl Setup {
    /// Nothing yet: add clusters and routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything to one backend, a cluster of its name.
    pub fn to(upstream: &Upstream) -> Self {
        Self::new().cluster(upstream.name(), &[upstream.addr()], "").everything_to(upstream.name(), "")
    }

    /// Everything to targets by weight; `more` are further fields of the split, such as `stable: v1`.
    pub fn split(targets: &[(&Upstream, u32)], more: &str) -> Self {
        let mut setup = Self::new();
        for (upstream, _) in targets {
            setup = setup.cluster(upstream.name(), &[upstream.addr()], "");
        }
        let weights: Vec<_> = targets.iter().map(|(u, w)| (u.name().to_owned(), *w)).collect();
        setup.split_over(&weights, more)
    }

    /// Everything to clusters that are there already, by weight.
    pub fn split_over(self, weights: &[(String, u32)], more: &str) -> Self {
        let targets: Vec<_> =
            weights.iter().map(|(name, weight)| format!("{{name: {name}, weight: {weight}}}")).collect();
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        self.route(&format!(
            "{{name: svc1, match: {{prefix: /}}, route: {{weighted_clusters: {{clusters: [{}]{more}}}}}}}",
            targets.join(", ")
        ))
    }

    /// A cluster with fixed endpoints.
    pub fn cluster(mut self, name: &str, addresses: &[SocketAddr], more: &str) -> Self {
        self.clusters.push(cluster(name, addresses, more));
        self
    }

    /// A route for every path; `more` are further fields of the action, such as `timeout: 0.1s`.
    pub fn everything_to(self, cluster: &str, more: &str) -> Self {
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        self.route(&format!("{{match: {{prefix: /}}, route: {{cluster: {cluster}{more}}}}}"))
    }

    /// A route as it stands in the file, in flow style.
    pub fn route(mut self, yaml: &str) -> Self {
        self.routes.push(yaml.to_owned());
        self
    }

    /// A line of the HttpConnectionManager.
    pub fn manager(mut self, line: &str) -> Self {
        self.manager.push(line.to_owned());
        self
    }

    /// A line of `limits`.
    pub fn limit(mut self, line: &str) -> Self {
        self.limits.push(line.to_owned());
        self
    }

    /// An argument of the command line.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    fn yaml(&self, log: &str) -> String {
        let lines = |indent: usize, lines: &[String], dash: &str| -> String {
            lines.iter().map(|line| format!("{:indent$}{dash}{line}\n", "")).collect()
        };
        let limits = if self.limits.is_empty() {
            String::new()
        } else {
            format!("limits:\n{}", lines(2, &self.limits, ""))
        };
        format!(
            "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\n\
             static_resources:\n\
             {s}listeners:\n\
             {s}- name: ingress\n\
             {s}  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}\n\
             {s}  http_connection_manager:\n\
             {s}    access_log: {{path: \"{log}\", format: json}}\n\
             {manager}\
             {s}    route_config:\n\
             {s}      virtual_hosts:\n\
             {s}      - name: all\n\
             {s}        domains: [\"*\"]\n\
             {s}        routes:\n\
             {routes}\
             {s}clusters:\n\
             {clusters}\
             {limits}",
            s = "  ",
            manager = lines(6, &self.manager, ""),
            routes = lines(10, &self.routes, "- "),
            clusters = lines(2, &self.clusters, "- "),
        )
    }

    /// Starts it and waits until it is live.
    pub async fn start(self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let config = folder.path().join("gateway.yaml");
        std::fs::write(&config, self.yaml(&log.display().to_string())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let foreign = ["AWS_", "ECS_", "ENVOY_", "APPMESH_", "GATEWAY_", "CONTROL_", "LISTENER_"];
            if foreign.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command.arg("--config").arg(&config);
        if !self.args.iter().any(|arg| arg == "--concurrency") {
            command.args(["--concurrency", "1"]);
        }
        command.args(&self.args);
        let process = Process::spawn("gateway", &mut command).unwrap();
        process.line(" live").await.unwrap();
        let address = |line: &str| -> SocketAddr {
            let text = line.rsplit_once("address=").unwrap().1;
            text.trim().parse().unwrap_or_else(|_| panic!("an address in {line:?}"))
        };
        let addr = address(&process.line("listening name=\"ingress\"").await.unwrap());
        let admin = address(&process.line("admin listening").await.unwrap());
        Gateway { process, addr, admin, log, _folder: folder }
    }
}

/// A running gateway; dropping it kills it.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Its listener.
    pub addr: SocketAddr,
    /// Its admin interface.
    pub admin: SocketAddr,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// A new connection.
    pub async fn client(&self) -> RawClient {
        RawClient::connect(self.addr).await.unwrap()
    }

    /// A new connection that speaks HTTP/2 with prior knowledge.
    pub async fn h2(&self) -> H2Client {
        H2Client::connect(self.addr).await.unwrap()
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, target: &str) -> Response {
        client::get(self.addr, target).await.unwrap()
    }

    /// Every byte that the gateway answers to these, until it closes the connection.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client().await;
        client.send(bytes).await.unwrap();
        String::from_utf8_lossy(&client.read_to_end().await.unwrap()).into_owned()
    }

    /// The lines of the access log, as soon as there are `count`.
    pub async fn log(&self, count: usize) -> Vec<Value> {
        let lines = until(&format!("{count} lines in the access log"), async || {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
            (whole.lines().count() >= count).then(|| whole.to_owned())
        })
        .await;
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), count, "every request is logged once: {lines:#?}");
        lines
    }

    /// The one line of the access log.
    pub async fn logged(&self) -> Value {
        self.log(1).await.remove(0)
    }

    /// A statistic by its full name.
    pub async fn stat(&self, name: &str) -> u64 {
        let text = client::get(self.admin, "/stats").await.unwrap().text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no statistic {name}")).parse().unwrap()
    }

    /// Waits until a statistic has a value.
    pub async fn until_stat(&self, name: &str, wanted: u64) {
        until(&format!("{name} = {wanted}"), async || (self.stat(name).await == wanted).then_some(())).await;
    }

    /// A change through the admin interface, as an operator on the same machine asks for it.
    pub async fn change(&self, target: &str) {
        let mut client = RawClient::connect(self.admin).await.unwrap();
        client
            .send(format!("POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"))
            .await
            .unwrap();
        let answer = client.response("POST").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// A body in which every place can be told from every other.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// These bytes in the chunked coding, in chunks of `size`.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
