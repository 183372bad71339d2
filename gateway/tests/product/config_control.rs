//! A control that gives listeners and clusters as a test wants them, and gateways that are told by their environment
//! where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gateway_config::wire::{CLUSTER_TYPE_URL, DiscoveryRequest, LISTENER_TYPE_URL};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use testkit::client;
use testkit::process::Process;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::fake_control::weights;
use super::world::{Gateway, Spec, address, gateway_command, until};

pub const TOKEN: &str = "gateway-token-of-the-test";

/// What it says to everybody.
#[derive(Clone, Debug, Default)]
pub struct Word {
    /// Version, listeners, clusters.
    pub configuration: Option<(String, Value, Value)>,
    /// The clusters' version when it differs.
    pub clusters_version: Option<String>,
    /// Version and weights of `svc1`.
    pub weights: Option<(String, Vec<(&'static str, u32)>)>,
    /// Who brings another token gets 401.
    pub token: String,
    /// Sends again what was refused, at once.
    pub insists: bool,
}

/// The server; dropping it ends its connections.
pub struct ConfigControl {
    pub addr: SocketAddr,
    word: watch::Sender<Word>,
    asked: Arc<Mutex<Vec<(String, DiscoveryRequest)>>>,
    serving: JoinHandle<()>,
}

impl Drop for ConfigControl {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Desk {
    word: watch::Receiver<Word>,
    asked: Arc<Mutex<Vec<(String, DiscoveryRequest)>>>,
    /// What was refused on which path: it is not sent again, as by the real one.
    refused: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl ConfigControl {
    pub async fn start(configuration: Option<(&str, Value, Value)>) -> Self {
        let word = Word {
            configuration: configuration.map(|(version, a, b)| (version.to_owned(), a, b)),
            weights: Some(("1.1-x".to_owned(), vec![("v1", 100), ("v2", 0)])),
            token: TOKEN.to_owned(),
            clusters_version: None,
            insists: false,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (word, read) = watch::channel(word);
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let desk = Desk { word: read, asked: Arc::clone(&asked), refused: Arc::default() };
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let desk = desk.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, desk.clone()));
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { addr, word, asked, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn say(&self, change: impl FnOnce(&mut Word)) {
        self.word.send_modify(change);
    }

    /// Another configuration, under this version.
    pub fn configure(&self, version: &str, listeners: Value, clusters: Value) {
        self.say(|word| word.configuration = Some((version.to_owned(), listeners, clusters)));
    }

    /// The newest question about listeners that fits.
    pub async fn until_asked(
        &self,
        what: &str,
        fits: impl Fn(&DiscoveryRequest) -> bool,
    ) -> DiscoveryRequest {
        until(what, || async {
            let asked = self.asked.lock().unwrap();
            let about = asked.iter().rev().filter(|(path, _)| path.ends_with(":listeners"));
            about.map(|(_, request)| request).find(|request| fits(request)).cloned()
        })
        .await
    }

    /// The reason that the gateway gives for a refusal.
    pub async fn until_refused(&self, part: &str) -> String {
        let refused = |request: &DiscoveryRequest| {
            request.error_detail.as_ref().is_some_and(|detail| detail.message.contains(part))
        };
        let request = self.until_asked(&format!("a refusal with `{part}`"), refused).await;
        request.error_detail.unwrap().message
    }
}

fn reply(status: u16, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(body.to_owned())).unwrap()
}

async fn answer(request: Request<Incoming>, mut desk: Desk) -> Result<Response<Full<Bytes>>, Infallible> {
    let held = request.headers().contains_key("prefer");
    let path = request.uri().path().to_owned();
    let token = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path.ends_with("/report") {
        return Ok(reply(200, "{}"));
    }
    let request: DiscoveryRequest = serde_json::from_slice(&body).unwrap();
    desk.asked.lock().unwrap().push((path.clone(), request.clone()));
    loop {
        let word = desk.word.borrow_and_update().clone();
        if token != Some(format!("Bearer {}", word.token)) {
            return Ok(reply(401, "no such token"));
        }
        let mut refused = desk.refused.lock().unwrap().clone();
        if !word.insists && request.error_detail.is_some() {
            refused.insert((path.clone(), request.response_nonce.clone()));
        }
        refused.remove(&(path.clone(), request.version_info.clone()));
        desk.refused.lock().unwrap().clone_from(&refused);
        let refused = |version: &str| refused.contains(&(path.clone(), version.to_owned()));
        if let Some(answer) = say(&path, &word, (&request, held), &refused) {
            return Ok(answer);
        }
        if desk.word.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// `None`: nothing new, the question is held.
fn say(
    path: &str,
    word: &Word,
    (request, held): (&DiscoveryRequest, bool),
    refused: &dyn Fn(&str) -> bool,
) -> Option<Response<Full<Bytes>>> {
    let known = |version: &str| held && (request.version_info == version || refused(version));
    let newest = if path.ends_with(":routes") {
        word.weights.as_ref().map(|(version, _)| version)
    } else {
        word.configuration.as_ref().map(|(version, ..)| version)
    };
    if !held && newest.is_some_and(|version| refused(version)) {
        return Some(reply(304, ""));
    }
    if path.ends_with(":routes") {
        let (version, targets) = word.weights.as_ref()?;
        return (!known(version)).then(|| {
            let (status, mut body) = weights(version, targets);
            body["nonce"] = json!(version);
            reply(status, &body.to_string())
        });
    }
    let Some((version, listeners, clusters)) = &word.configuration else {
        return Some(reply(404, "control's configuration has no section gateway"));
    };
    if known(version) {
        return None;
    }
    let (resources, type_url, version) = if path.ends_with(":listeners") {
        (listeners, LISTENER_TYPE_URL, version)
    } else {
        (clusters, CLUSTER_TYPE_URL, word.clusters_version.as_ref().unwrap_or(version))
    };
    let mut resources = resources.clone();
    for resource in resources.as_array_mut().unwrap() {
        resource["@type"] = json!(type_url);
    }
    let body =
        json!({"version_info": version, "nonce": version, "type_url": type_url, "resources": resources});
    Some(reply(200, &body.to_string()))
}

/// A listener on `port` with `svc1` (v1 and v2, stable v1) and more routes before it.
pub fn listeners(port: u16, more: &[Value]) -> Value {
    let mut routes = more.to_vec();
    // The weights here are never in force: the route is under control.
    routes.push(json!({"name": "svc1", "match": {"prefix": "/"}, "route": {"weighted_clusters": {
        "clusters": [{"name": "v1", "weight": 1}, {"name": "v2", "weight": 99}], "stable": "v1"}}}));
    json!([{"name": "ingress",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "http_connection_manager": {"route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": routes}]}}}])
}

/// Clusters with one fixed endpoint each.
pub fn clusters(endpoints: &[(&str, SocketAddr)]) -> Value {
    let cluster = |(name, at): &(&str, SocketAddr)| {
        json!({"name": name, "discovery": {"static": {"endpoints": [
            {"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}}]}}})
    };
    endpoints.iter().map(cluster).collect()
}

/// The environment of a task that knows control, with admin on loopback.
pub fn environment(control: &str) -> BTreeMap<String, String> {
    let admin = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}";
    let pairs = [("GATEWAY_CONTROL", control), ("GATEWAY_TOKEN", TOKEN), ("GATEWAY_CONFIG", admin)];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A gateway process that may not have listeners yet.
pub fn launch(name: &str, environment: &BTreeMap<String, String>, args: &[&str]) -> Process {
    let envs: Vec<(String, String)> = environment.clone().into_iter().collect();
    let mut command = gateway_command(&envs);
    command.args(["--concurrency", "2"]).args(args);
    Process::spawn(name, &mut command).unwrap()
}

pub async fn admin_of(process: &Process) -> SocketAddr {
    address(&process.line("admin listening").await.unwrap())
}

/// The gateway once it is LIVE.
pub async fn live(process: Process, folder: &Path) -> Gateway {
    let admin = admin_of(&process).await;
    let data = address(&process.line("listening name=").await.unwrap());
    let gateway = Gateway { process, data, admin, spec: Spec::new(folder, "gateway", &[]) };
    gateway.until_live().await;
    gateway
}

/// Status and `/server_info`.
pub async fn server_info(admin: SocketAddr) -> (u16, Value) {
    let answer = client::get(admin, "/server_info").await.unwrap();
    (answer.status, answer.json().unwrap())
}

/// Where the configuration is from, as `/server_info` says it.
pub fn configuration(info: &Value) -> Value {
    info["node"]["metadata"]["weir"]["configuration"].clone()
}
