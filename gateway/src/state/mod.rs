//! What runs now and who changes it.
//!
//! Owns the snapshot, its compilation and the store. Requests only read; sources only send changes.
//! Next: `snapshot.rs`.

pub mod change;
pub mod compile;
pub mod snapshot;
pub mod store;
pub mod swap;
