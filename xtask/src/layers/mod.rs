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
