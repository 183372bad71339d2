//! Cloud Map: namespaces, services, instances, their health, and the operations that discover and register them.
//!
//! Follows the service model (2017-03-14) and the developer guide: the instances come in random order, the revision rises when one
//! is registered or deregistered and not when its health changes, and a service without a health check ignores HealthStatus.
//! Must never answer an unknown service with an empty list.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Answer;

/// DiscoverInstances returns so many instances unless asked otherwise (API reference, MaxResults).
const DEFAULT_MAX_RESULTS: u64 = 100;
/// The most that MaxResults may ask for.
const MAX_RESULTS: u64 = 1000;

/// An instance's health as Cloud Map spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// Passing its health check.
    #[default]
    Healthy,
    /// Failing its health check.
    Unhealthy,
    /// The service has no health check: health filters do not apply.
    Unknown,
}

/// One registered instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// InstanceId.
    pub id: String,
    /// Attributes, AWS_INSTANCE_IPV4 and AWS_INSTANCE_PORT among them.
    pub attributes: BTreeMap<String, String>,
    /// HealthStatus.
    pub health: Health,
}

impl Instance {
    /// A healthy instance at an address; without a port it is as an A record would have it.
    #[must_use]
    pub fn new(id: &str, address: IpAddr, port: Option<u16>) -> Self {
        let family = if address.is_ipv4() { "AWS_INSTANCE_IPV4" } else { "AWS_INSTANCE_IPV6" };
        let mut attributes = BTreeMap::from([(family.to_owned(), address.to_string())]);
        if let Some(port) = port {
            attributes.insert("AWS_INSTANCE_PORT".to_owned(), port.to_string());
        }
        Self { id: id.to_owned(), attributes, health: Health::Healthy }
    }

    /// A healthy instance at a socket's address.
    #[must_use]
    pub fn at(id: &str, addr: SocketAddr) -> Self {
        Self::new(id, addr.ip(), Some(addr.port()))
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the health.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }
}

/// A service of a namespace.
#[derive(Debug, Serialize)]
pub(super) struct CloudMapService {
    pub(super) id: String,
    revision: u64,
    /// True if it was created with a custom health check: an instance is healthy until its status says otherwise.
    checked: bool,
    instances: BTreeMap<String, Instance>,
}

/// Everything registered.
#[derive(Debug, Default)]
pub(super) struct CloudMap {
    namespaces: BTreeMap<String, BTreeMap<String, CloudMapService>>,
    /// What each asynchronous operation was about; they all succeed at once.
    operations: HashMap<String, Value>,
    /// Goes up with every change, so that no revision ever comes twice, not even for a service that was deleted and made again.
    clock: u64,
}

type Found = Result<Value, Answer>;

impl CloudMap {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn service_mut(&mut self, namespace: &str, service: &str) -> &mut CloudMapService {
        let revision = self.tick();
        let services = self.namespaces.entry(namespace.to_owned()).or_default();
        services.entry(service.to_owned()).or_insert_with(|| {
            let id = format!("srv-{revision:016x}");
            CloudMapService { id, revision, checked: false, instances: BTreeMap::new() }
        })
    }

    pub(super) fn register(&mut self, namespace: &str, service: &str, instance: Instance) {
        let revision = self.tick();
        let service = self.service_mut(namespace, service);
        service.revision = service.revision.max(revision + 1);
        service.instances.insert(instance.id.clone(), instance);
    }

    fn get_mut(&mut self, namespace: &str, service: &str) -> Option<&mut CloudMapService> {
        self.namespaces.get_mut(namespace)?.get_mut(service)
    }

    pub(super) fn deregister(&mut self, namespace: &str, service: &str, id: &str) -> bool {
        let revision = self.tick();
        let Some(service) = self.get_mut(namespace, service) else { return false };
        let removed = service.instances.remove(id).is_some();
        if removed {
            service.revision = revision;
        }
        removed
    }

    pub(super) fn set_health(&mut self, namespace: &str, service: &str, id: &str, health: Health) -> bool {
        let instance = self.get_mut(namespace, service).and_then(|service| service.instances.get_mut(id));
        instance.map(|instance| instance.health = health).is_some()
    }

    pub(super) fn delete_service(&mut self, namespace: &str, service: &str) -> bool {
        self.namespaces.get_mut(namespace).is_some_and(|services| services.remove(service).is_some())
    }

    pub(super) fn dump(&self) -> Value {
        json!(self.namespaces)
    }

    /// Answers one operation of the API.
    pub(super) fn answer(&mut self, operation: &str, body: &Value) -> Answer {
        let found = match operation {
            "DiscoverInstances" => self.discover(body),
            "DiscoverInstancesRevision" => {
                self.find(body).map(|(_, _, service)| json!({"InstancesRevision": service.revision}))
            }
            "RegisterInstance" => self.register_call(body),
            "DeregisterInstance" => self.deregister_call(body),
            "UpdateInstanceCustomHealthStatus" => self.health_call(body),
            "CreateHttpNamespace" | "CreatePrivateDnsNamespace" => self.create_namespace(body),
            "CreateService" => self.create_service_call(body),
            "ListNamespaces" => self.list_namespaces(body),
            "ListServices" => self.list_services(body),
            "GetOperation" => self.get_operation(body),
            _ => Err(Answer::error(400, "UnknownOperationException", operation)),
        };
        found.map_or_else(|error| error, Answer::ok)
    }

    fn find(&self, body: &Value) -> Result<(String, String, &CloudMapService), Answer> {
        let (namespace, service) = (text(body, "NamespaceName")?, text(body, "ServiceName")?);
        let services = self.namespaces.get(&namespace);
        let services = services.ok_or_else(|| Answer::error(404, "NamespaceNotFound", &namespace))?;
        let found = services.get(&service).ok_or_else(|| Answer::error(404, "ServiceNotFound", &service))?;
        Ok((namespace, service, found))
    }

    fn discover(&self, body: &Value) -> Found {
        let (namespace, name, service) = self.find(body)?;
        let max = body.get("MaxResults").map_or(Some(DEFAULT_MAX_RESULTS), Value::as_u64);
        let Some(max @ 1..=MAX_RESULTS) = max else {
            return Err(Answer::error(400, "InvalidInput", "MaxResults is not between 1 and 1000"));
        };
        let mut found: Vec<&Instance> = service
            .instances
            .values()
            .filter(|instance| has_all(instance, body.get("QueryParameters")))
            .collect();
        let preferred: Vec<&Instance> = found
            .iter()
            .copied()
            .filter(|instance| has_all(instance, body.get("OptionalParameters")))
            .collect();
        if !preferred.is_empty() {
            found = preferred;
        }
        found = by_health(found, body.get("HealthStatus").and_then(Value::as_str).unwrap_or("HEALTHY"))?;
        found.shuffle(&mut rand::rng());
        found.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        let instance = |instance: &&Instance| {
            json!({
                "InstanceId": instance.id, "NamespaceName": namespace, "ServiceName": name,
                "HealthStatus": instance.health, "Attributes": instance.attributes,
            })
        };
        let instances: Vec<Value> = found.iter().map(instance).collect();
        Ok(json!({"Instances": instances, "InstancesRevision": service.revision}))
    }

    /// Namespace and service name for a ServiceId.
    fn by_id(&self, body: &Value) -> Result<(String, String), Answer> {
        let id = text(body, "ServiceId")?;
        let all =
            self.namespaces.iter().flat_map(|(n, services)| services.iter().map(move |(s, v)| (n, s, v)));
        let found = all.into_iter().find(|(_, _, service)| service.id == id);
        let found = found.map(|(namespace, service, _)| (namespace.clone(), service.clone()));
        found.ok_or_else(|| Answer::error(404, "ServiceNotFound", &id))
    }

    fn register_call(&mut self, body: &Value) -> Found {
        let (namespace, service) = self.by_id(body)?;
        let id = text(body, "InstanceId")?;
        let attributes = body.get("Attributes").cloned().unwrap_or_default();
        let mut attributes: BTreeMap<String, String> = serde_json::from_value(attributes)
            .map_err(|error| Answer::error(400, "InvalidInput", &error.to_string()))?;
        let health = match attributes.remove("AWS_INIT_HEALTH_STATUS").as_deref() {
            None if !self.get_mut(&namespace, &service).is_some_and(|service| service.checked) => {
                Health::Unknown
            }
            None | Some("HEALTHY") => Health::Healthy,
            Some("UNHEALTHY") => Health::Unhealthy,
            Some(other) => return Err(Answer::error(400, "InvalidInput", other)),
        };
        self.register(&namespace, &service, Instance { id: id.clone(), attributes, health });
        Ok(self.operation(json!({"INSTANCE": id})))
    }

    fn deregister_call(&mut self, body: &Value) -> Found {
        let (namespace, service) = self.by_id(body)?;
        let id = text(body, "InstanceId")?;
        if !self.deregister(&namespace, &service, &id) {
            return Err(Answer::error(404, "InstanceNotFound", &id));
        }
        Ok(self.operation(json!({"INSTANCE": id})))
    }

    fn health_call(&mut self, body: &Value) -> Found {
        let (namespace, service) = self.by_id(body)?;
        let id = text(body, "InstanceId")?;
        let health = match text(body, "Status")?.as_str() {
            "HEALTHY" => Health::Healthy,
            "UNHEALTHY" => Health::Unhealthy,
            other => return Err(Answer::error(400, "InvalidInput", other)),
        };
        if !self.set_health(&namespace, &service, &id, health) {
            return Err(Answer::error(404, "InstanceNotFound", &id));
        }
        Ok(json!({}))
    }

    fn create_namespace(&mut self, body: &Value) -> Found {
        let name = text(body, "Name")?;
        if self.namespaces.contains_key(&name) {
            return Err(Answer::error(400, "NamespaceAlreadyExists", &name));
        }
        self.namespaces.insert(name.clone(), BTreeMap::new());
        Ok(self.operation(json!({"NAMESPACE": namespace_id(&name)})))
    }

    fn create_service_call(&mut self, body: &Value) -> Found {
        let (name, id) = (text(body, "Name")?, text(body, "NamespaceId")?);
        let namespace = self.namespaces.keys().find(|name| namespace_id(name) == id).cloned();
        let namespace = namespace.ok_or_else(|| Answer::error(404, "NamespaceNotFound", &id))?;
        if self.get_mut(&namespace, &name).is_some() {
            return Err(Answer::error(400, "ServiceAlreadyExists", &name));
        }
        let service = self.service_mut(&namespace, &name);
        service.checked = body.get("HealthCheckCustomConfig").is_some();
        Ok(json!({"Service": {"Id": service.id, "Name": name, "NamespaceId": id}}))
    }

    fn list_namespaces(&self, body: &Value) -> Found {
        if body.get("Filters").is_some() {
            return Err(Answer::error(400, "InvalidInput", "the stand-in knows no filter of namespaces"));
        }
        let one = |name: &String| {
            let http = json!({"HttpProperties": {"HttpName": name}});
            json!({"Id": namespace_id(name), "Name": name, "Type": "HTTP", "Properties": http})
        };
        page("Namespaces", self.namespaces.keys().map(one).collect(), body)
    }

    fn list_services(&self, body: &Value) -> Found {
        let mut wanted = None;
        for filter in body.get("Filters").and_then(Value::as_array).into_iter().flatten() {
            if filter.get("Name").and_then(Value::as_str) != Some("NAMESPACE_ID") {
                return Err(Answer::error(
                    400,
                    "InvalidInput",
                    "the stand-in filters services by NAMESPACE_ID only",
                ));
            }
            wanted = filter.get("Values").and_then(Value::as_array);
        }
        let within = |namespace: &str| wanted.is_none_or(|ids| ids.contains(&json!(namespace_id(namespace))));
        let all = self
            .namespaces
            .iter()
            .filter(|(namespace, _)| within(namespace))
            .flat_map(|(_, services)| services);
        let one = |(name, service): (&String, &CloudMapService)| json!({"Id": service.id, "Name": name, "InstanceCount": service.instances.len()});
        page("Services", all.map(one).collect(), body)
    }

    fn operation(&mut self, targets: Value) -> Value {
        let id = format!("op-{}", self.tick());
        self.operations.insert(id.clone(), targets);
        json!({"OperationId": id})
    }

    fn get_operation(&self, body: &Value) -> Found {
        let id = text(body, "OperationId")?;
        let targets = self.operations.get(&id).ok_or_else(|| Answer::error(404, "OperationNotFound", &id))?;
        Ok(json!({"Operation": {"Id": id, "Status": "SUCCESS", "Targets": targets}}))
    }
}

/// One page of a list: MaxResults is 1 to 100 here, and 100 by default.
fn page(list: &str, all: Vec<Value>, body: &Value) -> Found {
    let max = body.get("MaxResults").map_or(Some(DEFAULT_MAX_RESULTS), Value::as_u64);
    let from = body.get("NextToken").and_then(Value::as_str).map_or(Ok(0), str::parse::<usize>);
    let (Some(max @ 1..=DEFAULT_MAX_RESULTS), Ok(from)) = (max, from) else {
        return Err(Answer::error(400, "InvalidInput", "MaxResults or NextToken"));
    };
    let end = from.saturating_add(usize::try_from(max).unwrap_or(usize::MAX));
    let mut answer = json!({list: all.iter().skip(from).take(end - from).collect::<Vec<_>>()});
    if let Some(fields) = answer.as_object_mut().filter(|_| all.len() > end) {
        fields.insert("NextToken".to_owned(), json!(end.to_string()));
    }
    Ok(answer)
}

fn namespace_id(name: &str) -> String {
    format!("ns-{name}")
}

fn text(body: &Value, name: &str) -> Result<String, Answer> {
    let found = body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.map(str::to_owned).ok_or_else(|| Answer::error(400, "InvalidInput", &format!("{name} is missing")))
}

/// True if the instance has every attribute asked for.
fn has_all(instance: &Instance, wanted: Option<&Value>) -> bool {
    let Some(wanted) = wanted.and_then(Value::as_object) else { return true };
    wanted.iter().all(|(name, value)| instance.attributes.get(name).map(String::as_str) == value.as_str())
}

fn by_health<'a>(found: Vec<&'a Instance>, filter: &str) -> Result<Vec<&'a Instance>, Answer> {
    let with = |health: Health| -> Vec<&'a Instance> {
        let fits = |instance: &&Instance| instance.health == health || instance.health == Health::Unknown;
        found.iter().copied().filter(fits).collect()
    };
    match filter {
        "ALL" => Ok(found),
        "HEALTHY" => Ok(with(Health::Healthy)),
        "UNHEALTHY" => Ok(with(Health::Unhealthy)),
        "HEALTHY_OR_ELSE_ALL" => {
            let healthy = with(Health::Healthy);
            Ok(if healthy.is_empty() { found } else { healthy })
        }
        other => Err(Answer::error(400, "InvalidInput", &format!("HealthStatus {other}"))),
    }
}
