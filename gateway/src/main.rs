//! The gateway's binary: reads the command line and the configuration, then runs.
//!
//! Owns exit codes of a wrong start. Next: `app.rs`.

#![forbid(unsafe_code)]

use clap::Parser as _;
use gateway::app::{self, Start};
use gateway::cli::{Cli, Command, Mode};
use gateway::commands::{doctor, override_route};
use gateway::environment::{Environment, Unusable};
use std::process::ExitCode;

/// Wrong usage (sysexits EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// The configuration is refused (sysexits EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let environment = Environment::read(std::env::vars());
    if let Some(Command::Override(args)) = &cli.command {
        return override_route::run(args, &environment);
    }
    if cli.mode == Mode::Doctor {
        return doctor::run(&cli, &environment);
    }
    let bootstrap = match environment.bootstrap(cli.config.as_deref()) {
        Ok(bootstrap) => bootstrap,
        Err(unusable) => {
            eprint!("{unusable}");
            return ExitCode::from(match unusable {
                Unusable::Nothing(_) => EXIT_USAGE,
                Unusable::Refused(_) => EXIT_CONFIG,
            });
        }
    };
    if cli.mode == Mode::Validate {
        println!("configuration OK");
        return ExitCode::SUCCESS;
    }
    let log = match lifecycle::logging::init(&cli.level(&environment), cli.log_json) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("gateway: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if !environment.ignored.is_empty() {
        tracing::info!(
            variables = environment.ignored.join(", "),
            "variables that mean nothing here are ignored"
        );
    }
    for note in environment.notes(&bootstrap) {
        tracing::warn!("{note}");
    }
    ExitCode::from(app::run(Start { cli, environment, bootstrap, log }))
}
