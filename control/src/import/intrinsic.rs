//! CloudFormation's functions: a template's values with everything resolved that the files and parameters say.
//!
//! Owns Ref, GetAtt, Sub, Join, Select, Split, FindInMap, If, conditions, ImportValue of an export in the same files.
//! It must never guess: what cannot be resolved becomes a value that names itself. Next: `cloudformation.rs`.

use super::fields::{unresolved, unresolved_of};
use super::notes::Place;
use super::tree::{Node, Value};
use serde_json::{Map, Value as Json};
use std::cell::Cell;
use std::collections::BTreeMap;

/// A resource refers to one that refers to it: no template does that to a useful depth.
const MAX_DEPTH: usize = 32;
/// Most functions that are resolved; one name that is made of names doubles the work at each level.
const MAX_STEPS: usize = 50_000;
/// Most bytes of what several unknown values are called together.
const MAX_SAID: usize = 2_000;
/// `AWS::NoValue`: the property is as if it were not there.
const NO_VALUE: &str = "!no-value";

/// A resource and the file that has it.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub file: String,
    pub node: Node,
}

/// All templates as one: what Copilot does with the files of an add-ons folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Templates {
    /// By logical id.
    pub resources: BTreeMap<String, Declared>,
    /// By name: the given value, else the default.
    pub parameters: BTreeMap<String, Option<Json>>,
    pub conditions: BTreeMap<String, Declared>,
    pub mappings: BTreeMap<String, Node>,
    /// By the name of the export.
    pub exports: BTreeMap<String, Declared>,
    /// Key=Value of the command line and of app.properties.json.
    pub given: BTreeMap<String, String>,
    /// Functions resolved so far.
    pub steps: Cell<usize>,
}

/// The property that an attribute or a reference is, for the types whose names are what App Mesh resources name.
const NAMES: &[(&str, &str)] = &[
    ("AWS::AppMesh::Mesh", "MeshName"),
    ("AWS::AppMesh::VirtualNode", "VirtualNodeName"),
    ("AWS::AppMesh::VirtualRouter", "VirtualRouterName"),
    ("AWS::AppMesh::VirtualService", "VirtualServiceName"),
    ("AWS::AppMesh::VirtualGateway", "VirtualGatewayName"),
    ("AWS::AppMesh::Route", "RouteName"),
    ("AWS::AppMesh::GatewayRoute", "GatewayRouteName"),
    ("AWS::ServiceDiscovery::Service", "Name"),
];

/// The property of a type that is its name.
pub(super) fn name_property(kind: &str) -> Option<&'static str> {
    NAMES.iter().find(|(name, _)| *name == kind).map(|(_, property)| *property)
}

impl Templates {
    /// A value with its functions resolved; `place` is the value's own.
    pub fn resolve(&self, node: &Node, place: &Place) -> Json {
        self.value(node, place, 0)
    }

    fn value(&self, node: &Node, place: &Place, depth: usize) -> Json {
        let here = Place { line: if node.line > 0 { node.line } else { place.line }, ..place.clone() };
        if depth > MAX_DEPTH {
            return unresolved(&here, "a reference that leads back to itself");
        }
        match &node.value {
            Value::Scalar(json) => json.clone(),
            Value::List(items) => {
                let item = |(index, item)| self.value(item, &here.inside(&format!("[{index}]")), depth);
                items.iter().enumerate().map(item).filter(|value| !is_no_value(value)).collect()
            }
            Value::Map(entries) => {
                if let [(name, argument)] = entries.as_slice()
                    && (name == "Ref" || name == "Condition" || name.starts_with("Fn::"))
                {
                    return self.function(name, argument, &here, depth + 1);
                }
                let mut map = Map::new();
                for (key, value) in entries {
                    let value = self.value(value, &here.inside(key), depth);
                    if !is_no_value(&value) {
                        map.insert(key.clone(), value);
                    }
                }
                Json::Object(map)
            }
        }
    }

    fn function(&self, name: &str, argument: &Node, place: &Place, depth: usize) -> Json {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS {
            return unresolved(place, "names that are made of more names than can be resolved");
        }
        match name {
            "Ref" => match argument.text() {
                Some(target) => self.reference(&target, place, depth),
                None => unresolved(place, "a Ref without a name"),
            },
            "Fn::GetAtt" => match attribute_of(argument) {
                Some((id, attribute)) => self.attribute(&id, &attribute, place, depth),
                None => unresolved(place, "a GetAtt that is not of the form Resource.Attribute"),
            },
            "Fn::Sub" => self.substitute(argument, place, depth),
            "Fn::Join" => self.join(argument, place, depth),
            "Fn::Select" => self.select(argument, place, depth),
            "Fn::Split" => self.split(argument, place, depth),
            "Fn::If" => self.choose(argument, place, depth),
            "Fn::FindInMap" => self.find_in_map(argument, place, depth),
            "Fn::ImportValue" => self.import_value(argument, place, depth),
            other => unresolved(
                place,
                &format!(
                    "the function {other} is not known here: write its value into the template, or leave the property out"
                ),
            ),
        }
    }

    fn reference(&self, target: &str, place: &Place, depth: usize) -> Json {
        if target == "AWS::NoValue" {
            return Json::String(NO_VALUE.to_owned());
        }
        if let Some(given) = self.given.get(target) {
            return Json::String(given.clone());
        }
        match (self.parameters.get(target), self.resources.get(target)) {
            (Some(Some(default)), _) => default.clone(),
            (Some(None), _) => unresolved(
                place,
                &format!(
                    "the parameter {target} has no default and was not given: add `--parameter {target}=VALUE`"
                ),
            ),
            // A reference to a resource of App Mesh is its ARN, of which only the name matters here.
            (None, Some(declared)) => {
                let property =
                    declared.node.get("Type").and_then(Node::text).and_then(|kind| name_property(&kind));
                match property.filter(|property| *property != "Name") {
                    Some(property) => self.attribute(target, property, place, depth),
                    None => unresolved(
                        place,
                        &format!(
                            "what CloudFormation made for {target} is not in the template: add `--parameter {target}=VALUE`"
                        ),
                    ),
                }
            }
            (None, None) => unresolved(
                place,
                &format!(
                    "{target} is neither a parameter nor a resource of these files: add the file that has it, or `--parameter {target}=VALUE`"
                ),
            ),
        }
    }

    fn attribute(&self, id: &str, attribute: &str, place: &Place, depth: usize) -> Json {
        if let Some(given) = self.given.get(&format!("{id}.{attribute}")) {
            return Json::String(given.clone());
        }
        let give = format!("add `--parameter {id}.{attribute}=VALUE`");
        let Some(declared) = self.resources.get(id) else {
            return unresolved(
                place,
                &format!("no resource {id} in these files: add the file that has it, or {give}"),
            );
        };
        let kind = declared.node.get("Type").and_then(Node::text).unwrap_or_default();
        if name_property(&kind) != Some(attribute) {
            return unresolved(
                place,
                &format!(
                    "the attribute {attribute} of {id} ({kind}) is known to CloudFormation only: {give}"
                ),
            );
        }
        let at =
            Place { file: declared.file.clone(), line: declared.node.line, at: format!("{id}.{attribute}") };
        match declared.node.get("Properties").and_then(|properties| properties.get(attribute)) {
            Some(node) => self.value(node, &at, depth + 1),
            None => unresolved(
                place,
                &format!("{id} has no {attribute}, so CloudFormation made a name that is not here: {give}"),
            ),
        }
    }

    /// `${Name}`, `${Resource.Attribute}`, `${!literal}`.
    fn substitute(&self, argument: &Node, place: &Place, depth: usize) -> Json {
        let (template, own) = match &argument.value {
            Value::List(items) => (items.first().and_then(Node::text), items.get(1)),
            _ => (argument.text(), None),
        };
        let Some(template) = template else { return unresolved(place, "a Sub without a text") };
        let (mut text, mut unknown) = (String::new(), Vec::new());
        let mut rest = template.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else { break };
            text.push_str(before);
            rest = tail;
            if let Some(literal) = name.strip_prefix('!') {
                text.push_str(&format!("${{{literal}}}"));
                continue;
            }
            let value = match (own.and_then(|own| own.get(name)), name.split_once('.')) {
                (Some(node), _) => self.value(node, place, depth),
                (None, Some((id, attribute))) => self.attribute(id, attribute, place, depth),
                (None, None) => self.reference(name, place, depth),
            };
            match plain(&value) {
                Some(value) => text.push_str(&value),
                None => unknown.push(value_or(value, place, "a Sub of something that is no text")),
            }
        }
        all_unknown(&unknown, place).unwrap_or_else(|| Json::String(text + rest))
    }

    fn arguments<'n>(&self, argument: &'n Node) -> Vec<&'n Node> {
        match &argument.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![argument],
        }
    }

    /// The first and second argument, resolved.
    fn pair(&self, argument: &Node, place: &Place, depth: usize) -> Option<(Json, Json)> {
        match self.arguments(argument).as_slice() {
            [first, second] => Some((self.value(first, place, depth), self.value(second, place, depth))),
            _ => None,
        }
    }

    fn join(&self, argument: &Node, place: &Place, depth: usize) -> Json {
        let Some((Json::String(separator), Json::Array(items))) = self.pair(argument, place, depth) else {
            return unresolved(place, "a Join that is not of the form [separator, [texts]]");
        };
        let (mut texts, mut unknown) = (Vec::new(), Vec::new());
        for item in items {
            match plain(&item) {
                Some(text) => texts.push(text),
                None => unknown.push(value_or(item, place, "a Join of something that is no text")),
            }
        }
        all_unknown(&unknown, place).unwrap_or_else(|| Json::String(texts.join(&separator)))
    }

    fn select(&self, argument: &Node, place: &Place, depth: usize) -> Json {
        let Some((index, list)) = self.pair(argument, place, depth) else {
            return unresolved(place, "a Select that is not of the form [index, list]");
        };
        if unresolved_of(&list).is_some() {
            return list;
        }
        let index = plain(&index).and_then(|index| index.parse::<usize>().ok());
        let found = index.and_then(|index| list.as_array().and_then(|list| list.get(index)).cloned());
        found.unwrap_or_else(|| unresolved(place, "a Select of something that its list does not have"))
    }

    fn split(&self, argument: &Node, place: &Place, depth: usize) -> Json {
        match self.pair(argument, place, depth) {
            Some((Json::String(separator), Json::String(text))) if !separator.is_empty() => {
                text.split(&separator).map(|part| Json::String(part.to_owned())).collect()
            }
            Some((_, text)) if unresolved_of(&text).is_some() => text,
            _ => unresolved(place, "a Split that is not of the form [separator, text]"),
        }
    }

    fn find_in_map(&self, argument: &Node, place: &Place, depth: usize) -> Json {
        let keys: Vec<Json> =
            self.arguments(argument).iter().map(|key| self.value(key, place, depth)).collect();
        if let Some(unknown) = keys.iter().find(|key| unresolved_of(key).is_some()) {
            return unknown.clone();
        }
        let keys: Vec<String> = keys.iter().filter_map(plain).collect();
        let found = match keys.as_slice() {
            [map, first, second] => {
                self.mappings.get(map).and_then(|map| map.get(first)).and_then(|map| map.get(second))
            }
            _ => None,
        };
        found.map_or_else(
            || unresolved(place, &format!("FindInMap [{}]: the Mappings do not have it", keys.join(", "))),
            Node::to_json,
        )
    }

    fn import_value(&self, argument: &Node, place: &Place, depth: usize) -> Json {
        let name = self.value(argument, place, depth);
        let Some(name) = plain(&name) else { return value_or(name, place, "an ImportValue without a name") };
        match self.exports.get(&name) {
            Some(declared) => {
                let at = Place { file: declared.file.clone(), ..place.clone() };
                self.value(&declared.node, &at, depth)
            }
            None => unresolved(
                place,
                &format!("ImportValue {name}: no file exports it; write the value into the template"),
            ),
        }
    }

    fn choose(&self, argument: &Node, place: &Place, depth: usize) -> Json {
        let arguments = self.arguments(argument);
        let [condition, yes, no] = arguments.as_slice() else {
            return unresolved(place, "an If that is not of the form [condition, value, value]");
        };
        let Some(name) = condition.text() else {
            return unresolved(place, "an If without the name of a condition");
        };
        match self.condition(&name, place, depth) {
            Ok(true) => self.value(yes, place, depth),
            Ok(false) => self.value(no, place, depth),
            Err(unknown) => unknown,
        }
    }

    /// Whether a condition holds.
    ///
    /// # Errors
    /// The value that stands for what is not known.
    pub fn condition(&self, name: &str, place: &Place, depth: usize) -> Result<bool, Json> {
        let Some(declared) = self.conditions.get(name) else {
            return Err(unresolved(place, &format!("no condition {name} in these files")));
        };
        self.truth(&declared.node, place, depth + 1)
    }

    fn truth(&self, node: &Node, place: &Place, depth: usize) -> Result<bool, Json> {
        if depth > MAX_DEPTH {
            return Err(unresolved(place, "a condition that leads back to itself"));
        }
        let [(function, argument)] = node.entries() else {
            return Err(unresolved(place, "a condition that is no function"));
        };
        let mut truths = self.arguments(argument).into_iter().map(|node| self.truth(node, place, depth + 1));
        match function.as_str() {
            "Fn::Equals" => match self.pair(argument, place, depth) {
                Some((a, b)) => match (plain(&a), plain(&b)) {
                    (Some(a), Some(b)) => Ok(a == b),
                    (None, _) => Err(value_or(a, place, "an Equals of something that is no text")),
                    (_, None) => Err(value_or(b, place, "an Equals of something that is no text")),
                },
                None => Err(unresolved(place, "an Equals that has not two values")),
            },
            "Fn::Not" => truths.next().map_or(Ok(false), |truth| truth.map(|truth| !truth)),
            "Fn::And" => truths.try_fold(true, |all, truth| truth.map(|truth| all && truth)),
            "Fn::Or" => truths.try_fold(false, |any, truth| truth.map(|truth| any || truth)),
            "Condition" => self.condition(&argument.text().unwrap_or_default(), place, depth),
            other => Err(unresolved(place, &format!("the function {other} is not known in a condition"))),
        }
    }
}

fn attribute_of(argument: &Node) -> Option<(String, String)> {
    if let Value::List(items) = &argument.value {
        return match items.as_slice() {
            [id, attribute] => id.text().zip(attribute.text()),
            _ => None,
        };
    }
    let text = argument.text()?;
    text.split_once('.').map(|(id, attribute)| (id.to_owned(), attribute.to_owned()))
}

fn is_no_value(value: &Json) -> bool {
    value.as_str() == Some(NO_VALUE)
}

/// A scalar as text.
fn plain(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// What already names itself, else this.
fn value_or(value: Json, place: &Place, what: &str) -> Json {
    if unresolved_of(&value).is_some() { value } else { unresolved(place, what) }
}

/// Several values that are not known, as one that names all.
fn all_unknown(values: &[Json], place: &Place) -> Option<Json> {
    let mut said: Vec<String> = values.iter().filter_map(unresolved_of).map(|(_, what)| what).collect();
    said.dedup();
    if said.is_empty() {
        return None;
    }
    Some(unresolved(place, &said.join("; ").chars().take(MAX_SAID).collect::<String>()))
}
