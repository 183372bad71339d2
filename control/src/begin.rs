//! From the configuration to a control that may be asked: its state, its epoch, its followers.
//!
//! Owns the opening of the state and the first write. It must never let anything be answered before the epoch of this
//! start is written, or could not be. Next: `shared.rs`.

use crate::app_mesh;
use crate::core::{Core, Now};
use crate::follow;
use crate::serve::ServeError;
use crate::settings;
use crate::shared::{Follower, LOWERING_PATIENCE, Shared, StatusReader};
use crate::state::document::Document;
use crate::state::file::{StateError, StateFile};
use crate::state::item::{ItemError, ItemStore};
use crate::state::store::Store;
use aws::dynamodb::StateTable;
use gateway_config::control_config::{ControlConfig, StateConfig};
use lifecycle::drain::{Drain, DrainWatch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a start waits for DynamoDB before it goes on from what the gateways serve.
pub const START_PATIENCE: Duration = Duration::from_secs(6);
/// Other controls that may write the item between our reading and our first write.
const MAX_RACES: usize = 8;

type Begun = (Arc<Shared>, Vec<JoinHandle<()>>);

/// Opens the state, takes the next epoch and writes it, and starts App Mesh sync.
pub async fn begin(config: &ControlConfig, recover: bool, drain: &Drain) -> Result<Begun, ServeError> {
    match &config.state {
        StateConfig::File(path) => {
            let (core, store) = from_file(config, path, recover).await?;
            Ok(with_followers(config, core, store, drain).await)
        }
        StateConfig::DynamoDb(item) => {
            let table = StateTable::from_env(&item.table, &item.key);
            // The futures of the SDK are large.
            Box::pin(begin_with(config, table, recover, drain)).await
        }
    }
}

/// The same with the state in this item, whatever the configuration says.
pub async fn begin_with(
    config: &ControlConfig,
    table: StateTable,
    recover: bool,
    drain: &Drain,
) -> Result<Begun, ServeError> {
    let (core, store) = from_item(config, table, recover).await?;
    Ok(with_followers(config, core, store, drain).await)
}

async fn with_followers(config: &ControlConfig, core: Core, store: Store, drain: &Drain) -> Begun {
    let (followers, handles) = follow_app_mesh(config, &drain.watch()).await;
    (Arc::new(Shared::new(core, store, drain.watch(), followers)), handles)
}

async fn from_file(config: &ControlConfig, path: &Path, recover: bool) -> Result<(Core, Store), ServeError> {
    let absolute = absolute(path);
    let opened = tokio::task::spawn_blocking(move || StateFile::open(&absolute, recover)).await;
    let (file, document) = opened.map_err(|error| StateError::Corrupt {
        path: path.to_owned(),
        why: format!("could not be opened: {error}"),
    })??;
    if document.is_none() {
        tracing::warn!(file = %file.path().display(), "there is no state: the fleet is asked what it serves");
    }
    let store = Store::new(file);
    let mut core = start(config, document, &new_id());
    if core.is_established() {
        let document = Arc::clone(core.document());
        match store.write(Arc::clone(&document), LOWERING_PATIENCE).await {
            Ok(()) => core.note_saved(&document),
            // A full disk must not keep control down: a rollback needs it up. The write is retried.
            Err(error) => tracing::error!(%error, "the start could not be written"),
        }
    }
    Ok((core, store))
}

async fn from_item(
    config: &ControlConfig,
    table: StateTable,
    recover: bool,
) -> Result<(Core, Store), ServeError> {
    let id = new_id();
    let item = ItemStore::new(table, &id);
    if recover {
        return recovered(config, item, &id).await;
    }
    let mut error = None;
    for _ in 0..MAX_RACES {
        match attempt(config, &item, &id).await {
            Ok(core) => return Ok((core, Store::Item(item))),
            Err(ItemError::Overtaken { place, writer }) => {
                tracing::warn!(place, ?writer, "another control has written the state just now: read again");
                error = Some(ItemError::Overtaken { place, writer });
            }
            Err(refused) if is_final(&refused) => return Err(StateError::from(refused).into()),
            Err(unreadable) => {
                error = Some(unreadable);
                break;
            }
        }
    }
    item.forget();
    Ok((unread(config, &id, error.map(|error| error.to_string())), Store::Item(item)))
}

/// One start from what the item holds now.
async fn attempt(config: &ControlConfig, item: &ItemStore, id: &str) -> Result<Core, ItemError> {
    let found = item.read(START_PATIENCE).await?;
    item.base_on(found.as_ref());
    if found.is_none() {
        tracing::warn!(place = item.place(), "there is no state: the fleet is asked what it serves");
    }
    let mut core = start(config, found.map(|found| found.document), id);
    if core.is_established() {
        let document = Arc::clone(core.document());
        match item.write(&document, START_PATIENCE).await {
            Ok(()) => core.note_saved(&document),
            Err(error @ ItemError::Overtaken { .. }) => return Err(error),
            // DynamoDB must not keep control down: a rollback needs it up. The write is retried.
            Err(error) => tracing::error!(%error, "the start could not be written"),
        }
    }
    Ok(core)
}

async fn recovered(config: &ControlConfig, item: ItemStore, id: &str) -> Result<(Core, Store), ServeError> {
    match item.put_aside(START_PATIENCE).await {
        Ok(kept) => {
            let mut core = start(config, None, id);
            if let Some((epoch, kept)) = kept {
                tracing::warn!(kept, "the old state is kept");
                core.note_epoch(epoch);
            }
            Ok((core, Store::Item(item)))
        }
        Err(error) if is_final(&error) => Err(StateError::from(error).into()),
        Err(error) => {
            item.note_aside(true);
            Ok((unread(config, id, Some(error.to_string())), Store::Item(item)))
        }
    }
}

fn unread(config: &ControlConfig, id: &str, why: Option<String>) -> Core {
    let why = why.unwrap_or_else(|| "the state could not be read".to_owned());
    tracing::error!(
        "{why}; control goes on from what the gateways serve, and reads the state as soon as it can"
    );
    let mut core = start(config, None, id);
    core.note_unread(why);
    core
}

/// What waiting does not change, and what a start must not paper over: the table is not there, or holds what this
/// build cannot read.
fn is_final(error: &ItemError) -> bool {
    matches!(
        error,
        ItemError::Aws(aws::Error::NotFound { .. })
            | ItemError::Corrupt { .. }
            | ItemError::Newer { .. }
            | ItemError::TooLarge { .. }
    )
}

fn start(config: &ControlConfig, document: Option<Document>, id: &str) -> Core {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Now { mono_ms: 0, unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX) };
    Core::start(settings::routes(config), document, id, now).with_gateway(follow::resources(config))
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

/// The id of this start: 40 random bits, in the letters that a version_info may hold.
fn new_id() -> String {
    let bits: u64 = rand::random();
    format!("{:010x}", bits >> 24)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
