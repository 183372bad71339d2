//! The short answers of the admin interface.
//!
//! Owns the handlers that need no file of their own. Next: `server_info.rs`.

use super::endpoints::{self, Context, ENDPOINTS};
use super::envoy_json::{id_json, socket_address};
use super::reply::Reply;
use super::{ListenerDrain, samples};
use crate::stats::render::{self, Format, PROMETHEUS_CONTENT_TYPE, Query};
use hyper::StatusCode;
use serde_json::json;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// `/`: links to what may be read.
pub fn home(_: &Context<'_>) -> Reply {
    let mut rows = String::new();
    for endpoint in ENDPOINTS {
        let (path, help) = (endpoint.path, endpoint.help);
        // A string takes every write.
        let _ = if endpoint.changes_state {
            writeln!(rows, "<li><code>POST {path}</code>: {help}</li>")
        } else {
            writeln!(rows, "<li><a href=\"{path}\">{path}</a>: {help}</li>")
        };
    }
    Reply::html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Gateway admin</title></head>\n\
         <body><h1>Gateway admin</h1>\n<ul>\n{rows}</ul></body></html>\n"
    ))
}

/// `/help`.
pub fn help(_: &Context<'_>) -> Reply {
    Reply::text(StatusCode::OK, endpoints::help())
}

/// `/certs`: none are configured, since load balancers speak plain HTTP to this gateway.
pub fn certs(_: &Context<'_>) -> Reply {
    Reply::json(&json!({ "certificates": [] }))
}

/// `/hot_restart_version`: as of an Envoy without hot restart.
pub fn hot_restart_version(_: &Context<'_>) -> Reply {
    Reply::text(StatusCode::OK, "disabled")
}

/// `/init_dump`.
pub fn init_dump(context: &Context<'_>) -> Reply {
    let pending = context.process.ready.pending();
    if pending.is_empty() {
        return Reply::json(&json!({}));
    }
    Reply::json(&json!({
        "unready_targets_dumps": [{ "name": "init manager Server", "target_names": pending }]
    }))
}

/// `/listeners`.
pub fn listeners(context: &Context<'_>) -> Reply {
    let bound = samples::listeners(context.process);
    if context.parameter("format") == Some("json") {
        let status = |(name, address): &(String, _)| {
            json!({
                "name": id_json(name),
                "local_address": socket_address(*address),
            })
        };
        let statuses: Vec<_> = bound.iter().map(status).collect();
        return Reply::json(&json!({ "listener_statuses": statuses }));
    }
    let line = |(name, address): &(String, std::net::SocketAddr)| format!("{name}::{address}\n");
    Reply::text(StatusCode::OK, bound.iter().map(line).collect::<String>())
}

/// `/memory`: the process as the kernel sees it. What an allocator could tell apart is 0.
pub fn memory(_: &Context<'_>) -> Reply {
    let memory = samples::memory();
    Reply::json(&json!({
        "allocated": memory.anonymous.to_string(),
        "heap_size": memory.anonymous.to_string(),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": memory.resident.to_string(),
    }))
}

/// `/runtime`: no values are set; the layers are Envoy's.
pub fn runtime(_: &Context<'_>) -> Reply {
    Reply::json(&json!({ "entries": {}, "layers": ["static_layer", "admin_layer"] }))
}

/// `/stats`.
pub fn stats(context: &Context<'_>) -> Reply {
    match Query::parse(&context.query) {
        Ok(query) => statistics(context, &query),
        Err(text) => Reply::text(StatusCode::BAD_REQUEST, text),
    }
}

/// `/stats/prometheus`.
pub fn stats_prometheus(context: &Context<'_>) -> Reply {
    match Query::parse(&context.query) {
        Ok(mut query) => {
            query.format = Format::Prometheus;
            statistics(context, &query)
        }
        Err(text) => Reply::text(StatusCode::BAD_REQUEST, text),
    }
}

fn statistics(context: &Context<'_>, query: &Query) -> Reply {
    let text = query.render(samples::all(context.process), &context.admin.stats_labels);
    match query.format {
        Format::Text => Reply::text(StatusCode::OK, text),
        Format::Json => Reply::compact_json(text),
        Format::Prometheus => Reply::new(PROMETHEUS_CONTENT_TYPE, text),
    }
}

/// `POST /drain_listeners`.
pub fn drain_listeners(context: &Context<'_>) -> Reply {
    let skip_exit = context.parameter("skip_exit").is_some();
    // Envoy: skip_exit is a drain that never closes, so it is graceful by itself.
    let graceful = skip_exit || context.parameter("graceful").is_some();
    let drain = if graceful { ListenerDrain::Graceful { skip_exit } } else { ListenerDrain::Close };
    context.admin.hooks.drain_listeners.send_replace(drain);
    Reply::ok()
}

/// `POST /healthcheck/fail`.
pub fn fail(context: &Context<'_>) -> Reply {
    context.process.health_failed.store(true, Relaxed);
    Reply::ok()
}

/// `POST /healthcheck/ok`.
pub fn ok(context: &Context<'_>) -> Reply {
    context.process.health_failed.store(false, Relaxed);
    Reply::ok()
}

/// `POST /reset_counters`.
pub fn reset_counters(context: &Context<'_>) -> Reply {
    render::collect::reset_counters(&context.process.registry);
    Reply::ok()
}

/// `POST /reopen_logs`.
pub fn reopen_logs(context: &Context<'_>) -> Reply {
    context.admin.hooks.access_logs.reopen();
    Reply::ok()
}

/// `POST /quitquitquit`.
pub fn quit(_: &Context<'_>) -> Reply {
    Reply::ok().then_quit()
}
