//! What a pipeline must not do without a person.
//!
//! Owns two refusals: a change while another one is under way, and the raise of a canary that was rolled back. A
//! rollback is never refused. Next: `../api/handlers.rs`, which asks.

use crate::state::document::{ChangeKind, HistoryEntry, Weights};
use crate::text;
use std::sync::{Arc, Mutex, PoisonError};

/// Changes that wait for gateways now.
#[derive(Debug, Default)]
pub struct Running {
    changes: Mutex<Vec<Arc<Underway>>>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underway {
    /// Its routes.
    pub routes: Vec<String>,
    /// Who asked for it.
    pub actor: String,
    /// RFC 3339, UTC.
    pub since: String,
}

/// Ends with the change.
#[derive(Debug)]
pub struct Ticket {
    running: Arc<Running>,
    change: Arc<Underway>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut changes = self.running.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.retain(|other| !Arc::ptr_eq(other, &self.change));
    }
}

impl Running {
    /// Notes a change for as long as the ticket lives. With `alone` it must be the only one of its routes.
    ///
    /// # Errors
    /// The change that is under way.
    pub fn begin(self: &Arc<Self>, change: Underway, alone: bool) -> Result<Ticket, Underway> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let shares = |other: &&Arc<Underway>| other.routes.iter().any(|route| change.routes.contains(route));
        if alone && let Some(other) = changes.iter().find(shares) {
            return Err(Underway::clone(other));
        }
        let change = Arc::new(change);
        changes.push(Arc::clone(&change));
        Ok(Ticket { running: Arc::clone(self), change })
    }
}

/// The rollback that weights `to` would undo, if nobody has decided anything since: no other change that raised a
/// canary, no new stable target or build.
pub fn undoes_rollback<'a>(
    history: impl DoubleEndedIterator<Item = &'a HistoryEntry>,
    to: &Weights,
) -> Option<&'a HistoryEntry> {
    for entry in history.rev() {
        let weight = |weights: &Weights, target: &str| weights.get(target).copied().unwrap_or_default();
        let before = |target: &str| entry.from.as_ref().map_or(u32::MAX, |from| weight(from, target));
        let lowered = |target: &str| target != entry.stable && before(target) > weight(&entry.to, target);
        let raised = |target: &str| target != entry.stable && weight(&entry.to, target) > before(target);
        match entry.kind {
            ChangeKind::Rollback if entry.to.keys().any(|target| lowered(target)) => {
                let again =
                    |target: &String| lowered(target) && weight(to, target) > weight(&entry.to, target);
                return to.keys().any(again).then_some(entry);
            }
            ChangeKind::Stable | ChangeKind::Config => return None,
            ChangeKind::Set if entry.to.keys().any(|target| raised(target)) => return None,
            _ => {}
        }
    }
    None
}

/// Who rolled back, when and why.
pub fn rollback_text(route: &str, targets: &[String], entry: &HistoryEntry) -> String {
    let from = entry
        .from
        .as_ref()
        .map_or_else(String::new, |from| format!(" from {}", text::weights(targets, from)));
    let reason = if entry.reason.is_empty() { String::new() } else { format!(", saying: {}", entry.reason) };
    format!(
        "{route} was rolled back{from} at {} by {}{reason}; nobody has raised it since",
        entry.at, entry.actor
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(v1: u32, v2: u32) -> Weights {
        [("v1".to_owned(), v1), ("v2".to_owned(), v2)].into()
    }

    fn entry(kind: ChangeKind, from: (u32, u32), to: (u32, u32)) -> HistoryEntry {
        HistoryEntry {
            version: "1.1-x".to_owned(),
            at: "2026-10-20T03:04:05Z".to_owned(),
            actor: "alice@laptop".to_owned(),
            token: None,
            kind,
            from: Some(weights(from.0, from.1)),
            to: weights(to.0, to.1),
            stable: "v1".to_owned(),
            reason: "errors".to_owned(),
            acknowledged_ms: None,
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_canary_that_was_rolled_back_is_not_raised_until_somebody_decides() {
        let raise = entry(ChangeKind::Set, (10_000, 0), (9_000, 1_000));
        let back = entry(ChangeKind::Rollback, (9_000, 1_000), (10_000, 0));
        let again = entry(ChangeKind::Rollback, (10_000, 0), (10_000, 0));
        let lower = entry(ChangeKind::Set, (9_000, 1_000), (9_500, 500));
        let build = entry(ChangeKind::Stable, (10_000, 0), (10_000, 0));
        let to = weights(7_000, 3_000);
        let refused = |history: &[&HistoryEntry]| undoes_rollback(history.iter().copied(), &to).is_some();
        assert!(refused(&[&raise, &back]));
        assert!(refused(&[&raise, &back, &again]), "rolled back twice");
        assert!(!refused(&[&raise, &back, &raise]), "somebody raised it by hand");
        assert!(!refused(&[&raise, &back, &build]), "another stable build");
        assert!(!refused(&[&raise, &lower]));
        assert!(!refused(&[]));
        let down = weights(10_000, 0);
        assert!(undoes_rollback([&raise, &back].into_iter(), &down).is_none(), "not a raise");
        let text = rollback_text("svc1", &["v1".to_owned(), "v2".to_owned()], &back);
        assert!(text.contains("v2 10 %") && text.contains("alice@laptop, saying: errors"), "{text}");
    }

    #[test]
    fn only_changes_of_the_same_route_are_in_the_way_and_only_until_they_end() {
        let running = Arc::new(Running::default());
        let change = |route: &str| Underway {
            routes: vec![route.to_owned()],
            actor: "alice".to_owned(),
            since: "now".to_owned(),
        };
        let first = running.begin(change("a"), false).unwrap();
        assert_eq!(running.begin(change("a"), true).unwrap_err().actor, "alice");
        let other = running.begin(change("b"), true).unwrap();
        let beside = running.begin(change("a"), false).unwrap();
        drop((first, beside));
        assert!(running.begin(change("a"), true).is_ok());
        drop(other);
        assert!(running.changes.lock().unwrap().is_empty());
    }
}
