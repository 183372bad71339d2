//! How answers look on a terminal.
//!
//! Owns every word that is printed; it must never ask control anything. Next: `../text.rs`.

use super::{EXIT_USAGE, Failure, show_gateways};
use crate::rest::{
    ControlView, ErrorBody, GatewaysView, HistoryView, Outcome, RouteGatewayView, RouteView, RoutesView,
    TargetView,
};
use crate::state::document::{ChangeKind, HistoryEntry};
use crate::text;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// Where to look when a change is not saved; what control answers does not tell which of the two it has.
const WHERE_STATE_IS: &str = "look at the disk of control, or at its DynamoDB table";

/// The answer as it came, indented.
pub(super) fn json(answer: &Value) {
    print(&format!("{answer:#}\n"));
}

/// What went wrong and what to do.
pub(super) fn failure(failure: &Failure, as_json: bool) {
    if as_json {
        let body = ErrorBody { error: failure.error.clone(), cure: failure.cure.clone() };
        print(&format!("{:#}\n", serde_json::to_value(body).unwrap_or_default()));
    }
    let kind = if failure.code == EXIT_USAGE { "usage" } else { "error" };
    eprintln!("{kind}: {}", failure.error);
    if !failure.cure.is_empty() {
        eprintln!("  cure: {}", failure.cure);
    }
}

/// `control get`.
pub(super) fn routes(view: &RoutesView, fleet: &GatewaysView, again: bool) {
    let mut page = String::new();
    if again && std::io::stdout().is_terminal() {
        page.push_str("\x1b[2J\x1b[H");
    }
    for route in &view.routes {
        page.push_str(&sentence(route));
        page.push('\n');
    }
    page.push_str(&trouble(&view.control));
    for route in &view.routes {
        page.push('\n');
        page.push_str(&route_page(route, fleet));
    }
    print(&page);
}

/// `svc1: v1 99 %, v2 1 %, both healthy, 2 gateways agree`.
pub(super) fn sentence(route: &RouteView) -> String {
    let Some(weights) = &route.weights else {
        return format!("{}: the weights are not known yet", route.name);
    };
    let lost = route.gateways.iter().filter(|gateway| gateway.state == "lost").count();
    // Lost ones are named apart, whatever they served when they were last heard.
    let heard =
        || route.gateways.iter().filter(|gateway| matches!(gateway.state.as_str(), "connected" | "draining"));
    let agree = match (heard().filter(|gateway| gateway.agrees).count(), heard().count()) {
        (0, 0) => "no gateway connected".to_owned(),
        (1, 1) => "1 gateway agrees".to_owned(),
        (agree, all) if agree == all => format!("{all} gateways agree"),
        (agree, all) => format!("{agree} of {all} gateways agree"),
    };
    let lost = if lost == 0 { String::new() } else { format!(", {lost} lost") };
    let overridden = match route.overridden {
        0 => String::new(),
        1 => ", 1 overridden".to_owned(),
        several => format!(", {several} overridden"),
    };
    let weights = text::weights(&route.targets, weights);
    format!("{}: {weights}, {}, {agree}{overridden}{lost}", route.name, health(route))
}

fn health(route: &RouteView) -> String {
    let seen = |target: &&String| route.traffic.get(*target).is_some_and(|view| view.reporting > 0);
    let sick: Vec<&str> = route
        .targets
        .iter()
        .filter(|target| seen(target))
        .filter(|target| route.traffic.get(*target).is_some_and(|view| view.endpoints_healthy == 0))
        .map(String::as_str)
        .collect();
    if !sick.is_empty() {
        return format!("{} without healthy endpoint", sick.join(" and "));
    }
    let unseen = route.targets.iter().filter(|target| !seen(target)).count();
    match (unseen, route.targets.len()) {
        (0, 1) => "healthy".to_owned(),
        (0, 2) => "both healthy".to_owned(),
        (0, _) => "all healthy".to_owned(),
        _ => "health not reported".to_owned(),
    }
}

pub(super) fn trouble(control: &ControlView) -> String {
    let mut lines = String::new();
    if !control.message.is_empty() {
        lines.push_str(&format!("{}: {}\n", control.phase, control.message));
        lines.push_str(match control.phase.as_str() {
            "fenced" => {
                "cure: use that control; or stop it for good and run `control adopt --from GATEWAY` here\n"
            }
            // It has weights, and tells why it could not read its state.
            "active" => {
                "cure: see whether control reaches its DynamoDB table; it asks again by itself, and \
                 `control rollback` works meanwhile\n"
            }
            _ => {
                "cure: wait for the gateways, or for the state where it could not be read; if the gateways do not \
                 agree, `control adopt --from GATEWAY`\n"
            }
        });
    }
    if control.fleet == "none" {
        lines.push_str(
            "no gateway: none is connected, so nobody serves these weights from here\n\
             cure: start the gateways, or look why they do not reach control (`gateway --mode doctor` in their task)\n",
        );
    }
    if !control.saved && !control.version.is_empty() {
        lines.push_str(&format!("not saved: the newest change is not in the state; {WHERE_STATE_IS}\n"));
    }
    lines
}

fn route_page(route: &RouteView, fleet: &GatewaysView) -> String {
    let mut page = format!("{} (stable {}", route.name, route.stable);
    if let Some(build) = &route.build {
        page.push_str(&format!(", build {build}"));
    }
    page.push_str(")\n");
    let mut table = vec![row(["target", "wanted", "requests", "errors", "p50", "p99", "endpoints"])];
    for target in &route.targets {
        let weight = route.weights.as_ref().and_then(|weights| weights.get(target));
        let wanted = weight.map_or_else(
            || "?".to_owned(),
            |weight| format!("{} %", gateway_config::weights::format_percent(*weight)),
        );
        let view = route.traffic.get(target).cloned().unwrap_or_default();
        table.push(target_row(target, wanted, &view));
    }
    page.push_str(&columns(&table));
    for (target, times) in &route.load_per_endpoint {
        page.push_str(&format!(
            "  each {target} endpoint gets {} times what a {} endpoint has\n",
            text::times(*times),
            route.stable
        ));
    }
    page.push_str(&gateways_part(route, fleet));
    if let Some(app_mesh) = &route.app_mesh {
        page.push_str(&format!("  App Mesh: {}\n", app_mesh_text(app_mesh)));
    }
    if let Some(entry) = &route.changed {
        page.push_str(&format!("  last change: {}\n", entry_text(&route.targets, entry)));
    }
    page
}

/// Who serves the route, and what is not as it should be there.
fn gateways_part(route: &RouteView, fleet: &GatewaysView) -> String {
    if route.gateways.is_empty() {
        return String::new();
    }
    let mut table = vec![row(["gateway", "zone", "state", "serves", "by", "version", "configuration", ""])];
    let mut troubles = String::new();
    for gateway in &route.gateways {
        let serves = if gateway.weights.is_empty() {
            "not told".to_owned()
        } else {
            text::shares(&route.targets, &gateway.weights)
        };
        let found = fleet.gateways.iter().find(|whole| whole.id == gateway.id);
        let whole = found.cloned().unwrap_or_default();
        table.push(vec![
            gateway.id.clone(),
            show_gateways::or_dash(&whole.zone),
            gateway.state.clone(),
            serves,
            by(gateway),
            gateway.version.clone(),
            found.map_or_else(|| "-".to_owned(), |whole| show_gateways::configuration(whole, &fleet.control)),
            if gateway.agrees { "agrees".to_owned() } else { gateway.why.clone() },
        ]);
        for line in
            show_gateways::troubles(&whole, |cluster| route.targets.iter().any(|name| name == cluster))
        {
            troubles.push_str(&format!("  {}: {line}\n", gateway.id));
        }
    }
    columns(&table) + &troubles
}

/// Who set the weights there, and for how long.
fn by(gateway: &RouteGatewayView) -> String {
    match gateway.expires_seconds {
        Some(seconds) => {
            format!("{}, {} left", gateway.source, text::duration_ms(seconds.saturating_mul(1_000)))
        }
        None => gateway.source.clone(),
    }
}

fn target_row(target: &str, wanted: String, view: &TargetView) -> Vec<String> {
    let time = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), micros);
    let endpoints = if view.reporting == 0 {
        "not reported".to_owned()
    } else if view.endpoints_healthy_max > view.endpoints_healthy || view.endpoints_max > view.endpoints {
        // The gateways do not see the same: a look at one of them would not tell.
        format!(
            "{}-{} of {}-{} healthy",
            view.endpoints_healthy, view.endpoints_healthy_max, view.endpoints, view.endpoints_max
        )
    } else {
        format!("{} of {} healthy", view.endpoints_healthy, view.endpoints)
    };
    let error = if view.discovery_error.is_empty() {
        endpoints
    } else {
        format!("{endpoints}, discovery: {}", view.discovery_error)
    };
    vec![
        target.to_owned(),
        wanted,
        view.requests.to_string(),
        view.errors.to_string(),
        time(view.p50_us),
        time(view.p99_us),
        error,
    ]
}

fn micros(us: u64) -> String {
    match us {
        0..=999 => format!("{us} us"),
        1_000..=9_999 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        10_000..=9_999_999 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

fn app_mesh_text(status: &Value) -> String {
    let field = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = field("state").replace('_', " ");
    if let Some(version) = status.get("version").and_then(Value::as_i64) {
        line.push_str(&format!(", version {version}"));
    }
    for text in [field("detail"), field("last_error")].into_iter().filter(|text| !text.is_empty()) {
        line.push_str(&format!(", {text}"));
    }
    line
}

/// The outcome of a change.
pub(super) fn outcome(outcome: &Outcome) {
    let mut page = String::new();
    for (name, route) in &outcome.routes {
        let to = text::weights(&route.targets, &route.to);
        match &route.from {
            Some(from) => {
                page.push_str(&format!("{name}: {} -> {to}\n", text::weights(&route.targets, from)));
            }
            None => page.push_str(&format!("{name}: {to}\n")),
        }
        for sentence in &route.load {
            page.push_str(&format!("  {sentence}\n"));
        }
    }
    let elapsed = text::duration_ms(outcome.elapsed_ms);
    if let Some(newer) = &outcome.superseded_by {
        page.push_str(&format!(
            "{}: {newer} took its place while the gateways were awaited\n",
            outcome.version
        ));
    } else if outcome.connected == 0 {
        page.push_str(&format!("{}: stored; no gateway is connected\n", outcome.version));
    } else {
        page.push_str(&format!(
            "{}/{} gateways at {} after {elapsed}\n",
            outcome.acknowledged, outcome.awaited, outcome.version
        ));
    }
    print(&page);
    for route in outcome.routes.values() {
        for sentence in route.load.iter().filter(|sentence| is_heavy(sentence)) {
            eprintln!("warning: {sentence}: is it sized for that?");
        }
    }
    for missing in &outcome.missing {
        let word = if missing.overridden { "overridden" } else { "missing" };
        eprintln!("{word}: {}: {}", missing.gateway, missing.why);
    }
    if !outcome.saved {
        eprintln!("not saved: the change is published, but not in the state yet; {WHERE_STATE_IS}");
    }
}

/// Over this many times the load of a stable endpoint it is worth a warning: autoscaling has seen nothing like it.
const HEAVY: f64 = 2.0;

/// Whether a sentence of [`crate::core::load::sentences`] tells of more than [`HEAVY`].
fn is_heavy(sentence: &str) -> bool {
    let times = sentence.split(' ').zip(sentence.split(' ').skip(1)).find(|(_, word)| *word == "times");
    times.and_then(|(number, _)| number.parse::<f64>().ok()).is_some_and(|number| number > HEAVY)
}

/// `control history`.
pub(super) fn history(view: &HistoryView, limit: usize) {
    let skip = view.history.len().saturating_sub(limit);
    if view.history.is_empty() {
        print(&format!("{}: no change yet\n", view.route));
        return;
    }
    let mut page = String::new();
    for entry in view.history.iter().skip(skip).rev() {
        page.push_str(&entry_text(&view.targets, entry));
        page.push('\n');
    }
    if skip > 0 {
        page.push_str(&format!("({skip} older ones: --limit {})\n", view.history.len()));
    }
    print(&page);
}

fn entry_text(targets: &[String], entry: &HistoryEntry) -> String {
    let what = match entry.kind {
        ChangeKind::Initial => "first weights",
        ChangeKind::Set => "set",
        ChangeKind::Rollback => "rollback",
        ChangeKind::Stable => "stable",
        ChangeKind::Adopt => "adopted",
        ChangeKind::Config => "configuration",
        ChangeKind::Other => "changed",
    };
    let to = text::weights(targets, &entry.to);
    let weights = match &entry.from {
        Some(from) if *from != entry.to => format!("{} -> {to}", text::weights(targets, from)),
        _ => to,
    };
    let token = entry.token.as_ref().map(|token| format!(" (token {token})")).unwrap_or_default();
    let mut line = format!("{} {}{token} {what}: {weights}", entry.at, entry.actor);
    if entry.kind == ChangeKind::Stable {
        line.push_str(&format!(", stable is {}", entry.stable));
    }
    if let Some(ms) = entry.acknowledged_ms {
        line.push_str(&format!(", everywhere after {}", text::duration_ms(ms)));
    }
    if !entry.reason.is_empty() {
        line.push_str(&format!(": {}", entry.reason));
    }
    format!("{line} [{}]", entry.version)
}

pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.into_iter().map(str::to_owned).collect()
}

pub(super) fn columns(table: &[Vec<String>]) -> String {
    let count = table.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        table
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut page = String::new();
    for row in table {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        page.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
    page
}

/// A reader that went away (`control get | head -1`) is no error.
pub(super) fn print(page: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(page.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::GatewayView;
    use gateway_config::wire::ClusterStatus;
    use std::collections::BTreeMap;

    fn gateway(state: &str, agrees: bool) -> RouteGatewayView {
        RouteGatewayView { state: state.to_owned(), agrees, ..RouteGatewayView::default() }
    }

    fn route() -> RouteView {
        let target = TargetView { reporting: 2, endpoints: 2, endpoints_healthy: 2, ..TargetView::default() };
        RouteView {
            name: "svc1".to_owned(),
            targets: vec!["v1".to_owned(), "v2".to_owned()],
            stable: "v1".to_owned(),
            weights: Some(BTreeMap::from([("v1".to_owned(), 9_900), ("v2".to_owned(), 100)])),
            awaited: 2,
            agree: 2,
            gateways: vec![gateway("connected", true), gateway("draining", true)],
            traffic: BTreeMap::from([("v1".to_owned(), target.clone()), ("v2".to_owned(), target)]),
            ..RouteView::default()
        }
    }

    #[test]
    fn the_first_sentence_is_plain() {
        assert_eq!(sentence(&route()), "svc1: v1 99 %, v2 1 %, both healthy, 2 gateways agree");
    }

    #[test]
    fn the_first_sentence_names_what_is_wrong() {
        let mut route = route();
        route.traffic.get_mut("v2").unwrap().endpoints_healthy = 0;
        route.gateways = vec![gateway("connected", true), gateway("connected", false), gateway("lost", true)];
        assert_eq!(
            sentence(&route),
            "svc1: v1 99 %, v2 1 %, v2 without healthy endpoint, 1 of 2 gateways agree, 1 lost"
        );
        route.gateways.remove(1);
        assert!(sentence(&route).ends_with("1 gateway agrees, 1 lost"), "{}", sentence(&route));
        route.weights = None;
        assert_eq!(sentence(&route), "svc1: the weights are not known yet");
    }

    #[test]
    fn each_trouble_of_control_has_its_own_cure() {
        let view = |phase: &str, message: &str, saved| ControlView {
            phase: phase.to_owned(),
            message: message.to_owned(),
            version: "1.1-abc".to_owned(),
            saved,
            ..ControlView::default()
        };
        let unread = trouble(&view("active", "DynamoDB has not answered", true));
        assert!(unread.starts_with("active: DynamoDB has not answered\ncure: see whether"), "{unread}");
        assert!(unread.contains("DynamoDB table") && !unread.contains("adopt"), "{unread}");
        let adopting = trouble(&view("adopting", "svc1: they wait for the state", true));
        assert!(adopting.contains("or for the state") && adopting.contains("control adopt"), "{adopting}");
        assert!(trouble(&view("fenced", "another is ahead", true)).contains("use that control"));
        let unsaved = trouble(&view("active", "", false));
        assert!(unsaved.contains("the disk of control, or at its DynamoDB table"), "{unsaved}");
        assert_eq!(trouble(&view("active", "", true)), "");
    }

    #[test]
    fn an_override_and_the_load_are_on_the_page() {
        let mut route = route();
        route.overridden = 1;
        route.load_per_endpoint = BTreeMap::from([("v2".to_owned(), 4.0), ("v3".to_owned(), 0.0101)]);
        let overridden = RouteGatewayView {
            source: "override".to_owned(),
            expires_seconds: Some(2_580),
            ..gateway("connected", false)
        };
        route.gateways.push(overridden);
        assert!(sentence(&route).ends_with("2 of 3 gateways agree, 1 overridden"), "{}", sentence(&route));
        let cluster = ClusterStatus {
            endpoints: 2,
            usable: 2,
            source: "dns".to_owned(),
            notice: "AccessDenied: asked DNS instead".to_owned(),
        };
        let whole = GatewayView {
            zone: "eu-west-1a".to_owned(),
            config_version: "4.0-abc".to_owned(),
            clusters: ["v2", "another"].map(|name| (name.to_owned(), cluster.clone())).into(),
            ..GatewayView::default()
        };
        let fleet = GatewaysView { gateways: vec![whole], ..GatewaysView::default() };
        let page = route_page(&route, &fleet);
        assert!(page.contains("eu-west-1a") && page.contains("4.0-abc"), "{page}");
        assert!(page.contains("v2: 2 of 2 endpoints usable, by dns: AccessDenied"), "{page}");
        assert!(!page.contains("another"), "{page}");
        assert!(page.contains("each v2 endpoint gets 4.0 times what a v1 endpoint has"), "{page}");
        assert!(page.contains("each v3 endpoint gets 0.01 times what a v1 endpoint has"), "{page}");
        assert!(page.contains("override, 43 min left"), "{page}");
    }

    #[test]
    fn what_is_not_known_of_a_gateway_is_not_said_to_be_its_own_file() {
        let mut route = route();
        route.gateways.truncate(1);
        let page = route_page(&route, &GatewaysView::default());
        assert!(!page.contains("own file"), "{page}");
    }

    #[test]
    fn only_a_load_over_twice_that_of_the_stable_is_heavy() {
        let sentence = |times: &str| format!("each v2 endpoint gets {times} times what a v1 endpoint has");
        assert!(is_heavy(&sentence("4.0")) && is_heavy(&sentence("2.1")));
        assert!(!is_heavy(&sentence("2.0")) && !is_heavy(&sentence("0.1")) && !is_heavy("nothing"));
    }

    #[test]
    fn columns_line_up() {
        let table = [row(["a", "b"]), row(["long", "c"])];
        assert_eq!(columns(&table), "  a     b\n  long  c\n");
    }
}
