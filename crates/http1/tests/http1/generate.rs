//! Seeded generators of heads and chunked bodies, mostly well formed, and a mutator.
//!
//! A run draws a seed and prints it when a test fails; `SEED=n cargo test -p http1` replays it, `CASES=n` makes a
//! longer run. Read next: `differential.rs`.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Runs `case` this many times, each with its own generator, and names the seed of the one that panics.
pub fn cases(count: u64, case: impl Fn(&mut StdRng)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let count = number("CASES").unwrap_or(count);
    if let Some(seed) = number("SEED") {
        return case(&mut StdRng::seed_from_u64(seed));
    }
    let base: u64 = rand::random();
    for seed in (0..count).map(|index| base.wrapping_add(index)) {
        let run = std::panic::AssertUnwindSafe(|| case(&mut StdRng::seed_from_u64(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("replay this case with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn pick<'a, T: ?Sized>(rng: &mut StdRng, from: &[&'a T]) -> &'a T {
    from[rng.random_range(0..from.len())]
}

/// Picks from `good`, and once in `rarely` times from `bad`.
fn mostly<'a, T: ?Sized>(rng: &mut StdRng, rarely: u32, good: &[&'a T], bad: &[&'a T]) -> &'a T {
    if rng.random_range(0..rarely) == 0 { pick(rng, bad) } else { pick(rng, good) }
}

const METHODS: &[&str] = &["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PURGE", "M-SEARCH", "X9"];
const BAD_METHODS: &[&str] = &["get", "Get", "", "G@T", "GET\t", "(", "G\u{e9}T"];
const TARGETS: &[&str] = &[
    "/",
    "/a/./b/../c//d%2fe%7e",
    "/p?q=1&r=%20+x",
    "/~!$&'()*+,;=:@",
    "*",
    "http://other.test/x?y=1",
    "HTTP://other.test",
    "https://[::1]:8443?q",
    "other.test:443",
    "//double",
];
const BAD_TARGETS: &[&str] = &[
    "foo",
    "",
    "/a b",
    "/a\u{1}b",
    "/caf\u{e9}",
    "/a#f",
    "ftp://a/",
    "http://",
    "http:///x",
    "http://u@h/",
    "http://:80/",
    "/\u{7f}",
    "/a\0b",
    "http:/x",
];
const VERSIONS: &[&str] = &["HTTP/1.1"];
const BAD_VERSIONS: &[&str] = &[
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/3.7",
    "HTTP/1.2",
    "http/1.1",
    "HTTP/1",
    "HTTP/11.1",
    "HTTP/1.1 ",
    "",
    "X",
];
const NAMES: &[&str] = &[
    "Accept",
    "x-dup",
    "X-Dup",
    "cookie",
    "user-agent",
    "x_under_score",
    "te",
    "!#$%&'*+-.^_`|~9",
    "via",
    "connection",
];
const BAD_NAMES: &[&str] = &["", "x y", "x\u{e9}", " x", "x ", "x\t", "(x)", "x\0", "x\r"];
const VALUES: &[&[u8]] = &[
    b"",
    b"v",
    b"a, b",
    b"  padded\t ",
    b"\xe9t\xe9",
    b"\"q\\\"\"",
    b"close",
    b"keep-alive, x-foo",
    b"trailers",
    b"a:b:c",
];
const BAD_VALUES: &[&[u8]] =
    &[b"a\0b", b"a\rb", b"a\x01", b"\x7f", b"a\r\n  folded", b"x-forwarded-for", b"Host", b"\r"];
const HOSTS: &[&[u8]] = &[b"a.test", b"A.Test:8080", b"[::1]:80", b"", b"a_b"];
const BAD_HOSTS: &[&[u8]] = &[b"a b", b"u@h", b"a/b", b"caf\xe9", b"a.test\r\nhost: b.test"];
const LENGTHS: &[&[u8]] = &[b"0", b"5", b"005", b"18446744073709551615"];
const BAD_LENGTHS: &[&[u8]] =
    &[b"-1", b"+5", b"5x", b"", b"5, 5", b"18446744073709551616", b"99999999999999999999999", b"5 5"];
const CODINGS: &[&[u8]] = &[b"chunked", b"CHUNKED"];
const BAD_CODINGS: &[&[u8]] =
    &[b"foo", b"gzip, chunked", b"identity", b"chunked, chunked", b"", b"chunked;q=1"];

fn end_line(rng: &mut StdRng, out: &mut Vec<u8>) {
    out.extend_from_slice(mostly::<[u8]>(
        rng,
        60,
        &[b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n"],
        &[b"\r", b"\r\r\n"],
    ));
}

fn line(rng: &mut StdRng, out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(mostly::<[u8]>(rng, 200, &[b":", b": ", b": ", b":\t "], &[b"", b" :", b"::"]));
    out.extend_from_slice(value);
    end_line(rng, out);
}

/// Any number of header lines and the empty line; `is_request` puts a Host among them.
fn header_lines(rng: &mut StdRng, out: &mut Vec<u8>, is_request: bool) {
    let count =
        if rng.random_range(0..100) == 0 { rng.random_range(95..110) } else { rng.random_range(0..8) };
    let host_at = rng.random_range(0..=count);
    for index in 0..=count {
        if is_request && index == host_at && rng.random_range(0..40) > 0 {
            let host = mostly(rng, 40, HOSTS, BAD_HOSTS);
            let name = pick(rng, &["host", "Host", "HOST"]);
            line(rng, out, name, host);
        } else if index < count {
            let name = mostly(rng, 100, NAMES, BAD_NAMES);
            let value = mostly(rng, 60, VALUES, BAD_VALUES);
            line(rng, out, name, value);
        }
    }
    if rng.random_range(0..3) == 0 {
        let value = mostly(rng, 6, LENGTHS, BAD_LENGTHS);
        line(rng, out, "Content-Length", value);
        if rng.random_range(0..10) == 0 {
            let value = pick(rng, LENGTHS);
            line(rng, out, "content-length", value);
        }
    }
    if rng.random_range(0..4) == 0 {
        let value = mostly(rng, 6, CODINGS, BAD_CODINGS);
        line(rng, out, "Transfer-Encoding", value);
    }
    end_line(rng, out);
}

/// A request head, most often well formed, with something behind it now and then.
pub fn request_head(rng: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.random_range(0..10_u32).saturating_sub(8) {
        end_line(rng, &mut out);
    }
    out.extend_from_slice(mostly(rng, 30, METHODS, BAD_METHODS).as_bytes());
    out.extend_from_slice(mostly::<[u8]>(rng, 100, &[b" "], &[b"  ", b"\t", b""]));
    out.extend_from_slice(mostly(rng, 15, TARGETS, BAD_TARGETS).as_bytes());
    out.extend_from_slice(mostly::<[u8]>(rng, 100, &[b" "], &[b"  ", b"\t", b""]));
    out.extend_from_slice(mostly(rng, 20, VERSIONS, BAD_VERSIONS).as_bytes());
    end_line(rng, &mut out);
    header_lines(rng, &mut out, true);
    if rng.random_range(0..5) == 0 {
        out.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n\0\xff");
    }
    out
}

/// A response head, most often well formed.
pub fn response_head(rng: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(mostly(rng, 30, &["HTTP/1.1", "HTTP/1.0"], BAD_VERSIONS).as_bytes());
    out.push(b' ');
    let codes = ["200", "204", "304", "101", "100", "404", "503", "999", "299"];
    out.extend_from_slice(mostly(rng, 20, &codes, &["099", "20", "2000", "2x0", "", "+20"]).as_bytes());
    out.extend_from_slice(mostly::<[u8]>(
        rng,
        30,
        &[b" OK", b"", b" ", b" Fine By Me", b" \xe9t\xe9", b" a\tb"],
        &[b" a\0", b"OK", b" \x7f"],
    ));
    end_line(rng, &mut out);
    header_lines(rng, &mut out, false);
    out
}

/// A chunked body, most often well formed, with something behind it now and then.
pub fn chunked_body(rng: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.random_range(0..5) {
        let data: Vec<u8> = (0..rng.random_range(1..40)).map(|_| rng.random()).collect();
        let size = if rng.random_range(0..60) == 0 { data.len() + 1 } else { data.len() };
        out.extend_from_slice(pick(rng, &["", "0", "000000000000000000"]).as_bytes());
        out.extend_from_slice(
            if rng.random() { format!("{size:x}") } else { format!("{size:X}") }.as_bytes(),
        );
        chunk_line_end(rng, &mut out);
        out.extend_from_slice(&data);
        out.extend_from_slice(mostly::<[u8]>(rng, 40, &[b"\r\n"], &[b"\n", b"", b"de\r\n", b"\r"]));
    }
    out.extend_from_slice(mostly::<[u8]>(
        rng,
        30,
        &[b"0", b"000"],
        &[b"", b"g", b"-0", b"0x0", b" 0", b"fffffffffffffffff"],
    ));
    chunk_line_end(rng, &mut out);
    for _ in 0..rng.random_range(0..6_u32).saturating_sub(3) {
        let names = ["x-t", "Grpc-Status", "Host", "content-length", "X-Forwarded-For", "te"];
        out.extend_from_slice(mostly(rng, 30, &names, BAD_NAMES).as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(mostly(rng, 40, VALUES, BAD_VALUES));
        out.extend_from_slice(mostly::<[u8]>(rng, 60, &[b"\r\n"], &[b"\n", b"\r"]));
    }
    out.extend_from_slice(mostly::<[u8]>(rng, 40, &[b"\r\n"], &[b"\n", b"", b"\r"]));
    if rng.random_range(0..5) == 0 {
        out.extend_from_slice(b"GET / HTTP/1.1\r\n");
    }
    out
}

fn chunk_line_end(rng: &mut StdRng, out: &mut Vec<u8>) {
    let good: &[&[u8]] = &[b"\r\n", b"\r\n", b"\r\n", b";ext=1\r\n", b" ; q=\"a b\"\r\n", b"  \r\n"];
    out.extend_from_slice(mostly(
        rng,
        40,
        good,
        &[b"\n", b"\r", b";a\nb\r\n", b" x\r\n", b";\0\r\n", b";a\rb\r\n", b",\r\n"],
    ));
}

/// Bytes that mean something somewhere in the grammar.
const TELLING: &[u8] = b"\r\n\t :;,/#*0a\0\x01\x7f\x80\xff-+HTP1.";

/// Changes a few bytes: replaced, removed, inserted, a run doubled, or the end cut off.
pub fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        let telling = TELLING[rng.random_range(0..TELLING.len())];
        match rng.random_range(0..6) {
            0 => bytes[at] = telling,
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, telling),
            4 => bytes.truncate(at),
            _ => {
                let end = (at + rng.random_range(1..30)).min(bytes.len());
                let run = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, run));
            }
        }
    }
}

/// Cuts `bytes` into pieces, some of them empty, many of one byte.
pub fn pieces<'a>(rng: &mut StdRng, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let longest = pick(rng, &[&1, &3, &20, &2000]);
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.random_range(0..=*longest).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
