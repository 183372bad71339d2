//! The document in the state file or item.
//!
//! Owns the types and their JSON; it must never touch a file (that is `file.rs`) or an item (`item.rs`). Fields that this build does not
//! know are kept in `extra` and written back, so that an older build does not eat what a newer one wrote.
//! Next: `file.rs`.

use gateway_config::discovered::GatewayResources;
use gateway_config::wire::{FULL_WEIGHT, Version};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The major format that this build writes. A file with a higher one is refused.
pub const FORMAT_MAJOR: u32 = 1;
/// The minor format that this build writes. Fields of a higher one are kept.
pub const FORMAT_MINOR: u32 = 1;
/// Changes kept per route: months of a careful rollout, and a document that stays under a megabyte per route.
pub const MAX_HISTORY: usize = 1_000;
/// Earlier starts that are remembered for fencing.
pub const MAX_LINEAGE: usize = 64;

/// Fields written by a newer build.
pub type Extra = serde_json::Map<String, serde_json::Value>;
/// Weights in hundredths of a percent by target; the sum is [`FULL_WEIGHT`].
pub type Weights = BTreeMap<String, u32>;

/// Everything that control remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Checked before anything else is read.
    pub format: Format,
    /// Who wrote it, and the last version that may have been published.
    pub control: Identity,
    /// The identities of earlier starts, the oldest first: what they published is known to this control.
    #[serde(default)]
    pub lineage: Vec<Identity>,
    /// By route name. A route that left the configuration stays here.
    #[serde(default)]
    pub routes: BTreeMap<String, RouteRecord>,
    /// Listeners and clusters for gateways that start while control is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRecord>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What gateways get by discovery beside the weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewayRecord {
    /// The version_info under which they are published.
    pub version: String,
    /// Listeners and clusters.
    #[serde(flatten)]
    pub resources: GatewayResources,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Version of the document's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Rises when an older build could not read the document rightly.
    pub major: u32,
    /// Rises when fields are added.
    pub minor: u32,
}

impl Default for Format {
    fn default() -> Self {
        Self { major: FORMAT_MAJOR, minor: FORMAT_MINOR }
    }
}

impl Format {
    /// What to write in the place of a document of another format: what a newer minor wrote is still in the document.
    pub fn to_write(replaced: Option<Self>) -> Self {
        let minor = match replaced {
            Some(format) if format.major == FORMAT_MAJOR => format.minor.max(FORMAT_MINOR),
            _ => FORMAT_MINOR,
        };
        Self { major: FORMAT_MAJOR, minor }
    }
}

/// Why bytes are no document for this build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Of this major.
    Newer(u32),
    /// What is wrong.
    Corrupt(String),
}

/// One start of a control and how far it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Drawn anew at each start.
    pub id: String,
    /// One higher at each start.
    pub epoch: u64,
    /// One higher with each change; never goes back.
    pub seq: u64,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Identity {
    /// The version that this identity publishes now.
    pub fn version(&self) -> Version {
        Version { epoch: self.epoch, seq: self.seq, control_id: self.id.clone() }
    }
}

/// One managed route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteRecord {
    /// What every gateway is to serve.
    pub weights: Weights,
    /// The target that takes everything when in doubt.
    pub stable: String,
    /// The stable target of the configuration when `stable` was last taken from it: a change there counts again.
    #[serde(default)]
    pub configured_stable: String,
    /// The build that `control stable --build` named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The version_info with which the weights last changed.
    pub version: String,
    /// The newest last.
    #[serde(default)]
    pub history: VecDeque<HistoryEntry>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl RouteRecord {
    /// Adds an entry and drops the oldest beyond [`MAX_HISTORY`].
    pub fn remember(&mut self, entry: HistoryEntry) {
        self.history.push_back(entry);
        while self.history.len() > MAX_HISTORY {
            self.history.pop_front();
        }
    }
}

/// What kind of change an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The weights of the configuration, once.
    Initial,
    /// `set-weight`.
    Set,
    /// `rollback`.
    Rollback,
    /// `stable`.
    Stable,
    /// Taken over from the fleet.
    Adopt,
    /// The configuration lost or gained targets, or names another stable.
    Config,
    /// Written by a newer build.
    #[serde(other)]
    Other,
}

/// One change of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The version_info that carried it.
    pub version: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// `user@host` as the CLI said it, or `control`.
    pub actor: String,
    /// Name of the token that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What was done.
    pub kind: ChangeKind,
    /// Weights before; none if they were not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Weights>,
    /// Weights after.
    pub to: Weights,
    /// The stable target after.
    pub stable: String,
    /// Why, in the operator's words.
    #[serde(default)]
    pub reason: String,
    /// Milliseconds until every awaited gateway had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_ms: Option<u64>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Document {
    /// Reads a document and judges it.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let corrupt = Unreadable::Corrupt;
        if bytes.is_empty() {
            return Err(corrupt("empty".to_owned()));
        }
        let value: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|error| corrupt(format!("is not a whole JSON document ({error})")))?;
        // The major decides before the shape: a newer major may have another shape altogether.
        let major = value.pointer("/format/major").and_then(serde_json::Value::as_u64);
        match major {
            None => return Err(corrupt("has no format.major".to_owned())),
            Some(major) if major > u64::from(FORMAT_MAJOR) => {
                return Err(Unreadable::Newer(u32::try_from(major).unwrap_or(u32::MAX)));
            }
            Some(_) => {}
        }
        let document: Self = serde_json::from_value(value)
            .map_err(|error| corrupt(format!("is not a state document ({error})")))?;
        match document.problem() {
            Some(why) => Err(corrupt(why)),
            None => Ok(document),
        }
    }

    /// What is wrong with the content, beyond its JSON.
    pub fn problem(&self) -> Option<String> {
        if self.control.id.is_empty() {
            return Some("control.id is empty".to_owned());
        }
        for (name, record) in &self.routes {
            let sum: u64 = record.weights.values().map(|weight| u64::from(*weight)).sum();
            if sum != u64::from(FULL_WEIGHT) {
                return Some(format!("routes.{name}.weights sum up to {sum}, not to {FULL_WEIGHT}"));
            }
            if !record.weights.contains_key(&record.stable) {
                return Some(format!("routes.{name}.stable `{}` is not among its weights", record.stable));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_a_ring() {
        let mut record = RouteRecord::default();
        for number in 0..MAX_HISTORY + 5 {
            record.remember(HistoryEntry {
                version: format!("1.{number}-x"),
                at: String::new(),
                actor: String::new(),
                token: None,
                kind: ChangeKind::Set,
                from: None,
                to: Weights::new(),
                stable: String::new(),
                reason: String::new(),
                acknowledged_ms: None,
                extra: Extra::new(),
            });
        }
        assert_eq!(record.history.len(), MAX_HISTORY);
        assert_eq!(record.history[0].version, "1.5-x");
    }

    #[test]
    fn a_kind_of_change_that_is_not_known_does_not_make_the_document_unreadable() {
        let kind: ChangeKind = serde_json::from_str("\"teleport\"").unwrap();
        assert_eq!(kind, ChangeKind::Other);
    }
}
