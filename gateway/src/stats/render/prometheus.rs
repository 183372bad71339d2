//! Prometheus text exactly as Envoy prints it: TYPE lines only, `{}` for no labels, histograms in milliseconds.
//!
//! Owns that shape (Prometheus exposition format, version 0.0.4) and the order: counters, gauges, histograms, each
//! by name. It must never print a TYPE line or a series twice: Prometheus would drop the whole scrape.
//! Next: `collect.rs`, where samples come from.

use super::histogram::{BOUNDS, Distribution};
use super::{KindRank, Label, Sample, Value};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

/// What the answer is; newer Prometheus servers refuse a scrape without it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Prints samples; `extra` labels go to every series, before its own.
pub fn prometheus(samples: &mut [Sample], extra: &[Label]) -> String {
    samples.sort_by(|a, b| (a.value.rank(), &a.family, &a.name).cmp(&(b.value.rank(), &b.family, &b.name)));
    let mut types: BTreeMap<String, KindRank> = BTreeMap::new();
    let mut out = String::with_capacity(samples.len() * 96);
    let mut seen: HashSet<String> = HashSet::new();
    let mut current = String::new();
    for sample in samples.iter() {
        let name = series_name(&sample.family);
        if name != current {
            if types.insert(name.clone(), sample.value.rank()).is_some() {
                // Two of our tables would have to share a name in two kinds: the first stays.
                continue;
            }
            let _ = writeln!(out, "# TYPE {name} {}", word(sample.value.rank()));
            current.clone_from(&name);
            seen.clear();
        }
        let labels = labels(extra, &sample.labels);
        if !seen.contains(&labels) {
            print(&mut out, &name, &labels, &sample.value);
            seen.insert(labels);
        }
    }
    out
}

fn print(out: &mut String, name: &str, labels: &str, value: &Value) {
    // A string takes every write.
    let _ = match value {
        Value::Counter(value) | Value::Gauge(value) => writeln!(out, "{name}{{{labels}}} {value}"),
        Value::Fraction(value) => writeln!(out, "{name}{{{labels}}} {value}"),
        Value::Histogram(distribution) => {
            histogram(out, name, labels, distribution);
            Ok(())
        }
    };
}

fn histogram(out: &mut String, name: &str, labels: &str, distribution: &Distribution) {
    let comma = if labels.is_empty() { "" } else { "," };
    let count = distribution.count();
    for ((bound, _), upto) in BOUNDS.iter().zip(distribution.cumulative()) {
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {upto}");
    }
    let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", distribution.sum_ms());
    let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
}

fn word(rank: KindRank) -> &'static str {
    match rank {
        KindRank::Counter => "counter",
        KindRank::Gauge => "gauge",
        KindRank::Histogram => "histogram",
    }
}

/// `cluster.upstream_rq_total` is `envoy_cluster_upstream_rq_total`; what Envoy does not have is not called so.
fn series_name(family: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let prefix = if family.starts_with("gateway.") { "" } else { "envoy_" };
    let mut name = String::with_capacity(prefix.len() + family.len());
    name.push_str(prefix);
    name.extend(family.chars().map(clean));
    name
}

fn labels(extra: &[Label], own: &[Label]) -> String {
    let mut out = String::new();
    for (name, value) in extra.iter().chain(own) {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                _ => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(family: &str, labels: &[Label], value: Value) -> Sample {
        Sample {
            name: family.to_owned(),
            family: family.to_owned(),
            labels: labels.to_vec(),
            value,
            used: true,
        }
    }

    #[test]
    fn a_series_without_labels_has_empty_braces() {
        let mut samples = [sample("server.live", &[], Value::Gauge(1))];
        assert_eq!(prometheus(&mut samples, &[]), "# TYPE envoy_server_live gauge\nenvoy_server_live{} 1\n");
    }

    #[test]
    fn labels_of_app_mesh_are_on_every_series_and_values_are_escaped() {
        let mut samples =
            [sample("gateway.route.x", &[("route", "a\"\\\nb".to_owned())], Value::Fraction(0.25))];
        let mesh = [("appmesh_mesh", "m".to_owned())];
        assert_eq!(
            prometheus(&mut samples, &mesh),
            "# TYPE gateway_route_x gauge\ngateway_route_x{appmesh_mesh=\"m\",route=\"a\\\"\\\\\\nb\"} 0.25\n"
        );
    }

    #[test]
    fn nothing_is_printed_twice() {
        let mut samples = [
            sample("a.b", &[], Value::Counter(1)),
            sample("a.b", &[], Value::Counter(2)),
            sample("a.b", &[], Value::Gauge(3)),
            sample("a_b", &[], Value::Gauge(4)),
        ];
        assert_eq!(prometheus(&mut samples, &[]), "# TYPE envoy_a_b counter\nenvoy_a_b{} 1\n");
    }

    #[test]
    fn an_empty_histogram_is_all_zero_in_envoys_buckets() {
        let value = Value::Histogram(Distribution::default());
        let mut samples = [sample("cluster.t", &[("envoy_cluster_name", "v1".to_owned())], value)];
        let text = prometheus(&mut samples, &[]);
        assert_eq!(text.lines().count(), 1 + 19 + 3);
        assert!(text.contains("envoy_cluster_t_bucket{envoy_cluster_name=\"v1\",le=\"1800000\"} 0\n"));
        assert!(text.contains("envoy_cluster_t_bucket{envoy_cluster_name=\"v1\",le=\"+Inf\"} 0\n"));
        assert!(text.ends_with("envoy_cluster_t_sum{envoy_cluster_name=\"v1\"} 0\nenvoy_cluster_t_count{envoy_cluster_name=\"v1\"} 0\n"));
    }
}
