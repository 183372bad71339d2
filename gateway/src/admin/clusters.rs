//! `/clusters`: every cluster and endpoint, in Envoy's lines or JSON.
//!
//! Owns those two shapes. What this gateway does not do (outlier ejection, retries by priority) is not listed.
//! Next: `envoy_json.rs`.

use super::endpoints::Context;
use super::envoy_json::socket_address;
use super::reply::Reply;
use crate::cluster::{Cluster, Endpoint};
use crate::state::snapshot::Snapshot;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// `/clusters` as text or, with `format=json`, as JSON.
pub fn clusters(context: &Context<'_>) -> Reply {
    let snapshot = context.process.store.snapshot();
    if context.parameter("format") == Some("json") {
        let statuses: Vec<Value> = snapshot.clusters.iter().map(|cluster| status(cluster)).collect();
        return Reply::json(&json!({ "cluster_statuses": statuses }));
    }
    Reply::text(StatusCode::OK, text(&snapshot))
}

fn text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for cluster in snapshot.clusters.iter() {
        let name = &cluster.name;
        let breakers = &cluster.config.circuit_breakers;
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // A string takes every write.
            let _ = writeln!(out, "{name}::{key}::{value}");
        };
        line("observability_name", name);
        line("default_priority::max_connections", &breakers.max_connections);
        line("default_priority::max_pending_requests", &breakers.max_pending_requests);
        line("default_priority::max_requests", &breakers.max_requests);
        line("default_priority::max_retries", &breakers.max_retries);
        line("added_via_api", &false);
        let discovery = cluster.shared.discovery();
        if let Some(success) = discovery.last_success {
            line("discovery::age_seconds", &success.elapsed().as_secs());
        }
        if !discovery.error.is_empty() {
            line("discovery::error", &discovery.error.replace(['\r', '\n'], " "));
        }
        if !discovery.notice.is_empty() {
            line("discovery::source", &discovery.source.as_str());
            line("discovery::notice", &discovery.notice.replace(['\r', '\n'], " "));
        }
        for endpoint in cluster.endpoints.iter() {
            for (key, value) in lines(endpoint) {
                line(&format!("{}::{key}", endpoint.address), &value);
            }
        }
    }
    out
}

fn lines(endpoint: &Endpoint) -> [(&'static str, String); 17] {
    [
        ("cx_active", endpoint.active_connections.load(Relaxed).to_string()),
        ("cx_connect_fail", endpoint.connect_failures.load(Relaxed).to_string()),
        ("cx_total", endpoint.connections.load(Relaxed).to_string()),
        ("rq_active", endpoint.active_requests.load(Relaxed).to_string()),
        ("rq_error", endpoint.errors.load(Relaxed).to_string()),
        ("rq_success", endpoint.successes.load(Relaxed).to_string()),
        ("rq_total", endpoint.requests.load(Relaxed).to_string()),
        ("hostname", String::new()),
        ("health_flags", health_flags(endpoint).to_owned()),
        ("weight", "1".to_owned()),
        ("region", String::new()),
        ("zone", endpoint.zone.clone()),
        ("sub_zone", String::new()),
        ("canary", "false".to_owned()),
        ("priority", "0".to_owned()),
        ("success_rate", "-1".to_owned()),
        ("local_origin_success_rate", "-1".to_owned()),
    ]
}

/// Envoy's nearest word for an endpoint whose last connect failed: others are tried before it.
fn health_flags(endpoint: &Endpoint) -> &'static str {
    if endpoint.healthy() { "healthy" } else { "/failed_active_hc" }
}

/// Envoy: `admin.v3.ClusterStatus`.
fn status(cluster: &Cluster) -> Value {
    let breakers = &cluster.config.circuit_breakers;
    let hosts: Vec<Value> = cluster.endpoints.iter().map(|endpoint| host(endpoint)).collect();
    json!({
        "name": &*cluster.name,
        "host_statuses": hosts,
        "circuit_breakers": { "thresholds": [{
            "max_connections": breakers.max_connections,
            "max_pending_requests": breakers.max_pending_requests,
            "max_requests": breakers.max_requests,
            "max_retries": breakers.max_retries,
        }] },
        "observability_name": &*cluster.name,
    })
}

/// Envoy: `admin.v3.HostStatus`; a value of 0 is left out, as in proto3 JSON.
fn host(endpoint: &Endpoint) -> Value {
    let counter = |name: &str, value: u64| match value {
        0 => json!({ "name": name }),
        value => json!({ "value": value.to_string(), "name": name }),
    };
    let gauge = |name: &str, value: u32| match value {
        0 => json!({ "type": "GAUGE", "name": name }),
        value => json!({ "type": "GAUGE", "value": value.to_string(), "name": name }),
    };
    let health = if endpoint.healthy() {
        json!({ "eds_health_status": "HEALTHY" })
    } else {
        json!({ "failed_active_health_check": true, "eds_health_status": "HEALTHY" })
    };
    let locality = if endpoint.zone.is_empty() { json!({}) } else { json!({ "zone": endpoint.zone }) };
    json!({
        "address": socket_address(endpoint.address),
        "stats": [
            counter("cx_connect_fail", endpoint.connect_failures.load(Relaxed)),
            counter("cx_total", endpoint.connections.load(Relaxed)),
            counter("rq_error", endpoint.errors.load(Relaxed)),
            counter("rq_success", endpoint.successes.load(Relaxed)),
            counter("rq_total", endpoint.requests.load(Relaxed)),
            gauge("cx_active", endpoint.active_connections.load(Relaxed)),
            gauge("rq_active", endpoint.active_requests.load(Relaxed)),
        ],
        "health_status": health,
        "weight": 1,
        "locality": locality,
    })
}
