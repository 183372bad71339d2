//! What control remembers over a restart.
//!
//! Owns the shape of the remembered document and how it reaches the disk; it must never decide what is
//! remembered (that is `core/`). Next: `document.rs`, then `file.rs`.

pub mod document;
pub mod file;
pub mod store;
