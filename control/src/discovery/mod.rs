//! Envoy's REST discovery of routes: `POST /v3/discovery:routes`.
//!
//! Owns the holding of requests; it must never decide what a client may have (that is `core/`) and never let one
//! client wait for another: the core is locked only between two awaits. Next: `resource.rs`.

pub mod resource;

use crate::core::fleet::Client;
use crate::core::{Answer, Core, Now};
use crate::shared::Shared;
use gateway_config::wire::{DiscoveryRequest, DiscoveryResponse, MAX_HOLD_SECONDS, ROUTE_TYPE_URL};
use std::time::Duration;

/// What a discovery request is answered with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// 200.
    Response(Box<DiscoveryResponse>),
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

/// Answers one request, at once or when there is something to say, after `hold` at the latest.
pub async fn answer(shared: &Shared, peer: &str, request: &DiscoveryRequest, hold: Duration) -> Reply {
    let mut changes = shared.subscribe_version();
    let client = match shared.hear(peer, request) {
        Ok(client) => client,
        Err(full) => return Reply::Unavailable(full.to_string()),
    };
    let deadline = tokio::time::Instant::now() + hold;
    loop {
        // Seen before the question, so that a change in between wakes the wait below.
        changes.borrow_and_update();
        let now = shared.now();
        let mut wake = deadline;
        let reply = shared.with_core(|core| match core.answer(now, &client, request) {
            Answer::Send => Some(respond(core, now, &client, request, true)),
            Answer::Fenced(text) => Some(Reply::Unavailable(text)),
            Answer::Current if client.first_goodbye => Some(respond(core, now, &client, request, false)),
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
    let now = shared.now();
    shared.with_core(|core| match core.answer(now, &client, request) {
        Answer::Send => respond(core, now, &client, request, true),
        Answer::Current => respond(core, now, &client, request, false),
        Answer::Nothing(_) => Reply::NotModified,
        Answer::Fenced(text) => Reply::Unavailable(text),
        Answer::Unknown => Reply::Unavailable("the weights are not known yet".to_owned()),
    })
}

fn respond(core: &mut Core, now: Now, client: &Client, request: &DiscoveryRequest, news: bool) -> Reply {
    let (version_info, nonce) = core.note_sent(now, client, news);
    Reply::Response(Box::new(DiscoveryResponse {
        version_info,
        resources: resource::route_configurations(
            core,
            &request.resource_names,
            request.node.metadata.weir.as_ref(),
        ),
        type_url: ROUTE_TYPE_URL.to_owned(),
        nonce,
    }))
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
