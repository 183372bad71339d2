//! Break glass: one target takes everything of a route, on this gateway, for a time.
//!
//! Owns `POST /override`, the list at `/overrides`, and how an override is shown elsewhere. It must never ask control:
//! it is there for the hour in which control is dead. Next: `../sources/overrides.rs`, where they end.

use super::endpoints::Context;
use super::reply::Reply;
use super::samples::source_word;
use crate::access_log::timestamp;
use crate::state::change::{Change, Override, Rejected};
use crate::state::snapshot::{Snapshot, Split};
use gateway_config::wire::WeightSource;
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

/// An override that nobody gave a time.
const DEFAULT_SECONDS: u64 = 3600;
/// No shorter: it has to be seen to be of use.
const SHORTEST_SECONDS: u64 = 1;
/// No longer: what should stay belongs into control or the configuration.
const LONGEST_SECONDS: u64 = 24 * 3600;
/// The word for the route's stable target, unless a target has this name.
const STABLE: &str = "stable";

/// The runtime's clock, which ends overrides.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Named splits, one for each name: all of one name have the same weights.
fn named(snapshot: &Snapshot) -> impl Iterator<Item = &Split> {
    let mut seen = BTreeSet::new();
    let splits = snapshot.splits.iter().map(AsRef::as_ref);
    splits.filter(move |split| !split.route.is_empty() && seen.insert(split.route.to_string()))
}

/// The target that has everything.
fn only_target(split: &Split) -> &str {
    let mut with_weight = split.targets.iter().zip(&split.weights).filter(|(_, weight)| **weight > 0);
    with_weight.next().map_or("", |(target, _)| &*target.name)
}

/// `POST /override`.
pub fn change(context: &Context<'_>) -> Reply {
    let Some(route) = context.parameter("route").filter(|route| !route.is_empty()) else {
        return Reply::text(
            StatusCode::BAD_REQUEST,
            "route is missing: /override?route=svc1&target=v1&for=3600\n",
        );
    };
    if context.parameter("release").is_some() {
        return release(context, route);
    }
    let seconds = match context.parameter("for").map(str::parse) {
        None => DEFAULT_SECONDS,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => {
            return Reply::text(StatusCode::BAD_REQUEST, "`for` is a number of seconds, such as for=3600\n");
        }
    };
    let snapshot = context.process.store.snapshot();
    let Some(split) = named(&snapshot).find(|split| &*split.route == route) else {
        return unknown_route(&snapshot, route);
    };
    let target = match context.parameter("target") {
        Some(target) if !target.is_empty() => target,
        _ => return Reply::text(StatusCode::BAD_REQUEST, format!("target is missing; {}\n", targets(split))),
    };
    let target = match resolve(split, target) {
        Ok(target) => target,
        Err(text) => return Reply::text(StatusCode::NOT_FOUND, text),
    };
    let seconds = seconds.clamp(SHORTEST_SECONDS, LONGEST_SECONDS);
    let until = now() + Duration::from_secs(seconds);
    let wanted = Override { route: route.to_owned(), target: target.clone(), until };
    match context.process.store.apply(Change::Override(wanted)) {
        Ok(after) => begun(context, &after, route, &target, seconds),
        Err(error @ (Rejected::UnknownRoute { .. } | Rejected::UnknownTarget { .. })) => {
            Reply::text(StatusCode::NOT_FOUND, format!("{error}\n"))
        }
        Err(error) => Reply::text(StatusCode::CONFLICT, format!("{error}\n")),
    }
}

fn begun(context: &Context<'_>, after: &Snapshot, route: &str, target: &str, seconds: u64) -> Reply {
    tracing::warn!(route, target, seconds, "override: this target takes everything of the route");
    let until = timestamp::to_string(SystemTime::now() + Duration::from_secs(seconds));
    let mut text = format!(
        "route {route}: everything goes to {target} on this gateway ({}) for {}, until {until}\n",
        context.process.instance_id,
        span(seconds),
    );
    if !after.cluster(target).is_some_and(|cluster| cluster.usable()) {
        // A string takes every write.
        let _ = writeln!(
            text,
            "careful: {target} has no endpoint that accepts connections; while that is so, {}",
            if named(after).any(|split| &*split.route == route && split.health_aware) {
                "other targets answer in its place"
            } else {
                "requests fail"
            }
        );
    }
    text += "other gateways are not changed by this: do the same in each of their tasks\n";
    let _ = writeln!(text, "release it before: gateway override {route} --release");
    Reply::text(StatusCode::OK, text)
}

fn release(context: &Context<'_>, route: &str) -> Reply {
    let before = context.process.store.snapshot();
    let Some(split) = named(&before).find(|split| &*split.route == route) else {
        return unknown_route(&before, route);
    };
    if split.until.is_none() {
        return Reply::text(
            StatusCode::OK,
            format!("route {route} is not overridden; {}\n", described(split)),
        );
    }
    let wanted = Change::ReleaseWeights { route: route.to_owned(), source: WeightSource::Override };
    match context.process.store.apply(wanted) {
        Ok(after) => {
            tracing::warn!(route, "override: released");
            let now = named(&after).find(|split| &*split.route == route).map(described).unwrap_or_default();
            Reply::text(StatusCode::OK, format!("route {route}: the override is released; {now}\n"))
        }
        Err(error) => Reply::text(StatusCode::CONFLICT, format!("{error}\n")),
    }
}

/// `/overrides`: every route that may be overridden, and those that are.
pub fn list(context: &Context<'_>) -> Reply {
    let snapshot = context.process.store.snapshot();
    if context.parameter("format") == Some("json") {
        return Reply::json(&shown(&snapshot));
    }
    let mut text = String::new();
    for split in named(&snapshot) {
        let _ = writeln!(text, "route {}: {}", split.route, described(split));
        if split.until.is_some() {
            let _ = writeln!(text, "  release it: gateway override {} --release", split.route);
        }
    }
    if text.is_empty() {
        text.push_str("no route of this gateway has a name and weights, so none can be overridden\n");
    }
    Reply::text(StatusCode::OK, text)
}

/// The overrides in force, by route: target and seconds left.
pub fn shown(snapshot: &Snapshot) -> Value {
    let now = now();
    let one = |split: &Split| {
        let left = split.ends_in(now)?;
        let fields = json!({ "target": only_target(split), "expires_seconds": left.as_secs() });
        Some((split.route.to_string(), fields))
    };
    Value::Object(named(snapshot).filter_map(one).collect::<Map<String, Value>>())
}

fn described(split: &Split) -> String {
    let weights = split.targets.iter().zip(&split.weights).map(|(t, weight)| format!("{}={weight}", t.name));
    let weights = weights.collect::<Vec<_>>().join(" ");
    match split.ends_in(now()) {
        Some(left) => format!(
            "everything goes to {} by override, for another {}, until {}",
            only_target(split),
            span(left.as_secs()),
            timestamp::to_string(SystemTime::now() + left),
        ),
        None => format!("{weights} (source: {})", source_word(split.source)),
    }
}

fn resolve(split: &Split, target: &str) -> Result<String, String> {
    if split.targets.iter().any(|known| &*known.name == target) {
        return Ok(target.to_owned());
    }
    let stable = split.stable.and_then(|at| split.targets.get(at)).map(|target| target.name.to_string());
    if target != STABLE {
        return Err(format!("route `{}` has no target `{target}`; {}\n", split.route, targets(split)));
    }
    stable.ok_or_else(|| format!("route `{}` names no stable target; {}\n", split.route, targets(split)))
}

fn targets(split: &Split) -> String {
    let names: Vec<&str> = split.targets.iter().map(|target| &*target.name).collect();
    let stable = if split.stable.is_some() { ", or `stable`" } else { "" };
    format!("its targets are: {}{stable}", names.join(", "))
}

fn unknown_route(snapshot: &Snapshot, route: &str) -> Reply {
    let known: Vec<&str> = named(snapshot).map(|split| &*split.route).collect();
    let known = if known.is_empty() { "none with a name and weights".to_owned() } else { known.join(", ") };
    let text = format!("route `{route}` is not in this gateway's configuration; it has: {known}\n");
    Reply::text(StatusCode::NOT_FOUND, text)
}

/// `90` is `1m30s`.
fn span(seconds: u64) -> String {
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_hours_minutes_and_seconds() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (3600, "1h"), (90, "1m30s"), (86_399, "23h59m59s")] {
            assert_eq!(span(seconds), text);
        }
    }
}
