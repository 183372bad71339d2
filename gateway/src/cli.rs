//! The command line of the gateway.
//!
//! Owns names, defaults and precedence (flag, then variable, then default). It must never open a file.
//! Next: `environment.rs`.

use crate::commands::override_route::OverrideArgs;
use crate::environment::Environment;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Upper bound of a drain, as App Mesh's Envoy image had it (`LISTENER_DRAIN_WAIT_TIME_S`).
pub const DEFAULT_DRAIN_SECONDS: u64 = 20;
/// The range that the image accepted for it.
const DRAIN_SECONDS: std::ops::RangeInclusive<u64> = 5..=110;
/// More threads than this is a typing error.
const MAX_CONCURRENCY: usize = 256;

/// Weir's gateway: splits requests by weight between versions of a service.
///
/// Exit codes: 0 drained and done; 64 wrong usage; 78 the configuration is refused; 70 a part of the gateway died;
/// 71 an address could not be bound.
#[derive(Debug, Parser)]
#[command(name = "gateway", version = build_info::VERSION, args_conflicts_with_subcommands = true)]
#[command(after_long_help = crate::environment::HELP)]
pub struct Cli {
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Configuration file, YAML or JSON. Without it the text in GATEWAY_CONFIG is taken. Listeners that neither has
    /// come from the control that GATEWAY_CONTROL names, with the token in GATEWAY_TOKEN.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// `validate` reads the configuration, prints every error and ends. `doctor`, run in the task, looks at variables,
    /// control, credentials, discovery and backends, prints what is closed and what opens it, binds nothing, and ends
    /// with 0 when all is well and with 1 when something failed.
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub mode: Mode,
    /// Worker threads. Default: ENVOY_CONCURRENCY, else the task's CPU limit, else the cores.
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
    /// Most seconds that a drain takes (5 to 110). Default: LISTENER_DRAIN_WAIT_TIME_S, else 20.
    #[arg(long, value_name = "SECONDS")]
    pub drain_time_s: Option<u64>,
    /// trace, debug, info, warning, error, critical or off. Default: ENVOY_LOG_LEVEL, else info.
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Write the log as JSON.
    #[arg(long)]
    pub log_json: bool,
    /// Folder for the saved copy of control's last word; overrides `control.state_dir`.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<String>,
}

/// What a running gateway is asked for.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Break glass: one target takes everything of a route for a time.
    Override(OverrideArgs),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Serve until a signal.
    Serve,
    /// Only check the configuration.
    Validate,
    /// Look at everything that a gateway needs in this task.
    Doctor,
}

impl Cli {
    /// The log level in force.
    pub fn level(&self, environment: &Environment) -> String {
        self.log_level.clone().or_else(|| environment.log_level.clone()).unwrap_or_else(|| "info".to_owned())
    }

    /// The upper bound of a drain.
    pub fn drain_time(&self, environment: &Environment) -> Duration {
        let wanted = self.drain_time_s.or(environment.drain_seconds).unwrap_or(DEFAULT_DRAIN_SECONDS);
        Duration::from_secs(wanted.clamp(*DRAIN_SECONDS.start(), *DRAIN_SECONDS.end()))
    }

    /// Worker threads; `cpu_limit` is the ECS task's share of CPUs, if known.
    pub fn workers(&self, environment: &Environment, cpu_limit: Option<f64>) -> usize {
        let of_task = cpu_limit.filter(|limit| *limit > 0.0).map(|limit| limit.ceil() as usize);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = self.concurrency.or(environment.concurrency).or(of_task).unwrap_or_else(cores);
        wanted.clamp(1, MAX_CONCURRENCY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Environment {
        Environment::read(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())))
    }

    #[test]
    fn a_quarter_of_a_cpu_gives_one_worker_and_a_flag_wins() {
        let none = Environment::default();
        let cli = Cli::parse_from(["gateway"]);
        assert_eq!(cli.workers(&none, Some(0.25)), 1);
        assert_eq!(cli.workers(&none, Some(2.0)), 2);
        let cli = Cli::parse_from(["gateway", "--concurrency", "3"]);
        assert_eq!(cli.workers(&read(&[("ENVOY_CONCURRENCY", "5")]), Some(0.25)), 3);
    }

    #[test]
    fn a_drain_time_out_of_range_is_brought_into_it() {
        let none = Environment::default();
        assert_eq!(Cli::parse_from(["gateway"]).drain_time(&none).as_secs(), 20);
        assert_eq!(Cli::parse_from(["gateway", "--drain-time-s", "1"]).drain_time(&none).as_secs(), 5);
    }
}
