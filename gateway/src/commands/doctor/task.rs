//! The task itself: its variables, its role, its metadata, control's state item, its ports.
//!
//! Owns the checks that need no configuration. It must never show a secret, nor bind a port. Next: `mod.rs`.

use super::finding::{Closed, Finding, connect, millis};
use super::unusable;
use crate::commands::{client, override_route};
use crate::environment::{Environment, Unusable};
use aws::dynamodb::StateTable;
use gateway_config::discovered::GatewayResources;
use gateway_config::model::{Bootstrap, StateItem};
use gateway_config::state_item::StateView;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// Where ECS answers for credentials (ECS developer guide, task IAM role).
const CREDENTIALS_HOST: &str = "http://169.254.170.2";
/// A connect to this host.
const NEAR: Duration = Duration::from_secs(1);
/// One question to DynamoDB.
const ASK: Duration = Duration::from_secs(5);

/// What ECS answers for a task role; the keys are not kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Credentials {
    access_key_id: String,
    role_arn: String,
    expiration: String,
}

/// The part of `/server_info` that is read.
#[derive(Debug, Deserialize)]
struct ServerInfo {
    state: String,
    version: String,
}

/// Which variables are there, and what is wrong with them.
pub fn environment(environment: &Environment, read: &Result<Bootstrap, Unusable>) -> Vec<Finding> {
    let mut said = Vec::new();
    let mut say = |name: &str, value: Option<String>| {
        said.push(value.map_or_else(|| format!("{name} not set"), |value| format!("{name}={value}")));
    };
    let length = |text: &String| format!("({} characters)", text.chars().count());
    say("GATEWAY_CONTROL", environment.control.clone().filter(|url| !url.contains('@')));
    say("GATEWAY_TOKEN", environment.token.as_ref().map(|token| length(&token.0)));
    say("GATEWAY_CONFIG", environment.config.as_ref().map(length));
    say("GATEWAY_CONTROL_CA", environment.control_ca.as_ref().map(length));
    say("GATEWAY_STATE_TABLE", environment.state_table.clone());
    if let Some(resource) = &environment.resource {
        say("App Mesh's name", Some(resource.clone()));
    }
    let mut findings = vec![Finding::ok("environment", said.join(", "))];
    for name in &environment.empty {
        let cure = format!(
            "give {name} a value or remove it: a secret without a value arrives as an empty variable (aws secretsmanager \
             put-secret-value, then a new task)"
        );
        findings.push(Finding::fail("environment", format!("{name} is set and empty"), cure));
    }
    match read {
        Err(why) => findings.push(unusable(why)),
        Ok(bootstrap) if bootstrap.listeners.is_empty() => {}
        Ok(bootstrap) => {
            let measured = format!(
                "its own, listeners: {}, clusters: {}",
                bootstrap.listeners.len(),
                bootstrap.clusters.len()
            );
            findings.push(Finding::ok("configuration", measured));
        }
    }
    findings
}

/// Whether the task role's credentials can be had; `needed`: something here uses an AWS API.
pub async fn credentials(needed: bool) -> Finding {
    const CHECK: &str = "credentials";
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let relative =
        variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CREDENTIALS_HOST}{path}"));
    let Some(url) = relative.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else {
        if variable("AWS_ACCESS_KEY_ID").is_some() {
            return Finding::ok(CHECK, "AWS_ACCESS_KEY_ID of the environment");
        }
        if !needed {
            return Finding::skip(CHECK, "none, and nothing here asks an AWS API");
        }
        let cure = "give the task definition a taskRoleArn (not the execution role): ECS then sets \
                    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
        return Finding::fail(CHECK, "the task has no role", cure);
    };
    let mut headers = Vec::new();
    if let Some(token) = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN") {
        headers.push(("authorization", token));
    }
    let started = Instant::now();
    match client::ask("GET", &url, &headers).await {
        Ok(answer) if answer.status.is_success() => {
            let given: Credentials = serde_json::from_str(&answer.body).unwrap_or_default();
            if given.access_key_id.is_empty() {
                return Finding::fail(
                    CHECK,
                    "the answer holds no credentials",
                    "look at the task's role in ECS",
                );
            }
            let (role, end) = (given.role_arn, given.expiration);
            Finding::ok(CHECK, format!("role {role}, valid until {end} ({})", millis(started.elapsed())))
        }
        Ok(answer) => {
            let cure = "ECS cannot assume the role: its trust policy must let ecs-tasks.amazonaws.com do sts:AssumeRole";
            Finding::fail(CHECK, format!("ECS answers {}", answer.status), cure)
        }
        Err(error) => {
            let cure = "169.254.170.2 must be reached from the container: no proxy, no iptables rule (a left-over \
                        proxyConfiguration of App Mesh) may stand before it";
            Finding::fail(CHECK, error, cure)
        }
    }
}

/// What ECS says of the task.
pub async fn metadata() -> Finding {
    const CHECK: &str = "ECS metadata";
    let Ok(base) = std::env::var("ECS_CONTAINER_METADATA_URI_V4") else {
        return Finding::skip(CHECK, "ECS_CONTAINER_METADATA_URI_V4 is not set: this is no ECS task");
    };
    let started = Instant::now();
    match aws::ecs::task_metadata_at(&base).await {
        Some(task) => {
            let cpu = task.cpu_limit.map_or_else(|| "no CPU limit".to_owned(), |cpu| format!("{cpu} vCPU"));
            let zone = task.availability_zone.unwrap_or_else(|| "an unknown zone".to_owned());
            Finding::ok(
                CHECK,
                format!("task {} in {zone}, {cpu} ({})", task.task_id, millis(started.elapsed())),
            )
        }
        None => {
            let cure = "169.254.170.2 must be reached from the container: no proxy, no iptables rule may stand before it; \
                        without it the gateway goes on, with a name made of its host's";
            Finding::fail(CHECK, format!("{base} does not answer"), cure)
        }
    }
}

/// What came of the state item.
pub struct Item {
    /// A line, or none when it is not configured.
    pub findings: Vec<Finding>,
    /// The listeners and clusters in it.
    pub resources: Option<GatewayResources>,
}

/// Whether control's state item can be read.
pub async fn state_item(item: Option<StateItem>) -> Item {
    const CHECK: &str = "state item";
    let Some(item) = item else {
        let why = "GATEWAY_STATE_TABLE is not set: while control is away a new gateway has no first weights from there";
        return Item { findings: vec![Finding::skip(CHECK, why)], resources: None };
    };
    let table = StateTable::from_env(item.table.clone(), item.key.clone());
    let place = format!("table {}, key {}", item.table, item.key);
    let started = Instant::now();
    let finding = match tokio::time::timeout(ASK, table.read()).await {
        Ok(Ok(Some(read))) => match StateView::parse(&read.document) {
            Ok(view) => {
                let version = view.control.version();
                let measured = format!(
                    "{place}: revision {}, version {version} ({})",
                    read.revision,
                    millis(started.elapsed())
                );
                let resources = Some(view.gateway).filter(|resources| !resources.is_empty());
                return Item { findings: vec![Finding::ok(CHECK, measured)], resources };
            }
            Err(error) => Finding::fail(
                CHECK,
                format!("{place}: {error}"),
                "this gateway cannot read it: use control's version",
            ),
        },
        Ok(Ok(None)) => {
            let cure = "the table has no such item: control has not written its state yet, or its state.dynamodb.key is \
                        not GATEWAY_STATE_KEY";
            Finding::fail(CHECK, place, cure)
        }
        Ok(Err(error)) => Finding::fail(CHECK, error.to_string(), item_cure(&error, &item)),
        Err(_) => Finding::fail(CHECK, format!("{place}: no answer within {} s", ASK.as_secs()), no_way()),
    };
    Item { findings: vec![finding], resources: None }
}

fn item_cure(error: &aws::Error, item: &StateItem) -> String {
    match error {
        aws::Error::AccessDenied { .. } => format!(
            "add this statement to the gateway's task role:\n{{\"Effect\": \"Allow\", \"Action\": \"dynamodb:GetItem\", \
             \"Resource\": \"arn:aws:dynamodb:<region>:<account>:table/{}\"}}",
            item.table
        ),
        aws::Error::Timeout { .. } | aws::Error::Unreachable { .. } => no_way(),
        aws::Error::NotFound { .. } => format!("make the table: control init-store --table {}", item.table),
        _ => "the words above are the service's".to_owned(),
    }
}

fn no_way() -> String {
    "there is no way from this subnet to DynamoDB: add the gateway VPC endpoint com.amazonaws.<region>.dynamodb to its \
     route table, or a NAT gateway"
        .to_owned()
}

/// Who has the ports of a gateway in this task.
pub async fn ports(environment: &Environment, bootstrap: Option<&Bootstrap>) -> Vec<Finding> {
    let port = bootstrap.map_or_else(|| override_route::admin_port(environment), |b| b.admin.address.port());
    let check = format!("port {port} (admin)");
    let answer = client::ask("GET", &format!("http://127.0.0.1:{port}/server_info"), &[]).await;
    let mut findings = Vec::new();
    let mut serves = false;
    findings.push(match answer {
        Ok(answer) => match serde_json::from_str::<ServerInfo>(&answer.body) {
            Ok(info) => {
                serves = info.state == "LIVE";
                Finding::ok(check, format!("a gateway runs here: {}, version {}", info.state, info.version))
            }
            Err(_) => Finding::fail(
                check,
                format!("something else answers ({})", answer.status),
                "another program has the gateway's admin port: stop it, or set ENVOY_ADMIN_ACCESS_PORT",
            ),
        },
        Err(_) if connect(here(port), NEAR).await.is_err() => {
            Finding::skip(check, "no gateway runs in this task, and the port is free")
        }
        Err(error) => Finding::fail(check, error, "another program has the gateway's admin port: stop it"),
    });
    for listener in bootstrap.iter().flat_map(|bootstrap| &bootstrap.listeners) {
        let port = listener.address.port();
        let check = format!("port {port} ({})", listener.name);
        findings.push(match (connect(here(port), NEAR).await, serves) {
            (Ok(time), true) => {
                Finding::ok(check, format!("the gateway accepts connections ({})", millis(time)))
            }
            (Ok(_), false) => Finding::fail(
                check,
                "somebody listens, although no gateway is LIVE here",
                "another program has the listener's port: stop it, or give the listener another one",
            ),
            (Err((Closed::Refused, _)), false) => Finding::skip(check, "the port is free"),
            (Err((_, text)), _) => {
                Finding::fail(check, text, "the gateway is LIVE without this listener: look at its log")
            }
        });
    }
    findings
}

fn here(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
