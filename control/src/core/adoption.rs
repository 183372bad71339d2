//! What a control without state does first: nothing, until it knows what the fleet serves.
//!
//! Owns the decision per route; it must never change anything itself. Two cases must not be mixed up: a very first
//! start (no gateway has ever had a control: the weights of the configuration count once) and a lost state (some
//! gateway serves what a control once said: that is taken over, and nothing moves). Next: `weights.rs`.

use super::fleet::{Fleet, Gateway, same_shares};
use crate::settings::RouteSettings;
use crate::state::document::Weights;
use gateway_config::weights::largest_remainder;
use gateway_config::wire::{FULL_WEIGHT, Version, WeightSource};

/// After a lost state the fleet is given so long, since the last new gateway, to be heard: gateways come back to a
/// new control within their reconnect back-off.
pub const SETTLE_LOST_MS: u64 = 3_000;
/// At a first start nobody serves anything of worth: only gateways that start at the same moment are awaited.
pub const SETTLE_FIRST_MS: u64 = 1_000;
/// However many new gateways come, after so long since the first one it is decided.
pub const WINDOW_MS: u64 = 15_000;

/// A control without state holds changes back for so long after its start when it has heard nobody: gateways of a
/// running fleet come back within that.
pub const HEAR_FIRST_MS: u64 = 5_000;

/// What is to be done about a route whose weights are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// No gateway was heard that asks for it.
    Unheard,
    /// More gateways may come.
    Settling,
    /// A first start: these weights count.
    Initial(Weights),
    /// The fleet serves these.
    Adopt(Weights, Givers),
    /// The fleet does not agree, or cannot say: an operator decides.
    Disagree(String),
}

/// The gateways that serve what is adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Givers {
    /// One of them.
    pub gateway: String,
    /// How many there are.
    pub count: usize,
}

impl Givers {
    /// For the history.
    pub fn reason(&self) -> String {
        match self.count {
            0 | 1 => format!("recovered from gateway {}", self.gateway),
            2 => format!("recovered from gateway {} (1 more agrees)", self.gateway),
            count => format!("recovered from gateway {} ({} more agree)", self.gateway, count - 1),
        }
    }
}

/// Decides about one route. `has_state`: only this route is new to a control that leads the others, so that a
/// version_info in force says nothing about it.
pub fn decide(
    now_ms: u64,
    fleet: &Fleet,
    (name, settings): (&str, &RouteSettings),
    has_state: bool,
) -> Adoption {
    let knew_a_control = |gateway: &Gateway| knew_a_control(gateway, name, has_state);
    let heard: Vec<(&String, &Gateway)> =
        fleet.iter().filter(|(_, gateway)| gateway.is_connected(now_ms) && gateway.asks_for(name)).collect();
    let (Some(first), Some(last)) = (
        heard.iter().map(|(_, gateway)| gateway.first_heard_ms).min(),
        heard.iter().map(|(_, gateway)| gateway.first_heard_ms).max(),
    ) else {
        return Adoption::Unheard;
    };
    let had_control = heard.iter().any(|(_, gateway)| knew_a_control(gateway));
    let settle = if had_control { SETTLE_LOST_MS } else { SETTLE_FIRST_MS };
    if now_ms.saturating_sub(last) < settle && now_ms.saturating_sub(first) < WINDOW_MS {
        return Adoption::Settling;
    }
    if had_control {
        // A gateway that still starts and serves its file has no say: it serves nobody yet.
        let counts = |gateway: &Gateway| !is_starting(gateway) || knew_a_control(gateway);
        return match agreement(&heard, name, settings, counts) {
            Ok(Some((weights, givers))) => Adoption::Adopt(weights, givers),
            Ok(None) => Adoption::Disagree(format!("no gateway says which weights {name} has")),
            Err(why) => Adoption::Disagree(why),
        };
    }
    if let Some(weights) = &settings.weights {
        return Adoption::Initial(weights.clone());
    }
    match agreement(&heard, name, settings, |_| true) {
        Ok(Some((weights, givers))) => Adoption::Adopt(weights, givers),
        _ => Adoption::Initial(settings.all_to(&settings.stable)),
    }
}

/// The weights of one gateway for a route, in hundredths of a percent.
pub fn served(gateway: &Gateway, name: &str, settings: &RouteSettings) -> Result<Option<Weights>, String> {
    let Some(route) = gateway.route(name) else { return Ok(None) };
    if let Some((unknown, _)) =
        route.weights.iter().find(|(target, weight)| **weight > 0 && !settings.targets.contains(target))
    {
        return Err(format!("{name} goes to `{unknown}` there, which is not among its targets here"));
    }
    let weights: Vec<u32> = settings
        .targets
        .iter()
        .map(|target| route.weights.get(target).copied().unwrap_or_default())
        .collect();
    if weights.iter().all(|weight| *weight == 0) {
        return Ok(None);
    }
    let whole = largest_remainder(&weights, FULL_WEIGHT);
    Ok(Some(settings.targets.iter().cloned().zip(whole).collect()))
}

fn knew_a_control(gateway: &Gateway, name: &str, has_state: bool) -> bool {
    if !has_state && Version::parse(&gateway.version).is_some() {
        return true;
    }
    gateway.route(name).is_some_and(|route| {
        matches!(route.source, WeightSource::Control | WeightSource::Saved)
            || Version::parse(&route.version).is_some()
    })
}

fn is_starting(gateway: &Gateway) -> bool {
    gateway.status.as_ref().is_some_and(|status| status.state == "INITIALIZING")
}

fn agreement(
    heard: &[(&String, &Gateway)],
    name: &str,
    settings: &RouteSettings,
    counts: impl Fn(&Gateway) -> bool,
) -> Result<Option<(Weights, Givers)>, String> {
    let mut agreed: Option<(&String, Weights)> = None;
    let mut count = 0;
    for (id, gateway) in heard.iter().filter(|(_, gateway)| counts(gateway)) {
        let serves = served(gateway, name, settings).map_err(|why| format!("{id}: {why}"))?;
        let Some(serves) = serves else { continue };
        count += 1;
        match &agreed {
            None => agreed = Some((id, serves)),
            Some((other, weights)) if !same_shares(weights, &serves) => {
                return Err(format!(
                    "{other} serves {name} at {}, {id} at {}",
                    crate::text::weights(&settings.targets, weights),
                    crate::text::weights(&settings.targets, &serves)
                ));
            }
            Some(_) => {}
        }
    }
    Ok(agreed.map(|(id, weights)| (weights, Givers { gateway: id.clone(), count })))
}
