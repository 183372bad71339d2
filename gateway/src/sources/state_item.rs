//! Control's state item in DynamoDB, read at a start while control is away.
//!
//! Owns one GetItem and what is taken from the document. It must never write, and never use a document of a newer
//! build. Next: `saved.rs`.

use super::memory::{Configured, Remembered};
use crate::process::Origin;
use crate::state::change::RouteWeights;
use aws::Error;
use aws::dynamodb::StateTable;
use gateway_config::model::StateItem;
use gateway_config::state_item::StateView;
use gateway_config::wire::WeightSource;
use serde::Deserialize;
use std::time::SystemTime;

/// The version of listeners and clusters, which [`StateView`] has no field for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versions {
    gateway: GatewayVersion,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GatewayVersion {
    version: String,
}

/// Reads the item once.
///
/// # Errors
/// Why there is nothing that can be used, and what to do.
pub async fn read(item: &StateItem) -> Result<Remembered, String> {
    let table = StateTable::from_env(item.table.clone(), item.key.clone());
    match table.read().await {
        Ok(Some(found)) => remembered(&found.document),
        Ok(None) => Err(format!(
            "table `{}` has no item `{}` yet; control writes it with its first change, under the key that its \
             configuration names in state.dynamodb.key (here: GATEWAY_STATE_KEY)",
            item.table, item.key
        )),
        Err(error @ Error::AccessDenied { .. }) => Err(format!("{error}; {}", statement(&item.table))),
        Err(error) => Err(error.to_string()),
    }
}

/// The IAM statement that lets the task read it.
fn statement(table: &str) -> String {
    let resource = if table.starts_with("arn:") {
        table.to_owned()
    } else {
        format!("arn:aws:dynamodb:REGION:ACCOUNT:table/{table}")
    };
    format!(
        "add to the task role: {{\"Effect\": \"Allow\", \"Action\": \"dynamodb:GetItem\", \"Resource\": \"{resource}\"}}"
    )
}

fn remembered(text: &str) -> Result<Remembered, String> {
    let view = StateView::parse(text).map_err(|error| error.to_string())?;
    // Read as JSON just now.
    let versions: Versions = serde_json::from_str(text).unwrap_or_default();
    let (version, since) = (view.control.version(), SystemTime::now());
    let route = |(route, record): (String, gateway_config::state_item::ViewRoute)| RouteWeights {
        route,
        weights: record.weights,
        stable: Some(record.stable).filter(|stable| !stable.is_empty()),
        source: WeightSource::Saved,
        version: version.to_string(),
        since,
    };
    let configuration =
        Configured { version: versions.gateway.version, since, resources: view.gateway.clone() };
    Ok(Remembered {
        origin: Origin::StateItem,
        routes: view.routes.into_iter().map(route).collect(),
        configuration: (!configuration.resources.is_empty()).then_some(configuration),
        version: (!version.control_id.is_empty()).then_some(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_config::wire::Version;
    use serde_json::json;

    #[test]
    fn weights_and_configuration_are_taken_with_their_own_versions() {
        let text = json!({
            "format": {"major": 1, "minor": 9}, "control": {"id": "c", "epoch": 3, "seq": 7, "more": 1},
            "routes": {"svc1": {"weights": {"v1": 9900, "v2": 100}, "stable": "v1", "version": "3.6-c"}},
            "gateway": {"version": "3.2-c", "listeners": [{"name": "ingress"}], "clusters": []},
        });
        let found = remembered(&text.to_string()).unwrap();
        assert_eq!(found.version, Version::parse("3.7-c"));
        assert_eq!((found.routes[0].weights["v2"], found.routes[0].version.as_str()), (100, "3.7-c"));
        assert_eq!(found.configuration.unwrap().version, "3.2-c");
    }

    #[test]
    fn an_item_of_a_newer_build_and_one_with_broken_weights_are_refused_by_name() {
        let newer = remembered(r#"{"format": {"major": 2, "minor": 0}, "routes": 7}"#).unwrap_err();
        assert!(newer.contains("format 2") && newer.contains("newer gateway"), "{newer}");
        let half = json!({"format": {"major": 1, "minor": 0}, "control": {},
            "routes": {"svc1": {"weights": {"v1": 5}}}});
        let broken = remembered(&half.to_string()).unwrap_err();
        assert!(broken.contains("svc1") && broken.contains('5'), "{broken}");
        assert!(remembered("{\"format").is_err());
    }

    #[test]
    fn who_lacks_the_permission_is_given_the_statement() {
        let text = statement("weir-state");
        assert!(text.contains("\"dynamodb:GetItem\"") && text.contains("table/weir-state\""), "{text}");
    }
}
