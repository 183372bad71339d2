//! Texts with `{{placeholders}}`.
//!
//! Owns one substitution, strict on purpose: every placeholder has a value. It must never escape: values are checked
//! where they come in (`names.rs`). Next: `names.rs`.

use std::collections::{BTreeMap, BTreeSet};

/// Values by the name of their placeholder.
pub(super) type Values = BTreeMap<&'static str, String>;

/// A template and the values do not fit: a defect of this program, which a test finds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such value.
    #[error("{template}:{line}: no value for `{{{{{name}}}}}`; this is a defect of control")]
    Unknown {
        /// The template.
        template: String,
        /// Line, from 1.
        line: usize,
        /// What stands between the braces.
        name: String,
    },
    /// A value that is used nowhere.
    #[error("no template uses `{{{{{name}}}}}`; this is a defect of control")]
    Unused {
        /// The placeholder.
        name: String,
    },
}

/// The template with its values.
///
/// A placeholder alone on its line may stand for several lines, each indented like it, or for none.
pub(super) fn fill(
    template: &str,
    text: &str,
    values: &Values,
    used: &mut BTreeSet<String>,
) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(text.len());
    for (index, line) in text.lines().enumerate() {
        let mut value = |name: &str| -> Result<String, TemplateError> {
            used.insert(name.to_owned());
            values.get(name).cloned().ok_or_else(|| TemplateError::Unknown {
                template: template.to_owned(),
                line: index + 1,
                name: name.to_owned(),
            })
        };
        if let Some(name) = alone(line) {
            let indent = line.get(..line.len() - line.trim_start().len()).unwrap_or_default();
            for inner in value(name)?.lines() {
                let indent = if inner.is_empty() { "" } else { indent };
                filled.extend([indent, inner, "\n"]);
            }
            continue;
        }
        let mut rest = line;
        while let Some((before, name, after)) = placeholder(rest) {
            filled.push_str(before);
            filled.push_str(&value(name)?);
            rest = after;
        }
        filled.push_str(rest);
        filled.push('\n');
    }
    Ok(filled)
}

/// The name of a placeholder with nothing beside it.
fn alone(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    is_name(name).then_some(name)
}

/// What is before the first placeholder, its name, what is after it.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, TemplateError> {
        let values = Values::from([
            ("a", "one".to_owned()),
            ("many", "x:\n\n- y".to_owned()),
            ("none", String::new()),
        ]);
        fill("t", text, &values, &mut BTreeSet::new())
    }

    #[test]
    fn every_placeholder_gets_its_value() {
        assert_eq!(filled("{{a}}-{{a}} {a} ${A}\nb}}\n").unwrap(), "one-one {a} ${A}\nb}}\n");
    }

    #[test]
    fn a_placeholder_alone_on_its_line_may_be_many_lines_or_none() {
        assert_eq!(filled("k:\n  {{many}}\n  {{none}}\nz\n").unwrap(), "k:\n  x:\n\n  - y\nz\n");
    }

    #[test]
    fn what_has_no_value_is_an_error_with_its_line() {
        let unknown =
            |name: &str| TemplateError::Unknown { template: "t".into(), line: 2, name: name.into() };
        assert_eq!(filled("x\nb {{b}}\n"), Err(unknown("b")));
        assert_eq!(filled("x\n {{b}}\n"), Err(unknown("b")));
        assert_eq!(filled("x\n{{ a }}\n"), Err(unknown(" a ")));
    }
}
