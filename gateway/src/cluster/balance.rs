//! Which endpoint of a cluster takes a request.
//!
//! Owns the choice: round robin or least request among the healthy, avoiding those already tried. Position and
//! randomness are the worker's own, so nothing is shared. It must never wait. Next: `upstream/pool.rs`.

use super::{Cluster, Endpoint};
use gateway_config::model::LbPolicy;
use rand::{Rng, RngExt};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Most endpoints that one request tries.
pub const MAX_TRIES: usize = 4;

/// Endpoints that a request has tried.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tried {
    ids: [u64; MAX_TRIES],
    count: usize,
}

impl Tried {
    /// Remembers one.
    pub fn add(&mut self, id: u64) {
        if let Some(slot) = self.ids.get_mut(self.count) {
            *slot = id;
            self.count += 1;
        }
    }

    /// Whether it was tried.
    pub fn has(&self, id: u64) -> bool {
        self.ids.iter().take(self.count).any(|tried| *tried == id)
    }

    /// How many were tried.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Picks an endpoint: healthy and untried, else unhealthy and untried, else none. Of the healthy ones those in `avoid`
/// come last: they accept connections, and what they answered was no good.
/// `position` is this worker's round robin position for the cluster.
pub fn pick<'a>(
    cluster: &'a Cluster,
    (tried, avoid): (&Tried, &Tried),
    position: &mut usize,
    rng: &mut impl Rng,
) -> Option<&'a Arc<Endpoint>> {
    let endpoints = &cluster.endpoints;
    let healthy = |e: &Endpoint| e.healthy() && !tried.has(e.id);
    let untried = |e: &Endpoint| !tried.has(e.id);
    let mut any = |fits: &dyn Fn(&Endpoint) -> bool| match cluster.config.lb_policy {
        LbPolicy::RoundRobin => next_from(endpoints, position, fits),
        LbPolicy::LeastRequest => least_of_two(endpoints, fits, rng),
    };
    if avoid.count() > 0
        && let Some(other) = any(&|e| healthy(e) && !avoid.has(e.id))
    {
        return Some(other);
    }
    any(&healthy).or_else(|| any(&untried))
}

fn next_from<'a>(
    endpoints: &'a [Arc<Endpoint>],
    position: &mut usize,
    fits: impl Fn(&Endpoint) -> bool,
) -> Option<&'a Arc<Endpoint>> {
    for _ in 0..endpoints.len() {
        let endpoint = endpoints.get(*position % endpoints.len())?;
        *position = (*position + 1) % endpoints.len();
        if fits(endpoint) {
            return Some(endpoint);
        }
    }
    None
}

fn least_of_two<'a>(
    endpoints: &'a [Arc<Endpoint>],
    fits: impl Fn(&Endpoint) -> bool,
    rng: &mut impl Rng,
) -> Option<&'a Arc<Endpoint>> {
    if endpoints.is_empty() {
        return None;
    }
    let mut random = || endpoints.get(rng.random_range(0..endpoints.len())).filter(|e| fits(e));
    let (one, other) = (random(), random());
    let load = |e: &Endpoint| e.active_requests.load(Relaxed);
    match (one, other) {
        (Some(a), Some(b)) => Some(if load(b) < load(a) { b } else { a }),
        (Some(a), None) | (None, Some(a)) => Some(a),
        // Both draws met an unfit one: look at all.
        (None, None) => endpoints.iter().filter(|e| fits(e)).min_by_key(|e| load(e)),
    }
}

#[cfg(test)]
mod tests;
