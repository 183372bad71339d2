//! Endpoints by DNS: all A and AAAA records of a name, asked again when their time to live is over.
//!
//! Owns the look-ups. It must never turn an error into "nobody": only NXDOMAIN or an empty answer is that.
//! Next: `cloud_map.rs`.

use super::backoff::{Backoff, jitter};
use super::membership::{Answer, Found, Told, acceptable};
use crate::cluster::DiscoverySource;
use gateway_config::model::DnsDiscovery;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// One look-up, all servers and retries included, takes no longer.
const LIMIT: Duration = Duration::from_secs(5);
/// One question to one server.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Asks for ever, until nobody listens.
pub async fn ask(config: DnsDiscovery, tell: Sender<Told>) {
    let said = |answer| Told::by(DiscoverySource::Dns, answer);
    let mut backoff = Backoff::new(Duration::from_millis(200), config.max_refresh);
    let resolver = loop {
        match resolver(&config.resolvers) {
            Ok(resolver) => break resolver,
            // The system's file may not be there yet.
            Err(error) => {
                if tell.send(said(Answer::Failed(format!("no resolver: {error}")))).await.is_err() {
                    return;
                }
                tokio::time::sleep(backoff.next(&mut rand::rng())).await;
            }
        }
    };
    let name = absolute(&config.hostname);
    loop {
        let (answer, valid) = look_up(&resolver, &name, &config).await;
        let wait = match &answer {
            Answer::Found(_) => {
                backoff.reset();
                jitter(valid.clamp(config.min_refresh, config.max_refresh), &mut rand::rng())
            }
            Answer::Nobody(_) => jitter(config.min_refresh.max(Duration::from_secs(1)), &mut rand::rng()),
            Answer::Failed(_) => backoff.next(&mut rand::rng()),
        };
        if tell.send(said(answer)).await.is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

/// Asks once.
pub async fn once(config: &DnsDiscovery) -> Answer {
    let name = absolute(&config.hostname);
    match resolver(&config.resolvers) {
        Ok(resolver) => look_up(&resolver, &name, config).await.0,
        Err(error) => Answer::Failed(format!("no resolver: {error}")),
    }
}

/// A trailing dot keeps the search list out: one question per look-up, and no foreign suffix ever.
fn absolute(hostname: &str) -> String {
    format!("{}.", hostname.trim_end_matches('.'))
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|address| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = address.port());
            NameServerConfig::new(address.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    // The keeper has its own memory; a cached NXDOMAIN would outlive the service's return.
    options.cache_size = 0;
    options.timeout = ATTEMPT;
    options.attempts = 1;
    options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

async fn look_up(resolver: &TokioResolver, name: &str, config: &DnsDiscovery) -> (Answer, Duration) {
    let asked = tokio::time::timeout(LIMIT, resolver.lookup_ip(name)).await;
    match asked {
        Err(_) => (Answer::Failed(format!("{name}: no answer within {} s", LIMIT.as_secs())), Duration::ZERO),
        Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => {
            (Answer::Nobody(format!("{name}: no such name")), Duration::ZERO)
        }
        Ok(Err(error)) => (Answer::Failed(format!("{name}: {error}")), Duration::ZERO),
        Ok(Ok(records)) => {
            let valid = records.valid_until().saturating_duration_since(Instant::now());
            let all: Vec<_> = records.iter().collect();
            let good = all.iter().filter(|ip| acceptable(**ip, config.allow_loopback));
            let found: Vec<_> = good
                .map(|ip| Found { address: SocketAddr::new(*ip, config.port), zone: String::new() })
                .collect();
            if found.is_empty() && !all.is_empty() {
                let text = format!(
                    "{name}: only loopback or link-local addresses; set allow_loopback to accept them"
                );
                return (Answer::Failed(text), valid);
            }
            if found.is_empty() {
                return (Answer::Nobody(format!("{name}: an empty answer")), valid);
            }
            (Answer::Found(found), valid)
        }
    }
}
