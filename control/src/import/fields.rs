//! Typed reading of a resource in the words of the App Mesh API, with a memory of what was read.
//!
//! Owns places, unresolved values and the list of what nobody looked at: what is not read is named, never lost. It
//! must never know a resource kind. Next: `spec.rs`.

use super::notes::{Kind, Notes, Place};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The member by which a value is known that could not be resolved.
const UNRESOLVED: &str = "!unresolved";

/// A value that stands for one that is not known.
pub(super) fn unresolved(place: &Place, what: &str) -> Value {
    json!({UNRESOLVED: {"file": place.file, "line": place.line, "at": place.at, "what": what}})
}

/// Where and why a value is not known.
pub(super) fn unresolved_of(value: &Value) -> Option<(Place, String)> {
    let about = value.get(UNRESOLVED)?;
    let text = |key: &str| about.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let line = about.get("line").and_then(Value::as_u64).and_then(|line| usize::try_from(line).ok());
    Some((Place { file: text("file"), line: line.unwrap_or_default(), at: text("at") }, text("what")))
}

/// What is shared by all readers of one resource.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// Where remarks go.
    pub notes: &'a RefCell<Notes>,
    /// The resource.
    pub place: Place,
    read: RefCell<BTreeSet<String>>,
}

/// A value of a resource, or its absence.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    value: Option<&'a Value>,
    path: String,
    reading: &'a Reading<'a>,
}

impl<'a> Reading<'a> {
    pub fn new(notes: &'a RefCell<Notes>, place: Place) -> Self {
        Self { notes, place, read: RefCell::default() }
    }

    /// The whole resource.
    pub fn root(&'a self, value: &'a Value) -> Fields<'a> {
        Fields { value: Some(value), path: String::new(), reading: self }
    }

    /// Paths of values that nobody read, those of lists without their index (`listeners[]`).
    pub fn unread(&self, value: &Value) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        self.walk(value, String::new(), &mut found);
        found
    }

    fn walk(&self, value: &Value, path: String, found: &mut Vec<(String, Value)>) {
        if self.read.borrow().contains(&path) {
            return;
        }
        match value {
            Value::Null => {}
            value if unresolved_of(value).is_some() => found.push((path, value.clone())),
            Value::Object(map) => {
                for (key, value) in map {
                    self.walk(value, join(&path, key), found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    self.walk(value, format!("{path}[{index}]"), found);
                }
            }
            scalar => found.push((path, scalar.clone())),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl<'a> Fields<'a> {
    /// A member.
    pub fn get(&self, key: &str) -> Self {
        let value = self.value.and_then(|value| {
            if unresolved_of(value).is_some() {
                Some(value)
            } else {
                value.get(key).filter(|value| !value.is_null())
            }
        });
        Self { value, path: join(&self.path, key), reading: self.reading }
    }

    /// The members of a list; none when it is absent.
    pub fn items(&self) -> Vec<Self> {
        let Some(Value::Array(items)) = self.value else {
            if self.value.is_some() {
                self.wrong("a list");
            }
            return Vec::new();
        };
        let item = |(index, value): (usize, &'a Value)| Self {
            value: Some(value),
            path: format!("{}[{index}]", self.path),
            reading: self.reading,
        };
        items.iter().enumerate().map(item).collect()
    }

    /// Whether there is something.
    pub fn is_there(&self) -> bool {
        self.value.is_some()
    }

    /// Counts as read, with all below it.
    pub fn done(&self) {
        self.reading.read.borrow_mut().insert(self.path.clone());
    }

    /// A text; numbers are taken as written.
    pub fn text(&self) -> Option<String> {
        self.done();
        match self.value? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.wrong("a text");
                None
            }
        }
    }

    /// A text that must be there.
    pub fn needed(&self) -> Option<String> {
        if self.value.is_none() {
            self.error(format!("`{}` is missing", self.path));
        }
        self.text()
    }

    /// A whole number; parameters of CloudFormation are texts.
    pub fn whole(&self) -> Option<u64> {
        self.done();
        let number = match self.value? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong("a whole number");
        }
        number
    }

    /// A port.
    pub fn port(&self) -> Option<u16> {
        let number = self.whole()?;
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        if port.is_none() {
            self.error(format!("{number} is no port"));
        }
        port
    }

    /// true or false; parameters of CloudFormation are texts.
    pub fn flag(&self) -> Option<bool> {
        self.done();
        match self.value? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text == "true" => Some(true),
            Value::String(text) if text == "false" => Some(false),
            _ => {
                self.wrong("true or false");
                None
            }
        }
    }

    /// A duration of App Mesh, `{unit: s, value: 15}`, as `15s`.
    pub fn duration(&self) -> Option<String> {
        self.value?;
        let value = self.get("value").whole()?;
        let unit = self.get("unit").needed()?;
        if unit != "s" && unit != "ms" {
            self.error(format!("`{unit}` is no unit of App Mesh: s or ms"));
            return None;
        }
        Some(format!("{value}{unit}"))
    }

    /// Where this is.
    pub fn place(&self) -> Place {
        self.reading.place.inside(&self.path)
    }

    /// Says that it is wrong.
    pub fn error(&self, text: impl Into<String>) {
        self.reading.notes.borrow_mut().error(&self.place(), text);
    }

    /// Says something of it.
    pub fn say(&self, kind: Kind, text: impl Into<String>) {
        self.reading.notes.borrow_mut().add(kind, &self.place(), text);
    }

    fn wrong(&self, wanted: &str) {
        self.done();
        match self.value.and_then(unresolved_of) {
            Some((place, what)) => self.reading.notes.borrow_mut().error(&place, what),
            None => self.error(format!("expected {wanted}")),
        }
    }
}
