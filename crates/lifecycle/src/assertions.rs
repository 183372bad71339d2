//! Checks that tests make of our own code's cost.
//!
//! Owns nothing at run time; only tests call it.

use std::future::Future;

/// The size in bytes of a future, without running it.
pub const fn size_of_future<F: Future>(_future: &F) -> usize {
    size_of::<F>()
}

/// Asserts that a future's size is within `at_least..=at_most` bytes.
///
/// Every task of a connection pays for the largest path through its future, so growth must be seen. The lower
/// bound is there because an assertion that is never tightened ends up allowing everything: when the future
/// shrinks, lower both bounds.
///
/// # Panics
/// When the size is out of bounds.
pub const fn future_size<F: Future>(future: &F, at_least: usize, at_most: usize) {
    let size = size_of_future(future);
    assert!(
        size <= at_most,
        "the future has grown over its upper bound: find out what it holds across an await"
    );
    assert!(size >= at_least, "the future has shrunk under its lower bound: tighten both bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn holds(bytes: [u8; 1000]) -> u8 {
        std::future::ready(()).await;
        bytes.iter().fold(0, |sum, byte| sum ^ byte)
    }

    #[test]
    fn a_future_within_its_bounds_passes() {
        future_size(&holds([0; 1000]), 1000, 2100);
    }

    #[test]
    #[should_panic(expected = "grown")]
    fn a_future_over_its_upper_bound_fails() {
        future_size(&holds([0; 1000]), 0, 999);
    }

    #[test]
    #[should_panic(expected = "shrunk")]
    fn a_future_under_its_lower_bound_fails() {
        future_size(&std::future::ready(()), 100, 200);
    }
}
