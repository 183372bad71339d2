//! A YAML document with its tags, as CloudFormation writes them.
//!
//! Owns reading within budgets; short tags become the long form (`!Ref x` is `{Ref: x}`), so that nobody else knows
//! tags. It must never know what a function means. Next: `intrinsic.rs`.

use gateway_config::scalar::{Plain, classify};
use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value as Json};
use std::collections::{HashMap, HashSet};

/// Deepest nesting: App Mesh's deepest property is at about 20, and walks over the tree are recursive.
const MAX_DEPTH: usize = 64;
/// Most values, copies by aliases included: CloudFormation takes a template of 1 MiB and 500 resources.
const MAX_NODES: usize = 200_000;

const TOO_LARGE: &str = "more values than any template has, copies by aliases included";

/// A value and the line in which it starts; 0 = not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// 1-based.
    pub line: usize,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Typed by YAML's core schema.
    Scalar(Json),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file.
    Map(Vec<(String, Node)>),
}

/// Why a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// 1-based.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl Node {
    /// An entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The entries; none if this is no mapping.
    pub fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::Scalar(Json::String(text)) => Some(text.clone()),
            Value::Scalar(Json::Null) => None,
            Value::Scalar(other) => Some(other.to_string()),
            _ => None,
        }
    }

    /// The same without places.
    pub fn from_json(json: &Json) -> Self {
        let value = match json {
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                Value::Map(map.iter().map(|(key, value)| (key.clone(), Self::from_json(value))).collect())
            }
            scalar => Value::Scalar(scalar.clone()),
        };
        Self { value, line: 0 }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Scalar(json) => json.clone(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => Json::Object(
                entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            // A long text that is repeated by aliases is memory too.
            Value::Scalar(json) => json.as_str().map_or(0, str::len) / 16,
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }
}

/// Reads one document.
///
/// # Errors
/// The first fault, with its line: what is not YAML, a key twice, a document that is too large or cut off.
pub fn read(text: &str) -> Result<Node, Fault> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| Fault {
            line: error.marker().line(),
            text: format!("this is not YAML: {}", error.info()),
        })?;
        builder.take(event, span.start.line())?;
    }
    builder.root.ok_or_else(|| Fault { line: 0, text: "the file is empty".to_owned() })
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

struct Frame {
    line: usize,
    anchor: usize,
    function: Option<String>,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(String, Node)>, seen: HashSet<String>, key: Option<String> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Fault> {
        let (content, anchor, tag) = match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                return fault(line, "a second document starts here: one template per file");
            }
            Event::Scalar(text, style, anchor, tag) => {
                let function = tag.as_deref().and_then(function);
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let scalar = if plain { typed(&text) } else { Json::String(text.into_owned()) };
                return self.scalar(scalar, anchor, function, line);
            }
            Event::Alias(anchor) => return self.alias(anchor, line),
            Event::SequenceEnd | Event::MappingEnd => return self.close(),
            Event::SequenceStart(_, anchor, tag) => (Content::List(Vec::new()), anchor, tag),
            Event::MappingStart(_, anchor, tag) => {
                (Content::Map { entries: Vec::new(), seen: HashSet::new(), key: None }, anchor, tag)
            }
            _ => return Ok(()),
        };
        if let Some(Frame { content: Content::Map { key: None, .. }, .. }) = self.stack.last() {
            return fault(line, "a list or mapping cannot be a key");
        }
        if self.stack.len() >= MAX_DEPTH {
            return fault(line, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.stack.push(Frame { line, anchor, function: tag.as_deref().and_then(function), content });
        Ok(())
    }

    fn scalar(
        &mut self,
        scalar: Json,
        anchor: usize,
        function: Option<String>,
        line: usize,
    ) -> Result<(), Fault> {
        if let Some(Frame { content: Content::Map { key: key @ None, seen, .. }, .. }) = self.stack.last_mut()
        {
            let name = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
            if !seen.insert(name.clone()) {
                return fault(line, format!("`{name}` is given twice: keep one of the two"));
            }
            *key = Some(name);
            return Ok(());
        }
        self.finish(wrap(Node { value: Value::Scalar(scalar), line }, function), anchor)
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.finish(wrap(Node { value, line: frame.line }, frame.function), frame.anchor)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&anchor) else {
            return fault(line, "an alias inside the value that it names");
        };
        self.nodes += node.size();
        if self.nodes > MAX_NODES {
            return fault(line, TOO_LARGE);
        }
        let node = node.clone();
        self.finish(node, 0)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return fault(node.line, TOO_LARGE);
        }
        if anchor != 0 {
            self.nodes += node.size();
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key, .. }) => entries.extend(key.take().map(|key| (key, node))),
        }
        Ok(())
    }
}

fn fault<T>(line: usize, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { line, text: text.into() })
}

/// The long form of a short tag (AWS CloudFormation user guide, "Intrinsic function reference").
fn function(tag: &Tag) -> Option<String> {
    if tag.core_suffix().is_some() {
        return None;
    }
    Some(match tag.suffix() {
        plain @ ("Ref" | "Condition") => plain.to_owned(),
        other => format!("Fn::{other}"),
    })
}

fn wrap(node: Node, function: Option<String>) -> Node {
    let line = node.line;
    match function {
        Some(function) => Node { value: Value::Map(vec![(function, node)]), line },
        None => node,
    }
}

fn typed(text: &str) -> Json {
    match classify(text) {
        Plain::Null => Json::Null,
        Plain::Bool(value) => Json::Bool(value),
        Plain::Integer => text
            .parse::<i64>()
            .map_or_else(|_| Json::String(text.to_owned()), |number| Json::Number(number.into())),
        Plain::Float => text
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
            .map_or_else(|| Json::String(text.to_owned()), Json::Number),
        Plain::Text => Json::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_tags_are_the_long_form() {
        let node =
            read("a: !Ref X\nb: !GetAtt Y.Z\nc: !Join ['.', [!Ref A, b]]\nd: !Sub '${A}.x'\ne: 3000\n")
                .unwrap();
        assert_eq!(
            node.to_json(),
            json!({
                "a": {"Ref": "X"}, "b": {"Fn::GetAtt": "Y.Z"},
                "c": {"Fn::Join": [".", [{"Ref": "A"}, "b"]]}, "d": {"Fn::Sub": "${A}.x"}, "e": 3000,
            })
        );
    }

    #[test]
    fn half_a_document_a_key_twice_and_a_loop_are_faults_with_a_line() {
        for (text, line, part) in [
            ("a: {b: [1, 2", 1, "not YAML"),
            ("a: 1\na: 2\n", 2, "given twice"),
            ("a: 1\nb: &x [*x]\n", 2, "alias"),
            ("a: \"open\nb: 2\n", 1, "not YAML"),
            ("a: 1\n---\nb: 1\n", 2, "second document"),
            ("# nothing\n", 0, "empty"),
            (&format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(20)), 2, "more values"),
            (&format!("{}{}", "[".repeat(100), "]".repeat(100)), 1, "not YAML"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.text.contains(part), "{text}: {fault:?}");
            assert!(line == 0 || fault.line >= line, "{text}: {fault:?}");
        }
    }
}
