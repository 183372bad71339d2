//! From a checked document to the model: everything but routes.
//!
//! Owns the translation and the checks that need two values of one file: unique names, addresses, known clusters.
//! It must never stop at an error: a value that is wrong was reported, and the rest is looked at all the same.
//! Next: `routes.rs`, the same for virtual hosts, routes and weights.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::diagnostic::Collector;
use crate::model::{
    AccessLog, AccessLogFilter, AccessLogFormat, Admin, Bootstrap, CircuitBreakers, CloudMapDiscovery,
    Cluster, Control, Discovery, DnsDiscovery, HttpConnectionManager, LbPolicy, Limits, Listener, Node,
    StateItem,
};
use crate::object::{Object, Spotted};
use crate::routes;

/// Between look-ups of a name that stands in for Cloud Map's API: the defaults of DNS discovery.
const FALLBACK_REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Names seen so far, for errors about the second of two.
#[derive(Debug, Default)]
pub(crate) struct Names {
    lines: HashMap<String, usize>,
}

impl Names {
    /// Reports the second use of a name; `what` as in `cluster`.
    pub(crate) fn add(&mut self, what: &str, name: &Spotted<String>, out: &mut Collector<'_>) {
        if let Some(first) = self.lines.get(&name.value) {
            out.report(
                &name.path,
                name.mark,
                format!("a second {what} `{}`", name.value),
                format!("the first is in line {first}: rename or remove one of the two"),
            );
            return;
        }
        self.lines.insert(name.value.clone(), name.mark.line);
    }

    /// All names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.lines.keys().map(String::as_str)
    }

    /// Whether the name was added.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.lines.contains_key(name)
    }
}

/// The whole file.
pub(crate) fn bootstrap(root: &Object<'_>, out: &mut Collector<'_>) -> Bootstrap {
    let bootstrap = partial_bootstrap(root, out);
    // A document that is no mapping was reported as that.
    let is_mapping = root.to_json().is_object();
    if is_mapping && !root.has("static_resources") && bootstrap.control.is_none() {
        out.report(
            "static_resources",
            root.mark,
            "there are no listeners and no clusters, and no control to get them from",
            "add `static_resources`, or `control: {url: http://control:18000}` to get them from control",
        );
    }
    bootstrap
}

/// The whole file, where the environment may name control.
pub(crate) fn partial_bootstrap(root: &Object<'_>, out: &mut Collector<'_>) -> Bootstrap {
    let admin = admin(&root.object("admin"));
    let given = root.object("admin").has("address");
    let (listeners, clusters) =
        resources(&root.object("static_resources"), Some((admin.address, given)), out);
    Bootstrap {
        node: node(&root.object("node")),
        admin,
        listeners,
        clusters,
        control: root.object_opt("control").map(|object| control(&object)),
        limits: limits(&root.object("limits")),
    }
}

/// Listeners and clusters: of a gateway's file, or of what control gives to all gateways. `admin` is the admin
/// listener and whether the file names its address.
pub(crate) fn resources(
    resources: &Object<'_>,
    admin: Option<(SocketAddr, bool)>,
    out: &mut Collector<'_>,
) -> (Vec<Listener>, Vec<Cluster>) {
    let clusters_given = resources.objects("clusters");
    let mut known = Names::default();
    for cluster in &clusters_given {
        if let Some(name) = cluster.spotted("name") {
            known.add("cluster", &name, out);
        }
    }
    let mut routes = routes::Decoder::new(&known);
    let listeners = listeners(resources, &mut routes, out);
    unique_addresses(resources, &listeners, admin, out);
    (listeners, clusters_given.iter().map(|object| cluster(object, out)).collect())
}

fn node(object: &Object<'_>) -> Node {
    Node { id: object.text("id"), cluster: object.text("cluster") }
}

fn admin(object: &Object<'_>) -> Admin {
    // The address cannot have a default in the table: it is three mappings deep.
    let address =
        object.object_opt("address").map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 9901)), |o| address(&o));
    Admin { address, token_file: object.text_opt("token_file") }
}

/// An address of which every part was checked; any address where it was refused.
fn address(object: &Object<'_>) -> SocketAddr {
    let socket = object.object("socket_address");
    let ip = socket.text("address").parse::<IpAddr>().unwrap_or_else(|_| IpAddr::from([0, 0, 0, 0]));
    SocketAddr::new(ip, socket.whole("port_value"))
}

fn control(object: &Object<'_>) -> Control {
    Control {
        url: object.text("url").trim_end_matches('/').to_owned(),
        token_file: object.text_opt("token_file"),
        token: None,
        ca_file: object.text_opt("ca_file"),
        ca: None,
        state_dir: object.text_opt("state_dir"),
        state_item: object.object_opt("dynamodb").map(|object| state_item(&object)),
    }
}

/// A DynamoDB item.
pub(crate) fn state_item(object: &Object<'_>) -> StateItem {
    StateItem { table: object.text("table"), key: object.text("key") }
}

fn limits(object: &Object<'_>) -> Limits {
    Limits {
        max_downstream_connections: object.whole("max_downstream_connections"),
        leftover_budget: object.whole("leftover_budget"),
    }
}

fn listeners(
    resources: &Object<'_>,
    routes: &mut routes::Decoder<'_>,
    out: &mut Collector<'_>,
) -> Vec<Listener> {
    let mut names = Names::default();
    let mut listeners = Vec::new();
    for object in resources.objects("listeners") {
        if let Some(name) = object.spotted("name") {
            names.add("listener", &name, out);
        }
        let http_connection_manager = manager(&object.object("http_connection_manager"), routes, out);
        let address = address(&object.object("address"));
        listeners.push(Listener { name: object.text("name"), address, http_connection_manager });
    }
    listeners
}

/// Two sockets cannot be bound to one address; a wildcard address takes the port on all of them.
fn unique_addresses(
    resources: &Object<'_>,
    listeners: &[Listener],
    admin: Option<(SocketAddr, bool)>,
    out: &mut Collector<'_>,
) {
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    if let Some((address, given)) = admin
        && !(given && address.port() == 0)
    {
        taken.push((address, "the admin listener".to_owned()));
    }
    for (object, listener) in resources.objects("listeners").iter().zip(listeners) {
        let socket = object.object("address").object("socket_address");
        if !socket.has("address") || listener.address.port() == 0 {
            continue;
        }
        if let Some((_, holder)) = taken.iter().find(|(other, _)| collide(*other, listener.address)) {
            out.report(
                &socket.path_of("port_value"),
                socket.mark_of("port_value"),
                format!("{} is already taken by {holder}", listener.address),
                "give each listener and the admin listener its own port",
            );
            continue;
        }
        taken.push((listener.address, format!("listener `{}`", listener.name)));
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    a.port() == b.port()
        && (a.ip() == b.ip() || same_family && (a.ip().is_unspecified() || b.ip().is_unspecified()))
}

fn manager(
    object: &Object<'_>,
    routes: &mut routes::Decoder<'_>,
    out: &mut Collector<'_>,
) -> HttpConnectionManager {
    let common = object.object("common_http_protocol_options");
    HttpConnectionManager {
        stat_prefix: object.text("stat_prefix"),
        use_remote_address: object.flag("use_remote_address"),
        xff_num_trusted_hops: object.whole("xff_num_trusted_hops"),
        server_name: object.text("server_name"),
        stream_idle_timeout: object.duration("stream_idle_timeout"),
        idle_timeout: common.duration("idle_timeout"),
        request_headers_timeout: object.duration("request_headers_timeout"),
        max_headers_count: common.whole("max_headers_count"),
        max_request_headers_kb: object.whole("max_request_headers_kb"),
        max_concurrent_streams: object.object("http2_protocol_options").whole("max_concurrent_streams"),
        enable_trailers: object.object("http_protocol_options").flag("enable_trailers"),
        lenient: object.flag("lenient"),
        upgrade_types: upgrade_types(object, out),
        access_log: object.object_opt("access_log").map(|object| access_log(&object)),
        route_config: routes.route_configuration(&object.object("route_config"), out),
    }
}

fn upgrade_types(object: &Object<'_>, out: &mut Collector<'_>) -> Vec<String> {
    if !object.has("upgrade_configs") {
        return vec!["websocket".to_owned()];
    }
    let mut names = Names::default();
    let mut types = Vec::new();
    for object in object.objects("upgrade_configs") {
        if let Some(mut name) = object.spotted("upgrade_type") {
            name.value.make_ascii_lowercase();
            names.add("upgrade", &name, out);
            types.push(name.value);
        }
    }
    types
}

fn access_log(object: &Object<'_>) -> AccessLog {
    let format = if object.text("format") == "json" { AccessLogFormat::Json } else { AccessLogFormat::Text };
    let filter = match object.text("filter").as_str() {
        _ if !object.has("filter") => AccessLogFilter::Unsaid,
        "errors_and_canary" => AccessLogFilter::ErrorsAndCanary,
        _ => AccessLogFilter::All,
    };
    AccessLog { path: object.text("path"), format, filter }
}

fn cluster(object: &Object<'_>, out: &mut Collector<'_>) -> Cluster {
    let least_request = object.text("lb_policy") == "LEAST_REQUEST";
    Cluster {
        name: object.text("name"),
        discovery: discovery(&object.object("discovery"), out),
        connect_timeout: object.duration("connect_timeout"),
        lb_policy: if least_request { LbPolicy::LeastRequest } else { LbPolicy::RoundRobin },
        circuit_breakers: circuit_breakers(&object.object("circuit_breakers")),
    }
}

fn circuit_breakers(object: &Object<'_>) -> CircuitBreakers {
    // A list of at most one; without it the defaults of the table of one.
    let thresholds = object.objects("thresholds").into_iter().next();
    let thresholds = thresholds.unwrap_or_else(|| object.item_by_default("thresholds"));
    CircuitBreakers {
        max_connections: thresholds.whole("max_connections"),
        max_pending_requests: thresholds.whole("max_pending_requests"),
        max_requests: thresholds.whole("max_requests"),
        max_retries: thresholds.whole("max_retries"),
    }
}

fn discovery(object: &Object<'_>, out: &mut Collector<'_>) -> Discovery {
    if let Some(dns) = object.object_opt("dns") {
        return Discovery::Dns(dns_discovery(&dns, out));
    }
    if let Some(cloud_map) = object.object_opt("cloud_map") {
        return Discovery::CloudMap(cloud_map_discovery(&cloud_map, out));
    }
    let mut names = Names::default();
    let mut endpoints = Vec::new();
    for endpoint in object.object("static").objects("endpoints") {
        let at = address(&endpoint);
        let socket = endpoint.object("socket_address");
        if socket.has("address") && socket.whole_opt::<u16>("port_value").is_some() {
            let spotted = Spotted { value: at.to_string(), path: endpoint.path.clone(), mark: endpoint.mark };
            names.add("endpoint", &spotted, out);
        }
        endpoints.push(at);
    }
    Discovery::Static(endpoints)
}

fn dns_discovery(object: &Object<'_>, out: &mut Collector<'_>) -> DnsDiscovery {
    ordered(object, "min_refresh", "max_refresh", out);
    DnsDiscovery {
        hostname: object.text("hostname"),
        port: object.whole("port_value"),
        min_refresh: object.duration("min_refresh"),
        max_refresh: object.duration("max_refresh"),
        resolvers: object.texts("resolvers").iter().filter_map(|text| text.value.parse().ok()).collect(),
        allow_loopback: object.flag("allow_loopback"),
    }
}

fn cloud_map_discovery(object: &Object<'_>, out: &mut Collector<'_>) -> CloudMapDiscovery {
    ordered(object, "revision_poll", "full_poll", out);
    let attributes: BTreeMap<String, String> =
        object.scalars_by_key("attributes").into_iter().map(|(key, value)| (key, value.value)).collect();
    CloudMapDiscovery {
        namespace_name: object.text("namespace_name"),
        service_name: object.text("service_name"),
        attributes,
        port: object.whole_opt("port_value"),
        full_poll: object.duration("full_poll"),
        revision_poll: object.duration("revision_poll"),
        allow_loopback: object.flag("allow_loopback"),
        dns_fallback: dns_fallback(object, out),
    }
}

/// DNS with the port of the cluster: a name has none.
fn dns_fallback(object: &Object<'_>, out: &mut Collector<'_>) -> Option<DnsDiscovery> {
    let fallback = object.object("dns_fallback");
    let port = object.whole_opt("port_value");
    if port.is_none() && object.has("dns_fallback") && fallback.flag("enabled") {
        out.report(
            &fallback.path,
            fallback.mark,
            "DNS gives addresses without ports, and this cluster has no `port_value`",
            "add `port_value`, or remove `dns_fallback`",
        );
    }
    let own_name = || format!("{}.{}", object.text("service_name"), object.text("namespace_name"));
    let resolvers = fallback.texts("resolvers");
    port.filter(|_| fallback.flag("enabled")).map(|port| DnsDiscovery {
        hostname: fallback.text_opt("hostname").unwrap_or_else(own_name),
        port,
        min_refresh: FALLBACK_REFRESH.0,
        max_refresh: FALLBACK_REFRESH.1,
        resolvers: resolvers.iter().filter_map(|text| text.value.parse().ok()).collect(),
        allow_loopback: object.flag("allow_loopback"),
    })
}

/// The first duration must not exceed the second, defaults included.
fn ordered(object: &Object<'_>, shorter: &str, longer: &str, out: &mut Collector<'_>) {
    let (short, long) = (object.duration(shorter), object.duration(longer));
    if short <= long {
        return;
    }
    let at = if object.has(shorter) { shorter } else { longer };
    out.report(
        &object.path_of(at),
        object.mark_of(at),
        format!("{shorter} ({short:?}) is longer than {longer} ({long:?})"),
        format!("lower `{shorter}` or raise `{longer}`"),
    );
}
