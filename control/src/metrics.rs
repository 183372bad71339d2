//! `/metrics` of control.
//!
//! Owns the names and the text. Counters of this process are held handles; everything that can be derived from the
//! core is set when it is asked for, so that it is never out of step. Next: `api/`.

use crate::rest::{GatewayView, RouteView};
use crate::shared::Shared;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::Mutex;

/// From one network round trip to the longest that a change may wait, in seconds.
const CHANGE_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// See the module.
pub struct Metrics {
    registry: Registry,
    // Two scrapes at once must not mix their resets.
    derived: Mutex<Derived>,
    /// Changes published.
    pub changes: IntCounter,
    /// From the arrival of a change until every awaited gateway had it.
    pub change_seconds: Histogram,
    /// Refusals of gateways.
    pub refusals: IntCounter,
    /// Discovery requests by answer.
    pub discovery: IntCounterVec,
    /// Reports taken.
    pub reports: IntCounter,
    /// Requests refused for want of a token.
    pub unauthorized: IntCounter,
    /// Failed writes of the state file.
    pub state_write_failures: IntCounter,
    /// Events by webhook and by what became of them.
    pub webhook_events: IntCounterVec,
}

struct Derived {
    epoch: IntGauge,
    seq: IntGauge,
    fenced: IntGauge,
    unsaved: IntGauge,
    unread: IntGauge,
    config_refused: IntGauge,
    gateways: IntGaugeVec,
    weight: IntGaugeVec,
    agree: IntGaugeVec,
    awaited: IntGaugeVec,
    requests: IntCounterVec,
    errors: IntCounterVec,
    latency: IntGaugeVec,
    endpoints: IntGaugeVec,
    app_mesh_state: IntGaugeVec,
    app_mesh_last_success: IntGaugeVec,
    app_mesh_in_sync: IntGaugeVec,
    app_mesh_version: IntGaugeVec,
    app_mesh_writes: IntCounterVec,
    app_mesh_failures: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let changes = counter(&registry, "control_changes_total", "Changes published.");
        let refusals = counter(&registry, "control_refusals_total", "Answers that a gateway refused.");
        let reports = counter(&registry, "control_reports_total", "Reports taken.");
        let unauthorized =
            counter(&registry, "control_unauthorized_total", "Requests without the right token.");
        let state_write_failures =
            counter(&registry, "control_state_write_failures_total", "Failed writes of the state file.");
        let help = "Discovery requests by answer.";
        let discovery = counters(&registry, "control_discovery_requests_total", help, &["answer"]);
        let help = "From the arrival of a change until every awaited gateway served it.";
        let change_seconds = histogram(&registry, "control_change_seconds", help);
        let help = "Events for a webhook, by what became of them.";
        let webhook_events =
            counters(&registry, "control_webhook_events_total", help, &["webhook", "result"]);
        let derived = Mutex::new(Derived::new(&registry));
        Self {
            registry,
            derived,
            changes,
            change_seconds,
            refusals,
            discovery,
            reports,
            unauthorized,
            state_write_failures,
            webhook_events,
        }
    }

    /// The text of `/metrics`.
    pub fn render(&self, shared: &Shared) -> String {
        let derived = self.derived.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        derived.set(shared);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Derived {
    fn new(registry: &Registry) -> Self {
        let route: &[&str] = &["route"];
        let target: &[&str] = &["route", "target"];
        let state: &[&str] = &["route", "state"];
        let quantile: &[&str] = &["route", "target", "quantile"];
        let g = |name: &str, help: &str, labels: &[&str]| gauges(registry, name, help, labels);
        let c = |name: &str, help: &str, labels: &[&str]| counters(registry, name, help, labels);
        Self {
            epoch: gauge(registry, "control_epoch", "Epoch of the published version."),
            seq: gauge(registry, "control_seq", "Sequence number of the published version."),
            fenced: gauge(registry, "control_fenced", "1 = another control is ahead; nothing is published."),
            unsaved: gauge(registry, "control_state_unsaved", "1 = the last change is not on disk yet."),
            unread: gauge(
                registry,
                "control_state_unread",
                "1 = the state could not be read since the start.",
            ),
            config_refused: gauge(
                registry,
                "control_gateways_config_refused",
                "Gateways that refuse the listeners or clusters that they were sent.",
            ),
            gateways: g("control_gateways", "Gateways by state.", &["state"]),
            weight: g("control_route_weight", "Wanted weight in hundredths of a percent.", target),
            agree: g("control_route_gateways_agree", "Gateways that serve the wanted weights.", route),
            awaited: g("control_route_gateways_awaited", "Gateways that changes wait for.", route),
            requests: c("control_target_requests_total", "Requests that gateways counted.", target),
            errors: c("control_target_errors_total", "Failed requests that gateways counted.", target),
            latency: g("control_target_latency_microseconds", "Latency since the gateways' start.", quantile),
            endpoints: g("control_target_endpoints_healthy", "Fewest usable endpoints at a gateway.", target),
            app_mesh_state: g("control_app_mesh_state", "1 = App Mesh sync of the route is so.", state),
            app_mesh_last_success: g(
                "control_app_mesh_last_success_seconds",
                "Unix time when App Mesh was last seen with the wanted weights.",
                route,
            ),
            app_mesh_in_sync: g("control_app_mesh_in_sync", "1 = App Mesh has the wanted weights.", route),
            app_mesh_version: g("control_app_mesh_version", "Version of the route, last seen.", route),
            app_mesh_writes: c("control_app_mesh_writes_total", "Updates that App Mesh confirmed.", route),
            app_mesh_failures: c("control_app_mesh_failures_total", "Calls that failed.", route),
        }
    }

    fn set(&self, shared: &Shared) {
        let now = shared.now();
        let unread = shared.with_core(|core| core.unread().is_some());
        self.unread.set(i64::from(unread));
        let (identity, fenced, unsaved, gateways, routes) = shared.with_core(|core| {
            let routes: Vec<RouteView> =
                core.routes().keys().filter_map(|name| core.route_view(now, name)).collect();
            (
                core.document().control.clone(),
                core.fence().is_some(),
                core.is_established() && !core.is_saved(),
                core.gateway_views(now),
                routes,
            )
        });
        self.epoch.set(i64::try_from(identity.epoch).unwrap_or(i64::MAX));
        self.seq.set(i64::try_from(identity.seq).unwrap_or(i64::MAX));
        self.fenced.set(i64::from(fenced));
        self.unsaved.set(i64::from(unsaved));
        self.set_gateways(&gateways);
        for route in &routes {
            self.set_route(route);
        }
        for (route, status) in shared.followed() {
            let number =
                |name: &str| status.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
            let state = status.get("state").and_then(serde_json::Value::as_str).unwrap_or_default();
            for known in ["disabled", "in_sync", "pending", "drift", "error"] {
                let labels = [route.as_str(), known];
                self.app_mesh_state.with_label_values(&labels).set(i64::from(known == state));
            }
            let labels = [route.as_str()];
            self.app_mesh_in_sync.with_label_values(&labels).set(i64::from(state == "in_sync"));
            let seconds = i64::try_from(number("last_success_unix_ms") / 1_000).unwrap_or(i64::MAX);
            self.app_mesh_last_success.with_label_values(&labels).set(seconds);
            let version = i64::try_from(number("version")).unwrap_or(i64::MAX);
            self.app_mesh_version.with_label_values(&labels).set(version);
            set_total(&self.app_mesh_writes, &labels, number("writes"));
            set_total(&self.app_mesh_failures, &labels, number("failures"));
        }
    }

    fn set_gateways(&self, gateways: &[GatewayView]) {
        let refuses = |gateway: &&GatewayView| {
            matches!(&*gateway.state, "connected" | "draining") && !gateway.config_refused.is_empty()
        };
        let refusing = gateways.iter().filter(refuses).count();
        self.config_refused.set(i64::try_from(refusing).unwrap_or(i64::MAX));
        for state in ["connected", "draining", "lost", "gone"] {
            let number = gateways.iter().filter(|gateway| gateway.state == state).count();
            self.gateways.with_label_values(&[state]).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    fn set_route(&self, route: &RouteView) {
        let name = route.name.as_str();
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.agree.with_label_values(&[name]).set(whole(route.agree));
        self.awaited.with_label_values(&[name]).set(whole(route.awaited));
        for target in &route.targets {
            let labels = [name, target.as_str()];
            if let Some(weights) = &route.weights {
                let weight = weights.get(target).copied().unwrap_or_default();
                self.weight.with_label_values(&labels).set(i64::from(weight));
            }
            let Some(traffic) = route.traffic.get(target) else { continue };
            set_total(&self.requests, &labels, traffic.requests);
            set_total(&self.errors, &labels, traffic.errors);
            for (quantile, value) in [("0.5", traffic.p50_us), ("0.99", traffic.p99_us)] {
                if let Some(value) = value {
                    let labels = [name, target.as_str(), quantile];
                    self.latency.with_label_values(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
                }
            }
            if traffic.reporting > 0 {
                self.endpoints.with_label_values(&labels).set(i64::from(traffic.endpoints_healthy));
            } else {
                // What was true when the last gateway reported is no number of now. Not there already: the same.
                let _ = self.endpoints.remove_label_values(&labels);
            }
        }
    }
}

/// Totals only rise, so the difference is what to add.
fn set_total(counters: &IntCounterVec, labels: &[&str], total: u64) {
    let counter = counters.with_label_values(labels);
    counter.inc_by(total.saturating_sub(counter.get()));
}

// The names and labels are constants of this file and differ from one another: registering cannot fail, and the
// metrics test would show a name that is missing.
fn register(registry: &Registry, collector: impl prometheus::core::Collector + 'static) {
    if let Err(error) = registry.register(Box::new(collector)) {
        tracing::error!(%error, "a metric is missing");
    }
}

#[expect(clippy::expect_used, reason = "constant names, all made by a test")]
fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect("a valid name");
    register(registry, counter.clone());
    counter
}

#[expect(clippy::expect_used, reason = "constant names, all made by a test")]
fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("valid names");
    register(registry, counters.clone());
    counters
}

#[expect(clippy::expect_used, reason = "constant names, all made by a test")]
fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::new(name, help).expect("a valid name");
    register(registry, gauge.clone());
    gauge
}

#[expect(clippy::expect_used, reason = "constant names, all made by a test")]
fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("valid names");
    register(registry, gauges.clone());
    gauges
}

#[expect(clippy::expect_used, reason = "constant names, all made by a test")]
fn histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(CHANGE_BUCKETS.to_vec());
    let histogram = Histogram::with_opts(options).expect("a valid name");
    register(registry, histogram.clone());
    histogram
}
