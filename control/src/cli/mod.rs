//! The command line of control.
//!
//! Owns the arguments, the exit codes and what is printed where: answers on stdout, everything else on stderr. It
//! must never know more than the REST API tells. Next: `client.rs`, `commands.rs`, `show.rs`.

mod apply;
mod client;
mod commands;
mod import;
mod init;
mod show;
mod show_gateways;
mod store;

use crate::serve;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Everything was done.
pub const EXIT_DONE: u8 = 0;
/// Something failed.
pub const EXIT_ERROR: u8 = 1;
/// The command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Done, but some gateways do not serve it.
pub const EXIT_MISSING: u8 = 3;
/// No gateway is connected; a change is stored.
pub const EXIT_NO_GATEWAY: u8 = 4;

const EXIT_CODES: &str = "Exit codes:
  0  done; after a change: every gateway serves it
  1  an error; stderr says what and what to do
  2  the command line is wrong, or names a route, target or gateway that does not exist
  3  the change is stored and published, but some gateways do not serve it; stderr names them
  4  no gateway is connected: a change is stored and waits for them; also of get and gateways";

/// Weights, gateways and routes of Weir.
#[derive(Debug, Parser)]
#[command(name = "control", version = build_info::VERSION, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command but `serve`.
#[derive(Clone, Debug, Args)]
struct Global {
    /// Where control listens.
    #[arg(long, env = "CONTROL_URL", default_value = "http://127.0.0.1:18000", global = true)]
    url: String,
    /// A file whose first line is the token; else CONTROL_TOKEN holds the token itself.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The variable that holds the token, instead of CONTROL_TOKEN; of several lines the first.
    #[arg(long, value_name = "NAME", global = true, conflicts_with = "token_file")]
    token_env: Option<String>,
    /// The CA (PEM) of control's certificate, for an https:// URL; else CONTROL_CA holds its text, else the CAs of
    /// this machine count.
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// Options of every change.
#[derive(Clone, Debug, Args)]
struct ChangeOptions {
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// How long to wait for the gateways.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run control itself.
    Serve {
        /// The configuration (YAML or JSON); without it the variable CONTROL_CONFIG holds its text.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Keep the state aside, whatever it holds, and begin from what the gateways serve.
        #[arg(long)]
        recover: bool,
        /// trace, debug, info, warn, error.
        #[arg(short = 'l', long, default_value = "info")]
        log_level: String,
        /// One JSON object per log line.
        #[arg(long)]
        log_json: bool,
    },
    /// Write files to begin with, with your names in them.
    Init {
        #[command(subcommand)]
        what: Box<init::Init>,
    },
    /// Make the DynamoDB table for the state; does nothing when it is there.
    InitStore {
        /// Its name.
        #[arg(long)]
        table: String,
        /// The item that control is going to use: what is in it is told.
        #[arg(long, default_value = "weir")]
        key: String,
    },
    /// Make control's configuration of what is left of App Mesh: templates, saved answers, a config_dump.
    ///
    /// What was understood, what was left out and why goes to stderr. What is not known is never guessed.
    Import(import::ImportArgs),
    /// Write the present state for another program: nobody is locked in.
    Export(import::ExportArgs),
    /// Show weights, gateways, requests, errors and latency.
    Get {
        /// Only this route.
        route: Option<String>,
        /// Show again whenever something changes.
        #[arg(long)]
        watch: bool,
    },
    /// Change weights: `set-weight ROUTE v1=90 v2=10`.
    ///
    /// Name every target, or all but the stable one, which then takes the rest: `set-weight ROUTE v2=10%`. Two
    /// decimals are taken. Several routes are one change: `set-weight ROUTE v2=10 ROUTE2 v2=5`.
    SetWeight {
        /// ROUTE TARGET=PERCENT... [ROUTE2 TARGET=PERCENT...]
        #[arg(required = true, value_name = "ROUTE TARGET=PERCENT")]
        words: Vec<String>,
        #[command(flatten)]
        change: ChangeOptions,
        /// Also for a version without endpoints, and for a route whose weights control does not know yet.
        #[arg(long)]
        force: bool,
    },
    /// Set the weights that an app.properties.json asks for.
    ///
    /// service1_name and service2_name are matched with the targets of the route, and what was matched is said.
    /// Refused while another change of the route is under way, and when it would raise a canary that was rolled back.
    Apply(Box<apply::Apply>),
    /// All of a route to its stable target.
    ///
    /// Needs nothing else to be healthy: no state, no endpoint, no agreement.
    Rollback {
        /// The route.
        route: String,
        #[command(flatten)]
        change: ChangeOptions,
    },
    /// Who changed a route, when, from what, to what, why.
    History {
        /// The route.
        route: String,
        /// Only the newest so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Make another target the stable one. The weights stay.
    Stable {
        /// The route.
        route: String,
        /// The new stable target.
        target: String,
        /// Names what runs there.
        #[arg(long, value_name = "ID")]
        build: Option<String>,
        #[command(flatten)]
        change: ChangeOptions,
    },
    /// Who was heard, and what each serves.
    Gateways {
        #[command(subcommand)]
        action: Option<GatewaysAction>,
    },
    /// Take over what the gateways serve, and the lead with it.
    ///
    /// After a lost state, when the gateways do not agree; or when another control was ahead and is stopped for good.
    Adopt {
        /// The gateway whose weights count; without it all must agree.
        #[arg(long, value_name = "GATEWAY")]
        from: Option<String>,
        #[command(flatten)]
        change: ChangeOptions,
    },
}

#[derive(Debug, Subcommand)]
enum GatewaysAction {
    /// Changes do not wait for this gateway any more.
    Forget {
        /// Its id, as `control gateways` shows it.
        id: String,
    },
}

/// What ends a command early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u8,
    error: String,
    cure: String,
}

impl Failure {
    fn error(error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { code: EXIT_ERROR, error: error.into(), cure: cure.into() }
    }

    fn usage(error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { code: EXIT_USAGE, error: error.into(), cure: cure.into() }
    }
}

/// Runs the command line and answers the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE };
            // Nothing is left to do when the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(EXIT_ERROR);
        }
    };
    let code = runtime.block_on(run(cli));
    // A disk that hangs must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(cli: Cli) -> u8 {
    let json = cli.global.json;
    match commands::run(cli).await {
        Ok(code) => code,
        Err(failure) => {
            show::failure(&failure, json);
            failure.code
        }
    }
}

async fn serve(options: serve::Options, log_level: &str, log_json: bool) -> Result<u8, Failure> {
    lifecycle::logging::init(log_level, log_json)
        .map_err(|error| Failure::usage(error.to_string(), "write -l info"))?;
    match serve::run(&options).await {
        Ok(()) => Ok(EXIT_DONE),
        Err(error) => Err(Failure::error(error.to_string(), String::new())),
    }
}

/// `500ms`, `10s`, `2m`; a bare number is seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: write 500ms, 10s or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let time = match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(wrong()),
    };
    if time > crate::shared::MAX_TIMEOUT { Err(format!("`{text}` is over ten minutes")) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "10h", "-1s", "11m", "1.5s"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
