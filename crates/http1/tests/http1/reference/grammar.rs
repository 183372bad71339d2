//! What all messages share: a cursor, the character classes, lines and numbers. Read next: `request.rs`.

use super::{BAD, Fault, Lines, MAX_LINES};

/// One position in some bytes, moving forward.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn one(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        if *first != byte {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    pub(super) fn text(&mut self, text: &[u8]) -> Option<()> {
        text.iter().try_for_each(|byte| self.one(*byte))
    }

    /// The longest run of bytes for which `is` holds, maybe empty.
    pub(super) fn run(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|byte| is(**byte)).count();
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        run
    }

    pub(super) fn run1(&mut self, is: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        Some(self.run(is)).filter(|run| !run.is_empty())
    }

    pub(super) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

// RFC 9110 section 5.6.2 and RFC 5234 appendix B.1.
pub(super) fn tchar(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || digit(byte)
        || alpha(byte)
}

pub(super) fn digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

pub(super) fn alpha(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_uppercase()
}

pub(super) fn vchar(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte)
}

pub(super) fn blank(byte: u8) -> bool {
    byte == 0x20 || byte == 0x09
}

pub(super) fn field_byte(byte: u8) -> bool {
    vchar(byte) || blank(byte) || byte >= 0x80
}

/// The lines before the first empty one, after any leading empty ones, and the bytes that all of it takes.
/// A line ends with LF; one CR before it belongs to the end.
pub(super) fn lines(input: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let length = input[at..].iter().position(|byte| *byte == b'\n')?;
        let mut line = &input[at..at + length];
        at += length + 1;
        if line.last() == Some(&b'\r') {
            line = &line[..line.len() - 1];
        }
        match (line.is_empty(), found.is_empty()) {
            (true, true) => {}
            (true, false) => return Some((found, at)),
            (false, _) => found.push(line),
        }
    }
}

/// `field-line = field-name ":" OWS field-value OWS`.
pub(super) fn field_line(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut cursor = Cursor { rest: line };
    let name = cursor.run1(tchar)?;
    cursor.one(b':')?;
    cursor.run(blank);
    let value = cursor.run(field_byte);
    cursor.end()?;
    let length = value.iter().rposition(|byte| !blank(*byte)).map_or(0, |last| last + 1);
    Some((String::from_utf8(name.to_vec()).ok()?.to_lowercase(), value[..length].to_vec()))
}

pub(super) fn field_lines(raw: &[&[u8]], faults: &mut Vec<Fault>) -> Lines {
    if raw.len() > MAX_LINES {
        faults.push((431, true));
    }
    let read: Vec<_> = raw.iter().filter_map(|line| field_line(line)).collect();
    if read.len() != raw.len() {
        faults.push(BAD);
    }
    read
}

pub(super) fn values<'a>(fields: &'a Lines, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|line| line.0 == name).map(|line| line.1.as_slice()).collect()
}

/// `1*DIGIT` below 2^64.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    let mut cursor = Cursor { rest: bytes };
    let digits = cursor.run1(digit)?;
    cursor.end()?;
    let mut number = 0_u128;
    for digit in digits {
        number = (number * 10 + u128::from(digit - b'0')).min(u128::from(u64::MAX) + 1);
    }
    u64::try_from(number).ok()
}
