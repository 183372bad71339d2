//! What the gateways counted, added up.
//!
//! Owns the rule that totals only rise: a restart of a gateway keeps what its earlier process counted, and a report
//! that was overtaken is dropped. It must never hold more than the managed routes have targets. Next: `fleet.rs`.

use crate::rest::TargetView;
use gateway_config::wire::{Report, TargetReport};
use std::collections::{BTreeMap, VecDeque};

/// Most latency buckets that one report may bring per target: a histogram over 1 us to 60 s with 3 % wide buckets
/// has about 600.
const MAX_BUCKETS: usize = 1_024;
/// Earlier processes of one gateway whose late reports are told apart.
const MAX_OLD_BOOTS: usize = 8;

/// Route, then target.
pub type Key = (String, String);

/// Finished counts of one target of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended.
    pub requests: u64,
    /// Of those, failed.
    pub errors: u64,
    /// By the override header.
    pub overridden: u64,
    /// By upper bound in microseconds.
    pub latency: BTreeMap<u64, u64>,
}

impl Totals {
    fn add(&mut self, report: &TargetReport) {
        self.requests = self.requests.saturating_add(report.requests);
        self.errors = self.errors.saturating_add(report.errors);
        self.overridden = self.overridden.saturating_add(report.overridden);
        for (bound, count) in report.latency.iter().take(MAX_BUCKETS) {
            self.count_latency(*bound, *count);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.overridden = self.overridden.saturating_add(other.overridden);
        for (bound, count) in &other.latency {
            self.count_latency(*bound, *count);
        }
    }

    /// Builds with other buckets may come and go: beyond [`MAX_BUCKETS`] the next higher one takes the count.
    fn count_latency(&mut self, bound: u64, count: u64) {
        let full = self.latency.len() >= MAX_BUCKETS && !self.latency.contains_key(&bound);
        let near =
            if full { self.latency.range(bound..).next().or(self.latency.last_key_value()) } else { None };
        let bound = near.map_or(bound, |(near, _)| *near);
        let bucket = self.latency.entry(bound).or_default();
        *bucket = bucket.saturating_add(count);
    }

    /// The upper bound of the bucket that holds the given per mille of all requests.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let total = self.latency.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        if total == 0 {
            return None;
        }
        let rank = u128::from(total) * u128::from(per_mille);
        let mut seen = 0_u128;
        for (bound, count) in &self.latency {
            seen += u128::from(*count) * 1_000;
            if seen >= rank {
                return Some(*bound);
            }
        }
        self.latency.keys().next_back().copied()
    }
}

/// The counters of one gateway.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    boot_id: String,
    old_boots: VecDeque<String>,
    uptime_ms: u64,
    current: BTreeMap<Key, TargetReport>,
    retired: BTreeMap<Key, Totals>,
}

impl Counters {
    /// Takes a report's counters; `managed` says which targets exist. False = overtaken, nothing was taken.
    pub fn take(&mut self, report: &Report, managed: impl Fn(&str, &str) -> bool) -> bool {
        let boot_id = super::gateway::clean(&report.boot_id);
        if boot_id == self.boot_id {
            if report.uptime_ms < self.uptime_ms {
                return false;
            }
        } else if self.old_boots.contains(&boot_id) {
            return false;
        } else {
            self.retire();
            self.old_boots.push_back(std::mem::replace(&mut self.boot_id, boot_id));
            if self.old_boots.len() > MAX_OLD_BOOTS {
                self.old_boots.pop_front();
            }
        }
        self.uptime_ms = report.uptime_ms;
        for (route, targets) in &report.routes {
            for (target, counted) in targets {
                if managed(route, target) {
                    let mut counted = counted.clone();
                    counted.latency.truncate(MAX_BUCKETS);
                    counted.latency.shrink_to_fit();
                    counted.discovery_error = super::change::clean_text(&counted.discovery_error);
                    self.current.insert((route.clone(), target.clone()), counted);
                }
            }
        }
        true
    }

    /// Ends the current process: what it counted stays, its gauges go.
    fn retire(&mut self) {
        for (key, report) in std::mem::take(&mut self.current) {
            self.retired.entry(key).or_default().add(&report);
        }
    }

    /// Everything counted, for the totals of the fleet when this gateway is forgotten.
    pub fn into_totals(mut self) -> BTreeMap<Key, Totals> {
        self.retire();
        self.retired
    }

    /// How long the process had run at its newest report, in milliseconds.
    pub fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    /// The newest report on one target.
    pub fn current(&self, key: &Key) -> Option<&TargetReport> {
        self.current.get(key)
    }

    /// Adds this gateway's counts to `totals`.
    pub fn add_to(&self, key: &Key, totals: &mut Totals) {
        if let Some(retired) = self.retired.get(key) {
            totals.merge(retired);
        }
        if let Some(current) = self.current.get(key) {
            totals.add(current);
        }
    }
}

/// Adds `from` to `into`, key by key.
pub fn merge_all(into: &mut BTreeMap<Key, Totals>, from: BTreeMap<Key, Totals>) {
    for (key, totals) in from {
        into.entry(key).or_default().merge(&totals);
    }
}

/// One target over all gateways: `connected` are those whose gauges count.
pub fn target_view<'a>(
    key: &Key,
    retired: Option<&Totals>,
    all: impl Iterator<Item = &'a Counters>,
    connected: impl Iterator<Item = &'a Counters>,
) -> TargetView {
    let mut totals = retired.cloned().unwrap_or_default();
    for counters in all {
        counters.add_to(key, &mut totals);
    }
    let mut view = TargetView {
        requests: totals.requests,
        errors: totals.errors,
        overridden: totals.overridden,
        p50_us: totals.quantile(500),
        p99_us: totals.quantile(990),
        ..TargetView::default()
    };
    for report in connected.filter_map(|counters| counters.current(key)) {
        let first = view.reporting == 0;
        view.reporting += 1;
        view.active = view.active.saturating_add(report.active);
        view.endpoints = if first { report.endpoints } else { view.endpoints.min(report.endpoints) };
        view.endpoints_healthy = if first {
            report.endpoints_healthy
        } else {
            view.endpoints_healthy.min(report.endpoints_healthy)
        };
        view.endpoints_max = view.endpoints_max.max(report.endpoints);
        view.endpoints_healthy_max = view.endpoints_healthy_max.max(report.endpoints_healthy);
        view.discovery_age_seconds = view.discovery_age_seconds.max(report.discovery_age_seconds);
        if view.discovery_error.is_empty() {
            view.discovery_error.clone_from(&report.discovery_error);
        }
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(boot: &str, uptime_ms: u64, requests: u64) -> Report {
        let target = TargetReport {
            requests,
            errors: requests / 10,
            latency: vec![(100, requests)],
            endpoints: 2,
            endpoints_healthy: 1,
            ..TargetReport::default()
        };
        let targets = BTreeMap::from([("v1".to_owned(), target)]);
        Report {
            boot_id: boot.to_owned(),
            uptime_ms,
            routes: BTreeMap::from([("svc1".to_owned(), targets)]),
            ..Report::default()
        }
    }

    fn total(counters: &Counters) -> u64 {
        let mut totals = Totals::default();
        counters.add_to(&("svc1".to_owned(), "v1".to_owned()), &mut totals);
        totals.requests
    }

    #[test]
    fn a_restart_keeps_the_totals() {
        let mut counters = Counters::default();
        counters.take(&report("a", 10, 100), |_, _| true);
        counters.take(&report("b", 1, 7), |_, _| true);
        assert_eq!(total(&counters), 107);
    }

    #[test]
    fn a_report_that_was_overtaken_changes_nothing() {
        let mut counters = Counters::default();
        counters.take(&report("a", 10, 100), |_, _| true);
        assert!(!counters.take(&report("a", 9, 90), |_, _| true));
        assert_eq!(total(&counters), 100);
    }

    #[test]
    fn a_late_report_of_an_earlier_process_is_not_counted_again() {
        let mut counters = Counters::default();
        for (boot, uptime_ms, requests) in [("a", 10, 100), ("b", 1, 7)] {
            assert!(counters.take(&report(boot, uptime_ms, requests), |_, _| true));
        }
        assert!(!counters.take(&report("a", 11, 101), |_, _| true));
        assert!(counters.take(&report("b", 2, 8), |_, _| true));
        assert_eq!(total(&counters), 108);
    }

    #[test]
    fn ever_new_buckets_and_long_errors_are_bounded_and_no_count_is_lost() {
        let mut counters = Counters::default();
        for boot in 0..10_u64 {
            let mut report = report(&format!("b{boot}"), 1, 0);
            let target = report.routes.get_mut("svc1").unwrap().get_mut("v1").unwrap();
            target.latency = (0..MAX_BUCKETS as u64).map(|bucket| (bucket * 10 + boot, 1)).collect();
            target.discovery_error = "x".repeat(1 << 20);
            counters.take(&report, |_, _| true);
        }
        let key = ("svc1".to_owned(), "v1".to_owned());
        let mut totals = Totals::default();
        counters.add_to(&key, &mut totals);
        assert_eq!(totals.latency.len(), MAX_BUCKETS);
        assert_eq!(totals.latency.values().sum::<u64>(), 10 * MAX_BUCKETS as u64);
        assert!(counters.current(&key).unwrap().discovery_error.len() <= 1_000);
    }

    #[test]
    fn unmanaged_targets_are_not_kept() {
        let mut counters = Counters::default();
        counters.take(&report("a", 10, 100), |_, target| target == "v2");
        assert_eq!(total(&counters), 0);
    }

    #[test]
    fn quantiles_are_upper_bounds_of_their_bucket() {
        let totals =
            Totals { latency: BTreeMap::from([(100, 50), (200, 49), (900, 1)]), ..Totals::default() };
        assert_eq!(totals.quantile(500), Some(100));
        assert_eq!(totals.quantile(990), Some(200));
        assert_eq!(totals.quantile(1_000), Some(900));
        assert_eq!(Totals::default().quantile(500), None);
    }

    #[test]
    fn gauges_take_the_worst_gateway() {
        let mut counters = Counters::default();
        counters.take(&report("a", 10, 100), |_, _| true);
        let key = ("svc1".to_owned(), "v1".to_owned());
        let view = target_view(&key, None, [&counters].into_iter(), [&counters].into_iter());
        assert_eq!((view.reporting, view.endpoints, view.endpoints_healthy), (1, 2, 1));
    }
}
