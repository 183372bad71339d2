//! What people and programs are shown of the core.
//!
//! Owns the building of the REST types and the sentences for states that are not normal; it must never change
//! anything. Next: `../api/`.

use super::adoption::{Adoption, decide};
use super::counters::target_view;
use super::fence::Fence;
use super::fleet::{Gateway, same_shares, source_name};
use super::{Core, Now};
use crate::rest::{ControlView, GatewayView, HistoryView, RouteGatewayView, RouteView};
use crate::settings::RouteSettings;
use crate::text;
use gateway_config::wire::Version;

impl Core {
    /// Control itself; the caller adds the revision.
    pub fn control_view(&self, now: Now) -> ControlView {
        let waiting: Vec<String> = self
            .unknown_routes()
            .map(|(name, settings)| format!("{name}: {}", self.adoption_text(now, name, settings)))
            .collect();
        let (phase, message) = match &self.fence {
            Some(fence) => ("fenced", self.fence_text(fence)),
            None if waiting.is_empty() => ("active", String::new()),
            None => ("adopting", waiting.join("; ")),
        };
        ControlView {
            id: self.document.control.id.clone(),
            version: self.version().unwrap_or_default(),
            phase: phase.to_owned(),
            message,
            saved: self.saved,
            revision: 0,
        }
    }

    /// One route, if it is managed.
    pub fn route_view(&self, now: Now, name: &str) -> Option<RouteView> {
        let settings = self.routes.get(name)?;
        let record = self.document.routes.get(name);
        let mut view = RouteView {
            name: name.to_owned(),
            targets: settings.targets.clone(),
            stable: self.stable_of(name, settings),
            build: record.and_then(|record| record.build.clone()),
            weights: record.map(|record| record.weights.clone()),
            version: record.map(|record| record.version.clone()).unwrap_or_default(),
            changed: record.and_then(|record| record.history.back().cloned()),
            ..RouteView::default()
        };
        for (id, gateway) in self.fleet.iter().filter(|(_, gateway)| gateway.asks_for(name)) {
            let seen = self.route_gateway_view(now, id, gateway, name);
            if gateway.is_awaited(now.mono_ms) {
                view.awaited += 1;
                view.agree += usize::from(seen.agrees);
            }
            view.gateways.push(seen);
        }
        for target in &settings.targets {
            let key = (name.to_owned(), target.clone());
            let connected = self
                .fleet
                .iter()
                .filter(|(_, gateway)| gateway.is_connected(now.mono_ms))
                .map(|(_, gateway)| &gateway.counters);
            view.traffic.insert(
                target.clone(),
                target_view(&key, self.fleet.retired(&key), self.fleet.counters(), connected),
            );
        }
        Some(view)
    }

    /// All gateways.
    pub fn gateway_views(&self, now: Now) -> Vec<GatewayView> {
        self.fleet.iter().map(|(id, gateway)| self.gateway_view(now, id, gateway)).collect()
    }

    /// The changes of a managed route.
    pub fn history_view(&self, name: &str) -> Option<HistoryView> {
        let settings = self.routes.get(name)?;
        let history = self.document.routes.get(name).map(|record| record.history.iter().cloned().collect());
        Some(HistoryView {
            route: name.to_owned(),
            targets: settings.targets.clone(),
            history: history.unwrap_or_default(),
        })
    }

    /// Who is ahead, and of what.
    pub fn fence_text(&self, fence: &Fence) -> String {
        format!(
            "control {} does not move traffic: gateway {} serves {}, so control {} is ahead of {}",
            self.document.control.id,
            fence.gateway,
            fence.seen,
            fence.seen.control_id,
            self.document.control.version()
        )
    }

    /// Why the weights of a route are not known.
    pub fn adoption_text(&self, now: Now, name: &str, settings: &RouteSettings) -> String {
        match decide(now.mono_ms, &self.fleet, (name, settings), self.established) {
            Adoption::Unheard => "there was no state, and no gateway that serves it was heard yet".to_owned(),
            Adoption::Settling | Adoption::Initial(_) | Adoption::Adopt(_) => {
                "there was no state, and the gateways are being heard".to_owned()
            }
            Adoption::Disagree(why) => format!("there was no state, and {why}"),
        }
    }

    /// Why a gateway does not serve what is wanted; none = it does.
    pub(super) fn disagreement(&self, now: Now, gateway: &Gateway, route: &str) -> Option<String> {
        let settings = self.routes.get(route)?;
        let Some(wanted) = self.weights(route) else {
            return Some("the wanted weights are not known".to_owned());
        };
        let has_version = self.serves_version(gateway, route);
        let serves = match (&gateway.status, gateway.route(route)) {
            (Some(_), Some(status)) => {
                let stable = self.stable_of(route, settings);
                if !same_shares(&status.weights, wanted) {
                    let shares = text::shares(&settings.targets, &status.weights);
                    format!("serves {shares} by {}", source_name(status.source))
                } else if !status.stable.is_empty() && status.stable != stable {
                    format!("takes {} for the stable target", status.stable)
                } else if has_version {
                    return None;
                } else {
                    format!("has these weights by {}, but {}", source_name(status.source), at(gateway))
                }
            }
            (Some(_), None) => "does not serve the route yet".to_owned(),
            (None, _) if has_version => return None,
            (None, _) => at(gateway),
        };
        let unheard = now.mono_ms.saturating_sub(gateway.last_heard_ms);
        Some(match (gateway.state(now.mono_ms), &gateway.refused) {
            ("lost", _) => format!("lost: unheard for {}, then {serves}", text::duration_ms(unheard)),
            (_, Some(refused)) => format!("refused {}: {}; {serves}", refused.version, refused.message),
            _ => serves,
        })
    }

    /// Whether a gateway has the version that last changed a route, or a later one. A stock Envoy says no more.
    fn serves_version(&self, gateway: &Gateway, route: &str) -> bool {
        let Some(record) = self.document.routes.get(route) else { return false };
        if gateway.version == record.version {
            return true;
        }
        let own = self.document.control.version();
        match (Version::parse(&gateway.version), Version::parse(&record.version)) {
            (Some(at), Some(changed)) => {
                at.epoch == own.epoch
                    && at.control_id == own.control_id
                    && (changed.epoch < own.epoch || changed.seq <= at.seq)
            }
            _ => false,
        }
    }

    fn route_gateway_view(&self, now: Now, id: &str, gateway: &Gateway, route: &str) -> RouteGatewayView {
        let why = self.disagreement(now, gateway, route);
        let status = gateway.route(route);
        RouteGatewayView {
            id: id.to_owned(),
            state: gateway.state(now.mono_ms).to_owned(),
            weights: status.map(|status| status.weights.clone()).unwrap_or_default(),
            source: status.map(|status| source_name(status.source).to_owned()).unwrap_or_default(),
            version: status.map_or_else(|| gateway.version.clone(), |status| status.version.clone()),
            agrees: why.is_none(),
            why: why.unwrap_or_default(),
        }
    }

    fn gateway_view(&self, now: Now, id: &str, gateway: &Gateway) -> GatewayView {
        GatewayView {
            id: id.to_owned(),
            kind: if gateway.status.is_some() { "weir" } else { "envoy" }.to_owned(),
            state: gateway.state(now.mono_ms).to_owned(),
            build: gateway.status.as_ref().map(|status| status.build.clone()).unwrap_or_default(),
            version: gateway.version.clone(),
            unheard_ms: now.mono_ms.saturating_sub(gateway.last_heard_ms),
            routes: self.routes.keys().filter(|route| gateway.asks_for(route)).cloned().collect(),
            awaited: gateway.is_awaited(now.mono_ms),
            refused: gateway
                .refused
                .as_ref()
                .map(|refused| format!("{}: {}", refused.version, refused.message))
                .unwrap_or_default(),
            reported_ms: gateway.reported_ms.map(|at| now.mono_ms.saturating_sub(at)),
        }
    }
}

fn at(gateway: &Gateway) -> String {
    match gateway.version.as_str() {
        "" => "has no version yet".to_owned(),
        version => format!("is at {version}"),
    }
}
