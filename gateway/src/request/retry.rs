//! A request is tried again when its route says so.
//!
//! Owns Envoy's retry policy: what it covers, how often, how long between, and what limits it (Envoy: router filter,
//! `retry_on`). It must never repeat a request whose body is not kept, nor one whose answer has begun at the client.
//! Next: `attempt.rs`, one try.

use super::attempt::{self, Answer, Downstream};
use super::record::Record;
use super::timer::Timer;
use crate::cluster::Cluster;
use crate::error::{Failure, Reset};
use crate::worker::Worker;
use gateway_config::model::{RetryOn, RetryPolicy};
use http1::ResponseHead;
use rand::RngExt;
use std::future::{Future as _, poll_fn};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

/// Envoy's default `retry_back_off.base_interval`.
const BASE_INTERVAL_MS: u64 = 25;
/// Envoy's default `retry_back_off.max_interval`: ten times the base.
const MAX_INTERVAL_MS: u64 = 250;

/// Brings the request to an answer, with as many tries as `policy` allows.
///
/// # Errors
/// [`Failure`] of the last try.
pub async fn run(
    record: &mut Record,
    (mut cluster, upgrade): (usize, bool),
    policy: Option<&RetryPolicy>,
    client: &mut impl Downstream,
    timer: &mut Timer,
) -> Result<Answer, Failure> {
    let policy = policy.filter(|_| !upgrade);
    let mut slot: Option<Slot> = None;
    let mut tries = 0;
    loop {
        tries += 1;
        record.may_repeat = policy.is_some_and(|policy| tries <= policy.num_retries);
        timer.start_try(policy.and_then(|policy| policy.per_try_timeout).filter(|limit| !limit.is_zero()));
        // The only await of a try, and nothing but the slot lives over it: each byte here is one of every connection.
        let outcome = attempt::run(record, cluster, upgrade, client, timer).await;
        timer.end_try();
        drop(slot.take());
        match judge(record, policy, client, outcome) {
            Judged::Break(outcome) => return outcome,
            Judged::Continue(next) => slot = Some(next),
        }
        // A connect may have failed over to another target before.
        cluster = record.cluster_index().unwrap_or(cluster);
        back_off(record, tries, client, timer).await?;
    }
}

/// What comes after a try: its outcome, or another one.
type Judged = ControlFlow<Result<Answer, Failure>, Slot>;

fn judge(
    record: &mut Record,
    policy: Option<&RetryPolicy>,
    client: &impl Downstream,
    outcome: Result<Answer, Failure>,
) -> Judged {
    let Some(policy) = policy.filter(|policy| covers(policy, &outcome)) else {
        return Judged::Break(outcome);
    };
    // The last try keeps no body, so this is asked first.
    if !record.may_repeat {
        return Judged::Break(exhausted(record, outcome, policy.num_retries));
    }
    if !client.repeatable() {
        return Judged::Break(outcome);
    }
    let Some(slot) = Slot::take(record) else {
        record.retry_overflow();
        return Judged::Break(outcome);
    };
    note(record, &outcome);
    // The connection of a discarded answer is closed with it: what is left of the body would have to be read first.
    Judged::Continue(slot)
}

/// What was not sent on is counted apart, and the next try prefers another endpoint (Envoy: `previous_hosts`).
fn note(record: &mut Record, outcome: &Result<Answer, Failure>) {
    match outcome {
        Ok(answer) => {
            if answer.head.status >= 500 {
                record.attempt_failed();
            }
            record.discarded(answer.head.status);
        }
        Err(failure) => record.count_failure(*failure),
    }
    record.avoid_endpoint();
    record.retry();
}

/// The last try was no good either: its answer is passed on as it is, a failure says that it was the last.
fn exhausted(record: &mut Record, outcome: Result<Answer, Failure>, retries: u32) -> Result<Answer, Failure> {
    if retries == 0 {
        return outcome;
    }
    record.retries_exhausted();
    outcome.map_err(|failure| match Reset::of(failure) {
        Some(reset) => Failure::RetriesExhausted(reset),
        None => failure,
    })
}

fn covers(policy: &RetryPolicy, outcome: &Result<Answer, Failure>) -> bool {
    match outcome {
        Ok(answer) => policy.retry_on.iter().any(|on| covers_answer(policy, *on, &answer.head)),
        Err(failure) => policy.retry_on.iter().any(|on| covers_failure(*on, *failure)),
    }
}

fn covers_answer(policy: &RetryPolicy, on: RetryOn, head: &ResponseHead) -> bool {
    if head.fields.get("x-envoy-ratelimited").is_some() {
        return false;
    }
    match on {
        RetryOn::FiveXx => (500..600).contains(&head.status),
        RetryOn::GatewayError => (502..=504).contains(&head.status),
        RetryOn::Retriable4xx => head.status == 409,
        RetryOn::RetriableStatusCodes => policy.retriable_status_codes.contains(&head.status),
        RetryOn::Grpc(code) => {
            let status = head.fields.get("grpc-status").and_then(|value| std::str::from_utf8(value).ok());
            status.and_then(|status| status.parse::<u8>().ok()) == Some(code)
        }
        RetryOn::Reset | RetryOn::ConnectFailure | RetryOn::RefusedStream => false,
    }
}

fn covers_failure(on: RetryOn, failure: Failure) -> bool {
    match failure {
        Failure::ConnectFailed | Failure::ConnectTimeout => {
            matches!(on, RetryOn::ConnectFailure | RetryOn::Reset | RetryOn::FiveXx | RetryOn::GatewayError)
        }
        Failure::UpstreamTerminated | Failure::UpstreamProtocol | Failure::PerTryTimeout => {
            matches!(on, RetryOn::Reset | RetryOn::FiveXx | RetryOn::GatewayError)
        }
        _ => false,
    }
}

/// Full jitter over a bound that doubles with each try (Envoy: `JitteredExponentialBackOffStrategy`); the client and
/// the route's time are watched meanwhile.
async fn back_off(
    record: &Record,
    tries: u32,
    client: &mut impl Downstream,
    timer: &mut Timer,
) -> Result<(), Failure> {
    let wait = interval(tries, &record.worker);
    let mut sleep = Box::pin(tokio::time::sleep(wait));
    poll_fn(|cx| {
        if sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        timer.poll(cx).map(|expired| Err(attempt::expiry(expired, true)))
    })
    .await
}

fn interval(tries: u32, worker: &Rc<Worker>) -> Duration {
    let bound = BASE_INTERVAL_MS.saturating_mul((1_u64 << tries.min(16)) - 1).min(MAX_INTERVAL_MS);
    Duration::from_millis(worker.with_rng(|rng| rng.random_range(0..bound)))
}

/// One of the cluster's retries in flight.
struct Slot {
    cluster: Arc<Cluster>,
}

impl Slot {
    fn take(record: &Record) -> Option<Self> {
        let cluster = Arc::clone(record.cluster()?);
        let active = cluster.shared.active_retries.fetch_add(1, Relaxed);
        let slot = Self { cluster };
        (active < slot.cluster.config.circuit_breakers.max_retries).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.cluster.shared.active_retries.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retry_on: &[RetryOn]) -> RetryPolicy {
        let retry_on = retry_on.to_vec();
        RetryPolicy { retry_on, num_retries: 1, per_try_timeout: None, retriable_status_codes: vec![404] }
    }

    fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead { status, ..ResponseHead::default() };
        fields.iter().for_each(|(name, value)| head.fields.push(name, value.as_bytes()));
        head
    }

    #[test]
    fn each_word_covers_the_answers_that_it_covers_in_envoy() {
        for (on, covered) in [
            (RetryOn::FiveXx, vec![500, 503, 599]),
            (RetryOn::GatewayError, vec![502, 503, 504]),
            (RetryOn::Retriable4xx, vec![409]),
            (RetryOn::RetriableStatusCodes, vec![404]),
            (RetryOn::Reset, vec![]),
            (RetryOn::ConnectFailure, vec![]),
        ] {
            let policy = policy(&[on]);
            let all: Vec<u16> =
                (200..600).filter(|status| covers_answer(&policy, on, &head(*status, &[]))).collect();
            let wanted: Vec<u16> = if on == RetryOn::FiveXx { (500..600).collect() } else { covered };
            assert_eq!(all, wanted, "{on:?}");
        }
    }

    #[test]
    fn a_rate_limited_answer_is_never_repeated_and_a_grpc_status_counts_in_the_head_only() {
        let unavailable = RetryOn::Grpc(14);
        let policy = policy(&[RetryOn::FiveXx, unavailable]);
        let limited = head(503, &[("x-envoy-ratelimited", "true")]);
        assert!(!covers_answer(&policy, RetryOn::FiveXx, &limited));
        assert!(covers_answer(&policy, unavailable, &head(200, &[("grpc-status", "14")])));
        assert!(!covers_answer(&policy, unavailable, &head(200, &[("grpc-status", "0")])));
        assert!(!covers_answer(&policy, unavailable, &head(200, &[])));
    }

    #[test]
    fn a_connect_failure_is_no_close_after_the_request_was_sent() {
        assert!(covers_failure(RetryOn::ConnectFailure, Failure::ConnectFailed));
        assert!(!covers_failure(RetryOn::ConnectFailure, Failure::UpstreamTerminated));
        assert!(covers_failure(RetryOn::Reset, Failure::UpstreamTerminated));
        for failure in [Failure::RouteTimeout, Failure::Overflow, Failure::ClientGone, Failure::NoRoute] {
            assert!(!covers_failure(RetryOn::FiveXx, failure), "{failure:?}");
        }
    }
}
