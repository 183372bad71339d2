//! Who is ahead.
//!
//! Owns one question: does a version seen in the fleet come from a control that knows more than this one? It must
//! never change anything. docs/decisions/0003-fencing.md says why the answer is this one. Next: `weights.rs`.

use crate::state::document::{Identity, MAX_LINEAGE};
use gateway_config::wire::Version;

/// A version that this control may not overtake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// What was seen.
    pub seen: Version,
    /// Who showed it.
    pub witness: Witness,
}

/// Who showed that another control is ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The gateway that serves it.
    Gateway(String),
    /// The state that both write.
    State(String),
}

/// Whether `seen` was published by somebody who knows more than `own`, the start of a control that goes on from the
/// starts in `lineage`.
///
/// A higher epoch is ahead. In an epoch that this control or its state knows, another id, or a seq that the state
/// never reached, is ahead: the state is an old copy, or one of two copies. Other lower epochs were left behind on
/// purpose, by `adopt` or by `--recover`.
pub fn is_ahead(own: &Identity, lineage: &[Identity], seen: &Version) -> bool {
    if seen.epoch != own.epoch {
        return seen.epoch > own.epoch
            || lineage.iter().any(|start| start.epoch == seen.epoch && knows_more(start, seen));
    }
    knows_more(own, seen)
}

fn knows_more(known: &Identity, seen: &Version) -> bool {
    known.id != seen.control_id || seen.seq > known.seq
}

/// The lineage of the next start: the starts before `last`, and `last` itself.
pub fn extend(mut lineage: Vec<Identity>, last: Identity) -> Vec<Identity> {
    lineage.push(last);
    let excess = lineage.len().saturating_sub(MAX_LINEAGE);
    lineage.drain(..excess);
    lineage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: u64, seq: u64, id: &str) -> Identity {
        Identity { id: id.to_owned(), epoch, seq, ..Identity::default() }
    }

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn its_own_versions_and_those_of_its_state_are_not_ahead() {
        let lineage = [start(3, 7, "x")];
        let own = start(4, 9, "y");
        for seen in ["4.9-y", "4.1-y", "3.7-x", "3.2-x", "2.900-z"] {
            assert!(!is_ahead(&own, &lineage, &version(seen)), "{seen}");
        }
    }

    #[test]
    fn a_higher_epoch_a_later_seq_and_another_id_are_ahead() {
        let lineage = [start(3, 7, "x")];
        let own = start(4, 9, "y");
        for seen in ["5.1-z", "4.10-y", "4.1-z", "3.8-x", "3.1-z"] {
            assert!(is_ahead(&own, &lineage, &version(seen)), "{seen}");
        }
    }

    #[test]
    fn the_lineage_is_bounded_and_keeps_the_newest() {
        let mut lineage = Vec::new();
        for epoch in 0..200 {
            lineage = extend(lineage, start(epoch, 1, "x"));
        }
        assert_eq!(lineage.len(), MAX_LINEAGE);
        assert_eq!(lineage.last().unwrap().epoch, 199);
    }
}
