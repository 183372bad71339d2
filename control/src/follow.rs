//! The configuration file while control runs.
//!
//! Owns the looking at the file and what of it counts without a start: the section `gateway`. It must never half-apply: a
//! file with an error, or one that also changes what only a start can take, changes nothing. Next: `core/config.rs`.

use crate::core::change::ChangeError;
use crate::shared::Shared;
use crate::tokens::POLL;
use gateway_config::control_config::{ControlConfig, read_control};
use gateway_config::discovered::{GatewayResources, GatewaySection};
use std::path::PathBuf;
use std::sync::Arc;

/// What the file's section `gateway` publishes.
pub fn resources(config: &ControlConfig) -> Option<GatewayResources> {
    config.gateway.as_ref().map(GatewaySection::resources).filter(|resources| !resources.is_empty())
}

/// Looks every 2 s, for as long as control runs. `begun` is what control was started with.
pub async fn follow_file(shared: Arc<Shared>, path: PathBuf, begun: ControlConfig) {
    let mut following = Following::new(begun);
    let mut told = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = shared.stopping() => return,
        }
        let file = path.clone();
        // A file system that hangs must not stop anything else; a panic was told by its hook.
        let Ok(read) = tokio::task::spawn_blocking(move || read_control(&file)).await else { continue };
        let news = match following.look(read.map_err(|errors| errors.to_string())) {
            Look::Settling => continue,
            Look::Same => {
                told.clear();
                continue;
            }
            Look::Refused(text) => {
                tell(&mut told, text);
                continue;
            }
            Look::News(news) => news,
        };
        match shared.reconfigure(resources(&news)).await {
            Ok(()) | Err(ChangeError::Nothing) => {
                following.seen = *news;
                told.clear();
            }
            Err(error) => tell(
                &mut told,
                format!("the listeners and clusters of the file are not published yet: {error}"),
            ),
        }
    }
}

type Read = Result<ControlConfig, String>;

/// What one look at the file means.
#[derive(Debug, PartialEq)]
enum Look {
    /// What counts already.
    Same,
    /// It differs from the last look: it may be half written.
    Settling,
    /// To be published.
    News(Box<ControlConfig>),
    /// It cannot be used, and why.
    Refused(String),
}

/// What is known of the file.
struct Following {
    begun: ControlConfig,
    /// What counts.
    seen: ControlConfig,
    last: Option<Read>,
}

impl Following {
    fn new(begun: ControlConfig) -> Self {
        Self { seen: begun.clone(), begun, last: None }
    }

    /// Half a file may be a good one with half of the clusters: what counts was found by two looks one after the other.
    fn look(&mut self, read: Read) -> Look {
        let settled = self.last.as_ref() == Some(&read);
        self.last = Some(read.clone());
        match read {
            Ok(config) if config == self.seen => Look::Same,
            _ if !settled => Look::Settling,
            Err(errors) => Look::Refused(format!(
                "the configuration has changed and is not good; nothing was changed: {errors}"
            )),
            Ok(config) if beyond(&config) != beyond(&self.begun) => Look::Refused(
                "the configuration has changed beyond its section `gateway`: start control again to use it"
                    .to_owned(),
            ),
            Ok(config) => Look::News(Box::new(config)),
        }
    }
}

/// What only a start can take.
fn beyond(config: &ControlConfig) -> ControlConfig {
    ControlConfig { gateway: None, ..config.clone() }
}

/// Each text once: it is looked again in a moment.
fn tell(told: &mut String, text: String) {
    if *told != text {
        tracing::error!("{text}");
        *told = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_config::control_config::parse_control;

    const HEAD: &str = r#"
listen: 127.0.0.1:0
state: {file: s.json}
routes: {svc1: {targets: [v0], stable: v0}}
gateway:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 9080}}
    http_connection_manager:
      route_config:
        virtual_hosts:
        - name: all
          domains: ["*"]
          routes:
          - name: svc1
            match: {prefix: /}
            route: {weighted_clusters: {stable: v0, clusters: [{name: v0, weight: 1}]}}
  clusters:
"#;

    fn config(ports: &[u16]) -> ControlConfig {
        let mut text = HEAD.to_owned();
        for (number, port) in ports.iter().enumerate() {
            let address = format!("{{address: 127.0.0.1, port_value: {port}}}");
            let endpoints = format!("{{endpoints: [{{socket_address: {address}}}]}}");
            text += &format!("  - {{name: v{number}, discovery: {{static: {endpoints}}}}}\n");
        }
        parse_control("control.yaml", text.as_bytes()).unwrap()
    }

    #[test]
    fn half_a_file_is_not_published_though_it_is_a_good_one() {
        let whole = config(&[3_001, 3_002, 3_003]);
        let mut following = Following::new(config(&[3_001, 3_002]));
        assert_eq!(following.look(Ok(config(&[3_001]))), Look::Settling);
        assert_eq!(following.look(Ok(whole.clone())), Look::Settling);
        assert_eq!(following.look(Ok(whole.clone())), Look::News(Box::new(whole.clone())));
        following.seen = whole.clone();
        assert_eq!(following.look(Ok(whole)), Look::Same);
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_not_told() {
        let begun = config(&[3_001]);
        let mut following = Following::new(begun.clone());
        let away = || Err("no such file".to_owned());
        assert_eq!(following.look(away()), Look::Settling);
        assert_eq!(following.look(Ok(begun)), Look::Same);
        assert_eq!(following.look(away()), Look::Settling);
        assert!(matches!(following.look(away()), Look::Refused(text) if text.contains("no such file")));
    }

    #[test]
    fn what_could_not_be_published_is_tried_again_with_each_look() {
        let news = config(&[3_002]);
        let mut following = Following::new(config(&[3_001]));
        following.look(Ok(news.clone()));
        for _ in 0..3 {
            assert_eq!(following.look(Ok(news.clone())), Look::News(Box::new(news.clone())));
        }
    }
}
