//! app.properties.json, and the sum of its weights.
//!
//! Owns the reading of its keys and the arithmetic; it must never know the targets of a route. Next: `targets.rs`.

use super::ApplyError;
use gateway_config::weights::{format_percent, parse_percent};
use gateway_config::wire::FULL_WEIGHT;
use serde_json::{Map, Value};

/// Services that are looked for: an App Mesh route has ten weighted targets at most.
const MAX_SERVICES: usize = 10;
/// Keys that ask for more than weights.
const FLAGS: [&str; 2] = ["setLatestStable", "setLatestStableOnce"];

/// One service of the file and its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `service1`.
    pub label: String,
    /// The value of `service1_name`.
    pub name: Option<String>,
    /// The value of `traffic_weight_route1`, in hundredths.
    pub weight: u32,
}

/// What a file says about weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// By number.
    pub services: Vec<Service>,
    /// Flags that are true: the file asks for a deployment too.
    pub flags: Vec<&'static str>,
}

/// Reads a file. Keys of no meaning here are passed over: the file belongs to the pipeline.
///
/// # Errors
/// What is no such file, or has no weights, or weights that are none.
pub fn read(text: &str) -> Result<Properties, ApplyError> {
    let shape = "write {\"service1_name\": \"..-v1\", \"traffic_weight_route1\": 90, \"service2_name\": \"..-v2\", \
                 \"traffic_weight_route2\": 10}";
    let object: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| ApplyError::new(format!("not an app.properties.json: {error}"), shape))?;
    let mut services = Vec::new();
    for number in 1..=MAX_SERVICES {
        let key = format!("traffic_weight_route{number}");
        let Some(value) = object.get(&key) else { continue };
        let name = object.get(&format!("service{number}_name")).and_then(Value::as_str);
        services.push(Service {
            label: format!("service{number}"),
            name: name.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned),
            weight: weight(&key, value)?,
        });
    }
    if services.is_empty() {
        return Err(ApplyError::new("the file has no traffic_weight_route1 or traffic_weight_route2", shape));
    }
    let on = |flag: &&str| {
        object.get(*flag).is_some_and(|value| value == &Value::Bool(true) || value.as_str() == Some("true"))
    };
    Ok(Properties { services, flags: FLAGS.into_iter().filter(on).collect() })
}

fn weight(key: &str, value: &Value) -> Result<u32, ApplyError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse_percent(&text).map_err(|error| ApplyError::new(format!("{key}: {error}"), error.cure()))
}

/// Takes weights of any sum as shares of the whole, as App Mesh did; by largest remainder, so that the sum is exact.
/// None when the sum is 0.
pub fn shares(weights: &[u32]) -> Option<Vec<u32>> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if sum == 0 {
        return None;
    }
    let full = u64::from(FULL_WEIGHT);
    let parts: Vec<(u64, u64)> = weights
        .iter()
        .map(|weight| (u64::from(*weight) * full / sum, u64::from(*weight) * full % sum))
        .collect();
    let missing = full.saturating_sub(parts.iter().map(|(whole, _)| whole).sum());
    let mut order: Vec<usize> = (0..parts.len()).collect();
    // Stable: of equal remainders the first in the file gets more.
    order.sort_by_key(|index| std::cmp::Reverse(parts.get(*index).map(|(_, rest)| *rest)));
    let lucky: Vec<usize> = order.into_iter().take(usize::try_from(missing).unwrap_or(usize::MAX)).collect();
    let whole = |(index, (whole, _)): (usize, &(u64, u64))| {
        u32::try_from(whole + u64::from(lucky.contains(&index))).unwrap_or(u32::MAX)
    };
    Some(parts.iter().enumerate().map(whole).collect())
}

/// The sentence about weights whose sum is not 100: what App Mesh did with them, and what to write.
pub fn explain_sum(services: &[Service]) -> ApplyError {
    let weights: Vec<u32> = services.iter().map(|service| service.weight).collect();
    let sum: u32 = weights.iter().sum();
    let numbers: Vec<String> = weights.iter().map(|weight| format_percent(*weight)).collect();
    let error = format!("{} = {}, not 100", numbers.join(" + "), format_percent(sum));
    match shares(&weights) {
        None => ApplyError::new(
            format!("{error}: nobody would answer"),
            "give 100 to the version that is to answer",
        ),
        Some(shares) => {
            let meant: Vec<String> = services
                .iter()
                .zip(&shares)
                .map(|(service, share)| format!("{} {} %", service.label, format_percent(*share)))
                .collect();
            ApplyError::new(
                format!(
                    "{error}: App Mesh took weights as shares of their sum, which would be {}",
                    meant.join(", ")
                ),
                "write weights whose sum is 100, or add --normalize to take them as App Mesh did",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_pipelines_are_read() {
        let seed = r#"{"app_name": "a", "service1_name": "service1-v1", "service1_port": "3000",
            "service2_name": "service1-v2", "app_mesh_name": "m", "traffic_weight_route1": 70,
            "traffic_weight_route2": "30", "setLatestStableOnce": false, "setLatestStable": true}"#;
        let read = read(seed).unwrap();
        assert_eq!(read.flags, ["setLatestStable"]);
        let found: Vec<_> =
            read.services.iter().map(|s| (s.label.as_str(), s.name.as_deref().unwrap(), s.weight)).collect();
        assert_eq!(found, [("service1", "service1-v1", 7_000), ("service2", "service1-v2", 3_000)]);
    }

    #[test]
    fn what_is_no_such_file_is_told_with_the_shape() {
        for (text, why) in [
            ("", "not an app.properties.json"),
            ("[1]", "not an app.properties.json"),
            ("{\"traffic_weight_route1\": 70", "line 1"),
            ("{}", "no traffic_weight_route1"),
            (r#"{"traffic_weight_route1": -1}"#, "traffic_weight_route1: `-1` is below 0 %"),
            (r#"{"traffic_weight_route2": 101}"#, "over 100 %"),
            (r#"{"traffic_weight_route2": null}"#, "`null` is not a percentage"),
            (r#"{"traffic_weight_route2": "ten"}"#, "`ten` is not a percentage"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.error.contains(why) && !error.cure.is_empty(), "{text}: {error}");
        }
    }

    #[test]
    fn shares_are_exact_whatever_the_sum() {
        assert_eq!(shares(&[7_000, 2_000]), Some(vec![7_778, 2_222]));
        assert_eq!(shares(&[100, 100, 100]), Some(vec![3_334, 3_333, 3_333]));
        assert_eq!(shares(&[0, 0]), None);
        assert_eq!(shares(&[0, 500]), Some(vec![0, 10_000]));
    }

    #[test]
    fn another_sum_is_explained() {
        let service = |label: &str, weight| Service { label: label.to_owned(), name: None, weight };
        let error = explain_sum(&[service("service1", 7_000), service("service2", 2_000)]);
        assert!(error.error.contains("70 + 20 = 90, not 100"), "{error}");
        assert!(error.error.contains("service1 77.78 %, service2 22.22 %"), "{error}");
        assert!(error.cure.contains("--normalize"), "{error}");
        assert!(explain_sum(&[service("service1", 0)]).error.contains("nobody would answer"));
    }
}
