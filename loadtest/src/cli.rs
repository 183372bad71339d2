//! The command line: flags into plans, outcomes into exit codes.
//!
//! Owns the words of `--help`. Must never measure or judge. Exit codes: 0 all is well, 1 it is not, 2 the
//! command line is wrong. Next: `drive.rs` for `split` and `run`, `upstream.rs` for `upstream`.

mod args;
mod change;
mod send;
mod serve;

pub use args::JSON_FIELDS;

use clap::Parser as _;
use std::process::ExitCode;

/// The run was as it should be.
pub const EXIT_OK: u8 = 0;
/// An error answer, no answer, requests not sent, or a split that is off; also: nothing listens there.
pub const EXIT_FAILED: u8 = 1;
/// The command line is wrong (clap's own code as well).
pub const EXIT_USAGE: u8 = 2;

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    // One thread, so that the machine's other cores are left to what is measured.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let code = match cli.verb {
        args::Verb::Split(args) => runtime.block_on(send::split(args)),
        args::Verb::Run(args) => runtime.block_on(send::run(args)),
        args::Verb::Switch(args) => runtime.block_on(change::switch(args)),
        args::Verb::Upstream(args) => runtime.block_on(serve::upstream(args)),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(Fault::Usage(text)) => {
            eprintln!("loadtest: error: {text}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Fault::Failed(text)) => fail(&text),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("loadtest: error: {text}");
    ExitCode::from(EXIT_FAILED)
}

/// Why a verb ended without an outcome.
#[derive(Debug)]
enum Fault {
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Failed(String),
}

impl Fault {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}
