//! Keeps App Mesh routes in line with the weights that control wants.
//!
//! Owns what is told about it ([`SyncStatus`]) and what it is told ([`SyncConfig`]). It must never delay a
//! gateway or an operator: each route has a task of its own that only listens, and nobody waits for it. App Mesh
//! has no compare-and-set, so a write is: describe, change the weights alone, update, compare the version.
//! Reading order: `decide.rs` (every decision, no I/O), `task.rs` (the loop around it);
//! `simulation.rs` and `decide_tests.rs` test the former, `task_tests.rs` the latter.

mod decide;
#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod simulation;
mod task;
#[cfg(test)]
mod task_tests;

use aws::app_mesh::RouteRef;
use gateway_config::control_config::{AppMesh, OnDrift};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use task::{SyncHandle, spawn};

/// Wanted weights of one route: target and hundredths of a percent. While there are none, or this control may not
/// say (it is fenced, or has not heard yet whether another one leads): why.
pub type Wanted = Result<Vec<(String, u32)>, String>;

/// Weight in percent by virtual node.
pub type NodeWeights = BTreeMap<String, i32>;

/// One managed route and its counterpart in App Mesh.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// The App Mesh route.
    pub route_ref: RouteRef,
    /// Virtual node by target.
    pub targets: BTreeMap<String, String>,
    /// What to do when somebody else changes its weights.
    pub on_drift: OnDrift,
}

impl From<&AppMesh> for SyncConfig {
    fn from(config: &AppMesh) -> Self {
        let route_ref = RouteRef {
            mesh: config.mesh.clone(),
            virtual_router: config.virtual_router.clone(),
            route: config.route.clone(),
            mesh_owner: config.mesh_owner.clone(),
        };
        Self { route_ref, targets: config.targets.clone(), on_drift: config.on_drift }
    }
}

/// How one App Mesh route stands, for `control get` and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncStatus {
    /// In one word.
    pub state: SyncState,
    /// For people: what is the matter and what to do. May be set while in sync, when something was noticed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The route's version when last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Its weights then.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: NodeWeights,
    /// What it is to have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub wanted: NodeWeights,
    /// Why the last call failed; none once a call has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When the route was last seen with the wanted weights, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_unix_ms: Option<u64>,
    /// Updates that App Mesh confirmed, since control started.
    pub writes: u64,
    /// Calls that failed, since control started.
    pub failures: u64,
}

/// How one App Mesh route stands, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Nothing to keep in line: control does not know the weights yet, or does not lead.
    #[default]
    Disabled,
    /// The route has the wanted weights.
    InSync,
    /// The wanted weights are on their way.
    Pending,
    /// Somebody else changed the route, or may have; shown until the next `set-weight` or `rollback`.
    Drift,
    /// It cannot be read or written, or does not fit the configuration. It is tried again.
    Error,
}
