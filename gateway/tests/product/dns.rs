//! Endpoints by DNS, from a server that can fail in every way.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use testkit::client;
use testkit::dns::{Dns, Zone};
use testkit::upstream::Upstream;

use super::world::{Gateway, Spec, until, upstream};

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn spec(folder: &Path, dns: &Dns, hostname: &str, port: u16, more: &str) -> Spec {
    let text = format!(
        "{{dns: {{hostname: {hostname}, port_value: {port}, min_refresh: 100ms, resolvers: ['{}']{more}}}}}",
        dns.addr()
    );
    Spec::new(folder, hostname, &[("v1", 1)]).discovery("v1", text)
}

/// Two backends on two addresses and one port, as an A record with two addresses needs.
fn two() -> (Upstream, Upstream, u16) {
    for _ in 0..20 {
        let one = upstream("one");
        if let Ok(two) = Upstream::start_on("two", SocketAddr::new(ip(2), one.port())) {
            let port = one.port();
            return (one, two, port);
        }
    }
    panic!("no port that is free on two addresses");
}

async fn failures(gateway: &Gateway) -> u64 {
    gateway.stat("cluster.v1.update_failure").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_records_are_used_and_changes_are_seen_by_their_time_to_live() {
    let folder = tempfile::tempdir().unwrap();
    let dns = Dns::start().unwrap();
    let (one, two, port) = two();
    dns.addresses("quick.local", &[ip(1), ip(2)], 1);
    dns.addresses("slow.local", &[ip(1)], 3600);
    let quick = spec(folder.path(), &dns, "quick.local", port, ", allow_loopback: true").live().await;
    let more = ", allow_loopback: true, max_refresh: 3600s";
    let slow = spec(folder.path(), &dns, "slow.local", port, more).live().await;
    quick.until_endpoints("v1", &[one.addr(), two.addr()]).await;
    for _ in 0..10 {
        assert_eq!(quick.ask().await.status, 200);
    }
    assert!(one.seen().requests > 0 && two.seen().requests > 0, "{:?} {:?}", one.seen(), two.seen());
    let asked = dns.queries("slow.local");
    dns.addresses("slow.local", &[ip(2)], 3600);
    let before = dns.queries("quick.local");
    dns.addresses("quick.local", &[ip(2)], 1);
    quick.until_endpoints("v1", &[two.addr()]).await;
    dns.until_queries("quick.local", before + 6).await.unwrap();
    assert_eq!(dns.queries("slow.local"), asked, "an hour is an hour");
    slow.until_endpoints("v1", &[one.addr()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servfail_and_silence_keep_the_endpoints_and_nxdomain_is_doubted() {
    let folder = tempfile::tempdir().unwrap();
    let dns = Dns::start().unwrap();
    let mut one = upstream("v1");
    dns.addresses("v1.local", &[ip(1)], 0);
    let spec = spec(folder.path(), &dns, "v1.local", one.port(), ", allow_loopback: true, max_refresh: 1s");
    let gateway = spec.live().await;
    for zone in [Zone::ServFail, Zone::Silence] {
        let before = failures(&gateway).await;
        dns.set("v1.local", zone.clone());
        until("a failed look-up", || async { (failures(&gateway).await > before).then_some(()) }).await;
        assert_eq!(gateway.ask().await.status, 200, "{zone:?}");
        gateway.until_endpoints("v1", &[one.addr()]).await;
    }
    for zone in [Zone::NxDomain(1), Zone::Addresses(Vec::new(), 1)] {
        let before = gateway.stat("cluster.v1.update_empty").await;
        dns.set("v1.local", zone.clone());
        until("an empty answer", || async {
            (gateway.stat("cluster.v1.update_empty").await > before).then_some(())
        })
        .await;
        assert_eq!(gateway.ask().await.status, 200, "{zone:?}");
    }
    dns.set("v1.local", Zone::NxDomain(1));
    one.stop();
    gateway.until_endpoints("v1", &[]).await;
    one.restart().unwrap();
    dns.addresses("v1.local", &[ip(1)], 1);
    gateway.until_endpoints("v1", &[one.addr()]).await;
    until("an answer", || async { (gateway.ask().await.status == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loopback_address_from_dns_is_refused_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let dns = Dns::start().unwrap();
    let one = upstream("v1");
    dns.addresses("v1.local", &[ip(1)], 1);
    let gateway = spec(folder.path(), &dns, "v1.local", one.port(), "").start().await;
    let shown =
        client::poll(gateway.admin, "/clusters", |answer| answer.text().contains("allow_loopback")).await;
    assert!(shown.is_ok(), "{shown:?}");
    gateway.until_endpoints("v1", &[]).await;
    assert!(one.received().is_empty());
}
