//! Listeners and clusters over HTTP: for gateways by discovery, for people as one object.
//!
//! Owns the refusal of who asks for something else. Next: `../discovery/`.

use super::error::ApiError;
use super::handlers::{Answer, replied};
use super::{Call, json_response};
use crate::core::fleet::Subject;
use crate::discovery;
use crate::rest::GatewayConfigView;
use crate::shared::Shared;
use gateway_config::wire::DiscoveryRequest;
use http::StatusCode;
use std::sync::Arc;

/// `POST /v3/discovery:listeners` and `:clusters`.
pub(super) async fn discover(shared: &Arc<Shared>, call: &Call, subject: Subject) -> Answer {
    let request: DiscoveryRequest = call.json()?;
    let type_url = discovery::type_url(subject);
    if (!request.type_url.is_empty() && request.type_url != type_url) || request.node.metadata.weir.is_none()
    {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("only Weir gateways get their listeners and clusters here, by type_url {type_url}"),
            "give a stock Envoy a file: `control export envoy` prints its bootstrap; its routes it may discover here",
        ));
    }
    if !request.resource_names.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "listeners and clusters are one configuration: all of them or none",
            "leave resource_names out",
        ));
    }
    if shared.with_core(|core| core.config().is_none()) {
        return Err(no_config());
    }
    let hold = discovery::hold_of(call.header("prefer"), &request);
    replied(shared, discovery::answer(shared, &call.peer, &request, hold, subject).await)
}

/// `GET /v1/gateway-config`.
pub(super) fn show(shared: &Arc<Shared>) -> Answer {
    let view = shared.with_core(|core| {
        let (version, config) = (core.config_version()?, core.config()?);
        let (listeners, clusters) = (config.listeners.clone(), config.clusters.clone());
        Some(GatewayConfigView { version, listeners, clusters })
    });
    json_response(StatusCode::OK, &view.ok_or_else(no_config)?)
}

fn no_config() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "this control has no listeners and clusters for gateways",
        "add the section `gateway` to control's configuration, or give the gateways GATEWAY_CONFIG",
    )
}
