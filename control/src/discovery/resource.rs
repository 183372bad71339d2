//! Weights as Envoy's RouteConfigurations; listeners and clusters as they were written.
//!
//! Owns the shape of what is sent; it must never hold state. Next: `gateway_config::wire`.

use crate::core::Core;
use crate::core::fleet::Subject;
use crate::settings::RouteSettings;
use crate::state::document::RouteRecord;
use gateway_config::wire::{
    ClusterWeightResource, GatewayStatus, ROUTE_TYPE_URL, RouteActionResource, RouteConfigurationResource,
    RouteMetadata, RouteResource, VirtualHostResource, WeightedClustersResource, WeirRouteMetadata,
};
use std::collections::BTreeMap;

/// The managed routes with known weights, or those of them that are asked for by name: a stock Envoy refuses an
/// answer with another number of resources than it asked for.
///
/// `status` is what a Weir gateway said about itself. A target of weight 0 that it does not know is left out: a
/// target that control knows first must not make it refuse everything else, a rollback least of all. A stock Envoy
/// does not say what it knows, and a target of weight 0 is nothing to it.
pub fn route_configurations(
    core: &Core,
    names: &[String],
    status: Option<&GatewayStatus>,
) -> Vec<RouteConfigurationResource> {
    core.routes()
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name))
        .filter_map(|(name, settings)| {
            let record = core.document().routes.get(name)?;
            let known = status.and_then(|status| status.routes.get(name)).map(|route| &route.weights);
            Some(route_configuration(name, settings, record, known))
        })
        .collect()
}

/// All listeners or all clusters, each with its type.
pub fn config_resources(core: &Core, subject: Subject) -> Vec<serde_json::Value> {
    let Some(config) = core.config() else { return Vec::new() };
    let resources = if subject == Subject::Listeners { &config.listeners } else { &config.clusters };
    let typed = |resource: &serde_json::Value| {
        let mut object = serde_json::Map::new();
        object.insert("@type".to_owned(), super::type_url(subject).into());
        object.extend(resource.as_object().cloned().unwrap_or_default());
        serde_json::Value::Object(object)
    };
    resources.iter().map(typed).collect()
}

fn route_configuration(
    name: &str,
    settings: &RouteSettings,
    record: &RouteRecord,
    known: Option<&BTreeMap<String, u32>>,
) -> RouteConfigurationResource {
    let weight = |target: &String| record.weights.get(target).copied().unwrap_or_default();
    let clusters = settings
        .targets
        .iter()
        .filter(|target| weight(target) > 0 || known.is_some_and(|known| known.contains_key(*target)))
        .map(|target| ClusterWeightResource { name: target.clone(), weight: weight(target) })
        .collect();
    let weir = WeirRouteMetadata { stable: record.stable.clone() };
    let route = RouteResource {
        name: name.to_owned(),
        matches: BTreeMap::from([("prefix".to_owned(), "/".to_owned())]),
        route: RouteActionResource { weighted_clusters: WeightedClustersResource { clusters } },
        metadata: Some(RouteMetadata { filter_metadata: BTreeMap::from([("weir".to_owned(), weir)]) }),
    };
    RouteConfigurationResource {
        type_url: ROUTE_TYPE_URL.to_owned(),
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHostResource {
            name: name.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
        }],
        validate_clusters: true,
    }
}
