//! Which addresses of a cluster may get requests: the rules of belief, without I/O.
//!
//! Owns one cluster's published endpoints, those that have yet to prove themselves, and since when discovery has
//! said "nobody". Time and the outcome of probes are arguments. It must never publish anything itself.
//! Next: `endpoints.rs`, which asks, probes and publishes.

use crate::cluster::{DiscoverySource, Endpoint};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer of "nobody" is doubted while what was there still accepts connections.
pub const BELIEVE_EMPTY: Duration = Duration::from_secs(300);
/// Most endpoints of a cluster; Cloud Map's own limit per service.
pub const MAX_ENDPOINTS: usize = 1000;

/// An address that discovery named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub address: SocketAddr,
    /// Availability zone, empty when unknown.
    pub zone: String,
}

/// What discovery said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These, at least one.
    Found(Vec<Found>),
    /// Nobody: an empty answer, NXDOMAIN, or no such service.
    Nobody(String),
    /// No answer: what was good stays good.
    Failed(String),
}

/// An answer and who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What was said.
    pub answer: Answer,
    /// Who said it.
    pub by: DiscoverySource,
    /// What people should know of it; empty when all is well.
    pub notice: String,
}

impl Told {
    /// An answer of whom one would expect.
    pub fn by(by: DiscoverySource, answer: Answer) -> Self {
        Self { answer, by, notice: String::new() }
    }
}

/// One cluster's members.
#[derive(Debug, Default)]
pub struct Membership {
    published: Vec<Arc<Endpoint>>,
    candidates: Vec<Arc<Endpoint>>,
    /// Named by the last answer that named anybody.
    wanted: Vec<SocketAddr>,
    nobody_since: Option<Instant>,
}

impl Membership {
    /// Members that are published already (a reload found them in the snapshot).
    pub fn new(published: Vec<Arc<Endpoint>>) -> Self {
        let wanted = published.iter().map(|endpoint| endpoint.address).collect();
        Self { published, candidates: Vec::new(), wanted, nobody_since: None }
    }

    /// May get requests, in address order.
    pub fn published(&self) -> &[Arc<Endpoint>] {
        &self.published
    }

    /// Have to be probed before they get requests.
    pub fn candidates(&self) -> &[Arc<Endpoint>] {
        &self.candidates
    }

    /// Discovery says that nobody is there, and is doubted: those that refuse a probe leave at once.
    pub fn doubts(&self) -> bool {
        self.nobody_since.is_some()
    }

    /// Takes an answer. True = the published members are different now.
    pub fn take(&mut self, now: Instant, answer: &Answer, make: impl FnMut(&Found) -> Arc<Endpoint>) -> bool {
        match answer {
            Answer::Failed(_) => false,
            Answer::Nobody(_) => {
                let since = *self.nobody_since.get_or_insert(now);
                self.candidates.clear();
                now.saturating_duration_since(since) >= BELIEVE_EMPTY && self.replace(Vec::new())
            }
            Answer::Found(found) => {
                self.nobody_since = None;
                self.found(found, make)
            }
        }
    }

    fn found(&mut self, found: &[Found], mut make: impl FnMut(&Found) -> Arc<Endpoint>) -> bool {
        let mut found: Vec<&Found> = found.iter().collect();
        found.sort_by_key(|f| f.address);
        found.dedup_by_key(|f| f.address);
        found.truncate(MAX_ENDPOINTS);
        self.wanted = found.iter().map(|f| f.address).collect();
        let known = |list: &[Arc<Endpoint>], f: &Found| list.iter().find(|e| e.address == f.address).cloned();
        let stay: Vec<_> = found.iter().filter_map(|f| known(&self.published, f)).collect();
        let fresh = found.iter().filter(|f| known(&self.published, f).is_none());
        let fresh: Vec<_> = fresh.map(|f| known(&self.candidates, f).unwrap_or_else(|| make(f))).collect();
        if self.published.is_empty() {
            // There is nothing that could serve in their place.
            self.candidates.clear();
            return self.replace(fresh);
        }
        self.candidates = fresh;
        if stay.is_empty() {
            // All are new: the old ones serve until the first new one has proved itself.
            return false;
        }
        self.replace(stay)
    }

    /// A candidate accepted a connection. True = the published members are different now.
    pub fn proven(&mut self, address: SocketAddr) -> bool {
        let Some(at) = self.candidates.iter().position(|e| e.address == address) else { return false };
        let endpoint = self.candidates.remove(at);
        let wanted = &self.wanted;
        let mut next: Vec<_> =
            self.published.iter().filter(|e| wanted.contains(&e.address)).cloned().collect();
        next.push(endpoint);
        next.sort_by_key(|e| e.address);
        self.replace(next)
    }

    /// A published member refused a connection. While discovery says "nobody", that settles it.
    pub fn refused(&mut self, address: SocketAddr) -> bool {
        if !self.doubts() {
            return false;
        }
        let rest = self.published.iter().filter(|e| e.address != address).cloned().collect();
        self.replace(rest)
    }

    fn replace(&mut self, next: Vec<Arc<Endpoint>>) -> bool {
        let ids = |list: &[Arc<Endpoint>]| list.iter().map(|e| e.id).collect::<Vec<_>>();
        let different = ids(&next) != ids(&self.published);
        self.published = next;
        different
    }
}

/// Loopback and link-local addresses from discovery lead to this machine or its metadata service: refused unless
/// allowed. Unspecified and multicast ones lead nowhere.
pub fn acceptable(ip: IpAddr, allow_loopback: bool) -> bool {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_multicast() || (local && !allow_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(ports: &[u16]) -> Answer {
        let one = |port: &u16| Found { address: ([10, 0, 0, 1], *port).into(), zone: String::new() };
        Answer::Found(ports.iter().map(one).collect())
    }

    fn at(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    fn ports(members: &Membership) -> Vec<u16> {
        members.published().iter().map(|e| e.address.port()).collect()
    }

    struct World {
        members: Membership,
        ids: u64,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { members: Membership::default(), ids: 0, now: Instant::now() }
        }

        fn take(&mut self, answer: &Answer) -> bool {
            let ids = &mut self.ids;
            self.members.take(self.now, answer, |f| {
                *ids += 1;
                Arc::new(Endpoint::new(*ids, f.address, f.zone.clone()))
            })
        }
    }

    #[test]
    fn the_first_answer_is_published_at_once_and_later_ones_prove_themselves() {
        let mut world = World::new();
        assert!(world.take(&found(&[1, 2])));
        assert!(!world.take(&found(&[1, 2, 3])), "3 has not accepted a connection yet");
        assert_eq!(ports(&world.members), [1, 2]);
        assert!(world.members.proven(at(3)));
        assert_eq!(ports(&world.members), [1, 2, 3]);
    }

    #[test]
    fn an_address_that_stays_is_the_same_endpoint() {
        let mut world = World::new();
        world.take(&found(&[1, 2]));
        let before = Arc::clone(&world.members.published()[1]);
        assert!(world.take(&found(&[2])));
        assert!(Arc::ptr_eq(&before, &world.members.published()[0]));
    }

    #[test]
    fn failures_never_empty_a_cluster() {
        let mut world = World::new();
        world.take(&found(&[1]));
        world.now += BELIEVE_EMPTY * 100;
        assert!(!world.take(&Answer::Failed("throttled".into())));
        assert_eq!(ports(&world.members), [1]);
    }

    #[test]
    fn nobody_is_believed_after_five_minutes() {
        let mut world = World::new();
        world.take(&found(&[1]));
        assert!(!world.take(&Answer::Nobody("empty".into())));
        world.now += BELIEVE_EMPTY - Duration::from_secs(1);
        assert!(!world.take(&Answer::Nobody("empty".into())));
        world.now += Duration::from_secs(1);
        assert!(world.take(&Answer::Nobody("empty".into())));
        assert!(ports(&world.members).is_empty());
    }

    #[test]
    fn nobody_is_believed_at_once_of_an_endpoint_that_refuses_connections() {
        let mut world = World::new();
        world.take(&found(&[1, 2]));
        assert!(!world.members.refused(at(1)), "discovery still names it");
        world.take(&Answer::Nobody("empty".into()));
        assert!(world.members.refused(at(1)));
        assert_eq!(ports(&world.members), [2]);
        world.take(&found(&[2]));
        assert!(!world.members.refused(at(2)), "discovery names somebody again");
    }

    #[test]
    fn a_complete_exchange_keeps_the_old_until_a_new_one_answers() {
        let mut world = World::new();
        world.take(&found(&[1, 2]));
        assert!(!world.take(&found(&[3, 4])));
        assert_eq!(ports(&world.members), [1, 2]);
        assert!(world.members.proven(at(4)));
        assert_eq!(ports(&world.members), [4]);
        assert!(world.members.proven(at(3)));
        assert_eq!(ports(&world.members), [3, 4]);
    }

    #[test]
    fn loopback_from_discovery_is_refused_unless_allowed() {
        for text in ["127.0.0.1", "169.254.169.254", "::1", "fe80::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert!(!acceptable(ip, false), "{text}");
            assert!(acceptable(ip, true), "{text}");
        }
        assert!(acceptable("10.1.2.3".parse().unwrap(), false));
        assert!(!acceptable("0.0.0.0".parse().unwrap(), true));
    }

    proptest! {
        #[test]
        fn a_cluster_that_had_members_is_never_empty_before_nobody_is_believed(
            steps in proptest::collection::vec((0u8..4, 1u16..6, 0u64..60), 1..60)
        ) {
            let mut world = World::new();
            world.take(&found(&[1]));
            let mut nobody_since: Option<Instant> = None;
            for (kind, port, seconds) in steps {
                world.now += Duration::from_secs(seconds);
                match kind {
                    0 => { world.take(&Answer::Failed(String::new())); }
                    1 => { nobody_since.get_or_insert(world.now); world.take(&Answer::Nobody(String::new())); }
                    2 => { nobody_since = None; world.take(&found(&[port, port + 1])); }
                    _ => { world.members.proven(at(port)); }
                }
                let believed = nobody_since.is_some_and(|since| world.now - since >= BELIEVE_EMPTY);
                prop_assert!(believed || !world.members.published().is_empty());
            }
        }
    }
}
