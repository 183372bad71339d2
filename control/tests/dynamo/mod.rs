//! A DynamoDB of one table that fails as it is told to, and controls whose state is an item of it.
//!
//! Owns the condition of a write, as DynamoDB has it, and the faults; it must never judge. Next: `../state_dynamodb.rs`.
#![allow(dead_code)]

use super::support::{Local, Target};
use aws::dynamodb::StateTable;
use bytes::Bytes;
use control::api::Api;
use control::begin::begin_with;
use control::serve::{self, ServeError};
use control::tokens::Tokens;
use gateway_config::control_config::parse_control;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lifecycle::drain::Drain;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

pub const TABLE: &str = "weir-state";
pub const KEY: &str = "default";

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends, and nothing was written.
    Lost,
    /// The connection ends, and it was written.
    Landed,
    /// Refused with this code.
    Refused(&'static str),
}

#[derive(Default)]
struct State {
    items: BTreeMap<String, Value>,
    faults: VecDeque<Fault>,
    // Everything is answered so, or not at all.
    all: Option<Fault>,
    writes: usize,
}

#[derive(Clone)]
pub struct Dynamo {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Dynamo {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dynamo = Self { url, state: Arc::default() };
        let served = dynamo.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let service = service_fn(move |request| {
                    let served = served.clone();
                    async move { served.answer(request).await }
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        dynamo
    }

    /// Ends the connection of everybody who asks, or asks no more.
    pub fn down(&self, down: bool) {
        self.state.lock().unwrap().all = down.then_some(Fault::Lost);
    }

    /// Answers everything with this code.
    pub fn refuse_all(&self, code: &'static str) {
        self.state.lock().unwrap().all = Some(Fault::Refused(code));
    }

    /// What becomes of the next writes.
    pub fn next_writes(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// No more faults of single writes.
    pub fn state_is_answered(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Writes that came to something.
    pub fn writes(&self) -> usize {
        self.state.lock().unwrap().writes
    }

    pub fn revision(&self, key: &str) -> Option<u64> {
        let state = self.state.lock().unwrap();
        state.items.get(key)?["revision"]["N"].as_str()?.parse().ok()
    }

    pub fn text(&self, key: &str) -> Option<String> {
        Some(self.state.lock().unwrap().items.get(key)?["document"]["S"].as_str()?.to_owned())
    }

    pub fn document(&self) -> Value {
        serde_json::from_str(&self.text(KEY).expect("an item")).unwrap()
    }

    /// Somebody removes the item.
    pub fn remove(&self) {
        self.state.lock().unwrap().items.remove(KEY);
    }

    /// Somebody else writes.
    pub fn put(&self, document: &Value) {
        let revision = self.revision(KEY).unwrap_or_default() + 1;
        let item = json!({"key": {"S": KEY}, "revision": {"N": revision.to_string()},
            "document": {"S": document.to_string()}, "updated_at": {"S": ""}});
        self.state.lock().unwrap().items.insert(KEY.to_owned(), item);
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, String> {
        let operation =
            request.headers()["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap().to_owned();
        let body = request.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["TableName"], TABLE);
        let mut state = self.state.lock().unwrap();
        let write = operation == "PutItem";
        let fault = state.all.or_else(|| if write { state.faults.pop_front() } else { None });
        match fault {
            Some(Fault::Lost) => return Err("lost".to_owned()),
            Some(Fault::Refused(code)) => return Ok(refusal(code, &Value::Null)),
            Some(Fault::Landed) | None => {}
        }
        let answer = if write { state.put(&body) } else { state.get(&body) };
        if fault == Some(Fault::Landed) { Err("the answer is lost".to_owned()) } else { Ok(answer) }
    }
}

impl State {
    fn get(&self, body: &Value) -> Response<Full<Bytes>> {
        assert_eq!(body["ConsistentRead"], true);
        let key = body["Key"]["key"]["S"].as_str().unwrap();
        ok(&self.items.get(key).map_or(json!({}), |item| json!({"Item": item})))
    }

    fn put(&mut self, body: &Value) -> Response<Full<Bytes>> {
        let key = body["Item"]["key"]["S"].as_str().unwrap();
        let there = self.items.get(key);
        let holds = match body["ConditionExpression"].as_str().unwrap() {
            "attribute_not_exists(#key)" => there.is_none(),
            "#revision = :expected" => {
                there.is_some_and(|item| item["revision"] == body["ExpressionAttributeValues"][":expected"])
            }
            other => panic!("an unconditional write: {other}"),
        };
        if !holds {
            return refusal("ConditionalCheckFailedException", there.unwrap_or(&Value::Null));
        }
        self.items.insert(key.to_owned(), body["Item"].clone());
        self.writes += 1;
        ok(&json!({}))
    }
}

fn ok(body: &Value) -> Response<Full<Bytes>> {
    Response::new(Full::from(body.to_string()))
}

fn refusal(code: &str, item: &Value) -> Response<Full<Bytes>> {
    let mut body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "no"});
    if !item.is_null() {
        body["Item"] = item.clone();
    }
    Response::builder().status(400).body(Full::from(body.to_string())).unwrap()
}

/// A control in this process whose state is the item.
pub async fn control(dynamo: &Dynamo, rest: &str, recover: bool) -> Result<Local, ServeError> {
    let config = parse_control("control.yaml", format!("listen: 127.0.0.1:0\n{rest}").as_bytes()).unwrap();
    let table = StateTable::for_endpoint(&dynamo.url, TABLE, KEY);
    let drain = Drain::new();
    let (shared, _handles) = begin_with(&config, table, recover, &drain).await?;
    serve::spawn_tasks(&shared);
    let tokens = Tokens::load(&config.tokens)?;
    let target = Target::Here(Api::new(Arc::clone(&shared), Arc::new(tokens)));
    Ok(Local { target, shared, drain })
}
