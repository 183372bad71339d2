//! From cells to samples, by the one table of names.
//!
//! Owns Envoy's tag extraction: which part of a name becomes which label. It must never print, and reads each cell
//! once. Next: `text.rs`, `json.rs`, `prometheus.rs`.

use super::{Distribution, Label, Sample, Value};
use crate::stats::cells::{Histogram, Scope, Stat};
use crate::stats::names::{ClusterStat, HttpStat, Kind, ListenerStat, Row, ServerStat, TargetStat};
use crate::stats::registry::{ClusterStats, HttpStats, Registry, TargetStats};

/// Envoy's label of a status class.
const CODE_CLASS: &str = "envoy_response_code_class";
/// Envoy's label of a status code.
const CODE: &str = "envoy_response_code";
/// Envoy's label of a stat_prefix.
pub const PREFIX_LABEL: &str = "envoy_http_conn_manager_prefix";
const CLUSTER_LABEL: &str = "envoy_cluster_name";
/// Envoy's label of a listener.
pub const LISTENER_LABEL: &str = "envoy_listener_address";
/// Present from the start: a rate over a series that appears with its first error misses that error.
const CODE_FROM_THE_START: u16 = 200;

/// Where the samples of one scope go and how they are called.
#[derive(Clone, Debug)]
pub struct Naming {
    /// Before the name: `cluster.v1.`
    pub scope: String,
    /// Before the family: `cluster.`
    pub family: &'static str,
    /// Labels of all.
    pub labels: Vec<Label>,
}

impl Naming {
    /// A sample of this scope. A name that ends in a status class (`..._2xx`) becomes one family with a label.
    pub fn sample(&self, name: &str, value: Value, used: bool) -> Sample {
        let mut labels = Vec::with_capacity(self.labels.len() + 1);
        let family = match class_of(name) {
            Some((stem, class)) => {
                labels.push((CODE_CLASS, class.to_string()));
                format!("{}{stem}_xx", self.family)
            }
            None => format!("{}{name}", self.family),
        };
        labels.extend(self.labels.iter().cloned());
        Sample { name: format!("{}{name}", self.scope), family, labels, value, used }
    }

    fn by_code(&self, stem: &str, code: u16, value: u64, used: bool) -> Sample {
        let mut labels = vec![(CODE, code.to_string())];
        labels.extend(self.labels.iter().cloned());
        let (name, family) = (format!("{}{stem}_{code}", self.scope), format!("{}{stem}", self.family));
        Sample { name, family, labels, value: Value::Counter(value), used }
    }
}

/// `downstream_rq_5xx` is (`downstream_rq`, 5).
fn class_of(name: &str) -> Option<(&str, char)> {
    let stem = name.strip_suffix("xx")?;
    let class = stem.chars().last().filter(char::is_ascii_digit)?;
    Some((stem.strip_suffix(class)?.strip_suffix('_')?, class))
}

/// Every statistic of the registry.
pub fn registry(registry: &Registry) -> Vec<Sample> {
    let mut out = Vec::with_capacity(1024);
    server(registry, &mut out);
    for http in registry.all_http() {
        http_manager(&http, &mut out);
    }
    for cluster in registry.all_clusters() {
        one_cluster(&cluster, &mut out);
    }
    for listener in registry.all_listeners() {
        let naming = Naming {
            scope: format!("listener.{}.", listener.name),
            family: "listener.",
            labels: vec![(LISTENER_LABEL, listener.name.clone())],
        };
        rows(&naming, ListenerStat::ROWS, ListenerStat::ALL, &listener.scope, &mut out);
    }
    for target in registry.all_targets() {
        one_target(&target, &mut out);
    }
    out
}

/// Shows all counters as 0 from now on (Envoy: `POST /reset_counters`; gauges and histograms stay, as there).
/// What control is told is not touched.
pub fn reset_counters(registry: &Registry) {
    let counters = |rows: &'static [Row]| {
        move |index: usize| rows.get(index).is_some_and(|row| row.kind == Kind::Counter)
    };
    registry.server.reset_counters(counters(ServerStat::ROWS));
    for http in registry.all_http() {
        http.scope.reset_counters(counters(HttpStat::ROWS));
    }
    for cluster in registry.all_clusters() {
        cluster.scope.reset_counters(counters(ClusterStat::ROWS));
    }
    for listener in registry.all_listeners() {
        listener.scope.reset_counters(counters(ListenerStat::ROWS));
    }
    for target in registry.all_targets() {
        target.scope.reset_counters(counters(TargetStat::ROWS));
    }
}

fn rows<S: Stat>(naming: &Naming, rows: &[Row], all: &[S], scope: &Scope<S>, out: &mut Vec<Sample>) {
    // Cells do not say whether a gauge was ever written; in a scope that counted something they are taken as used.
    let scope_used = all.iter().any(|stat| scope.total(*stat) != 0);
    for (row, stat) in rows.iter().zip(all) {
        let (value, used) = match row.kind {
            Kind::Counter => (Value::Counter(scope.since_reset(*stat)), scope.total(*stat) != 0),
            Kind::Gauge => (Value::Gauge(not_negative(scope.total(*stat))), scope_used),
        };
        out.push(naming.sample(row.name, value, used));
    }
}

/// Shards are read one after the other: a gauge that one worker raised and another lowered between may look
/// like -1 for an instant.
fn not_negative(value: u64) -> u64 {
    if i64::try_from(value).is_ok() { value } else { 0 }
}

fn histogram(naming: &Naming, name: &str, cells: &Histogram) -> Sample {
    let distribution = Distribution::read(cells);
    let used = distribution.count() > 0;
    naming.sample(name, Value::Histogram(distribution), used)
}

fn server(registry: &Registry, out: &mut Vec<Sample>) {
    let naming = Naming { scope: String::new(), family: "", labels: Vec::new() };
    rows(&naming, ServerStat::ROWS, ServerStat::ALL, &registry.server, out);
}

fn http_manager(http: &HttpStats, out: &mut Vec<Sample>) {
    let naming = Naming {
        scope: format!("http.{}.", http.name),
        family: "http.",
        labels: vec![(PREFIX_LABEL, http.name.clone())],
    };
    rows(&naming, HttpStat::ROWS, HttpStat::ALL, &http.scope, out);
    out.push(histogram(&naming, "downstream_rq_time", &http.rq_time));
}

/// The status classes of a listener, which Envoy also shows by listener. Only for a stat_prefix that one listener
/// has to itself: its counts are the listener's.
pub fn listener_http(listener: &str, http: &HttpStats) -> Vec<Sample> {
    let naming = Naming {
        scope: format!("listener.{listener}.http.{}.", http.name),
        family: "listener.http.",
        labels: vec![(PREFIX_LABEL, http.name.clone()), (LISTENER_LABEL, listener.to_owned())],
    };
    let shown = [
        HttpStat::DownstreamRq1xx,
        HttpStat::DownstreamRq2xx,
        HttpStat::DownstreamRq3xx,
        HttpStat::DownstreamRq4xx,
        HttpStat::DownstreamRq5xx,
        HttpStat::DownstreamRqCompleted,
    ];
    let sample = |stat: &HttpStat| {
        let row = HttpStat::ROWS.get(stat.index())?;
        let value = Value::Counter(http.scope.since_reset(*stat));
        Some(naming.sample(row.name, value, http.scope.total(*stat) != 0))
    };
    shown.iter().filter_map(sample).collect()
}

fn one_cluster(cluster: &ClusterStats, out: &mut Vec<Sample>) {
    let naming = Naming {
        scope: format!("cluster.{}.", cluster.name),
        family: "cluster.",
        labels: vec![(CLUSTER_LABEL, cluster.name.clone())],
    };
    rows(&naming, ClusterStat::ROWS, ClusterStat::ALL, &cluster.scope, out);
    for code in 100..600 {
        let used = cluster.scope.total_code(code) > 0;
        if used || code == CODE_FROM_THE_START {
            out.push(naming.by_code("upstream_rq", code, cluster.scope.code_since_reset(code), used));
        }
    }
    out.push(histogram(&naming, "upstream_cx_connect_ms", &cluster.connect_time));
    out.push(histogram(&naming, "upstream_rq_time", &cluster.rq_time));
    external(cluster, out);
}

/// Envoy counts answers again as `external.` or `internal.`, by whether the client's address is a private one. This
/// gateway stands behind a public load balancer and counts no client as internal. As in Envoy the names appear
/// with their first count.
fn external(cluster: &ClusterStats, out: &mut Vec<Sample>) {
    let naming = Naming {
        scope: format!("cluster.{}.external.", cluster.name),
        family: "cluster.external.",
        labels: vec![(CLUSTER_LABEL, cluster.name.clone())],
    };
    let scope = &cluster.scope;
    let shown = [
        ClusterStat::UpstreamRq1xx,
        ClusterStat::UpstreamRq2xx,
        ClusterStat::UpstreamRq3xx,
        ClusterStat::UpstreamRq4xx,
        ClusterStat::UpstreamRq5xx,
        ClusterStat::UpstreamRqCompleted,
    ];
    for stat in shown.into_iter().filter(|stat| scope.total(*stat) != 0) {
        if let Some(row) = ClusterStat::ROWS.get(stat.index()) {
            out.push(naming.sample(row.name, Value::Counter(scope.since_reset(stat)), true));
        }
    }
    for code in (100..600).filter(|code| scope.total_code(*code) > 0) {
        out.push(naming.by_code("upstream_rq", code, scope.code_since_reset(code), true));
    }
    let time = histogram(&naming, "upstream_rq_time", &cluster.rq_time);
    if time.used {
        out.push(time);
    }
}

fn one_target(target: &TargetStats, out: &mut Vec<Sample>) {
    let naming = target_naming(&target.route, &target.target);
    rows(&naming, TargetStat::ROWS, TargetStat::ALL, &target.scope, out);
    out.push(histogram(&naming, "latency", &target.latency));
}

/// How the statistics of one target of one route are called: `gateway_route_requests{route,target}`.
pub fn target_naming(route: &str, target: &str) -> Naming {
    Naming {
        scope: format!("gateway.route.{route}.{target}."),
        family: "gateway.route.",
        labels: vec![("route", route.to_owned()), ("target", target.to_owned())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::cells::Shard;
    use crate::stats::render::prometheus;

    fn find<'a>(samples: &'a [Sample], name: &str) -> &'a Sample {
        samples.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    fn counted() -> Registry {
        let registry = Registry::new(1);
        let worker = Shard::worker(0);
        registry.http("ingress").scope.add(worker, HttpStat::DownstreamRq5xx, 2);
        let v1 = registry.cluster("v1");
        v1.scope.code(worker, 503);
        v1.scope.inc(worker, ClusterStat::UpstreamRq5xx);
        v1.scope.set(ClusterStat::MembershipTotal, 3);
        v1.rq_time.record(worker, 1500);
        registry.listener("0.0.0.0_9080").scope.inc(worker, ListenerStat::DownstreamCxTotal);
        registry.target("svc1", "v2").scope.inc(worker, TargetStat::Errors);
        registry
    }

    #[test]
    fn codes_and_classes_become_labels_before_the_scopes_own() {
        let mut samples = registry(&counted());
        let text = prometheus(&mut samples, &[]);
        for line in [
            "envoy_http_downstream_rq_xx{envoy_response_code_class=\"5\",envoy_http_conn_manager_prefix=\"ingress\"} 2",
            "envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"v1\"} 1",
            "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"v1\"} 0",
            "envoy_cluster_external_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"v1\"} 1",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"v1\",le=\"5\"} 1",
            "envoy_listener_downstream_cx_total{envoy_listener_address=\"0.0.0.0_9080\"} 1",
            "gateway_route_errors{route=\"svc1\",target=\"v2\"} 1",
            "envoy_cluster_circuit_breakers_default_rq_open{envoy_cluster_name=\"v1\"} 0",
            "envoy_server_live{} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_reset_zeroes_counters_and_codes_and_keeps_gauges_histograms_and_what_control_is_told() {
        let counted = counted();
        reset_counters(&counted);
        let samples = registry(&counted);
        assert_eq!(find(&samples, "cluster.v1.upstream_rq_503").value, Value::Counter(0));
        assert_eq!(find(&samples, "cluster.v1.upstream_rq_5xx").value, Value::Counter(0));
        assert!(find(&samples, "cluster.v1.upstream_rq_5xx").used, "a reset does not make it unused");
        assert_eq!(find(&samples, "cluster.v1.membership_total").value, Value::Gauge(3));
        assert!(find(&samples, "cluster.v1.upstream_rq_time").used);
        assert_eq!(counted.target("svc1", "v2").scope.total(TargetStat::Errors), 1);
        counted.cluster("v1").scope.code(Shard::worker(0), 503);
        let samples = registry(&counted);
        assert_eq!(find(&samples, "cluster.v1.upstream_rq_503").value, Value::Counter(1));
    }

    #[test]
    fn a_gauge_that_looks_negative_for_an_instant_is_shown_as_zero() {
        assert_eq!(not_negative(u64::MAX), 0);
        assert_eq!(not_negative(7), 7);
    }
}
