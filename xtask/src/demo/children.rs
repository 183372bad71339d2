//! The processes of the demo: started in the background, logged to files, ended with the demo whatever happens.
//!
//! Owns the life of each child. Each has a process group of its own, so that Ctrl-C in the terminal reaches only
//! the demo, which then ends them in order. It must never leave one behind. Next: `mod.rs`.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell;

/// How long a part may take after each of two requests to end; nothing of a demo is worth more.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the end of a child is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Every process that the demo has started.
pub struct Children {
    running: Vec<Running>,
    logs: PathBuf,
    /// `setpriv --pdeathsig KILL` is there: the kernel ends a child even when the demo itself is killed.
    guarded: bool,
}

struct Running {
    name: String,
    child: Child,
}

impl Children {
    /// None yet; logs go to `logs`, which exists.
    pub fn new(logs: &Path) -> Self {
        let guarded = shell::quiet(Command::new("setpriv").args(["--pdeathsig", "KILL", "true"])).is_ok();
        Self { running: Vec::new(), logs: logs.to_owned(), guarded }
    }

    /// Starts a program in the background. Its output goes to `NAME.log`. To be called from the main thread only:
    /// the kernel's guard is bound to the thread that starts the child.
    pub fn start(&mut self, name: &str, program: &Path, configure: impl FnOnce(&mut Command)) -> Result<()> {
        let mut command = if self.guarded {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        configure(&mut command);
        let path = self.log(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", program.display()))?;
        self.running.push(Running { name: name.to_owned(), child });
        Ok(())
    }

    /// Kills one without warning (SIGKILL), as a lost task would end.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let at = self.running.iter().position(|running| running.name == name).context("no such child")?;
        let mut gone = self.running.swap_remove(at);
        gone.child.kill()?;
        gone.child.wait()?;
        Ok(())
    }

    /// An error when one has ended by itself, with the end of its log.
    pub fn all_alive(&mut self) -> Result<()> {
        for running in &mut self.running {
            if let Some(status) = running.child.try_wait()? {
                let path = self.logs.join(format!("{}.log", running.name));
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "{} has ended ({status}); its last words:\n{}",
                    running.name,
                    shell::last_lines(&log, 15)
                );
            }
        }
        Ok(())
    }

    /// The log file of one.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Ends all: asks, asks again, kills.
    pub fn end(&mut self) {
        for _ in 0..2 {
            for Running { child, .. } in &mut self.running {
                ask_to_end(child);
            }
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until && !self.running.is_empty() {
                self.running.retain_mut(|running| matches!(running.child.try_wait(), Ok(None)));
                std::thread::sleep(LOOK_EVERY);
            }
        }
        for Running { child, .. } in &mut self.running {
            // It may have ended meanwhile; then there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.running.clear();
    }
}

/// Also when the demo panics or returns early.
impl Drop for Children {
    fn drop(&mut self) {
        self.end();
    }
}

/// SIGTERM, through the shell: the standard library can only kill.
fn ask_to_end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        let pid = child.id().to_string();
        let _ = shell::quiet(Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell_script(children: &mut Children, name: &str, script: &str) {
        children
            .start(name, Path::new("sh"), |command| {
                command.args(["-c", script]);
            })
            .unwrap();
    }

    fn wait_for(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < until, "did not happen");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Running: neither gone nor a zombie that awaits its parent.
    fn alive(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn a_child_that_ends_by_itself_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut children = Children::new(folder.path());
        shell_script(&mut children, "part", "echo port taken >&2; exit 7");
        wait_for(|| {
            std::fs::read_to_string(folder.path().join("part.log"))
                .is_ok_and(|log| log.contains("port taken"))
        });
        let until = Instant::now() + Duration::from_secs(20);
        let error = loop {
            if let Err(error) = children.all_alive() {
                break error.to_string();
            }
            assert!(Instant::now() < until);
        };
        assert!(error.contains("part has ended") && error.contains("port taken"), "{error}");
    }

    #[test]
    fn nothing_is_left_even_of_what_does_not_listen() {
        let folder = tempfile::tempdir().unwrap();
        let mut children = Children::new(folder.path());
        shell_script(&mut children, "stubborn", "trap '' TERM; echo $$; while :; do sleep 1; done");
        shell_script(&mut children, "polite", "echo $$; exec sleep 1000");
        let pid = |name: &str| {
            std::fs::read_to_string(folder.path().join(format!("{name}.log"))).unwrap_or_default()
        };
        wait_for(|| pid("stubborn").ends_with('\n') && pid("polite").ends_with('\n'));
        let pids = [pid("stubborn"), pid("polite")];
        drop(children);
        for pid in pids {
            assert!(!alive(pid.trim()), "{pid} is still there");
        }
    }
}
