//! Whether the versions got the shares that were asked for.
//!
//! Owns the test: Pearson's chi-square where every version is expected at least five times, else an exact
//! binomial test of each version (Bonferroni over the versions), because at one request in ten thousand
//! chi-square calls honest splits wrong. A version with weight 0 that answers at all is off, whatever the
//! rest says. Must never see a clock or a socket. Next: `report.rs`.

use serde::Serialize;
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Below this p the split is called off: one honest run in ten thousand fails.
pub const THRESHOLD: f64 = 0.0001;

/// The rule of thumb for chi-square: every expected count at least this.
const CHI_SQUARE_MIN_EXPECTED: f64 = 5.0;

/// Two-sided 95 % of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// Hundredths of a percent in the whole.
const WHOLE: u32 = 10_000;

/// Shares asked for, in hundredths of a percent, summing up to 100 %.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(Vec<(String, u32)>);

/// Why `--expect` was refused; the text names the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpectError {
    /// No `=`, no name, or not a number.
    #[error("`{0}` is not NAME=PERCENT; write the shares as v1=90,v2=10 or v1=99.99,v2=0.01")]
    Item(String),
    /// Negative, above 100, or finer than a hundredth of a percent.
    #[error("the share in `{0}` must be from 0 to 100 with at most two decimals")]
    Share(String),
    /// The same name twice.
    #[error("`{0}` is named twice; give each version one share")]
    Twice(String),
    /// The sum is not 100.
    #[error("the shares sum up to {0}, not 100; they are percent, for example v1=90,v2=10")]
    Sum(String),
}

impl FromStr for Expected {
    type Err = ExpectError;

    fn from_str(text: &str) -> Result<Self, ExpectError> {
        let mut shares: Vec<(String, u32)> = Vec::new();
        for item in text.split(',').map(str::trim) {
            let (name, share) = item.split_once('=').ok_or_else(|| ExpectError::Item(item.to_owned()))?;
            let (name, share) = (name.trim(), share.trim().trim_end_matches('%').trim_end());
            let percent: f64 = share.parse().map_err(|_| ExpectError::Item(item.to_owned()))?;
            if name.is_empty() {
                return Err(ExpectError::Item(item.to_owned()));
            }
            let hundredths = (percent * 100.0).round();
            let fine = (percent * 100.0 - hundredths).abs() < 1e-6;
            if !(0.0..=100.0).contains(&percent) || !fine {
                return Err(ExpectError::Share(item.to_owned()));
            }
            if shares.iter().any(|(other, _)| other == name) {
                return Err(ExpectError::Twice(name.to_owned()));
            }
            shares.push((name.to_owned(), hundredths as u32));
        }
        let sum: u32 = shares.iter().map(|(_, share)| share).sum();
        if sum != WHOLE {
            return Err(ExpectError::Sum(format!("{}", f64::from(sum) / 100.0)));
        }
        Ok(Self(shares))
    }
}

impl Expected {
    /// Names with their shares as fractions of 1, in the order given.
    pub fn shares(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, share)| (name.as_str(), f64::from(*share) / f64::from(WHOLE)))
    }

    /// The share of `name` as a fraction of 1, if it is named.
    #[must_use]
    pub fn share(&self, name: &str) -> Option<f64> {
        self.shares().find(|(other, _)| *other == name).map(|(_, share)| share)
    }
}

/// How the split was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Pearson's chi-square.
    ChiSquare,
    /// Exact binomial test of each version, Bonferroni.
    ExactBinomial,
    /// Only one version can answer: nothing is left to chance.
    Certain,
}

/// The outcome of the test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// How it was tested.
    pub method: Method,
    /// Pearson's statistic (also shown when the exact test decides).
    pub chi_square: f64,
    /// Versions with a share above 0, less one.
    pub degrees_of_freedom: u64,
    /// Probability of a split at least this far off when the shares are as asked.
    pub p_value: f64,
    /// [`THRESHOLD`].
    pub threshold: f64,
    /// Whether the split is as asked.
    pub accepted: bool,
    /// Why not; empty when accepted.
    pub reasons: Vec<String>,
}

/// Tests observed counts against the expected shares.
#[must_use]
pub fn judge(expected: &Expected, counts: &BTreeMap<String, u64>) -> Verdict {
    let mut reasons = Vec::new();
    for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
        match expected.share(name) {
            None => reasons.push(format!("{count} answers came from `{name}`, which is not in --expect")),
            Some(0.0) => reasons.push(format!("{count} answers came from `{name}`, whose share is 0")),
            Some(_) => {}
        }
    }
    let cells: Vec<(u64, f64)> = expected
        .shares()
        .filter(|(_, share)| *share > 0.0)
        .map(|(name, share)| (counts.get(name).copied().unwrap_or(0), share))
        .collect();
    let total: u64 = cells.iter().map(|(count, _)| count).sum();
    let degrees_of_freedom = cells.len().saturating_sub(1) as u64;
    let chi_square = pearson(&cells, total);
    let smallest = cells.iter().map(|(_, share)| share * total as f64).fold(f64::INFINITY, f64::min);
    let (method, p_value) = if total == 0 {
        reasons.push("no answer came from any expected version".to_owned());
        (Method::Certain, 1.0)
    } else if degrees_of_freedom == 0 {
        (Method::Certain, 1.0)
    } else if smallest >= CHI_SQUARE_MIN_EXPECTED {
        (Method::ChiSquare, chi_square_p(chi_square, degrees_of_freedom))
    } else {
        (Method::ExactBinomial, exact_p(&cells, total))
    };
    if p_value < THRESHOLD {
        reasons.push(format!("the split is off: p = {p_value:.2e} is below {THRESHOLD}"));
    }
    let accepted = reasons.is_empty();
    Verdict { method, chi_square, degrees_of_freedom, p_value, threshold: THRESHOLD, accepted, reasons }
}

fn pearson(cells: &[(u64, f64)], total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    let term = |(count, share): &(u64, f64)| {
        let expected = share * total as f64;
        (*count as f64 - expected).powi(2) / expected
    };
    cells.iter().map(term).sum()
}

/// Probability that a chi-square variable exceeds `statistic`.
#[must_use]
pub fn chi_square_p(statistic: f64, degrees_of_freedom: u64) -> f64 {
    // Refused only for zero degrees of freedom, where there is nothing to test.
    ChiSquared::new(degrees_of_freedom as f64).map_or(1.0, |d| d.sf(statistic))
}

fn exact_p(cells: &[(u64, f64)], total: u64) -> f64 {
    let smallest = cells.iter().map(|(count, share)| binomial_p(*count, total, *share)).fold(1.0, f64::min);
    (smallest * cells.len() as f64).min(1.0)
}

/// Two-sided exact probability of `count` or something farther off among `total` at a share of `share`:
/// twice the smaller tail, at most 1.
#[must_use]
pub fn binomial_p(count: u64, total: u64, share: f64) -> f64 {
    let Ok(binomial) = Binomial::new(share, total) else { return 1.0 };
    let at_most = binomial.cdf(count);
    let at_least = count.checked_sub(1).map_or(1.0, |below| binomial.sf(below));
    (2.0 * at_most.min(at_least)).min(1.0)
}

/// Wilson's 95 % interval for a share, as fractions of 1.
#[must_use]
pub fn wilson(count: u64, total: u64) -> (f64, f64) {
    if total == 0 {
        return (0.0, 1.0);
    }
    let (n, p, z2) = (total as f64, count as f64 / total as f64, Z_95 * Z_95);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
