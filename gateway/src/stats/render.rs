//! Statistics as text: one list of samples, printed in each of Envoy's shapes.
//!
//! Owns the sample and what a reader may ask for (`/stats?filter=...`). It must never read a socket nor know the
//! snapshot: who renders brings further samples. Next: `render/collect.rs`, from cells to samples.

pub mod collect;
mod histogram;
mod json;
mod prometheus;
mod text;

pub use histogram::Distribution;
pub use json::json;
pub use prometheus::{CONTENT_TYPE as PROMETHEUS_CONTENT_TYPE, prometheus};
pub use text::text;

use regex_lite::{Regex, RegexBuilder};

/// Longest `filter` that is compiled; an operator's is a line.
const MAX_FILTER_BYTES: usize = 1024;
/// Bytes that a compiled `filter` may take.
const MAX_FILTER_PROGRAM: usize = 1 << 20;

/// One statistic with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Envoy's whole name: `cluster.v1.upstream_rq_2xx`.
    pub name: String,
    /// The name without its tags: `cluster.upstream_rq_xx`. Names that begin with `gateway.` are ours; all others
    /// get Envoy's prefix in Prometheus.
    pub family: String,
    /// Tags in Envoy's order.
    pub labels: Vec<Label>,
    /// What it stands at.
    pub value: Value,
    /// Something was counted since the start (Envoy: `usedonly`).
    pub used: bool,
}

/// A tag: Prometheus label name and value.
pub type Label = (&'static str, String);

/// A value and what kind it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Only rises.
    Counter(u64),
    /// Rises and falls.
    Gauge(u64),
    /// A gauge with a fraction.
    Fraction(f64),
    /// Durations.
    Histogram(Distribution),
}

/// Order in which Envoy prints kinds to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KindRank {
    Counter,
    Gauge,
    Histogram,
}

impl Value {
    fn rank(&self) -> KindRank {
        match self {
            Self::Counter(_) => KindRank::Counter,
            Self::Gauge(_) | Self::Fraction(_) => KindRank::Gauge,
            Self::Histogram(_) => KindRank::Histogram,
        }
    }
}

/// Shape of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `name: value` lines.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Prometheus text.
    Prometheus,
}

/// How text shows histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buckets {
    /// Quantiles.
    #[default]
    Summary,
    /// Counts up to each bound.
    Cumulative,
    /// Counts between bounds.
    Disjoint,
}

/// What a reader asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Shape.
    pub format: Format,
    /// Histograms in text.
    pub buckets: Buckets,
    used_only: bool,
    filter: Option<Regex>,
    invert: bool,
    kind: Option<KindRank>,
    nothing: bool,
}

impl Query {
    /// Reads `usedonly`, `filter`, `invert_filter`, `type`, `format` and `histogram_buckets` (Envoy: admin
    /// `/stats`). Other names are ignored, as Envoy does.
    ///
    /// # Errors
    /// A text for the reader, when a value is not one of those that are known.
    pub fn parse(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "usedonly" => query.used_only = true,
                "invert_filter" => query.invert = true,
                "filter" if !value.is_empty() => query.filter = Some(compile(value)?),
                "type" => query.set_kind(value)?,
                "format" => query.format = format_of(value)?,
                "histogram_buckets" => query.buckets = buckets_of(value)?,
                _ => {}
            }
        }
        Ok(query)
    }

    fn set_kind(&mut self, value: &str) -> Result<(), String> {
        self.nothing = false;
        self.kind = match value.to_ascii_lowercase().as_str() {
            "" | "all" => None,
            "counters" => Some(KindRank::Counter),
            "gauges" => Some(KindRank::Gauge),
            "histograms" => Some(KindRank::Histogram),
            "textreadouts" => {
                self.nothing = true;
                None
            }
            _ => return Err(one_of("type", "All, Counters, Histograms, Gauges, TextReadouts")),
        };
        Ok(())
    }

    /// Whether a sample was asked for.
    pub fn wants(&self, sample: &Sample) -> bool {
        !self.nothing
            && (sample.used || !self.used_only)
            && self.kind.is_none_or(|kind| kind == sample.value.rank())
            && self.filter.as_ref().is_none_or(|filter| filter.is_match(&sample.name) != self.invert)
    }

    /// Prints what was asked for of `samples`; `extra` labels go to every Prometheus series.
    pub fn render(&self, samples: Vec<Sample>, extra: &[Label]) -> String {
        let mut wanted: Vec<Sample> = samples.into_iter().filter(|sample| self.wants(sample)).collect();
        match self.format {
            Format::Text => text(&mut wanted, self.buckets),
            Format::Json => json(&mut wanted),
            Format::Prometheus => prometheus(&mut wanted, extra),
        }
    }
}

fn one_of(name: &str, values: &str) -> String {
    format!("{name} must be one of: {values}\n")
}

fn format_of(value: &str) -> Result<Format, String> {
    match value {
        "text" | "" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "prometheus" => Ok(Format::Prometheus),
        _ => Err(one_of("format", "text, json, prometheus")),
    }
}

fn buckets_of(value: &str) -> Result<Buckets, String> {
    match value {
        "summary" | "" => Ok(Buckets::Summary),
        "cumulative" => Ok(Buckets::Cumulative),
        "disjoint" => Ok(Buckets::Disjoint),
        _ => Err(one_of("histogram_buckets", "summary, cumulative, disjoint")),
    }
}

fn compile(filter: &str) -> Result<Regex, String> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(format!("filter is longer than {MAX_FILTER_BYTES} bytes\n"));
    }
    RegexBuilder::new(filter)
        .size_limit(MAX_FILTER_PROGRAM)
        .build()
        .map_err(|error| format!("Invalid regex: \"{error}\"\n"))
}

/// Envoy's order of `/stats`: counters and gauges by name, then histograms by name.
fn sort_by_name(samples: &mut [Sample]) {
    samples.sort_by(|a, b| {
        let late = |sample: &Sample| sample.value.rank() == KindRank::Histogram;
        (late(a), &a.name).cmp(&(late(b), &b.name))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, value: Value, used: bool) -> Sample {
        Sample { name: name.to_owned(), family: name.to_owned(), labels: Vec::new(), value, used }
    }

    fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn rendered(query: &[(&str, &str)]) -> String {
        let samples = vec![
            sample("cluster.b.up", Value::Counter(0), false),
            sample("cluster.a.up", Value::Counter(3), true),
            sample("cluster.a.now", Value::Gauge(1), true),
            sample("cluster.a.time", Value::Histogram(Distribution::default()), false),
        ];
        Query::parse(&pairs(query)).expect("a query").render(samples, &[])
    }

    #[test]
    fn counters_and_gauges_come_by_name_and_histograms_last() {
        assert_eq!(
            rendered(&[]),
            "cluster.a.now: 1\ncluster.a.up: 3\ncluster.b.up: 0\ncluster.a.time: No recorded values\n"
        );
    }

    #[test]
    fn filter_usedonly_and_type_narrow_the_answer() {
        assert_eq!(rendered(&[("usedonly", "")]), "cluster.a.now: 1\ncluster.a.up: 3\n");
        assert_eq!(rendered(&[("filter", r"^cluster\.b")]), "cluster.b.up: 0\n");
        assert_eq!(rendered(&[("type", "Gauges")]), "cluster.a.now: 1\n");
        assert_eq!(rendered(&[("filter", r"\.a\."), ("invert_filter", "")]), "cluster.b.up: 0\n");
        assert_eq!(rendered(&[("type", "TextReadouts")]), "");
    }

    #[test]
    fn a_value_that_is_not_known_is_refused_with_the_known_ones() {
        let error = |query| Query::parse(&pairs(&[query])).expect_err("refused");
        assert!(error(("type", "Zebras")).contains("Counters"));
        assert!(error(("format", "xml")).contains("prometheus"));
        assert!(error(("filter", "(")).contains("Invalid regex"));
        assert!(error(("histogram_buckets", "detailed")).contains("cumulative"));
        assert!(Query::parse(&[("filter".to_owned(), "a".repeat(2000))]).is_err());
    }
}
