//! The kit on the disk.
//!
//! Owns the promise that nothing of the user's is overwritten unasked: first all paths are looked at, then written.
//! Next: `control/src/cli/init.rs`.

use super::File;
use std::io;
use std::path::{Path, PathBuf};

/// Why the kit was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Some files are there, with another content; nothing was written.
    #[error("{} already there and different: {}", plural(.0.len()), list(.0))]
    Exists(Vec<PathBuf>),
    /// The disk says no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn plural(count: usize) -> String {
    if count == 1 { "a file is".to_owned() } else { format!("{count} files are") }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Writes the files below `folder` and answers the paths that are new or changed.
///
/// # Errors
/// [`WriteError::Exists`] when a file is there with another content and `force` is not given: then nothing is written.
pub fn write(folder: &Path, files: &[File], force: bool) -> Result<Vec<PathBuf>, WriteError> {
    let mut wanted = Vec::new();
    let mut different = Vec::new();
    for file in files {
        let path = folder.join(&file.path);
        match std::fs::read(&path) {
            Ok(there) if there == file.text.as_bytes() => continue,
            Ok(_) => different.push(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(WriteError::Io { path, source }),
        }
        wanted.push((path, &file.text));
    }
    if !different.is_empty() && !force {
        return Err(WriteError::Exists(different));
    }
    let mut written = Vec::new();
    for (path, text) in wanted {
        let at = |source| WriteError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(at)?;
        }
        std::fs::write(&path, text).map_err(at)?;
        written.push(path);
    }
    Ok(written)
}
