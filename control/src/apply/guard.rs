//! What a pipeline must not do without a person.
//!
//! Owns two refusals: a change while another one is under way, and the raise of a canary that was rolled back. A
//! rollback is never refused. Next: `../api/handlers.rs`, which asks.

use crate::core::change::{MAX_TEXT_CHARS, clean_text};
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

/// Longest name of a build: an image with its digest has half of that.
const MAX_BUILD_CHARS: usize = 256;

/// Whether a text can name a build in a history: visible, and without the brackets around it.
pub fn is_build(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_BUILD_CHARS
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'[' | b']'))
}

/// A reason that also says which build the canary is.
pub fn with_build(reason: &str, build: &str) -> String {
    let room = MAX_TEXT_CHARS.saturating_sub(MAX_BUILD_CHARS + 16);
    let reason: String = clean_text(reason).chars().take(room).collect();
    format!("{reason} [build {build}]").trim_start().to_owned()
}

/// The build of the canary that a change has named.
pub fn build_of(entry: &HistoryEntry) -> Option<&str> {
    entry.reason.strip_suffix(']')?.rsplit_once("[build ").map(|(_, build)| build)
}

/// The rollback that weights `to` would undo, if nobody has decided anything since: no other change that raised this
/// canary, no new stable target or build, and no canary of another `build`.
pub fn undoes_rollback<'a>(
    history: impl DoubleEndedIterator<Item = &'a HistoryEntry> + Clone,
    to: &Weights,
    build: Option<&str>,
) -> Option<&'a HistoryEntry> {
    let shares = to.iter().filter(|(_, weight)| **weight > 0);
    shares.into_iter().find_map(|(target, weight)| {
        undone(history.clone(), target, build).filter(|entry| *weight > weight_of(&entry.to, target))
    })
}

fn weight_of(weights: &Weights, target: &str) -> u32 {
    weights.get(target).copied().unwrap_or_default()
}

fn undone<'a>(
    history: impl DoubleEndedIterator<Item = &'a HistoryEntry>,
    target: &str,
    build: Option<&str>,
) -> Option<&'a HistoryEntry> {
    // The rollback that ended what is being looked at; what came after it is known to be another build.
    let (mut ended, mut is_other) = (None, false);
    for entry in history.rev() {
        let after = weight_of(&entry.to, target);
        let before = entry.from.as_ref().map(|from| weight_of(from, target));
        match entry.kind {
            ChangeKind::Stable | ChangeKind::Config => break,
            _ if target == entry.stable => {}
            ChangeKind::Rollback if before.is_none_or(|before| before > after) => ended = Some(entry),
            ChangeKind::Set => match (build, build_of(entry)) {
                (Some(asked), Some(named)) if after > 0 => {
                    if asked == named {
                        return ended;
                    }
                    (ended, is_other) = (None, true);
                }
                // Without a name more of a canary is more of the same one; from nothing it may be any.
                (Some(_), None) if after > 0 && before == Some(0) => match ended {
                    Some(_) if !is_other => return ended,
                    _ => (ended, is_other) = (None, true),
                },
                (None, _) if after > before.unwrap_or(u32::MAX) => return ended,
                _ => {}
            },
            _ => {}
        }
        if build.is_none() && ended.is_some() {
            break;
        }
    }
    ended.filter(|_| !is_other)
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
        let refused =
            |history: &[&HistoryEntry]| undoes_rollback(history.iter().copied(), &to, None).is_some();
        assert!(refused(&[&raise, &back]));
        assert!(refused(&[&raise, &back, &again]), "rolled back twice");
        assert!(!refused(&[&raise, &back, &raise]), "somebody raised it by hand");
        assert!(!refused(&[&raise, &back, &build]), "another stable build");
        assert!(!refused(&[&raise, &lower]));
        assert!(!refused(&[]));
        let down = weights(10_000, 0);
        assert!(undoes_rollback([&raise, &back].into_iter(), &down, None).is_none(), "not a raise");
        let text = rollback_text("svc1", &["v1".to_owned(), "v2".to_owned()], &back);
        assert!(text.contains("v2 10 %") && text.contains("alice@laptop, saying: errors"), "{text}");
    }

    #[test]
    fn the_raise_of_another_canary_decides_nothing_about_the_one_that_was_rolled_back() {
        let weights = |v2: u32, v3: u32| -> Weights {
            [("v1", 10_000 - v2 - v3), ("v2", v2), ("v3", v3)]
                .map(|(name, weight)| (name.to_owned(), weight))
                .into()
        };
        let entry = |kind, from, to| HistoryEntry { from: Some(from), to, ..entry(kind, (0, 0), (0, 0)) };
        let history = [
            entry(ChangeKind::Set, weights(0, 0), weights(1_000, 0)),
            entry(ChangeKind::Rollback, weights(1_000, 0), weights(0, 0)),
            entry(ChangeKind::Set, weights(0, 0), weights(0, 500)),
        ];
        assert!(
            undoes_rollback(history.iter(), &weights(1_000, 500), None).is_some(),
            "v2 is the one that failed"
        );
        assert!(undoes_rollback(history.iter(), &weights(0, 1_000), None).is_none());
    }

    #[test]
    fn another_build_may_be_raised_after_a_rollback_and_none_that_was_rolled_back() {
        let named = |build: &str, from, to| HistoryEntry {
            reason: with_build("release", build),
            ..entry(ChangeKind::Set, from, to)
        };
        let back = entry(ChangeKind::Rollback, (9_000, 1_000), (10_000, 0));
        let a = named("a", (10_000, 0), (9_000, 1_000));
        let b = named("b", (10_000, 0), (9_000, 1_000));
        // Deployed under a share that stays.
        let b_on_a = named("b", (9_000, 1_000), (9_000, 1_000));
        let by_hand = entry(ChangeKind::Set, (10_000, 0), (9_000, 1_000));
        let more = entry(ChangeKind::Set, (9_000, 1_000), (8_000, 2_000));
        let stable = entry(ChangeKind::Stable, (10_000, 0), (10_000, 0));
        let to = weights(7_000, 3_000);
        for (history, build, refused) in [
            (vec![&a, &back], "a", true),
            (vec![&a, &back], "b", false),
            (vec![&a, &more, &back], "b", false),
            (vec![&a, &back, &b], "b", false),
            (vec![&a, &back, &b], "a", true),
            (vec![&a, &back, &b, &back], "a", true),
            (vec![&a, &back, &b, &back], "b", true),
            (vec![&a, &back, &b, &back], "c", false),
            (vec![&a, &b_on_a, &back], "b", true),
            (vec![&a, &b_on_a, &back], "c", false),
            (vec![&a, &back, &by_hand, &back], "b", true),
            (vec![&by_hand, &back], "b", true),
            (vec![&by_hand, &back, &a], "b", false),
            (vec![&back], "b", true),
            (vec![&a, &back, &stable], "a", false),
            (vec![], "a", false),
        ] {
            let found = undoes_rollback(history.iter().copied(), &to, Some(build));
            let said: Vec<_> = history.iter().map(|entry| (entry.kind, &entry.reason)).collect();
            assert_eq!(found.is_some(), refused, "{build} after {said:?}");
        }
        assert!(undoes_rollback([&a, &back].into_iter(), &to, None).is_some());
        assert!(undoes_rollback([&a, &back, &b].into_iter(), &to, None).is_none());
        let long = HistoryEntry { reason: clean_text(&with_build(&"x".repeat(5_000), "b")), ..a };
        assert_eq!(build_of(&long), Some("b"));
        for (build, good) in [("repo/app:1@sha256:0a", true), ("", false), ("a b", false), ("a]", false)] {
            assert_eq!(is_build(build), good, "{build}");
        }
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
