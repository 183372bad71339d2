//! The `config_dump` of an App Mesh Envoy of a virtual gateway: the last copy of a mesh that is gone.
//!
//! Owns the shape that App Mesh gave such an Envoy: a listener `lds_ingress_*` whose route configuration sends
//! everything to itself, a listener `lds_egress_*` with a virtual host for each virtual service, and clusters
//! `cds_egress_<mesh>_<virtual node>_<protocol>_<port>`. It must never read another Envoy's. Next: `dump_routes.rs`.

use super::dump_routes;
use super::model::{Model, NodeDiscovery, Port, VirtualGateway, VirtualNode};
use super::notes::{Kind as Remark, Notes, Place};
use serde_json::Value;

/// What the resource is called in messages.
pub(super) struct Dump<'a> {
    pub place: Place,
    pub mesh: String,
    pub gateway: String,
    pub listeners: Vec<&'a Value>,
    pub clusters: Vec<&'a Value>,
    pub routes: Vec<&'a Value>,
}

/// Whether a document is a config_dump.
pub(super) fn is_dump(value: &Value) -> bool {
    value.get("configs").is_some_and(Value::is_array)
}

/// A text below.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// A value below.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| value.get(step))
}

/// A list below.
pub(super) fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Reads a dump into the model.
pub(super) fn read(root: &Value, place: &Place, notes: &mut Notes, model: &mut Model) {
    let configs = list(root, &["configs"]);
    let of = |kind: &str| {
        configs.iter().filter(move |config| text(config, &["@type"]).ends_with(kind)).collect::<Vec<_>>()
    };
    let node =
        of("BootstrapConfigDump").first().map(|config| text(config, &["bootstrap", "node", "id"]).to_owned());
    let node = node.unwrap_or_default();
    let (mesh, gateway) = match node.rsplit('/').collect::<Vec<_>>().as_slice() {
        [name, "virtualGateway", mesh, ..] => ((*mesh).to_owned(), (*name).to_owned()),
        [_, "virtualNode", ..] => {
            return notes.error(
                place,
                format!("the Envoy is that of `{node}`: take the dump of the virtual gateway's task, GET /config_dump on its port 9901"),
            );
        }
        _ => {
            return notes.error(
                place,
                format!("node.id `{node}` is not of the form mesh/MESH/virtualGateway/NAME: this is not the dump of an App Mesh gateway"),
            );
        }
    };
    let both = |kind: &str, lists: [&str; 2], inner: &[&str]| {
        let of_kind = of(kind);
        let all = of_kind.iter().flat_map(|config| lists.iter().flat_map(|name| list(config, &[name])));
        all.filter_map(|entry| at(entry, inner)).collect::<Vec<_>>()
    };
    let mut listeners = both("ListenersConfigDump", ["static_listeners", "static_listeners"], &["listener"]);
    listeners.extend(both("ListenersConfigDump", ["dynamic_listeners", ""], &["active_state", "listener"]));
    let dump = Dump {
        place: place.clone(),
        mesh,
        gateway,
        listeners,
        clusters: both("ClustersConfigDump", ["static_clusters", "dynamic_active_clusters"], &["cluster"]),
        routes: both(
            "RoutesConfigDump",
            ["static_route_configs", "dynamic_route_configs"],
            &["route_config"],
        ),
    };
    for cluster in &dump.clusters {
        virtual_node(&dump, cluster, notes, model);
    }
    virtual_gateway(&dump, notes, model);
    dump_routes::read(&dump, notes, model);
}

/// The HttpConnectionManager of a listener.
pub(super) fn manager(listener: &Value) -> Option<&Value> {
    let chains = list(listener, &["filter_chains"]).iter();
    let filters = chains.flat_map(|chain| list(chain, &["filters"]));
    filters.filter_map(|filter| filter.get("typed_config")).find(|config| config.get("stat_prefix").is_some())
}

/// Envoy's words that say no more than App Mesh's own defaults.
const CLUSTER_MEMBERS: [&str; 9] = [
    "@type",
    "name",
    "type",
    "connect_timeout",
    "load_assignment",
    "circuit_breakers",
    "lb_policy",
    "dns_lookup_family",
    "alt_stat_name",
];

fn virtual_node(dump: &Dump<'_>, cluster: &Value, notes: &mut Notes, model: &mut Model) {
    let name = text(cluster, &["name"]);
    let Some(rest) = name.strip_prefix(&format!("cds_egress_{}_", dump.mesh)) else { return };
    let place = dump.place.inside(name);
    let mut words = rest.rsplitn(3, '_');
    let (port, protocol, node) = (words.next(), words.next(), words.next());
    let (Some(Ok(port)), Some(protocol), Some(node)) = (port.map(str::parse::<u16>), protocol, node) else {
        // Such as the cluster for what leaves the mesh.
        return notes.add(Remark::LeftOut, &place, "a cluster of Envoy's that is no virtual node");
    };
    let endpoints = list(cluster, &["load_assignment", "endpoints"])
        .iter()
        .flat_map(|group| list(group, &["lb_endpoints"]));
    let mut addresses =
        endpoints.filter_map(|endpoint| at(endpoint, &["endpoint", "address", "socket_address"]));
    let first = addresses.next();
    let hostname = first.map(|address| text(address, &["address"]).trim_end_matches('.').to_owned());
    let discovery = match (text(cluster, &["type"]), hostname) {
        ("LOGICAL_DNS" | "STRICT_DNS", Some(hostname)) => NodeDiscovery::Dns { hostname },
        (kind, _) => {
            let text = format!(
                "its endpoints come from {kind}: App Mesh found them for it through Cloud Map, which the dump does not name; add the template or `aws appmesh describe-virtual-node` of `{node}`"
            );
            notes.note(&place, text);
            return;
        }
    };
    let real_port = first.and_then(|address| address.get("port_value")).and_then(Value::as_u64);
    let port = real_port.and_then(|port| u16::try_from(port).ok()).unwrap_or(port);
    for member in cluster.as_object().into_iter().flat_map(|map| map.keys()) {
        if !CLUSTER_MEMBERS.contains(&member.as_str()) {
            let why = "how this Envoy treated endpoints; Weir has its own rule";
            notes.add(Remark::LeftOut, &place.inside(member), why);
        }
    }
    notes.add(Remark::Understood, &place, format!("virtual node `{node}`"));
    let listener = Port { port, protocol: protocol.to_owned() };
    let known = model.nodes.iter_mut().find(|known| known.name == node && known.place.file == place.file);
    if let Some(known) = known {
        known.listeners.push(listener);
        known.cluster = None;
        return;
    }
    model.nodes.push(VirtualNode {
        place,
        mesh: dump.mesh.clone(),
        name: node.to_owned(),
        listeners: vec![listener],
        discovery,
        cluster: Some(name.to_owned()),
    });
}

fn virtual_gateway(dump: &Dump<'_>, notes: &mut Notes, model: &mut Model) {
    let mut listeners = Vec::new();
    let mut access_log = None;
    for listener in &dump.listeners {
        let name = text(listener, &["name"]);
        let place = dump.place.inside(name);
        if !name.starts_with("lds_ingress_") {
            continue;
        }
        let port = at(listener, &["address", "socket_address", "port_value"]).and_then(Value::as_u64);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
            notes.error(&place, "no port");
            continue;
        };
        if list(listener, &["filter_chains"]).iter().any(|chain| chain.get("transport_socket").is_some()) {
            let text = "the listener spoke TLS and Weir's speaks plain HTTP: end TLS at the load balancer";
            notes.add(Remark::Wrong, &place, text);
        }
        let logs = manager(listener).map(|manager| list(manager, &["access_log"])).unwrap_or_default();
        if let Some(log) = logs.first() {
            access_log = Some(text(log, &["typed_config", "path"]).to_owned());
            if log.get("typed_config").is_some_and(|config| config.get("log_format").is_some()) {
                let text =
                    "a format of one's own: Weir writes Envoy's default text, or JSON with the same fields";
                notes.add(Remark::LeftOut, &place.inside("access_log"), text);
            }
        }
        listeners.push(Port { port, protocol: "http".to_owned() });
    }
    if listeners.is_empty() {
        notes.error(
            &dump.place,
            "no listener lds_ingress_*: was the Envoy drained, or started without App Mesh?",
        );
    }
    notes.add(Remark::Understood, &dump.place, format!("virtual gateway `{}`", dump.gateway));
    model.gateways.push(VirtualGateway {
        place: dump.place.clone(),
        mesh: dump.mesh.clone(),
        name: dump.gateway.clone(),
        listeners,
        access_log: access_log.filter(|path| !path.is_empty()),
    });
}
