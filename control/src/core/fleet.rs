//! The gateways: who was heard when, what each serves, what each was sent.
//!
//! Owns the list of gateways and its bounds; it must never decide weights. Time comes in as an argument.
//! Next: `gateway.rs`, then `adoption.rs`.

use super::counters::{Counters, Key, Totals, merge_all};
pub use super::gateway::{Gateway, Refusal, clean};
use super::gateway::{SendLimit, Stream};
use crate::settings::Routes;
use gateway_config::wire::{DiscoveryRequest, Report, WeightSource};
use std::collections::{BTreeMap, VecDeque};
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
/// Forgotten gateways whose counts are kept apart, so that one that comes back goes on counting where it was.
const MAX_PARKED: usize = 64;
/// Streams per client: one per set of resource names that it asks for.
const MAX_STREAMS: usize = 64;
/// One version is sent so often to one stream within [`SEND_WINDOW_MS`].
const MAX_SENDS: u32 = 2;
/// The window of [`MAX_SENDS`].
const SEND_WINDOW_MS: u64 = 5_000;

/// What a discovery request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Weights.
    Routes,
    /// Where the gateway listens, and how it routes.
    Listeners,
    /// Where it sends requests to.
    Clusters,
}

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

/// All gateways.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    gateways: BTreeMap<String, Gateway>,
    retired: BTreeMap<Key, Totals>,
    // The oldest first.
    parked: VecDeque<(String, Counters)>,
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

    /// The counters of all gateways, forgotten ones too.
    pub fn counters(&self) -> impl Iterator<Item = &Counters> {
        let parked = self.parked.iter().map(|(_, counters)| counters);
        self.gateways.values().map(|gateway| &gateway.counters).chain(parked)
    }

    /// What gateways had counted that were forgotten long ago.
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
        routes: &Routes,
    ) -> Result<(Client, Option<Refusal>), Full> {
        let mut client = identify(peer, request, Subject::Routes);
        let gateway = self.entry(now_ms, &client.id)?;
        let was_gone = gateway.gone_ms.is_some();
        let asked = request.resource_names.iter().filter(|name| routes.contains_key(*name));
        gateway.last_heard_ms = now_ms;
        gateway.asks_all = request.resource_names.is_empty() && request.node.metadata.weir.is_none();
        if let Some(status) = &request.node.metadata.weir {
            begin_anew(gateway, &status.boot_id);
            gateway.asks = if request.resource_names.is_empty() {
                status.routes.keys().filter(|name| routes.contains_key(*name)).cloned().collect()
            } else {
                asked.cloned().collect()
            };
            gateway.take_status(status, routes);
            client.first_goodbye = status.goodbye && !was_gone;
        } else {
            gateway.gone_ms = None;
            gateway.asks.extend(asked.cloned());
        }
        gateway.version = clean(&request.version_info);
        let refusal = stream_of(gateway, &client, Subject::Routes).judge(request);
        match &refusal {
            Some(refusal) => gateway.refused = Some(refusal.clone()),
            None if !gateway.refuses(|subject| subject == Subject::Routes) => gateway.refused = None,
            None => {}
        }
        Ok((client, refusal))
    }

    /// Notes a request for listeners or clusters of a Weir gateway, heard at a time from a peer.
    pub fn hear_config(
        &mut self,
        (now_ms, peer): (u64, &str),
        request: &DiscoveryRequest,
        subject: Subject,
        routes: &Routes,
    ) -> Result<(Client, Option<Refusal>), Full> {
        let mut client = identify(peer, request, subject);
        let gateway = self.entry(now_ms, &client.id)?;
        let was_gone = gateway.gone_ms.is_some();
        gateway.last_heard_ms = now_ms;
        if let Some(status) = &request.node.metadata.weir {
            begin_anew(gateway, &status.boot_id);
            gateway.take_status(status, routes);
            client.first_goodbye = status.goodbye && !was_gone;
        }
        if gateway.config_version.is_empty() {
            gateway.config_version = clean(&request.version_info);
        }
        let refusal = stream_of(gateway, &client, subject).judge(request);
        match &refusal {
            Some(refusal) => gateway.config_refused = Some(refusal.clone()),
            None if !gateway.refuses(|subject| subject != Subject::Routes) => gateway.config_refused = None,
            None => {}
        }
        Ok((client, refusal))
    }

    /// Notes a report. False = it was overtaken by a newer one.
    pub fn report(&mut self, now_ms: u64, id: &str, report: &Report, routes: &Routes) -> Result<bool, Full> {
        let gateway = self.entry(now_ms, id)?;
        gateway.last_heard_ms = now_ms;
        let managed = |route: &str, target: &str| {
            routes.get(route).is_some_and(|route| route.targets.iter().any(|known| known == target))
        };
        if !gateway.counters.take(report, managed) {
            return Ok(false);
        }
        gateway.reported_ms = Some(now_ms);
        if !report.status.boot_id.is_empty() {
            if gateway.asks.is_empty() {
                let told = report.status.routes.keys();
                gateway.asks = told.filter(|route| routes.contains_key(*route)).cloned().collect();
            }
            gateway.take_status(&report.status, routes);
        }
        Ok(true)
    }

    /// When a client that was sent `version` too often may have it again; none = now.
    pub fn send_again_ms(&self, now_ms: u64, client: &Client, version: &str) -> Option<u64> {
        let limit = &self.stream(client)?.limit;
        let again = limit.window_start_ms.saturating_add(SEND_WINDOW_MS);
        (limit.version == version && limit.sends >= MAX_SENDS && now_ms < again).then_some(again)
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
        self.parked.push_back((id.to_owned(), gateway.counters));
        if self.parked.len() > MAX_PARKED
            && let Some((_, counters)) = self.parked.pop_front()
        {
            merge_all(&mut self.retired, counters.into_totals());
        }
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
        let parked = &mut self.parked;
        Ok(self.gateways.entry(id.to_owned()).or_insert_with(|| {
            let at = parked.iter().position(|(known, _)| known == id);
            let counters = at.and_then(|at| parked.remove(at)).map(|(_, counters)| counters);
            Gateway {
                first_heard_ms: now_ms,
                last_heard_ms: now_ms,
                counters: counters.unwrap_or_default(),
                ..Gateway::default()
            }
        }))
    }
}

/// Another process under the same id knows nothing of what the earlier one was sent.
fn begin_anew(gateway: &mut Gateway, boot_id: &str) {
    if gateway.status.as_ref().is_some_and(|old| old.boot_id != clean(boot_id)) {
        gateway.streams.clear();
        gateway.refused = None;
        gateway.config_refused = None;
    }
}

fn stream_of<'a>(gateway: &'a mut Gateway, client: &Client, subject: Subject) -> &'a mut Stream {
    if !gateway.streams.contains_key(&client.stream) && gateway.streams.len() >= MAX_STREAMS {
        gateway.streams.clear();
    }
    gateway.streams.entry(client.stream).or_insert_with(|| Stream::about(subject))
}

/// `metadata.weir.instance_id`, else `node.id` and the address it came from.
fn identify(peer: &str, request: &DiscoveryRequest, subject: Subject) -> Client {
    let instance = request.node.metadata.weir.as_ref().map(|weir| weir.instance_id.as_str());
    let id = match instance {
        Some(id) if !id.is_empty() => clean(id),
        _ => clean(&format!("{}@{peer}", request.node.id)),
    };
    let mut digest = DefaultHasher::new();
    subject.hash(&mut digest);
    request.resource_names.hash(&mut digest);
    Client { id, stream: digest.finish(), first_goodbye: false }
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
