//! `control serve`: from the configuration to a running server, and to its end.
//!
//! Owns the order of birth and death: configuration, tokens, socket, state, tasks; then SIGTERM, answers to whoever
//! waits, exit. It must never answer a request before the epoch of this start is on disk, or the disk has refused it.
//! Next: `begin.rs`.

use crate::api::Api;
pub use crate::begin::{begin, status_reader};
use crate::emf;
use crate::follow;
use crate::port::{DRAIN, accept};
use crate::shared::Shared;
use crate::state::file::StateError;
use crate::tokens::{TokenError, Tokens};
use crate::webhooks;
use gateway_config::Diagnostics;
use gateway_config::control_config::{ControlConfig, Tls, parse_control, read_control};
use lifecycle::drain::Drain;
use lifecycle::signals;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tls::{ServerCertificate, TlsError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Holds the text of the configuration where no file can be mounted, as in a Fargate task.
pub const CONFIG_VARIABLE: &str = "CONTROL_CONFIG";

/// Why control does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is not good.
    #[error("{0}")]
    Config(#[from] Diagnostics),
    /// The state is not good.
    #[error("{0}")]
    State(#[from] StateError),
    /// A token is not good.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The certificate of the port is not good.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// Open to the network without tokens.
    #[error(
        "listen: {address} can be reached from other machines, but {missing} tokens are not configured; add \
         tokens.gateway and tokens.operator (name and file each), or listen on 127.0.0.1"
    )]
    Open {
        /// The address.
        address: SocketAddr,
        /// Which kind.
        missing: &'static str,
    },
    /// The port is taken or not allowed.
    #[error("listen: {address}: {source}; stop what uses the port, or change `listen` in the configuration")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Neither a file nor a text.
    #[error(
        "no configuration: name a file (`control serve --config FILE`), or put its text into the variable \
         {CONFIG_VARIABLE}; in an ECS task definition that is an entry of `environment`"
    )]
    NoConfig,
    /// A part that must live as long as control has ended.
    #[error("{0} has ended by a fault, which the log tells: control ends, so that it is started again")]
    Fault(&'static str),
    /// No signal handler.
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// What `control serve` was told on the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration; without it the variable `CONTROL_CONFIG` holds its text.
    pub config: Option<PathBuf>,
    /// Begin from the fleet, whatever the state is.
    pub recover: bool,
}

/// Runs until a signal ends it.
pub async fn run(options: &Options) -> Result<(), ServeError> {
    let config = read_config(options.config.as_deref())?;
    check_exposure(&config)?;
    let tokens = Arc::new(Tokens::load(&config.tokens)?);
    let certificate = certificate(&config)?;
    let drain = Drain::new();
    // The socket first: a start that comes to nothing must not use up an epoch. Nobody is answered before `accept`.
    let listener = bind(config.listen).await?;
    let (shared, mut handles) = begin(&config, options.recover, &drain).await?;
    let address = listener.local_addr().unwrap_or(config.listen);
    // On stdout, and first: whoever started control on port 0 reads the port here.
    let mut out = std::io::stdout().lock();
    // A closed stdout is no reason not to serve.
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let _ = writeln!(out, "control listens on {scheme}://{address}").and_then(|()| out.flush());
    drop(out);
    tracing::info!(%address, "listening");
    let mut signals = signals::shutdown().map_err(ServeError::Signals)?;
    let lost = watch_tasks(spawn_tasks(&shared), drain.clone());
    handles.extend(spawn_tellers(&config, &shared, &drain));
    tokio::spawn(Arc::clone(&tokens).follow_files());
    if let Some(certificate) = &certificate {
        tokio::spawn(Arc::clone(certificate).follow_files());
    }
    if let Some(path) = options.config.clone() {
        tokio::spawn(follow::follow_file(Arc::clone(&shared), path, config.clone()));
    }
    let stop = drain.clone();
    tokio::spawn(async move {
        signals.recv().await;
        tracing::info!("stopping");
        stop.start(DRAIN);
        // A second signal does not wait.
        signals.recv().await;
        stop.close();
    });
    let api = Api::new(Arc::clone(&shared), tokens);
    accept(&listener, &api, certificate.as_ref(), &drain.watch()).await;
    let followers = async {
        for follower in handles {
            // A panic was told by the panic hook, and there is nothing left to clean up.
            let _ = follower.await;
        }
    };
    if tokio::time::timeout(DRAIN, followers).await.is_err() {
        tracing::warn!("App Mesh or a webhook did not take the last news before the end");
    }
    drain.close();
    lost.await.unwrap_or_default().map_or(Ok(()), |name| Err(ServeError::Fault(name)))
}

/// Starts what control does by itself: adoption, forgetting, and writing what could not be written.
pub fn spawn_tasks(shared: &Arc<Shared>) -> [(&'static str, JoinHandle<()>); 2] {
    let house = Arc::clone(shared);
    let retry = Arc::clone(shared);
    [
        ("the task that adopts and forgets", tokio::spawn(async move { house.keep_house().await })),
        ("the task that writes again", tokio::spawn(async move { retry.retry_unsaved().await })),
    ]
}

/// Starts who tells the world outside: webhooks, and metrics on stdout. Control does its work without them.
pub fn spawn_tellers(config: &ControlConfig, shared: &Arc<Shared>, drain: &Drain) -> Vec<JoinHandle<()>> {
    let asks = Arc::clone(shared);
    let around = webhooks::Surroundings {
        counted: shared.metrics.webhook_events.clone(),
        stable_of: Arc::new(move |route| {
            asks.with_core(|core| core.routes().get(route).map(|settings| core.stable_of(route, settings)))
        }),
        drain: drain.watch(),
        tls: None,
    };
    let mut handles = webhooks::spawn(&config.webhooks, &around, || shared.events());
    if config.metrics_log.emf {
        let namespace = config.metrics_log.namespace.clone();
        handles.push(tokio::spawn(emf::run(Arc::clone(shared), namespace)));
    }
    handles
}

/// Drains the process when one of its tasks ends before that, and answers which. A control that looks alive and
/// does only half of its work is worse than one that is started again.
pub fn watch_tasks(
    tasks: [(&'static str, JoinHandle<()>); 2],
    drain: Drain,
) -> JoinHandle<Option<&'static str>> {
    tokio::spawn(async move {
        let [(first, mut one), (second, mut other)] = tasks;
        let name = tokio::select! {
            _ = &mut one => first,
            _ = &mut other => second,
        };
        let fault = !drain.watch().is_draining();
        if fault {
            tracing::error!("{name} has ended: control ends");
            drain.start(DRAIN);
        }
        // What is being written comes to its end; a panic was told by its hook.
        let _ = tokio::time::timeout(DRAIN, async {
            for task in [one, other] {
                if !task.is_finished() {
                    let _ = task.await;
                }
            }
        })
        .await;
        fault.then_some(name)
    })
}

fn certificate(config: &ControlConfig) -> Result<Option<Arc<ServerCertificate>>, TlsError> {
    let load = |tls: &Tls| ServerCertificate::load(&tls.certificate_file, &tls.private_key_file);
    config.tls.as_ref().map(load).transpose()
}

fn read_config(file: Option<&Path>) -> Result<ControlConfig, ServeError> {
    match (file, std::env::var(CONFIG_VARIABLE)) {
        (Some(file), _) => Ok(read_control(file)?),
        (None, Ok(text)) if !text.trim().is_empty() => Ok(parse_control(CONFIG_VARIABLE, text.as_bytes())?),
        (None, _) => Err(ServeError::NoConfig),
    }
}

fn check_exposure(config: &ControlConfig) -> Result<(), ServeError> {
    let address = config.listen;
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let lists = [("gateway", &config.tokens.gateway), ("operator", &config.tokens.operator)];
    match lists.into_iter().find(|(_, tokens)| tokens.is_empty()) {
        Some((missing, _)) => Err(ServeError::Open { address, missing }),
        None => Ok(()),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}
