//! What `cargo demo -- --for 20s --traffic 200` plays: raise the weight, kill v2's backend, bring it back; then a
//! table of what was asked and what was seen.
//!
//! Owns the plot and the table. The moments are shares of the whole time, so a longer run has longer scenes.
//! Next: `traffic.rs`.

use std::fmt::Write as _;
use std::time::Duration;

use super::traffic::Counts;

/// One scene of the plot.
pub struct Scene {
    /// When it begins, as a share of the whole time.
    pub at: f64,
    /// Name in the table.
    pub name: &'static str,
    /// Weight of v2 in percent that is asked for; none where there is no telling (v2 is down or coming back).
    pub asked: Option<f64>,
    /// What is done at its beginning.
    pub act: Act,
}

/// What begins a scene.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    None,
    /// `control set-weight svc1 v1=90 v2=10`.
    Raise,
    /// The change is acknowledged.
    Raised,
    /// SIGKILL to v2's backend.
    Kill,
    /// v2's backend is started again.
    Restart,
}

/// The plot.
pub const SCENES: [Scene; 5] = [
    Scene { at: 0.0, name: "v2 at 1 %", asked: Some(1.0), act: Act::None },
    Scene { at: 0.30, name: "weight changing", asked: None, act: Act::Raise },
    Scene { at: 0.30, name: "v2 at 10 %", asked: Some(10.0), act: Act::Raised },
    Scene { at: 0.60, name: "v2 killed", asked: None, act: Act::Kill },
    Scene { at: 0.80, name: "v2 started again", asked: None, act: Act::Restart },
];

/// How many standard deviations from the asked share are still called "as asked": chance goes beyond once in 15,000.
const FITTING_DEVIATIONS: f64 = 4.0;

/// When a scene begins.
pub fn moment(scene: &Scene, whole: Duration) -> Duration {
    whole.mul_f64(scene.at)
}

/// Whether a share of v2 fits the weight that was asked for.
fn fits(counts: &Counts, asked_percent: f64) -> bool {
    #[allow(clippy::cast_precision_loss)]
    let (requests, v2) = (counts.requests() as f64, counts.v2 as f64);
    let share = asked_percent / 100.0;
    let deviation = (requests * share * (1.0 - share)).sqrt();
    (v2 - requests * share).abs() <= FITTING_DEVIATIONS * deviation.max(1.0)
}

/// The closing table.
pub fn table(phases: &[Counts]) -> String {
    let mut text = format!(
        "{:<18} {:>8} {:>9} {:>7} {:>6} {:>9} {:>9} {:>7} {:>8} {:>8}\n",
        "", "asked v2", "requests", "v1", "v2", "seen v2", "as asked", "failed", "p50 ms", "p99 ms"
    );
    for (scene, counts) in SCENES.iter().zip(phases).filter(|(_, counts)| counts.requests() > 0) {
        #[allow(clippy::cast_precision_loss)]
        let seen = 100.0 * counts.v2 as f64 / counts.requests() as f64;
        let asked = scene.asked.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1} %"));
        let fitting = scene.asked.map_or("-", |percent| if fits(counts, percent) { "yes" } else { "NO" });
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<18} {asked:>8} {:>9} {:>7} {:>6} {:>9} {fitting:>9} {:>7} {:>8.2} {:>8.2}",
            scene.name,
            counts.requests(),
            counts.v1,
            counts.v2,
            format!("{seen:.2} %"),
            counts.failed,
            counts.latency_ms(0.5),
            counts.latency_ms(0.99),
        );
    }
    text + &sum(phases)
}

/// How many requests there were, how many failed and how the first did.
pub fn sum(phases: &[Counts]) -> String {
    let all: u64 = phases.iter().map(Counts::requests).sum();
    let failed: u64 = phases.iter().map(|counts| counts.failed).sum();
    let first = phases.iter().find_map(|counts| counts.first_failure.as_ref());
    let why = first.map(|first| format!("; the first: {first}")).unwrap_or_default();
    format!("{all} requests, {failed} failed{why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(v1: u64, v2: u64, failed: u64) -> Counts {
        Counts { v1, v2, failed, ..Counts::default() }
    }

    #[test]
    fn scenes_come_in_order_within_the_time() {
        assert!(SCENES.windows(2).all(|two| two[0].at <= two[1].at));
        assert!(SCENES.iter().all(|scene| moment(scene, Duration::from_secs(20)) < Duration::from_secs(20)));
    }

    #[test]
    fn chance_is_as_asked_and_a_wrong_weight_is_not() {
        assert!(fits(&counts(1188, 12, 0), 1.0));
        assert!(fits(&counts(1180, 20, 0), 1.0));
        assert!(!fits(&counts(1080, 120, 0), 1.0));
        assert!(!fits(&counts(1200, 0, 0), 10.0));
    }

    #[test]
    fn the_table_ends_with_the_failures() {
        let mut bad = counts(10, 0, 2);
        bad.first_failure = Some("status 503: no healthy upstream".to_owned());
        let text = table(&[counts(99, 1, 0), bad]);
        assert!(
            text.ends_with("112 requests, 2 failed; the first: status 503: no healthy upstream"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
