//! What control remembers over a restart.
//!
//! Owns the shape of the remembered document and how it reaches a file or an item; it must never decide what is
//! remembered (that is `core/`). Next: `document.rs`, then `file.rs` or `item.rs`, then `store.rs`.

pub mod document;
pub mod file;
pub mod item;
pub mod revision;
pub mod store;
pub mod trim;
