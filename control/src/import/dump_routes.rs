//! The two route configurations of an App Mesh Envoy, read back into gateway routes, services and routes.
//!
//! Owns pairs such as `/p/` and `/p`, which are one gateway route, and what a match or action of Envoy's means in
//! App Mesh's words. Next: `translate.rs`.

use super::dump::{Dump, at, list, text};
use super::model::{
    GatewayRoute, HeaderRule, HostRule, Match, Model, PathRule, Provider, Retry, RetryPolicy, Rewrite, Route,
    Target, ValueRule, VirtualService,
};
use super::notes::{Kind as Remark, Notes, Place};
use serde_json::Value;

/// The header by which App Mesh told its second listener the service when the Host was not rewritten.
const SERVICE_HEADER: &str = "x-app-mesh-virtual-service";

pub(super) fn read(dump: &Dump<'_>, notes: &mut Notes, model: &mut Model) {
    for config in &dump.routes {
        let name = text(config, &["name"]);
        let ingress = name.starts_with("rds_ingress");
        if !ingress && !name.starts_with("rds_egress") {
            continue;
        }
        for host in list(config, &["virtual_hosts"]) {
            let place = dump.place.inside(&format!("{name}.{}", text(host, &["name"])));
            for (index, route) in list(host, &["routes"]).iter().enumerate() {
                let place = place.inside(&format!("routes[{index}]"));
                if ingress {
                    gateway_route(dump, host, (index, route), &place, notes, model);
                }
            }
            if !ingress {
                service(dump, host, &place, notes, model);
            }
        }
    }
}

fn gateway_route(
    dump: &Dump<'_>,
    host: &Value,
    (index, route): (usize, &Value),
    place: &Place,
    notes: &mut Notes,
    model: &mut Model,
) {
    let action = route.get("route");
    let literal = action.map(|action| text(action, &["host_rewrite_literal"])).unwrap_or_default();
    let added = list(route, &["request_headers_to_add"])
        .iter()
        .find(|header| text(header, &["header", "key"]).eq_ignore_ascii_case(SERVICE_HEADER));
    let service = if literal.is_empty() {
        added.map(|header| text(header, &["header", "value"]))
    } else {
        Some(literal)
    };
    let Some(service) = service.filter(|service| !service.is_empty()) else {
        return notes.add(
            Remark::Wrong,
            place,
            "a route that names no virtual service: where its requests went is not known",
        );
    };
    if added.is_some() {
        let text = format!("{SERVICE_HEADER}, which App Mesh sent to the backend, is not sent");
        notes.add(Remark::LeftOut, place, text);
    }
    let rewrite = action.map(|action| text(action, &["prefix_rewrite"])).unwrap_or_default();
    let matches = matches(route, place, notes);
    // `/p/` and then `/p`, both to `/`, are one gateway route of prefix `/p`.
    if let PathRule::Prefix(prefix) = &matches.path {
        let pair = PathRule::Prefix(format!("{prefix}/"));
        let index = u64::try_from(index).ok().and_then(|index| index.checked_sub(1));
        let hosts = hosts(host);
        let mut pairs = model.gateway_routes.iter_mut().rev().take(hosts.len()).filter(|last| {
            last.service == service
                && last.priority == index
                && last.matches.path == pair
                && hosts.contains(&last.matches.host)
                && last.rewrite == Rewrite::To("/".to_owned())
                && last.matches.headers == matches.headers
        });
        let mut joined = false;
        pairs.by_ref().for_each(|last| {
            last.matches.path = matches.path.clone();
            joined = true;
        });
        if joined {
            return;
        }
    }
    notes.add(Remark::Understood, place, format!("gateway route to `{service}`"));
    for rule in hosts(host) {
        model.gateway_routes.push(GatewayRoute {
            place: place.clone(),
            mesh: dump.mesh.clone(),
            gateway: dump.gateway.clone(),
            name: service.to_owned(),
            // Envoy's order is the order.
            priority: u64::try_from(index).ok(),
            matches: Match { host: rule, ..matches.clone() },
            service: service.to_owned(),
            host_rewrite: !literal.is_empty(),
            own_host_only: true,
            rewrite: if rewrite.is_empty() { Rewrite::Off } else { Rewrite::To(rewrite.to_owned()) },
        });
    }
}

/// The hosts of a virtual host, each once and without a port; none is every host.
fn hosts(host: &Value) -> Vec<Option<HostRule>> {
    let mut rules = Vec::new();
    for domain in list(host, &["domains"]).iter().filter_map(Value::as_str) {
        let domain = domain.split_once(':').map_or(domain, |(name, _)| name);
        let rule = match domain.strip_prefix('*') {
            Some("") => None,
            Some(suffix) => Some(HostRule::Suffix(suffix.to_owned())),
            None => Some(HostRule::Exact(domain.to_owned())),
        };
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

fn service(dump: &Dump<'_>, host: &Value, place: &Place, notes: &mut Notes, model: &mut Model) {
    let mut domains = list(host, &["domains"]).iter().filter_map(Value::as_str);
    let Some(name) = domains.find(|domain| !domain.contains(['*', ':'])).map(str::to_owned) else {
        return notes.add(Remark::LeftOut, place, "a virtual host that is no virtual service");
    };
    notes.add(Remark::Understood, place, format!("virtual service `{name}`"));
    let before = model.routes.len();
    for (index, route) in list(host, &["routes"]).iter().enumerate() {
        let place = place.inside(&format!("routes[{index}]"));
        let Some(action) = route.get("route") else {
            notes.add(
                Remark::Wrong,
                &place,
                "a route that sends requests nowhere (a redirect or an answer of its own)",
            );
            continue;
        };
        let given = text(route, &["name"]);
        let route_name = if given.is_empty() { name.clone() } else { given.to_owned() };
        let index = u64::try_from(index).ok();
        model.routes.push(Route {
            mesh: dump.mesh.clone(),
            router: name.clone(),
            name: route_name,
            priority: index,
            matches: matches(route, &place, notes),
            targets: targets(dump, action, &place, notes),
            timeout: at(action, &["timeout"]).and_then(Value::as_str).map(str::to_owned),
            idle: at(action, &["idle_timeout"]).and_then(Value::as_str).map(str::to_owned),
            retry: retry(route_retry(host, action), &place, notes),
            place,
        });
    }
    let mesh = dump.mesh.clone();
    let provider = if model.routes.len() > before { Provider::Router(name.clone()) } else { Provider::None };
    model.services.push(VirtualService { place: place.clone(), mesh, name, provider });
}

fn route_retry<'a>(host: &'a Value, action: &'a Value) -> Option<&'a Value> {
    action.get("retry_policy").or_else(|| host.get("retry_policy"))
}

fn targets(dump: &Dump<'_>, action: &Value, place: &Place, notes: &mut Notes) -> Vec<Target> {
    let single = text(action, &["cluster"]);
    let weighted = list(action, &["weighted_clusters", "clusters"]);
    let mut pairs: Vec<(&str, u64)> = weighted
        .iter()
        .map(|entry| {
            (text(entry, &["name"]), at(entry, &["weight"]).and_then(Value::as_u64).unwrap_or_default())
        })
        .collect();
    if !single.is_empty() {
        pairs.push((single, 100));
    }
    let prefix = format!("cds_egress_{}_", dump.mesh);
    let mut targets = Vec::new();
    for (cluster, weight) in pairs {
        let mut words = cluster.strip_prefix(&prefix).unwrap_or_default().rsplitn(3, '_');
        let (port, _, node) = (words.next(), words.next(), words.next());
        match (node, u32::try_from(weight)) {
            (Some(node), Ok(weight)) => {
                targets.push(Target {
                    node: node.to_owned(),
                    weight,
                    port: port.and_then(|port| port.parse().ok()),
                });
            }
            _ => {
                notes.error(place, format!("`{cluster}` is no cluster of a virtual node of `{}`", dump.mesh))
            }
        }
    }
    targets
}

fn retry(policy: Option<&Value>, place: &Place, notes: &mut Notes) -> Retry {
    let Some(policy) = policy else { return Retry::Off };
    let known = |word: &&str| gateway_config::model::RETRY_ON_WORDS.iter().any(|(name, _)| name == word);
    let words: Vec<&str> =
        text(policy, &["retry_on"]).split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    for word in words.iter().filter(|word| !known(word)) {
        notes.add(Remark::LeftOut, place, format!("retry_on `{word}`: Weir does not retry for that"));
    }
    let retry_on = words.into_iter().filter(known).collect::<Vec<_>>().join(",");
    let num_retries = at(policy, &["num_retries"]).and_then(Value::as_u64).unwrap_or(1);
    if retry_on.is_empty() || num_retries == 0 {
        return Retry::Off;
    }
    let codes = list(policy, &["retriable_status_codes"]).iter().filter_map(Value::as_u64).collect();
    let per_try_timeout = at(policy, &["per_try_timeout"]).and_then(Value::as_str).map(str::to_owned);
    Retry::Policy(RetryPolicy { retry_on, num_retries, per_try_timeout, codes })
}

fn matches(route: &Value, place: &Place, notes: &mut Notes) -> Match {
    let mut found = Match {
        path: PathRule::Prefix("/".to_owned()),
        headers: Vec::new(),
        host: None,
        port: None,
        foreign: Vec::new(),
    };
    let Some(given) = route.get("match") else { return found };
    for (member, value) in given.as_object().into_iter().flatten() {
        match (member.as_str(), value.as_str()) {
            ("prefix", Some(prefix)) => found.path = PathRule::Prefix(prefix.to_owned()),
            ("path", Some(path)) => found.path = PathRule::Exact(path.to_owned()),
            ("headers", _) => {}
            ("case_sensitive", _) if *value == Value::Bool(true) => {}
            _ => found.foreign.push(format!("{member} {value}")),
        }
    }
    for header in list(given, &["headers"]) {
        let name = text(header, &["name"]);
        if name.eq_ignore_ascii_case(SERVICE_HEADER) {
            continue;
        }
        let invert = header.get("invert_match") == Some(&Value::Bool(true));
        let string = |kind: &str| {
            let (old, new) = (header.get(format!("{kind}_match")), at(header, &["string_match", kind]));
            old.or(new).and_then(Value::as_str).map(str::to_owned)
        };
        let value = if let Some(text) = string("exact") {
            ValueRule::Exact(text)
        } else if let Some(text) = string("prefix") {
            ValueRule::Prefix(text)
        } else if let Some(text) = string("suffix") {
            ValueRule::Suffix(text)
        } else if header.get("present_match") == Some(&Value::Bool(true)) {
            ValueRule::Present
        } else {
            found.foreign.push(format!("header {header}"));
            continue;
        };
        if name.starts_with(':') {
            found.foreign.push(format!("{name} {value:?}"));
            continue;
        }
        found.headers.push(HeaderRule { name: name.to_owned(), invert, value });
    }
    if !found.foreign.is_empty() {
        notes.note(place, "a condition of Envoy's that is not known here");
    }
    found
}
