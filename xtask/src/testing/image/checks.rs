//! What the image has to be able to do: each line of the report is a promise of the Dockerfile or of the README.
//!
//! Owns what is asked; `running.rs` starts the programs. Must never look at how the image was built.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::IMAGE;
use super::buildah::{Buildah, Image};
use super::running::{Container, Network, Started, until};
use crate::testing::tally::Tally;

/// The health check of every App Mesh gateway, letter by letter.
const HEALTH_CHECK: &str = "curl -s http://localhost:9901/server_info | grep state | grep -q LIVE";
/// The one of control in the task definitions that `control init ecs` writes.
const CONTROL_CHECK: &str = "curl -sf http://localhost:18000/healthz";
/// The user of the image, and its group.
const USER: &str = "10001";
/// Only a broken image needs it.
const DEADLINE: Duration = Duration::from_secs(30);
/// ECS sends SIGKILL 30 seconds after SIGTERM (`stopTimeout`), so what takes longer is cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Debian ships some 140 certificate authorities; a few would not be its list.
const FEWEST_AUTHORITIES: usize = 100;
/// Largest sum of all files: Debian's slim image, curl with its libraries, three programs, and room.
const MOST_BYTES: u64 = 200_000_000;

const GATEWAY: &str = "
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 9080}}
    http_connection_manager:
      route_config:
        virtual_hosts:
        - name: all
          domains: ['*']
          routes:
          - match: {prefix: /}
            name: svc1
            route: {weighted_clusters: {clusters: [{name: v1, weight: 1}, {name: v2, weight: 0}]}}
  clusters:
  - name: v1
    discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: 9001}}]}}
  - name: v2
    discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: 9002}}]}}
";
/// The state file is a relative name: in the working folder of the image, which has to belong to its user.
const CONTROL: &str = "
listen: 127.0.0.1:18000
state: {file: weir-state.json}
routes: {svc1: {targets: [v1, v2], stable: v1, weights: {v1: 99, v2: 1}}}
";

/// What is looked at.
pub struct Subject {
    /// The image's description.
    pub image: Image,
    /// The commit that its programs have to name.
    pub commit: Option<String>,
}

/// Counts what went well.
struct Report<'a> {
    tally: &'a mut Tally,
}

impl Report<'_> {
    /// Tells one promise and whether it is kept.
    fn promise<T>(&mut self, what: &str, kept: Result<T>) -> Option<T> {
        match kept {
            Ok(value) => {
                println!("image: {what} ... ok");
                self.tally.passed += 1;
                Some(value)
            }
            Err(error) => {
                println!("image: {what} ... FAILED\n{error:#}");
                self.tally.failed += 1;
                self.tally.failed_names.push(format!("image: {what}"));
                None
            }
        }
    }
}

/// Looks at the image and at what its programs do; answers whether every promise is kept.
pub fn run(buildah: &Buildah, subject: &Subject, tally: &mut Tally) -> Result<bool> {
    let network = Network::private()?;
    let container = Container::of(buildah, &network, IMAGE)?;
    let mut report = Report { tally };
    settings(&subject.image, &mut report);
    contents(&container, subject, &mut report);
    gateway(&container, &mut report)?;
    control(buildah, &container, &mut report)?;
    Ok(report.tally.failed == 0)
}

/// What an orchestrator reads.
fn settings(image: &Image, report: &mut Report<'_>) {
    let is = |pointer: &str, wanted: serde_json::Value| -> Result<()> {
        let found = image.config.pointer(pointer).cloned().unwrap_or_default();
        ensure!(found == wanted, "{pointer} is {found}, not {wanted}");
        Ok(())
    };
    report.promise(
        "an orchestrator sees a user that is not root",
        is("/User", format!("{USER}:{USER}").into()),
    );
    report.promise("the gateway is what runs by default", is("/Cmd", vec!["gateway"].into()));
    report.promise("SIGTERM ends it", is("/StopSignal", "SIGTERM".into()));
    let check = is("/Healthcheck/Test", vec!["CMD-SHELL", HEALTH_CHECK].into());
    report.promise("it carries the health check of an App Mesh gateway", check);
    let megabytes = image.bytes / 1_000_000;
    let size = if image.bytes <= MOST_BYTES { Ok(()) } else { Err(anyhow::anyhow!("more than allowed")) };
    report.promise(&format!("it is no larger than it should be ({megabytes} MB unpacked)"), size);
}

/// What is in it.
fn contents(container: &Container<'_>, subject: &Subject, report: &mut Report<'_>) {
    let user = container.run(&["id", "-u"]).and_then(|said| {
        ensure!(said == USER, "the user is {said}");
        Ok(())
    });
    report.promise("programs do not run as root", user);
    for program in ["gateway", "control", "loadtest"] {
        let commit = subject.commit.as_deref().unwrap_or("unknown");
        let said = container.run(&[program, "--version"]).and_then(|said| {
            let wanted = format!("(commit {commit})");
            ensure!(said.starts_with(program) && said.ends_with(&wanted), "it says {said:?}, not {wanted}");
            Ok(())
        });
        report.promise(&format!("{program} --version tells the commit"), said);
    }
    let counted = container.run(&["grep", "-c", "BEGIN CERTIFICATE", "/etc/ssl/certs/ca-certificates.crt"]);
    let counted = counted.and_then(|said| {
        let count: usize = said.parse().with_context(|| format!("not a number: {said}"))?;
        ensure!(count >= FEWEST_AUTHORITIES, "only {count}");
        Ok(())
    });
    report.promise("the AWS API can be trusted: the list of certificate authorities is there", counted);
    let writable = container.run(&["sh", "-c", "test -w . && test ! -w /usr/local/bin && test ! -w /etc"]);
    report.promise("the user may write to the working folder and to no program", writable);
}

/// The gateway as a task has it, with two versions behind it.
fn gateway(container: &Container<'_>, report: &mut Report<'_>) -> Result<()> {
    let healthy = || container.run(&["sh", "-c", HEALTH_CHECK]);
    let before = match healthy() {
        Ok(_) => Err(anyhow::anyhow!("it passes without a gateway")),
        Err(_) => Ok(()),
    };
    report.promise("the health check fails where no gateway is", before);
    let upstream =
        |name, port| container.start(name, &[], &["loadtest", "upstream", "--name", name, "--port", port]);
    let _v1 = upstream("v1", "9001")?;
    let _v2 = upstream("v2", "9002")?;
    let config = format!("GATEWAY_CONFIG={GATEWAY}");
    let mut gateway = container.start("gateway", &["--env", &config], &["gateway"])?;
    let live = until(DEADLINE, healthy).with_context(|| gateway.said());
    report.promise("the health check passes by the image's own sh, curl and grep", live);
    let owner = gateway.process(DEADLINE).and_then(owner_of);
    report.promise("the gateway does not run as root", owner);
    let ready = until(DEADLINE, || container.run(&["curl", "-sf", "http://127.0.0.1:9080/"]));
    report.promise("a request comes back through the gateway", ready);
    let split =
        ["loadtest", "split", "http://127.0.0.1:9080/", "--expect", "v1=100,v2=0", "--requests", "1000"];
    report.promise("a weight of 0 gets nothing of 1000 requests", container.run(&split));
    stopped(&mut gateway, "the gateway leaves with 0 after SIGTERM, before ECS loses patience", report);
    Ok(())
}

/// Control, from a file that is lent to it.
fn control(buildah: &Buildah, container: &Container<'_>, report: &mut Report<'_>) -> Result<()> {
    let file = buildah.folder().join("control.yaml");
    std::fs::write(&file, CONTROL).with_context(|| format!("cannot write {}", file.display()))?;
    let lent = format!("{}:/etc/weir/control.yaml:ro", file.display());
    let words = ["control", "serve", "--config", "/etc/weir/control.yaml"];
    let mut control = container.start("control", &["--volume", &lent], &words)?;
    let answer =
        until(DEADLINE, || container.run(&["sh", "-c", CONTROL_CHECK])).with_context(|| control.said());
    report.promise("control's health check passes", answer);
    // Its exit code tells how the fleet is, and there is none.
    let told = container.run(&["sh", "-c", "control get svc1 --json | grep svc1"]);
    report.promise("control answers its own command line", told);
    let owner = control.process(DEADLINE).and_then(owner_of);
    report.promise("control does not run as root", owner);
    stopped(&mut control, "control leaves with 0 after SIGTERM", report);
    let state = container.run(&["sh", "-c", "ls weir-state.json*"]);
    report.promise("control keeps its state in the working folder", state);
    Ok(())
}

fn stopped(program: &mut Started, what: &str, report: &mut Report<'_>) {
    if let Some(took) = report.promise(what, program.stop(STOP_TIMEOUT)) {
        println!("image: it took {:.1} s", took.as_secs_f64());
    }
}

/// Whether a process has the user of the image, by all four of its user ids (proc_pid_status(5)).
fn owner_of(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let users = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    ensure!(users.split_whitespace().all(|user| user == USER) && !users.is_empty(), "its users are {users}");
    Ok(())
}
