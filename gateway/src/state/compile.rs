//! From the model to a snapshot: every look-up table, handle and sum is made here, before anything is published.
//!
//! Owns compilation. It must never publish: on any refusal what ran stays. Next: `store.rs`.

use super::change::{Rejected, RouteWeights};
use super::snapshot::{ClusterIndex, HttpManager, RouteTables, Split, Target};
use crate::access_log::AccessLogs;
use crate::cluster::{Cluster, ClusterShared};
use crate::router::{Route, RouteTarget, VirtualHosts};
use crate::stats::registry::Registry;
use gateway_config::model::{self, Bootstrap};
use gateway_config::wire::WeightSource;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a compilation needs of the process.
pub struct Context<'a> {
    /// Statistics.
    pub registry: &'a Registry,
    /// Writers of access logs.
    pub access_logs: &'a AccessLogs,
    /// Cluster positions by name.
    pub clusters: &'a BTreeMap<String, ClusterIndex>,
}

/// Compiles listeners and routes. Splits are made with the weights of the file, in order of appearance.
///
/// # Errors
/// [`Rejected`] when an access log cannot be opened or a cluster is unknown (validation has seen to the rest).
pub fn routes(
    bootstrap: &Arc<Bootstrap>,
    context: &Context<'_>,
) -> Result<(RouteTables, Vec<Split>), Rejected> {
    let mut splits = Vec::new();
    let mut listeners = Vec::new();
    for listener in &bootstrap.listeners {
        listeners.push(Arc::new(manager(listener, bootstrap.control.is_some(), context, &mut splits)?));
    }
    let tables = RouteTables { bootstrap: Arc::clone(bootstrap), updated: SystemTime::now(), listeners };
    Ok((tables, splits))
}

fn manager(
    listener: &model::Listener,
    has_control: bool,
    context: &Context<'_>,
    splits: &mut Vec<Split>,
) -> Result<HttpManager, Rejected> {
    let config = &listener.http_connection_manager;
    let mut virtual_hosts = VirtualHosts::default();
    for host in &config.route_config.virtual_hosts {
        let mut compiled = Vec::with_capacity(host.routes.len());
        for route in &host.routes {
            compiled.push(compile_route(route, has_control, context, splits)?);
        }
        virtual_hosts.add(&host.domains, compiled);
    }
    let access_log =
        match &config.access_log {
            None => None,
            Some(log) => Some(context.access_logs.open(log).map_err(|error| Rejected::AccessLog {
                path: log.path.clone(),
                reason: error.to_string(),
            })?),
        };
    Ok(HttpManager {
        listener: listener.name.clone(),
        address: listener.address,
        config: config.clone(),
        stats: context.registry.http(&config.stat_prefix),
        listener_stats: context.registry.listener(&listener_stat_name(listener.address)),
        virtual_hosts,
        access_log,
    })
}

/// A listener's address as Envoy writes it in a statistic (`0.0.0.0_9080`).
pub fn listener_stat_name(address: SocketAddr) -> String {
    address.to_string().replace(':', "_")
}

fn limit(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn compile_route(
    route: &model::Route,
    has_control: bool,
    context: &Context<'_>,
    splits: &mut Vec<Split>,
) -> Result<Route, Rejected> {
    let name: Arc<str> = route.name.as_str().into();
    let mut headers = (None, None);
    let target = match &route.action.target {
        model::RouteTarget::Cluster(cluster) => RouteTarget::Cluster(index_of(cluster, context)?),
        model::RouteTarget::Weighted(weighted) => {
            headers = (weighted.override_header.clone(), weighted.target_header.clone());
            let managed = has_control && weighted.stable.is_some() && !route.name.is_empty();
            splits.push(file_split(&name, weighted, managed, context)?);
            RouteTarget::Split(splits.len() - 1)
        }
    };
    let mut compiled = Route::new(name, route.matches.clone(), target);
    compiled.timeout = limit(route.action.timeout);
    compiled.prefix_rewrite = route.action.prefix_rewrite.clone();
    compiled.host_rewrite = route.action.host_rewrite_literal.clone();
    (compiled.override_header, compiled.target_header) = headers;
    Ok(compiled)
}

fn index_of(cluster: &str, context: &Context<'_>) -> Result<ClusterIndex, Rejected> {
    context.clusters.get(cluster).copied().ok_or_else(|| Rejected::UnknownCluster(cluster.to_owned()))
}

fn file_split(
    route: &Arc<str>,
    weighted: &model::WeightedClusters,
    managed: bool,
    context: &Context<'_>,
) -> Result<Split, Rejected> {
    let mut targets = Vec::with_capacity(weighted.clusters.len());
    for target in &weighted.clusters {
        targets.push(Target {
            name: target.name.as_str().into(),
            cluster: index_of(&target.name, context)?,
            stats: context.registry.target(route, &target.name),
        });
    }
    let weights: Box<[u32]> = weighted.clusters.iter().map(|c| c.weight).collect();
    let stable = weighted.stable.as_ref().and_then(|s| weighted.clusters.iter().position(|c| c.name == *s));
    Ok(Split {
        route: Arc::clone(route),
        total: weight_sum(route, &weights)?,
        targets: targets.into(),
        weights,
        stable,
        source: WeightSource::File,
        version: "".into(),
        since: SystemTime::now(),
        health_aware: weighted.health_aware,
        managed,
    })
}

fn weight_sum(route: &str, weights: &[u32]) -> Result<u32, Rejected> {
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    u32::try_from(sum)
        .ok()
        .filter(|sum| *sum > 0)
        .ok_or_else(|| Rejected::WeightSum { route: route.to_owned(), sum })
}

/// The same split with other weights.
///
/// A target that this file does not have yet, or any more, may be named with weight 0: it holds up nobody.
///
/// # Errors
/// [`Rejected`] for an unknown target with a weight, or an impossible sum.
pub fn reweigh(split: &Split, wanted: &RouteWeights) -> Result<Split, Rejected> {
    let position = |name: &str| split.targets.iter().position(|t| &*t.name == name);
    let unknown = |target: &str| Rejected::UnknownTarget {
        route: split.route.to_string(),
        target: target.to_owned(),
        known: split.targets.iter().map(|t| &*t.name).collect::<Vec<_>>().join(", "),
    };
    let stray = wanted.weights.iter().find(|(name, weight)| **weight > 0 && position(name).is_none());
    if let Some((name, _)) = stray {
        return Err(unknown(name));
    }
    let weights: Box<[u32]> =
        split.targets.iter().map(|t| wanted.weights.get(&*t.name).copied().unwrap_or(0)).collect();
    let stable = match &wanted.stable {
        None => split.stable,
        Some(name) => Some(position(name).ok_or_else(|| unknown(name))?),
    };
    Ok(Split {
        route: Arc::clone(&split.route),
        total: weight_sum(&split.route, &weights)?,
        targets: Arc::clone(&split.targets),
        weights,
        stable,
        source: wanted.source,
        version: wanted.version.as_str().into(),
        since: wanted.since,
        health_aware: split.health_aware,
        managed: split.managed,
    })
}

/// A cluster without endpoints yet, or with those that it had.
pub fn cluster(config: &model::Cluster, before: Option<&Cluster>, registry: &Registry) -> Cluster {
    match before {
        Some(old) => Cluster {
            name: Arc::clone(&old.name),
            config: config.clone(),
            shared: Arc::clone(&old.shared),
            endpoints: Arc::clone(&old.endpoints),
        },
        None => Cluster {
            name: config.name.as_str().into(),
            config: config.clone(),
            shared: Arc::new(ClusterShared::new(registry.cluster(&config.name))),
            endpoints: Arc::new([]),
        },
    }
}
