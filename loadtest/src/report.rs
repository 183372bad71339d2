//! What a run is summed up to: one structure, printed as JSON or as text.
//!
//! Owns the words and the exit code. Must never leave out what went wrong: late, unsent, unidentified and
//! failed requests are in every report. Next: `cli.rs`.

use crate::drive::{Driven, Stopped, Stream};
use crate::record::{LATENESS_SHARE, Quantiles, Recorder};
use crate::split::{Expected, Method, Verdict, judge, wilson};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// One version's part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionReport {
    /// As the answers named it.
    pub name: String,
    /// The share asked for in percent; none without `--expect` or when it is not named there.
    pub expected_percent: Option<f64>,
    /// Its share of the answers that named a version, in percent.
    pub observed_percent: f64,
    /// Wilson's 95 % interval of that share, in percent.
    pub low_percent: f64,
    /// Upper end of the interval.
    pub high_percent: f64,
    /// Answers that named it.
    pub count: u64,
    /// Those with status 400 or above.
    pub errors: u64,
    /// Latency from the intended send time.
    pub latency_from_intended_ms: Quantiles,
}

/// The whole outcome of `loadtest split` or `loadtest run`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `split` or `run`.
    pub verb: &'static str,
    /// Where the requests went.
    pub url: String,
    /// `http/1.1` or `h2c`.
    pub protocol: crate::client::Protocol,
    /// Whether all is well: the exit code is 0, else 1.
    pub ok: bool,
    /// Why not; empty when all is well.
    pub reasons: Vec<String>,
    /// Why the run ended early, if it did: `time-limit` or `interrupted`.
    pub stopped: Option<&'static str>,
    /// Requests asked for.
    pub planned: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests never sent because the run ended early.
    pub not_sent: u64,
    /// Requests that got a whole answer, whatever its status.
    pub answered: u64,
    /// Answers with status 400 or above plus requests without an answer.
    pub errors: u64,
    /// Requests sent more than 1 ms after their time. They are never dropped.
    pub late: u64,
    /// Requests per second asked for.
    pub rate_asked: f64,
    /// Requests per second sent.
    pub rate_sent: f64,
    /// From the start to the last answer.
    pub seconds: f64,
    /// Connections used at a time.
    pub connections: usize,
    /// Connections opened in all.
    pub connections_opened: u64,
    /// Bytes of response bodies.
    pub body_bytes: u64,
    /// By version.
    pub versions: Vec<VersionReport>,
    /// Answers that named no version.
    pub unidentified: u64,
    /// The test of the split; none for `run`.
    pub split: Option<Verdict>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer by kind: connect, timeout, closed, reset, protocol.
    pub failures: BTreeMap<&'static str, u64>,
    /// The first text of each kind.
    pub failure_texts: BTreeMap<&'static str, String>,
    /// Latency of the answers from the moment their request was due.
    pub latency_from_intended_ms: Quantiles,
    /// Latency of the answers from the moment their request was sent.
    pub latency_from_sent_ms: Quantiles,
    /// How late the requests were sent.
    pub lateness_ms: Quantiles,
    /// The part of that which is the sender's own doing, not a wait for a free connection.
    pub own_lateness_ms: Quantiles,
    /// Whether the p99 of that part is at most 10 % of the median latency; if not, trust no latency.
    pub latency_reliable: bool,
}

impl Report {
    /// Sums a run up. With `expected` it is a split check.
    #[must_use]
    pub fn new(url: &str, stream: &Stream, driven: &Driven, expected: Option<&Expected>) -> Self {
        let recorder = &driven.recorder;
        let counts = recorder.versions.iter().map(|(name, v)| (name.clone(), v.count)).collect();
        let split = expected.map(|expected| judge(expected, &counts));
        let reasons = reasons(driven, split.as_ref());
        let errors = recorder.error_answers() + recorder.failed();
        let seconds = driven.elapsed.as_secs_f64();
        Self {
            verb: if expected.is_some() { "split" } else { "run" },
            url: url.to_owned(),
            protocol: stream.recipe.protocol,
            ok: reasons.is_empty(),
            reasons,
            stopped: driven.stopped.map(stopped_word),
            planned: stream.schedule.total(),
            sent: recorder.sent,
            not_sent: driven.not_sent,
            answered: recorder.answered,
            errors,
            late: recorder.late,
            rate_asked: stream.schedule.rate().as_per_second(),
            rate_sent: round(if seconds > 0.0 { recorder.sent as f64 / seconds } else { 0.0 }, 1),
            seconds: round(seconds, 3),
            connections: stream.connections,
            connections_opened: driven.opened,
            body_bytes: recorder.bytes,
            versions: versions(recorder, expected),
            unidentified: recorder.unidentified,
            split,
            statuses: recorder.statuses.clone(),
            failures: recorder.failures.iter().map(|(kind, n)| (kind.as_str(), *n)).collect(),
            failure_texts: recorder
                .failure_texts
                .iter()
                .map(|(kind, text)| (kind.as_str(), text.clone()))
                .collect(),
            latency_from_intended_ms: recorder.from_intended.quantiles(),
            latency_from_sent_ms: recorder.from_sent.quantiles(),
            lateness_ms: recorder.lateness.quantiles(),
            own_lateness_ms: recorder.own_lateness.quantiles(),
            latency_reliable: recorder.latency_reliable(),
        }
    }
}

fn stopped_word(stopped: Stopped) -> &'static str {
    match stopped {
        Stopped::TimeLimit => "time-limit",
        Stopped::Interrupted => "interrupted",
    }
}

fn reasons(driven: &Driven, split: Option<&Verdict>) -> Vec<String> {
    let recorder = &driven.recorder;
    let mut reasons = Vec::new();
    for (status, count) in recorder.statuses.range(400..) {
        reasons.push(format!("{count} answers had status {status}"));
    }
    for (kind, count) in &recorder.failures {
        let text = recorder.failure_texts.get(kind).map_or("", String::as_str);
        reasons.push(format!("{count} requests got no answer ({}: {text})", kind.as_str()));
    }
    if driven.not_sent > 0 {
        let why = match driven.stopped {
            Some(Stopped::Interrupted) => "the run was interrupted",
            _ => "the time limit passed; raise --connections or --time-limit, or lower --rate",
        };
        reasons.push(format!("{} requests were never sent: {why}", driven.not_sent));
    }
    if let Some(split) = split {
        reasons.extend(split.reasons.iter().cloned());
        let unnamed = recorder.unidentified.saturating_sub(unnamed_errors(recorder));
        if unnamed > 0 {
            reasons.push(format!(
                "{unnamed} answers did not say their version; name the header or the text that does with --by"
            ));
        }
    }
    reasons
}

/// Error answers of the gateway itself name no version; they are errors already.
fn unnamed_errors(recorder: &Recorder) -> u64 {
    let named: u64 = recorder.versions.values().map(|v| v.errors).sum();
    recorder.error_answers().saturating_sub(named)
}

fn versions(recorder: &Recorder, expected: Option<&Expected>) -> Vec<VersionReport> {
    let total: u64 = recorder.versions.values().map(|v| v.count).sum();
    let asked = expected.into_iter().flat_map(Expected::shares).map(|(name, _)| name.to_owned());
    let mut names: Vec<String> = asked.collect();
    for name in recorder.versions.keys() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let percent = |share: f64| round(share * 100.0, 4);
    let line = |name: String| {
        let version = recorder.versions.get(&name).cloned().unwrap_or_default();
        let (low, high) = wilson(version.count, total);
        VersionReport {
            expected_percent: expected.and_then(|e| e.share(&name)).map(percent),
            observed_percent: percent(if total > 0 { version.count as f64 / total as f64 } else { 0.0 }),
            low_percent: percent(low),
            high_percent: percent(high),
            count: version.count,
            errors: version.errors,
            latency_from_intended_ms: version.from_intended.quantiles(),
            name,
        }
    };
    names.into_iter().map(line).collect()
}

fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} of {} requests to {} at {:.1}/s (asked {}/s) over {} connections in {:.1} s",
            self.verb,
            self.sent,
            self.planned,
            self.url,
            self.rate_sent,
            self.rate_asked,
            self.connections,
            self.seconds
        )?;
        if !self.versions.is_empty() {
            write_versions(f, &self.versions)?;
        }
        if let Some(split) = &self.split {
            writeln!(f, "\n{}", verdict_line(split))?;
        }
        write_latency(f, self)?;
        if self.ok {
            return writeln!(f, "\nok: {} requests, no error", self.answered);
        }
        writeln!(f, "\nNOT OK:")?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "  - {reason}"))
    }
}

fn write_versions(f: &mut fmt::Formatter<'_>, versions: &[VersionReport]) -> fmt::Result {
    let width = versions.iter().map(|v| v.name.chars().count()).max().unwrap_or(0).max(7);
    writeln!(
        f,
        "\n{:width$}  {:>9}  {:>9}  {:>19}  {:>9}  {:>7}  {:>9}  {:>9}",
        "version", "expected", "observed", "95 % interval", "requests", "errors", "p50", "p99"
    )?;
    for v in versions {
        let expected = v.expected_percent.map_or("-".to_owned(), |p| format!("{p:.2} %"));
        let mut interval = String::new();
        write!(interval, "{:.2} .. {:.2} %", v.low_percent, v.high_percent)?;
        writeln!(
            f,
            "{:width$}  {:>9}  {:>9}  {:>19}  {:>9}  {:>7}  {:>9}  {:>9}",
            v.name,
            expected,
            format!("{:.2} %", v.observed_percent),
            interval,
            v.count,
            v.errors,
            ms(v.latency_from_intended_ms.p50),
            ms(v.latency_from_intended_ms.p99)
        )?;
    }
    Ok(())
}

fn verdict_line(split: &Verdict) -> String {
    let how = match split.method {
        Method::ChiSquare => format!(
            "chi-square {:.3} with {} degree(s) of freedom, p = {:.4}",
            split.chi_square, split.degrees_of_freedom, split.p_value
        ),
        Method::ExactBinomial => {
            format!("exact binomial test (a version is expected less than 5 times), p = {:.4}", split.p_value)
        }
        Method::Certain => "only one version is expected".to_owned(),
    };
    let judged = if split.accepted { "the split is as asked" } else { "the split is OFF" };
    format!("{how}: {judged} (off below p = {})", split.threshold)
}

fn write_latency(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f, "\n{:22} {:>9} {:>9} {:>9} {:>9} {:>9}", "latency", "p50", "p90", "p99", "p99.9", "max")?;
    let mut line = |name: &str, q: &Quantiles| {
        writeln!(
            f,
            "{:22} {:>9} {:>9} {:>9} {:>9} {:>9}",
            name,
            ms(q.p50),
            ms(q.p90),
            ms(q.p99),
            ms(q.p999),
            ms(q.max)
        )
    };
    line("from intended send", &report.latency_from_intended_ms)?;
    line("from actual send", &report.latency_from_sent_ms)?;
    line("lateness of sends", &report.lateness_ms)?;
    writeln!(
        f,
        "{} of {} sends were more than 1 ms late; none was dropped. {} connections opened.",
        report.late, report.sent, report.connections_opened
    )?;
    if !report.latency_reliable && report.answered > 0 {
        writeln!(
            f,
            "WARNING: these latencies are not to be trusted: the sender itself was {} late (p99), more than {:.0} % of \
             the median latency. Give it a CPU of its own or lower --rate.",
            ms(report.own_lateness_ms.p99),
            LATENESS_SHARE * 100.0
        )?;
    }
    Ok(())
}

fn ms(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{:.2} s", v / 1000.0),
        v if v >= 100.0 => format!("{v:.0} ms"),
        v => format!("{v:.2} ms"),
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
