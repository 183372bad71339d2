//! `/stats` as Envoy's plain text: `name: value`, one a line.
//!
//! Owns that shape only. Next: `json.rs`.

use super::histogram::{BOUNDS, Distribution, QUANTILES};
use super::{Buckets, Sample, Value, sort_by_name};
use std::fmt::Write;

/// Prints samples by name, histograms last.
pub fn text(samples: &mut [Sample], buckets: Buckets) -> String {
    sort_by_name(samples);
    let mut out = String::with_capacity(samples.len() * 48);
    for sample in samples {
        // A string takes every write; so below.
        let _ = match &sample.value {
            Value::Counter(value) | Value::Gauge(value) => writeln!(out, "{}: {value}", sample.name),
            Value::Fraction(value) => writeln!(out, "{}: {value}", sample.name),
            Value::Histogram(distribution) => {
                writeln!(out, "{}: {}", sample.name, histogram(distribution, buckets))
            }
        };
    }
    out
}

/// Envoy prints pairs (of the last interval, since the start). We keep no intervals: the first is `nan`, which is
/// what Envoy prints for an interval without values.
fn histogram(distribution: &Distribution, buckets: Buckets) -> String {
    if distribution.count() == 0 {
        return "No recorded values".to_owned();
    }
    let mut out = String::new();
    if buckets == Buckets::Summary {
        for percent in QUANTILES {
            let value = distribution.quantile_ms(percent).unwrap_or(f64::NAN);
            let _ = write!(out, "{}P{percent}(nan,{value})", space(&out));
        }
        return out;
    }
    let counts =
        if buckets == Buckets::Cumulative { distribution.cumulative() } else { distribution.disjoint() };
    for ((bound, _), count) in BOUNDS.iter().zip(counts) {
        let _ = write!(out, "{}B{bound}(0,{count})", space(&out));
    }
    out
}

fn space(before: &str) -> &'static str {
    if before.is_empty() { "" } else { " " }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::cells::{Histogram, Shard};

    #[test]
    fn a_histogram_shows_envoys_ten_quantiles_or_its_buckets() {
        let cells = Histogram::new(0);
        cells.record(Shard::SHARED, 12_345);
        let distribution = Distribution::read(&cells);
        assert_eq!(
            histogram(&distribution, Buckets::Summary),
            "P0(nan,12.5) P25(nan,12.5) P50(nan,12.5) P75(nan,12.5) P90(nan,12.5) P95(nan,12.5) P99(nan,12.5) \
             P99.5(nan,12.5) P99.9(nan,12.5) P100(nan,12.5)"
        );
        let cumulative = histogram(&distribution, Buckets::Cumulative);
        assert!(
            cumulative.starts_with("B0.5(0,0) B1(0,0) B5(0,0) B10(0,0) B25(0,1) B50(0,1)"),
            "{cumulative}"
        );
        assert!(histogram(&distribution, Buckets::Disjoint).contains("B25(0,1) B50(0,0)"));
    }
}
