//! Which version answered: read from a response header or from the body.
//!
//! Owns that reading. Must never guess: an answer that does not say its version is counted as
//! unidentified, not given to the likeliest. Next: `record.rs`.

use http::{HeaderMap, HeaderName};
use std::str::FromStr;

/// Response headers that [`Identify::Auto`] looks at, in this order.
pub const AUTO_HEADERS: [&str; 2] = ["x-served-by", "x-v"];

/// What [`Identify::Auto`] looks for in the body when no header names the version.
pub const AUTO_BODY: &str = "This is service {name}";

/// How much of a body is kept to find the version in; the rest is read and counted only.
pub const BODY_SEARCHED: usize = 64 * 1024;

/// Longest name believed; a longer one is noise, not a version.
const MAX_NAME: usize = 128;

/// How to tell the versions apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identify {
    /// [`AUTO_HEADERS`], then [`AUTO_BODY`].
    Auto,
    /// The value of this response header.
    Header(HeaderName),
    /// The `{name}` of this pattern in the body.
    Body(Pattern),
}

/// Text around a `{name}` made of letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    after: String,
}

/// Why `--by` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// Neither `header:` nor `body:`.
    #[error(
        "`{0}` is neither header:NAME nor body:PATTERN; for example header:x-v or 'body:This is service {{name}}'"
    )]
    Kind(String),
    /// Not a header name.
    #[error("`{0}` is not a header name; write header: and a name such as x-v")]
    Header(String),
    /// No `{name}`, or nothing around it.
    #[error(
        "the body pattern `{0}` must hold {{name}} once, with text before it: 'This is service {{name}}'"
    )]
    Pattern(String),
}

impl FromStr for Identify {
    type Err = IdentifyError;

    /// Reads `auto`, `header:x-v` or `body:This is service {name}`.
    fn from_str(text: &str) -> Result<Self, IdentifyError> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            Some(("header", name)) => {
                let name =
                    HeaderName::from_str(name.trim()).map_err(|_| IdentifyError::Header(name.to_owned()))?;
                Ok(Self::Header(name))
            }
            Some(("body", pattern)) => Pattern::new(pattern).map(Self::Body),
            _ => Err(IdentifyError::Kind(text.to_owned())),
        }
    }
}

impl Identify {
    /// The version that the head of a response names, if it does.
    #[must_use]
    pub fn from_headers(&self, headers: &HeaderMap) -> Option<String> {
        let value = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?.trim();
            (!text.is_empty() && text.len() <= MAX_NAME).then(|| text.to_owned())
        };
        match self {
            Self::Auto => AUTO_HEADERS.iter().find_map(|name| value(name)),
            Self::Header(name) => value(name.as_str()),
            Self::Body(_) => None,
        }
    }

    /// The version that the beginning of a body names, if it does.
    #[must_use]
    pub fn from_body(&self, body: &[u8]) -> Option<String> {
        match self {
            Self::Auto => Pattern::new(AUTO_BODY).ok()?.find(body),
            Self::Header(_) => None,
            Self::Body(pattern) => pattern.find(body),
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

impl Pattern {
    /// A pattern with `{name}` in it.
    ///
    /// # Errors
    /// [`IdentifyError::Pattern`] when `{name}` is missing, twice, or has no text before it.
    pub fn new(pattern: &str) -> Result<Self, IdentifyError> {
        let refused = || IdentifyError::Pattern(pattern.to_owned());
        let (before, after) = pattern.split_once("{name}").ok_or_else(refused)?;
        if before.is_empty() || after.contains("{name}") {
            return Err(refused());
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// The first name in `body` with the text of the pattern around it.
    #[must_use]
    pub fn find(&self, body: &[u8]) -> Option<String> {
        let body = String::from_utf8_lossy(body);
        body.match_indices(&self.before).find_map(|(at, before)| {
            let rest = body.get(at + before.len()..)?;
            let run = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let name = if self.after.is_empty() {
                rest.get(..run)?.trim_end_matches('.')
            } else {
                let end = rest.match_indices(&self.after).map(|(end, _)| end).find(|end| *end > 0)?;
                if end > run {
                    return None;
                }
                rest.get(..end)?
            };
            (!name.is_empty() && name.len() <= MAX_NAME).then(|| name.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), http::HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn by_default_the_gateways_header_wins_over_the_backends_and_the_body_comes_last() {
        let by = Identify::Auto;
        assert_eq!(by.from_headers(&headers(&[("x-v", "v2"), ("x-served-by", "v1")])).unwrap(), "v1");
        assert_eq!(by.from_headers(&headers(&[("x-v", "v2")])).unwrap(), "v2");
        assert_eq!(by.from_headers(&headers(&[("server", "envoy")])), None);
        assert_eq!(by.from_body(br#"{"data":"This is service v2"}"#).unwrap(), "v2");
        assert_eq!(by.from_body(b"upstream connect error"), None);
    }

    #[test]
    fn a_pattern_ends_at_its_closing_text() {
        let pattern = Pattern::new("<v>{name}</v>").unwrap();
        assert_eq!(pattern.find(b"a <v>blue-1</v> b").unwrap(), "blue-1");
        assert_eq!(pattern.find(b"<v></v><v>green</v>").unwrap(), "green");
        assert_eq!(pattern.find(b"<v>no end"), None);
        assert_eq!(Pattern::new("v-{name}-ok").unwrap().find(b"v-a-b-ok").unwrap(), "a-b");
    }

    #[test]
    fn a_wrong_by_says_what_is_allowed() {
        assert!(matches!("x-v".parse::<Identify>(), Err(IdentifyError::Kind(_))));
        assert!(matches!("header:x v".parse::<Identify>(), Err(IdentifyError::Header(_))));
        assert!(matches!("body:service".parse::<Identify>(), Err(IdentifyError::Pattern(_))));
        assert!(matches!("body:{name}".parse::<Identify>(), Err(IdentifyError::Pattern(_))));
        assert!(matches!("body:a{name}b{name}".parse::<Identify>(), Err(IdentifyError::Pattern(_))));
    }

    proptest! {
        #[test]
        fn a_name_put_into_the_pattern_is_found_again(
            name in "[a-z][a-z0-9_.-]{0,20}", noise in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let mut body = noise;
            body.retain(|b| *b != b'<');
            body.extend_from_slice(format!("<v>{name}</v>").as_bytes());
            prop_assert_eq!(Pattern::new("<v>{name}</v>").unwrap().find(&body), Some(name));
        }

        #[test]
        fn no_body_makes_the_search_panic(body in proptest::collection::vec(any::<u8>(), 0..300), pattern in ".{1,6}\\{name\\}.{0,6}") {
            if let Ok(pattern) = Pattern::new(&pattern) { let _ = pattern.find(&body); }
        }
    }
}
