//! The table of control's configuration.
//!
//! Owns names, kinds, defaults and one line of explanation per field; it must never hold code.
//! Next: `control_config.rs`.

use crate::bootstrap_shape::{MAX_TARGETS, NAME, STATE_ITEM, STATIC_RESOURCES};
use crate::rules::Rule;
use crate::shape::{Field, Kind, OneOf, Shape};

/// The events that a webhook can be told about.
pub(crate) const EVENT_WORDS: [&str; 6] =
    ["weights_changed", "gateway_behind", "gateway_gone", "recovered", "drift", "endpoints_empty"];

const FILE: Kind = Kind::Text(Rule::Filled);
const TOKEN_LIST: Kind = Kind::List { of: &Kind::Object(&TOKEN), min: 0, max: 64 };

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
        Field::optional("tls", Kind::Object(&TLS), "The port speaks TLS only; plain HTTP when left out."),
        Field::optional(
            "webhooks",
            Kind::List { of: &Kind::Object(&WEBHOOK), min: 0, max: 16 },
            "Who is told about events.",
        ),
        Field::optional("metrics_log", Kind::Object(&METRICS_LOG), "Metrics as lines on stdout."),
        Field::optional(
            "gateway",
            Kind::Object(&STATIC_RESOURCES),
            "Listeners and clusters for every gateway that asks for them, in the words of a gateway's own file.",
        ),
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
    fields: &[
        Field::optional("file", FILE, "A file on a disk that outlives the process. Default weir-state.json."),
        Field::optional("dynamodb", Kind::Object(&STATE_ITEM), "An item of a DynamoDB table."),
    ],
    one_of: &[OneOf { fields: &["file", "dynamodb"], required: false }],
};

static TOKENS: Shape = Shape {
    name: "Tokens",
    doc: "Tokens by kind; several of one kind can be good at once.",
    fields: &[
        Field::optional("gateway", TOKEN_LIST, "For discovery and reports."),
        Field::optional("operator", TOKEN_LIST, "For weights and everything else that changes state."),
        Field::optional("viewer", TOKEN_LIST, "For reading; changes nothing."),
    ],
    one_of: &[],
};

static TOKEN: Shape = Shape {
    name: "Token",
    doc: "A named token.",
    fields: &[
        Field::required("name", NAME, "For logs and history."),
        Field::optional("file", FILE, "A file whose first line is the token."),
        Field::optional(
            "env",
            Kind::Text(Rule::Variable),
            "A variable that holds the token; several, one a line, are all good.",
        ),
    ],
    one_of: &[OneOf { fields: &["file", "env"], required: true }],
};

static TLS: Shape = Shape {
    name: "Tls",
    doc: "A certificate and its key, read again when the files change.",
    fields: &[
        Field::required("certificate_file", FILE, "PEM: the certificate, then those between it and the CA."),
        Field::required("private_key_file", FILE, "PEM: its private key."),
    ],
    one_of: &[],
};

static WEBHOOK: Shape = Shape {
    name: "Webhook",
    doc: "Somebody who is told about events by an HTTP POST.",
    fields: &[
        Field::required("name", NAME, "For logs and metrics."),
        Field::optional("url", Kind::Text(Rule::Url), "Where to; shown nowhere, as it may hold a secret."),
        Field::optional("url_file", FILE, "A file whose first line is the URL."),
        Field::optional("url_env", Kind::Text(Rule::Variable), "A variable that holds the URL."),
        Field::with_default(
            "format",
            Kind::Choice(&["json", "slack"]),
            "json",
            "json: the event; slack: what a Slack incoming webhook takes.",
        ),
        Field::optional(
            "events",
            Kind::List { of: &Kind::Choice(&EVENT_WORDS), min: 1, max: EVENT_WORDS.len() },
            "Which; all when left out.",
        ),
    ],
    one_of: &[OneOf { fields: &["url", "url_file", "url_env"], required: true }],
};

static METRICS_LOG: Shape = Shape {
    name: "MetricsLog",
    doc: "Metrics as lines on stdout, for CloudWatch without an agent.",
    fields: &[
        Field::with_default(
            "emf",
            Kind::Flag,
            "false",
            "One line in CloudWatch's embedded metric format per route, version and minute.",
        ),
        Field::with_default("namespace", Kind::Text(Rule::Filled), "Weir", "CloudWatch namespace."),
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
