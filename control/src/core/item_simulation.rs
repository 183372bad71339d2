//! Controls that share one item: writes that are lost, land unseen or land late; deployments with two of them; an
//! item that cannot be read for a while. All from one seed.
//!
//! Owns the promises of docs/decisions/0014-state-in-dynamodb.md as checks over random histories; `SEED=7` runs one of
//! them again. What `shared/saving.rs` and `begin.rs` do around the core is done here without waiting.

use super::change::{Author, Change, ChangeError, Planned, What};
use super::simulation::{Gateway, request, routes, split};
use super::{Answer, Core, Now};
use crate::state::document::{ChangeKind, Document, Weights};
use crate::state::revision::{Conflict, Known, judge};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Item {
    revision: u64,
    document: Document,
}

/// One table, and the network before it.
#[derive(Default)]
struct Table {
    item: Option<Item>,
    /// Sent by somebody who does not wait any more, dead or alive.
    late: Vec<(Option<u64>, Document)>,
    down: bool,
    /// Everything that was ever in the item.
    landed: BTreeSet<(String, u32)>,
}

/// No answer, whatever happened.
struct Lost;

enum Put {
    Done(u64),
    Conflict(Option<Box<Item>>),
    Lost,
}

impl Table {
    fn get(&self, rng: &mut StdRng) -> Result<Option<Item>, Lost> {
        if self.down || rng.random_bool(0.1) { Err(Lost) } else { Ok(self.item.clone()) }
    }

    fn put(&mut self, rng: &mut StdRng, expected: Option<u64>, document: &Document) -> Put {
        if self.down {
            return Put::Lost;
        }
        match rng.random_range(0..100_u32) {
            0..6 => Put::Lost,
            6..12 => {
                self.land(expected, document);
                Put::Lost
            }
            12..18 => {
                self.late.push((expected, document.clone()));
                Put::Lost
            }
            _ => match self.land(expected, document) {
                Some(revision) => Put::Done(revision),
                None => Put::Conflict(self.item.clone().map(Box::new)),
            },
        }
    }

    /// The condition is the table's, so it holds whoever writes and whenever.
    fn land(&mut self, expected: Option<u64>, document: &Document) -> Option<u64> {
        if self.item.as_ref().map(|item| item.revision) != expected {
            return None;
        }
        if let Some(before) = &self.item {
            let (old, new) = (&before.document.control, &document.control);
            assert!(new.epoch >= old.epoch, "{new:?} over {old:?}");
            assert!(
                new.id == old.id || new.epoch > old.epoch,
                "another control writes above: {new:?} over {old:?}"
            );
        }
        let revision = expected.unwrap_or_default() + 1;
        let canary = document.routes.get("svc1").and_then(|record| record.weights.get("v2"));
        self.landed.insert((document.control.version().to_string(), canary.copied().unwrap_or_default()));
        self.item = Some(Item { revision, document: document.clone() });
        Some(revision)
    }

    fn land_late(&mut self, rng: &mut StdRng) {
        if !self.late.is_empty() && !self.down {
            let (expected, document) = self.late.swap_remove(rng.random_range(0..self.late.len()));
            self.land(expected, &document);
        }
    }
}

struct Control {
    core: Core,
    known: Known,
}

enum Refused {
    Unread,
    Lost,
    Overtaken(Box<Item>),
}

struct World {
    rng: StdRng,
    now: Now,
    table: Table,
    gateways: Vec<Gateway>,
    controls: Vec<Control>,
    next_id: u32,
    published: BTreeMap<String, Weights>,
    seen: Seen,
}

/// What happened, so that a simulation in which nothing does is noticed.
#[derive(Default)]
struct Seen {
    own_conflicts: usize,
    fenced_by_item: usize,
    joined_silent: usize,
    joined_speaking: usize,
    unsaved: usize,
    taken_over: usize,
    later_in_the_item: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            now: Now::default(),
            table: Table::default(),
            gateways: vec![Gateway { weights: split(0), ..Gateway::default() }; 3],
            controls: Vec::new(),
            next_id: 0,
            published: BTreeMap::new(),
            seen: Seen::default(),
        };
        let first = world.start();
        world.controls.push(first);
        world
    }

    fn step(&mut self) {
        self.now.mono_ms += self.rng.random_range(1..2_000_u64);
        let control = self.rng.random_range(0..self.controls.len());
        match self.rng.random_range(0..100_u32) {
            0..50 => self.ask(control),
            50..62 => self.change(control),
            62..70 => self.adopt_if_due(control),
            70..80 => self.save_again(control),
            80..84 => self.look(control),
            84..88 => self.table.land_late(&mut self.rng),
            88..92 => self.table.down = !self.table.down && self.rng.random_bool(0.5),
            92..94 => self.controls[control] = self.start(),
            94..97 => self.deploy(),
            97..98 => self.adopt(control),
            _ => self.stop_the_older(),
        }
    }

    /// `begin::from_item`.
    fn start(&mut self) -> Control {
        self.next_id += 1;
        let id = format!("c{}", self.next_id);
        for _ in 0..8 {
            let Ok(found) = self.table.get(&mut self.rng) else { break };
            let known = Known::read(found.as_ref().map(|item| item.revision));
            let core = Core::start(routes(), found.map(|item| item.document), &id, self.now);
            let mut control = Control { core, known };
            if !control.core.is_established() {
                return control;
            }
            let document = Arc::clone(control.core.document());
            match self.write(&mut control, &document) {
                Ok(()) => control.core.note_saved(&document),
                Err(Refused::Overtaken(_)) => continue,
                Err(_) => {}
            }
            return control;
        }
        let mut core = Core::start(routes(), None, &id, self.now);
        core.note_unread("down".to_owned());
        Control { core, known: Known::Unread }
    }

    /// `ItemStore::write`.
    fn write(&mut self, control: &mut Control, document: &Document) -> Result<(), Refused> {
        for _ in 0..4 {
            let Some(expected) = control.known.expected() else { return Err(Refused::Unread) };
            match self.table.put(&mut self.rng, expected, document) {
                Put::Done(revision) => {
                    control.known = Known::At(revision);
                    return Ok(());
                }
                Put::Lost => return Err(Refused::Lost),
                Put::Conflict(found) => {
                    let there = found.as_ref().map(|item| (item.revision, &item.document.control));
                    match (judge(there, &control.core.document().control.id), found) {
                        (Conflict::Own(known), _) => {
                            self.seen.own_conflicts += 1;
                            control.known = known;
                        }
                        (Conflict::Foreign, Some(item)) => return Err(Refused::Overtaken(item)),
                        (Conflict::Foreign, None) => unreachable!("nobody wrote nothing"),
                    }
                }
            }
        }
        Err(Refused::Lost)
    }

    fn with<T>(&mut self, index: usize, action: impl FnOnce(&mut Self, &mut Control) -> T) -> T {
        // Taken out, so that the world can be used beside it.
        let mut control = self.controls.swap_remove(index);
        let result = action(self, &mut control);
        self.controls.push(control);
        let last = self.controls.len() - 1;
        self.controls.swap(index, last);
        result
    }

    fn ask(&mut self, index: usize) {
        let number = self.rng.random_range(0..self.gateways.len());
        let lost = self.rng.random_bool(0.2);
        let request = request(number, &self.gateways[number]);
        let now = self.now;
        let core = &mut self.controls[index].core;
        let (client, _) = core.hear(now, "10.0.0.1", &request).unwrap();
        if core.answer(now, &client, &request) != Answer::Send {
            return;
        }
        let (version, nonce) = core.note_sent(now, &client, true);
        let weights = core.weights("svc1").unwrap().clone();
        let canary = weights["v2"];
        if core.is_saved() {
            assert!(
                self.table.landed.contains(&(version.clone(), canary)),
                "{version} was said to be written and was not"
            );
        }
        // A gateway may have begun from the item under this version.
        let (low, high) = ((version.clone(), 0), (version.clone(), u32::MAX));
        for (_, landed) in self.table.landed.range(low..=high) {
            assert_eq!(*landed, canary, "{version} was in the item with another content");
        }
        if let Some(before) = self.published.insert(version.clone(), weights.clone()) {
            assert_eq!(before, weights, "{version} was published with two contents");
        }
        if !lost {
            self.gateways[number].receive(&version, nonce, weights);
        }
    }

    fn change(&mut self, index: usize) {
        let what = match self.rng.random_range(0..3_u32) {
            0 => What::Rollback("svc1".to_owned()),
            _ => {
                let canary = self.rng.random_range(0..=10_000);
                What::Set { routes: BTreeMap::from([("svc1".to_owned(), split(canary))]), force: false }
            }
        };
        self.make(index, what);
    }

    fn adopt_if_due(&mut self, index: usize) {
        if let Some(change) = self.controls[index].core.due_adoption(self.now) {
            self.make(index, change.what);
        }
    }

    fn adopt(&mut self, index: usize) {
        let Ok(weights) = self.controls[index].core.adoptable(self.now, Some("g0")) else { return };
        let Ok(found) = self.table.get(&mut self.rng) else { return };
        self.with(index, |world, control| {
            control.known = Known::read(found.as_ref().map(|item| item.revision));
            if let Some(found) = found {
                control.core.note_epoch(found.document.control.epoch);
                control.core.learn_history(found.document);
            }
            if world.attempt(control, What::Adopt(weights)).is_ok() {
                world.seen.taken_over += 1;
            } else {
                control.known = Known::Unread;
            }
        });
    }

    /// `Shared::make`.
    fn make(&mut self, index: usize, what: What) {
        self.with(index, |world, control| {
            let change = world.wish(what.clone());
            let Ok(planned) = control.core.plan(world.now, &change) else { return };
            if control.known == Known::Unread && !planned.only_lowers {
                world.join(control);
            }
            if let Err(Some(item)) = world.attempt(control, what.clone()) {
                if !control.core.has_spoken() {
                    control.known = Known::Unread;
                    world.join(control);
                    if let Err(Some(item)) = world.attempt(control, what) {
                        world.fence(control, &item);
                    }
                } else {
                    world.fence(control, &item);
                }
            }
        });
    }

    fn wish(&self, what: What) -> Change {
        Change { what, author: Author::default(), reason: String::new() }
    }

    /// The item when another control has written it.
    fn attempt(&mut self, control: &mut Control, what: What) -> Result<(), Option<Box<Item>>> {
        let change = self.wish(what);
        let planned: Planned = match control.core.plan(self.now, &change) {
            Ok(planned) => planned,
            Err(ChangeError::Broken) => unreachable!("nothing breaks here"),
            Err(_) => return Err(None),
        };
        let saved = match self.write(control, &planned.document) {
            Ok(()) => true,
            Err(Refused::Overtaken(item)) => return Err(Some(item)),
            Err(_) if planned.only_lowers => false,
            Err(Refused::Lost) => {
                control.core.note_unsaved(&planned.document);
                return Err(None);
            }
            Err(Refused::Unread) => return Err(None),
        };
        self.seen.unsaved += usize::from(!saved);
        control.core.commit(&planned, saved);
        Ok(())
    }

    fn fence(&mut self, control: &mut Control, item: &Item) {
        let news = control.core.fence_by_state("the item", Some(item.document.control.version()));
        self.seen.fenced_by_item += usize::from(news);
    }

    /// `Shared::join`.
    fn join(&mut self, control: &mut Control) {
        if control.known != Known::Unread || control.core.fence().is_some() {
            return;
        }
        let Ok(found) = self.table.get(&mut self.rng) else { return };
        control.known = Known::read(found.as_ref().map(|item| item.revision));
        let spoke = control.core.has_spoken();
        let before = control.core.weights("svc1").cloned();
        let there = found.as_ref().and_then(|found| found.document.routes.get("svc1")).cloned();
        let mine = control.core.document().routes.get("svc1").into_iter().flat_map(|record| &record.history);
        let changed_here = mine.into_iter().any(|entry| entry.kind != ChangeKind::Adopt);
        let planned = found.and_then(|found| {
            control.core.note_epoch(found.document.control.epoch);
            control.core.plan_join(self.now, found.document)
        });
        let Some(planned) = planned else {
            control.core.note_no_state();
            return;
        };
        if let Err(refused) = self.write(control, &planned.document) {
            control.known = Known::Unread;
            if matches!(refused, Refused::Lost) {
                control.core.note_unsaved(&planned.document);
            }
            return;
        }
        control.core.commit(&planned, true);
        if spoke {
            self.seen.joined_speaking += 1;
            let after = control.core.weights("svc1").cloned();
            let later = !changed_here && there.is_some_and(|there| after.as_ref() == Some(&there.weights));
            assert!(after == before || later, "what was said stays, unless the item is later: {after:?}");
            self.seen.later_in_the_item += usize::from(after != before);
        } else {
            self.seen.joined_silent += 1;
        }
    }

    fn save_again(&mut self, index: usize) {
        self.with(index, |world, control| {
            world.join(control);
            let may = control.core.fence().is_none() && control.known != Known::Unread;
            if !may || !control.core.is_established() || control.core.is_saved() {
                return;
            }
            let document = Arc::clone(control.core.document());
            match world.write(control, &document) {
                Ok(()) => control.core.note_saved(&document),
                Err(Refused::Overtaken(_)) if !control.core.has_spoken() => {
                    control.known = Known::Unread;
                    world.join(control);
                }
                Err(Refused::Overtaken(item)) => world.fence(control, &item),
                Err(_) => {}
            }
        });
    }

    /// `ItemStore::overtaken`.
    fn look(&mut self, index: usize) {
        let Ok(Some(item)) = self.table.get(&mut self.rng) else { return };
        self.with(index, |world, control| {
            let Known::At(known) = control.known else { return };
            if item.revision > known && item.document.control.id != control.core.document().control.id {
                world.fence(control, &item);
            }
        });
    }

    fn deploy(&mut self) {
        if self.controls.len() < 2 {
            let second = self.start();
            self.controls.push(second);
        }
    }

    fn stop_the_older(&mut self) {
        if self.controls.len() > 1 {
            self.controls.remove(0);
        }
    }

    /// No more faults: whoever may lead does.
    fn settle(&mut self) {
        self.table.down = false;
        for _ in 0..60 {
            self.now.mono_ms += 500;
            for index in 0..self.controls.len() {
                self.ask(index);
                self.save_again(index);
                self.adopt_if_due(index);
                self.look(index);
            }
        }
        let leads = |control: &&Control| {
            control.core.fence().is_none() && control.core.is_established() && control.core.is_saved()
        };
        let leaders: Vec<&Control> = self.controls.iter().filter(leads).collect();
        assert!(leaders.len() <= 1, "two controls lead one item");
        let (Some(leader), Some(item)) = (leaders.first(), &self.table.item) else { return };
        assert_eq!(item.document.control, leader.core.document().control, "the leader's word is in the item");
    }
}

#[test]
fn no_history_of_one_item_breaks_the_promises_of_fencing() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..150).collect(),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..300 {
                world.step();
            }
            world.settle();
        });
        assert!(run.is_ok(), "run again with SEED={seed}");
    }
}

#[test]
fn the_simulation_of_the_item_reaches_what_it_is_about() {
    let (mut all, mut published) = (Seen::default(), 0);
    for seed in 0..40 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        let seen = &world.seen;
        all.own_conflicts += seen.own_conflicts;
        all.fenced_by_item += seen.fenced_by_item;
        all.joined_silent += seen.joined_silent;
        all.joined_speaking += seen.joined_speaking;
        all.unsaved += seen.unsaved;
        all.taken_over += seen.taken_over;
        all.later_in_the_item += seen.later_in_the_item;
        published += world.published.len();
    }
    for (name, number) in [
        ("own lost writes", all.own_conflicts),
        ("fences by the item", all.fenced_by_item),
        ("states read late before a word", all.joined_silent),
        ("states read late after words", all.joined_speaking),
        ("unsaved changes", all.unsaved),
        ("leads taken", all.taken_over),
        ("versions", published),
    ] {
        assert!(number > 5, "{name}: {number}");
    }
    assert!(all.later_in_the_item > 0, "no item was later than what the gateways had");
}
