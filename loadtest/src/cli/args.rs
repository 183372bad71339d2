//! What may be typed: verbs, flags, their defaults and the text of `--help`.
//!
//! Must never hold a default that the help does not show. Next: `send.rs`.

use crate::client::parse_url;
use crate::drive::MAX_CONNECTIONS;
use crate::identify::Identify;
use crate::register::Registration;
use crate::schedule::{Rate, parse_duration};
use crate::split::Expected;
use crate::switch::Setting;
use clap::{Args, Parser, Subcommand};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use std::net::IpAddr;
use std::time::Duration;

const EXIT_CODES: &str = "Exit codes: 0 all is well; 1 an error answer (status 400 or above), a request without an answer, \
requests not sent, a split that is off, or nothing listens there; 2 the command line is wrong.";

/// The fields of the JSON report; a test compares them with what is printed.
pub const JSON_FIELDS: &[&str] = &[
    "verb",
    "url",
    "protocol",
    "ok",
    "reasons",
    "stopped",
    "planned",
    "sent",
    "not_sent",
    "answered",
    "errors",
    "late",
    "rate_asked",
    "rate_sent",
    "seconds",
    "connections",
    "connections_opened",
    "body_bytes",
    "versions.0.name",
    "versions.0.expected_percent",
    "versions.0.observed_percent",
    "versions.0.low_percent",
    "versions.0.high_percent",
    "versions.0.count",
    "versions.0.errors",
    "versions.0.latency_from_intended_ms",
    "unidentified",
    "split.method",
    "split.chi_square",
    "split.degrees_of_freedom",
    "split.p_value",
    "split.threshold",
    "split.accepted",
    "split.reasons",
    "statuses",
    "failures",
    "failure_texts",
    "latency_from_intended_ms.count",
    "latency_from_intended_ms.p50",
    "latency_from_intended_ms.p90",
    "latency_from_intended_ms.p99",
    "latency_from_intended_ms.p99.9",
    "latency_from_intended_ms.max",
    "latency_from_sent_ms",
    "lateness_ms",
    "own_lateness_ms",
    "latency_reliable",
];

const JSON_HELP: &str = r#"JSON (--json): one object on standard output, with these fields.
  verb, url, protocol          what was run ("http/1.1" or "h2c")
  ok, reasons                  true exactly when the exit code is 0; else a list of sentences
  stopped                      null, "time-limit" or "interrupted"
  planned, sent, not_sent      requests; not_sent only when the run ended early
  answered, errors             whole answers; answers with status 400 or above plus requests without an answer
  late                         sent more than 1 ms after their time (never dropped)
  rate_asked, rate_sent        requests per second
  seconds, connections, connections_opened, body_bytes
  versions                     list of {name, expected_percent (null when not asked for), observed_percent,
                               low_percent, high_percent (Wilson, 95 %), count, errors, latency_from_intended_ms}
  unidentified                 answers that named no version
  split                        null for `run`; else {method: "chi-square" | "exact-binomial" | "certain", chi_square,
                               degrees_of_freedom, p_value, threshold, accepted, reasons}
  statuses                     {"200": 19998, ...}
  failures, failure_texts      {"connect" | "timeout" | "closed" | "reset" | "protocol": count}; the first text of each
  latency_from_intended_ms     {count, p50, p90, p99, "p99.9", max} of the answers, from the moment each was due
  latency_from_sent_ms         the same from the moment each was sent
  lateness_ms                  actual minus intended send time
  own_lateness_ms              the part of it that was not a wait for a free connection
  latency_reliable             false when own_lateness_ms.p99 is above 10 % of latency_from_intended_ms.p50"#;

const SWITCH_HELP: &str = r#"Exit code 1 also when a request that was sent after a change was confirmed (its command had ended) is answered by a
version that the change does not allow, or when a command fails.

Beside the fields below the JSON of `switch` has
  stale                        the number of such requests
  changes                      list of {to: [names], issued_s, confirmed_after_ms, last_old_after_ms (from the start of the
                               command to the sending of the last request that the old versions answered, or null),
                               first_new_after_ms, stale, error}"#;

const UPSTREAM_HELP: &str = r#"Faults on request, in the query or in the header x-fault (which wins), as in x-fault: status=500&delay=200ms
  status=503            answer with this status (200 to 599)
  delay=200ms           wait before answering
  reset=1               TCP RST in place of an answer
  close=1               close the connection in place of an answer
  cut=1                 close the connection after half of the body
  last=1                answer with `connection: close`
  slow_body=10x100ms    send the body in 10 pieces, 100 ms apart
  size=65536            a body of so many bytes
A POST, PUT or PATCH gets its own body back. GET /healthz is always 200. GET /_upstream/stats gives
{"name","requests","connections","connections_open"}.

At SIGTERM or SIGINT it deregisters, serves on for --drain, closes idle connections, answers what it owes and
exits 0; a second signal ends it at once. When it is ready it prints one line: `ready: NAME on ADDRESS:PORT`.

Exit codes: 0 stopped by a signal; 1 cannot listen or register; 2 the command line is wrong."#;

/// Open-loop load generator, split checker, and a backend with faults on request.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version = build_info::VERSION, about, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Send a bounded stream of requests and check that the versions got their shares
    #[command(after_help = EXIT_CODES, after_long_help = format!("{EXIT_CODES}\n\n{JSON_HELP}"))]
    Split(SplitArgs),
    /// Send requests at a fixed rate and report how long the answers took
    #[command(after_help = EXIT_CODES, after_long_help = format!("{EXIT_CODES}\n\n{JSON_HELP}"))]
    Run(RunArgs),
    /// Change the weights again and again under load, and check that no request after a change sees the old ones
    #[command(after_help = EXIT_CODES, after_long_help = format!("{EXIT_CODES}\n\n{SWITCH_HELP}\n\n{JSON_HELP}"))]
    Switch(SwitchArgs),
    /// Be a backend that names its version and has faults on request
    #[command(after_help = UPSTREAM_HELP)]
    Upstream(UpstreamArgs),
}

/// Flags of `split`.
#[derive(Debug, Args)]
pub struct SplitArgs {
    #[command(flatten)]
    pub send: SendArgs,
    /// Shares in percent, summing up to 100: v1=90,v2=10. A share of 0 must get nothing at all
    #[arg(long, value_name = "NAME=PERCENT,...")]
    pub expect: Expected,
    /// How many requests to send
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub requests: u64,
    /// When they are due: requests per second
    #[arg(long, default_value = "1000/s")]
    pub rate: Rate,
    /// HTTP method
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// Request body, sent as it is
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub send: SendArgs,
    /// When requests are due: requests per second
    #[arg(long)]
    pub rate: Rate,
    /// For how long requests are due
    #[arg(long, value_parser = parse_duration)]
    pub duration: Duration,
    /// A connection of its own for each request
    #[arg(long, conflicts_with = "http2")]
    pub close: bool,
    /// POST a body of so many bytes instead of GET
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=67_108_864))]
    pub post: Option<u32>,
    /// Send the headers that a browser and a load balancer send
    #[arg(long)]
    pub browser: bool,
}

/// Flags of `switch`.
#[derive(Debug, Args)]
pub struct SwitchArgs {
    #[command(flatten)]
    pub send: SendArgs,
    /// A setting: the versions that may answer under it (joined by +) and the shell command that brings it about and
    /// exits 0 once it holds. Give two or more; the first is set before the run, then they take turns
    #[arg(long, required = true, value_name = "NAME[+NAME]=COMMAND")]
    pub to: Vec<Setting>,
    /// How many changes to make
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub switches: u32,
    /// Time between two changes
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub every: Duration,
    /// When requests are due: requests per second
    #[arg(long, default_value = "1000/s")]
    pub rate: Rate,
}

/// Flags of all that send.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Where to, in full: http://localhost:9080/
    #[arg(value_parser = parse_url)]
    pub url: Uri,
    /// Connections used at a time. With all of them busy a request waits, and the wait counts as latency
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_CONNECTIONS as i64))]
    pub connections: u32,
    /// How answers name their version: header:NAME, body:TEXT with {name} in it, or auto, which is
    /// header:x-served-by, else header:x-v, else 'body:This is service {name}'
    #[arg(long, default_value = "auto", value_name = "HOW")]
    pub by: Identify,
    /// A request header, 'name: value'; repeat it for more
    #[arg(long = "header", short = 'H', value_name = "HEADER", value_parser = parse_header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// HTTP/2 with prior knowledge
    #[arg(long)]
    pub http2: bool,
    /// Requests at a time on one HTTP/2 connection
    #[arg(long, default_value_t = 1, requires = "http2", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub streams: u32,
    /// Longest time for one request, from sending it to its last byte
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// After this nothing is sent any more, and what was not sent is reported; default: the scheduled time and 30 s
    #[arg(long, value_parser = parse_duration)]
    pub time_limit: Option<Duration>,
    /// Print the report as JSON (see --help for its fields)
    #[arg(long)]
    pub json: bool,
}

/// Flags of `upstream`.
#[derive(Debug, Args)]
pub struct UpstreamArgs {
    /// The version that it says it is, in the body and in the header x-v
    #[arg(long)]
    pub name: String,
    /// Port to listen on; 0 lets the kernel choose
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Share of requests, from 0 to 1, that get an error
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub error_rate: f64,
    /// The status of those errors
    #[arg(long, default_value = "500", value_name = "STATUS", value_parser = crate::fault::status)]
    pub error_status: StatusCode,
    /// Wait this long before each answer
    #[arg(long, default_value = "0ms", value_parser = parse_duration)]
    pub delay: Duration,
    /// Close connections that have been idle this long; without it they stay open
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub keep_alive: Option<Duration>,
    /// Tell clients the keep-alive time: `keep-alive: timeout=N` in whole seconds
    #[arg(long, requires = "keep_alive")]
    pub keep_alive_header: bool,
    /// Register in Cloud Map: namespace=demo.local,service=svc1-v1,id=v1-1 (also ip=, service_id=, attr.NAME=)
    #[arg(long, requires = "registry", value_name = "WHERE")]
    pub register: Option<Registration>,
    /// URL of a Cloud Map stand-in on this machine; calls to it are not signed
    #[arg(long, requires = "register", value_name = "URL", value_parser = parse_url)]
    pub registry: Option<Uri>,
    /// How long to serve on after a signal, so that gateways notice the deregistration; default 5s when registered, else 0s
    #[arg(long, value_parser = parse_duration)]
    pub drain: Option<Duration>,
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let cure = || format!("`{text}` is not a header; write it as 'name: value'");
    let (name, value) = text.split_once(':').ok_or_else(cure)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| cure())?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| cure())?;
    Ok((name, value))
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a share; write a number from 0 to 1, for example 0.05"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_every_field_of_the_json() {
        for field in JSON_FIELDS {
            let first = field.split('.').next().unwrap();
            assert!(JSON_HELP.contains(first), "{first}");
        }
    }

    #[test]
    fn the_flags_of_the_readme_are_understood() {
        let line = "loadtest split http://localhost:9080/ --requests 20000 --expect v1=90,v2=10 --by header:x-v -H a:b";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Split(args) = cli.verb else { panic!("not split") };
        assert_eq!((args.requests, args.rate.as_per_second()), (20_000, 1000.0));
        let line = "loadtest upstream --name v1 --port 9001 --error-rate 0.05 --delay 5ms --keep-alive 5s --keep-alive-header";
        assert!(Cli::try_parse_from(line.split(' ')).is_ok());
        let line =
            "loadtest run http://localhost:9080/ --rate 500 --duration 10s --browser --post 100 --close";
        assert!(Cli::try_parse_from(line.split(' ')).is_ok());
    }

    #[test]
    fn a_wrong_header_or_share_says_how_to_write_one() {
        assert!(parse_header("nocolon").unwrap_err().contains("name: value"));
        assert!(parse_header("a b: c").unwrap_err().contains("name: value"));
        assert!(parse_share("5%").unwrap_err().contains("0 to 1"));
        assert!(parse_share("NaN").is_err());
    }
}
