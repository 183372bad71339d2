//! Changes on their way into the state, and a state that is written by two or comes late.
//!
//! Owns the order plan, write, commit, publish, and what a lost or foreign write means. It must never publish a raised
//! canary that is not written, and never write over what another control wrote. Next: `../state/store.rs`.

use super::{LOWERING_PATIENCE, RETRY_UNSAVED, Shared, WRITE_PATIENCE};
use crate::core::Core;
use crate::core::change::{Change, ChangeError, Planned, What};
use crate::core::event::Event;
use crate::core::watch::of_change;
use crate::state::document::{Document, Identity};
use crate::state::file::StateError;
use crate::state::item::{ItemError, ItemStore};
use crate::state::revision::Known;
use gateway_config::discovered::GatewayResources;
use gateway_config::wire::Version;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whether another control has written the item: one that never writes would not learn it. Each
/// look is paid by the size of the item, some cents a month.
pub const LOOK_AT_ITEM: Duration = Duration::from_secs(10);

impl Shared {
    pub(super) async fn make(&self, change: &Change) -> Result<Planned, ChangeError> {
        let _one_at_a_time = self.changes.lock().await;
        self.prepare(change).await?;
        let planned = match self.attempt(change).await {
            Err(ChangeError::State(StateError::Item(ItemError::Overtaken { place, writer }))) => {
                self.overtaken(change, place, writer).await?
            }
            other => other?,
        };
        self.publish(&planned, change);
        Ok(planned)
    }

    /// Publishes other listeners and clusters, written first.
    pub async fn reconfigure(&self, resources: Option<GatewayResources>) -> Result<(), ChangeError> {
        let _one_at_a_time = self.changes.lock().await;
        if !self.with_core(|core| core.replace_config(resources.as_ref())) {
            let planned = self.with_core(|core| core.plan_config(resources))?;
            match self.write(&planned.document, WRITE_PATIENCE).await {
                Ok(()) => self.with_core(|core| core.commit(&planned, true)),
                Err(StateError::Item(ItemError::Overtaken { place, writer })) => {
                    return Err(self.fence_by_state(&place, writer));
                }
                Err(error) => {
                    self.note_refused(&planned, error.may_have_landed());
                    return Err(error.into());
                }
            }
        }
        self.version.send_modify(|version| *version += 1);
        self.note_progress();
        let version = self.with_core(|core| core.config_version()).unwrap_or_default();
        tracing::info!(version, "other listeners and clusters are published");
        Ok(())
    }

    /// What has to be known of the state before a change can be written.
    async fn prepare(&self, change: &Change) -> Result<(), ChangeError> {
        let Some(item) = self.store.item() else { return Ok(()) };
        let now = self.now();
        if matches!(change.what, What::Adopt(_)) {
            // What cannot be done must not cost what is known of the item.
            self.with_core(|core| core.plan(now, change))?;
            return Box::pin(self.take_over(item)).await;
        }
        if item.known() == Known::Unread && !self.with_core(|core| core.plan(now, change))?.only_lowers {
            self.join(item).await;
        }
        Ok(())
    }

    async fn attempt(&self, change: &Change) -> Result<Planned, ChangeError> {
        let now = self.now();
        let planned = self.with_core(|core| core.plan(now, change))?;
        let patience = if planned.only_lowers { LOWERING_PATIENCE } else { WRITE_PATIENCE };
        let saved = match self.write(&planned.document, patience).await {
            Ok(()) => true,
            Err(error)
                if planned.only_lowers && !matches!(error, StateError::Item(ItemError::Overtaken { .. })) =>
            {
                tracing::error!(%error, "goes out though it could not be written: it only lowers the canary");
                false
            }
            Err(error) => {
                self.note_refused(&planned, error.may_have_landed());
                return Err(error.into());
            }
        };
        self.with_core(|core| core.commit(&planned, saved));
        Ok(planned)
    }

    /// A change that is not made may be in the state all the same.
    fn note_refused(&self, planned: &Planned, may_have_landed: bool) {
        if may_have_landed {
            self.with_core(|core| core.note_unsaved(&planned.document));
            if let (Some(item), true) = (self.store.item(), planned.takes_lead) {
                // Its epoch may be in the item now: what follows goes above it.
                item.forget();
            }
            // The same weights under another version.
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Another control wrote the item under a change.
    async fn overtaken(
        &self,
        change: &Change,
        place: String,
        writer: Option<Version>,
    ) -> Result<Planned, ChangeError> {
        if matches!(change.what, What::Adopt(_)) {
            if let Some(item) = self.store.item() {
                item.forget();
            }
            let error = ItemError::Overtaken { place, writer };
            return Err(ChangeError::CannotAdopt(format!("{error}; stop that control, then adopt again")));
        }
        // Who has said nothing yet has nothing to lose: it begins again from what was written.
        if let (Some(item), false) = (self.store.item(), self.with_core(|core| core.has_spoken())) {
            item.forget();
            self.join(item).await;
            return match self.attempt(change).await {
                Err(ChangeError::State(StateError::Item(ItemError::Overtaken { place, writer }))) => {
                    Err(self.fence_by_state(&place, writer))
                }
                other => other,
            };
        }
        Err(self.fence_by_state(&place, writer))
    }

    fn publish(&self, planned: &Planned, change: &Change) {
        // Another stable target asks for no weights.
        let asked = if matches!(change.what, What::Stable { .. }) { &[] } else { planned.routes.as_slice() };
        self.tell_followers(asked);
        self.metrics.changes.inc();
        self.version.send_modify(|version| *version += 1);
        self.note_progress();
        let version = planned.document.control.version().to_string();
        tracing::info!(version, routes = planned.routes.join(","), actor = change.author.actor, "published");
        self.tell_changes(planned);
    }

    fn tell_changes(&self, planned: &Planned) {
        let version = planned.document.control.version().to_string();
        for route in &planned.routes {
            let event = self.with_core(|core| {
                let record = planned.document.routes.get(route).filter(|record| record.version == version)?;
                of_change(core, route, record.history.back()?)
            });
            self.emit(event);
        }
    }

    /// Reads a state that could not be read before, and goes on from it. What fails is noted, and tried again.
    async fn join(&self, item: &ItemStore) {
        // Who stops does not take the lead any more.
        if item.known() != Known::Unread
            || self.with_core(|core| core.fence().is_some())
            || self.drain.is_draining()
        {
            return;
        }
        if let Err(error) = Box::pin(self.try_join(item)).await {
            self.metrics.state_write_failures.inc();
            tracing::error!(%error, "the state is not read yet");
            self.with_core(|core| core.note_unread(error.to_string()));
            self.note_progress();
        }
    }

    async fn try_join(&self, item: &ItemStore) -> Result<(), ItemError> {
        let found = read_to_join(item).await?;
        let now = self.now();
        let planned = self.with_core(|core| {
            let found = found?;
            core.note_epoch(found.control.epoch);
            core.plan_join(now, found)
        });
        let Some(planned) = planned else {
            item.note_aside(false);
            self.with_core(Core::note_no_state);
            self.note_progress();
            return Ok(());
        };
        if let Err(error) = item.write(&planned.document, LOWERING_PATIENCE).await {
            item.forget();
            self.note_refused(&planned, error.may_have_landed());
            return Err(error);
        }
        item.note_aside(false);
        let fenced = self.with_core(|core| {
            core.commit(&planned, true);
            core.fence().map(|fence| core.fence_text(fence))
        });
        self.tell_followers(&[]);
        self.version.send_modify(|version| *version += 1);
        let version = planned.document.control.version().to_string();
        tracing::info!(version, "the state is read, and this control goes on from it");
        if let Some(text) = fenced {
            tracing::error!("{text}");
        }
        self.note_progress();
        self.tell_changes(&planned);
        Ok(())
    }

    /// Reads what an adoption writes over, so that its history stays and its epoch is left behind.
    async fn take_over(&self, item: &ItemStore) -> Result<(), ChangeError> {
        let found = item.read(WRITE_PATIENCE).await.map_err(StateError::from)?;
        item.base_on(found.as_ref());
        if let Some(found) = found {
            self.with_core(|core| {
                core.note_epoch(found.document.control.epoch);
                core.learn_history(found.document);
            });
        }
        Ok(())
    }

    fn fence_by_state(&self, place: &str, writer: Option<Version>) -> ChangeError {
        let (news, text) = self.with_core(|core| {
            let news = core.fence_by_state(place, writer);
            (news, core.fence().map(|fence| core.fence_text(fence)).unwrap_or_default())
        });
        if news {
            self.tell_followers(&[]);
            self.after_hearing(Some(text.clone()));
        }
        ChangeError::Fenced(text)
    }

    /// Writes what is not in the state yet, for as long as control runs; and looks whether another control writes it.
    pub async fn retry_unsaved(&self) {
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY_UNSAVED) => {}
                // Once more: what went out unwritten would keep the next start from leading.
                () = self.stopping() => return self.save_again().await,
            }
            self.save_again().await;
            if let Some(item) = self.store.item()
                && looked.elapsed() >= LOOK_AT_ITEM
            {
                looked = Instant::now();
                Box::pin(self.look_at(item)).await;
            }
        }
    }

    async fn save_again(&self) {
        if let Some(item) = self.store.item()
            && item.known() == Known::Unread
        {
            let _one_at_a_time = self.changes.lock().await;
            self.join(item).await;
        }
        let unsaved = || {
            self.with_core(|core| {
                let may = self
                    .store
                    .item()
                    .is_none_or(|item| core.fence().is_none() && item.known() != Known::Unread);
                (may && core.is_established() && !core.is_saved()).then(|| Arc::clone(core.document()))
            })
        };
        if unsaved().is_none() {
            return;
        }
        let _one_at_a_time = self.changes.lock().await;
        let Some(document) = unsaved() else { return };
        match self.write(&document, LOWERING_PATIENCE).await {
            Ok(()) => {
                self.with_core(|core| core.note_saved(&document));
                tracing::info!(version = %document.control.version(), "the state is written again");
                self.note_progress();
            }
            Err(StateError::Item(ItemError::Overtaken { place, writer })) => match self.store.item() {
                Some(item) if !self.with_core(|core| core.has_spoken()) => {
                    item.forget();
                    self.join(item).await;
                }
                _ => {
                    self.fence_by_state(&place, writer);
                }
            },
            Err(_) => {}
        }
    }

    async fn look_at(&self, item: &ItemStore) {
        match item.overtaken(LOWERING_PATIENCE).await {
            Ok(None) => {}
            Ok(Some(overtaker)) => {
                self.fence_by_state(&item.place(), overtaker.writer);
            }
            Err(error) => {
                tracing::warn!(%error, "it cannot be seen whether another control writes the state")
            }
        }
    }

    async fn write(&self, document: &Arc<Document>, patience: Duration) -> Result<(), StateError> {
        let result = self.store.write(Arc::clone(document), patience).await;
        if let Err(error) = &result {
            self.metrics.state_write_failures.inc();
            tracing::error!(%error, "the state could not be written");
        }
        result
    }

    /// Tells whoever listens; nobody is waited for.
    pub(super) fn emit(&self, event: impl IntoIterator<Item = Event>) {
        for event in event {
            tracing::info!(kind = event.kind.word(), "{}", event.text);
            // Nobody listens: that is no fault.
            let _ = self.events.send(event);
        }
    }
}

/// The document to go on from. Of one that is put aside only the epoch counts.
async fn read_to_join(item: &ItemStore) -> Result<Option<Document>, ItemError> {
    if !item.is_to_be_put_aside() {
        let found = item.read(LOWERING_PATIENCE).await?;
        item.base_on(found.as_ref());
        return Ok(found.map(|found| found.document));
    }
    let kept = item.put_aside(LOWERING_PATIENCE).await?;
    Ok(kept.map(|(epoch, kept)| {
        tracing::warn!(kept, "the old state is kept");
        Document { control: Identity { epoch, ..Identity::default() }, ..Document::default() }
    }))
}
