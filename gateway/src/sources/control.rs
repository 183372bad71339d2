//! Weights from control, by Envoy's REST discovery held open.
//!
//! Owns the loop of requests, what is acknowledged and what is refused, the fence of versions, and the first weights
//! of a start. Once control has spoken, its silence changes nothing. It must never apply a part of an answer.
//! Next: `saved.rs`.

use super::backoff::Backoff;
use super::link::Link;
use super::{report, saved};
use crate::process::Process;
use crate::state::change::{Change, RouteWeights};
use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use gateway_config::model;
use gateway_config::wire::{
    DiscoveryNode, DiscoveryRequest, DiscoveryResponse, ErrorDetail, NodeMetadata, ROUTE_TYPE_URL,
    RouteConfigurationResource, Version, WeightSource,
};
use http::StatusCode;
use lifecycle::readiness::TaskGuard;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const PATH: &str = "/v3/discovery:routes";
/// First wait after a failed request.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait: a control that is back is heard within it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After an answer was refused and came again: at most two requests in this time.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// After an empty answer that was not held.
const UNHELD_WAIT: Duration = Duration::from_millis(500);
/// An answer that comes sooner was not held.
const HELD: Duration = Duration::from_millis(200);
/// gRPC INVALID_ARGUMENT, as Envoy sends it with a refusal.
const INVALID_ARGUMENT: i32 = 3;

/// Starts discovery and reports. First weights are put in place before this returns: the saved copy if there is one,
/// under it the stable at 100 %.
pub fn start(process: &Arc<Process>, config: model::Control) {
    let link = match Link::new(&config.url, config.token_file.clone()) {
        Ok(link) => link,
        Err(error) => {
            tracing::error!(%error, "control cannot be asked");
            return;
        }
    };
    let guard = process.ready.register_task("weights from control");
    let baseline = first_weights(process, config.state_dir.as_deref());
    let talk = Talk {
        process: Arc::clone(process),
        link: link.clone(),
        state_dir: config.state_dir,
        in_force: baseline.clone(),
        nonce: String::new(),
        refusal: None,
        refused_version: None,
    };
    tokio::task::spawn_local(talk.run(guard, baseline.is_some()));
    tokio::task::spawn_local(report::send(Arc::clone(process), link.another()));
}

fn first_weights(process: &Process, state_dir: Option<&str>) -> Option<Version> {
    let snapshot = process.store.snapshot();
    let mut seen = BTreeSet::new();
    let mut stables = Vec::new();
    for split in snapshot.splits.iter().filter(|split| split.managed && seen.insert(split.route.clone())) {
        let Some(stable) = split.stable.and_then(|at| split.targets.get(at)) else { continue };
        stables.push(RouteWeights {
            route: split.route.to_string(),
            weights: [(stable.name.to_string(), 1)].into(),
            stable: None,
            source: WeightSource::Stable,
            version: String::new(),
            since: SystemTime::now(),
        });
    }
    apply(process, stables);
    let (version, routes) = saved::read(state_dir?, SystemTime::now())?;
    let known = routes.into_iter().filter(|saved| seen.iter().any(|name| **name == *saved.route)).collect();
    apply(process, known).then(|| Version::parse(&version)).flatten()
}

fn apply(process: &Process, routes: Vec<RouteWeights>) -> bool {
    if routes.is_empty() {
        return false;
    }
    let result = process.store.apply(Change::Weights(routes));
    result.inspect_err(|error| tracing::warn!(%error, "first weights were not taken")).is_ok()
}

/// The conversation.
struct Talk {
    process: Arc<Process>,
    link: Link,
    state_dir: Option<String>,
    in_force: Option<Version>,
    nonce: String,
    refusal: Option<ErrorDetail>,
    refused_version: Option<String>,
}

/// What one request came to.
enum Heard {
    /// Weights were taken, or nothing changed while the request was held.
    Good,
    /// No weights, and at once.
    Nothing,
    /// An answer was refused; `again` = it had been refused before.
    Refused { again: bool },
    /// Control said no, or nothing.
    Failed(String),
}

impl Talk {
    async fn run(mut self, guard: TaskGuard, has_saved: bool) {
        let mut guard = Some(guard);
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut goodbye = false;
        let mut last_error = String::new();
        let drain = self.process.drain.watch();
        loop {
            let heard = tokio::select! {
                heard = self.ask(goodbye) => heard,
                // The held request is given up, so that control learns at once who leaves.
                () = drain.draining(), if !goodbye => {
                    goodbye = true;
                    continue;
                }
            };
            let connected = !matches!(heard, Heard::Failed(_));
            self.process.registry.server.set(ServerStat::ControlConnected, u64::from(connected));
            match heard {
                Heard::Good => {
                    if !last_error.is_empty() {
                        tracing::info!("control is heard again");
                        last_error.clear();
                    }
                    drop(guard.take());
                    backoff.reset();
                }
                Heard::Nothing => tokio::time::sleep(UNHELD_WAIT).await,
                Heard::Refused { again: false } => {}
                Heard::Refused { again: true } => tokio::time::sleep(REFUSED_WAIT).await,
                Heard::Failed(error) => {
                    if last_error != error {
                        tracing::warn!(%error, "control is not heard: the weights in force stay");
                        last_error = error;
                    }
                    if has_saved {
                        drop(guard.take());
                    }
                    tokio::time::sleep(backoff.next(&mut rand::rng())).await;
                }
            }
        }
    }

    async fn ask(&mut self, goodbye: bool) -> Heard {
        let request = self.request(goodbye);
        self.count(ServerStat::DiscoveryUpdateAttempt);
        let Ok(body) = serde_json::to_vec(&request) else {
            return Heard::Failed("request not writable".to_owned());
        };
        // The first request is answered at once: control must learn of this gateway, and it of its weights.
        let hold = self.in_force.is_some() && self.refusal.is_none();
        let asked = Instant::now();
        match self.link.post(PATH, hold, body).await {
            Err(error) => self.failed(error.to_string()),
            Ok((StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT, _)) => {
                let refusal_was_told = self.refusal.take().is_some();
                match self.in_force {
                    Some(_) if refusal_was_told || asked.elapsed() >= HELD => Heard::Good,
                    _ => Heard::Nothing,
                }
            }
            Ok((StatusCode::OK, body)) => self.heard(&body),
            Ok((status, body)) => {
                let text: String = String::from_utf8_lossy(&body).chars().take(300).collect();
                self.failed(format!("control answers {status}: {text}"))
            }
        }
    }

    fn failed(&self, error: String) -> Heard {
        self.count(ServerStat::DiscoveryUpdateFailure);
        Heard::Failed(error)
    }

    fn count(&self, stat: ServerStat) {
        self.process.registry.server.inc(Shard::SHARED, stat);
    }

    fn request(&self, goodbye: bool) -> DiscoveryRequest {
        let snapshot = self.process.store.snapshot();
        let node = &snapshot.routes.bootstrap.node;
        let status = report::status(&self.process, goodbye);
        DiscoveryRequest {
            version_info: self.in_force.as_ref().map(ToString::to_string).unwrap_or_default(),
            resource_names: status.routes.keys().cloned().collect(),
            node: DiscoveryNode {
                id: node.id.clone(),
                cluster: node.cluster.clone(),
                metadata: NodeMetadata { hold: false, weir: Some(status) },
            },
            type_url: ROUTE_TYPE_URL.to_owned(),
            response_nonce: self.nonce.clone(),
            error_detail: self.refusal.clone(),
        }
    }

    fn heard(&mut self, body: &[u8]) -> Heard {
        let response: DiscoveryResponse = match serde_json::from_slice(body) {
            Ok(response) => response,
            Err(error) => {
                return self.refuse(
                    String::new(),
                    String::new(),
                    format!("the answer is no discovery: {error}"),
                );
            }
        };
        let (version_info, nonce) = (response.version_info.clone(), response.nonce.clone());
        let Some(version) = Version::parse(&version_info) else {
            let text = format!("version_info `{version_info}` is not <epoch>.<seq>-<control id>");
            return self.refuse(version_info, nonce, text);
        };
        if let Some(mine) = self.in_force.as_ref().filter(|mine| !mine.may_become(&version)) {
            let text = format!("version {version} must not follow {mine}, which this gateway serves");
            return self.refuse(version_info, nonce, text);
        }
        let managed: BTreeSet<_> = report::status(&self.process, false).routes.into_keys().collect();
        let routes = match weights_of(&response.resources, &managed, &version_info) {
            Ok(routes) => routes,
            Err(text) => return self.refuse(version_info, nonce, text),
        };
        if let Err(rejected) = self.process.store.apply(Change::Weights(routes.clone())) {
            return self.refuse(version_info, nonce, rejected.to_string());
        }
        tracing::info!(version = version_info, "weights taken");
        self.count(ServerStat::DiscoveryUpdateSuccess);
        if let Some(folder) = &self.state_dir
            && let Err(error) = saved::write(folder, &version_info, &routes)
        {
            tracing::warn!(%error, folder, "the weights could not be saved for the next start");
        }
        self.in_force = Some(version);
        self.nonce = nonce;
        self.refusal = None;
        self.refused_version = None;
        Heard::Good
    }

    fn refuse(&mut self, version: String, nonce: String, text: String) -> Heard {
        tracing::warn!(reason = text, "control's answer is refused: the weights in force stay");
        self.count(ServerStat::DiscoveryUpdateRejected);
        let again = self.refused_version.as_deref() == Some(version.as_str());
        self.nonce = nonce;
        self.refused_version = Some(version);
        self.refusal = Some(ErrorDetail { code: INVALID_ARGUMENT, message: text });
        Heard::Refused { again }
    }
}

/// The weights that an answer has for managed routes; other resources are none of this gateway's business.
fn weights_of(
    resources: &[RouteConfigurationResource],
    managed: &BTreeSet<String>,
    version: &str,
) -> Result<Vec<RouteWeights>, String> {
    let mut found = Vec::new();
    for resource in resources.iter().filter(|resource| managed.contains(&resource.name)) {
        let mut routes = resource.virtual_hosts.iter().flat_map(|host| &host.routes);
        let route = routes
            .find(|route| route.name == resource.name)
            .ok_or_else(|| format!("route configuration `{}` has no route of that name", resource.name))?;
        let clusters = &route.route.weighted_clusters.clusters;
        if clusters.is_empty() {
            return Err(format!("route `{}` has no weighted clusters", resource.name));
        }
        let stable =
            route.metadata.as_ref().and_then(|m| m.filter_metadata.get("weir")).map(|w| w.stable.clone());
        found.push(RouteWeights {
            route: resource.name.clone(),
            weights: clusters.iter().map(|cluster| (cluster.name.clone(), cluster.weight)).collect(),
            stable: stable.filter(|stable| !stable.is_empty()),
            source: WeightSource::Control,
            version: version.to_owned(),
            since: SystemTime::now(),
        });
    }
    Ok(found)
}
