//! Whether the endpoints of a cluster are found, and accept connections.
//!
//! Owns one cluster's checks: Cloud Map's API, DNS, and a connect to each endpoint. It must never judge endpoints in
//! another way than the sources do. Next: `task.rs`.

use super::finding::{Closed, Finding, connect, millis, open_port};
use crate::sources::membership::{Answer, Found};
use crate::sources::{cloud_map, dns};
use aws::cloud_map::{CloudMap, Query};
use gateway_config::model::{CloudMapDiscovery, Cluster, Discovery, DnsDiscovery};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One question to Cloud Map or DNS.
const ASK: Duration = Duration::from_secs(5);
/// One connect.
const CONNECT: Duration = Duration::from_secs(3);
/// Endpoints of a cluster that are tried; the others are in the same security group.
const TRIED: usize = 16;
/// What a gateway's task role needs for Cloud Map.
const STATEMENT: &str = r#"{"Effect": "Allow", "Action": ["servicediscovery:DiscoverInstances", "servicediscovery:DiscoverInstancesRevision"], "Resource": "*"}"#;

/// All checks of one cluster.
pub async fn check(cluster: &Cluster) -> Vec<Finding> {
    let name = &cluster.name;
    let (mut findings, addresses) = match &cluster.discovery {
        Discovery::Static(addresses) => (Vec::new(), addresses.clone()),
        Discovery::Dns(dns) => {
            let (finding, addresses) = names(name, dns).await;
            (vec![finding], addresses)
        }
        Discovery::CloudMap(config) => cloud_map(name, config).await,
    };
    findings.extend(backends(name, &addresses).await);
    findings
}

async fn names(cluster: &str, config: &DnsDiscovery) -> (Finding, Vec<SocketAddr>) {
    let check = format!("cluster {cluster}, DNS");
    let started = Instant::now();
    let answer = dns::once(config).await;
    match answer {
        Answer::Found(found) => {
            let measured = format!("{}: {} ({})", config.hostname, listed(&found), millis(started.elapsed()));
            (Finding::ok(check, measured), found.into_iter().map(|found| found.address).collect())
        }
        Answer::Nobody(why) => {
            let cure = "is the name right, does a task of the service run and pass its health check, and does the Cloud Map \
                        service have DNS records in a private zone of this VPC? (a namespace for API calls has no names)";
            (Finding::fail(check, why, cure), Vec::new())
        }
        Answer::Failed(why) => {
            let cure = "the VPC needs enableDnsSupport, and nothing may block UDP and TCP 53 to its resolver";
            (Finding::fail(check, why, cure), Vec::new())
        }
    }
}

async fn cloud_map(cluster: &str, config: &CloudMapDiscovery) -> (Vec<Finding>, Vec<SocketAddr>) {
    let fallback = async {
        match &config.dns_fallback {
            Some(dns) => Some(names(cluster, dns).await),
            None => None,
        }
    };
    let (api, fallback) = tokio::join!(api(cluster, config), fallback);
    let (finding, mut addresses) = api;
    let mut findings = vec![finding];
    match fallback {
        None => {
            let why = "not asked: Cloud Map's API has no fallback here (it needs port_value)";
            findings.push(Finding::skip(format!("cluster {cluster}, DNS"), why));
        }
        Some((finding, named)) => {
            // DNS is only asked where the API is shut off.
            if addresses.is_empty() {
                findings.push(finding);
                addresses = named;
            } else if !named.is_empty() {
                findings.push(finding);
            } else {
                let why = "no answer of use, and none is needed while the API answers";
                findings.push(Finding::skip(format!("cluster {cluster}, DNS"), why));
            }
        }
    }
    (findings, addresses)
}

async fn api(cluster: &str, config: &CloudMapDiscovery) -> (Finding, Vec<SocketAddr>) {
    let check = format!("cluster {cluster}, Cloud Map");
    let started = Instant::now();
    let asking = async {
        let client = CloudMap::from_env().await;
        let query = Query {
            namespace_name: config.namespace_name.clone(),
            service_name: config.service_name.clone(),
            attributes: config.attributes.clone(),
        };
        let found = client.discover(&query).await?;
        client.revision(&config.namespace_name, &config.service_name).await?;
        Ok::<_, aws::Error>(found)
    };
    let found = match tokio::time::timeout(ASK, asking).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return (Finding::fail(check, error.to_string(), cure(&error, config)), Vec::new()),
        Err(_) => {
            let text = format!("no answer within {} s", ASK.as_secs());
            return (Finding::fail(check, text, no_way()), Vec::new());
        }
    };
    match cloud_map::judge(&found, config) {
        Answer::Found(found) => {
            let measured = format!("{} ({})", listed(&found), millis(started.elapsed()));
            (Finding::ok(check, measured), found.into_iter().map(|found| found.address).collect())
        }
        Answer::Nobody(why) => {
            let cure = "the API answers and nobody is registered: does a task of the service run, and does the ECS service \
                        have serviceRegistries with this Cloud Map service?";
            (Finding::fail(check, why, cure), Vec::new())
        }
        Answer::Failed(why) => {
            let cure = "the instances that are registered cannot be used: add port_value to the cluster where they have no \
                        port";
            (Finding::fail(check, why, cure), Vec::new())
        }
    }
}

fn cure(error: &aws::Error, config: &CloudMapDiscovery) -> String {
    match error {
        aws::Error::AccessDenied { .. } => {
            format!("add this statement to the gateway's task role:\n{STATEMENT}{}", meanwhile(config))
        }
        aws::Error::Timeout { .. } | aws::Error::Unreachable { .. } => {
            format!("{}{}", no_way(), meanwhile(config))
        }
        aws::Error::NotFound { .. } => format!(
            "no service `{}` in a namespace with the HTTP name `{}` in this region and account; see `aws servicediscovery \
             list-namespaces` and `list-services`",
            config.service_name, config.namespace_name
        ),
        aws::Error::Throttled { .. } => "the account's quota is used up: run the doctor again".to_owned(),
        _ => "the words above are the service's".to_owned(),
    }
}

fn no_way() -> String {
    "there is no way from this subnet to Cloud Map: add the interface VPC endpoints \
     com.amazonaws.<region>.servicediscovery and com.amazonaws.<region>.data-servicediscovery (private DNS on, security \
     group open for TCP 443 from the gateway's), or a NAT gateway"
        .to_owned()
}

fn meanwhile(config: &CloudMapDiscovery) -> String {
    match &config.dns_fallback {
        Some(dns) => format!("\nuntil then the gateway asks DNS for {}", dns.hostname),
        None => "\nuntil then the cluster has no endpoints; with port_value it would ask DNS".to_owned(),
    }
}

fn listed(found: &[Found]) -> String {
    let shown: Vec<String> = found.iter().take(TRIED).map(|found| found.address.to_string()).collect();
    let more = found.len().saturating_sub(TRIED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

async fn backends(cluster: &str, addresses: &[SocketAddr]) -> Vec<Finding> {
    let check = format!("cluster {cluster}, backends");
    if addresses.is_empty() {
        return vec![Finding::skip(check, "no endpoint is known")];
    }
    let mut trying = JoinSet::new();
    for address in addresses.iter().copied().take(TRIED) {
        trying.spawn_local(async move { (address, connect(address, CONNECT).await) });
    }
    let mut tried = trying.join_all().await;
    tried.sort_by_key(|(address, _)| *address);
    let good = tried.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    let slowest = tried.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).max();
    let mut findings = Vec::new();
    if let Some(slowest) = slowest {
        let all = tried.len();
        let measured = format!("{good} of {all} accept connections (slowest {})", millis(*slowest));
        findings.push(Finding::ok(check.clone(), measured));
    }
    for (address, outcome) in &tried {
        if let Err((closed, text)) = outcome {
            findings.push(Finding::fail(
                check.clone(),
                format!("{address}: {text}"),
                opens(cluster, *address, *closed),
            ));
        }
    }
    findings
}

fn opens(cluster: &str, address: SocketAddr, closed: Closed) -> String {
    let port = address.port();
    match closed {
        Closed::Silence => open_port(cluster, port),
        Closed::Refused => format!(
            "the task is reached and nothing listens on {port}: is it the container's port (port_value of the cluster, \
             containerPort of the task definition), and does the container listen on 0.0.0.0?"
        ),
        Closed::Unreachable => {
            "there is no route from this subnet to that address: are both in one VPC, or in peered ones with routes both \
             ways?"
                .to_owned()
        }
        Closed::Local => "this process cannot connect at all; the words above are the system's".to_owned(),
    }
}
