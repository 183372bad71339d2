//! One draw per request: which target of a split takes it.
//!
//! Owns the choice and nothing else: randomness and the state of the clusters are arguments. A weight of 0 is never
//! chosen, but for the stable target when nobody else can answer. Next: `cluster/balance.rs`.

use crate::cluster::Cluster;
use crate::state::snapshot::{Split, Target};
use rand::{Rng, RngExt};
use std::sync::Arc;

/// Targets that a request has been to: bit n = position n in [`Split::targets`].
pub type Excluded = u64;

/// Picks a target by weight, but none of `excluded`. With `health_aware`, among those that have an endpoint which
/// accepts connections while any has. Returns the position in [`Split::targets`]; `None` when all are excluded.
///
/// Draws are independent of each other, as Envoy's (WeightedCluster): no smoothing.
pub fn pick(
    split: &Split,
    clusters: &[Arc<Cluster>],
    excluded: Excluded,
    rng: &mut impl Rng,
) -> Option<usize> {
    let targets = || split.targets.iter().zip(&split.weights).enumerate();
    let left = |position: usize| excluded & bit(position) == 0;
    let usable = |target: &Target| clusters.get(target.cluster).is_some_and(|cluster| cluster.usable());
    if excluded == 0 && (!split.health_aware || split.targets.iter().all(usable)) {
        return draw(split.weights.iter().copied(), u64::from(split.total), rng);
    }
    let masked = || {
        targets().map(
            |(at, (target, weight))| {
                if left(at) && (!split.health_aware || usable(target)) { *weight } else { 0 }
            },
        )
    };
    let total: u64 = masked().map(u64::from).sum();
    if total > 0 {
        return draw(masked(), total, rng);
    }
    // Nobody with a weight can answer. The stable is where everything goes when in doubt; a canary that was taken
    // to 0 is not.
    let stable = split.stable.filter(|at| left(*at) && split.targets.get(*at).is_some_and(usable));
    if stable.is_some() && split.health_aware {
        return stable;
    }
    let anybody = || targets().map(|(at, (_, weight))| if left(at) { *weight } else { 0 });
    draw(anybody(), anybody().map(u64::from).sum(), rng)
}

/// The bit of a position; positions above 63 share the last one.
pub fn bit(position: usize) -> Excluded {
    1 << position.min(63)
}

/// The position whose share of `0..total` holds one uniform draw; `None` when the total is 0.
fn draw(weights: impl Iterator<Item = u32>, total: u64, rng: &mut impl Rng) -> Option<usize> {
    if total == 0 {
        return None;
    }
    let mut left = rng.random_range(0..total);
    for (index, weight) in weights.enumerate() {
        match left.checked_sub(u64::from(weight)) {
            Some(rest) => left = rest,
            None => return Some(index),
        }
    }
    None
}

#[cfg(test)]
mod tests;
