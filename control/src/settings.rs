//! What the configuration says about routes, in the form that the core uses.
//!
//! Owns the one translation from the configuration file; it must never judge what the file's parser has judged.
//! Next: `serve.rs`.

use crate::state::document::Weights;
use gateway_config::control_config::{ControlConfig, ManagedRoute};
use std::collections::BTreeMap;

/// The managed routes, by name.
pub type Routes = BTreeMap<String, RouteSettings>;

/// Takes from the configuration what the core decides by.
pub fn routes(config: &ControlConfig) -> Routes {
    let translate = |route: &ManagedRoute| RouteSettings {
        targets: route.targets.clone(),
        stable: route.stable.clone(),
        weights: route.weights.clone(),
    };
    config.routes.iter().map(|(name, route)| (name.clone(), translate(route))).collect()
}

/// One managed route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSettings {
    /// In file order; at least one.
    pub targets: Vec<String>,
    /// One of them.
    pub stable: String,
    /// Counts once, at the very first start. Every target, sum 10,000.
    pub weights: Option<Weights>,
}

impl RouteSettings {
    /// Everything to `stable`.
    pub fn all_to(&self, stable: &str) -> Weights {
        let full = gateway_config::wire::FULL_WEIGHT;
        self.targets.iter().map(|target| (target.clone(), if target == stable { full } else { 0 })).collect()
    }
}
