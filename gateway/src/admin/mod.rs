//! The admin interface in Envoy's words: who the gateway is, how it does, and the few switches it has.
//!
//! Owns the server on the admin address. It reads what others keep and must never sit on the request path; nobody
//! but `app` imports it. What changes state goes through one rule (`access.rs`). Reads are open to the network,
//! because load balancers and Prometheus come from outside. Next: `endpoints.rs`, the list of paths.

mod access;
mod clusters;
mod config_dump;
mod endpoints;
mod envoy_json;
mod logging;
mod overrides;
mod pages;
mod query;
mod reply;
mod samples;
mod server_info;

use crate::access_log::AccessLogs;
use crate::process::Process;
use crate::stats::render::Label;
use access::Gate;
use endpoints::Context;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use reply::{Page, Reply};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};

/// Connections at once: two load balancers, Prometheus, an operator and room; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// From the connection to the end of the request head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A connection's whole life; it serves one request.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// Bytes that a request head may take; hyper's least is 8 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Bytes of a request body, which is read only to be polite: nothing here takes one.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What `POST /drain_listeners` asks of the listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenerDrain {
    /// Nothing was asked.
    #[default]
    Open,
    /// Ask clients to leave over the drain time, then stop accepting.
    Graceful {
        /// Do not stop accepting at the end.
        skip_exit: bool,
    },
    /// Stop accepting at once; what is connected goes on.
    Close,
}

/// What admin asks the rest of the process to do.
#[derive(Debug)]
pub struct AdminHooks {
    /// `POST /quitquitquit`, told once the answer was sent: end the process.
    pub quit: Arc<Notify>,
    /// `POST /drain_listeners`: the last wish.
    pub drain_listeners: watch::Sender<ListenerDrain>,
    /// `POST /reopen_logs`.
    pub access_logs: Arc<AccessLogs>,
}

/// Everything the admin interface reads and may do.
#[derive(Debug)]
pub struct Admin {
    process: Arc<Process>,
    hooks: AdminHooks,
    gate: Gate,
    stats_labels: Vec<Label>,
}

impl Admin {
    /// The admin interface of a process. `stats_labels` go to every Prometheus series (App Mesh's
    /// `ENABLE_ENVOY_STATS_TAGS`: `appmesh_mesh`, `appmesh_virtual_gateway`).
    pub fn new(process: Arc<Process>, hooks: AdminHooks, stats_labels: Vec<Label>) -> Arc<Self> {
        let gate = Gate::new(process.store.snapshot().routes.bootstrap.admin.token_file.clone());
        Arc::new(Self { process, hooks, gate, stats_labels })
    }
}

/// Serves the admin interface until it is dropped. Runs on any tokio runtime with I/O and time.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    connection(stream, peer, admin).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, admin: Arc<Admin>) {
    let quit = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        let (admin, quit) = (Arc::clone(&admin), Arc::clone(&quit));
        async move {
            let reply = answer(&admin, peer, request).await;
            quit.fetch_or(reply.quit, Relaxed);
            Ok::<Response<Page>, Infallible>(reply.into_response())
        }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIMIT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "admin: connection"),
        Err(_) => tracing::debug!(%peer, "admin: connection took too long"),
    }
    if quit.load(Relaxed) {
        admin.hooks.quit.notify_one();
    }
}

async fn answer(admin: &Admin, peer: SocketAddr, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    if Limited::new(body, MAX_BODY_BYTES).collect().await.is_err() {
        return Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "request body is too large or broken\n");
    }
    if !matches!(head.method, Method::GET | Method::HEAD | Method::POST) {
        return method_not_allowed(&head.method, "GET or POST");
    }
    let path = head.uri.path();
    let Some(endpoint) = endpoints::find(path) else {
        return Reply::text(StatusCode::NOT_FOUND, format!("invalid path. {}", endpoints::help()));
    };
    if endpoint.changes_state {
        if head.method != Method::POST {
            return method_not_allowed(&head.method, "POST");
        }
        if let Err(refusal) = admin.gate.check(peer, &head.headers) {
            tracing::warn!(%peer, path, reason = %refusal, "admin: refused");
            return Reply::text(StatusCode::FORBIDDEN, format!("{refusal}\n"));
        }
        tracing::info!(%peer, path, query = head.uri.query().unwrap_or_default(), "admin: state change");
    }
    let query = query::pairs(head.uri.query().unwrap_or_default());
    (endpoint.run)(&Context { admin, process: &admin.process, query })
}

fn method_not_allowed(method: &Method, required: &str) -> Reply {
    let text = format!("Method {method} not allowed, {required} required.");
    Reply::text(StatusCode::METHOD_NOT_ALLOWED, text)
}
