//! From an operator's wish to the next document.
//!
//! Owns what a change may do and what it leaves behind in the document; it must never publish: a plan becomes true
//! only after it was written. Next: `mod.rs`, which commits plans.

use super::Core;
use crate::settings::{RouteSettings, Routes};
use crate::state::document::{ChangeKind, Document, HistoryEntry, Identity, RouteRecord, Weights};
use crate::state::file::StateError;
use gateway_config::diagnostic::did_you_mean;
use gateway_config::discovered::GatewayResources;
use gateway_config::weights::WeightError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest reason or actor that is kept.
pub const MAX_TEXT_CHARS: usize = 1_000;

/// Who asks for a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// `user@host`.
    pub actor: String,
    /// Name of the token.
    pub token: Option<String>,
}

/// A wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub what: What,
    /// Who.
    pub author: Author,
    /// Why.
    pub reason: String,
}

/// What a change does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Weights of one or several routes: every target, sum 10,000.
    Set {
        /// By route.
        routes: BTreeMap<String, Weights>,
        /// Whatever the endpoints say, and though the route was not adopted.
        force: bool,
    },
    /// All of one route to its stable target.
    Rollback(String),
    /// Another stable target; the weights stay.
    Stable {
        /// The route.
        route: String,
        /// The new stable target.
        target: String,
        /// What runs there.
        build: Option<String>,
    },
    /// Takes what the fleet serves and the lead with it.
    Adopt(BTreeMap<String, Weights>),
    /// What routes without known weights get by themselves: by the configuration, or what the fleet serves.
    Begin(BTreeMap<String, Beginning>),
}

/// The first weights of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// `Initial`, or `Adopt` when the whole fleet serves them already.
    pub kind: ChangeKind,
    /// Every target, sum 10,000.
    pub weights: Weights,
    /// For the history.
    pub reason: String,
}

/// A change that was worked out and waits to be written.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The next document.
    pub document: Arc<Document>,
    /// The routes it changes.
    pub routes: Vec<String>,
    /// No canary gets more than before, or all gateways serve it already: goes out even when it cannot be written.
    pub only_lowers: bool,
    /// Ends a fence.
    pub takes_lead: bool,
    /// Takes over a state that could not be read at the start.
    pub joins: bool,
    /// Other listeners and clusters, or none any more.
    pub config: Option<Option<Arc<GatewayResources>>>,
}

/// Why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such route.
    #[error("there is no route `{name}` under control")]
    UnknownRoute {
        /// As given.
        name: String,
        /// All of them.
        known: Vec<String>,
    },
    /// No such target.
    #[error("route {route} has no target `{target}`")]
    UnknownTarget {
        /// The route.
        route: String,
        /// As given.
        target: String,
        /// All of them.
        known: Vec<String>,
    },
    /// Not weights.
    #[error("route {route}: {source}")]
    Weights {
        /// The route.
        route: String,
        /// What is wrong.
        source: WeightError,
    },
    /// Nothing to do.
    #[error("no route is named")]
    Nothing,
    /// Nobody could answer there.
    #[error(
        "no gateway has a healthy endpoint of {target}: {route} would send it requests that nobody answers"
    )]
    NoEndpoints {
        /// The route.
        route: String,
        /// The target.
        target: String,
    },
    /// The weights in force are not known.
    #[error("control does not know yet what {route} is at: {why}")]
    NotAdopted {
        /// The route.
        route: String,
        /// Why not.
        why: String,
    },
    /// Another control is ahead.
    #[error("{0}")]
    Fenced(String),
    /// The gateway to adopt from is not there, or says nothing of use.
    #[error("{0}")]
    CannotAdopt(String),
    /// The task that made the change ended before it.
    #[error("the change was not finished, because of a fault in control; its log says which")]
    Broken,
    /// Not written, hence not done.
    #[error("the change was not made, because it could not be written: {0}")]
    State(#[from] StateError),
}

impl ChangeError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::UnknownRoute { name, known } => pick(name, known, "its routes are"),
            Self::UnknownTarget { target, known, .. } => pick(target, known, "its targets are"),
            Self::Weights { source, .. } => source.cure(),
            Self::Nothing => "write `control set-weight ROUTE v1=90 v2=10`".to_owned(),
            Self::NoEndpoints { .. } => {
                "start the version and wait until `control get` shows its endpoints, or add --force".to_owned()
            }
            Self::NotAdopted { .. } => {
                "see `control gateways`, then `control adopt --from GATEWAY`, or add --force to set the weights \
                 whatever the gateways serve now"
                    .to_owned()
            }
            Self::Fenced(_) => {
                "send the change to that control; or stop it for good and run `control adopt --from GATEWAY` here"
                    .to_owned()
            }
            Self::CannotAdopt(_) => "see `control gateways` for who is there and what it serves".to_owned(),
            Self::Broken => "look at `control get` for what is in force, then try again".to_owned(),
            Self::State(error) => error.cure().to_owned(),
        }
    }
}

fn pick(name: &str, known: &[String], lead: &str) -> String {
    match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("{lead}: {}", known.join(", ")),
    }
}

/// Shortens what people wrote and takes control characters out of it.
pub fn clean_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect()
}

impl Core {
    /// Works out the next document for a change, or why it may not be.
    pub fn plan(&self, now: super::Now, change: &Change) -> Result<Planned, ChangeError> {
        let adopts = matches!(change.what, What::Adopt(_));
        if let Some(fence) = &self.fence
            && !adopts
        {
            return Err(ChangeError::Fenced(self.fence_text(fence)));
        }
        let edits = self.edits(now, change)?;
        if edits.is_empty() {
            return Err(ChangeError::Nothing);
        }
        let mut document = Document::clone(&self.document);
        document.control = self.next_identity(adopts);
        if adopts {
            document.lineage.clear();
        }
        if adopts || !self.established {
            self.stamp(&mut document);
        }
        let version = document.control.version().to_string();
        let only_lowers = edits.iter().all(|edit| edit.only_lowers(self));
        let mut routes = Vec::new();
        for edit in edits {
            routes.push(edit.route.clone());
            let record = document.routes.entry(edit.route).or_default();
            let from = (!record.version.is_empty()).then(|| record.weights.clone());
            record.weights.clone_from(&edit.to);
            record.stable.clone_from(&edit.stable);
            record.configured_stable = edit.configured_stable;
            if edit.build.is_some() || edit.kind == ChangeKind::Stable {
                record.build = edit.build;
            }
            record.version.clone_from(&version);
            record.remember(HistoryEntry {
                version: version.clone(),
                at: crate::text::timestamp(now.unix_ms),
                actor: clean_text(&change.author.actor),
                token: change.author.token.clone(),
                kind: edit.kind,
                from,
                to: edit.to,
                stable: edit.stable,
                reason: clean_text(edit.reason.as_deref().unwrap_or(&change.reason)),
                acknowledged_ms: None,
                extra: serde_json::Map::new(),
            });
        }
        Ok(Planned {
            document: Arc::new(document),
            routes,
            only_lowers,
            takes_lead: adopts,
            ..Planned::default()
        })
    }

    fn next_identity(&self, takes_lead: bool) -> Identity {
        let mut identity = self.document.control.clone();
        if takes_lead || !self.established {
            identity.epoch = identity.epoch.max(self.max_seen_epoch).saturating_add(1);
        }
        identity.seq = identity.seq.saturating_add(1);
        identity
    }

    fn edits(&self, now: super::Now, change: &Change) -> Result<Vec<Edit>, ChangeError> {
        match &change.what {
            What::Set { routes, force } => {
                routes.iter().map(|(route, to)| self.set_edit(now, route, to, *force)).collect()
            }
            What::Rollback(route) => {
                let settings = self.settings(route)?;
                let stable = self.stable_of(route, settings);
                let to = settings.all_to(&stable);
                Ok(vec![self.edit(route, settings, ChangeKind::Rollback, to)])
            }
            What::Stable { route, target, build } => {
                let settings = self.settings(route)?;
                if !settings.targets.contains(target) {
                    return Err(ChangeError::UnknownTarget {
                        route: route.clone(),
                        target: target.clone(),
                        known: settings.targets.clone(),
                    });
                }
                let Some(to) = self.weights(route).cloned() else {
                    return Err(self.not_adopted(now, route, settings));
                };
                let mut edit = self.edit(route, settings, ChangeKind::Stable, to);
                edit.stable.clone_from(target);
                edit.build.clone_from(build);
                Ok(vec![edit])
            }
            What::Adopt(routes) => routes
                .iter()
                .map(|(route, to)| Ok(self.edit(route, self.settings(route)?, ChangeKind::Adopt, to.clone())))
                .collect(),
            // What was decided before a change went ahead of it must not undo that change.
            What::Begin(routes) => routes
                .iter()
                .filter(|(route, _)| !self.document.routes.contains_key(*route))
                .map(|(route, beginning)| {
                    let Beginning { kind, weights, reason } = beginning;
                    let edit = self.edit(route, self.settings(route)?, *kind, weights.clone());
                    Ok(Edit { reason: Some(reason.clone()), moves: *kind != ChangeKind::Adopt, ..edit })
                })
                .collect(),
        }
    }

    fn set_edit(&self, now: super::Now, route: &str, to: &Weights, force: bool) -> Result<Edit, ChangeError> {
        let settings = self.settings(route)?;
        let from = self.weights(route);
        let asked = self.fleet.iter().any(|(_, gateway)| gateway.asks_for(route));
        if from.is_none() && asked && !force {
            return Err(self.not_adopted(now, route, settings));
        }
        for (target, weight) in to {
            let before = from.and_then(|from| from.get(target)).copied().unwrap_or_default();
            if *weight > before && !force && self.nobody_answers(now, route, target) {
                return Err(ChangeError::NoEndpoints { route: route.to_owned(), target: target.clone() });
            }
        }
        Ok(self.edit(route, settings, ChangeKind::Set, to.clone()))
    }

    fn edit(&self, route: &str, settings: &RouteSettings, kind: ChangeKind, to: Weights) -> Edit {
        Edit {
            route: route.to_owned(),
            kind,
            to,
            stable: self.stable_of(route, settings),
            configured_stable: settings.stable.clone(),
            build: None,
            reason: None,
            moves: true,
        }
    }

    /// Targets with a share that no gateway has a usable endpoint of.
    pub fn empty_targets(&self, now: super::Now) -> Vec<(String, String)> {
        let mut empty = Vec::new();
        for route in self.routes.keys() {
            let shares = self.weights(route).into_iter().flatten().filter(|(_, weight)| **weight > 0);
            for (target, _) in shares.filter(|(target, _)| self.nobody_answers(now, route, target)) {
                empty.push((route.clone(), target.clone()));
            }
        }
        empty
    }

    fn nobody_answers(&self, now: super::Now, route: &str, target: &str) -> bool {
        let key = (route.to_owned(), target.to_owned());
        let mut healthy = self
            .fleet
            .iter()
            .filter(|(_, gateway)| gateway.is_connected(now.mono_ms))
            .filter_map(|(_, gateway)| gateway.counters.current(&key))
            .map(|report| report.endpoints_healthy)
            .peekable();
        healthy.peek().is_some() && healthy.all(|endpoints| endpoints == 0)
    }

    fn not_adopted(&self, now: super::Now, route: &str, settings: &RouteSettings) -> ChangeError {
        ChangeError::NotAdopted { route: route.to_owned(), why: self.adoption_text(now, route, settings) }
    }

    /// The settings of a route.
    pub fn settings(&self, route: &str) -> Result<&RouteSettings, ChangeError> {
        self.routes.get(route).ok_or_else(|| ChangeError::UnknownRoute {
            name: clean_text(route),
            known: self.routes.keys().cloned().collect(),
        })
    }

    /// The stable target in force.
    pub fn stable_of(&self, route: &str, settings: &RouteSettings) -> String {
        match self.document.routes.get(route) {
            Some(record) if settings.targets.contains(&record.stable) => record.stable.clone(),
            _ => settings.stable.clone(),
        }
    }
}

/// One route of a change.
struct Edit {
    route: String,
    kind: ChangeKind,
    to: Weights,
    stable: String,
    configured_stable: String,
    build: Option<String>,
    /// Instead of the reason of the change.
    reason: Option<String>,
    /// False = the gateways serve this already.
    moves: bool,
}

impl Edit {
    fn only_lowers(&self, core: &Core) -> bool {
        if !self.moves {
            return true;
        }
        let Some(from) = core.weights(&self.route) else { return self.kind == ChangeKind::Rollback };
        let same_stable =
            core.document.routes.get(&self.route).is_some_and(|record| record.stable == self.stable);
        same_stable
            && self
                .to
                .iter()
                .filter(|(target, _)| **target != self.stable)
                .all(|(target, weight)| *weight <= from.get(target).copied().unwrap_or_default())
    }
}

/// Brings the remembered routes in line with the configuration. Answers which routes changed.
pub fn reconcile(document: &mut Document, routes: &Routes, at: &str) -> Vec<String> {
    let mut changed = Vec::new();
    for (name, settings) in routes {
        let Some(record) = document.routes.get(name) else { continue };
        let mut stable = record.stable.clone();
        if record.configured_stable != settings.stable || !settings.targets.contains(&stable) {
            stable.clone_from(&settings.stable);
        }
        let mut to = Weights::new();
        let mut homeless = 0_u32;
        for (target, weight) in &record.weights {
            if settings.targets.contains(target) {
                to.insert(target.clone(), *weight);
            } else {
                homeless = homeless.saturating_add(*weight);
            }
        }
        for target in &settings.targets {
            to.entry(target.clone()).or_default();
        }
        *to.entry(stable.clone()).or_default() += homeless;
        if to != record.weights || stable != record.stable {
            changed.push((name.clone(), to, stable, settings.stable.clone()));
        }
    }
    if !changed.is_empty() {
        document.control.seq = document.control.seq.saturating_add(1);
    }
    let version = document.control.version().to_string();
    changed
        .into_iter()
        .map(|(name, to, stable, configured)| {
            if let Some(record) = document.routes.get_mut(&name) {
                apply_config(record, &version, at, to, (stable, configured));
            }
            name
        })
        .collect()
}

fn apply_config(
    record: &mut RouteRecord,
    version: &str,
    at: &str,
    to: Weights,
    (stable, configured): (String, String),
) {
    let from = std::mem::replace(&mut record.weights, to.clone());
    record.stable.clone_from(&stable);
    record.configured_stable = configured;
    version.clone_into(&mut record.version);
    record.remember(HistoryEntry {
        version: version.to_owned(),
        at: at.to_owned(),
        actor: "control".to_owned(),
        token: None,
        kind: ChangeKind::Config,
        from: Some(from),
        to,
        stable,
        reason: "the configuration changed".to_owned(),
        acknowledged_ms: None,
        extra: serde_json::Map::new(),
    });
}
