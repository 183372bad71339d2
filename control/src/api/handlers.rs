//! One function per path.
//!
//! Owns the translation between HTTP and the running control. Next: `../shared.rs`.

use super::error::ApiError;
use super::{Call, json_response, plain_response};
use crate::core::change::{Author, Change, ChangeError, What};
use crate::discovery::{self, Reply};
use crate::rest::{
    AdoptRequest, GatewaysView, Outcome, RollbackRequest, RoutesView, StableRequest, WeightsRequest,
};
use crate::shared::{DEFAULT_TIMEOUT, MAX_TIMEOUT, Shared};
use crate::state::document::Weights;
use bytes::Bytes;
use gateway_config::weights::parse_assignments;
use gateway_config::wire::{DiscoveryRequest, ROUTE_TYPE_URL, Report};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

type Answer = Result<Response<Full<Bytes>>, ApiError>;

/// Names in one discovery request: each is looked for among all routes with each answer.
const MAX_NAMES: usize = 1_000;
/// The longest that `GET ...?after=` waits for something new.
const MAX_WATCH: Duration = Duration::from_secs(30);

/// Finds the handler.
pub async fn dispatch(shared: &Arc<Shared>, call: &Call) -> Answer {
    let words: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let post = call.method == Method::POST;
    let get = call.method == Method::GET;
    match words.as_slice() {
        ["healthz"] if get => Ok(plain_response(StatusCode::OK, "text/plain", "OK\n")),
        ["metrics"] if get => {
            let text = shared.metrics.render(shared);
            Ok(plain_response(StatusCode::OK, "text/plain; version=0.0.4", text))
        }
        ["v3", "discovery:routes"] if post => discover(shared, call).await,
        ["v1", "gateways", id, "report"] if post => report(shared, call, id),
        ["v1", "routes"] if get => routes(shared, call, None).await,
        ["v1", "routes", name] if get => routes(shared, call, Some(name)).await,
        ["v1", "routes", name, "history"] if get => history(shared, name),
        ["v1", "routes", name, "rollback"] if post => rollback(shared, call, name).await,
        ["v1", "routes", name, "stable"] if post => stable(shared, call, name).await,
        ["v1", "weights"] if post => weights(shared, call).await,
        ["v1", "adopt"] if post => adopt(shared, call).await,
        ["v1", "gateways"] if get => gateways(shared),
        ["v1", "gateways", id] if call.method == Method::DELETE => forget(shared, id),
        _ if is_known(&words) => Err(ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{} is not served here", call.method),
            "changes are POST, looking is GET, forgetting a gateway is DELETE",
        )),
        _ => Err(ApiError::not_found(format!("/{} is not served", words.join("/")))),
    }
}

fn is_known(words: &[&str]) -> bool {
    matches!(
        words,
        ["healthz" | "metrics"]
            | ["v3", "discovery:routes"]
            | ["v1", "gateways" | "routes" | "weights" | "adopt"]
            | ["v1", "gateways" | "routes", _]
            | ["v1", "gateways", _, "report"]
            | ["v1", "routes", _, "history" | "rollback" | "stable"]
    )
}

async fn discover(shared: &Arc<Shared>, call: &Call) -> Answer {
    let request: DiscoveryRequest = call.json()?;
    if !request.type_url.is_empty() && request.type_url != ROUTE_TYPE_URL {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "only routes are discovered here",
            format!("ask for type_url {ROUTE_TYPE_URL}"),
        ));
    }
    if request.resource_names.len() > MAX_NAMES {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("{} resource_names are more than {MAX_NAMES}", request.resource_names.len()),
            "ask for all routes by naming none",
        ));
    }
    let hold = discovery::hold_of(call.header("prefer"), &request);
    let reply = discovery::answer(shared, &call.peer, &request, hold).await;
    let counted = |answer: &str| shared.metrics.discovery.with_label_values(&[answer]).inc();
    match reply {
        Reply::Response(response) => {
            counted("sent");
            json_response(StatusCode::OK, &response)
        }
        Reply::NotModified => {
            counted("not_modified");
            Ok(plain_response(StatusCode::NOT_MODIFIED, "application/json", Bytes::new()))
        }
        Reply::Unavailable(text) => {
            counted("unavailable");
            let cure = "the gateway keeps its weights and asks again";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text, cure))
        }
    }
}

fn report(shared: &Arc<Shared>, call: &Call, id: &str) -> Answer {
    let report: Report = call.json()?;
    if report.boot_id.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "boot_id is missing",
            "send a report as documented",
        ));
    }
    if shared.hear_report(id, &report)? {
        shared.metrics.reports.inc();
    }
    Ok(plain_response(StatusCode::NO_CONTENT, "application/json", Bytes::new()))
}

async fn routes(shared: &Arc<Shared>, call: &Call, name: Option<&str>) -> Answer {
    wait_for_news(shared, call).await;
    let now = shared.now();
    let revision = *shared.subscribe_progress().borrow();
    let mut view = shared.with_core(|core| {
        let names = core.routes().keys().filter(|known| name.is_none_or(|name| name == known.as_str()));
        let routes = names.filter_map(|name| core.route_view(now, name)).collect();
        RoutesView { control: core.control_view(now), routes }
    });
    view.control.revision = revision;
    for route in &mut view.routes {
        route.app_mesh = shared.follower_status(&route.name);
    }
    if let (Some(name), true) = (name, view.routes.is_empty()) {
        return Err(unknown_route(shared, name));
    }
    json_response(StatusCode::OK, &view)
}

/// `?after=REVISION` waits until the revision is another one, `&wait=SECONDS` at most.
async fn wait_for_news(shared: &Arc<Shared>, call: &Call) {
    let Some(after) = call.parameter("after").and_then(|after| after.parse::<u64>().ok()) else { return };
    let wait = call.parameter("wait").and_then(|wait| wait.parse::<u64>().ok());
    let wait = wait.map_or(MAX_WATCH, Duration::from_secs).min(MAX_WATCH);
    let mut progress = shared.subscribe_progress();
    tokio::select! {
        _ = progress.wait_for(|revision| *revision != after) => {}
        () = tokio::time::sleep(wait) => {}
        () = shared.stopping() => {}
    }
}

fn unknown_route(shared: &Arc<Shared>, name: &str) -> ApiError {
    match shared.with_core(|core| core.settings(name).err()) {
        Some(error) => error.into(),
        None => ApiError::not_found("no such route"),
    }
}

fn history(shared: &Arc<Shared>, name: &str) -> Answer {
    match shared.with_core(|core| core.history_view(name)) {
        Some(view) => json_response(StatusCode::OK, &view),
        None => Err(unknown_route(shared, name)),
    }
}

fn gateways(shared: &Arc<Shared>) -> Answer {
    let now = shared.now();
    let view = shared.with_core(|core| GatewaysView {
        control: core.control_view(now),
        gateways: core.gateway_views(now),
    });
    json_response(StatusCode::OK, &view)
}

fn forget(shared: &Arc<Shared>, id: &str) -> Answer {
    if shared.with_core(|core| core.forget(id)) {
        shared.note_progress();
        return json_response(StatusCode::OK, &serde_json::json!({ "forgotten": id }));
    }
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        format!("no gateway `{}` is known", crate::core::change::clean_text(id)),
        "`control gateways` lists them",
    ))
}

async fn weights(shared: &Arc<Shared>, call: &Call) -> Answer {
    let asked: WeightsRequest = call.json()?;
    let begun = Instant::now();
    let deadline = begun + timeout(asked.timeout_ms);
    if asked.routes.is_empty() {
        return Err(ChangeError::Nothing.into());
    }
    let routes = parse_weights(shared, &asked.routes)?;
    let names: Vec<String> = routes.keys().cloned().collect();
    if asked.force {
        shared.heard(deadline).await;
    } else {
        shared.adopted(&names, deadline).await;
    }
    let what = What::Set { routes, force: asked.force };
    change(shared, call, what, asked.reason, (begun, deadline)).await
}

fn parse_weights(
    shared: &Arc<Shared>,
    asked: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Weights>, ChangeError> {
    shared.with_core(|core| {
        let parse = |(route, text): (&String, &String)| {
            let settings = core.settings(route)?;
            let stable = core.stable_of(route, settings);
            let words: Vec<&str> = text.split_whitespace().collect();
            let weights = parse_assignments(&words, &settings.targets, &stable)
                .map_err(|source| ChangeError::Weights { route: route.clone(), source })?;
            Ok((route.clone(), weights))
        };
        asked.iter().map(parse).collect()
    })
}

async fn rollback(shared: &Arc<Shared>, call: &Call, name: &str) -> Answer {
    let asked: RollbackRequest = call.json()?;
    let begun = Instant::now();
    let deadline = begun + timeout(asked.timeout_ms);
    shared.heard(deadline).await;
    change(shared, call, What::Rollback(name.to_owned()), asked.reason, (begun, deadline)).await
}

async fn stable(shared: &Arc<Shared>, call: &Call, name: &str) -> Answer {
    let asked: StableRequest = call.json()?;
    let begun = Instant::now();
    let deadline = begun + timeout(asked.timeout_ms);
    let what = What::Stable { route: name.to_owned(), target: asked.target, build: asked.build };
    change(shared, call, what, asked.reason, (begun, deadline)).await
}

async fn adopt(shared: &Arc<Shared>, call: &Call) -> Answer {
    let asked: AdoptRequest = call.json()?;
    let begun = Instant::now();
    let deadline = begun + timeout(asked.timeout_ms);
    let now = shared.now();
    let weights = shared.with_core(|core| core.adoptable(now, asked.from.as_deref()))?;
    change(shared, call, What::Adopt(weights), asked.reason, (begun, deadline)).await
}

async fn change(
    shared: &Arc<Shared>,
    call: &Call,
    what: What,
    reason: String,
    (begun, deadline): (Instant, Instant),
) -> Answer {
    let actor = call.header("x-actor").map_or_else(|| call.peer.clone(), str::to_owned);
    let author = Author { actor, token: call.token.clone() };
    let planned = shared.change(Change { what, author, reason }).await?;
    let outcome: Outcome = shared.effect(&planned, begun, deadline).await;
    json_response(StatusCode::OK, &outcome)
}

fn timeout(asked_ms: Option<u64>) -> Duration {
    asked_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis).min(MAX_TIMEOUT)
}
