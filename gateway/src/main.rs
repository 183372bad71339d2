//! The gateway's binary: reads the command line and the configuration, then runs.
//!
//! Owns exit codes of a wrong start. Next: `app.rs`.

#![forbid(unsafe_code)]

use clap::Parser as _;
use gateway::app::{self, Start};
use gateway::cli::{Cli, Mode};
use gateway::environment::Environment;
use gateway_config::diagnostic::Diagnostics;
use gateway_config::model::Bootstrap;
use gateway_config::{parse_bootstrap, read_bootstrap};
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
    let Some(loaded) = load(&cli, &environment) else {
        eprintln!(
            "gateway: there is no configuration; name a file with --config FILE, or put the text into the variable \
             GATEWAY_CONFIG"
        );
        return ExitCode::from(EXIT_USAGE);
    };
    let mut bootstrap = match loaded {
        Ok(bootstrap) => bootstrap,
        Err(diagnostics) => {
            eprint!("{diagnostics}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if cli.mode == Mode::Validate {
        println!("configuration OK");
        return ExitCode::SUCCESS;
    }
    environment.complete(&mut bootstrap);
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
    ExitCode::from(app::run(Start { cli, environment, bootstrap, log }))
}

fn load(cli: &Cli, environment: &Environment) -> Option<Result<Bootstrap, Diagnostics>> {
    match (&cli.config, &environment.config) {
        (Some(path), _) => Some(read_bootstrap(path)),
        (None, Some(text)) => Some(parse_bootstrap("GATEWAY_CONFIG", text.as_bytes())),
        (None, None) => None,
    }
}
