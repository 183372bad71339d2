//! Every statistic once: its family, its Envoy name and whether it is a counter or a gauge.
//!
//! Owns the one table of names; it must never hold a value. Next: `registry.rs`, where scopes are kept.

use super::cells::{CODES, Stat};

/// What a value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Envoy's name within its scope (`upstream_rq_total`).
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
}

macro_rules! stats {
    ($(#[$doc:meta])* $family:ident, codes = $codes:expr, { $($variant:ident = $name:literal $kind:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the name in the table is the documentation")]
        pub enum $family { $($variant),+ }
        impl $family {
            /// All of the family, in table order.
            pub const ROWS: &'static [Row] = &[$(Row { name: $name, kind: Kind::$kind }),+];
            /// All members in the order of ROWS.
            pub const ALL: &'static [$family] = &[$($family::$variant),+];
        }
        impl Stat for $family {
            const COUNT: usize = Self::ROWS.len();
            const CODES: usize = $codes;
            fn index(self) -> usize { self as usize }
        }
    };
}

stats!(
    /// `http.<stat_prefix>.*`: one HttpConnectionManager.
    HttpStat, codes = 0, {
    DownstreamRqTotal = "downstream_rq_total" Counter,
    DownstreamRqActive = "downstream_rq_active" Gauge,
    DownstreamRq1xx = "downstream_rq_1xx" Counter,
    DownstreamRq2xx = "downstream_rq_2xx" Counter,
    DownstreamRq3xx = "downstream_rq_3xx" Counter,
    DownstreamRq4xx = "downstream_rq_4xx" Counter,
    DownstreamRq5xx = "downstream_rq_5xx" Counter,
    DownstreamRqCompleted = "downstream_rq_completed" Counter,
    DownstreamRqHttp1Total = "downstream_rq_http1_total" Counter,
    DownstreamRqHttp2Total = "downstream_rq_http2_total" Counter,
    DownstreamRqRxReset = "downstream_rq_rx_reset" Counter,
    DownstreamRqTxReset = "downstream_rq_tx_reset" Counter,
    DownstreamRqTimeout = "downstream_rq_timeout" Counter,
    DownstreamRqIdleTimeout = "downstream_rq_idle_timeout" Counter,
    DownstreamRqHeaderTimeout = "downstream_rq_header_timeout" Counter,
    DownstreamRqTooLarge = "downstream_rq_too_large" Counter,
    DownstreamRqOverloadClose = "downstream_rq_overload_close" Counter,
    DownstreamCxTotal = "downstream_cx_total" Counter,
    DownstreamCxActive = "downstream_cx_active" Gauge,
    DownstreamCxHttp1Total = "downstream_cx_http1_total" Counter,
    DownstreamCxHttp1Active = "downstream_cx_http1_active" Gauge,
    DownstreamCxHttp2Total = "downstream_cx_http2_total" Counter,
    DownstreamCxHttp2Active = "downstream_cx_http2_active" Gauge,
    DownstreamCxUpgradesTotal = "downstream_cx_upgrades_total" Counter,
    DownstreamCxUpgradesActive = "downstream_cx_upgrades_active" Gauge,
    DownstreamCxDestroy = "downstream_cx_destroy" Counter,
    DownstreamCxDestroyRemote = "downstream_cx_destroy_remote" Counter,
    DownstreamCxDestroyLocal = "downstream_cx_destroy_local" Counter,
    DownstreamCxDestroyRemoteActiveRq = "downstream_cx_destroy_remote_active_rq" Counter,
    DownstreamCxDestroyLocalActiveRq = "downstream_cx_destroy_local_active_rq" Counter,
    DownstreamCxIdleTimeout = "downstream_cx_idle_timeout" Counter,
    DownstreamCxDrainClose = "downstream_cx_drain_close" Counter,
    DownstreamCxProtocolError = "downstream_cx_protocol_error" Counter,
    DownstreamCxOverflow = "downstream_cx_overflow" Counter,
    DownstreamCxRxBytesTotal = "downstream_cx_rx_bytes_total" Counter,
    DownstreamCxTxBytesTotal = "downstream_cx_tx_bytes_total" Counter,
    NoRoute = "no_route" Counter,
    NoCluster = "no_cluster" Counter,
    RqTotal = "rq_total" Counter,
    RqPanic = "rq_panic" Counter,
});

stats!(
    /// `cluster.<name>.*`: one cluster.
    ClusterStat, codes = CODES, {
    UpstreamCxTotal = "upstream_cx_total" Counter,
    UpstreamCxActive = "upstream_cx_active" Gauge,
    UpstreamCxHttp1Total = "upstream_cx_http1_total" Counter,
    UpstreamCxConnectFail = "upstream_cx_connect_fail" Counter,
    UpstreamCxConnectTimeout = "upstream_cx_connect_timeout" Counter,
    UpstreamCxOverflow = "upstream_cx_overflow" Counter,
    UpstreamCxDestroy = "upstream_cx_destroy" Counter,
    UpstreamCxDestroyLocal = "upstream_cx_destroy_local" Counter,
    UpstreamCxDestroyRemote = "upstream_cx_destroy_remote" Counter,
    UpstreamCxDestroyWithActiveRq = "upstream_cx_destroy_with_active_rq" Counter,
    UpstreamCxDestroyLocalWithActiveRq = "upstream_cx_destroy_local_with_active_rq" Counter,
    UpstreamCxDestroyRemoteWithActiveRq = "upstream_cx_destroy_remote_with_active_rq" Counter,
    UpstreamCxIdleTimeout = "upstream_cx_idle_timeout" Counter,
    UpstreamCxProtocolError = "upstream_cx_protocol_error" Counter,
    UpstreamCxRxBytesTotal = "upstream_cx_rx_bytes_total" Counter,
    UpstreamCxTxBytesTotal = "upstream_cx_tx_bytes_total" Counter,
    UpstreamRqTotal = "upstream_rq_total" Counter,
    UpstreamRqActive = "upstream_rq_active" Gauge,
    UpstreamRqCompleted = "upstream_rq_completed" Counter,
    UpstreamRq1xx = "upstream_rq_1xx" Counter,
    UpstreamRq2xx = "upstream_rq_2xx" Counter,
    UpstreamRq3xx = "upstream_rq_3xx" Counter,
    UpstreamRq4xx = "upstream_rq_4xx" Counter,
    UpstreamRq5xx = "upstream_rq_5xx" Counter,
    UpstreamRqPendingTotal = "upstream_rq_pending_total" Counter,
    UpstreamRqPendingActive = "upstream_rq_pending_active" Gauge,
    UpstreamRqPendingOverflow = "upstream_rq_pending_overflow" Counter,
    UpstreamRqPendingFailureEject = "upstream_rq_pending_failure_eject" Counter,
    UpstreamRqCancelled = "upstream_rq_cancelled" Counter,
    UpstreamRqMaintenanceMode = "upstream_rq_maintenance_mode" Counter,
    UpstreamRqTimeout = "upstream_rq_timeout" Counter,
    UpstreamRqPerTryTimeout = "upstream_rq_per_try_timeout" Counter,
    UpstreamRqRxReset = "upstream_rq_rx_reset" Counter,
    UpstreamRqTxReset = "upstream_rq_tx_reset" Counter,
    UpstreamRqRetry = "upstream_rq_retry" Counter,
    UpstreamRqRetrySuccess = "upstream_rq_retry_success" Counter,
    UpstreamRqRetryOverflow = "upstream_rq_retry_overflow" Counter,
    UpstreamRqRetryLimitExceeded = "upstream_rq_retry_limit_exceeded" Counter,
    RetryUpstreamRq2xx = "retry.upstream_rq_2xx" Counter,
    RetryUpstreamRq3xx = "retry.upstream_rq_3xx" Counter,
    RetryUpstreamRq4xx = "retry.upstream_rq_4xx" Counter,
    RetryUpstreamRq5xx = "retry.upstream_rq_5xx" Counter,
    UpstreamFlowControlPausedReadingTotal = "upstream_flow_control_paused_reading_total" Counter,
    UpstreamFlowControlResumedReadingTotal = "upstream_flow_control_resumed_reading_total" Counter,
    UpstreamFlowControlBackedUpTotal = "upstream_flow_control_backed_up_total" Counter,
    UpstreamFlowControlDrainedTotal = "upstream_flow_control_drained_total" Counter,
    UpstreamCxNoneHealthy = "upstream_cx_none_healthy" Counter,
    MembershipTotal = "membership_total" Gauge,
    MembershipHealthy = "membership_healthy" Gauge,
    MembershipDegraded = "membership_degraded" Gauge,
    MembershipExcluded = "membership_excluded" Gauge,
    MembershipChange = "membership_change" Counter,
    UpdateAttempt = "update_attempt" Counter,
    UpdateSuccess = "update_success" Counter,
    UpdateFailure = "update_failure" Counter,
    UpdateEmpty = "update_empty" Counter,
    LbHealthyPanic = "lb_healthy_panic" Counter,
    HealthCheckAttempt = "health_check.attempt" Counter,
    HealthCheckSuccess = "health_check.success" Counter,
    HealthCheckHealthy = "health_check.healthy" Gauge,
    OutlierDetectionEjectionsActive = "outlier_detection.ejections_active" Gauge,
    OutlierDetectionEjectionsEnforcedTotal = "outlier_detection.ejections_enforced_total" Counter,
    OutlierDetectionEjectionsOverflow = "outlier_detection.ejections_overflow" Counter,
    CircuitBreakersDefaultRqOpen = "circuit_breakers.default.rq_open" Gauge,
    CircuitBreakersDefaultCxOpen = "circuit_breakers.default.cx_open" Gauge,
    CircuitBreakersDefaultCxPoolOpen = "circuit_breakers.default.cx_pool_open" Gauge,
    CircuitBreakersDefaultRqPendingOpen = "circuit_breakers.default.rq_pending_open" Gauge,
    Version = "version" Gauge,
});

stats!(
    /// `listener.<address>.*`: one listener.
    ListenerStat, codes = 0, {
    DownstreamCxTotal = "downstream_cx_total" Counter,
    DownstreamCxActive = "downstream_cx_active" Gauge,
    DownstreamCxDestroy = "downstream_cx_destroy" Counter,
    DownstreamCxOverflow = "downstream_cx_overflow" Counter,
});

stats!(
    /// `server.*`, `cluster_manager.*`, `listener_manager.*`, `access_log_file.*`, `gateway.*`: the process.
    /// Names here are whole.
    ServerStat, codes = 0, {
    Live = "server.live" Gauge,
    State = "server.state" Gauge,
    Uptime = "server.uptime" Gauge,
    Version = "server.version" Gauge,
    Concurrency = "server.concurrency" Gauge,
    MemoryAllocated = "server.memory_allocated" Gauge,
    MemoryHeapSize = "server.memory_heap_size" Gauge,
    MemoryPhysicalSize = "server.memory_physical_size" Gauge,
    ParentConnections = "server.parent_connections" Gauge,
    TotalConnections = "server.total_connections" Gauge,
    DaysUntilFirstCertExpiring = "server.days_until_first_cert_expiring" Gauge,
    ActiveClusters = "cluster_manager.active_clusters" Gauge,
    WarmingClusters = "cluster_manager.warming_clusters" Gauge,
    ClusterAdded = "cluster_manager.cluster_added" Counter,
    ClusterModified = "cluster_manager.cluster_modified" Counter,
    ClusterRemoved = "cluster_manager.cluster_removed" Counter,
    ClusterUpdated = "cluster_manager.cluster_updated" Counter,
    TotalListenersActive = "listener_manager.total_listeners_active" Gauge,
    TotalListenersWarming = "listener_manager.total_listeners_warming" Gauge,
    TotalListenersDraining = "listener_manager.total_listeners_draining" Gauge,
    ListenerCreateFailure = "listener_manager.listener_create_failure" Counter,
    AccessLogWritten = "access_log_file.write_completed" Counter,
    AccessLogDropped = "access_log_file.write_dropped" Counter,
    ConfigReloadSuccess = "gateway.config_reload_success" Counter,
    ConfigReloadRejected = "gateway.config_reload_rejected" Counter,
    DiscoveryUpdateAttempt = "gateway.discovery_update_attempt" Counter,
    DiscoveryUpdateSuccess = "gateway.discovery_update_success" Counter,
    DiscoveryUpdateRejected = "gateway.discovery_update_rejected" Counter,
    DiscoveryUpdateFailure = "gateway.discovery_update_failure" Counter,
    ControlConnected = "gateway.control_connected" Gauge,
    ReportsSent = "gateway.reports_sent" Counter,
    ReportsFailed = "gateway.reports_failed" Counter,
    TaskPanics = "gateway.task_panics" Counter,
    DrainCutRequests = "gateway.drain_cut_requests" Counter,
});

stats!(
    /// One target of one route: what a canary is judged by.
    TargetStat, codes = 0, {
    Requests = "requests" Counter,
    Errors = "errors" Counter,
    Overridden = "overridden" Counter,
    Active = "active" Gauge,
});
