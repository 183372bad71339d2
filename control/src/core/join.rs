//! A state that comes after the start, and another control that wrote it.
//!
//! Owns what becomes of a document that could not be read at the start, once it can be; and the fence by the state. It
//! must never move traffic back: what this control has said stays over whatever is older, else the state counts as at any
//! start.
//! docs/decisions/0014-state-in-dynamodb.md says why. Next: `fence.rs`.

use super::change::{self, Planned};
use super::fence::{self, Fence, Witness};
use super::{Core, Now, order};
use crate::state::document::{ChangeKind, Document, HistoryEntry, Identity, MAX_HISTORY, RouteRecord};
use gateway_config::wire::Version;
use std::collections::VecDeque;
use std::sync::Arc;

impl Core {
    /// The state could not be read: it is not known whether there is one. `why` is for people.
    pub fn note_unread(&mut self, why: String) {
        self.unread = Some(why);
    }

    /// Why the state could not be read so far, if that is so.
    pub fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// The state was read, and there is nothing in it.
    pub fn note_no_state(&mut self) {
        self.unread = None;
    }

    /// Somebody published at this epoch: what this control says next is above it.
    pub fn note_epoch(&mut self, epoch: u64) {
        self.max_seen_epoch = self.max_seen_epoch.max(epoch);
    }

    /// Whether a gateway was ever told something, or a change was made, since the start.
    pub fn has_spoken(&self) -> bool {
        self.spoke
    }

    /// Another control has written the state. True = that is news.
    pub fn fence_by_state(&mut self, place: &str, writer: Option<Version>) -> bool {
        let seen = writer.unwrap_or_else(|| Version {
            epoch: self.document.control.epoch,
            seq: self.document.control.seq,
            control_id: "unknown".to_owned(),
        });
        let fence = Fence { seen, witness: Witness::State(place.to_owned()) };
        let order = |fence: &Fence| (fence.seen.epoch, fence.seen.seq);
        let news = self.fence.as_ref().is_none_or(|known| order(known) < order(&fence));
        if news {
            self.fence = Some(fence);
        }
        news
    }

    /// What to write in the place of a state that is read only now; none = nothing in it counts.
    ///
    /// A control that has said nothing yet goes on from it, as at any start. One that has spoken (its weights are those
    /// that the fleet serves) keeps its weights, takes history and unheard routes from it, and goes above its epoch. Of a
    /// route that it only took over from the fleet the state counts all the same when it was written later than what
    /// the gateways had: an operator was told that this change is made.
    pub fn plan_join(&self, now: Now, found: Document) -> Option<Planned> {
        let from_below = self.spoke && found.control.epoch >= self.document.control.epoch;
        if found.routes.is_empty() && !from_below {
            return None;
        }
        let mut document = if self.spoke { self.merged(now, found) } else { self.begun_from(now, found) };
        self.stamp(&mut document);
        let routes = document.routes.keys().filter(|name| self.routes.contains_key(*name)).cloned().collect();
        Some(Planned { document: Arc::new(document), routes, joins: true, ..Planned::default() })
    }

    /// Takes what another control did into the history: its document is about to be replaced.
    pub fn learn_history(&mut self, found: Document) {
        let document = Arc::make_mut(&mut self.document);
        for (name, there) in found.routes {
            if let Some(here) = document.routes.get_mut(&name) {
                merge_history(&mut here.history, there.history);
            }
        }
    }

    fn begun_from(&self, now: Now, found: Document) -> Document {
        let own = &self.document.control;
        let begun = Self::start(self.routes.clone(), Some(found), &own.id, now);
        let mut document = Arc::unwrap_or_clone(begun.document);
        if self.established && order(&document.control) <= order(own) {
            document.control.epoch = own.epoch.saturating_add(1);
        }
        // Listeners and clusters may have gone out under this sequence before anything was known.
        document.control.seq = document.control.seq.max(own.seq.saturating_add(1));
        document
    }

    fn merged(&self, now: Now, found: Document) -> Document {
        let own = &self.document.control;
        let mut document = Document::clone(&self.document);
        document.control.seq = own.seq.saturating_add(1);
        if found.control.epoch >= own.epoch {
            document.control.epoch = found.control.epoch.max(self.max_seen_epoch).saturating_add(1);
            document.lineage = fence::extend(std::mem::take(&mut document.lineage), own.clone());
        }
        let (version, at) = (document.control.version().to_string(), crate::text::timestamp(now.unix_ms));
        let known_there: Vec<Identity> = found.lineage.into_iter().chain([found.control]).collect();
        for (name, there) in found.routes {
            match document.routes.get_mut(&name) {
                Some(here) if self.was_changed_since(&name, here, &there, &known_there) => {
                    take_later(here, there, &version, &at);
                }
                Some(here) => continue_history(here, there, &version, &at),
                None => {
                    document.routes.insert(name, there);
                }
            }
        }
        for (name, value) in found.extra {
            document.extra.entry(name).or_insert(value);
        }
        change::reconcile(&mut document, &self.routes, &at);
        document
    }

    /// Whether a record of the state, of which the starts `known_there` are known, is later than what the gateways had
    /// when their weights were taken over, and nobody has changed the route here.
    fn was_changed_since(
        &self,
        name: &str,
        here: &RouteRecord,
        there: &RouteRecord,
        known_there: &[Identity],
    ) -> bool {
        let untouched = here.history.iter().all(|entry| entry.kind == ChangeKind::Adopt);
        let (Some(had), Some(changed)) = (self.taken_from.get(name), Version::parse(&there.version)) else {
            return false;
        };
        let descends =
            |start: &Identity| start.epoch == had.epoch && start.id == had.control_id && start.seq >= had.seq;
        untouched && known_there.iter().any(descends) && (changed.epoch, changed.seq) > (had.epoch, had.seq)
    }

    /// Remembers what the gateways had whose weights are taken over although there may be a state.
    pub(super) fn note_taken(&mut self, planned: &Planned) {
        if planned.joins {
            self.taken_from.clear();
        }
        if self.unread.is_none() || planned.joins {
            return;
        }
        let adopted = |route: &&String| {
            let newest = planned.document.routes.get(*route).and_then(|record| record.history.back());
            newest.is_some_and(|entry| entry.kind == ChangeKind::Adopt)
        };
        let seen = self.fleet.iter().flat_map(|(_, gateway)| gateway.versions());
        let foreign = seen.filter(|seen| seen.control_id != self.document.control.id);
        let Some(newest) = foreign.max_by_key(|seen| (seen.epoch, seen.seq)) else { return };
        for route in planned.routes.iter().filter(adopted) {
            self.taken_from.insert(route.clone(), newest.clone());
        }
    }

    /// Looks again at everything that the gateways said: another document is in force.
    pub(super) fn look_at_all(&mut self) {
        let ids: Vec<String> = self.fleet.iter().map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.look_ahead(&id);
        }
    }
}

/// The changes of both, each once, the oldest first.
fn merge_history(here: &mut VecDeque<HistoryEntry>, there: VecDeque<HistoryEntry>) {
    let mut all: Vec<HistoryEntry> = Vec::from(there);
    for entry in here.drain(..) {
        if !all.iter().any(|known| known.version == entry.version && known.at == entry.at) {
            all.push(entry);
        }
    }
    all.sort_by(|a, b| a.at.cmp(&b.at));
    let excess = all.len().saturating_sub(MAX_HISTORY);
    here.extend(all.into_iter().skip(excess));
}

/// The weights of the state count, as news.
fn take_later(here: &mut RouteRecord, there: RouteRecord, version: &str, at: &str) {
    let from = std::mem::replace(here, RouteRecord { history: VecDeque::new(), ..there.clone() });
    here.history = from.history;
    merge_history(&mut here.history, there.history);
    version.clone_into(&mut here.version);
    here.remember(HistoryEntry {
        version: version.to_owned(),
        at: at.to_owned(),
        actor: "control".to_owned(),
        token: None,
        kind: ChangeKind::Config,
        from: Some(from.weights),
        to: here.weights.clone(),
        stable: here.stable.clone(),
        reason: "the state can be read again; it was changed after what the gateways served".to_owned(),
        acknowledged_ms: None,
        extra: serde_json::Map::new(),
    });
}

/// The weights stay; what was done before goes before what was done here.
fn continue_history(here: &mut RouteRecord, there: RouteRecord, version: &str, at: &str) {
    merge_history(&mut here.history, there.history);
    if here.build.is_none() && here.stable == there.stable {
        here.build = there.build;
    }
    for (name, value) in there.extra {
        here.extra.entry(name).or_insert(value);
    }
    if there.weights == here.weights {
        return;
    }
    here.remember(HistoryEntry {
        version: version.to_owned(),
        at: at.to_owned(),
        actor: "control".to_owned(),
        token: None,
        kind: ChangeKind::Adopt,
        from: Some(there.weights),
        to: here.weights.clone(),
        stable: here.stable.clone(),
        reason: "the state can be read again; what the gateways serve stays".to_owned(),
        acknowledged_ms: None,
        extra: serde_json::Map::new(),
    });
}
