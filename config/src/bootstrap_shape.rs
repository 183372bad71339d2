//! The table of the gateway's file: every field, its type, its default and what it means.
//!
//! Owns names and defaults; it must never hold code. The JSON schema and the defaults of the decoder come from
//! here. Clusters have their own file, `cluster_shape.rs`. Next: `decode.rs` and `routes.rs`, which turn a checked document into the model.

use crate::cluster_shape::CLUSTER;
use crate::route_shape::ROUTE;
use crate::rules::Rule;
use crate::shape::{Field, Kind, Shape};

const U32: u64 = u32::MAX as u64;
/// Most listeners, virtual hosts, routes or clusters in one file: far above any gateway, far below the node budget.
pub(crate) const MANY: usize = 10_000;
/// Most targets of one route: App Mesh has 10; a metric series exists for each.
pub(crate) const MAX_TARGETS: usize = 64;

pub(crate) const NAME: Kind = Kind::Text(Rule::Name);
const FILE: Kind = Kind::Text(Rule::Filled);
pub(crate) const HEADER: Kind = Kind::Text(Rule::HeaderName);
pub(crate) const DURATION: Kind = Kind::Duration { zero: true };
pub(crate) const COUNT: Kind = Kind::Whole { min: 0, max: U32 };
const POSITIVE: Kind = Kind::Whole { min: 1, max: U32 };

/// The gateway's file.
pub(crate) static BOOTSTRAP: Shape = Shape {
    name: "Bootstrap",
    doc: "The configuration of one gateway (Envoy: config.bootstrap.v3.Bootstrap, without the @type wrappers).",
    fields: &[
        Field::optional("node", Kind::Object(&NODE), "Who this gateway says it is."),
        Field::optional("admin", Kind::Object(&ADMIN), "The admin listener."),
        Field::optional(
            "static_resources",
            Kind::Object(&STATIC_RESOURCES),
            "Listeners and clusters; may be left out when control has them.",
        ),
        Field::optional(
            "control",
            Kind::Object(&CONTROL),
            "Where control is; without it routes run on the weights of the file.",
        ),
        Field::optional("limits", Kind::Object(&LIMITS), "Process-wide limits."),
    ],
    one_of: &[],
};

static NODE: Shape = Shape {
    name: "Node",
    doc: "Identity in /server_info and towards control (Envoy: config.core.v3.Node).",
    fields: &[
        Field::with_default(
            "id",
            Kind::Text(Rule::Any),
            "gateway",
            "Shared by all tasks of one ECS service.",
        ),
        Field::with_default("cluster", Kind::Text(Rule::Any), "gateway", "Service cluster."),
    ],
    one_of: &[],
};

static ADMIN: Shape = Shape {
    name: "Admin",
    doc: "The admin listener (Envoy: config.bootstrap.v3.Admin). Default address 0.0.0.0:9901.",
    fields: &[
        Field::optional("address", Kind::Object(&LISTEN_ADDRESS), "Where to bind."),
        Field::optional(
            "token_file",
            FILE,
            "A file whose first line is the token that allows state changes from other than loopback.",
        ),
    ],
    one_of: &[],
};

static LISTEN_ADDRESS: Shape = Shape {
    name: "ListenAddress",
    doc: "Envoy: config.core.v3.Address.",
    fields: &[Field::required("socket_address", Kind::Object(&LISTEN_SOCKET_ADDRESS), "Address and port.")],
    one_of: &[],
};

static LISTEN_SOCKET_ADDRESS: Shape = Shape {
    name: "ListenSocketAddress",
    doc: "Envoy: config.core.v3.SocketAddress of a listener.",
    fields: &[
        Field::required("address", Kind::Text(Rule::Ip), "0.0.0.0 for every interface."),
        Field::required("port_value", Kind::Whole { min: 0, max: 65_535 }, "0 takes any free port."),
    ],
    one_of: &[],
};

pub(crate) static STATIC_RESOURCES: Shape = Shape {
    name: "StaticResources",
    doc: "Envoy: Bootstrap.StaticResources.",
    fields: &[
        Field::required(
            "listeners",
            Kind::List { of: &Kind::Object(&LISTENER), min: 1, max: MANY },
            "Where to listen.",
        ),
        Field::optional(
            "clusters",
            Kind::List { of: &Kind::Object(&CLUSTER), min: 0, max: MANY },
            "Where to send requests.",
        ),
    ],
    one_of: &[],
};

static LISTENER: Shape = Shape {
    name: "Listener",
    doc: "One listening address (Envoy: config.listener.v3.Listener).",
    fields: &[
        Field::required("name", NAME, "Unique."),
        Field::required("address", Kind::Object(&LISTEN_ADDRESS), "Where to bind."),
        Field::required("http_connection_manager", Kind::Object(&HCM), "How HTTP is served there."),
    ],
    one_of: &[],
};

static HCM: Shape = Shape {
    name: "HttpConnectionManager",
    doc: "How HTTP is served (Envoy: HttpConnectionManager).",
    fields: &[
        Field::with_default("stat_prefix", NAME, "ingress", "Prefix of the downstream statistics."),
        Field::with_default("use_remote_address", Kind::Flag, "true", "Append the peer to x-forwarded-for."),
        Field::with_default(
            "xff_num_trusted_hops",
            Kind::Whole { min: 0, max: 16 },
            "1",
            "Trusted proxies in front: 1 for an ALB.",
        ),
        Field::with_default("server_name", Kind::Text(Rule::Filled), "envoy", "Value of the server header."),
        Field::with_default(
            "stream_idle_timeout",
            DURATION,
            "300s",
            "No bytes in either direction of a stream; 0s disables.",
        ),
        Field::with_default(
            "request_headers_timeout",
            DURATION,
            "60s",
            "From the first byte of a request head to its last; 0s disables.",
        ),
        Field::optional(
            "common_http_protocol_options",
            Kind::Object(&COMMON_OPTIONS),
            "For every HTTP version.",
        ),
        Field::with_default(
            "max_request_headers_kb",
            Kind::Whole { min: 1, max: 8_192 },
            "60",
            "Most KiB of a request head.",
        ),
        Field::optional("http_protocol_options", Kind::Object(&HTTP1_OPTIONS), "For HTTP/1."),
        Field::optional("http2_protocol_options", Kind::Object(&HTTP2_OPTIONS), "For HTTP/2."),
        Field::optional(
            "upgrade_configs",
            Kind::List { of: &Kind::Object(&UPGRADE), min: 0, max: 16 },
            "Upgrades that are passed on; websocket when left out, none when empty.",
        ),
        Field::with_default(
            "lenient",
            Kind::Flag,
            "false",
            "Repair malformed requests as Envoy does instead of refusing them with 400.",
        ),
        Field::optional("access_log", Kind::Object(&ACCESS_LOG), "The access log; none when left out."),
        Field::required("route_config", Kind::Object(&ROUTE_CONFIG), "The routes."),
    ],
    one_of: &[],
};

static COMMON_OPTIONS: Shape = Shape {
    name: "HttpProtocolOptions",
    doc: "Envoy: config.core.v3.HttpProtocolOptions.",
    fields: &[
        Field::with_default(
            "idle_timeout",
            DURATION,
            "3600s",
            "A downstream connection without a request is closed; 0s disables.",
        ),
        Field::with_default(
            "max_headers_count",
            Kind::Whole { min: 1, max: 1_000 },
            "100",
            "Most header lines of a request or response.",
        ),
    ],
    one_of: &[],
};

static HTTP1_OPTIONS: Shape = Shape {
    name: "Http1ProtocolOptions",
    doc: "Envoy: config.core.v3.Http1ProtocolOptions.",
    fields: &[Field::with_default("enable_trailers", Kind::Flag, "false", "Pass trailers on, both ways.")],
    one_of: &[],
};

static HTTP2_OPTIONS: Shape = Shape {
    name: "Http2ProtocolOptions",
    doc: "Envoy: config.core.v3.Http2ProtocolOptions.",
    fields: &[Field::with_default(
        "max_concurrent_streams",
        Kind::Whole { min: 1, max: 65_536 },
        "100",
        "Streams at once per connection.",
    )],
    one_of: &[],
};

static UPGRADE: Shape = Shape {
    name: "UpgradeConfig",
    doc: "Envoy: HttpConnectionManager.UpgradeConfig.",
    fields: &[Field::required(
        "upgrade_type",
        Kind::Text(Rule::Protocol),
        "As in the Upgrade header: websocket.",
    )],
    one_of: &[],
};

static ACCESS_LOG: Shape = Shape {
    name: "AccessLog",
    doc: "One line for each request.",
    fields: &[
        Field::with_default("path", FILE, "/dev/stdout", "/dev/stdout, /dev/stderr or a file."),
        Field::with_default(
            "format",
            Kind::Choice(&["text", "json"]),
            "text",
            "Envoy's default text format, or one JSON object per line.",
        ),
        Field::with_default(
            "filter",
            Kind::Choice(&["all", "errors_and_canary"]),
            "all",
            "Every request, or those with 5xx, a response flag or another target than the stable. Where nothing is \
             said and node.id is an App Mesh resource's name, it is errors_and_canary.",
        ),
    ],
    one_of: &[],
};

static ROUTE_CONFIG: Shape = Shape {
    name: "RouteConfiguration",
    doc: "Envoy: config.route.v3.RouteConfiguration.",
    fields: &[
        Field::optional("name", NAME, "For people."),
        Field::required(
            "virtual_hosts",
            Kind::List { of: &Kind::Object(&VIRTUAL_HOST), min: 1, max: MANY },
            "Chosen by the Host header.",
        ),
    ],
    one_of: &[],
};

static VIRTUAL_HOST: Shape = Shape {
    name: "VirtualHost",
    doc: "Envoy: config.route.v3.VirtualHost.",
    fields: &[
        Field::required("name", NAME, "Unique in its route configuration."),
        Field::required(
            "domains",
            Kind::List { of: &Kind::Text(Rule::Domain), min: 1, max: MANY },
            "Exact, *.suffix, prefix.* or *; unique over all virtual hosts.",
        ),
        Field::required(
            "routes",
            Kind::List { of: &Kind::Object(&ROUTE), min: 0, max: MANY },
            "The first match wins.",
        ),
    ],
    one_of: &[],
};

static CONTROL: Shape = Shape {
    name: "Control",
    doc: "How control is reached.",
    fields: &[
        Field::required("url", Kind::Text(Rule::HttpUrl), "Such as http://control:18000."),
        Field::optional("token_file", FILE, "A file whose first line is the gateway token."),
        Field::optional(
            "ca_file",
            FILE,
            "PEM certificates that control's certificate is checked against; the system's when left out.",
        ),
        Field::optional(
            "dynamodb",
            Kind::Object(&STATE_ITEM),
            "Control's state item, read at the start when control is away.",
        ),
        Field::optional(
            "state_dir",
            FILE,
            "Folder for the saved copy of the last weights; not saved when left out.",
        ),
    ],
    one_of: &[],
};

pub(crate) static STATE_ITEM: Shape = Shape {
    name: "StateItem",
    doc: "One item of a DynamoDB table whose partition key is the text attribute `key`.",
    fields: &[
        Field::required("table", NAME, "The table."),
        Field::with_default("key", NAME, "weir", "Value of the item's partition key."),
    ],
    one_of: &[],
};

static LIMITS: Shape = Shape {
    name: "Limits",
    doc: "Process-wide limits.",
    fields: &[
        Field::with_default(
            "max_downstream_connections",
            POSITIVE,
            "20000",
            "Downstream connections per process.",
        ),
        Field::with_default(
            "leftover_budget",
            Kind::Whole { min: 1 << 20, max: 1 << 32 },
            "16777216",
            "Bytes per worker for partly read heads and unsent leftovers.",
        ),
    ],
    one_of: &[],
};
