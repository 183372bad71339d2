//! What goes wrong, for which service and operation, and how often.
//!
//! Only decides; `server` carries it out. Every fault looks on the wire as the real service's would.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Service;
use crate::net::lock;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// This HTTP status with an internal-error body.
    Status {
        /// The status code.
        status: u16,
    },
    /// The service's own throttling error (429).
    Throttle,
    /// The request is taken and never answered.
    Timeout,
    /// The connection is closed instead of an answer.
    Close,
    /// DiscoverInstances finds nothing; lists are empty; anything else is `{}`.
    Empty,
    /// The service, the route or the path does not exist.
    NotFound,
    /// 200 with a body that is not JSON.
    Garbage,
    /// The right answer, but later.
    Latency {
        /// By how many milliseconds.
        ms: u64,
    },
}

/// One fault: of one service, perhaps of one operation, for ever or a number of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Whose requests go wrong.
    pub service: Service,
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: Kind,
    /// Only this operation, such as `UpdateRoute`; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only for so many requests; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl Fault {
    /// A fault of every request to a service, for ever.
    #[must_use]
    pub fn of(service: Service, kind: Kind) -> Self {
        Self { service, kind, operation: None, times: None }
    }

    /// Only this operation.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Only this many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// This fault instead of all others of its service.
    pub fn set(&self, fault: Fault) {
        let mut faults = lock(&self.0);
        faults.retain(|other| other.service != fault.service);
        faults.push(fault);
    }

    /// This fault after those already in force; of several that fit a request the first is played, latencies add up.
    pub fn add(&self, fault: Fault) {
        lock(&self.0).push(fault);
    }

    /// Ends the faults of one service.
    pub fn clear(&self, service: Service) {
        lock(&self.0).retain(|other| other.service != service);
    }

    /// Ends all faults.
    pub fn clear_all(&self) {
        lock(&self.0).clear();
    }

    /// The faults in force.
    #[must_use]
    pub fn list(&self) -> Vec<Fault> {
        lock(&self.0).clone()
    }

    /// What happens to this request: how much later, and what instead of the right answer.
    pub(super) fn decide(&self, service: Service, operation: &str) -> (Duration, Option<Kind>) {
        let mut latency = Duration::ZERO;
        let mut played = None;
        lock(&self.0).retain_mut(|fault| {
            let fits = fault.service == service && fault.operation.as_deref().is_none_or(|o| o == operation);
            if !fits || (played.is_some() && !matches!(fault.kind, Kind::Latency { .. })) {
                return true;
            }
            match fault.kind {
                Kind::Latency { ms } => latency += Duration::from_millis(ms),
                kind => played = Some(kind),
            }
            let Some(times) = &mut fault.times else { return true };
            *times = times.saturating_sub(1);
            *times > 0
        });
        (latency, played)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_ends_by_itself_and_the_next_one_comes() {
        let faults = Faults::default();
        faults.add(Fault::of(Service::CloudMap, Kind::Throttle).operation("DiscoverInstances").times(2));
        faults.add(Fault::of(Service::CloudMap, Kind::Empty));
        faults.add(Fault::of(Service::CloudMap, Kind::Latency { ms: 5 }));
        let decide = |operation| faults.decide(Service::CloudMap, operation);
        let late = Duration::from_millis(5);
        assert_eq!(decide("DiscoverInstances"), (late, Some(Kind::Throttle)));
        assert_eq!(decide("RegisterInstance"), (late, Some(Kind::Empty)));
        assert_eq!(decide("DiscoverInstances"), (late, Some(Kind::Throttle)));
        assert_eq!(decide("DiscoverInstances"), (late, Some(Kind::Empty)));
        assert_eq!(faults.decide(Service::AppMesh, "UpdateRoute"), (Duration::ZERO, None));
        faults.clear(Service::CloudMap);
        assert_eq!(decide("DiscoverInstances"), (Duration::ZERO, None));
    }

    #[test]
    fn a_fault_is_plain_json() {
        let text = r#"{"service":"app_mesh","kind":"status","status":503,"times":3}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(fault, Fault::of(Service::AppMesh, Kind::Status { status: 503 }).times(3));
        assert_eq!(serde_json::to_string(&fault).unwrap(), text);
    }
}
