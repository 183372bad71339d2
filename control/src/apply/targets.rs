//! Which target of a route a service of the file is.
//!
//! Owns the matching of names, from the surest to the vaguest; two that fit are an error, never a choice.
//! Next: `guard.rs`.

use super::ApplyError;
use super::properties::{Properties, explain_sum, shares};
use crate::state::document::Weights;
use gateway_config::wire::FULL_WEIGHT;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a route.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    /// The route.
    pub route: &'a str,
    /// Its targets, in the order of the configuration.
    pub targets: &'a [String],
    /// Its stable target.
    pub stable: &'a str,
    /// Names under which the backends of a target are found (Cloud Map service, first label of a host name).
    pub services: BTreeMap<String, BTreeSet<String>>,
}

/// One service of the file, and the target that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// `service1`.
    pub label: String,
    /// The target.
    pub target: String,
    /// Why this one, for people.
    pub why: String,
}

/// The names that the clusters of gateways are found under, out of `GET /v1/gateway-config`.
pub fn services(clusters: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for cluster in clusters {
        let Some(name) = cluster.get("name").and_then(Value::as_str) else { continue };
        let mut names = BTreeSet::new();
        collect(cluster, &mut names);
        found.insert(name.to_owned(), names);
    }
    found
}

fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value.as_str()) {
                    ("service_name", Some(name)) => drop(names.insert(name.to_owned())),
                    ("hostname", Some(host)) => {
                        names.extend(host.split('.').next().map(str::to_owned));
                    }
                    _ => collect(value, names),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}

/// Finds the target of every service. `given` is what the command line says: label to target.
///
/// # Errors
/// A service that is none of the targets, or could be several of them.
pub fn map(
    properties: &Properties,
    known: &Known<'_>,
    given: &BTreeMap<String, String>,
) -> Result<Vec<Mapped>, ApplyError> {
    for (label, target) in given {
        if !properties.services.iter().any(|service| service.label == *label) {
            let labels: Vec<&str> = properties.services.iter().map(|s| s.label.as_str()).collect();
            let error = format!("--map names {label}, and the file has no weight for it");
            return Err(ApplyError::new(error, format!("the file has {}", labels.join(", "))));
        }
        if !known.targets.contains(target) {
            let error = format!("--map: route {} has no target `{target}`", known.route);
            return Err(ApplyError::new(error, format!("its targets are {}", known.targets.join(", "))));
        }
    }
    let mut mapped: Vec<Mapped> = Vec::new();
    for service in &properties.services {
        let (target, why) = match (given.get(&service.label), &service.name) {
            (Some(target), _) => (target.clone(), "as --map says".to_owned()),
            (None, Some(name)) => {
                let (target, why) = find(&service.label, name, known)?;
                // Alone it cannot be checked against another one, and what is a beginning of one is one of many.
                if properties.services.len() == 1 && begins_with(&target, name) && why == BEGIN_ALIKE {
                    let error = format!("{}_name `{name}` could be {target}, or another", service.label);
                    return Err(unclear(error, &service.label, known.targets));
                }
                (target, why)
            }
            (None, None) => {
                let error = format!("the file has a weight for {0}, but no {0}_name", service.label);
                return Err(unclear(error, &service.label, known.targets));
            }
        };
        if let Some(other) = mapped.iter().find(|other| other.target == target) {
            let error = format!("{} and {} would both be {target}", other.label, service.label);
            return Err(unclear(error, &service.label, known.targets));
        }
        mapped.push(Mapped { label: service.label.clone(), target, why });
    }
    Ok(mapped)
}

fn unclear(error: String, label: &str, candidates: &[String]) -> ApplyError {
    let first = candidates.first().map_or("TARGET", String::as_str);
    ApplyError::new(error, format!("say which: --map {label}={first} (one of {})", candidates.join(", ")))
}

/// The words between names in AWS: `-`, `_`, `.` and `/`.
fn ends_with(long: &str, short: &str) -> bool {
    long.strip_suffix(short).is_some_and(|head| head.ends_with(['-', '_', '.', '/']))
}

fn begins_with(long: &str, short: &str) -> bool {
    long.strip_prefix(short).is_some_and(|tail| tail.starts_with(['-', '_', '.', '/']))
}

const BEGIN_ALIKE: &str = "the names begin alike";

/// A way to recognise a target by a service's name, and how it is said.
type Way<'a> = (&'a dyn Fn(&str) -> bool, &'static str);

fn find(label: &str, name: &str, known: &Known<'_>) -> Result<(String, String), ApplyError> {
    let found_as = |target: &str| known.services.get(target).into_iter().flatten();
    let ways: [Way<'_>; 5] = [
        (&|target| target == name, "the same name"),
        (&|target| found_as(target).any(|service| service == name), "its backends are found under this name"),
        (&|target| ends_with(name, target) || ends_with(target, name), "the names end alike"),
        (&|target| begins_with(name, target) || begins_with(target, name), BEGIN_ALIKE),
        (
            &|target| found_as(target).any(|service| ends_with(name, service) || ends_with(service, name)),
            "the name under which its backends are found ends alike",
        ),
    ];
    for (fits, why) in ways {
        let fitting: Vec<String> =
            known.targets.iter().filter(|target| fits(target.as_str())).cloned().collect();
        match fitting.as_slice() {
            [] => {}
            [target] => return Ok((target.clone(), why.to_owned())),
            _ => {
                let error = format!("{label}_name `{name}` could be {}", fitting.join(" or "));
                return Err(unclear(error, label, &fitting));
            }
        }
    }
    let error = format!("{label}_name `{name}` is none of the targets of {}", known.route);
    Err(unclear(error, label, known.targets))
}

/// The weights of the route: every target, sum 10,000. A target that the file does not name gets nothing; the stable
/// one takes the rest when it is the one that is not named.
///
/// # Errors
/// A sum that is not 100, explained.
pub fn weights(
    properties: &Properties,
    mapped: &[Mapped],
    known: &Known<'_>,
    normalize: bool,
) -> Result<Weights, ApplyError> {
    let given: Vec<u32> = properties.services.iter().map(|service| service.weight).collect();
    let sum: u32 = given.iter().sum();
    let stable_is_named = mapped.iter().any(|mapped| mapped.target == known.stable);
    let given = if normalize {
        shares(&given).ok_or_else(|| explain_sum(&properties.services))?
    } else if sum == FULL_WEIGHT || (!stable_is_named && sum < FULL_WEIGHT) {
        given
    } else {
        return Err(explain_sum(&properties.services));
    };
    let mut weights: Weights = known.targets.iter().map(|target| (target.clone(), 0)).collect();
    let rest = FULL_WEIGHT.saturating_sub(given.iter().sum());
    weights.extend(mapped.iter().map(|mapped| mapped.target.clone()).zip(given));
    if !stable_is_named && rest > 0 {
        weights.insert(known.stable.to_owned(), rest);
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::properties::read;

    fn targets(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn file(one: &str, two: &str, weights: (u32, u32)) -> Properties {
        let text = serde_json::json!({"service1_name": one, "service2_name": two,
            "traffic_weight_route1": weights.0, "traffic_weight_route2": weights.1});
        read(&text.to_string()).unwrap()
    }

    fn mapped(file: &Properties, names: &[&str], given: &[(&str, &str)]) -> Result<Vec<String>, ApplyError> {
        let names = targets(names);
        let services = [("blue".to_owned(), ["svc-stable".to_owned()].into())].into();
        let known = Known { route: "svc1", targets: &names, stable: "v1", services };
        let given = given.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Ok(map(file, &known, &given)?.into_iter().map(|mapped| mapped.target).collect())
    }

    #[test]
    fn services_are_recognised_by_equal_names_ends_beginnings_and_cloud_map() {
        for (one, two, names) in [
            ("v1", "v2", ["v1", "v2"]),
            ("service1-v1", "service1-v2", ["v1", "v2"]),
            ("the-app-svc1-v1", "the-app-svc1-v2", ["svc1-v1", "svc1-v2"]),
            ("v1", "v2", ["svc1-v1", "svc1-v2"]),
            ("v1-service", "v2-service", ["v1", "v2"]),
            ("svc-stable", "green", ["blue", "green"]),
            ("app-svc-stable", "green", ["blue", "green"]),
        ] {
            assert_eq!(mapped(&file(one, two, (90, 10)), &names, &[]).unwrap(), names, "{one} {two}");
        }
    }

    #[test]
    fn what_fits_twice_or_not_at_all_is_an_error_with_the_candidates() {
        for (one, two, names, why) in [
            ("svc", "x", ["svc-a", "svc-b"], "could be svc-a or svc-b"),
            ("old", "new", ["v1", "v2"], "`old` is none of the targets"),
            ("a-v1", "b-v1", ["v1", "v2"], "service1 and service2 would both be v1"),
            // No separator: a name that only ends in the same letters is another one.
            ("appv1", "appv2", ["v1", "v2"], "none of the targets"),
        ] {
            let error = mapped(&file(one, two, (90, 10)), &names, &[]).unwrap_err();
            assert!(error.error.contains(why), "{error}");
            assert!(error.cure.contains("--map service"), "{}", error.cure);
        }
        let given = [("service1", "v1"), ("service2", "v2")];
        assert_eq!(mapped(&file("old", "new", (90, 10)), &["v1", "v2"], &given).unwrap(), ["v1", "v2"]);
        for (given, why) in [(("service3", "v1"), "no weight for it"), (("service1", "v9"), "no target `v9`")]
        {
            let error = mapped(&file("v1", "v2", (90, 10)), &["v1", "v2"], &[given]).unwrap_err();
            assert!(error.error.contains(why), "{error}");
        }
    }

    #[test]
    fn one_service_alone_is_not_matched_by_how_a_longer_name_begins() {
        let one = read(r#"{"service1_name": "svc1", "traffic_weight_route1": 70}"#).unwrap();
        let error = mapped(&one, &["stable", "svc1-v2"], &[]).unwrap_err();
        assert!(
            error.error.contains("could be svc1-v2") && error.cure.contains("--map service1="),
            "{error}"
        );
        let two = read(r#"{"service2_name": "shop-svc1-v2", "traffic_weight_route2": 30}"#).unwrap();
        assert_eq!(mapped(&two, &["v1", "v2"], &[]).unwrap(), ["v2"]);
    }

    #[test]
    fn names_of_backends_come_out_of_clusters() {
        let clusters = [
            serde_json::json!({"name": "v1", "discovery": {"cloud_map": {"service_name": "s-v1"}}}),
            serde_json::json!({"name": "v2", "discovery": {"dns": {"hostname": "s-v2.test.app.local"}}}),
        ];
        let found = services(&clusters);
        assert!(found["v1"].contains("s-v1") && found["v2"].contains("s-v2"), "{found:?}");
    }

    #[test]
    fn weights_are_complete_and_their_sum_is_exact() {
        let names = targets(&["v1", "v2", "v3"]);
        let known = Known { route: "svc1", targets: &names, stable: "v1", ..Known::default() };
        let all = |file: &Properties, normalize| {
            let mapped = map(file, &known, &BTreeMap::new())?;
            Ok::<_, ApplyError>(weights(file, &mapped, &known, normalize)?.into_values().collect::<Vec<_>>())
        };
        assert_eq!(all(&file("v1", "v2", (70, 30)), false).unwrap(), [7_000, 3_000, 0]);
        assert_eq!(all(&file("v1", "v2", (70, 20)), true).unwrap(), [7_778, 2_222, 0]);
        assert!(all(&file("v1", "v2", (70, 20)), false).unwrap_err().error.contains("= 90, not 100"));
        assert!(all(&file("v1", "v2", (0, 0)), true).is_err());
        // The stable is not in the file: it takes the rest.
        assert_eq!(all(&file("v3", "v2", (20, 10)), false).unwrap(), [7_000, 1_000, 2_000]);
        assert!(all(&file("v3", "v2", (80, 30)), false).is_err());
    }
}
