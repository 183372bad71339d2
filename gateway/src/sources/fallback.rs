//! DNS in place of Cloud Map's API, while the API is shut off: no permission, or no way to it from this subnet.
//!
//! Owns what a name's answers are worth beside what the API said before. It must never let DNS empty a cluster that it
//! never knew: a namespace for API calls alone has no names. Next: `dns.rs`, who asks.

use super::dns;
use super::membership::{Answer, Found, Told};
use crate::cluster::DiscoverySource;
use gateway_config::model::DnsDiscovery;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, Sender};

/// Cloud Map puts at most so many addresses into one answer, drawn anew each time (developer guide, routing policy
/// MULTIVALUE): an answer with so many may not be all.
const FULL_ANSWER: usize = 8;
/// How long an address counts that was in one full answer and not in the next; the names live for 10 s or less, so it
/// has had a dozen draws.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Tells what DNS says until the API answers; its answer, or `None` when nobody listens any more. `known` are the
/// addresses that the API named last.
pub async fn until<T>(
    api: impl Future<Output = T>,
    dns: DnsDiscovery,
    known: Vec<SocketAddr>,
    notice: String,
    tell: &Sender<Told>,
) -> Option<T> {
    let (inner, mut answers) = mpsc::channel(1);
    let mut names = Names::new(known, Instant::now());
    let asking = dns::ask(dns, inner);
    tokio::pin!(api, asking);
    loop {
        tokio::select! {
            answer = &mut api => return Some(answer),
            // It asks while its answers are taken, so it does not end before this.
            () = &mut asking => return None,
            Some(told) = answers.recv() => {
                let answer = names.take(told.answer, Instant::now());
                let told = Told { answer, by: DiscoverySource::Dns, notice: notice.clone() };
                if tell.send(told).await.is_err() {
                    return None;
                }
            }
        }
    }
}

/// What DNS has said so far.
struct Names {
    /// When each address was named last.
    seen: BTreeMap<SocketAddr, Instant>,
    /// DNS has named somebody: the name exists.
    exists: bool,
}

impl Names {
    fn new(known: Vec<SocketAddr>, now: Instant) -> Self {
        Self { seen: known.into_iter().map(|address| (address, now)).collect(), exists: false }
    }

    fn take(&mut self, answer: Answer, now: Instant) -> Answer {
        match answer {
            Answer::Found(found) => {
                self.exists = true;
                if found.len() < FULL_ANSWER {
                    self.seen.clear();
                }
                self.seen.extend(found.iter().map(|found| (found.address, now)));
                self.seen.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
                let all = self.seen.keys();
                Answer::Found(all.map(|at| Found { address: *at, zone: String::new() }).collect())
            }
            Answer::Nobody(why) if !self.exists => {
                Answer::Failed(format!("{why}; a namespace for API calls alone has no names in DNS"))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 3000).into()
    }

    fn found(last: impl IntoIterator<Item = u8>) -> Answer {
        Answer::Found(last.into_iter().map(|n| Found { address: at(n), zone: String::new() }).collect())
    }

    #[test]
    fn a_short_answer_of_dns_is_all_there_is() {
        let now = Instant::now();
        let mut names = Names::new(vec![at(1), at(2), at(3)], now);
        assert_eq!(names.take(found([2, 4]), now), found([2, 4]));
    }

    #[test]
    fn a_full_answer_of_dns_may_not_be_all_and_takes_nobody_away_for_two_minutes() {
        let start = Instant::now();
        let mut names = Names::new((1..=12).map(at).collect(), start);
        let soon = start + REMEMBERED / 2;
        assert_eq!(names.take(found(1..=8), soon), found(1..=12));
        let late = start + REMEMBERED;
        assert_eq!(names.take(found(5..=13), late), found(1..=13), "1 to 4 were named at half time");
        assert_eq!(names.take(found(5..=12), soon + REMEMBERED), found(5..=13));
    }

    #[test]
    fn a_name_that_never_was_empties_nothing_and_one_that_was_is_believed() {
        let now = Instant::now();
        let mut names = Names::new(vec![at(1)], now);
        let nobody = Answer::Nobody("v1.local: no such name".to_owned());
        assert!(matches!(names.take(nobody.clone(), now), Answer::Failed(_)));
        names.take(found([1]), now);
        assert_eq!(names.take(nobody.clone(), now), nobody);
    }
}
