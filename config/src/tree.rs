//! A YAML or JSON document as a small tree in which every key and value knows its place.
//!
//! Owns reading within budgets, duplicate keys, anchors and aliases; it must never know a field name. No
//! recursion on input deeper than [`MAX_DEPTH`]. Next: `shape.rs`, which checks a tree against a table of fields.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use crate::diagnostic::{Collector, Mark};
use crate::scalar::{plain_to_json, shorten};
use crate::shape::join;

/// Deepest nesting; our deepest field is at 16, and every walk over the tree is recursive.
pub const MAX_DEPTH: usize = 48;
/// Most values in one document, copies made by aliases included; a gateway with 1,000 routes has about 30,000.
pub const MAX_NODES: usize = 100_000;
/// Most bytes of scalars, copies made by aliases included: four times the largest file.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it starts.
    pub mark: Mark,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A scalar, not yet typed.
    Scalar {
        /// After unescaping.
        text: String,
        /// Written in quotes or as a block: always text, never a number.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file; keys are unique.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key starts.
    pub key_mark: Mark,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The entries, if this is a mapping.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn items(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// One entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    fn cost(&self) -> Cost {
        let mut cost = Cost { nodes: 1, bytes: 0, depth: 1 };
        match &self.value {
            Value::Scalar { text, .. } => cost.bytes = text.len(),
            Value::List(items) => items.iter().for_each(|item| cost.add_child(item.cost())),
            Value::Map(entries) => {
                for entry in entries {
                    cost.bytes += entry.key.len();
                    cost.add_child(entry.value.cost());
                }
            }
        }
        cost
    }
}

/// What a subtree costs when it is copied.
#[derive(Clone, Copy)]
struct Cost {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Cost {
    fn add_child(&mut self, child: Self) {
        self.nodes += child.nodes;
        self.bytes += child.bytes;
        self.depth = self.depth.max(child.depth + 1);
    }
}

/// Reads one document. `None` when it cannot be read on; then at least one error was reported.
/// Duplicate keys are reported too, and the first of them is kept.
pub fn read(text: &str, out: &mut Collector<'_>) -> Option<Node> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, mark_of(&span), out),
            Err(error) => Err(syntax_fault(&error)),
        };
        if let Err(fault) = taken {
            out.report("", fault.mark, fault.message, fault.cure);
            return None;
        }
    }
    if builder.root.is_none() {
        out.report("", Mark::default(), "the file holds no configuration", EMPTY_CURE);
    }
    builder.root
}

/// What to do about a document without content.
pub(crate) const EMPTY_CURE: &str = "start from one of the files in config/samples";

struct Fault {
    mark: Mark,
    message: String,
    cure: String,
}

fn fault<T>(mark: Mark, message: impl Into<String>, cure: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { mark, message: message.into(), cure: cure.into() })
}

fn mark_of(span: &Span) -> Mark {
    let len = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Mark { line: span.start.line(), column: span.start.col() + 1, len: len.max(1) }
}

fn syntax_fault(error: &ScanError) -> Fault {
    let at = error.marker();
    let mark = Mark { line: at.line(), column: at.col() + 1, len: 1 };
    let cure = match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            "YAML is indented with spaces only: replace the tab"
        }
        ErrorKind::RecursionLimitExceeded => "no field lies that deep: remove the extra brackets or levels",
        ErrorKind::UnknownAnchor => {
            "define the anchor (`&name`) above its first use, or quote a text that starts with `*`"
        }
        ErrorKind::UnclosedQuotedScalar => "close the quotation mark",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence => "close the bracket",
        ErrorKind::MappingValueNotAllowed => {
            "quote a text that contains `: `, or put the key on its own line"
        }
        _ => "look at the indentation, quotation marks and brackets of this line and the one above",
    };
    Fault { mark, message: format!("this is not YAML: {}", error.info()), cure: cure.to_owned() }
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    root: Option<Node>,
    /// Finished anchored values by the parser's anchor id.
    anchors: HashMap<usize, (Node, Cost)>,
    nodes: usize,
    bytes: usize,
}

struct Frame {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, usize>, key: Option<(String, Mark)> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, mark: Mark, out: &mut Collector<'_>) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => fault(
                mark,
                "a second document starts here",
                "keep one document per file: remove the `---` and what follows",
            ),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                self.scalar(text.into_owned(), style != ScalarStyle::Plain, mark, anchor, out)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                self.open(Frame { mark, anchor, content: Content::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                let content = Content::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                self.open(Frame { mark, anchor, content })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(out),
            Event::Alias(anchor) => self.alias(anchor, mark, out),
            _ => Ok(()),
        }
    }

    fn spend(&mut self, nodes: usize, bytes: usize, mark: Mark) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes <= MAX_NODES && self.bytes <= MAX_TEXT_BYTES {
            return Ok(());
        }
        fault(
            mark,
            format!(
                "the document is too large: more than {MAX_NODES} values or {} MiB of text, copies by aliases included",
                MAX_TEXT_BYTES >> 20
            ),
            "use fewer aliases (`*name`) of large anchors, or split the gateway in two",
        )
    }

    fn open(&mut self, frame: Frame) -> Result<(), Fault> {
        self.spend(1, 0, frame.mark)?;
        if let Some(Frame { content: Content::Map { key: None, .. }, .. }) = self.stack.last() {
            return fault(
                frame.mark,
                "a list or mapping cannot be a key",
                "give the key a name, or quote it",
            );
        }
        if self.stack.len() >= MAX_DEPTH {
            return fault(
                frame.mark,
                format!("nested deeper than {MAX_DEPTH} levels"),
                "no field lies that deep: remove the extra brackets or levels",
            );
        }
        self.stack.push(frame);
        Ok(())
    }

    fn scalar(
        &mut self,
        text: String,
        quoted: bool,
        mark: Mark,
        anchor: usize,
        out: &mut Collector<'_>,
    ) -> Result<(), Fault> {
        self.spend(1, text.len(), mark)?;
        if let Some(Frame { content: Content::Map { key: key @ None, .. }, .. }) = self.stack.last_mut() {
            *key = Some((text, mark));
            return Ok(());
        }
        self.finish(Node { value: Value::Scalar { text, quoted }, mark }, anchor, out)
    }

    fn close(&mut self, out: &mut Collector<'_>) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.finish(Node { value, mark: frame.mark }, frame.anchor, out)
    }

    fn alias(&mut self, anchor: usize, mark: Mark, out: &mut Collector<'_>) -> Result<(), Fault> {
        let Some(cost) = self.anchors.get(&anchor).map(|(_, cost)| *cost) else {
            return fault(
                mark,
                "an alias inside the value that it names",
                "an anchor cannot contain itself: write the value out",
            );
        };
        if self.stack.len() + cost.depth > MAX_DEPTH {
            return fault(
                mark,
                format!("nested deeper than {MAX_DEPTH} levels by an alias"),
                "write the value out",
            );
        }
        self.spend(cost.nodes, cost.bytes, mark)?;
        let Some(node) = self.anchors.get(&anchor).map(|(node, _)| node.clone()) else { return Ok(()) };
        match (self.stack.last_mut(), &node.value) {
            (
                Some(Frame { content: Content::Map { key: key @ None, .. }, .. }),
                Value::Scalar { text, .. },
            ) => {
                *key = Some((text.clone(), mark));
                Ok(())
            }
            (Some(Frame { content: Content::Map { key: None, .. }, .. }), _) => {
                fault(mark, "a list or mapping cannot be a key", "give the key a name, or quote it")
            }
            _ => self.finish(node, 0, out),
        }
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, out: &mut Collector<'_>) -> Result<(), Fault> {
        if anchor != 0 {
            let cost = node.cost();
            // The kept copy counts too, or nested anchors would cost depth times size.
            self.spend(cost.nodes, cost.bytes, node.mark)?;
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        let Some((frame, above)) = self.stack.split_last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, seen, key } => {
                let Some((key, key_mark)) = key.take() else { return Ok(()) };
                if let Some(first) = seen.get(&key) {
                    let cure = format!("it is already given in line {first}: keep one of the two");
                    let message = format!("`{}` is given twice", shorten(&key));
                    out.report(&join(&path_of(above), &key), key_mark, message, cure);
                    return Ok(());
                }
                seen.insert(key.clone(), key_mark.line);
                entries.push(Entry { key, key_mark, value: node });
            }
        }
        Ok(())
    }
}

/// Where the value lies that is being read inside these frames.
fn path_of(frames: &[Frame]) -> String {
    let mut path = String::new();
    for frame in frames {
        path = match &frame.content {
            Content::List(items) => format!("{path}[{}]", items.len()),
            Content::Map { key, .. } => join(&path, key.as_ref().map_or("", |(key, _)| key)),
        };
    }
    path
}

fn refuse_tag(tagged: bool, mark: Mark) -> Result<(), Fault> {
    if tagged {
        return fault(
            mark,
            "YAML tags (`!name`) are not supported",
            "remove the tag, or quote a text that starts with `!`",
        );
    }
    Ok(())
}

impl Node {
    /// The value as JSON, scalars typed by YAML's core schema; for the JSON schema's tests and for echoing.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar { text, quoted: true } => serde_json::Value::String(text.clone()),
            Value::Scalar { text, quoted: false } => plain_to_json(text),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
            }
        }
    }
}
