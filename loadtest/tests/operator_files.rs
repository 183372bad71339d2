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
    for part in ["summary: ", "action: ", "severity: "] {
        assert_eq!(count(part), count("- alert: "), "{part}");
    }
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
    promtool(&["check", "config", "prometheus.yml"], &folder);
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
