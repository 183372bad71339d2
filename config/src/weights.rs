//! Weights as people write them and as App Mesh takes them.
//!
//! Owns the reading and printing of percentages with two decimals, `v1=90 v2=10`, and the rounding to whole
//! percents; it must never know which weights are in force. All arithmetic is exact. Next: `wire.rs` (how weights
//! travel), then control's `set-weight`.

use std::collections::BTreeMap;

use crate::diagnostic::did_you_mean;
use crate::scalar::shorten;
use crate::wire::FULL_WEIGHT;

/// App Mesh: the weights of a route are whole numbers from 0 to 100.
pub const APP_MESH_TOTAL: u32 = 100;

/// Why weights are refused. The text says what is wrong, [`WeightError::cure`] what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// No assignment at all.
    #[error("no weight is given")]
    Nothing,
    /// `v2` instead of `v2=10`.
    #[error("`{0}` is not of the form TARGET=WEIGHT")]
    NoEquals(String),
    /// `=10`.
    #[error("`{0}` names no target")]
    NoTarget(String),
    /// Not a percentage.
    #[error("`{0}` is not a percentage")]
    NotANumber(String),
    /// More than two decimals.
    #[error("`{0}` has more than two decimals")]
    TooFine(String),
    /// Below zero.
    #[error("`{0}` is below 0 %")]
    Negative(String),
    /// Over 100.
    #[error("`{0}` is over 100 %")]
    TooLarge(String),
    /// A target that the route does not have.
    #[error("the route has no target `{name}`")]
    UnknownTarget {
        /// As given.
        name: String,
        /// The route's targets.
        known: Vec<String>,
    },
    /// One target twice.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// Targets other than the stable are missing.
    #[error("no weight is given for {}", .missing.join(", "))]
    Missing {
        /// Without weight.
        missing: Vec<String>,
        /// The one that may be left out.
        stable: String,
    },
    /// All are named, and the sum is not 100 %.
    #[error("the weights sum up to {} %, not 100 %", format_percent(*.0))]
    Sum(u32),
    /// The named ones leave nothing, or less, for the stable.
    #[error("the weights sum up to {} %: more than 100 %", format_percent(*.0))]
    Over(u32),
}

impl WeightError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Nothing | Self::NoTarget(_) => {
                "write `v1=90 v2=10`, or `v2=10` and the stable takes the rest".to_owned()
            }
            Self::NoEquals(text) => format!("write `{text}=10` for ten percent"),
            Self::NotANumber(_) => {
                "write a number from 0 to 100 with at most two decimals: 10, 10%, 0.25%".to_owned()
            }
            Self::TooFine(_) => "the finest step is 0.01 %".to_owned(),
            Self::Negative(_) => "0 sends nothing to a target".to_owned(),
            Self::TooLarge(_) => "the weights of all targets sum up to 100".to_owned(),
            Self::UnknownTarget { name, known } => match did_you_mean(name, known.iter().map(String::as_str))
            {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its targets are: {}", known.join(", ")),
            },
            Self::Twice(_) => "keep one of the two".to_owned(),
            Self::Missing { stable, .. } => {
                format!("name every target; only `{stable}`, the stable one, may be left out")
            }
            Self::Sum(_) => {
                "correct one of them, or leave out the stable target: it takes the rest".to_owned()
            }
            Self::Over(_) => "lower one of them".to_owned(),
        }
    }
}

/// Reads a percentage into hundredths of a percent: `90`, `90%`, `0.25 %`.
///
/// # Errors
/// Anything that is not a number from 0 to 100 with at most two decimals.
pub fn parse_percent(text: &str) -> Result<u32, WeightError> {
    let trimmed = text.trim();
    let number = trimmed.strip_suffix('%').unwrap_or(trimmed).trim_end();
    let shown = || shorten(trimmed);
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let dangling = unsigned.ends_with('.');
    if whole.is_empty() || dangling || !digits(whole) || !digits(part) {
        return Err(WeightError::NotANumber(shown()));
    }
    let fine = part.trim_end_matches('0');
    let zero = whole.bytes().all(|b| b == b'0') && fine.is_empty();
    if number.starts_with('-') && !zero {
        return Err(WeightError::Negative(shown()));
    }
    if fine.len() > 2 {
        return Err(WeightError::TooFine(shown()));
    }
    // Both parts are digits; only the whole one can be too long for a number.
    let whole: u32 = whole.parse().map_err(|_| WeightError::TooLarge(shown()))?;
    let part: u32 = format!("{fine:0<2}").parse().unwrap_or_default();
    match whole.checked_mul(100).and_then(|whole| whole.checked_add(part)) {
        Some(hundredths) if hundredths <= FULL_WEIGHT => Ok(hundredths),
        _ => Err(WeightError::TooLarge(shown())),
    }
}

/// Prints hundredths of a percent without needless decimals: `99`, `0.25`, `12.5`.
pub fn format_percent(hundredths: u32) -> String {
    let (whole, part) = (hundredths / 100, hundredths % 100);
    match (part, part % 10) {
        (0, _) => whole.to_string(),
        (_, 0) => format!("{whole}.{}", part / 10),
        _ => format!("{whole}.{part:02}"),
    }
}

/// Reads what `set-weight` gets, one `TARGET=WEIGHT` per element: every target named, or all but the stable, which
/// then takes the rest. The answer holds every target of the route, in hundredths of a percent that sum up to
/// [`FULL_WEIGHT`].
///
/// # Errors
/// The first fault, in the order of the arguments.
pub fn parse_assignments<S: AsRef<str>>(
    args: &[S],
    targets: &[String],
    stable: &str,
) -> Result<BTreeMap<String, u32>, WeightError> {
    let mut named: BTreeMap<String, u32> = BTreeMap::new();
    for arg in args {
        let arg = arg.as_ref();
        let (name, weight) = arg.split_once('=').ok_or_else(|| WeightError::NoEquals(shorten(arg)))?;
        let name = name.trim();
        if name.is_empty() {
            return Err(WeightError::NoTarget(shorten(arg)));
        }
        if !targets.iter().any(|target| target == name) {
            return Err(WeightError::UnknownTarget { name: shorten(name), known: targets.to_vec() });
        }
        if named.insert(name.to_owned(), parse_percent(weight)?).is_some() {
            return Err(WeightError::Twice(shorten(name)));
        }
    }
    complete(named, targets, stable)
}

/// Fills in the stable target when it alone is missing, and checks the sum. `named` holds known targets only.
///
/// # Errors
/// [`WeightError::Nothing`], [`WeightError::Missing`], [`WeightError::Sum`] or [`WeightError::Over`].
pub fn complete(
    mut named: BTreeMap<String, u32>,
    targets: &[String],
    stable: &str,
) -> Result<BTreeMap<String, u32>, WeightError> {
    if named.is_empty() {
        return Err(WeightError::Nothing);
    }
    let missing: Vec<String> =
        targets.iter().filter(|target| *target != stable && !named.contains_key(*target)).cloned().collect();
    if !missing.is_empty() {
        return Err(WeightError::Missing { missing, stable: stable.to_owned() });
    }
    let sum = named.values().fold(0_u32, |sum, weight| sum.saturating_add(*weight));
    if named.contains_key(stable) {
        return if sum == FULL_WEIGHT { Ok(named) } else { Err(WeightError::Sum(sum)) };
    }
    let rest = FULL_WEIGHT.checked_sub(sum).ok_or(WeightError::Over(sum))?;
    named.insert(stable.to_owned(), rest);
    Ok(named)
}

/// Weights in hundredths of a percent as whole percents for App Mesh: as they are when all are whole, else by
/// [`largest_remainder`] to a sum of [`APP_MESH_TOTAL`].
pub fn to_app_mesh(weights: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let fits = weights.values().map(|weight| u64::from(*weight)).sum::<u64>() <= u64::from(FULL_WEIGHT);
    if fits && weights.values().all(|weight| weight % 100 == 0) {
        return weights.iter().map(|(name, weight)| (name.clone(), weight / 100)).collect();
    }
    let values: Vec<u32> = weights.values().copied().collect();
    weights.keys().cloned().zip(largest_remainder(&values, APP_MESH_TOTAL)).collect()
}

/// Scales weights to whole numbers that sum up to `total`: zero stays 0, non-zero is at least 1, the rest by the
/// largest remainder, equal remainders in the order given. A larger weight never gets less than a smaller one.
///
/// All zero gives all zero. With more than `total` weights over zero not each can have 1: the largest have it.
pub fn largest_remainder(weights: &[u32], total: u32) -> Vec<u32> {
    let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    let live = weights.iter().filter(|weight| **weight > 0).count();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    if live > total as usize {
        return one_for_the_largest(weights, total);
    }
    // In units of 1/sum, so that every comparison is exact: share = weight * total, given = parts * sum.
    let shares: Vec<i128> = weights.iter().map(|weight| i128::from(*weight) * i128::from(total)).collect();
    let mut parts: Vec<i128> =
        shares.iter().map(|share| if *share > 0 { (share / sum).max(1) } else { 0 }).collect();
    let mut left = i128::from(total) - parts.iter().sum::<i128>();
    while left != 0 {
        // Excess = what a target has over its share. Give to the least, take from the most that has more than 1.
        let excess = shares.iter().zip(&parts).enumerate().filter(|(_, (share, _))| **share > 0);
        let excess = excess.map(|(index, (share, part))| (index, *part, *part * sum - *share));
        let chosen = if left > 0 {
            excess.min_by_key(|(_, _, excess)| *excess)
        } else {
            excess.filter(|(_, part, _)| *part > 1).max_by_key(|(_, _, excess)| *excess)
        };
        let Some(part) = chosen.and_then(|(index, _, _)| parts.get_mut(index)) else { break };
        *part += left.signum();
        left -= left.signum();
    }
    parts.into_iter().map(|part| u32::try_from(part).unwrap_or(total)).collect()
}

fn one_for_the_largest(weights: &[u32], total: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(weights.get(*index).copied()));
    let winners: Vec<usize> = order.into_iter().take(total as usize).collect();
    (0..weights.len()).map(|index| u32::from(winners.contains(&index))).collect()
}
