//! The state file: read once, replaced whole.
//!
//! Owns the lock and every byte that reaches the disk; it must never judge weights. A reader of the file sees the
//! old document or the new one, never a part: temp file, fsync, rename, fsync of the folder. The lock is a file of
//! its own because a lock on the document would stay with the inode that the rename throws away.
//! Next: `store.rs`, which calls this away from the event loop.

use super::document::{Document, FORMAT_MAJOR, Format, Unreadable};
use super::item::ItemError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A document with a hundred routes and full histories is about 30 MB.
pub const MAX_STATE_BYTES: u64 = 64 * 1024 * 1024;

/// Why the state could not be read or written. Every text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has the lock.
    #[error(
        "state file {}: another control is running on this state; stop it, or give this one a state file of its own",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file is there but is not a document.
    #[error(
        "state file {}: {why}; nothing was changed: restore the file from a copy, or start with --recover to take the weights \
         from the gateways (this file is then kept beside the new one)",
        path.display()
    )]
    Corrupt {
        /// The state file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Written by a newer major.
    #[error(
        "state file {}: format {major} is newer than this build's {FORMAT_MAJOR}; nothing was changed: run the newer control, \
         or start with --recover to take the weights from the gateways (this file is then kept beside the new one)",
        path.display()
    )]
    Newer {
        /// The state file.
        path: PathBuf,
        /// Its major.
        major: u32,
    },
    /// The disk refused.
    #[error("state file {}: {doing}: {source}; free space on the disk and check the folder's owner and mode", path.display())]
    Io {
        /// The path in question.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The new document is in place, but would not outlive a power cut for certain.
    #[error("state file {}: syncing the folder: {source}; free space on the disk and check the folder's owner and mode", path.display())]
    Unsynced {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state is an item, and that is why.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// An earlier write has not ended.
    #[error("state file {}: an earlier write hangs; check the disk", path.display())]
    Busy {
        /// The state file.
        path: PathBuf,
    },
    /// A write did not end in time.
    #[error(
        "state file {}: the write has not ended after {seconds} s; check the disk (the change may still reach it)",
        path.display()
    )]
    Slow {
        /// The state file.
        path: PathBuf,
        /// How long it was awaited.
        seconds: u64,
    },
}

impl StateError {
    /// Whether the file may hold what could not be written, now or later.
    pub fn may_have_landed(&self) -> bool {
        match self {
            Self::Unsynced { .. } | Self::Slow { .. } => true,
            Self::Item(error) => error.may_have_landed(),
            _ => false,
        }
    }

    /// What to do about it, in the words of who asked for a change.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Item(_) => {
                "see whether DynamoDB can be reached and try again; `control rollback` goes out without it"
            }
            _ => "free the disk and try again; `control rollback` goes out without it",
        }
    }
}

/// An open, locked state file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    // Held for its lock, which ends with the process, however that ends.
    _lock: File,
    on_disk: Option<Format>,
}

impl StateFile {
    /// Locks and reads. `None` when there is no file yet. With `recover` an unreadable file is put aside instead of
    /// refused, and a readable one too: the fleet is asked.
    pub fn open(path: &Path, recover: bool) -> Result<(Self, Option<Document>), StateError> {
        if let Some(folder) = folder_of(path) {
            fs::create_dir_all(folder).map_err(|source| io_error(folder, "creating the folder", source))?;
        }
        let lock_path = with_suffix(path, ".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|source| io_error(&lock_path, "opening the lock file", source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked { path: lock_path }),
            Err(TryLockError::Error(source)) => return Err(io_error(&lock_path, "locking", source)),
        }
        let mut file = Self { path: path.to_owned(), _lock: lock, on_disk: None };
        if recover {
            file.put_aside()?;
            return Ok((file, None));
        }
        let document = file.read()?;
        file.on_disk = document.as_ref().map(|document| document.format);
        Ok((file, document))
    }

    /// Where the document is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the document. When it fails before the rename the old document is whole.
    pub fn write(&mut self, document: &Document) -> Result<(), StateError> {
        let mut document = document.clone();
        document.format = Format::to_write(self.on_disk);
        self.keep_older_major()?;
        let mut bytes = serde_json::to_vec_pretty(&document).map_err(|error| StateError::Corrupt {
            path: self.path.clone(),
            why: format!("cannot be written as JSON: {error}"),
        })?;
        bytes.push(b'\n');
        let temporary = with_suffix(&self.path, ".tmp");
        write_synced(&temporary, &bytes)?;
        fs::rename(&temporary, &self.path).map_err(|source| io_error(&self.path, "renaming", source))?;
        self.on_disk = Some(document.format);
        if let Some(folder) = folder_of(&self.path) {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|source| StateError::Unsynced { path: folder.to_owned(), source })?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Option<Document>, StateError> {
        let corrupt = |why: String| StateError::Corrupt { path: self.path.clone(), why };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error(&self.path, "opening", source)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_STATE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| io_error(&self.path, "reading", source))?;
        if bytes.len() as u64 > MAX_STATE_BYTES {
            return Err(corrupt(format!("longer than {MAX_STATE_BYTES} bytes")));
        }
        match Document::read(&bytes) {
            Ok(document) => Ok(Some(document)),
            Err(Unreadable::Newer(major)) => Err(StateError::Newer { path: self.path.clone(), major }),
            Err(Unreadable::Corrupt(why)) => Err(corrupt(why)),
        }
    }

    fn keep_older_major(&self) -> Result<(), StateError> {
        match self.on_disk {
            Some(format) if format.major < FORMAT_MAJOR => {
                let kept = with_suffix(&self.path, &format!(".format-{}", format.major));
                fs::copy(&self.path, &kept)
                    .map(|_| ())
                    .map_err(|source| io_error(&kept, "keeping the older format", source))
            }
            _ => Ok(()),
        }
    }

    fn put_aside(&self) -> Result<(), StateError> {
        if !self.path.exists() {
            return Ok(());
        }
        // The first free number: putting aside twice must not lose the first.
        for number in 1..=1_000_u32 {
            let kept = with_suffix(&self.path, &format!(".before-recover-{number}"));
            if !kept.exists() {
                tracing::warn!(kept = %kept.display(), "the old state file is kept");
                return fs::rename(&self.path, &kept)
                    .map_err(|source| io_error(&kept, "keeping the old state file", source));
            }
        }
        Err(io_error(
            &self.path,
            "keeping the old state file",
            io::Error::other("1,000 kept files lie beside it already"),
        ))
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let mut file = File::create(path).map_err(|source| io_error(path, "creating", source))?;
    file.write_all(bytes).map_err(|source| io_error(path, "writing", source))?;
    file.sync_all().map_err(|source| io_error(path, "syncing", source))
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> StateError {
    StateError::Io { path: path.to_owned(), doing, source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn folder_of(path: &Path) -> Option<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Some(Path::new(".")),
        other => other,
    }
}
