//! Counters that one worker writes and anybody sums.
//!
//! Owns the memory of all statistics: per scope one array of cells for each worker, so that nothing is shared on
//! the request path. It must never name a statistic (that is `names.rs`) nor print one (`render.rs`).
//! Next: `names.rs`.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which array of cells a thread writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard(usize);

impl Shard {
    /// For every thread that is not a worker; written with atomic additions.
    pub const SHARED: Shard = Shard(0);
    /// The cells of worker `index` (from 0); only that worker's thread may write them.
    pub fn worker(index: usize) -> Self {
        Self(index + 1)
    }
    /// Position among the shards: 0 is the shared one, then the workers.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A family of statistics that live in one scope: all of a cluster, all of an HttpConnectionManager, ...
pub trait Stat: Copy + 'static {
    /// How many there are.
    const COUNT: usize;
    /// How many extra cells hold answers by status code (0 or [`CODES`]).
    const CODES: usize = 0;
    /// Position in the scope's array, below COUNT.
    fn index(self) -> usize;
}

/// Status codes 100..=599.
pub const CODES: usize = 500;

/// The cells of one scope.
#[derive(Debug)]
pub struct Scope<S: Stat> {
    shards: Box<[Box<[AtomicU64]>]>,
    /// What counters stood at when they were last reset; only what is shown subtracts it.
    base: Box<[AtomicU64]>,
    kind: PhantomData<S>,
}

impl<S: Stat> Scope<S> {
    /// Cells for `workers` workers and one shared shard, all 0.
    pub fn new(workers: usize) -> Self {
        let shard = || (0..S::COUNT + S::CODES).map(|_| AtomicU64::new(0)).collect();
        Self { shards: (0..=workers).map(|_| shard()).collect(), base: shard(), kind: PhantomData }
    }

    fn cell(&self, shard: Shard, index: usize) -> Option<&AtomicU64> {
        self.shards.get(shard.0)?.get(index)
    }

    fn bump(&self, shard: Shard, index: usize, by: u64) {
        let Some(cell) = self.cell(shard, index) else { return };
        if shard == Shard::SHARED {
            cell.fetch_add(by, Relaxed);
        } else {
            // Only this thread writes the cell: no locked instruction is needed.
            cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
        }
    }

    /// Adds to a counter.
    pub fn add(&self, shard: Shard, stat: S, by: u64) {
        self.bump(shard, stat.index(), by);
    }

    /// Adds 1 to a counter or gauge.
    pub fn inc(&self, shard: Shard, stat: S) {
        self.bump(shard, stat.index(), 1);
    }

    /// Takes 1 from a gauge; shards may wrap, their sum does not.
    pub fn dec(&self, shard: Shard, stat: S) {
        self.bump(shard, stat.index(), 1u64.wrapping_neg());
    }

    /// Counts an answer by its status code; codes out of 100..=599 are not counted.
    pub fn code(&self, shard: Shard, status: u16) {
        if (100..600).contains(&status) && S::CODES > 0 {
            self.bump(shard, S::COUNT + usize::from(status) - 100, 1);
        }
    }

    /// Sets a gauge that has one writer: the shared shard takes the value, the others stay as they are.
    pub fn set(&self, stat: S, value: u64) {
        if let Some(cell) = self.cell(Shard::SHARED, stat.index()) {
            cell.store(value, Relaxed);
        }
    }

    /// Sum over all shards.
    pub fn total(&self, stat: S) -> u64 {
        self.sum(stat.index())
    }

    /// Answers with this status code so far.
    pub fn total_code(&self, status: u16) -> u64 {
        if (100..600).contains(&status) && S::CODES > 0 {
            self.sum(S::COUNT + usize::from(status) - 100)
        } else {
            0
        }
    }

    /// As [`Scope::total`], since the last reset: what admin shows. Evidence and reports never read this.
    pub fn since_reset(&self, stat: S) -> u64 {
        self.shown(stat.index())
    }

    /// As [`Scope::total_code`], since the last reset.
    pub fn code_since_reset(&self, status: u16) -> u64 {
        if (100..600).contains(&status) && S::CODES > 0 {
            self.shown(S::COUNT + usize::from(status) - 100)
        } else {
            0
        }
    }

    /// Shows the members that `is_counter` names, and all answers by code, as 0 from now on
    /// (Envoy: `POST /reset_counters`). The cells themselves go on rising.
    pub fn reset_counters(&self, is_counter: impl Fn(usize) -> bool) {
        for (index, base) in self.base.iter().enumerate() {
            if index >= S::COUNT || is_counter(index) {
                base.store(self.sum(index), Relaxed);
            }
        }
    }

    fn shown(&self, index: usize) -> u64 {
        let base = self.base.get(index).map_or(0, |base| base.load(Relaxed));
        self.sum(index).wrapping_sub(base)
    }

    fn sum(&self, index: usize) -> u64 {
        self.shards
            .iter()
            .filter_map(|shard| shard.get(index))
            .fold(0, |sum, c| sum.wrapping_add(c.load(Relaxed)))
    }
}

/// Two significant decimal digits: 90 buckets per decade, from 10 us to 10^10 us, as Envoy's circllhist has.
const PER_DECADE: usize = 90;
const DECADES: usize = 9;
/// Buckets of a [`Histogram`]: one below 10 us, then 90 a decade, the last one takes all above.
pub const BUCKETS: usize = 1 + PER_DECADE * DECADES;

/// Durations in microseconds, in log-linear buckets with an error of at most 10 %.
#[derive(Debug)]
pub struct Histogram {
    shards: Box<[HistogramShard]>,
}

#[derive(Debug)]
struct HistogramShard {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Empty, for `workers` workers.
    pub fn new(workers: usize) -> Self {
        let shard = || HistogramShard {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        };
        Self { shards: (0..=workers).map(|_| shard()).collect() }
    }

    /// Records one duration.
    pub fn record(&self, shard: Shard, micros: u64) {
        let Some(cells) = self.shards.get(shard.0) else { return };
        if let Some(cell) = cells.buckets.get(bucket_of(micros)) {
            cell.fetch_add(1, Relaxed);
        }
        cells.sum.fetch_add(micros, Relaxed);
    }

    /// Counts per bucket over all shards.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0u64; BUCKETS];
        for shard in &self.shards {
            for (count, cell) in counts.iter_mut().zip(shard.buckets.iter()) {
                *count += cell.load(Relaxed);
            }
        }
        counts
    }

    /// Sum of all durations in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(shard.sum.load(Relaxed)))
    }
}

/// The bucket of a duration in microseconds.
pub fn bucket_of(micros: u64) -> usize {
    if micros < 10 {
        return 0;
    }
    let decade = micros.ilog10().min(DECADES as u32) as usize; // 1 for 10..100
    if decade > DECADES {
        return BUCKETS - 1;
    }
    let unit = 10u64.pow(decade as u32 - 1);
    let mantissa = (micros / unit).min(99) as usize; // 10..=99
    (1 + (decade - 1) * PER_DECADE + mantissa - 10).min(BUCKETS - 1)
}

/// Lower bound (inclusive) of a bucket in microseconds.
pub fn bucket_floor(bucket: usize) -> u64 {
    match bucket.checked_sub(1) {
        None => 0,
        Some(n) => ((n % PER_DECADE) as u64 + 10) * 10u64.pow((n / PER_DECADE) as u32),
    }
}

/// Upper bound (exclusive) of a bucket in microseconds.
pub fn bucket_ceiling(bucket: usize) -> u64 {
    bucket_floor(bucket + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy)]
    struct One;
    impl Stat for One {
        const COUNT: usize = 1;
        const CODES: usize = CODES;
        fn index(self) -> usize {
            0
        }
    }

    #[test]
    fn a_gauge_raised_by_one_worker_and_lowered_by_another_is_zero() {
        let scope = Scope::<One>::new(2);
        scope.inc(Shard::worker(0), One);
        scope.dec(Shard::worker(1), One);
        assert_eq!(scope.total(One), 0);
        scope.inc(Shard::SHARED, One);
        assert_eq!(scope.total(One), 1);
    }

    #[test]
    fn answers_are_counted_by_their_code_and_nonsense_is_not() {
        let scope = Scope::<One>::new(1);
        scope.code(Shard::worker(0), 503);
        scope.code(Shard::worker(0), 99);
        scope.code(Shard::worker(0), 600);
        assert_eq!(scope.total_code(503), 1);
        assert_eq!((100..600).map(|c| scope.total_code(c)).sum::<u64>(), 1);
    }

    proptest! {
        #[test]
        fn every_duration_lies_within_the_bounds_of_its_bucket(micros in 0u64..9_999_999_999) {
            let bucket = bucket_of(micros);
            prop_assert!(bucket_floor(bucket) <= micros);
            prop_assert!(micros < bucket_ceiling(bucket) || bucket == BUCKETS - 1);
        }
    }
}
