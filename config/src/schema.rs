//! The JSON schemas of both files, from the tables that the decoders use.
//!
//! Owns the translation of a table; it must never add a rule of its own, or an editor and the program would
//! disagree. What needs two values (unknown clusters, sums) only the program checks. Next: `shape.rs`.

use serde_json::{Map, Value, json};

use crate::bootstrap_shape::BOOTSTRAP;
use crate::control_shape::CONTROL_FILE;
use crate::scalar::{self, Plain};
use crate::shape::{Field, Kind, Need, Shape};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
const DURATION_PATTERN: &str = "^[0-9]+(\\.[0-9]{1,9})?(ms|s|m|h)$";
const PERCENT_PATTERN: &str = "^[0-9]+(\\.[0-9]+)? *%?$";

/// The schema of the gateway's file.
pub fn bootstrap() -> Value {
    document(&BOOTSTRAP)
}

/// The schema of control's file.
pub fn control() -> Value {
    document(&CONTROL_FILE)
}

fn document(root: &'static Shape) -> Value {
    let mut shapes = Vec::new();
    collect(root, &mut shapes);
    let definitions: Map<String, Value> =
        shapes.iter().skip(1).map(|shape| (shape.name.to_owned(), object(shape))).collect();
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), DIALECT.into());
    schema.insert("title".to_owned(), root.name.into());
    if let Value::Object(fields) = object(root) {
        schema.extend(fields);
    }
    schema.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(schema)
}

/// All shapes in the order of their first mention.
fn collect(shape: &'static Shape, into: &mut Vec<&'static Shape>) {
    if into.iter().any(|known| known.name == shape.name) {
        return;
    }
    into.push(shape);
    for field in shape.fields {
        let mut kind = &field.kind;
        while let Kind::List { of, .. } | Kind::Map { of, .. } = kind {
            kind = of;
        }
        if let Kind::Object(inner) = kind {
            collect(inner, into);
        }
    }
}

fn object(shape: &Shape) -> Value {
    let properties: Map<String, Value> =
        shape.fields.iter().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> =
        shape.fields.iter().filter(|field| field.need == Need::Required).map(|field| field.name).collect();
    let mut schema = Map::new();
    schema.insert("description".to_owned(), shape.doc.into());
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema.insert("additionalProperties".to_owned(), false.into());
    let groups: Vec<Value> = shape.one_of.iter().map(one_of).collect();
    if !groups.is_empty() {
        schema.insert("allOf".to_owned(), groups.into());
    }
    Value::Object(schema)
}

fn one_of(group: &crate::shape::OneOf) -> Value {
    let mut choices: Vec<Value> = group.fields.iter().map(|name| json!({ "required": [name] })).collect();
    if !group.required {
        let none = json!({ "not": { "anyOf": choices.clone() } });
        choices.push(none);
    }
    json!({ "oneOf": choices })
}

fn property(field: &Field) -> Value {
    let mut schema = Map::new();
    schema.insert("description".to_owned(), field.doc.into());
    if let Value::Object(rules) = kind(&field.kind) {
        schema.extend(rules);
    }
    if let Need::Default(text) = field.need {
        schema.insert("default".to_owned(), default(&field.kind, text));
    }
    Value::Object(schema)
}

fn default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Flag => (scalar::classify(text) == Plain::Bool(true)).into(),
        Kind::Whole { .. } => scalar::whole(text).map_or(Value::Null, Value::from),
        _ => text.into(),
    }
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Text(rule) => match rule.pattern() {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string" }),
        },
        Kind::Duration { .. } => json!({ "type": "string", "pattern": DURATION_PATTERN }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Percent => json!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 100 },
            { "type": "string", "pattern": PERCENT_PATTERN },
        ] }),
        Kind::Object(shape) => json!({ "$ref": format!("#/$defs/{}", shape.name) }),
        Kind::List { of, min, max } => {
            json!({ "type": "array", "items": self::kind(of), "minItems": min, "maxItems": max })
        }
        Kind::Map { keys, of, min } => {
            let mut schema =
                json!({ "type": "object", "additionalProperties": self::kind(of), "minProperties": min });
            if let (Some(pattern), Value::Object(fields)) = (keys.pattern(), &mut schema) {
                fields.insert("propertyNames".to_owned(), json!({ "pattern": pattern }));
            }
            schema
        }
    }
}
