//! The configuration of control: its table, its model and what a table cannot say.
//!
//! Owns what `control serve --config FILE` reads; it must never show a secret: tokens are named by file or variable.
//! Next: `control_shape.rs`, the table, and `weights.rs`, which reads the initial weights.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::control_shape::{CONTROL_FILE, EVENT_WORDS};
use crate::decode::{self, Names};
use crate::diagnostic::{Collector, Diagnostics, did_you_mean};
use crate::discovered::{self, GatewaySection};
use crate::model::{Secret, StateItem};
use crate::object::{Object, Spotted, percent};
use crate::parse::{parse, read_file};
use crate::routes::unknown_stable;
use crate::weights;

/// The configuration of one control.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlConfig {
    /// The one port for discovery, reports, REST and metrics. Default 127.0.0.1:18000.
    pub listen: SocketAddr,
    /// Where the state is kept.
    pub state: StateConfig,
    /// Who may speak to it; the first two lists may be empty on a loopback address only.
    pub tokens: Tokens,
    /// Certificate of the port; none = plain HTTP.
    pub tls: Option<Tls>,
    /// Who is told about events; names are unique.
    pub webhooks: Vec<Webhook>,
    /// Metrics as lines on stdout.
    pub metrics_log: MetricsLog,
    /// Listeners and clusters for gateways that ask for them.
    pub gateway: Option<GatewaySection>,
    /// Routes under control by name; at least one.
    pub routes: BTreeMap<String, ManagedRoute>,
}

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateConfig {
    /// Default `weir-state.json` in the working folder.
    File(PathBuf),
    /// An item of a DynamoDB table.
    DynamoDb(StateItem),
}

/// The kinds of token; several of each can be good at once, so that they can be changed one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// For discovery and reports.
    pub gateway: Vec<Token>,
    /// For weights and everything else that changes state.
    pub operator: Vec<Token>,
    /// For reading; changes nothing.
    pub viewer: Vec<Token>,
}

/// A token's name and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// For logs and history; unique within its kind.
    pub name: String,
    /// Where it is.
    pub source: TokenSource,
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// On the first line of a file, read again when it changes.
    File(PathBuf),
    /// In a variable, one a line.
    Env(String),
}

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, then those between it and the CA.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub private_key_file: PathBuf,
}

/// Somebody who is told about events by an HTTP POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// For logs and metrics.
    pub name: String,
    /// Where to.
    pub url: WebhookUrl,
    /// The shape of the body.
    pub format: WebhookFormat,
    /// Which events; at least one.
    pub events: BTreeSet<EventKind>,
}

/// Where a webhook's URL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookUrl {
    /// Here.
    Given(Secret),
    /// On the first line of a file.
    File(PathBuf),
    /// In a variable.
    Env(String),
}

/// The shape of a webhook's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// The event.
    Json,
    /// What a Slack incoming webhook takes.
    Slack,
}

/// What somebody can be told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// The weights of a route changed.
    WeightsChanged,
    /// A gateway did not take a change in time.
    GatewayBehind,
    /// A gateway was not heard for 45 s and said no goodbye.
    GatewayGone,
    /// Control began from what the fleet serves, or what was reported bad is good again.
    Recovered,
    /// Somebody else changed the App Mesh route, or another control is ahead.
    Drift,
    /// A target with a share has no endpoints.
    EndpointsEmpty,
}

impl EventKind {
    /// All, in the order of their words.
    pub const ALL: [Self; 6] = [
        Self::WeightsChanged,
        Self::GatewayBehind,
        Self::GatewayGone,
        Self::Recovered,
        Self::Drift,
        Self::EndpointsEmpty,
    ];

    /// The word in configuration and messages.
    pub fn word(self) -> &'static str {
        let at = Self::ALL.iter().position(|kind| *kind == self).unwrap_or_default();
        EVENT_WORDS.get(at).copied().unwrap_or_default()
    }
}

/// Metrics as lines on stdout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsLog {
    /// In CloudWatch's embedded metric format.
    pub emf: bool,
    /// CloudWatch namespace. Default `Weir`.
    pub namespace: String,
}

/// One route under control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedRoute {
    /// Names of clusters of the gateways, in file order; unique, at least one.
    pub targets: Vec<String>,
    /// One of the targets.
    pub stable: String,
    /// Every target in hundredths of a percent, sum 10,000; counts once, at the very first start.
    pub weights: Option<BTreeMap<String, u32>>,
    /// The App Mesh route that follows, if any.
    pub app_mesh: Option<AppMesh>,
}

/// An App Mesh route that is kept in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppMesh {
    /// Mesh name.
    pub mesh: String,
    /// Account that owns a shared mesh.
    pub mesh_owner: Option<String>,
    /// Virtual router name.
    pub virtual_router: String,
    /// Route name.
    pub route: String,
    /// Virtual node of each target: every target once, no virtual node twice.
    pub targets: BTreeMap<String, String>,
    /// What to do when somebody else changes the route.
    pub on_drift: OnDrift,
}

/// What to do when somebody else changes the App Mesh route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrift {
    /// Show it and write no more until told to.
    Pause,
    /// Write the weights again.
    Enforce,
}

/// The state file when none is named.
const DEFAULT_FILE: &str = "weir-state.json";

/// Reads control's configuration, YAML or JSON, from text.
///
/// # Errors
/// Every error of the text at once; `file_name` is only their label.
pub fn parse_control(file_name: &str, text: &[u8]) -> Result<ControlConfig, Diagnostics> {
    parse(file_name, text, &CONTROL_FILE, decode)
}

/// Reads control's configuration from a file.
///
/// # Errors
/// A file that cannot be read or is over 1 MiB; else as [`parse_control`].
pub fn read_control(path: &Path) -> Result<ControlConfig, Diagnostics> {
    parse_control(&path.display().to_string(), &read_file(path)?)
}

fn decode(root: &Object<'_>, out: &mut Collector<'_>) -> ControlConfig {
    let tokens_object = root.object("tokens");
    let tokens = Tokens {
        gateway: tokens_of(&tokens_object, "gateway", out),
        operator: tokens_of(&tokens_object, "operator", out),
        viewer: tokens_of(&tokens_object, "viewer", out),
    };
    let listen = root.text("listen").parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 18_000)));
    check_exposure(root, listen, &tokens, out);
    let routes =
        root.objects_by_key("routes").into_iter().map(|(name, object)| (name, route(&object, out))).collect();
    let metrics_log = root.object("metrics_log");
    let gateway = root.object_opt("gateway").map(|object| {
        let (listeners, clusters) = decode::resources(&object, None, out);
        GatewaySection { listeners, clusters, source: object.to_json() }
    });
    let config = ControlConfig {
        listen,
        state: state(&root.object("state")),
        tokens,
        tls: root.object_opt("tls").map(|object| Tls {
            certificate_file: PathBuf::from(object.text("certificate_file")),
            private_key_file: PathBuf::from(object.text("private_key_file")),
        }),
        webhooks: webhooks(root, out),
        metrics_log: MetricsLog { emf: metrics_log.flag("emf"), namespace: metrics_log.text("namespace") },
        gateway,
        routes,
    };
    one_writer_per_app_mesh_route(root, &config, out);
    discovered::check_routes(root, &config, out);
    config
}

fn state(object: &Object<'_>) -> StateConfig {
    match object.object_opt("dynamodb") {
        Some(item) => StateConfig::DynamoDb(decode::state_item(&item)),
        None => StateConfig::File(object.text_opt("file").unwrap_or_else(|| DEFAULT_FILE.to_owned()).into()),
    }
}

fn webhooks(root: &Object<'_>, out: &mut Collector<'_>) -> Vec<Webhook> {
    let mut names = Names::default();
    let mut webhooks = Vec::new();
    for object in root.objects("webhooks") {
        if let Some(name) = object.spotted("name") {
            names.add("webhook", &name, out);
        }
        let url = match (object.text_opt("url_file"), object.text_opt("url_env")) {
            (Some(file), _) => WebhookUrl::File(PathBuf::from(file)),
            (None, Some(variable)) => WebhookUrl::Env(variable),
            (None, None) => WebhookUrl::Given(Secret(object.text("url"))),
        };
        let slack = object.text("format") == "slack";
        let named: Vec<String> = object.texts("events").into_iter().map(|event| event.value).collect();
        let wanted = |kind: &EventKind| !object.has("events") || named.iter().any(|word| word == kind.word());
        webhooks.push(Webhook {
            name: object.text("name"),
            url,
            format: if slack { WebhookFormat::Slack } else { WebhookFormat::Json },
            events: EventKind::ALL.into_iter().filter(wanted).collect(),
        });
    }
    webhooks
}

fn check_exposure(root: &Object<'_>, listen: SocketAddr, tokens: &Tokens, out: &mut Collector<'_>) {
    if listen.ip().is_loopback() || !(tokens.gateway.is_empty() || tokens.operator.is_empty()) {
        return;
    }
    let missing = match (tokens.gateway.is_empty(), tokens.operator.is_empty()) {
        (true, true) => "`gateway` and `operator` tokens",
        (true, false) => "a `gateway` token",
        _ => "an `operator` token",
    };
    out.report(
        "listen",
        root.mark_of("listen"),
        format!("{listen} can be reached from outside, and {missing} are not configured: anybody could move traffic"),
        "add `tokens: {gateway: [{name: .., file: ..}], operator: [{name: .., file: ..}]}`, or listen on 127.0.0.1",
    );
}

fn tokens_of(object: &Object<'_>, kind: &str, out: &mut Collector<'_>) -> Vec<Token> {
    let mut names = Names::default();
    let mut tokens = Vec::new();
    for token in object.objects(kind) {
        if let Some(name) = token.spotted("name") {
            names.add(&format!("{kind} token"), &name, out);
        }
        let source = match token.text_opt("env") {
            Some(variable) => TokenSource::Env(variable),
            None => TokenSource::File(PathBuf::from(token.text("file"))),
        };
        tokens.push(Token { name: token.text("name"), source });
    }
    tokens
}

fn route(object: &Object<'_>, out: &mut Collector<'_>) -> ManagedRoute {
    let mut names = Names::default();
    let mut targets = Vec::new();
    for target in object.texts("targets") {
        names.add("target", &target, out);
        targets.push(target.value);
    }
    let stable = object.spotted("stable");
    if let Some(stable) = stable.as_ref().filter(|stable| !names.contains(&stable.value)) {
        unknown_stable(stable, names.iter(), out);
    }
    ManagedRoute {
        weights: initial_weights(object, &targets, stable.as_ref(), out),
        app_mesh: object.object_opt("app_mesh").map(|object| app_mesh(&object, &targets, out)),
        stable: object.text("stable"),
        targets,
    }
}

/// Reports keys that are no targets; true when all are.
fn known_targets(given: &[(String, Spotted<String>)], targets: &[String], out: &mut Collector<'_>) -> bool {
    let mut all = true;
    for (name, value) in given.iter().filter(|(name, _)| !targets.contains(name)) {
        let cure = match did_you_mean(name, targets.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the targets are: {}", targets.join(", ")),
        };
        out.report(&value.path, value.mark, format!("`{name}` is not among the targets"), cure);
        all = false;
    }
    all
}

fn initial_weights(
    object: &Object<'_>,
    targets: &[String],
    stable: Option<&Spotted<String>>,
    out: &mut Collector<'_>,
) -> Option<BTreeMap<String, u32>> {
    let given = object.scalars_by_key("weights");
    if given.is_empty() || !known_targets(&given, targets, out) {
        return None;
    }
    let named = given.iter().map(|(name, value)| (name.clone(), percent(&value.value))).collect();
    match weights::complete(named, targets, &stable?.value) {
        Ok(weights) => Some(weights),
        // After a percentage that was refused the sum says nothing.
        Err(_) if object.refused("weights") => None,
        Err(error) => {
            out.report(
                &object.path_of("weights"),
                object.mark_of("weights"),
                error.to_string(),
                error.cure(),
            );
            None
        }
    }
}

fn app_mesh(object: &Object<'_>, targets: &[String], out: &mut Collector<'_>) -> AppMesh {
    let given = object.scalars_by_key("targets");
    known_targets(&given, targets, out);
    let mut nodes = Names::default();
    for (_, node) in &given {
        nodes.add("target with the virtual node", node, out);
    }
    let named: BTreeSet<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    let missing: Vec<&str> =
        targets.iter().map(String::as_str).filter(|target| !named.contains(target)).collect();
    if object.has("targets") && !object.refused("targets") && !missing.is_empty() {
        out.report(
            &object.path_of("targets"),
            object.mark_of("targets"),
            format!("no virtual node is named for {}", missing.join(", ")),
            "name the virtual node of every target",
        );
    }
    AppMesh {
        mesh: object.text("mesh"),
        mesh_owner: object.text_opt("mesh_owner"),
        virtual_router: object.text("virtual_router"),
        route: object.text("route"),
        targets: given.into_iter().map(|(name, node)| (name, node.value)).collect(),
        on_drift: if object.text("on_drift") == "enforce" { OnDrift::Enforce } else { OnDrift::Pause },
    }
}

/// Two routes that write one App Mesh route would drift for ever.
fn one_writer_per_app_mesh_route(root: &Object<'_>, config: &ControlConfig, out: &mut Collector<'_>) {
    let mut seen: BTreeMap<(&str, &str, &str, Option<&str>), &str> = BTreeMap::new();
    for (name, object) in root.objects_by_key("routes") {
        let Some((own, mesh)) =
            config.routes.get_key_value(&name).and_then(|(own, r)| r.app_mesh.as_ref().map(|m| (own, m)))
        else {
            continue;
        };
        let key = (
            mesh.mesh.as_str(),
            mesh.virtual_router.as_str(),
            mesh.route.as_str(),
            mesh.mesh_owner.as_deref(),
        );
        if let Some(first) = seen.insert(key, own) {
            let at = object.object("app_mesh");
            out.report(
                &at.path,
                at.mark,
                format!("route `{first}` already writes this App Mesh route"),
                "let one route write it, and remove `app_mesh` from the other",
            );
        }
    }
}
