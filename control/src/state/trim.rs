//! A document that fits into one item.
//!
//! Owns what is left out when it does not; it must never leave out anything but old history. Next: `item.rs`.

use super::document::{Document, HistoryEntry};
use aws::dynamodb::MAX_DOCUMENT_BYTES;

/// What the document of an item is trimmed to. An item has 400 KB at most, and each write is paid by the KB.
pub const TRIM_TO_BYTES: usize = 300 * 1024;
/// The newest changes of each route are left out only when the item would not hold the document with them.
pub const KEEP_NEWEST: usize = 50;
/// The newest change of each route is never left out: it says what is in force, and since when.
const KEEP_LAST: usize = 1;

/// The document as JSON, without its oldest changes when it is longer than `limit` bytes; and how many were left out.
/// It may still be longer when the newest [`KEEP_NEWEST`] of each route take more than that, but not than an item holds:
/// a change must never be refused because of what was changed before it.
pub fn to_text(document: &Document, limit: usize) -> Result<(String, usize), serde_json::Error> {
    let whole = serde_json::to_string(document)?;
    if whole.len() <= limit {
        return Ok((whole, 0));
    }
    let (text, dropped) = without_oldest(document, whole.len() - limit, KEEP_NEWEST)?;
    if text.len() <= MAX_DOCUMENT_BYTES {
        return Ok((text, dropped));
    }
    without_oldest(document, whole.len() - MAX_DOCUMENT_BYTES, KEEP_LAST)
}

/// At least `excess` bytes shorter, as far as `keep` changes of each route allow that.
fn without_oldest(
    document: &Document,
    mut excess: usize,
    keep: usize,
) -> Result<(String, usize), serde_json::Error> {
    let mut oldest: Vec<(&str, &str, usize)> = Vec::new();
    for (name, record) in &document.routes {
        let spare = record.history.len().saturating_sub(keep);
        for entry in record.history.iter().take(spare) {
            oldest.push((entry.at.as_str(), name.as_str(), length(entry)?));
        }
    }
    // Stable: of two of one moment the one that the history has first goes first.
    oldest.sort_by_key(|(at, _, _)| *at);
    let mut trimmed = document.clone();
    let mut dropped = 0;
    for (_, name, bytes) in oldest {
        if excess == 0 {
            break;
        }
        if let Some(record) = trimmed.routes.get_mut(name) {
            record.history.pop_front();
            excess = excess.saturating_sub(bytes);
            dropped += 1;
        }
    }
    Ok((serde_json::to_string(&trimmed)?, dropped))
}

/// With its comma.
fn length(entry: &HistoryEntry) -> Result<usize, serde_json::Error> {
    Ok(serde_json::to_string(entry)?.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::document::{ChangeKind, Extra, RouteRecord, Weights};

    fn entry(number: usize) -> HistoryEntry {
        HistoryEntry {
            version: format!("1.{number}-x"),
            at: format!("2026-01-01T00:00:00.{number:06}Z"),
            actor: "alice@laptop".to_owned(),
            token: None,
            kind: ChangeKind::Set,
            from: None,
            to: Weights::from([("v1".to_owned(), 10_000)]),
            stable: "v1".to_owned(),
            reason: "r".repeat(200),
            acknowledged_ms: None,
            extra: Extra::new(),
        }
    }

    fn document(changes: &[(&str, std::ops::Range<usize>)]) -> Document {
        let mut document = Document::default();
        for (name, numbers) in changes {
            let record =
                RouteRecord { history: numbers.clone().map(entry).collect(), ..RouteRecord::default() };
            document.routes.insert((*name).to_owned(), record);
        }
        document
    }

    #[test]
    fn what_fits_is_written_whole() {
        let document = document(&[("a", 0..100)]);
        let (text, dropped) = to_text(&document, TRIM_TO_BYTES).unwrap();
        assert_eq!((serde_json::from_str::<Document>(&text).unwrap(), dropped), (document, 0));
    }

    #[test]
    fn the_oldest_changes_of_all_routes_go_first_and_no_more_than_needed() {
        let document = document(&[("old", 0..500), ("new", 500..1_000)]);
        let limit = 150 * 1024;
        let (text, dropped) = to_text(&document, limit).unwrap();
        assert!(text.len() <= limit && text.len() + 500 > limit, "{}", text.len());
        let read: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(read.routes["old"].history.len(), KEEP_NEWEST, "all that may go of the older route");
        assert_eq!(read.routes["new"].history.len() + KEEP_NEWEST + dropped, 1_000);
        assert_eq!(read.routes["new"].history.back(), document.routes["new"].history.back());
    }

    #[test]
    fn the_newest_fifty_of_each_route_stay_whatever_they_take() {
        let document = document(&[("a", 0..200), ("b", 0..20)]);
        let (text, dropped) = to_text(&document, 10).unwrap();
        let read: Document = serde_json::from_str(&text).unwrap();
        assert_eq!((read.routes["a"].history.len(), read.routes["b"].history.len()), (KEEP_NEWEST, 20));
        assert_eq!(dropped, 150);
        assert_eq!(read.routes["a"].history[0].version, "1.150-x");
    }

    #[test]
    fn history_never_makes_a_document_too_large_to_be_written() {
        let mut document = document(&[("a", 0..60), ("b", 0..60), ("c", 0..60)]);
        for record in document.routes.values_mut() {
            for entry in &mut record.history {
                entry.reason = "r".repeat(5_000);
            }
        }
        let (text, dropped) = to_text(&document, TRIM_TO_BYTES).unwrap();
        assert!(text.len() <= MAX_DOCUMENT_BYTES, "{}", text.len());
        let read: Document = serde_json::from_str(&text).unwrap();
        let kept: Vec<usize> = read.routes.values().map(|record| record.history.len()).collect();
        assert!(kept.iter().all(|kept| *kept > 5), "{kept:?}: no more than needed");
        assert_eq!(kept.iter().sum::<usize>() + dropped, 180);
        for (name, record) in &read.routes {
            assert_eq!(record.history.back(), document.routes[name].history.back());
        }
    }
}
