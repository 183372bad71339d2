//! Whether a load balancer is taken for the clients.
//!
//! Owns the suspicion that `xff_num_trusted_hops` is too low: nearly all requests come from a few private addresses and
//! each names somebody else in x-forwarded-for. A worker counts in its own memory and writes a verdict into a few
//! atomics once in a thousand requests; it must never allocate, lock or log. Next: `request/headers.rs`, which looks.

use crate::process::Process;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Requests of one verdict: fewer could be a few clients indeed.
pub const WINDOW: u32 = 1000;
/// Addresses that an application load balancer answers from at most in one subnet each; more are clients.
pub const FEW: usize = 8;
/// Requests of a window that may be of others: "nearly all".
const OTHERS: u32 = WINDOW / 100;
/// Requests that are not looked at after a window without suspicion.
const PAUSE: u32 = 10 * WINDOW;
/// Listeners of a worker that are watched; more are a matter for whoever has so many.
const MAX_LISTENERS: usize = 64;
/// Between two looks for something to warn of.
const LOOK: Duration = Duration::from_secs(5);
/// Between two warnings of one listener.
const WARN_AGAIN: Duration = Duration::from_secs(3600);

/// Whom a request was taken to be from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its sender; nobody stands between, as far as it says.
    Direct,
    /// Its sender, at this private address, although it names another in x-forwarded-for.
    Sender(Ipv4Addr),
    /// Whom x-forwarded-for names, or a sender at a public address.
    Other,
}

impl Seen {
    /// `client` is the address that counts as the client's, `peer` the sender's; `forwarded`: there was an x-forwarded-for.
    pub fn of(client: IpAddr, peer: IpAddr, forwarded: bool) -> Self {
        match client.to_canonical() {
            _ if !forwarded => Self::Direct,
            IpAddr::V4(v4) if client == peer && is_private(v4) => Self::Sender(v4),
            _ => Self::Other,
        }
    }
}

/// RFC 1918, RFC 6598 (used inside VPCs) and this host.
fn is_private(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_private() || address.is_loopback() || (a == 100 && b & 0xc0 == 64)
}

/// What one worker has seen.
#[derive(Debug, Default)]
pub struct Clients(RefCell<Vec<Window>>);

impl Clients {
    /// Notes a request that came in by the listener at this position.
    pub fn note(&self, listener: usize, seen: Seen, verdict: &Verdict) {
        if seen == Seen::Direct || listener >= MAX_LISTENERS {
            return;
        }
        let mut windows = self.0.borrow_mut();
        if windows.len() <= listener {
            // Once per listener and worker.
            windows.resize_with(listener + 1, Window::default);
        }
        if let Some(window) = windows.get_mut(listener)
            && let Some(few) = window.note(seen)
        {
            verdict.publish(few);
        }
    }
}

#[derive(Debug, Default)]
struct Window {
    skip: u32,
    requests: u32,
    others: u32,
    count: usize,
    addresses: [u32; FEW],
}

impl Window {
    /// At the end of a window the few addresses, none when there is nothing to suspect.
    fn note(&mut self, seen: Seen) -> Option<&[u32]> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.requests == 0 {
            (self.others, self.count) = (0, 0);
        }
        self.requests += 1;
        match seen {
            Seen::Sender(address) => self.add(address.to_bits()),
            Seen::Direct | Seen::Other => self.others += 1,
        }
        if self.others > OTHERS {
            (self.requests, self.skip) = (0, PAUSE);
            return Some(&[]);
        }
        if self.requests < WINDOW {
            return None;
        }
        self.requests = 0;
        self.addresses.get(..self.count)
    }

    fn add(&mut self, address: u32) {
        let known = self.addresses.get(..self.count).is_some_and(|known| known.contains(&address));
        match self.addresses.get_mut(self.count) {
            _ if known => {}
            Some(free) => {
                *free = address;
                self.count += 1;
            }
            None => self.others += 1,
        }
    }
}

/// What the workers think of one listener; the last verdict counts.
#[derive(Debug, Default)]
pub struct Verdict {
    count: AtomicU32,
    addresses: [AtomicU32; FEW],
}

impl Verdict {
    fn publish(&self, few: &[u32]) {
        for (cell, address) in self.addresses.iter().zip(few) {
            cell.store(*address, Relaxed);
        }
        self.count.store(u32::try_from(few.len()).unwrap_or(0), Relaxed);
    }

    /// The addresses that are taken for clients and look like a load balancer's; none without suspicion. Verdicts of
    /// two workers may be mixed: they are for people.
    pub fn few(&self) -> Vec<Ipv4Addr> {
        let count = self.count.load(Relaxed) as usize;
        let addresses = self.addresses.iter().take(count).map(|cell| Ipv4Addr::from_bits(cell.load(Relaxed)));
        let mut addresses: Vec<Ipv4Addr> = addresses.collect();
        addresses.sort_unstable();
        addresses
    }
}

/// Warns of each listener that is under suspicion, once an hour.
pub async fn warn(process: Arc<Process>) {
    let mut warned: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = tokio::time::Instant::now().into_std();
        for listener in &process.store.snapshot().routes.listeners {
            let few = listener.listener_stats.clients.few();
            let again = |at: &Instant| now.saturating_duration_since(*at) < WARN_AGAIN;
            if few.is_empty() || warned.get(&listener.listener).is_some_and(again) {
                continue;
            }
            warned.insert(listener.listener.clone(), now);
            tracing::warn!("{}", sentence(&listener.listener, &few));
        }
    }
}

fn sentence(listener: &str, few: &[Ipv4Addr]) -> String {
    let addresses: Vec<String> = few.iter().map(ToString::to_string).collect();
    format!(
        "listener `{listener}`: nearly all requests are taken to be from {} ({}), although they name others in \
         x-forwarded-for. That looks like a load balancer: set `xff_num_trusted_hops: 1` in the listener's \
         http_connection_manager, so that the client that it names is believed",
        if few.len() == 1 { "one address".to_owned() } else { format!("{} addresses", few.len()) },
        addresses.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alb(last: u8) -> Seen {
        Seen::of([10, 0, 1, last].into(), [10, 0, 1, last].into(), true)
    }

    fn seen(requests: u32, who: impl Fn(u32) -> Seen) -> Vec<Ipv4Addr> {
        let (clients, verdict) = (Clients::default(), Verdict::default());
        (0..requests).for_each(|n| clients.note(0, who(n), &verdict));
        verdict.few()
    }

    #[test]
    fn a_thousand_requests_of_a_few_private_addresses_that_name_others_are_suspicious() {
        assert_eq!(seen(WINDOW - 1, |_| alb(1)), [] as [Ipv4Addr; 0]);
        let two = [Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(10, 0, 1, 2)];
        assert_eq!(seen(WINDOW, |n| alb(1 + (n % 2) as u8)), two);
        assert_eq!(seen(WINDOW, |n| alb((n % 8) as u8)).len(), FEW);
    }

    #[test]
    fn more_addresses_public_ones_and_believed_ones_are_clients() {
        let none: [Ipv4Addr; 0] = [];
        assert_eq!(seen(5 * WINDOW, |n| alb((n % 9) as u8)), none);
        let public = Seen::of([203, 0, 113, 1].into(), [203, 0, 113, 1].into(), true);
        assert_eq!(seen(5 * WINDOW, |_| public), none);
        let believed = Seen::of([10, 9, 9, 9].into(), [10, 0, 1, 1].into(), true);
        assert_eq!(seen(5 * WINDOW, |_| believed), none);
        assert_eq!(seen(5 * WINDOW, |_| Seen::of([10, 0, 1, 1].into(), [10, 0, 1, 1].into(), false)), none);
    }

    #[test]
    fn nearly_all_is_enough_and_a_window_of_clients_takes_the_suspicion_back() {
        let (clients, verdict) = (Clients::default(), Verdict::default());
        (0..WINDOW).for_each(|n| clients.note(0, if n % 100 == 0 { Seen::Other } else { alb(1) }, &verdict));
        assert_eq!(verdict.few(), [Ipv4Addr::new(10, 0, 1, 1)]);
        (0..WINDOW).for_each(|_| clients.note(0, Seen::Other, &verdict));
        assert!(verdict.few().is_empty());
    }

    #[test]
    fn the_sentence_names_listener_addresses_and_cure() {
        let text = sentence("ingress", &[Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(10, 0, 2, 1)]);
        for part in ["`ingress`", "2 addresses (10.0.1.1, 10.0.2.1)", "`xff_num_trusted_hops: 1`"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
