//! Envoy's REST discovery: `POST /v3/discovery:routes`, and in our own words `:listeners` and `:clusters`.
//!
//! Owns the holding of requests; it must never decide what a client may have (that is `core/`) and never let one
//! client wait for another: the core is locked only between two awaits. Next: `resource.rs`.

pub mod resource;

use crate::core::fleet::{Client, Subject};
use crate::core::{Answer, Core, Now};
use crate::shared::Shared;
use gateway_config::wire::{
    CLUSTER_TYPE_URL, ConfigDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, LISTENER_TYPE_URL,
    MAX_HOLD_SECONDS, ROUTE_TYPE_URL,
};
use std::time::Duration;

/// What a discovery request is answered with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// 200.
    Response(Box<DiscoveryResponse>),
    /// 200, listeners or clusters.
    Config(Box<ConfigDiscoveryResponse>),
    /// 304: nothing that this client may have.
    NotModified,
    /// 503.
    Unavailable(String),
}

/// How long a request asks to be held: `Prefer: wait=N` (RFC 7240 section 4.3) or `node.metadata.hold`.
pub fn hold_of(prefer: Option<&str>, request: &DiscoveryRequest) -> Duration {
    let asked = prefer.and_then(|prefer| {
        let mut parts = prefer.split([',', ';']);
        parts.find_map(|part| part.trim().strip_prefix("wait=")?.trim().parse::<u64>().ok())
    });
    let seconds = match asked {
        Some(seconds) => seconds.min(MAX_HOLD_SECONDS),
        None if request.node.metadata.hold => MAX_HOLD_SECONDS,
        None => 0,
    };
    Duration::from_secs(seconds)
}

/// The type of the resources of a subject.
pub fn type_url(subject: Subject) -> &'static str {
    match subject {
        Subject::Routes => ROUTE_TYPE_URL,
        Subject::Listeners => LISTENER_TYPE_URL,
        Subject::Clusters => CLUSTER_TYPE_URL,
    }
}

/// Answers one request, at once or when there is something to say, after `hold` at the latest.
pub async fn answer(
    shared: &Shared,
    peer: &str,
    request: &DiscoveryRequest,
    hold: Duration,
    subject: Subject,
) -> Reply {
    let mut changes = shared.subscribe_version();
    let client = match shared.hear_about(peer, request, subject) {
        Ok(client) => client,
        Err(full) => return Reply::Unavailable(full.to_string()),
    };
    let deadline = tokio::time::Instant::now() + hold;
    loop {
        // Seen before the question, so that a change in between wakes the wait below.
        changes.borrow_and_update();
        let now = shared.now();
        let mut wake = deadline;
        let asked = Asked { now, client: &client, request, subject };
        let reply = shared.with_core(|core| match asked.of(core) {
            Answer::Send => Some(asked.respond(core, true)),
            Answer::Fenced(text) => Some(Reply::Unavailable(text)),
            Answer::Current if client.first_goodbye => Some(asked.respond(core, false)),
            Answer::Nothing(Some(again_ms)) => {
                let pause = Duration::from_millis(again_ms.saturating_sub(now.mono_ms));
                wake = deadline.min(tokio::time::Instant::now() + pause);
                None
            }
            Answer::Current | Answer::Nothing(None) | Answer::Unknown => None,
        });
        if let Some(reply) = reply {
            return reply;
        }
        let stopped = tokio::select! {
            changed = changes.changed() => changed.is_err(),
            () = tokio::time::sleep_until(wake) => wake == deadline,
            () = shared.stopping() => true,
        };
        if stopped {
            break;
        }
    }
    let asked = Asked { now: shared.now(), client: &client, request, subject };
    shared.with_core(|core| match asked.of(core) {
        Answer::Send => asked.respond(core, true),
        Answer::Current => asked.respond(core, false),
        Answer::Nothing(_) => Reply::NotModified,
        Answer::Fenced(text) => Reply::Unavailable(text),
        Answer::Unknown => Reply::Unavailable("the weights are not known yet".to_owned()),
    })
}

/// One request that was heard.
struct Asked<'a> {
    now: Now,
    client: &'a Client,
    request: &'a DiscoveryRequest,
    subject: Subject,
}

impl Asked<'_> {
    fn of(&self, core: &Core) -> Answer {
        match self.subject {
            Subject::Routes => core.answer(self.now, self.client, self.request),
            Subject::Listeners | Subject::Clusters => core.answer_config(self.now, self.client, self.request),
        }
    }

    fn respond(&self, core: &mut Core, news: bool) -> Reply {
        let type_url = type_url(self.subject).to_owned();
        if self.subject != Subject::Routes {
            let (version_info, nonce) = core.note_config_sent(self.now, self.client, news);
            let resources = resource::config_resources(core, self.subject);
            let response = ConfigDiscoveryResponse { version_info, resources, type_url, nonce };
            return Reply::Config(Box::new(response));
        }
        let (version_info, nonce) = core.note_sent(self.now, self.client, news);
        let status = self.request.node.metadata.weir.as_ref();
        let resources = resource::route_configurations(core, &self.request.resource_names, status);
        Reply::Response(Box::new(DiscoveryResponse { version_info, resources, type_url, nonce }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_asked_for_by_prefer_or_metadata_and_is_bounded() {
        let plain = DiscoveryRequest::default();
        let mut stock = DiscoveryRequest::default();
        stock.node.metadata.hold = true;
        for (prefer, request, seconds) in [
            (None, &plain, 0),
            (Some("wait=10"), &plain, 10),
            (Some("respond-async, wait=5"), &plain, 5),
            (Some("wait=9999"), &plain, 30),
            (Some("wait=soon"), &plain, 0),
            (None, &stock, 30),
            (Some("wait=0"), &stock, 0),
        ] {
            assert_eq!(hold_of(prefer, request).as_secs(), seconds, "{prefer:?}");
        }
    }
}
