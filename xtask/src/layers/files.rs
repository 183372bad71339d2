//! What each file must look like: its size, its opening lines, no unsafe code.
//!
//! Owns the three rules on single files; it must never look across files (that is `modules.rs`).

use super::Violation;
use super::lexer::{code_only, without_tests};

/// Most code lines of a source file outside its tests. A file beyond it has two subjects.
const MOST_CODE_LINES: usize = 400;

/// Every rule on one file; `path` is relative to the root, with `/`; a file of tests may have any length.
pub fn check(path: &str, text: &str, test: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    if !opens_with_a_description(text) {
        found.push(Violation {
            place: path.to_owned(),
            what: "the file does not open with `//!` lines (what it owns, what it must never do, which file is next)"
                .to_owned(),
        });
    }
    if is_crate_root(path) && !text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
        found.push(Violation {
            place: path.to_owned(),
            what: "a crate root without `#![forbid(unsafe_code)]`".to_owned(),
        });
    }
    if !test {
        let lines = without_tests(&code_only(text)).lines().filter(|line| !line.trim().is_empty()).count();
        if lines > MOST_CODE_LINES {
            found.push(Violation {
                place: path.to_owned(),
                what: format!("{lines} code lines, {MOST_CODE_LINES} allowed: split it by subject"),
            });
        }
    }
    found
}

/// Whether a file holds only tests: under `tests/`, or a `tests.rs` beside its subject.
pub fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn is_crate_root(path: &str) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("/src/bin/")
}

/// Inner attributes (`#![allow(...)]` of a test file, `#![no_main]` of a fuzz target) may come first.
fn opens_with_a_description(text: &str) -> bool {
    let mut in_attribute = false;
    for line in text.lines().map(str::trim) {
        if in_attribute || line.starts_with("#![") {
            in_attribute = !line.ends_with(']');
        } else if !line.is_empty() {
            return line.starts_with("//!");
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(path, text, is_test_file(path)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_file_in_order_passes() {
        assert_eq!(
            complaints("gateway/src/lib.rs", "//! Owns.\n#![forbid(unsafe_code)]\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_file_without_a_description_is_found() {
        let found = complaints("gateway/src/a.rs", "use std::fs;\n//! Late.\n");
        assert!(found.first().unwrap().contains("`//!`"), "{found:?}");
        assert_eq!(complaints("gateway/src/empty.rs", "").len(), 1);
    }

    #[test]
    fn attributes_may_stand_before_the_description() {
        let text = "#![allow(\n    clippy::unwrap_used\n)]\n\n//! Owns.\n";
        assert_eq!(complaints("gateway/tests/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn a_crate_root_that_may_be_unsafe_is_found() {
        for path in ["gateway/src/lib.rs", "control/src/main.rs", "crates/testkit/src/bin/standin.rs"] {
            let found = complaints(path, "//! Owns.\n// #![forbid(unsafe_code)]\n");
            assert!(found.first().unwrap().contains("forbid"), "{path}: {found:?}");
        }
    }

    #[test]
    fn a_file_over_400_code_lines_is_found() {
        let long = format!("//! Owns.\n{}", "let a = 1;\n".repeat(401));
        assert!(complaints("gateway/src/a.rs", &long).first().unwrap().contains("401 code lines"));
        assert_eq!(complaints("gateway/tests/a.rs", &long), Vec::<String>::new());
    }

    #[test]
    fn comments_blanks_and_tests_do_not_count() {
        let text = format!(
            "//! Owns.\n{}{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            "let a = 1;\n".repeat(400),
            "// why\n\n".repeat(200),
            "let b = 2;\n".repeat(300)
        );
        assert_eq!(complaints("gateway/src/a.rs", &text), Vec::<String>::new());
    }
}
