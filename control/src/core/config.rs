//! Listeners and clusters for the gateways: which version they have, and who may have them.
//!
//! Owns the version under which the section `gateway` of the configuration is published; it must never look into what
//! is published. They get a new version with each start and each lead that is taken, never by a change of weights: a
//! gateway then never has to go back, whatever it began from. Next: `../discovery/`.

use super::change::{ChangeError, Planned};
use super::fleet::{Client, Full, Refusal, Subject};
use super::{Answer, Core, Now};
use crate::state::document::{Document, GatewayRecord};
use gateway_config::discovered::GatewayResources;
use gateway_config::wire::{DiscoveryRequest, Version};
use std::sync::Arc;

impl Core {
    /// With the section `gateway` of the configuration.
    #[must_use]
    pub fn with_gateway(mut self, resources: Option<GatewayResources>) -> Self {
        self.config = resources.map(Arc::new);
        if self.established {
            let mut document = Document::clone(&self.document);
            self.stamp(&mut document);
            self.document = Arc::new(document);
        }
        self
    }

    /// Listeners and clusters; none when the configuration has no section `gateway`.
    pub fn config(&self) -> Option<&Arc<GatewayResources>> {
        self.config.as_ref()
    }

    /// The version under which they are published; none when there are none.
    pub fn config_version(&self) -> Option<String> {
        self.config.as_ref()?;
        if self.established {
            return self.document.gateway.as_ref().map(|gateway| gateway.version.clone());
        }
        // Before anything else is known: below whatever comes at this epoch.
        let own = &self.document.control;
        let epoch = own.epoch.max(self.max_seen_epoch).saturating_add(1);
        Some(Version { epoch, seq: own.seq, control_id: own.id.clone() }.to_string())
    }

    /// Other listeners and clusters before any weights are known: there is nothing to write. False = there is, or they
    /// are the same.
    pub fn replace_config(&mut self, resources: Option<&GatewayResources>) -> bool {
        if self.established || self.config.as_deref() == resources {
            return false;
        }
        self.config = resources.cloned().map(Arc::new);
        let document = Arc::make_mut(&mut self.document);
        document.control.seq = document.control.seq.saturating_add(1);
        true
    }

    /// Works out the next document for other listeners and clusters.
    pub fn plan_config(&self, resources: Option<GatewayResources>) -> Result<Planned, ChangeError> {
        if let Some(fence) = &self.fence {
            return Err(ChangeError::Fenced(self.fence_text(fence)));
        }
        if self.config.as_deref() == resources.as_ref() {
            return Err(ChangeError::Nothing);
        }
        let mut document = Document::clone(&self.document);
        document.control.seq = document.control.seq.saturating_add(1);
        let config = resources.map(Arc::new);
        put(&mut document, config.as_deref());
        Ok(Planned { document: Arc::new(document), config: Some(config), ..Planned::default() })
    }

    /// Puts listeners and clusters into a document that begins an epoch, under its version.
    pub(super) fn stamp(&self, document: &mut Document) {
        put(document, self.config.as_deref());
    }

    /// Takes a request for listeners or clusters in.
    pub fn hear_config(
        &mut self,
        now: Now,
        peer: &str,
        request: &DiscoveryRequest,
        subject: Subject,
    ) -> Result<(Client, Option<Refusal>), Full> {
        let heard = self.fleet.hear_config((now.mono_ms, peer), request, subject, &self.routes)?;
        self.look_ahead(&heard.0.id);
        Ok(heard)
    }

    /// What a client that was just heard gets now of listeners or clusters.
    pub fn answer_config(&self, now: Now, client: &Client, request: &DiscoveryRequest) -> Answer {
        if let Some(fence) = &self.fence {
            return Answer::Fenced(self.fence_text(fence));
        }
        let Some(version) = self.config_version() else { return Answer::Unknown };
        // One that serves already waits until it is known who leads: nothing of it may move by a guess.
        if !self.established && !request.version_info.is_empty() && request.version_info != version {
            return Answer::Unknown;
        }
        self.news(now, client, (&request.version_info, &version))
    }

    /// As [`Core::note_sent`], for listeners or clusters.
    pub fn note_config_sent(&mut self, now: Now, client: &Client, news: bool) -> (String, String) {
        let version = self.config_version().unwrap_or_default();
        let nonce = self.fleet.note_sent(now.mono_ms, client, &version, news);
        (version, nonce)
    }
}

fn put(document: &mut Document, config: Option<&GatewayResources>) {
    let extra = document.gateway.take().map(|gateway| gateway.extra).unwrap_or_default();
    let version = document.control.version().to_string();
    document.gateway = config.map(|resources| GatewayRecord { version, resources: resources.clone(), extra });
}
