//! When each request is due: exact integer arithmetic over an index and a rate.
//!
//! Owns the intended send times. Must never look at a clock or at how the peer is doing: a schedule that
//! waits for a slow peer reports the latency of a patient customer, and there are none.
//! Next: `drive.rs`, which sends by it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Nanoseconds times the thousandths in [`Rate`]: one second of a rate of one thousandth per second.
const NANOS_PER_SECOND_MILLI: u128 = 1_000_000_000_000;

/// Above this one process cannot keep its promises anyway: a loopback round trip costs some 10 us of CPU.
pub const MAX_RATE_PER_SECOND: f64 = 1_000_000.0;

/// More than a day at the highest rate anybody offers; keeps every index far from overflow.
pub const MAX_REQUESTS: u64 = 10_000_000_000;

/// Longest run: a soak over a long weekend. A test that never ends is a mistake.
pub const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Requests per second, kept in thousandths so that offsets are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    milli: u64,
}

/// Why a rate or a duration was refused; the text names the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not a number, or not a number of requests per time.
    #[error("`{0}` is not a rate; write it as 1000/s, 0.5/s or 600/m")]
    Rate(String),
    /// Zero, negative or more than [`MAX_RATE_PER_SECOND`].
    #[error("a rate of {0} is out of range; it must be from 0.001/s to {MAX_RATE_PER_SECOND:.0}/s")]
    RateRange(String),
    /// Not a duration.
    #[error("`{0}` is not a duration; write it with its unit: 500ms, 20s, 5m or 1h")]
    Duration(String),
    /// Too long.
    #[error("`{0}` is longer than 7 days; use a shorter one")]
    DurationRange(String),
    /// No request at all, or more than [`MAX_REQUESTS`].
    #[error("{0} requests is out of range; it must be from 1 to {MAX_REQUESTS}")]
    Requests(u64),
}

impl Rate {
    /// A rate of `per_second` requests.
    ///
    /// # Errors
    /// [`ScheduleError::RateRange`] below 0.001/s or above [`MAX_RATE_PER_SECOND`].
    pub fn per_second(per_second: f64) -> Result<Self, ScheduleError> {
        if !(0.001..=MAX_RATE_PER_SECOND).contains(&per_second) {
            return Err(ScheduleError::RateRange(format!("{per_second}/s")));
        }
        Ok(Self { milli: (per_second * 1000.0).round() as u64 })
    }

    /// Requests per second.
    #[must_use]
    pub fn as_per_second(self) -> f64 {
        self.milli as f64 / 1000.0
    }
}

impl FromStr for Rate {
    type Err = ScheduleError;

    /// Reads `1000`, `1000/s` or `600/m`.
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let refused = || ScheduleError::Rate(text.to_owned());
        let (number, seconds) = match text.trim().split_once('/') {
            None => (text.trim(), 1.0),
            Some((number, "s" | "sec" | "second")) => (number, 1.0),
            Some((number, "m" | "min" | "minute")) => (number, 60.0),
            Some(_) => return Err(refused()),
        };
        let number: f64 = number.trim().parse().map_err(|_| refused())?;
        if !number.is_finite() {
            return Err(refused());
        }
        Self::per_second(number / seconds)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.as_per_second())
    }
}

/// A bounded list of intended send times, one interval apart, the first at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    rate: Rate,
    total: u64,
}

impl Schedule {
    /// `total` requests at `rate`.
    ///
    /// # Errors
    /// [`ScheduleError::Requests`] when `total` is 0 or above [`MAX_REQUESTS`].
    pub fn for_count(rate: Rate, total: u64) -> Result<Self, ScheduleError> {
        if total == 0 || total > MAX_REQUESTS {
            return Err(ScheduleError::Requests(total));
        }
        Ok(Self { rate, total })
    }

    /// Every request that is due within `duration`; at least one.
    ///
    /// # Errors
    /// [`ScheduleError::Requests`] when that is more than [`MAX_REQUESTS`].
    pub fn for_duration(rate: Rate, duration: Duration) -> Result<Self, ScheduleError> {
        let total = duration.as_nanos() * u128::from(rate.milli) / NANOS_PER_SECOND_MILLI;
        Self::for_count(rate, u64::try_from(total).unwrap_or(u64::MAX).max(1))
    }

    /// Number of requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The rate asked for.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// When request `index` (from 0) is due, counted from the start of the run.
    #[must_use]
    pub fn offset(&self, index: u64) -> Duration {
        let nanos = u128::from(index) * NANOS_PER_SECOND_MILLI / u128::from(self.rate.milli);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many requests are due once `elapsed` has passed; never more than [`Schedule::total`].
    #[must_use]
    pub fn due(&self, elapsed: Duration) -> u64 {
        // index is due when floor(index * N / milli) <= elapsed, so index * N < (elapsed + 1) * milli.
        let last = ((elapsed.as_nanos() + 1) * u128::from(self.rate.milli) - 1) / NANOS_PER_SECOND_MILLI;
        u64::try_from(last + 1).unwrap_or(u64::MAX).min(self.total)
    }

    /// When the last request is due.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.offset(self.total - 1)
    }
}

/// Reads `500ms`, `20s`, `5m`, `1h`.
///
/// # Errors
/// [`ScheduleError::Duration`] without a unit or when it is not a number, [`ScheduleError::DurationRange`] above [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, ScheduleError> {
    let refused = || ScheduleError::Duration(text.to_owned());
    let text_trimmed = text.trim();
    let split = text_trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(refused)?;
    let (number, unit) = text_trimmed.split_at(split);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.trim().parse().map_err(|_| refused())?;
    if !number.is_finite() || number < 0.0 {
        return Err(refused());
    }
    let duration = Duration::try_from_secs_f64(number * seconds)
        .map_err(|_| ScheduleError::DurationRange(text.to_owned()))?;
    if duration > MAX_DURATION {
        return Err(ScheduleError::DurationRange(text.to_owned()));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(rate: f64, total: u64) -> Schedule {
        Schedule::for_count(Rate::per_second(rate).unwrap(), total).unwrap()
    }

    #[test]
    fn a_rate_is_read_per_second_and_per_minute() {
        assert_eq!("1000/s".parse::<Rate>().unwrap().as_per_second(), 1000.0);
        assert_eq!("1000".parse::<Rate>().unwrap().as_per_second(), 1000.0);
        assert_eq!("600/m".parse::<Rate>().unwrap().as_per_second(), 10.0);
        assert_eq!("0.5/s".parse::<Rate>().unwrap().as_per_second(), 0.5);
    }

    #[test]
    fn a_wrong_rate_says_how_to_write_one() {
        for text in ["", "fast", "10/d", "NaN", "inf/s", "1,000/s"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("1000/s"), "{text}: {error}");
        }
        for text in ["0", "-5/s", "2000000/s"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("out of range"), "{text}: {error}");
        }
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("2m").unwrap(), Duration::from_secs(120));
        for text in ["5", "", "s", "5 parsecs", "-1s", "1e999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(matches!(parse_duration("999h"), Err(ScheduleError::DurationRange(_))));
    }

    #[test]
    fn the_first_request_is_due_at_once_and_the_last_one_interval_before_the_end() {
        let s = schedule(1000.0, 20_000);
        assert_eq!(s.offset(0), Duration::ZERO);
        assert_eq!(s.length(), Duration::from_millis(19_999));
        assert_eq!(s.due(Duration::ZERO), 1);
        assert_eq!(s.due(Duration::from_secs(3600)), 20_000);
    }

    #[test]
    fn a_duration_holds_rate_times_seconds_requests() {
        let rate = Rate::per_second(250.0).unwrap();
        assert_eq!(Schedule::for_duration(rate, Duration::from_secs(20)).unwrap().total(), 5000);
        assert_eq!(Schedule::for_duration(rate, Duration::from_millis(1)).unwrap().total(), 1);
    }

    #[test]
    fn no_request_at_all_is_refused() {
        assert!(Schedule::for_count(Rate::per_second(1.0).unwrap(), 0).is_err());
    }

    proptest! {
        #[test]
        fn a_request_is_due_exactly_from_its_offset_on(milli in 1u64..=1_000_000_000, index in 0u64..1_000_000_000) {
            let s = schedule(milli as f64 / 1000.0, MAX_REQUESTS);
            let at = s.offset(index);
            prop_assert!(s.due(at) > index);
            if let Some(before) = at.checked_sub(Duration::from_nanos(1)) {
                prop_assert!(s.due(before) <= index);
            }
        }

        #[test]
        fn offsets_never_go_back_and_never_drift(milli in 1u64..=1_000_000_000, index in 0u64..1_000_000_000) {
            let s = schedule(milli as f64 / 1000.0, MAX_REQUESTS);
            prop_assert!(s.offset(index) <= s.offset(index + 1));
            let exact = index as f64 * 1000.0 / milli as f64;
            let offset = s.offset(index).as_secs_f64();
            prop_assert!((offset - exact).abs() <= 1e-9 + exact * 1e-12);
        }

        #[test]
        fn no_input_makes_the_readers_panic(text in ".{0,24}") {
            let _ = text.parse::<Rate>();
            let _ = parse_duration(&text);
        }
    }
}
