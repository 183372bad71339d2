//! How long to wait after a failure: full jitter under a bound that doubles.
//!
//! Owns the arithmetic; randomness is an argument. Source: "Exponential Backoff And Jitter", AWS Architecture Blog.

use rand::{Rng, RngExt};
use std::time::Duration;

/// A bound that doubles with each failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits up to `first` after one failure, never more than `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait now.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let bound = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        // Half of the bound is certain: an immediate retry would help nobody.
        bound.mul_f64(rng.random_range(0.5..=1.0))
    }
}

/// A period that differs by up to a tenth each time, so that a fleet does not ask in step.
pub fn jitter(period: Duration, rng: &mut impl Rng) -> Duration {
    period.mul_f64(rng.random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_wait_doubles_up_to_the_bound_and_begins_anew_after_a_success() {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for bound in [100u64, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next(&mut rng);
            let bound = Duration::from_millis(bound);
            assert!(wait <= bound && wait >= bound / 2, "{wait:?} of {bound:?}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(100));
    }
}
