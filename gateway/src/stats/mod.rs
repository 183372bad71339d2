//! Statistics in Envoy's names: cells, the table of names, the registry of scopes.
//!
//! Owns counting; printing is `render.rs`. It must never be locked on the request path.
//! Next: `cells.rs`.

pub mod cells;
pub mod names;
pub mod registry;
pub mod render;
