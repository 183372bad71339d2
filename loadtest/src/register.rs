//! Self-registration of a backend in Cloud Map, so that a gateway finds it as it would find an ECS task.
//!
//! Owns four calls of the Cloud Map API (AWS JSON 1.1). They are not signed: this is for a stand-in on the
//! same machine (moto, the demo), never for AWS itself, where ECS registers tasks. Next: `upstream.rs`.

use crate::client::{Answer, Client, Failure, Protocol, Recipe, Target, UrlError, parse_url};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Longest time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call is tried again when the registry does not answer, throttles or is broken: everything on one
/// machine starts at the same time, and a stand-in has faults on request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Most pages of a listing that are read: 2,000 namespaces or services.
const MAX_PAGES: usize = 20;

/// Entries asked for in one page; the most that Cloud Map allows.
const PAGE: u32 = 100;

/// AWS's prefix of the operation name in X-Amz-Target.
const SERVICE: &str = "Route53AutoNaming_v20170314";

/// Names the service to a stand-in that serves several; the signature is not one.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=loadtest/20260101/us-east-1/servicediscovery/aws4_request, SignedHeaders=host, Signature=unsigned";

/// Which instance to register where: `--register`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Namespace name; not needed with `service_id`.
    pub namespace: Option<String>,
    /// Service name; not needed with `service_id`.
    pub service: Option<String>,
    /// Cloud Map's id of the service, which saves looking it up.
    pub service_id: Option<String>,
    /// Instance id.
    pub id: String,
    /// The address to register, when it is not the one listened on.
    pub ip: Option<String>,
    /// Further attributes.
    pub attributes: Vec<(String, String)>,
}

/// Why `--register` was refused; the text names the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// An item without `=`, an unknown name, or an empty value.
    #[error(
        "`{0}` is not known in --register; write namespace=demo.local,service=svc1-v1,id=v1-1 (also ip=, service_id=, attr.NAME=)"
    )]
    Item(String),
    /// No id, or neither a service id nor namespace and service.
    #[error("--register needs {0}; write namespace=demo.local,service=svc1-v1,id=v1-1")]
    Missing(&'static str),
}

impl FromStr for Registration {
    type Err = RegistrationError;

    fn from_str(text: &str) -> Result<Self, RegistrationError> {
        let (mut namespace, mut service, mut service_id, mut id, mut ip) = (None, None, None, None, None);
        let mut attributes = Vec::new();
        for item in text.split(',').map(str::trim) {
            let refused = || RegistrationError::Item(item.to_owned());
            let (name, value) = item.split_once('=').ok_or_else(refused)?;
            let value = value.trim().to_owned();
            if value.is_empty() {
                return Err(refused());
            }
            match name.trim() {
                "namespace" => namespace = Some(value),
                "service" => service = Some(value),
                "service_id" => service_id = Some(value),
                "id" => id = Some(value),
                "ip" => ip = Some(value),
                name => {
                    let name =
                        name.strip_prefix("attr.").filter(|name| !name.is_empty()).ok_or_else(refused)?;
                    attributes.push((name.to_owned(), value));
                }
            }
        }
        let id = id.ok_or(RegistrationError::Missing("id="))?;
        if service_id.is_none() && (namespace.is_none() || service.is_none()) {
            return Err(RegistrationError::Missing("namespace= and service="));
        }
        Ok(Self { namespace, service, service_id, id, ip, attributes })
    }
}

/// Why a registration failed.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The registry's URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No answer.
    #[error(
        "the registry at {url} did not answer {operation} ({failure}); check --registry and that it runs"
    )]
    NoAnswer {
        /// The registry.
        url: String,
        /// The API call.
        operation: &'static str,
        /// What happened.
        failure: Failure,
    },
    /// An error answer.
    #[error("the registry refused {operation} with status {status}: {body}")]
    Refused {
        /// The API call.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// The namespace or service is not there.
    #[error("the registry has no {kind} named `{name}`; create it first or correct --register")]
    Unknown {
        /// `namespace` or `service`.
        kind: &'static str,
        /// As asked for.
        name: String,
    },
    /// Listening on 0.0.0.0 gives no address to register.
    #[error(
        "listening on {0} gives no IPv4 address to register; add ip=ADDRESS to --register, or --host 127.0.0.1"
    )]
    NoAddress(SocketAddr),
}

/// An instance that is registered until [`Registered::deregister`].
#[derive(Debug)]
pub struct Registered {
    registry: String,
    service_id: String,
    instance_id: String,
}

/// Registers `listening` and returns once the registry has said yes.
///
/// # Errors
/// [`RegisterError`], each with its cure.
pub async fn register(
    registry: &str,
    registration: &Registration,
    listening: SocketAddr,
) -> Result<Registered, RegisterError> {
    let ip = match (&registration.ip, listening) {
        (Some(ip), _) => ip.clone(),
        (None, SocketAddr::V4(v4)) if !v4.ip().is_unspecified() => v4.ip().to_string(),
        _ => return Err(RegisterError::NoAddress(listening)),
    };
    let service_id = match &registration.service_id {
        Some(id) => id.clone(),
        None => find_service(registry, registration).await?,
    };
    let mut attributes = serde_json::Map::new();
    for (name, value) in &registration.attributes {
        attributes.insert(name.clone(), json!(value));
    }
    attributes.insert("AWS_INSTANCE_IPV4".into(), json!(ip));
    attributes.insert("AWS_INSTANCE_PORT".into(), json!(listening.port().to_string()));
    let request = json!({
        "ServiceId": service_id,
        "InstanceId": registration.id,
        // Two starts with the same token would be one call to Cloud Map.
        "CreatorRequestId": format!("loadtest-{:032x}", rand::random::<u128>()),
        "Attributes": attributes,
    });
    call(registry, "RegisterInstance", &request).await?;
    Ok(Registered { registry: registry.to_owned(), service_id, instance_id: registration.id.clone() })
}

impl Registered {
    /// Takes the instance out again.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry does not say yes.
    pub async fn deregister(self) -> Result<(), RegisterError> {
        let request = json!({"ServiceId": self.service_id, "InstanceId": self.instance_id});
        call(&self.registry, "DeregisterInstance", &request).await.map(drop)
    }
}

async fn find_service(registry: &str, wanted: &Registration) -> Result<String, RegisterError> {
    let namespace = wanted.namespace.as_deref().unwrap_or_default();
    let service = wanted.service.as_deref().unwrap_or_default();
    let namespace_id = find(registry, "namespace", namespace, json!({})).await?;
    let filter = json!({"Filters": [{"Name": "NAMESPACE_ID", "Values": [namespace_id], "Condition": "EQ"}]});
    find(registry, "service", service, filter).await
}

async fn find(
    registry: &str,
    kind: &'static str,
    name: &str,
    request: Value,
) -> Result<String, RegisterError> {
    let (operation, list) = match kind {
        "namespace" => ("ListNamespaces", "Namespaces"),
        _ => ("ListServices", "Services"),
    };
    let mut request = request;
    for _ in 0..MAX_PAGES {
        set(&mut request, "MaxResults", json!(PAGE));
        let page = call(registry, operation, &request).await?;
        let entries = page.get(list).and_then(Value::as_array);
        let found = entries
            .into_iter()
            .flatten()
            .find(|entry| entry.get("Name").and_then(Value::as_str) == Some(name))
            .and_then(|entry| entry.get("Id")?.as_str());
        if let Some(id) = found {
            return Ok(id.to_owned());
        }
        match page.get("NextToken").filter(|token| token.is_string()) {
            Some(token) => set(&mut request, "NextToken", token.clone()),
            None => break,
        }
    }
    Err(RegisterError::Unknown { kind, name: name.to_owned() })
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

/// One call, tried again for [`PATIENCE`] while the failure may pass.
async fn call(registry: &str, operation: &'static str, request: &Value) -> Result<Value, RegisterError> {
    let recipe = Arc::new(recipe(registry, operation, request).await?);
    let started = tokio::time::Instant::now();
    loop {
        let mut client = Client::http1(Arc::clone(&recipe), Arc::default());
        let result = match client.exchange(CALL_TIMEOUT).await {
            Ok(answer) => read_answer(operation, &answer),
            Err(failure) => Err(RegisterError::NoAnswer { url: registry.to_owned(), operation, failure }),
        };
        match result {
            Err(error) if may_pass(&error) && started.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
}

fn may_pass(error: &RegisterError) -> bool {
    match error {
        RegisterError::NoAnswer { .. } => true,
        // Cloud Map throttles with 400 and a name (AWS JSON 1.1), with 429 on its data plane.
        RegisterError::Refused { status, body, .. } => {
            *status >= 500
                || *status == 429
                || body.contains("Throttl")
                || body.contains("RequestLimitExceeded")
        }
        _ => false,
    }
}

async fn recipe(registry: &str, operation: &'static str, request: &Value) -> Result<Recipe, RegisterError> {
    let target = Target::resolve(&parse_url(registry)?).await?;
    let mut headers: Vec<(HeaderName, HeaderValue)> = vec![
        (http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1")),
        (http::header::AUTHORIZATION, HeaderValue::from_static(AUTHORIZATION)),
    ];
    if let Ok(value) = HeaderValue::try_from(format!("{SERVICE}.{operation}")) {
        headers.push((HeaderName::from_static("x-amz-target"), value));
    }
    let body = Bytes::from(request.to_string());
    Ok(Recipe { target, method: Method::POST, headers, body, protocol: Protocol::Http1, close: true })
}

fn read_answer(operation: &'static str, answer: &Answer) -> Result<Value, RegisterError> {
    let refused = || RegisterError::Refused {
        operation,
        status: answer.status.as_u16(),
        body: String::from_utf8_lossy(&answer.body).chars().take(300).collect(),
    };
    if !answer.status.is_success() {
        return Err(refused());
    }
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&answer.body).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_read() {
        let r: Registration =
            "namespace=demo.local, service=svc1-v1,id=v1-1,attr.version=v1".parse().unwrap();
        assert_eq!((r.namespace.as_deref(), r.service.as_deref()), (Some("demo.local"), Some("svc1-v1")));
        assert_eq!((r.id.as_str(), r.ip), ("v1-1", None));
        assert_eq!(r.attributes, [("version".to_owned(), "v1".to_owned())]);
        assert!("service_id=srv-1,id=a,ip=10.0.0.1".parse::<Registration>().is_ok());
    }

    #[test]
    fn throttling_and_outages_may_pass_and_a_wrong_request_does_not() {
        let refused =
            |status, body: &str| RegisterError::Refused { operation: "X", status, body: body.into() };
        assert!(may_pass(&refused(503, "")) && may_pass(&refused(429, "")));
        assert!(may_pass(&refused(400, r#"{"__type":"ThrottlingException"}"#)));
        assert!(!may_pass(&refused(400, r#"{"__type":"InvalidInput"}"#)));
        assert!(!may_pass(&RegisterError::Unknown { kind: "service", name: "a".into() }));
    }

    #[test]
    fn a_wrong_registration_says_how_to_write_one() {
        for text in ["", "namespace", "namespace=,service=a,id=b", "naemspace=a,service=b,id=c", "attr.=1"] {
            assert!(matches!(text.parse::<Registration>(), Err(RegistrationError::Item(_))), "{text}");
        }
        for text in ["namespace=a,service=b", "id=a", "id=a,service=b", "namespace=a,id=b"] {
            assert!(matches!(text.parse::<Registration>(), Err(RegistrationError::Missing(_))), "{text}");
        }
    }
}
