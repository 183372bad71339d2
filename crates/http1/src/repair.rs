//! Lenient mode: a request head that strict reading refuses, rewritten as Envoy would have understood it.
//!
//! Owns: joining folded lines and removing CR from values; two spaces and two Hosts are dealt with where they are
//! read. The result is read strictly again, so nothing else becomes acceptable by the way. This is the one place of
//! the crate that allocates for a single message. Read next: `parse.rs`.

/// What became of a head under repair.
pub(crate) enum Repaired {
    /// The empty line at its end has not arrived.
    Partial,
    /// The head, and how many bytes of the input it stands for.
    Head { bytes: Vec<u8>, taken: usize },
}

/// Rewrites the head at the front of `window`. A fold becomes the blanks it began with: `a CR LF SP SP b` is
/// `a SP SP b`, as Envoy reads it.
pub(crate) fn repair(window: &[u8]) -> Repaired {
    let mut bytes = Vec::with_capacity(window.len());
    let (mut taken, mut lines) = (0, 0_usize);
    for line in window.split_inclusive(|byte| *byte == b'\n') {
        taken += line.len();
        let Some(line) = line.strip_suffix(b"\n") else { return Repaired::Partial };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() && lines == 0 {
            continue;
        }
        if line.is_empty() {
            bytes.extend_from_slice(b"\r\n");
            return Repaired::Head { bytes, taken };
        }
        lines += 1;
        match line {
            _ if lines == 1 => bytes.extend_from_slice(line),
            [b' ' | b'\t', ..] if lines > 2 => {
                bytes.truncate(bytes.len().saturating_sub(2));
                extend_without_cr(&mut bytes, line);
            }
            _ => extend_header(&mut bytes, line),
        }
        bytes.extend_from_slice(b"\r\n");
    }
    Repaired::Partial
}

fn extend_header(bytes: &mut Vec<u8>, line: &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at_checked(colon).unwrap_or((line, b""));
    bytes.extend_from_slice(name);
    extend_without_cr(bytes, value);
}

fn extend_without_cr(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend(value.iter().filter(|byte| **byte != b'\r'));
}
