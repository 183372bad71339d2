//! The access log as a worker uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use gateway::access_log::{AccessLogs, Entry};
use gateway::response_flags::ResponseFlags;
use gateway::stats::cells::Shard;
use gateway::stats::names::ServerStat;
use gateway::stats::registry::Registry;
use gateway_config::model::{AccessLog, AccessLogFilter, AccessLogFormat};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn entry<'a>(path: &'a str, agent: &'a [u8]) -> Entry<'a> {
    Entry {
        start: SystemTime::now(),
        method: "GET",
        path,
        protocol: "HTTP/1.1",
        status: 200,
        flags: ResponseFlags::NONE,
        bytes_received: 0,
        bytes_sent: 25,
        duration: Duration::from_millis(3),
        upstream_service_time: Some(Duration::from_millis(2)),
        forwarded_for: Some(b"192.0.2.2"),
        user_agent: Some(agent),
        request_id: Some(b"11111111-2222-4333-8444-555555555555"),
        authority: Some(b"svc1.local"),
        upstream_host: Some(([10, 0, 0, 7], 8080).into()),
        route_name: "svc1",
        upstream_cluster: "v1",
        route_version: "",
        canary: false,
        downstream_remote_address: ([127, 0, 0, 1], 40_000).into(),
    }
}

#[test]
fn a_line_costs_no_heap_block() {
    for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
        let config = AccessLog { path: "/dev/null".to_owned(), format, filter: AccessLogFilter::All };
        let logs = AccessLogs::new(Arc::new(Registry::new(1)));
        let log = logs.open(&config).expect("opened");
        log.log(Shard::worker(0), &entry("/", b"curl/8"));
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                log.log(Shard::worker(0), &entry("/some/path?x=1", b"agent \" with a quote"));
            }
        });
        assert_eq!(counted.count_total, 0, "{format:?}");
    }
}

#[test]
fn workers_that_log_at_once_lose_and_mix_nothing() {
    const WORKERS: usize = 4;
    const LINES: usize = 2_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let registry = Arc::new(Registry::new(WORKERS));
    let logs = AccessLogs::new(Arc::clone(&registry));
    let config = AccessLog {
        path: path.to_str().expect("text").to_owned(),
        format: AccessLogFormat::Json,
        filter: AccessLogFilter::All,
    };
    let log = logs.open(&config).expect("opened");
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let log = log.clone();
            scope.spawn(move || {
                for line in 0..LINES {
                    log.log(Shard::worker(worker), &entry(&format!("/{worker}/{line}"), b"x"));
                }
            });
        }
    });
    logs.flush();
    let text = std::fs::read_to_string(&path).expect("a log");
    let mut next = [0usize; WORKERS];
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        let path = value["path"].as_str().expect("a path").to_owned();
        let (worker, line) = path[1..].split_once('/').expect("two parts");
        let worker: usize = worker.parse().expect("a worker");
        assert!(line.parse::<usize>().expect("a line") >= next[worker], "in order: {path}");
        next[worker] = line.parse::<usize>().expect("a line") + 1;
    }
    let written = registry.server.total(ServerStat::AccessLogWritten);
    let dropped = registry.server.total(ServerStat::AccessLogDropped);
    assert_eq!(text.lines().count() as u64, written);
    assert_eq!(written + dropped, (WORKERS * LINES) as u64, "every line is written or counted as dropped");
}
