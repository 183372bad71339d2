//! Which package may depend on which.
//!
//! Owns the order of the layers and the three rules about outside crates; it must never read files (that is
//! `workspace.rs`). Next: `modules.rs`, the same inside the gateway.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Violation;

/// The layers from the top: a package may depend on packages of lower layers only, never on one beside it.
const LAYERS: [&[&str]; 4] = [
    &["gateway", "control", "loadtest"],
    &["aws", "http1", "evidence", "tls"],
    &["lifecycle"],
    &["gateway-config", "build-info"],
];

/// Helps tests and the demo; no shipped code may contain it.
const DEV_ONLY: &str = "testkit";
/// The development commands: nobody depends on them.
const COMMANDS: &str = "xtask";
/// What gateway-config may not pull in, directly or not: it is a model over bytes, without I/O.
const NOT_IN_CONFIG: [&str; 3] = ["tokio", "hyper", "mio"];
/// The only package that may depend on `aws-*` crates.
const SEES_AWS: &str = "aws";

/// One package of the workspace.
#[derive(Debug, Default)]
pub struct Package {
    /// Its name in Cargo.toml.
    pub name: String,
    /// What it depends on, as written in its Cargo.toml.
    pub dependencies: Vec<Dependency>,
    /// Names of all packages that its normal dependencies pull in.
    pub reaches: BTreeSet<String>,
}

/// One line of a `[dependencies]` table.
#[derive(Debug)]
pub struct Dependency {
    /// Package name.
    pub name: String,
    /// Under `[dev-dependencies]`.
    pub dev: bool,
}

/// Reads the packages of the workspace from `cargo metadata`.
pub fn read(metadata: &Value) -> Result<Vec<Package>> {
    let list =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let members: BTreeSet<String> =
        list(metadata, "workspace_members").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut names = BTreeMap::new();
    let packages = list(metadata, "packages");
    for package in &packages {
        names.insert(text(package, "id"), text(package, "name"));
    }
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in
        metadata.pointer("/resolve/nodes").and_then(Value::as_array).context("metadata without resolve")?
    {
        let normal = |dep: &&Value| {
            list(dep, "dep_kinds").iter().any(|kind| kind.get("kind").is_none_or(Value::is_null))
        };
        let next = list(node, "deps").iter().filter(normal).map(|dep| text(dep, "pkg")).collect();
        edges.insert(text(node, "id"), next);
    }
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| members.contains(&text(package, "id"))) {
        let dependencies = list(package, "dependencies")
            .iter()
            .map(|dep| Dependency { name: text(dep, "name"), dev: text(dep, "kind") == "dev" })
            .collect();
        let reaches =
            reachable(&text(package, "id"), &edges).iter().filter_map(|id| names.get(id).cloned()).collect();
        found.push(Package { name: text(package, "name"), dependencies, reaches });
    }
    Ok(found)
}

fn reachable(start: &str, edges: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![start.to_owned()];
    while let Some(id) = waiting.pop() {
        for next in edges.get(&id).into_iter().flatten() {
            if seen.insert(next.clone()) {
                waiting.push(next.clone());
            }
        }
    }
    seen
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Every breach between packages.
pub fn check(packages: &[Package]) -> Vec<Violation> {
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let mut say = |what: String| found.push(Violation { place: package.name.clone(), what });
        let name = package.name.as_str();
        if layer(name).is_none() && name != DEV_ONLY && name != COMMANDS {
            say("has no place in the layers: give it one in xtask/src/layers/packages.rs".to_owned());
        }
        for dependency in &package.dependencies {
            if dependency.name.starts_with("aws-") && name != SEES_AWS {
                say(format!("depends on {}; only crates/aws sees the AWS SDK", dependency.name));
            }
            if members.contains(dependency.name.as_str())
                && let Some(what) = wrong_direction(name, dependency)
            {
                say(what);
            }
        }
        if name == "gateway-config" {
            for banned in NOT_IN_CONFIG.iter().filter(|banned| package.reaches.contains(**banned)) {
                say(format!("pulls in {banned}; the configuration is a model over bytes, without I/O"));
            }
        }
    }
    found
}

/// What is wrong with one dependency within the workspace, if anything.
fn wrong_direction(from: &str, dependency: &Dependency) -> Option<String> {
    let to = dependency.name.as_str();
    if to == COMMANDS {
        return Some(format!("depends on {COMMANDS}; nobody may"));
    }
    if to == DEV_ONLY {
        let allowed = dependency.dev || from == COMMANDS;
        return (!allowed).then(|| format!("depends on {DEV_ONLY} outside [dev-dependencies]"));
    }
    // The dev-only packages stand above the libraries and beside the programs.
    let own = if from == DEV_ONLY || from == COMMANDS { Some(0) } else { layer(from) };
    match (own, layer(to)) {
        (Some(0), Some(0)) => Some(format!("depends on {to}; programs meet only on the wire")),
        (Some(own), Some(other)) if other <= own => Some(format!(
            "depends on {to}, which is not in a lower layer; see LAYERS in xtask/src/layers/packages.rs"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, dev)| Dependency { name: (*name).to_owned(), dev: *dev })
            .collect();
        Package { name: name.to_owned(), dependencies, reaches: BTreeSet::new() }
    }

    /// A sound workspace in which one package has been replaced.
    fn breach(changed: Package) -> Vec<String> {
        let mut packages = vec![
            package(
                "gateway",
                &[("http1", false), ("lifecycle", false), ("gateway-config", false), ("testkit", true)],
            ),
            package("control", &[("aws", false)]),
            package("loadtest", &[]),
            package("aws", &[("aws-sdk-appmesh", false), ("testkit", true)]),
            package("http1", &[]),
            package("lifecycle", &[]),
            package("gateway-config", &[]),
            package("testkit", &[("lifecycle", false)]),
            package("xtask", &[]),
        ];
        packages.retain(|package| package.name != changed.name);
        packages.push(changed);
        check(&packages).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_workspace_passes() {
        assert_eq!(
            breach(package("loadtest", &[("tokio", false), ("lifecycle", false)])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn programs_never_depend_on_one_another_even_in_tests() {
        for (from, to, dev) in
            [("gateway", "control", false), ("control", "gateway", true), ("loadtest", "control", true)]
        {
            let found = breach(package(from, &[(to, dev)]));
            assert!(
                found.first().is_some_and(|what| what.contains("only on the wire")),
                "{from} -> {to}: {found:?}"
            );
        }
    }

    #[test]
    fn a_lower_layer_never_depends_on_a_higher_or_equal_one() {
        for (from, to) in
            [("http1", "gateway"), ("lifecycle", "aws"), ("gateway-config", "lifecycle"), ("aws", "http1")]
        {
            let found = breach(package(from, &[(to, false)]));
            assert!(
                found.first().is_some_and(|what| what.contains("lower layer")),
                "{from} -> {to}: {found:?}"
            );
        }
    }

    #[test]
    fn testkit_is_for_tests_only() {
        let found = breach(package("control", &[("testkit", false)]));
        assert!(found.first().unwrap().contains("outside [dev-dependencies]"), "{found:?}");
        assert_eq!(breach(package("xtask", &[("testkit", false)])), Vec::<String>::new());
        assert!(!breach(package("testkit", &[("gateway", false)])).is_empty());
    }

    #[test]
    fn nobody_depends_on_xtask() {
        assert!(breach(package("testkit", &[("xtask", true)])).first().unwrap().contains("nobody may"));
    }

    #[test]
    fn only_the_aws_crate_sees_the_sdk() {
        let found = breach(package("control", &[("aws-sdk-appmesh", false)]));
        assert!(found.first().unwrap().contains("only crates/aws"), "{found:?}");
    }

    #[test]
    fn the_configuration_pulls_in_no_runtime_even_indirectly() {
        let mut config = package("gateway-config", &[("innocent", false)]);
        config.reaches = ["innocent".to_owned(), "tokio".to_owned()].into();
        assert!(breach(config).first().unwrap().contains("pulls in tokio"));
    }

    #[test]
    fn a_package_without_a_place_is_found() {
        assert!(breach(package("newcomer", &[])).first().unwrap().contains("no place"));
    }

    #[test]
    fn metadata_is_read_with_what_is_reached_and_without_dev() {
        let metadata = serde_json::json!({
            "workspace_members": ["g"],
            "packages": [
                {"id": "g", "name": "gateway", "dependencies": [{"name": "a", "kind": null}, {"name": "t", "kind": "dev"}]},
                {"id": "a", "name": "a", "dependencies": []},
                {"id": "b", "name": "b", "dependencies": []},
                {"id": "t", "name": "t", "dependencies": []}
            ],
            "resolve": {"nodes": [
                {"id": "g", "deps": [
                    {"pkg": "a", "dep_kinds": [{"kind": null}]},
                    {"pkg": "t", "dep_kinds": [{"kind": "dev"}]}
                ]},
                {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]}
            ]}
        });
        let packages = read(&metadata).unwrap();
        let gateway = packages.first().unwrap();
        assert_eq!(packages.len(), 1);
        assert_eq!(gateway.reaches.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(gateway.dependencies.iter().map(|d| d.dev).collect::<Vec<_>>(), [false, true]);
    }
}
