//! What changes state, and who may.

use super::support::{CONFIG, Gateway};
use gateway::admin::ListenerDrain;
use gateway::stats::cells::Shard;
use gateway::stats::names::{ClusterStat, HttpStat};
use std::time::Duration;

const CHANGING: [&str; 8] = [
    "/healthcheck/fail",
    "/healthcheck/ok",
    "/drain_listeners",
    "/reset_counters",
    "/quitquitquit",
    "/reopen_logs",
    "/logging",
    "/override",
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
async fn an_override_is_taken_from_this_host_alone_and_shown_to_everybody() {
    let gateway = Gateway::start().await;
    let target = "/override?route=svc1&target=v2&for=60";
    for headers in
        [&["host: evil.test", "content-length: 0"][..], &["host: localhost", "origin: http://localhost"]]
    {
        assert_eq!(gateway.send("POST", target, headers).await.status, 403, "{headers:?}");
    }
    assert!(gateway.get("/overrides").await.text().contains("v1=90 v2=10 (source: file)"));
    let answer = gateway.post(target).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.text().contains("everything goes to v2 on this gateway (task-1) for 1m"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("v2 has no endpoint that accepts connections"), "{}", answer.text());
    let shown = gateway.get("/overrides?format=json").await.json().unwrap();
    let seconds = shown["svc1"]["expires_seconds"].as_u64().unwrap();
    assert!(shown["svc1"]["target"] == "v2" && (1..=60).contains(&seconds), "{shown}");
    let info = gateway.get("/server_info").await.json().unwrap();
    assert_eq!(info["node"]["metadata"]["weir"]["overrides"]["svc1"]["target"], "v2");
    let released = gateway.post("/override?route=svc1&release").await;
    assert!(released.text().contains("is released; v1=90 v2=10 (source: file)"), "{}", released.text());
    assert!(gateway.post("/override?route=svc1&release").await.text().contains("is not overridden"));
}

#[tokio::test]
async fn an_override_that_cannot_be_read_or_names_nobody_changes_nothing_and_a_long_one_is_a_day() {
    let gateway = Gateway::start().await;
    for (query, status, part) in [
        ("", 400, "route is missing"),
        ("?route=svc1", 400, "target is missing; its targets are: v1, v2, or `stable`"),
        ("?route=svc1&target=v1&for=soon", 400, "number of seconds"),
        ("?route=svc1&target=v1&for=-1", 400, "number of seconds"),
        ("?route=svc9&target=v1", 404, "it has: svc1"),
        ("?route=svc1&target=v9", 404, "its targets are: v1, v2, or `stable`"),
        ("?route=svc9&release", 404, "it has: svc1"),
    ] {
        let answer = gateway.post(&format!("/override{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        assert!(answer.text().contains(part), "{query}: {}", answer.text());
    }
    assert_eq!(gateway.get("/overrides?format=json").await.text().trim(), "{}");
    for (seconds, shown) in [(0, "for 1s,"), (999_999_999_999_u64, "for 24h,")] {
        let answer = gateway.post(&format!("/override?route=svc1&target=stable&for={seconds}")).await;
        assert!(answer.status == 200 && answer.text().contains(shown), "{}", answer.text());
        assert!(answer.text().contains("everything goes to v1"), "{}", answer.text());
    }
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
