//! What changes state, and who may.

use super::support::{CONFIG, Gateway};
use gateway::admin::ListenerDrain;
use gateway::stats::cells::Shard;
use gateway::stats::names::{ClusterStat, HttpStat};
use std::time::Duration;

const CHANGING: [&str; 7] = [
    "/healthcheck/fail",
    "/healthcheck/ok",
    "/drain_listeners",
    "/reset_counters",
    "/quitquitquit",
    "/reopen_logs",
    "/logging",
];

#[tokio::test]
async fn a_get_on_a_changing_path_is_405_with_envoys_text() {
    let gateway = Gateway::start().await;
    for path in CHANGING {
        let answer = gateway.send("GET", path, &["host: localhost"]).await;
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.text(), "Method GET not allowed, POST required.", "{path}");
    }
}

#[tokio::test]
async fn another_host_or_a_web_page_is_refused_with_a_cure_and_changes_nothing() {
    let gateway = Gateway::start().await;
    for path in CHANGING {
        for headers in [
            &["host: evil.test", "content-length: 0"][..],
            &["host: localhost", "origin: http://localhost", "content-length: 0"],
            &["host: localhost", "authorization: Bearer guess", "content-length: 0"],
        ] {
            let answer = gateway.send("POST", path, headers).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert!(answer.text().contains("token"), "the text says what to do: {}", answer.text());
        }
    }
    assert_eq!(gateway.get("/ready").await.status, 200);
    assert_eq!(*gateway.drain_listeners.borrow(), ListenerDrain::Open);
}

#[tokio::test]
async fn the_admin_token_opens_under_any_host() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "letmein\n").unwrap();
    let line = format!("admin:\n  token_file: {}\n", token.path().display());
    let gateway = Gateway::with(&CONFIG.replace("admin:\n", &line), Vec::new()).await;
    let headers = ["host: gateway.test", "authorization: Bearer letmein", "content-length: 0"];
    assert_eq!(gateway.send("POST", "/healthcheck/fail", &headers).await.status, 200);
    assert_eq!(gateway.get("/ready").await.status, 503);
    assert!(!gateway.get("/config_dump").await.text().contains("letmein"));
}

#[tokio::test]
async fn a_failed_health_check_is_draining_until_it_is_ok_again() {
    let gateway = Gateway::start().await;
    let failed = gateway.post("/healthcheck/fail").await;
    assert_eq!((failed.status, failed.text().as_str()), (200, "OK\n"));
    let ready = gateway.get("/ready").await;
    assert_eq!((ready.status, ready.text().as_str()), (503, "DRAINING\n"));
    let info = gateway.get("/server_info").await;
    assert_eq!(info.status, 200);
    assert!(info.text().contains("\"state\": \"DRAINING\""));
    assert!(gateway.get("/stats?filter=server.live").await.text().contains("server.live: 0\n"));
    gateway.post("/healthcheck/ok").await;
    assert_eq!(gateway.get("/ready").await.status, 200);
}

#[tokio::test]
async fn a_drain_of_listeners_is_passed_on_as_asked() {
    let gateway = Gateway::start().await;
    for (target, expected) in [
        ("/drain_listeners?graceful", ListenerDrain::Graceful { skip_exit: false }),
        ("/drain_listeners?graceful&skip_exit", ListenerDrain::Graceful { skip_exit: true }),
        ("/drain_listeners", ListenerDrain::Close),
    ] {
        assert_eq!(gateway.post(target).await.text(), "OK\n");
        assert_eq!(*gateway.drain_listeners.borrow(), expected, "{target}");
    }
    assert_eq!(gateway.get("/ready").await.status, 200, "draining listeners leaves the state");
}

#[tokio::test]
async fn quit_is_told_after_the_answer_was_sent() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post("/quitquitquit").await.text(), "OK\n");
    let told = tokio::time::timeout(Duration::from_secs(10), gateway.quit.notified()).await;
    assert!(told.is_ok());
}

#[tokio::test]
async fn reset_counters_zeroes_counters_and_leaves_gauges() {
    let gateway = Gateway::start().await;
    let registry = &gateway.process.registry;
    registry.http("ingress").scope.inc(Shard::worker(0), HttpStat::DownstreamRqTotal);
    registry.cluster("v1").scope.code(Shard::worker(0), 500);
    registry.cluster("v1").scope.inc(Shard::worker(0), ClusterStat::UpstreamCxActive);
    let before = gateway.get("/stats").await.text();
    assert!(before.contains("http.ingress.downstream_rq_total: 1\n"));
    assert!(before.contains("cluster.v1.upstream_rq_500: 1\n"));
    assert_eq!(gateway.post("/reset_counters").await.text(), "OK\n");
    let after = gateway.get("/stats").await.text();
    assert!(after.contains("http.ingress.downstream_rq_total: 0\n"));
    assert!(after.contains("cluster.v1.upstream_rq_500: 0\n"));
    assert!(after.contains("cluster.v1.upstream_cx_active: 1\n"));
    assert!(after.contains("cluster.v1.membership_total: 1\n"));
}

#[tokio::test]
async fn the_log_level_is_shown_changed_and_checked() {
    let gateway = Gateway::start().await;
    let changed = gateway.post("/logging?level=critical").await;
    assert_eq!((changed.status, changed.text().as_str()), (200, "active loggers:\n  all: critical\n\n"));
    let module = gateway.post("/logging?paths=gateway::sources:error").await.text();
    assert!(module.contains("  gateway::sources: error\n"), "{module}");
    let wrong = gateway.post("/logging?level=loud").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("loud") && wrong.text().contains("debug"), "{}", wrong.text());
    assert_eq!(gateway.post("/logging?http=debug").await.status, 400);
}

#[tokio::test]
async fn reopen_logs_answers_ok() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post("/reopen_logs").await.text(), "OK\n");
}
