//! Scalars: YAML's core schema for plain ones, whole numbers and durations.
//!
//! Owns how one word is read; it must never know which field it belongs to. Next: `rules.rs`.

use std::time::Duration;

/// Longest duration: longer ones are typing errors, and sums of two must not overflow a clock.
pub const MAX_DURATION: Duration = Duration::from_secs(8_760 * 3_600);

/// What a plain scalar is by YAML's core schema (YAML 1.2, 10.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Digits with an optional sign, or `0x`/`0o` ones.
    Integer,
    /// A number with a point or an exponent, `.inf`, `.nan`.
    Float,
    /// Anything else.
    Text,
}

/// Types a plain scalar.
pub fn classify(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Plain::Float;
    }
    let radix = |digits: &str, radix| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if text.strip_prefix("0x").is_some_and(|digits| radix(digits, 16))
        || text.strip_prefix("0o").is_some_and(|digits| radix(digits, 8))
        || radix(unsigned, 10)
    {
        return Plain::Integer;
    }
    if is_float(unsigned) { Plain::Float } else { Plain::Text }
}

fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_good = digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty());
    let exponent_good = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_good && exponent_good
}

/// A plain scalar as JSON.
pub(crate) fn plain_to_json(text: &str) -> serde_json::Value {
    match classify(text) {
        Plain::Null => serde_json::Value::Null,
        Plain::Bool(value) => value.into(),
        // JSON knows no leading zeros and no plus sign; a number out of its range stays text.
        Plain::Integer | Plain::Float => match whole(text) {
            Ok(value) => value.into(),
            Err(_) => {
                serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned()))
            }
        },
        Plain::Text => text.into(),
    }
}

/// Why a whole number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberFault {
    /// Not decimal digits.
    Form,
    /// Below zero.
    Negative,
    /// Over the greatest u64.
    TooLarge,
}

/// A whole number in decimal digits.
///
/// # Errors
/// Anything else, and what is wrong with it.
pub fn whole(text: &str) -> Result<u64, NumberFault> {
    let negative = text.strip_prefix('-');
    let digits = negative.or_else(|| text.strip_prefix('+')).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberFault::Form);
    }
    if negative.is_some() && digits.bytes().any(|b| b != b'0') {
        return Err(NumberFault::Negative);
    }
    digits.parse().map_err(|_| NumberFault::TooLarge)
}

/// A duration: a number, with a point if need be, and `ms`, `s`, `m` or `h`. Exact to the nanosecond.
///
/// # Errors
/// What is wrong, and what to write.
pub fn duration(text: &str) -> Result<Duration, (String, String)> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).unwrap_or((text, ""));
    let example = "write a number and its unit: 15s, 0.3s, 250ms, 5m or 1h".to_owned();
    let unit_nanos: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if !number.is_empty() => {
            return Err((
                format!("a duration without a unit: `{}`", shorten(text)),
                format!("write `{}s`", shorten(text)),
            ));
        }
        _ if text.starts_with('-') => return Err(("a duration cannot be negative".to_owned(), example)),
        _ => return Err((format!("not a duration: `{}`", shorten(text)), example)),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part_good = part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !part_good || number.ends_with('.') {
        return Err((format!("not a duration: `{}`", shorten(text)), example));
    }
    let too_long = || {
        let most = MAX_DURATION.as_secs() / 3_600;
        (format!("a duration of more than {most}h"), format!("write at most {most}h"))
    };
    let whole: u128 = whole.parse().map_err(|_| too_long())?;
    let part: u128 = format!("{part:0<9}").parse().unwrap_or_default();
    let nanos = whole.checked_mul(unit_nanos).ok_or_else(too_long)? + part * unit_nanos / 1_000_000_000;
    if nanos > MAX_DURATION.as_nanos() {
        return Err(too_long());
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| too_long())
}

/// A word of the file as it may be repeated in a message: short, on one line, nothing that moves a terminal.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let mut out: String =
        text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
