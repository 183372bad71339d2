//! `gateway --mode doctor`: what is closed between this task and everything a gateway needs, and the sentence that opens
//! it.
//!
//! Owns the order of the checks, what is printed and the exit code. It binds nothing, changes nothing and tells control
//! nothing that a gateway beside it would suffer from, so it may run in a task that serves. Next: `finding.rs`, then
//! `control.rs`, `cluster.rs`, `task.rs`.

mod cluster;
mod control;
mod finding;
mod task;

use crate::cli::Cli;
use crate::commands::client;
use crate::environment::{Environment, Unusable};
use finding::{Finding, Outcome};
use gateway_config::discovered::GatewayResources;
use gateway_config::model::{Bootstrap, Cluster, Discovery};
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};

/// All checks together; each has a limit of its own that makes less.
const LIMIT: Duration = Duration::from_secs(30);
/// Exit code: something failed.
const EXIT_FAILED: u8 = 1;

/// Runs every check and prints a line for each.
pub fn run(cli: &Cli, environment: &Environment) -> ExitCode {
    let runtime = match client::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("gateway: the runtime cannot start: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let mut report = Report::default();
    let examined = async {
        if tokio::time::timeout(LIMIT, examine(cli, environment, &mut report)).await.is_err() {
            report.add(Finding::fail(
                "doctor",
                format!("not done within {} s", LIMIT.as_secs()),
                "run it again; what was printed so far is true",
            ));
        }
    };
    LocalSet::new().block_on(&runtime, examined);
    // A name that is still being resolved must not hold up the end.
    runtime.shutdown_background();
    println!("doctor: {} ok, {} failed, {} skipped", report.ok, report.failed, report.skipped);
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

/// Prints at once, so that what hangs is seen to hang.
#[derive(Debug, Default)]
struct Report {
    ok: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    fn add(&mut self, finding: Finding) {
        match finding.outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Fail => self.failed += 1,
            Outcome::Skip => self.skipped += 1,
        }
        println!("{finding}");
    }

    fn all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }
}

async fn examine(cli: &Cli, environment: &Environment, report: &mut Report) {
    let read = environment.bootstrap(cli.config.as_deref());
    report.all(task::environment(environment, &read));
    let base = read.ok();
    let own = base.as_ref().is_some_and(|bootstrap| !bootstrap.listeners.is_empty());
    let control = base.as_ref().and_then(|bootstrap| bootstrap.control.as_ref());
    let state_item = control.and_then(|control| control.state_item.clone());
    let ask_control = async {
        match control {
            Some(control) => control::check(control, own).await,
            None => control::absent(),
        }
    };
    let (heard, item, metadata) =
        tokio::join!(ask_control, task::state_item(state_item.clone()), task::metadata());
    report.all(heard.findings);
    let resources = heard.resources.or(item.resources);
    let whole = match base {
        Some(base) if !own => resources.and_then(|resources| from_control(&base, &resources, report)),
        own => own,
    };
    let clusters = whole.as_ref().map(|bootstrap| bootstrap.clusters.clone());
    let uses_aws = clusters.iter().flatten().any(is_cloud_map) || state_item.is_some();
    let (credentials, found, ports) = tokio::join!(
        task::credentials(uses_aws),
        check_clusters(clusters.as_deref()),
        task::ports(environment, whole.as_ref())
    );
    report.add(credentials);
    report.all(found);
    report.all(item.findings);
    report.add(metadata);
    report.all(ports);
}

fn is_cloud_map(cluster: &Cluster) -> bool {
    matches!(cluster.discovery, Discovery::CloudMap(_))
}

fn from_control(base: &Bootstrap, resources: &GatewayResources, report: &mut Report) -> Option<Bootstrap> {
    match resources.complete(base) {
        Ok(bootstrap) => Some(bootstrap),
        Err(errors) => {
            let cure = format!("put it right in the section `gateway` of control:\n{errors}");
            report.add(Finding::fail("configuration", "what control gives is refused", cure));
            None
        }
    }
}

async fn check_clusters(clusters: Option<&[Cluster]>) -> Vec<Finding> {
    let Some(clusters) = clusters else {
        return vec![Finding::skip("clusters", "not known without a configuration")];
    };
    let mut running = JoinSet::new();
    for (at, cluster) in clusters.iter().cloned().enumerate() {
        running.spawn_local(async move { (at, cluster::check(&cluster).await) });
    }
    let mut found = running.join_all().await;
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().flat_map(|(_, findings)| findings).collect()
}

/// Why there is no configuration, in a line and a cure.
fn unusable(why: &Unusable) -> Finding {
    let text = why.to_string();
    match why {
        Unusable::Nothing(_) => Finding::fail("configuration", "nothing to serve", text),
        Unusable::Refused(_) => Finding::fail("configuration", "refused", text),
    }
}
