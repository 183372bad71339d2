//! An AWS account on one machine: a VPC of network namespaces, tasks that are started from their task definitions, and
//! stand-ins for what they speak with.
//!
//! Each task has an address, ports and a loopback interface of its own, and knows nothing but its environment, as on
//! Fargate. The stand-in for Cloud Map, ECS and secrets is ours; DynamoDB is moto. Must never run outside of a network
//! namespace that a test made for itself: see [`network::inside`]. Read `network` next, then `task`.

pub mod network;
pub mod task;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::dns::Dns;
use crate::process::Moto;
use crate::standin::{self, Instance, Standin};
use network::Network;
use task::{Task, TaskDefinition};

/// TTL of the records that Cloud Map makes (the kit's template, Copilot), in seconds.
const TTL: u32 = 1;

/// The account.
#[derive(Debug)]
pub struct Account {
    /// Cloud Map and ECS metadata.
    pub standin: Standin,
    /// The resolver of the VPC.
    pub dns: Dns,
    /// DynamoDB.
    pub dynamodb: Moto,
    /// Secrets by ARN.
    pub secrets: BTreeMap<String, String>,
    network: Network,
    names: BTreeMap<String, Vec<IpAddr>>,
}

impl Account {
    /// An empty account; only within [`network::inside`].
    ///
    /// # Errors
    /// When the network or a stand-in does not start.
    pub async fn open() -> Result<Self> {
        let network = Network::make()?;
        let standin = Standin::start_in_vpc(SocketAddr::new(network::GATEWAY, 0))?;
        let dns = Dns::start_on(SocketAddr::new(network::RESOLVER, 53))?;
        let dynamodb = Moto::start_on(network::GATEWAY).await?;
        Ok(Self { standin, dns, dynamodb, secrets: BTreeMap::new(), network, names: BTreeMap::new() })
    }

    /// Starts a task at an address of the VPC: what its definition says, its secrets, the metadata and the AWS endpoints.
    ///
    /// # Errors
    /// When a secret cannot be read (ECS stops such a task before it starts), or the task cannot be started.
    pub fn run(&mut self, definition: &TaskDefinition, address: &str) -> Result<Task> {
        let address: IpAddr = address.parse()?;
        let mut environment: BTreeMap<String, String> = definition.environment.clone();
        for (name, arn) in &definition.secrets {
            let Some(secret) = self.secrets.get(arn) else {
                bail!("ResourceInitializationError: unable to pull secrets: {name}: {arn} cannot be read");
            };
            environment.insert(name.clone(), secret.clone());
        }
        environment.extend(standin::envs(&self.standin.url()));
        environment.insert("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), self.dynamodb.url());
        let id = self.standin.add_task(&definition.family, "ap-south-1a");
        environment.insert(
            "ECS_CONTAINER_METADATA_URI_V4".to_owned(),
            format!("{}/ecs/v4/{id}", self.standin.url()),
        );
        Task::start(&mut self.network, definition, address, (id, environment))
    }

    /// Registers a task as ECS does: an instance of the Cloud Map service, and a record of its name.
    pub fn register(&mut self, namespace: &str, service: &str, task: &Task) {
        let instance = Instance::new(&task.id, task.address, None).with("ECS_SERVICE_NAME", service);
        self.standin.register(namespace, service, instance);
        self.change_name(namespace, service, |addresses| addresses.push(task.address));
    }

    /// Takes a task out again.
    pub fn deregister(&mut self, namespace: &str, service: &str, task: &Task) {
        self.standin.deregister(namespace, service, &task.id);
        self.change_name(namespace, service, |addresses| {
            addresses.retain(|address| *address != task.address)
        });
    }

    fn change_name(&mut self, namespace: &str, service: &str, change: impl FnOnce(&mut Vec<IpAddr>)) {
        let name = format!("{service}.{namespace}");
        let addresses = self.names.entry(name.clone()).or_default();
        change(addresses);
        self.dns.addresses(&name, addresses, TTL);
    }
}

/// A file of the kit as it is delivered (`config/ecs/example`).
#[must_use]
pub fn kit(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/ecs/example").join(file)
}

/// A task definition of the kit.
///
/// # Errors
/// When the file is not one.
pub fn kit_task(name: &str) -> Result<TaskDefinition> {
    let path = kit(&format!("task-definitions/{name}.json"));
    TaskDefinition::read(&path).with_context(|| path.display().to_string())
}
