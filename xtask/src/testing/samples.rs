//! Every gateway file of `config/samples` must be accepted by the gateway itself.
//!
//! Owns the choice of the files; it must never judge one. Control has no such mode: its samples are read by the tests
//! of gateway-config, with the code that control uses. Next: `gateway --help`.

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
        if is_for_control(&name) {
            continue;
        }
        let mut command = Command::new(context.target.join("debug/gateway"));
        command.args(["--mode", "validate", "--config"]);
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

/// `control.yaml` and `demo-control.yaml` are for control, everything else is for a gateway.
fn is_for_control(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    stem.split(['-', '_']).any(|word| word == "control")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_for_control_are_told_by_their_names() {
        for name in ["control.yaml", "demo-control.yaml", "control-tokens.yaml"] {
            assert!(is_for_control(name), "{name}");
        }
        for name in ["gateway.yaml", "demo-gateway.yaml", "envoy-bootstrap.json", "uncontrolled.yaml"] {
            assert!(!is_for_control(name), "{name}");
        }
    }
}
