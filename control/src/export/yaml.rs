//! JSON values as YAML that is pleasant to read.
//!
//! Owns layout only; every text that could be read as something else is quoted. Next: `mod.rs`.

use gateway_config::scalar::{Plain, classify};
use serde_json::Value;

/// A value as a YAML document.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

fn write(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                // The first member of a list's item stands behind its dash.
                if index > 0 || !out.ends_with("- ") {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str(&scalar(key));
                out.push(':');
                below(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push_str("- ");
                match item {
                    Value::Object(map) if !map.is_empty() => write(item, indent + 2, out),
                    _ => {
                        out.push_str(&leaf(item));
                        out.push('\n');
                    }
                }
            }
        }
        _ => {
            out.push_str(&leaf(value));
            out.push('\n');
        }
    }
}

fn below(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            write(value, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write(value, indent, out);
        }
        _ => {
            out.push(' ');
            out.push_str(&leaf(value));
            out.push('\n');
        }
    }
}

/// A value on one line; JSON is YAML.
fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

fn scalar(text: &str) -> String {
    let tame = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    if starts && text.chars().all(tame) && classify(text) == Plain::Text && !is_yaml_1_1_flag(text) {
        return text.to_owned();
    }
    Value::String(text.to_owned()).to_string()
}

/// Envoy's YAML reader knows more flags than YAML 1.2.
fn is_yaml_1_1_flag(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "y" | "n" | "yes" | "no" | "on" | "off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back_as_the_same() {
        let value = json!({
            "a": {"b": [{"c": 1, "d": [true, null]}, {"e": {}}], "f": []},
            "@type": "type.googleapis.com/x", "n": "no", "t": "15s", "k: v": "a: b # c", "empty": "", "lists": [["x"], []],
        });
        let text = yaml(&value);
        let read = crate::import::yaml_to_json(&text).unwrap();
        assert_eq!(read, value, "{text}");
    }
}
