//! Running other programs: quietly, or with their output passed on while it is read.
//!
//! Owns the starting of short-lived programs; it must never keep one running (that is `demo/children.rs`).
//! Next: `testing/steps.rs`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end without showing its output; an error carries what it printed.
pub fn quiet(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        bail!("{shown} failed ({}):\n{}", output.status, last_lines(&said, 20));
    }
    Ok(text)
}

/// Runs a program to its end, passes its standard output on line by line and gives each line to `on_line`.
/// Standard error goes straight through. Answers whether it succeeded.
pub fn watched(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<bool> {
    let shown = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let output = child.stdout.take().context("the output of the program is not a pipe")?;
    let mut reader = BufReader::new(output);
    let mut bytes = Vec::new();
    // By bytes: a test may print what is not UTF-8.
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        std::io::stdout().write_all(&bytes)?;
        on_line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    std::io::stdout().flush()?;
    Ok(child.wait()?.success())
}

/// The command as a person would type it.
pub fn describe(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    command.get_args().fold(name, |line, word| format!("{line} {}", word.to_string_lossy()))
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_seen_and_the_outcome_told() {
        let mut seen = Vec::new();
        let ok = watched(Command::new("sh").args(["-c", "echo one; echo two; exit 3"]), |line| {
            seen.push(line.to_owned())
        })
        .unwrap();
        assert!(!ok);
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn a_failure_says_what_was_run_and_what_it_printed() {
        let error =
            quiet(Command::new("sh").args(["-c", "echo because >&2; exit 1"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("because"), "{error}");
    }

    #[test]
    fn last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
