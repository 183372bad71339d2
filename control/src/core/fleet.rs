//! The gateways: who was heard when, what each serves, what each was sent.
//!
//! Owns the records of gateways; it must never decide weights. Time comes in as an argument. Next: `adoption.rs`.

use super::change::clean_text;
use super::counters::{Counters, Key, Totals, merge_all};
use gateway_config::wire::{DiscoveryRequest, GatewayStatus, Report, RouteStatus, Version, WeightSource};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A gateway asks at least every 30 s and reports more often: unheard for 45 s it is lost.
pub const LOST_AFTER_MS: u64 = 45_000;
/// A lost gateway that does not come back within ten minutes is gone with its task: changes do not wait for it.
pub const AWAITED_FOR_MS: u64 = 600_000;
/// A gateway that said goodbye is shown for so long.
pub const SHOW_GONE_MS: u64 = 600_000;
/// A lost gateway is shown for a day, so that the morning sees what the night lost.
pub const SHOW_LOST_MS: u64 = 86_400_000;
/// Gateways that are known at once; a fleet of a thousand tasks is beyond any ECS service.
pub const MAX_GATEWAYS: usize = 1_000;
/// Streams per client: one per set of resource names that it asks for.
const MAX_STREAMS: usize = 64;
/// Longest id that is kept.
const MAX_ID_CHARS: usize = 256;
/// One version is sent so often to one stream within [`SEND_WINDOW_MS`].
const MAX_SENDS: u32 = 2;
/// The window of [`MAX_SENDS`].
const SEND_WINDOW_MS: u64 = 5_000;

/// Who sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Key of the gateway.
    pub id: String,
    /// Key of the stream within it: a digest of the names that it asks for.
    pub stream: u64,
    /// It says goodbye, and had not before: answered at once, so that it may go.
    pub first_goodbye: bool,
}

/// What one stream was sent and refused.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The version last sent, with its nonce.
    sent: Option<(String, String)>,
    refused: Option<String>,
    accepted_once: bool,
    limit: SendLimit,
}

/// How often one version was sent of late.
#[derive(Clone, Debug, Default)]
struct SendLimit {
    version: String,
    window_start_ms: u64,
    sends: u32,
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

    /// Every version that it serves something of.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        let routes = self.status.iter().flat_map(|status| status.routes.values());
        routes.map(|route| route.version.as_str()).chain([self.version.as_str()]).filter_map(Version::parse)
    }

    /// Keeps what is of use: the sender's word is not bounded by anything but the size of a request.
    fn take_status(&mut self, status: &GatewayStatus, managed: impl Fn(&str) -> bool) {
        let routes = status.routes.iter().filter(|(name, _)| managed(name));
        let mut status = GatewayStatus {
            wire: status.wire,
            instance_id: clean(&status.instance_id),
            boot_id: clean(&status.boot_id),
            state: clean(&status.state),
            goodbye: status.goodbye,
            build: clean(&status.build),
            routes: routes.map(|(name, route)| (name.clone(), route.clone())).collect(),
        };
        if let Some(old) = &self.status
            && old.boot_id == status.boot_id
        {
            for (name, route) in &mut status.routes {
                if let Some(newer) = old.routes.get(name)
                    && overtook(&newer.version, &route.version)
                {
                    *route = newer.clone();
                }
            }
        }
        self.gone_ms = status.goodbye.then_some(self.last_heard_ms);
        self.status = Some(status);
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

/// All gateways.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    gateways: BTreeMap<String, Gateway>,
    retired: BTreeMap<Key, Totals>,
    nonces: u64,
}

/// The fleet is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_GATEWAYS} gateways are known already")]
pub struct Full;

impl Fleet {
    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Gateway)> {
        self.gateways.iter()
    }

    /// One.
    pub fn get(&self, id: &str) -> Option<&Gateway> {
        self.gateways.get(id)
    }

    /// What forgotten gateways had counted.
    pub fn retired(&self, key: &Key) -> Option<&Totals> {
        self.retired.get(key)
    }

    /// Notes a discovery request: who is there, what is served, what was acknowledged or refused. `refusal` of the
    /// answer is set when this very request refused something.
    pub fn hear(
        &mut self,
        now_ms: u64,
        peer: &str,
        request: &DiscoveryRequest,
        managed: impl Fn(&str) -> bool,
    ) -> Result<(Client, Option<Refusal>), Full> {
        let mut client = identify(peer, request);
        let gateway = self.entry(now_ms, &client.id)?;
        let was_gone = gateway.gone_ms.is_some();
        let asked = request.resource_names.iter().filter(|name| managed(name));
        gateway.last_heard_ms = now_ms;
        gateway.asks_all = request.resource_names.is_empty() && request.node.metadata.weir.is_none();
        if let Some(status) = &request.node.metadata.weir {
            if gateway.status.as_ref().is_some_and(|old| old.boot_id != status.boot_id) {
                gateway.streams.clear();
                gateway.refused = None;
            }
            gateway.asks = if request.resource_names.is_empty() {
                status.routes.keys().filter(|name| managed(name)).cloned().collect()
            } else {
                asked.cloned().collect()
            };
            gateway.take_status(status, &managed);
            client.first_goodbye = status.goodbye && !was_gone;
        } else {
            gateway.gone_ms = None;
            gateway.asks.extend(asked.cloned());
        }
        gateway.version = clean(&request.version_info);
        if !gateway.streams.contains_key(&client.stream) && gateway.streams.len() >= MAX_STREAMS {
            gateway.streams.clear();
        }
        let stream = gateway.streams.entry(client.stream).or_default();
        let refusal = stream.judge(request);
        match &refusal {
            Some(refusal) => gateway.refused = Some(refusal.clone()),
            None if gateway.streams.values().all(|stream| stream.refused.is_none()) => gateway.refused = None,
            None => {}
        }
        Ok((client, refusal))
    }

    /// Notes a report. False = it was overtaken by a newer one.
    pub fn report(
        &mut self,
        now_ms: u64,
        id: &str,
        report: &Report,
        routes: impl Fn(&str) -> bool,
        managed: impl Fn(&str, &str) -> bool,
    ) -> Result<bool, Full> {
        let gateway = self.entry(now_ms, id)?;
        gateway.last_heard_ms = now_ms;
        if !gateway.counters.take(report, managed) {
            return Ok(false);
        }
        gateway.reported_ms = Some(now_ms);
        if !report.status.boot_id.is_empty() {
            let is_route = |route: &str| report.status.routes.contains_key(route) && routes(route);
            if gateway.asks.is_empty() {
                gateway.asks = report.status.routes.keys().filter(|route| is_route(route)).cloned().collect();
            }
            gateway.take_status(&report.status, is_route);
        }
        Ok(true)
    }

    /// Whether `version` may be sent to a client now: never after it refused it, and at most twice in five
    /// seconds.
    pub fn may_send(&self, now_ms: u64, client: &Client, version: &str) -> bool {
        let Some(stream) = self.stream(client) else { return true };
        if stream.refused.as_deref() == Some(version) {
            return false;
        }
        let limit = &stream.limit;
        limit.version != version
            || limit.sends < MAX_SENDS
            || now_ms.saturating_sub(limit.window_start_ms) >= SEND_WINDOW_MS
    }

    /// Whether a client has refused `version`.
    pub fn has_refused(&self, client: &Client, version: &str) -> bool {
        self.stream(client).is_some_and(|stream| stream.refused.as_deref() == Some(version))
    }

    /// Notes that `version` is sent, and gives its nonce.
    pub fn note_sent(&mut self, now_ms: u64, client: &Client, version: &str, news: bool) -> String {
        self.nonces += 1;
        let nonce = format!("{version}/{}", self.nonces);
        if let Some(stream) =
            self.gateways.get_mut(&client.id).and_then(|gateway| gateway.streams.get_mut(&client.stream))
        {
            let limit = &mut stream.limit;
            if !news {
                // A client that has it may ask as often as it likes.
            } else if limit.version == version
                && now_ms.saturating_sub(limit.window_start_ms) < SEND_WINDOW_MS
            {
                limit.sends += 1;
            } else {
                *limit = SendLimit { version: version.to_owned(), window_start_ms: now_ms, sends: 1 };
            }
            stream.sent = Some((version.to_owned(), nonce.clone()));
        }
        nonce
    }

    /// Drops a gateway; its counts stay in the totals. False = unknown.
    pub fn forget(&mut self, id: &str) -> bool {
        let Some(gateway) = self.gateways.remove(id) else { return false };
        merge_all(&mut self.retired, gateway.counters.into_totals());
        true
    }

    /// Drops what is gone or lost for long.
    pub fn prune(&mut self, now_ms: u64) {
        let over: Vec<String> = self
            .gateways
            .iter()
            .filter(|(_, gateway)| {
                gateway.gone_ms.is_some_and(|at| now_ms.saturating_sub(at) >= SHOW_GONE_MS)
                    || now_ms.saturating_sub(gateway.last_heard_ms) >= SHOW_LOST_MS
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.forget(&id);
        }
    }

    fn stream(&self, client: &Client) -> Option<&Stream> {
        self.gateways.get(&client.id)?.streams.get(&client.stream)
    }

    fn entry(&mut self, now_ms: u64, id: &str) -> Result<&mut Gateway, Full> {
        if !self.gateways.contains_key(id) && self.gateways.len() >= MAX_GATEWAYS {
            // The longest unheard of those that nobody waits for makes room.
            let oldest = self
                .gateways
                .iter()
                .filter(|(_, gateway)| !gateway.is_connected(now_ms))
                .min_by_key(|(_, gateway)| gateway.last_heard_ms)
                .map(|(id, _)| id.clone())
                .ok_or(Full)?;
            self.forget(&oldest);
        }
        let gateway = self.gateways.entry(id.to_owned());
        Ok(gateway.or_insert_with(|| Gateway {
            first_heard_ms: now_ms,
            last_heard_ms: now_ms,
            ..Gateway::default()
        }))
    }
}

impl Stream {
    /// Reads acknowledgement or refusal out of a request.
    fn judge(&mut self, request: &DiscoveryRequest) -> Option<Refusal> {
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
            *self = Self { limit: std::mem::take(&mut self.limit), ..Self::default() };
            return None;
        }
        let repeated = self.refused.as_deref() == Some(sent.as_str());
        self.refused = Some(sent.clone());
        let message = "it came back with its old version".to_owned();
        (!repeated).then_some(Refusal { version: sent, message })
    }
}

/// `metadata.weir.instance_id`, else `node.id` and the address it came from.
fn identify(peer: &str, request: &DiscoveryRequest) -> Client {
    let instance = request.node.metadata.weir.as_ref().map(|weir| weir.instance_id.as_str());
    let id = match instance {
        Some(id) if !id.is_empty() => clean(id),
        _ => clean(&format!("{}@{peer}", request.node.id)),
    };
    let mut digest = DefaultHasher::new();
    request.resource_names.hash(&mut digest);
    Client { id, stream: digest.finish(), first_goodbye: false }
}

/// Ids are shown and logged: no control characters, no end of line, a bounded length.
pub fn clean(id: &str) -> String {
    id.chars().filter(|c| !c.is_control() && !c.is_whitespace()).take(MAX_ID_CHARS).collect()
}

/// Whether two sets of weights give every target the same share, whatever their sums.
pub fn same_shares(a: &BTreeMap<String, u32>, b: &BTreeMap<String, u32>) -> bool {
    let sum = |weights: &BTreeMap<String, u32>| weights.values().map(|w| u128::from(*w)).sum::<u128>();
    let (sum_a, sum_b) = (sum(a), sum(b));
    if sum_a == 0 || sum_b == 0 {
        return false;
    }
    let of = |weights: &BTreeMap<String, u32>, target: &String| {
        weights.get(target).map_or(0, |weight| u128::from(*weight))
    };
    a.keys().chain(b.keys()).all(|target| of(a, target) * sum_b == of(b, target) * sum_a)
}

/// How a source is spelled on the wire and for people.
pub fn source_name(source: WeightSource) -> &'static str {
    match source {
        WeightSource::Tripwire => "tripwire",
        WeightSource::Override => "override",
        WeightSource::Control => "control",
        WeightSource::Saved => "saved",
        WeightSource::Runtime => "runtime",
        WeightSource::Stable => "stable",
        WeightSource::File => "file",
    }
}
