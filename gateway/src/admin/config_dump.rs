//! `/config_dump`: what is configured and what is in force, as Envoy's dump messages.
//!
//! Owns the assembly. Routes are shown with the weights that requests are drawn by now, their source and their
//! version. It must never show a secret (`envoy_json.rs` sees to it). Next: `clusters.rs`.

use super::endpoints::Context;
use super::envoy_json::{self, Splits, TYPES};
use super::reply::Reply;
use crate::access_log::timestamp;
use crate::process::{Origin, Process, Provenance};
use crate::state::snapshot::Snapshot;
use gateway_config::model::{Bootstrap, RouteConfiguration, RouteTarget};
use gateway_config::wire::WeightSource;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::sync::PoisonError;

/// `/config_dump`, whole or one `resource`.
pub fn config_dump(context: &Context<'_>) -> Reply {
    for unknown in ["mask", "name_regex"] {
        if context.parameter(unknown).is_some() {
            let text = format!("{unknown} is not supported; use resource, or jq on the whole answer\n");
            return Reply::text(StatusCode::BAD_REQUEST, text);
        }
    }
    let snapshot = context.process.store.snapshot();
    let include_eds = context.parameter("include_eds").is_some();
    let sections = sections(context.process, &snapshot, include_eds);
    let Some(resource) = context.parameter("resource").filter(|name| !name.is_empty()) else {
        return Reply::json(&json!({ "configs": sections }));
    };
    match entries(&sections, resource) {
        Some(configs) => Reply::json(&json!({ "configs": configs })),
        None => Reply::text(StatusCode::NOT_FOUND, format!("{resource} not found in config dump")),
    }
}

fn sections(process: &Process, snapshot: &Snapshot, include_eds: bool) -> Vec<Value> {
    let bootstrap = &*snapshot.routes.bootstrap;
    let started = timestamp::to_string(process.started_at);
    let updated = timestamp::to_string(snapshot.routes.updated);
    let dated = |key: &str, value: Value| json!({ key: value, "last_updated": updated });
    let provenance = process.provenance();
    let clusters: Vec<Value> =
        bootstrap.clusters.iter().map(|c| dated("cluster", envoy_json::cluster(c))).collect();
    let listeners: Vec<Value> =
        bootstrap.listeners.iter().map(|l| dated("listener", envoy_json::listener(l))).collect();
    let mut own = json!({
        "@type": format!("{TYPES}.admin.v3.BootstrapConfigDump"),
        "bootstrap": envoy_json::bootstrap(bootstrap),
        "last_updated": started,
    });
    let refused = process.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let (false, Some(fields)) = (refused.is_empty(), own.as_object_mut()) {
        // Envoy: `UpdateFailureState`; there for sections that can change while Envoy runs.
        fields.insert("error_state".to_owned(), json!({ "details": refused }));
    }
    let (clusters, listeners) = match provenance.origin {
        Origin::File => (json!({ "static_clusters": clusters }), json!({ "static_listeners": listeners })),
        _ => dynamic(&provenance, clusters, listeners),
    };
    let mut out = vec![own, typed(&format!("{TYPES}.admin.v3.ClustersConfigDump"), &clusters)];
    if include_eds {
        out.push(endpoints(snapshot));
    }
    out.push(typed(&format!("{TYPES}.admin.v3.ListenersConfigDump"), &listeners));
    out.push(json!({ "@type": format!("{TYPES}.admin.v3.ScopedRoutesConfigDump") }));
    out.push(routes(bootstrap, snapshot, &updated));
    out.push(json!({ "@type": format!("{TYPES}.admin.v3.SecretsConfigDump") }));
    out
}

/// Clusters and listeners that control gave, as Envoy shows those of discovery (`DynamicCluster`, `DynamicListener`).
fn dynamic(provenance: &Provenance, clusters: Vec<Value>, listeners: Vec<Value>) -> (Value, Value) {
    let version = &provenance.version;
    let versioned = |entry: &Value| {
        let mut out = json!({ "version_info": version });
        if let (Some(out), Some(entry)) = (out.as_object_mut(), entry.as_object()) {
            out.extend(entry.clone());
        }
        out
    };
    let name = |entry: &Value| entry.get("listener").and_then(|listener| listener.get("name")).cloned();
    let listener = |entry: &Value| json!({ "name": name(entry), "active_state": versioned(entry) });
    let clusters: Vec<Value> = clusters.iter().map(versioned).collect();
    let listeners: Vec<Value> = listeners.iter().map(listener).collect();
    (
        json!({ "version_info": version, "dynamic_active_clusters": clusters }),
        json!({ "version_info": version, "dynamic_listeners": listeners }),
    )
}

/// A message with its type in front.
fn typed(name: &str, fields: &Value) -> Value {
    let mut out = json!({ "@type": name });
    if let (Some(out), Some(fields)) = (out.as_object_mut(), fields.as_object()) {
        out.extend(fields.clone());
    }
    out
}

/// Envoy: `EndpointsConfigDump`.
fn endpoints(snapshot: &Snapshot) -> Value {
    let config = |cluster: &std::sync::Arc<crate::cluster::Cluster>| {
        let endpoint = |e: &std::sync::Arc<crate::cluster::Endpoint>| {
            json!({
                "endpoint": { "address": envoy_json::socket_address(e.address), "health_check_config": {} },
                "health_status": if e.healthy() { "HEALTHY" } else { "UNHEALTHY" },
                "load_balancing_weight": 1,
            })
        };
        let all: Vec<Value> = cluster.endpoints.iter().map(endpoint).collect();
        json!({ "endpoint_config": {
            "@type": format!("{TYPES}.config.endpoint.v3.ClusterLoadAssignment"),
            "cluster_name": &*cluster.name,
            "endpoints": [{ "locality": {}, "lb_endpoints": all }],
        } })
    };
    let configs: Vec<Value> = snapshot.clusters.iter().map(config).collect();
    json!({
        "@type": format!("{TYPES}.admin.v3.EndpointsConfigDump"),
        "static_endpoint_configs": configs,
    })
}

/// Envoy: `RoutesConfigDump`. A configuration whose weights came from control is dynamic and has its version.
fn routes(bootstrap: &Bootstrap, snapshot: &Snapshot, updated: &str) -> Value {
    let mut splits = snapshot.splits.iter();
    let (mut fixed, mut dynamic) = (Vec::new(), Vec::new());
    for listener in &bootstrap.listeners {
        let config = &listener.http_connection_manager.route_config;
        let own = splits.clone().take(weighted_routes(config));
        let controlled = own.clone().filter(|split| {
            matches!(split.source, WeightSource::Control | WeightSource::Saved) && !split.version.is_empty()
        });
        let newest = controlled.max_by_key(|split| split.since);
        let route_config = envoy_json::route_configuration(config, Some(&mut splits as &mut Splits<'_>));
        match newest {
            Some(split) => dynamic.push(json!({
                "version_info": &*split.version,
                "route_config": route_config,
                "last_updated": timestamp::to_string(split.since),
            })),
            None => fixed.push(json!({ "route_config": route_config, "last_updated": updated })),
        }
    }
    let mut out = json!({ "@type": format!("{TYPES}.admin.v3.RoutesConfigDump") });
    if let Some(fields) = out.as_object_mut() {
        for (key, list) in [("static_route_configs", fixed), ("dynamic_route_configs", dynamic)] {
            if !list.is_empty() {
                fields.insert(key.to_owned(), Value::Array(list));
            }
        }
    }
    out
}

fn weighted_routes(config: &RouteConfiguration) -> usize {
    let routes = config.virtual_hosts.iter().flat_map(|host| &host.routes);
    routes.filter(|route| matches!(route.action.target, RouteTarget::Weighted(_))).count()
}

/// The entries of one field of a section, each with its own type (Envoy: `?resource=static_listeners`).
fn entries(sections: &[Value], resource: &str) -> Option<Vec<Value>> {
    if resource == "bootstrap" {
        return Some(sections.first().cloned().into_iter().collect());
    }
    const KINDS: [(&str, &str, &str); 7] = [
        ("static_clusters", "ClustersConfigDump", "StaticCluster"),
        ("dynamic_active_clusters", "ClustersConfigDump", "DynamicCluster"),
        ("static_listeners", "ListenersConfigDump", "StaticListener"),
        ("dynamic_listeners", "ListenersConfigDump", "DynamicListener"),
        ("static_route_configs", "RoutesConfigDump", "StaticRouteConfig"),
        ("dynamic_route_configs", "RoutesConfigDump", "DynamicRouteConfig"),
        ("static_endpoint_configs", "EndpointsConfigDump", "StaticEndpointConfig"),
    ];
    let (field, dump, entry) = KINDS.into_iter().find(|(field, ..)| *field == resource)?;
    let section =
        sections.iter().find(|s| s["@type"].as_str().is_some_and(|t| t.ends_with(&format!(".{dump}"))));
    let list = section.and_then(|section| section.get(field)).and_then(Value::as_array);
    let name = format!("{TYPES}.admin.v3.{dump}.{entry}");
    Some(list.map(|list| list.iter().map(|item| typed(&name, item)).collect()).unwrap_or_default())
}
