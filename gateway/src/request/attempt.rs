//! Phase 6 of a request: one endpoint after another until one answers.
//!
//! Owns the loop over endpoints and the exchange up to the head of the answer. What may be repeated: a connect that
//! failed (nothing was sent), and an idempotent request without a body or with a small one, on a reused connection
//! that ended before its first byte; more only where the route says so (`retry.rs`). It must never write to the client. Next: `h1_respond.rs` and `h2.rs`, which
//! bring the answer to the client.

use super::headers::reuse_time;
use super::record::Record;
use super::replay::is_idempotent;
use super::timer::{Expired, Timer};
use crate::cluster::balance::{self, Tried};
use crate::cluster::{Cluster, Endpoint};
use crate::error::Failure;
use crate::io::{ConnectFailure, Stream};
use crate::router::weighted::{self, Excluded};
use crate::upstream::UpstreamConnection;
use crate::upstream::connect::{self, Unopened};
use crate::worker::{CAUTIOUS_READ, Worker};
use http1::{Framing, Limits, Parsed, RequestHead, ResponseHead, parse_response, response_framing};
use std::future::{Future as _, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Most bytes of an answer's head; backends are trusted further than clients, but not without end.
const MAX_RESPONSE_HEAD: usize = 128 * 1024;

/// What the pipeline needs of a client while it waits for an answer, whatever the client's protocol.
pub trait Downstream {
    /// Puts the head in front of what is to be sent, followed by what an earlier attempt has sent of the body.
    /// `last`: this attempt is not repeated.
    fn begin(&mut self, head: &RequestHead, last: bool);
    /// Moves the request's head and body upstream; ready when all of it was written.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        to: &mut Stream,
    ) -> Poll<Result<(), SendFailure>>;
    /// Ready when the client has left; armed while the answer is awaited.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// The route has a retry policy: a body is kept for another try whatever the method, as far as the limits go.
    fn keep_body(&mut self);
    /// The request can be sent again from its first byte: it has no body, or one that is kept.
    fn repeatable(&self) -> bool;
    /// The request has a body, which the upstream may take its time to read.
    fn has_body(&self) -> bool;
}

/// Why a request could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// The upstream takes no more; its answer may be there all the same.
    Upstream,
    /// The client's body broke the rules.
    Malformed,
    /// The client left.
    ClientGone,
}

/// An answer whose head has arrived.
pub struct Answer {
    /// Where its body comes from.
    pub connection: UpstreamConnection,
    /// Its head as it came.
    pub head: ResponseHead,
    /// How its body is framed.
    pub framing: Framing,
    /// All of the request was written.
    pub request_sent: bool,
    /// How long the connection may be kept afterwards; `None` = not at all.
    pub reuse: Option<Duration>,
}

/// An [`Answer`] without its connection.
struct Begun {
    head: ResponseHead,
    framing: Framing,
    request_sent: bool,
    reuse: Option<Duration>,
}

/// Why one attempt failed.
enum AttemptFailure {
    /// A reused connection ended before the first byte: it had been closed while idle.
    Stale,
    /// Anything else.
    Final(Failure),
}

impl AttemptFailure {
    /// Whether it says anything about the version. A client that leaves or sends nonsense must not be able to make one
    /// look bad.
    fn is_the_upstreams(&self) -> bool {
        let of_client =
            matches!(self, Self::Final(Failure::ClientGone | Failure::MalformedBody | Failure::IdleTimeout));
        !of_client && !matches!(self, Self::Stale)
    }
}

/// Tries endpoints of a cluster, then of other targets of the split, until one answers.
///
/// # Errors
/// [`Failure`] of the last attempt.
pub async fn run(
    record: &mut Record,
    mut cluster: usize,
    upgrade: bool,
    client: &mut impl Downstream,
    timer: &mut Timer,
) -> Result<Answer, Failure> {
    let current = record.current.clone();
    let worker = Rc::clone(&record.worker);
    let idempotent = client.repeatable() && is_idempotent(record.head.method()) && !upgrade;
    let mut excluded: Excluded = 0;
    let mut failure = Failure::NoHealthyUpstream;
    'targets: loop {
        let here = current.clusters.get(cluster).ok_or(Failure::NoRoute)?;
        if !record.enter_cluster(cluster) {
            // Nothing was sent: a version that is full is no reason to fail a request that another can serve.
            record.first_attempt_failed = true;
            match another_target(record, here, &mut excluded, &worker) {
                Some(next) => cluster = next,
                None => return Err(Failure::Overflow),
            }
            continue 'targets;
        }
        let mut tried = Tried::default();
        let mut fresh_only = false;
        while let Some(endpoint) = pick_endpoint(here, (&tried, &record.avoid), &worker) {
            let endpoint = Arc::clone(endpoint);
            record.enter_endpoint(&endpoint);
            let watched = (&mut *client, &mut *timer);
            let opened = open(&worker, here, &endpoint, (idempotent, fresh_only), watched).await;
            let mut connection = match opened {
                Ok(connection) => connection,
                Err(Opening::Final(failure)) => return Err(failure),
                Err(Opening::TryNext(next)) => {
                    record.attempt_failed();
                    record.retry();
                    tried.add(endpoint.id);
                    failure = next;
                    continue;
                }
            };
            record.move_to_endpoint(&connection.endpoint);
            match exchange(record, &mut connection, client, timer).await {
                Ok(Begun { head, framing, request_sent, reuse }) => {
                    connection.endpoint.trust();
                    return Ok(Answer { connection, head, framing, request_sent, reuse });
                }
                Err(AttemptFailure::Stale) if idempotent && !fresh_only => {
                    record.retry();
                    fresh_only = true;
                }
                Err(AttemptFailure::Stale) => {
                    record.attempt_failed();
                    return Err(Failure::UpstreamTerminated);
                }
                Err(AttemptFailure::Final(failure)) => return Err(failure),
            }
        }
        // Nothing of this target accepts a connection, so nothing was sent: another target may have the request.
        match another_target(record, here, &mut excluded, &worker) {
            Some(next) => cluster = next,
            None => break 'targets,
        }
    }
    Err(failure)
}

fn pick_endpoint<'a>(
    cluster: &'a Cluster,
    (tried, avoid): (&Tried, &Tried),
    worker: &Worker,
) -> Option<&'a Arc<Endpoint>> {
    if tried.count() >= balance::MAX_TRIES {
        return None;
    }
    let key = Arc::as_ptr(&cluster.shared).cast::<()>();
    worker.with_position(key, |at| worker.with_rng(|rng| balance::pick(cluster, (tried, avoid), at, rng)))
}

/// Another target of the same split that can answer. Only a health-aware split goes beyond the drawn target, and an
/// overridden request never does: who names a target wants to see that one.
fn another_target(
    record: &Record,
    here: &Arc<Cluster>,
    excluded: &mut Excluded,
    worker: &Worker,
) -> Option<usize> {
    let (split, _, choice) = record.chosen()?;
    if !split.health_aware || choice.overridden {
        return None;
    }
    let clusters = &record.current.clusters;
    let same = |at: &usize| {
        split.targets.get(*at).and_then(|t| clusters.get(t.cluster)).is_some_and(|c| Arc::ptr_eq(c, here))
    };
    for position in (0..split.targets.len()).filter(same) {
        *excluded |= weighted::bit(position);
    }
    let next = worker.with_rng(|rng| weighted::pick(split, clusters, *excluded, rng))?;
    let target = split.targets.get(next)?;
    clusters.get(target.cluster).filter(|cluster| cluster.usable())?;
    Some(target.cluster)
}

enum Opening {
    TryNext(Failure),
    Final(Failure),
}

/// An idle connection, else a new one; meanwhile the client and the clock are watched.
async fn open(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    (idempotent, fresh_only): (bool, bool),
    (client, timer): (&mut impl Downstream, &mut Timer),
) -> Result<UpstreamConnection, Opening> {
    // Who waits for a connection came first.
    let nobody_waits = cluster.shared.waiting_requests.load(Relaxed) == 0;
    if nobody_waits
        && !fresh_only
        && let Some(idle) = worker.pools.checkout(endpoint.id, idempotent)
    {
        return Ok(idle);
    }
    let connecting = connect::open(worker, cluster, endpoint, idempotent);
    tokio::pin!(connecting);
    poll_fn(|cx| {
        if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(|failure| match failure {
                Unopened::Connect(ConnectFailure::Failed | ConnectFailure::Local) => {
                    Opening::TryNext(Failure::ConnectFailed)
                }
                Unopened::Connect(ConnectFailure::TimedOut) => Opening::TryNext(Failure::ConnectTimeout),
                Unopened::Overflow => Opening::TryNext(Failure::Overflow),
            }));
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Opening::Final(Failure::ClientGone)));
        }
        timer.poll(cx).map(|expired| Err(Opening::Final(expiry(expired, true))))
    })
    .await
}

/// `sent`: the client has done its part.
pub(super) fn expiry(expired: Expired, sent: bool) -> Failure {
    match expired {
        Expired::Whole => Failure::RouteTimeout,
        Expired::Try => Failure::PerTryTimeout,
        Expired::Idle if sent => Failure::UpstreamIdleTimeout,
        Expired::Idle => Failure::IdleTimeout,
    }
}

/// Sends the request and waits for the head of the answer.
async fn exchange(
    record: &mut Record,
    connection: &mut UpstreamConnection,
    client: &mut impl Downstream,
    timer: &mut Timer,
) -> Result<Begun, AttemptFailure> {
    let worker = Rc::clone(&record.worker);
    client.begin(&record.head, !connection.reused && !record.may_repeat);
    connection.busy = true;
    connection.stream.set_patient(client.has_body());
    let mut head = worker.take_response();
    let mut reading = Reading::new(limits(record));
    let got =
        poll_fn(|cx| reading.poll(cx, &worker, connection, &mut head, (&mut *client, &mut *timer))).await;
    if let Err(failure) = got {
        worker.give_response(head);
        if failure.is_the_upstreams() {
            record.attempt_failed();
        }
        return Err(failure);
    }
    record.service_time = Some(reading.sent_at.elapsed());
    let framing = match response_framing(&head, record.head.method() == "HEAD") {
        Ok(framing) => framing,
        Err(_) => {
            record.attempt_failed();
            return Err(AttemptFailure::Final(Failure::UpstreamProtocol));
        }
    };
    // After a 101 nobody asked for, the bytes mean something else.
    let last = framing == Framing::UntilClose || head.status == 101;
    let reuse = if last { None } else { reuse_time(&head.fields, head.http10) };
    Ok(Begun { head, framing, request_sent: reading.sent, reuse })
}

fn limits(record: &Record) -> Limits {
    let default = Limits::default();
    let most = record.manager().map_or(default.max_headers, |manager| manager.config.max_headers_count);
    Limits { max_headers: most, max_head_bytes: MAX_RESPONSE_HEAD }
}

/// Where the exchange of one attempt stands.
struct Reading {
    sent: bool,
    write_failed: bool,
    /// At least one byte of an answer has come, if only of an interim one.
    heard: bool,
    sent_at: Instant,
    limits: Limits,
}

impl Reading {
    fn new(limits: Limits) -> Self {
        Self { sent: false, write_failed: false, heard: false, sent_at: Instant::now(), limits }
    }

    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        connection: &mut UpstreamConnection,
        head: &mut ResponseHead,
        (client, timer): (&mut D, &mut Timer),
    ) -> Poll<Result<(), AttemptFailure>> {
        let fail = |failure| Poll::Ready(Err(AttemptFailure::Final(failure)));
        if !self.sent && !self.write_failed {
            match client.poll_send(cx, timer, &mut connection.stream) {
                Poll::Ready(Ok(())) => {
                    self.sent = true;
                    self.sent_at = Instant::now();
                    timer.request_complete();
                }
                Poll::Ready(Err(SendFailure::Upstream)) => self.write_failed = true,
                Poll::Ready(Err(SendFailure::Malformed)) => return fail(Failure::MalformedBody),
                Poll::Ready(Err(SendFailure::ClientGone)) => return fail(Failure::ClientGone),
                Poll::Pending => {}
            }
        }
        if self.sent && client.poll_gone(cx).is_ready() {
            return fail(Failure::ClientGone);
        }
        match self.poll_head(cx, worker, connection, head) {
            Poll::Ready(result) => {
                timer.touch();
                Poll::Ready(result)
            }
            Poll::Pending => {
                timer.poll(cx).map(|expired| Err(AttemptFailure::Final(expiry(expired, self.sent))))
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        connection: &mut UpstreamConnection,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), AttemptFailure>> {
        loop {
            let read = worker.with_scratch(|scratch| {
                let Some(space) = scratch.get_mut(..CAUTIOUS_READ) else { return Poll::Pending };
                match connection.stream.poll_read(cx, space) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(_)) => Poll::Ready(None),
                    Poll::Ready(Ok(count)) => {
                        let got = space.get(..count).filter(|got| !got.is_empty());
                        if got.is_some() && connection.leftover.capacity() == 0 {
                            connection.leftover = worker.take_buffer();
                        }
                        Poll::Ready(got.map(|got| connection.leftover.extend_from_slice(got)))
                    }
                }
            });
            let Poll::Ready(read) = read else { return Poll::Pending };
            if read.is_none() {
                connection.ended_by_peer = true;
                return Poll::Ready(Err(self.ended(connection)));
            }
            self.heard = true;
            match self.parse(connection, head) {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(()) => return Poll::Ready(Err(AttemptFailure::Final(Failure::UpstreamProtocol))),
            }
        }
    }

    /// The upstream ended or reset without a whole head.
    fn ended(&self, connection: &UpstreamConnection) -> AttemptFailure {
        if !connection.leftover.is_empty() {
            AttemptFailure::Final(Failure::UpstreamProtocol)
        } else if connection.reused && !self.heard {
            AttemptFailure::Stale
        } else {
            AttemptFailure::Final(Failure::UpstreamTerminated)
        }
    }

    /// True when the head of the final answer is complete; interim answers are passed over (100 and 103 are
    /// swallowed as Envoy does).
    fn parse(&self, connection: &mut UpstreamConnection, head: &mut ResponseHead) -> Result<bool, ()> {
        loop {
            match parse_response(&connection.leftover, &self.limits, head) {
                Ok(Parsed::Partial) => return Ok(false),
                Ok(Parsed::Complete(length)) => {
                    connection.leftover.drain(..length);
                    if head.status >= 200 || head.status == 101 {
                        return Ok(true);
                    }
                    head.clear();
                }
                Err(_) => return Err(()),
            }
        }
    }
}
