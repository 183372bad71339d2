//! Writing the state without stopping the event loop, to a file or an item.
//!
//! Owns the hand-over to a blocking thread and the patience with a slow disk; it must never reorder writes: a write
//! that was overtaken is dropped. Next: `shared.rs`.

use super::document::Document;
use super::file::{StateError, StateFile};
use super::item::ItemStore;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the state is kept.
#[derive(Debug)]
pub enum Store {
    /// In a file.
    File(FileStore),
    /// In an item of a DynamoDB table.
    Item(ItemStore),
}

impl Store {
    /// Takes over an open file.
    pub fn new(file: StateFile) -> Self {
        Self::File(FileStore::new(file))
    }

    /// The item, if it is one.
    pub fn item(&self) -> Option<&ItemStore> {
        match self {
            Self::File(_) => None,
            Self::Item(item) => Some(item),
        }
    }

    /// Writes `document`, waiting at most `patience`. Where the error says so, the write may still come to its end; a
    /// later write then replaces it.
    pub async fn write(&self, document: Arc<Document>, patience: Duration) -> Result<(), StateError> {
        match self {
            Self::File(file) => file.write(document, patience).await,
            // The futures of the SDK are large.
            Self::Item(item) => Ok(Box::pin(item.write(&document, patience)).await?),
        }
    }
}

/// A state file that is written from async code.
#[derive(Debug)]
pub struct FileStore {
    file: Arc<Mutex<Ordered>>,
    path: PathBuf,
    ticket: AtomicU64,
    // A disk that hangs must not collect one blocked thread per attempt.
    running: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Ordered {
    file: StateFile,
    newest: u64,
}

impl FileStore {
    /// Takes over an open file.
    pub fn new(file: StateFile) -> Self {
        let path = file.path().to_owned();
        Self {
            file: Arc::new(Mutex::new(Ordered { file, newest: 0 })),
            path,
            ticket: AtomicU64::new(0),
            running: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Writes `document`, waiting at most `patience`. After [`StateError::Slow`] the write may still come to its
    /// end; a later write then replaces it.
    pub async fn write(&self, document: Arc<Document>, patience: Duration) -> Result<(), StateError> {
        let ticket = self.ticket.fetch_add(1, Ordering::SeqCst) + 1;
        if self.running.swap(true, Ordering::SeqCst) {
            return Err(StateError::Busy { path: self.path.clone() });
        }
        let file = Arc::clone(&self.file);
        let running = Arc::clone(&self.running);
        let task = tokio::task::spawn_blocking(move || {
            let result = {
                let mut ordered = file.lock().unwrap_or_else(PoisonError::into_inner);
                if ticket > ordered.newest {
                    ordered.newest = ticket;
                    ordered.file.write(&document)
                } else {
                    Ok(())
                }
            };
            running.store(false, Ordering::SeqCst);
            result
        });
        match tokio::time::timeout(patience, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                // The task panicked: its flag would stay set for ever.
                self.running.store(false, Ordering::SeqCst);
                Err(self.slow(patience))
            }
            Err(_) => Err(self.slow(patience)),
        }
    }

    fn slow(&self, patience: Duration) -> StateError {
        StateError::Slow { path: self.path.clone(), seconds: patience.as_secs() }
    }
}
