//! Whatever the bytes, reading ends with a configuration or with errors that have a place, a text and a cure; what
//! is accepted fits the JSON schema.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use std::sync::LazyLock;

use gateway_config::control_config::parse_control;
use gateway_config::diagnostic::Collector;
use gateway_config::{Diagnostics, parse_bootstrap, schema, tree};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const GATEWAY_SAMPLES: [&str; 3] = [
    include_str!("../samples/demo-gateway.yaml"),
    include_str!("../samples/several-routes.yaml"),
    include_str!("../samples/ecs-cloud-map.yaml"),
];
const CONTROL_SAMPLES: [&str; 2] =
    [include_str!("../samples/demo-control.yaml"), include_str!("../samples/ecs-control.yaml")];

static GATEWAY_SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema::bootstrap()).unwrap());
static CONTROL_SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema::control()).unwrap());

/// Every error is of use to a person.
fn check_errors(text: &[u8], errors: &Diagnostics) {
    assert!(!errors.items.is_empty());
    let lines = String::from_utf8_lossy(text).split(['\n', '\r']).count() + 1;
    for item in &errors.items {
        assert!(!item.message.is_empty() && !item.cure.is_empty(), "{errors}");
        assert!(item.line <= lines, "{errors}");
        assert!(item.snippet.is_empty() || item.snippet.contains('^'), "{errors}");
    }
    let printed = errors.to_string();
    assert!(!printed.chars().any(|c| c.is_control() && c != '\n'), "{printed:?}");
}

fn check(text: &[u8]) {
    match parse_bootstrap("f", text) {
        Ok(_) => assert_fits(text, &GATEWAY_SCHEMA),
        Err(errors) => check_errors(text, &errors),
    }
    match parse_control("f", text) {
        Ok(_) => assert_fits(text, &CONTROL_SCHEMA),
        Err(errors) => check_errors(text, &errors),
    }
}

fn assert_fits(text: &[u8], schema: &jsonschema::Validator) {
    let text = std::str::from_utf8(text).unwrap();
    let mut out = Collector::new("f", text);
    let json = tree::read(text, &mut out).unwrap().to_json();
    let errors: Vec<String> =
        schema.iter_errors(&json).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "accepted, but the schema says {errors:#?}\n{text}");
}

/// Words that mean something to YAML or to us.
const WORDS: [&str; 32] = [
    "a",
    "weight",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "|\n ",
    ">",
    "&a ",
    "*a",
    "!t ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "#",
    "\t",
    "é",
    "\u{feff}",
    "\r",
    "0",
    "~",
    "routes",
    "static_resources",
];

/// One edit of a sample at a place given as a share of its length.
#[derive(Clone, Debug)]
enum Edit {
    Insert(u16, &'static str),
    Remove(u16, u8),
    Replace(u16, char),
    RepeatLine(u16),
    DropLine(u16),
    /// The nth word after a colon becomes another.
    Value(u16, String),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let value = prop_oneof![
        "[0-9]{1,12}",
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?%?",
        "[0-9]{1,4}(\\.[0-9]{1,2})?(ms|s|m|h|d)",
        "[a-z/.*:-]{0,8}",
        select(vec![
            "true", "false", "yes", "~", "\"\"", "\"x\"", "[]", "{}", "[a]", "+5", "1e3", "0x1", ".5", "v1",
            "v2"
        ])
        .prop_map(str::to_owned),
    ];
    let edit = prop_oneof![
        (any::<u16>(), select(WORDS.to_vec())).prop_map(|(at, word)| Edit::Insert(at, word)),
        (any::<u16>(), 1_u8..20).prop_map(|(at, len)| Edit::Remove(at, len)),
        (any::<u16>(), any::<char>()).prop_map(|(at, c)| Edit::Replace(at, c)),
        any::<u16>().prop_map(Edit::RepeatLine),
        any::<u16>().prop_map(Edit::DropLine),
        (any::<u16>(), value).prop_map(|(at, text)| Edit::Value(at, text)),
    ];
    vec(edit, 1..4)
}

fn apply(text: &str, edit: &Edit) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let place = |at: u16, len: usize| usize::from(at) * len / 65_536;
    let mut lines: Vec<&str> = text.lines().collect();
    match edit {
        Edit::Insert(at, word) => {
            let at = place(*at, chars.len());
            chars.splice(at..at, word.chars());
        }
        Edit::Remove(at, len) => {
            let from = place(*at, chars.len());
            chars.drain(from..(from + usize::from(*len)).min(chars.len()));
        }
        Edit::Replace(at, c) => {
            let at = place(*at, chars.len());
            if let Some(old) = chars.get_mut(at) {
                *old = *c;
            }
        }
        Edit::RepeatLine(at) if !lines.is_empty() => {
            let at = place(*at, lines.len());
            lines.insert(at, lines[at]);
            return lines.join("\n");
        }
        Edit::DropLine(at) if !lines.is_empty() => {
            lines.remove(place(*at, lines.len()));
            return lines.join("\n");
        }
        Edit::Value(at, value) => {
            let starts: Vec<usize> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
            if let Some(start) = starts.get(place(*at, starts.len())) {
                let end = text[*start..].find([',', '}', ']', '\n']).map_or(text.len(), |end| start + end);
                return format!("{}{value}{}", &text[..*start], &text[end..]);
            }
        }
        _ => {}
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn words_of_yaml_in_any_order_never_panic(words in vec(select(WORDS.to_vec()), 0..60)) {
        check(words.concat().as_bytes());
    }

    #[test]
    fn a_damaged_gateway_sample_is_read_or_explained(sample in select(GATEWAY_SAMPLES.to_vec()), edits in edits()) {
        let text = edits.iter().fold(sample.to_owned(), |text, edit| apply(&text, edit));
        check(text.as_bytes());
    }

    #[test]
    fn a_damaged_control_sample_is_read_or_explained(sample in select(CONTROL_SAMPLES.to_vec()), edits in edits()) {
        let text = edits.iter().fold(sample.to_owned(), |text, edit| apply(&text, edit));
        check(text.as_bytes());
    }
}
