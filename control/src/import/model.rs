//! A mesh in App Mesh's words: what every reader produces and one translation takes.
//!
//! Owns the types only. Next: `spec.rs` (from resources of the API), `dump.rs` (from an Envoy), `translate.rs`.

use super::notes::Place;

/// Everything that the files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub nodes: Vec<VirtualNode>,
    pub services: Vec<VirtualService>,
    pub routes: Vec<Route>,
    pub gateways: Vec<VirtualGateway>,
    pub gateway_routes: Vec<GatewayRoute>,
    /// Routers that were described, by mesh and name.
    pub routers: Vec<(String, String)>,
}

/// A version of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VirtualNode {
    pub place: Place,
    pub mesh: String,
    pub name: String,
    pub listeners: Vec<Port>,
    pub discovery: NodeDiscovery,
    /// The name of Envoy's cluster, where it is known.
    pub cluster: Option<String>,
}

/// A port and what is spoken there: http, http2, grpc, tcp.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Port {
    pub port: u16,
    pub protocol: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum NodeDiscovery {
    Dns { hostname: String },
    CloudMap { namespace: String, service: String, attributes: Vec<(String, String)> },
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct VirtualService {
    pub place: Place,
    pub mesh: String,
    pub name: String,
    pub provider: Provider,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Provider {
    Router(String),
    Node(String),
    None,
}

/// A route of a virtual router.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    pub place: Place,
    pub mesh: String,
    pub router: String,
    pub name: String,
    /// 0 is first; none is last.
    pub priority: Option<u64>,
    pub matches: Match,
    pub targets: Vec<Target>,
    /// Over the whole answer; none: App Mesh's 15 s.
    pub timeout: Option<String>,
    /// None: App Mesh's 300 s.
    pub idle: Option<String>,
    pub retry: Retry,
}

/// A weighted target.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub node: String,
    /// Relative.
    pub weight: u32,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Retry {
    /// Nothing was said: App Mesh's own policy.
    Default,
    /// None at all.
    Off,
    /// In Envoy's words.
    Policy(RetryPolicy),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RetryPolicy {
    pub retry_on: String,
    pub num_retries: u64,
    pub per_try_timeout: Option<String>,
    pub codes: Vec<u64>,
}

/// When a route or gateway route applies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Match {
    pub path: PathRule,
    pub headers: Vec<HeaderRule>,
    pub host: Option<HostRule>,
    pub port: Option<u16>,
    /// Conditions that Weir cannot express, in words.
    pub foreign: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathRule {
    Exact(String),
    Prefix(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeaderRule {
    pub name: String,
    pub invert: bool,
    pub value: ValueRule,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ValueRule {
    Present,
    Exact(String),
    Prefix(String),
    Suffix(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostRule {
    Exact(String),
    Suffix(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct VirtualGateway {
    pub place: Place,
    pub mesh: String,
    pub name: String,
    pub listeners: Vec<Port>,
    /// A path, if a log was configured.
    pub access_log: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct GatewayRoute {
    pub place: Place,
    pub mesh: String,
    pub gateway: String,
    pub name: String,
    pub priority: Option<u64>,
    pub matches: Match,
    pub service: String,
    /// Host is rewritten to the virtual service's name.
    pub host_rewrite: bool,
    /// Without a host rule it is for hosts that have none (an Envoy's virtual hosts), not for all.
    pub own_host_only: bool,
    pub rewrite: Rewrite,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rewrite {
    /// It stays.
    Off,
    /// The matched prefix, or the whole path, becomes this.
    To(String),
}
