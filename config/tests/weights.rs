//! Weights as people write them, and their rounding for App Mesh.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use std::collections::BTreeMap;

use gateway_config::weights::{
    WeightError, format_percent, largest_remainder, parse_assignments, parse_percent, to_app_mesh,
};
use gateway_config::wire::FULL_WEIGHT;
use proptest::collection::vec;
use proptest::prelude::*;

fn targets(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn assign(args: &[&str]) -> Result<Vec<u32>, WeightError> {
    parse_assignments(args, &targets(&["v1", "v2", "v3"]), "v1")
        .map(|weights| weights.into_values().collect())
}

#[test]
fn a_percentage_is_read_exactly_to_hundredths() {
    for (text, hundredths) in [
        ("0", 0),
        ("90", 9_000),
        ("90%", 9_000),
        (" 10 % ", 1_000),
        ("0.25%", 25),
        ("0.5", 50),
        ("33.33", 3_333),
        ("1.10", 110),
        ("1.1000", 110),
        ("007", 700),
        ("100.00", 10_000),
        ("-0", 0),
    ] {
        assert_eq!(parse_percent(text), Ok(hundredths), "{text}");
    }
}

#[test]
fn what_is_no_percentage_is_refused_with_a_cure() {
    type Is = fn(&WeightError) -> bool;
    let cases: [(&str, Is); 13] = [
        ("", |e| matches!(e, WeightError::NotANumber(_))),
        ("%", |e| matches!(e, WeightError::NotANumber(_))),
        ("ten", |e| matches!(e, WeightError::NotANumber(_))),
        ("1e1", |e| matches!(e, WeightError::NotANumber(_))),
        ("5.", |e| matches!(e, WeightError::NotANumber(_))),
        (".5", |e| matches!(e, WeightError::NotANumber(_))),
        ("1,5", |e| matches!(e, WeightError::NotANumber(_))),
        ("+5", |e| matches!(e, WeightError::NotANumber(_))),
        ("5%%", |e| matches!(e, WeightError::NotANumber(_))),
        ("-1", |e| matches!(e, WeightError::Negative(_))),
        ("0.001", |e| matches!(e, WeightError::TooFine(_))),
        ("100.01", |e| matches!(e, WeightError::TooLarge(_))),
        ("99999999999999999999", |e| matches!(e, WeightError::TooLarge(_))),
    ];
    for (text, expected) in cases {
        let error = parse_percent(text).expect_err(text);
        assert!(expected(&error), "{text}: {error:?}");
        assert!(!error.cure().is_empty() && !error.to_string().is_empty());
    }
}

#[test]
fn all_targets_named_must_sum_to_a_hundred() {
    assert_eq!(assign(&["v1=90", "v2=9.75%", "v3=0.25"]), Ok(vec![9_000, 975, 25]));
    assert_eq!(assign(&["v1=90", "v2=10", "v3=1"]), Err(WeightError::Sum(10_100)));
    assert_eq!(assign(&["v1=100", "v2=100", "v3=100"]), Err(WeightError::Sum(30_000)));
}

#[test]
fn the_stable_takes_the_rest() {
    assert_eq!(assign(&["v2=10%", "v3=0"]), Ok(vec![9_000, 1_000, 0]));
    assert_eq!(assign(&["v2=100", "v3=0"]), Ok(vec![0, 10_000, 0]));
    assert_eq!(assign(&["v2=60", "v3=60"]), Err(WeightError::Over(12_000)));
    let two = parse_assignments(&["v2=10%"], &targets(&["v1", "v2"]), "v1").unwrap();
    assert_eq!(two["v1"], 9_000);
}

#[test]
fn a_target_that_is_unknown_missing_repeated_or_without_equals_is_refused() {
    assert_eq!(assign(&[]), Err(WeightError::Nothing));
    assert_eq!(assign(&["v2"]), Err(WeightError::NoEquals("v2".to_owned())));
    assert_eq!(assign(&["=10"]), Err(WeightError::NoTarget("=10".to_owned())));
    assert_eq!(assign(&["v2=10", "v2=20"]), Err(WeightError::Twice("v2".to_owned())));
    assert!(matches!(assign(&["v9=10"]), Err(WeightError::UnknownTarget { .. })));
    let missing = assign(&["v2=10"]).unwrap_err();
    assert_eq!(missing.to_string(), "no weight is given for v3");
    assert!(missing.cure().contains("`v1`"), "{}", missing.cure());
}

#[test]
fn an_unknown_target_names_the_one_that_was_meant_or_all() {
    let known = targets(&["stable", "canary"]);
    let error = parse_assignments(&["canry=10"], &known, "stable").unwrap_err();
    assert_eq!(error.cure(), "did you mean `canary`?");
    let error = parse_assignments(&["moon=10"], &known, "stable").unwrap_err();
    assert_eq!(error.cure(), "its targets are: stable, canary");
}

#[test]
fn percentages_print_without_needless_decimals() {
    for (hundredths, text) in
        [(0, "0"), (9_900, "99"), (25, "0.25"), (1_250, "12.5"), (5, "0.05"), (10_000, "100")]
    {
        assert_eq!(format_percent(hundredths), text);
    }
}

#[test]
fn app_mesh_gets_whole_percents_as_they_are_and_others_by_largest_remainder() {
    let app_mesh = |weights: &[u32]| -> Vec<u32> {
        let named: BTreeMap<String, u32> =
            weights.iter().enumerate().map(|(n, w)| (format!("v{n}"), *w)).collect();
        to_app_mesh(&named).into_values().collect()
    };
    assert_eq!(app_mesh(&[9_900, 100]), [99, 1]);
    assert_eq!(app_mesh(&[0, 5_000]), [0, 50], "a sum below 100 stays");
    assert_eq!(app_mesh(&[9_975, 25]), [99, 1], "non-zero is at least 1");
    assert_eq!(app_mesh(&[10_000, 0]), [100, 0], "zero stays 0");
    assert_eq!(app_mesh(&[3_334, 3_333, 3_333]), [34, 33, 33]);
    assert_eq!(app_mesh(&[9_997, 1, 1, 1]), [97, 1, 1, 1]);
    assert_eq!(app_mesh(&[0, 0]), [0, 0]);
}

#[test]
fn with_more_targets_than_percents_the_largest_have_one_each() {
    let weights: Vec<u32> = (1..=5).collect();
    assert_eq!(largest_remainder(&weights, 3), [0, 0, 1, 1, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_reading_a_percentage_is_the_identity(hundredths in 0..=FULL_WEIGHT) {
        prop_assert_eq!(parse_percent(&format_percent(hundredths)), Ok(hundredths));
    }

    #[test]
    fn reading_a_percentage_never_panics(text in ".{0,12}") {
        if let Ok(hundredths) = parse_percent(&text) {
            prop_assert!(hundredths <= FULL_WEIGHT);
        }
    }

    #[test]
    fn accepted_assignments_name_every_target_and_sum_to_full(a in 0_u32..12_000, b in 0_u32..12_000) {
        let args = [format!("v2={}", format_percent(a)), format!("v3={}", format_percent(b))];
        match parse_assignments(&args, &targets(&["v1", "v2", "v3"]), "v1") {
            Ok(weights) => {
                prop_assert_eq!(weights.len(), 3);
                prop_assert_eq!(weights.values().sum::<u32>(), FULL_WEIGHT);
                prop_assert_eq!((weights["v2"], weights["v3"]), (a, b));
            }
            Err(_) => prop_assert!(a > FULL_WEIGHT || b > FULL_WEIGHT || a + b > FULL_WEIGHT),
        }
    }

    #[test]
    fn largest_remainder_keeps_its_promises(
        weights in vec(prop_oneof![Just(0_u32), 1_u32..200, 1_u32..=FULL_WEIGHT, any::<u32>()], 1..20),
        total in 20_u32..=1_000,
    ) {
        let parts = largest_remainder(&weights, total);
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        prop_assert_eq!(parts.len(), weights.len());
        prop_assert_eq!(parts.iter().sum::<u32>(), if sum == 0 { 0 } else { total });
        for (weight, part) in weights.iter().zip(&parts) {
            prop_assert_eq!(*weight == 0, *part == 0, "zero stays 0, non-zero is at least 1");
        }
        for (a, x) in weights.iter().zip(&parts) {
            for (b, y) in weights.iter().zip(&parts) {
                prop_assert!(a >= b || x <= y, "a larger weight never gets less: {:?} {:?}", weights, parts);
                prop_assert!(a != b || x.abs_diff(*y) <= 1, "equal weights differ by at most 1");
            }
        }
        // Without a weight below one part, nobody is further than one part from the exact share.
        let shares: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * u64::from(total)).collect();
        if sum > 0 && shares.iter().all(|share| *share == 0 || *share >= sum) {
            for (share, part) in shares.iter().zip(&parts) {
                prop_assert!((u64::from(*part) * sum).abs_diff(*share) < sum);
            }
        }
    }

    #[test]
    fn app_mesh_weights_sum_to_at_most_a_hundred(weights in vec(0..=FULL_WEIGHT, 1..10)) {
        let named: BTreeMap<String, u32> = weights.iter().enumerate().map(|(n, w)| (format!("v{n}"), *w)).collect();
        let sent = to_app_mesh(&named);
        prop_assert!(sent.values().sum::<u32>() <= 100);
        for (name, weight) in &named {
            prop_assert_eq!(*weight == 0, sent[name] == 0);
        }
    }
}
