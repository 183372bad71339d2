//! The live line of the demo: how the gateway has split what it was sent, read from its own statistics.
//!
//! Owns the reading of Envoy's counters and the shape of the line; it must never count by itself. Next: `mod.rs`.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::http;

/// Requests that the gateway has sent to each version since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// `cluster.v1.upstream_rq_total`.
    pub v1: u64,
    /// `cluster.v2.upstream_rq_total`.
    pub v2: u64,
}

impl Split {
    /// Asks the gateway's admin port.
    pub fn read(admin_port: u16) -> Result<Self> {
        let answer = http::ask(admin_port, "/stats?format=json&filter=upstream_rq_total", None)?;
        ensure!(answer.status == 200, "/stats answered {}: {}", answer.status, answer.body.trim());
        Self::parse(&answer.body)
    }

    fn parse(body: &str) -> Result<Self> {
        let document: Value = serde_json::from_str(body).context("/stats did not answer JSON")?;
        let stats = document.get("stats").and_then(Value::as_array).context("/stats answered no `stats`")?;
        let value = |name: &str| {
            let named = |stat: &&Value| stat.get("name").and_then(Value::as_str) == Some(name);
            stats.iter().find(named).and_then(|stat| stat.get("value")?.as_u64()).unwrap_or(0)
        };
        Ok(Self { v1: value("cluster.v1.upstream_rq_total"), v2: value("cluster.v2.upstream_rq_total") })
    }

    /// What was added since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self { v1: self.v1.saturating_sub(earlier.v1), v2: self.v2.saturating_sub(earlier.v2) }
    }

    fn all(self) -> u64 {
        self.v1 + self.v2
    }
}

/// `v1 198 (99.0 %), v2 2 (1.0 %)`.
fn shares(split: Split) -> String {
    #[allow(clippy::cast_precision_loss)]
    let percent = |part: u64| 100.0 * part as f64 / split.all().max(1) as f64;
    format!("v1 {} ({:.1} %), v2 {} ({:.1} %)", split.v1, percent(split.v1), split.v2, percent(split.v2))
}

/// Draws the line once a second: over itself on a terminal, else a new line when something has changed.
pub struct Line {
    first: Split,
    /// Recent readings, one a second, the oldest first.
    recent: Vec<Split>,
    redraw: bool,
    drawn: bool,
}

/// Seconds over which "now" is the average.
const RECENT_SECONDS: usize = 5;

impl Line {
    /// Counts from this reading.
    pub fn new(first: Split) -> Self {
        Self { first, recent: vec![first], redraw: std::io::stdout().is_terminal(), drawn: false }
    }

    /// Shows a new reading.
    pub fn show(&mut self, now: Split) -> Result<()> {
        let changed = self.recent.last() != Some(&now);
        let text = self.text(now);
        let mut out = std::io::stdout().lock();
        if self.redraw {
            write!(out, "\r\x1b[2K{text}")?;
            self.drawn = true;
        } else if changed {
            writeln!(out, "{text}")?;
        }
        out.flush()?;
        Ok(())
    }

    /// The line for a reading, which becomes the newest.
    fn text(&mut self, now: Split) -> String {
        self.recent.push(now);
        if self.recent.len() > RECENT_SECONDS + 1 {
            self.recent.remove(0);
        }
        let total = now.since(self.first);
        if total.all() == 0 {
            return "svc1: no request yet".to_owned();
        }
        let latest = now.since(self.recent.first().copied().unwrap_or(now));
        let seconds = (self.recent.len() - 1).max(1) as u64;
        let recently = if latest.all() == 0 {
            "idle".to_owned()
        } else {
            format!("{}/s: {}", latest.all().div_ceil(seconds), shares(latest))
        };
        format!("svc1: {} | last {seconds} s {recently}", shares(total))
    }

    /// Ends a line that would be drawn over, so that other text can follow.
    pub fn leave(&mut self) {
        if self.drawn {
            println!();
            self.drawn = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_and_missing_ones_are_zero() {
        let body = r#"{"stats":[{"name":"cluster.v1.upstream_rq_total","value":99},{"name":"cluster.v10.upstream_rq_total","value":5}]}"#;
        assert_eq!(Split::parse(body).unwrap(), Split { v1: 99, v2: 0 });
        assert!(Split::parse("no").is_err());
    }

    #[test]
    fn the_line_says_the_whole_and_the_last_seconds() {
        let mut line = Line::new(Split { v1: 10, v2: 0 });
        assert_eq!(line.text(Split { v1: 10, v2: 0 }), "svc1: no request yet");
        let text = line.text(Split { v1: 109, v2: 1 });
        assert_eq!(text, "svc1: v1 99 (99.0 %), v2 1 (1.0 %) | last 2 s 50/s: v1 99 (99.0 %), v2 1 (1.0 %)");
        for _ in 0..RECENT_SECONDS {
            line.text(Split { v1: 109, v2: 1 });
        }
        assert!(line.text(Split { v1: 109, v2: 1 }).ends_with("| last 5 s idle"));
    }
}
