//! Listeners and clusters that gateways get from control.
//!
//! Owns the section of control's file, its form on the wire and how a gateway makes a whole configuration of it;
//! it must never decide when that is used. Next: `wire.rs`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::control_config::ControlConfig;
use crate::diagnostic::{Collector, Diagnostics};
use crate::model::{Bootstrap, Cluster, Listener, RouteTarget, WeightedClusters};
use crate::object::Object;
use crate::parse::parse_partial_bootstrap;

/// The label in errors about what control gave.
const LABEL: &str = "the listeners and clusters from control";

/// The section `gateway` of control's file.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySection {
    /// Listeners in file order; at least one.
    pub listeners: Vec<Listener>,
    /// Clusters in file order.
    pub clusters: Vec<Cluster>,
    /// The section as it was written: what goes over the wire.
    pub source: Value,
}

impl GatewaySection {
    /// The form on the wire and in the state.
    pub fn resources(&self) -> GatewayResources {
        let list = |name: &str| self.source.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        GatewayResources { listeners: list("listeners"), clusters: list("clusters") }
    }
}

/// Listeners and clusters in the words of a gateway's own file, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayResources {
    /// As `static_resources.listeners`.
    pub listeners: Vec<Value>,
    /// As `static_resources.clusters`.
    pub clusters: Vec<Value>,
}

impl GatewayResources {
    /// Whether there is anything to listen on.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// A whole configuration: who the gateway is, its admin, control and limits from `base`, the rest from here. A
    /// member `@type` of a resource is no field of it.
    ///
    /// # Errors
    /// What is wrong with them, as for a file.
    pub fn complete(&self, base: &Bootstrap) -> Result<Bootstrap, Diagnostics> {
        let plain = |resources: &[Value]| -> Vec<Value> {
            let mut resources = resources.to_vec();
            for resource in resources.iter_mut().filter_map(Value::as_object_mut) {
                resource.remove("@type");
            }
            resources
        };
        let address = json!({"socket_address": {
            "address": base.admin.address.ip().to_string(), "port_value": base.admin.address.port(),
        }});
        let text = json!({
            "admin": {"address": address},
            "static_resources": {"listeners": plain(&self.listeners), "clusters": plain(&self.clusters)},
        });
        let given = parse_partial_bootstrap(LABEL, text.to_string().as_bytes())?;
        Ok(Bootstrap { listeners: given.listeners, clusters: given.clusters, ..base.clone() })
    }
}

/// The managed routes of listeners by name: those with a name and a stable target.
pub fn managed_routes(listeners: &[Listener]) -> BTreeMap<&str, &WeightedClusters> {
    let routes = listeners
        .iter()
        .flat_map(|listener| &listener.http_connection_manager.route_config.virtual_hosts)
        .flat_map(|host| &host.routes);
    routes
        .filter_map(|route| match &route.action.target {
            RouteTarget::Weighted(weighted) if weighted.stable.is_some() && !route.name.is_empty() => {
                Some((route.name.as_str(), weighted))
            }
            _ => None,
        })
        .collect()
}

/// Reports routes under control that the section `gateway` has not, or has with other targets: such a route would
/// never take a weight.
pub(crate) fn check_routes(root: &Object<'_>, config: &ControlConfig, out: &mut Collector<'_>) {
    let Some(section) = &config.gateway else { return };
    if section.listeners.is_empty() {
        return;
    }
    let managed = managed_routes(&section.listeners);
    for name in managed.keys().filter(|name| !config.routes.contains_key(**name)) {
        out.report(
            "gateway",
            root.mark_of("gateway"),
            format!("the route `{name}` has a stable target, and is not among `routes`: nobody would set its weights"),
            format!("add `{name}` under `routes`, or remove its `stable`"),
        );
    }
    for (name, object) in root.objects_by_key("routes") {
        let Some(route) = config.routes.get(&name) else { continue };
        let Some(weighted) = managed.get(name.as_str()) else {
            let known: Vec<&str> = managed.keys().copied().collect();
            out.report(
                &object.path,
                object.mark,
                format!(
                    "the section `gateway` has no route `{name}` with weighted_clusters and a stable target"
                ),
                format!(
                    "give a route of it this name and a `stable`; there are: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ),
            );
            continue;
        };
        let here: BTreeSet<&str> = route.targets.iter().map(String::as_str).collect();
        let there: BTreeSet<&str> = weighted.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        if here != there && !here.is_empty() && !there.is_empty() {
            let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
            out.report(
                &object.path_of("targets"),
                object.mark_of("targets"),
                format!("the targets are {}, and in the section `gateway` {}", list(&here), list(&there)),
                "name the same clusters at both places",
            );
        }
    }
}
