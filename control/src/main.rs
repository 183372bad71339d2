//! The binary `control`: server and command line.
//!
//! Owns the exit code only. Next: `cli/mod.rs`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    control::cli::main()
}
