//! The draw: shares, zero weights, exclusions, health.

use super::*;
use crate::access_log::AccessLogs;
use crate::state::store::Store;
use crate::stats::registry::Registry;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::atomic::Ordering::Relaxed;

/// Draws per test of shares.
const DRAWS: u32 = 100_000;

/// A compiled split of targets t0, t1 ... with one endpoint each.
struct World {
    split: Arc<Split>,
    clusters: Arc<[Arc<Cluster>]>,
    rng: SmallRng,
}

impl World {
    fn new(weights: &[u32], more: &str) -> Self {
        let targets: Vec<_> =
            weights.iter().enumerate().map(|(n, w)| format!("{{name: t{n}, weight: {w}}}")).collect();
        let endpoint = |n: usize| {
            let address = format!("{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}", 9000 + n);
            format!("  - {{name: t{n}, discovery: {{static: {{endpoints: [{address}]}}}}}}\n")
        };
        let clusters: String = (0..weights.len()).map(endpoint).collect();
        let config = format!(
            "static_resources:\n\
             \x20 listeners:\n\
             \x20 - name: ingress\n\
             \x20   address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}\n\
             \x20   http_connection_manager:\n\
             \x20     route_config:\n\
             \x20       virtual_hosts:\n\
             \x20       - name: all\n\
             \x20         domains: [\"*\"]\n\
             \x20         routes:\n\
             \x20         - match: {{prefix: /}}\n\
             \x20           route: {{weighted_clusters: {{clusters: [{}]{more}}}}}\n\
             \x20 clusters:\n{clusters}",
            targets.join(", ")
        );
        let bootstrap = gateway_config::parse_bootstrap("test.yaml", config.as_bytes());
        let bootstrap = Arc::new(bootstrap.unwrap_or_else(|errors| panic!("{errors}")));
        let registry = Arc::new(Registry::new(1));
        let logs = Arc::new(AccessLogs::new(Arc::clone(&registry)));
        let snapshot = Store::new(bootstrap, registry, logs).expect("a store").snapshot();
        let split = Arc::clone(&snapshot.splits[0]);
        Self { split, clusters: Arc::clone(&snapshot.clusters), rng: SmallRng::seed_from_u64(7) }
    }

    /// No endpoint of the target accepts connections.
    fn dead(self, target: usize) -> Self {
        self.clusters[target].endpoints.iter().for_each(|e| e.suspect.store(true, Relaxed));
        self
    }

    fn draw(&mut self, excluded: Excluded) -> Option<usize> {
        pick(&self.split, &self.clusters, excluded, &mut self.rng)
    }

    /// How often each target is drawn.
    fn counts(&mut self, excluded: Excluded) -> Vec<u32> {
        let mut counts = vec![0; self.split.targets.len()];
        for _ in 0..DRAWS {
            counts[self.draw(excluded).expect("a target")] += 1;
        }
        counts
    }
}

/// Pearson's chi-square of the counts against the shares, and its critical value at p = 0.0001.
fn assert_shares(counts: &[u32], weights: &[u32]) {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let mut statistic = 0.0;
    for (count, weight) in counts.iter().zip(weights) {
        let expected = f64::from(DRAWS) * f64::from(*weight) / total;
        if *weight == 0 {
            assert_eq!(*count, 0, "a weight of 0 was drawn");
        } else {
            statistic += (f64::from(*count) - expected).powi(2) / expected;
        }
    }
    let degrees = weights.iter().filter(|weight| **weight > 0).count() - 1;
    let critical = [0.0, 15.14, 18.42, 21.11, 23.51][degrees];
    assert!(statistic <= critical, "chi-square {statistic:.2} > {critical} for {counts:?} at {weights:?}");
}

#[test]
fn draws_follow_the_weights_whatever_their_sum() {
    for weights in
        [&[99, 1][..], &[9_999, 1], &[5, 2], &[1, 1, 1, 1], &[0, 3, 0, 1], &[u32::MAX - 1, 1], &[1]]
    {
        let counts = World::new(weights, "").counts(0);
        assert_shares(&counts, weights);
    }
}

#[test]
fn draws_are_independent_of_each_other() {
    let mut world = World::new(&[50, 50], "");
    let draws: Vec<_> = (0..10_000).map(|_| world.draw(0)).collect();
    let changes = draws.windows(2).filter(|pair| pair[0] != pair[1]).count();
    // A smoothed round robin would change each time; 4,999.5 are expected, the standard deviation is 50.
    assert!((4_750..=5_250).contains(&changes), "{changes} changes");
}

#[test]
fn two_workers_do_not_draw_the_same() {
    let (mut one, mut other) = (World::new(&[1, 1], ""), World::new(&[1, 1], ""));
    other.rng = SmallRng::seed_from_u64(8);
    let same = (0..10_000).filter(|_| one.draw(0) == other.draw(0)).count();
    assert!((4_750..=5_250).contains(&same), "{same} equal draws");
}

#[test]
fn a_dead_target_gives_its_share_to_the_others_in_proportion() {
    let counts = World::new(&[60, 20, 20], ", stable: t0").dead(1).counts(0);
    assert_shares(&counts, &[60, 0, 20]);
}

#[test]
fn a_dead_target_keeps_its_share_when_health_does_not_matter() {
    let counts = World::new(&[60, 20, 20], ", health_aware: false").dead(1).counts(0);
    assert_shares(&counts, &[60, 20, 20]);
}

#[test]
fn the_stable_takes_everything_when_nobody_else_can_even_at_weight_zero() {
    let mut world = World::new(&[0, 50, 50], ", stable: t0").dead(1).dead(2);
    assert!((0..100).all(|_| world.draw(0) == Some(0)));
}

#[test]
fn a_canary_at_weight_zero_never_takes_the_place_of_the_stable() {
    let mut world = World::new(&[100, 0], ", stable: t0").dead(0);
    assert!((0..100).all(|_| world.draw(0) == Some(0)), "the answer is the stable's own 503");
    assert_eq!(world.draw(bit(0)), None, "and there is no second try elsewhere");
}

#[test]
fn when_nobody_can_answer_the_weights_say_whose_failure_it_is() {
    let counts = World::new(&[3, 1], ", stable: t0").dead(0).dead(1).counts(0);
    assert_shares(&counts, &[3, 1]);
}

#[test]
fn who_was_tried_is_not_drawn_again() {
    let counts = World::new(&[60, 20, 20], ", stable: t0").counts(bit(0));
    assert_shares(&counts, &[0, 20, 20]);
    let mut world = World::new(&[60, 20, 20], ", stable: t0");
    assert_eq!(world.draw(bit(0) | bit(1) | bit(2)), None);
}

#[test]
fn positions_beyond_the_bits_share_the_last_one() {
    assert_eq!((bit(0), bit(63), bit(64), bit(1000)), (1, 1 << 63, 1 << 63, 1 << 63));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_weight_of_zero_is_never_drawn_but_for_the_stable(
        weights in prop::collection::vec(prop_oneof![Just(0u32), 1..1000u32], 1..8)
            .prop_filter("a sum above 0", |weights| weights.iter().any(|w| *w > 0)),
        dead in any::<u8>(),
        excluded in any::<u8>(),
        health_aware in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let more = format!(", stable: t0, health_aware: {health_aware}");
        let mut world = World::new(&weights, &more);
        for target in (0..weights.len()).filter(|n| dead & (1 << n) != 0) {
            world = world.dead(target);
        }
        world.rng = SmallRng::seed_from_u64(seed);
        for _ in 0..50 {
            let Some(drawn) = world.draw(Excluded::from(excluded)) else {
                let left = |n: usize| excluded & (1 << n) == 0;
                prop_assert!((0..weights.len()).all(|n| !left(n) || weights[n] == 0), "somebody was left");
                continue;
            };
            prop_assert!(excluded & (1 << drawn) == 0, "an excluded target was drawn");
            prop_assert!(weights[drawn] > 0 || (drawn == 0 && health_aware), "a weight of 0 was drawn");
            let alive = |n: usize| dead & (1 << n) == 0;
            let better = |n: usize| excluded & (1 << n) == 0 && alive(n) && weights[n] > 0;
            if health_aware && (0..weights.len()).any(better) {
                prop_assert!(alive(drawn), "a dead target was drawn while another could answer");
            }
        }
    }
}
