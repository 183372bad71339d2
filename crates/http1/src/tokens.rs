//! Comma-separated lists in header values, and what `Connection` says about the connection.
//!
//! Owns: splitting a list value into members. Must never: allocate. Read next: `check.rs`.

use crate::fields::Fields;

/// Whether a line named `name` (lower case) lists `token`, whatever the case (RFC 9110 section 5.6.1).
pub fn has_token(fields: &Fields, name: &str, token: &str) -> bool {
    fields
        .get_all(name)
        .any(|value| members(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes())))
}

/// Whether the connection persists after this message as far as its head says (RFC 9112 section 9.3): `close` ends
/// it, HTTP/1.1 keeps it, HTTP/1.0 keeps it only with `keep-alive`.
pub fn connection_persists(fields: &Fields, http10: bool) -> bool {
    if has_token(fields, "connection", "close") {
        return false;
    }
    !http10 || has_token(fields, "connection", "keep-alive")
}

/// The members of one list value, blanks around them trimmed, empty ones left out.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_blanks).filter(|member| !member.is_empty())
}

/// The value without the spaces and tabs around it.
pub(crate) fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a byte may stand in a header value: a tab, a space, a visible character or 128 and above (section 5.5).
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
