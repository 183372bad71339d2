//! Programs under test and beside it: started, watched line by line, signalled, and never left behind.
//!
//! Owns one child process each. Needs no runtime of its own to be running: the pipes and the exit are watched by threads. Must
//! never build anything: that is cargo's work. Read `programs` next for the programs that tests know by name.

mod programs;

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;

use crate::clock::{DEADLINE, within};
use crate::net::lock;
pub use programs::{Envoy, Moto, Prometheus, bin, promtool_check_metrics, test_env};

/// How long a program may take until it says that it is ready: an interpreter's cold start on a loaded machine.
pub const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long the output of a process that has ended is awaited.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Lines kept of one process; older ones are forgotten.
pub const MAX_LINES: usize = 200_000;
/// Lines shown in errors.
const SHOWN: usize = 30;

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// True if it came on standard error.
    pub stderr: bool,
    /// The text without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

#[derive(Default)]
struct Output {
    /// How many lines were forgotten before the first one kept.
    forgotten: usize,
    lines: VecDeque<Line>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    lines: usize,
    open_pipes: u8,
    exit: Option<ExitStatus>,
}

struct Shared {
    output: Mutex<Output>,
    progress: watch::Sender<Progress>,
}

/// A running, or ended, child process. Dropping it kills it (SIGKILL) and waits for its end.
pub struct Process {
    name: String,
    pid: u32,
    shared: Arc<Shared>,
    waiter: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Starts a command with its output captured and nothing on its input; `name` is for messages.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        let progress = Progress { open_pipes: 2, ..Progress::default() };
        let shared = Arc::new(Shared { output: Mutex::default(), progress: watch::Sender::new(progress) });
        let pid = child.id();
        if let Some(pipe) = child.stdout.take() {
            read_lines(pipe, false, Arc::clone(&shared))?;
        }
        if let Some(pipe) = child.stderr.take() {
            read_lines(pipe, true, Arc::clone(&shared))?;
        }
        let waiter = Some(wait(child, Arc::clone(&shared))?);
        Ok(Self { name: name.to_owned(), pid, shared, waiter })
    }

    /// Starts one of our own binaries (see [`bin`]) with arguments and further environment.
    ///
    /// # Errors
    /// When it has not been built, or cannot be started.
    pub fn ours<A: AsRef<std::ffi::OsStr>>(
        name: &str,
        args: &[A],
        envs: &[(String, String)],
    ) -> Result<Self> {
        let envs = envs.iter().map(|(name, value)| (name, value));
        Self::spawn(name, Command::new(bin(name)?).args(args).envs(envs))
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How many lines have come so far; for [`Process::line_since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.progress.borrow().lines
    }

    /// The lines kept, from the mark on, of both pipes in the order of their arrival.
    #[must_use]
    pub fn lines_since(&self, mark: usize) -> Vec<Line> {
        let output = lock(&self.shared.output);
        output.lines.iter().skip(mark.saturating_sub(output.forgotten)).cloned().collect()
    }

    /// Everything on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.text(false)
    }

    /// Everything on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.text(true)
    }

    fn text(&self, stderr: bool) -> String {
        let output = lock(&self.shared.output);
        output
            .lines
            .iter()
            .filter(|line| line.stderr == stderr)
            .map(|line| line.text.clone() + "\n")
            .collect()
    }

    /// Waits for a line that holds `needle`, from the start of the process on.
    ///
    /// # Errors
    /// When the process ends without it, or [`START_DEADLINE`] passes; the error shows the last lines.
    pub async fn line(&self, needle: &str) -> Result<String> {
        self.line_since(0, needle).await
    }

    /// Waits for a line that holds `needle`, from a mark on.
    ///
    /// # Errors
    /// As [`Process::line`].
    pub async fn line_since(&self, mark: usize, needle: &str) -> Result<String> {
        let mut watch = self.shared.progress.subscribe();
        let found = async {
            loop {
                let now = *watch.borrow_and_update();
                let line = self.lines_since(mark).into_iter().find(|line| line.text.contains(needle));
                if line.is_some()
                    || (now.exit.is_some() && now.open_pipes == 0)
                    || watch.changed().await.is_err()
                {
                    return line;
                }
            }
        };
        match within(START_DEADLINE, needle, found).await {
            Ok(Some(line)) => Ok(line.text),
            Ok(None) => bail!(
                "{} ended ({:?}) without the line {needle:?}:\n{}",
                self.name,
                self.ended(),
                self.tail()
            ),
            Err(_) => {
                bail!("{} did not print {needle:?} within {START_DEADLINE:?}:\n{}", self.name, self.tail())
            }
        }
    }

    /// The last lines, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let output = lock(&self.shared.output);
        let skip = output.lines.len().saturating_sub(SHOWN);
        output.lines.iter().skip(skip).map(|line| format!("  {}\n", line.text)).collect()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.shared.progress.borrow().exit
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended within [`DEADLINE`]; it goes on running.
    pub async fn exit(&self) -> Result<ExitStatus> {
        self.exit_within(DEADLINE).await
    }

    /// Waits for its end for a given time.
    ///
    /// # Errors
    /// When it has not ended by then; it goes on running.
    pub async fn exit_within(&self, limit: Duration) -> Result<ExitStatus> {
        let mut watch = self.shared.progress.subscribe();
        let ended = async { watch.wait_for(|now| now.exit.is_some()).await.map(|now| now.exit) };
        let exit = within(limit, "its end", ended)
            .await
            .with_context(|| format!("{}:\n{}", self.name, self.tail()))?;
        // Its last words may still be on their way. A grandchild that holds the pipes is not waited for without end.
        let silent = async { watch.wait_for(|now| now.open_pipes == 0).await.is_ok() };
        let _ = within(LAST_WORDS, "its last words", silent).await;
        exit?.context("no exit status")
    }

    /// Sends a signal by its name without SIG, such as `TERM`; nothing if it has ended already.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&self, signal: &str) -> Result<()> {
        if self.ended().is_some() {
            return Ok(());
        }
        // The shell's own `kill`: a slim system has no other.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -s {signal} {}", self.pid)).output()?;
        if !sent.status.success() && self.ended().is_none() {
            bail!("kill -s {signal} {}: {}", self.pid, String::from_utf8_lossy(&sent.stderr));
        }
        Ok(())
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn terminate(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the signal cannot be sent, or the process survives it.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.signal("KILL")?;
        self.exit().await
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}, ended {:?})", self.name, self.pid, self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that cannot be killed is not waited for either.
        if self.signal("KILL").is_ok()
            && let Some(waiter) = self.waiter.take()
        {
            let _ended = waiter.join();
        }
    }
}

fn read_lines(pipe: impl Read + Send + 'static, stderr: bool, shared: Arc<Shared>) -> Result<()> {
    let run = move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            let mut output = lock(&shared.output);
            output.lines.push_back(Line { stderr, text });
            if output.lines.len() > MAX_LINES {
                output.lines.pop_front();
                output.forgotten += 1;
            }
            let lines = output.forgotten + output.lines.len();
            drop(output);
            shared.progress.send_modify(|now| now.lines = now.lines.max(lines));
        }
        shared.progress.send_modify(|now| now.open_pipes -= 1);
    };
    std::thread::Builder::new().name("testkit-pipe".to_owned()).spawn(run)?;
    Ok(())
}

fn wait(mut child: Child, shared: Arc<Shared>) -> Result<std::thread::JoinHandle<()>> {
    let run = move || {
        let exit = child.wait().ok();
        shared.progress.send_modify(|now| now.exit = exit);
    };
    Ok(std::thread::Builder::new().name("testkit-wait".to_owned()).spawn(run)?)
}

#[cfg(test)]
mod tests;
