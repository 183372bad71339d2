//! The sync task against the App Mesh stand-in, over HTTP and through the real SDK.

use super::{SyncConfig, SyncHandle, SyncState, SyncStatus, Wanted, spawn};
use aws::app_mesh::{AppMesh, RouteRef};
use gateway_config::control_config::OnDrift;
use lifecycle::drain::Drain;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::clock::DEADLINE;
use testkit::standin::{Fault, Kind, Service, Standin};
use testkit::within;
use tokio::sync::watch;

struct Sync {
    standin: Standin,
    wanted: watch::Sender<Wanted>,
    status: watch::Receiver<SyncStatus>,
    drain: Drain,
    handle: SyncHandle,
}

fn spec(v1: u32, v2: u32) -> Value {
    json!({"priority": 5, "httpRoute": {
        "match": {"prefix": "/", "headers": [{"name": "x-user", "invert": true, "match": {"prefix": "a"}}]},
        "action": {"weightedTargets": [
            {"virtualNode": "service1-v1", "weight": v1, "port": 3000}, {"virtualNode": "service1-v2", "weight": v2}]},
        "retryPolicy": {"maxRetries": 2, "perRetryTimeout": {"unit": "ms", "value": 250},
            "httpRetryEvents": ["server-error"], "tcpRetryEvents": ["connection-error"]},
        "timeout": {"perRequest": {"unit": "s", "value": 15}}}})
}

fn weights(v1: u32, v2: u32) -> Wanted {
    Ok(vec![("v1".to_owned(), v1), ("v2".to_owned(), v2)])
}

impl Sync {
    fn start(on_drift: OnDrift) -> Self {
        let standin = Standin::start().unwrap();
        standin.set_route("mesh", "svc1", "main", spec(100, 0));
        let route_ref = RouteRef {
            mesh: "mesh".to_owned(),
            virtual_router: "svc1".to_owned(),
            route: "main".to_owned(),
            mesh_owner: None,
        };
        let targets = [("v1", "service1-v1"), ("v2", "service1-v2")];
        let targets = targets.map(|(target, node)| (target.to_owned(), node.to_owned())).into();
        let (wanted, newest) = watch::channel(Err("not known yet".to_owned()));
        let (tell, status) = watch::channel(SyncStatus::default());
        let drain = Drain::new();
        let config = SyncConfig { route_ref, targets, on_drift };
        let client = AppMesh::for_endpoint(standin.url());
        let handle = spawn(client, config, newest, tell, drain.watch());
        Self { standin, wanted, status, drain, handle }
    }

    fn want(&self, wanted: Wanted) {
        drop(self.wanted.send_replace(wanted));
    }

    fn route(&self) -> Value {
        self.standin.route("mesh", "svc1", "main").unwrap()
    }

    async fn until(&mut self, what: &str, is: impl Fn(&SyncStatus) -> bool) -> SyncStatus {
        let event = self.status.wait_for(is);
        tokio::time::timeout(DEADLINE, event).await.expect(what).expect(what).clone()
    }

    async fn until_in_sync(&mut self, v1: i32, v2: i32) -> SyncStatus {
        let wanted = [("service1-v1".to_owned(), v1), ("service1-v2".to_owned(), v2)].into();
        let is = |status: &SyncStatus| status.state == SyncState::InSync && status.weights == wanted;
        self.until("in sync", is).await
    }
}

#[tokio::test]
async fn an_own_change_reaches_the_route_and_no_other_field_does() {
    let mut sync = Sync::start(OnDrift::Pause);
    assert_eq!(sync.status.borrow().state, SyncState::Disabled);
    sync.want(weights(9_000, 1_000));
    let status = sync.until_in_sync(90, 10).await;
    assert_eq!((status.version, status.writes, status.failures), (Some(2), 1, 0));
    assert!(status.last_success_unix_ms > Some(1_600_000_000_000));
    assert_eq!(sync.route()["spec"], spec(90, 10));
}

#[tokio::test]
async fn the_newest_of_many_changes_is_what_stays() {
    let mut sync = Sync::start(OnDrift::Pause);
    for v2 in 0..=50_u32 {
        sync.want(weights(10_000 - v2 * 100, v2 * 100));
        tokio::task::yield_now().await;
    }
    sync.until_in_sync(50, 50).await;
    assert_eq!(sync.route()["spec"], spec(50, 50));
}

#[tokio::test]
async fn throttling_and_failures_are_shown_and_overcome() {
    let mut sync = Sync::start(OnDrift::Pause);
    sync.standin.faults().add(Fault::of(Service::AppMesh, Kind::Throttle).operation("UpdateRoute").times(1));
    sync.standin.faults().add(Fault::of(Service::AppMesh, Kind::Close).operation("DescribeRoute").times(1));
    sync.want(weights(9_900, 100));
    let status = sync.until("an error", |status| status.state == SyncState::Error).await;
    assert!(status.last_error.is_some_and(|error| error.contains("DescribeRoute")));
    let status = sync.until_in_sync(99, 1).await;
    assert_eq!((status.failures, status.last_error), (2, None));
    assert_eq!(sync.route()["spec"], spec(99, 1));
}

#[tokio::test]
async fn another_writers_weights_are_written_over_when_resumed() {
    let mut sync = Sync::start(OnDrift::Pause);
    sync.want(weights(9_000, 1_000));
    sync.until_in_sync(90, 10).await;
    sync.standin.set_route("mesh", "svc1", "main", spec(0, 100));
    sync.handle.resume();
    let status = sync.until("written again", |status| status.writes == 2).await;
    assert_eq!((status.state, status.version), (SyncState::InSync, Some(4)));
    assert_eq!(sync.route()["spec"], spec(90, 10));
}

#[tokio::test]
async fn a_change_of_the_last_moment_is_written_before_a_draining_process_ends() {
    let mut sync = Sync::start(OnDrift::Pause);
    sync.standin.faults().add(Fault::of(Service::AppMesh, Kind::Throttle).times(1));
    sync.want(weights(9_000, 1_000));
    sync.until("throttled", |status| status.failures == 1).await;
    sync.drain.start(DEADLINE);
    within(DEADLINE, "the task ends", sync.handle.join()).await.unwrap();
    assert_eq!(sync.standin.route("mesh", "svc1", "main").unwrap()["spec"], spec(90, 10));
}

#[tokio::test]
async fn a_drain_that_ends_cuts_a_call_without_answer() {
    let sync = Sync::start(OnDrift::Pause);
    sync.standin.faults().add(Fault::of(Service::AppMesh, Kind::Timeout));
    sync.want(weights(9_000, 1_000));
    sync.standin.until_requests("DescribeRoute", 1).await.unwrap();
    sync.drain.start(Duration::ZERO);
    within(DEADLINE, "the task ends", sync.handle.join()).await.unwrap();
}

#[tokio::test]
async fn a_control_that_does_not_lead_writes_nothing_even_under_enforce() {
    let mut sync = Sync::start(OnDrift::Enforce);
    sync.want(weights(9_000, 1_000));
    sync.until_in_sync(90, 10).await;
    sync.want(Err("control b is ahead".to_owned()));
    let status = sync.until("stands still", |status| status.state == SyncState::Disabled).await;
    assert_eq!(status.detail, "control b is ahead");
    sync.standin.set_route("mesh", "svc1", "main", spec(0, 100));
    sync.handle.resume();
    sync.drain.start(DEADLINE);
    within(DEADLINE, "the task ends", sync.handle.join()).await.unwrap();
    assert_eq!(sync.standin.route("mesh", "svc1", "main").unwrap()["spec"], spec(0, 100));
}

#[tokio::test]
async fn the_task_ends_when_nothing_will_be_wanted_any_more() {
    let Sync { wanted, handle, .. } = Sync::start(OnDrift::Pause);
    drop(wanted);
    within(DEADLINE, "the task ends", handle.join()).await.unwrap();
}

#[test]
fn a_status_is_plain_json() {
    let status = SyncStatus { state: SyncState::InSync, version: Some(7), ..SyncStatus::default() };
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(text, r#"{"state":"in_sync","version":7,"writes":0,"failures":0}"#);
    assert_eq!(serde_json::from_str::<SyncStatus>(&text).unwrap(), status);
}
