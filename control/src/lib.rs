//! The control plane of Weir: which weights are wanted, which gateways serve them, and the word of operators.
//!
//! Reading order: [`core`] (every decision, no I/O), [`shared`] (plan, write, commit, publish), [`discovery`] (how
//! gateways get it), [`state`] (what outlives a restart), [`api`] and [`cli`] (how people speak to it),
//! [`app_mesh`] (who follows), [`webhooks`] and [`emf`] (who is told), [`serve`] (birth and death); apart from all of it
//! [`apply`] (a pipeline's file) and [`kit`] (what `init ecs` writes).
//!
//! The one rule: a version is written before it is published, and never published with two contents.

#![forbid(unsafe_code)]

pub mod api;
pub mod app_mesh;
pub mod apply;
pub mod begin;
pub mod cli;
pub mod core;
pub mod discovery;
pub mod emf;
pub mod export;
pub mod follow;
pub mod import;
pub mod kit;
pub mod metrics;
pub mod port;
pub mod rest;
pub mod serve;
pub mod settings;
pub mod shared;
#[cfg(test)]
mod shared_tests;
pub mod state;
pub mod text;
pub mod tokens;
pub mod webhooks;
