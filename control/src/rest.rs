//! The JSON of control's REST API, as server and CLI both see it.
//!
//! Owns the types only. Unknown fields are ignored, so that an older CLI reads a newer server.
//! Next: `api/` (who answers) and `cli/` (who asks).

use crate::state::document::{HistoryEntry, Weights};
use gateway_config::wire::ClusterStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub cure: String,
}

/// Control itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlView {
    /// Drawn at each start.
    pub id: String,
    /// What is published now; empty while nothing is.
    pub version: String,
    /// `active`, `adopting` or `fenced`.
    pub phase: String,
    /// Why it is not `active`, or what it has not read or written of its state, and the cure; empty when all is well.
    pub message: String,
    /// False = the newest change is not in the state file yet.
    pub saved: bool,
    /// Rises whenever anything shown may have changed; for `?after=`.
    pub revision: u64,
    /// `none` (no gateway is connected), `behind` (some do not serve what is wanted), `overridden` (those that do not
    /// are overridden by somebody there) or `current`.
    pub fleet: String,
    /// The version_info under which listeners and clusters are published; empty when there are none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config_version: String,
}

/// `GET /v1/routes` and `GET /v1/routes/{route}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutesView {
    /// Control itself.
    pub control: ControlView,
    /// By name.
    pub routes: Vec<RouteView>,
}

/// One managed route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// In the order of the configuration.
    pub targets: Vec<String>,
    /// The target that takes everything when in doubt.
    pub stable: String,
    /// The build of the stable target, if it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Wanted, in hundredths of a percent; none while they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// The version_info that last changed them.
    pub version: String,
    /// The last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<HistoryEntry>,
    /// Gateways that count.
    pub awaited: usize,
    /// Of those: how many serve exactly these weights.
    pub agree: usize,
    /// Of those: how many somebody overrides there.
    pub overridden: usize,
    /// Every gateway that asked for the route.
    pub gateways: Vec<RouteGatewayView>,
    /// What the gateways counted, by target.
    pub traffic: BTreeMap<String, TargetView>,
    /// How many times the load of a stable endpoint an endpoint of each other target with a share gets; empty when that
    /// is not known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub load_per_endpoint: BTreeMap<String, f64>,
    /// App Mesh sync, when it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_mesh: Option<serde_json::Value>,
}

/// One gateway as to one route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteGatewayView {
    /// Instance id.
    pub id: String,
    /// `connected`, `draining`, `lost` or `gone`.
    pub state: String,
    /// In force there (any sum); empty when it does not say.
    pub weights: BTreeMap<String, u32>,
    /// Where they came from.
    pub source: String,
    /// The version_info that set them.
    pub version: String,
    /// Whether they are what is wanted.
    pub agrees: bool,
    /// Why not; empty when it agrees.
    pub why: String,
    /// It does not agree because somebody overrides it there: it is not behind.
    pub overridden: bool,
    /// Until the override ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// What the gateways counted for one target, over all of them and their restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetView {
    /// Requests that ended.
    pub requests: u64,
    /// Of those: 5xx answers, resets, connect failures, timeouts.
    pub errors: u64,
    /// Requests by the override header, not in `requests`.
    pub overridden: u64,
    /// In flight now.
    pub active: u64,
    /// Median latency in microseconds (upper bound of its bucket).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 99th percentile in microseconds (upper bound of its bucket).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Connected gateways that reported on this target.
    pub reporting: usize,
    /// Fewest endpoints that a reporting gateway knows.
    pub endpoints: u32,
    /// Fewest endpoints that a reporting gateway may use.
    pub endpoints_healthy: u32,
    /// Most endpoints that a reporting gateway knows.
    pub endpoints_max: u32,
    /// Most endpoints that a reporting gateway may use.
    pub endpoints_healthy_max: u32,
    /// The oldest discovery answer among the reporting gateways, in seconds.
    pub discovery_age_seconds: u64,
    /// A discovery error that a reporting gateway has now.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub discovery_error: String,
}

/// `POST /v1/weights`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightsRequest {
    /// By route: `v1=90 v2=10` or `v2=10%`. All of them are one change.
    pub routes: BTreeMap<String, String>,
    /// Why.
    pub reason: String,
    /// How long to wait for the gateways, in milliseconds; default 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Also give weight to a version without endpoints, to a route that was not adopted yet, and to a canary that was
    /// rolled back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// For pipelines: refuse with 409 while another change of the route is under way, and (without `force`) when a
    /// canary that was rolled back would be raised.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub careful: bool,
    /// Names what the canary runs; kept in the history beside the reason. With `careful` a build that was not rolled back
    /// may be raised after a rollback of another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
}

/// `POST /v1/routes/{route}/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Why.
    pub reason: String,
    /// As in [`WeightsRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// `POST /v1/routes/{route}/stable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StableRequest {
    /// The new stable target.
    pub target: String,
    /// Names what runs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Why.
    pub reason: String,
    /// As in [`WeightsRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// `POST /v1/adopt`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdoptRequest {
    /// The gateway whose weights are taken; without it all must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why.
    pub reason: String,
    /// As in [`WeightsRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The answer to every change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The version_info of the change.
    pub version: String,
    /// By route.
    pub routes: BTreeMap<String, RouteOutcome>,
    /// Milliseconds from the arrival of the request until every awaited gateway had it, or until waiting ended.
    pub elapsed_ms: u64,
    /// Gateways that are connected and ask for one of these routes.
    pub connected: usize,
    /// Gateways that count: connected, or lost for less than ten minutes.
    pub awaited: usize,
    /// Of those: how many serve it.
    pub acknowledged: usize,
    /// Those that do not.
    pub missing: Vec<Missing>,
    /// False = not in the state file yet; it is retried.
    pub saved: bool,
    /// A newer change took its place while it was awaited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
}

/// One route in an [`Outcome`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteOutcome {
    /// Before; none if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Weights>,
    /// After.
    pub to: Weights,
    /// The stable target.
    pub stable: String,
    /// In the order of the configuration.
    pub targets: Vec<String>,
    /// What the weights mean for one endpoint: `each v2 endpoint gets 4.0 times what a v1 endpoint has`. Empty when the
    /// endpoints of all get the same, or are not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<String>,
}

/// A gateway that does not serve a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missing {
    /// Instance id.
    pub gateway: String,
    /// Why, as far as it is known.
    pub why: String,
    /// Somebody overrides it there: the change does not wait for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overridden: bool,
}

/// `GET /v1/gateways`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewaysView {
    /// Control itself.
    pub control: ControlView,
    /// By id.
    pub gateways: Vec<GatewayView>,
}

/// One gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayView {
    /// Instance id; `node.id@address` for a stock Envoy.
    pub id: String,
    /// `weir` or `envoy`.
    pub kind: String,
    /// `connected`, `draining`, `lost` or `gone`.
    pub state: String,
    /// Build version, as it says.
    pub build: String,
    /// The version_info in force there.
    pub version: String,
    /// Milliseconds since it was last heard.
    pub unheard_ms: u64,
    /// Managed routes that it asks for.
    pub routes: Vec<String>,
    /// Whether changes wait for it.
    pub awaited: bool,
    /// The last refusal, if it stands.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// Availability zone; empty when not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// The version_info of its listeners and clusters; empty when they are from a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config_version: String,
    /// The last refusal of listeners or clusters, if it stands.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config_refused: String,
    /// Routes that somebody overrides there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideView>,
    /// Its clusters of managed routes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, ClusterStatus>,
    /// Milliseconds since its last report; none if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_ms: Option<u64>,
}

/// One route that somebody overrides at one gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverrideView {
    /// The route.
    pub route: String,
    /// In force there (any sum).
    pub weights: BTreeMap<String, u32>,
    /// Until it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// `GET /v1/gateway-config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayConfigView {
    /// The version_info under which it is published.
    pub version: String,
    /// In the words of a gateway's own file.
    pub listeners: Vec<serde_json::Value>,
    /// In the words of a gateway's own file.
    pub clusters: Vec<serde_json::Value>,
}

/// `GET /v1/routes/{route}/history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryView {
    /// The route.
    pub route: String,
    /// In the order of the configuration.
    pub targets: Vec<String>,
    /// The newest last.
    pub history: Vec<HistoryEntry>,
}
