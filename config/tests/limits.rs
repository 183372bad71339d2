//! Files as a whole: empty, unreadable, huge, bombs, deep nesting, encodings; and aliases within the budget.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use gateway_config::{Diagnostics, MAX_FILE_BYTES, parse_bootstrap, read_bootstrap};

const GATEWAY: &str = "\
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 0.0.0.0, port_value: 9080}}
    http_connection_manager:
      stream_idle_timeout: 300s
      route_config:
        virtual_hosts:
        - {name: all, domains: [\"*\"], routes: [{match: {path: /y}, route: {cluster: east}}]}
  clusters:
  - name: east
    connect_timeout: 2s
    discovery: {dns: {hostname: east.test, port_value: 3000}}
";

fn refused(text: &[u8]) -> Diagnostics {
    match parse_bootstrap("f.yaml", text) {
        Ok(_) => panic!("accepted: {}", String::from_utf8_lossy(text)),
        Err(errors) => errors,
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let text = format!("\u{feff}{}", GATEWAY.replace('\n', "\r\n"));
    assert!(parse_bootstrap("f", text.as_bytes()).is_ok());
    let bad = text.replace("300s", "300");
    assert_eq!(refused(bad.as_bytes()).items[0].line, 6);
}

#[test]
fn an_empty_file_is_an_error_with_a_cure() {
    for text in ["", " \n", "# nothing\n", "---\n", "~"] {
        let errors = refused(text.as_bytes());
        assert_eq!(errors.items.len(), 1, "{text:?}: {errors}");
        assert!(!errors.items[0].cure.is_empty(), "{errors}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_an_error_with_their_place() {
    let errors = refused(b"node: {}\nadmin: \xff\n");
    assert_eq!((errors.items[0].line, errors.items[0].column), (2, 8));
}

#[test]
fn a_second_document_is_an_error() {
    let errors = refused(format!("{GATEWAY}---\n{GATEWAY}").as_bytes());
    assert!(errors.items[0].message.contains("second document"), "{errors}");
}

#[test]
fn an_unreadable_file_is_an_error_with_a_cure() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read_bootstrap(&folder.path().join("none.yaml")).unwrap_err();
    assert!(missing.to_string().contains("none.yaml"), "{missing}");
    assert!(missing.items[0].cure.contains("check the path"), "{missing}");
    let directory = read_bootstrap(folder.path()).unwrap_err();
    assert!(directory.items[0].cure.contains("name the file"), "{directory}");
}

#[test]
fn a_file_of_ten_megabytes_is_refused_without_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.yaml");
    std::fs::File::create(&path).unwrap().set_len(10 << 20).unwrap();
    let errors = read_bootstrap(&path).unwrap_err();
    assert!(errors.items[0].message.contains("larger than 1 MiB"), "{errors}");
    let errors = refused(&vec![b' '; MAX_FILE_BYTES + 1]);
    assert!(errors.items[0].message.contains("larger than 1 MiB"), "{errors}");
}

#[test]
fn a_yaml_bomb_is_refused_by_its_copies() {
    let mut lists = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        lists.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
    }
    let errors = refused(lists.as_bytes());
    assert_eq!(errors.items.len(), 1, "{errors}");
    assert!(errors.items[0].message.contains("too large"), "{errors}");
    assert!(errors.items[0].line > 1);

    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 19), vec!["*a"; 50_000].join(","));
    let errors = refused(text.as_bytes());
    assert!(errors.items[0].message.contains("too large"), "{errors}");
}

#[test]
fn nesting_is_bounded_also_through_aliases() {
    for text in
        ["[".repeat(MAX_FILE_BYTES), "{a: ".repeat(MAX_FILE_BYTES / 4), "- ".repeat(MAX_FILE_BYTES / 2)]
    {
        let errors = refused(text.as_bytes());
        assert_eq!(errors.items.len(), 1, "{errors}");
        assert!(!errors.items[0].cure.is_empty());
    }
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..60 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let errors = refused(text.as_bytes());
    assert!(errors.items[0].message.contains("nested deeper"), "{errors}");
    let errors = refused(b"a: &a [*a]\n");
    assert!(errors.items[0].message.contains("alias inside the value"), "{errors}");
}

#[test]
fn a_thousand_errors_are_cut_to_a_hundred_and_counted() {
    let text: String = (0..1_000).map(|n| format!("field{n}: 1\n")).collect();
    let errors = refused(text.as_bytes());
    assert_eq!(errors.items.len(), 101);
    assert!(errors.items[100].message.contains("901 more"), "{}", errors.items[100].message);
}

#[test]
fn aliases_within_the_budget_mean_what_they_name() {
    let text = GATEWAY
        .replace("connect_timeout: 2s", "connect_timeout: &t 2s")
        .replace("cluster: east}", "cluster: east, timeout: *t}");
    // An alias stands below its anchor; here it stands above.
    assert!(refused(text.as_bytes()).items[0].cure.contains("above its first use"));
    let text = GATEWAY.replace("300s", "&t 2s").replace("connect_timeout: 2s", "connect_timeout: *t");
    assert_eq!(parse_bootstrap("f", text.as_bytes()).unwrap().clusters[0].connect_timeout.as_secs(), 2);
}
