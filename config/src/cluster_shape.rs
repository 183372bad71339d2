//! The table of a cluster: limits and where its endpoints come from.
//!
//! Owns names and defaults; it must never hold code. Next: `decode.rs`.

use crate::bootstrap_shape::{COUNT, MANY, NAME};
use crate::rules::Rule;
use crate::shape::{Field, Kind, OneOf, Shape};

const POSITIVE_DURATION: Kind = Kind::Duration { zero: false };
const PORT: Kind = Kind::Whole { min: 1, max: 65_535 };

pub(crate) static CLUSTER: Shape = Shape {
    name: "Cluster",
    doc: "Envoy: config.cluster.v3.Cluster.",
    fields: &[
        Field::required("name", NAME, "Unique."),
        Field::with_default(
            "connect_timeout",
            POSITIVE_DURATION,
            "1s",
            "For a new connection to an endpoint.",
        ),
        Field::with_default(
            "lb_policy",
            Kind::Choice(&["ROUND_ROBIN", "LEAST_REQUEST"]),
            "ROUND_ROBIN",
            "How an endpoint is chosen.",
        ),
        Field::optional("circuit_breakers", Kind::Object(&CIRCUIT_BREAKERS), "Limits per cluster."),
        Field::required("discovery", Kind::Object(&DISCOVERY), "Where its endpoints come from."),
    ],
    one_of: &[],
};

static CIRCUIT_BREAKERS: Shape = Shape {
    name: "CircuitBreakers",
    doc: "Envoy: config.cluster.v3.CircuitBreakers.",
    fields: &[Field::optional(
        "thresholds",
        Kind::List { of: &Kind::Object(&THRESHOLDS), min: 0, max: 1 },
        "Of the default priority.",
    )],
    one_of: &[],
};

static THRESHOLDS: Shape = Shape {
    name: "Thresholds",
    doc: "Envoy: CircuitBreakers.Thresholds.",
    fields: &[
        Field::with_default("max_connections", COUNT, "1024", "Connections to all endpoints."),
        Field::with_default("max_pending_requests", COUNT, "1024", "Requests that wait for a connection."),
        Field::with_default("max_requests", COUNT, "1024", "Requests in flight."),
        Field::with_default("max_retries", COUNT, "3", "Retries in flight."),
    ],
    one_of: &[],
};

static DISCOVERY: Shape = Shape {
    name: "Discovery",
    doc: "Where endpoints come from.",
    fields: &[
        Field::optional("static", Kind::Object(&STATIC), "Fixed addresses."),
        Field::optional("dns", Kind::Object(&DNS), "All A and AAAA records of a name, by TTL."),
        Field::optional("cloud_map", Kind::Object(&CLOUD_MAP), "AWS Cloud Map's API (DiscoverInstances)."),
    ],
    one_of: &[OneOf { fields: &["static", "dns", "cloud_map"], required: true }],
};

static STATIC: Shape = Shape {
    name: "StaticDiscovery",
    doc: "Fixed addresses.",
    fields: &[Field::required(
        "endpoints",
        Kind::List { of: &Kind::Object(&ENDPOINT), min: 1, max: MANY },
        "The addresses.",
    )],
    one_of: &[],
};

static ENDPOINT: Shape = Shape {
    name: "Endpoint",
    doc: "Envoy: config.core.v3.Address of an endpoint.",
    fields: &[Field::required("socket_address", Kind::Object(&ENDPOINT_SOCKET_ADDRESS), "Address and port.")],
    one_of: &[],
};

static ENDPOINT_SOCKET_ADDRESS: Shape = Shape {
    name: "EndpointSocketAddress",
    doc: "Envoy: config.core.v3.SocketAddress of an endpoint.",
    fields: &[
        Field::required("address", Kind::Text(Rule::Ip), "An IP address."),
        Field::required("port_value", PORT, "Port."),
    ],
    one_of: &[],
};

static DNS: Shape = Shape {
    name: "DnsDiscovery",
    doc: "All A and AAAA records of a name, by TTL.",
    fields: &[
        Field::required("hostname", Kind::Text(Rule::HostName), "Such as svc1-v1.demo.local."),
        Field::required("port_value", PORT, "Port of every endpoint."),
        Field::with_default(
            "min_refresh",
            POSITIVE_DURATION,
            "1s",
            "Shortest time between look-ups, whatever the TTL.",
        ),
        Field::with_default(
            "max_refresh",
            POSITIVE_DURATION,
            "30s",
            "Longest time between look-ups, whatever the TTL.",
        ),
        Field::optional(
            "resolvers",
            Kind::List { of: &Kind::Text(Rule::SocketAddress), min: 0, max: 8 },
            "Name servers to ask instead of the system's.",
        ),
        Field::with_default(
            "allow_loopback",
            Kind::Flag,
            "false",
            "Accept loopback and link-local addresses.",
        ),
    ],
    one_of: &[],
};

static DNS_FALLBACK: Shape = Shape {
    name: "DnsFallback",
    doc: "DNS in place of Cloud Map's API; on by default where `port_value` is given.",
    fields: &[
        Field::with_default("enabled", Kind::Flag, "true", "false: only the API is asked."),
        Field::optional("hostname", Kind::Text(Rule::HostName), "Default: <service_name>.<namespace_name>."),
        Field::optional(
            "resolvers",
            Kind::List { of: &Kind::Text(Rule::SocketAddress), min: 0, max: 8 },
            "Name servers to ask instead of the system's.",
        ),
    ],
    one_of: &[],
};

static CLOUD_MAP: Shape = Shape {
    name: "CloudMapDiscovery",
    doc: "AWS Cloud Map (DiscoverInstances).",
    fields: &[
        Field::required("namespace_name", Kind::Text(Rule::Filled), "The namespace's HTTP name."),
        Field::required("service_name", Kind::Text(Rule::Filled), "The service."),
        Field::optional(
            "attributes",
            Kind::Map { keys: Rule::Filled, of: &Kind::Text(Rule::Any), min: 0 },
            "QueryParameters: all must match.",
        ),
        Field::optional("port_value", PORT, "Port of every endpoint; else the instance's AWS_INSTANCE_PORT."),
        Field::optional(
            "dns_fallback",
            Kind::Object(&DNS_FALLBACK),
            "What is asked when the API refuses (AccessDenied) or cannot be reached; needs `port_value`.",
        ),
        Field::with_default("full_poll", POSITIVE_DURATION, "30s", "Between two full polls."),
        Field::with_default("revision_poll", POSITIVE_DURATION, "2s", "Between two revision polls."),
        Field::with_default(
            "allow_loopback",
            Kind::Flag,
            "false",
            "Accept loopback and link-local addresses.",
        ),
    ],
    one_of: &[],
};
