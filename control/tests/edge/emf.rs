//! Metrics as lines: their shape by the embedded metric format specification, and what is counted in which minute.

use super::support::{FakeGateway, Local, ROUTES, Remote, config_text};
use control::emf::Emf;
use gateway_config::wire::TargetReport;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The units of the CloudWatch API's MetricDatum that are used here.
const UNITS: [&str; 3] = ["Count", "Milliseconds", "Percent"];

/// Checks a line against the rules of "Specification: CloudWatch embedded metric format", and gives its values.
fn checked(line: &str) -> BTreeMap<String, Value> {
    assert!(!line.contains('\n') && line.len() < 1024 * 1024, "{line}");
    let root: Value = serde_json::from_str(line).unwrap();
    let metadata = &root["_aws"];
    assert!(metadata["Timestamp"].as_u64().unwrap() > 1_600_000_000_000, "milliseconds");
    let directives = metadata["CloudWatchMetrics"].as_array().unwrap();
    assert_eq!(directives.len(), 1);
    for directive in directives {
        assert!((1..=1_024).contains(&directive["Namespace"].as_str().unwrap().len()));
        for set in directive["Dimensions"].as_array().unwrap() {
            assert!(set.as_array().unwrap().len() <= 30);
            for dimension in set.as_array().unwrap() {
                let value = root[dimension.as_str().unwrap()].as_str().unwrap();
                assert!((1..=1_024).contains(&value.len()));
            }
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for metric in metrics {
            let name = metric["Name"].as_str().unwrap();
            assert!(root[name].is_number(), "{name} has a target member that is a number: {line}");
            assert!(UNITS.contains(&metric["Unit"].as_str().unwrap()));
        }
        let names: Vec<&str> = metrics.iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
        let known = |key: &String| {
            key == "_aws" || key == "Route" || key == "Version" || names.contains(&key.as_str())
        };
        assert!(root.as_object().unwrap().keys().all(known), "nothing beside: {line}");
    }
    root.as_object().unwrap().clone().into_iter().collect()
}

fn counted(requests: u64, errors: u64, us: u64) -> TargetReport {
    TargetReport {
        requests,
        errors,
        latency: vec![(us, requests)],
        endpoints: 1,
        endpoints_healthy: 1,
        ..TargetReport::default()
    }
}

fn numbers(line: &str) -> (Value, Value, Option<Value>) {
    let line = checked(line);
    (line["Requests"].clone(), line["Errors"].clone(), line.get("P99").cloned())
}

#[tokio::test(start_paused = true)]
async fn a_line_per_route_and_version_has_the_counts_of_its_minute() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let gateway = FakeGateway::fresh("g1");
    let _running = gateway.run(&control.target, 30);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let mut emf = Emf::new("Weir");
    let lines = emf.lines(&control.shared);
    assert_eq!(lines.len(), 2);
    assert_eq!(numbers(&lines[0]), (json!(0), json!(0), None), "no traffic has no latency");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    // Younger than control: all of it is news.
    gateway.send_report(&control.target, &gateway.report(1_000, &[("v2", counted(100, 5, 12_500))])).await;
    let lines = emf.lines(&control.shared);
    assert_eq!(numbers(&lines[1]), (json!(100), json!(5), Some(json!(12.5))));
    let line = checked(&lines[1]);
    assert_eq!((&line["Route"], &line["Version"]), (&json!("svc1"), &json!("v2")));
    assert_eq!((&line["Weight"], &line["Gateways"]), (&json!(1.0), &json!(1)));
    assert_eq!(numbers(&emf.lines(&control.shared)[1]), (json!(0), json!(0), None), "told once");
    let more = TargetReport { latency: vec![(12_500, 100), (40_000, 10)], ..counted(110, 6, 0) };
    gateway.send_report(&control.target, &gateway.report(2_000, &[("v2", more)])).await;
    assert_eq!(numbers(&emf.lines(&control.shared)[1]), (json!(10), json!(1), Some(json!(40.0))));
}

#[tokio::test(start_paused = true)]
async fn what_an_older_gateway_counted_before_this_control_is_not_told_again_and_a_restart_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let mut gateway = FakeGateway::fresh("g1");
    gateway.ask(&control.target, 0).await.unwrap();
    let mut emf = Emf::new("Weir");
    let hour = 3_600_000;
    gateway.send_report(&control.target, &gateway.report(hour, &[("v1", counted(1_000_000, 0, 500))])).await;
    assert_eq!(numbers(&emf.lines(&control.shared)[0]).0, 0, "another control told these");
    gateway
        .send_report(&control.target, &gateway.report(hour + 1, &[("v1", counted(1_000_007, 0, 500))]))
        .await;
    assert_eq!(numbers(&emf.lines(&control.shared)[0]).0, 7);
    gateway
        .send_report(&control.target, &gateway.report(hour + 2, &[("v1", counted(1_000_009, 0, 500))]))
        .await;
    gateway.boot = "another".to_owned();
    gateway.send_report(&control.target, &gateway.report(1, &[("v1", counted(3, 0, 500))])).await;
    assert_eq!(numbers(&emf.lines(&control.shared)[0]).0, 5, "two before and three after the restart");
}

#[tokio::test]
async fn whole_lines_are_on_stdout_and_nothing_else_but_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("metrics_log: {{emf: true, namespace: Shop}}\n{ROUTES}");
    let file = folder.path().join("control.yaml");
    std::fs::write(&file, config_text(&folder.path().join("state.json"), &rest)).unwrap();
    let control = Remote::start(&file, &["-l", "debug"]).await;
    let gateway = FakeGateway::fresh("g1");
    let _running = gateway.run(&control.target, 5);
    gateway.serves("svc1", &[("v1", 99), ("v2", 1)]).await;
    let report = gateway.report(1, &[("v1", counted(42, 0, 500))]);
    assert_eq!(gateway.send_report(&control.target, &report).await.status, 204);
    control.process.terminate().unwrap();
    assert_eq!(control.process.exit().await.unwrap().code(), Some(0));
    let stdout = control.process.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].starts_with("control listens on http://"), "{stdout}");
    assert!(lines.len() >= 3, "the minute that has begun is told at the end: {stdout}");
    let mut requests = 0;
    for line in &lines[1..] {
        let line = checked(line);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Shop");
        if line["Version"] == "v1" {
            requests += line["Requests"].as_u64().unwrap();
        }
    }
    assert_eq!(requests, 42);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_last_report_is_old_is_not_taken_for_a_young_one() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let gateway = FakeGateway::fresh("g1");
    let mut emf = Emf::new("Weir");
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    // It ran for half a minute before this control did.
    gateway.send_report(&control.target, &gateway.report(40_000, &[("v1", counted(500, 0, 500))])).await;
    tokio::time::sleep(std::time::Duration::from_secs(50)).await;
    assert_eq!(numbers(&emf.lines(&control.shared)[0]).0, 0, "another control told these");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_forgotten_and_comes_back_is_not_counted_twice() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let gateway = FakeGateway::fresh("g1");
    let mut emf = Emf::new("Weir");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    gateway.send_report(&control.target, &gateway.report(1_000, &[("v1", counted(100, 0, 500))])).await;
    assert_eq!(numbers(&emf.lines(&control.shared)[0]).0, 100);
    gateway.send_report(&control.target, &gateway.report(2_000, &[("v1", counted(103, 0, 500))])).await;
    let forgotten = control.target.send("DELETE", "/v1/gateways/g1", &[], "").await.unwrap();
    assert_eq!(forgotten.status, 200);
    let away = numbers(&emf.lines(&control.shared)[0]).0.as_u64().unwrap();
    gateway.send_report(&control.target, &gateway.report(3_000, &[("v1", counted(110, 0, 500))])).await;
    let back = numbers(&emf.lines(&control.shared)[0]).0.as_u64().unwrap();
    assert_eq!(away + back, 10);
}

#[tokio::test(start_paused = true)]
async fn a_line_stands_in_the_minute_that_it_tells_of() {
    let clock = || {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(unix.as_millis()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let mut emf = Emf::new("Weir");
    let before = clock();
    emf.lines(&control.shared);
    let begun = clock();
    while clock() <= begun {
        std::hint::spin_loop();
    }
    let line = checked(&emf.lines(&control.shared)[0]);
    let at = line["_aws"]["Timestamp"].as_u64().unwrap();
    assert!((before..=begun).contains(&at), "{at} is not in {before}..={begun}");
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_nobody_reports_any_more_are_no_number_in_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let gateway = FakeGateway::fresh("g1");
    gateway.send_report(&control.target, &gateway.report(1_000, &[("v1", counted(100, 0, 500))])).await;
    let line = "control_target_endpoints_healthy{route=\"svc1\",target=\"v1\"}";
    assert!(control.target.get("/metrics").await.text.contains(&format!("{line} 1")));
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let metrics = control.target.get("/metrics").await.text;
    assert!(!metrics.contains(line), "{metrics}");
    assert!(metrics.contains("control_target_requests_total{route=\"svc1\",target=\"v1\"} 100"), "{metrics}");
}
