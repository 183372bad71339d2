//! The project's own commands: `cargo xtask test`, `cargo xtask layers` and `cargo demo`.
//!
//! Owns the command line only; it must never hold the work itself. It depends on no crate of the workspace, so
//! that a fresh clone compiles it in seconds. Next: `testing/mod.rs` (the one test command), `layers/mod.rs`
//! (the rules between modules), `demo/mod.rs` (the whole product on one machine).

#![forbid(unsafe_code)]

mod demo;
mod layers;
mod programs;
mod shell;
mod testing;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Development commands of Weir", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sets up what the tests need and runs every check; `.ci/run` is exactly this.
    Test(testing::Options),
    /// Checks who may import whom, the size of files, and what each file must open with.
    Layers,
    /// Starts stand-in, two backends, control and gateway on this machine and shows the split as it happens.
    Demo(demo::Options),
    /// Builds the programs and runs one of them; `cargo control`, `cargo gateway` and `cargo loadtest` are this.
    Run {
        /// The program, and what it is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test(options) => testing::run(&options),
        Command::Layers => layers::run(),
        Command::Run { words } => programs::run(&words),
        Command::Demo(options) => demo::run(options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
