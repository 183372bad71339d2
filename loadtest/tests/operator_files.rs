//! What an operator copies and builds from: the Prometheus files, the Grafana board, the image's build context.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn board() -> Value {
    serde_json::from_str(&read("config/grafana/weir.json")).unwrap()
}

/// The board's expressions with its variables filled in.
fn expressions() -> Vec<String> {
    let mut found = Vec::new();
    for panel in board()["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            found.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(found.len() > 10);
    let fill = |expr: String| {
        expr.replace("$__rate_interval", "5m")
            .replace("$gateway_job", "weir-gateway")
            .replace("$versions", "v1|v2")
            .replace("$route", "svc1")
    };
    found.into_iter().map(fill).collect()
}

/// Names in an expression that look like metrics.
fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| ["envoy_", "control_", "gateway_"].iter().any(|prefix| word.starts_with(prefix)))
        .filter(|word| !["envoy_cluster_name", "envoy_response_code_class", "gateway_job"].contains(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_variable_of_the_board_is_defined() {
    for expr in expressions() {
        assert!(!expr.contains('$'), "an undefined variable: {expr}");
    }
    let board = board();
    let defined: Vec<&str> =
        board["templating"]["list"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(defined, ["datasource", "gateway_job", "versions", "route"]);
}

#[test]
fn the_panels_of_the_board_have_their_own_ids_and_places() {
    let board = board();
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{} overlaps another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn board_and_alerts_read_metrics_of_the_gateway_and_of_control() {
    let all = metrics(&(expressions().join("\n") + &read("config/prometheus/alerts.yml")));
    assert!(all.contains("envoy_cluster_upstream_rq_xx") && all.contains("envoy_http_downstream_rq_xx"));
    assert!(all.contains("envoy_cluster_upstream_rq_time_bucket") && all.contains("control_route_weight"));
}

/// Each alert in the tests exists, and each has a summary and what to do.
#[test]
fn every_alert_says_what_to_do() {
    let rules = read("config/prometheus/alerts.yml");
    let count = |what: &str| rules.matches(what).count();
    assert!(count("- alert: ") >= 10);
    for part in ["summary: ", "action: ", "severity: ", "runbook: "] {
        assert_eq!(count(part), count("- alert: "), "{part}");
    }
}

/// What stands behind a word, up to the end of it.
fn words_after<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    text.split(before).skip(1).map(|rest| rest.split(end).next().unwrap()).collect()
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let tests = read("config/prometheus/alerts_test.yml");
    for alert in words_after(&read("config/prometheus/alerts.yml"), "- alert: ") {
        let fires = tests.split("alertname: ").any(|test| {
            test.split_once('\n')
                .is_some_and(|(name, rest)| name == alert && rest.trim_start().starts_with("exp_alerts:\n"))
        });
        assert!(fires, "{alert}");
    }
}

/// A heading of the runbook as the part of an address behind `#`.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

#[test]
fn every_alert_and_alarm_names_a_section_of_the_runbook() {
    let Ok(runbook) = std::fs::read_to_string(root().join("docs/runbook.md")) else { return };
    let sections: BTreeSet<String> =
        runbook.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    for file in ["config/prometheus/alerts.yml", "config/ecs/alarms.yaml"] {
        let text = read(file);
        let named = words_after(&text, "docs/runbook.md#");
        assert!(named.len() >= 4, "{file}");
        for name in named {
            assert!(sections.contains(name), "{file} names docs/runbook.md#{name}");
        }
    }
}

/// Both versions are lines of the same panel.
#[test]
fn the_board_compares_the_versions_side_by_side() {
    let board = board();
    let panel = |title: &str| {
        let panels = board["panels"].as_array().unwrap();
        panels.iter().find(|panel| panel["title"] == title).unwrap_or_else(|| panic!("{title}"))["targets"]
            .clone()
    };
    for (title, metric) in [
        ("Requests by version", "envoy_cluster_upstream_rq_total"),
        ("5xx answers by version", "envoy_cluster_upstream_rq_xx"),
        ("Latency by version", "envoy_cluster_upstream_rq_time_bucket"),
        ("Share of requests by version", "envoy_cluster_upstream_rq_total"),
    ] {
        let targets = panel(title);
        let expr = targets[0]["expr"].as_str().unwrap();
        assert!(
            expr.contains(metric) && expr.contains("envoy_cluster_name=~\"$versions\""),
            "{title}: {expr}"
        );
        assert!(targets[0]["legendFormat"].as_str().unwrap().contains("{{envoy_cluster_name}}"), "{title}");
    }
    let latency = panel("Latency by version").to_string();
    assert!(latency.contains("quantile(0.5,") && latency.contains("quantile(0.99,"));
    assert!(panel("Share of requests by version").to_string().contains("control_route_weight"));
}

/// The alarms read what control prints, by the dimensions that it prints.
#[test]
fn every_alarm_reads_a_metric_that_control_prints() {
    let alarms = read("config/ecs/alarms.yaml");
    let printed = read("control/src/emf/mod.rs");
    let names = words_after(&alarms, "MetricName: ");
    assert_eq!(
        names.iter().copied().collect::<Vec<_>>(),
        ["Errors", "Gateways", "P99", "Requests", "Weight"]
    );
    for name in names {
        assert!(printed.contains(&format!("(\"{name}\", ")), "{name}");
    }
    assert!(printed.contains(r#""Dimensions": [["Route", "Version"]]"#));
    let dimensions = alarms
        .matches("Dimensions: [{Name: Route, Value: {Ref: Route}}, {Name: Version, Value: {Ref: ")
        .count();
    assert_eq!(dimensions, alarms.matches("MetricName: ").count());
}

#[test]
#[ignore = "needs cfn-lint"]
fn cloudformation_takes_the_alarms() {
    let output = Command::new("cfn-lint")
        .arg("config/ecs/alarms.yaml")
        .current_dir(root())
        .output()
        .expect("cfn-lint on PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_image_is_built_from_every_workspace_member() {
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let allowed: Vec<String> =
        read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    for member in members.split('"').skip(1).step_by(2) {
        let member = member.trim_end_matches("/*");
        let there = allowed.iter().any(|path| path == member || *path == format!("{member}/src"));
        assert!(there, "{member} is a workspace member but .dockerignore keeps it out");
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        assert!(allowed.iter().any(|path| path == file), "{file}");
    }
}

fn promtool(args: &[&str], folder: &Path) {
    let output = Command::new("promtool").args(args).current_dir(folder).output().expect("promtool on PATH");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
#[ignore = "needs promtool"]
fn prometheus_takes_its_configuration_and_the_alerts_fire_when_they_should() {
    let folder = root().join("config/prometheus");
    for file in ["prometheus.yml", "prometheus-ecs.yml"] {
        promtool(&["check", "config", file], &folder);
    }
    promtool(&["test", "rules", "alerts_test.yml"], &folder);
}

#[test]
#[ignore = "needs promtool"]
fn prometheus_takes_every_expression_of_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = "groups:\n  - name: board\n    rules:\n".to_owned();
    for (n, expr) in expressions().iter().enumerate() {
        let expr = serde_json::to_string(expr).unwrap();
        rules.push_str(&format!("      - record: board:{n}\n        expr: {expr}\n"));
    }
    std::fs::write(folder.path().join("board.yml"), rules).unwrap();
    promtool(&["check", "rules", "board.yml"], folder.path());
}
