//! What to do next about one App Mesh route. No I/O and no clock: time comes in, decisions go out.
//!
//! Owns every rule of the sync. It must never ask for weights that are not the newest, and never take a change of
//! somebody else for its own. Next: `task.rs`, which carries the decisions out.

use super::{NodeWeights, SyncState, SyncStatus, Wanted};
use gateway_config::control_config::OnDrift;
use gateway_config::weights::to_app_mesh;
use rand::RngExt;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two looks at a route that needs nothing. Drift is to be noticed within 15 s, so one lost answer is
/// allowed for.
pub(super) const POLL: Duration = Duration::from_secs(5);
/// Many controls must not ask at the same moment: a poll comes this much earlier or later.
const POLL_JITTER: Duration = Duration::from_millis(500);
/// Between two writes of one route. A rollout changes weights in seconds; a script in a loop must not use up the
/// API's rate for everybody else in the account.
const WRITE_GAP: Duration = Duration::from_millis(250);
/// Full jitter: a retry comes after a random time up to a limit that doubles from here ...
const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// ... to here.
pub(super) const BACKOFF_CAP: Duration = Duration::from_secs(30);
/// A random time may be 0; a failing service is never asked twice in a row without a pause.
const BACKOFF_FLOOR: Duration = Duration::from_millis(100);
/// How long an update without an answer may still be carried out. Calls are given up after 5 s; a minute leaves
/// room for queues on the way.
const LATE: Duration = Duration::from_secs(60);
/// Updates without an answer that are remembered; at one per back-off, more cannot matter.
const MAX_LATE: usize = 8;

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    /// Since the task started; never goes back.
    pub(super) since_start: Duration,
    /// Milliseconds since 1970.
    pub(super) unix_ms: u64,
}

/// The route as a call found or left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) version: i64,
    pub(super) uid: String,
    pub(super) weights: NodeWeights,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    /// An update may have been carried out, or may yet be.
    pub(super) in_doubt: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing until then, or until something is wanted; without a time, only the latter.
    Wait(Option<Duration>),
    /// Describe the route and hand the answer to [`Core::described`].
    Describe,
}

/// The state of one route's sync.
#[derive(Debug)]
pub(super) struct Core {
    targets: BTreeMap<String, String>,
    on_drift: OnDrift,
    rng: SmallRng,
    /// As it was given, to tell a new change from the same one told again.
    given: Wanted,
    /// What the route is to have.
    wanted: NodeWeights,
    /// An own change that the route may not have yet: it may be written over whatever is there.
    unwritten: bool,
    /// When the route is to be looked at.
    due: Option<Duration>,
    /// No write before.
    write_from: Duration,
    /// Since the last call that succeeded.
    failures_in_a_row: u32,
    /// Updates without an answer, and when each was sent.
    late: Vec<(Duration, NodeWeights)>,
    /// What an update found out about another writer; stays until the next own change.
    noticed: Option<Noticed>,
    seen: Option<Seen>,
    status: SyncStatus,
}

#[derive(Debug)]
struct Noticed {
    text: String,
    /// Somebody else for certain, not perhaps a late update of ours.
    foreign: bool,
}

impl Core {
    pub(super) fn new(targets: BTreeMap<String, String>, on_drift: OnDrift, rng: SmallRng) -> Self {
        Self {
            targets,
            on_drift,
            rng,
            given: Err(String::new()),
            wanted: NodeWeights::new(),
            unwritten: false,
            due: None,
            write_from: Duration::ZERO,
            failures_in_a_row: 0,
            late: Vec::new(),
            noticed: None,
            seen: None,
            status: SyncStatus::default(),
        }
    }

    pub(super) fn status(&self) -> &SyncStatus {
        &self.status
    }

    /// Whether an own change has not been confirmed yet.
    pub(super) fn is_pending(&self) -> bool {
        self.unwritten && self.due.is_some()
    }

    /// Takes the newest weights. The same weights again are no change.
    pub(super) fn want(&mut self, now: Moment, given: &Wanted) {
        if self.given == *given {
            return;
        }
        self.given.clone_from(given);
        self.noticed = None;
        let given = match given {
            Ok(given) => given,
            Err(why) => {
                self.stand_still(SyncState::Disabled, why.clone());
                return;
            }
        };
        match self.by_node(given) {
            Ok(wanted) => {
                self.status.wanted.clone_from(&wanted);
                self.wanted = wanted;
                self.own_change(now);
                // While App Mesh fails the new weights wait with the old ones would have: a change is no reason
                // to ask a throttling service more often.
                if self.failures_in_a_row == 0 || self.due.is_none() {
                    self.due = Some(now.since_start.max(self.write_from));
                }
            }
            Err(detail) => self.stand_still(SyncState::Error, detail),
        }
    }

    /// Writes the wanted weights over whatever is there: now, or when a service that fails is asked again.
    pub(super) fn resume(&mut self, now: Moment) {
        if self.stands_still() {
            return;
        }
        self.noticed = None;
        self.own_change(now);
        if self.failures_in_a_row == 0 {
            self.due = Some(now.since_start.max(self.write_from));
        }
    }

    pub(super) fn next(&self, now: Moment) -> Action {
        match self.due {
            Some(due) if due <= now.since_start => Action::Describe,
            due => Action::Wait(due),
        }
    }

    /// Takes the answer of a describe; answers the weights to write now, if any.
    pub(super) fn described(&mut self, now: Moment, answer: Result<Seen, Failure>) -> Option<NodeWeights> {
        let seen = match answer {
            Ok(seen) => seen,
            Err(failure) => {
                self.failed(now, failure);
                return None;
            }
        };
        self.saw(seen.clone());
        if self.stands_still() {
            return None;
        }
        self.late.retain(|(sent, _)| now.since_start.saturating_sub(*sent) < LATE);
        if let Some(detail) = self.unfit(&seen) {
            self.set(SyncState::Error, detail);
            self.poll_later(now);
            return None;
        }
        if self.equal(&seen) {
            self.settle(now);
            return None;
        }
        let ours_but_old = self.late.iter().any(|(_, weights)| covers(&seen, weights));
        if self.unwritten || ours_but_old || self.on_drift == OnDrift::Enforce {
            self.set(
                SyncState::Pending,
                format!("writing {} over {}", list(&self.wanted), list(&seen.weights)),
            );
            let known = self.wanted.iter().filter(|(node, _)| seen.weights.contains_key(*node));
            return Some(known.map(|(node, weight)| (node.clone(), *weight)).collect());
        }
        let detail = format!(
            "somebody else gave the route {} at version {}; wanted is {}; it stays until the next set-weight or rollback, `on_drift: enforce` writes over it",
            list(&seen.weights),
            seen.version,
            list(&self.wanted)
        );
        self.set(SyncState::Drift, detail);
        self.poll_later(now);
        None
    }

    /// Takes the answer of the update that [`Core::described`] asked for.
    pub(super) fn updated(&mut self, now: Moment, wrote: NodeWeights, answer: Result<Seen, Failure>) {
        self.write_from = now.since_start + WRITE_GAP;
        let after = match answer {
            Ok(after) => after,
            Err(failure) => {
                if failure.in_doubt {
                    self.late.push((now.since_start, wrote));
                    let surplus = self.late.len().saturating_sub(MAX_LATE);
                    self.late.drain(..surplus);
                }
                self.failed(now, failure);
                return;
            }
        };
        self.status.writes += 1;
        if let Some(before) = &self.seen {
            self.noticed = self.compare(before, &after).or(self.noticed.take());
        }
        self.saw(after.clone());
        if self.stands_still() {
            return;
        }
        if self.equal(&after) {
            self.settle(now);
        } else {
            // Something newer is wanted, or the answer does not hold what was written: look again.
            self.set(SyncState::Pending, format!("writing {} next", list(&self.wanted)));
            self.due = Some(self.write_from);
        }
    }

    /// Whether anybody but this update came between the describe before it and its answer.
    fn compare(&self, before: &Seen, after: &Seen) -> Option<Noticed> {
        let steps = after.version.saturating_sub(before.version);
        if steps == 1 && after.uid == before.uid {
            return None;
        }
        let own_late = i64::try_from(self.late.len()).unwrap_or(i64::MAX);
        let foreign = after.uid != before.uid || steps < 1 || steps - 1 > own_late;
        let who =
            if foreign { "another writer" } else { "a late update of control's own, or another writer," };
        let text = format!(
            "{who} changed the route between version {} and version {}; what it changed beside the weights may have been undone: check the route",
            before.version, after.version
        );
        Some(Noticed { text, foreign })
    }

    fn by_node(&self, given: &[(String, u32)]) -> Result<NodeWeights, String> {
        let hundredths: BTreeMap<String, u32> = given.iter().cloned().collect();
        let mut wanted = NodeWeights::new();
        for (target, percent) in to_app_mesh(&hundredths) {
            let Some(node) = self.targets.get(&target) else {
                return Err(format!("target `{target}` has no virtual node: add it to `app_mesh.targets`"));
            };
            *wanted.entry(node.clone()).or_default() += i32::try_from(percent).unwrap_or(i32::MAX);
        }
        Ok(wanted)
    }

    /// Why the route cannot hold the wanted weights, if it cannot.
    fn unfit(&self, seen: &Seen) -> Option<String> {
        let missing =
            self.wanted.iter().find(|(node, weight)| **weight > 0 && !seen.weights.contains_key(*node));
        if let Some((node, _)) = missing {
            return Some(format!(
                "the route has no weighted target for virtual node `{node}`: add it with weight 0, or correct `app_mesh.targets`"
            ));
        }
        let stray =
            seen.weights.iter().find(|(node, weight)| **weight > 0 && !self.wanted.contains_key(*node));
        stray.map(|(node, weight)| {
            format!(
                "the route gives {weight} to virtual node `{node}`, which no target stands for: set it to 0 there, or add it to `app_mesh.targets`"
            )
        })
    }

    fn equal(&self, seen: &Seen) -> bool {
        self.unfit(seen).is_none() && covers(seen, &self.wanted)
    }

    fn own_change(&mut self, now: Moment) {
        self.unwritten = true;
        if self.failures_in_a_row == 0 {
            self.set(SyncState::Pending, format!("writing {}", list(&self.wanted)));
        }
        // What was in doubt before stays in doubt: it may still arrive after the new weights.
        self.late.retain(|(sent, _)| now.since_start.saturating_sub(*sent) < LATE);
    }

    fn settle(&mut self, now: Moment) {
        self.unwritten = false;
        self.status.last_success_unix_ms = Some(now.unix_ms);
        let (state, detail) = match &self.noticed {
            Some(noticed) if noticed.foreign && self.on_drift == OnDrift::Pause => {
                (SyncState::Drift, noticed.text.clone())
            }
            Some(noticed) => (SyncState::InSync, noticed.text.clone()),
            None => (SyncState::InSync, String::new()),
        };
        self.set(state, detail);
        self.poll_later(now);
    }

    fn saw(&mut self, seen: Seen) {
        self.failures_in_a_row = 0;
        self.status.last_error = None;
        self.status.version = Some(seen.version);
        self.status.weights.clone_from(&seen.weights);
        self.seen = Some(seen);
    }

    fn failed(&mut self, now: Moment, failure: Failure) {
        let exponent = self.failures_in_a_row.min(16);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.status.failures += 1;
        let limit = BACKOFF_BASE.saturating_mul(1 << exponent).min(BACKOFF_CAP);
        if self.stands_still() {
            self.status.last_error = Some(failure.text);
            return;
        }
        let pause = self.rng.random_range(BACKOFF_FLOOR..=limit);
        self.due = Some(now.since_start + pause);
        let detail = if self.unwritten {
            format!("{} not written yet; tried again within {} s", list(&self.wanted), BACKOFF_CAP.as_secs())
        } else {
            format!(
                "cannot tell whether the route is in sync; tried again within {} s",
                BACKOFF_CAP.as_secs()
            )
        };
        self.set(SyncState::Error, detail);
        self.status.last_error = Some(failure.text);
    }

    /// Nothing is wanted. It may have come to that during a call: the answer then changes nothing.
    fn stands_still(&self) -> bool {
        self.due.is_none()
    }

    fn stand_still(&mut self, state: SyncState, detail: String) {
        self.due = None;
        self.unwritten = false;
        self.wanted.clear();
        self.status.wanted.clear();
        self.set(state, detail);
    }

    fn set(&mut self, state: SyncState, detail: String) {
        self.status.state = state;
        self.status.detail = detail;
    }

    fn poll_later(&mut self, now: Moment) {
        let pause = self.rng.random_range(POLL - POLL_JITTER..=POLL + POLL_JITTER);
        self.due = Some(now.since_start + pause);
    }
}

/// Whether a route gives exactly these weights to these nodes; a node that it does not have counts as 0.
fn covers(seen: &Seen, weights: &NodeWeights) -> bool {
    weights.iter().all(|(node, weight)| seen.weights.get(node).copied().unwrap_or(0) == *weight)
}

fn list(weights: &NodeWeights) -> String {
    let pairs: Vec<_> = weights.iter().map(|(node, weight)| format!("{node}={weight}")).collect();
    pairs.join(" ")
}
