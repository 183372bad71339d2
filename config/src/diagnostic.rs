//! What is told to a person whose configuration is wrong: every error at once, with place, text and cure.
//!
//! Owns positions, the collection of errors and their printing; it must never decide what an error is.
//! Next: `tree.rs`, the first that reports here.

use std::fmt;

/// Most errors that are printed for one file; the rest is counted. A person corrects a few and looks again.
pub const MAX_DIAGNOSTICS: usize = 100;
/// Most characters of a source line in a snippet: a document may be one line of a mebibyte (minified JSON).
const SNIPPET_WIDTH: usize = 110;
/// Characters shown before the caret when a long line is cut.
const SNIPPET_LEAD: usize = 50;

/// A place in a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// 1-based; 0 = the document as a whole.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// Characters to underline, all on that line; at least 1.
    pub len: usize,
}

/// One error of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which value, as `static_resources.listeners[0].name`; empty for the whole document.
    pub path: String,
    /// 1-based; 0 when the error is about the whole document.
    pub line: usize,
    /// 1-based, in characters; 0 when the error is about the whole document.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
    /// The source line and below it a line with carets; empty when there is no place.
    pub snippet: String,
}

/// All errors of one document, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The name of the document as the caller gave it.
    pub file: String,
    /// At least one.
    pub items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// One error about a document as a whole, such as an unreadable file.
    pub fn whole(file: &str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        let item = Diagnostic {
            path: String::new(),
            line: 0,
            column: 0,
            message: message.into(),
            cure: cure.into(),
            snippet: String::new(),
        };
        Self { file: file.to_owned(), items: vec![item] }
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            print_one(f, &self.file, item)?;
        }
        let plural = if self.items.len() == 1 { "error" } else { "errors" };
        write!(f, "{}: {} {plural}", self.file, self.items.len())
    }
}

fn print_one(f: &mut fmt::Formatter<'_>, file: &str, item: &Diagnostic) -> fmt::Result {
    writeln!(f, "error: {}", item.message)?;
    let number = item.line.to_string();
    let gutter = " ".repeat(number.len());
    if item.line == 0 {
        writeln!(f, "{gutter}--> {file}")?;
    } else {
        writeln!(f, "{gutter}--> {file}:{}:{}", item.line, item.column)?;
    }
    let mut lines = item.snippet.lines();
    if let Some(source) = lines.next() {
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {source}")?;
    }
    for carets in lines {
        writeln!(f, "{gutter} | {carets}")?;
    }
    if !item.path.is_empty() {
        writeln!(f, "{gutter} = at: {}", item.path)?;
    }
    if !item.cure.is_empty() {
        writeln!(f, "{gutter} = help: {}", item.cure)?;
    }
    writeln!(f)
}

/// Gathers the errors of one document.
#[derive(Debug)]
pub struct Collector<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    items: Vec<Diagnostic>,
    /// Errors over [`MAX_DIAGNOSTICS`].
    omitted: usize,
}

impl<'a> Collector<'a> {
    /// `file` is a name for people, `text` the document that snippets are cut from.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, lines: split_lines(text), items: Vec::new(), omitted: 0 }
    }

    /// Adds an error at a place.
    pub fn report(&mut self, path: &str, mark: Mark, message: impl Into<String>, cure: impl Into<String>) {
        if self.is_full() {
            self.omitted += 1;
            return;
        }
        let snippet = self.snippet(mark);
        self.items.push(Diagnostic {
            path: path.to_owned(),
            line: mark.line,
            column: mark.column,
            message: message.into(),
            cure: cure.into(),
            snippet,
        });
    }

    /// Whether further errors are only counted: then a cure that is costly to find is not worth finding.
    pub fn is_full(&self) -> bool {
        self.items.len() >= MAX_DIAGNOSTICS
    }

    /// Whether nothing was reported.
    pub fn is_clean(&self) -> bool {
        self.items.is_empty()
    }

    /// The value if nothing was reported.
    ///
    /// # Errors
    /// Everything that was reported, in the order of the places.
    pub fn finish<T>(mut self, value: T) -> Result<T, Diagnostics> {
        if self.items.is_empty() {
            return Ok(value);
        }
        self.items.sort_by_key(|item| (item.line, item.column));
        if self.omitted > 0 {
            self.items.push(Diagnostic {
                path: String::new(),
                line: 0,
                column: 0,
                message: format!("and {} more errors", self.omitted),
                cure: "correct the errors above first".to_owned(),
                snippet: String::new(),
            });
        }
        Err(Diagnostics { file: self.file.to_owned(), items: self.items })
    }

    fn snippet(&self, mark: Mark) -> String {
        let Some(line) = mark.line.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return String::new();
        };
        let at = mark.column.saturating_sub(1);
        let skip = if at > SNIPPET_WIDTH - 10 { at - SNIPPET_LEAD } else { 0 };
        let mut shown: String = line.chars().skip(skip).take(SNIPPET_WIDTH).map(printable).collect();
        if line.chars().nth(skip + SNIPPET_WIDTH).is_some() {
            shown.push('…');
        }
        let lead = if skip > 0 { "…" } else { "" };
        let pad = at - skip + lead.chars().count();
        let room = SNIPPET_WIDTH.saturating_sub(at - skip).max(1);
        let carets = "^".repeat(mark.len.clamp(1, room));
        format!("{lead}{shown}\n{}{carets}", " ".repeat(pad))
    }
}

/// Control characters of a file must not reach a terminal; a tab would move the caret.
fn printable(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() {
        '\u{fffd}'
    } else {
        c
    }
}

/// Lines as YAML counts them: LF, CR LF and CR end a line (YAML 1.2, 5.4).
fn split_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        let (line, tail) = rest.split_at(at);
        lines.push(line);
        rest = tail.strip_prefix("\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
    }
    lines.push(rest);
    lines
}

/// The candidate that was probably meant: other letter case, camelCase, or a few edits away.
pub fn did_you_mean<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let wanted = snake_case(found);
    let distance_to = |candidate: &'c str| {
        let candidate_form = snake_case(candidate);
        let length = wanted.chars().count().max(candidate_form.chars().count());
        // One edit turns `v1` into `v2`: short words are taken only when they differ in form alone.
        let most = if length < 4 { 0 } else { 1 + length / 4 };
        let distance = strsim::damerau_levenshtein(&wanted, &candidate_form);
        (distance <= most).then_some((distance, candidate))
    };
    let close = candidates.into_iter().filter_map(distance_to);
    close.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut lower_before = false;
    // Distances are quadratic in the length: a key of a mebibyte is not worth comparing whole.
    for c in name.chars().take(64) {
        if c.is_uppercase() && lower_before {
            out.push('_');
        }
        lower_before = c.is_lowercase() || c.is_ascii_digit();
        out.extend(if c == '-' { '_' } else { c }.to_lowercase());
    }
    out
}
