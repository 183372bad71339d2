//! Tests of `report.rs`: what is called a failure, and what the text says.

use super::*;
use crate::client::{Failure, FailureKind, Protocol, Recipe, Target, parse_url};
use crate::identify::Identify;
use crate::record::{Sample, Seen};
use crate::schedule::{Rate, Schedule};
use std::time::Duration;

fn stream(total: u64) -> Stream {
    let uri = parse_url("http://127.0.0.1:1/").unwrap();
    let recipe = Recipe {
        target: Target {
            address: ([127, 0, 0, 1], 1).into(),
            authority: uri.authority().unwrap().clone(),
            path: uri.path_and_query().unwrap().clone(),
        },
        method: http::Method::GET,
        headers: vec![],
        body: bytes::Bytes::new(),
        protocol: Protocol::Http1,
        close: false,
    };
    Stream {
        schedule: Schedule::for_count(Rate::per_second(1000.0).unwrap(), total).unwrap(),
        recipe,
        connections: 1,
        streams: 1,
        request_timeout: Duration::from_secs(1),
        time_limit: Duration::from_secs(1),
        identify: Identify::Auto,
        trace: false,
    }
}

fn driven(outcomes: Vec<Result<(u16, Option<&str>), FailureKind>>) -> Driven {
    let mut recorder = Recorder::default();
    for outcome in outcomes {
        let at = Duration::from_millis(5);
        let outcome = match outcome {
            Ok((status, version)) => Ok(Seen { status, version: version.map(str::to_owned), length: 1 }),
            Err(kind) => Err(Failure { kind, text: "told".into() }),
        };
        recorder.record(Sample { intended: at, free: at, sent: at, done: at * 2, outcome });
    }
    Driven {
        recorder,
        not_sent: 0,
        start: std::time::Instant::now(),
        elapsed: Duration::from_secs(1),
        opened: 1,
        stopped: None,
    }
}

fn report(expect: Option<&str>, driven: &Driven) -> Report {
    let expected = expect.map(|text| text.parse().unwrap());
    Report::new("http://127.0.0.1:1/", &stream(2), driven, expected.as_ref())
}

#[test]
fn all_well_is_ok() {
    let r = report(Some("v1=50,v2=50"), &driven(vec![Ok((200, Some("v1"))), Ok((200, Some("v2")))]));
    assert!(r.ok && r.reasons.is_empty() && r.errors == 0, "{r:?}");
    assert_eq!((r.verb, r.versions.len()), ("split", 2));
    assert!(r.to_string().contains("the split is as asked"), "{r}");
    assert!(r.to_string().contains("ok: 2 requests, no error"), "{r}");
}

#[test]
fn one_error_answer_is_a_failure_even_when_the_split_is_right() {
    let r = report(Some("v1=50,v2=50"), &driven(vec![Ok((503, Some("v1"))), Ok((200, Some("v2")))]));
    assert!(!r.ok && r.errors == 1, "{r:?}");
    assert_eq!(r.reasons, ["1 answers had status 503"]);
    assert_eq!(r.versions[0].errors, 1);
}

#[test]
fn a_request_without_answer_is_a_failure_with_its_kind_and_text() {
    let r = report(None, &driven(vec![Err(FailureKind::Reset), Ok((200, None))]));
    assert!(!r.ok && r.verb == "run", "{r:?}");
    assert_eq!(r.failures["reset"], 1);
    assert!(r.reasons[0].contains("reset: told"), "{r:?}");
}

#[test]
fn an_answer_without_a_version_fails_a_split_but_not_a_run() {
    let outcomes = || driven(vec![Ok((200, None)), Ok((200, Some("v1")))]);
    assert!(report(None, &outcomes()).ok);
    let r = report(Some("v1=100"), &outcomes());
    assert!(!r.ok && r.reasons[0].contains("--by"), "{r:?}");
}

#[test]
fn the_gateways_own_error_is_not_also_called_unidentified() {
    let r = report(Some("v1=100"), &driven(vec![Ok((503, None)), Ok((200, Some("v1")))]));
    assert_eq!(r.reasons, ["1 answers had status 503"]);
}

#[test]
fn what_was_never_sent_is_told() {
    let mut d = driven(vec![Ok((200, None))]);
    d.not_sent = 1;
    d.stopped = Some(Stopped::TimeLimit);
    let r = report(None, &d);
    assert!(!r.ok && r.stopped == Some("time-limit") && r.reasons[0].contains("never sent"), "{r:?}");
}

#[test]
fn a_version_that_was_asked_for_and_never_answered_is_listed_with_zero() {
    let r = report(Some("v1=100,v2=0"), &driven(vec![Ok((200, Some("v1")))]));
    assert!(r.ok, "{r:?}");
    assert_eq!((r.versions[1].name.as_str(), r.versions[1].count), ("v2", 0));
}

#[test]
fn the_json_has_the_documented_fields() {
    let r = report(Some("v1=100"), &driven(vec![Ok((200, Some("v1")))]));
    let json = serde_json::to_value(&r).unwrap();
    for field in crate::cli::JSON_FIELDS {
        let pointer = format!("/{}", field.replace('.', "/").replace("99/9", "99.9"));
        assert!(json.pointer(&pointer).is_some(), "{field} is documented but not there: {json}");
    }
    for field in json.as_object().unwrap().keys() {
        let known = |f: &&str| f.split('.').next() == Some(field);
        assert!(crate::cli::JSON_FIELDS.iter().any(known), "{field} is not documented");
    }
}
