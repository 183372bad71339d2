//! What is known of one request, and its one place in every count.
//!
//! Owns the guard that, when dropped, closes statistics, evidence and access log: every request is counted exactly
//! once, however it ends. It must never decide anything. Next: `headers.rs`.

use crate::access_log::Entry;
use crate::cluster::balance::{MAX_TRIES, Tried};
use crate::cluster::{Cluster, Endpoint};
use crate::error::{Failure, Reset};
use crate::response_flags::ResponseFlags;
use crate::state::snapshot::{HttpManager, Split, SplitIndex, Target};
use crate::stats::names::{ClusterStat, HttpStat, TargetStat};
use crate::worker::{Current, Worker};
use http1::RequestHead;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

/// Which target a weighted route gave a request to.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Split.
    pub split: SplitIndex,
    /// Position among its targets.
    pub target: usize,
    /// By the override header: no evidence.
    pub overridden: bool,
}

/// One request from its head to its end.
pub struct Record {
    /// Who serves it.
    pub worker: Rc<Worker>,
    /// The version of everything that it sees.
    pub current: Current,
    /// Position of its listener.
    pub listener: usize,
    /// Its head, rewritten in place for the upstream.
    pub head: RequestHead,
    /// The client.
    pub peer: SocketAddr,
    /// When its head had arrived.
    pub start: Instant,
    start_time: SystemTime,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Status sent; 0 = none.
    pub status: u16,
    /// Why it ended so.
    pub flags: ResponseFlags,
    /// Body bytes from the client.
    pub received: u64,
    /// Body bytes to the client.
    pub sent: u64,
    /// From the request's last byte upstream to the first of the answer.
    pub service_time: Option<Duration>,
    /// The drawn (or named) target, whatever happened later.
    pub choice: Option<Choice>,
    /// It was sent, or meant to be sent, more than once.
    retried: bool,
    /// The route allows another try after this one: a kept body stays kept.
    pub may_repeat: bool,
    /// Endpoints whose answers were not passed on, or that gave none; they are taken again when there is no other.
    pub avoid: Tried,
    /// The client did not take what was there when the time was over.
    pub client_stalled: bool,
    /// The outcome of the first attempt at the drawn target was an error.
    pub first_attempt_failed: bool,
    /// The cluster that it is with now.
    cluster: Option<usize>,
    /// The endpoint that it is with now.
    endpoint: Option<Arc<Endpoint>>,
    /// The outcome at that endpoint is counted already.
    endpoint_counted: bool,
}

impl Record {
    /// A request whose head has just arrived.
    pub fn new(
        worker: &Rc<Worker>,
        current: Current,
        (listener, peer): (usize, SocketAddr),
        head: RequestHead,
        protocol: &'static str,
    ) -> Self {
        let record = Self {
            worker: Rc::clone(worker),
            current,
            listener,
            head,
            peer,
            start: Instant::now(),
            start_time: SystemTime::now(),
            protocol,
            status: 0,
            flags: ResponseFlags::NONE,
            received: 0,
            sent: 0,
            service_time: None,
            choice: None,
            retried: false,
            may_repeat: false,
            avoid: Tried::default(),
            client_stalled: false,
            first_attempt_failed: false,
            cluster: None,
            endpoint: None,
            endpoint_counted: false,
        };
        worker.active_requests.set(worker.active_requests.get() + 1);
        worker.note_work();
        record.count(HttpStat::DownstreamRqTotal);
        record.count(HttpStat::RqTotal);
        record.count_by(
            protocol == "HTTP/2",
            HttpStat::DownstreamRqHttp2Total,
            HttpStat::DownstreamRqHttp1Total,
        );
        if let Some(manager) = record.manager() {
            manager.stats.scope.inc(worker.shard, HttpStat::DownstreamRqActive);
        }
        record
    }

    /// The manager that serves it.
    pub fn manager(&self) -> Option<&HttpManager> {
        self.current.routes.listeners.get(self.listener).map(AsRef::as_ref)
    }

    /// Counts in the manager's statistics.
    pub fn count(&self, stat: HttpStat) {
        if let Some(manager) = self.manager() {
            manager.stats.scope.inc(self.worker.shard, stat);
        }
    }

    fn count_by(&self, first: bool, stat: HttpStat, other: HttpStat) {
        self.count(if first { stat } else { other });
    }

    /// The split and target that it was given to.
    pub fn chosen(&self) -> Option<(&Split, &Target, Choice)> {
        let choice = self.choice?;
        let split = self.current.splits.get(choice.split)?;
        Some((split, split.targets.get(choice.target)?, choice))
    }

    /// Fixes the target that the draw or the override gave.
    pub fn choose(&mut self, choice: Choice) {
        self.choice = Some(choice);
        if let Some((_, target, _)) = self.chosen() {
            target.stats.scope.inc(self.worker.shard, TargetStat::Active);
        }
    }

    /// The cluster that it is with now.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.current.clusters.get(self.cluster?)
    }

    /// Moves it to a cluster, under its breaker; false = the breaker is open.
    pub fn enter_cluster(&mut self, index: usize) -> bool {
        self.leave_endpoint();
        self.leave_cluster();
        let Some(cluster) = self.current.clusters.get(index) else { return false };
        let scope = &cluster.shared.stats.scope;
        let active = cluster.shared.active_requests.fetch_add(1, Relaxed);
        if active >= cluster.config.circuit_breakers.max_requests {
            cluster.shared.active_requests.fetch_sub(1, Relaxed);
            scope.inc(self.worker.shard, ClusterStat::UpstreamRqPendingOverflow);
            return false;
        }
        scope.inc(self.worker.shard, ClusterStat::UpstreamRqActive);
        self.cluster = Some(index);
        true
    }

    /// Moves it to an endpoint.
    pub fn enter_endpoint(&mut self, endpoint: &Arc<Endpoint>) {
        self.leave_endpoint();
        endpoint.active_requests.fetch_add(1, Relaxed);
        endpoint.requests.fetch_add(1, Relaxed);
        self.endpoint = Some(Arc::clone(endpoint));
        self.endpoint_counted = false;
        if let Some(cluster) = self.cluster() {
            cluster.shared.stats.scope.inc(self.worker.shard, ClusterStat::UpstreamRqTotal);
        }
    }

    /// Moves it to the endpoint of the connection that it was given instead of the one it asked for.
    pub fn move_to_endpoint(&mut self, endpoint: &Arc<Endpoint>) {
        if self.endpoint.as_ref().is_some_and(|asked| asked.id != endpoint.id) {
            self.leave_endpoint();
            endpoint.active_requests.fetch_add(1, Relaxed);
            endpoint.requests.fetch_add(1, Relaxed);
            self.endpoint = Some(Arc::clone(endpoint));
        }
    }

    fn leave_cluster(&mut self) {
        if let Some(cluster) = self.cluster() {
            cluster.shared.active_requests.fetch_sub(1, Relaxed);
            cluster.shared.stats.scope.dec(self.worker.shard, ClusterStat::UpstreamRqActive);
        }
        self.cluster = None;
    }

    fn leave_endpoint(&mut self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.active_requests.fetch_sub(1, Relaxed);
        }
        self.endpoint = None;
    }

    /// Counts that it goes to another endpoint or connection.
    pub fn retry(&mut self) {
        self.retried = true;
        self.count_in_cluster(ClusterStat::UpstreamRqRetry);
    }

    /// Position of the cluster that it is with now.
    pub fn cluster_index(&self) -> Option<usize> {
        self.cluster
    }

    /// Counts an answer that is not passed on, because another try follows.
    pub fn discarded(&mut self, status: u16) {
        let stat = match status / 100 {
            2 => ClusterStat::RetryUpstreamRq2xx,
            3 => ClusterStat::RetryUpstreamRq3xx,
            4 => ClusterStat::RetryUpstreamRq4xx,
            _ => ClusterStat::RetryUpstreamRq5xx,
        };
        self.count_in_cluster(stat);
    }

    /// The next try prefers other endpoints than the present one.
    pub fn avoid_endpoint(&mut self) {
        if let Some(endpoint) = &self.endpoint {
            self.avoid.add(endpoint.id);
        }
        if self.avoid.count() >= MAX_TRIES {
            self.avoid = Tried::default();
        }
    }

    /// The cluster has as many retries in flight as it may have.
    pub fn retry_overflow(&mut self) {
        self.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
        self.count_in_cluster(ClusterStat::UpstreamRqRetryOverflow);
    }

    /// No try is left.
    pub fn retries_exhausted(&mut self) {
        self.flags.insert(ResponseFlags::RETRY_LIMIT_EXCEEDED);
        self.count_in_cluster(ClusterStat::UpstreamRqRetryLimitExceeded);
    }

    /// Notes that an attempt at the present endpoint failed.
    pub fn attempt_failed(&mut self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.errors.fetch_add(1, Relaxed);
        }
        self.endpoint_counted = true;
        self.first_attempt_failed = true;
    }

    /// Notes an answer made here. Statistics that only a failure moves are counted where it is known: here.
    pub fn fail(&mut self, failure: Failure) {
        let reply = failure.reply();
        self.status = reply.status;
        self.flags.insert(reply.flags);
        match failure {
            Failure::NoRoute => self.count(HttpStat::NoRoute),
            Failure::Overloaded => self.count(HttpStat::DownstreamRqOverloadClose),
            Failure::HeadTimeout => self.count(HttpStat::DownstreamRqHeaderTimeout),
            Failure::IdleTimeout | Failure::UpstreamIdleTimeout => {
                self.count(HttpStat::DownstreamRqIdleTimeout)
            }
            Failure::RouteTimeout => self.count(HttpStat::DownstreamRqTimeout),
            Failure::ClientGone => {
                self.count(HttpStat::DownstreamRqRxReset);
                self.count(HttpStat::DownstreamCxDestroyRemoteActiveRq);
            }
            Failure::Malformed(_) | Failure::MalformedBody => self.count(HttpStat::DownstreamCxProtocolError),
            _ => {}
        }
        self.count_failure(failure);
    }

    /// Counts a failure in the cluster that it is with now, whether it reaches the client or is repeated.
    pub fn count_failure(&self, failure: Failure) {
        let stat = match failure {
            Failure::RouteTimeout => ClusterStat::UpstreamRqTimeout,
            Failure::PerTryTimeout => ClusterStat::UpstreamRqPerTryTimeout,
            Failure::ClientGone => ClusterStat::UpstreamRqCancelled,
            Failure::UpstreamTerminated | Failure::RetriesExhausted(Reset::Terminated) => {
                ClusterStat::UpstreamRqRxReset
            }
            Failure::UpstreamProtocol | Failure::RetriesExhausted(Reset::Protocol) => {
                ClusterStat::UpstreamCxProtocolError
            }
            Failure::NoHealthyUpstream => ClusterStat::UpstreamCxNoneHealthy,
            Failure::ConnectFailed | Failure::ConnectTimeout | Failure::RetriesExhausted(_) => {
                ClusterStat::UpstreamRqPendingFailureEject
            }
            _ => return,
        };
        self.count_in_cluster(stat);
    }

    /// Counts in the statistics of the cluster that it is with now.
    pub fn count_in_cluster(&self, stat: ClusterStat) {
        if let Some(cluster) = self.cluster() {
            cluster.shared.stats.scope.inc(self.worker.shard, stat);
        }
    }

    fn close_http(&self, micros: u64) {
        let Some(manager) = self.manager() else { return };
        let scope = &manager.stats.scope;
        scope.dec(self.worker.shard, HttpStat::DownstreamRqActive);
        scope.inc(self.worker.shard, HttpStat::DownstreamRqCompleted);
        manager.stats.rq_time.record(self.worker.shard, micros);
        let class = match self.status / 100 {
            1 => HttpStat::DownstreamRq1xx,
            2 => HttpStat::DownstreamRq2xx,
            3 => HttpStat::DownstreamRq3xx,
            4 => HttpStat::DownstreamRq4xx,
            5 => HttpStat::DownstreamRq5xx,
            _ => return,
        };
        scope.inc(self.worker.shard, class);
    }

    fn close_cluster(&self, micros: u64) {
        let Some(cluster) = self.cluster() else { return };
        let (stats, shard) = (&cluster.shared.stats, self.worker.shard);
        if let Some(endpoint) = self.endpoint.as_ref().filter(|_| !self.endpoint_counted) {
            let cell = match self.status {
                // The client left: nobody knows how the endpoint would have answered.
                0 => None,
                1..500 => Some(&endpoint.successes),
                _ => Some(&endpoint.errors),
            };
            cell.inspect(|cell| {
                cell.fetch_add(1, Relaxed);
            });
        }
        let class = match self.status / 100 {
            1 => ClusterStat::UpstreamRq1xx,
            2 => ClusterStat::UpstreamRq2xx,
            3 => ClusterStat::UpstreamRq3xx,
            4 => ClusterStat::UpstreamRq4xx,
            5 => ClusterStat::UpstreamRq5xx,
            _ => return,
        };
        stats.scope.inc(shard, class);
        if self.retried && self.status < 500 {
            stats.scope.inc(shard, ClusterStat::UpstreamRqRetrySuccess);
        }
        stats.scope.inc(shard, ClusterStat::UpstreamRqCompleted);
        stats.scope.code(shard, self.status);
        stats.rq_time.record(shard, micros);
    }

    /// The answer had begun and the upstream did not bring it to its end. A client that takes nothing is not that.
    fn cut_by_upstream(&self) -> bool {
        let silent = self.flags.contains(ResponseFlags::UPSTREAM_TIMEOUT)
            || self.flags.contains(ResponseFlags::STREAM_IDLE_TIMEOUT);
        self.flags.contains(ResponseFlags::UPSTREAM_PROTOCOL_ERROR) || (silent && !self.client_stalled)
    }

    /// Evidence: once, for the version that the draw gave, with the outcome of the first attempt there.
    fn close_target(&self, micros: u64) {
        let Some((_, target, choice)) = self.chosen() else { return };
        let (scope, shard) = (&target.stats.scope, self.worker.shard);
        scope.dec(shard, TargetStat::Active);
        if choice.overridden {
            scope.inc(shard, TargetStat::Overridden);
            return;
        }
        scope.inc(shard, TargetStat::Requests);
        let upstream_cut = self.cut_by_upstream();
        if self.first_attempt_failed || self.status >= 500 || upstream_cut {
            scope.inc(shard, TargetStat::Errors);
        }
        target.stats.latency.record(shard, micros);
    }

    fn log(&self, duration: Duration) {
        let Some(log) = self.manager().and_then(|manager| manager.access_log.as_ref()) else { return };
        let fields = &self.head.fields;
        let (method, target) = (self.head.method(), self.head.target());
        let original = fields.get("x-envoy-original-path").and_then(|path| std::str::from_utf8(path).ok());
        let chosen = self.chosen();
        let canary =
            chosen.is_some_and(|(split, _, choice)| split.stable.is_some_and(|s| s != choice.target));
        let cluster_name = self.cluster().map_or("", |cluster| &*cluster.name);
        log.log(
            self.worker.shard,
            &Entry {
                start: self.start_time,
                method: if method.is_empty() { "-" } else { method },
                path: original.unwrap_or(if target.is_empty() { "-" } else { target }),
                protocol: self.protocol,
                status: self.status,
                flags: self.flags,
                bytes_received: self.received,
                bytes_sent: self.sent,
                duration,
                upstream_service_time: self.service_time,
                forwarded_for: fields.get("x-forwarded-for"),
                user_agent: fields.get("user-agent"),
                request_id: fields.get("x-request-id"),
                authority: fields.get("host"),
                upstream_host: self.endpoint.as_ref().map(|endpoint| endpoint.address),
                route_name: chosen.map_or("", |(split, _, _)| &*split.route),
                upstream_cluster: cluster_name,
                route_version: chosen.map_or("", |(split, _, _)| &*split.version),
                canary,
                downstream_remote_address: self.peer,
            },
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.status == 0 && self.flags.is_empty() && self.protocol == "HTTP/2" {
            // hyper drops a request whose stream was reset.
            self.flags.insert(ResponseFlags::DOWNSTREAM_RESET);
            self.count(HttpStat::DownstreamRqRxReset);
            self.count_in_cluster(ClusterStat::UpstreamRqCancelled);
        }
        let duration = self.start.elapsed();
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.close_http(micros);
        self.close_cluster(micros);
        self.close_target(micros);
        self.log(duration);
        self.leave_endpoint();
        self.leave_cluster();
        self.worker.active_requests.set(self.worker.active_requests.get().saturating_sub(1));
        self.worker.give_request(std::mem::take(&mut self.head));
    }
}
