//! Counting what `cargo test` says.
//!
//! Owns the reading of its closing lines; it must never decide whether a step went well (its exit code does).

use std::fmt;

/// Sums over the test binaries of one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that were left out because they need an outside program.
    pub ignored: usize,
    /// Names of the failed tests.
    pub failed_names: Vec<String>,
}

impl Tally {
    /// Takes one line of output into account.
    pub fn see(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed_names.push(name.to_owned());
        }
    }

    /// Adds another step's counts.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failed_names.extend(other.failed_names.iter().cloned());
    }

    /// Whether no test ran.
    pub fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

/// The number before `word` in `ok. 12 passed; 0 failed; ...`.
fn count(counts: &str, word: &str) -> usize {
    let mut before = "";
    for part in counts.split([' ', ';', '.']).filter(|part| !part.is_empty()) {
        if part == word {
            return before.parse().unwrap_or(0);
        }
        before = part;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_several_binaries_are_summed() {
        let mut tally = Tally::default();
        tally.see(
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        );
        tally.see("test a::weight_zero_gets_no_traffic ... FAILED");
        tally.see("test b ... ok");
        tally.see("test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.00s");
        assert_eq!((tally.passed, tally.failed, tally.ignored), (13, 1, 3));
        assert_eq!(tally.failed_names, ["a::weight_zero_gets_no_traffic"]);
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut tally = Tally::default();
        tally.see("running 3 tests");
        tally.see("    test result: none of this");
        assert_eq!(tally, Tally::default());
    }
}
