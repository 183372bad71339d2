//! What a gateway reads of control's state document.
//!
//! Owns the part of the document that gateways start from when control is away, and the names of the DynamoDB
//! item's attributes; it must never be written from here: control alone writes. Next: `control/src/state/document.rs`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::discovered::GatewayResources;
use crate::wire::{FULL_WEIGHT, Version};

/// The partition key: a text.
pub const KEY_ATTRIBUTE: &str = "key";
/// One higher with each write: a number. A write names the one that it replaces.
pub const REVISION_ATTRIBUTE: &str = "revision";
/// The document: a text of JSON.
pub const DOCUMENT_ATTRIBUTE: &str = "document";
/// When it was written: RFC 3339, for people.
pub const UPDATED_ATTRIBUTE: &str = "updated_at";
/// The format that this build reads; a higher one is refused.
pub const FORMAT_MAJOR: u32 = 1;

/// The part of control's document that a gateway needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateView {
    /// Checked before anything else is read.
    pub format: ViewFormat,
    /// Who wrote it.
    pub control: ViewIdentity,
    /// By route name.
    pub routes: BTreeMap<String, ViewRoute>,
    /// Listeners and clusters.
    pub gateway: GatewayResources,
}

/// Version of the document's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewFormat {
    /// Rises when an older build could not read the document rightly.
    pub major: u32,
    /// Rises when fields are added.
    pub minor: u32,
}

/// Who wrote the document, and how far it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewIdentity {
    /// Control id.
    pub id: String,
    /// Epoch.
    pub epoch: u64,
    /// Sequence number.
    pub seq: u64,
}

impl ViewIdentity {
    /// The version that this control publishes.
    pub fn version(&self) -> Version {
        Version { epoch: self.epoch, seq: self.seq, control_id: self.id.clone() }
    }
}

/// One managed route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewRoute {
    /// Hundredths of a percent by target, sum [`FULL_WEIGHT`].
    pub weights: BTreeMap<String, u32>,
    /// The target that takes everything when in doubt.
    pub stable: String,
    /// The version_info with which the weights last changed.
    pub version: String,
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateViewError {
    /// Not JSON, or of another shape.
    #[error("it cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    /// From a newer build.
    #[error("it has format {found}, and this build reads up to {FORMAT_MAJOR}; use a newer gateway")]
    Newer {
        /// Its major format.
        found: u32,
    },
    /// Weights that are none.
    #[error("the weights of route `{route}` sum up to {sum}, not to {FULL_WEIGHT}")]
    Weights {
        /// Which route.
        route: String,
        /// Their sum.
        sum: u64,
    },
}

impl StateView {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is not one of ours, from a newer build, or broken.
    pub fn parse(text: &str) -> Result<Self, StateViewError> {
        #[derive(Deserialize)]
        struct Head {
            format: ViewFormat,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.format.major > FORMAT_MAJOR {
            return Err(StateViewError::Newer { found: head.format.major });
        }
        let view: Self = serde_json::from_str(text)?;
        for (route, record) in &view.routes {
            let sum = record.weights.values().map(|weight| u64::from(*weight)).sum();
            if sum != u64::from(FULL_WEIGHT) {
                return Err(StateViewError::Weights { route: route.clone(), sum });
            }
        }
        Ok(view)
    }
}
