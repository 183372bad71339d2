//! The configuration model: what a gateway runs, in Envoy's field names.
//!
//! Owns the types only; it must never read bytes (that is `parse.rs`) nor judge them (`validate.rs`).
//! Every source (file, environment, discovery) is translated into these types, and only these are compiled
//! into a running snapshot. Next: `decode.rs`, how a spanned document becomes a [`Bootstrap`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The whole configuration of one gateway process (Envoy: `config.bootstrap.v3.Bootstrap`).
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// Who this gateway says it is, in `/server_info` and to control.
    pub node: Node,
    /// The admin listener.
    pub admin: Admin,
    /// Listeners in file order; none only when control has them.
    pub listeners: Vec<Listener>,
    /// Clusters in file order; names are unique.
    pub clusters: Vec<Cluster>,
    /// Where control is; without it every route runs on the weights of the file.
    pub control: Option<Control>,
    /// Byte budgets and process-wide limits.
    pub limits: Limits,
}

/// Identity (Envoy: `config.core.v3.Node`).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Node {
    /// `node.id`; all tasks of one ECS service share it.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
}

/// The admin listener (Envoy: `config.bootstrap.v3.Admin`).
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Default 0.0.0.0:9901: the ALB's health check and Prometheus come from outside the task.
    pub address: SocketAddr,
    /// A file whose first line is the token that allows state changes from other than loopback.
    pub token_file: Option<String>,
}

/// One listening address and what is served on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique name; statistics use the address.
    pub name: String,
    /// Where to bind; port 0 takes any free port (tests).
    pub address: SocketAddr,
    /// How HTTP is served there.
    pub http_connection_manager: HttpConnectionManager,
}

/// Envoy: `HttpConnectionManager`, the fields that are served.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConnectionManager {
    /// Prefix of the downstream statistics; default `ingress` as App Mesh had it.
    pub stat_prefix: String,
    /// Default true: append the peer to x-forwarded-for.
    pub use_remote_address: bool,
    /// Default 1: one ALB in front is trusted, its x-forwarded-proto kept.
    pub xff_num_trusted_hops: u32,
    /// Default `envoy`.
    pub server_name: String,
    /// No bytes in either direction of a stream for so long: 408 or 504. Default 300 s; zero disables.
    pub stream_idle_timeout: Duration,
    /// A downstream connection without a request for so long is closed. Default 1 h (an ALB has 60 s).
    pub idle_timeout: Duration,
    /// From the first byte of a head to its last. Default 60 s (an Envoy default of off would be no limit).
    pub request_headers_timeout: Duration,
    /// Most header lines of a request or response. Default 100.
    pub max_headers_count: usize,
    /// Most bytes of a request head, in KiB. Default 60.
    pub max_request_headers_kb: usize,
    /// HTTP/2 streams at once per downstream connection. Default 100.
    pub max_concurrent_streams: u32,
    /// Pass HTTP/1 trailers on, both ways. Default false, as Envoy.
    pub enable_trailers: bool,
    /// Repair two Hosts, two spaces, CR in a value, obs-fold and bytes after a chunk as Envoy does, instead of
    /// refusing them with 400. Default false.
    pub lenient: bool,
    /// Upgrades that are passed on (lower case); default `["websocket"]`.
    pub upgrade_types: Vec<String>,
    /// Access log, or none.
    pub access_log: Option<AccessLog>,
    /// The routes.
    pub route_config: RouteConfiguration,
}

/// Access log of one HttpConnectionManager.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// `/dev/stdout`, `/dev/stderr` or a file.
    pub path: String,
    /// Line shape.
    pub format: AccessLogFormat,
    /// Which requests are logged.
    pub filter: AccessLogFilter,
}

/// Shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Envoy's default text format.
    Text,
    /// One JSON object per line, the same fields.
    Json,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFilter {
    /// Nothing was said: every request, but under an App Mesh resource's name (`node.id`) errors and canary, since App
    /// Mesh's image wrote no access log unless it was told to.
    Unsaid,
    /// Every request.
    All,
    /// Status 5xx or a response flag, and requests answered by another target than the route's stable.
    ErrorsAndCanary,
}

/// Envoy: `RouteConfiguration`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RouteConfiguration {
    /// Name; not unique by force.
    pub name: String,
    /// Virtual hosts; domains are unique over all of them.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// Envoy: `VirtualHost`.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// Unique within the RouteConfiguration.
    pub name: String,
    /// Exact, `*.suffix`, `prefix.*` or `*`; matched in Envoy's order; case-insensitive, port included.
    pub domains: Vec<String>,
    /// Tried in order; the first match wins.
    pub routes: Vec<Route>,
}

/// Envoy: `Route`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Names the route for control, metrics and the access log; empty = unnamed.
    pub name: String,
    /// When it applies.
    pub matches: RouteMatch,
    /// What is done.
    pub action: RouteAction,
}

/// Envoy: `RouteMatch`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// Path condition.
    pub path: PathMatch,
    /// All must hold.
    pub headers: Vec<HeaderMatcher>,
}

/// Path condition; query excluded.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// `prefix`.
    Prefix(String),
    /// `path`: the whole path.
    Path(String),
}

/// Envoy: `HeaderMatcher`. With repeated header lines any line may match.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatcher {
    /// Lower case.
    pub name: String,
    /// Condition on one line's value.
    pub matches: ValueMatch,
    /// `invert_match`.
    pub invert: bool,
}

/// Condition on a header value.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// `present_match: true`, also when no condition is given.
    Present,
    /// `string_match.exact`.
    Exact(String),
    /// `string_match.prefix`.
    Prefix(String),
    /// `string_match.suffix`.
    Suffix(String),
    /// `string_match.contains`.
    Contains(String),
}

/// Envoy: `RouteAction`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteAction {
    /// One or several weighted targets.
    pub target: RouteTarget,
    /// Over the whole response; default 15 s; zero disables.
    pub timeout: Duration,
    /// When a request is tried again.
    pub retry_policy: Option<RetryPolicy>,
    /// Replaces the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// Replaces the Host header.
    pub host_rewrite_literal: Option<String>,
}

/// Envoy: `RetryPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `retry_on`; at least one, each once, in file order.
    pub retry_on: Vec<RetryOn>,
    /// Tries after the first. Default 1.
    pub num_retries: u32,
    /// Over each try; none: the route's timeout. Zero disables.
    pub per_try_timeout: Option<Duration>,
    /// For [`RetryOn::RetriableStatusCodes`].
    pub retriable_status_codes: Vec<u16>,
}

/// One word of Envoy's `retry_on` (Envoy: router filter, `x-envoy-retry-on` and `x-envoy-retry-grpc-on`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// `5xx`: any 5xx answer, and no answer at all.
    FiveXx,
    /// `gateway-error`: 502, 503 or 504.
    GatewayError,
    /// `reset`: no answer (disconnect, reset, timeout).
    Reset,
    /// `connect-failure`: no connection.
    ConnectFailure,
    /// `refused-stream`: HTTP/2 REFUSED_STREAM.
    RefusedStream,
    /// `retriable-4xx`: 409.
    Retriable4xx,
    /// `retriable-status-codes`.
    RetriableStatusCodes,
    /// gRPC status in the answer's headers: 1, 4, 13, 8 or 14.
    Grpc(u8),
}

/// The words of `retry_on` and what they mean; the number of a gRPC word is its status code.
pub const RETRY_ON_WORDS: [(&str, RetryOn); 12] = [
    ("5xx", RetryOn::FiveXx),
    ("gateway-error", RetryOn::GatewayError),
    ("reset", RetryOn::Reset),
    ("connect-failure", RetryOn::ConnectFailure),
    ("refused-stream", RetryOn::RefusedStream),
    ("retriable-4xx", RetryOn::Retriable4xx),
    ("retriable-status-codes", RetryOn::RetriableStatusCodes),
    ("cancelled", RetryOn::Grpc(1)),
    ("deadline-exceeded", RetryOn::Grpc(4)),
    ("resource-exhausted", RetryOn::Grpc(8)),
    ("internal", RetryOn::Grpc(13)),
    ("unavailable", RetryOn::Grpc(14)),
];

/// Where a route leads.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteTarget {
    /// `cluster`.
    Cluster(String),
    /// `weighted_clusters`.
    Weighted(WeightedClusters),
}

/// Envoy: `WeightedCluster`, with what Weir adds.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedClusters {
    /// At least one; the sum of weights is positive and fits u32.
    pub clusters: Vec<ClusterWeight>,
    /// Ours: the target that takes everything when in doubt; a named route with a stable is under control.
    pub stable: Option<String>,
    /// Ours: a request header whose value names the target (`x-canary: v2`), at any weight. Lower case.
    pub override_header: Option<String>,
    /// Ours: a response header that names the target that answered. Lower case.
    pub target_header: Option<String>,
    /// Ours: a target without endpoints gets no share while another has some. Default true.
    pub health_aware: bool,
}

/// Envoy: `WeightedCluster.ClusterWeight`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterWeight {
    /// Cluster name.
    pub name: String,
    /// 0 = nothing.
    pub weight: u32,
}

/// Envoy: `Cluster`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Unique.
    pub name: String,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// Default 1 s, App Mesh's.
    pub connect_timeout: Duration,
    /// Default round robin.
    pub lb_policy: LbPolicy,
    /// Envoy's thresholds.
    pub circuit_breakers: CircuitBreakers,
}

/// Load balancing policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `LEAST_REQUEST`, two random choices.
    LeastRequest,
}

/// Envoy: `CircuitBreakers.Thresholds` of default priority; Envoy's defaults 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// Connections to all endpoints of the cluster.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Retries in flight. Envoy's default 3.
    pub max_retries: u32,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// Fixed addresses.
    Static(Vec<SocketAddr>),
    /// All A and AAAA records of a name, by TTL.
    Dns(DnsDiscovery),
    /// Cloud Map's API.
    CloudMap(CloudMapDiscovery),
}

/// DNS discovery.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsDiscovery {
    /// Fully qualified or not; no trailing dot needed.
    pub hostname: String,
    /// Port of every endpoint.
    pub port: u16,
    /// Shortest time between look-ups, whatever the TTL. Default 1 s.
    pub min_refresh: Duration,
    /// Longest time between look-ups, whatever the TTL. Default 30 s.
    pub max_refresh: Duration,
    /// Name servers to ask instead of the system's (`127.0.0.1:5353`).
    pub resolvers: Vec<SocketAddr>,
    /// Accept loopback and link-local addresses. Default false.
    pub allow_loopback: bool,
}

/// Cloud Map discovery (`DiscoverInstances`).
#[derive(Clone, Debug, PartialEq)]
pub struct CloudMapDiscovery {
    /// The namespace's HTTP name.
    pub namespace_name: String,
    /// The service.
    pub service_name: String,
    /// `QueryParameters`: all must match.
    pub attributes: BTreeMap<String, String>,
    /// Port of every endpoint; else the instance's `AWS_INSTANCE_PORT`.
    pub port: Option<u16>,
    /// Between two full polls. Default 30 s.
    pub full_poll: Duration,
    /// Between two revision polls. Default 2 s.
    pub revision_poll: Duration,
    /// Accept loopback and link-local addresses. Default false.
    pub allow_loopback: bool,
    /// What is asked when the API refuses or cannot be reached; only with a port, DNS has none.
    pub dns_fallback: Option<DnsDiscovery>,
}

/// How control is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// `http://host:18000` or `https://host:18000`.
    pub url: String,
    /// A file whose first line is the `gateway` token.
    pub token_file: Option<String>,
    /// The `gateway` token itself, from the environment; wins over the file.
    pub token: Option<Secret>,
    /// A file of PEM certificates that control's is checked against; none = the system's.
    pub ca_file: Option<String>,
    /// Such certificates themselves, from the environment; win over the file.
    pub ca: Option<String>,
    /// Folder for the saved copy of the last weights; none = not saved.
    pub state_dir: Option<String>,
    /// Control's state item, read at the start when control is away.
    pub state_item: Option<StateItem>,
}

/// One item of a DynamoDB table whose partition key is the text attribute `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateItem {
    /// The table.
    pub table: String,
    /// Value of the item's partition key. Default `weir`.
    pub key: String,
}

/// A text that no log, dump or error ever shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Process-wide limits; all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Downstream connections per process. Default 20,000.
    pub max_downstream_connections: u32,
    /// Bytes that workers may hold as partly read heads and unsent leftovers, per worker. Default 16 MiB.
    pub leftover_budget: usize,
}
