//! What people and programs are shown of the core.
//!
//! Owns the building of the REST types and the sentences for states that are not normal; it must never change
//! anything. Next: `../api/`.

use super::adoption::{Adoption, decide};
use super::counters::target_view;
use super::fence::{Fence, Witness};
use super::fleet::{Gateway, Refusal, same_shares, source_name};
use super::{Core, Now, load};
use crate::rest::{ControlView, GatewayView, HistoryView, OverrideView, RouteGatewayView, RouteView};
use crate::settings::RouteSettings;
use crate::state::document::Weights;
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
            None if waiting.is_empty() => ("active", self.unread_text()),
            None => ("adopting", waiting.join("; ")),
        };
        ControlView {
            id: self.document.control.id.clone(),
            version: self.version().unwrap_or_default(),
            phase: phase.to_owned(),
            message,
            saved: self.saved,
            revision: 0,
            fleet: self.fleet_word(now).to_owned(),
            config_version: self.config_version().unwrap_or_default(),
        }
    }

    /// `none`, `behind`, `overridden` or `current`.
    fn fleet_word(&self, now: Now) -> &'static str {
        if !self.fleet.iter().any(|(_, gateway)| gateway.is_connected(now.mono_ms)) {
            return "none";
        }
        let names: Vec<String> = self.routes.keys().cloned().collect();
        let standing = self.standing(now, &names);
        if standing.behind().next().is_some() {
            "behind"
        } else if standing.overridden.is_empty() {
            "current"
        } else {
            "overridden"
        }
    }

    fn unread_text(&self) -> String {
        self.unread.as_ref().map_or_else(String::new, |why| {
            format!("{why}; until it can be read only changes that lower the canary are made")
        })
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
                view.overridden += usize::from(seen.overridden);
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
        let endpoints = self.endpoints(now, name);
        if let Some(weights) = &view.weights {
            view.load_per_endpoint = load::relative_to_stable(weights, &endpoints, &view.stable);
        }
        Some(view)
    }

    /// Fewest usable endpoints of each target of a route at a connected gateway; targets that none reports are left
    /// out.
    pub fn endpoints(&self, now: Now, route: &str) -> load::Endpoints {
        let targets = self.routes.get(route).into_iter().flat_map(|settings| &settings.targets);
        let fewest = |target: &String| {
            let key = (route.to_owned(), target.clone());
            let connected = self.fleet.iter().filter(|(_, gateway)| gateway.is_connected(now.mono_ms));
            let told = connected.filter_map(|(_, gateway)| gateway.counters.current(&key));
            Some((target.clone(), told.map(|report| report.endpoints_healthy).min()?))
        };
        targets.filter_map(fewest).collect()
    }

    /// What weights of a route mean for one endpoint, after other weights: sentences for people.
    pub fn load_sentences(&self, now: Now, route: &str, to: &Weights, from: Option<&Weights>) -> Vec<String> {
        let Some(settings) = self.routes.get(route) else { return Vec::new() };
        let stable = self.stable_of(route, settings);
        load::sentences(to, from, &self.endpoints(now, route), &stable)
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
        let shown = match &fence.witness {
            Witness::Gateway(id) => format!("gateway {id} serves {}", fence.seen),
            Witness::State(place) => format!("the state, {place}, was written at {}", fence.seen),
        };
        format!(
            "control {} does not move traffic: {shown}, so control {} is ahead of {}",
            self.document.control.id,
            fence.seen.control_id,
            self.document.control.version()
        )
    }

    /// Why the weights of a route are not known.
    pub fn adoption_text(&self, now: Now, name: &str, settings: &RouteSettings) -> String {
        let no_state = self.unread.as_deref().unwrap_or("there was no state");
        let and = match decide(now.mono_ms, &self.fleet, (name, settings), self.established) {
            Adoption::Unheard => "no gateway that serves it was heard yet".to_owned(),
            Adoption::Initial(_) if self.unread.is_some() => {
                "no gateway remembers weights of a control, so they wait for the state".to_owned()
            }
            Adoption::Settling | Adoption::Initial(_) | Adoption::Adopt(..) => {
                "the gateways are being heard".to_owned()
            }
            Adoption::Disagree(why) => why,
        };
        format!("{no_state}, and {and}")
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
        let serves = match gateway.override_of(route) {
            Some(status) => format!("is overridden{}: {serves}", override_end(status.expires_seconds)),
            None => serves,
        };
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
            overridden: why.is_some() && gateway.override_of(route).is_some(),
            expires_seconds: gateway.override_of(route).and_then(|status| status.expires_seconds),
            agrees: why.is_none(),
            why: why.unwrap_or_default(),
        }
    }

    fn overrides(&self, gateway: &Gateway) -> Vec<OverrideView> {
        let view = |route: &String| {
            let status = gateway.override_of(route)?;
            Some(OverrideView {
                route: route.clone(),
                weights: status.weights.clone(),
                expires_seconds: status.expires_seconds,
            })
        };
        self.routes.keys().filter_map(view).collect()
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
            refused: refusal_text(gateway.refused.as_ref()),
            zone: gateway.status.as_ref().map(|status| status.zone.clone()).unwrap_or_default(),
            config_version: gateway.config_version.clone(),
            config_refused: refusal_text(gateway.config_refused.as_ref()),
            overrides: self.overrides(gateway),
            clusters: gateway.status.as_ref().map(|status| status.clusters.clone()).unwrap_or_default(),
            reported_ms: gateway.reported_ms.map(|at| now.mono_ms.saturating_sub(at)),
        }
    }
}

fn refusal_text(refused: Option<&Refusal>) -> String {
    refused.map(|refused| format!("{}: {}", refused.version, refused.message)).unwrap_or_default()
}

fn override_end(expires_seconds: Option<u64>) -> String {
    expires_seconds.map_or_else(String::new, |seconds| {
        format!(" for another {}", text::duration_ms(seconds.saturating_mul(1_000)))
    })
}

fn at(gateway: &Gateway) -> String {
    match gateway.version.as_str() {
        "" => "has no version yet".to_owned(),
        version => format!("is at {version}"),
    }
}
