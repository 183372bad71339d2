//! What gateway and control say to each other, in Envoy's proto3 JSON for REST discovery, and our report.
//!
//! Owns the serde types of the wire and the version string; it must never hold state or judge content.
//! Unknown fields are ignored on purpose: an older side keeps talking with a newer one.
//! Next: `gateway/src/sources/discovery.rs` and `control/src/discovery/`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The wire version that travels in `node.metadata`.
pub const WIRE_VERSION: u32 = 1;
/// Type of the resources asked for at `POST /v3/discovery:routes`.
pub const ROUTE_TYPE_URL: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Type of the resources asked for at `POST /v3/discovery:listeners`: listeners in the words of a gateway's own file,
/// which are not Envoy's message.
pub const LISTENER_TYPE_URL: &str = "type.googleapis.com/weir.config.v1.Listener";
/// Type of the resources asked for at `POST /v3/discovery:clusters`: clusters in the words of a gateway's own file.
pub const CLUSTER_TYPE_URL: &str = "type.googleapis.com/weir.config.v1.Cluster";
/// Weights under control are hundredths of a percent and sum up to this.
pub const FULL_WEIGHT: u32 = 10_000;
/// Longest time that a discovery request is held open.
pub const MAX_HOLD_SECONDS: u64 = 30;

/// Envoy: `service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoveryRequest {
    /// The version in force at the client; empty at first.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version_info: String,
    /// Who asks.
    pub node: DiscoveryNode,
    /// Names of route configurations; empty = all.
    pub resource_names: Vec<String>,
    /// Must be [`ROUTE_TYPE_URL`] or empty.
    pub type_url: String,
    /// The nonce of the answer that this acknowledges or refuses; empty for a stock Envoy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub response_nonce: String,
    /// Set = the answer with that nonce was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
}

/// Envoy: `google.rpc.Status` as far as it is used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// gRPC code; 3 = INVALID_ARGUMENT.
    pub code: i32,
    /// What was wrong, for people.
    pub message: String,
}

/// Envoy: `config.core.v3.Node`, the members that are read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoveryNode {
    /// Shared by all tasks of one service.
    pub id: String,
    /// Service cluster.
    pub cluster: String,
    /// What a Weir gateway adds; a stock Envoy may set `hold: true` in its bootstrap.
    pub metadata: NodeMetadata,
}

/// `node.metadata`: `hold` for a stock Envoy, `weir` from our gateway.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeMetadata {
    /// A stock Envoy asks for its request to be held open.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// Only from a Weir gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weir: Option<GatewayStatus>,
}

/// What a gateway tells with every discovery request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayStatus {
    /// [`WIRE_VERSION`] of the gateway.
    pub wire: u32,
    /// ECS task id, else host name + boot id. Unique per process.
    pub instance_id: String,
    /// Changes at each start of the process.
    pub boot_id: String,
    /// `LIVE`, `DRAINING`, ... as in `/server_info`.
    pub state: String,
    /// The gateway leaves: it is not to be awaited any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub goodbye: bool,
    /// Build version.
    pub build: String,
    /// Availability zone of the task; empty when not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// The version_info of the listeners and clusters in force; empty when they are from a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config_version: String,
    /// By cluster of a managed route.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, ClusterStatus>,
    /// Per managed route, what is in force.
    pub routes: BTreeMap<String, RouteStatus>,
}

/// One managed route as a gateway serves it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// Effective weights by target, as drawn from (any sum).
    pub weights: BTreeMap<String, u32>,
    /// The stable target in force.
    pub stable: String,
    /// Where the weights came from.
    pub source: WeightSource,
    /// The version_info that set them; empty if not from control.
    pub version: String,
    /// Age of the weights in seconds (of the saved copy when the source is `saved`).
    pub age_seconds: u64,
    /// Until an override ends by itself; none without an override.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// One cluster as a gateway sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// Endpoints known.
    pub endpoints: u32,
    /// Endpoints that may get requests.
    pub usable: u32,
    /// Who was asked for them last: `api`, `dns` or `static`.
    pub source: String,
    /// What people should know about it (`AccessDenied: asked DNS instead`); empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notice: String,
}

/// Where effective weights came from, the strongest first (DESIGN.md, Weights).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightSource {
    /// The gateway's own emergency stop of the canary.
    Tripwire,
    /// Break glass on the gateway.
    Override,
    /// Control, live.
    Control,
    /// Control's last word, read at the start from `--state-dir` or from control's state item.
    Saved,
    /// `/runtime_modify`.
    Runtime,
    /// No word from control by the time LIVE was due: the stable at 100 %.
    Stable,
    /// The file; also what is read for a source that this build does not know: an older side keeps talking with a
    /// newer one, and the weakest source claims nothing.
    #[default]
    #[serde(other)]
    File,
}

/// Envoy: `service.discovery.v3.DiscoveryResponse`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoveryResponse {
    /// `<epoch>.<seq>-<control id>`.
    pub version_info: String,
    /// Route configurations.
    pub resources: Vec<RouteConfigurationResource>,
    /// [`ROUTE_TYPE_URL`].
    pub type_url: String,
    /// Echoed by the gateway.
    pub nonce: String,
}

/// Envoy: `service.discovery.v3.DiscoveryResponse` for resources in the words of a gateway's own file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigDiscoveryResponse {
    /// `<epoch>.<seq>-<control id>`; listeners and clusters of one configuration carry the same.
    pub version_info: String,
    /// Each with `@type`.
    pub resources: Vec<serde_json::Value>,
    /// [`LISTENER_TYPE_URL`] or [`CLUSTER_TYPE_URL`].
    pub type_url: String,
    /// Echoed by the gateway.
    pub nonce: String,
}

/// A route configuration for one managed route: one virtual host `*`, one route of the same name, so that a
/// stock Envoy can serve it as it is and a Weir gateway takes the weights from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteConfigurationResource {
    /// [`ROUTE_TYPE_URL`].
    #[serde(rename = "@type")]
    pub type_url: String,
    /// Route name.
    pub name: String,
    /// One virtual host.
    pub virtual_hosts: Vec<VirtualHostResource>,
    /// A stock Envoy takes a route from discovery with clusters that it does not have, and answers 503 for their
    /// share, unless this is set: then it refuses the version. A Weir gateway always refuses it.
    pub validate_clusters: bool,
}

/// Envoy: `VirtualHost`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VirtualHostResource {
    /// Name.
    pub name: String,
    /// `["*"]`.
    pub domains: Vec<String>,
    /// One route.
    pub routes: Vec<RouteResource>,
}

/// Envoy: `Route`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteResource {
    /// Route name.
    pub name: String,
    /// `{"prefix": "/"}`.
    #[serde(rename = "match")]
    pub matches: BTreeMap<String, String>,
    /// Weighted clusters.
    pub route: RouteActionResource,
    /// `metadata.filter_metadata.weir`: ignored by a stock Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RouteMetadata>,
}

/// Envoy: `Metadata`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteMetadata {
    /// Keyed by `weir`.
    pub filter_metadata: BTreeMap<String, WeirRouteMetadata>,
}

/// What control tells a Weir gateway beside the weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeirRouteMetadata {
    /// The stable target.
    pub stable: String,
}

/// Envoy: `RouteAction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteActionResource {
    /// Weighted clusters.
    pub weighted_clusters: WeightedClustersResource,
}

/// Envoy: `WeightedCluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightedClustersResource {
    /// Targets; one of weight 0 may be left out. The sum is [`FULL_WEIGHT`] when control made them.
    pub clusters: Vec<ClusterWeightResource>,
}

/// Envoy: `ClusterWeight`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterWeightResource {
    /// Cluster name.
    pub name: String,
    /// Weight.
    pub weight: u32,
}

/// `POST /v1/gateways/{id}/report`: monotonic counters since `boot_id`, so that a lost report loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`WIRE_VERSION`].
    pub wire: u32,
    /// Counters start at 0 with each boot id.
    pub boot_id: String,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// State and effective weights, as in discovery.
    pub status: GatewayStatus,
    /// By managed route, then target.
    pub routes: BTreeMap<String, BTreeMap<String, TargetReport>>,
}

/// Counters of one target of one route at one gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetReport {
    /// Requests that the draw gave to this target and that ended.
    pub requests: u64,
    /// Of those: 5xx answers, resets, connect failures and timeouts.
    pub errors: u64,
    /// Requests by the override header; not in `requests`.
    pub overridden: u64,
    /// Requests of this target in flight now.
    pub active: u64,
    /// Latency of `requests`: `[upper bound in microseconds, count]`, empty buckets left out, ascending.
    pub latency: Vec<(u64, u64)>,
    /// Endpoints known.
    pub endpoints: u32,
    /// Endpoints that may get requests.
    pub endpoints_healthy: u32,
    /// Age in seconds of the last successful discovery answer.
    pub discovery_age_seconds: u64,
    /// The last discovery error, empty when the last answer was good.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub discovery_error: String,
}

/// `<epoch>.<seq>-<control id>` (DESIGN.md, Versions and fencing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Rises when a control starts without its predecessor's state.
    pub epoch: u64,
    /// Rises with each change.
    pub seq: u64,
    /// Which control.
    pub control_id: String,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}-{}", self.epoch, self.seq, self.control_id)
    }
}

impl Version {
    /// Reads a version_info; `None` when it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, rest) = text.split_once('.')?;
        let (seq, control_id) = rest.split_once('-')?;
        if control_id.is_empty() {
            return None;
        }
        Some(Self { epoch: epoch.parse().ok()?, seq: seq.parse().ok()?, control_id: control_id.to_owned() })
    }

    /// Whether a gateway that serves `self` may take `next`: a higher epoch, or the same epoch and control id
    /// with a higher seq. An equal version is taken again (it changes nothing).
    pub fn may_become(&self, next: &Self) -> bool {
        next.epoch > self.epoch
            || (next.epoch == self.epoch && next.control_id == self.control_id && next.seq >= self.seq)
    }
}
