//! Which module of the gateway may import which.
//!
//! Owns the direction of the request path and who may know admin and the sources; it must never look at other
//! crates (that is `packages.rs`). Next: `lexer.rs`, how code is told from comments.

use super::Violation;
use super::lexer::{code_only, without_tests};

/// The way of a request: a module may import itself and what stands to the right of it, never the left. `cluster` is
/// last although a request meets it before `upstream`: a connection knows the endpoint that it counts for, while an
/// endpoint knows no connection.
const REQUEST_PATH: [&str; 5] = ["listener", "request", "router", "upstream", "cluster"];
/// Known only to those that put the program together: admin reads, sources send, nobody calls them.
const LEAVES: [&str; 2] = ["admin", "sources"];
/// Those that put the program together, and the commands of the binary that look at it from outside.
const ASSEMBLY: [&str; 4] = ["app", "main", "lib", "commands"];
/// What a source may know of the gateway: where changes go, what is counted, and whose readiness waits for it.
const KNOWN_TO_SOURCES: [&str; 7] = ["sources", "state", "stats", "process", "environment", "cluster", "io"];

/// Every breach in one file of the gateway that is not a test; other files have none.
pub fn check(path: &str, text: &str) -> Vec<Violation> {
    let Some(inside) = path.strip_prefix("gateway/src/") else { return Vec::new() };
    let modules = module_path(inside);
    let own = modules.first().copied().unwrap_or("lib");
    if ASSEMBLY.contains(&own) {
        return Vec::new();
    }
    let code = without_tests(&code_only(text));
    let mut found = Vec::new();
    for (line, target) in imports(&code, modules.len()) {
        if let Some(what) = breach(own, &target) {
            found.push(Violation { place: format!("{path}:{line}"), what });
        }
    }
    found.dedup();
    found
}

/// `upstream/pool.rs` is `[upstream, pool]`, `upstream/mod.rs` is `[upstream]`, `lib.rs` is `[]`.
fn module_path(inside: &str) -> Vec<&str> {
    let stem = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut parts: Vec<&str> = stem.split('/').collect();
    if matches!(parts.last(), Some(&"mod")) || parts == ["lib"] {
        parts.pop();
    }
    parts
}

fn breach(own: &str, target: &str) -> Option<String> {
    if own == target {
        return None;
    }
    if own == "sources" && !KNOWN_TO_SOURCES.contains(&target) {
        return Some(format!("a source imports `{target}`; it may only send changes to the store"));
    }
    if LEAVES.contains(&target) {
        return Some(format!("`{own}` imports `{target}`; only `app` may"));
    }
    let place = |name: &str| REQUEST_PATH.iter().position(|module| *module == name);
    match (place(own), place(target)) {
        (Some(here), Some(there)) if there < here => {
            Some(format!("`{own}` imports `{target}`; the direction is {}", REQUEST_PATH.join(" -> ")))
        }
        _ => None,
    }
}

/// Line and top-level module of each path that starts at the crate root, written `crate::` or enough `super::`.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if starts_a_word(code, at) {
            let after = code.get(at + "crate::".len()..).unwrap_or_default();
            found.extend(heads(after).into_iter().map(|head| (line_of(code, at), head)));
        }
    }
    let climb = "super::".repeat(depth);
    if depth > 0 {
        for (at, _) in code.match_indices(&climb) {
            let after = code.get(at + climb.len()..).unwrap_or_default();
            if starts_a_word(code, at) && !after.starts_with("super::") {
                found.extend(heads(after).into_iter().map(|head| (line_of(code, at), head)));
            }
        }
    }
    found
}

fn starts_a_word(code: &str, at: usize) -> bool {
    let before = code.get(..at).and_then(|text| text.chars().next_back());
    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
}

fn line_of(code: &str, at: usize) -> usize {
    code.get(..at).map_or(0, |text| text.matches('\n').count()) + 1
}

/// The first names after `crate::`: one, or those of a `{...}` group at its own depth.
fn heads(after: &str) -> Vec<String> {
    let name =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = after.trim_start().strip_prefix('{') else {
        return vec![name(after)];
    };
    let mut depth = 0_i32;
    let mut items = vec![String::new()];
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            other if depth == 0 => {
                if let Some(item) = items.last_mut() {
                    item.push(other);
                }
            }
            _ => {}
        }
    }
    items.iter().map(|item| name(item.trim())).filter(|head| !head.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(path, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_allowed_direction_passes() {
        let text =
            "use crate::router::Match;\nuse crate::{cluster::Cluster, upstream, stats};\nuse super::body;\n";
        assert_eq!(complaints("gateway/src/request/mod.rs", text), Vec::<String>::new());
    }

    #[test]
    fn an_import_against_the_direction_is_found_with_its_line() {
        let found = complaints("gateway/src/upstream/pool.rs", "//! Owns.\nuse crate::router::Route;\n");
        assert!(
            found.first().unwrap().starts_with("gateway/src/upstream/pool.rs:2: `upstream` imports `router`")
        );
        assert_eq!(complaints("gateway/src/cluster/mod.rs", "use crate::upstream::pool::Pools;").len(), 1);
    }

    #[test]
    fn a_path_in_the_middle_of_code_is_found_too() {
        let found =
            complaints("gateway/src/cluster/mod.rs", "fn f() { let x = crate::request::Life::new(); }");
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_group_is_read_at_its_own_depth() {
        let text = "use crate::{\n    stats::{admin, request},\n    listener::Accept,\n};\n";
        let found = complaints("gateway/src/router/mod.rs", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found.first().unwrap().contains("imports `listener`"));
    }

    #[test]
    fn super_paths_that_reach_the_root_are_found() {
        assert_eq!(complaints("gateway/src/upstream/mod.rs", "use super::router::Route;").len(), 1);
        assert_eq!(complaints("gateway/src/upstream/pool.rs", "use super::super::router::Route;").len(), 1);
        assert_eq!(complaints("gateway/src/upstream/pool.rs", "use super::router::Route;").len(), 0);
    }

    #[test]
    fn nobody_but_the_assembly_imports_admin_or_a_source() {
        for module in ["listener", "state", "stats", "worker"] {
            let path = format!("gateway/src/{module}.rs");
            assert_eq!(complaints(&path, "use crate::admin::Server;").len(), 1, "{module}");
            assert_eq!(complaints(&path, "use crate::sources::dns;").len(), 1, "{module}");
        }
        assert_eq!(complaints("gateway/src/app.rs", "use crate::{admin, sources};").len(), 0);
    }

    #[test]
    fn a_source_knows_only_the_store() {
        assert_eq!(complaints("gateway/src/sources/dns.rs", "use crate::state::store::Store;").len(), 0);
        assert_eq!(complaints("gateway/src/sources/dns.rs", "use crate::upstream::Pool;").len(), 1);
    }

    #[test]
    fn comments_texts_tests_and_other_crates_do_not_count() {
        let text = "// use crate::admin;\nlet a = \"crate::admin\";\n#[cfg(test)]\nmod tests { use crate::admin; }\n";
        assert_eq!(complaints("gateway/src/router/mod.rs", text), Vec::<String>::new());
        assert_eq!(complaints("control/src/state.rs", "use crate::admin;"), Vec::<String>::new());
    }
}
