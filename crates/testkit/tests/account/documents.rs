//! The commands of the runbook and of the migration page, run as they stand there.
//!
//! What needs a real AWS account is named and left out; `config/ecs/weir` itself is tested with a scripted `aws` elsewhere,
//! here its commands are run where it would run them. Other `aws` lines are checked against the
//! real command's arguments in `loadtest/tests/documents.rs`.

use crate::world::{World, until};
use std::path::{Path, PathBuf};
use testkit::account::network::inside;
use testkit::account::task::Task;
use testkit::process::test_env;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The command lines of a page's code blocks, indented or fenced, with their continuations joined.
fn commands(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
    let (mut found, mut open, mut fenced) = (Vec::new(), None::<String>, false);
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced && line.trim_start_matches('`').starts_with("sh");
            continue;
        }
        let Some(line) = line.strip_prefix("    ").or_else(|| fenced.then_some(line)) else {
            open = None;
            continue;
        };
        let whole = open.take().map_or_else(|| line.to_owned(), |before| format!("{before} {}", line.trim()));
        if let Some(before) = whole.strip_suffix('\\') {
            open = Some(before.trim_end().to_owned());
            continue;
        }
        let first = whole.split(' ').next().unwrap_or_default();
        if ["control", "gateway", "weir", "curl"].contains(&first) || whole.starts_with("aws dynamodb ") {
            found.push(whole);
        }
    }
    found
}

/// Where a line is run.
#[derive(Debug, PartialEq)]
enum Place {
    /// In control's task, or a one-off of it.
    Control,
    /// In a gateway's task.
    Gateway,
    /// In every gateway's task.
    Gateways,
    /// Not at all, and why.
    Nowhere(&'static str),
}

/// The line as a shell takes it there: placeholders filled in, `weir` taken away where it only says from where.
fn place(line: &str, gateway: &Task, load_balancer: &str) -> (Place, String) {
    let line = line.replace("vm-0e188448", &gateway.id).replace("http://NEW-ALB/", load_balancer);
    if line.contains("/config_dump") && line.starts_with("curl") {
        return (Place::Nowhere("asks an Envoy of App Mesh; a dump of one is among the fixtures"), line);
    }
    if let Some(rest) = line.strip_prefix("weir exec -- ") {
        return (Place::Gateway, rest.to_owned());
    }
    if let Some(rest) = line.strip_prefix("weir override ") {
        return (Place::Gateways, format!("gateway override {rest}"));
    }
    if line.starts_with("weir bypass") || line.starts_with("weir tunnel") {
        return (Place::Nowhere("changes a load balancer of AWS, or opens a session there"), line);
    }
    if line.starts_with("control serve") {
        return (Place::Nowhere("does not end"), line);
    }
    if let Some(rest) = line.strip_prefix("weir ") {
        return (Place::Control, format!("control {rest}"));
    }
    // The aws command stands beside control's task here: both have the account's DynamoDB.
    let of_control = line.starts_with("control") || line.starts_with("aws ");
    let place = if of_control { Place::Control } else { Place::Gateway };
    (place, line)
}

/// A folder with the files that the pages speak of.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = root().join("control/tests/fixtures/import");
    for name in ["mesh-and-nodes.yml", "route.yml", "app.properties.json", "config_dump.json"] {
        std::fs::copy(fixtures.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::copy(root().join("config/samples/static.yaml"), folder.path().join("gateway.yaml")).unwrap();
    folder
}

async fn run_page(page: &str) {
    let world = World::deploy().await;
    let folder = folder();
    let lines = commands(page);
    assert!(lines.len() >= 10, "the page has its commands: {lines:?}");
    let (mut failures, mut ran) = (String::new(), 0);
    for line in lines {
        let control = world.control.as_ref().unwrap();
        let (place, shell) =
            place(&line, &world.gateways[0], &format!("http://{}/", world.gateways[0].at(9080)));
        let tasks: Vec<&Task> = match &place {
            Place::Control => vec![control],
            Place::Gateway => vec![&world.gateways[0]],
            Place::Gateways => world.gateways.iter().collect(),
            Place::Nowhere(why) => {
                println!("not run: {line} ({why})");
                continue;
            }
        };
        for task in tasks {
            let aws = test_env("bin/aws").unwrap();
            let shell =
                shell.replace("aws dynamodb ", &format!("{} dynamodb --region eu-west-1 ", aws.display()));
            let there = format!("cd {} && {shell}", folder.path().display());
            let output = task.exec(&["sh", "-c", &there]).unwrap();
            ran += 1;
            println!("{}: {line}", output.status);
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                failures += &format!("{line}\n  as: {shell}\n  {}: {said}\n", output.status);
            }
        }
        settle(&world).await;
    }
    println!("{page}: {ran} commands were run");
    assert!(failures.is_empty(), "{failures}");
}

/// A forgotten gateway is back with its next word.
async fn settle(world: &World) {
    let control = world.control.as_ref().unwrap();
    until("both gateways at control", async || {
        let seen = control.exec(&["control", "get", "svc1", "--json"]).unwrap();
        let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).ok()?;
        (seen["routes"][0]["gateways"].as_array()?.len() >= 2).then_some(())
    })
    .await;
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn every_command_of_the_runbook_does_what_it_says() {
    inside("documents::every_command_of_the_runbook_does_what_it_says", async || {
        run_page("runbook.md").await;
    })
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn every_command_of_the_migration_page_does_what_it_says() {
    inside("documents::every_command_of_the_migration_page_does_what_it_says", async || {
        run_page("migrating-from-app-mesh.md").await;
    })
    .unwrap();
}
