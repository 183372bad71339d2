//! `app.properties.json` of the deployment pipeline: the weights that it writes into the route, and the names that its
//! templates are filled with.
//!
//! Owns those; it must never make a mesh of it, which it does not hold. Next: `mod.rs`.

use super::model::{Model, NodeDiscovery, Target};
use super::notes::{Kind as Remark, Notes, Place};
use serde_json::Value;

/// Parameters that Copilot gives every add-on, and the member that holds the same.
const PARAMETERS: [(&str, &str); 4] =
    [("App", "app_name"), ("Env", "env_name"), ("Name", "service1_name"), ("AWS::Region", "aws_region")];

/// Whether a document is one.
pub(super) fn is_properties(value: &Value) -> bool {
    ["traffic_weight_route1", "setLatestStable", "app_mesh_name", "service1_name"]
        .iter()
        .any(|member| value.get(member).is_some())
}

/// Key and value of what it gives to templates.
pub(super) fn parameters(value: &Value) -> Vec<(String, String)> {
    let given = |(key, member): &(&str, &str)| {
        value.get(member).and_then(Value::as_str).map(|value| ((*key).to_owned(), value.to_owned()))
    };
    PARAMETERS.iter().filter_map(given).collect()
}

/// Says where the parameters came from.
pub(super) fn say_parameters(value: &Value, place: &Place, notes: &mut Notes) {
    for (key, member) in PARAMETERS {
        if let Some(text) = value.get(member).and_then(Value::as_str) {
            notes.note(
                &place.inside(member),
                format!("the template's parameter {key} is `{text}` unless --parameter says otherwise"),
            );
        }
    }
}

/// Puts its weights into the one route with two targets: what the pipeline did at each run.
pub(super) fn apply(value: &Value, place: &Place, model: &mut Model, notes: &mut Notes) {
    let Some(weights) = weights(value, place, notes) else { return };
    let nodes = model.nodes.clone();
    let mut routes: Vec<_> = model.routes.iter_mut().filter(|route| route.targets.len() == 2).collect();
    let [route] = routes.as_mut_slice() else {
        let count = routes.len();
        let text = format!(
            "its two weights belong to one route with two targets; the other files have {count} such routes: the weights of the templates are taken"
        );
        return notes.note(place, text);
    };
    let hostname = |target: &Target| {
        let node = nodes.iter().find(|node| node.mesh == route.mesh && node.name == target.node)?;
        match &node.discovery {
            NodeDiscovery::Dns { hostname } => Some(hostname.clone()),
            NodeDiscovery::CloudMap { service, namespace, .. } => Some(format!("{service}.{namespace}")),
            NodeDiscovery::None => None,
        }
    };
    let service = |member: &str| value.get(member).and_then(Value::as_str).map(|name| format!("{name}."));
    let is = |target: &Target, member: &str| {
        service(member).zip(hostname(target)).is_some_and(|(name, host)| host.starts_with(&name))
    };
    // By name where the names tell; else in order, as the pipeline edits the template.
    let crossed = match route.targets.as_slice() {
        [first, second] => {
            (is(first, "service2_name") && !is(first, "service1_name"))
                || (is(second, "service1_name") && !is(second, "service2_name"))
        }
        _ => false,
    };
    let (first, second) = if crossed { (weights.1, weights.0) } else { weights };
    for (target, weight) in route.targets.iter_mut().zip([first, second]) {
        let why =
            if crossed { "by the names of the services" } else { "in the order of the route's targets" };
        let change = if target.weight == weight {
            format!("`{}` has weight {weight}, as in the template", target.node)
        } else {
            format!(
                "`{}` gets weight {weight} instead of the template's {} ({why})",
                target.node, target.weight
            )
        };
        target.weight = weight;
        notes.note(place, format!("route `{}`: {change}", route.name));
    }
}

fn weights(value: &Value, place: &Place, notes: &mut Notes) -> Option<(u32, u32)> {
    for member in ["setLatestStable", "setLatestStableOnce"] {
        if value.get(member).is_some_and(|flag| *flag == Value::Bool(true) || flag.as_str() == Some("true")) {
            let text =
                "the pipeline's mode, not a weight: this file's state of the deployment is not imported";
            notes.add(Remark::LeftOut, &place.inside(member), text);
        }
    }
    let mut weight = |member: &str| {
        let given = value.get(member)?;
        let number = given.as_u64().or_else(|| given.as_str().and_then(|text| text.trim().parse().ok()));
        let number = number.filter(|number| *number <= 100).and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            notes.error(&place.inside(member), format!("{given} is no weight: a whole number from 0 to 100"));
        }
        number
    };
    weight("traffic_weight_route1").zip(weight("traffic_weight_route2"))
}
