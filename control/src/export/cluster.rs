//! A cluster in Envoy's words.
//!
//! Owns where Envoy finds the endpoints that Weir finds through DNS or Cloud Map; it must never resolve a name. Next:
//! `mod.rs`.

use super::{Error, address, duration};
use gateway_config::model::{CloudMapDiscovery, Cluster, Discovery, DnsDiscovery, LbPolicy};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Envoy: `config.cluster.v3.Cluster`.
pub(super) fn cluster(cluster: &Cluster, notices: &mut BTreeSet<String>) -> Result<Value, Error> {
    let breakers = &cluster.circuit_breakers;
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(cluster.name));
    let endpoints = match &cluster.discovery {
        Discovery::Static(addresses) => {
            out.insert("type".to_owned(), json!("STATIC"));
            addresses.iter().map(|at| address(*at)).collect()
        }
        Discovery::Dns(dns) => vec![names(dns, &mut out)],
        Discovery::CloudMap(map) => vec![names(&cloud_map(&cluster.name, map, notices)?, &mut out)],
    };
    let endpoints: Vec<Value> =
        endpoints.into_iter().map(|address| json!({"endpoint": {"address": address}})).collect();
    out.insert("connect_timeout".to_owned(), json!(duration(cluster.connect_timeout)));
    let policy = match cluster.lb_policy {
        LbPolicy::RoundRobin => "ROUND_ROBIN",
        LbPolicy::LeastRequest => "LEAST_REQUEST",
    };
    out.insert("lb_policy".to_owned(), json!(policy));
    out.insert(
        "circuit_breakers".to_owned(),
        json!({"thresholds": [{
            "max_connections": breakers.max_connections,
            "max_pending_requests": breakers.max_pending_requests,
            "max_requests": breakers.max_requests,
            "max_retries": breakers.max_retries,
        }]}),
    );
    out.insert(
        "load_assignment".to_owned(),
        json!({"cluster_name": cluster.name, "endpoints": [{"lb_endpoints": endpoints}]}),
    );
    notices.insert(
        "Envoy does not doubt endpoints that fail, and answers 503 where Weir takes another version or another endpoint: add outlier_detection as you like it".to_owned(),
    );
    Ok(Value::Object(out))
}

/// All addresses of a name, by its TTL.
fn names(dns: &DnsDiscovery, out: &mut Map<String, Value>) -> Value {
    out.insert("type".to_owned(), json!("STRICT_DNS"));
    out.insert("dns_lookup_family".to_owned(), json!("ALL"));
    out.insert("respect_dns_ttl".to_owned(), json!(true));
    out.insert("dns_refresh_rate".to_owned(), json!(duration(dns.max_refresh)));
    if !dns.resolvers.is_empty() {
        let resolvers: Vec<Value> = dns.resolvers.iter().map(|at: &SocketAddr| address(*at)).collect();
        out.insert(
            "typed_dns_resolver_config".to_owned(),
            json!({
                "name": "envoy.network.dns_resolver.cares",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                    "resolvers": resolvers,
                },
            }),
        );
    }
    json!({"socket_address": {"address": dns.hostname, "port_value": dns.port}})
}

/// What DNS knows of a Cloud Map service.
fn cloud_map(
    name: &str,
    map: &CloudMapDiscovery,
    notices: &mut BTreeSet<String>,
) -> Result<DnsDiscovery, Error> {
    let wrong = |why| Error::Cluster { name: name.to_owned(), why };
    if !map.attributes.is_empty() {
        return Err(wrong(
            "its endpoints are told apart by attributes, which DNS does not have: Envoy would send requests to other versions",
        ));
    }
    let port = map.port.ok_or_else(|| wrong("it has no port_value, and DNS has no ports"))?;
    if let Some(fallback) = &map.dns_fallback {
        notices.insert(notice(name, &fallback.hostname));
        return Ok(fallback.clone());
    }
    let hostname = format!("{}.{}", map.service_name, map.namespace_name);
    notices.insert(notice(name, &hostname));
    Ok(DnsDiscovery {
        hostname,
        port,
        min_refresh: Duration::from_secs(1),
        max_refresh: Duration::from_secs(30),
        resolvers: Vec::new(),
        allow_loopback: map.allow_loopback,
    })
}

fn notice(name: &str, hostname: &str) -> String {
    format!(
        "cluster `{name}`: Envoy has no Cloud Map, so it asks DNS for {hostname}: the service needs A records, and DNS answers with at most 8 of them"
    )
}
