//! The heart of control, without I/O: what is wanted, who serves it, who leads.
//!
//! Owns every decision. It must never read a clock, a file or the network: time comes in as [`Now`], requests as
//! their parsed form, and what is to be written goes out as a [`change::Planned`]. A change is planned, written by
//! the caller, and only then committed; discovery answers nothing that was not committed.
//! Next: `fence.rs`, `fleet.rs`, `gateway.rs`, `adoption.rs`, `change.rs`, `join.rs`, `view.rs`; then `shared.rs`, which drives all this.

pub mod adoption;
pub mod change;
pub mod config;
pub mod counters;
pub mod event;
pub mod fence;
pub mod fleet;
#[cfg(test)]
mod fleet_tests;
pub mod gateway;
#[cfg(test)]
mod item_simulation;
pub mod join;
#[cfg(test)]
mod join_tests;
pub mod load;
#[cfg(test)]
mod simulation;
pub mod view;
pub mod watch;

use crate::settings::{RouteSettings, Routes};
use crate::state::document::{ChangeKind, Document, Identity, Weights};
use adoption::Adoption;
use change::{Author, Beginning, Change, ChangeError, Planned, What};
use fence::{Fence, Witness};
use fleet::{Client, Fleet, Full, Gateway, Refusal};
use gateway_config::discovered::GatewayResources;
use gateway_config::wire::{DiscoveryRequest, Report, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The time of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since this control started.
    pub mono_ms: u64,
    /// Milliseconds since 1970, for what people read.
    pub unix_ms: i64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Core {
    routes: Routes,
    document: Arc<Document>,
    /// False while there was no state and nothing was adopted yet.
    established: bool,
    fleet: Fleet,
    fence: Option<Fence>,
    saved: bool,
    max_seen_epoch: u64,
    /// Whether it is known that no other control leads, as far as it can be: see [`Core::sync_weights`].
    sure: bool,
    /// Listeners and clusters for the gateways.
    config: Option<Arc<GatewayResources>>,
    /// Why it is not known whether there is a state.
    unread: Option<String>,
    /// Whether anything was said to a gateway, or changed.
    spoke: bool,
    /// What the gateways had, of the weights that were taken over from them while the state could not be read.
    taken_from: BTreeMap<String, Version>,
}

/// What a discovery request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Something that the client does not have: at once.
    Send,
    /// It has the newest. Held if it asks for that, else told again.
    Current,
    /// It refused the newest, or was sent it twice just now: held, then "not modified". With a time (monotonic ms)
    /// it may be sent again then.
    Nothing(Option<u64>),
    /// No weights are known: held, then "unavailable".
    Unknown,
    /// Another control leads: "unavailable" at once.
    Fenced(String),
}

/// How far a change came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Heard lately.
    pub connected: usize,
    /// Waited for, by id.
    pub awaited: Vec<String>,
    /// Those awaited that do not serve it, and why.
    pub missing: Vec<(String, String)>,
    /// Those missing that never will by themselves: somebody overrides them.
    pub overridden: BTreeSet<String>,
}

impl Standing {
    /// Those missing that are not overridden.
    pub fn behind(&self) -> impl Iterator<Item = &(String, String)> {
        self.missing.iter().filter(|(id, _)| !self.overridden.contains(id))
    }
}

impl Core {
    /// A control that starts. With a document it goes on as the next epoch under the new `id`; the caller writes
    /// [`Core::document`] before anything is answered. Without one it waits for the fleet.
    pub fn start(routes: Routes, document: Option<Document>, id: &str, now: Now) -> Self {
        let established = document.as_ref().is_some_and(|document| !document.routes.is_empty());
        let mut document = document.unwrap_or_default();
        let last = std::mem::take(&mut document.control);
        document.control = Identity { id: id.to_owned(), ..last.clone() };
        if established {
            document.control.epoch = last.epoch.saturating_add(1);
            document.lineage = fence::extend(std::mem::take(&mut document.lineage), last);
            change::reconcile(&mut document, &routes, &crate::text::timestamp(now.unix_ms));
        }
        Self {
            routes,
            document: Arc::new(document),
            established,
            fleet: Fleet::default(),
            fence: None,
            saved: !established,
            max_seen_epoch: 0,
            sure: false,
            config: None,
            unread: None,
            spoke: false,
            taken_from: BTreeMap::new(),
        }
    }

    /// What is in force, and what the state file must hold.
    pub fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// False before the first weights are known: then there is nothing to write.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the state file holds [`Core::document`].
    pub fn is_saved(&self) -> bool {
        self.saved
    }

    /// The state file holds `document` now.
    pub fn note_saved(&mut self, document: &Arc<Document>) {
        if Arc::ptr_eq(document, &self.document) {
            self.saved = true;
        }
    }

    /// The state may hold `refused`, now or later, because its write did not end in time. What is in force has to be
    /// written once more, and under a version of its own: a gateway may have begun from what was refused.
    pub fn note_unsaved(&mut self, refused: &Document) {
        self.saved = !self.established;
        let (own, burnt) = (&self.document.control, &refused.control);
        if burnt.seq > own.seq && (burnt.epoch == own.epoch || !self.established) {
            // Nothing is published yet by who is not established: its first version is one higher.
            let seq = burnt.seq.saturating_add(u64::from(self.established));
            Arc::make_mut(&mut self.document).control.seq = seq;
        }
    }

    /// Who leads instead of this control, if somebody does.
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// The gateways.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The managed routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The version that is published; none while nothing is.
    pub fn version(&self) -> Option<String> {
        self.established.then(|| self.document.control.version().to_string())
    }

    /// The wanted weights of a route.
    pub fn weights(&self, route: &str) -> Option<&Weights> {
        self.document.routes.get(route).map(|record| &record.weights)
    }

    /// The wanted weights of a route in the order of its targets, for whoever writes them elsewhere; or why that
    /// must wait. An old copy of the state would write old weights: a start speaks for the fleet only when a gateway
    /// has shown a version that this control knows, when it made a change of its own, or when it was up for
    /// [`adoption::HEAR_FIRST_MS`] and nobody was ahead.
    pub fn sync_weights(&self, route: &str) -> Result<Vec<(String, u32)>, String> {
        if let Some(fence) = &self.fence {
            return Err(self.fence_text(fence));
        }
        let (Some(settings), Some(weights)) = (self.routes.get(route), self.weights(route)) else {
            return Err("control does not know the weights of this route yet".to_owned());
        };
        if !self.sure {
            return Err("control has just started: it hears first whether another control leads".to_owned());
        }
        let pair = |target: &String| (target.clone(), weights.get(target).copied().unwrap_or_default());
        Ok(settings.targets.iter().map(pair).collect())
    }

    /// Whether [`Core::sync_weights`] may speak.
    pub fn is_sure(&self) -> bool {
        self.sure && self.fence.is_none()
    }

    /// Makes a plan true. `saved`: it is in the state file.
    pub fn commit(&mut self, planned: &Planned, saved: bool) {
        debug_assert!(
            !self.established || order(&planned.document.control) > order(&self.document.control),
            "versions only rise"
        );
        self.note_taken(planned);
        self.document = Arc::clone(&planned.document);
        self.established = true;
        self.saved = saved;
        if let Some(config) = &planned.config {
            self.config.clone_from(config);
        }
        if planned.joins {
            self.unread = None;
            self.look_at_all();
        } else {
            self.spoke = true;
            // A file that was changed says nothing of who leads.
            self.sure |= planned.config.is_none();
        }
        if planned.takes_lead {
            self.fence = None;
            self.unread = None;
        }
    }

    /// Notes in the history how long the gateways took.
    pub fn note_acknowledged(&mut self, version: &str, routes: &[String], elapsed_ms: u64) {
        let document = Arc::make_mut(&mut self.document);
        for route in routes {
            let entry = document
                .routes
                .get_mut(route)
                .and_then(|record| record.history.iter_mut().rev().find(|entry| entry.version == version));
            if let Some(entry) = entry {
                entry.acknowledged_ms = Some(elapsed_ms);
            }
        }
    }

    /// Takes a discovery request in. The refusal is set when this request refused something.
    pub fn hear(
        &mut self,
        now: Now,
        peer: &str,
        request: &DiscoveryRequest,
    ) -> Result<(Client, Option<Refusal>), Full> {
        let heard = self.fleet.hear(now.mono_ms, peer, request, &self.routes)?;
        self.look_ahead(&heard.0.id);
        Ok(heard)
    }

    /// Takes a report in. False = a newer one was there already.
    pub fn hear_report(&mut self, now: Now, id: &str, report: &Report) -> Result<bool, Full> {
        let id = fleet::clean(id);
        let taken = self.fleet.report(now.mono_ms, &id, report, &self.routes)?;
        self.look_ahead(&id);
        Ok(taken)
    }

    /// What a client that was just heard gets now.
    pub fn answer(&self, now: Now, client: &Client, request: &DiscoveryRequest) -> Answer {
        if let Some(fence) = &self.fence {
            return Answer::Fenced(self.fence_text(fence));
        }
        let Some(version) = self.version() else { return Answer::Unknown };
        self.news(now, client, (&request.version_info, &version))
    }

    /// Whether `version` is news to a client that has another one.
    fn news(&self, now: Now, client: &Client, (has, version): (&str, &str)) -> Answer {
        if self.fleet.has_refused(client, version) {
            return Answer::Nothing(None);
        }
        if has == version {
            return Answer::Current;
        }
        match self.fleet.send_again_ms(now.mono_ms, client, version) {
            None => Answer::Send,
            again => Answer::Nothing(again),
        }
    }

    /// Notes that a client is sent the current version, as `news` or to say that there is none; answers version_info and nonce.
    pub fn note_sent(&mut self, now: Now, client: &Client, news: bool) -> (String, String) {
        self.spoke |= news;
        let version = self.document.control.version().to_string();
        let nonce = self.fleet.note_sent(now.mono_ms, client, &version, news);
        (version, nonce)
    }

    /// Forgets a gateway. False = unknown.
    pub fn forget(&mut self, id: &str) -> bool {
        self.fleet.forget(id)
    }

    /// Drops gateways that are gone for long, and counts silence as the consent of the fleet.
    pub fn prune(&mut self, now: Now) {
        self.fleet.prune(now.mono_ms);
        self.sure |= self.established && now.mono_ms >= adoption::HEAR_FIRST_MS;
    }

    /// What is to be done by itself about routes whose weights are not known; none = nothing now.
    pub fn due_adoption(&self, now: Now) -> Option<Change> {
        if self.fence.is_some() {
            return None;
        }
        let mut begin = BTreeMap::new();
        for (name, settings) in self.unknown_routes() {
            match adoption::decide(now.mono_ms, &self.fleet, (name, settings), self.established) {
                // There may be a state that says otherwise.
                Adoption::Initial(_) if self.unread.is_some() => None,
                Adoption::Initial(weights) => {
                    let reason = "the weights of the configuration, at the first start".to_owned();
                    begin.insert(name.clone(), Beginning { kind: ChangeKind::Initial, weights, reason })
                }
                Adoption::Adopt(weights, givers) => {
                    let reason = givers.reason();
                    begin.insert(name.clone(), Beginning { kind: ChangeKind::Adopt, weights, reason })
                }
                // One version for all that can be known now: a route still settling holds the others back.
                Adoption::Settling => return None,
                Adoption::Unheard | Adoption::Disagree(_) => None,
            };
        }
        (!begin.is_empty()).then(|| Change {
            what: What::Begin(begin),
            author: Author { actor: "control".to_owned(), token: None },
            reason: String::new(),
        })
    }

    /// Whether any word of this control could be outrun by a gateway that was not heard yet: there is no state, and
    /// nobody has said at which epoch the fleet is.
    pub fn is_deaf(&self, now: Now) -> bool {
        let heard = self.fleet.iter().next().is_some();
        !self.established && !heard && now.mono_ms < adoption::HEAR_FIRST_MS
    }

    /// Whether a route of unknown weights will be known by itself shortly.
    pub fn is_settling(&self, now: Now, name: &str) -> bool {
        let Some(settings) = self.routes.get(name) else { return false };
        if self.fence.is_some() {
            return false;
        }
        match adoption::decide(now.mono_ms, &self.fleet, (name, settings), self.established) {
            Adoption::Initial(_) => self.unread.is_none(),
            Adoption::Settling | Adoption::Adopt(..) => true,
            Adoption::Unheard => !self.established && now.mono_ms < adoption::HEAR_FIRST_MS,
            Adoption::Disagree(_) => false,
        }
    }

    /// The weights that `adopt` takes over: from one gateway, or from all if they agree.
    pub fn adoptable(&self, now: Now, from: Option<&str>) -> Result<BTreeMap<String, Weights>, ChangeError> {
        let givers: Vec<(&String, &Gateway)> = match from {
            Some(id) => {
                let giver = self.fleet.iter().find(|(known, _)| known.as_str() == id);
                vec![giver.ok_or_else(|| {
                    ChangeError::CannotAdopt(format!("no gateway `{}` was heard", change::clean_text(id)))
                })?]
            }
            None => self.fleet.iter().filter(|(_, gateway)| gateway.is_connected(now.mono_ms)).collect(),
        };
        let mut taken: BTreeMap<String, Weights> = BTreeMap::new();
        for (id, gateway) in givers {
            for (name, settings) in &self.routes {
                let serves = adoption::served(gateway, name, settings)
                    .map_err(|why| ChangeError::CannotAdopt(format!("{id}: {why}")))?;
                let Some(serves) = serves else { continue };
                match taken.get(name) {
                    Some(other) if *other != serves => {
                        return Err(ChangeError::CannotAdopt(format!(
                            "the gateways do not agree on {name}: name one with --from"
                        )));
                    }
                    _ => taken.insert(name.clone(), serves),
                };
            }
        }
        if taken.is_empty() {
            return Err(ChangeError::CannotAdopt("no gateway says what it serves".to_owned()));
        }
        if let Some(from) = from {
            self.adopt_the_rest(now, from, &mut taken)?;
        }
        Ok(taken)
    }

    /// The whole document goes out with an adoption: a route that the named gateway does not serve must not fall
    /// back to what this control last knew of it, so the gateways that serve it say.
    fn adopt_the_rest(
        &self,
        now: Now,
        from: &str,
        taken: &mut BTreeMap<String, Weights>,
    ) -> Result<(), ChangeError> {
        let missing: Vec<(&String, &RouteSettings)> =
            self.routes.iter().filter(|(name, _)| !taken.contains_key(*name)).collect();
        for (name, settings) in missing {
            for (id, gateway) in self.fleet.iter().filter(|(_, gateway)| gateway.is_connected(now.mono_ms)) {
                let serves = adoption::served(gateway, name, settings)
                    .map_err(|why| ChangeError::CannotAdopt(format!("{id}: {why}")))?;
                let Some(serves) = serves else { continue };
                if taken.get(name).is_some_and(|other| *other != serves) {
                    return Err(ChangeError::CannotAdopt(format!(
                        "{} does not serve {name}, and the others do not agree on it: \
                         `control gateways forget` those that do not count",
                        change::clean_text(from)
                    )));
                }
                taken.insert(name.clone(), serves);
            }
        }
        Ok(())
    }

    /// Who serves the wanted weights of `routes`, and who does not.
    pub fn standing(&self, now: Now, routes: &[String]) -> Standing {
        let mut standing = Standing::default();
        for (id, gateway) in self.fleet.iter() {
            let asked: Vec<&String> = routes.iter().filter(|route| gateway.asks_for(route)).collect();
            if asked.is_empty() || !gateway.is_awaited(now.mono_ms) {
                continue;
            }
            standing.awaited.push(id.clone());
            standing.connected += usize::from(gateway.is_connected(now.mono_ms));
            if let Some(why) = asked.iter().find_map(|route| self.disagreement(now, gateway, route)) {
                standing.missing.push((id.clone(), why));
                if asked.iter().all(|route| {
                    self.disagreement(now, gateway, route).is_none() || gateway.override_of(route).is_some()
                }) {
                    standing.overridden.insert(id.clone());
                }
            }
        }
        standing
    }

    /// Whether a newer change of one of `routes` took the place of `version`.
    pub fn superseded(&self, version: &str, routes: &[String]) -> Option<String> {
        let mut records = routes.iter().filter_map(|route| self.document.routes.get(route));
        records.find(|record| record.version != version).map(|record| record.version.clone())
    }

    /// Routes whose weights an operator has to decide about, and why.
    pub fn undecided(&self, now: Now) -> Vec<(String, String)> {
        if self.fence.is_some() {
            return Vec::new();
        }
        let disagrees = |(name, settings): (&String, &RouteSettings)| match adoption::decide(
            now.mono_ms,
            &self.fleet,
            (name, settings),
            self.established,
        ) {
            Adoption::Disagree(why) => Some((name.clone(), why)),
            _ => None,
        };
        self.unknown_routes().filter_map(disagrees).collect()
    }

    fn unknown_routes(&self) -> impl Iterator<Item = (&String, &RouteSettings)> {
        self.routes.iter().filter(|(name, _)| !self.document.routes.contains_key(*name))
    }

    fn look_ahead(&mut self, id: &str) {
        let Some(gateway) = self.fleet.get(id) else { return };
        for seen in gateway.versions() {
            // What this control gave out before it knew any weights is no other's.
            if seen.control_id != self.document.control.id {
                self.max_seen_epoch = self.max_seen_epoch.max(seen.epoch);
            }
            if !self.established {
                continue;
            }
            let own = &self.document.control;
            // An id is drawn at each start: what is later under our own was read in the state before it was published, or
            // though it was refused.
            let is_own = seen.control_id == own.id;
            if is_own || !fence::is_ahead(own, &self.document.lineage, &seen) {
                // A version that was left behind on purpose tells nothing of today.
                let mut known = self.document.lineage.iter().chain([own]);
                self.sure |= known.any(|start| start.id == seen.control_id);
                continue;
            }
            let higher = self
                .fence
                .as_ref()
                .is_none_or(|fence| (seen.epoch, seen.seq) > (fence.seen.epoch, fence.seen.seq));
            if higher {
                self.fence = Some(Fence { seen, witness: Witness::Gateway(id.to_owned()) });
            }
        }
    }
}

fn order(identity: &Identity) -> (u64, u64) {
    (identity.epoch, identity.seq)
}
