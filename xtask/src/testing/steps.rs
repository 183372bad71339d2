//! What each step of `cargo xtask test` runs.
//!
//! Owns the table of steps. Compiler flags are the same in all of them, so that nothing is built twice; only the
//! documentation has flags of its own. Next: `env.rs`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::tally::Tally;
use super::{env, image, samples};
use crate::{layers, shell, workspace};

/// Where a step works.
pub struct Context {
    /// The folder of the root `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
}

/// One line of the closing table.
pub struct Step {
    /// What `--only` takes.
    pub name: &'static str,
    /// One line about it.
    pub what: &'static str,
    /// Whether the rest makes no sense when it fails.
    pub needed: bool,
    /// Does it; answers whether all is well, an error when it could not be tried.
    pub run: fn(&Context, &mut Tally) -> Result<bool>,
}

/// In the order in which they run: what is set up first, then the quickest to fail.
pub const STEPS: [Step; 10] = [
    Step {
        name: "setup",
        what: "moto, the real Envoy, Prometheus and linters, private to target/test-env",
        needed: true,
        run: |context, _| env::prepare(&context.target).map(|()| true),
    },
    Step { name: "fmt", what: "cargo fmt --check", needed: false, run: fmt },
    Step { name: "layers", what: "who may import whom", needed: false, run: |_, _| layers::run() },
    Step { name: "clippy", what: "cargo clippy, warnings denied", needed: false, run: clippy },
    Step { name: "build", what: "cargo build, every target", needed: true, run: build },
    Step {
        name: "samples",
        what: "every gateway sample is accepted by the gateway",
        needed: false,
        run: samples::check,
    },
    Step {
        name: "test",
        what: "cargo test --workspace, documentation tests included",
        needed: false,
        run: test,
    },
    Step {
        name: "ignored",
        what: "the tests that need outside programs, one at a time",
        needed: false,
        run: ignored,
    },
    Step { name: "doc", what: "cargo doc, warnings denied", needed: false, run: doc },
    Step {
        name: "image",
        what: "the Dockerfile is built, and the image started without Docker",
        needed: false,
        run: image::check,
    },
];

fn cargo(context: &Context, words: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command.current_dir(&context.root).args(words);
    env::enter(&mut command, &context.target);
    command
}

fn run(context: &Context, words: &[&str], tally: &mut Tally) -> Result<bool> {
    shell::watched(&mut cargo(context, words), |line| tally.see(line))
}

fn fmt(context: &Context, tally: &mut Tally) -> Result<bool> {
    run(context, &["fmt", "--all", "--", "--check"], tally)
}

fn clippy(context: &Context, tally: &mut Tally) -> Result<bool> {
    run(context, &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"], tally)
}

fn build(context: &Context, tally: &mut Tally) -> Result<bool> {
    run(context, &["build", "--locked", "--workspace", "--all-targets"], tally)
}

fn test(context: &Context, tally: &mut Tally) -> Result<bool> {
    run(context, &["test", "--locked", "--workspace", "--no-fail-fast"], tally)
}

fn ignored(context: &Context, tally: &mut Tally) -> Result<bool> {
    let words = ["test", "--locked", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"];
    let mut command = cargo(context, &words);
    // One at a time: several start a whole fleet of processes on two cores.
    command.args(["--", "--ignored", "--test-threads=1"]);
    shell::watched(&mut command, |line| tally.see(line))
}

fn doc(context: &Context, tally: &mut Tally) -> Result<bool> {
    let mut command = cargo(context, &["doc", "--locked", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    shell::watched(&mut command, |line| tally.see(line))
}
