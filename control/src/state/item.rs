//! The state in one item of a DynamoDB table.
//!
//! Owns what of the item is known and every write to it: one at a time, each on the condition that the item still has
//! the revision that is known. It must never write over what another control wrote. docs/decisions/0014-state-in-dynamodb.md
//! says why. Next: `revision.rs`, the judgement of conflicts, and `store.rs`.

use super::document::{Document, Format, Identity, Unreadable};
use super::revision::{Conflict, Known, judge};
use super::trim;
use aws::dynamodb::{Item, StateTable, WriteError};
use gateway_config::wire::Version;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Between two attempts of one write or read, within the patience of whoever waits.
const PAUSE: Duration = Duration::from_millis(200);
/// Conflicts with our own lost writes in one write; more of them are none of ours.
const MAX_CONFLICTS: usize = 4;

/// Documents kept of one revision; whoever removes the item so often wants no more of them.
const MAX_KEPT: usize = 20;

/// Why the item could not be read or written. Every text names the item and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// DynamoDB gave no answer, or refused.
    #[error("state {0}")]
    Aws(#[from] aws::Error),
    /// Another control has written it.
    #[error("state {place}: {} has written it since, so this control does not lead", writer.as_ref().map_or_else(|| "another control".to_owned(), |version| format!("control {} (version {version})", version.control_id)))]
    Overtaken {
        /// Which item.
        place: String,
        /// Up to which version, if that can be read.
        writer: Option<Version>,
    },
    /// It is no document.
    #[error(
        "state {place}: {why}; nothing was changed: write the document back from a copy (point-in-time recovery), or \
         start with --recover to take the weights from the gateways (this document is then kept in an item beside it)"
    )]
    Corrupt {
        /// Which item.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// Written by a newer major.
    #[error(
        "state {place}: format {major} is newer than this build's {}; nothing was changed: run the newer control, or \
         start with --recover to take the weights from the gateways (this document is then kept in an item beside it)",
        super::document::FORMAT_MAJOR
    )]
    Newer {
        /// Which item.
        place: String,
        /// Its major.
        major: u32,
    },
    /// Longer than an item may be, though the history was trimmed.
    #[error(
        "state {place}: the document has {bytes} bytes without its old history, more than an item holds: use a state \
         file, or fewer routes per control"
    )]
    TooLarge {
        /// Which item.
        place: String,
        /// Its length.
        bytes: usize,
    },
    /// No answer in time.
    #[error("state {place}: DynamoDB has not answered after {seconds} s (the write may still reach it)")]
    Slow {
        /// Which item.
        place: String,
        /// How long it was awaited.
        seconds: u64,
    },
    /// An attempt got no answer, and a later one got this.
    #[error("state {last} (an earlier attempt got no answer: the write may still reach it)")]
    Unsure {
        /// The last answer.
        last: aws::Error,
    },
    /// Nothing may be written before it was read.
    #[error("state {place}: it could not be read yet, so nothing is written over it")]
    Unread {
        /// Which item.
        place: String,
    },
}

impl ItemError {
    /// Whether the item may hold what could not be written, now or later.
    pub fn may_have_landed(&self) -> bool {
        match self {
            Self::Slow { .. } | Self::Unsure { .. } => true,
            Self::Aws(error) => error.may_have_happened(),
            _ => false,
        }
    }
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the item.
    pub revision: u64,
    /// Its document.
    pub document: Document,
}

/// The item of one control.
#[derive(Debug)]
pub struct ItemStore {
    table: StateTable,
    // Of this start.
    id: String,
    state: Mutex<State>,
    // Writes of one control follow one another.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    format: Option<Format>,
    // What is there is to be put aside, not to be begun from.
    aside: bool,
    // Changes left out of the last write: told when it becomes another number.
    left_out: usize,
}

impl ItemStore {
    /// The item of the start with `id`. Nothing is read yet, so nothing can be written.
    pub fn new(table: StateTable, id: &str) -> Self {
        Self { table, id: id.to_owned(), state: Mutex::default(), writing: tokio::sync::Mutex::new(()) }
    }

    /// Which item, for people.
    pub fn place(&self) -> String {
        self.table.place()
    }

    /// What is known of it.
    pub fn known(&self) -> Known {
        self.with(|state| state.known)
    }

    /// What was read is in this control's document from now on: the next write replaces it.
    pub fn base_on(&self, found: Option<&Found>) {
        self.with(|state| {
            state.known = Known::read(found.map(|found| found.revision));
            state.format = found.map(|found| found.document.format);
        });
    }

    /// Whether what is there is still to be put aside (`--recover`), because DynamoDB did not answer so far.
    pub fn is_to_be_put_aside(&self) -> bool {
        self.with(|state| state.aside)
    }

    /// Says so, or that it is done.
    pub fn note_aside(&self, aside: bool) {
        self.with(|state| state.aside = aside);
    }

    /// Nothing is known any more.
    pub fn forget(&self) {
        self.with(|state| state.known = Known::Unread);
    }

    /// Reads it, asking again within `patience` while that may help.
    pub async fn read(&self, patience: Duration) -> Result<Option<Found>, ItemError> {
        self.read_item(patience).await?.map(|item| self.parse(&item)).transpose()
    }

    async fn read_item(&self, patience: Duration) -> Result<Option<Item>, ItemError> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        loop {
            let Ok(answer) = timeout_at(deadline, self.table.read()).await else { break };
            match answer {
                Ok(item) => return Ok(item),
                Err(error) if !error.is_retriable() => return Err(error.into()),
                Err(error) => last = Some(error),
            }
            if Instant::now() + PAUSE >= deadline {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.too_late(last, patience))
    }

    /// Who has written it if that is not this control, and it is news.
    pub async fn overtaken(&self, patience: Duration) -> Result<Option<Overtaker>, ItemError> {
        let item = self.read_item(patience).await?;
        let Known::At(known) = self.known() else { return Ok(None) };
        Ok(item.filter(|item| item.revision > known).and_then(|item| {
            let writer = writer_of(&item);
            let foreign = writer.as_ref().is_none_or(|writer| writer.id != self.id);
            foreign.then(|| Overtaker { writer: writer.map(|writer| writer.version()) })
        }))
    }

    /// Replaces it, trying again within `patience` while that may help.
    pub async fn write(&self, document: &Document, patience: Duration) -> Result<(), ItemError> {
        let deadline = Instant::now() + patience;
        let Ok(_one_at_a_time) = timeout_at(deadline, self.writing.lock()).await else {
            return Err(self.too_late(None, patience));
        };
        let (text, format) = self.text(document)?;
        let (mut last, mut conflicts, mut unanswered) = (None, 0, false);
        loop {
            let Some(expected) = self.known().expected() else {
                return Err(ItemError::Unread { place: self.place() });
            };
            let Ok(answer) = timeout_at(deadline, self.table.write(expected, &text)).await else {
                unanswered = true;
                break;
            };
            match answer {
                Ok(revision) => {
                    self.with(|state| {
                        state.known = Known::At(revision);
                        state.format = Some(format);
                    });
                    return Ok(());
                }
                Err(WriteError::Conflict { found }) if conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                    self.resolve(found.as_ref())?;
                    continue;
                }
                Err(WriteError::Conflict { found }) => return Err(self.overtaken_by(found.as_ref())),
                Err(WriteError::TooLarge { bytes }) => {
                    return Err(ItemError::TooLarge { place: self.place(), bytes });
                }
                Err(WriteError::Aws(error)) => {
                    unanswered |= error.may_have_happened();
                    let is_final = !error.is_retriable();
                    last = Some(error);
                    if is_final {
                        break;
                    }
                }
            }
            if Instant::now() + PAUSE >= deadline {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        // What the last attempt was told says nothing about those before it.
        Err(match last {
            Some(last) if unanswered && !last.may_have_happened() => ItemError::Unsure { last },
            last => self.too_late(last, patience),
        })
    }

    /// Keeps what is there in an item beside it, before something else takes its place. Answers the epoch that it
    /// names, and where it is kept; none when there is nothing.
    pub async fn put_aside(&self, patience: Duration) -> Result<Option<(u64, String)>, ItemError> {
        let Some(item) = self.read_item(patience).await? else {
            self.base_on(None);
            return Ok(None);
        };
        let kept = self.keep(&item).await?;
        self.with(|state| state.known = Known::At(item.revision));
        Ok(Some((writer_of(&item).map_or(0, |writer| writer.epoch), kept)))
    }

    /// Under the first free name: an item that was removed and made again has the same revisions with other documents.
    async fn keep(&self, item: &Item) -> Result<String, ItemError> {
        let name = format!("{}.before-recover-{}", self.table.key(), item.revision);
        for number in 1..=MAX_KEPT {
            let kept = self.table.beside(if number == 1 { name.clone() } else { format!("{name}-{number}") });
            match kept.write(None, &item.document).await {
                Ok(_) => return Ok(kept.place()),
                // By a start that came no further.
                Err(WriteError::Conflict { found: Some(found) }) if found.document == item.document => {
                    return Ok(kept.place());
                }
                Err(WriteError::Conflict { .. }) => {}
                Err(WriteError::TooLarge { bytes }) => {
                    return Err(ItemError::TooLarge { place: kept.place(), bytes });
                }
                Err(WriteError::Aws(error)) => return Err(error.into()),
            }
        }
        let why =
            format!("{MAX_KEPT} documents are kept as `{name}` already: remove those that nobody needs");
        Err(ItemError::Corrupt { place: self.place(), why })
    }

    fn resolve(&self, found: Option<&Item>) -> Result<(), ItemError> {
        let writer = found.and_then(writer_of).unwrap_or_default();
        match judge(found.map(|item| (item.revision, &writer)), &self.id) {
            Conflict::Own(known) => {
                tracing::warn!(state = self.place(), ?known, "an earlier write came through after all");
                self.with(|state| state.known = known);
                Ok(())
            }
            Conflict::Foreign => Err(self.overtaken_by(found)),
        }
    }

    fn overtaken_by(&self, found: Option<&Item>) -> ItemError {
        let writer = found.and_then(writer_of).map(|writer| writer.version());
        ItemError::Overtaken { place: self.place(), writer }
    }

    fn text(&self, document: &Document) -> Result<(String, Format), ItemError> {
        let mut document = document.clone();
        document.format = Format::to_write(self.with(|state| state.format));
        let (text, left_out) = trim::to_text(&document, trim::TRIM_TO_BYTES).map_err(|error| {
            ItemError::Corrupt { place: self.place(), why: format!("cannot be written as JSON: {error}") }
        })?;
        let before = self.with(|state| std::mem::replace(&mut state.left_out, left_out));
        if left_out != before {
            tracing::info!(state = self.place(), left_out, "the oldest changes do not fit and are left out");
        }
        Ok((text, document.format))
    }

    fn parse(&self, item: &Item) -> Result<Found, ItemError> {
        match Document::read(item.document.as_bytes()) {
            Ok(document) => Ok(Found { revision: item.revision, document }),
            Err(Unreadable::Newer(major)) => Err(ItemError::Newer { place: self.place(), major }),
            Err(Unreadable::Corrupt(why)) => Err(ItemError::Corrupt { place: self.place(), why }),
        }
    }

    fn too_late(&self, last: Option<aws::Error>, patience: Duration) -> ItemError {
        match last {
            Some(error) => error.into(),
            None => ItemError::Slow { place: self.place(), seconds: patience.as_secs() },
        }
    }

    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Another control that has written the item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overtaker {
    /// Up to which version, if that can be read.
    pub writer: Option<Version>,
}

/// Who wrote a document, though it may be one of a newer build.
fn writer_of(item: &Item) -> Option<Identity> {
    let value: serde_json::Value = serde_json::from_str(&item.document).ok()?;
    serde_json::from_value(value.get("control")?.clone()).ok()
}
