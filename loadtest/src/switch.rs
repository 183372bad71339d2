//! Whether a change of weights takes effect at once, for every request after it.
//!
//! Owns the judgement over a trace of who answered when. A request that was sent after a change had been
//! confirmed and before the next was asked for must be answered by a version that the change allows; one
//! whose answer came only after the next change was asked for may be that one's. Must never see a clock or a
//! socket. Next: `cli/change.rs`, which makes the changes.

use crate::record::{Trace, Traced};
use serde::Serialize;
use std::str::FromStr;
use std::time::Duration;

/// One state to switch to: the versions that may answer then, and the command that brings it about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Versions with a weight above 0.
    pub allowed: Vec<String>,
    /// Run by `sh -c`; it must exit 0 once the change holds.
    pub command: String,
}

/// Why `--to` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not NAME=COMMAND; write --to v1='control set-weight svc1 v1=100 v2=0', or v1+v2=... when both may answer"
)]
pub struct SettingError(String);

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (names, command) = text.split_once('=').ok_or_else(|| SettingError(text.to_owned()))?;
        let allowed: Vec<String> = names.split('+').map(|name| name.trim().to_owned()).collect();
        if command.trim().is_empty() || allowed.iter().any(String::is_empty) {
            return Err(SettingError(text.to_owned()));
        }
        Ok(Self { allowed, command: command.to_owned() })
    }
}

/// One change that was made; times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Versions that may answer from now on.
    pub allowed: Vec<String>,
    /// When its command was started.
    pub issued: Duration,
    /// When its command had ended.
    pub confirmed: Duration,
    /// What went wrong with the command, if anything.
    pub error: Option<String>,
}

/// What one change did to the traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeReport {
    /// Versions that may answer from now on.
    pub to: Vec<String>,
    /// Seconds from the start of the run to the start of its command.
    pub issued_s: f64,
    /// Milliseconds until its command had ended.
    pub confirmed_after_ms: f64,
    /// Milliseconds from the start of the command to the sending of the last request that the old versions
    /// answered; null when there was none.
    pub last_old_after_ms: Option<f64>,
    /// The same to the first request that a newly allowed version answered.
    pub first_new_after_ms: Option<f64>,
    /// Requests sent after the change was confirmed and answered by a version that it does not allow: must be 0.
    pub stale: u64,
    /// What went wrong with the command.
    pub error: Option<String>,
}

/// Judges each change by the answers from it to the next one.
#[must_use]
pub fn judge(changes: &[Change], trace: &Trace) -> Vec<ChangeReport> {
    let one = |(k, change): (usize, &Change)| {
        let before = k.checked_sub(1).and_then(|k| changes.get(k));
        judge_one(before, change, changes.get(k + 1), trace)
    };
    changes.iter().enumerate().map(one).collect()
}

fn judge_one(before: Option<&Change>, change: &Change, next: Option<&Change>, trace: &Trace) -> ChangeReport {
    let until = next.map_or(Duration::MAX, |next| next.issued);
    let allowed = |change: &Change, answer: &Traced| {
        trace.names.get(usize::from(answer.version)).is_some_and(|name| change.allowed.contains(name))
    };
    let window = trace.answers.iter().filter(|a| a.sent >= change.issued && a.sent < until);
    let (mut stale, mut last_old, mut first_new) = (0, None::<Duration>, None::<Duration>);
    for answer in window {
        let after = answer.sent - change.issued;
        let of_next = answer.done >= until && next.is_some_and(|next| allowed(next, answer));
        if allowed(change, answer) {
            if !before.is_some_and(|before| allowed(before, answer)) {
                first_new = Some(first_new.map_or(after, |first| first.min(after)));
            }
        } else if !of_next {
            last_old = Some(last_old.map_or(after, |last| last.max(after)));
            stale += u64::from(answer.sent >= change.confirmed);
        }
    }
    ChangeReport {
        to: change.allowed.clone(),
        issued_s: change.issued.as_secs_f64(),
        confirmed_after_ms: ms(change.confirmed.saturating_sub(change.issued)),
        last_old_after_ms: last_old.map(ms),
        first_new_after_ms: first_new.map(ms),
        stale,
        error: change.error.clone(),
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn change(allowed: &[&str], issued: u64, confirmed: u64) -> Change {
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        Change { allowed, issued: at(issued), confirmed: at(confirmed), error: None }
    }

    /// Answers as (sent, done, index of the version among a, b, c).
    fn trace(answers: &[(u64, u64, u16)]) -> Trace {
        Trace {
            names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            answers: answers
                .iter()
                .map(|(sent, done, version)| Traced { sent: at(*sent), done: at(*done), version: *version })
                .collect(),
        }
    }

    #[test]
    fn an_old_answer_before_the_confirmation_is_no_fault_and_after_it_is() {
        let changes = [change(&["b"], 100, 110)];
        let reports = judge(&changes, &trace(&[(90, 91, 0), (104, 105, 0), (106, 107, 1), (120, 121, 1)]));
        assert_eq!((reports[0].stale, reports[0].last_old_after_ms), (0, Some(4.0)));
        assert_eq!((reports[0].first_new_after_ms, reports[0].confirmed_after_ms), (Some(6.0), 10.0));
        let reports = judge(&changes, &trace(&[(111, 112, 0)]));
        assert_eq!((reports[0].stale, reports[0].last_old_after_ms), (1, Some(11.0)));
    }

    #[test]
    fn an_answer_that_comes_after_the_next_change_may_be_that_ones() {
        let changes = [change(&["a"], 0, 1), change(&["b"], 100, 110)];
        let reports = judge(&changes, &trace(&[(99, 105, 1), (98, 99, 1)]));
        assert_eq!((reports[0].stale, reports[1].stale), (1, 0), "the one that ended before it may not");
    }

    #[test]
    fn several_versions_may_be_allowed_at_once() {
        let changes = [change(&["a", "b"], 0, 1), change(&["c"], 100, 101)];
        let reports = judge(&changes, &trace(&[(10, 11, 0), (20, 21, 1), (30, 31, 2), (150, 151, 2)]));
        assert_eq!((reports[0].stale, reports[1].stale), (1, 0));
        assert_eq!(reports[1].first_new_after_ms, Some(50.0));
    }

    #[test]
    fn without_requests_nothing_is_claimed() {
        let reports = judge(&[change(&["a"], 0, 1)], &trace(&[]));
        assert_eq!(
            (reports[0].stale, reports[0].last_old_after_ms, reports[0].first_new_after_ms),
            (0, None, None)
        );
    }

    #[test]
    fn a_setting_names_its_versions_and_its_command() {
        let setting: Setting = "a+b=control set-weight svc1 a=50 b=50".parse().unwrap();
        assert_eq!(setting.allowed, ["a", "b"]);
        assert_eq!(setting.command, "control set-weight svc1 a=50 b=50");
        for text in ["", "a", "a=", "=true", "a+=true"] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }
}
