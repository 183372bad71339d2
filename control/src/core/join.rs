//! A state that comes after the start, and another control that wrote it.
//!
//! Owns what becomes of a document that could not be read at the start, once it can be; and the fence by the state. It
//! must never move traffic: what this control has said stays, else the state counts as at any start.
//! docs/decisions/0014-state-in-dynamodb.md says why. Next: `fence.rs`.

use super::change::{self, Planned};
use super::fence::{self, Fence, Witness};
use super::{Core, Now, order};
use crate::state::document::{ChangeKind, Document, HistoryEntry, MAX_HISTORY, RouteRecord};
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
    /// that the fleet serves) keeps its weights, takes history and unheard routes from it, and goes above its epoch.
    pub fn plan_join(&self, now: Now, found: Document) -> Option<Planned> {
        if found.routes.is_empty() {
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
        for (name, there) in found.routes {
            match document.routes.get_mut(&name) {
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
