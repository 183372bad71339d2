//! What happened and somebody may want to be told.
//!
//! Owns the type only: who notices it emits it, and who listens (webhooks) must never hold up who emits. Next:
//! `../webhooks/`.

pub use gateway_config::control_config::EventKind;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The route that it is about.
    pub route: Option<String>,
    /// Instance id of the gateway that it is about.
    pub gateway: Option<String>,
    /// One sentence for people.
    pub text: String,
    /// When: RFC 3339, UTC.
    pub at: String,
}
