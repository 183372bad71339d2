//! One gateway: what it said last, what it was sent, what it refused.
//!
//! Owns the reading of acknowledgements and the bounds of what is kept of a sender's word; it must never decide
//! weights. Time comes in as an argument. Next: `fleet.rs`.

use super::change::clean_text;
use super::counters::Counters;
use super::fleet::{AWAITED_FOR_MS, LOST_AFTER_MS, Subject};
use crate::settings::{RouteSettings, Routes};
use gateway_config::wire::{
    ClusterStatus, DiscoveryRequest, GatewayStatus, RouteStatus, Version, WeightSource,
};
use std::collections::{BTreeMap, BTreeSet};

/// Longest id that is kept.
const MAX_ID_CHARS: usize = 256;
/// No control comes to such an epoch by starts. Whoever says a higher one must not be able to use up the numbers
/// that an adoption needs.
const MAX_EPOCH: u64 = 1 << 62;
/// Targets with weight that are not known here, per route: one of them is enough to disagree.
const MAX_UNKNOWN_TARGETS: usize = 16;

/// What one stream was sent and refused.
#[derive(Clone, Debug)]
pub struct Stream {
    subject: Subject,
    /// The version last sent, with its nonce.
    pub(super) sent: Option<(String, String)>,
    pub(super) refused: Option<String>,
    accepted_once: bool,
    pub(super) limit: SendLimit,
}

/// How often one version was sent of late.
#[derive(Clone, Debug, Default)]
pub(super) struct SendLimit {
    pub(super) version: String,
    pub(super) window_start_ms: u64,
    pub(super) sends: u32,
}

/// A refusal that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The version_info that was refused.
    pub version: String,
    /// Why, in the gateway's words.
    pub message: String,
}

/// One gateway.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    /// Monotonic ms of the first request.
    pub first_heard_ms: u64,
    /// Monotonic ms of the newest request or report.
    pub last_heard_ms: u64,
    /// Monotonic ms of the newest report.
    pub reported_ms: Option<u64>,
    /// Set by a goodbye.
    pub gone_ms: Option<u64>,
    /// None for a stock Envoy.
    pub status: Option<GatewayStatus>,
    /// The version_info of its newest discovery request.
    pub version: String,
    /// The names asked for; with `asks_all` every route.
    pub asks: BTreeSet<String>,
    /// A stock Envoy without resource names.
    pub asks_all: bool,
    /// The last refusal, until another version is accepted.
    pub refused: Option<Refusal>,
    /// The version_info of its listeners and clusters; empty when they are from a file.
    pub config_version: String,
    /// The last refusal of listeners or clusters, until others are accepted.
    pub config_refused: Option<Refusal>,
    /// Per set of names.
    pub streams: BTreeMap<u64, Stream>,
    /// What it counted.
    pub counters: Counters,
}

impl Gateway {
    /// Whether it asks for `route`.
    pub fn asks_for(&self, route: &str) -> bool {
        self.asks_all || self.asks.contains(route)
    }

    /// `connected`, `draining`, `lost` or `gone`.
    pub fn state(&self, now_ms: u64) -> &'static str {
        if self.gone_ms.is_some() {
            "gone"
        } else if now_ms.saturating_sub(self.last_heard_ms) >= LOST_AFTER_MS {
            "lost"
        } else if self.status.as_ref().is_some_and(|status| status.state == "DRAINING") {
            "draining"
        } else {
            "connected"
        }
    }

    /// Heard lately, and not gone.
    pub fn is_connected(&self, now_ms: u64) -> bool {
        matches!(self.state(now_ms), "connected" | "draining")
    }

    /// Whether changes wait for it.
    pub fn is_awaited(&self, now_ms: u64) -> bool {
        self.gone_ms.is_none() && now_ms.saturating_sub(self.last_heard_ms) < AWAITED_FOR_MS
    }

    /// What it says about one route.
    pub fn route(&self, route: &str) -> Option<&RouteStatus> {
        self.status.as_ref()?.routes.get(route)
    }

    /// What it says about one route, while somebody there overrides it.
    pub fn override_of(&self, route: &str) -> Option<&RouteStatus> {
        self.route(route).filter(|status| status.source == WeightSource::Override)
    }

    /// Whether a stream about such a subject has refused what it was sent last.
    pub(super) fn refuses(&self, about: impl Fn(Subject) -> bool) -> bool {
        self.streams.values().any(|stream| about(stream.subject) && stream.refused.is_some())
    }

    /// Every version that it serves something of.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        let routes = self.status.iter().flat_map(|status| status.routes.values());
        let own = [self.version.as_str(), self.config_version.as_str()];
        let told = routes.map(|route| route.version.as_str()).chain(own);
        told.filter_map(Version::parse).filter(|version| version.epoch <= MAX_EPOCH)
    }

    /// Keeps what is of use: the sender's word is not bounded by anything but the size of a request.
    pub(super) fn take_status(&mut self, status: &GatewayStatus, routes: &Routes) {
        let mut kept = GatewayStatus {
            wire: status.wire,
            instance_id: clean(&status.instance_id),
            boot_id: clean(&status.boot_id),
            state: clean(&status.state),
            goodbye: status.goodbye,
            build: clean(&status.build),
            zone: clean(&status.zone),
            config_version: clean(&status.config_version),
            clusters: clusters(status, routes),
            routes: BTreeMap::new(),
        };
        if self.config_version != kept.config_version {
            self.config_version.clone_from(&kept.config_version);
            // Weights that it refused may fit what it has now.
            self.streams
                .values_mut()
                .filter(|stream| stream.subject == Subject::Routes)
                .for_each(Stream::renew);
        }
        for (name, route) in &status.routes {
            if let Some(settings) = routes.get(name) {
                kept.routes.insert(name.clone(), bounded(route, settings));
            }
        }
        let before = self.status.as_ref().filter(|before| before.boot_id == kept.boot_id);
        if let Some(before) = before {
            for (name, route) in &mut kept.routes {
                if let Some(newer) = before.routes.get(name)
                    && overtook(&newer.version, &route.version)
                {
                    *route = newer.clone();
                }
            }
        }
        // A process that has said goodbye does not come back: what says otherwise was overtaken.
        if kept.goodbye {
            self.gone_ms = Some(self.last_heard_ms);
        } else if before.is_none() {
            self.gone_ms = None;
        }
        self.status = Some(kept);
    }
}

/// The clusters of managed routes.
fn clusters(status: &GatewayStatus, routes: &Routes) -> BTreeMap<String, ClusterStatus> {
    let targets = routes.values().flat_map(|route| &route.targets);
    let known = targets.filter_map(|target| status.clusters.get_key_value(target));
    let kept = |(name, cluster): (&String, &ClusterStatus)| {
        let ClusterStatus { endpoints, usable, source, notice } = cluster;
        let (source, notice) = (clean(source), clean_text(notice));
        (name.clone(), ClusterStatus { endpoints: *endpoints, usable: *usable, source, notice })
    };
    known.map(kept).collect()
}

/// One route as a gateway tells it, without what nobody asks for.
fn bounded(route: &RouteStatus, settings: &RouteSettings) -> RouteStatus {
    let unknown =
        route.weights.iter().filter(|(target, weight)| **weight > 0 && !settings.targets.contains(target));
    let unknown = unknown.take(MAX_UNKNOWN_TARGETS).map(|(target, weight)| {
        let mut name = clean(target);
        if name != *target {
            // Never the name of a target that is known here.
            name.push('?');
        }
        (name, *weight)
    });
    let known = settings.targets.iter().filter_map(|target| route.weights.get_key_value(target));
    RouteStatus {
        weights: unknown.chain(known.map(|(target, weight)| (target.clone(), *weight))).collect(),
        stable: clean(&route.stable),
        source: route.source,
        version: clean(&route.version),
        age_seconds: route.age_seconds,
        expires_seconds: route.expires_seconds,
    }
}

/// Whether `newer` is of the same control as `older` and later: reports and requests travel side by side, so an
/// older word may arrive last.
fn overtook(newer: &str, older: &str) -> bool {
    match (Version::parse(newer), Version::parse(older)) {
        (Some(newer), Some(older)) => {
            newer.epoch == older.epoch && newer.control_id == older.control_id && newer.seq > older.seq
        }
        _ => false,
    }
}

impl Stream {
    /// A stream that was sent nothing yet.
    pub(super) fn about(subject: Subject) -> Self {
        Self { subject, sent: None, refused: None, accepted_once: false, limit: SendLimit::default() }
    }

    /// What was refused may be sent again.
    fn renew(&mut self) {
        if self.refused.take().is_some() {
            self.sent = None;
        }
    }

    /// Reads acknowledgement or refusal out of a request.
    pub(super) fn judge(&mut self, request: &DiscoveryRequest) -> Option<Refusal> {
        let (sent, nonce) = self.sent.clone()?;
        let weir = request.node.metadata.weir.is_some();
        if let Some(detail) = &request.error_detail {
            if request.response_nonce == nonce {
                self.refused = Some(sent.clone());
                return Some(Refusal { version: sent, message: clean_text(&detail.message) });
            }
            return None;
        }
        if request.version_info == sent {
            self.refused = None;
            self.accepted_once = true;
            return None;
        }
        // Without our nonce a Weir gateway has a new connection and may never have got the answer.
        if weir && request.response_nonce != nonce {
            self.sent = None;
            return None;
        }
        // An Envoy that had a version and has none any more was started anew.
        if !weir && self.accepted_once && request.version_info.is_empty() {
            *self = Self { limit: std::mem::take(&mut self.limit), ..Self::about(self.subject) };
            return None;
        }
        let repeated = self.refused.as_deref() == Some(sent.as_str());
        self.refused = Some(sent.clone());
        let message = "it came back with its old version".to_owned();
        (!repeated).then_some(Refusal { version: sent, message })
    }
}

/// Ids are shown and logged: no control characters, no end of line, a bounded length.
pub fn clean(id: &str) -> String {
    id.chars().filter(|c| !c.is_control() && !c.is_whitespace()).take(MAX_ID_CHARS).collect()
}
