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
    let mut seen = begun.clone();
    let mut told = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = shared.stopping() => return,
        }
        let file = path.clone();
        // A file system that hangs must not stop anything else; a panic was told by its hook.
        let Ok(read) = tokio::task::spawn_blocking(move || read_control(&file)).await else { continue };
        let news = match read {
            Ok(config) if config == seen => {
                told.clear();
                continue;
            }
            Ok(config) => config,
            Err(errors) => {
                tell(
                    &mut told,
                    format!("the configuration has changed and is not good; nothing was changed: {errors}"),
                );
                continue;
            }
        };
        if (ControlConfig { gateway: None, ..news.clone() })
            != (ControlConfig { gateway: None, ..begun.clone() })
        {
            let text =
                "the configuration has changed beyond its section `gateway`: start control again to use it";
            tell(&mut told, text.to_owned());
            continue;
        }
        match shared.reconfigure(resources(&news)).await {
            Ok(()) | Err(ChangeError::Nothing) => {
                seen = news;
                told.clear();
            }
            Err(error) => tell(
                &mut told,
                format!("the listeners and clusters of the file are not published yet: {error}"),
            ),
        }
    }
}

/// Each text once: it is looked again in a moment.
fn tell(told: &mut String, text: String) {
    if *told != text {
        tracing::error!("{text}");
        *told = text;
    }
}
