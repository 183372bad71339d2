//! Response heads. Read next: `chunks.rs`.

use super::grammar::{Cursor, digit, field_byte, field_lines, lines, number, values};
use super::{BAD, Body, Lines, MAX_BYTES, Response, Verdict};

pub fn response(input: &[u8], answers_head: bool) -> Verdict<Response> {
    let faulty = || Verdict::Faulty(vec![BAD]);
    let Some((raw, consumed)) = lines(input) else {
        return if input.len() > MAX_BYTES { faulty() } else { Verdict::Partial };
    };
    let mut faults = Vec::new();
    let mut fields = field_lines(&raw[1..], &mut faults);
    let Some((status, http10)) = status_line(raw[0]) else { return faulty() };
    if consumed > MAX_BYTES || !faults.is_empty() {
        return faulty();
    }
    let Some(body) = response_body(status, &mut fields, answers_head) else { return faulty() };
    Verdict::Good(Response { status, http10, fields, body, consumed })
}

/// `status-line = HTTP-version SP status-code [ SP [ reason-phrase ] ]`.
fn status_line(line: &[u8]) -> Option<(u16, bool)> {
    let mut cursor = Cursor { rest: line };
    cursor.text(b"HTTP/1.")?;
    let minor = cursor.run(digit);
    cursor.one(b' ')?;
    let code = cursor.run(digit);
    if cursor.end().is_none() {
        cursor.one(b' ')?;
        cursor.run(field_byte);
        cursor.end()?;
    }
    if code.len() != 3 || code[0] == b'0' || !(minor == b"0" || minor == b"1") {
        return None;
    }
    Some((number(code)? as u16, minor == b"0"))
}

fn response_body(status: u16, fields: &mut Lines, answers_head: bool) -> Option<Body> {
    let lengths: Vec<Vec<u8>> = values(fields, "content-length").iter().map(|value| value.to_vec()).collect();
    let codings = values(fields, "transfer-encoding");
    let announced = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Body::UntilClose,
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Body::Chunked,
        ([], _) => return None,
        ([first, rest @ ..], []) => {
            let length = number(first)?;
            rest.iter().all(|other| number(other) == Some(length)).then_some(Body::Length(length))?
        }
        _ => return None,
    };
    if status < 200 || status == 204 {
        return match announced {
            Body::UntilClose => Some(Body::None),
            Body::Length(0) => {
                fields.retain(|line| line.0 != "content-length");
                Some(Body::None)
            }
            _ => None,
        };
    }
    // Repeated lengths of one number become one line.
    let mut seen = false;
    fields.retain(|line| line.0 != "content-length" || !std::mem::replace(&mut seen, true));
    if answers_head || status == 304 { Some(Body::None) } else { Some(announced) }
}
