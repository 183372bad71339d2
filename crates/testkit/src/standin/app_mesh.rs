//! App Mesh: one store for the seven kinds of resource, with versions, client tokens, tags and the documented refusals.
//!
//! Follows the service model and the API reference: bare resources as answers, epoch numbers as times, the version rises by one per
//! update, a used client token with another specification is a conflict, a resource in use cannot be deleted. Specifications are
//! kept as they came; of them only routes are looked into. Read `mesh_path` for the addresses.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Map, Value, json};

use super::Answer;
use super::mesh_path::{Address, ResourceKind, parse, query};
use super::server::Call;

/// A list answers so many resources at once unless asked for fewer (API reference, `limit`).
const MAX_LIST: usize = 100;
/// A route has at most so many weighted targets, and their weights add up to at most 100 (API reference, HttpRouteAction).
const MAX_TARGETS: usize = 10;
const ACCOUNT: &str = "123456789012";

struct Resource {
    spec: Value,
    version: u64,
    created: f64,
    updated: f64,
    uid: String,
    tags: BTreeMap<String, String>,
}

/// Everything created.
#[derive(Default)]
pub(super) struct AppMesh {
    resources: BTreeMap<Address, Resource>,
    /// Client tokens seen: the address and the body they came with, without the token.
    tokens: HashMap<String, (Address, Value)>,
    created: u64,
}

type Found = Result<Value, Answer>;

impl AppMesh {
    /// Answers one request of the API.
    pub(super) fn answer(&mut self, call: &Call) -> Answer {
        let found = match parse(&call.path) {
            None => self.tag_call(call),
            Some(address) => match (&call.method, address.name.is_empty()) {
                (&Method::PUT, true) => self.create(address, &call.body),
                (&Method::GET, true) => self.list(&address, &call.query),
                (&Method::GET, false) => self.describe(&address),
                (&Method::PUT, false) => self.update(address, &call.body),
                (&Method::DELETE, false) => self.delete(&address),
                _ => Err(Answer::error(400, "BadRequestException", "no such operation")),
            },
        };
        found.map_or_else(|error| error, Answer::ok)
    }

    pub(super) fn route(&self, mesh: &str, router: &str, route: &str) -> Option<Value> {
        self.describe(&Address::new(ResourceKind::Route, mesh, router, route)).ok()
    }

    /// Creates or updates a route and what it needs, without looking at anything.
    pub(super) fn set_route(&mut self, mesh: &str, router: &str, route: &str, spec: Value) -> Value {
        let mut needed =
            vec![Address::mesh(mesh), Address::new(ResourceKind::VirtualRouter, mesh, "", router)];
        for node in targets(&spec).iter().filter_map(|target| target.get("virtualNode")?.as_str()) {
            needed.push(Address::new(ResourceKind::VirtualNode, mesh, "", node));
        }
        for address in needed {
            if !self.resources.contains_key(&address) {
                self.insert(address, json!({}), BTreeMap::new());
            }
        }
        let address = Address::new(ResourceKind::Route, mesh, router, route);
        match self.resources.get_mut(&address) {
            Some(resource) => resource.replace(spec),
            None => self.insert(address.clone(), spec, BTreeMap::new()),
        }
        self.describe(&address).unwrap_or_default()
    }

    pub(super) fn dump(&self) -> Value {
        Value::Object(
            self.resources.iter().map(|(at, resource)| (at.arn(), resource.render(at, "ACTIVE"))).collect(),
        )
    }

    fn insert(&mut self, address: Address, spec: Value, tags: BTreeMap<String, String>) {
        self.created += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.created);
        let now = now();
        self.resources.insert(address, Resource { spec, version: 1, created: now, updated: now, uid, tags });
    }

    fn find(&self, address: &Address) -> Result<&Resource, Answer> {
        self.resources.get(address).ok_or_else(|| not_found(address))
    }

    /// The mesh and the router or gateway that an address lies in must exist.
    fn check_owners(&self, address: &Address) -> Result<(), Answer> {
        if address.kind != ResourceKind::Mesh {
            self.find(&Address::mesh(&address.mesh))?;
        }
        if let Some(above) = address.kind.parent() {
            self.find(&Address::new(above, &address.mesh, "", &address.parent))?;
        }
        Ok(())
    }

    /// True if this very request has been carried out before.
    fn replayed(&mut self, address: &Address, body: &Value) -> Result<bool, Answer> {
        let mut rest = body.clone();
        let token = rest.as_object_mut().and_then(|fields| fields.remove("clientToken"));
        let Some(Value::String(token)) = token else { return Ok(false) };
        let request = (address.clone(), rest);
        match self.tokens.get(&token) {
            Some(before) if *before == request => Ok(true),
            Some(_) => {
                let message = "client token used for a previous request with different specifications";
                Err(Answer::error(409, "ConflictException", message))
            }
            None => {
                self.tokens.insert(token, request);
                Ok(false)
            }
        }
    }

    fn create(&mut self, collection: Address, body: &Value) -> Found {
        let field = format!("{}Name", collection.kind.word());
        let name = body.get(&field).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| bad(&format!("{field} is missing")))?;
        let address = match collection.kind {
            ResourceKind::Mesh => Address::mesh(name),
            _ => Address { name: name.to_owned(), ..collection },
        };
        self.check_owners(&address)?;
        let spec = self.spec(&address, body)?;
        let replayed = self.replayed(&address, body)?;
        match self.resources.get(&address) {
            None => self.insert(address.clone(), spec, tags_of(body)),
            Some(_) if replayed => {}
            Some(_) => return Err(Answer::error(409, "ConflictException", &format!("{name} exists"))),
        }
        self.describe(&address)
    }

    fn update(&mut self, address: Address, body: &Value) -> Found {
        self.find(&address)?;
        let spec = self.spec(&address, body)?;
        if !self.replayed(&address, body)?
            && let Some(resource) = self.resources.get_mut(&address)
        {
            resource.replace(spec);
        }
        self.describe(&address)
    }

    fn describe(&self, address: &Address) -> Found {
        self.check_owners(address)?;
        Ok(self.find(address)?.render(address, "ACTIVE"))
    }

    fn delete(&mut self, address: &Address) -> Found {
        self.find(address)?;
        let used = self.resources.iter().any(|(other, resource)| match address.kind {
            ResourceKind::Mesh => other.mesh == address.mesh && other != address,
            _ if other.mesh != address.mesh => false,
            ResourceKind::VirtualNode => {
                other.kind == ResourceKind::Route
                    && targets(&resource.spec)
                        .iter()
                        .any(|t| t.get("virtualNode") == Some(&json!(address.name)))
            }
            kind => other.kind.parent() == Some(kind) && other.parent == address.name,
        });
        if used {
            return Err(Answer::error(409, "ResourceInUseException", &address.arn()));
        }
        let removed = self.resources.remove(address).ok_or_else(|| not_found(address))?;
        Ok(removed.render(address, "DELETED"))
    }

    fn list(&self, collection: &Address, params: &str) -> Found {
        self.check_owners(collection)?;
        let number =
            |name| query(params, name).map(|text| text.parse::<usize>().map_err(|_| bad(name))).transpose();
        let limit = number("limit")?.unwrap_or(MAX_LIST);
        if !(1..=MAX_LIST).contains(&limit) {
            return Err(bad("limit is not between 1 and 100"));
        }
        let skip = number("nextToken")?.unwrap_or(0);
        let belongs = |address: &Address| {
            let here = address.mesh == collection.mesh && address.parent == collection.parent;
            address.kind == collection.kind && (here || collection.kind == ResourceKind::Mesh)
        };
        let mut all = self.resources.iter().filter(|(address, _)| belongs(address)).skip(skip);
        let refs: Vec<Value> =
            all.by_ref().take(limit).map(|(address, resource)| resource.reference(address)).collect();
        let mut answer = Map::from_iter([(collection.kind.collection(), Value::Array(refs))]);
        if all.next().is_some() {
            answer.insert("nextToken".to_owned(), json!((skip + limit).to_string()));
        }
        Ok(Value::Object(answer))
    }

    /// The specification of a request, checked as far as it is a route's.
    fn spec(&self, address: &Address, body: &Value) -> Found {
        let spec = match body.get("spec") {
            Some(spec @ Value::Object(_)) => spec.clone(),
            None if address.kind == ResourceKind::Mesh => json!({}),
            _ => return Err(bad("spec is missing")),
        };
        if address.kind == ResourceKind::Route {
            self.check_route(&address.mesh, &spec)?;
        }
        Ok(spec)
    }

    fn check_route(&self, mesh: &str, spec: &Value) -> Result<(), Answer> {
        let kinds = ["httpRoute", "http2Route", "grpcRoute", "tcpRoute"];
        if kinds.iter().filter(|kind| spec.get(*kind).is_some()).count() != 1 {
            return Err(bad("a route has exactly one of httpRoute, http2Route, grpcRoute, tcpRoute"));
        }
        let targets = targets(spec);
        if !(1..=MAX_TARGETS).contains(&targets.len()) {
            return Err(bad("a route has 1 to 10 weighted targets"));
        }
        let mut sum = 0;
        for target in targets {
            let weight = target.get("weight").and_then(Value::as_u64).filter(|weight| *weight <= 100);
            sum += weight.ok_or_else(|| bad("a weight is an integer from 0 to 100"))?;
            let node = target.get("virtualNode").and_then(Value::as_str).unwrap_or_default();
            let node = Address::new(ResourceKind::VirtualNode, mesh, "", node);
            if !self.resources.contains_key(&node) {
                return Err(bad(&format!("virtual node {:?} does not exist", node.name)));
            }
        }
        if !(1..=100).contains(&sum) {
            return Err(bad("the weights add up to more than 100, or to nothing"));
        }
        Ok(())
    }

    fn tag_call(&mut self, call: &Call) -> Found {
        let arn = query(&call.query, "resourceArn").ok_or_else(|| bad("resourceArn is missing"))?;
        let found = self.resources.iter_mut().find(|(address, _)| address.arn() == arn);
        let (_, resource) = found.ok_or_else(|| Answer::error(404, "NotFoundException", &arn))?;
        match call.path.rsplit('/').next() {
            Some("tag") => resource.tags.extend(tags_of(&call.body)),
            Some("untag") => {
                let keys = call.body.get("tagKeys").and_then(Value::as_array);
                for key in keys.into_iter().flatten().filter_map(Value::as_str) {
                    resource.tags.remove(key);
                }
            }
            _ => {
                let tag = |(key, value): (&String, &String)| json!({"key": key, "value": value});
                return Ok(json!({"tags": resource.tags.iter().map(tag).collect::<Vec<_>>()}));
            }
        }
        Ok(json!({}))
    }
}

impl Resource {
    fn replace(&mut self, spec: Value) {
        self.spec = spec;
        self.version += 1;
        self.updated = now();
    }

    fn metadata(&self, address: &Address) -> Map<String, Value> {
        let fields = [
            ("arn", json!(address.arn())),
            ("createdAt", json!(self.created)),
            ("lastUpdatedAt", json!(self.updated)),
            ("meshOwner", json!(ACCOUNT)),
            ("resourceOwner", json!(ACCOUNT)),
            ("version", json!(self.version)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The whole resource, as all operations but the lists answer it.
    fn render(&self, address: &Address, status: &str) -> Value {
        let mut metadata = self.metadata(address);
        metadata.insert("uid".to_owned(), json!(self.uid));
        let mut fields = names(address);
        fields.insert("metadata".to_owned(), Value::Object(metadata));
        fields.insert("spec".to_owned(), self.spec.clone());
        fields.insert("status".to_owned(), json!({"status": status}));
        Value::Object(fields)
    }

    /// The flat reference that lists answer.
    fn reference(&self, address: &Address) -> Value {
        let mut fields = names(address);
        fields.extend(self.metadata(address));
        Value::Object(fields)
    }
}

fn names(address: &Address) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("meshName".to_owned(), json!(address.mesh));
    if let Some(above) = address.kind.parent() {
        fields.insert(format!("{}Name", above.word()), json!(address.parent));
    }
    fields.insert(format!("{}Name", address.kind.word()), json!(address.name));
    fields
}

fn targets(spec: &Value) -> &[Value] {
    let kinds = ["httpRoute", "http2Route", "grpcRoute", "tcpRoute"];
    let route = kinds.iter().find_map(|kind| spec.get(kind));
    let targets = route.and_then(|route| route.pointer("/action/weightedTargets")).and_then(Value::as_array);
    targets.map(Vec::as_slice).unwrap_or_default()
}

fn tags_of(body: &Value) -> BTreeMap<String, String> {
    let tags = body.get("tags").and_then(Value::as_array).into_iter().flatten();
    let field = |tag: &Value, name: &str| tag.get(name).and_then(Value::as_str).map(str::to_owned);
    tags.filter_map(|tag| Some((field(tag, "key")?, field(tag, "value").unwrap_or_default()))).collect()
}

fn bad(message: &str) -> Answer {
    Answer::error(400, "BadRequestException", message)
}

fn not_found(address: &Address) -> Answer {
    Answer::error(404, "NotFoundException", &format!("{} does not exist", address.arn()))
}

/// Seconds since 1970 with milliseconds, as the API tells times.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}
