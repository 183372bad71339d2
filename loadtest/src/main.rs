//! The binary `loadtest`. Everything it does is in the library; start reading at `cli.rs`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    loadtest::cli::main()
}
