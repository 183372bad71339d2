//! Just enough of Rust's grammar to see code without comments, texts and tests.
//!
//! Owns the blanking of what is not code; line numbers stay as they are. It must never judge. Next: `modules.rs`.

use std::iter::Peekable;
use std::str::Chars;

/// The text with comments blanked and the content of strings and characters replaced by `_`.
/// Newlines stay, so a line number in the answer is one in the text.
pub fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    // The word that ends at the cursor: a string may open with `r`, `b` or `br`.
    let mut word = String::new();
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => skip_line(&mut rest),
            '/' if rest.peek() == Some(&'*') => skip_block(&mut rest, &mut out),
            '"' if word.ends_with('r') && word.len() <= 2 => raw_string(&mut rest, &mut out, 0),
            '"' => string(&mut rest, &mut out),
            '#' if matches!(word.as_str(), "r" | "br" | "cr") => hashes(&mut rest, &mut out),
            '\'' => character(&mut rest, &mut out),
            other => out.push(other),
        }
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            word.clear();
        }
    }
    out
}

fn skip_line(rest: &mut Peekable<Chars<'_>>) {
    while rest.peek().is_some_and(|c| *c != '\n') {
        rest.next();
    }
}

fn skip_block(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    rest.next();
    let mut depth = 1;
    while depth > 0 {
        match (rest.next(), rest.peek()) {
            (None, _) => return,
            (Some('/'), Some('*')) => {
                rest.next();
                depth += 1;
            }
            (Some('*'), Some('/')) => {
                rest.next();
                depth -= 1;
            }
            (Some('\n'), _) => out.push('\n'),
            _ => {}
        }
    }
}

fn blank(out: &mut String, c: char) {
    out.push(if c == '\n' { '\n' } else { '_' });
}

fn string(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('"');
    while let Some(c) = rest.next() {
        if c == '"' {
            break;
        }
        blank(out, c);
        if c == '\\'
            && let Some(escaped) = rest.next()
        {
            blank(out, escaped);
        }
    }
    out.push('"');
}

/// After `r#`: a raw string with hashes, or a raw identifier.
fn hashes(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut count = 1;
    while rest.peek() == Some(&'#') {
        rest.next();
        count += 1;
    }
    if rest.peek() == Some(&'"') {
        rest.next();
        raw_string(rest, out, count);
    } else {
        out.push('#');
    }
}

fn raw_string(rest: &mut Peekable<Chars<'_>>, out: &mut String, hashes: usize) {
    out.push('"');
    while let Some(c) = rest.next() {
        if c == '"' {
            let mut seen = 0;
            while seen < hashes && rest.peek() == Some(&'#') {
                rest.next();
                seen += 1;
            }
            if seen == hashes {
                break;
            }
        }
        blank(out, c);
    }
    out.push('"');
}

/// After `'`: a character, or a lifetime.
fn character(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('\'');
    let Some(first) = rest.next() else { return };
    if first == '\\' {
        out.push('_');
        rest.next();
        while rest.next().is_some_and(|c| c != '\'') {}
        out.push('\'');
    } else if rest.peek() == Some(&'\'') {
        rest.next();
        out.push_str("_'");
    } else {
        out.push(first);
    }
}

/// Code (of [`code_only`]) with every item under `#[cfg(test)]` blanked.
pub fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        out.push_str(before);
        let end = item_end(after);
        let (item, next) = after.split_at_checked(end).unwrap_or((after, ""));
        out.extend(item.chars().filter(|c| *c == '\n'));
        rest = next;
    }
    out.push_str(rest);
    out
}

/// The files that a file declares as modules under `#[cfg(test)]`, in both places where each may be.
pub fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let inside = match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        other => format!("{folder}/{}", other.trim_end_matches(".rs")),
    };
    let code = code_only(text);
    let mut found = Vec::new();
    for (_, after) in code.match_indices("#[cfg(test)]").filter_map(|(at, _)| code.split_at_checked(at)) {
        let (item, _) = after.split_at_checked(item_end(after)).unwrap_or((after, ""));
        let Some(declaration) = item.trim_end().strip_suffix(';') else { continue };
        let mut words = declaration.split_whitespace().rev();
        if let (Some(module), Some("mod")) = (words.next(), words.next()) {
            found.push(format!("{inside}/{module}.rs"));
            found.push(format!("{inside}/{module}/mod.rs"));
        }
    }
    found
}

/// Bytes of the item that starts here: up to its `;`, or to the brace that closes its body.
fn item_end(code: &str) -> usize {
    let mut depth = 0_i32;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                if depth <= 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_not_code() {
        let code = code_only("let a = \"crate::x\"; // crate::y\n/* crate::z\n/* nested */ */let b = 1;");
        assert!(!code.contains("crate"), "{code}");
        assert_eq!(code.lines().nth(2), Some("let b = 1;"));
    }

    #[test]
    fn raw_strings_characters_and_lifetimes_do_not_confuse_it() {
        let code =
            code_only("let a = r#\"no \" end\"#; let q = '\"'; let e = '\\''; fn f<'a>(x: &'a str) {} after");
        assert!(code.ends_with("after"), "{code}");
        assert!(!code.contains("end"), "{code}");
        assert!(code.contains("<'a>"), "{code}");
        assert!(code_only("let r#type = 1;").contains("type"));
    }

    #[test]
    fn modules_declared_under_cfg_test_are_found() {
        let text = "mod a;\n#[cfg(test)]\nmod simulation;\n#[cfg(test)]\nmod tests { }\n#[cfg(test)]\n/// Of b.\npub(crate) mod b;";
        let found = test_modules("control/src/app_mesh/mod.rs", text);
        assert!(found.contains(&"control/src/app_mesh/simulation.rs".to_owned()), "{found:?}");
        assert!(found.contains(&"control/src/app_mesh/b/mod.rs".to_owned()), "{found:?}");
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(test_modules("gateway/src/io.rs", text).contains(&"gateway/src/io/simulation.rs".to_owned()));
    }

    #[test]
    fn what_is_under_cfg_test_goes_and_what_follows_stays() {
        let code = without_tests(
            "#[cfg(test)]\nmod tests;\nfn one() {}\n#[cfg(test)]\nmod more { fn x() { {} } }\nfn two() {}",
        );
        assert!(
            code.contains("one") && code.contains("two") && !code.contains("more") && !code.contains("tests")
        );
        assert_eq!(code.lines().nth(2), Some("fn one() {}"));
    }
}
