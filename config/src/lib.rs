//! The configuration of Weir: model, parsers, validation, JSON schema, and the wire types of discovery and reports.
//!
//! A file becomes a model in four steps, each its own module: [`tree`] (YAML or JSON with positions), [`shape`]
//! (tables of fields against which the tree is checked; the JSON schema comes from the same tables), `object`
//! (typed access to a checked tree) and `decode`/`routes`/`control_config` (the model, and what tables cannot say).
//! All of them report to one [`diagnostic::Collector`], so that a person sees every error of a file at once.
//!
//! Reading order: [`model`] (what can be said), [`parse_bootstrap`] in `parse.rs`, `bootstrap_shape.rs` (the field
//! table), [`weights`] and [`wire`].

#![forbid(unsafe_code)]

mod bootstrap_shape;
mod cluster_shape;
pub mod control_config;
mod control_shape;
mod decode;
pub mod diagnostic;
pub mod discovered;
pub mod model;
mod object;
mod parse;
mod route_shape;
mod routes;
pub mod rules;
pub mod scalar;
pub mod schema;
pub mod shape;
pub mod state_item;
pub mod tree;
pub mod weights;
pub mod wire;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use object::Object;
pub use parse::{MAX_FILE_BYTES, parse_bootstrap, parse_partial_bootstrap, read_bootstrap};
