//! One loopback port that plays the parts of AWS which Weir talks to: Cloud Map, App Mesh, ECS task metadata; with faults.
//!
//! It speaks the real wire protocols, so that the code under test goes its real way, but checks no signature. Where it is stricter
//! than moto (error codes, the revision, client tokens, weights, deletions) it follows the service models. Must never be lenient
//! where AWS is strict. Read `server` next (what comes in where), then `cloud_map`, `app_mesh`, `faults`.
//!
//! Other processes, such as the demo, change it over HTTP; what is not JSON or not known is 400 with a sentence:
//!
//! | call | body |
//! |---|---|
//! | `POST /_standin/instances` | `{namespace, service, id, address, port, attributes, health}` (the last two optional) |
//! | `DELETE /_standin/instances` | `{namespace, service, id}` |
//! | `POST /_standin/health` | `{namespace, service, id, health}` |
//! | `POST`, `DELETE /_standin/services` | `{namespace, service}` |
//! | `POST /_standin/routes` | `{mesh, virtualRouter, route, spec}` |
//! | `POST /_standin/faults` | a fault, or a list of them: added |
//! | `GET`, `DELETE /_standin/faults` | |
//! | `GET`, `DELETE /_standin/requests` | |
//! | `GET /_standin/state` | everything registered |

mod admin;
mod app_mesh;
mod cloud_map;
mod ecs;
mod faults;
mod mesh_path;
mod server;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::clock::{DEADLINE, within};
use crate::host::Host;
use crate::net::{ANY_PORT, lock};
pub use cloud_map::{Health, Instance};
pub use faults::{Fault, Faults, Kind};

/// Requests kept for assertions; older ones are forgotten, so that a demo may run for days.
pub const MAX_RECORDS: usize = 10_000;

/// Which part of AWS a request or a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// AWS Cloud Map.
    CloudMap,
    /// AWS App Mesh.
    AppMesh,
    /// ECS task metadata and credentials.
    Ecs,
}

/// One request as it came in; kept from its arrival, whatever the answer.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// Whom it was for.
    pub service: Service,
    /// The operation's name in the service model, such as `UpdateRoute`.
    pub operation: String,
    /// Path and query.
    pub path: String,
    /// The body, null if it was empty or no JSON.
    pub body: Value,
    /// When it arrived.
    pub at: SystemTime,
}

#[derive(Default)]
pub(crate) struct State {
    cloud_map: Mutex<cloud_map::CloudMap>,
    app_mesh: Mutex<app_mesh::AppMesh>,
    ecs: Mutex<ecs::Ecs>,
    faults: Faults,
    records: Mutex<VecDeque<Recorded>>,
    arrived: watch::Sender<u64>,
}

impl State {
    fn record(&self, record: Recorded) {
        let mut records = lock(&self.records);
        records.push_back(record);
        if records.len() > MAX_RECORDS {
            records.pop_front();
        }
        drop(records);
        self.arrived.send_modify(|count| *count += 1);
    }
}

/// The running stand-in. Dropping it cuts every connection and refuses new ones.
pub struct Standin {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<State>,
    host: Host,
}

impl Standin {
    /// Starts on a free loopback port, knowing nothing.
    ///
    /// # Errors
    /// When the system gives no port or thread.
    pub fn start() -> Result<Self> {
        Self::start_on(ANY_PORT)
    }

    /// Starts on the given loopback address.
    ///
    /// # Errors
    /// When it is not a loopback address (the stand-in asks nobody for a password), or in use.
    pub fn start_on(addr: SocketAddr) -> Result<Self> {
        if !addr.ip().is_loopback() {
            bail!("the stand-in listens on loopback only, not on {addr}");
        }
        Self::start_at(addr)
    }

    /// Starts on an address of network namespaces that a test made for itself.
    ///
    /// # Errors
    /// When it is not there, or in use.
    pub fn start_in_vpc(addr: SocketAddr) -> Result<Self> {
        Self::start_at(addr)
    }

    fn start_at(addr: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind(addr).with_context(|| format!("listening on {addr}"))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        let host = Host::spawn("standin", move || server::accept(listener, serving))?;
        Ok(Self { addr, state, host })
    }

    /// `http://127.0.0.1:PORT`, the endpoint URL for every service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The environment that points an AWS SDK at the stand-in: endpoints, region, static credentials, no look-up of real ones.
    #[must_use]
    pub fn envs(&self) -> Vec<(String, String)> {
        envs(&self.url())
    }

    /// The value of ECS_CONTAINER_METADATA_URI_V4.
    #[must_use]
    pub fn ecs_metadata_uri(&self) -> String {
        format!("{}/ecs/v4", self.url())
    }

    /// True while it serves.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.host.is_running()
    }

    /// The faults to play; none at first.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// Registers an instance, as a new one or in place of the one with its id; creates namespace and service as needed.
    pub fn register(&self, namespace: &str, service: &str, instance: Instance) {
        lock(&self.state.cloud_map).register(namespace, service, instance);
    }

    /// Deregisters an instance; false if there was none.
    pub fn deregister(&self, namespace: &str, service: &str, id: &str) -> bool {
        lock(&self.state.cloud_map).deregister(namespace, service, id)
    }

    /// Changes an instance's health, which the revision does not tell; false if there is no such instance.
    pub fn set_health(&self, namespace: &str, service: &str, id: &str, health: Health) -> bool {
        lock(&self.state.cloud_map).set_health(namespace, service, id, health)
    }

    /// Creates a service without instances, and its namespace as needed.
    pub fn create_service(&self, namespace: &str, service: &str) {
        lock(&self.state.cloud_map).service_mut(namespace, service);
    }

    /// Deletes a service with its instances: it is not found from then on. False if there was none.
    pub fn delete_service(&self, namespace: &str, service: &str) -> bool {
        lock(&self.state.cloud_map).delete_service(namespace, service)
    }

    /// The App Mesh route as DescribeRoute answers it.
    #[must_use]
    pub fn route(&self, mesh: &str, router: &str, route: &str) -> Option<Value> {
        lock(&self.state.app_mesh).route(mesh, router, route)
    }

    /// The weights of an App Mesh HTTP route, in its order; empty if there is no such route.
    #[must_use]
    pub fn route_weights(&self, mesh: &str, router: &str, route: &str) -> Vec<(String, u64)> {
        let route = self.route(mesh, router, route).unwrap_or_default();
        let targets =
            route.pointer("/spec/httpRoute/action/weightedTargets").and_then(Value::as_array).cloned();
        let target = |target: Value| {
            let node = target.get("virtualNode").and_then(Value::as_str)?.to_owned();
            Some((node, target.get("weight").and_then(Value::as_u64)?))
        };
        targets.unwrap_or_default().into_iter().filter_map(target).collect()
    }

    /// Creates the route with this spec, or updates it behind everybody's back (its version rises by one); creates mesh, router
    /// and virtual nodes as needed. Returns the route.
    pub fn set_route(&self, mesh: &str, router: &str, route: &str, spec: Value) -> Value {
        lock(&self.state.app_mesh).set_route(mesh, router, route, spec)
    }

    /// Replaces what the task metadata endpoint answers at `/task`.
    pub fn set_task(&self, task: Value) {
        lock(&self.state.ecs).task = task;
    }

    /// Adds a task of its own; `GET /ecs/v4/ID/task` tells about it. Returns its id.
    pub fn add_task(&self, family: &str, zone: &str) -> String {
        lock(&self.state.ecs).add(family, zone)
    }

    /// The requests so far, oldest first, at most [`MAX_RECORDS`].
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state.records).iter().cloned().collect()
    }

    /// The requests for one operation so far.
    #[must_use]
    pub fn requests_for(&self, operation: &str) -> Vec<Recorded> {
        lock(&self.state.records).iter().filter(|record| record.operation == operation).cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.state.records).clear();
    }

    /// Waits until `count` requests for an operation have arrived since the start or the last [`Standin::forget`].
    ///
    /// # Errors
    /// When they have not within [`DEADLINE`].
    pub async fn until_requests(&self, operation: &str, count: usize) -> Result<Vec<Recorded>> {
        let mut watch = self.state.arrived.subscribe();
        let event = async {
            loop {
                let records = self.requests_for(operation);
                if records.len() >= count || watch.changed().await.is_err() {
                    return records;
                }
            }
        };
        within(DEADLINE, &format!("{count} requests for {operation}"), event).await
    }
}

impl std::fmt::Debug for Standin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Standin on {}", self.addr)
    }
}

/// The environment that points an AWS SDK at a stand-in, or moto, with this URL.
#[must_use]
pub fn envs(url: &str) -> Vec<(String, String)> {
    let fixed = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let mut envs: Vec<_> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SERVICEDISCOVERY", "AWS_ENDPOINT_URL_APP_MESH"] {
        envs.push((name.to_owned(), url.to_owned()));
    }
    envs
}

/// An HTTP answer of one of the parts.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    error: Option<&'static str>,
    body: Value,
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self { status: 200, error: None, body }
    }

    fn error(status: u16, name: &'static str, message: &str) -> Self {
        let body = serde_json::json!({"__type": name, "message": message, "Message": message});
        Self { status, error: Some(name), body }
    }
}

#[cfg(test)]
mod tests;
