//! `/server_info` and `/ready`: version, state, identity.
//!
//! Owns what health checks grep for: `"state": "LIVE"` on a line of its own. Next: `samples.rs`.

use super::endpoints::Context;
use super::envoy_json::duration;
use super::overrides;
use super::reply::Reply;
use crate::process::{Origin, Process, ServerState};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

/// The commit this was built from; `0` when the build did not say.
fn sha() -> &'static str {
    build_info::COMMIT.unwrap_or("0")
}

/// Major, minor and patch of this build.
fn numbers() -> [u64; 3] {
    let number = |text: Option<&str>| text.and_then(|t| t.parse().ok()).unwrap_or(0);
    [
        number(option_env!("CARGO_PKG_VERSION_MAJOR")),
        number(option_env!("CARGO_PKG_VERSION_MINOR")),
        number(option_env!("CARGO_PKG_VERSION_PATCH")),
    ]
}

fn build_type() -> &'static str {
    if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" }
}

/// Envoy's form: commit/version/status/build/TLS library.
pub fn version() -> String {
    format!("{}/{}/Clean/{}/rustls", sha(), env!("CARGO_PKG_VERSION"), build_type())
}

/// `server.version`: as Envoy, the first six hex digits of the commit; else the version as three bytes.
pub fn version_number() -> u64 {
    let digits = sha().get(..6).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    digits.unwrap_or_else(|| numbers().into_iter().fold(0, |sum, part| (sum << 8) + part))
}

/// `user_agent_name` and its version, as a Node has them.
pub fn user_agent() -> Value {
    let [major, minor, patch] = numbers();
    json!({
        "version": { "major_number": major, "minor_number": minor, "patch": patch },
        "metadata": {
            "revision.sha": sha(),
            "revision.status": "Clean",
            "build.type": build_type(),
            "ssl.version": "rustls",
        },
    })
}

/// `/ready`.
pub fn ready(context: &Context<'_>) -> Reply {
    let state = context.process.state();
    let status = if state == ServerState::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::text(status, format!("{}\n", state.as_str()))
}

/// Where the configuration is from, in the words of ours that stand beside Envoy's.
fn configuration(process: &Process) -> Value {
    let provenance = process.provenance();
    let age = SystemTime::now().duration_since(provenance.since).unwrap_or_default();
    let mut out = json!({ "source": provenance.origin.as_str() });
    if let Some(fields) = out.as_object_mut() {
        if provenance.origin == Origin::Awaited {
            fields.insert("waiting".to_owned(), json!(provenance.waiting));
        } else {
            fields.insert("version_info".to_owned(), json!(provenance.version));
            fields.insert("age_seconds".to_owned(), json!(age.as_secs()));
        }
    }
    out
}

/// `/server_info`: 503 until the process was LIVE for the first time, for a load balancer's health check looks at
/// nothing else; always 200 from then on, as Envoy, whatever the state.
pub fn server_info(context: &Context<'_>) -> Reply {
    let process = context.process;
    let bootstrap = process.store.snapshot().routes.bootstrap.clone();
    let uptime = duration(Duration::from_secs(process.started.elapsed().as_secs()));
    let line = &process.command_line;
    let begun = process.live.load(Relaxed);
    let status = if begun { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::json(&json!({
        "version": version(),
        "state": process.state().as_str(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": {
            "base_id": "0",
            "concurrency": line.concurrency,
            "config_path": line.config_path,
            "config_yaml": "",
            "log_level": line.log_level,
            "service_cluster": bootstrap.node.cluster,
            "service_node": bootstrap.node.id,
            "service_zone": process.zone,
            "drain_time": duration(line.drain_time),
            "mode": "Serve",
            "disable_hot_restart": true,
            "drain_strategy": "Gradual",
        },
        "node": {
            "id": bootstrap.node.id,
            "cluster": bootstrap.node.cluster,
            "metadata": { "weir": {
                "instance_id": process.instance_id,
                "boot_id": process.boot_id,
                "configuration": configuration(process),
                "overrides": overrides::shown(&process.store.snapshot()),
            } },
            "locality": { "zone": process.zone },
            "user_agent_name": "envoy",
            "user_agent_build_version": user_agent(),
            "extensions": [],
            "client_features": [],
            "listening_addresses": [],
            "dynamic_parameters": {},
        },
        "hot_restart_initializing": false,
    }))
    .with_status(status)
}
