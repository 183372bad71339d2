//! The configuration model as Envoy's messages in proto3 JSON.
//!
//! Owns the way back from our model to Envoy's shapes. It must never show a secret: tokens are only known here as
//! paths of files, and a URL loses its user part. Next: `config_dump.rs`, which puts the pieces together.

use super::samples::source_word;
use crate::access_log::timestamp;
use crate::state::snapshot::Split;
use gateway_config::model::{
    Bootstrap, Cluster, Discovery, HttpConnectionManager, LbPolicy, Listener, PathMatch, Route,
    RouteConfiguration, RouteTarget, ValueMatch, WeightedClusters,
};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Prefix of all type URLs.
pub const TYPES: &str = "type.googleapis.com/envoy";

/// The splits in force, in the order in which the configuration names them.
pub type Splits<'a> = std::slice::Iter<'a, Arc<Split>>;

/// A name as a JSON string.
pub fn id_json(name: &str) -> Value {
    Value::String(name.to_owned())
}

/// Envoy: `Address`.
pub fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// Envoy: `Duration` in proto3 JSON: `15s`, `0.250s`.
pub fn duration(value: Duration) -> String {
    let (secs, nanos) = (value.as_secs(), value.subsec_nanos());
    match nanos {
        0 => format!("{secs}s"),
        n if n % 1_000_000 == 0 => format!("{secs}.{:03}s", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{secs}.{:06}s", n / 1_000),
        n => format!("{secs}.{n:09}s"),
    }
}

/// Envoy: `Cluster`.
pub fn cluster(config: &Cluster) -> Value {
    let mut out = Map::new();
    out.insert("@type".to_owned(), json!(format!("{TYPES}.config.cluster.v3.Cluster")));
    out.insert("name".to_owned(), json!(config.name));
    match &config.discovery {
        Discovery::Static(addresses) => {
            out.insert("type".to_owned(), json!("STATIC"));
            out.insert("load_assignment".to_owned(), load_assignment(&config.name, addresses));
        }
        Discovery::Dns(dns) => {
            out.insert("type".to_owned(), json!("STRICT_DNS"));
            let address = json!({ "socket_address": { "address": dns.hostname, "port_value": dns.port } });
            out.insert("load_assignment".to_owned(), assignment(&config.name, vec![address]));
            out.insert("dns_refresh_rate".to_owned(), json!(duration(dns.max_refresh)));
        }
        Discovery::CloudMap(map) => {
            let typed = json!({
                "namespace_name": map.namespace_name,
                "service_name": map.service_name,
                "attributes": map.attributes,
                "port": map.port,
                "full_poll": duration(map.full_poll),
                "revision_poll": duration(map.revision_poll),
            });
            out.insert("cluster_type".to_owned(), json!({ "name": "cloud_map", "typed_config": typed }));
        }
    }
    out.insert("connect_timeout".to_owned(), json!(duration(config.connect_timeout)));
    out.insert("lb_policy".to_owned(), json!(lb_policy(config.lb_policy)));
    let breakers = &config.circuit_breakers;
    let thresholds = json!({
        "max_connections": breakers.max_connections,
        "max_pending_requests": breakers.max_pending_requests,
        "max_requests": breakers.max_requests,
        "max_retries": breakers.max_retries,
    });
    out.insert("circuit_breakers".to_owned(), json!({ "thresholds": [thresholds] }));
    Value::Object(out)
}

fn lb_policy(policy: LbPolicy) -> &'static str {
    match policy {
        LbPolicy::RoundRobin => "ROUND_ROBIN",
        LbPolicy::LeastRequest => "LEAST_REQUEST",
    }
}

/// Envoy: `ClusterLoadAssignment` of addresses.
pub fn load_assignment(cluster: &str, addresses: &[SocketAddr]) -> Value {
    assignment(cluster, addresses.iter().map(|a| socket_address(*a)).collect())
}

fn assignment(cluster: &str, addresses: Vec<Value>) -> Value {
    let endpoint = |address| json!({ "endpoint": { "address": address } });
    let endpoints: Vec<Value> = addresses.into_iter().map(endpoint).collect();
    json!({ "cluster_name": cluster, "endpoints": [{ "lb_endpoints": endpoints }] })
}

/// Envoy: `Listener`, with the weights of the file.
pub fn listener(config: &Listener) -> Value {
    let manager = http_connection_manager(&config.http_connection_manager);
    json!({
        "@type": format!("{TYPES}.config.listener.v3.Listener"),
        "name": config.name,
        "address": socket_address(config.address),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }] }],
    })
}

fn http_connection_manager(config: &HttpConnectionManager) -> Value {
    let filters = format!("{TYPES}.extensions.filters");
    let upgrades: Vec<Value> = config.upgrade_types.iter().map(|t| json!({ "upgrade_type": t })).collect();
    let logger = |log: &gateway_config::model::AccessLog| {
        json!({
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": format!("{TYPES}.extensions.access_loggers.file.v3.FileAccessLog"),
                "path": log.path,
            },
        })
    };
    let access_log: Vec<Value> = config.access_log.iter().map(logger).collect();
    json!({
        "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": config.stat_prefix,
        "route_config": route_configuration(&config.route_config, None),
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{filters}.http.router.v3.Router") },
        }],
        "common_http_protocol_options": {
            "idle_timeout": duration(config.idle_timeout),
            "max_headers_count": config.max_headers_count,
        },
        "http_protocol_options": { "enable_trailers": config.enable_trailers },
        "http2_protocol_options": { "max_concurrent_streams": config.max_concurrent_streams },
        "server_name": config.server_name,
        "access_log": access_log,
        "use_remote_address": config.use_remote_address,
        "xff_num_trusted_hops": config.xff_num_trusted_hops,
        "upgrade_configs": upgrades,
        "stream_idle_timeout": duration(config.stream_idle_timeout),
        "request_headers_timeout": duration(config.request_headers_timeout),
        "max_request_headers_kb": config.max_request_headers_kb,
    })
}

/// Envoy: `RouteConfiguration`; with `splits`, the weights in force and where they came from.
pub fn route_configuration(config: &RouteConfiguration, mut splits: Option<&mut Splits<'_>>) -> Value {
    let mut hosts = Vec::with_capacity(config.virtual_hosts.len());
    for host in &config.virtual_hosts {
        let routes: Vec<Value> = host.routes.iter().map(|r| route(r, splits.as_deref_mut())).collect();
        hosts.push(json!({ "name": host.name, "domains": host.domains, "routes": routes }));
    }
    json!({
        "@type": format!("{TYPES}.config.route.v3.RouteConfiguration"),
        "name": config.name,
        "virtual_hosts": hosts,
    })
}

fn route(config: &Route, splits: Option<&mut Splits<'_>>) -> Value {
    let mut out = Map::new();
    if !config.name.is_empty() {
        out.insert("name".to_owned(), json!(config.name));
    }
    out.insert("match".to_owned(), route_match(config));
    let mut action = Map::new();
    match &config.action.target {
        RouteTarget::Cluster(cluster) => {
            action.insert("cluster".to_owned(), json!(cluster));
        }
        RouteTarget::Weighted(weighted) => {
            let split = splits.and_then(Iterator::next);
            action.insert("weighted_clusters".to_owned(), weighted_clusters(weighted, split));
            if let Some(split) = split {
                let metadata = json!({ "filter_metadata": { "weir": split_metadata(split) } });
                out.insert("metadata".to_owned(), metadata);
            }
        }
    }
    action.insert("timeout".to_owned(), json!(duration(config.action.timeout)));
    if let Some(prefix) = &config.action.prefix_rewrite {
        action.insert("prefix_rewrite".to_owned(), json!(prefix));
    }
    if let Some(host) = &config.action.host_rewrite_literal {
        action.insert("host_rewrite_literal".to_owned(), json!(host));
    }
    out.insert("route".to_owned(), Value::Object(action));
    Value::Object(out)
}

fn route_match(config: &Route) -> Value {
    let mut out = match &config.matches.path {
        PathMatch::Prefix(prefix) => json!({ "prefix": prefix }),
        PathMatch::Path(path) => json!({ "path": path }),
    };
    let header = |matcher: &gateway_config::model::HeaderMatcher| {
        let mut out = match &matcher.matches {
            ValueMatch::Present => json!({ "name": matcher.name, "present_match": true }),
            ValueMatch::Exact(text) => json!({ "name": matcher.name, "string_match": { "exact": text } }),
            ValueMatch::Prefix(text) => json!({ "name": matcher.name, "string_match": { "prefix": text } }),
            ValueMatch::Suffix(text) => json!({ "name": matcher.name, "string_match": { "suffix": text } }),
            ValueMatch::Contains(text) => {
                json!({ "name": matcher.name, "string_match": { "contains": text } })
            }
        };
        if let (true, Some(fields)) = (matcher.invert, out.as_object_mut()) {
            fields.insert("invert_match".to_owned(), json!(true));
        }
        out
    };
    let headers: Vec<Value> = config.matches.headers.iter().map(header).collect();
    if let (false, Some(fields)) = (headers.is_empty(), out.as_object_mut()) {
        fields.insert("headers".to_owned(), Value::Array(headers));
    }
    out
}

fn weighted_clusters(config: &WeightedClusters, split: Option<&Arc<Split>>) -> Value {
    let entry = |name: &str, weight: u32| json!({ "name": name, "weight": weight });
    let clusters: Vec<Value> = match split {
        Some(split) => split.targets.iter().zip(&split.weights).map(|(t, w)| entry(&t.name, *w)).collect(),
        None => config.clusters.iter().map(|c| entry(&c.name, c.weight)).collect(),
    };
    json!({ "clusters": clusters })
}

fn split_metadata(split: &Split) -> Value {
    let stable = split.stable.and_then(|index| split.targets.get(index)).map(|target| &*target.name);
    json!({
        "stable": stable,
        "weight_source": source_word(split.source),
        "version_info": &*split.version,
        "since": timestamp::to_string(split.since),
        "managed": split.managed,
        "health_aware": split.health_aware,
    })
}

/// Envoy: `Bootstrap`, as far as it is known.
pub fn bootstrap(config: &Bootstrap) -> Value {
    let listeners: Vec<Value> = config.listeners.iter().map(|l| untyped(listener(l))).collect();
    let clusters: Vec<Value> = config.clusters.iter().map(|c| untyped(cluster(c))).collect();
    let mut out = json!({
        "node": {
            "id": config.node.id,
            "cluster": config.node.cluster,
            "user_agent_name": "envoy",
            "user_agent_build_version": super::server_info::user_agent(),
        },
        "static_resources": { "listeners": listeners, "clusters": clusters },
        "admin": { "address": socket_address(config.admin.address) },
    });
    if let (Some(control), Some(fields)) = (&config.control, out.as_object_mut()) {
        fields.insert("control".to_owned(), json!({ "url": without_user(&control.url) }));
    }
    out
}

/// Inside another message the type is known.
fn untyped(mut message: Value) -> Value {
    if let Some(fields) = message.as_object_mut() {
        fields.remove("@type");
    }
    message
}

/// `http://user:secret@host` without what must not be shown.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_proto3_json() {
        assert_eq!(duration(Duration::from_secs(15)), "15s");
        assert_eq!(duration(Duration::from_millis(250)), "0.250s");
        assert_eq!(duration(Duration::from_micros(1_500_001)), "1.500001s");
        assert_eq!(duration(Duration::from_nanos(7)), "0.000000007s");
    }

    #[test]
    fn a_url_loses_its_user_part() {
        assert_eq!(without_user("http://u:secret@control:18000/x@y"), "http://control:18000/x@y");
        assert_eq!(without_user("http://control:18000"), "http://control:18000");
        assert_eq!(without_user("nonsense"), "nonsense");
    }
}
