//! One function per path.
//!
//! Owns the translation between HTTP and the running control. Next: `../shared.rs`.

use super::error::ApiError;
use super::{Call, config, json_response, plain_response};
use crate::apply::guard::{Ticket, Underway, is_build, rollback_text, undoes_rollback, with_build};
use crate::core::change::{Author, Change, ChangeError, What, clean_text};
use crate::core::fleet::Subject;
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

pub(super) type Answer = Result<Response<Full<Bytes>>, ApiError>;

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
        ["v3", "discovery:listeners"] if post => config::discover(shared, call, Subject::Listeners).await,
        ["v3", "discovery:clusters"] if post => config::discover(shared, call, Subject::Clusters).await,
        ["v1", "gateway-config"] if get => config::show(shared),
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
            | ["v3", "discovery:routes" | "discovery:listeners" | "discovery:clusters"]
            | ["v1", "gateway-config"]
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
    replied(shared, discovery::answer(shared, &call.peer, &request, hold, Subject::Routes).await)
}

/// The answer to a discovery request, counted.
pub(super) fn replied(shared: &Arc<Shared>, reply: Reply) -> Answer {
    let counted = |answer: &str| shared.metrics.discovery.with_label_values(&[answer]).inc();
    match reply {
        Reply::Response(response) => {
            counted("sent");
            json_response(StatusCode::OK, &response)
        }
        Reply::Config(response) => {
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
        format!("no gateway `{}` is known", clean_text(id)),
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
    if asked.build.as_deref().is_some_and(|build| !is_build(build)) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "build is no name of a build",
            "name it by 1 to 256 visible characters without [ and ]: an image's tag or digest, a commit",
        ));
    }
    let names: Vec<String> = routes.keys().cloned().collect();
    let ticket = underway(shared, call, names.clone(), asked.careful)?;
    if asked.force {
        shared.heard(deadline).await;
    } else {
        shared.adopted(&names, deadline).await;
    }
    if asked.careful && !asked.force {
        refuse_undoing_rollback(shared, &routes, asked.build.as_deref())?;
    }
    let what = What::Set { routes, force: asked.force };
    let reason = match &asked.build {
        Some(build) => with_build(&asked.reason, build),
        None => asked.reason,
    };
    change(shared, call, what, reason, (begun, deadline), ticket).await
}

/// Notes the change as one that is under way, or refuses it because another one is.
fn underway(shared: &Arc<Shared>, call: &Call, routes: Vec<String>, alone: bool) -> Result<Ticket, ApiError> {
    let since = crate::text::timestamp(shared.now().unix_ms);
    let change = Underway { routes, actor: clean_text(&actor(call)), since };
    call.running.begin(change, alone).map_err(|other| {
        ApiError::new(
            StatusCode::CONFLICT,
            format!(
                "a change of {} by {} is under way since {}",
                other.routes.join(", "),
                other.actor,
                other.since
            ),
            "wait until it has ended (`control get`), look whether this one is still wanted, and try again",
        )
    })
}

fn refuse_undoing_rollback(
    shared: &Arc<Shared>,
    asked: &BTreeMap<String, Weights>,
    build: Option<&str>,
) -> Result<(), ApiError> {
    let text = shared.with_core(|core| {
        asked.iter().find_map(|(route, to)| {
            let entry = undoes_rollback(core.document().routes.get(route)?.history.iter(), to, build)?;
            let targets = core.routes().get(route).map(|settings| settings.targets.clone());
            Some(rollback_text(route, &targets.unwrap_or_default(), entry))
        })
    });
    text.map_or(Ok(()), |text| {
        let cure = "see `control history ROUTE` for why; a canary that is another build now is raised with --build ID, when \
                    the one that was rolled back was raised so too; else, or to try the same again, add --force \
                    (`control set-weight`, or `control stable ROUTE TARGET --build ID`, ends this as well)";
        Err(ApiError::new(StatusCode::CONFLICT, text, cure))
    })
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
    let ticket = underway(shared, call, vec![name.to_owned()], false)?;
    shared.heard(deadline).await;
    let what = What::Rollback(name.to_owned());
    change(shared, call, what, asked.reason, (begun, deadline), ticket).await
}

async fn stable(shared: &Arc<Shared>, call: &Call, name: &str) -> Answer {
    let asked: StableRequest = call.json()?;
    let begun = Instant::now();
    let deadline = begun + timeout(asked.timeout_ms);
    let ticket = underway(shared, call, vec![name.to_owned()], false)?;
    let build = asked.build.as_deref().map(clean_text);
    let what = What::Stable { route: name.to_owned(), target: asked.target, build };
    change(shared, call, what, asked.reason, (begun, deadline), ticket).await
}

async fn adopt(shared: &Arc<Shared>, call: &Call) -> Answer {
    let asked: AdoptRequest = call.json()?;
    let begun = Instant::now();
    let deadline = begun + timeout(asked.timeout_ms);
    let now = shared.now();
    let weights = shared.with_core(|core| core.adoptable(now, asked.from.as_deref()))?;
    let ticket = underway(shared, call, weights.keys().cloned().collect(), false)?;
    let reason = match asked.from {
        Some(from) if asked.reason.is_empty() => format!("recovered from gateway {from}"),
        _ => asked.reason,
    };
    change(shared, call, What::Adopt(weights), reason, (begun, deadline), ticket).await
}

fn actor(call: &Call) -> String {
    call.header("x-actor").map_or_else(|| call.peer.clone(), str::to_owned)
}

async fn change(
    shared: &Arc<Shared>,
    call: &Call,
    what: What,
    reason: String,
    (begun, deadline): (Instant, Instant),
    until_it_ends: Ticket,
) -> Answer {
    let author = Author { actor: actor(call), token: call.token.clone() };
    let makes = Arc::clone(shared);
    // A change goes on without its client, so it is under way without its client.
    let made = tokio::spawn(async move {
        let planned = makes.change(Change { what, author, reason }).await;
        (planned, until_it_ends)
    });
    // A panic was told by the panic hook.
    let (planned, _until_it_ends) = made.await.map_err(|_| ChangeError::Broken)?;
    let planned = planned?;
    let outcome: Outcome = shared.effect(&planned, begun, deadline).await;
    json_response(StatusCode::OK, &outcome)
}

fn timeout(asked_ms: Option<u64>) -> Duration {
    asked_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis).min(MAX_TIMEOUT)
}
