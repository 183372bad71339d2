//! Endpoints by Cloud Map's API: the revision often, everything now and then.
//!
//! Owns the rhythm of calls: a revision call costs little and says whether somebody came or went; a change of
//! health does not move it, so a full call follows at the latest after `full_poll`. Where the API is shut off, DNS is
//! asked meanwhile. It must never turn an error into "nobody". Next: `fallback.rs`.

use super::backoff::{Backoff, jitter};
use super::fallback;
use super::membership::{Answer, Found, Told, acceptable};
use crate::cluster::DiscoverySource;
use aws::cloud_map::{CloudMap, Discovered, Query};
use gateway_config::model::CloudMapDiscovery;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// First wait after a failed call.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait after failed calls: the quota is the whole account's.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Calls in a row for which the API was shut off before DNS is asked: one may be a moment's trouble, and a start must not
/// wait until LIVE is due.
const TRIES: u32 = 3;

/// Asks for ever, until nobody listens.
pub async fn ask(config: CloudMapDiscovery, tell: Sender<Told>) {
    let client = CloudMap::from_env().await;
    let query = Query {
        namespace_name: config.namespace_name.clone(),
        service_name: config.service_name.clone(),
        attributes: config.attributes.clone(),
    };
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let (mut shut_out, mut known) = (0u32, Vec::new());
    loop {
        let mut called = client.discover(&query).await;
        shut_out = if called.as_ref().is_err_and(aws::Error::is_shut_out) { shut_out + 1 } else { 0 };
        if shut_out >= TRIES
            && let (Err(error), Some(dns)) = (&called, &config.dns_fallback)
        {
            let notice = format!("{} is asked in DNS instead of Cloud Map's API: {error}", dns.hostname);
            tracing::warn!("{notice}");
            let again = answers_again(&client, &query, config.full_poll);
            match fallback::until(again, dns.clone(), known.clone(), notice, &tell).await {
                Some(found) => called = Ok(found),
                None => return,
            }
            shut_out = 0;
            tracing::info!(name = dns.hostname, "Cloud Map's API answers again and is asked instead of DNS");
        }
        let answer = match &called {
            Ok(found) => judge(found, &config),
            Err(error @ aws::Error::NotFound { .. }) => Answer::Nobody(error.to_string()),
            Err(error) => Answer::Failed(error.to_string()),
        };
        if let Answer::Found(found) = &answer {
            known = found.iter().map(|found| found.address).collect();
        }
        if tell.send(Told::by(DiscoverySource::Api, answer)).await.is_err() {
            return;
        }
        match called {
            Ok(found) => {
                backoff.reset();
                wait_for_news(&client, &config, found.revision).await;
            }
            // There is no revision to watch; the service may be created any moment.
            Err(aws::Error::NotFound { .. }) => {
                backoff.reset();
                tokio::time::sleep(jitter(config.revision_poll, &mut rand::rng())).await;
            }
            Err(_) => tokio::time::sleep(backoff.next(&mut rand::rng())).await,
        }
    }
}

/// Asks an API that is shut off now and then, until it answers: as often as one that fails, for it may be the network for
/// a moment, and DNS may know nobody. An API that does not know the service is of no more
/// use than one that does not answer, as long as DNS knows it.
async fn answers_again(client: &CloudMap, query: &Query, full_poll: Duration) -> Discovered {
    let mut backoff = Backoff::new(full_poll, LONGEST_WAIT.max(full_poll));
    loop {
        tokio::time::sleep(backoff.next(&mut rand::rng())).await;
        match client.discover(query).await {
            Ok(found) => return found,
            Err(error) => tracing::debug!(%error, "Cloud Map's API is still shut off"),
        }
    }
}

/// Returns when the revision has moved, cannot be read, or a full call is due.
async fn wait_for_news(client: &CloudMap, config: &CloudMapDiscovery, known: Option<i64>) {
    let due = Instant::now() + jitter(config.full_poll, &mut rand::rng());
    loop {
        let pause = jitter(config.revision_poll, &mut rand::rng());
        let left = due.saturating_duration_since(Instant::now());
        if left <= pause {
            tokio::time::sleep(left).await;
            return;
        }
        tokio::time::sleep(pause).await;
        let Some(known) = known else { continue };
        match client.revision(&config.namespace_name, &config.service_name).await {
            Ok(revision) if revision == known => {}
            // A failing revision call says nothing: the full call that follows has its own back-off.
            Ok(_) | Err(_) => return,
        }
    }
}

/// What an answer of the API means for a cluster.
pub fn judge(found: &Discovered, config: &CloudMapDiscovery) -> Answer {
    if found.instances.is_empty() {
        return Answer::Nobody(format!("{}.{}: no instance", config.service_name, config.namespace_name));
    }
    let mut refused = Vec::new();
    let mut good = Vec::new();
    for instance in &found.instances {
        let zone = instance.attributes.get("AVAILABILITY_ZONE").cloned().unwrap_or_default();
        match (instance.ip, config.port.or(instance.port)) {
            (Some(ip), Some(port)) if acceptable(ip, config.allow_loopback) => {
                good.push(Found { address: SocketAddr::new(ip, port), zone });
            }
            (Some(ip), Some(_)) => refused.push(format!("{}: {ip} is loopback or link-local", instance.id)),
            (None, _) => refused.push(format!("{}: no AWS_INSTANCE_IPV4", instance.id)),
            (_, None) => {
                refused.push(format!("{}: no AWS_INSTANCE_PORT, and no port_value here", instance.id))
            }
        }
    }
    if !refused.is_empty() {
        tracing::warn!(instances = refused.join("; "), "instances that cannot be used");
    }
    if good.is_empty() { Answer::Failed(refused.join("; ")) } else { Answer::Found(good) }
}
