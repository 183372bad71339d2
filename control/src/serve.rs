//! `control serve`: from the configuration to a running server, and to its end.
//!
//! Owns the order of birth and death: configuration, tokens, socket, state, tasks; then SIGTERM, answers to whoever
//! waits, exit. It must never answer a request before the epoch of this start is on disk, or the disk has refused it.
//! Next: `shared.rs`.

use crate::api::Api;
use crate::app_mesh;
use crate::core::{Core, Now};
use crate::port::{DRAIN, accept};
use crate::settings;
use crate::shared::{Follower, LOWERING_PATIENCE, Shared, StatusReader};
use crate::state::file::{StateError, StateFile};
use crate::state::store::Store;
use crate::tokens::{TokenError, Tokens};
use gateway_config::Diagnostics;
use gateway_config::control_config::{ControlConfig, StateConfig, Tls, read_control};
use lifecycle::drain::{Drain, DrainWatch};
use lifecycle::signals;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tls::{ServerCertificate, TlsError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Why control does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is not good.
    #[error("{0}")]
    Config(#[from] Diagnostics),
    /// The state is not good.
    #[error("state file {0}")]
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
    /// Not in this build.
    #[error("state.dynamodb: this build has only state.file")]
    NoDynamoDb,
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
    /// The configuration.
    pub config: PathBuf,
    /// Begin from the fleet, whatever the state file is.
    pub recover: bool,
}

/// Runs until a signal ends it.
pub async fn run(options: &Options) -> Result<(), ServeError> {
    let config = read_control(&options.config)?;
    check_exposure(&config)?;
    let tokens = Arc::new(Tokens::load(&config.tokens)?);
    let certificate = certificate(&config)?;
    let drain = Drain::new();
    // The socket first: a start that comes to nothing must not use up an epoch. Nobody is answered before `accept`.
    let listener = bind(config.listen).await?;
    let (shared, handles) = begin(&config, options.recover, &drain).await?;
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
    tokio::spawn(Arc::clone(&tokens).follow_files());
    if let Some(certificate) = &certificate {
        tokio::spawn(Arc::clone(certificate).follow_files());
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
        tracing::warn!("App Mesh did not take the last weights before the end");
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
        fault.then_some(name)
    })
}

fn certificate(config: &ControlConfig) -> Result<Option<Arc<ServerCertificate>>, TlsError> {
    let load = |tls: &Tls| ServerCertificate::load(&tls.certificate_file, &tls.private_key_file);
    config.tls.as_ref().map(load).transpose()
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

/// Opens the state, takes the next epoch and writes it, and starts App Mesh sync.
pub async fn begin(
    config: &ControlConfig,
    recover: bool,
    drain: &Drain,
) -> Result<(Arc<Shared>, Vec<JoinHandle<()>>), ServeError> {
    let StateConfig::File(file) = &config.state else { return Err(ServeError::NoDynamoDb) };
    let path = absolute(file);
    let opened = tokio::task::spawn_blocking(move || StateFile::open(&path, recover)).await;
    let (file, document) = opened.map_err(|error| StateError::Corrupt {
        path: file.clone(),
        why: format!("could not be opened: {error}"),
    })??;
    if document.is_none() {
        tracing::warn!(file = %file.path().display(), "there is no state: the fleet is asked what it serves");
    }
    let store = Store::new(file);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Now { mono_ms: 0, unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX) };
    let mut core = Core::start(settings::routes(config), document, &new_id(), now);
    if core.is_established() {
        let document = Arc::clone(core.document());
        match store.write(Arc::clone(&document), LOWERING_PATIENCE).await {
            Ok(()) => core.note_saved(&document),
            // A full disk must not keep control down: a rollback needs it up. The write is retried.
            Err(error) => tracing::error!(%error, "the start could not be written"),
        }
    }
    let (followers, handles) = follow_app_mesh(config, &drain.watch()).await;
    Ok((Arc::new(Shared::new(core, store, drain.watch(), followers)), handles))
}

async fn follow_app_mesh(
    config: &ControlConfig,
    drain: &DrainWatch,
) -> (BTreeMap<String, Follower>, Vec<JoinHandle<()>>) {
    let mut followers = BTreeMap::new();
    let mut handles = Vec::new();
    let synced = config.routes.iter().filter_map(|(name, route)| Some((name, route.app_mesh.as_ref()?)));
    let mut client: Option<aws::app_mesh::AppMesh> = None;
    for (name, app_mesh) in synced {
        let client = match &client {
            Some(client) => client.clone(),
            None => client.insert(aws::app_mesh::AppMesh::from_env().await).clone(),
        };
        let (wanted, wanted_reader) = watch::channel(Err("control has just started".to_owned()));
        let (status_writer, status) = watch::channel(app_mesh::SyncStatus::default());
        let handle = app_mesh::spawn(client, app_mesh.into(), wanted_reader, status_writer, drain.clone());
        let (again, again_reader) = watch::channel(0);
        handles.push(tokio::spawn(resume_when_asked(handle, again_reader, drain.clone())));
        let status = status_reader(status, drain.clone());
        followers.insert(name.clone(), Follower { wanted, again, status });
    }
    (followers, handles)
}

/// What the sync task says; when it is dead, that.
pub fn status_reader(status: watch::Receiver<app_mesh::SyncStatus>, drain: DrainWatch) -> StatusReader {
    Box::new(move || {
        let mut said = status.borrow().clone();
        if status.has_changed().is_err() && !drain.is_draining() {
            said.state = app_mesh::SyncState::Error;
            said.detail =
                "the sync of this route has ended by a fault, which the log tells: start control again"
                    .to_owned();
        }
        serde_json::to_value(said).unwrap_or_default()
    })
}

async fn resume_when_asked(handle: app_mesh::SyncHandle, mut again: watch::Receiver<u64>, drain: DrainWatch) {
    loop {
        tokio::select! {
            changed = again.changed() => match changed {
                Ok(()) => handle.resume(),
                Err(_) => break,
            },
            () = drain.draining() => break,
        }
    }
    handle.join().await;
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

/// The id of this start: 40 random bits, in the letters that a version_info may hold.
fn new_id() -> String {
    let bits: u64 = rand::random();
    format!("{:010x}", bits >> 24)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
