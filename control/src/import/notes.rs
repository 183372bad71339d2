//! What an import has to say: what was understood, what was left out and why, what is wrong; each with its place.
//!
//! Owns the kinds of remarks and how they are printed; it must never decide which kind one is. Next: `fields.rs`.

use serde::Serialize;
use std::fmt;

/// A place in one of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// As named on the command line.
    pub file: String,
    /// 1-based; 0 = not known.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// Resource and property, as `Route.Properties.Spec`.
    pub at: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(line: &usize) -> bool {
    *line == 0
}

impl Place {
    /// A whole file.
    pub fn file(file: &str) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    /// A resource or property of this one.
    #[must_use]
    pub fn inside(&self, at: &str) -> Self {
        let at = match (self.at.is_empty(), at.is_empty()) {
            (true, _) => at.to_owned(),
            (_, true) => self.at.clone(),
            _ if at.starts_with('[') => format!("{}{at}", self.at),
            _ => format!("{}.{at}", self.at),
        };
        Self { at, ..self.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.at.is_empty() {
            write!(f, ": {}", self.at)?;
        }
        Ok(())
    }
}

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A resource that the configuration is made of.
    Understood,
    /// A choice that was made, and why.
    Note,
    /// Something that Weir does not do, and what that means.
    LeftOut,
    /// Left out, and requests would be answered wrongly without it: an error unless a partial import was asked for.
    Wrong,
    /// The import cannot be made.
    Error,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Understood => "understood",
            Self::Note => "note",
            Self::LeftOut => "left out",
            Self::Wrong => "left out, and requests go wrong without it",
            Self::Error => "error",
        }
    }
}

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind.label(), self.place, self.text)
    }
}

/// All remarks, in the order in which they were made; each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    items: Vec<Note>,
}

impl Notes {
    /// Adds one, unless the same was said.
    pub fn add(&mut self, kind: Kind, place: &Place, text: impl Into<String>) {
        let note = Note { kind, place: place.clone(), text: text.into() };
        if !self.items.contains(&note) {
            self.items.push(note);
        }
    }

    /// Adds an error.
    pub fn error(&mut self, place: &Place, text: impl Into<String>) {
        self.add(Kind::Error, place, text);
    }

    /// Adds a choice.
    pub fn note(&mut self, place: &Place, text: impl Into<String>) {
        self.add(Kind::Note, place, text);
    }

    /// Whether a configuration can be made of it.
    pub fn is_good(&self, allow_partial: bool) -> bool {
        !self
            .items
            .iter()
            .any(|note| note.kind == Kind::Error || (note.kind == Kind::Wrong && !allow_partial))
    }

    /// Whether something is said of this place.
    pub fn mentions(&self, place: &Place) -> bool {
        self.items.iter().any(|note| note.place == *place)
    }

    /// By kind, then as they were made.
    pub fn sorted(&self) -> Vec<Note> {
        let mut items = self.items.clone();
        items.sort_by_key(|note| note.kind);
        items
    }
}
