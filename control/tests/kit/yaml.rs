//! CloudFormation's YAML as JSON: `!Ref X` becomes `{"!Ref": "X"}`, every scalar a text.

use granit_parser::{Event, Parser, Tag};
use serde_json::{Map, Value, json};

enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// Reads a document.
pub fn read(text: &str) -> Value {
    let mut stack: Vec<(Open, Option<String>)> = Vec::new();
    let mut root = Value::Null;
    let name = |tag: &Option<std::borrow::Cow<'_, Tag>>| tag.as_ref().map(|tag| tag.original());
    for event in Parser::new_from_str(text) {
        let (event, span) = event.unwrap_or_else(|error| panic!("{error}"));
        let done = match event {
            Event::Scalar(text, _, _, tag) => tagged(Value::from(text.as_ref()), name(&tag)),
            Event::SequenceStart(_, _, tag) => {
                stack.push((Open::List(Vec::new()), name(&tag)));
                continue;
            }
            Event::MappingStart(_, _, tag) => {
                stack.push((Open::Map(Map::new(), None), name(&tag)));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop().unwrap() {
                (Open::List(items), tag) => tagged(Value::Array(items), tag),
                (Open::Map(entries, _), tag) => tagged(Value::Object(entries), tag),
            },
            Event::Alias(..) => panic!("line {}: CloudFormation knows no aliases", span.start.line()),
            _ => continue,
        };
        match stack.last_mut() {
            None => root = done,
            Some((Open::List(items), _)) => items.push(done),
            Some((Open::Map(entries, key), _)) => match key.take() {
                None => *key = Some(done.as_str().expect("keys are texts").to_owned()),
                Some(key) => assert!(entries.insert(key.clone(), done).is_none(), "{key} is there twice"),
            },
        }
    }
    root
}

fn tagged(value: Value, tag: Option<String>) -> Value {
    match tag {
        Some(tag) => json!({ tag: value }),
        None => value,
    }
}

/// What a `!Sub` gives with the parameters' defaults, and with the names of resources where it names those.
pub fn substituted(template: &Value, text: &str) -> String {
    let mut text = text.to_owned();
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        text = text.replace(&format!("${{{name}}}"), parameter["Default"].as_str().unwrap_or_default());
    }
    if let Some((before, rest)) = text.clone().split_once("${StateTable}") {
        let table = &template["Resources"]["StateTable"]["Properties"]["TableName"]["!Sub"];
        text = format!("{before}{}{rest}", substituted(template, table.as_str().unwrap()));
    }
    assert!(!text.contains("${"), "{text}");
    text
}
