//! What each command asks control, and which exit code its answer gives.
//!
//! Owns no output (that is `show.rs`). Next: `show.rs`.

use super::client::Client;
use super::{
    ChangeOptions, Cli, Command, EXIT_DONE, EXIT_ERROR, EXIT_MISSING, EXIT_NO_GATEWAY, Failure,
    GatewaysAction, show, show_gateways,
};
use crate::rest::{
    AdoptRequest, ControlView, GatewaysView, HistoryView, Outcome, RollbackRequest, RouteView, RoutesView,
    StableRequest, WeightsRequest,
};
use crate::serve::Options;
use http::Method;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// `get --watch` shows at most so often.
const WATCH_PAUSE: Duration = Duration::from_millis(500);
/// `get --watch` asks a control that does not answer again so often.
const WATCH_RETRY: Duration = Duration::from_secs(1);
/// How long one question of `get --watch` is held by control.
const WATCH_WAIT_SECONDS: u64 = 15;

/// Runs one command.
pub(super) async fn run(cli: Cli) -> Result<u8, Failure> {
    let json = cli.global.json;
    let command = match cli.command {
        Command::Serve { config, recover, log_level, log_json } => {
            return super::serve(Options { config, recover }, &log_level, log_json).await;
        }
        Command::InitStore { table, key } => return super::store::init(&table, &key).await,
        Command::Init { what } => return super::init::run(*what, json),
        Command::Import(asked) => return super::import::import(&asked, json),
        Command::Export(asked) => return super::import::export(&asked, &cli.global).await,
        command => command,
    };
    let session = Session { client: Client::new(&cli.global)?, json };
    match command {
        Command::Serve { .. }
        | Command::Init { .. }
        | Command::InitStore { .. }
        | Command::Import(_)
        | Command::Export(_) => Ok(EXIT_ERROR),
        Command::Get { route, watch } => session.get(route.as_deref(), watch).await,
        Command::SetWeight { words, change, force } => session.set_weight(&words, &change, force).await,
        Command::Apply(asked) => session.apply(&asked).await,
        Command::Rollback { route, change } => {
            let body = RollbackRequest { reason: change.reason.clone(), timeout_ms: millis(&change) };
            session.change(&format!("/v1/routes/{}/rollback", encode(&route)), &body, &change).await
        }
        Command::History { route, limit } => session.history(&route, limit).await,
        Command::Stable { route, target, build, change } => {
            let reason = change.reason.clone();
            let body = StableRequest { target, build, reason, timeout_ms: millis(&change) };
            session.change(&format!("/v1/routes/{}/stable", encode(&route)), &body, &change).await
        }
        Command::Gateways { action: None } => session.gateways().await,
        Command::Gateways { action: Some(GatewaysAction::Forget { id }) } => session.forget(&id).await,
        Command::Adopt { from, change } => {
            let body = AdoptRequest { from, reason: change.reason.clone(), timeout_ms: millis(&change) };
            session.change("/v1/adopt", &body, &change).await
        }
    }
}

pub(super) struct Session {
    client: Client,
    pub(super) json: bool,
}

impl Session {
    pub(super) async fn ask(&self, path: &str) -> Result<Value, Failure> {
        self.client.call(Method::GET, path, None, Duration::from_secs(WATCH_WAIT_SECONDS)).await
    }

    async fn get(&self, route: Option<&str>, watch: bool) -> Result<u8, Failure> {
        let path = match route {
            Some(route) => format!("/v1/routes/{}", encode(route)),
            None => "/v1/routes".to_owned(),
        };
        let mut answer = self.ask(&path).await?;
        loop {
            let view: RoutesView = read(&answer)?;
            if self.json {
                show::json(&answer);
            } else {
                // An addition to the page; who cannot get it sees the rest.
                let fleet = self.ask("/v1/gateways").await.and_then(|answer| read(&answer));
                show::routes(&view, &fleet.unwrap_or_default(), watch);
            }
            if !watch {
                return Ok(fleet_code(&view.control, view.routes.iter().flat_map(states)));
            }
            tokio::time::sleep(WATCH_PAUSE).await;
            let after = view.control.revision;
            let next = format!("{path}?after={after}&wait={WATCH_WAIT_SECONDS}");
            answer = self.ask_again(&next, &path).await?;
        }
    }

    /// Who watches goes on watching when control is started again: only a wrong question ends it.
    async fn ask_again(&self, next: &str, path: &str) -> Result<Value, Failure> {
        let mut asked = self.ask(next).await;
        let mut told = false;
        while let Err(failure) = &asked {
            if failure.code == super::EXIT_USAGE {
                break;
            }
            if !told {
                show::failure(failure, false);
                told = true;
            }
            tokio::time::sleep(WATCH_RETRY).await;
            // At once: the revisions of another start are other ones.
            asked = self.ask(path).await;
        }
        asked
    }

    async fn set_weight(&self, words: &[String], change: &ChangeOptions, force: bool) -> Result<u8, Failure> {
        let body = WeightsRequest {
            routes: routes_of(words)?,
            reason: change.reason.clone(),
            timeout_ms: millis(change),
            force,
            careful: false,
            build: None,
        };
        self.change("/v1/weights", &body, change).await
    }

    pub(super) async fn change(
        &self,
        path: &str,
        body: &impl Serialize,
        change: &ChangeOptions,
    ) -> Result<u8, Failure> {
        let body = serde_json::to_value(body)
            .map_err(|error| Failure::error(format!("not writable as JSON: {error}"), "report it"))?;
        let answer = self.client.call(Method::POST, path, Some(&body), change.timeout).await?;
        let outcome: Outcome = read(&answer)?;
        if self.json {
            show::json(&answer);
        } else {
            show::outcome(&outcome);
        }
        Ok(exit_code(&outcome))
    }

    async fn history(&self, route: &str, limit: usize) -> Result<u8, Failure> {
        let mut answer = self.ask(&format!("/v1/routes/{}/history", encode(route))).await?;
        if self.json {
            newest(&mut answer, limit);
            show::json(&answer);
        } else {
            show::history(&read::<HistoryView>(&answer)?, limit);
        }
        Ok(EXIT_DONE)
    }

    async fn gateways(&self) -> Result<u8, Failure> {
        let answer = self.ask("/v1/gateways").await?;
        let view: GatewaysView = read(&answer)?;
        if self.json {
            show::json(&answer);
        } else {
            show_gateways::gateways(&view);
        }
        Ok(fleet_code(&view.control, view.gateways.iter().map(|gateway| gateway.state.as_str())))
    }

    async fn forget(&self, id: &str) -> Result<u8, Failure> {
        let path = format!("/v1/gateways/{}", encode(id));
        let answer = self.client.call(Method::DELETE, &path, None, Duration::ZERO).await?;
        if self.json {
            show::json(&answer);
        } else {
            println!("{id} is forgotten");
        }
        Ok(EXIT_DONE)
    }
}

/// Drops what is over `limit`, the oldest first.
fn newest(answer: &mut Value, limit: usize) {
    if let Some(history) = answer.get_mut("history").and_then(Value::as_array_mut) {
        history.drain(..history.len().saturating_sub(limit));
    }
}

fn states(route: &RouteView) -> impl Iterator<Item = &str> {
    route.gateways.iter().map(|gateway| gateway.state.as_str())
}

/// No gateway at all is a state that a script must not take for a good one.
fn fleet_code<'a>(control: &ControlView, mut states: impl Iterator<Item = &'a str>) -> u8 {
    let none = match control.fleet.as_str() {
        // An older control does not say.
        "" => !states.any(|state| matches!(state, "connected" | "draining")),
        word => word == "none",
    };
    if none { EXIT_NO_GATEWAY } else { EXIT_DONE }
}

fn exit_code(outcome: &Outcome) -> u8 {
    if outcome.superseded_by.is_some() {
        EXIT_ERROR
    } else if outcome.connected == 0 {
        EXIT_NO_GATEWAY
    } else if outcome.missing.is_empty() {
        EXIT_DONE
    } else {
        EXIT_MISSING
    }
}

/// `svc1 v1=90 v2=10 svc2 v2=5` by route: a word without `=` begins a route.
fn routes_of(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut routes: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<&String> = None;
    for word in words {
        if !word.contains('=') {
            if let Some(route) = current.filter(|route| routes.get(*route).is_none_or(String::is_empty)) {
                return Err(no_weights(route, Some(word)));
            }
            if routes.insert(word.clone(), String::new()).is_some() {
                return Err(Failure::usage(format!("route `{word}` is named twice"), "name each route once"));
            }
            current = Some(word);
            continue;
        }
        let Some(text) = current.and_then(|route| routes.get_mut(route)) else {
            return Err(Failure::usage(
                format!("`{word}` comes before the name of a route"),
                format!("write `control set-weight ROUTE {word}`"),
            ));
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    match current {
        Some(route) if routes.get(route).is_none_or(String::is_empty) => Err(no_weights(route, None)),
        _ => Ok(routes),
    }
}

fn no_weights(route: &str, next: Option<&String>) -> Failure {
    match next {
        Some(word) => Failure::usage(
            format!("`{word}` has no `=`, so it would be a second route, and `{route}` has no weights"),
            format!("write `control set-weight {route} {word}=10`"),
        ),
        None => Failure::usage(
            format!("`{route}` has no weights (a word without `=` is a route)"),
            format!("write `control set-weight {route} v1=90 v2=10`, or `{route}=10` if it is a target"),
        ),
    }
}

pub(super) fn millis(change: &ChangeOptions) -> Option<u64> {
    u64::try_from(change.timeout.as_millis()).ok()
}

pub(super) fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        Failure::error(format!("the answer is not understood: {error}"), "is this control older?")
    })
}

/// RFC 3986 section 2.1: everything but unreserved characters is encoded.
pub(super) fn encode(segment: &str) -> String {
    let mut encoded = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@' | b':') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<BTreeMap<String, String>, Failure> {
        routes_of(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_word_without_equals_begins_a_route() {
        let routes = split("svc1 v1=90 v2=10 svc2 v2=5%").unwrap();
        assert_eq!(routes.get("svc1").unwrap(), "v1=90 v2=10");
        assert_eq!(routes.get("svc2").unwrap(), "v2=5%");
    }

    #[test]
    fn a_forgotten_equals_is_named_with_a_cure() {
        let failure = split("svc1 v2").unwrap_err();
        assert!(failure.error.contains("`v2` has no `=`"), "{}", failure.error);
        assert!(failure.cure.contains("control set-weight svc1 v2=10"), "{}", failure.cure);
        assert_eq!(failure.code, super::super::EXIT_USAGE);
        assert!(split("svc1").unwrap_err().error.contains("has no weights"));
        assert!(split("v2=10").unwrap_err().error.contains("before the name of a route"));
        assert!(split("a v1=1 a v1=2").unwrap_err().error.contains("twice"));
    }

    #[test]
    fn the_newest_changes_are_kept() {
        let mut answer = serde_json::json!({"route": "a", "history": [1, 2, 3]});
        newest(&mut answer, 2);
        assert_eq!(answer["history"], serde_json::json!([2, 3]));
        newest(&mut answer, 9);
        assert_eq!(answer["history"], serde_json::json!([2, 3]));
    }

    #[test]
    fn the_exit_code_says_how_far_it_came() {
        let all = Outcome { connected: 2, awaited: 2, acknowledged: 2, ..Outcome::default() };
        assert_eq!(exit_code(&all), 0);
        let missing = Outcome { missing: vec![crate::rest::Missing::default()], ..all.clone() };
        assert_eq!(exit_code(&missing), 3);
        let none = Outcome { connected: 0, ..missing };
        assert_eq!(exit_code(&none), 4);
        assert_eq!(exit_code(&Outcome { superseded_by: Some("1.2-x".to_owned()), ..all }), 1);
    }
}
