//! The table of a route: when it applies, what is done, and how requests are split.
//!
//! Owns names, kinds and defaults; it must never hold code. Next: `routes.rs`.

use crate::bootstrap_shape::{COUNT, DURATION, HEADER, MAX_TARGETS, NAME};
use crate::rules::Rule;
use crate::shape::{Field, Kind, OneOf, Shape};

pub(crate) static ROUTE: Shape = Shape {
    name: "Route",
    doc: "Envoy: config.route.v3.Route.",
    fields: &[
        Field::optional(
            "name",
            NAME,
            "For control, metrics and the access log; all routes of one name share their weights.",
        ),
        Field::required("match", Kind::Object(&ROUTE_MATCH), "When it applies."),
        Field::required("route", Kind::Object(&ROUTE_ACTION), "What is done."),
    ],
    one_of: &[],
};

static ROUTE_MATCH: Shape = Shape {
    name: "RouteMatch",
    doc: "Envoy: config.route.v3.RouteMatch.",
    fields: &[
        Field::optional("prefix", Kind::Text(Rule::UrlPath), "The path starts with this."),
        Field::optional("path", Kind::Text(Rule::UrlPath), "The path is this."),
        Field::optional(
            "headers",
            Kind::List { of: &Kind::Object(&HEADER_MATCHER), min: 0, max: 64 },
            "All must hold.",
        ),
    ],
    one_of: &[OneOf { fields: &["prefix", "path"], required: true }],
};

static HEADER_MATCHER: Shape = Shape {
    name: "HeaderMatcher",
    doc: "Envoy: config.route.v3.HeaderMatcher; without a condition the header must be there.",
    fields: &[
        Field::required("name", HEADER, "Header name, compared without case."),
        Field::optional("present_match", Kind::Flag, "true: it is there; false: it is not."),
        Field::optional("string_match", Kind::Object(&STRING_MATCH), "Condition on the value."),
        Field::with_default("invert_match", Kind::Flag, "false", "The condition must not hold."),
    ],
    one_of: &[OneOf { fields: &["present_match", "string_match"], required: false }],
};

static STRING_MATCH: Shape = Shape {
    name: "StringMatcher",
    doc: "Envoy: type.matcher.v3.StringMatcher.",
    fields: &[
        Field::optional("exact", Kind::Text(Rule::Any), "The value is this."),
        Field::optional("prefix", Kind::Text(Rule::Filled), "The value starts with this."),
        Field::optional("suffix", Kind::Text(Rule::Filled), "The value ends with this."),
        Field::optional("contains", Kind::Text(Rule::Filled), "The value contains this."),
    ],
    one_of: &[OneOf { fields: &["exact", "prefix", "suffix", "contains"], required: true }],
};

static ROUTE_ACTION: Shape = Shape {
    name: "RouteAction",
    doc: "Envoy: config.route.v3.RouteAction.",
    fields: &[
        Field::optional("cluster", NAME, "The one cluster."),
        Field::optional("weighted_clusters", Kind::Object(&WEIGHTED_CLUSTERS), "Several clusters by weight."),
        Field::with_default("timeout", DURATION, "15s", "Over the whole response; 0s disables."),
        Field::optional("retry_policy", Kind::Object(&RETRY_POLICY), "When a request is tried again."),
        Field::optional("prefix_rewrite", Kind::Text(Rule::UrlPath), "Replaces the matched prefix or path."),
        Field::optional("host_rewrite_literal", Kind::Text(Rule::Authority), "Replaces the Host header."),
    ],
    one_of: &[OneOf { fields: &["cluster", "weighted_clusters"], required: true }],
};

static RETRY_POLICY: Shape = Shape {
    name: "RetryPolicy",
    doc: "Envoy: config.route.v3.RetryPolicy.",
    fields: &[
        Field::required(
            "retry_on",
            Kind::Text(Rule::Filled),
            "Envoy's words, joined by commas: 5xx, gateway-error, reset, connect-failure, refused-stream, retriable-4xx, retriable-status-codes, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable.",
        ),
        Field::with_default("num_retries", Kind::Whole { min: 0, max: 10 }, "1", "Tries after the first."),
        Field::optional("per_try_timeout", DURATION, "Over each try; the route's timeout when left out."),
        Field::optional(
            "retriable_status_codes",
            Kind::List { of: &STATUS_CODE, min: 0, max: 64 },
            "For the word retriable-status-codes.",
        ),
    ],
    one_of: &[],
};

const STATUS_CODE: Kind = Kind::Whole { min: 200, max: 599 };

static WEIGHTED_CLUSTERS: Shape = Shape {
    name: "WeightedClusters",
    doc: "Envoy: config.route.v3.WeightedCluster, and what Weir adds: stable, override_header, target_header, health_aware.",
    fields: &[
        Field::required(
            "clusters",
            Kind::List { of: &Kind::Object(&CLUSTER_WEIGHT), min: 1, max: MAX_TARGETS },
            "The targets.",
        ),
        Field::optional(
            "stable",
            NAME,
            "The target that takes everything when in doubt; puts a named route under control.",
        ),
        Field::optional(
            "override_header",
            HEADER,
            "A request header whose value names the target, at any weight.",
        ),
        Field::optional("target_header", HEADER, "A response header that names the target that answered."),
        Field::with_default(
            "health_aware",
            Kind::Flag,
            "true",
            "A target without endpoints gets no share while another has some.",
        ),
    ],
    one_of: &[],
};

static CLUSTER_WEIGHT: Shape = Shape {
    name: "ClusterWeight",
    doc: "Envoy: WeightedCluster.ClusterWeight.",
    fields: &[
        Field::required("name", NAME, "A cluster."),
        Field::required("weight", COUNT, "Its share of the sum of all weights; 0 sends nothing."),
    ],
    one_of: &[],
};
