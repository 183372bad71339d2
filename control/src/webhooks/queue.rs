//! What waits for one webhook.
//!
//! Owns the bound, and what counts as the same event told again; it must never lose a newer event for an older one.
//! Next: `message.rs`.

use crate::core::event::{Event, EventKind};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// A night of events of a fleet, and a tenth of a megabyte.
pub const CAPACITY: usize = 256;
/// The same event is not told again within this.
pub const QUIET: Duration = Duration::from_secs(60);

type Same = (EventKind, Option<String>, Option<String>, String);

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Event>,
    // Bounded by what can be pushed within a minute and by `CAPACITY`.
    told: BTreeMap<Same, Instant>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Waits,
    Repeated,
    DroppedOldest,
}

impl Queue {
    pub(super) fn push(&mut self, event: Event, now: Instant) -> Pushed {
        self.told.retain(|_, at| now.duration_since(*at) < QUIET);
        if event.kind == EventKind::Recovered {
            // What begins again after its end is news.
            self.told.retain(|(_, route, gateway, _), _| *route != event.route || *gateway != event.gateway);
        }
        if event.kind == EventKind::WeightsChanged {
            // There and back and there again: the last word must be the one that is true.
            self.told.retain(|(kind, route, _, text), _| {
                *kind != event.kind || *route != event.route || *text == event.text
            });
        }
        let same = (event.kind, event.route.clone(), event.gateway.clone(), event.text.clone());
        if self.told.contains_key(&same) {
            return Pushed::Repeated;
        }
        if self.told.len() < CAPACITY {
            self.told.insert(same, now);
        }
        let full = self.waiting.len() >= CAPACITY;
        if full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
        if full { Pushed::DroppedOldest } else { Pushed::Waits }
    }

    pub(super) fn next(&mut self) -> Option<Event> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, gateway: &str) -> Event {
        Event {
            kind,
            route: None,
            gateway: Some(gateway.to_owned()),
            text: "x".to_owned(),
            at: String::new(),
        }
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for number in 0..CAPACITY {
            assert_eq!(queue.push(event(EventKind::GatewayGone, &number.to_string()), now), Pushed::Waits);
        }
        assert_eq!(queue.push(event(EventKind::GatewayGone, "new"), now), Pushed::DroppedOldest);
        assert_eq!(queue.next().unwrap().gateway.unwrap(), "1");
        assert_eq!(queue.waiting.len(), CAPACITY - 1);
    }

    #[test]
    fn weights_that_come_back_within_a_minute_are_told_because_the_last_word_must_be_true() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let change = |text: &str, route: &str| Event {
            kind: EventKind::WeightsChanged,
            route: Some(route.to_owned()),
            gateway: None,
            text: text.to_owned(),
            at: String::new(),
        };
        for text in ["1 % -> 10 %", "10 % -> 0 %", "0 % -> 1 %", "1 % -> 10 %"] {
            assert_eq!(queue.push(change(text, "svc1"), now), Pushed::Waits, "{text}");
        }
        assert_eq!(queue.push(change("x", "svc2"), now), Pushed::Waits);
        assert_eq!(queue.push(change("1 % -> 10 %", "svc1"), now), Pushed::Repeated);
    }

    #[test]
    fn the_same_event_is_not_told_twice_within_a_minute_unless_it_was_over() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let gone = || event(EventKind::GatewayGone, "g1");
        assert_eq!(queue.push(gone(), now), Pushed::Waits);
        assert_eq!(queue.push(gone(), now + Duration::from_secs(59)), Pushed::Repeated);
        assert_eq!(queue.push(event(EventKind::GatewayGone, "g2"), now), Pushed::Waits);
        assert_eq!(
            queue.push(event(EventKind::Recovered, "g1"), now + Duration::from_secs(59)),
            Pushed::Waits
        );
        assert_eq!(queue.push(gone(), now + Duration::from_secs(59)), Pushed::Waits);
        assert_eq!(queue.push(gone(), now + Duration::from_secs(119)), Pushed::Waits);
    }
}
