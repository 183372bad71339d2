//! The configuration of Weir: model, parsers, validation, JSON schema, and the wire types of discovery and reports.
//!
//! Reading order: [`model`] (what can be said), `parse` and `decode` (how a file becomes it), [`wire`].

#![forbid(unsafe_code)]

pub mod model;
pub mod wire;
