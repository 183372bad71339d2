//! Cloud Map: which instances a service has now.
//!
//! Owns the two data-plane calls, DiscoverInstances and DiscoverInstancesRevision. It must never judge an
//! instance: addresses that cannot be read come out as `None`, and what that means is the caller's business.
//! Source: AWS Cloud Map API reference. Next: `app_mesh.rs`.

use crate::error::{Call, Error, Operation};
use crate::sdk::Source;
use aws_sdk_servicediscovery::Client;
use aws_sdk_servicediscovery::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_servicediscovery::config::{Config, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_servicediscovery::error::BoxError;
use aws_sdk_servicediscovery::types::{HealthStatus, HealthStatusFilter, HttpInstanceSummary};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The most instances that a service can have; the default of the API is 100, and there are no pages.
const MAX_RESULTS: i32 = 1000;
/// Attributes that ECS sets (Cloud Map, RegisterInstance).
const IPV4: &str = "AWS_INSTANCE_IPV4";
const IPV6: &str = "AWS_INSTANCE_IPV6";
const PORT: &str = "AWS_INSTANCE_PORT";

const DISCOVER: Operation = Operation {
    name: "DiscoverInstances",
    action: "servicediscovery:DiscoverInstances",
    endpoint_variable: "AWS_ENDPOINT_URL_SERVICEDISCOVERY",
    look_at: "the names of the service and of the namespace (its HTTP name)",
};
const REVISION: Operation = Operation {
    name: "DiscoverInstancesRevision",
    action: "servicediscovery:DiscoverInstancesRevision",
    ..DISCOVER
};

/// The client. Cheap to clone; clones share connections and credentials.
#[derive(Clone, Debug)]
pub struct CloudMap {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: Source,
    client: OnceCell<Client>,
}

/// Which instances are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The namespace's HTTP name.
    pub namespace_name: String,
    /// The service's name.
    pub service_name: String,
    /// Attributes that an instance must have, all of them, with these values.
    pub attributes: BTreeMap<String, String>,
}

/// The instances at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// In the order of the answer, which is random.
    pub instances: Vec<Instance>,
    /// Rises with every registration and deregistration, not with a change of health.
    pub revision: Option<i64>,
}

/// One registered instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// For an ECS task, its id.
    pub id: String,
    /// `AWS_INSTANCE_IPV4`, else `AWS_INSTANCE_IPV6`; `None` when neither can be read.
    pub ip: Option<IpAddr>,
    /// `AWS_INSTANCE_PORT`; ECS sets it only for SRV records or when a port was named.
    pub port: Option<u16>,
    /// Cloud Map's view, about 30 s old; `None` when the service has no health check.
    pub healthy: Option<bool>,
    /// All attributes, those above included.
    pub attributes: BTreeMap<String, String>,
}

impl CloudMap {
    /// A client with region, credentials and endpoint from the environment, as every AWS tool takes them. They
    /// are looked for at the first call, not now.
    pub async fn from_env() -> Self {
        Self::with_source(Source::Environment)
    }

    /// A client of one endpoint, for a stand-in: it signs with keys that are worth nothing.
    pub fn for_endpoint(url: impl Into<String>) -> Self {
        Self::with_source(Source::Endpoint(url.into()))
    }

    fn with_source(source: Source) -> Self {
        Self { shared: Arc::new(Shared { source, client: OnceCell::new() }) }
    }

    async fn client(&self, call: &Call) -> Result<&Client, Error> {
        let Shared { source, client } = &*self.shared;
        client
            .get_or_try_init(|| async {
                let sdk = source.load(call).await?;
                let config = Config::from(&sdk).to_builder().interceptor(NoHostPrefix).build();
                Ok(Client::from_conf(config))
            })
            .await
    }

    /// DiscoverInstances: the healthy ones, or all of them when none is healthy.
    ///
    /// # Errors
    /// [`Error`]; an empty answer is none.
    pub async fn discover(&self, query: &Query) -> Result<Discovered, Error> {
        let call = Call { operation: DISCOVER, asked: asked(&query.namespace_name, &query.service_name) };
        let attributes = (!query.attributes.is_empty())
            .then(|| query.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
        let answer = self
            .client(&call)
            .await?
            .discover_instances()
            .namespace_name(&query.namespace_name)
            .service_name(&query.service_name)
            .max_results(MAX_RESULTS)
            .health_status(HealthStatusFilter::HealthyOrElseAll)
            .set_query_parameters(attributes)
            .send()
            .await
            .map_err(|error| call.failed(&error))?;
        let revision = answer.instances_revision;
        let instances = answer.instances.unwrap_or_default().into_iter().map(Instance::from).collect();
        Ok(Discovered { instances, revision })
    }

    /// DiscoverInstancesRevision: a number that rises when the set of instances has changed. Cheaper than the
    /// set, and with three times its quota.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revision(&self, namespace: &str, service: &str) -> Result<i64, Error> {
        let call = Call { operation: REVISION, asked: asked(namespace, service) };
        let answer = self
            .client(&call)
            .await?
            .discover_instances_revision()
            .namespace_name(namespace)
            .service_name(service)
            .send()
            .await
            .map_err(|error| call.clone().failed(&error))?;
        answer.instances_revision.ok_or_else(|| call.other("the answer holds no revision", true))
    }
}

fn asked(namespace: &str, service: &str) -> String {
    format!("service `{service}` in namespace `{namespace}`")
}

impl From<HttpInstanceSummary> for Instance {
    fn from(summary: HttpInstanceSummary) -> Self {
        let attributes: BTreeMap<_, _> = summary.attributes.unwrap_or_default().into_iter().collect();
        let v4 = attributes.get(IPV4).and_then(|ip| ip.parse::<Ipv4Addr>().ok()).map(IpAddr::V4);
        let v6 = || attributes.get(IPV6).and_then(|ip| ip.parse::<Ipv6Addr>().ok()).map(IpAddr::V6);
        Self {
            id: summary.instance_id.unwrap_or_default(),
            ip: v4.or_else(v6),
            port: attributes.get(PORT).and_then(|port| port.parse().ok()).filter(|port| *port != 0),
            healthy: match summary.health_status {
                Some(HealthStatus::Healthy) => Some(true),
                Some(HealthStatus::Unhealthy) => Some(false),
                _ => None,
            },
            attributes,
        }
    }
}

/// The two calls of Cloud Map's data plane go to `data-<host>`. An endpoint that was set by hand is meant as it
/// is written: `data-127.0.0.1` is no address.
#[derive(Debug)]
struct NoHostPrefix;

impl Intercept for NoHostPrefix {
    fn name(&self) -> &'static str {
        "NoHostPrefix"
    }

    // Before signing: the signature covers the host.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if config.load::<aws_types::endpoint_config::EndpointUrl>().is_none() {
            return Ok(());
        }
        let request = context.request_mut();
        let uri = request.uri().replacen("://data-", "://", 1);
        request.set_uri(uri)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(attributes: &[(&str, &str)]) -> Instance {
        let mut summary = HttpInstanceSummary::builder().instance_id("i-1");
        for (key, value) in attributes {
            summary = summary.attributes(*key, *value);
        }
        Instance::from(summary.build())
    }

    #[test]
    fn an_instance_has_the_address_and_port_that_ecs_registered() {
        let found = instance(&[(IPV4, "10.0.1.7"), (PORT, "3000"), ("ECS_SERVICE_NAME", "v1")]);
        assert_eq!(found.ip, Some(IpAddr::from([10, 0, 1, 7])));
        assert_eq!(found.port, Some(3000));
        assert_eq!(found.healthy, None);
        assert_eq!(found.attributes.get("ECS_SERVICE_NAME").map(String::as_str), Some("v1"));
    }

    #[test]
    fn an_instance_with_both_addresses_is_reached_by_ipv4() {
        let found = instance(&[(IPV4, "10.0.1.7"), (IPV6, "fd00::7")]);
        assert_eq!(found.ip, Some(IpAddr::from([10, 0, 1, 7])));
        let only_v6 = instance(&[(IPV6, "fd00::7")]);
        assert_eq!(only_v6.ip, "fd00::7".parse().ok());
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let found = instance(&[(IPV4, "10.0.1"), (PORT, "0")]);
        assert_eq!((found.ip, found.port), (None, None));
        assert_eq!(instance(&[(PORT, "70000")]).port, None);
        assert_eq!(instance(&[(IPV4, "::1")]).ip, None);
    }
}
