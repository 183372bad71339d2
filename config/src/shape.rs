//! Tables of fields, and the check of a document against one.
//!
//! Owns what a table can say: names, types, ranges, defaults, "one of these"; it must never compare two values.
//! The decoder's defaults and the JSON schema come from the same tables, so they cannot drift apart.
//! Next: `bootstrap_shape.rs` (the gateway's table), `object.rs` (typed access to what was checked here).

use crate::diagnostic::{Collector, Mark, did_you_mean};
use crate::rules::Rule;
use crate::scalar::{self, NumberFault, Plain, shorten};
use crate::tree::{Entry, Node, Value};
use crate::weights;

/// A mapping with known fields.
#[derive(Debug)]
pub struct Shape {
    /// Name in the JSON schema; unique in one schema.
    pub name: &'static str,
    /// For people, one sentence.
    pub doc: &'static str,
    /// In the order in which a person writes them.
    pub fields: &'static [Field],
    /// Groups of fields that exclude one another.
    pub one_of: &'static [OneOf],
}

/// Fields that exclude one another.
#[derive(Debug)]
pub struct OneOf {
    /// Names of optional fields of the same shape.
    pub fields: &'static [&'static str],
    /// One of them must be there.
    pub required: bool,
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// As written.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What its absence means.
    pub need: Need,
    /// For people, one sentence, default excluded.
    pub doc: &'static str,
}

/// What the absence of a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An error.
    Required,
    /// Nothing.
    Optional,
    /// The same as this text.
    Default(&'static str),
}

/// The type of a value.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds, both included.
    Whole {
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
    },
    /// A text.
    Text(Rule),
    /// A duration; zero disables what it limits, where that is allowed.
    Duration {
        /// Whether zero is allowed.
        zero: bool,
    },
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A percentage with at most two decimals.
    Percent,
    /// A mapping with known fields.
    Object(&'static Shape),
    /// A list.
    List {
        /// Of what.
        of: &'static Kind,
        /// Fewest items.
        min: usize,
        /// Most items.
        max: usize,
    },
    /// A mapping with free keys.
    Map {
        /// What a key may be.
        keys: Rule,
        /// Of what.
        of: &'static Kind,
        /// Fewest entries.
        min: usize,
    },
}

impl Field {
    /// A field that must be there.
    pub const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, need: Need::Required, doc }
    }

    /// A field that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, need: Need::Optional, doc }
    }

    /// A field that has a value when left out.
    pub const fn with_default(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, need: Need::Default(default), doc }
    }
}

impl Shape {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// What people write who come from Envoy's own files or from habit, and what to write instead.
const HINTS: &[(&str, &str)] = &[
    ("filter_chains", "write `http_connection_manager:` directly under the listener"),
    ("filters", "write `http_connection_manager:` directly under the listener"),
    ("http_filters", "remove it: the router is built in, other filters are not supported"),
    ("typed_config", "write the fields directly, without the `typed_config` and `@type` wrappers"),
    ("@type", "write the fields directly, without the `typed_config` and `@type` wrappers"),
    ("load_assignment", "write `discovery: {static: {endpoints: [..]}}`"),
    ("type", "write `discovery:` with `static`, `dns` or `cloud_map` under it"),
    (
        "safe_regex",
        "regular expressions are not supported: use `prefix` or `path`, for headers `string_match`",
    ),
    ("safe_regex_match", "regular expressions are not supported: use `string_match`"),
    ("exact_match", "write `string_match: {exact: ..}`"),
    ("prefix_match", "write `string_match: {prefix: ..}`"),
    ("suffix_match", "write `string_match: {suffix: ..}`"),
    ("contains_match", "write `string_match: {contains: ..}`"),
    ("total_weight", "remove it: the total is the sum of the weights"),
    ("<<", "merge keys are not supported: repeat the fields, or use an alias (`*name`) for a whole value"),
];

/// Checks a value against its type and reports everything that a table can tell.
/// `mark` is where the value was asked for: its key, or itself in a list.
pub fn check(node: &Node, kind: &Kind, path: &str, mark: Mark, out: &mut Collector<'_>) {
    if let Value::Scalar { text, quoted: false } = &node.value
        && scalar::classify(text) == Plain::Null
    {
        let cure =
            format!("write {}, or remove the line; look at the indentation of the lines below", wanted(kind));
        out.report(path, mark, "no value is given", cure);
        return;
    }
    match (kind, &node.value) {
        (Kind::Object(shape), Value::Map(entries)) => check_object(node, entries, shape, path, mark, out),
        (Kind::List { of, min, max }, Value::List(items)) => {
            check_count(items.len(), *min, Some(*max), path, mark, out);
            for (index, item) in items.iter().enumerate() {
                check(item, of, &format!("{path}[{index}]"), item.mark, out);
            }
        }
        (Kind::Map { keys, of, min }, Value::Map(entries)) => {
            check_count(entries.len(), *min, None, path, mark, out);
            for entry in entries {
                let path = join(path, &entry.key);
                if let Err(fault) = keys.check(&entry.key) {
                    out.report(&path, entry.key_mark, fault.message, fault.cure);
                }
                check(&entry.value, of, &path, entry.key_mark, out);
            }
        }
        (Kind::Object(_) | Kind::List { .. } | Kind::Map { .. }, _) | (_, Value::List(_) | Value::Map(_)) => {
            wrong_type(node, kind, path, out);
        }
        (_, Value::Scalar { text, quoted }) => {
            if let Err(fault) = check_scalar(text, *quoted, kind) {
                out.report(path, node.mark, fault.0, fault.1);
            }
        }
    }
}

/// A path and one more step.
pub(crate) fn join(path: &str, key: &str) -> String {
    let key = shorten(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn check_count(
    found: usize,
    min: usize,
    max: Option<usize>,
    path: &str,
    mark: Mark,
    out: &mut Collector<'_>,
) {
    if found < min {
        out.report(path, mark, format!("{found} entries; at least {min} needed"), "add what is missing");
    }
    if let Some(max) = max.filter(|max| found > *max) {
        out.report(path, mark, format!("{found} entries; at most {max} are allowed"), "remove some");
    }
}

fn check_object(
    node: &Node,
    entries: &[Entry],
    shape: &Shape,
    path: &str,
    mark: Mark,
    out: &mut Collector<'_>,
) {
    // A misspelt field is one error, not a missing one as well.
    let mut meant = Vec::new();
    for entry in entries {
        let path = join(path, &entry.key);
        match shape.field(&entry.key) {
            Some(field) => check(&entry.value, &field.kind, &path, entry.key_mark, out),
            None => meant.extend(unknown_field(entry, shape, &path, out)),
        }
    }
    for field in shape.fields {
        let absent = node.get(field.name).is_none() && !meant.contains(&field.name);
        if field.need == Need::Required && absent {
            let cure = format!("add `{}:` with {}. {}", field.name, wanted(&field.kind), field.doc);
            let text = format!("`{}` is missing", field.name);
            out.report(&join(path, field.name), mark, text, cure);
        }
    }
    for group in shape.one_of {
        let names = group.fields.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut given = entries.iter().filter(|entry| group.fields.contains(&entry.key.as_str()));
        match (given.next(), given.next()) {
            (None, _) if group.required && !group.fields.iter().any(|name| meant.contains(name)) => {
                out.report(path, mark, format!("one of {names} is missing"), "add exactly one of them");
            }
            (Some(first), Some(second)) => out.report(
                path,
                second.key_mark,
                format!("`{}` and `{}` exclude each other", first.key, second.key),
                format!("keep exactly one of {names}"),
            ),
            _ => {}
        }
    }
}

/// Reports a field that the table does not have; returns the one that was probably meant.
fn unknown_field(entry: &Entry, shape: &Shape, path: &str, out: &mut Collector<'_>) -> Option<&'static str> {
    let names = || shape.fields.iter().map(|field| field.name);
    if out.is_full() {
        out.report(path, entry.key_mark, "unknown field", "");
        return None;
    }
    let meant = did_you_mean(&entry.key, names());
    let cure = if let Some(meant) = meant {
        format!("did you mean `{meant}`?")
    } else if let Some((_, hint)) = HINTS.iter().find(|(name, _)| *name == entry.key) {
        (*hint).to_owned()
    } else {
        format!("known here: {}", names().collect::<Vec<_>>().join(", "))
    };
    out.report(path, entry.key_mark, format!("unknown field `{}`", shorten(&entry.key)), cure);
    meant
}

/// A type in words, with its article.
fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Whole { min, max: u64::MAX } => format!("a whole number of at least {min}"),
        Kind::Whole { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Text(rule) => rule.wanted().to_owned(),
        Kind::Duration { .. } => "a duration such as 15s".to_owned(),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Percent => "a percentage such as 99 or 0.25".to_owned(),
        Kind::Object(shape) => {
            let names: Vec<_> = shape.fields.iter().map(|field| field.name).take(4).collect();
            format!("a mapping with fields such as {}", names.join(", "))
        }
        Kind::List { of, .. } => format!("a list of which each item is {}", wanted(of)),
        Kind::Map { of, .. } => format!("a mapping of names of which each value is {}", wanted(of)),
    }
}

fn wrong_type(node: &Node, kind: &Kind, path: &str, out: &mut Collector<'_>) {
    let found = match &node.value {
        Value::Scalar { text, quoted } => found_scalar(text, *quoted),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    };
    let cure = match (kind, &node.value) {
        (Kind::List { .. }, _) => "start each item with `- `, or put them in brackets: [..]".to_owned(),
        (Kind::Object(_) | Kind::Map { .. }, _) => {
            "write its fields on the lines below, indented, or in braces: {..}".to_owned()
        }
        (_, Value::List(_)) => "write one value, without `- ` and brackets".to_owned(),
        _ => format!("write {}", wanted(kind)),
    };
    out.report(path, node.mark, format!("expected {}, found {found}", wanted(kind)), cure);
}

fn found_scalar(text: &str, quoted: bool) -> String {
    let shown = shorten(text);
    match scalar::classify(text) {
        _ if quoted => format!("the text \"{shown}\""),
        Plain::Null => "nothing".to_owned(),
        Plain::Bool(_) => format!("`{shown}`"),
        Plain::Integer | Plain::Float => format!("the number {shown}"),
        Plain::Text => format!("the text `{shown}`"),
    }
}

fn check_scalar(text: &str, quoted: bool, kind: &Kind) -> Result<(), (String, String)> {
    let plain = if quoted { Plain::Text } else { scalar::classify(text) };
    let mismatch = |cure: String| {
        Err((format!("expected {}, found {}", wanted(kind), found_scalar(text, quoted)), cure))
    };
    match kind {
        Kind::Flag if matches!(plain, Plain::Bool(_)) => Ok(()),
        Kind::Flag => mismatch("write true or false, without quotation marks".to_owned()),
        Kind::Whole { min, max } if plain == Plain::Integer => check_whole(text, *min, *max),
        Kind::Whole { .. } if quoted && scalar::whole(text).is_ok() => {
            mismatch("remove the quotation marks".to_owned())
        }
        Kind::Whole { .. } => mismatch("write the number in digits".to_owned()),
        Kind::Text(rule) if plain == Plain::Text => {
            rule.check(text).map_err(|fault| (fault.message, fault.cure))
        }
        Kind::Text(_) => mismatch(format!("put it in quotation marks if it is meant: \"{}\"", shorten(text))),
        Kind::Duration { .. } if matches!(plain, Plain::Bool(_)) => {
            mismatch("write a number and its unit".to_owned())
        }
        Kind::Duration { zero } => {
            let value = scalar::duration(text)?;
            if value.is_zero() && !zero {
                return Err((
                    "zero is no usable duration here".to_owned(),
                    "write a longer one, such as 1s".to_owned(),
                ));
            }
            Ok(())
        }
        Kind::Choice(words) if words.contains(&text) => Ok(()),
        Kind::Choice(words) => mismatch(match did_you_mean(text, words.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write one of {}", words.join(", ")),
        }),
        Kind::Percent => {
            weights::parse_percent(text).map(|_| ()).map_err(|error| (error.to_string(), error.cure()))
        }
        Kind::Object(_) | Kind::List { .. } | Kind::Map { .. } => mismatch(format!("write {}", wanted(kind))),
    }
}

/// Whether a scalar is of its type; what [`check`] says in words.
pub(crate) fn is_good_scalar(text: &str, quoted: bool, kind: &Kind) -> bool {
    check_scalar(text, quoted, kind).is_ok()
}

fn check_whole(text: &str, min: u64, max: u64) -> Result<(), (String, String)> {
    let range = if max == u64::MAX {
        format!("write {min} or more")
    } else {
        format!("write a number from {min} to {max}")
    };
    match scalar::whole(text) {
        Ok(value) if (min..=max).contains(&value) => Ok(()),
        Ok(value) if value < min => Err((format!("{value} is too small; the least is {min}"), range)),
        Ok(_) | Err(NumberFault::TooLarge) => {
            Err((format!("{} is too large; the greatest is {max}", shorten(text)), range))
        }
        Err(NumberFault::Negative) => Err((format!("{} is negative", shorten(text)), range)),
        Err(NumberFault::Form) => Err((format!("{} is not a decimal number", shorten(text)), range)),
    }
}
