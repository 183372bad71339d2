//! What a histogram says: quantiles and counts up to Envoy's bounds, in milliseconds.
//!
//! Owns the arithmetic between our microsecond buckets and Envoy's milliseconds. It must never read cells twice:
//! count and buckets of one answer come from one reading. Next: `prometheus.rs`.

use crate::stats::cells::{Histogram, bucket_ceiling, bucket_floor};

/// Envoy's quantiles in percent.
pub const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];
/// Envoy's default bucket bounds (config.metrics.v3.StatsConfig.histogram_bucket_settings), in milliseconds,
/// as Prometheus text has them.
pub const BOUNDS: [(&str, u64); 19] = [
    ("0.5", 500),
    ("1", 1_000),
    ("5", 5_000),
    ("10", 10_000),
    ("25", 25_000),
    ("50", 50_000),
    ("100", 100_000),
    ("250", 250_000),
    ("500", 500_000),
    ("1000", 1_000_000),
    ("2500", 2_500_000),
    ("5000", 5_000_000),
    ("10000", 10_000_000),
    ("30000", 30_000_000),
    ("60000", 60_000_000),
    ("300000", 300_000_000),
    ("600000", 600_000_000),
    ("1800000", 1_800_000_000),
    ("3600000", 3_600_000_000),
];

/// One reading of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Bucket position and count, filled ones only, ascending.
    filled: Vec<(usize, u64)>,
    sum_micros: u64,
}

impl Distribution {
    /// Reads the cells.
    pub fn read(histogram: &Histogram) -> Self {
        let counts = histogram.counts().into_iter().enumerate();
        Self { filled: counts.filter(|(_, count)| *count > 0).collect(), sum_micros: histogram.sum_micros() }
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.filled.iter().map(|(_, count)| count).sum()
    }

    /// Their sum in milliseconds.
    pub fn sum_ms(&self) -> f64 {
        self.sum_micros as f64 / 1000.0
    }

    /// Counts up to each of Envoy's bounds.
    pub fn cumulative(&self) -> [u64; BOUNDS.len()] {
        BOUNDS.map(|(_, bound)| {
            self.filled.iter().filter(|(bucket, _)| bucket_ceiling(*bucket) <= bound).map(|(_, n)| n).sum()
        })
    }

    /// Counts between Envoy's bounds; what lies above the last bound is left out.
    pub fn disjoint(&self) -> [u64; BOUNDS.len()] {
        let mut before = 0;
        self.cumulative().map(|upto| {
            let between = upto - before;
            before = upto;
            between
        })
    }

    /// The duration in milliseconds that `percent` of all do not exceed; `None` when nothing was recorded.
    /// Within a bucket the k-th of n lies at k/(n+1), as in Envoy's library (circllhist).
    pub fn quantile_ms(&self, percent: f64) -> Option<f64> {
        let target = ((percent / 100.0 * self.count() as f64).ceil() as u64).max(1);
        let mut before = 0;
        for &(bucket, count) in &self.filled {
            if before + count >= target {
                let (floor, ceiling) = (bucket_floor(bucket) as f64, bucket_ceiling(bucket) as f64);
                let share = (target - before) as f64 / (count + 1) as f64;
                // To the nanosecond: more digits would only show the binary fraction.
                return Some(((floor + (ceiling - floor) * share) * 1000.0).round() / 1e6);
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::cells::Shard;

    fn of(micros: &[u64]) -> Distribution {
        let histogram = Histogram::new(1);
        for value in micros {
            histogram.record(Shard::worker(0), *value);
        }
        Distribution::read(&histogram)
    }

    #[test]
    fn nothing_recorded_has_no_quantiles() {
        assert_eq!(of(&[]).quantile_ms(50.0), None);
        assert_eq!(of(&[]).cumulative(), [0; 19]);
    }

    #[test]
    fn a_single_value_is_the_middle_of_its_bucket_at_every_quantile() {
        let one = of(&[11_020]);
        for percent in QUANTILES {
            assert_eq!(one.quantile_ms(percent), Some(11.5));
        }
    }

    #[test]
    fn values_of_one_bucket_are_spread_evenly_over_it() {
        let two = of(&[2_010, 2_020]);
        assert_eq!(two.quantile_ms(50.0), Some(2.033_333));
        assert_eq!(two.quantile_ms(99.0), Some(2.066_667));
    }

    #[test]
    fn counts_are_by_envoys_bounds_in_milliseconds() {
        let some = of(&[400, 450, 700, 24_000, 4_000_000_000]);
        let cumulative = some.cumulative();
        assert_eq!(cumulative[..6], [2, 3, 3, 3, 4, 4]);
        assert_eq!(cumulative[18], 4, "above an hour only +Inf counts it");
        assert_eq!(some.count(), 5);
        assert_eq!(some.disjoint()[..5], [2, 1, 0, 0, 1]);
    }

    #[test]
    fn every_bound_is_the_edge_of_a_bucket() {
        for (text, micros) in BOUNDS {
            assert_eq!(bucket_floor(crate::stats::cells::bucket_of(micros)), micros, "{text}");
        }
    }
}
