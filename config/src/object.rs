//! Typed access to a document that was checked against its table.
//!
//! Owns the step from scalars to Rust values, defaults from the table included; it must never report: what is
//! wrong was reported by `shape.rs`, and a wrong value reads as its default so that the decoder can go on and find
//! the next error. Next: `decode.rs`.

use std::time::Duration;

use crate::diagnostic::Mark;
use crate::scalar::{self, Plain};
use crate::shape::{Kind, Need, Shape, is_good_scalar, join};
use crate::tree::{Node, Value};
use crate::weights;

/// One mapping of a document together with its table. A field that is not in the table is a mistake of the
/// decoder; debug builds stop there.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    node: Option<&'a Node>,
    shape: &'static Shape,
    /// Where it lies, as `static_resources.listeners[0]`.
    pub path: String,
    /// Its key, or itself in a list.
    pub mark: Mark,
}

/// A value, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spotted<T> {
    /// The value.
    pub value: T,
    /// Where it lies.
    pub path: String,
    /// Where it starts.
    pub mark: Mark,
}

impl<'a> Object<'a> {
    /// The whole document.
    pub fn root(node: &'a Node, shape: &'static Shape) -> Self {
        Self { node: Some(node), shape, path: String::new(), mark: node.mark }
    }

    fn kind(&self, name: &str) -> Option<&'static Kind> {
        let field = self.shape.field(name);
        debug_assert!(field.is_some(), "{} has no field {name}", self.shape.name);
        field.map(|field| &field.kind)
    }

    fn given(&self, name: &str) -> Option<&'a Node> {
        self.node?.get(name).map(|entry| &entry.value)
    }

    /// The scalar of a field if it is of a good type, else its default.
    fn scalar(&self, name: &str) -> Option<&'a str> {
        let field = self.shape.field(name)?;
        let given = self.given(name).and_then(|node| match &node.value {
            Value::Scalar { text, quoted } => {
                is_good_scalar(text, *quoted, &field.kind).then_some(text.as_str())
            }
            _ => None,
        });
        given.or(match field.need {
            Need::Default(text) => Some(text),
            Need::Required | Need::Optional => None,
        })
    }

    /// As it was written, in JSON; `null` when it was not.
    pub fn to_json(&self) -> serde_json::Value {
        self.node.map_or(serde_json::Value::Null, Node::to_json)
    }

    /// Whether the field is written.
    pub fn has(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// Where to point for a field: its value, its place being that of the whole mapping when it is missing.
    pub fn mark_of(&self, name: &str) -> Mark {
        self.given(name).map_or(self.mark, |node| node.mark)
    }

    /// Path of a field.
    pub fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// A text; empty when missing without a default.
    pub fn text(&self, name: &str) -> String {
        self.text_opt(name).unwrap_or_default()
    }

    /// A text, if given or by default.
    pub fn text_opt(&self, name: &str) -> Option<String> {
        debug_assert!(matches!(self.kind(name), Some(Kind::Text(_) | Kind::Choice(_))), "{name} is no text");
        self.scalar(name).map(str::to_owned)
    }

    /// A text and its place, if given.
    pub fn spotted(&self, name: &str) -> Option<Spotted<String>> {
        let value = self.text_opt(name)?;
        Some(Spotted { value, path: self.path_of(name), mark: self.mark_of(name) })
    }

    /// `true` or `false`; false when missing without a default.
    pub fn flag(&self, name: &str) -> bool {
        debug_assert!(matches!(self.kind(name), Some(Kind::Flag)), "{name} is no flag");
        self.scalar(name).is_some_and(|text| scalar::classify(text) == Plain::Bool(true))
    }

    /// A whole number, if given or by default, when the target type holds it.
    pub fn whole_opt<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        debug_assert!(matches!(self.kind(name), Some(Kind::Whole { .. })), "{name} is no number");
        self.scalar(name).and_then(|text| scalar::whole(text).ok()).and_then(|value| T::try_from(value).ok())
    }

    /// A whole number; zero when missing without a default.
    pub fn whole<T: TryFrom<u64> + Default>(&self, name: &str) -> T {
        self.whole_opt(name).unwrap_or_default()
    }

    /// A duration; zero when missing without a default.
    pub fn duration(&self, name: &str) -> Duration {
        debug_assert!(matches!(self.kind(name), Some(Kind::Duration { .. })), "{name} is no duration");
        self.scalar(name).and_then(|text| scalar::duration(text).ok()).unwrap_or_default()
    }

    /// A mapping, if given.
    pub fn object_opt(&self, name: &str) -> Option<Self> {
        let Some(Kind::Object(shape)) = self.kind(name) else {
            debug_assert!(false, "{name} is no mapping");
            return None;
        };
        let entry = self.node?.get(name)?;
        Some(Self { node: Some(&entry.value), shape, path: self.path_of(name), mark: entry.key_mark })
    }

    /// A mapping; when missing, one in which every field has its default.
    pub fn object(&self, name: &str) -> Self {
        self.object_opt(name).unwrap_or_else(|| {
            let shape = match self.kind(name) {
                Some(Kind::Object(shape)) => shape,
                _ => self.shape,
            };
            Self { node: None, shape, path: self.path_of(name), mark: self.mark }
        })
    }

    /// The mappings of a list; empty when missing.
    pub fn objects(&self, name: &str) -> Vec<Self> {
        let Some(Kind::List { of: Kind::Object(shape), .. }) = self.kind(name) else {
            debug_assert!(false, "{name} is no list of mappings");
            return Vec::new();
        };
        let path = self.path_of(name);
        self.list(name)
            .enumerate()
            .map(|(index, node)| Self {
                node: Some(node),
                shape,
                path: format!("{path}[{index}]"),
                mark: node.mark,
            })
            .collect()
    }

    /// An item of a list of mappings in which every field has its default.
    pub fn item_by_default(&self, name: &str) -> Self {
        let shape = match self.kind(name) {
            Some(Kind::List { of: Kind::Object(shape), .. }) => shape,
            _ => self.shape,
        };
        Self { node: None, shape, path: self.path_of(name), mark: self.mark }
    }

    /// The good texts of a list; empty when missing.
    pub fn texts(&self, name: &str) -> Vec<Spotted<String>> {
        let Some(Kind::List { of, .. }) = self.kind(name) else {
            debug_assert!(false, "{name} is no list");
            return Vec::new();
        };
        let path = self.path_of(name);
        self.list(name)
            .enumerate()
            .filter_map(|(index, node)| spot(node, of, format!("{path}[{index}]"), node.mark))
            .collect()
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.given(name).and_then(Node::items).unwrap_or_default().iter()
    }

    /// The good entries of a mapping from free keys to scalars: key, then text and place of the value.
    pub fn scalars_by_key(&self, name: &str) -> Vec<(String, Spotted<String>)> {
        let Some(Kind::Map { keys, of, .. }) = self.kind(name) else {
            debug_assert!(false, "{name} is no map");
            return Vec::new();
        };
        let entries = self.given(name).and_then(Node::entries).unwrap_or_default();
        let good = entries.iter().filter(|entry| keys.check(&entry.key).is_ok());
        good.filter_map(|entry| {
            let path = join(&self.path_of(name), &entry.key);
            spot(&entry.value, of, path, entry.key_mark).map(|value| (entry.key.clone(), value))
        })
        .collect()
    }

    /// Whether some entry of a mapping from free keys to scalars was refused.
    pub fn refused(&self, name: &str) -> bool {
        self.given(name).and_then(Node::entries).unwrap_or_default().len() != self.scalars_by_key(name).len()
    }

    /// The mappings of a mapping with free keys: key, then mapping.
    pub fn objects_by_key(&self, name: &str) -> Vec<(String, Self)> {
        let Some(Kind::Map { of: Kind::Object(shape), .. }) = self.kind(name) else {
            debug_assert!(false, "{name} is no map of mappings");
            return Vec::new();
        };
        let entries = self.given(name).and_then(Node::entries).unwrap_or_default();
        let path = self.path_of(name);
        entries
            .iter()
            .map(|entry| {
                let path = join(&path, &entry.key);
                (entry.key.clone(), Self { node: Some(&entry.value), shape, path, mark: entry.key_mark })
            })
            .collect()
    }
}

fn spot(node: &Node, kind: &Kind, path: String, mark: Mark) -> Option<Spotted<String>> {
    match &node.value {
        Value::Scalar { text, quoted } if is_good_scalar(text, *quoted, kind) => {
            Some(Spotted { value: text.clone(), path, mark })
        }
        _ => None,
    }
}

/// A percentage that was checked, in hundredths of a percent.
pub(crate) fn percent(text: &str) -> u32 {
    weights::parse_percent(text).unwrap_or_default()
}
