//! Faults that a request asks of the backend, in its query or in the header `x-fault`.
//!
//! Owns their names and reading. Must never guess: a fault that cannot be read is an error answer, because
//! a test whose fault did not happen proves nothing. Next: `upstream.rs`, which carries them out.

use crate::schedule::parse_duration;
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// The header that carries faults, written as in a query: `x-fault: status=500&delay=200ms`.
pub const HEADER: &str = "x-fault";

/// Longest body made up; echoed bodies are streamed and have no limit.
pub const MAX_SIZE: u64 = 64 * 1024 * 1024;

/// Most pieces of a slow body.
pub const MAX_PIECES: u32 = 10_000;

/// Longest delay, of an answer or between two pieces: above any sensible time-out.
pub const MAX_DELAY: Duration = Duration::from_secs(3600);

/// How an answer is kept from coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// TCP RST in place of an answer.
    Reset,
    /// The connection is closed in place of an answer.
    Close,
    /// The connection is closed after half of the body.
    Cut,
}

/// What one request asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Answer with this status.
    pub status: Option<StatusCode>,
    /// Wait this long before answering.
    pub delay: Option<Duration>,
    /// Break the connection.
    pub breakage: Option<Breakage>,
    /// Send the body in so many pieces, this long apart.
    pub slow_body: Option<(u32, Duration)>,
    /// A body of this many bytes.
    pub size: Option<u64>,
    /// Answer with `connection: close`.
    pub last: bool,
}

/// A fault that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}={value}` is not a fault; {cure}")]
pub struct FaultError {
    name: String,
    value: String,
    cure: &'static str,
}

impl Faults {
    /// Reads the query, then the header; where both name a fault the header wins. Other names in the query
    /// are the application's and are let be; in the header they are errors.
    ///
    /// # Errors
    /// [`FaultError`] for a value that cannot be read.
    pub fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Self, FaultError> {
        let mut faults = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            faults.add(pair)?;
        }
        for value in headers.get_all(HEADER) {
            let text = value.to_str().unwrap_or("?");
            for pair in text.split(['&', ',']).map(str::trim).filter(|pair| !pair.is_empty()) {
                if !faults.add(pair)? {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    return Err(refuse(
                        name,
                        value,
                        "known are status, delay, reset, close, cut, last, slow_body, size",
                    ));
                }
            }
        }
        Ok(faults)
    }

    fn add(&mut self, pair: &str) -> Result<bool, FaultError> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "status" => self.status = Some(status(value)?),
            "delay" => {
                let time = parse_duration(value).ok().filter(|time| *time <= MAX_DELAY);
                self.delay = Some(time.ok_or_else(|| refuse(name, value, "write delay=200ms, at most 1h"))?);
            }
            "reset" => self.breakage = flag(name, value)?.then_some(Breakage::Reset).or(self.breakage),
            "close" => self.breakage = flag(name, value)?.then_some(Breakage::Close).or(self.breakage),
            "cut" => self.breakage = flag(name, value)?.then_some(Breakage::Cut).or(self.breakage),
            "last" => self.last = flag(name, value)?,
            "slow_body" => self.slow_body = Some(slow_body(value)?),
            "size" => {
                let size = value.parse().ok().filter(|size| *size <= MAX_SIZE);
                self.size = Some(
                    size.ok_or_else(|| refuse(name, value, "write size=65536, at most 67108864 bytes"))?,
                );
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn refuse(name: &str, value: &str, cure: &'static str) -> FaultError {
    FaultError { name: name.to_owned(), value: value.to_owned(), cure }
}

fn flag(name: &str, value: &str) -> Result<bool, FaultError> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(refuse(name, value, "write 1 or 0")),
    }
}

/// Reads a status that a final response may have.
///
/// # Errors
/// [`FaultError`] for anything but 200..=599.
pub fn status(value: &str) -> Result<StatusCode, FaultError> {
    let code = value.parse::<u16>().ok().filter(|code| (200..600).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| refuse("status", value, "write a status from 200 to 599"))
}

fn slow_body(value: &str) -> Result<(u32, Duration), FaultError> {
    let read = || {
        let (pieces, pause) = value.split_once('x')?;
        let pieces = pieces.parse().ok().filter(|n| (1..=MAX_PIECES).contains(n))?;
        Some((pieces, parse_duration(pause).ok().filter(|time| *time <= MAX_DELAY)?))
    };
    read().ok_or_else(|| refuse("slow_body", value, "write slow_body=10x100ms: 10 pieces, 100 ms apart"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(text: &str) -> Result<Faults, FaultError> {
        Faults::read(Some(text), &HeaderMap::new())
    }

    fn header(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), text.parse().unwrap())])
    }

    #[test]
    fn faults_are_read_from_the_query() {
        let faults = query("a=b&status=503&delay=200ms&slow_body=10x100ms&size=65536&last=1").unwrap();
        assert_eq!(faults.status, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(faults.delay, Some(Duration::from_millis(200)));
        assert_eq!(faults.slow_body, Some((10, Duration::from_millis(100))));
        assert_eq!((faults.size, faults.last, faults.breakage), (Some(65_536), true, None));
        assert_eq!(query("reset=1").unwrap().breakage, Some(Breakage::Reset));
        assert_eq!(query("close=1").unwrap().breakage, Some(Breakage::Close));
        assert_eq!(query("cut=1").unwrap().breakage, Some(Breakage::Cut));
        assert_eq!(query("reset=0").unwrap(), Faults::default());
    }

    #[test]
    fn the_header_wins_over_the_query() {
        let faults = Faults::read(Some("status=500"), &header("status=404&delay=1ms")).unwrap();
        assert_eq!(faults.status, Some(StatusCode::NOT_FOUND));
        assert_eq!(faults.delay, Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_fault_that_cannot_be_read_is_an_error_with_its_cure() {
        for (text, cure) in [
            ("status=abc", "200 to 599"),
            ("status=100", "200 to 599"),
            ("delay=5", "delay=200ms"),
            ("delay=2h", "at most 1h"),
            ("reset=yes", "1 or 0"),
            ("slow_body=10", "10x100ms"),
            ("slow_body=0x1s", "10x100ms"),
            ("size=-1", "size=65536"),
            ("size=99999999999", "size=65536"),
        ] {
            let error = query(text).unwrap_err().to_string();
            assert!(error.contains(cure), "{text}: {error}");
        }
        let error = Faults::read(None, &header("stauts=500")).unwrap_err().to_string();
        assert!(error.contains("stauts") && error.contains("known are"), "{error}");
    }

    #[test]
    fn what_the_application_puts_into_its_query_is_let_be() {
        assert_eq!(query("q=rust&page=2").unwrap(), Faults::default());
        assert_eq!(query("").unwrap(), Faults::default());
    }

    proptest! {
        #[test]
        fn no_query_makes_the_reader_panic(text in "(status|delay|slow_body|size|reset)?=?.{0,30}") {
            let _ = query(&text);
        }
    }
}
