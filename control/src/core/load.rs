//! What weights mean for one endpoint of each version.
//!
//! Owns the arithmetic and its sentence; it must never judge weights. Next: `view.rs`.

use crate::state::document::Weights;
use crate::text;
use gateway_config::wire::FULL_WEIGHT;
use std::collections::BTreeMap;

/// Usable endpoints by target.
pub type Endpoints = BTreeMap<String, u32>;

/// Percent of all requests of the route that one endpoint of each target gets. Targets without a share have 0; one that
/// has a share and no endpoint, or whose endpoints are not known, is left out.
pub fn per_endpoint(weights: &Weights, endpoints: &Endpoints) -> BTreeMap<String, f64> {
    let one = |(target, weight): (&String, &u32)| {
        if *weight == 0 {
            return Some((target.clone(), 0.0));
        }
        let number = endpoints.get(target).copied().filter(|number| *number > 0)?;
        Some((target.clone(), f64::from(*weight) * 100.0 / f64::from(FULL_WEIGHT) / f64::from(number)))
    };
    weights.iter().filter_map(one).collect()
}

/// How many times the load of a stable endpoint an endpoint of each other target with a share gets. Empty when the
/// stable has no share or no endpoints: there is nothing to compare with.
pub fn relative_to_stable(weights: &Weights, endpoints: &Endpoints, stable: &str) -> BTreeMap<String, f64> {
    let loads = per_endpoint(weights, endpoints);
    let Some(base) = loads.get(stable).copied().filter(|base| *base > 0.0) else { return BTreeMap::new() };
    let others = loads.into_iter().filter(|(target, load)| target != stable && *load > 0.0);
    others.map(|(target, load)| (target, load / base)).collect()
}

/// One sentence per target whose endpoints get another load than those of the stable: `each v2 endpoint gets 4.0 times
/// what a v1 endpoint has`. When the stable has no share after a change, what its endpoints have `before` it counts.
pub fn sentences(
    weights: &Weights,
    before: Option<&Weights>,
    endpoints: &Endpoints,
    stable: &str,
) -> Vec<String> {
    let loads = per_endpoint(weights, endpoints);
    let base_of = |loads: &BTreeMap<String, f64>| loads.get(stable).copied().filter(|base| *base > 0.0);
    let now = base_of(&loads);
    let (base, word) = match now {
        Some(base) => (base, "has"),
        None => match before.and_then(|before| base_of(&per_endpoint(before, endpoints))) {
            Some(base) => (base, "had"),
            None => return Vec::new(),
        },
    };
    let others = loads.iter().filter(|(target, load)| *target != stable && **load > 0.0);
    others
        .map(|(target, load)| (target, load / base))
        // By less than a twentieth they are the same.
        .filter(|(_, times)| format!("{times:.1}") != "1.0")
        .map(|(target, times)| {
            let times = text::times(times);
            format!("each {target} endpoint gets {times} times what a {stable} endpoint {word}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn half_of_the_traffic_on_a_quarter_of_the_endpoints_is_four_times_the_load() {
        let (weights, endpoints) = (map(&[("v1", 5_000), ("v2", 5_000)]), map(&[("v1", 4), ("v2", 1)]));
        assert_eq!(
            per_endpoint(&weights, &endpoints),
            BTreeMap::from([("v1".into(), 12.5), ("v2".into(), 50.0)])
        );
        assert_eq!(relative_to_stable(&weights, &endpoints, "v1"), BTreeMap::from([("v2".to_owned(), 4.0)]));
        assert_eq!(
            sentences(&weights, None, &endpoints, "v1"),
            ["each v2 endpoint gets 4.0 times what a v1 endpoint has"]
        );
    }

    #[test]
    fn one_percent_is_not_nothing() {
        let (weights, endpoints) = (map(&[("v1", 9_900), ("v2", 100)]), map(&[("v1", 2), ("v2", 2)]));
        assert_eq!(
            sentences(&weights, None, &endpoints, "v1"),
            ["each v2 endpoint gets 0.01 times what a v1 endpoint has"]
        );
    }

    #[test]
    fn a_stable_without_a_share_is_compared_with_before() {
        let (weights, before) = (map(&[("v1", 0), ("v2", 10_000)]), map(&[("v1", 9_900), ("v2", 100)]));
        let endpoints = map(&[("v1", 3), ("v2", 1)]);
        assert!(relative_to_stable(&weights, &endpoints, "v1").is_empty());
        assert_eq!(
            sentences(&weights, Some(&before), &endpoints, "v1"),
            ["each v2 endpoint gets 3.0 times what a v1 endpoint had"]
        );
        assert!(sentences(&weights, None, &endpoints, "v1").is_empty());
    }

    #[test]
    fn what_is_not_known_or_equal_is_not_told() {
        let weights = map(&[("v1", 5_000), ("v2", 5_000)]);
        for endpoints in
            [map(&[]), map(&[("v1", 2)]), map(&[("v1", 0), ("v2", 2)]), map(&[("v1", 2), ("v2", 2)])]
        {
            assert!(sentences(&weights, None, &endpoints, "v1").is_empty(), "{endpoints:?}");
        }
        assert!(
            sentences(&map(&[("v1", 10_000), ("v2", 0)]), None, &map(&[("v1", 1), ("v2", 1)]), "v1")
                .is_empty()
        );
    }
}
