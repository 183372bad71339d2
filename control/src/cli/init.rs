//! `control init ecs`: the kit with the user's names in it.
//!
//! Owns the arguments and what is printed; it must never ask control or AWS anything. Next: `../kit/mod.rs`.

use super::{EXIT_DONE, Failure};
use crate::kit::{self, Flags, Names, Properties};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What can be begun.
#[derive(Debug, Subcommand)]
pub(super) enum Init {
    /// Files that put Weir on ECS: CloudFormation, task definitions, IAM, Copilot manifests.
    Ecs(Ecs),
}

/// Options of `init ecs`.
#[derive(Debug, Args)]
pub(super) struct Ecs {
    /// An app.properties.json, for prefix, region, namespace, services, port and first weight; flags win over it.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// Where to.
    #[arg(short = 'o', long = "out", value_name = "DIR", default_value = "weir-ecs")]
    out: PathBuf,
    /// Write over files that are there and different.
    #[arg(long)]
    force: bool,
}

/// Writes the files.
pub(super) fn run(init: Init, json: bool) -> Result<u8, Failure> {
    let Init::Ecs(ecs) = init;
    let properties = match &ecs.from {
        Some(path) => Properties::read(path)
            .map_err(|error| Failure::usage(error.to_string(), "name a readable app.properties.json"))?,
        None => Properties::default(),
    };
    let names = Names::new(ecs.flags, &properties)
        .map_err(|error| Failure::usage(error.to_string(), "`control init ecs --help` explains each flag"))?;
    let files = kit::files(&names).map_err(|error| Failure::error(error.to_string(), String::new()))?;
    let written = kit::write(&ecs.out, &files, ecs.force).map_err(|error| match error {
        kit::WriteError::Exists(_) => Failure::error(
            error.to_string(),
            "nothing was written; --force writes over them, -o names another folder",
        ),
        kit::WriteError::Io { .. } => Failure::error(error.to_string(), "-o names another folder"),
    })?;
    if json {
        let paths: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        super::show::json(&serde_json::json!({"folder": ecs.out, "written": paths}));
        return Ok(EXIT_DONE);
    }
    for path in &written {
        println!("{}", path.display());
    }
    let readme = ecs.out.join("README.md");
    eprintln!("{} of {} files written; begin with {}", written.len(), files.len(), readme.display());
    Ok(EXIT_DONE)
}
