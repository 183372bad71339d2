//! `control import` and `control export`: leaving App Mesh, and leaving Weir.
//!
//! Owns their arguments, the files and where what is said goes: the configuration to stdout or a file, remarks to
//! stderr. Next: `../import/mod.rs`, `../export/mod.rs`.

use super::client::Client;
use super::{EXIT_DONE, EXIT_ERROR, Failure, Global};
use crate::export::{self, Source};
use crate::import::{self, FileKind, Imported, Input, NoteKind, Options};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Control answers at once; this is for its queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// `control import`.
#[derive(Clone, Debug, Args)]
pub(super) struct ImportArgs {
    /// Files that belong together: templates, app.properties.json, answers of `aws appmesh describe-*`,
    /// `terraform show -json`, a config_dump.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files are.
    #[arg(long, value_enum, default_value_t = FileKind::Auto)]
    kind: FileKind,
    /// A parameter of the templates, or `Resource.Attribute` that only CloudFormation knows.
    #[arg(long = "parameter", value_name = "KEY=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// Which virtual gateway, when the files have several.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// Import also what sends requests elsewhere than App Mesh did; each such place is named.
    #[arg(long)]
    allow_partial: bool,
    /// Where the configuration goes; stdout when left out.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// `control export`.
#[derive(Clone, Debug, Args)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    what: Export,
}

#[derive(Clone, Debug, Subcommand)]
enum Export {
    /// A static bootstrap for Envoy: listeners, clusters and the weights of now.
    Envoy {
        /// Control's configuration, instead of a running control; the weights are those of the file.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Format::Yaml)]
        format: Format,
        /// Where Envoy's admin listens.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9901")]
        admin: std::net::SocketAddr,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

/// Runs `control import`.
pub(super) fn import(args: &ImportArgs, json: bool) -> Result<u8, Failure> {
    let inputs = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let options = Options {
        kind: args.kind,
        parameters: args.parameters.clone(),
        gateway: args.gateway.clone(),
        allow_partial: args.allow_partial,
    };
    let Imported { notes, config } = import::import(&inputs, &options);
    let good = config.is_some();
    if let (Some(text), Some(file)) = (&config, &args.output) {
        std::fs::write(file, text).map_err(|error| {
            Failure::error(format!("{}: {error}", file.display()), "name a file that can be written")
        })?;
    }
    if json {
        let config = config.filter(|_| args.output.is_none());
        print(&format!("{:#}\n", serde_json::json!({"notes": notes, "config": config})))?;
    } else {
        for note in &notes {
            eprintln!("{note}");
        }
        if let (Some(text), None) = (&config, &args.output) {
            print(text)?;
        }
    }
    if good {
        return Ok(EXIT_DONE);
    }
    if json {
        // One answer, not two: what is wrong is in the notes.
        return Ok(EXIT_ERROR);
    }
    let count = |kind| notes.iter().filter(|note| note.kind == kind).count();
    let (errors, wrong) = (count(NoteKind::Error), count(NoteKind::Wrong));
    Err(Failure::error(
        format!("nothing was written: {errors} errors, {wrong} places where requests would go wrong"),
        if errors == 0 {
            "correct them, or take what is left with --allow-partial"
        } else {
            "correct the errors above"
        },
    ))
}

fn read(file: &Path) -> Result<Input, Failure> {
    let name = file.display().to_string();
    let most = import::MAX_INPUT_BYTES as u64 + 1;
    let mut text = Vec::new();
    let opened = std::fs::File::open(file);
    opened
        .and_then(|file| file.take(most).read_to_end(&mut text))
        .map_err(|error| Failure::usage(format!("{name}: {error}"), "name files that can be read"))?;
    Ok(Input { name, text })
}

/// Runs `control export`.
pub(super) async fn export(args: &ExportArgs, global: &Global) -> Result<u8, Failure> {
    let Export::Envoy { config, format, admin } = &args.what;
    let source = match config {
        Some(file) => {
            Source::of_file(file).map_err(|error| Failure::error(error.to_string(), error.cure()))?
        }
        None => {
            let client = Client::new(global)?;
            let resources = client.call(Method::GET, "/v1/gateway-config", None, PATIENCE).await?;
            let routes = client.call(Method::GET, "/v1/routes", None, PATIENCE).await?;
            Source::of_control(&resources, &routes)
                .map_err(|error| Failure::error(error.to_string(), error.cure()))?
        }
    };
    let exported =
        export::envoy(&source, *admin).map_err(|error| Failure::error(error.to_string(), error.cure()))?;
    for notice in &exported.notices {
        eprintln!("note: {notice}");
    }
    print(&match format {
        Format::Yaml => export::yaml(&exported.bootstrap),
        Format::Json => format!("{:#}\n", exported.bootstrap),
    })?;
    Ok(EXIT_DONE)
}

/// To stdout; half an answer is an error, so that nobody takes it for the whole.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        Failure::error(
            format!("stdout: {error}"),
            "write into a file with -o, or into a pipe that is read to its end",
        )
    })
}
