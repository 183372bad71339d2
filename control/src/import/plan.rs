//! What the configuration will say, before it is text.
//!
//! Owns the types only; names and numbers are final. Next: `emit.rs`.

use super::model::{HeaderRule, HostRule, NodeDiscovery, PathRule, Retry};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub mesh: String,
    pub gateway: String,
    pub listeners: Vec<Listener>,
    pub clusters: Vec<Cluster>,
    pub routes: Vec<Managed>,
    /// Of all routes; none: nothing was said, App Mesh's 300 s.
    pub idle: Option<String>,
    pub access_log: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listener {
    pub port: u16,
    pub hosts: Vec<Host>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Host {
    /// None: every host that has no other.
    pub rule: Option<HostRule>,
    pub routes: Vec<RouteEntry>,
}

/// One route of Envoy's kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RouteEntry {
    pub name: String,
    pub path: PathRule,
    pub headers: Vec<HeaderRule>,
    pub targets: Vec<(String, u32)>,
    pub stable: String,
    /// None: App Mesh's 15 s.
    pub timeout: Option<String>,
    pub retry: Retry,
    pub prefix_rewrite: Option<String>,
    pub host_rewrite: Option<String>,
}

/// A route under control.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Managed {
    pub name: String,
    /// Clusters and hundredths of a percent.
    pub targets: Vec<(String, u32)>,
    pub stable: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cluster {
    pub name: String,
    pub node: String,
    pub port: u16,
    pub discovery: NodeDiscovery,
}
