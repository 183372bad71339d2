//! The query of an admin request.
//!
//! Owns its reading as Envoy does it: percent escapes are decoded, a plus sign is a plus sign (it is common in a
//! `filter`). Next: `endpoints.rs`.

use percent_encoding::percent_decode_str;

/// Parameters that are read; more are ignored.
const MAX_PAIRS: usize = 64;

/// Names and values in order; a name without a value has an empty one.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = |part: &str| match part.split_once('=') {
        Some((name, value)) => (decode(name), decode(value)),
        None => (decode(part), String::new()),
    };
    query.split('&').filter(|part| !part.is_empty()).take(MAX_PAIRS).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_a_plus_stays() {
        let read = pairs("usedonly&filter=%5Ecluster.+rq&&x=1=2");
        let expected = [("usedonly", ""), ("filter", "^cluster.+rq"), ("x", "1=2")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_endless_query_is_cut() {
        assert_eq!(pairs(&"a&".repeat(1000)).len(), MAX_PAIRS);
    }
}
