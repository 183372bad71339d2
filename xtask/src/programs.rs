//! Building the programs of the workspace, and running one: `cargo control`, `cargo gateway`, `cargo loadtest`.
//!
//! Owns the one way in which they are built. `cargo run -p control` would resolve the features of its dependencies for
//! control alone and so compile most of them once more; here all programs are always built together.
//! Next: `demo/mod.rs`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The packages whose programs are built together.
const PACKAGES: [&str; 4] = ["gateway", "control", "loadtest", "testkit"];
/// Their programs.
const PROGRAMS: [&str; 4] = ["gateway", "control", "loadtest", "standin"];

/// Builds the programs and answers with their folder; tells before how long that takes the first time.
pub fn build(root: &Path) -> Result<PathBuf> {
    let folder = workspace::target(root).join("debug");
    let first = PROGRAMS.iter().any(|name| !folder.join(name).exists());
    if first {
        eprintln!(
            "Building Weir. The first build compiles some 230 crates: about four minutes on two cores."
        );
    }
    let mut command = workspace::cargo();
    command.current_dir(root).args(["build", "--locked", "--bins"]);
    if !first {
        command.arg("--quiet");
    }
    command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    if !command.status().context("cannot run cargo build")?.success() {
        bail!("cargo build failed");
    }
    Ok(folder)
}

/// Builds the programs and becomes one of them; returns only when that fails.
pub fn run(words: &[OsString]) -> Result<bool> {
    let (name, rest) = words.split_first().context("which program?")?;
    let Some(name) = name.to_str().filter(|name| PROGRAMS.contains(name)) else {
        bail!("no program is called {}; there are {}", name.to_string_lossy(), PROGRAMS.join(", "));
    };
    let program = build(&workspace::root()?)?.join(name);
    Err(Command::new(&program).args(rest).exec()).with_context(|| format!("cannot run {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_program_is_refused_with_the_known_ones() {
        let error = run(&["controll".into(), "get".into()]).unwrap_err().to_string();
        assert!(error.contains("gateway, control, loadtest"), "{error}");
    }
}
