//! `gateway override`: break glass by hand, in the task of a gateway.
//!
//! Owns the words of the command, what is asked of the gateway's own admin address, and the exit code. It must work
//! with control dead, so it asks nobody else. Next: `../admin/overrides.rs`, who answers.

use super::client::{self, Answer};
use crate::environment::Environment;
use clap::Args;
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code: admin cannot be reached, or does not take changes from here.
const EXIT_UNREACHABLE: u8 = 1;
/// Exit code: no such route or target.
const EXIT_UNKNOWN: u8 = 2;
/// Exit code: wrong usage (sysexits EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// Where admin listens when nothing says otherwise.
const ADMIN_PORT: u16 = 9901;

/// Break glass: one target takes everything of a route, on this gateway alone, until it ends or is released.
///
/// It wins over control and works without control. Run it in the task of the gateway (`aws ecs execute-command`), in
/// each task. Without a route it lists routes and overrides.
///
/// Exit codes: 0 done; 1 the gateway's admin cannot be reached or refuses; 2 no such route or target; 64 wrong usage.
#[derive(Clone, Debug, Args)]
pub struct OverrideArgs {
    /// The route's name. Without it routes and overrides are listed.
    pub route: Option<String>,
    /// The target that takes everything: its name, or `stable`.
    #[arg(conflicts_with = "release")]
    pub target: Option<String>,
    /// How long, from 1s to 24h, such as 90s, 60m or 2h.
    #[arg(long = "for", value_name = "TIME", default_value = "60m", value_parser = seconds)]
    pub seconds: u64,
    /// End the override of the route now.
    #[arg(long, requires = "route")]
    pub release: bool,
    /// The gateway's admin address. Default: 127.0.0.1 and the port of ENVOY_ADMIN_ACCESS_PORT or GATEWAY_CONFIG, else
    /// 9901.
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// A file with the admin token, for an admin address that is not on this host.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// `60m` as seconds; without a unit they are seconds.
fn seconds(text: &str) -> Result<u64, String> {
    const SHAPE: &str = "a time is a number with s, m or h, from 1s to 24h, such as 60m";
    let units = [("h", 3600), ("m", 60), ("s", 1), ("", 1)];
    let read = units.iter().find_map(|(unit, factor)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(*factor)
    });
    read.filter(|seconds| (1..=86_400).contains(seconds)).ok_or_else(|| SHAPE.to_owned())
}

/// Does what was asked and prints what the gateway answers.
pub fn run(args: &OverrideArgs, environment: &Environment) -> ExitCode {
    let (method, path) = match (&args.route, &args.target) {
        (None, _) => ("GET", "/overrides".to_owned()),
        (Some(route), None) if args.release => {
            ("POST", format!("/override?route={}&release", escaped(route)))
        }
        (Some(route), Some(target)) => {
            let (route, target) = (escaped(route), escaped(target));
            ("POST", format!("/override?route={route}&target={target}&for={}", args.seconds))
        }
        (Some(_), None) => {
            eprintln!("gateway override: name the target that takes everything (or `stable`), or --release");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let admin = args.admin.clone().unwrap_or_else(|| format!("http://127.0.0.1:{}", admin_port(environment)));
    let mut headers = vec![("content-length", "0".to_owned())];
    if let Some(file) = &args.token_file {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let token = text.lines().next().unwrap_or_default().trim();
                headers.push(("authorization", format!("Bearer {token}")));
            }
            Err(error) => {
                eprintln!("gateway override: token file {}: {error}", file.display());
                return ExitCode::from(EXIT_USAGE);
            }
        }
    }
    let url = format!("{}{path}", admin.trim_end_matches('/'));
    let answer = match client::runtime() {
        Ok(runtime) => {
            let answer = runtime.block_on(client::ask(method, &url, &headers));
            // A name that is still being resolved must not hold up the end.
            runtime.shutdown_background();
            answer
        }
        Err(error) => Err(error.to_string()),
    };
    ExitCode::from(conclude(&admin, answer))
}

fn conclude(admin: &str, answer: Result<Answer, String>) -> u8 {
    let refused = |text: &str| {
        eprintln!("gateway override: {}", text.trim_end());
    };
    match answer {
        Ok(answer) if answer.status.is_success() => {
            print!("{}", answer.body);
            0
        }
        Ok(answer) if answer.status == StatusCode::NOT_FOUND && !answer.body.starts_with("invalid path") => {
            refused(&answer.body);
            EXIT_UNKNOWN
        }
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
            refused(&format!(
                "what answers at {admin} knows no overrides; is it this version of the gateway?"
            ));
            EXIT_UNREACHABLE
        }
        Ok(answer) => {
            refused(&format!("{admin} answers {}: {}", answer.status, answer.body));
            EXIT_UNREACHABLE
        }
        Err(error) => {
            refused(&format!(
                "the gateway's admin at {admin} cannot be asked: {error}; run this where the gateway runs (aws ecs \
                 execute-command), or name its admin address with --admin"
            ));
            EXIT_UNREACHABLE
        }
    }
}

/// The port that a gateway started with these variables has.
pub(super) fn admin_port(environment: &Environment) -> u16 {
    let configured = || {
        let text = environment.config.as_ref()?;
        let bootstrap = gateway_config::parse_partial_bootstrap("GATEWAY_CONFIG", text.as_bytes()).ok()?;
        Some(bootstrap.admin.address.port())
    };
    environment.admin_port.or_else(configured).unwrap_or(ADMIN_PORT)
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_between_a_second_and_a_day() {
        for (text, wanted) in [("60m", 3600), ("90s", 90), ("24h", 86_400), ("5", 5)] {
            assert_eq!(seconds(text), Ok(wanted), "{text}");
        }
        for text in ["", "0s", "25h", "m", "1d", "-1m", "1.5h", "99999999999999999999h", "5124095576030432h"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
