//! Who wrote an item that has another revision than the one that was to be replaced.
//!
//! Owns the one judgement that fences controls by their item; it must never do input or output: `item.rs` and the
//! simulation of the core both ask it. Next: `item.rs`.

use super::document::Identity;

/// What a control knows of the item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it was not read yet, or somebody else wrote it since. Nothing may be written.
    #[default]
    Unread,
    /// There is none.
    Absent,
    /// This revision is there, and what it says is in the document of this control.
    At(u64),
}

impl Known {
    /// As it was read.
    pub fn read(revision: Option<u64>) -> Self {
        revision.map_or(Self::Absent, Self::At)
    }

    /// The revision that a write names; the outer none: nothing may be written.
    pub fn expected(self) -> Option<Option<u64>> {
        match self {
            Self::Unread => None,
            Self::Absent => Some(None),
            Self::At(revision) => Some(Some(revision)),
        }
    }
}

/// What a conflict means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Nobody else has written: a write of this control came through whose answer was lost, or somebody removed the
    /// item. The next write names this.
    Own(Known),
    /// Another control has written: this one may not.
    Foreign,
}

/// Judges what a conflict found, for the start of a control with `id`. An id is drawn at each start, so what has this
/// id was written by this process; an answer that was lost has no other trace.
pub fn judge(found: Option<(u64, &Identity)>, id: &str) -> Conflict {
    match found {
        None => Conflict::Own(Known::Absent),
        Some((revision, writer)) if writer.id == id => Conflict::Own(Known::At(revision)),
        Some(_) => Conflict::Foreign,
    }
}
