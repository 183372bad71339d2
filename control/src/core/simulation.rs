//! A fleet, crashes, lost answers, stale copies and full disks, all from one seed.
//!
//! Owns the promises of fencing as checks over random histories; `SEED=7` runs one of them again. Next: `item_simulation.rs`.

use super::change::{Author, Change, What};
use super::{Answer, Core, Now};
use crate::settings::{RouteSettings, Routes};
use crate::state::document::{Document, Weights};
use gateway_config::wire::{
    DiscoveryNode, DiscoveryRequest, ErrorDetail, GatewayStatus, NodeMetadata, RouteStatus, Version,
    WeightSource,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    let settings = RouteSettings {
        targets: vec!["v1".to_owned(), "v2".to_owned()],
        stable: "v1".to_owned(),
        weights: Some(split(100)),
    };
    BTreeMap::from([("svc1".to_owned(), settings)])
}

pub(super) fn split(canary: u32) -> Weights {
    BTreeMap::from([("v1".to_owned(), 10_000 - canary), ("v2".to_owned(), canary)])
}

/// A gateway as the wire describes it.
#[derive(Clone, Default)]
pub(super) struct Gateway {
    pub(super) version: String,
    pub(super) nonce: String,
    pub(super) refused: Option<String>,
    pub(super) weights: Weights,
}

/// One control process with its disk.
struct Control {
    core: Core,
    disk: Option<Document>,
}

struct World {
    rng: StdRng,
    now: Now,
    gateways: Vec<Gateway>,
    controls: Vec<Control>,
    next_id: u32,
    /// Every content that was ever published, by version.
    published: BTreeMap<String, Weights>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            now: Now::default(),
            gateways: vec![Gateway { weights: split(0), ..Gateway::default() }; 3],
            controls: Vec::new(),
            next_id: 0,
            published: BTreeMap::new(),
        };
        let first = world.start(None);
        world.controls.push(first);
        world
    }

    fn start(&mut self, disk: Option<Document>) -> Control {
        self.next_id += 1;
        let core = Core::start(routes(), disk.clone(), &format!("c{}", self.next_id), self.now);
        let mut control = Control { core, disk };
        if control.core.is_established() {
            let document = Arc::clone(control.core.document());
            control.disk = Some(Document::clone(&document));
            control.core.note_saved(&document);
        }
        control
    }

    fn pick(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    fn step(&mut self) {
        self.now.mono_ms += self.rng.random_range(1..2_000_u64);
        let control = self.pick(self.controls.len());
        match self.rng.random_range(0..100_u32) {
            0..60 => self.ask(control),
            60..75 => self.change(control),
            75..85 => self.adopt_if_due(control),
            85..92 => self.crash(control),
            92..96 => self.copy(control),
            _ => self.lose_disk(control),
        }
        self.check();
    }

    fn ask(&mut self, control: usize) {
        let index = self.pick(self.gateways.len());
        let lost = self.rng.random_bool(0.2);
        let gateway = self.gateways[index].clone();
        let request = request(index, &gateway);
        let core = &mut self.controls[control].core;
        let (client, _) = core.hear(self.now, "10.0.0.1", &request).unwrap();
        if core.answer(self.now, &client, &request) != Answer::Send {
            return;
        }
        let (version, nonce) = core.note_sent(self.now, &client, true);
        let weights = core.weights("svc1").unwrap().clone();
        if let Some(before) = self.published.insert(version.clone(), weights.clone()) {
            assert_eq!(before, weights, "{version} was published with two contents");
        }
        if !lost {
            self.gateways[index].receive(&version, nonce, weights);
        }
    }

    fn change(&mut self, control: usize) {
        let what = match self.rng.random_range(0..3_u32) {
            0 => What::Rollback("svc1".to_owned()),
            _ => {
                let canary = self.rng.random_range(0..=10_000);
                What::Set { routes: BTreeMap::from([("svc1".to_owned(), split(canary))]), force: false }
            }
        };
        self.apply(control, what);
    }

    fn adopt_if_due(&mut self, control: usize) {
        if let Some(change) = self.controls[control].core.due_adoption(self.now) {
            self.apply(control, change.what);
        }
    }

    /// Plans, writes (the disk may be full), crashes in between, commits.
    fn apply(&mut self, control: usize, what: What) {
        let author = Author { actor: "test".to_owned(), token: None };
        let change = Change { what, author, reason: String::new() };
        let Ok(planned) = self.controls[control].core.plan(self.now, &change) else { return };
        let disk_full = self.rng.random_bool(0.1);
        if disk_full && !planned.only_lowers {
            return;
        }
        if !disk_full {
            self.controls[control].disk = Some(Document::clone(&planned.document));
        }
        if self.rng.random_bool(0.1) {
            self.crash(control);
            return;
        }
        let before = self.controls[control].core.document().control.clone();
        let core = &mut self.controls[control].core;
        core.commit(&planned, !disk_full);
        let after = core.document().control.clone();
        assert!((after.epoch, after.seq) > (before.epoch, before.seq), "versions only rise");
    }

    fn crash(&mut self, control: usize) {
        let disk = self.controls[control].disk.clone();
        self.controls[control] = self.start(disk);
    }

    fn copy(&mut self, control: usize) {
        let disk = self.controls[control].disk.clone();
        let twin = self.start(disk);
        if self.controls.len() < 3 {
            self.controls.push(twin);
        }
    }

    fn lose_disk(&mut self, control: usize) {
        self.controls[control] = self.start(None);
    }

    /// A gateway serves what the version that it names was published with, and nothing else.
    fn check(&self) {
        for gateway in &self.gateways {
            if let Some(published) = self.published.get(&gateway.version) {
                assert_eq!(published, &gateway.weights, "{}", gateway.version);
            }
        }
        for control in &self.controls {
            let standing = control.core.standing(self.now, &["svc1".to_owned()]);
            let Some(wanted) = control.core.weights("svc1") else { continue };
            for id in &standing.awaited {
                if standing.missing.iter().any(|(missing, _)| missing == id) {
                    continue;
                }
                // What control believes is what it last heard from the gateway, never what it hoped for.
                let heard = control.core.fleet().get(id).and_then(|gateway| gateway.route("svc1")).unwrap();
                assert_eq!(&heard.weights, wanted, "acknowledged only by effect");
            }
        }
    }
}

impl Gateway {
    pub(super) fn receive(&mut self, version: &str, nonce: String, weights: Weights) {
        self.nonce = nonce;
        let next = Version::parse(version).unwrap();
        if let Some(now) = Version::parse(&self.version)
            && !now.may_become(&next)
        {
            self.refused = Some(format!("{next} after {now}"));
            return;
        }
        let now = Version::parse(&self.version);
        if let Some(now) = now.filter(|now| now.epoch == next.epoch) {
            assert!(next.seq > now.seq || *version == self.version, "{version} after {now}");
        }
        self.refused = None;
        version.clone_into(&mut self.version);
        self.weights = weights;
    }
}

pub(super) fn request(index: usize, gateway: &Gateway) -> DiscoveryRequest {
    let source = if gateway.version.is_empty() { WeightSource::File } else { WeightSource::Control };
    let route = RouteStatus {
        weights: gateway.weights.clone(),
        stable: "v1".to_owned(),
        source,
        version: gateway.version.clone(),
        ..RouteStatus::default()
    };
    let status = GatewayStatus {
        instance_id: format!("g{index}"),
        boot_id: "b".to_owned(),
        state: "LIVE".to_owned(),
        routes: BTreeMap::from([("svc1".to_owned(), route)]),
        ..GatewayStatus::default()
    };
    DiscoveryRequest {
        version_info: gateway.version.clone(),
        response_nonce: gateway.nonce.clone(),
        error_detail: gateway.refused.clone().map(|message| ErrorDetail { code: 3, message }),
        node: DiscoveryNode {
            metadata: NodeMetadata { hold: false, weir: Some(status) },
            ..DiscoveryNode::default()
        },
        ..DiscoveryRequest::default()
    }
}

#[test]
fn no_history_breaks_the_promises_of_fencing() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..300).collect(),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
            world.published.len()
        });
        assert!(run.is_ok(), "run again with SEED={seed}");
    }
}

#[test]
fn the_simulation_reaches_changes_fences_and_refusals() {
    let (mut published, mut fenced) = (0, 0);
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
            fenced += usize::from(world.controls.iter().any(|control| control.core.fence().is_some()));
        }
        published += world.published.len();
    }
    assert!(published > 500, "{published} versions");
    assert!(fenced > 500, "{fenced} steps with a fenced control");
}

/// The traffic never goes back to what an old copy of the state says: a control that is behind is fenced by the first
/// request of a gateway that is ahead, before it answers.
#[test]
fn a_stale_copy_never_moves_a_gateway_that_is_ahead_of_it() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        let begin = |world: &mut World| {
            for _ in 0..10 {
                world.now.mono_ms += 2_000;
                for _ in 0..5 {
                    world.ask(0);
                }
                world.adopt_if_due(0);
            }
        };
        begin(&mut world);
        let copy = world.controls[0].disk.clone();
        let mut ahead = 0;
        for _ in 0..50 {
            world.change(0);
            world.ask(0);
        }
        let stale = world.start(copy);
        world.controls.push(stale);
        for index in 0..world.gateways.len() {
            let gateway = world.gateways[index].clone();
            let request = request(index, &gateway);
            let core = &mut world.controls[1].core;
            let base = core.document().lineage.last().map(|start| start.seq).unwrap_or_default();
            let seq = Version::parse(&gateway.version).map_or(0, |version| version.seq);
            let (client, _) = core.hear(world.now, "10.0.0.1", &request).unwrap();
            if seq > base {
                ahead += 1;
                assert!(
                    matches!(core.answer(world.now, &client, &request), Answer::Fenced(_)),
                    "seed {seed}"
                );
            }
        }
        assert!(ahead > 0, "seed {seed}: nothing was ahead, so nothing was tested");
    }
}

proptest! {
    #[test]
    fn a_change_that_only_lowers_is_told_apart(before in 0_u32..=10_000, after in 0_u32..=10_000) {
        let document = {
            let mut core = Core::start(routes(), None, "x", Now::default());
            let set = |canary| What::Set {
                routes: BTreeMap::from([("svc1".to_owned(), split(canary))]),
                force: false,
            };
            let change = |what| Change { what, author: Author::default(), reason: String::new() };
            let planned = core.plan(Now::default(), &change(set(before))).unwrap();
            core.commit(&planned, true);
            core.plan(Now::default(), &change(set(after))).unwrap()
        };
        prop_assert_eq!(document.only_lowers, after <= before);
    }

    #[test]
    fn any_shares_are_equal_to_their_multiples_only(a in 0_u32..1_000, b in 1_u32..1_000, factor in 1_u32..1_000) {
        let weights = |a: u32, b: u32| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        prop_assert!(super::fleet::same_shares(&weights(a, b), &weights(a * factor, b * factor)));
        prop_assert!(!super::fleet::same_shares(&weights(a, b), &weights(a + 1, b)));
    }
}
