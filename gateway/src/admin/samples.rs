//! The statistics that only exist when somebody asks: memory, uptime, shares, ages.
//!
//! Owns their reading from the process and the snapshot. It must never be called on a worker. Next:
//! `../stats/render.rs`, how they are printed.

use super::server_info::version_number;
use crate::cluster::DiscoverySource;
use crate::process::{Process, ServerState};
use crate::state::snapshot::{Snapshot, Split};
use crate::stats::cells::Scope;
use crate::stats::names::{ListenerStat, ServerStat};
use crate::stats::render::collect::{self, LISTENER_LABEL, target_naming};
use crate::stats::render::{Sample, Value};
use gateway_config::model::Discovery;
use gateway_config::wire::WeightSource;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// Envoy's value of `server.days_until_first_cert_expiring` when there is none.
const NO_CERTIFICATE: u64 = 4_294_967_295;

/// Every statistic of the process, read now.
pub fn all(process: &Process) -> Vec<Sample> {
    let snapshot = process.store.snapshot();
    refresh(process, &snapshot);
    let mut out = collect::registry(&process.registry);
    listener_http(&snapshot, &mut out);
    routes(&snapshot, &mut out);
    discovery(process, &snapshot, &mut out);
    out
}

/// The listeners that requests come in by, with the addresses they are bound to; the admin address is not one.
pub fn listeners(process: &Process) -> Vec<(String, SocketAddr)> {
    let bound = process.bound();
    let snapshot = process.store.snapshot();
    let configured = snapshot.routes.bootstrap.listeners.iter();
    configured.filter_map(|listener| bound.iter().find(|(name, _)| *name == listener.name).cloned()).collect()
}

fn refresh(process: &Process, snapshot: &Snapshot) {
    let server = &process.registry.server;
    let state = process.state();
    server.set(ServerStat::Live, u64::from(state != ServerState::Draining));
    server.set(ServerStat::State, state as u64);
    server.set(ServerStat::Uptime, process.started.elapsed().as_secs());
    server.set(ServerStat::Version, version_number());
    server.set(ServerStat::Concurrency, process.command_line.concurrency as u64);
    server.set(ServerStat::DaysUntilFirstCertExpiring, NO_CERTIFICATE);
    server.set(ServerStat::TotalListenersActive, listeners(process).len() as u64);
    let memory = memory();
    server.set(ServerStat::MemoryAllocated, memory.anonymous);
    server.set(ServerStat::MemoryHeapSize, memory.anonymous);
    server.set(ServerStat::MemoryPhysicalSize, memory.resident);
    let connections = |scope: &Scope<ListenerStat>| scope.total(ListenerStat::DownstreamCxActive);
    let listeners = process.registry.all_listeners();
    let total = listeners.iter().fold(0u64, |sum, l| sum.wrapping_add(connections(&l.scope)));
    server.set(ServerStat::TotalConnections, total);
    let warming = snapshot.clusters.iter().filter(|c| !c.shared.discovery().answered).count();
    server.set(ServerStat::WarmingClusters, warming as u64);
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, files included (`VmRSS`).
    pub resident: u64,
    /// Resident and private (`RssAnon`): heap and stacks together. The allocator is not asked, so this stands for
    /// Envoy's allocated and heap size both.
    pub anonymous: u64,
}

/// Memory of this process; zeros where the kernel does not tell.
pub fn memory() -> Memory {
    std::fs::read_to_string("/proc/self/status").map_or_else(|_| Memory::default(), |text| parse(&text))
}

fn parse(status: &str) -> Memory {
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0).saturating_mul(1024)
    };
    let resident = field("VmRSS:");
    // Kernels before 4.5 and some sandboxes have no RssAnon.
    let anonymous = match field("RssAnon:") {
        0 => resident,
        anonymous => anonymous,
    };
    Memory { resident, anonymous }
}

fn listener_http(snapshot: &Snapshot, out: &mut Vec<Sample>) {
    let managers = &snapshot.routes.listeners;
    for manager in managers {
        let alone = managers.iter().filter(|m| Arc::ptr_eq(&m.stats, &manager.stats)).count() == 1;
        let listener = &manager.listener_stats;
        if alone {
            out.extend(collect::listener_http(&listener.name, &manager.stats));
        }
        out.push(Sample {
            name: format!("gateway.listener.{}.few_client_addresses", listener.name),
            family: "gateway.listener.few_client_addresses".to_owned(),
            labels: vec![(LISTENER_LABEL, listener.name.clone())],
            value: Value::Gauge(listener.clients.few().len() as u64),
            used: true,
        });
    }
}

/// Shares and the source of weights, by route name; routes without a name cannot be told apart and are left out.
fn routes(snapshot: &Snapshot, out: &mut Vec<Sample>) {
    let mut seen = BTreeSet::new();
    for split in snapshot.splits.iter().filter(|split| !split.route.is_empty()) {
        if !seen.insert(&*split.route) {
            continue;
        }
        let shares = shares(split, snapshot);
        for (target, share) in split.targets.iter().zip(shares) {
            let naming = target_naming(&split.route, &target.name);
            out.push(naming.sample("weight", Value::Fraction(share), true));
        }
        let source = source_word(split.source);
        out.push(Sample {
            name: format!("gateway.route.{}.weight_source.{source}", split.route),
            family: "gateway.route.weight_source".to_owned(),
            labels: vec![("route", split.route.to_string()), ("source", source.to_owned())],
            value: Value::Gauge(1),
            used: true,
        });
        let left = split.ends_in(tokio::time::Instant::now().into_std()).unwrap_or_default();
        out.push(Sample {
            name: format!("gateway.route.{}.override_seconds_left", split.route),
            family: "gateway.route.override_seconds_left".to_owned(),
            labels: vec![("route", split.route.to_string())],
            // The last second counts as one: 0 means that there is no override.
            value: Value::Gauge(left.as_secs() + u64::from(left.subsec_nanos() > 0)),
            used: true,
        });
    }
}

/// The share of each target that the next draw has, from 0 to 1: as `router/weighted.rs` draws, targets without
/// endpoints left out when the split is health-aware.
pub fn shares(split: &Split, snapshot: &Snapshot) -> Vec<f64> {
    let usable: Vec<bool> = split
        .targets
        .iter()
        .map(|t| snapshot.clusters.get(t.cluster).is_some_and(|c| !c.endpoints.is_empty()))
        .collect();
    let of = |weights: &[u32]| -> Option<Vec<f64>> {
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        (total > 0).then(|| weights.iter().map(|w| f64::from(*w) / total as f64).collect())
    };
    let plain = || of(&split.weights).unwrap_or_else(|| vec![0.0; split.targets.len()]);
    if !split.health_aware {
        return plain();
    }
    let masked: Vec<u32> =
        split.weights.iter().zip(&usable).map(|(weight, usable)| if *usable { *weight } else { 0 }).collect();
    if let Some(shares) = of(&masked) {
        return shares;
    }
    let stable = split.stable.filter(|index| usable.get(*index) == Some(&true));
    match stable.or_else(|| usable.iter().position(|usable| *usable)) {
        Some(all) => (0..split.targets.len()).map(|index| if index == all { 1.0 } else { 0.0 }).collect(),
        None => plain(),
    }
}

/// As the wire spells it.
pub fn source_word(source: WeightSource) -> &'static str {
    match source {
        WeightSource::Tripwire => "tripwire",
        WeightSource::Override => "override",
        WeightSource::Control => "control",
        WeightSource::Saved => "saved",
        WeightSource::Runtime => "runtime",
        WeightSource::Stable => "stable",
        WeightSource::File => "file",
    }
}

/// How old the last good discovery answer is; since the start when there was none. Fixed addresses do not age.
fn discovery(process: &Process, snapshot: &Snapshot, out: &mut Vec<Sample>) {
    for cluster in snapshot.clusters.iter() {
        if matches!(cluster.config.discovery, Discovery::Static(_)) {
            continue;
        }
        let since = cluster.shared.discovery().last_success.unwrap_or(process.started);
        out.push(Sample {
            name: format!("gateway.discovery.{}.age_seconds", cluster.name),
            family: "gateway.discovery.age_seconds".to_owned(),
            labels: vec![("cluster", cluster.name.to_string())],
            value: Value::Fraction((since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0),
            used: true,
        });
        if matches!(cluster.config.discovery, Discovery::CloudMap(_)) {
            let fallen_back = cluster.shared.discovery().source == DiscoverySource::Dns;
            out.push(Sample {
                name: format!("gateway.discovery.{}.dns_fallback", cluster.name),
                family: "gateway.discovery.dns_fallback".to_owned(),
                labels: vec![("cluster", cluster.name.to_string())],
                value: Value::Gauge(u64::from(fallen_back)),
                used: true,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        let status = "Name:\tgateway\nVmRSS:\t   1234 kB\nRssAnon:\t 1000 kB\nThreads:\t3\n";
        assert_eq!(parse(status), Memory { resident: 1234 * 1024, anonymous: 1000 * 1024 });
        assert_eq!(parse("VmRSS: 7 kB\n"), Memory { resident: 7168, anonymous: 7168 });
        assert_eq!(parse("nonsense"), Memory::default());
    }

    #[test]
    fn this_process_has_memory() {
        assert!(memory().resident > 0);
    }

    #[test]
    fn sources_are_spelled_as_on_the_wire() {
        for source in [WeightSource::Tripwire, WeightSource::Saved, WeightSource::File, WeightSource::Stable]
        {
            let wire = serde_json::to_value(source).expect("JSON");
            assert_eq!(wire, source_word(source));
        }
    }
}
