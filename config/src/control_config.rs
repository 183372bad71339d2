//! The configuration of control: its table, its model and what a table cannot say.
//!
//! Owns what `control serve --config FILE` reads; it must never hold a secret: tokens are named by file.
//! Next: `weights.rs`, which reads the initial weights.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::bootstrap_shape::MAX_TARGETS;
use crate::decode::Names;
use crate::diagnostic::{Collector, Diagnostics, did_you_mean};
use crate::object::{Object, Spotted, percent};
use crate::parse::{parse, read_file};
use crate::routes::unknown_stable;
use crate::rules::Rule;
use crate::shape::{Field, Kind, Shape};
use crate::weights;

/// The configuration of one control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// The one port for discovery, reports, REST and metrics. Default 127.0.0.1:18000.
    pub listen: SocketAddr,
    /// Where the state is kept.
    pub state: StateConfig,
    /// Who may speak to it; both lists may be empty on a loopback address only.
    pub tokens: Tokens,
    /// Routes under control by name; at least one.
    pub routes: BTreeMap<String, ManagedRoute>,
}

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// Default `weir-state.json` in the working folder.
    pub file: PathBuf,
}

/// The two kinds of token; several of each can be good at once, so that they can be changed one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// For discovery and reports.
    pub gateway: Vec<TokenFile>,
    /// For weights and everything else that changes state.
    pub operator: Vec<TokenFile>,
}

/// A token's name and the file that holds it on its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    /// For logs and history; unique within its kind.
    pub name: String,
    /// The file.
    pub file: PathBuf,
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

const NAME: Kind = Kind::Text(Rule::Name);
const FILE: Kind = Kind::Text(Rule::Filled);
const TOKEN_FILES: Kind = Kind::List { of: &Kind::Object(&TOKEN), min: 0, max: 64 };

pub(crate) static CONTROL_FILE: Shape = Shape {
    name: "Control",
    doc: "The configuration of one control.",
    fields: &[
        Field::with_default(
            "listen",
            Kind::Text(Rule::SocketAddress),
            "127.0.0.1:18000",
            "Address and port; other than loopback needs tokens.",
        ),
        Field::optional("state", Kind::Object(&STATE), "Where the state is kept."),
        Field::optional("tokens", Kind::Object(&TOKENS), "Who may speak to it."),
        Field::required(
            "routes",
            Kind::Map { keys: Rule::Name, of: &Kind::Object(&MANAGED_ROUTE), min: 1 },
            "Routes under control by the name that they have in the gateways.",
        ),
    ],
    one_of: &[],
};

static STATE: Shape = Shape {
    name: "State",
    doc: "Where the state is kept.",
    fields: &[Field::with_default(
        "file",
        FILE,
        "weir-state.json",
        "A file on a disk that outlives the process.",
    )],
    one_of: &[],
};

static TOKENS: Shape = Shape {
    name: "Tokens",
    doc: "Tokens by kind; several of one kind can be good at once.",
    fields: &[
        Field::optional("gateway", TOKEN_FILES, "For discovery and reports."),
        Field::optional("operator", TOKEN_FILES, "For weights and everything else that changes state."),
    ],
    one_of: &[],
};

static TOKEN: Shape = Shape {
    name: "Token",
    doc: "A named token.",
    fields: &[
        Field::required("name", NAME, "For logs and history."),
        Field::required("file", FILE, "A file whose first line is the token."),
    ],
    one_of: &[],
};

static MANAGED_ROUTE: Shape = Shape {
    name: "ManagedRoute",
    doc: "One route under control.",
    fields: &[
        Field::required(
            "targets",
            Kind::List { of: &NAME, min: 1, max: MAX_TARGETS },
            "Names of clusters of the gateways.",
        ),
        Field::required("stable", NAME, "The target that takes everything when in doubt."),
        Field::optional(
            "weights",
            Kind::Map { keys: Rule::Name, of: &Kind::Percent, min: 1 },
            "Percent with up to two decimals; count once, at the very first start. The stable may be left out.",
        ),
        Field::optional("app_mesh", Kind::Object(&APP_MESH), "The App Mesh route that follows."),
    ],
    one_of: &[],
};

static APP_MESH: Shape = Shape {
    name: "AppMesh",
    doc: "An App Mesh route that is kept in line with the weights.",
    fields: &[
        Field::required("mesh", NAME, "Mesh name."),
        Field::optional(
            "mesh_owner",
            Kind::Text(Rule::Name),
            "Account that owns a shared mesh, in quotation marks.",
        ),
        Field::required("virtual_router", NAME, "Virtual router name."),
        Field::required("route", NAME, "Route name."),
        Field::required(
            "targets",
            Kind::Map { keys: Rule::Name, of: &NAME, min: 1 },
            "Virtual node of each target.",
        ),
        Field::with_default(
            "on_drift",
            Kind::Choice(&["pause", "enforce"]),
            "pause",
            "When somebody else changes the route.",
        ),
    ],
    one_of: &[],
};

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
        gateway: token_files(&tokens_object, "gateway", out),
        operator: token_files(&tokens_object, "operator", out),
    };
    let listen = root.text("listen").parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 18_000)));
    check_exposure(root, listen, &tokens, out);
    let routes =
        root.objects_by_key("routes").into_iter().map(|(name, object)| (name, route(&object, out))).collect();
    let state = StateConfig { file: PathBuf::from(root.object("state").text("file")) };
    let config = ControlConfig { listen, state, tokens, routes };
    one_writer_per_app_mesh_route(root, &config, out);
    config
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

fn token_files(object: &Object<'_>, kind: &str, out: &mut Collector<'_>) -> Vec<TokenFile> {
    let mut names = Names::default();
    let mut files = Vec::new();
    for token in object.objects(kind) {
        if let Some(name) = token.spotted("name") {
            names.add(&format!("{kind} token"), &name, out);
        }
        files.push(TokenFile { name: token.text("name"), file: PathBuf::from(token.text("file")) });
    }
    files
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
