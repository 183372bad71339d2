//! The sync core against a simulated App Mesh: other writers, throttling, lost answers, updates that arrive late.
//!
//! Time is a number here, so an hour takes a millisecond, and a seed names a whole history: a failing seed fails
//! again. The properties: only the newest weights are ever asked for; what another writer loses is never silent;
//! when the faults end the route is in sync (or, under `pause`, the drift is shown and left alone).

use super::decide::{Action, BACKOFF_CAP, Core, Failure, Moment, POLL, Seen};
use super::{NodeWeights, SyncState, Wanted};
use gateway_config::control_config::OnDrift;
use gateway_config::wire::FULL_WEIGHT;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const TARGETS: [&str; 3] = ["v1", "v2", "v3"];
const SEEDS: u64 = 200;

/// The route in App Mesh; `other` stands for every field that is not a weight.
#[derive(Clone, Debug, PartialEq)]
struct Route {
    version: i64,
    uid: String,
    weights: NodeWeights,
    other: u64,
}

#[derive(Clone, Debug)]
enum Event {
    /// An operator changes the weights in control.
    Own(Vec<(String, u32)>),
    /// Somebody changes the route's weights in App Mesh.
    ForeignWeights(NodeWeights),
    /// Somebody changes another field.
    ForeignOther,
    /// Somebody deletes the route and makes it anew.
    MadeAnew,
    /// An update of ours, whose answer was given up long ago, is carried out.
    Late(NodeWeights, u64),
}

/// Chances in percent while the faults last.
#[derive(Clone, Copy, Default)]
struct Faults {
    until: Duration,
    refused: u32,
    answer_lost: u32,
    carried_out_late: u32,
    /// Somebody writes between a describe of ours and its update.
    raced: u32,
}

struct World {
    rng: SmallRng,
    now: Duration,
    events: Vec<(Duration, Event)>,
    route: Route,
    wanted: Wanted,
    faults: Faults,
    core: Core,
    /// Every call, by when it began.
    calls: Vec<Duration>,
    updates: Vec<(Duration, NodeWeights)>,
    own_changes: u32,
    answers_lost: u32,
    /// An update undid a change of another writer, and its answer arrived.
    overwritten: u32,
}

fn node(target: &str) -> String {
    format!("{target}-node")
}

fn whole(percents: &[i32]) -> NodeWeights {
    TARGETS.iter().zip(percents).map(|(target, percent)| (node(target), *percent)).collect()
}

fn hundredths(weights: [u32; 3]) -> Vec<(String, u32)> {
    TARGETS.iter().zip(weights).map(|(target, weight)| ((*target).to_owned(), weight)).collect()
}

fn random_hundredths(rng: &mut SmallRng) -> Vec<(String, u32)> {
    let first = rng.random_range(0..=FULL_WEIGHT);
    let second = rng.random_range(0..=FULL_WEIGHT - first);
    // Whole percents and zeros are what people use; all else must work too.
    let second = if rng.random_range(0..2) == 0 { 0 } else { second };
    hundredths([first, second, FULL_WEIGHT - first - second])
}

fn random_percents(rng: &mut SmallRng) -> NodeWeights {
    let first = rng.random_range(0..=100);
    whole(&[first, 100 - first, 0])
}

impl World {
    fn new(seed: u64, on_drift: OnDrift) -> Self {
        let targets: BTreeMap<_, _> =
            TARGETS.iter().map(|target| ((*target).to_owned(), node(target))).collect();
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now: Duration::ZERO,
            events: Vec::new(),
            route: Route { version: 1, uid: "first".to_owned(), weights: whole(&[100, 0, 0]), other: 0 },
            wanted: Err("not known yet".to_owned()),
            faults: Faults::default(),
            core: Core::new(targets, on_drift, SmallRng::seed_from_u64(seed ^ 0xABCD)),
            calls: Vec::new(),
            updates: Vec::new(),
            own_changes: 0,
            answers_lost: 0,
            overwritten: 0,
        }
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.events.push((time, event));
        self.events.sort_by_key(|(time, _)| *time);
    }

    fn state(&self) -> SyncState {
        self.core.status().state
    }

    fn moment(&self) -> Moment {
        Moment { since_start: self.now, unix_ms: u64::try_from(self.now.as_millis()).unwrap() }
    }

    fn random_time(&mut self, until: Duration) -> Duration {
        Duration::from_millis(self.rng.random_range(0..u64::try_from(until.as_millis()).unwrap()))
    }

    fn write(&mut self, weights: NodeWeights, other: u64) {
        self.route.version += 1;
        self.route.weights.extend(weights);
        self.route.other = other;
    }

    fn happen(&mut self, event: Event) {
        let other = self.route.other;
        match event {
            Event::Own(weights) => {
                self.wanted = Ok(weights);
                self.own_changes += 1;
            }
            Event::ForeignWeights(weights) => self.write(weights, other),
            Event::ForeignOther => self.write(NodeWeights::new(), other + 1),
            Event::Late(weights, other) => self.write(weights, other),
            Event::MadeAnew => {
                self.route.version = 1;
                self.route.uid = format!("made at {:?}", self.now);
            }
        }
    }

    /// Lets the world go on until `time`.
    fn pass(&mut self, time: Duration) {
        while self.events.first().is_some_and(|(due, _)| *due <= time) {
            let (due, event) = self.events.remove(0);
            self.now = self.now.max(due);
            self.happen(event);
        }
        self.now = self.now.max(time);
    }

    fn latency(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(1..60))
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.now < self.faults.until && self.rng.random_range(0..100) < percent
    }

    fn seen(route: &Route) -> Seen {
        Seen { version: route.version, uid: route.uid.clone(), weights: route.weights.clone() }
    }

    fn refusal() -> Failure {
        Failure { text: "throttled".to_owned(), in_doubt: false }
    }

    fn no_answer(&mut self) -> Failure {
        self.answers_lost += 1;
        self.pass(self.now + 2 * SECOND);
        Failure { text: "no answer in time".to_owned(), in_doubt: true }
    }

    fn describe(&mut self) -> Result<Route, Failure> {
        self.calls.push(self.now);
        let there = self.latency();
        self.pass(self.now + there);
        if self.chance(self.faults.refused) {
            return Err(Self::refusal());
        }
        if self.chance(self.faults.answer_lost) {
            return Err(self.no_answer());
        }
        let route = self.route.clone();
        let back = self.latency();
        self.pass(self.now + back);
        Ok(route)
    }

    fn update(&mut self, described: &Route, weights: &NodeWeights) -> Result<Route, Failure> {
        self.calls.push(self.now);
        self.updates.push((self.now, weights.clone()));
        let there = self.latency();
        self.pass(self.now + there);
        if self.chance(self.faults.refused) {
            return Err(Self::refusal());
        }
        let lost = self.chance(self.faults.answer_lost);
        if lost && self.chance(self.faults.carried_out_late) {
            let delay = Duration::from_millis(self.rng.random_range(1_000..40_000));
            self.at(self.now + delay, Event::Late(weights.clone(), described.other));
            return Err(self.no_answer());
        }
        if self.chance(self.faults.raced) {
            self.happen(Event::ForeignOther);
        }
        let undone = described.other != self.route.other || described.uid != self.route.uid;
        self.write(weights.clone(), described.other);
        if lost {
            return Err(self.no_answer());
        }
        self.overwritten += u32::from(undone);
        let route = self.route.clone();
        let back = self.latency();
        self.pass(self.now + back);
        Ok(route)
    }

    /// What `task.rs` does, until `end`.
    fn run(&mut self, end: Duration) {
        while self.now < end {
            let wanted = self.wanted.clone();
            self.core.want(self.moment(), &wanted);
            match self.core.next(self.moment()) {
                Action::Describe => self.look_and_write(),
                Action::Wait(until) => {
                    let next_event = self.events.first().map(|(time, _)| *time);
                    let wake = until.into_iter().chain(next_event).min().unwrap_or(end);
                    self.pass(wake.clamp(self.now, end));
                }
            }
        }
    }

    fn look_and_write(&mut self) {
        let answer = self.describe();
        let wanted = self.wanted.clone();
        self.core.want(self.moment(), &wanted);
        let seen = answer.as_ref().map(Self::seen).map_err(Clone::clone);
        let Some(weights) = self.core.described(self.moment(), seen) else { return };
        assert_eq!(weights, self.newest(), "only the newest weights are written");
        let described = answer.unwrap();
        let overwritten = self.overwritten;
        let answer = self.update(&described, &weights);
        self.core.updated(self.moment(), weights, answer.map(|route| Self::seen(&route)));
        if self.overwritten > overwritten && self.wanted == wanted {
            assert!(!self.core.status().detail.is_empty(), "a lost change of another writer must be told");
        }
    }

    /// What the route is to have, reckoned apart from the core.
    fn newest(&self) -> NodeWeights {
        let hundredths: BTreeMap<_, _> = self.wanted.clone().unwrap().into_iter().collect();
        let percents = gateway_config::weights::to_app_mesh(&hundredths);
        percents
            .into_iter()
            .map(|(target, percent)| (node(&target), i32::try_from(percent).unwrap()))
            .collect()
    }

    fn is_in_sync(&self) -> bool {
        self.state() == SyncState::InSync && self.route.weights == self.newest()
    }
}

/// Two minutes of own changes, other writers and faults, then four quiet ones.
fn turmoil(seed: u64, on_drift: OnDrift) -> World {
    let mut world = World::new(seed, on_drift);
    let storm = 120 * SECOND;
    world.faults = Faults {
        until: storm,
        refused: world.rng.random_range(0..60),
        answer_lost: world.rng.random_range(0..40),
        carried_out_late: world.rng.random_range(0..100),
        raced: world.rng.random_range(0..20),
    };
    world.at(Duration::ZERO, Event::Own(hundredths([9_900, 100, 0])));
    for _ in 0..world.rng.random_range(0..60) {
        let time = world.random_time(storm);
        let weights = random_hundredths(&mut world.rng);
        world.at(time, Event::Own(weights));
    }
    for _ in 0..world.rng.random_range(0..20) {
        let time = world.random_time(storm);
        let event = match world.rng.random_range(0..10) {
            0..5 => Event::ForeignWeights(random_percents(&mut world.rng)),
            5..9 => Event::ForeignOther,
            _ => Event::MadeAnew,
        };
        world.at(time, event);
    }
    world.run(storm);
    world.run(storm + 240 * SECOND);
    world
}

#[test]
fn when_the_faults_end_the_route_is_in_sync() {
    for seed in 0..SEEDS {
        let world = turmoil(seed, OnDrift::Enforce);
        assert!(world.is_in_sync(), "seed {seed}: {:?} {:?}", world.core.status(), world.route);
    }
}

#[test]
fn a_paused_route_is_in_sync_or_says_why_not_and_follows_the_next_own_change() {
    let mut drifted = 0;
    for seed in 0..SEEDS {
        let mut world = turmoil(seed, OnDrift::Pause);
        let status = world.core.status();
        match status.state {
            SyncState::InSync => assert!(world.is_in_sync(), "seed {seed}: {status:?}"),
            SyncState::Drift => {
                drifted += 1;
                assert!(!status.detail.is_empty(), "seed {seed}");
            }
            _ => panic!("seed {seed}: {status:?}"),
        }
        let now = world.now;
        world.at(now + SECOND, Event::Own(hundredths([1_234, 0, 8_766])));
        world.run(now + 10 * SECOND);
        assert!(world.is_in_sync(), "seed {seed}: {:?} {:?}", world.core.status(), world.route);
    }
    assert!(drifted > 10, "the seeds must hold both ends, and {drifted} of {SEEDS} ended in drift");
}

#[test]
fn the_storm_of_the_simulation_is_one() {
    // A test that never meets a fault proves nothing.
    let (mut lost, mut overwritten, mut failures) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = turmoil(seed, OnDrift::Enforce);
        lost += world.answers_lost;
        overwritten += world.overwritten;
        failures += world.core.status().failures;
    }
    assert!(lost > 1_000 && overwritten > 50 && failures > 3_000, "{lost} {overwritten} {failures}");
}

#[test]
fn drift_is_noticed_within_15_seconds_and_left_alone_under_pause() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, OnDrift::Pause);
        world.at(Duration::ZERO, Event::Own(hundredths([9_000, 1_000, 0])));
        let start = 30 * SECOND + world.random_time(10 * SECOND);
        world.run(start);
        assert!(world.is_in_sync(), "seed {seed}");
        world.at(start, Event::ForeignWeights(whole(&[0, 100, 0])));
        let writes = world.updates.len();
        world.run(start + 15 * SECOND);
        assert_eq!(world.state(), SyncState::Drift, "seed {seed}");
        let detail = &world.core.status().detail;
        assert!(detail.contains("v2-node=100") && detail.contains("v1-node=90"), "{detail}");
        world.run(start + 3_600 * SECOND);
        assert_eq!(world.updates.len(), writes, "seed {seed}: nothing is written while paused");
        assert_eq!(world.route.weights, whole(&[0, 100, 0]));
    }
}

#[test]
fn a_paused_route_is_written_when_resumed_and_in_sync_when_put_back_by_hand() {
    let mut world = World::new(1, OnDrift::Pause);
    world.at(Duration::ZERO, Event::Own(hundredths([9_000, 1_000, 0])));
    world.at(10 * SECOND, Event::ForeignWeights(whole(&[0, 100, 0])));
    world.run(20 * SECOND);
    assert_eq!(world.state(), SyncState::Drift);
    let now = world.moment();
    world.core.resume(now);
    world.run(21 * SECOND);
    assert!(world.is_in_sync());
    world.at(22 * SECOND, Event::ForeignWeights(whole(&[0, 100, 0])));
    world.at(40 * SECOND, Event::ForeignWeights(whole(&[90, 10, 0])));
    world.run(39 * SECOND);
    assert_eq!(world.state(), SyncState::Drift);
    world.run(46 * SECOND);
    assert!(world.is_in_sync());
    assert_eq!(world.updates.len(), 2);
}

#[test]
fn enforce_writes_over_another_writer_within_15_seconds() {
    let mut world = World::new(1, OnDrift::Enforce);
    world.at(Duration::ZERO, Event::Own(hundredths([9_000, 1_000, 0])));
    world.at(30 * SECOND, Event::ForeignWeights(whole(&[0, 100, 0])));
    world.run(45 * SECOND);
    assert!(world.is_in_sync());
    assert_eq!(world.core.status().writes, 2);
}

#[test]
fn an_update_of_ours_that_arrives_late_is_not_taken_for_somebody_else() {
    let mut world = World::new(3, OnDrift::Pause);
    world.faults = Faults { until: 3 * SECOND, answer_lost: 0, ..Faults::default() };
    world.at(Duration::ZERO, Event::Own(hundredths([5_000, 5_000, 0])));
    // Its only update is lost on the way ...
    let wanted = Ok(hundredths([5_000, 5_000, 0]));
    world.core.want(Moment::default(), &wanted);
    let described = Ok(World::seen(&world.route));
    let wrote = world.core.described(Moment::default(), described).unwrap();
    let lost = Failure { text: "no answer in time".to_owned(), in_doubt: true };
    world.core.updated(Moment::default(), wrote.clone(), Err(lost));
    // ... the next change gets through, and then the lost one arrives.
    world.events.clear();
    world.wanted = Ok(hundredths([1_000, 9_000, 0]));
    world.run(20 * SECOND);
    assert!(world.is_in_sync());
    world.at(20 * SECOND, Event::Late(wrote, 0));
    world.run(35 * SECOND);
    assert!(world.is_in_sync(), "{:?}", world.core.status());
    // A minute later the same weights can only be somebody's will.
    world.at(90 * SECOND, Event::ForeignWeights(whole(&[50, 50, 0])));
    world.run(105 * SECOND);
    assert_eq!(world.state(), SyncState::Drift);
}

#[test]
fn a_service_that_refuses_is_asked_later_and_later_whatever_changes_meanwhile() {
    for seed in 0..20 {
        let mut world = World::new(seed, OnDrift::Enforce);
        world.faults = Faults { until: 600 * SECOND, refused: 100, ..Faults::default() };
        for change in 0..200_u32 {
            world.at(change * SECOND / 10, Event::Own(hundredths([change, FULL_WEIGHT - change, 0])));
        }
        world.run(600 * SECOND);
        assert_eq!(world.state(), SyncState::Error);
        assert_eq!(world.core.status().last_error.as_deref(), Some("throttled"));
        // Half of 30 s on average, plus the short ones at the beginning; without back-off it would be thousands.
        assert!(world.calls.len() < 90, "seed {seed}: {}", world.calls.len());
        let longest = world.calls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= BACKOFF_CAP + SECOND, "seed {seed}: {longest:?}");
        world.run(600 * SECOND + BACKOFF_CAP + SECOND);
        assert!(world.is_in_sync(), "seed {seed}: {:?}", world.core.status());
        assert_eq!(world.updates.len(), 1, "of 200 changes only the newest is written");
    }
}

#[test]
fn a_burst_of_changes_becomes_few_writes() {
    let mut world = World::new(5, OnDrift::Pause);
    for change in 0..200_u32 {
        world.at(change * SECOND / 10, Event::Own(hundredths([change * 50, FULL_WEIGHT - change * 50, 0])));
    }
    world.run(21 * SECOND);
    assert!(world.is_in_sync());
    assert!(world.updates.len() <= 80, "{}", world.updates.len());
}

#[test]
fn a_quiet_route_is_looked_at_every_five_seconds_and_never_written() {
    let mut world = World::new(9, OnDrift::Enforce);
    world.wanted = Ok(hundredths([10_000, 0, 0]));
    world.run(3_600 * SECOND);
    assert!(world.is_in_sync());
    assert!(world.updates.is_empty());
    let expected = 3_600 / usize::try_from(POLL.as_secs()).unwrap();
    assert!(world.calls.len().abs_diff(expected) < expected / 10, "{}", world.calls.len());
}

#[test]
fn nothing_is_asked_before_control_knows_the_weights() {
    let mut world = World::new(1, OnDrift::Enforce);
    world.run(60 * SECOND);
    assert_eq!(world.state(), SyncState::Disabled);
    assert!(world.calls.is_empty());
}

#[test]
fn a_change_between_describe_and_update_is_shown_as_drift_until_the_next_own_change() {
    let mut world = World::new(1, OnDrift::Pause);
    world.wanted = Ok(hundredths([5_000, 5_000, 0]));
    let wanted = world.wanted.clone();
    world.core.want(Moment::default(), &wanted);
    let wrote = world.core.described(Moment::default(), Ok(World::seen(&world.route))).unwrap();
    let mut after = World::seen(&world.route);
    after.version += 2;
    after.weights = whole(&[50, 50, 0]);
    world.route.version = after.version;
    world.route.weights = after.weights.clone();
    world.core.updated(Moment::default(), wrote, Ok(after));
    assert_eq!(world.state(), SyncState::Drift);
    assert!(
        world.core.status().detail.contains("between version 1 and version 3"),
        "{:?}",
        world.core.status()
    );
    world.run(30 * SECOND);
    assert_eq!(world.state(), SyncState::Drift, "equal weights do not make the loss undone");
    world.wanted = Ok(hundredths([4_000, 6_000, 0]));
    world.run(40 * SECOND);
    assert!(world.is_in_sync());
    assert_eq!(world.core.status().detail, "");
}

#[test]
fn a_route_that_cannot_hold_the_weights_is_an_error_with_a_cure_and_is_not_written() {
    let mut world = World::new(1, OnDrift::Enforce);
    world.route.weights.remove("v2-node");
    world.wanted = Ok(hundredths([9_000, 1_000, 0]));
    world.run(10 * SECOND);
    assert_eq!(world.state(), SyncState::Error);
    assert!(world.core.status().detail.contains("`v2-node`"), "{:?}", world.core.status());
    world.route.weights = whole(&[90, 5, 0]);
    world.route.weights.insert("stray-node".to_owned(), 5);
    world.run(20 * SECOND);
    assert!(world.core.status().detail.contains("`stray-node`"), "{:?}", world.core.status());
    assert!(world.updates.is_empty());
    world.route.weights.insert("stray-node".to_owned(), 0);
    world.run(30 * SECOND);
    assert_eq!(world.state(), SyncState::InSync);
}

#[test]
fn a_target_without_a_virtual_node_is_an_error_with_a_cure() {
    let mut world = World::new(1, OnDrift::Enforce);
    world.wanted = Ok(vec![("v1".to_owned(), 5_000), ("v9".to_owned(), 5_000)]);
    world.run(10 * SECOND);
    assert_eq!(world.state(), SyncState::Error);
    assert!(world.core.status().detail.contains("`v9`"), "{:?}", world.core.status());
    assert!(world.calls.is_empty());
}

#[test]
fn a_hundredth_of_a_percent_is_at_least_one_in_app_mesh() {
    let mut world = World::new(1, OnDrift::Pause);
    world.wanted = Ok(hundredths([9_999, 1, 0]));
    world.run(10 * SECOND);
    assert!(world.is_in_sync());
    assert_eq!(world.route.weights, whole(&[99, 1, 0]));
}
