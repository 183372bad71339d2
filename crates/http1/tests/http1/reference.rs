//! A second opinion: HTTP/1 messages read by plain recursive descent, written from the grammar of RFC 9112 and
//! RFC 9110 and from the list of Envoy's refusals, with neither `httparse` nor a line of this crate's parser.
//!
//! It reads whole messages only, is slow, and collects every fault of a head instead of stopping at the first, so
//! that the order in which the codec looks is free. Shared with the fuzz targets. Read next: `compare.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, missing_docs, dead_code)]

/// Status and whether Envoy's body is the reason phrase (true) or empty (false).
pub type Fault = (u16, bool);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    Partial,
    Faulty(Vec<Fault>),
    Good(T),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    UntilClose,
    Chunked,
}

pub type Lines = Vec<(String, Vec<u8>)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: Lines,
    pub body: Body,
    pub consumed: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub http10: bool,
    pub fields: Lines,
    pub body: Body,
    pub consumed: usize,
}

const BAD: Fault = (400, true);
const BAD_BY_MANAGER: Fault = (400, false);
const MAX_BYTES: usize = 61_440;
const MAX_LINES: usize = 100;

/// One position in some bytes, moving forward.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn one(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        if *first != byte {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    fn text(&mut self, text: &[u8]) -> Option<()> {
        text.iter().try_for_each(|byte| self.one(*byte))
    }

    /// The longest run of bytes for which `is` holds, maybe empty.
    fn run(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|byte| is(**byte)).count();
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        run
    }

    fn run1(&mut self, is: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        Some(self.run(is)).filter(|run| !run.is_empty())
    }

    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

// RFC 9110 section 5.6.2 and RFC 5234 appendix B.1.
fn tchar(byte: u8) -> bool {
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

fn digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn alpha(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_uppercase()
}

fn vchar(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte)
}

fn blank(byte: u8) -> bool {
    byte == 0x20 || byte == 0x09
}

fn field_byte(byte: u8) -> bool {
    vchar(byte) || blank(byte) || byte >= 0x80
}

/// The lines before the first empty one, after any leading empty ones, and the bytes that all of it takes.
/// A line ends with LF; one CR before it belongs to the end.
fn lines(input: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
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
fn field_line(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut cursor = Cursor { rest: line };
    let name = cursor.run1(tchar)?;
    cursor.one(b':')?;
    cursor.run(blank);
    let value = cursor.run(field_byte);
    cursor.end()?;
    let length = value.iter().rposition(|byte| !blank(*byte)).map_or(0, |last| last + 1);
    Some((String::from_utf8(name.to_vec()).ok()?.to_lowercase(), value[..length].to_vec()))
}

fn field_lines(raw: &[&[u8]], faults: &mut Vec<Fault>) -> Lines {
    if raw.len() > MAX_LINES {
        faults.push((431, true));
    }
    let read: Vec<_> = raw.iter().filter_map(|line| field_line(line)).collect();
    if read.len() != raw.len() {
        faults.push(BAD);
    }
    read
}

fn values<'a>(fields: &'a Lines, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|line| line.0 == name).map(|line| line.1.as_slice()).collect()
}

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

/// `1*DIGIT` below 2^64.
fn number(bytes: &[u8]) -> Option<u64> {
    let mut cursor = Cursor { rest: bytes };
    let digits = cursor.run1(digit)?;
    cursor.end()?;
    let mut number = 0_u128;
    for digit in digits {
        number = (number * 10 + u128::from(digit - b'0')).min(u128::from(u64::MAX) + 1);
    }
    u64::try_from(number).ok()
}

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    pub data: Vec<u8>,
    pub trailers: Lines,
    pub consumed: usize,
}

/// Why reading stopped before the end.
enum Stop {
    NeedsMore,
    Fault,
}

/// `chunked-body = *chunk last-chunk trailer-section CRLF`. Blanks are taken after a chunk size.
pub fn chunked(input: &[u8]) -> Verdict<Chunked> {
    let mut data = Vec::new();
    let mut at = 0;
    let read = (|| {
        while let Some(size) = chunk_line(input, &mut at)? {
            for _ in 0..size {
                data.push(*input.get(at).ok_or(Stop::NeedsMore)?);
                at += 1;
            }
            literal(input, &mut at, b"\r\n")?;
        }
        trailer_section(input, &mut at)
    })();
    match read {
        Ok(trailers) => Verdict::Good(Chunked { data, trailers, consumed: at }),
        Err(Stop::NeedsMore) => Verdict::Partial,
        Err(Stop::Fault) => Verdict::Faulty(vec![BAD]),
    }
}

fn literal(input: &[u8], at: &mut usize, bytes: &[u8]) -> Result<(), Stop> {
    for byte in bytes {
        if input.get(*at).ok_or(Stop::NeedsMore)? != byte {
            return Err(Stop::Fault);
        }
        *at += 1;
    }
    Ok(())
}

/// `chunk-size [ chunk-ext ] CRLF`; None for the last chunk.
fn chunk_line(input: &[u8], at: &mut usize) -> Result<Option<u64>, Stop> {
    let start = *at;
    let (mut size, mut digits) = (0_u128, 0);
    let mut next = || -> Result<u8, Stop> {
        // The line may be 4,096 bytes long, so no byte but the two of its end may stand at 4,094 or later.
        let byte = *input.get(*at).ok_or(Stop::NeedsMore)?;
        *at += 1;
        if byte != b'\r' && *at - start > 4_094 { Err(Stop::Fault) } else { Ok(byte) }
    };
    let mut byte = next()?;
    while byte.is_ascii_hexdigit() {
        size = size * 16 + u128::from(char::from(byte).to_digit(16).unwrap());
        if size > u128::from(u64::MAX) {
            return Err(Stop::Fault);
        }
        digits += 1;
        byte = next()?;
    }
    if digits == 0 {
        return Err(Stop::Fault);
    }
    while blank(byte) {
        byte = next()?;
    }
    if byte == b';' {
        byte = next()?;
        while field_byte(byte) {
            byte = next()?;
        }
    }
    if byte != b'\r' {
        return Err(Stop::Fault);
    }
    literal(input, at, b"\n")?;
    Ok(u64::try_from(size).ok().filter(|size| *size > 0))
}

fn trailer_section(input: &[u8], at: &mut usize) -> Result<Lines, Stop> {
    let (start, mut count, mut kept) = (*at, 0, Lines::new());
    // An empty section is known by its first bytes, before any line end.
    if input.get(*at) == Some(&b'\r') {
        literal(input, at, b"\r\n")?;
        return Ok(kept);
    }
    loop {
        let length = match input[*at..].iter().position(|byte| *byte == b'\n') {
            Some(length) if *at + length + 1 - start <= MAX_BYTES => length,
            None if input.len() - start <= MAX_BYTES => return Err(Stop::NeedsMore),
            _ => return Err(Stop::Fault),
        };
        let line = input[*at..*at + length].strip_suffix(b"\r").ok_or(Stop::Fault)?;
        *at += length + 1;
        if line.is_empty() {
            return Ok(kept);
        }
        count += 1;
        let line = field_line(line).filter(|_| count <= MAX_LINES).ok_or(Stop::Fault)?;
        if allowed_in_trailer(&line.0) {
            kept.push(line);
        }
    }
}

/// The names that the generators make trailers of, told apart by hand.
fn allowed_in_trailer(name: &str) -> bool {
    !["host", "content-length", "transfer-encoding", "te", "connection", "cookie", "authorization"]
        .contains(&name)
        && !name.starts_with("x-forwarded-")
}
