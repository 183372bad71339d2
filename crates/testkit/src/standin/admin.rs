//! The stand-in's own HTTP interface under `/_standin/`, for the demo and for tests in other processes.
//! The calls are listed in [`super`]. Not recorded and never faulty. Errors are 400 with a sentence.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cloud_map::{Health, Instance};
use super::server::Call;
use super::{Answer, Fault, State};
use crate::net::lock;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceDoc {
    namespace: String,
    service: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    address: Option<std::net::IpAddr>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    health: Health,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteDoc {
    mesh: String,
    #[serde(rename = "virtualRouter")]
    router: String,
    route: String,
    spec: Value,
}

/// Answers a path below `/_standin/`.
pub(super) fn answer(state: &State, path: &str, call: &Call) -> Answer {
    match (call.method == Method::GET, path) {
        (true, "faults") => Answer::ok(json!(state.faults.list())),
        (true, "requests") => Answer::ok(json!(*lock(&state.records))),
        (true, "state") => Answer::ok(json!({
            "cloud_map": lock(&state.cloud_map).dump(), "app_mesh": lock(&state.app_mesh).dump(),
        })),
        _ => match change(state, path, call) {
            Ok(body) => Answer::ok(body),
            Err(error) => Answer { status: 400, error: None, body: json!({"error": format!("{error:#}")}) },
        },
    }
}

fn change(state: &State, path: &str, call: &Call) -> Result<Value> {
    let delete = match call.method {
        Method::POST | Method::PUT => false,
        Method::DELETE => true,
        _ => bail!("{} /_standin/{path} is not known", call.method),
    };
    match (path, delete) {
        ("instances", _) => return instance(state, call, delete),
        ("health", false) => {
            let doc = InstanceDoc::deserialize(&call.body)?;
            let done = lock(&state.cloud_map).set_health(&doc.namespace, &doc.service, &doc.id, doc.health);
            return Ok(json!({"changed": done}));
        }
        ("services", _) => {
            let doc = InstanceDoc::deserialize(&call.body)?;
            let mut cloud_map = lock(&state.cloud_map);
            if delete {
                return Ok(json!({"deleted": cloud_map.delete_service(&doc.namespace, &doc.service)}));
            }
            return Ok(json!({"ServiceId": cloud_map.service_mut(&doc.namespace, &doc.service).id}));
        }
        ("routes", false) => {
            let doc = RouteDoc::deserialize(&call.body)?;
            return Ok(lock(&state.app_mesh).set_route(&doc.mesh, &doc.router, &doc.route, doc.spec));
        }
        ("faults", true) => state.faults.clear_all(),
        ("faults", false) => {
            let one_or_more = if call.body.is_array() { call.body.clone() } else { json!([call.body]) };
            let faults = Vec::<Fault>::deserialize(&one_or_more)?;
            faults.into_iter().for_each(|fault| state.faults.add(fault));
        }
        ("requests", true) => lock(&state.records).clear(),
        _ => bail!("{} /_standin/{path} is not known", call.method),
    }
    Ok(json!({}))
}

fn instance(state: &State, call: &Call, delete: bool) -> Result<Value> {
    let doc = InstanceDoc::deserialize(&call.body)?;
    if doc.id.is_empty() {
        bail!("`id` is missing");
    }
    let mut cloud_map = lock(&state.cloud_map);
    if delete {
        return Ok(json!({"deregistered": cloud_map.deregister(&doc.namespace, &doc.service, &doc.id)}));
    }
    let address = doc.address.context("`address` is missing")?;
    let mut instance = Instance::new(&doc.id, address, doc.port).health(doc.health);
    instance.attributes.extend(doc.attributes);
    cloud_map.register(&doc.namespace, &doc.service, instance);
    Ok(json!({"registered": doc.id}))
}
