//! `control apply`: from a pipeline's file to one careful change.
//!
//! Owns the reading of the file and what is said about it; what it means is decided in `../apply/`. Next:
//! `../apply/targets.rs`.

use super::commands::{Session, encode, millis, read};
use super::{ChangeOptions, EXIT_DONE, EXIT_MISSING, EXIT_NO_GATEWAY, EXIT_USAGE, Failure, show};
use crate::apply::ApplyError;
use crate::apply::guard::build_of;
use crate::apply::properties::{self, Properties};
use crate::apply::targets::{self, Known, Mapped};
use crate::rest::{GatewayConfigView, RouteView, RoutesView, WeightsRequest};
use crate::state::document::Weights;
use crate::text;
use clap::Args;
use gateway_config::weights::format_percent;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Of a file: those of pipelines have a few hundred bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Arguments of `control apply`.
#[derive(Clone, Debug, Args)]
pub(super) struct Apply {
    /// app.properties.json; `-` reads stdin.
    #[arg(required_unless_present = "text")]
    file: Option<String>,
    /// The content itself, where no file can be mounted.
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    text: Option<String>,
    /// The route.
    #[arg(long, value_name = "ROUTE")]
    route: String,
    /// Which target a service of the file is, where the names do not tell: service1=v1,service2=v2.
    #[arg(long, value_name = "SERVICE=TARGET", value_delimiter = ',', value_parser = parse_pair)]
    map: Vec<(String, String)>,
    /// Take weights whose sum is not 100 as shares of their sum, as App Mesh did.
    #[arg(long)]
    normalize: bool,
    /// Names what the canary runs (an image's tag or digest, a commit): kept in the history. After a rollback another
    /// build may be raised, the one that was rolled back not.
    #[arg(long, value_name = "ID")]
    build: Option<String>,
    /// Also raise a canary that was rolled back, or one without endpoints.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeOptions,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((label, target)) if !label.trim().is_empty() && !target.trim().is_empty() => {
            Ok((label.trim().to_owned(), target.trim().to_owned()))
        }
        _ => Err(format!("`{text}` is not of the form service1=TARGET")),
    }
}

impl Session {
    pub(super) async fn apply(&self, asked: &Apply) -> Result<u8, Failure> {
        let refused = |error: ApplyError| Failure::usage(error.error, error.cure);
        let properties = properties::read(&content(asked)?).map_err(refused)?;
        let path = format!("/v1/routes/{}", encode(&asked.route));
        let view: RoutesView = read(&self.ask(&path).await?)?;
        let route = view.routes.into_iter().next().unwrap_or_default();
        // An older control, or one that gives its gateways no clusters, knows no names of backends.
        let config: GatewayConfigView = match self.ask("/v1/gateway-config").await {
            Ok(answer) => read(&answer)?,
            // Not found. Whatever else it is: by less than there is no target may be matched.
            Err(failure) if failure.code == EXIT_USAGE => GatewayConfigView::default(),
            Err(failure) => return Err(failure),
        };
        let known = Known {
            route: &asked.route,
            targets: &route.targets,
            stable: &route.stable,
            services: targets::services(&config.clusters),
        };
        let given: BTreeMap<String, String> = asked.map.iter().cloned().collect();
        let mapped = targets::map(&properties, &known, &given).map_err(refused)?;
        let weights = targets::weights(&properties, &mapped, &known, asked.normalize).map_err(refused)?;
        tell(&properties, &mapped);
        // A control that does not lead refuses itself, and says who does.
        if route.weights.as_ref() == Some(&weights)
            && view.control.phase != "fenced"
            && is_noted(asked.build.as_deref(), &route, &weights)
        {
            return Ok(self.nothing_to_change(&route, &weights));
        }
        let words: Vec<String> =
            weights.iter().map(|(target, weight)| format!("{target}={}", format_percent(*weight))).collect();
        let body = WeightsRequest {
            routes: BTreeMap::from([(asked.route.clone(), words.join(" "))]),
            reason: asked.change.reason.clone(),
            timeout_ms: millis(&asked.change),
            force: asked.force,
            careful: true,
            build: asked.build.clone(),
        };
        self.change("/v1/weights", &body, &asked.change).await
    }

    fn nothing_to_change(&self, route: &RouteView, weights: &Weights) -> u8 {
        if self.json {
            show::json(&json!({ "unchanged": true, "route": route.name, "weights": weights }));
        } else {
            let now = text::weights(&route.targets, weights);
            show::print(&format!("{}: nothing to change: {now}\n", route.name));
        }
        let heard = |state: &str| matches!(state, "connected" | "draining");
        if !route.gateways.iter().any(|gateway| heard(&gateway.state)) {
            eprintln!("no gateway is connected: nobody serves it from here");
            return EXIT_NO_GATEWAY;
        }
        if route.agree >= route.awaited {
            return EXIT_DONE;
        }
        for gateway in route.gateways.iter().filter(|gateway| !gateway.agrees && gateway.state != "gone") {
            eprintln!("missing: {}: {}", gateway.id, gateway.why);
        }
        EXIT_MISSING
    }
}

/// Whether the newest change tells the build already. A canary without a share has none.
fn is_noted(build: Option<&str>, route: &RouteView, weights: &Weights) -> bool {
    let Some(build) = build else { return true };
    let canaries = weights.iter().filter(|(target, _)| **target != route.stable);
    canaries.map(|(_, weight)| *weight).sum::<u32>() == 0
        || route.changed.as_ref().and_then(build_of) == Some(build)
}

fn content(asked: &Apply) -> Result<String, Failure> {
    if let Some(text) = &asked.text {
        return Ok(text.clone());
    }
    let name = asked.file.as_deref().unwrap_or("-");
    let mut text = String::new();
    let read = if name == "-" {
        std::io::stdin().lock().take(MAX_FILE_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(Path::new(name))
            .and_then(|open| open.take(MAX_FILE_BYTES).read_to_string(&mut text))
    };
    read.map(|_| text).map_err(|error| {
        Failure::usage(format!("{name}: {error}"), "name an app.properties.json, or - for stdin")
    })
}

/// On stderr: the answer on stdout is that of every change.
fn tell(properties: &Properties, mapped: &[Mapped]) {
    for (service, mapped) in properties.services.iter().zip(mapped) {
        let name = service.name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
        eprintln!("{}{name} is {} ({})", mapped.label, mapped.target, mapped.why);
    }
    for flag in &properties.flags {
        eprintln!(
            "note: {flag} is true, which asks the pipeline for a deployment; only the weights are taken here"
        );
    }
}
