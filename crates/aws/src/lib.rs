//! What AWS tells us and is told: the endpoints in Cloud Map, the weights of an App Mesh route, the ECS task,
//! the item of state in DynamoDB.
//!
//! The only crate that sees the AWS SDK; no SDK type leaves it. It must never decide anything (no weights are
//! made here, no endpoint is judged) and never repeat a call: whoever asks knows how long to wait before asking
//! again. Reading order: [`Error`] (`error.rs`), `sdk.rs` (region, credentials, time limits, endpoint
//! overrides), [`cloud_map`], [`app_mesh`], [`dynamodb`], [`ecs`].
//!
//! Clients are lazy: making one reads nothing and connects nowhere, so a start never waits for AWS. They belong
//! to the tokio runtime that makes the first call, since their connections are tasks of it.

#![forbid(unsafe_code)]

pub mod app_mesh;
pub mod cloud_map;
pub mod dynamodb;
pub mod ecs;
mod error;
mod sdk;

pub use error::Error;
