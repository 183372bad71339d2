//! What a webhook says.
//!
//! Owns the bodies and the next sensible command of each kind of event; it must never name a secret. Next: `post.rs`.

use crate::core::event::{Event, EventKind};
use gateway_config::control_config::WebhookFormat;
use serde_json::json;

/// The body for one event. `stable` is the stable target of its route.
pub(super) fn body(format: WebhookFormat, event: &Event, stable: Option<&str>) -> Vec<u8> {
    let commands = next(event, stable);
    let value = match format {
        WebhookFormat::Json => json!({
            "event": event.kind.word(),
            "at": event.at,
            "route": event.route,
            "gateway": event.gateway,
            "text": event.text,
            "next": commands,
        }),
        WebhookFormat::Slack => {
            let commands: Vec<String> =
                commands.iter().map(|command| format!("`{}`", escape(command))).collect();
            let text =
                format!("{} {}\nNext: {}", sign(event.kind), escape(&event.text), commands.join(" or "));
            json!({ "text": text })
        }
    };
    value.to_string().into_bytes()
}

/// What somebody who reads this would type, the likeliest first.
pub(super) fn next(event: &Event, stable: Option<&str>) -> Vec<String> {
    let get = match &event.route {
        Some(route) => format!("control get {route}"),
        None => "control get".to_owned(),
    };
    match (event.kind, &event.route, &event.gateway) {
        (EventKind::WeightsChanged, Some(route), _) => vec![get, format!("control rollback {route}")],
        // A rollback would send everything to where nobody answers.
        (EventKind::EndpointsEmpty, ..) if stable.is_some_and(|stable| is_about(event, stable)) => {
            vec![get, "gateway --mode doctor".to_owned()]
        }
        (EventKind::EndpointsEmpty, Some(route), _) => vec![format!("control rollback {route}"), get],
        (EventKind::GatewayBehind, route, _) => {
            let route = route.as_deref().unwrap_or("ROUTE");
            let stable = stable.unwrap_or("STABLE");
            // In the gateway's own task, by ECS Exec: it does not need control.
            vec![get, format!("gateway override {route} {stable} --for 60m")]
        }
        (EventKind::GatewayGone, _, Some(gateway)) => {
            vec!["control gateways".to_owned(), format!("control gateways forget {gateway}")]
        }
        _ => vec![get],
    }
}

/// Whether a target is the subject of the event's sentence (`core/watch.rs` begins it with the target).
fn is_about(event: &Event, target: &str) -> bool {
    event.text.strip_prefix(target).is_some_and(|rest| rest.starts_with(" of "))
}

/// So that good and bad are told apart before they are read.
fn sign(kind: EventKind) -> &'static str {
    match kind {
        EventKind::WeightsChanged => ":arrows_counterclockwise:",
        EventKind::Recovered => ":white_check_mark:",
        EventKind::GatewayBehind | EventKind::GatewayGone | EventKind::Drift | EventKind::EndpointsEmpty => {
            ":warning:"
        }
    }
}

/// Slack: "Formatting text for app surfaces", Escaping text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn event(kind: EventKind) -> Event {
        Event {
            kind,
            route: Some("svc1".to_owned()),
            gateway: Some("task1".to_owned()),
            text: "svc1: v2 1 % -> v2 <10> %".to_owned(),
            at: "2026-10-20T03:04:05Z".to_owned(),
        }
    }

    fn read(format: WebhookFormat, kind: EventKind) -> Value {
        serde_json::from_slice(&body(format, &event(kind), Some("v1"))).unwrap()
    }

    #[test]
    fn json_has_every_field() {
        assert_eq!(
            read(WebhookFormat::Json, EventKind::WeightsChanged),
            json!({"event": "weights_changed", "at": "2026-10-20T03:04:05Z", "route": "svc1", "gateway": "task1",
                   "text": "svc1: v2 1 % -> v2 <10> %", "next": ["control get svc1", "control rollback svc1"]})
        );
    }

    #[test]
    fn slack_gets_one_text_that_cannot_be_mistaken_for_markup() {
        let said = read(WebhookFormat::Slack, EventKind::WeightsChanged);
        let text = said["text"].as_str().unwrap();
        assert!(text.contains("v2 &lt;10&gt; %") && text.contains("`control rollback svc1`"), "{text}");
        assert_eq!(said.as_object().unwrap().len(), 1);
    }

    #[test]
    fn nobody_is_told_to_send_everything_to_a_stable_target_without_endpoints() {
        let empty = |target: &str| Event {
            text: format!(
                "{target} of svc1 has a share of the traffic, and no gateway has a usable endpoint of it"
            ),
            ..event(EventKind::EndpointsEmpty)
        };
        assert!(next(&empty("v2"), Some("v1"))[0].starts_with("control rollback svc1"));
        assert_eq!(next(&empty("v1"), Some("v1")), ["control get svc1", "gateway --mode doctor"]);
    }

    #[test]
    fn each_kind_names_a_command() {
        for (kind, command) in [
            (EventKind::WeightsChanged, "control get svc1"),
            (EventKind::GatewayBehind, "gateway override svc1 v1 --for 60m"),
            (EventKind::GatewayGone, "control gateways forget task1"),
            (EventKind::Recovered, "control get svc1"),
            (EventKind::Drift, "control get svc1"),
            (EventKind::EndpointsEmpty, "control rollback svc1"),
        ] {
            assert!(next(&event(kind), Some("v1")).iter().any(|next| next == command), "{kind:?}");
        }
    }
}
