//! The stand-in's HTTP side: which service a request is for, its record, its fault, its answer.
//!
//! Knows no operation's meaning. Signatures are not looked at. Read `cloud_map` and `app_mesh` next.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{Answer, Kind, Recorded, Service, State, admin, ecs, mesh_path};
use crate::net::lock;

/// The largest request body: ten times Cloud Map's and App Mesh's largest documents.
const MAX_BODY: usize = 1 << 20;
/// Cloud Map's prefix in X-Amz-Target.
const CLOUD_MAP: &str = "Route53AutoNaming_v20170314.";

/// Accepts for ever.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _peer)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // A client that goes away, or a fault that closes, ends the connection: nobody needs to know.
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A request taken apart.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let target =
        request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => bail!("reading the body: {error}"),
    };
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    if let Some(rest) = call.path.strip_prefix("/_standin/") {
        return render(admin::answer(&state, rest, &call), "application/json");
    }
    let Some((service, operation)) = classify(&call, target.as_deref()) else {
        return render(Answer::error(404, "UnknownOperationException", &call.path), "application/json");
    };
    let at = SystemTime::now();
    let path = parts.uri.to_string();
    state.record(Recorded { service, operation: operation.clone(), path, body: call.body.clone(), at });
    let (latency, fault) = state.faults.decide(service, &operation);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let content_type = match service {
        Service::CloudMap => "application/x-amz-json-1.1",
        Service::AppMesh | Service::Ecs => "application/json",
    };
    match fault {
        Some(Kind::Timeout) => std::future::pending().await,
        Some(Kind::Close) => bail!("closed by a fault"),
        Some(Kind::Garbage) => Ok(Response::new(Full::from("<html>not what you asked for"))),
        Some(kind) => render(faulty(service, kind, &operation), content_type),
        None => render(right(&state, service, &operation, &call), content_type),
    }
}

fn classify(call: &Call, target: Option<&str>) -> Option<(Service, String)> {
    if let Some(operation) = target.and_then(|target| target.strip_prefix(CLOUD_MAP)) {
        return Some((Service::CloudMap, operation.to_owned()));
    }
    if call.path.starts_with("/ecs/") {
        return Some((Service::Ecs, call.path.clone()));
    }
    let operation = mesh_path::operation(&call.method, &call.path)?;
    Some((Service::AppMesh, operation))
}

fn right(state: &State, service: Service, operation: &str, call: &Call) -> Answer {
    match service {
        Service::CloudMap => lock(&state.cloud_map).answer(operation, &call.body),
        Service::AppMesh => lock(&state.app_mesh).answer(call),
        Service::Ecs => ecs::answer(&lock(&state.ecs), &call.path),
    }
}

fn faulty(service: Service, kind: Kind, operation: &str) -> Answer {
    match (kind, service) {
        (Kind::Throttle, Service::CloudMap) => Answer::error(429, "RequestLimitExceeded", "Rate exceeded"),
        (Kind::Throttle, _) => Answer::error(429, "TooManyRequestsException", "Rate exceeded"),
        (Kind::NotFound, Service::CloudMap) => Answer::error(404, "ServiceNotFound", "no such service"),
        (Kind::NotFound, _) => Answer::error(404, "NotFoundException", "no such resource"),
        (Kind::Empty, Service::CloudMap) if operation == "DiscoverInstances" => {
            Answer::ok(json!({"Instances": [], "InstancesRevision": 1}))
        }
        (Kind::Status { status }, _) => {
            let name =
                if status == 503 { "ServiceUnavailableException" } else { "InternalServerErrorException" };
            Answer::error(status, name, "a fault was asked for")
        }
        _ => Answer::ok(json!({})),
    }
}

fn render(answer: Answer, content_type: &str) -> Result<Response<Full<Bytes>>> {
    let mut response = Response::builder().status(answer.status).header("content-type", content_type);
    if let Some(error) = answer.error {
        response = response.header("x-amzn-errortype", error);
    }
    Ok(response.header("x-amzn-requestid", "testkit").body(Full::from(serde_json::to_vec(&answer.body)?))?)
}
