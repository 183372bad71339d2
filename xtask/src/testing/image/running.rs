//! Programs of the image, started: in a change root as the image's user, with a loopback of their own.
//!
//! Owns processes, and ends what it started. Must never use a port of the machine. Next: `checks.rs`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::buildah::Buildah;
use crate::shell;

/// Between two looks at something that is about to happen.
const PAUSE: Duration = Duration::from_millis(20);

/// A network with nothing but loopback; it ends with this value, or with the process that holds it.
pub struct Network {
    holder: Child,
}

impl Network {
    /// Makes one.
    pub fn private() -> Result<Self> {
        // `cat` ends when its input does, so also when we are killed.
        let holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "ip link set lo up && echo up && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let mut network = Self { holder };
        let output = network.holder.stdout.take().context("unshare has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "up" {
            bail!(
                "a network of its own cannot be made (unshare --net); the kernel or a container forbids it"
            );
        }
        Ok(network)
    }

    /// The beginning of a command that runs in it.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--");
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A copy of the image's files, where its programs run.
pub struct Container<'a> {
    buildah: &'a Buildah,
    network: &'a Network,
    name: String,
}

impl<'a> Container<'a> {
    /// Makes one of an image.
    pub fn of(buildah: &'a Buildah, network: &'a Network, image: &str) -> Result<Self> {
        let name = buildah.run(&["from", "--pull-never", image])?;
        Ok(Self { buildah, network, name })
    }

    /// With the image's own user, working folder and variables, and `options` of `buildah run` beside them.
    fn command(&self, options: &[&str], words: &[&str]) -> Command {
        let all: Vec<&str> =
            ["run"].iter().chain(options).chain(&[self.name.as_str(), "--"]).chain(words).copied().collect();
        self.buildah.command_by(self.network.enter(), &all)
    }

    /// Runs one of its programs to the end; answers what it printed.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        shell::quiet(&mut self.command(&[], words)).map(|said| said.trim().to_owned())
    }

    /// Starts one of its programs; what it prints goes to a file named after `label`.
    pub fn start(&self, label: &str, options: &[&str], words: &[&str]) -> Result<Started> {
        let log = self.buildah.folder().join(format!("{label}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.command(options, words);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot run {}", shell::describe(&command)))?;
        let program = words.first().copied().unwrap_or_default().to_owned();
        Ok(Started { child, program, log })
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.buildah.run(&["rm", &self.name]);
    }
}

/// A program that was started and not yet waited for.
pub struct Started {
    child: Child,
    program: String,
    log: PathBuf,
}

impl Started {
    /// The process of the program itself, below those of buildah.
    pub fn process(&mut self, deadline: Duration) -> Result<u32> {
        let started = Instant::now();
        while started.elapsed() < deadline {
            if let Some(pid) = below(self.child.id(), &self.program) {
                return Ok(pid);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status}):\n{}", self.program, self.said());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{} did not start:\n{}", self.program, self.said())
    }

    /// Sends SIGTERM to the program itself, as an orchestrator does, and waits for it to leave with 0. Answers how long
    /// that took.
    pub fn stop(&mut self, deadline: Duration) -> Result<Duration> {
        let pid = self.process(deadline)?.to_string();
        let started = Instant::now();
        shell::quiet(Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]))?;
        while started.elapsed() < deadline {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(started.elapsed());
                }
                bail!("{} did not leave with 0 ({status}):\n{}", self.program, self.said());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{} is still there {} s after SIGTERM:\n{}", self.program, deadline.as_secs(), self.said())
    }

    /// The end of what it printed.
    pub fn said(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        shell::last_lines(&String::from_utf8_lossy(&text), 20)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // buildah does not take along what it started.
        let mut script = Command::new("sh");
        script.args(["-c", "kill -KILL \"$@\"", "sh"]);
        let family = family(self.child.id());
        let _ = shell::quiet(script.args(family.iter().map(|(pid, _)| pid.to_string())));
        let _ = self.child.wait();
    }
}

/// Tries until it goes well or the deadline is over; answers how long it took, or the last failure.
pub fn until<T>(deadline: Duration, mut what: impl FnMut() -> Result<T>) -> Result<Duration> {
    let started = Instant::now();
    loop {
        match what() {
            Ok(_) => return Ok(started.elapsed()),
            Err(error) if started.elapsed() > deadline => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// The process called `name` among the descendants of `ancestor`.
fn below(ancestor: u32, name: &str) -> Option<u32> {
    family(ancestor).into_iter().find(|(_, called)| called == name).map(|(pid, _)| pid)
}

/// A process and its descendants, parents first, with their names.
fn family(ancestor: u32) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes: Vec<(u32, u32, String)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(parent, name)| (pid, parent, name)))
        .collect();
    let mut family: Vec<(u32, String)> = processes
        .iter()
        .filter(|(pid, ..)| *pid == ancestor)
        .map(|(pid, _, name)| (*pid, name.clone()))
        .collect();
    let mut next = 0;
    while let Some(member) = family.get(next).map(|(pid, _)| *pid) {
        next += 1;
        let children = processes.iter().filter(|(_, parent, _)| *parent == member);
        family.extend(children.map(|(pid, _, name)| (*pid, name.clone())));
    }
    family
}

/// Parent and name of a process that has not ended (proc_pid_stat(5): `pid (name) state parent ...`; the name may hold
/// anything).
fn stat(pid: u32) -> Option<(u32, String)> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut words = after.split_whitespace();
    // Ended, and nobody has asked how.
    if words.next()? == "Z" {
        return None;
    }
    Some((words.next()?.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_below_its_starter() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'cat; exit' ; exit"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let found = until(Duration::from_secs(20), || below(shell.id(), "cat").context("no cat"));
        assert!(below(shell.id(), "dog").is_none());
        drop(shell.stdin.take());
        shell.wait().unwrap();
        found.unwrap();
    }

    #[test]
    fn nothing_is_left_of_what_a_program_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'cat; exit'; exit"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Kept open, so that only a signal ends `cat`.
        let _input = child.stdin.take();
        let starter = child.id();
        let found = until(Duration::from_secs(20), || below(starter, "cat").context("no cat"));
        let cat = below(starter, "cat");
        drop(Started { child, program: "cat".to_owned(), log: PathBuf::new() });
        found.unwrap();
        let gone = || {
            let alive = cat.and_then(stat).is_some_and(|(_, name)| name == "cat");
            if alive { bail!("cat is still there") } else { Ok(()) }
        };
        until(Duration::from_secs(20), gone).unwrap();
    }

    #[test]
    fn the_last_failure_is_told_when_the_time_is_over() {
        let error = until(Duration::ZERO, || bail!("not yet") as Result<()>).unwrap_err();
        assert_eq!(error.to_string(), "not yet");
    }
}
