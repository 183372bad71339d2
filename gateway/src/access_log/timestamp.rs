//! Points in time as Envoy writes them: `2026-11-23T02:37:09.430Z`.
//!
//! Owns the calendar arithmetic, without heap and without a time zone; it must never read the clock.
//! Next: `format.rs`, which puts it into a line.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: u64 = 86_400_000;
/// Days from 0000-03-01 to 1970-01-01, so that leap days come last in a year.
const EPOCH_DAYS: u64 = 719_468;

/// Appends a time in UTC with milliseconds (Envoy: `%START_TIME%`). A time before 1970 is written as 1970.
pub fn append(out: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX / 2);
    let (year, month, day) = civil(ms / DAY_MS);
    let rest = ms % DAY_MS;
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, rest / 3_600_000, 2);
    out.push(b':');
    digits(out, rest / 60_000 % 60, 2);
    out.push(b':');
    digits(out, rest / 1000 % 60, 2);
    out.push(b'.');
    digits(out, rest % 1000, 3);
    out.push(b'Z');
}

/// The same as a string; not for the request path.
pub fn to_string(time: SystemTime) -> String {
    let mut out = Vec::with_capacity(24);
    append(&mut out, time);
    String::from_utf8(out).unwrap_or_default()
}

/// Year, month and day of a number of days since 1970-01-01, by the proleptic Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + EPOCH_DAYS;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn digits(out: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10u64.pow(place) % 10;
        out.push(b'0' + digit as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_401_429_430);
        assert_eq!(to_string(time), "2026-11-23T02:37:09.430Z");
        assert_eq!(to_string(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn leap_days_are_kept() {
        let leap = UNIX_EPOCH + Duration::from_secs(951_782_400);
        assert_eq!(to_string(leap), "2000-02-29T00:00:00.000Z");
        assert_eq!(to_string(leap + Duration::from_secs(86_400)), "2000-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_before_1970_does_not_panic() {
        assert_eq!(to_string(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        /// HTTP's date format is made by another implementation of the same calendar.
        #[test]
        fn the_calendar_agrees_with_http_dates(secs in 0u64..253_402_300_799) {
            let time = UNIX_EPOCH + Duration::from_secs(secs);
            let http = httpdate::fmt_http_date(time);
            let parts: Vec<&str> = http.split([' ', ',']).filter(|p| !p.is_empty()).collect();
            let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = months.find(parts[2]).expect("a month") / 3 + 1;
            let expected = format!("{}-{month:02}-{}T{}.000Z", parts[3], parts[1], parts[4]);
            prop_assert_eq!(to_string(time), expected);
        }
    }
}
