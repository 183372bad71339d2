//! CloudFormation templates and Copilot add-ons.
//!
//! Owns the sections of a template, resources that a condition leaves out, and the way from PascalCase to the API's
//! words. It must never resolve a function itself. Next: `intrinsic.rs`.

use super::fields::{unresolved, unresolved_of};
use super::intrinsic::{Declared, Templates, name_property};
use super::notes::{Kind as Remark, Notes, Place};
use super::spec::{Kind, Resource};
use super::tree::{Node, Value};
use serde_json::{Map, Value as Json};

/// Adds a file to those that are read together.
pub(super) fn add(templates: &mut Templates, file: &str, root: &Node, notes: &mut Notes) {
    let declared = |node: &Node| Declared { file: file.to_owned(), node: node.clone() };
    let section = |name: &str| root.get(name).map(Node::entries).unwrap_or_default();
    for (id, node) in section("Resources") {
        let place = Place { file: file.to_owned(), line: node.line, at: id.clone() };
        match templates.resources.get(id) {
            Some(first) if first.node.to_json() == node.to_json() => {}
            Some(first) => notes.error(
                &place,
                format!(
                    "a second resource {id}; the first is in {}:{}: give the files of one stack",
                    first.file, first.node.line
                ),
            ),
            None => {
                templates.resources.insert(id.clone(), declared(node));
            }
        }
    }
    for (name, node) in section("Parameters") {
        let default = node.get("Default").map(Node::to_json);
        let known = templates.parameters.entry(name.clone()).or_default();
        match (&known, &default) {
            (Some(first), Some(second)) if first != second && !templates.given.contains_key(name) => {
                let place =
                    Place { file: file.to_owned(), line: node.line, at: format!("Parameters.{name}") };
                let text = format!("another file has the default {first}: add `--parameter {name}=VALUE`");
                notes.error(&place, text);
            }
            (None, _) => *known = default,
            _ => {}
        }
    }
    for (name, node) in section("Conditions") {
        templates.conditions.insert(name.clone(), declared(node));
    }
    for (name, node) in section("Mappings") {
        templates.mappings.insert(name.clone(), node.clone());
    }
    for (_, node) in section("Outputs") {
        let name = node
            .get("Export")
            .and_then(|export| export.get("Name"))
            .map(|name| templates.resolve(name, &Place::file(file)));
        if let (Some(Json::String(name)), Some(value)) = (name, node.get("Value")) {
            templates.exports.insert(name, declared(value));
        }
    }
}

/// The App Mesh resources of all templates, in the API's words.
pub(super) fn resources(templates: &Templates, notes: &mut Notes) -> Vec<Resource> {
    let mut found: Vec<(usize, Resource)> = Vec::new();
    let mut others: Vec<(String, String)> = Vec::new();
    for (id, declared) in &templates.resources {
        let place = Place { file: declared.file.clone(), line: declared.node.line, at: id.clone() };
        let type_name = declared.node.get("Type").and_then(Node::text).unwrap_or_default();
        let Some(kind) = Kind::of_cloudformation(&type_name) else {
            if type_name.starts_with("AWS::AppMesh::") {
                notes.error(&place, format!("{type_name} is no type of App Mesh that is known here"));
            }
            others.push((declared.file.clone(), format!("{id} ({type_name})")));
            continue;
        };
        if let Some(condition) = declared.node.get("Condition").and_then(Node::text) {
            match templates.condition(&condition, &place, 0) {
                Ok(true) => {}
                Ok(false) => {
                    notes.add(Remark::LeftOut, &place, format!("its condition {condition} does not hold"));
                    continue;
                }
                Err(unknown) => {
                    let what = unresolved_of(&unknown).map(|(_, what)| what).unwrap_or_default();
                    notes.error(&place, format!("whether it exists depends on {condition}: {what}"));
                    continue;
                }
            }
        }
        let body = body(templates, id, &type_name, &declared.node, &place);
        found.push((declared.node.line, Resource { kind, place, body }));
    }
    for (file, count) in count_by_file(&others) {
        notes.add(Remark::LeftOut, &Place::file(&file), count);
    }
    found.sort_by(|(a, one), (b, two)| (&one.place.file, a).cmp(&(&two.place.file, b)));
    found.into_iter().map(|(_, resource)| resource).collect()
}

fn count_by_file(others: &[(String, String)]) -> Vec<(String, String)> {
    const SHOWN: usize = 6;
    let mut files: Vec<String> = others.iter().map(|(file, _)| file.clone()).collect();
    files.sort();
    files.dedup();
    let line = |file: String| {
        let mut names: Vec<&str> =
            others.iter().filter(|(at, _)| *at == file).map(|(_, name)| name.as_str()).collect();
        let more = names.len().saturating_sub(SHOWN);
        names.truncate(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (file, format!("resources that are not App Mesh's: {}{more}", names.join(", ")))
    };
    files.into_iter().map(line).collect()
}

fn body(templates: &Templates, id: &str, type_name: &str, node: &Node, place: &Place) -> Json {
    let Some(properties) = node.get("Properties") else { return Json::Object(Map::new()) };
    let mut properties =
        match templates.resolve(properties, &Place { line: properties.line, ..place.clone() }) {
            Json::Object(map) => map,
            // The whole of the properties is one function that is not known.
            other => return other,
        };
    if let Some(name) = name_property(type_name).filter(|name| !properties.contains_key(*name)) {
        let given = templates.given.get(&format!("{id}.{name}")).cloned();
        let value = given.map_or_else(
            || match type_name {
                // Nothing refers to the name of a route; the logical id tells people as much.
                "AWS::AppMesh::Route" | "AWS::AppMesh::GatewayRoute" => Json::String(id.to_owned()),
                _ => unresolved(
                    &place.inside(name),
                    &format!("no {name}, so CloudFormation made a name that is not here: add `--parameter {id}.{name}=VALUE`"),
                ),
            },
            Json::String,
        );
        properties.insert(name.to_owned(), value);
    }
    camel(Json::Object(properties))
}

/// The members of templates as the API spells them.
fn camel(value: Json) -> Json {
    if unresolved_of(&value).is_some() {
        return value;
    }
    match value {
        Json::Object(map) => map.into_iter().map(|(key, value)| (camel_key(&key), camel(value))).collect(),
        Json::Array(items) => items.into_iter().map(camel).collect(),
        scalar => scalar,
    }
}

/// `DNS` is `dns`, `AWSCloudMap` is `awsCloudMap`, `HttpRoute` is `httpRoute`.
fn camel_key(key: &str) -> String {
    let capitals = key.chars().take_while(char::is_ascii_uppercase).count();
    let followed = key.chars().nth(capitals).is_some_and(|c| c.is_ascii_lowercase());
    let lower = if capitals > 1 && followed { capitals - 1 } else { capitals };
    key.chars().enumerate().map(|(at, c)| if at < lower { c.to_ascii_lowercase() } else { c }).collect()
}

/// Whether a document is a template.
pub(super) fn is_template(root: &Node) -> bool {
    let has_types = |node: &Node| node.entries().iter().any(|(_, resource)| resource.get("Type").is_some());
    root.get("Resources").is_some_and(|node| matches!(node.value, Value::Map(_)) && has_types(node))
}

#[cfg(test)]
mod tests {
    use super::camel_key;

    #[test]
    fn keys_are_spelled_as_in_the_api() {
        for (given, wanted) in [
            ("DNS", "dns"),
            ("AWSCloudMap", "awsCloudMap"),
            ("HttpRoute", "httpRoute"),
            ("Http2Route", "http2Route"),
            ("VirtualNodeName", "virtualNodeName"),
            ("TLS", "tls"),
            ("HTTP2", "http2"),
            ("weightedTargets", "weightedTargets"),
        ] {
            assert_eq!(camel_key(given), wanted);
        }
    }
}
