//! Answers that come when nothing is wanted any more, and words of operators while App Mesh fails.

use super::decide::{Action, Core, Failure, Moment, Seen};
use super::{NodeWeights, SyncState, Wanted};
use gateway_config::control_config::OnDrift;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::Duration;

fn core() -> Core {
    let targets = [("v1", "n1"), ("v2", "n2")].map(|(target, node)| (target.to_owned(), node.to_owned()));
    Core::new(targets.into(), OnDrift::Enforce, SmallRng::seed_from_u64(1))
}

fn at(seconds: u64) -> Moment {
    Moment { since_start: Duration::from_secs(seconds), unix_ms: seconds * 1_000 }
}

fn wanted(v1: u32, v2: u32) -> Wanted {
    Ok(vec![("v1".to_owned(), v1), ("v2".to_owned(), v2)])
}

fn nodes(n1: i32, n2: i32) -> NodeWeights {
    [("n1".to_owned(), n1), ("n2".to_owned(), n2)].into()
}

fn seen(version: i64, n1: i32, n2: i32) -> Seen {
    Seen { version, uid: "u".to_owned(), weights: nodes(n1, n2) }
}

fn fenced() -> Wanted {
    Err("control b is ahead".to_owned())
}

fn throttled(in_doubt: bool) -> Failure {
    Failure { text: "throttled".to_owned(), in_doubt }
}

/// It says why, and asks for nothing until something is wanted.
fn stands_still(core: &Core) {
    assert_eq!(core.status().state, SyncState::Disabled, "{:?}", core.status());
    assert_eq!(core.status().detail, "control b is ahead");
    assert_eq!(core.next(at(3_600)), Action::Wait(None));
}

#[test]
fn a_fence_during_a_describe_ends_it_without_a_write() {
    for answer in [Ok(seen(1, 100, 0)), Err(throttled(false))] {
        let mut core = core();
        core.want(at(0), &wanted(9_000, 1_000));
        assert_eq!(core.next(at(0)), Action::Describe);
        core.want(at(1), &fenced());
        assert_eq!(core.described(at(1), answer), None);
        stands_still(&core);
    }
}

#[test]
fn a_fence_during_an_update_ends_it_without_another_call() {
    for answer in [Ok(seen(2, 90, 10)), Ok(seen(9, 5, 95)), Err(throttled(true))] {
        let mut core = core();
        core.want(at(0), &wanted(9_000, 1_000));
        let wrote = core.described(at(0), Ok(seen(1, 100, 0))).unwrap();
        core.want(at(1), &fenced());
        core.updated(at(1), wrote, answer);
        stands_still(&core);
        // The lead comes back: it goes on.
        core.want(at(2), &wanted(8_000, 2_000));
        assert_eq!(core.next(at(3)), Action::Describe);
        assert_eq!(core.described(at(3), Ok(seen(9, 5, 95))), Some(nodes(80, 20)));
    }
}

#[test]
fn an_operators_word_does_not_shorten_the_pause_of_a_failing_service() {
    let mut core = core();
    core.want(at(0), &wanted(9_000, 1_000));
    for _ in 0..8 {
        core.described(at(0), Err(throttled(false)));
    }
    let Action::Wait(Some(before)) = core.next(at(0)) else { panic!("a pause") };
    core.resume(at(0));
    assert_eq!(core.next(at(0)), Action::Wait(Some(before)));
    assert_eq!(core.described(at(60), Ok(seen(1, 100, 0))), Some(nodes(90, 10)));
}
