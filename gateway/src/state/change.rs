//! What a source may ask of the store.
//!
//! Owns the vocabulary of changes and refusals; it must never apply one. Next: `store.rs`.

use crate::cluster::Endpoint;
use gateway_config::model::Bootstrap;
use gateway_config::wire::WeightSource;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// One change, applied whole or not at all.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new configuration (file or environment).
    Config(Arc<Bootstrap>),
    /// The endpoints of one cluster that may get requests; Arcs of addresses that stay are the same ones.
    Endpoints {
        /// Cluster name.
        cluster: String,
        /// In address order.
        endpoints: Vec<Arc<Endpoint>>,
    },
    /// Weights of one or several routes from one source, in one snapshot.
    Weights(Vec<RouteWeights>),
    /// Takes back what a source said about a route.
    ReleaseWeights {
        /// Route name.
        route: String,
        /// Whose word ends.
        source: WeightSource,
    },
    /// Break glass: everything of a route goes to one target until a moment.
    Override(Override),
    /// Ends the overrides whose time is over at this moment.
    EndOverrides(Instant),
}

/// A route's override. It wins over control and survives reloads; a restart ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Route name; every Route of that name is overridden.
    pub route: String,
    /// Takes everything.
    pub target: String,
    /// When it ends by itself.
    pub until: Instant,
}

/// What a source wants a route to have.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteWeights {
    /// Route name; every Route of that name takes the weights.
    pub route: String,
    /// By target name; a target that is not named has 0.
    pub weights: BTreeMap<String, u32>,
    /// Replaces the configured stable target when set.
    pub stable: Option<String>,
    /// Whose word this is.
    pub source: WeightSource,
    /// version_info; empty when not from control.
    pub version: String,
    /// When the weights were made.
    pub since: SystemTime,
}

/// Why a change was refused; what ran goes on running.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Rejected {
    /// A route of that name is not in the configuration.
    #[error("route `{route}` is not in this gateway's configuration; it has: {known}")]
    UnknownRoute {
        /// Asked for.
        route: String,
        /// Names that exist.
        known: String,
    },
    /// A target that the route does not have.
    #[error("route `{route}` has no target `{target}`; its targets are: {known}")]
    UnknownTarget {
        /// Route.
        route: String,
        /// Asked for.
        target: String,
        /// Names that exist.
        known: String,
    },
    /// All weights 0, or a sum above u32.
    #[error("the weights of route `{route}` sum up to {sum}: it must be from 1 to 4294967295")]
    WeightSum {
        /// Route.
        route: String,
        /// The sum.
        sum: u64,
    },
    /// A file takes a target away from a route whose weights do not come from files.
    #[error(
        "the weights in force of route `{route}` do not fit this file: {why}; take the target to 0 first, or release \
         the override that gives it everything"
    )]
    WeightsInForce {
        /// Route.
        route: String,
        /// What does not fit.
        why: String,
    },
    /// No such cluster.
    #[error("cluster `{0}` is not in this gateway's configuration")]
    UnknownCluster(String),
    /// Listeners can only be changed by a restart.
    #[error("{0}")]
    NeedsRestart(String),
    /// The access log cannot be opened.
    #[error("access log `{path}`: {reason}; make the folder writable or choose /dev/stdout")]
    AccessLog {
        /// Configured path.
        path: String,
        /// Operating system's word.
        reason: String,
    },
}
