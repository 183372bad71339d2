//! `control export envoy`: the present state as a static bootstrap that a stock Envoy serves without Weir.
//!
//! Owns where the state comes from (a running control, or its file) and the frame of the bootstrap; it must never ask
//! anybody. What Envoy cannot do is a notice, what would send requests elsewhere is an error. Next: `listener.rs`,
//! `cluster.rs`.

mod cluster;
mod listener;
mod yaml;

pub use yaml::yaml;

use crate::rest::RoutesView;
use gateway_config::control_config::read_control;
use gateway_config::discovered::GatewayResources;
use gateway_config::model::{Cluster, Listener};
use gateway_config::{Diagnostics, parse_partial_bootstrap};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

/// Weights of a route by target, in hundredths of a percent.
pub type Weights = BTreeMap<String, u32>;

/// What is exported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Listeners as gateways get them.
    pub listeners: Vec<Listener>,
    /// Clusters as gateways get them.
    pub clusters: Vec<Cluster>,
    /// The weights of routes under control; those of the listeners hold for the rest.
    pub weights: BTreeMap<String, Weights>,
}

/// A bootstrap, and what Envoy will not do.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Envoy: `config.bootstrap.v3.Bootstrap`.
    pub bootstrap: Value,
    /// Each once.
    pub notices: BTreeSet<String>,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is wrong.
    #[error("{0}")]
    Config(Diagnostics),
    /// It has no section `gateway`.
    #[error("there is no section `gateway`, so control does not know listeners and clusters")]
    NoGateway,
    /// Control answered something else.
    #[error("the answer of control is not understood: {0}")]
    Answer(String),
    /// Envoy cannot find the endpoints.
    #[error("cluster `{name}`: {why}")]
    Cluster {
        /// Its name.
        name: String,
        /// What is missing.
        why: &'static str,
    },
}

impl Error {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Config(_) => "correct the file".to_owned(),
            Self::NoGateway => {
                "the gateways have their own files then: add the section to control's file, in the words of static_resources".to_owned()
            }
            Self::Answer(_) => "is this control older?".to_owned(),
            Self::Cluster { .. } => "give the cluster a service of its own, or `discovery: {dns: ..}`, and export again".to_owned(),
        }
    }
}

impl Source {
    /// From control's configuration file; the weights are the first weights of the file.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::NoGateway`].
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let config = read_control(path).map_err(Error::Config)?;
        let gateway = config.gateway.ok_or(Error::NoGateway)?;
        let weights =
            config.routes.into_iter().filter_map(|(name, route)| Some((name, route.weights?))).collect();
        Ok(Self { listeners: gateway.listeners, clusters: gateway.clusters, weights })
    }

    /// From a running control: `GET /v1/gateway-config` and `GET /v1/routes`.
    ///
    /// # Errors
    /// [`Error::NoGateway`], [`Error::Answer`].
    pub fn of_control(resources: &Value, routes: &Value) -> Result<Self, Error> {
        let answer = |error: &dyn std::fmt::Display| Error::Answer(error.to_string());
        let resources = GatewayResources::deserialize(resources).map_err(|error| answer(&error))?;
        if resources.is_empty() {
            return Err(Error::NoGateway);
        }
        let routes = RoutesView::deserialize(routes).map_err(|error| answer(&error))?;
        let base = parse_partial_bootstrap("a gateway", b"{}").map_err(|error| answer(&error))?;
        let whole = resources.complete(&base).map_err(|error| answer(&error))?;
        let weights =
            routes.routes.into_iter().filter_map(|route| Some((route.name, route.weights?))).collect();
        Ok(Self { listeners: whole.listeners, clusters: whole.clusters, weights })
    }
}

/// Makes the bootstrap; `admin` is where Envoy's admin listens.
///
/// # Errors
/// [`Error::Cluster`]: without it Envoy would send requests to nobody, or to the wrong version.
pub fn envoy(source: &Source, admin: SocketAddr) -> Result<Exported, Error> {
    let mut notices = BTreeSet::new();
    let clusters = source
        .clusters
        .iter()
        .map(|cluster| cluster::cluster(cluster, &mut notices))
        .collect::<Result<Vec<_>, _>>()?;
    let listeners: Vec<Value> =
        source.listeners.iter().map(|item| listener::listener(item, &source.weights, &mut notices)).collect();
    let bootstrap = json!({
        "node": {"id": "weir-export", "cluster": "weir-export"},
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    });
    Ok(Exported { bootstrap, notices })
}

/// Envoy: `config.core.v3.Address`.
fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A duration as proto3 JSON: seconds and at most nine decimals.
fn duration(time: std::time::Duration) -> String {
    match time.subsec_nanos() {
        0 => format!("{}s", time.as_secs()),
        nanos => format!("{}.{}s", time.as_secs(), format!("{nanos:09}").trim_end_matches('0')),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_seconds() {
        for (time, text) in [(0, "0s"), (15_000, "15s"), (250, "0.25s"), (1_005, "1.005s")] {
            assert_eq!(duration(Duration::from_millis(time)), text);
        }
    }
}
