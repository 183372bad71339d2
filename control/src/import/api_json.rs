//! Answers of `aws appmesh describe-*`, and `terraform show -json`.
//!
//! Owns how a resource is found in them and Terraform's spelling; it must never read a spec. Next: `spec.rs`.

use super::notes::{Kind as Remark, Notes, Place};
use super::spec::{Kind, Resource};
use serde_json::{Map, Value, json};

/// The members by which a bare resource is told, the most telling first.
const NAMES: [Kind; 7] =
    [Kind::GatewayRoute, Kind::Route, Kind::Node, Kind::Service, Kind::Gateway, Kind::Router, Kind::Mesh];
/// What the CLI wraps around an answer.
const WRAPPERS: [&str; 7] =
    ["mesh", "virtualNode", "virtualRouter", "virtualService", "route", "virtualGateway", "gatewayRoute"];

/// Whether a JSON document is made of App Mesh resources.
pub(super) fn is_app_mesh(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(is_app_mesh),
        Value::Object(map) => {
            map.contains_key("meshName")
                || map.keys().any(|key| WRAPPERS.contains(&key.as_str()) || is_list(key))
        }
        _ => false,
    }
}

/// The lists of `aws appmesh list-*`.
fn is_list(key: &str) -> bool {
    key == "meshes" || WRAPPERS.iter().any(|wrapper| key.strip_suffix('s') == Some(wrapper))
}

/// The resources of an answer, or of a list of answers.
pub(super) fn app_mesh(value: &Value, place: &Place, notes: &mut Notes, found: &mut Vec<Resource>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                app_mesh(item, &place.inside(&format!("[{index}]")), notes, found);
            }
        }
        Value::Object(map) => {
            let wrapped = map.iter().find(|(key, _)| WRAPPERS.contains(&key.as_str()) || is_list(key));
            if let (Some((key, inner)), false) = (wrapped, map.contains_key("meshName")) {
                return app_mesh(inner, &place.inside(key), notes, found);
            }
            bare(map, value, place, notes, found);
        }
        _ => notes.error(place, "this is no App Mesh resource"),
    }
}

fn bare(
    map: &Map<String, Value>,
    value: &Value,
    place: &Place,
    notes: &mut Notes,
    found: &mut Vec<Resource>,
) {
    let Some(kind) = NAMES.into_iter().find(|kind| map.contains_key(kind.name_member())) else {
        return notes.error(place, "this is no App Mesh resource: it has no name such as routeName");
    };
    if map.get("status").and_then(|status| status.get("status")).and_then(Value::as_str) == Some("DELETED") {
        return notes.add(Remark::LeftOut, place, "it was deleted");
    }
    if !map.contains_key("spec") {
        return notes.error(
            place,
            "a line of a list has no spec: save the answer of `aws appmesh describe-...` instead",
        );
    }
    let name = map.get(kind.name_member()).and_then(Value::as_str).unwrap_or_default();
    let at = if place.at.is_empty() { name.to_owned() } else { format!("{} {name}", place.at) };
    let mut body = map.clone();
    body.remove("arn");
    let _ = value;
    found.push(Resource { kind, place: Place { at, ..place.clone() }, body: Value::Object(body) });
}

/// The resources of `terraform show -json` of a state or a plan.
pub(super) fn terraform(root: &Value, place: &Place, notes: &mut Notes, found: &mut Vec<Resource>) {
    let values = root.get("values").or_else(|| root.get("planned_values"));
    match values.and_then(|values| values.get("root_module")) {
        Some(module) => terraform_module(module, place, notes, found),
        None => notes.error(place, "no values.root_module: write `terraform show -json` into a file"),
    }
}

fn terraform_module(module: &Value, place: &Place, notes: &mut Notes, found: &mut Vec<Resource>) {
    let list = |name: &str| module.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for resource in list("resources") {
        let text = |name: &str| resource.get(name).and_then(Value::as_str).unwrap_or_default();
        let place = Place { at: text("address").to_owned(), ..place.clone() };
        let Some(kind) = Kind::of_terraform(text("type")) else { continue };
        if text("mode") == "data" {
            continue;
        }
        let Some(values) = resource.get("values") else {
            notes.error(&place, "no values: it is only known after `terraform apply`");
            continue;
        };
        found.push(Resource { kind, body: terraform_body(kind, values), place });
    }
    for child in list("child_modules") {
        terraform_module(child, place, notes, found);
    }
}

fn terraform_body(kind: Kind, values: &Value) -> Value {
    let text = |name: &str| values.get(name).cloned().unwrap_or(Value::Null);
    let mut body = Map::new();
    body.insert("meshName".to_owned(), text(if kind == Kind::Mesh { "name" } else { "mesh_name" }));
    body.insert(kind.name_member().to_owned(), text("name"));
    for (member, name) in
        [("virtualRouterName", "virtual_router_name"), ("virtualGatewayName", "virtual_gateway_name")]
    {
        if values.get(name).is_some() {
            body.insert(member.to_owned(), text(name));
        }
    }
    let spec = values.get("spec").map_or_else(|| json!({}), |spec| block("spec", spec));
    body.insert("spec".to_owned(), spec);
    Value::Object(body)
}

/// Blocks that the API has as lists, and its names for them.
const LISTS: &[(&str, &str)] = &[
    ("weighted_target", "weightedTargets"),
    ("listener", "listeners"),
    ("backend", "backends"),
    ("header", "headers"),
    ("metadata", "metadata"),
    ("query_parameter", "queryParameters"),
];

/// Numbers that Terraform's state has as 0 where none was given; its provider never sends a 0 of these.
const ZERO_IS_NONE: [&str; 2] = ["port", "priority"];

/// One value of Terraform as the API has it: a block that may stand once is a list of one, absence is null or empty.
fn block(name: &str, value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let items: Vec<Value> = items.iter().map(|item| block("", item)).collect();
            let is_list = LISTS.iter().any(|(known, _)| *known == name);
            match items.as_slice() {
                [] => Value::Null,
                [one] if !is_list && one.is_object() => one.clone(),
                _ => Value::Array(items),
            }
        }
        Value::Object(map) if name == "attributes" => {
            map.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
        }
        Value::Object(map) => {
            let member = |(key, value): (&String, &Value)| (api_key(key), block(key, value));
            Value::Object(map.iter().map(member).filter(|(_, value)| !value.is_null()).collect())
        }
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Number(number) if number.as_u64() == Some(0) && ZERO_IS_NONE.contains(&name) => Value::Null,
        scalar => scalar.clone(),
    }
}

fn api_key(key: &str) -> String {
    if let Some((_, name)) = LISTS.iter().find(|(known, _)| *known == key) {
        return (*name).to_owned();
    }
    let mut name = String::new();
    let mut raise = false;
    for c in key.chars() {
        if c == '_' {
            raise = true;
        } else {
            name.push(if raise { c.to_ascii_uppercase() } else { c });
            raise = false;
        }
    }
    name
}
