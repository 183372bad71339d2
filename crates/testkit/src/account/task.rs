//! Task definitions as ECS reads them, and tasks as it runs them: one container each, of our own programs.
//!
//! A task gets the environment of its definition and nothing of the test's. What the stand-in does not do: images, limits,
//! users, log drivers. Must never interpret a field that ECS does not have. Read `mod` next.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::network::{Network, Place};
use crate::clock::{real_sleep, within};
use crate::process::{Process, bin};

/// How long a task may take to become healthy or to stop: far beyond what is usual.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two health checks; ECS waits seconds.
const LOOK: Duration = Duration::from_millis(100);

/// The parts of a task definition that make a difference here.
#[derive(Clone, Debug)]
pub struct TaskDefinition {
    /// Its family.
    pub family: String,
    /// `command`, or the image's own.
    pub command: Vec<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Variables that come from secrets: name, then ARN.
    pub secrets: BTreeMap<String, String>,
    /// The line that `CMD-SHELL` runs.
    pub health_check: Option<String>,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    #[serde(alias = "valueFrom")]
    value: String,
}

impl TaskDefinition {
    /// Reads the JSON that `aws ecs register-task-definition --cli-input-json` takes; the first container counts.
    ///
    /// # Errors
    /// When the file cannot be read or is no task definition.
    pub fn read(path: &Path) -> Result<Self> {
        let document: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let container = document.pointer("/containerDefinitions/0").context("no container")?;
        let pairs = |name: &str| -> Result<BTreeMap<String, String>> {
            let given = container.get(name).cloned().unwrap_or_else(|| Value::Array(Vec::new()));
            let pairs: Vec<Pair> = serde_json::from_value(given)?;
            Ok(pairs.into_iter().map(|pair| (pair.name, pair.value)).collect())
        };
        let words = |pointer: &str| -> Vec<String> {
            container
                .pointer(pointer)
                .cloned()
                .and_then(|v| serde_json::from_value(v).ok())
                .unwrap_or_default()
        };
        let check = words("/healthCheck/command");
        let stop = container.get("stopTimeout").and_then(Value::as_u64).unwrap_or(30);
        Ok(Self {
            family: document.get("family").and_then(Value::as_str).context("no family")?.to_owned(),
            command: words("/command"),
            environment: pairs("environment")?,
            secrets: pairs("secrets")?,
            health_check: check.get(1).filter(|_| check.first().is_some_and(|w| w == "CMD-SHELL")).cloned(),
            stop_timeout: Duration::from_secs(stop),
        })
    }

    /// With another command.
    #[must_use]
    pub fn with_command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With one more variable, or another value of it.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without a variable or secret.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self.secrets.remove(name);
        self
    }
}

/// A running task.
#[derive(Debug)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its address in the VPC.
    pub address: IpAddr,
    /// Its one container.
    pub process: Process,
    place: Place,
    definition: TaskDefinition,
    environment: BTreeMap<String, String>,
    /// Empty at the start, and gone with the task.
    disk: TempDir,
}

impl Task {
    pub(super) fn start(
        network: &mut Network,
        definition: &TaskDefinition,
        address: IpAddr,
        (id, environment): (String, BTreeMap<String, String>),
    ) -> Result<Self> {
        let place = network.place(address)?;
        // The image's own command is the gateway.
        let gateway = vec!["gateway".to_owned()];
        let words = if definition.command.is_empty() { &gateway } else { &definition.command };
        let disk = TempDir::new()?;
        let mut command = command(&place, words, &environment)?;
        command.current_dir(disk.path());
        let process = Process::spawn(&format!("{} at {address}", definition.family), &mut command)?;
        Ok(Self { id, address, process, place, definition: definition.clone(), environment, disk })
    }

    /// One of its ports.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// Runs the health check of its definition once, with a shell in its place.
    ///
    /// # Errors
    /// When there is none, or the shell cannot be started.
    pub fn is_healthy(&self) -> Result<bool> {
        let line = self.definition.health_check.as_ref().context("the definition has no health check")?;
        let mut command = self.place.command("sh".as_ref());
        Ok(command.args(["-c", line]).output()?.status.success())
    }

    /// Waits until the health check passes.
    ///
    /// # Errors
    /// When the task ends, or takes too long; the error shows its last lines.
    pub async fn healthy(&self) -> Result<()> {
        let passing = async {
            while !self.is_healthy()? {
                if let Some(status) = self.process.ended() {
                    bail!("{} ended with {status}:\n{}", self.definition.family, self.process.tail());
                }
                real_sleep(LOOK).await;
            }
            Ok(())
        };
        let what = format!("a health check of {} that passes", self.definition.family);
        within(PATIENCE, &what, passing).await.with_context(|| self.process.tail())?
    }

    /// `aws ecs execute-command`: a command in the running task, with its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exec(&self, words: &[&str]) -> Result<Output> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut command = command(&self.place, &words, &self.environment)?;
        Ok(command.current_dir(self.disk.path()).output()?)
    }

    /// As ECS stops a task: SIGTERM, and SIGKILL when `stopTimeout` has passed.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.process.terminate()?;
        match self.process.exit_within(self.definition.stop_timeout).await {
            Ok(status) => Ok(status),
            Err(error) => {
                self.process.kill().await?;
                Err(error)
            }
        }
    }

    /// The machine under it is gone: no reset, no goodbye.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn vanish(&self) -> Result<()> {
        self.place.unplug()?;
        self.process.kill().await?;
        Ok(())
    }

    /// Its cable, to pull and to put in again.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// One of our programs, or one of the machine's, in a task's place; nothing but `environment` and a path.
fn command(place: &Place, words: &[String], environment: &BTreeMap<String, String>) -> Result<Command> {
    let (program, args) = words.split_first().context("an empty command")?;
    let ours = bin(program).map_or_else(|_| OsString::from(program), std::path::PathBuf::into_os_string);
    let mut command = place.command(&ours);
    command.args(args).env_clear().envs(environment);
    // As in the image, our programs are on the path.
    let mut path = OsString::from(bin("gateway")?.parent().context("no folder")?);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    command.env("PATH", path);
    Ok(command)
}
