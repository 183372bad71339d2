//! The header list: order, editing, and equality with a plain list of pairs that is edited the slow way.

use http1::Fields;
use proptest::prelude::*;

use crate::lines;

fn fields(of: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    fields.extend(of.iter().map(|(name, value)| (*name, value.as_bytes())));
    fields
}

fn shown(fields: &Fields) -> String {
    let lines = fields.iter().map(|(name, value)| format!("{name}={}", value.escape_ascii()));
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn lines_keep_their_order_and_names_are_lower_cased() {
    let fields = fields(&[("B", "1"), ("a", "2"), ("b", "3")]);
    assert_eq!(shown(&fields), "b=1 a=2 b=3");
    assert_eq!((fields.len(), fields.is_empty()), (3, false));
    assert_eq!(fields.get("b"), Some(b"1".as_slice()));
    assert_eq!(fields.get_all("b").collect::<Vec<_>>(), [b"1", b"3"]);
    assert!(fields.contains("a") && !fields.contains("c") && !fields.contains("B"));
}

#[test]
fn set_replaces_the_first_line_in_place_and_drops_the_others() {
    let mut list = fields(&[("a", "1"), ("b", "2"), ("c", "3"), ("b", "4")]);
    list.set("b", b"longer than before");
    assert_eq!(shown(&list), "a=1 b=longer than before c=3");
    list.set("d", b"5");
    assert_eq!(shown(&list), "a=1 b=longer than before c=3 d=5");
}

#[test]
fn append_to_joins_all_lines_at_the_place_of_the_first() {
    let mut list = fields(&[("x", "1"), ("y", "2"), ("x", "3")]);
    list.append_to("x", b",", b"4");
    assert_eq!(shown(&list), "x=1,3,4 y=2");
    list.append_to("z", b",", b"5");
    assert_eq!(shown(&list), "x=1,3,4 y=2 z=5");
}

#[test]
fn join_adds_nothing() {
    let mut list = fields(&[("x", "1"), ("y", "2"), ("x", "3")]);
    list.join("x", b", ");
    list.join("y", b", ");
    list.join("z", b", ");
    assert_eq!(shown(&list), "x=1, 3 y=2");
}

#[test]
fn remove_takes_all_lines_and_says_whether_there_was_one() {
    let mut list = fields(&[("x", "1"), ("y", "2"), ("x", "3")]);
    assert!(list.remove("x"));
    assert!(!list.remove("x"));
    assert_eq!(shown(&list), "y=2");
}

#[test]
fn push_front_puts_a_line_before_all_others() {
    let mut list = fields(&[("x", "1")]);
    list.push_front("Y", b"2");
    assert_eq!(shown(&list), "y=2 x=1");
}

#[test]
fn retain_sees_name_and_value() {
    let mut list = fields(&[("x", "1"), ("y", "2"), ("x", "3")]);
    list.retain(|name, value| !(name == "x" && value == b"1"));
    assert_eq!(shown(&list), "y=2 x=3");
}

#[test]
fn clear_forgets_the_lines_and_keeps_the_memory() {
    let mut list = fields(&[("name", "value")]);
    let held = list.heap_bytes();
    list.clear();
    assert_eq!((list.len(), list.get("name"), list.heap_bytes()), (0, None, held));
}

#[test]
fn two_lists_are_equal_when_their_lines_are() {
    let mut edited = fields(&[("x", "0"), ("y", "2")]);
    edited.set("x", b"1");
    assert_eq!(edited, fields(&[("x", "1"), ("y", "2")]));
    assert_ne!(edited, fields(&[("y", "2"), ("x", "1")]));
    assert_eq!(format!("{edited:?}"), r#"[("x", "1"), ("y", "2")]"#);
}

#[derive(Debug, Clone)]
enum Edit {
    Push(String, Vec<u8>),
    PushFront(String, Vec<u8>),
    Set(String, Vec<u8>),
    AppendTo(String, Vec<u8>),
    Join(String),
    Remove(String),
    DropShort,
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = || "[a-d]{1,2}";
    let value = || proptest::collection::vec(any::<u8>(), 0..5);
    prop_oneof![
        4 => (name(), value()).prop_map(|(name, value)| Edit::Push(name, value)),
        1 => (name(), value()).prop_map(|(name, value)| Edit::PushFront(name, value)),
        2 => (name(), value()).prop_map(|(name, value)| Edit::Set(name, value)),
        2 => (name(), value()).prop_map(|(name, value)| Edit::AppendTo(name, value)),
        1 => name().prop_map(Edit::Join),
        1 => name().prop_map(Edit::Remove),
        1 => Just(Edit::DropShort),
    ]
}

type Model = Vec<(String, Vec<u8>)>;

fn replace(model: &mut Model, name: &str, value: Vec<u8>) {
    match model.iter().position(|line| line.0 == name) {
        Some(at) => {
            model[at].1 = value;
            let mut index = 0;
            model.retain(|line| {
                index += 1;
                index <= at + 1 || line.0 != name
            });
        }
        None => model.push((name.to_owned(), value)),
    }
}

fn joined(model: &Model, name: &str) -> Vec<Vec<u8>> {
    model.iter().filter(|line| line.0 == name).map(|line| line.1.clone()).collect()
}

fn apply(edit: Edit, list: &mut Fields, model: &mut Model) {
    match edit {
        Edit::Push(name, value) => {
            list.push(&name.to_uppercase(), &value);
            model.push((name, value));
        }
        Edit::PushFront(name, value) => {
            list.push_front(&name, &value);
            model.insert(0, (name, value));
        }
        Edit::Set(name, value) => {
            list.set(&name, &value);
            replace(model, &name, value);
        }
        Edit::AppendTo(name, value) => {
            list.append_to(&name, b"; ", &value);
            let mut values = joined(model, &name);
            values.push(value);
            replace(model, &name, values.join(b"; ".as_slice()));
        }
        Edit::Join(name) => {
            list.join(&name, b",");
            let values = joined(model, &name);
            if !values.is_empty() {
                replace(model, &name, values.join(b",".as_slice()));
            }
        }
        Edit::Remove(name) => {
            assert_eq!(list.remove(&name), model.iter().any(|line| line.0 == name));
            model.retain(|line| line.0 != name);
        }
        Edit::DropShort => {
            list.retain(|name, value| name.len() + value.len() > 2);
            model.retain(|line| line.0.len() + line.1.len() > 2);
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_of_edits_gives_what_a_plain_list_gives(edits in proptest::collection::vec(edit(), 0..30)) {
        let (mut list, mut model) = (Fields::default(), Model::new());
        for edit in edits {
            apply(edit, &mut list, &mut model);
            let expected: Vec<_> = model.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            prop_assert_eq!(lines(&list), expected);
        }
    }
}
