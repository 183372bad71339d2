//! The life of one request.
//!
//! Owns everything between a parsed head and the last byte of the answer. Reading order: this file (phases 1 to 5,
//! the same for HTTP/1 and HTTP/2), `retry.rs` and `attempt.rs` (phase 6, one endpoint after another), then the client's protocol:
//! `h1.rs`, `h1_respond.rs`, `h1_source.rs` or `h2.rs`, `h2_source.rs`, `h2_body.rs`. It must never change
//! configuration or state.

pub mod attempt;
pub mod h1;
pub mod h1_respond;
pub mod h1_source;
pub mod h2;
pub mod h2_body;
pub mod h2_source;
pub mod headers;
pub mod outbox;
pub mod pump;
pub mod record;
pub mod replay;
pub mod reply;
pub mod retry;
pub mod timer;
pub mod tunnel;

use crate::error::Failure;
use crate::router::{Route, RouteTarget, weighted};
use crate::worker::Worker;
use attempt::{Answer, Downstream};
use headers::Wishes;
use http1::Framing;
use record::{Choice, Record};
use timer::Timer;

/// Requests in flight on one worker. A worker has about 40 KiB for each before a 512 MB task is in danger.
pub const MAX_ACTIVE_REQUESTS: u32 = 8192;

/// Brings a request to the head of an upstream's answer, or says why there is none.
///
/// # Errors
/// [`Failure`]; the caller answers in its protocol.
pub async fn answer(
    record: &mut Record,
    wishes: Wishes,
    framing: Framing,
    client: &mut impl Downstream,
    timer: &mut Timer,
) -> Result<Answer, Failure> {
    // 1. One snapshot: everything below sees one version of routes, weights and endpoints.
    let current = record.current.clone();
    let manager = current.routes.listeners.get(record.listener).ok_or(Failure::NoRoute)?;

    // 2. Admission: new work is refused before anything is spent on it.
    if record.worker.active_requests.get() > MAX_ACTIVE_REQUESTS {
        return Err(Failure::Overloaded);
    }

    // 3. Sanitise and stamp.
    let worker = record.worker.clone();
    let seen = headers::stamp_request(&mut record.head, &manager.config, record.peer, &worker);
    worker.clients.note(record.listener, seen, &manager.listener_stats.clients);

    // 4. Virtual host and route.
    let head = &record.head;
    let authority =
        head.fields.get("host").and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
    let route = manager.virtual_hosts.find(authority, head.target(), &head.fields).ok_or(Failure::NoRoute)?;
    let idle = manager.config.stream_idle_timeout;
    timer.start_request(if wishes.upgrade { None } else { route.timeout }, (!idle.is_zero()).then_some(idle));
    if matches!(framing, Framing::None | Framing::Length(0)) {
        timer.request_complete();
    }

    // 5. The target: by the override header, else by one draw.
    let cluster = match route.target {
        RouteTarget::Cluster(index) => index,
        RouteTarget::Split(index) => {
            let choice = choose(record, route, index, &worker).ok_or(Failure::NoRoute)?;
            record.choose(choice);
            record.chosen().map(|(_, target, _)| target.cluster).ok_or(Failure::NoRoute)?
        }
    };
    headers::apply_route(&mut record.head, route, route.timeout, &worker);
    headers::frame_request(&mut record.head, framing);

    // 6. Endpoints, one after another, until one answers.
    if route.retry.is_some() {
        client.keep_body();
    }
    let mut answer =
        retry::run(record, (cluster, wishes.upgrade), route.retry.as_ref(), client, timer).await?;
    if let Some(name) = &route.target_header
        && let Some(cluster) = record.cluster()
    {
        answer.head.fields.set(name, cluster.name.as_bytes());
    }
    Ok(answer)
}

fn choose(record: &Record, route: &Route, index: usize, worker: &Worker) -> Option<Choice> {
    let split = record.current.splits.get(index)?;
    if let Some(name) = &route.override_header
        && let Some(value) = record.head.fields.get(name)
        && let Some(target) = split.targets.iter().position(|t| t.name.as_bytes() == value)
    {
        return Some(Choice { split: index, target, overridden: true });
    }
    let target = worker.with_rng(|rng| weighted::pick(split, &record.current.clusters, 0, rng))?;
    Some(Choice { split: index, target, overridden: false })
}
