//! A gateway without listeners whose admin interface is served on a free port.

use gateway::access_log::AccessLogs;
use gateway::admin::{Admin, AdminHooks, ListenerDrain, serve};
use gateway::process::{CommandLine, Process};
use gateway::state::store::Store;
use gateway::stats::registry::Registry;
use lifecycle::drain::Drain;
use lifecycle::logging::LogHandle;
use lifecycle::readiness::Ready;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use testkit::client::{RawClient, Response};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// One listener, a canary route, a static and a DNS cluster.
pub const CONFIG: &str = r#"
node: {id: gw-1, cluster: gw}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 9080}}
    http_connection_manager:
      stat_prefix: ingress
      route_config:
        name: ingress
        virtual_hosts:
        - name: svc1
          domains: ["*"]
          routes:
          - name: svc1
            match: {prefix: "/"}
            route:
              weighted_clusters:
                clusters:
                - {name: v1, weight: 90}
                - {name: v2, weight: 10}
                stable: v1
  clusters:
  - name: v1
    discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: 9101}}]}}
  - name: v2
    discovery: {dns: {hostname: v2.demo.local, port_value: 8080}}
control:
  url: http://127.0.0.1:18000
"#;

/// A gateway under test.
pub struct Gateway {
    pub process: Arc<Process>,
    pub address: SocketAddr,
    pub quit: Arc<Notify>,
    pub drain_listeners: watch::Receiver<ListenerDrain>,
}

/// The log is set up once per test program.
fn log() -> LogHandle {
    static LOG: OnceLock<LogHandle> = OnceLock::new();
    LOG.get_or_init(|| lifecycle::logging::init("error", false).expect("a log")).clone()
}

impl Gateway {
    pub async fn start() -> Self {
        Self::with(CONFIG, Vec::new()).await
    }

    pub async fn with(config: &str, labels: Vec<(&'static str, String)>) -> Self {
        let bootstrap = gateway_config::parse_bootstrap("test.yaml", config.as_bytes());
        let bootstrap = bootstrap.unwrap_or_else(|errors| panic!("{errors}"));
        let registry = Arc::new(Registry::new(1));
        let access_logs = Arc::new(AccessLogs::new(Arc::clone(&registry)));
        let store = Store::new(Arc::new(bootstrap), Arc::clone(&registry), Arc::clone(&access_logs));
        let process = Arc::new(Process {
            started: Instant::now(),
            started_at: SystemTime::now(),
            instance_id: "task-1".to_owned(),
            boot_id: "boot-1".to_owned(),
            zone: "eu-central-1a".to_owned(),
            command_line: CommandLine {
                concurrency: 1,
                config_path: "test.yaml".to_owned(),
                log_level: "info".to_owned(),
                drain_time: Duration::from_secs(20),
            },
            store: Arc::new(store.expect("a store")),
            registry,
            ready: Ready::new(),
            drain: Drain::new(),
            log: log(),
            health_failed: AtomicBool::new(false),
            live: AtomicBool::new(true),
            listeners: Mutex::new(vec![
                ("ingress".to_owned(), "127.0.0.1:19080".parse().unwrap()),
                ("admin".to_owned(), "127.0.0.1:19901".parse().unwrap()),
            ]),
            live_signal: watch::Sender::new(true),
            stop_accepting: watch::Sender::new(false),
            advise_close: AtomicBool::new(false),
            workers_done: AtomicUsize::new(0),
            last_reload_error: Mutex::default(),
            provenance: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let quit = Arc::new(Notify::new());
        let (sender, drain_listeners) = watch::channel(ListenerDrain::Open);
        let hooks = AdminHooks { quit: Arc::clone(&quit), drain_listeners: sender, access_logs };
        tokio::spawn(serve(listener, Admin::new(Arc::clone(&process), hooks, labels)));
        Self { process, address, quit, drain_listeners }
    }

    /// Sends a request with exactly these header lines.
    pub async fn send(&self, method: &str, target: &str, headers: &[&str]) -> Response {
        let mut client = RawClient::connect(self.address).await.expect("connected");
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        for line in headers {
            text += line;
            text += "\r\n";
        }
        text += "\r\n";
        client.send(text).await.expect("sent");
        client.response(method).await.expect("an answer")
    }

    pub async fn get(&self, target: &str) -> Response {
        self.send("GET", target, &["host: gateway.test:9901"]).await
    }

    pub async fn post(&self, target: &str) -> Response {
        self.send("POST", target, &["host: localhost:9901", "content-length: 0"]).await
    }
}
