//! From bytes to a configuration.
//!
//! Owns the steps (size, UTF-8, tree, table, model) and their order; it must never know a field.
//! Next: `tree.rs`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::bootstrap_shape::BOOTSTRAP;
use crate::decode;
use crate::diagnostic::{Collector, Diagnostics, Mark};
use crate::model::Bootstrap;
use crate::object::Object;
use crate::shape::{self, Kind, Shape};
use crate::tree;

/// Largest file: a gateway with 1,000 routes has about half of it, and a reload must stay a matter of milliseconds.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Reads a gateway's configuration, YAML or JSON, from text.
///
/// # Errors
/// Every error of the text at once; `file_name` is only their label.
pub fn parse_bootstrap(file_name: &str, text: &[u8]) -> Result<Bootstrap, Diagnostics> {
    parse(file_name, text, &BOOTSTRAP, decode::bootstrap)
}

/// As [`parse_bootstrap`], for a process that is told by its environment where control is: the text may leave out
/// listeners and clusters.
///
/// # Errors
/// As [`parse_bootstrap`].
pub fn parse_partial_bootstrap(file_name: &str, text: &[u8]) -> Result<Bootstrap, Diagnostics> {
    parse(file_name, text, &BOOTSTRAP, decode::partial_bootstrap)
}

/// Reads a gateway's configuration from a file.
///
/// # Errors
/// A file that cannot be read or is over [`MAX_FILE_BYTES`]; else as [`parse_bootstrap`].
pub fn read_bootstrap(path: &Path) -> Result<Bootstrap, Diagnostics> {
    parse_bootstrap(&path.display().to_string(), &read_file(path)?)
}

/// The steps, for any table and its decoder.
pub(crate) fn parse<T>(
    file_name: &str,
    text: &[u8],
    shape: &'static Shape,
    decode: impl FnOnce(&Object<'_>, &mut Collector<'_>) -> T,
) -> Result<T, Diagnostics> {
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large(file_name));
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Err(not_utf8(file_name, text, error.valid_up_to())),
    };
    if text.trim().is_empty() {
        return Err(Diagnostics::whole(file_name, "the file is empty", tree::EMPTY_CURE));
    }
    let mut out = Collector::new(file_name, text);
    let Some(root) = tree::read(text, &mut out) else {
        return finish_failed(out, file_name);
    };
    shape::check(&root, &Kind::Object(shape), "", Mark { len: 1, ..root.mark }, &mut out);
    let value = decode(&Object::root(&root, shape), &mut out);
    out.finish(value)
}

fn finish_failed<T>(out: Collector<'_>, file_name: &str) -> Result<T, Diagnostics> {
    match out.finish(()) {
        Err(diagnostics) => Err(diagnostics),
        Ok(()) => Err(Diagnostics::whole(file_name, "the file cannot be read", tree::EMPTY_CURE)),
    }
}

/// Reads a file of at most [`MAX_FILE_BYTES`]; a larger one is not read to its end.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Diagnostics> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| {
        let cure = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path, and that the volume is mounted",
            std::io::ErrorKind::PermissionDenied => "let the user of this process read the file",
            std::io::ErrorKind::IsADirectory => "name the file in that folder",
            _ => "check that it is a readable file",
        };
        Diagnostics::whole(&name, format!("the file cannot be read: {error}"), cure)
    };
    let mut bytes = Vec::new();
    let most = MAX_FILE_BYTES as u64 + 1;
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large(&name));
    }
    Ok(bytes)
}

fn too_large(file_name: &str) -> Diagnostics {
    Diagnostics::whole(
        file_name,
        format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20),
        "a configuration never needs that much: check that this is the right file",
    )
}

fn not_utf8(file_name: &str, text: &[u8], good: usize) -> Diagnostics {
    let before = text.get(..good).unwrap_or_default();
    let before = String::from_utf8_lossy(before);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let mut out = Collector::new(file_name, &before);
    out.report("", Mark { line, column, len: 1 }, "not UTF-8 from here on", "save the file as UTF-8 text");
    match out.finish(()) {
        Err(diagnostics) => diagnostics,
        Ok(()) => Diagnostics::whole(file_name, "not UTF-8", "save the file as UTF-8 text"),
    }
}
