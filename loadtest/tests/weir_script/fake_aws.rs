//! A folder with programs that play `aws`, `curl`, `git` and `weir` for the scripts in config/ecs.
//!
//! Owns the folder and what was called; `fake.sh` is the program behind all the names. It must never put anything of
//! the real AWS CLI in front of a script. Next: `one_off.rs`.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Scripted answers and recorded calls; gone when it is dropped.
pub struct Fake {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a script did.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

impl Fake {
    /// Programs of these names, and nothing answered yet.
    pub fn new(programs: &[&str]) -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        for folder in ["bin", "calls", "answers", "work"] {
            std::fs::create_dir(fake.path(folder)).unwrap();
        }
        let program = root().join("loadtest/tests/weir_script/fake.sh");
        for name in programs {
            let place = fake.path("bin").join(name);
            std::fs::copy(&program, &place).unwrap();
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        fake
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What calls of this kind print (`aws-ecs-run-task`, or its second one: `aws-ecs-run-task.2`).
    pub fn answers(&self, kind: &str, text: &str) -> &Self {
        std::fs::write(self.path("answers").join(kind), text).unwrap();
        self
    }

    /// The exit code of calls of this kind.
    pub fn ends(&self, kind: &str, code: i32) -> &Self {
        std::fs::write(self.path("answers").join(format!("{kind}.code")), code.to_string()).unwrap();
        self
    }

    /// Calls of this kind fail with these words.
    pub fn fails(&self, kind: &str, words: &str) -> &Self {
        std::fs::write(self.path("answers").join(format!("{kind}.err")), words).unwrap();
        self
    }

    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the folder where scripts run.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("work").join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, script: &str, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(root().join(script)).args(args).current_dir(self.path("work"));
        // Nothing of the machine's own settings, least of all keys.
        command.env_clear().env("FAKE", self.folder.path()).env("TMPDIR", self.path("work"));
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.path("bin").display()));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a script of config/ecs to its end.
    pub fn run(&self, script: &str, args: &[&str]) -> Ended {
        self.run_with(script, args, "")
    }

    /// The same with a standard input.
    pub fn run_with(&self, script: &str, args: &[&str], input: &str) -> Ended {
        let file = self.path("input");
        std::fs::write(&file, input).unwrap();
        let input = Stdio::from(std::fs::File::open(file).unwrap());
        let output = self.command(script, args).stdin(input).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// A script that goes on while the test acts.
    pub fn spawn(&self, script: &str, args: &[&str]) -> std::process::Child {
        let mut command = self.command(script, args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Every call in order: the program and its arguments.
    pub fn calls(&self) -> Vec<Vec<String>> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.path("calls")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let words = |file: &PathBuf| {
            let text = String::from_utf8(std::fs::read(file).unwrap()).unwrap();
            text.strip_suffix('\0').unwrap_or(&text).split('\0').map(str::to_owned).collect()
        };
        files.iter().map(words).collect()
    }

    /// The calls whose first words are these.
    pub fn calls_of(&self, words: &[&str]) -> Vec<Vec<String>> {
        self.calls().into_iter().filter(|call| call.starts_with(&owned(words))).collect()
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The value after a flag.
pub fn flag<'a>(call: &'a [String], name: &str) -> &'a str {
    let at = call.iter().position(|word| word == name).unwrap_or_else(|| panic!("{name} in {call:?}"));
    &call[at + 1]
}

/// The command that a one-off task was started with.
pub fn command_of(call: &[String]) -> Vec<String> {
    let overrides: Value = serde_json::from_str(flag(call, "--overrides")).unwrap();
    let words = overrides["containerOverrides"][0]["command"].as_array().unwrap();
    words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

impl Ended {
    /// The words on stderr that have to be there.
    #[track_caller]
    pub fn says(&self, words: &str) -> &Self {
        assert!(self.err.contains(words), "{words:?} in:\n{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }
}
