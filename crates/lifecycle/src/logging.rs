//! The log of a process: lines on standard error, in text or JSON, at a level that can be changed while it runs.
//!
//! Owns the one global subscriber. It must never write to standard output, which belongs to the access log, and
//! never hold back a start because of a level it does not know: it says so in an error that names the words it
//! takes. Next: [`crate::readiness`].

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Libraries whose `info` and `debug` lines tell an operator nothing; they are heard at `trace` or by a directive.
const QUIET_LIBRARIES: &[&str] = &[
    "aws_config",
    "aws_runtime",
    "aws_sdk_appmesh",
    "aws_sdk_servicediscovery",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "rustls",
    "tower",
];

/// Why the log could not be set up or its level not be changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LogError {
    /// The level is neither one of Envoy's words nor a list of directives.
    #[error(
        "unknown log level `{0}`: use trace, debug, info, warning (or warn), error, critical or off, or directives such as `info,hyper=debug`"
    )]
    UnknownLevel(String),
    /// Something else in this process has set a subscriber before.
    #[error("the log of this process has already been set up")]
    AlreadySet,
}

/// Changes the level of the log that [`init`] set up. Cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    level: Arc<Mutex<String>>,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle").field("level", &self.level()).finish_non_exhaustive()
    }
}

impl LogHandle {
    /// Sets another level from now on, for all modules.
    ///
    /// # Errors
    /// [`LogError::UnknownLevel`]; the level in force stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = filter_of(level)?;
        self.filter.reload(filter).map_err(|_| LogError::AlreadySet)?;
        level.clone_into(&mut self.level.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// The level in force, in the words it was set with.
    pub fn level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sets up the log of this process: to standard error, at `level`, as JSON objects when `json`.
///
/// `level` is one of Envoy's words (`trace`, `debug`, `info`, `warning` or `warn`, `error`, `critical`, `off`) or
/// a list of `target=level` directives as `tracing_subscriber` reads them.
///
/// # Errors
/// [`LogError::UnknownLevel`], or [`LogError::AlreadySet`] at a second call.
pub fn init(level: &str, json: bool) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(filter_of(level)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry: Layered<_, Registry> = tracing_subscriber::registry().with(filter);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    registry.with(lines).try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(LogHandle { filter: handle, level: Arc::new(Mutex::new(level.to_owned())) })
}

/// The filter that a level stands for.
fn filter_of(level: &str) -> Result<EnvFilter, LogError> {
    let unknown = || LogError::UnknownLevel(level.to_owned());
    let lower = level.trim().to_ascii_lowercase();
    let directives = match lower.as_str() {
        "trace" => "trace".to_owned(),
        "debug" | "info" => {
            let quiet: String = QUIET_LIBRARIES.iter().map(|library| format!(",{library}=warn")).collect();
            format!("{lower}{quiet}")
        }
        "warn" | "warning" => "warn".to_owned(),
        "error" | "critical" => "error".to_owned(),
        "off" => "off".to_owned(),
        _ if lower.contains('=') => level.trim().to_owned(),
        _ => return Err(unknown()),
    };
    EnvFilter::builder().parse(directives).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_level_words_are_taken() {
        for word in
            ["trace", "debug", "info", "warn", "warning", "error", "critical", "off", "INFO", " info "]
        {
            assert!(filter_of(word).is_ok(), "{word}");
        }
    }

    #[test]
    fn an_unknown_level_is_named_together_with_the_known_ones() {
        for word in ["loud", "", "info;debug", "hyper=loud"] {
            let error = filter_of(word).expect_err(word);
            assert_eq!(error, LogError::UnknownLevel(word.to_owned()));
            assert!(error.to_string().contains("critical"), "{error}");
        }
    }

    #[test]
    fn libraries_stay_quiet_at_debug_and_speak_at_trace() {
        assert!(filter_of("debug").expect("debug").to_string().contains("hyper=warn"));
        assert_eq!(filter_of("trace").expect("trace").to_string(), "trace");
    }

    #[test]
    fn directives_are_passed_on() {
        assert!(filter_of("info,hyper=debug").expect("directives").to_string().contains("hyper=debug"));
    }
}
