//! From the model to a snapshot: every look-up table, handle and sum is made here, before anything is published.
//!
//! Owns compilation. It must never publish: on any refusal what ran stays. Next: `store.rs`.

use super::change::{Rejected, RouteWeights};
use super::snapshot::{ClusterIndex, HttpManager, RouteTables, Split, Target};
use crate::access_log::AccessLogs;
use crate::cluster::{Cluster, ClusterShared};
use crate::router::{Route, RouteTarget, VirtualHosts};
use crate::stats::registry::Registry;
use gateway_config::model::{self, AccessLogFilter, Bootstrap};
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
        listeners.push(Arc::new(manager(listener, bootstrap, context, &mut splits)?));
    }
    let tables = RouteTables { bootstrap: Arc::clone(bootstrap), updated: SystemTime::now(), listeners };
    Ok((tables, splits))
}

fn manager(
    listener: &model::Listener,
    bootstrap: &Bootstrap,
    context: &Context<'_>,
    splits: &mut Vec<Split>,
) -> Result<HttpManager, Rejected> {
    let config = &listener.http_connection_manager;
    let mut virtual_hosts = VirtualHosts::default();
    for host in &config.route_config.virtual_hosts {
        let mut compiled = Vec::with_capacity(host.routes.len());
        for route in &host.routes {
            compiled.push(compile_route(route, bootstrap.control.is_some(), context, splits)?);
        }
        virtual_hosts.add(&host.domains, compiled);
    }
    let access_log = match &config.access_log {
        None => None,
        Some(log) => Some(
            context
                .access_logs
                .open(&filtered(log, &bootstrap.node))
                .map_err(|error| Rejected::AccessLog { path: log.path.clone(), reason: error.to_string() })?,
        ),
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

/// Where no filter was given, a task that still has App Mesh's variables is spared a line for each request.
fn filtered(log: &model::AccessLog, node: &model::Node) -> model::AccessLog {
    let mut parts = node.id.split('/');
    let of_app_mesh = parts.next() == Some("mesh") && parts.count() >= 3;
    let filter = match log.filter {
        AccessLogFilter::Unsaid if of_app_mesh => AccessLogFilter::ErrorsAndCanary,
        given => given,
    };
    model::AccessLog { filter, ..log.clone() }
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
    compiled.retry = route.action.retry_policy.clone();
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
        until: None,
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
        until: None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_config::parse_bootstrap;
    use std::collections::BTreeSet;

    fn compiled(route: &str, rest: &str) -> (RouteTables, Vec<Split>) {
        let text = format!(
            "static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 9080}}}}
    http_connection_manager:
      route_config:
        virtual_hosts:
        - {{name: all, domains: ['*'], routes: [{route}]}}
  clusters:
  - {{name: v1, discovery: {{dns: {{hostname: v1.test, port_value: 80}}}}}}
  - {{name: v2, discovery: {{dns: {{hostname: v2.test, port_value: 80}}}}}}
{rest}"
        );
        let bootstrap = parse_bootstrap("test", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let registry = Arc::new(Registry::new(1));
        let access_logs = AccessLogs::new(Arc::clone(&registry));
        let clusters = [("v1".to_owned(), 0), ("v2".to_owned(), 1)].into();
        let context = Context { registry: &registry, access_logs: &access_logs, clusters: &clusters };
        routes(&Arc::new(bootstrap), &context).unwrap()
    }

    const CONTROL: &str = "control: {url: 'http://127.0.0.1:18000'}";
    const WEIGHTED: &str = "weighted_clusters: {clusters: [{name: v2, weight: 7}, {name: v1, weight: 3}]";

    #[test]
    fn a_route_is_managed_when_it_has_a_name_and_a_stable_and_there_is_control() {
        let mut seen = BTreeSet::new();
        for name in ["name: svc1, ", ""] {
            for stable in [", stable: v1", ""] {
                for control in [CONTROL, ""] {
                    let route = format!("{{{name}match: {{prefix: /}}, route: {{{WEIGHTED}{stable}}}}}}}");
                    let (_, splits) = compiled(&route, control);
                    let all = !name.is_empty() && !stable.is_empty() && !control.is_empty();
                    assert_eq!(splits[0].managed, all, "{name}{stable}{control}");
                    seen.insert(splits[0].managed);
                }
            }
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn a_split_keeps_the_order_of_the_file_and_points_at_clusters_by_position() {
        let route = format!("{{name: svc1, match: {{prefix: /}}, route: {{{WEIGHTED}, stable: v1}}}}}}");
        let (tables, splits) = compiled(&route, "");
        let [split] = &splits[..] else { panic!("one split") };
        let targets: Vec<_> = split.targets.iter().map(|t| (&*t.name, t.cluster)).collect();
        assert_eq!(targets, [("v2", 1), ("v1", 0)]);
        assert_eq!((&*split.weights, split.total, split.stable), (&[7, 3][..], 10, Some(1)));
        assert_eq!((split.source, &*split.version), (WeightSource::File, ""));
        assert_eq!(tables.listeners[0].listener, "ingress");
    }

    #[test]
    fn an_unknown_stable_is_refused_even_when_all_weights_fit() {
        let route = format!("{{name: svc1, match: {{prefix: /}}, route: {{{WEIGHTED}, stable: v1}}}}}}");
        let (_, splits) = compiled(&route, CONTROL);
        let mut wanted = splits[0].all_to_stable().unwrap();
        assert_eq!(&*reweigh(&splits[0], &wanted).unwrap().weights, [0, 1]);
        wanted.stable = Some("v9".to_owned());
        let rejected = reweigh(&splits[0], &wanted).unwrap_err().to_string();
        assert_eq!(rejected, "route `svc1` has no target `v9`; its targets are: v2, v1");
    }

    #[test]
    fn an_access_log_without_a_filter_is_of_errors_and_canary_under_app_meshs_names_only() {
        use AccessLogFilter::{All, ErrorsAndCanary, Unsaid};
        let app_mesh = "mesh/m/virtualGateway/g";
        for (node, said, wanted) in [
            (app_mesh, Unsaid, ErrorsAndCanary),
            (app_mesh, All, All),
            ("gateway", Unsaid, Unsaid),
            ("mesh/m", Unsaid, Unsaid),
            ("gateway", ErrorsAndCanary, ErrorsAndCanary),
        ] {
            let log = model::AccessLog {
                path: "/dev/null".to_owned(),
                format: model::AccessLogFormat::Text,
                filter: said,
            };
            let node = model::Node { id: node.to_owned(), cluster: String::new() };
            assert_eq!(filtered(&log, &node).filter, wanted, "{node:?}");
        }
    }

    #[test]
    fn statistics_name_a_listener_as_envoy_does() {
        assert_eq!(listener_stat_name(([0, 0, 0, 0], 9080).into()), "0.0.0.0_9080");
    }

    #[test]
    fn a_time_of_zero_is_no_limit() {
        assert_eq!(limit(Duration::ZERO), None);
        assert_eq!(limit(Duration::from_secs(15)), Some(Duration::from_secs(15)));
    }
}
