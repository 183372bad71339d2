//! What is kept of a run: counts and latency histograms, per version and in all.
//!
//! Owns the arithmetic of measuring. A latency counts from the moment the request was due, so a wait for a
//! free connection is part of it; the same from the moment it was really sent is kept beside it. Must
//! never leave an outcome out. Next: `split.rs` and `report.rs`.

use crate::client::{Failure, FailureKind};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A send later than this after its time is called late.
pub const LATE: Duration = Duration::from_millis(1);

/// Latencies are not to be trusted once the sender's own lateness (p99) is above this share of their median.
pub const LATENESS_SHARE: f64 = 0.10;

/// Two decimal digits of precision: at most 1 % error, 50 KiB a histogram instead of 300.
const DIGITS: u8 = 2;

/// Longest time a histogram holds: one hour in nanoseconds; longer ones count as this.
const LONGEST: u64 = 3_600_000_000_000;

/// Most versions and error texts that are told apart; a peer that answers a new name each time must not
/// fill the memory.
const MAX_NAMES: usize = 1_000;

/// One request, from its due time to its end. All times count from the start of the run.
#[derive(Debug)]
pub struct Sample {
    /// When it was due.
    pub intended: Duration,
    /// When a connection became free to send it.
    pub free: Duration,
    /// When it was sent.
    pub sent: Duration,
    /// When its last byte had come, or it had failed.
    pub done: Duration,
    /// What came of it.
    pub outcome: Result<Seen, Failure>,
}

/// What is kept of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// HTTP status.
    pub status: u16,
    /// The version that it named.
    pub version: Option<String>,
    /// Length of its body in bytes.
    pub length: u64,
}

/// Latency quantiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Number of values.
    pub count: u64,
    /// Half were faster.
    pub p50: f64,
    /// Nine of ten were faster.
    pub p90: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1,000 were faster.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// A histogram of durations.
#[derive(Debug, Clone)]
pub struct Times(Option<Histogram<u64>>);

impl Default for Times {
    fn default() -> Self {
        // The bounds are constants that hdrhistogram accepts; without a histogram nothing is recorded.
        Self(Histogram::new_with_bounds(1, LONGEST, DIGITS).ok())
    }
}

impl Times {
    /// Adds one duration.
    pub fn record(&mut self, time: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// The quantiles, in milliseconds; all zero when nothing was recorded.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let Some(histogram) = &self.0 else {
            return Quantiles { count: 0, p50: 0.0, p90: 0.0, p99: 0.0, p999: 0.0, max: 0.0 };
        };
        // The upper edge of a bucket may lie above the largest value in it.
        let at = |q: f64| millis(histogram.value_at_quantile(q).min(histogram.max()));
        Quantiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(histogram.max()),
        }
    }
}

fn millis(nanos: u64) -> f64 {
    // Microseconds are as fine as a clock read and a wake-up allow.
    (nanos as f64 / 1_000.0).round() / 1_000.0
}

/// What one version did.
#[derive(Debug, Clone, Default)]
pub struct VersionRecord {
    /// Answers that named it.
    pub count: u64,
    /// Those of them with status 400 or above.
    pub errors: u64,
    /// Latency from the intended send time.
    pub from_intended: Times,
}

/// Most requests that are traced: 24 bytes each, 120 MB in all.
pub const MAX_TRACE: usize = 5_000_000;

/// One answer in a trace; times count from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced {
    /// When the request was sent.
    pub sent: Duration,
    /// When its answer had come.
    pub done: Duration,
    /// Index into [`Trace::names`].
    pub version: u16,
}

/// Who answered each request, for those that named a version.
#[derive(Debug, Default)]
pub struct Trace {
    /// The versions, in order of appearance.
    pub names: Vec<String>,
    /// The answers, in order of their end.
    pub answers: Vec<Traced>,
}

impl Trace {
    fn add(&mut self, name: &str, sent: Duration, done: Duration) {
        if self.answers.len() >= MAX_TRACE {
            return;
        }
        let known = self.names.iter().position(|other| other == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        // There are never more than MAX_NAMES.
        let version = u16::try_from(index).unwrap_or(u16::MAX);
        self.answers.push(Traced { sent, done, version });
    }
}

/// Everything that is kept of a run.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Requests with an outcome.
    pub sent: u64,
    /// Requests with an answer, whatever its status.
    pub answered: u64,
    /// Answers without a version.
    pub unidentified: u64,
    /// Bytes of response bodies.
    pub bytes: u64,
    /// Requests that were sent more than [`LATE`] after their time.
    pub late: u64,
    /// By version name.
    pub versions: BTreeMap<String, VersionRecord>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// The first text of each kind of failure.
    pub failure_texts: BTreeMap<FailureKind, String>,
    /// Latency of answers from the intended send time.
    pub from_intended: Times,
    /// Latency of answers from the actual send time.
    pub from_sent: Times,
    /// Actual minus intended send time, of all requests.
    pub lateness: Times,
    /// The part of it that was not a wait for a free connection: the sender's own fault.
    pub own_lateness: Times,
    /// Who answered when, if that was asked for.
    pub trace: Option<Trace>,
}

impl Recorder {
    /// Adds one request.
    pub fn record(&mut self, sample: Sample) {
        self.sent += 1;
        let lateness = sample.sent.saturating_sub(sample.intended);
        self.lateness.record(lateness);
        self.own_lateness.record(sample.sent.saturating_sub(sample.intended.max(sample.free)));
        self.late += u64::from(lateness > LATE);
        let from_intended = sample.done.saturating_sub(sample.intended);
        match sample.outcome {
            Ok(seen) => {
                self.from_intended.record(from_intended);
                self.from_sent.record(sample.done.saturating_sub(sample.sent));
                if let (Some(trace), Some(name)) = (&mut self.trace, &seen.version)
                    && self.versions.len() < MAX_NAMES
                {
                    trace.add(name, sample.sent, sample.done);
                }
                self.answer(seen, from_intended);
            }
            Err(failure) => {
                *self.failures.entry(failure.kind).or_default() += 1;
                self.failure_texts.entry(failure.kind).or_insert(failure.text);
            }
        }
    }

    fn answer(&mut self, seen: Seen, from_intended: Duration) {
        self.answered += 1;
        self.bytes += seen.length;
        *self.statuses.entry(seen.status).or_default() += 1;
        let room = self.versions.len() < MAX_NAMES;
        match seen.version {
            Some(name) if room || self.versions.contains_key(&name) => {
                let version = self.versions.entry(name).or_default();
                version.count += 1;
                version.errors += u64::from(seen.status >= 400);
                version.from_intended.record(from_intended);
            }
            _ => self.unidentified += 1,
        }
    }

    /// Answers with status 400 or above.
    #[must_use]
    pub fn error_answers(&self) -> u64 {
        self.statuses.range(400..).map(|(_, count)| count).sum()
    }

    /// Requests without an answer.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether the sender kept its own times well enough for its latencies to mean the peer's.
    #[must_use]
    pub fn latency_reliable(&self) -> bool {
        let own = self.own_lateness.quantiles();
        let median = self.from_intended.quantiles().p50;
        self.answered > 0 && own.p99 <= median * LATENESS_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn answer(intended: u64, free: u64, sent: u64, done: u64) -> Sample {
        let seen = Seen { status: 200, version: Some("v1".into()), length: 10 };
        Sample { intended: ms(intended), free: ms(free), sent: ms(sent), done: ms(done), outcome: Ok(seen) }
    }

    #[test]
    fn a_wait_for_a_free_connection_counts_as_latency_but_not_as_the_senders_fault() {
        let mut recorder = Recorder::default();
        recorder.record(answer(10, 110, 110, 115));
        assert!((recorder.from_intended.quantiles().max - 105.0).abs() < 1.1);
        assert!((recorder.from_sent.quantiles().max - 5.0).abs() < 0.1);
        assert_eq!(recorder.own_lateness.quantiles().max, 0.0);
        assert_eq!(recorder.late, 1);
    }

    #[test]
    fn a_late_sender_makes_the_latency_unreliable() {
        let mut recorder = Recorder::default();
        recorder.record(answer(10, 0, 10, 20));
        assert!(recorder.latency_reliable());
        recorder.record(answer(20, 0, 25, 35));
        assert!(!recorder.latency_reliable());
    }

    #[test]
    fn nothing_measured_is_not_reliable() {
        assert!(!Recorder::default().latency_reliable());
        assert_eq!(Recorder::default().from_sent.quantiles().count, 0);
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let mut recorder = Recorder::default();
        recorder.record(answer(0, 0, 0, 1));
        let seen = Seen { status: 503, version: None, length: 0 };
        recorder.record(Sample { outcome: Ok(seen), ..answer(0, 0, 0, 1) });
        let seen = Seen { status: 500, version: Some("v2".into()), length: 0 };
        recorder.record(Sample { outcome: Ok(seen), ..answer(0, 0, 0, 1) });
        for text in ["first", "second"] {
            let failure = Failure { kind: FailureKind::Reset, text: text.into() };
            recorder.record(Sample { outcome: Err(failure), ..answer(0, 0, 0, 1) });
        }
        assert_eq!((recorder.sent, recorder.answered, recorder.failed()), (5, 3, 2));
        assert_eq!((recorder.error_answers(), recorder.unidentified), (2, 1));
        assert_eq!(recorder.versions["v2"].errors, 1);
        assert_eq!(recorder.failure_texts[&FailureKind::Reset], "first");
    }

    #[test]
    fn a_peer_that_invents_names_does_not_fill_the_memory() {
        let mut recorder = Recorder::default();
        for n in 0..MAX_NAMES as u64 + 5 {
            let seen = Seen { status: 200, version: Some(format!("v{n}")), length: 0 };
            recorder.record(Sample { outcome: Ok(seen), ..answer(0, 0, 0, 1) });
        }
        assert_eq!((recorder.versions.len(), recorder.unidentified), (MAX_NAMES, 5));
    }

    #[test]
    fn a_time_beyond_the_histogram_counts_as_its_longest() {
        let mut times = Times::default();
        times.record(Duration::from_secs(10_000));
        assert!(times.quantiles().max >= 3_500_000.0);
    }
}
