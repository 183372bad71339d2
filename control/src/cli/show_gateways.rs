//! How gateways look on a terminal.
//!
//! Owns the page of `control gateways`, and the words about one gateway on other pages; it must never ask control anything. Next: `show.rs`.

use super::show::{columns, print, row, trouble};
use crate::rest::{ControlView, GatewayView, GatewaysView};
use crate::text;

/// `control gateways`.
pub(super) fn gateways(view: &GatewaysView) {
    print(&page(view));
}

fn page(view: &GatewaysView) -> String {
    let mut page = trouble(&view.control);
    if view.gateways.is_empty() {
        page.push_str("no gateway was heard yet\n");
        return page;
    }
    let mut table = vec![row([
        "gateway",
        "kind",
        "zone",
        "state",
        "unheard",
        "weights",
        "configuration",
        "routes",
        "build",
        "refused",
    ])];
    table.extend(view.gateways.iter().map(|gateway| gateway_row(gateway, &view.control)));
    page.push_str(&columns(&table));
    for gateway in &view.gateways {
        for line in notices(gateway) {
            page.push_str(&format!("  {}: {line}\n", gateway.id));
        }
    }
    page
}

/// A dash for what is not known.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Where its listeners and clusters are from.
pub(super) fn configuration(gateway: &GatewayView, control: &ControlView) -> String {
    let wanted = control.config_version.as_str();
    match gateway.config_version.as_str() {
        "" => "own file".to_owned(),
        version if !wanted.is_empty() && version != wanted => format!("{version} (old)"),
        version => version.to_owned(),
    }
}

fn gateway_row(gateway: &GatewayView, control: &ControlView) -> Vec<String> {
    let state =
        if gateway.awaited { gateway.state.clone() } else { format!("{}, not awaited", gateway.state) };
    vec![
        gateway.id.clone(),
        gateway.kind.clone(),
        or_dash(&gateway.zone),
        state,
        text::duration_ms(gateway.unheard_ms),
        or_dash(&gateway.version),
        configuration(gateway, control),
        gateway.routes.join(" "),
        gateway.build.clone(),
        gateway.refused.clone(),
    ]
}

/// What is not as it should be there, one line each.
fn notices(gateway: &GatewayView) -> Vec<String> {
    let mut lines = Vec::new();
    for item in &gateway.overrides {
        let left = item.expires_seconds.map_or_else(String::new, |seconds| {
            format!(" for another {}", text::duration_ms(seconds.saturating_mul(1_000)))
        });
        lines.push(format!("{} is overridden{left}: {}", item.route, text::shares(&[], &item.weights)));
    }
    lines.extend(troubles(gateway, |_| true));
    lines
}

/// What is wrong with its configuration, or worth knowing about its clusters of these names.
pub(super) fn troubles(gateway: &GatewayView, of: impl Fn(&str) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !gateway.config_refused.is_empty() {
        lines.push(format!("refused the configuration {}", gateway.config_refused));
    }
    for (name, cluster) in gateway.clusters.iter().filter(|(name, _)| of(name)) {
        if !cluster.notice.is_empty() {
            let source = &cluster.source;
            lines.push(format!(
                "{name}: {} of {} endpoints usable, by {source}: {}",
                cluster.usable, cluster.endpoints, cluster.notice
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::{ControlView, OverrideView};
    use gateway_config::wire::ClusterStatus;
    use std::collections::BTreeMap;

    #[test]
    fn zone_versions_overrides_and_notices_are_on_the_page() {
        let cluster = ClusterStatus {
            endpoints: 2,
            usable: 1,
            source: "dns".to_owned(),
            notice: "AccessDenied: asked DNS instead".to_owned(),
        };
        let gateway = GatewayView {
            id: "task1".to_owned(),
            kind: "weir".to_owned(),
            state: "connected".to_owned(),
            awaited: true,
            zone: "eu-west-1a".to_owned(),
            version: "3.2-abc".to_owned(),
            config_version: "3.1-abc".to_owned(),
            overrides: vec![OverrideView {
                route: "svc1".to_owned(),
                weights: BTreeMap::from([("v1".to_owned(), 100)]),
                expires_seconds: Some(2_580),
            }],
            clusters: BTreeMap::from([("v2".to_owned(), cluster)]),
            ..GatewayView::default()
        };
        let control = ControlView { config_version: "4.0-abc".to_owned(), ..ControlView::default() };
        let page = page(&GatewaysView { control, gateways: vec![gateway] });
        for wanted in [
            "eu-west-1a",
            "3.2-abc",
            "3.1-abc (old)",
            "task1: svc1 is overridden for another 43 min: v1 100 %",
            "task1: v2: 1 of 2 endpoints usable, by dns: AccessDenied: asked DNS instead",
        ] {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
    }
}
