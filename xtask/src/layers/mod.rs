//! `cargo xtask layers`: the rules of the architecture that a compiler does not check.
//!
//! Owns the list of checks and how a breach is told; the rules themselves are in `packages.rs` (between crates),
//! `modules.rs` (inside the gateway) and `files.rs` (size, opening lines). It must never change a file.

mod files;
mod lexer;
mod modules;
mod packages;

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
    for path in &paths {
        let text = std::fs::read_to_string(root.join(path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.to_string_lossy().replace('\\', "/");
        found.extend(files::check(&name, &text));
        found.extend(modules::check(&name, &text));
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
