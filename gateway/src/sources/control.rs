//! Weights from control, by Envoy's REST discovery held open.
//!
//! Owns the loop of requests, what is acknowledged and what is refused, the fence of versions, and the first weights
//! of a start. Once control has spoken, its silence changes nothing. It must never apply a part of an answer.
//! Next: `configuration.rs`, the same for listeners and clusters, and `memory.rs`, what is known without control.

use super::backoff::Backoff;
use super::link::Link;
use super::memory::{Memory, Remembered};
use super::report;
use super::saved::Saver;
use super::vital::Vital;
use crate::process::Process;
use crate::state::change::{Change, RouteWeights};
use crate::state::snapshot::RouteTables;
use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use bytes::Bytes;
use gateway_config::wire::{
    DiscoveryRequest, DiscoveryResponse, ErrorDetail, ROUTE_TYPE_URL, RouteConfigurationResource, Version,
    WeightSource,
};
use http::StatusCode;
use lifecycle::readiness::TaskGuard;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

const PATH: &str = "/v3/discovery:routes";
/// First wait after a failed request.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait: a control that is back is heard within it, which is less than it gives the fleet to come back.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// After an answer was refused: at most two requests in this time.
pub(super) const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// After an answer without news that was not held.
const UNHELD_WAIT: Duration = Duration::from_millis(500);
/// An answer that comes sooner was not held.
pub(super) const HELD: Duration = Duration::from_millis(200);
/// gRPC INVALID_ARGUMENT, as Envoy sends it with a refusal.
pub(super) const INVALID_ARGUMENT: i32 = 3;

/// Starts discovery and reports. First weights are put in place before this returns: what is remembered, under it the
/// stable at 100 %. A state item that is still being read counts until control has spoken.
pub fn start(process: &Arc<Process>, link: &Link, saver: Option<Saver>, memory: Memory) {
    let guard = process.ready.register_task("weights from control");
    let talk = Talk {
        process: Arc::clone(process),
        link: link.another(),
        saver,
        in_force: first_weights(process, &memory),
        confirmed: false,
        answered: BTreeSet::new(),
        unknown: BTreeSet::new(),
        nonce: String::new(),
        refusal: None,
        unfit: None,
        goodbye: false,
        last_error: String::new(),
    };
    let vital = Vital::of(process);
    vital.spawn("discovery", talk.run(guard, memory));
    vital.spawn("reports", report::send(Arc::clone(process), link.another()));
}

/// Puts the first weights in place; the version of what is remembered, if any of it was taken.
fn first_weights(process: &Process, memory: &Memory) -> Option<Version> {
    let snapshot = process.store.snapshot();
    let stables =
        snapshot.splits.iter().filter(|split| split.managed).filter_map(|split| split.all_to_stable());
    apply(process, stables.collect());
    memory.newest().and_then(|remembered| recall(process, remembered))
}

fn recall(process: &Process, remembered: &Remembered) -> Option<Version> {
    let managed = report::managed(&process.store.snapshot());
    // One by one: a route that the configuration has changed since must not cost the others their weights.
    let mut taken = false;
    for known in remembered.routes.iter().filter(|known| managed.contains(&known.route)) {
        taken |= apply(process, vec![known.clone()]);
    }
    remembered.version.clone().filter(|_| taken)
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
    saver: Option<Saver>,
    in_force: Option<Version>,
    /// Control has spoken since the start.
    confirmed: bool,
    /// The routes that the last good answer was about.
    answered: BTreeSet<String>,
    /// Of those: the ones that control did not know.
    unknown: BTreeSet<String>,
    nonce: String,
    refusal: Option<ErrorDetail>,
    /// Control does not send a refused version again: what did not fit is kept, and tried with the next configuration.
    unfit: Option<Unfit>,
    /// This gateway leaves, and says so.
    goodbye: bool,
    last_error: String,
}

/// An answer that did not fit the configuration of its time.
struct Unfit {
    body: Bytes,
    /// The routes that it was asked for.
    names: BTreeSet<String>,
    /// What it did not fit.
    tables: Arc<RouteTables>,
}

/// What one request came to.
enum Heard {
    /// Weights were taken, or nothing changed while the request was held.
    Good,
    /// Nothing new, and at once: this control does not hold requests.
    Unheld,
    /// The answer was refused.
    Refused,
    /// Control said no, or nothing.
    Failed(String),
}

/// How and when a request was made.
struct Asked {
    hold: bool,
    at: Instant,
}

impl Asked {
    /// False when an answer without news came at once although the request was to be held.
    fn was_kept(&self) -> bool {
        !self.hold || self.at.elapsed() >= HELD
    }
}

impl Talk {
    async fn run(mut self, guard: TaskGuard, mut memory: Memory) {
        let mut guard = Some(guard);
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut recent: [Option<Instant>; 2] = [None, None];
        let drain = self.process.drain.watch();
        let mut changes = self.process.store.watch();
        loop {
            let process = Arc::clone(&self.process);
            let names = report::managed(&process.store.snapshot());
            self.try_again();
            recent = [recent[1], Some(Instant::now())];
            let refused_by = self.unfit.as_ref().filter(|_| self.last_error.is_empty());
            let refused_by = refused_by.map(|unfit| Arc::clone(&unfit.tables));
            let heard = tokio::select! {
                heard = self.ask(&names) => heard,
                // The held request is given up, so that control learns at once who leaves.
                () = drain.draining(), if !self.goodbye => {
                    self.goodbye = true;
                    continue;
                }
                // A reload brought or took routes: their weights are asked for now, not when the hold is over.
                // The same for one that what was refused may fit.
                () = other_routes(&process, &mut changes, (&names, refused_by.as_ref())) => continue,
                () = memory.more(), if !self.confirmed => {
                    if let Some(newest) = memory.newest() {
                        self.in_force = recall(&self.process, newest).or(self.in_force.take());
                    }
                    continue;
                }
            };
            if self.confirmed {
                memory.close();
            }
            let connected = !matches!(heard, Heard::Failed(_));
            self.process.registry.server.set(ServerStat::ControlConnected, u64::from(connected));
            if connected {
                backoff.reset();
                if !std::mem::take(&mut self.last_error).is_empty() {
                    tracing::info!("control is heard again");
                }
            }
            // Control's word, or the saved copy of it where control does not give it at once.
            if matches!(heard, Heard::Good) || self.in_force.is_some() {
                drop(guard.take());
            }
            let pause = match heard {
                Heard::Good if self.goodbye => UNHELD_WAIT,
                Heard::Good => Duration::ZERO,
                Heard::Unheld => UNHELD_WAIT,
                // The refusal is told at once; then two requests in REFUSED_WAIT are the most.
                Heard::Refused => {
                    recent[0].map_or(Duration::ZERO, |before| REFUSED_WAIT.saturating_sub(before.elapsed()))
                }
                Heard::Failed(error) => {
                    self.note_failure(error);
                    backoff.next(&mut rand::rng())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = drain.draining(), if !self.goodbye => self.goodbye = true,
            }
        }
    }

    fn note_failure(&mut self, error: String) {
        if self.last_error != error {
            tracing::warn!(%error, "control is not heard: the weights in force stay");
            self.last_error = error;
        }
    }

    async fn ask(&mut self, names: &BTreeSet<String>) -> Heard {
        let request = self.request(names);
        self.count(ServerStat::DiscoveryUpdateAttempt);
        let Ok(body) = serde_json::to_vec(&request) else {
            return Heard::Failed("request not writable".to_owned());
        };
        // Who has no weights waits until control knows some. Who has some that control did not confirm since the
        // start, or for other routes, asks for an answer now: an equal version would be held back.
        let hold = self.in_force.is_none() || *names == self.answered;
        let asked = Asked { hold, at: Instant::now() };
        match self.link.post(PATH, hold, body).await {
            Err(error) => self.failed(error.to_string()),
            Ok((StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT, _)) => {
                self.refusal = None;
                self.answered.clone_from(names);
                if asked.was_kept() && self.in_force.is_some() { Heard::Good } else { Heard::Unheld }
            }
            Ok((StatusCode::OK, body)) => {
                self.unfit = None;
                self.heard(&body, names, &asked)
            }
            Ok((status, body)) => self.failed(self.link.refusal(status, &body)),
        }
    }

    fn failed(&self, error: String) -> Heard {
        self.count(ServerStat::DiscoveryUpdateFailure);
        Heard::Failed(error)
    }

    fn count(&self, stat: ServerStat) {
        self.process.registry.server.inc(Shard::SHARED, stat);
    }

    fn request(&self, names: &BTreeSet<String>) -> DiscoveryRequest {
        DiscoveryRequest {
            version_info: self.in_force.as_ref().map(ToString::to_string).unwrap_or_default(),
            resource_names: names.iter().cloned().collect(),
            node: report::node(&self.process, self.goodbye),
            type_url: ROUTE_TYPE_URL.to_owned(),
            response_nonce: self.nonce.clone(),
            error_detail: self.refusal.clone(),
        }
    }

    /// What was refused may fit the configuration that has come since; while control is not heard, it may have taken
    /// it back.
    fn try_again(&mut self) {
        if !self.last_error.is_empty() {
            return;
        }
        let now = Arc::clone(&self.process.store.snapshot().routes);
        if let Some(Unfit { body, names, .. }) = self.unfit.take_if(|unfit| !Arc::ptr_eq(&unfit.tables, &now))
        {
            self.heard(&body, &names, &Asked { hold: false, at: Instant::now() });
        }
    }

    fn heard(&mut self, body: &Bytes, names: &BTreeSet<String>, asked: &Asked) -> Heard {
        let response: DiscoveryResponse = match serde_json::from_slice(body) {
            Ok(response) => response,
            Err(error) => return self.refuse(String::new(), format!("the answer is no discovery: {error}")),
        };
        let (version_info, nonce) = (response.version_info.clone(), response.nonce.clone());
        let Some(version) = Version::parse(&version_info) else {
            let text = format!("version_info `{version_info}` is not <epoch>.<seq>-<control id>");
            return self.refuse(nonce, text);
        };
        if let Some(mine) = self.in_force.as_ref().filter(|mine| !mine.may_become(&version)) {
            let text = format!("version {version} must not follow {mine}, which this gateway serves");
            return self.refuse(nonce, text);
        }
        let routes = match weights_of(&response.resources, names, &version_info) {
            Ok(routes) => routes,
            Err(text) => return self.refuse(nonce, text),
        };
        let is_news =
            self.in_force.as_ref() != Some(&version) || routes.iter().any(|route| self.differs(route));
        if is_news && let Err(rejected) = self.process.store.apply(Change::Weights(routes.clone())) {
            let tables = Arc::clone(&self.process.store.snapshot().routes);
            self.unfit = Some(Unfit { body: body.clone(), names: names.clone(), tables });
            return self.refuse(nonce, rejected.to_string());
        }
        if is_news {
            tracing::info!(version = version_info, "weights taken");
        }
        self.count(ServerStat::DiscoveryUpdateSuccess);
        self.note_unknown(names, &routes);
        if let Some(saver) = &self.saver {
            saver.keep(&version_info, &routes);
        }
        self.in_force = Some(version);
        self.confirmed = true;
        self.answered.clone_from(names);
        self.nonce = nonce;
        self.refusal = None;
        if is_news || asked.was_kept() { Heard::Good } else { Heard::Unheld }
    }

    /// Whether control's word of a route in the store is another one.
    fn differs(&self, route: &RouteWeights) -> bool {
        let known = self.process.store.layer(&route.route, WeightSource::Control);
        known.is_none_or(|known| known.weights != route.weights || known.stable != route.stable)
    }

    fn note_unknown(&mut self, names: &BTreeSet<String>, routes: &[RouteWeights]) {
        let unknown: BTreeSet<String> =
            names.iter().filter(|name| !routes.iter().any(|route| route.route == **name)).cloned().collect();
        if !unknown.is_empty() && unknown != self.unknown {
            let names: Vec<&str> = unknown.iter().map(String::as_str).collect();
            tracing::warn!(
                routes = names.join(", "),
                "control does not know these routes: their weights stay"
            );
        }
        self.unknown = unknown;
    }

    fn refuse(&mut self, nonce: String, text: String) -> Heard {
        tracing::warn!(reason = text, "control's answer is refused: the weights in force stay");
        self.count(ServerStat::DiscoveryUpdateRejected);
        self.nonce = nonce;
        self.refusal = Some(ErrorDetail { code: INVALID_ARGUMENT, message: text });
        Heard::Refused
    }
}

/// Ready when the configuration has other routes under control than `names`, or is not the one any more that refused
/// weights.
async fn other_routes(
    process: &Process,
    changes: &mut watch::Receiver<u64>,
    (names, refused_by): (&BTreeSet<String>, Option<&Arc<RouteTables>>),
) {
    loop {
        changes.borrow_and_update();
        let now = process.store.snapshot();
        let refits = refused_by.is_some_and(|tables| !Arc::ptr_eq(tables, &now.routes));
        if refits || report::managed(&now) != *names {
            return;
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
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
