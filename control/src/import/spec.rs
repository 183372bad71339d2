//! From resources as the App Mesh API describes them to the model.
//!
//! Owns which property means what and what each property that is not taken over means; it must never know where a
//! resource came from. The names are those of the API (App Mesh API Reference, data types). Next: `matching.rs`.

use super::fields::{Fields, Reading, unresolved_of};
use super::matching;
use super::model::{
    GatewayRoute, Model, NodeDiscovery, Port, Provider, Retry, RetryPolicy, Rewrite, Route, Target,
    VirtualGateway, VirtualNode, VirtualService,
};
use super::notes::{Kind as Remark, Notes, Place};
use serde_json::Value;
use std::cell::RefCell;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mesh,
    Node,
    Router,
    Service,
    Route,
    Gateway,
    GatewayRoute,
}

/// A resource: names and `spec` as in an answer of the API.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resource {
    pub kind: Kind,
    pub place: Place,
    pub body: Value,
}

impl Kind {
    /// CloudFormation's type, Terraform's type, the member that holds the name.
    const WORDS: [(Self, &'static str, &'static str, &'static str); 7] = [
        (Self::Mesh, "AWS::AppMesh::Mesh", "aws_appmesh_mesh", "meshName"),
        (Self::Node, "AWS::AppMesh::VirtualNode", "aws_appmesh_virtual_node", "virtualNodeName"),
        (Self::Router, "AWS::AppMesh::VirtualRouter", "aws_appmesh_virtual_router", "virtualRouterName"),
        (Self::Service, "AWS::AppMesh::VirtualService", "aws_appmesh_virtual_service", "virtualServiceName"),
        (Self::Route, "AWS::AppMesh::Route", "aws_appmesh_route", "routeName"),
        (Self::Gateway, "AWS::AppMesh::VirtualGateway", "aws_appmesh_virtual_gateway", "virtualGatewayName"),
        (Self::GatewayRoute, "AWS::AppMesh::GatewayRoute", "aws_appmesh_gateway_route", "gatewayRouteName"),
    ];

    pub fn of_cloudformation(name: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, word, ..)| *word == name).map(|(kind, ..)| *kind)
    }

    pub fn of_terraform(name: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, _, word, _)| *word == name).map(|(kind, ..)| *kind)
    }

    /// The member that holds the name.
    pub fn name_member(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, _, _, member)| *member)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Node => "virtual node",
            Self::Router => "virtual router",
            Self::Service => "virtual service",
            Self::Route => "route",
            Self::Gateway => "virtual gateway",
            Self::GatewayRoute => "gateway route",
        }
    }
}

/// What a property that is not read means; by the longest prefix of its path.
const LEFT: &[(Kind, &str, Remark, &str)] = &[
    (
        Kind::Mesh,
        "spec",
        Remark::LeftOut,
        "a rule between services inside the mesh; it never concerned what comes in through the gateway",
    ),
    (
        Kind::Router,
        "spec.listeners",
        Remark::LeftOut,
        "the router's port was never on the wire; endpoints have the node's port",
    ),
    (
        Kind::Node,
        "spec.backends",
        Remark::LeftOut,
        "whom the service calls is no concern of a gateway in front of it",
    ),
    (
        Kind::Node,
        "spec.backendDefaults",
        Remark::LeftOut,
        "how the service calls others is no concern of a gateway in front of it",
    ),
    (
        Kind::Node,
        "spec.logging",
        Remark::LeftOut,
        "the log of the node's own Envoy, which goes with the sidecar",
    ),
    (
        Kind::Node,
        "spec.listeners[].healthCheck",
        Remark::LeftOut,
        "Weir sends no health check requests: it doubts an endpoint that refuses connections or fails, and Cloud Map or DNS takes stopped tasks out",
    ),
    (
        Kind::Node,
        "spec.listeners[].outlierDetection",
        Remark::LeftOut,
        "these thresholds are not taken over: Weir has its own rule for endpoints that fail",
    ),
    (
        Kind::Node,
        "spec.listeners[].connectionPool",
        Remark::LeftOut,
        "limits of the node's own Envoy, which goes with the sidecar; `circuit_breakers` of the cluster limit the gateway's side",
    ),
    (
        Kind::Node,
        "spec.listeners[].timeout",
        Remark::LeftOut,
        "time-outs of the node's own Envoy, which goes with the sidecar; the route's time-out is kept",
    ),
    (
        Kind::Node,
        "spec.listeners[].tls",
        Remark::LeftOut,
        "TLS ended in the node's own Envoy, which goes with the sidecar: the gateway speaks plain HTTP to the container",
    ),
    (
        Kind::Node,
        "spec.serviceDiscovery",
        Remark::LeftOut,
        "Weir takes every address that discovery has, IPv4 and IPv6",
    ),
    (
        Kind::Gateway,
        "spec.backendDefaults",
        Remark::LeftOut,
        "TLS to backends ended in their Envoys, which go with the sidecars: the gateway speaks plain HTTP",
    ),
    (
        Kind::Gateway,
        "spec.listeners[].healthCheck",
        Remark::LeftOut,
        "the health check of the gateway itself is the load balancer's: GET /server_info on port 9901",
    ),
    (
        Kind::Gateway,
        "spec.listeners[].connectionPool",
        Remark::LeftOut,
        "Weir limits downstream connections per process (`limits` of the gateway), not per listener",
    ),
    (
        Kind::Gateway,
        "spec.listeners[].tls",
        Remark::Wrong,
        "the listener spoke TLS and Weir's speaks plain HTTP: end TLS at the load balancer",
    ),
    (
        Kind::Gateway,
        "spec.logging.accessLog.file.format",
        Remark::LeftOut,
        "a format of one's own: Weir writes Envoy's default text, or JSON with the same fields",
    ),
];

/// Members of the API that say nothing about traffic.
const SILENT: &[&str] = &["metadata", "status", "tags", "meshOwner", "clientToken"];

/// Reads a resource into the model.
pub(super) fn read(resource: &Resource, notes: &RefCell<Notes>, model: &mut Model) {
    let reading = Reading::new(notes, resource.place.clone());
    let root = reading.root(&resource.body);
    SILENT.iter().for_each(|member| root.get(member).done());
    let name = root.get(resource.kind.name_member()).needed();
    let mesh = root.get("meshName").needed();
    // What a resource without a name leaves out says nothing.
    let Some((name, mesh)) = name.zip(mesh) else { return };
    add(resource.kind, &root, (mesh, name.clone()), model);
    notes.borrow_mut().add(Remark::Understood, &resource.place, format!("{} `{name}`", resource.kind.word()));
    for (path, value) in reading.unread(&resource.body) {
        left(resource, &path, &value, notes);
    }
}

fn left(resource: &Resource, path: &str, value: &Value, notes: &RefCell<Notes>) {
    let mut notes = notes.borrow_mut();
    let plain = strip_indices(path);
    let known = LEFT.iter().filter(|(kind, prefix, ..)| *kind == resource.kind && plain.starts_with(prefix));
    let known = known.max_by_key(|(_, prefix, ..)| prefix.len());
    if let Some((place, what)) = unresolved_of(value) {
        if !notes.mentions(&place) {
            let why = known.map_or("nothing here depends on it", |(.., why)| why);
            notes.add(Remark::LeftOut, &place, format!("{what}; {why}"));
        }
        return;
    }
    match known {
        // One line for a whole block.
        Some((_, prefix, remark, why)) => notes.add(*remark, &resource.place.inside(prefix), *why),
        None => notes.add(
            Remark::LeftOut,
            &resource.place.inside(path),
            format!("{value}: not known here; look whether requests depend on it"),
        ),
    }
}

fn strip_indices(path: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if inside => continue,
            _ => {}
        }
        plain.push(c);
    }
    plain
}

fn add(kind: Kind, root: &Fields<'_>, (mesh, name): (String, String), model: &mut Model) {
    let spec = root.get("spec");
    let place = root.place();
    match kind {
        Kind::Mesh => {}
        Kind::Router => model.routers.push((mesh, name)),
        Kind::Node => {
            let listeners = ports(&spec.get("listeners"));
            let discovery = discovery(&spec.get("serviceDiscovery"));
            model.nodes.push(VirtualNode { place, mesh, name, listeners, discovery, cluster: None });
        }
        Kind::Service => {
            let provider = spec.get("provider");
            let (router, node) = (provider.get("virtualRouter"), provider.get("virtualNode"));
            let provider = if router.is_there() {
                router.get("virtualRouterName").needed().map_or(Provider::None, Provider::Router)
            } else if node.is_there() {
                node.get("virtualNodeName").needed().map_or(Provider::None, Provider::Node)
            } else {
                Provider::None
            };
            model.services.push(VirtualService { place, mesh, name, provider });
        }
        Kind::Route => model.routes.extend(route(root, mesh, name)),
        Kind::Gateway => {
            let listeners = ports(&spec.get("listeners"));
            let access_log = spec.get("logging").get("accessLog").get("file").get("path").text();
            model.gateways.push(VirtualGateway { place, mesh, name, listeners, access_log });
        }
        Kind::GatewayRoute => model.gateway_routes.extend(gateway_route(root, mesh, name)),
    }
}

fn ports(listeners: &Fields<'_>) -> Vec<Port> {
    if !listeners.is_there() {
        return Vec::new();
    }
    let port = |listener: Fields<'_>| {
        let mapping = listener.get("portMapping");
        let protocol = mapping.get("protocol").text().unwrap_or_else(|| "http".to_owned());
        if !mapping.get("port").is_there() {
            mapping.get("port").needed();
        }
        mapping.get("port").port().map(|port| Port { port, protocol })
    };
    listeners.items().into_iter().filter_map(port).collect()
}

fn discovery(fields: &Fields<'_>) -> NodeDiscovery {
    let (dns, map) = (fields.get("dns"), fields.get("awsCloudMap"));
    if dns.is_there() {
        dns.get("responseType").done();
        return dns
            .get("hostname")
            .needed()
            .map_or(NodeDiscovery::None, |hostname| NodeDiscovery::Dns { hostname });
    }
    if !map.is_there() {
        return NodeDiscovery::None;
    }
    let attributes = map.get("attributes");
    let pairs = if attributes.is_there() { attributes.items() } else { Vec::new() };
    let pairs = pairs.iter().filter_map(|pair| pair.get("key").needed().zip(pair.get("value").needed()));
    let attributes = pairs.collect();
    match map.get("namespaceName").needed().zip(map.get("serviceName").needed()) {
        Some((namespace, service)) => NodeDiscovery::CloudMap { namespace, service, attributes },
        None => NodeDiscovery::None,
    }
}

/// The kinds of a route's spec, in the API's words.
const PROTOCOLS: [&str; 4] = ["httpRoute", "http2Route", "grpcRoute", "tcpRoute"];

fn protocol<'a>(spec: &Fields<'a>) -> Option<(&'static str, Fields<'a>)> {
    let found = PROTOCOLS.iter().map(|name| (*name, spec.get(name))).find(|(_, fields)| fields.is_there());
    if found.is_none() {
        spec.error("neither httpRoute, http2Route, grpcRoute nor tcpRoute");
    }
    found
}

fn route(root: &Fields<'_>, mesh: String, name: String) -> Option<Route> {
    let spec = root.get("spec");
    let router = root.get("virtualRouterName").needed();
    let (protocol, body) = protocol(&spec)?;
    let mut targets = Vec::new();
    for target in body.get("action").get("weightedTargets").items() {
        let node = target.get("virtualNode").needed();
        let weight = target.get("weight").whole().map(u32::try_from);
        let port = target.get("port").port();
        match (node, weight) {
            (Some(node), Some(Ok(weight))) => targets.push(Target { node, weight, port }),
            (_, None) => target.error("no weight"),
            (_, Some(Err(_))) => target.error("a weight is a number from 0 to 100"),
            (None, _) => {}
        }
    }
    let timeout = body.get("timeout");
    Some(Route {
        place: root.place(),
        mesh,
        router: router?,
        name,
        priority: spec.get("priority").whole(),
        matches: matching::read(protocol, &body.get("match")),
        targets,
        timeout: timeout.get("perRequest").duration(),
        idle: timeout.get("idle").duration(),
        retry: retry(&body.get("retryPolicy")),
    })
}

/// Events of App Mesh, the words of Envoy and the status codes that App Mesh's Envoy had for them.
const RETRY_EVENTS: &[(&str, &str, &[u64])] = &[
    ("server-error", "retriable-status-codes", &[500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511]),
    ("gateway-error", "retriable-status-codes", &[502, 503, 504]),
    ("client-error", "retriable-status-codes", &[409]),
    ("stream-error", "reset,refused-stream", &[]),
    ("connection-error", "connect-failure", &[]),
    ("cancelled", "cancelled", &[]),
    ("deadline-exceeded", "deadline-exceeded", &[]),
    ("internal", "internal", &[]),
    ("resource-exhausted", "resource-exhausted", &[]),
    ("unavailable", "unavailable", &[]),
];

fn retry(fields: &Fields<'_>) -> Retry {
    if !fields.is_there() {
        return Retry::Default;
    }
    let num_retries = fields.get("maxRetries").whole().unwrap_or_default();
    let per_try_timeout = fields.get("perRetryTimeout").duration();
    let (mut words, mut codes) = (Vec::new(), Vec::new());
    for list in ["httpRetryEvents", "tcpRetryEvents", "grpcRetryEvents"] {
        let list = fields.get(list);
        for event in if list.is_there() { list.items() } else { Vec::new() } {
            let Some(name) = event.text() else { continue };
            let Some((_, word, numbers)) = RETRY_EVENTS.iter().find(|(known, ..)| *known == name) else {
                event.say(
                    Remark::LeftOut,
                    format!("`{name}` is no retry event of App Mesh that is known here"),
                );
                continue;
            };
            words.extend(word.split(',').filter(|word| !words.contains(word)).collect::<Vec<_>>());
            codes.extend_from_slice(numbers);
        }
    }
    codes.sort_unstable();
    codes.dedup();
    if num_retries == 0 || words.is_empty() {
        return Retry::Off;
    }
    Retry::Policy(RetryPolicy { retry_on: words.join(","), num_retries, per_try_timeout, codes })
}

fn gateway_route(root: &Fields<'_>, mesh: String, name: String) -> Option<GatewayRoute> {
    let spec = root.get("spec");
    let gateway = root.get("virtualGatewayName").needed();
    let (protocol, body) = protocol(&spec)?;
    let target = body.get("action").get("target");
    let service = target.get("virtualService").get("virtualServiceName").needed();
    if target.get("port").is_there() {
        target.get("port").say(Remark::LeftOut, "the port of the virtual service was never on the wire");
        target.get("port").done();
    }
    let rewrite = body.get("action").get("rewrite");
    let enabled = |fields: Fields<'_>| fields.text().is_none_or(|word| word == "ENABLED");
    let host_rewrite = enabled(rewrite.get("hostname").get("defaultTargetHostname"));
    let matches = matching::read(protocol, &body.get("match"));
    let prefix = rewrite.get("prefix");
    let rewrite = match (prefix.get("value").text(), rewrite.get("path").get("exact").text()) {
        (Some(value), _) | (None, Some(value)) => Rewrite::To(value),
        // Only a matched prefix has a default (GatewayRoute, rewrite).
        _ if body.get("match").get("prefix").is_there() && enabled(prefix.get("defaultPrefix")) => {
            Rewrite::To("/".to_owned())
        }
        _ => {
            prefix.get("defaultPrefix").done();
            Rewrite::Off
        }
    };
    Some(GatewayRoute {
        place: root.place(),
        mesh,
        gateway: gateway?,
        name,
        priority: spec.get("priority").whole(),
        matches,
        service: service?,
        host_rewrite,
        rewrite,
        own_host_only: false,
    })
}
