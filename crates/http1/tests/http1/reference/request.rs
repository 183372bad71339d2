//! Request heads. Read next: `response.rs`.

use super::grammar::{Cursor, alpha, digit, field_lines, lines, number, tchar, values, vchar};
use super::{BAD, BAD_BY_MANAGER, Body, Fault, Lines, MAX_BYTES, Request, Verdict};

pub fn request(input: &[u8]) -> Verdict<Request> {
    let Some((raw, consumed)) = lines(input) else {
        return if input.len() > MAX_BYTES {
            Verdict::Faulty(vec![(431, true), BAD, (426, true)])
        } else {
            Verdict::Partial
        };
    };
    let mut faults = Vec::new();
    if consumed > MAX_BYTES {
        faults.push((431, true));
    }
    let fields = field_lines(&raw[1..], &mut faults);
    let (method, target) = request_line(raw[0], &mut faults).unwrap_or_default();
    let body = request_rules(&method, &target, &fields, &mut faults);
    match body {
        Some(body) if faults.is_empty() => Verdict::Good(Request { method, target, fields, body, consumed }),
        _ => Verdict::Faulty(faults),
    }
}

/// `request-line = method SP request-target SP HTTP-version`; the method in upper case.
fn request_line(line: &[u8], faults: &mut Vec<Fault>) -> Option<(String, String)> {
    let mut cursor = Cursor { rest: line };
    let read = (|| {
        let method = cursor.run1(tchar)?;
        cursor.one(b' ')?;
        let target = cursor.run1(|byte| byte > 0x20 && byte != 0x7f)?;
        cursor.one(b' ')?;
        cursor.text(b"HTTP/")?;
        let major = cursor.run(digit);
        cursor.one(b'.')?;
        let minor = cursor.run(digit);
        cursor.end()?;
        (major.len() == 1 && minor.len() == 1).then(|| (method, target, major[0], minor[0]))
    })();
    let Some((method, target, major, minor)) = read else {
        faults.push(BAD);
        return None;
    };
    if (major, minor) != (b'1', b'1') {
        faults.push((426, true));
    }
    if method.iter().any(|byte| byte.is_ascii_lowercase()) || !target.iter().all(|byte| vchar(*byte)) {
        faults.push(BAD);
        return None;
    }
    Some((String::from_utf8(method.to_vec()).ok()?, String::from_utf8(target.to_vec()).ok()?))
}

fn request_rules(method: &str, target: &str, fields: &Lines, faults: &mut Vec<Fault>) -> Option<Body> {
    if !target_fits(method, target) {
        faults.push(BAD);
    }
    if target.contains('#') {
        faults.push(BAD_BY_MANAGER);
    }
    let hosts = values(fields, "host");
    match hosts.as_slice() {
        [] => faults.push(BAD_BY_MANAGER),
        [host] if authority(host) => {}
        _ => faults.push(BAD),
    }
    let lists: Vec<u8> = values(fields, "connection").join(&b","[..]);
    let members: Vec<String> = String::from_utf8_lossy(&lists)
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']).to_ascii_lowercase())
        .filter(|member| !member.is_empty())
        .collect();
    let hides = |member: &String| {
        member.starts_with(':')
            || ["for", "host", "proto"].iter().any(|end| *member == format!("x-forwarded-{end}"))
    };
    if members.len() >= 10 || members.iter().any(hides) {
        faults.push(BAD);
    }
    if members.iter().any(|member| member == "host") {
        faults.push(BAD_BY_MANAGER);
    }
    let lengths = values(fields, "content-length");
    let codings = values(fields, "transfer-encoding");
    let body = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Body::None),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
        ([], _) => Err((501, true)),
        ([length], []) => number(length).map(Body::Length).ok_or(BAD),
        _ => Err(BAD),
    };
    body.map_err(|fault| faults.push(fault)).ok()
}

/// `request-target = origin-form / absolute-form / authority-form / asterisk-form`, each where it may be.
fn target_fits(method: &str, target: &str) -> bool {
    let bytes = target.as_bytes();
    match (method, bytes.first()) {
        ("CONNECT", _) => authority_form(bytes).is_some(),
        (_, Some(b'/')) => true,
        ("OPTIONS", _) if target == "*" => true,
        _ => absolute(bytes).is_some(),
    }
}

/// `authority-form = uri-host ":" port`; an IP literal stands in brackets.
fn authority_form(target: &[u8]) -> Option<()> {
    let mut cursor = Cursor { rest: target };
    let literal = cursor.one(b'[').is_some();
    let host = cursor.run1(|byte| byte != if literal { b']' } else { b':' })?;
    if literal {
        cursor.one(b']')?;
    }
    cursor.one(b':')?;
    cursor.run1(digit)?;
    cursor.end()?;
    authority(host).then_some(())
}

/// `("http" / "https") "://" authority path-abempty [ "?" query ]`.
fn absolute(target: &[u8]) -> Option<()> {
    let mut cursor = Cursor { rest: target };
    let scheme = cursor.run(alpha).to_ascii_lowercase();
    if scheme != b"http" && scheme != b"https" {
        return None;
    }
    cursor.text(b"://")?;
    let host = cursor.run1(|byte| !b"/?#".contains(&byte))?;
    (host[0] != b':' && authority(host)).then_some(())
}

/// The bytes of `uri-host [ ":" port ]`: unreserved, sub-delims, percent, and those of an IP literal.
fn authority(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| {
        alpha(*byte)
            || digit(*byte)
            || b"-._~".contains(byte)
            || b"!$&'()*+,;=".contains(byte)
            || b"%:[]".contains(byte)
    })
}
