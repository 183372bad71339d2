//! `/stats?format=json` in Envoy's shape: a list of names and values, the histograms as its last member.
//!
//! Owns that shape only. Next: `prometheus.rs`.

use super::histogram::QUANTILES;
use super::{Sample, Value, sort_by_name};
use serde_json::{Value as Json, json};

/// Prints samples by name as one object.
pub fn json(samples: &mut [Sample]) -> String {
    sort_by_name(samples);
    let mut stats = Vec::with_capacity(samples.len() + 1);
    let mut quantiles = Vec::new();
    for sample in samples.iter() {
        match &sample.value {
            Value::Counter(value) | Value::Gauge(value) => {
                stats.push(json!({ "name": sample.name, "value": value }));
            }
            Value::Fraction(value) => stats.push(json!({ "name": sample.name, "value": value })),
            Value::Histogram(distribution) => {
                // No intervals are kept; Envoy's word for a missing value is null.
                let value = |percent| {
                    json!({
                        "cumulative": distribution.quantile_ms(percent).map(short),
                        "interval": null,
                    })
                };
                let values: Vec<Json> = QUANTILES.iter().map(|percent| value(*percent)).collect();
                quantiles.push(json!({ "name": sample.name, "values": values }));
            }
        }
    }
    if !quantiles.is_empty() {
        let supported: Vec<Json> = QUANTILES.iter().map(|percent| short(*percent)).collect();
        stats.push(json!({
            "histograms": { "supported_quantiles": supported, "computed_quantiles": quantiles }
        }));
    }
    json!({ "stats": stats }).to_string()
}

/// Whole numbers without a fraction, as Envoy prints them.
fn short(value: f64) -> Json {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) { json!(value as u64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::cells::{Histogram, Shard};
    use crate::stats::render::Distribution;

    #[test]
    fn histograms_are_the_last_member_with_one_value_per_quantile() {
        let cells = Histogram::new(0);
        cells.record(Shard::SHARED, 12_345);
        let sample = |name: &str, value| Sample {
            name: name.to_owned(),
            family: name.to_owned(),
            labels: Vec::new(),
            value,
            used: true,
        };
        let mut samples = vec![
            sample("time", Value::Histogram(Distribution::read(&cells))),
            sample("b", Value::Counter(u64::MAX)),
            sample("empty", Value::Histogram(Distribution::default())),
        ];
        let value: Json = serde_json::from_str(&json(&mut samples)).expect("JSON");
        assert_eq!(value["stats"][0], serde_json::json!({ "name": "b", "value": u64::MAX }));
        let histograms = &value["stats"][1]["histograms"];
        assert_eq!(histograms["supported_quantiles"].to_string(), "[0,25,50,75,90,95,99,99.5,99.9,100]");
        assert_eq!(histograms["computed_quantiles"][0]["values"][0]["cumulative"], Json::Null);
        assert_eq!(histograms["computed_quantiles"][1]["values"][9]["cumulative"], 12.5);
        assert_eq!(histograms["computed_quantiles"][1]["values"].as_array().map(Vec::len), Some(10));
    }
}
