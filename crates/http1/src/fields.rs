//! The header list of a message: flat, in the order received, over two recyclable buffers.
//!
//! Owns: storage, order and the editing of header lines. A map would lose the order that Envoy keeps, and would
//! cost an allocation per line. Names sit lower-case in one text buffer and values in one byte buffer; a line is
//! two ranges. An edit appends the new bytes and leaves the old ones behind until `clear`, so no edit moves bytes.
//! Must never: interpret a value. Read next: `head.rs`.

use std::fmt;
use std::ops::Range;

/// An ordered list of header (or trailer) lines. Names are stored in lower case, values byte for byte.
///
/// `clear` keeps the capacity: a list that is used again for messages of the same size allocates nothing.
#[derive(Default, Clone)]
pub struct Fields {
    names: String,
    values: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
struct Line {
    name_start: usize,
    name_end: usize,
    value_start: usize,
    value_end: usize,
}

impl Line {
    fn name_len(&self) -> usize {
        self.name_end - self.name_start
    }
}

impl Fields {
    /// Forgets every line and keeps the buffers.
    pub fn clear(&mut self) {
        self.names.clear();
        self.values.clear();
        self.lines.clear();
    }

    /// How many lines there are; two lines of one name count as two.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many bytes of heap the buffers hold, for a caller that bounds what it recycles.
    pub fn heap_bytes(&self) -> usize {
        self.names.capacity() + self.values.capacity() + self.lines.capacity() * size_of::<Line>()
    }

    /// Every line, in order: the name in lower case, the value as received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> + '_ {
        self.lines.iter().map(|line| (self.name(line), self.value(line)))
    }

    /// The value of the first line named `name` (given in lower case).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.lines.iter().find(|line| self.is_named(line, name)).map(|line| self.value(line))
    }

    /// The values of all lines named `name` (given in lower case), in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.lines.iter().filter(move |line| self.is_named(line, name)).map(|line| self.value(line))
    }

    /// Whether a line is named `name` (given in lower case).
    pub fn contains(&self, name: &str) -> bool {
        self.lines.iter().any(|line| self.is_named(line, name))
    }

    /// Appends a line. The name is lower-cased on the way in.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let line = self.store(name, value);
        self.lines.push(line);
    }

    /// Puts a line before all others.
    pub fn push_front(&mut self, name: &str, value: &[u8]) {
        let line = self.store(name, value);
        self.lines.insert(0, line);
    }

    /// Gives the first line named `name` (in lower case) this value where it stands and drops the others of that
    /// name; without one, appends it.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        match self.position(name) {
            Some(at) => {
                let value = self.store_value(value);
                self.place(at, value);
                self.drop_after(at, name);
            }
            None => self.push(name, value),
        }
    }

    /// Joins all lines named `name` (in lower case) with `separator`, adds `separator` and `value`, and leaves the
    /// result where the first of them stood; without one, appends `value` as a line.
    pub fn append_to(&mut self, name: &str, separator: &[u8], value: &[u8]) {
        let Some(at) = self.position(name) else { return self.push(name, value) };
        let start = self.values.len();
        self.copy_joined(name, separator);
        self.values.extend_from_slice(separator);
        self.values.extend_from_slice(value);
        self.place(at, start..self.values.len());
        self.drop_after(at, name);
    }

    /// Joins all lines named `name` (in lower case) with `separator` into the first; nothing happens with fewer
    /// than two.
    pub fn join(&mut self, name: &str, separator: &[u8]) {
        let Some(at) = self.position(name) else { return };
        if self.get_all(name).nth(1).is_none() {
            return;
        }
        let start = self.values.len();
        self.copy_joined(name, separator);
        self.place(at, start..self.values.len());
        self.drop_after(at, name);
    }

    /// Drops every line named `name` (in lower case), keeping the order of the rest. Whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        let names = &self.names;
        self.lines.retain(|line| !named(names, line, name));
        self.lines.len() != before
    }

    /// Keeps the lines for which `keep` says so, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        let (names, values) = (&self.names, &self.values);
        self.lines.retain(|line| {
            let name = names.get(line.name_start..line.name_end).unwrap_or_default();
            keep(name, values.get(line.value_start..line.value_end).unwrap_or_default())
        });
    }

    fn name(&self, line: &Line) -> &str {
        self.names.get(line.name_start..line.name_end).unwrap_or_default()
    }

    fn value(&self, line: &Line) -> &[u8] {
        self.values.get(line.value_start..line.value_end).unwrap_or_default()
    }

    fn is_named(&self, line: &Line, name: &str) -> bool {
        named(&self.names, line, name)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| self.is_named(line, name))
    }

    fn store(&mut self, name: &str, value: &[u8]) -> Line {
        let name_start = self.names.len();
        self.names.push_str(name);
        if let Some(stored) = self.names.get_mut(name_start..) {
            stored.make_ascii_lowercase();
        }
        let name_end = self.names.len();
        let value = self.store_value(value);
        Line { name_start, name_end, value_start: value.start, value_end: value.end }
    }

    fn store_value(&mut self, value: &[u8]) -> Range<usize> {
        let start = self.values.len();
        self.values.extend_from_slice(value);
        start..self.values.len()
    }

    fn copy_joined(&mut self, name: &str, separator: &[u8]) {
        let mut first = true;
        for line in &self.lines {
            if !named(&self.names, line, name) {
                continue;
            }
            if !first {
                self.values.extend_from_slice(separator);
            }
            first = false;
            self.values.extend_from_within(line.value_start..line.value_end);
        }
    }

    fn place(&mut self, at: usize, value: Range<usize>) {
        if let Some(line) = self.lines.get_mut(at) {
            line.value_start = value.start;
            line.value_end = value.end;
        }
    }

    fn drop_after(&mut self, at: usize, name: &str) {
        let names = &self.names;
        let mut index = 0;
        self.lines.retain(|line| {
            let keep = index <= at || !named(names, line, name);
            index += 1;
            keep
        });
    }
}

fn named(names: &str, line: &Line, name: &str) -> bool {
    line.name_len() == name.len() && names.get(line.name_start..line.name_end) == Some(name)
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, value)| (name, value.escape_ascii().to_string())))
            .finish()
    }
}

impl<'a> Extend<(&'a str, &'a [u8])> for Fields {
    fn extend<I: IntoIterator<Item = (&'a str, &'a [u8])>>(&mut self, lines: I) {
        for (name, value) in lines {
            self.push(name, value);
        }
    }
}
