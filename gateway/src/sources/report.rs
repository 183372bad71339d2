//! What this gateway tells control: its state, effective weights, and exact counts per version.
//!
//! Owns the reading of counts into the wire's types. Counters are monotonic since the boot id, so a lost report
//! loses nothing. It must never reset a counter. Next: `control.rs`, who sends.

use super::link::Link;
use crate::cluster::{Cluster, DiscoverySource};
use crate::process::Process;
use crate::state::snapshot::{Snapshot, Split, Target};
use crate::stats::cells::{Histogram, Shard, bucket_ceiling};
use crate::stats::names::{ServerStat, TargetStat};
use gateway_config::model::Discovery;
use gateway_config::wire::{
    ClusterStatus, DiscoveryNode, GatewayStatus, NodeMetadata, Report, RouteStatus, TargetReport,
    WIRE_VERSION,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Between two reports.
const PERIOD: Duration = Duration::from_secs(5);
/// Between a report and one that tells of a change of endpoints or weights: control refuses to send traffic where it
/// knows of no endpoint, so it must know soon.
const SOON: Duration = Duration::from_secs(1);
/// How long the last report may take: the process is on its way out.
const FAREWELL: Duration = Duration::from_secs(1);

/// Sends reports for ever.
pub async fn send(process: Arc<Process>, link: Link) {
    let mut changes = process.store.watch();
    loop {
        let sent = Instant::now();
        send_one(&process, &link).await;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = changes.changed() => tokio::time::sleep(SOON.saturating_sub(sent.elapsed())).await,
        }
        changes.borrow_and_update();
    }
}

/// The last counts, at the end of the drain.
pub async fn farewell(process: &Process, link: &Link) {
    if tokio::time::timeout(FAREWELL, send_one(process, link)).await.is_err() {
        tracing::warn!("control did not take the last counts in time");
    }
}

async fn send_one(process: &Process, link: &Link) {
    let Ok(body) = serde_json::to_vec(&report(process)) else { return };
    let path = format!("/v1/gateways/{}/report", process.instance_id);
    let stat = match link.post(&path, false, body).await {
        Ok((status, _)) if status.is_success() => ServerStat::ReportsSent,
        Ok((status, _)) => {
            tracing::debug!(%status, "control refused a report");
            ServerStat::ReportsFailed
        }
        Err(error) => {
            tracing::debug!(%error, "a report was not sent");
            ServerStat::ReportsFailed
        }
    };
    process.registry.server.inc(Shard::SHARED, stat);
}

/// Names of the routes that are under control.
pub fn managed(snapshot: &Snapshot) -> BTreeSet<String> {
    snapshot.splits.iter().filter(|split| split.managed).map(|split| split.route.to_string()).collect()
}

/// Who asks, with what it serves.
pub fn node(process: &Process, goodbye: bool) -> DiscoveryNode {
    let snapshot = process.store.snapshot();
    let node = &snapshot.routes.bootstrap.node;
    DiscoveryNode {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        metadata: NodeMetadata { hold: false, weir: Some(status(process, goodbye)) },
    }
}

/// State, configuration, clusters of managed routes and effective weights.
pub fn status(process: &Process, goodbye: bool) -> GatewayStatus {
    let snapshot = process.store.snapshot();
    let managed = snapshot.splits.iter().filter(|split| split.managed);
    GatewayStatus {
        wire: WIRE_VERSION,
        instance_id: process.instance_id.clone(),
        boot_id: process.boot_id.clone(),
        state: process.state().as_str().to_owned(),
        goodbye,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        zone: process.zone.clone(),
        config_version: process.provenance().version,
        clusters: clusters(&snapshot),
        routes: managed.map(|split| (split.route.to_string(), route_status(split))).collect(),
    }
}

/// The clusters that managed routes lead to.
fn clusters(snapshot: &Snapshot) -> BTreeMap<String, ClusterStatus> {
    let targets = snapshot.splits.iter().filter(|split| split.managed).flat_map(|split| split.targets.iter());
    let status = |cluster: &Arc<Cluster>| (cluster.name.to_string(), cluster_status(cluster));
    targets.filter_map(|target| snapshot.clusters.get(target.cluster)).map(status).collect()
}

fn cluster_status(cluster: &Cluster) -> ClusterStatus {
    let discovery = cluster.shared.discovery();
    let source = match cluster.config.discovery {
        Discovery::Static(_) => DiscoverySource::Static,
        Discovery::Dns(_) => DiscoverySource::Dns,
        // Until somebody has answered it is the API that is asked.
        Discovery::CloudMap(_) if discovery.source == DiscoverySource::Static => DiscoverySource::Api,
        Discovery::CloudMap(_) => discovery.source,
    };
    ClusterStatus {
        endpoints: count(cluster.endpoints.len()),
        usable: count(cluster.endpoints.iter().filter(|endpoint| endpoint.healthy()).count()),
        source: source.as_str().to_owned(),
        // Why DNS is asked explains an error of DNS as well.
        notice: if discovery.notice.is_empty() { discovery.error } else { discovery.notice },
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn route_status(split: &Split) -> RouteStatus {
    let weights = split.targets.iter().zip(&split.weights).map(|(t, w)| (t.name.to_string(), *w)).collect();
    let stable = split.stable.and_then(|at| split.targets.get(at)).map(|t| t.name.to_string());
    let age = SystemTime::now().duration_since(split.since).unwrap_or_default();
    RouteStatus {
        weights,
        stable: stable.unwrap_or_default(),
        source: split.source,
        version: split.version.to_string(),
        age_seconds: age.as_secs(),
        expires_seconds: split.ends_in(tokio::time::Instant::now().into_std()).map(|left| left.as_secs()),
    }
}

fn report(process: &Process) -> Report {
    let snapshot = process.store.snapshot();
    let mut routes: BTreeMap<String, BTreeMap<String, TargetReport>> = BTreeMap::new();
    for split in snapshot.splits.iter().filter(|split| split.managed) {
        let targets = routes.entry(split.route.to_string()).or_default();
        for target in split.targets.iter() {
            targets.insert(target.name.to_string(), target_report(&snapshot, target));
        }
    }
    Report {
        wire: WIRE_VERSION,
        boot_id: process.boot_id.clone(),
        uptime_ms: u64::try_from(process.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        // Who leaves must not be awaited again because of a report.
        status: status(process, process.drain.watch().is_draining()),
        routes,
    }
}

fn target_report(snapshot: &Snapshot, target: &Target) -> TargetReport {
    let scope = &target.stats.scope;
    let mut report = TargetReport {
        requests: scope.total(TargetStat::Requests),
        errors: scope.total(TargetStat::Errors),
        overridden: scope.total(TargetStat::Overridden),
        active: scope.total(TargetStat::Active),
        latency: latency(&target.stats.latency),
        ..TargetReport::default()
    };
    if let Some(cluster) = snapshot.clusters.get(target.cluster) {
        report.endpoints = count(cluster.endpoints.len());
        report.endpoints_healthy = count(cluster.endpoints.iter().filter(|e| e.healthy()).count());
        let discovery = cluster.shared.discovery();
        let now = Instant::now();
        let age = discovery.last_success.map(|at| now.saturating_duration_since(at).as_secs());
        report.discovery_age_seconds = age.unwrap_or(0);
        report.discovery_error = discovery.error;
    }
    report
}

fn latency(histogram: &Histogram) -> Vec<(u64, u64)> {
    let counts = histogram.counts().into_iter().enumerate();
    counts.filter(|(_, count)| *count > 0).map(|(bucket, count)| (bucket_ceiling(bucket), count)).collect()
}
