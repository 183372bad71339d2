//! The conditions of routes and gateway routes.
//!
//! Owns which of App Mesh's conditions Weir has; one that it has not is kept as words, so that the route is left out
//! and named. Next: `translate.rs`.

use super::fields::Fields;
use super::model::{HeaderRule, HostRule, Match, PathRule, ValueRule};

/// Reads the `match` of a route of this protocol (`httpRoute` and so on).
pub(super) fn read(protocol: &str, fields: &Fields<'_>) -> Match {
    let mut foreign = Vec::new();
    if matches!(protocol, "grpcRoute" | "tcpRoute") {
        foreign.push(format!("{protocol}: Weir routes HTTP by path and headers"));
        fields.done();
    }
    let path = path(fields, &mut foreign);
    let host = fields.get("hostname");
    let host = match (host.get("exact").text(), host.get("suffix").text()) {
        (Some(exact), _) => Some(HostRule::Exact(exact)),
        (None, suffix) => suffix.map(HostRule::Suffix),
    };
    if let Some(method) = fields.get("method").text() {
        foreign.push(format!("method {method}"));
    }
    if let Some(scheme) = fields.get("scheme").text() {
        foreign.push(format!("scheme {scheme}"));
    }
    for query in list(&fields.get("queryParameters")) {
        query.done();
        foreign.push(format!("query parameter `{}`", query.get("name").text().unwrap_or_default()));
    }
    let headers = list(&fields.get("headers")).iter().filter_map(|rule| header(rule, &mut foreign)).collect();
    Match { path, headers, host, port: fields.get("port").port(), foreign }
}

fn list<'a>(fields: &Fields<'a>) -> Vec<Fields<'a>> {
    if fields.is_there() { fields.items() } else { Vec::new() }
}

fn path(fields: &Fields<'_>, foreign: &mut Vec<String>) -> PathRule {
    let given = fields.get("path");
    if let Some(exact) = given.get("exact").text() {
        return PathRule::Exact(exact);
    }
    if let Some(regex) = given.get("regex").text() {
        foreign.push(format!("path by the regular expression {regex}"));
    }
    let prefix = fields.get("prefix");
    PathRule::Prefix(prefix.text().unwrap_or_else(|| "/".to_owned()))
}

fn header(fields: &Fields<'_>, foreign: &mut Vec<String>) -> Option<HeaderRule> {
    let name = fields.get("name").needed()?;
    if name.starts_with(':') {
        fields.done();
        foreign.push(format!("pseudo-header `{name}`"));
        return None;
    }
    let invert = fields.get("invert").flag().unwrap_or_default();
    let value = fields.get("match");
    let rule = if let Some(text) = value.get("exact").text() {
        ValueRule::Exact(text)
    } else if let Some(text) = value.get("prefix").text() {
        ValueRule::Prefix(text)
    } else if let Some(text) = value.get("suffix").text() {
        ValueRule::Suffix(text)
    } else if let Some(regex) = value.get("regex").text() {
        foreign.push(format!("header `{name}` by the regular expression {regex}"));
        return None;
    } else if value.get("range").is_there() {
        value.get("range").done();
        foreign.push(format!("header `{name}` by a range of numbers"));
        return None;
    } else {
        value.done();
        ValueRule::Present
    };
    Some(HeaderRule { name, invert, value: rule })
}
