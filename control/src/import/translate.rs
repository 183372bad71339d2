//! From App Mesh's words to Weir's: the one translation.
//!
//! Owns which gateway, which routes, which clusters, which stable; each choice is said. It must never print. Next:
//! `combine.rs` (two routing steps as one), `emit.rs` (the text).

use super::combine::{self, Chain, Item};
use super::model::{
    HostRule, Match, Model, NodeDiscovery, PathRule, Provider, Retry, Route, Target, VirtualGateway,
    VirtualNode,
};
use super::naming::fit;
use super::notes::{Kind as Remark, Notes, Place};
use super::plan::{Cluster, Host, Listener, Managed, Plan, RouteEntry};
use gateway_config::scalar;
use gateway_config::weights::{format_percent, largest_remainder};
use std::collections::BTreeMap;

/// The sum of a route's weights in control: hundredths of a percent.
const FULL: u32 = 10_000;
/// App Mesh's, for routes without one.
const DEFAULT_IDLE: &str = "300s";
/// Weir's most retries; more only multiply an outage.
const MAX_RETRIES: u64 = 10;

/// Makes the plan; what is wrong is in the notes.
pub(super) fn plan(model: &Model, wanted: Option<&str>, all: &Place, notes: &mut Notes) -> Option<Plan> {
    let gateway = gateway(model, wanted, all, notes)?;
    let chains = chains(model, gateway, notes);
    if chains.is_empty() {
        let text = format!("no gateway route of `{}`: add the file that has them", gateway.name);
        notes.error(&gateway.place, text);
        return None;
    }
    let mut work = Work { model, gateway, notes, clusters: Vec::new(), routes: BTreeMap::new() };
    let chains = work.named(chains);
    let listeners = work.listeners(&chains)?;
    for port in gateway.listeners.iter().filter(|port| port.protocol != "http") {
        let text = format!(
            "the listener on {} was for {}: Weir's takes HTTP/1.1 and HTTP/2 alike",
            port.port, port.protocol
        );
        work.notes.note(&gateway.place, text);
    }
    let idle = work.idle(&chains);
    work.unused(&chains);
    let text = "App Mesh's Envoy made `//` one slash and took `.` and `..` out of paths before it matched them; Weir matches and passes on paths as they came";
    work.notes.add(Remark::LeftOut, &gateway.place, text);
    let Work { clusters, routes, .. } = work;
    Some(Plan {
        mesh: gateway.mesh.clone(),
        gateway: gateway.name.clone(),
        listeners,
        clusters,
        routes: routes.into_values().collect(),
        idle,
        access_log: gateway.access_log.clone(),
    })
}

fn gateway<'a>(
    model: &'a Model,
    wanted: Option<&str>,
    all: &Place,
    notes: &mut Notes,
) -> Option<&'a VirtualGateway> {
    let matching: Vec<&VirtualGateway> =
        model.gateways.iter().filter(|gateway| wanted.is_none_or(|wanted| wanted == gateway.name)).collect();
    let names = |gateways: &[&VirtualGateway]| {
        gateways
            .iter()
            .map(|gateway| format!("`{}` ({})", gateway.name, gateway.place))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match matching.as_slice() {
        [one] if one.listeners.is_empty() => {
            notes.error(&one.place, "the virtual gateway has no listener");
            None
        }
        [one] => {
            for other in model.gateways.iter().filter(|other| *other != *one) {
                notes.add(
                    Remark::LeftOut,
                    &other.place,
                    format!("virtual gateway `{}`: another one was asked for", other.name),
                );
            }
            Some(one)
        }
        [] => {
            let known = names(&model.gateways.iter().collect::<Vec<_>>());
            let text = match wanted {
                Some(wanted) => format!("no virtual gateway `{wanted}`; there are: {}", if known.is_empty() { "none" } else { &known }),
                None => "no virtual gateway: add the file that has it (a template with AWS::AppMesh::VirtualGateway, the answer of `aws appmesh describe-virtual-gateway`, or a config_dump)".to_owned(),
            };
            notes.error(all, text);
            None
        }
        several => {
            let text = format!(
                "{} virtual gateways: {}; one configuration is for one of them: choose with --gateway NAME, and import the others apart",
                several.len(),
                names(several)
            );
            notes.error(all, text);
            None
        }
    }
}

/// The gateway routes, each with the routes of its service in App Mesh's order.
fn chains(model: &Model, gateway: &VirtualGateway, notes: &mut Notes) -> Vec<Chain> {
    let mut chains = Vec::new();
    for route in &model.gateway_routes {
        if route.mesh != gateway.mesh || route.gateway != gateway.name {
            let text =
                format!("gateway route `{}`: it is of the virtual gateway `{}`", route.name, route.gateway);
            notes.add(Remark::LeftOut, &route.place, text);
            continue;
        }
        let service =
            model.services.iter().find(|service| service.mesh == route.mesh && service.name == route.service);
        let Some(service) = service else {
            notes.error(
                &route.place,
                format!("it leads to the virtual service `{}`, which is in none of the files: add its template or description", route.service),
            );
            continue;
        };
        let mut legs: Vec<Route> = match &service.provider {
            Provider::Router(router) => model
                .routes
                .iter()
                .filter(|leg| leg.mesh == route.mesh && leg.router == *router)
                .cloned()
                .collect(),
            Provider::Node(node) => vec![straight(node, service.place.clone(), &route.mesh)],
            Provider::None => Vec::new(),
        };
        if legs.is_empty() {
            let text =
                format!("the virtual service `{}` has no provider with a route in these files", service.name);
            notes.error(&service.place, text);
            continue;
        }
        legs.sort_by_key(|leg| combine::rank(leg.priority, &leg.matches.path, leg.matches.headers.len()));
        chains.push(Chain { gateway: route.clone(), legs });
    }
    chains
}

/// A service whose provider is a node has no route of its own: everything goes there.
fn straight(node: &str, place: Place, mesh: &str) -> Route {
    Route {
        place,
        mesh: mesh.to_owned(),
        router: String::new(),
        name: node.to_owned(),
        priority: None,
        matches: Match {
            path: PathRule::Prefix("/".to_owned()),
            headers: Vec::new(),
            host: None,
            port: None,
            foreign: Vec::new(),
        },
        targets: vec![Target { node: node.to_owned(), weight: 100, port: None }],
        timeout: None,
        idle: None,
        retry: Retry::Default,
    }
}

struct Work<'a> {
    model: &'a Model,
    gateway: &'a VirtualGateway,
    notes: &'a mut Notes,
    clusters: Vec<Cluster>,
    routes: BTreeMap<String, Managed>,
}

impl Work<'_> {
    /// App Mesh's names of routes are unique in one router; Weir's in all.
    fn named(&mut self, mut chains: Vec<Chain>) -> Vec<Chain> {
        let mut seen: BTreeMap<String, (String, Place)> = BTreeMap::new();
        for leg in chains.iter_mut().flat_map(|chain| &mut chain.legs) {
            let name = fit(&leg.name);
            if name != leg.name {
                let text =
                    format!("route `{}`: it is called `{name}` here, to be a name for commands", leg.name);
                self.notes.note(&leg.place, text);
                leg.name = name;
            }
            match seen.get(&leg.name) {
                Some((router, place)) if (router, place) != (&leg.router, &leg.place) => {
                    let name = fit(&format!("{}.{}", leg.router, leg.name));
                    let text = format!("a second route `{}`: it is called `{name}` here", leg.name);
                    self.notes.note(&leg.place, text);
                    leg.name = name;
                }
                Some(_) => {}
                None => {
                    seen.insert(leg.name.clone(), (leg.router.clone(), leg.place.clone()));
                }
            }
        }
        chains
    }

    /// Those with something to serve; none is an error.
    fn listeners(&mut self, chains: &[Chain]) -> Option<Vec<Listener>> {
        let gateway = self.gateway;
        let all: Vec<Listener> =
            gateway.listeners.iter().map(|port| self.listener(port.port, chains)).collect();
        let (listeners, empty): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|listener| !listener.hosts.is_empty());
        if listeners.is_empty() {
            self.notes.error(&gateway.place, "no route is left that Weir can serve: see what was left out");
            return None;
        }
        for Listener { port, .. } in empty {
            let text = format!("the listener on {port}: no route is left for it, it would answer 404 to all");
            self.notes.add(Remark::LeftOut, &gateway.place, text);
        }
        Some(listeners)
    }

    fn listener(&mut self, port: u16, chains: &[Chain]) -> Listener {
        let mut rules: Vec<HostRule> =
            chains.iter().filter_map(|chain| chain.gateway.matches.host.clone()).collect();
        rules.sort();
        rules.dedup();
        let mut hosts = Vec::new();
        for rule in rules.iter().map(Some).chain([None]) {
            let items = combine::reachable(combine::items(chains, rule, port));
            combine::report_holes(&items, chains, self.notes);
            let routes: Vec<RouteEntry> =
                items.into_iter().filter_map(|item| self.entry(item, chains)).collect();
            if !routes.is_empty() {
                hosts.push(Host { rule: rule.cloned(), routes });
            }
        }
        if !rules.is_empty() && hosts.iter().any(|host| host.rule.is_none()) {
            let text = "gateway routes without a host name take part for every host, after those with that host's name";
            self.notes.note(&self.gateway.place, text);
        }
        Listener { port, hosts }
    }

    fn entry(&mut self, item: Item, chains: &[Chain]) -> Option<RouteEntry> {
        let Item::Leads { gateway, leg, form: (path, prefix_rewrite), headers } = item else { return None };
        let chain = chains.get(gateway)?;
        let leg = chain.legs.get(leg)?;
        let targets = self.targets(leg)?;
        let managed = self.managed(leg, &targets)?;
        Some(RouteEntry {
            name: leg.name.clone(),
            path,
            headers,
            targets,
            stable: managed,
            timeout: leg.timeout.clone(),
            retry: self.retry(leg),
            prefix_rewrite,
            host_rewrite: chain.gateway.host_rewrite.then(|| chain.gateway.service.clone()),
        })
    }

    /// Clusters and weights; a cluster that two targets share has both shares.
    fn targets(&mut self, leg: &Route) -> Option<Vec<(String, u32)>> {
        let mut targets: Vec<(String, u32)> = Vec::new();
        for target in &leg.targets {
            let name = self.cluster(leg, target)?;
            match targets.iter_mut().find(|(known, _)| *known == name) {
                Some((_, weight)) => *weight = weight.saturating_add(target.weight),
                None => targets.push((name, target.weight)),
            }
        }
        if targets.iter().all(|(_, weight)| *weight == 0) {
            self.notes.error(&leg.place, "no target has a weight above 0: nobody would be served");
            return None;
        }
        Some(targets)
    }

    fn cluster(&mut self, leg: &Route, target: &Target) -> Option<String> {
        let node = self.model.nodes.iter().find(|node| node.mesh == leg.mesh && node.name == target.node);
        let Some(node) = node else {
            let text = format!(
                "it leads to the virtual node `{}`, which is in none of the files: add its template or description",
                target.node
            );
            self.notes.error(&leg.place, text);
            return None;
        };
        let (port, protocol) = self.port(node, target)?;
        let given = node
            .cluster
            .clone()
            .unwrap_or_else(|| format!("cds_egress_{}_{}_{protocol}_{port}", node.mesh, node.name));
        let mut name = fit(&given);
        while let Some(known) = self.clusters.iter().find(|cluster| cluster.name == name) {
            if known.node == node.name && known.port == port {
                return Some(name);
            }
            name.push_str("-2");
        }
        if name != given {
            let text = format!("cluster `{given}`: it is called `{name}` here, to be a name for commands");
            self.notes.note(&node.place, text);
        }
        if node.discovery == NodeDiscovery::None {
            let text = "it has no service discovery: where its endpoints are is not known";
            self.notes.error(&node.place, text);
            return None;
        }
        if protocol != "http" {
            let text = format!("it speaks {protocol} on port {port}, and Weir speaks HTTP/1.1 to endpoints");
            self.notes.add(Remark::Wrong, &node.place, text);
        }
        self.clusters.push(Cluster {
            name: name.clone(),
            node: node.name.clone(),
            port,
            discovery: node.discovery.clone(),
        });
        Some(name)
    }

    fn port(&mut self, node: &VirtualNode, target: &Target) -> Option<(u16, String)> {
        // The dump's target carries the port of the cluster's name; the endpoint's may differ.
        let wanted = target.port.filter(|_| node.cluster.is_none());
        match (wanted, node.listeners.as_slice()) {
            (Some(port), listeners) => {
                let listener = listeners.iter().find(|listener| listener.port == port);
                Some((port, listener.map_or_else(|| "http".to_owned(), |listener| listener.protocol.clone())))
            }
            (None, [one]) => Some((one.port, one.protocol.clone())),
            (None, []) => {
                self.notes.error(&node.place, "it has no listener, so its port is not known");
                None
            }
            (None, several) => {
                let ports = several.iter().map(|port| port.port.to_string()).collect::<Vec<_>>().join(", ");
                let text = format!(
                    "it listens on {ports}, and the target of a route names no port: add `port` to the target"
                );
                self.notes.error(&node.place, text);
                None
            }
        }
    }

    /// Puts a route under control; answers its stable target.
    fn managed(&mut self, leg: &Route, targets: &[(String, u32)]) -> Option<String> {
        if let Some(known) = self.routes.get(&leg.name) {
            return Some(known.stable.clone());
        }
        let most = targets.iter().map(|(_, weight)| *weight).max()?;
        let (stable, _) = targets.iter().find(|(_, weight)| *weight == most)?;
        let tied = targets.iter().filter(|(_, weight)| *weight == most).count() > 1;
        let weights: Vec<u32> = targets.iter().map(|(_, weight)| *weight).collect();
        let shares = largest_remainder(&weights, FULL);
        let named: Vec<(String, u32)> = targets.iter().map(|(name, _)| name.clone()).zip(shares).collect();
        let list = named.iter().map(|(name, share)| format!("{name} {} %", format_percent(*share)));
        let why = match (targets.len(), tied) {
            (1, _) => "it is the only target",
            (_, false) => "it has the largest weight",
            (_, true) => "it is the first of those with the largest weight",
        };
        let text = format!(
            "route `{}`: {}; stable is {stable}, because {why} (`control stable` changes it)",
            leg.name,
            list.collect::<Vec<_>>().join(", ")
        );
        self.notes.note(&leg.place, text);
        let managed = Managed { name: leg.name.clone(), targets: named, stable: stable.clone() };
        self.routes.insert(leg.name.clone(), managed);
        Some(stable.clone())
    }

    fn retry(&mut self, leg: &Route) -> Retry {
        let mut retry = leg.retry.clone();
        if let Retry::Policy(policy) = &mut retry
            && policy.num_retries > MAX_RETRIES
        {
            let text = format!("{} retries: Weir takes at most {MAX_RETRIES}", policy.num_retries);
            self.notes.add(Remark::LeftOut, &leg.place, text);
            policy.num_retries = MAX_RETRIES;
        }
        retry
    }

    /// One time for all: Weir has it per listener.
    fn idle(&mut self, chains: &[Chain]) -> Option<String> {
        let legs = || chains.iter().flat_map(|chain| &chain.legs);
        let own = |leg: &Route| leg.idle.clone().unwrap_or_else(|| DEFAULT_IDLE.to_owned());
        let time = |text: &str| {
            let time = scalar::duration(text).unwrap_or_default();
            // Zero disables it.
            if time.is_zero() { std::time::Duration::MAX } else { time }
        };
        legs().find(|leg| leg.idle.is_some())?;
        let longest = legs().map(own).max_by_key(|text| time(text))?;
        for leg in legs().filter(|leg| time(&own(leg)) != time(&longest)) {
            let text = format!(
                "its idle time-out of {}: Weir has one for all routes of a listener, and the longest, {longest}, is taken",
                own(leg)
            );
            self.notes.add(Remark::LeftOut, &leg.place, text);
        }
        Some(longest)
    }

    /// What is in the mesh and not behind this gateway.
    fn unused(&mut self, chains: &[Chain]) {
        for service in &self.model.services {
            if !chains
                .iter()
                .any(|chain| chain.gateway.service == service.name && chain.gateway.mesh == service.mesh)
            {
                let text = format!(
                    "virtual service `{}`: no gateway route leads to it, only services inside the mesh called it",
                    service.name
                );
                self.notes.add(Remark::LeftOut, &service.place, text);
            }
        }
        for node in &self.model.nodes {
            if !self.clusters.iter().any(|cluster| cluster.node == node.name) {
                let text = format!("virtual node `{}`: no route behind the gateway leads to it", node.name);
                self.notes.add(Remark::LeftOut, &node.place, text);
            }
        }
    }
}
