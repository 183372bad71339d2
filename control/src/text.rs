//! Weights and times in words, the same in answers, logs and on the terminal.
//!
//! Owns no data. Next: `cli/`.

use crate::state::document::Weights;
use gateway_config::weights::format_percent;

/// `v1 99 %, v2 1 %`, in the order of `targets`, then any others.
pub fn weights(targets: &[String], weights: &Weights) -> String {
    let known = targets.iter().filter_map(|target| weights.get_key_value(target));
    let others = weights.iter().filter(|(target, _)| !targets.contains(target));
    let parts: Vec<String> = known
        .chain(others)
        .map(|(target, weight)| format!("{target} {} %", format_percent(*weight)))
        .collect();
    parts.join(", ")
}

/// The same for weights of any sum, as a gateway tells them.
pub fn shares(targets: &[String], shares: &std::collections::BTreeMap<String, u32>) -> String {
    let sum: u64 = shares.values().map(|weight| u64::from(*weight)).sum();
    if sum == 0 {
        return "nothing".to_owned();
    }
    let full = u64::from(gateway_config::wire::FULL_WEIGHT);
    let scaled: Weights = shares
        .iter()
        .map(|(target, weight)| {
            (target.clone(), u32::try_from(u64::from(*weight) * full / sum).unwrap_or(u32::MAX))
        })
        .collect();
    weights(targets, &scaled)
}

/// `850 ms`, `12 s`, `3 min`, `2 h`.
pub fn duration_ms(ms: u64) -> String {
    match ms {
        0..=9_999 if !ms.is_multiple_of(1_000) => format!("{ms} ms"),
        0..=119_999 => format!("{} s", ms / 1_000),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Unix milliseconds as RFC 3339 in UTC.
pub fn timestamp(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// How many times one load is another: one digit behind the point from 1, two significant digits below, so that the
/// share of a canary of 1 % is not `0.0`.
pub fn times(times: f64) -> String {
    // Rounded first: 0.999 is `1.0`.
    match format!("{times:.1e}").parse::<f64>() {
        Ok(rounded) if rounded < 1.0 => rounded.to_string(),
        _ => format!("{times:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_in_the_order_of_the_configuration() {
        let map = Weights::from([("a".to_owned(), 50), ("b".to_owned(), 9_950)]);
        let targets = ["b".to_owned(), "a".to_owned()];
        assert_eq!(weights(&targets, &map), "b 99.5 %, a 0.5 %");
    }

    #[test]
    fn shares_of_any_sum_become_percent() {
        let map = Weights::from([("a".to_owned(), 1), ("b".to_owned(), 3)]);
        assert_eq!(shares(&[], &map), "a 25 %, b 75 %");
        assert_eq!(shares(&[], &Weights::new()), "nothing");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration_ms(11), "11 ms");
        assert_eq!(duration_ms(12_345), "12 s");
        assert_eq!(duration_ms(600_000), "10 min");
    }

    #[test]
    fn a_small_load_is_told_in_two_digits() {
        for (number, text) in [
            (0.000_1, "0.0001"),
            (1.0 / 99.0, "0.01"),
            (1.0 / 9.0, "0.11"),
            (0.5, "0.5"),
            (0.999, "1.0"),
            (1.0, "1.0"),
            (4.0, "4.0"),
            (99.0, "99.0"),
        ] {
            assert_eq!(times(number), text);
        }
    }
}
