//! The list of admin paths: one row each, from which dispatch, `/help` and the home page are made.
//!
//! Owns the list. A row that changes state must say so: the rule of `access.rs` hangs on it. Next: `pages.rs`.

use super::reply::Reply;
use super::{Admin, clusters, config_dump, logging, overrides, pages, server_info};
use crate::process::Process;
use std::fmt::Write;

/// What a handler sees.
pub struct Context<'a> {
    /// Hooks and labels.
    pub admin: &'a Admin,
    /// What is read.
    pub process: &'a Process,
    /// Parameters in order.
    pub query: Vec<(String, String)>,
}

impl Context<'_> {
    /// A parameter's value; empty when it is there without one.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One path.
#[derive(Debug)]
pub struct Endpoint {
    /// The path.
    pub path: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Parameters and what they do.
    pub parameters: &'static [(&'static str, &'static str)],
    /// Needs POST and the rule of `access.rs`.
    pub changes_state: bool,
    /// Makes the answer.
    pub run: fn(&Context<'_>) -> Reply,
}

type Parameters = &'static [(&'static str, &'static str)];
type Run = fn(&Context<'_>) -> Reply;

const fn read(path: &'static str, help: &'static str, parameters: Parameters, run: Run) -> Endpoint {
    Endpoint { path, help, parameters, changes_state: false, run }
}

const fn change(path: &'static str, help: &'static str, parameters: Parameters, run: Run) -> Endpoint {
    Endpoint { path, help, parameters, changes_state: true, run }
}

const FORMAT: (&str, &str) = ("format", "one of (text, json)");
const USED_ONLY: (&str, &str) = ("usedonly", "only statistics that have counted something since the start");
const FILTER: (&str, &str) = ("filter", "regular expression over the name, such as ^cluster\\.v1");
const INVERT: (&str, &str) = ("invert_filter", "what the filter does not match");
const BUCKETS: (&str, &str) = ("histogram_buckets", "one of (summary, cumulative, disjoint)");
const TYPE: (&str, &str) = ("type", "one of (All, Counters, Gauges, Histograms, TextReadouts)");
const STATS_FORMAT: (&str, &str) = ("format", "one of (text, json, prometheus)");
const GRACEFUL: (&str, &str) = ("graceful", "ask clients to leave over the drain time, then stop accepting");
const SKIP_EXIT: (&str, &str) = ("skip_exit", "with graceful: go on accepting after the drain time");
const LEVEL: (&str, &str) =
    ("level", "level of all: one of (trace, debug, info, warning, error, critical, off)");
const PATHS: (&str, &str) = ("paths", "levels of single modules, such as gateway::sources:debug,hyper:info");
const RESOURCE: (&str, &str) = (
    "resource",
    "one part: bootstrap, static_clusters, static_listeners, static_route_configs or dynamic_route_configs",
);
const ROUTE: (&str, &str) = ("route", "the route's name");
const TARGET: (&str, &str) = ("target", "who takes everything: a target's name, or `stable`");
const FOR: (&str, &str) = ("for", "seconds, from 1 to 86400; 3600 when not said");
const RELEASE: (&str, &str) = ("release", "end the override of the route now");
const INCLUDE_EDS: (&str, &str) = ("include_eds", "with the endpoints of every cluster");

/// Every path, in alphabetical order.
pub static ENDPOINTS: &[Endpoint] = &[
    read("/", "this list, with links", &[], pages::home),
    read("/certs", "certificates in use", &[], pages::certs),
    read("/clusters", "clusters and their endpoints", &[FORMAT], clusters::clusters),
    read(
        "/config_dump",
        "configuration in force, with effective weights and where they came from",
        &[RESOURCE, INCLUDE_EDS],
        config_dump::config_dump,
    ),
    change(
        "/drain_listeners",
        "stop accepting; what is connected goes on",
        &[GRACEFUL, SKIP_EXIT],
        pages::drain_listeners,
    ),
    change("/healthcheck/fail", "fail health checks, so that load balancers stop sending", &[], pages::fail),
    change("/healthcheck/ok", "pass health checks again", &[], pages::ok),
    read("/help", "this list", &[], pages::help),
    read("/hot_restart_version", "hot restart compatibility version", &[], pages::hot_restart_version),
    read("/init_dump", "what LIVE still waits for", &[], pages::init_dump),
    read("/listeners", "listeners and the addresses they are bound to", &[FORMAT], pages::listeners),
    change("/logging", "show or change the level of the log", &[LEVEL, PATHS], logging::logging),
    read("/memory", "memory in use", &[], pages::memory),
    change(
        "/override",
        "break glass: one target takes everything of a route, on this gateway, for a time",
        &[ROUTE, TARGET, FOR, RELEASE],
        overrides::change,
    ),
    read(
        "/overrides",
        "routes that can be overridden, and the overrides in force",
        &[FORMAT],
        overrides::list,
    ),
    change("/quitquitquit", "end the process", &[], pages::quit),
    read("/ready", "state; 200 if LIVE, otherwise 503", &[], server_info::ready),
    change("/reopen_logs", "open access logs anew by their names", &[], pages::reopen_logs),
    change("/reset_counters", "show all counters from 0", &[], pages::reset_counters),
    read("/runtime", "runtime values", &[], pages::runtime),
    read("/server_info", "version, state, identity", &[], server_info::server_info),
    read("/stats", "statistics", &[USED_ONLY, FILTER, INVERT, STATS_FORMAT, TYPE, BUCKETS], pages::stats),
    read(
        "/stats/prometheus",
        "statistics in Prometheus text",
        &[USED_ONLY, FILTER, INVERT, TYPE],
        pages::stats_prometheus,
    ),
];

/// The row of a path; one slash at its end is let pass.
pub fn find(path: &str) -> Option<&'static Endpoint> {
    let exact = |wanted: &str| ENDPOINTS.iter().find(|endpoint| endpoint.path == wanted);
    exact(path).or_else(|| exact(path.strip_suffix('/')?))
}

/// The list as Envoy's `/help` prints it.
pub fn help() -> String {
    let mut out = String::from("admin commands are:\n");
    for endpoint in ENDPOINTS {
        let post = if endpoint.changes_state { " (POST)" } else { "" };
        // A string takes every write.
        let _ = writeln!(out, "  {}{post}: {}", endpoint.path, endpoint.help);
        for (name, help) in endpoint.parameters {
            let _ = writeln!(out, "      {name}: {help}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_there_once_in_order() {
        let paths: Vec<_> = ENDPOINTS.iter().map(|e| e.path).collect();
        let mut sorted = paths.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(paths, sorted);
    }

    #[test]
    fn what_changes_state_is_marked_in_the_help() {
        let help = help();
        assert!(help.contains("  /quitquitquit (POST): "));
        assert!(help.contains("  /server_info: "));
        let changing = ENDPOINTS.iter().filter(|e| e.changes_state).count();
        assert_eq!(help.matches(" (POST): ").count(), changing);
    }

    #[test]
    fn a_slash_at_the_end_is_let_pass_and_nothing_else() {
        assert_eq!(find("/stats/").map(|e| e.path), Some("/stats"));
        assert!(find("/stats//").is_none());
        assert!(find("/quit").is_none());
    }
}
