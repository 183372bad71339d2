//! What is worth telling somebody who is not looking.
//!
//! Owns the turning of states into events: each is told once when it begins and once when it is over. It must never
//! send anything, and never change anything but what it remembers of what was told. Next: `../shared.rs`, which asks at
//! each tick and passes events on.

use super::event::{Event, EventKind};
use super::fleet::Gateway;
use super::{Core, Now};
use crate::state::document::{ChangeKind, HistoryEntry};
use crate::text;
use std::collections::BTreeMap;

/// A gateway that does not serve what is wanted is told about after so long: the time that a change waits for it.
pub const BEHIND_AFTER_MS: u64 = 10_000;
/// The fleet does not agree on weights for so long before it is told: gateways of an older version may catch up.
pub const UNDECIDED_AFTER_MS: u64 = 10_000;
/// A target has no endpoints for so long before it is told: a deployment replaces them one by one.
pub const EMPTY_AFTER_MS: u64 = 5_000;

/// What lasts, and was or will be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Behind(String),
    Refused(String),
    Gone(String),
    Undecided(String),
    Empty(String, String),
    Drift(String),
    Fence,
    Unread,
}

#[derive(Clone, Debug)]
struct Lasting {
    since_ms: u64,
    told: bool,
}

/// Remembers what was told.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    lasting: BTreeMap<Key, Lasting>,
}

struct Fault {
    key: Key,
    after_ms: u64,
    kind: EventKind,
    route: Option<String>,
    gateway: Option<String>,
    text: String,
}

impl Watcher {
    /// What is new since the last look. `drift`: routes whose App Mesh route somebody else changed, and what is known
    /// of it.
    pub fn look(&mut self, now: Now, core: &Core, drift: &[(String, String)]) -> Vec<Event> {
        let at = text::timestamp(now.unix_ms);
        let mut events = Vec::new();
        let mut present = BTreeMap::new();
        for fault in faults(now, core, drift) {
            let mut lasting =
                self.lasting.remove(&fault.key).unwrap_or(Lasting { since_ms: now.mono_ms, told: false });
            if !lasting.told && now.mono_ms.saturating_sub(lasting.since_ms) >= fault.after_ms {
                lasting.told = true;
                events.push(Event {
                    kind: fault.kind,
                    route: fault.route,
                    gateway: fault.gateway,
                    text: fault.text,
                    at: at.clone(),
                });
            }
            present.insert(fault.key, lasting);
        }
        let over = std::mem::replace(&mut self.lasting, present);
        for (key, _) in over.into_iter().filter(|(_, lasting)| lasting.told) {
            events.extend(recovered(core, now, key, &at));
        }
        events
    }
}

fn faults(now: Now, core: &Core, drift: &[(String, String)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    // Nobody is behind what nobody knows.
    let known = core.routes().keys().filter(|name| core.weights(name).is_some());
    let names: Vec<String> = known.cloned().collect();
    let connected = |id: &str| core.fleet().get(id).is_some_and(|gateway| gateway.is_connected(now.mono_ms));
    for (id, why) in core.standing(now, &names).behind().filter(|(id, _)| connected(id)) {
        let fault = Fault {
            key: Key::Behind(id.clone()),
            after_ms: BEHIND_AFTER_MS,
            kind: EventKind::GatewayBehind,
            route: None,
            gateway: Some(id.clone()),
            text: format!("gateway {id} does not serve what is wanted: {why}"),
        };
        faults.push(fault);
    }
    for (id, gateway) in core.fleet().iter().filter(|(_, gateway)| gateway.state(now.mono_ms) == "lost") {
        let unheard = text::duration_ms(now.mono_ms.saturating_sub(gateway.last_heard_ms));
        faults.push(Fault {
            key: Key::Gone(id.clone()),
            after_ms: 0,
            kind: EventKind::GatewayGone,
            route: None,
            gateway: Some(id.clone()),
            text: format!("gateway {id} was not heard for {unheard} and said no goodbye"),
        });
    }
    faults.extend(of_configuration(now, core));
    faults.extend(of_routes(now, core));
    for (name, detail) in drift {
        faults.push(Fault {
            key: Key::Drift(name.clone()),
            after_ms: 0,
            kind: EventKind::Drift,
            route: Some(name.clone()),
            gateway: None,
            text: format!("the App Mesh route of {name} is not what control wrote: {detail}"),
        });
    }
    let whole =
        |key, text| Fault { key, after_ms: 0, kind: EventKind::Drift, route: None, gateway: None, text };
    faults.extend(core.fence().map(|fence| whole(Key::Fence, core.fence_text(fence))));
    faults.extend(core.unread().map(|why| whole(Key::Unread, why.to_owned())));
    faults
}

/// Weights that nobody knows, and shares that nobody answers.
fn of_routes(now: Now, core: &Core) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, why) in core.undecided(now) {
        faults.push(Fault {
            key: Key::Undecided(name.clone()),
            after_ms: UNDECIDED_AFTER_MS,
            kind: EventKind::Drift,
            text: format!(
                "the weights of {name} are not known: {why}; `control adopt --from GATEWAY` decides"
            ),
            route: Some(name),
            gateway: None,
        });
    }
    for (name, target) in core.empty_targets(now) {
        faults.push(Fault {
            text: format!(
                "{target} of {name} has a share of the traffic, and no gateway has a usable endpoint of it"
            ),
            key: Key::Empty(name.clone(), target),
            after_ms: EMPTY_AFTER_MS,
            kind: EventKind::EndpointsEmpty,
            route: Some(name),
            gateway: None,
        });
    }
    faults
}

/// Listeners and clusters that gateways do not take. Their weights they take all the same.
fn of_configuration(now: Now, core: &Core) -> Vec<Fault> {
    let connected = core.fleet().iter().filter(|(_, gateway)| gateway.is_connected(now.mono_ms));
    let fault = |(id, gateway): (&String, &Gateway)| {
        let refused = gateway.config_refused.as_ref()?;
        Some(Fault {
            key: Key::Refused(id.clone()),
            after_ms: BEHIND_AFTER_MS,
            kind: EventKind::Drift,
            route: None,
            gateway: Some(id.clone()),
            text: format!(
                "gateway {id} refuses the listeners and clusters {} and goes on with what it has: {}; correct the \
                 section `gateway` of control's configuration, or put the earlier one back",
                refused.version, refused.message
            ),
        })
    };
    connected.filter_map(fault).collect()
}

/// The end of what was told. A gateway that is gone with a goodbye, or was forgotten, has not recovered.
fn recovered(core: &Core, now: Now, key: Key, at: &str) -> Option<Event> {
    let connected = |id: &str| core.fleet().get(id).is_some_and(|gateway| gateway.is_connected(now.mono_ms));
    let (route, gateway, text) = match key {
        Key::Behind(id) if connected(&id) => {
            let text = format!("gateway {id} serves what is wanted again");
            (None, Some(id), text)
        }
        Key::Gone(id) if connected(&id) => {
            let text = format!("gateway {id} is heard again");
            (None, Some(id), text)
        }
        Key::Refused(id) if connected(&id) => {
            let text = format!("gateway {id} has taken the listeners and clusters");
            (None, Some(id), text)
        }
        Key::Behind(_) | Key::Gone(_) | Key::Refused(_) => return None,
        Key::Undecided(route) => {
            let text = format!("the weights of {route} are known again");
            (Some(route), None, text)
        }
        Key::Empty(route, target) => {
            let text = format!("{target} of {route} has usable endpoints again, or no share any more");
            (Some(route), None, text)
        }
        Key::Drift(route) => {
            let text = format!("the App Mesh route of {route} is in line again");
            (Some(route), None, text)
        }
        Key::Fence => (None, None, format!("control {} leads again", core.document().control.id)),
        Key::Unread => (None, None, "the state can be read again".to_owned()),
    };
    Some(Event { kind: EventKind::Recovered, route, gateway, text, at: at.to_owned() })
}

/// The event of one change that was just published.
pub fn of_change(core: &Core, route: &str, entry: &HistoryEntry) -> Option<Event> {
    let targets = core.routes().get(route).map(|settings| settings.targets.as_slice()).unwrap_or_default();
    let to = text::weights(targets, &entry.to);
    let by = if entry.reason.is_empty() {
        format!("by {}", entry.actor)
    } else {
        format!("by {}: {}", entry.actor, entry.reason)
    };
    let (kind, text) = match (&entry.kind, &entry.from) {
        (ChangeKind::Adopt, _) => (EventKind::Recovered, format!("{route} goes on at {to} ({by})")),
        (_, Some(from)) if *from == entry.to => return None,
        (_, Some(from)) => {
            (EventKind::WeightsChanged, format!("{route}: {} -> {to} ({by})", text::weights(targets, from)))
        }
        (_, None) => (EventKind::WeightsChanged, format!("{route}: {to} ({by})")),
    };
    Some(Event { kind, route: Some(route.to_owned()), gateway: None, text, at: entry.at.clone() })
}
