//! Every sample parses, means what it says, and fits the JSON schema; the committed schemas are those of the tables.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use std::path::{Path, PathBuf};

use gateway_config::control_config::{self, OnDrift};
use gateway_config::diagnostic::Collector;
use gateway_config::model::{Discovery, RouteTarget};
use gateway_config::{read_bootstrap, schema, tree};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Gateway files and control files; a control file has `control` in its name.
fn samples() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder("samples")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let is_control = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains("control");
    let (control, gateway): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_control);
    assert!(gateway.len() >= 5 && control.len() >= 2, "samples are missing");
    (gateway, control)
}

fn as_json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap();
    let mut out = Collector::new("sample", &text);
    let root = tree::read(&text, &mut out).expect("the sample is YAML");
    root.to_json()
}

#[test]
fn every_sample_parses() {
    let (gateway, control) = samples();
    for path in gateway {
        if let Err(errors) = read_bootstrap(&path) {
            panic!("{errors}");
        }
    }
    for path in control {
        if let Err(errors) = control_config::read_control(&path) {
            panic!("{errors}");
        }
    }
}

#[test]
fn every_sample_fits_its_json_schema() {
    let (gateway, control) = samples();
    for (paths, schema) in [(gateway, schema::bootstrap()), (control, schema::control())] {
        let validator = jsonschema::validator_for(&schema).expect("the schema is one");
        for path in paths {
            let errors: Vec<String> = validator
                .iter_errors(&as_json(&path))
                .map(|e| format!("{}: {e}", e.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        }
    }
}

#[test]
fn the_json_schema_refuses_what_the_table_refuses() {
    let validator = jsonschema::validator_for(&schema::bootstrap()).unwrap();
    let good = as_json(&folder("samples/static.yaml"));
    assert!(validator.is_valid(&good));
    let cluster = |value: serde_json::Value| {
        let mut changed = good.clone();
        changed["static_resources"]["clusters"][0] = value;
        validator.is_valid(&changed)
    };
    let endpoints =
        serde_json::json!({"endpoints": [{"socket_address": {"address": "127.0.0.1", "port_value": 1}}]});
    assert!(cluster(serde_json::json!({"name": "v1", "discovery": {"static": endpoints}})));
    assert!(
        !cluster(serde_json::json!({"name": "v1", "discovery": {"static": endpoints}, "lb": 1})),
        "unknown field"
    );
    assert!(!cluster(serde_json::json!({"name": "v1", "discovery": {}})), "none of a required choice");
    assert!(!cluster(serde_json::json!({"discovery": {"static": endpoints}})), "missing name");
    assert!(
        !cluster(serde_json::json!({"name": "v1", "discovery": {"static": endpoints}, "connect_timeout": 1})),
        "a duration without unit"
    );
}

#[test]
fn the_committed_schemas_are_those_of_the_tables() {
    for (name, schema) in [("gateway", schema::bootstrap()), ("control", schema::control())] {
        let path = folder("schema").join(format!("{name}.schema.json"));
        let wanted = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "{} is stale: run UPDATE=1 cargo test -p gateway-config", path.display());
    }
}

#[test]
fn the_demo_gateway_splits_99_to_1_over_cloud_map() {
    let config = read_bootstrap(&folder("samples/demo-gateway.yaml")).unwrap();
    let route = &config.listeners[0].http_connection_manager.route_config.virtual_hosts[0].routes[0];
    let RouteTarget::Weighted(weighted) = &route.action.target else { panic!("not weighted") };
    let weights: Vec<_> = weighted.clusters.iter().map(|c| (c.name.as_str(), c.weight)).collect();
    assert_eq!(weights, [("v1", 99), ("v2", 1)]);
    assert_eq!(weighted.stable.as_deref(), Some("v1"));
    assert_eq!(weighted.override_header.as_deref(), Some("x-canary"));
    assert!(weighted.health_aware);
    assert_eq!(config.control.as_ref().unwrap().url, "http://127.0.0.1:18000");
    let Discovery::CloudMap(cloud_map) = &config.clusters[1].discovery else { panic!("not Cloud Map") };
    assert_eq!(
        (cloud_map.namespace_name.as_str(), cloud_map.service_name.as_str()),
        ("demo.local", "svc1-v2")
    );
    assert!(cloud_map.allow_loopback && cloud_map.port.is_none());
}

#[test]
fn the_demo_control_starts_with_9900_to_100_hundredths() {
    let config = control_config::read_control(&folder("samples/demo-control.yaml")).unwrap();
    let route = &config.routes["svc1"];
    let weights = route.weights.as_ref().unwrap();
    assert_eq!((weights["v1"], weights["v2"]), (9_900, 100));
    let mesh = route.app_mesh.as_ref().unwrap();
    assert_eq!(mesh.on_drift, OnDrift::Pause);
    assert_eq!(mesh.targets["v2"], "svc1-v2");
}

#[test]
fn a_percentage_may_leave_the_rest_to_the_stable() {
    let config = control_config::read_control(&folder("samples/ecs-control.yaml")).unwrap();
    let weights = config.routes["shop"].weights.as_ref().unwrap();
    assert_eq!((weights["shop-v1"], weights["shop-v2"]), (9_950, 50));
    assert_eq!(config.tokens.operator.len(), 2);
    assert!(config.routes["svc1"].weights.is_none());
}
