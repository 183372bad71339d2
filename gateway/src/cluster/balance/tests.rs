//! The choice of an endpoint: turn by turn, by load, around what is suspect or tried.

use super::*;
use crate::cluster::ClusterShared;
use crate::stats::registry::Registry;
use gateway_config::model::{self, CircuitBreakers, Discovery};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::Duration;

fn cluster(lb_policy: LbPolicy, endpoints: usize) -> Cluster {
    let endpoint =
        |n: usize| Endpoint::new(n as u64 + 1, ([127, 0, 0, 1], 9000 + n as u16).into(), String::new());
    Cluster {
        name: "v1".into(),
        config: model::Cluster {
            name: "v1".to_owned(),
            discovery: Discovery::Static(Vec::new()),
            connect_timeout: Duration::from_secs(1),
            lb_policy,
            circuit_breakers: CircuitBreakers {
                max_connections: 1,
                max_pending_requests: 1,
                max_requests: 1,
                max_retries: 1,
            },
        },
        shared: Arc::new(ClusterShared::new(Registry::new(1).cluster("v1"))),
        endpoints: (0..endpoints).map(|n| Arc::new(endpoint(n))).collect(),
    }
}

/// The ids that so many picks give.
fn picks(cluster: &Cluster, tried: &Tried, count: usize) -> Vec<u64> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut position = 0;
    (0..count)
        .filter_map(|_| pick(cluster, (tried, &Tried::default()), &mut position, &mut rng))
        .map(|e| e.id)
        .collect()
}

fn suspect(cluster: &Cluster, id: u64) {
    cluster.endpoints.iter().filter(|e| e.id == id).for_each(|e| e.suspect.store(true, Relaxed));
}

#[test]
fn round_robin_goes_from_one_to_the_next() {
    let cluster = cluster(LbPolicy::RoundRobin, 3);
    assert_eq!(picks(&cluster, &Tried::default(), 7), [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn a_suspect_is_passed_over_and_its_turns_are_shared() {
    let cluster = cluster(LbPolicy::RoundRobin, 3);
    suspect(&cluster, 2);
    assert_eq!(picks(&cluster, &Tried::default(), 6), [1, 3, 1, 3, 1, 3]);
}

#[test]
fn suspects_are_better_than_nobody() {
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest] {
        let cluster = cluster(policy, 2);
        suspect(&cluster, 1);
        suspect(&cluster, 2);
        assert_eq!(picks(&cluster, &Tried::default(), 10).len(), 10);
        let mut tried = Tried::default();
        tried.add(1);
        assert_eq!(picks(&cluster, &tried, 3), [2, 2, 2]);
    }
}

#[test]
fn an_empty_cluster_has_nobody() {
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest] {
        assert!(picks(&cluster(policy, 0), &Tried::default(), 3).is_empty());
    }
}

#[test]
fn least_request_prefers_the_less_busy_of_two_draws() {
    let cluster = cluster(LbPolicy::LeastRequest, 2);
    cluster.endpoints[0].active_requests.store(10, Relaxed);
    let picks = picks(&cluster, &Tried::default(), 10_000);
    let busy = picks.iter().filter(|id| **id == 1).count();
    // Only when both draws meet the busy one: a quarter, with a standard deviation of 43.
    assert!((2_280..=2_720).contains(&busy), "{busy} of 10,000");
}

#[test]
fn least_request_spreads_over_equals() {
    let cluster = cluster(LbPolicy::LeastRequest, 4);
    let picks = picks(&cluster, &Tried::default(), 10_000);
    for id in 1..=4 {
        let count = picks.iter().filter(|picked| **picked == id).count();
        assert!((2_280..=2_720).contains(&count), "{count} of 10,000 for {id}");
    }
}

#[test]
fn as_many_as_fit_are_remembered_as_tried() {
    let mut tried = Tried::default();
    (1..=MAX_TRIES as u64 + 2).for_each(|id| tried.add(id));
    assert_eq!(tried.count(), MAX_TRIES);
    assert!(tried.has(1) && tried.has(MAX_TRIES as u64) && !tried.has(MAX_TRIES as u64 + 1));
}

proptest! {
    #[test]
    fn whoever_is_picked_is_untried_and_healthy_while_anybody_is(
        count in 0..8usize,
        suspects in any::<u8>(),
        tried_ids in prop::collection::vec(1..9u64, 0..MAX_TRIES),
        position in 0..100usize,
        least in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let cluster = cluster(if least { LbPolicy::LeastRequest } else { LbPolicy::RoundRobin }, count);
        (1..=8).filter(|id| suspects & (1 << (id - 1)) != 0).for_each(|id| suspect(&cluster, id));
        let mut tried = Tried::default();
        tried_ids.iter().for_each(|id| tried.add(*id));
        let mut position = position;
        let picked = pick(&cluster, (&tried, &Tried::default()), &mut position, &mut SmallRng::seed_from_u64(seed));
        let untried: Vec<_> = cluster.endpoints.iter().filter(|e| !tried.has(e.id)).collect();
        match picked {
            None => prop_assert!(untried.is_empty()),
            Some(picked) => {
                prop_assert!(!tried.has(picked.id));
                prop_assert!(picked.healthy() || untried.iter().all(|e| !e.healthy()));
            }
        }
    }
}

#[test]
fn an_endpoint_to_avoid_comes_after_the_other_healthy_ones_and_before_the_unhealthy() {
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest] {
        let cluster = cluster(policy, 2);
        let [avoided, other] = &cluster.endpoints[..] else { panic!("two endpoints") };
        let mut avoid = Tried::default();
        avoid.add(avoided.id);
        let (mut position, mut rng) = (0, SmallRng::seed_from_u64(7));
        let mut picked =
            |tried: &Tried| pick(&cluster, (tried, &avoid), &mut position, &mut rng).map(|e| e.id);
        for _ in 0..20 {
            assert_eq!(picked(&Tried::default()), Some(other.id), "{policy:?}");
        }
        let mut tried = Tried::default();
        tried.add(other.id);
        assert_eq!(picked(&tried), Some(avoided.id), "{policy:?}");
        other.suspect.store(true, Relaxed);
        assert_eq!(picked(&Tried::default()), Some(avoided.id), "{policy:?}");
    }
}
