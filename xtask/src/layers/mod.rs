//! `cargo xtask layers`: the rules of the architecture that a compiler does not check.
//!
//! Owns the list of checks and how a breach is told; the rules themselves are in `packages.rs` (between crates),
//! `modules.rs` (inside the gateway) and `files.rs` (size, opening lines). It must never change a file.

mod files;
mod lexer;
mod modules;
mod packages;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result};

use crate::workspace;

/// One breach: where, what, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// Package, or file with line.
    pub place: String,
    /// Which rule is broken, and the cure.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Checks everything, prints every breach, answers whether there was none.
pub fn run() -> Result<bool> {
    let root = workspace::root()?;
    let mut found = packages::check(&packages::read(&workspace::metadata(&root)?)?);
    let paths = workspace::rust_files(&root)?;
    let mut texts = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(root.join(path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        texts.push((path.to_string_lossy().replace('\\', "/"), text));
    }
    let tests: BTreeSet<String> =
        texts.iter().flat_map(|(path, text)| lexer::test_modules(path, text)).collect();
    for (path, text) in &texts {
        let test = files::is_test_file(path) || tests.contains(path);
        found.extend(files::check(path, text, test));
        if !test {
            found.extend(modules::check(path, text));
        }
    }
    for violation in &found {
        println!("{violation}");
    }
    match found.len() {
        0 => println!("layers: {} files keep the rules", paths.len()),
        count => println!("layers: {count} broken rules; what is allowed stands in docs/ARCHITECTURE.md"),
    }
    Ok(found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words in backticks that start with a folder of the workspace.
    fn named_paths(text: &str) -> Vec<&str> {
        let folders = ["gateway/", "control/", "loadtest/", "config/", "crates/", "xtask/", "docs/"];
        text.split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
            .collect()
    }

    #[test]
    fn the_tour_and_the_readme_name_only_what_exists() {
        let root = workspace::root().unwrap();
        for document in ["docs/ARCHITECTURE.md", "docs/STYLE.md", "README.md", "config/ecs/README.md"] {
            let text = std::fs::read_to_string(root.join(document)).unwrap();
            for path in named_paths(&text) {
                assert!(root.join(path).exists(), "{document} names `{path}`, which does not exist");
            }
        }
        assert!(
            !named_paths(&std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap()).is_empty()
        );
    }
}
