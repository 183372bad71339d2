//! Every file of `config/samples` must be accepted by the program that it is for.
//!
//! Owns the choice of the program; it must never judge a file itself. Next: `gateway --help`, `control --help`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::steps::Context;
use super::tally::Tally;
use crate::shell;

/// Validates each sample; answers whether all were accepted.
pub fn check(context: &Context, _: &mut Tally) -> Result<bool> {
    let folder = context.root.join("config/samples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "json"))
        .collect();
    files.sort();
    let mut all = true;
    for file in &files {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = match program(&name) {
            Program::Gateway => {
                let mut command = Command::new(context.target.join("debug/gateway"));
                command.args(["--mode", "validate", "--config"]);
                command
            }
            Program::Control => {
                let mut command = Command::new(context.target.join("debug/control"));
                command.args(["serve", "--mode", "validate", "--config"]);
                command
            }
        };
        match shell::quiet(command.arg(file)) {
            Ok(_) => println!("{name}: accepted"),
            Err(error) => {
                all = false;
                println!("{name}: {error:#}");
            }
        }
    }
    if files.is_empty() {
        println!("no sample in {}", folder.display());
    }
    Ok(all)
}

#[derive(Debug, PartialEq, Eq)]
enum Program {
    Gateway,
    Control,
}

/// `control.yaml` and `demo-control.yaml` are for control, everything else is for a gateway.
fn program(name: &str) -> Program {
    let stem = name.split('.').next().unwrap_or(name);
    if stem.split(['-', '_']).any(|word| word == "control") { Program::Control } else { Program::Gateway }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_goes_to_the_program_that_it_names() {
        for name in ["control.yaml", "demo-control.yaml", "control-tokens.yaml"] {
            assert_eq!(program(name), Program::Control, "{name}");
        }
        for name in ["gateway.yaml", "demo-gateway.yaml", "envoy-bootstrap.json", "uncontrolled.yaml"] {
            assert_eq!(program(name), Program::Gateway, "{name}");
        }
    }
}
