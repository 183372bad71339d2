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

/// The command line without the `--` of `cargo demo -- --for 20s`: cargo hands it on, as the alias has one already.
fn words(typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = typed.collect();
    if words.get(2).is_some_and(|word| word == "--") {
        words.remove(2);
    }
    words
}

fn main() -> ExitCode {
    let done = match Cli::parse_from(words(std::env::args_os())).command {
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_after_two_dashes_or_without_them() {
        for typed in [&["xtask", "demo", "--", "--for", "20s"][..], &["xtask", "demo", "--for", "20s"]] {
            let words = words(typed.iter().map(OsString::from));
            assert!(matches!(Cli::try_parse_from(words).unwrap().command, Command::Demo(_)), "{typed:?}");
        }
    }

    #[test]
    fn a_program_gets_its_own_flags() {
        let typed = ["xtask", "run", "control", "get", "--json", "--help"].map(OsString::from);
        let Command::Run { words } = Cli::try_parse_from(words(typed.into_iter())).unwrap().command else {
            panic!()
        };
        assert_eq!(words, ["control", "get", "--json", "--help"]);
    }
}
