//! `control apply`: the weights of an app.properties.json, as the pipelines around App Mesh wrote it.
//!
//! Owns what such a file means for a route, and what must not be done by a pipeline without a person: changing
//! weights while somebody else is, and raising a canary that was rolled back. It must never guess a target.
//! Reading order: `properties.rs` (the file), `targets.rs` (whose weight is whose), `guard.rs` (what the server
//! refuses).

pub mod guard;
pub mod properties;
pub mod targets;

/// Why a file cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ApplyError {
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub cure: String,
}

impl ApplyError {
    fn new(error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { error: error.into(), cure: cure.into() }
    }
}
