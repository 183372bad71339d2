//! Tests of `split.rs`: tables, textbook examples and properties.

use super::*;
use proptest::prelude::*;

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn verdict(expect: &str, pairs: &[(&str, u64)]) -> Verdict {
    judge(&expect.parse().unwrap(), &counts(pairs))
}

#[test]
fn chi_square_p_values_are_those_of_the_tables() {
    // Critical values of the chi-square distribution, as printed in any statistics book.
    for (df, statistic, p) in [
        (1, 3.841_459, 0.05),
        (1, 6.634_897, 0.01),
        (1, 15.136_705, 0.0001),
        (2, 5.991_465, 0.05),
        (3, 11.344_867, 0.01),
        (10, 29.588_298, 0.001),
    ] {
        let got = chi_square_p(statistic, df);
        assert!((got - p).abs() < p * 1e-4, "df {df}, {statistic}: {got} is not {p}");
    }
    assert_eq!(chi_square_p(0.0, 1), 1.0);
}

#[test]
fn pearsons_statistic_of_the_textbook_die() {
    // 60 throws of a die, 5 8 9 8 10 20: chi-square 13.4 with 5 degrees of freedom, p = 0.0199.
    let cells: Vec<(u64, f64)> = [5, 8, 9, 8, 10, 20].iter().map(|n| (*n, 1.0 / 6.0)).collect();
    let statistic = pearson(&cells, 60);
    assert!((statistic - 13.4).abs() < 1e-9);
    assert!((chi_square_p(statistic, 5) - 0.019_905).abs() < 1e-5);
}

#[test]
fn binomial_p_is_exact() {
    // 0 heads of 10: 2 * 2^-10. 8 heads of 10: 2 * 56 / 1024. 5 of 10: no evidence at all.
    assert!((binomial_p(0, 10, 0.5) - 2.0 / 1024.0).abs() < 1e-12);
    assert!((binomial_p(8, 10, 0.5) - 112.0 / 1024.0).abs() < 1e-12);
    assert_eq!(binomial_p(5, 10, 0.5), 1.0);
}

#[test]
fn wilson_is_newcombes_example() {
    // Newcombe 1998, 81 of 263: 0.2553 to 0.3662.
    let (low, high) = wilson(81, 263);
    assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
    assert_eq!(wilson(0, 0), (0.0, 1.0));
    assert_eq!(wilson(0, 10).0, 0.0);
}

#[test]
fn a_split_as_asked_is_accepted() {
    let v = verdict("v1=90,v2=10", &[("v1", 18_024), ("v2", 1_976)]);
    assert_eq!(v.method, Method::ChiSquare);
    assert!((v.chi_square - 0.32).abs() < 1e-9 && v.accepted, "{v:?}");
}

#[test]
fn a_split_that_is_off_is_refused() {
    let v = verdict("v1=90,v2=10", &[("v1", 17_800), ("v2", 2_200)]);
    assert!(!v.accepted && v.p_value < THRESHOLD && v.reasons[0].contains("off"), "{v:?}");
    assert!(!verdict("v1=90,v2=10", &[("v1", 20_000)]).accepted);
}

#[test]
fn weight_zero_gets_no_traffic_not_even_once() {
    let v = verdict("v1=100,v2=0", &[("v1", 1_000_000), ("v2", 1)]);
    assert!(!v.accepted && v.reasons[0].contains("`v2`"), "{v:?}");
    assert!(verdict("v1=100,v2=0", &[("v1", 1_000_000)]).accepted);
}

#[test]
fn an_unnamed_version_is_refused() {
    let v = verdict("v1=90,v2=10", &[("v1", 90), ("v2", 10), ("v3", 1)]);
    assert!(!v.accepted && v.reasons[0].contains("`v3`"), "{v:?}");
}

#[test]
fn no_answers_are_not_a_good_split() {
    assert!(!verdict("v1=90,v2=10", &[]).accepted);
    assert!(!verdict("v1=100", &[]).accepted);
}

#[test]
fn a_rare_version_is_judged_exactly_where_chi_square_would_cry_wolf() {
    // Two answers where a tenth of one is expected: chi-square says 2e-9, the truth is 1 in 50.
    let v = verdict("v1=99.99,v2=0.01", &[("v1", 998), ("v2", 2)]);
    assert_eq!(v.method, Method::ExactBinomial);
    assert!(chi_square_p(v.chi_square, 1) < THRESHOLD && v.p_value > 0.001 && v.accepted, "{v:?}");
}

#[test]
fn expectations_are_percent_with_two_decimals() {
    assert_eq!("v1=99.99,v2=0.01".parse::<Expected>().unwrap().share("v2"), Some(0.0001));
    assert_eq!(" v1 = 90% , v2 = 10 % ".parse::<Expected>().unwrap().share("v1"), Some(0.9));
    assert!(matches!("v1".parse::<Expected>(), Err(ExpectError::Item(_))));
    assert!(matches!("".parse::<Expected>(), Err(ExpectError::Item(_))));
    assert!(matches!("=100".parse::<Expected>(), Err(ExpectError::Item(_))));
    assert!(matches!("v1=ninety".parse::<Expected>(), Err(ExpectError::Item(_))));
    assert!(matches!("v1=-10,v2=110".parse::<Expected>(), Err(ExpectError::Share(_))));
    assert!(matches!("v1=NaN".parse::<Expected>(), Err(ExpectError::Share(_))));
    assert!(matches!("v1=99.999,v2=0.001".parse::<Expected>(), Err(ExpectError::Share(_))));
    assert!(matches!("v1=50,v1=50".parse::<Expected>(), Err(ExpectError::Twice(_))));
    assert_eq!("v1=90,v2=20".parse::<Expected>(), Err(ExpectError::Sum("110".into())));
}

proptest! {
    #[test]
    fn a_perfect_split_has_p_one(share in 1u32..10_000, scale in 1u64..1_000) {
        let expect = format!("a={},b={}", f64::from(share) / 100.0, f64::from(10_000 - share) / 100.0);
        let v = verdict(&expect, &[("a", u64::from(share) * scale), ("b", u64::from(10_000 - share) * scale)]);
        prop_assert!(v.accepted && v.p_value > 0.99, "{:?}", v);
    }

    #[test]
    fn being_farther_off_never_raises_p(total in 1_000u64..100_000, off in 0u64..200) {
        let at = |n: u64| verdict("a=50,b=50", &[("a", total + n), ("b", total - n)]).p_value;
        prop_assert!(at(off + 1) <= at(off));
    }

    #[test]
    fn p_is_a_probability_and_the_order_of_names_does_not_matter(a in 0u64..100_000, b in 0u64..100_000, c in 0u64..100_000) {
        let v = verdict("a=70,b=20,c=10", &[("a", a), ("b", b), ("c", c)]);
        let w = verdict("c=10,a=70,b=20", &[("a", a), ("b", b), ("c", c)]);
        prop_assert!((0.0..=1.0).contains(&v.p_value));
        prop_assert!((v.p_value - w.p_value).abs() < 1e-9);
        prop_assert_eq!(v.accepted, w.accepted);
    }

    #[test]
    fn a_wilson_interval_holds_the_observed_share(total in 1u64..1_000_000, part in 0.0f64..=1.0) {
        let count = (total as f64 * part) as u64;
        let (low, high) = wilson(count, total);
        let share = count as f64 / total as f64;
        prop_assert!(low <= share + 1e-12 && share <= high + 1e-12);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,40}") {
        let _ = text.parse::<Expected>();
    }
}
