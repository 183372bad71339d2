//! Cloud Map's API shut off: DNS in its place, and back.

use std::net::IpAddr;
use std::path::Path;

use testkit::client;
use testkit::dns::{Dns, Zone};
use testkit::standin::{Fault, Kind, Service, Standin};

use super::world::{Gateway, Spec, register, until, upstream};

const NAME: &str = "v1.demo.local";

fn home() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

fn spec(folder: &Path, standin: &Standin, dns: &Dns, port: u16) -> Spec {
    let text = format!(
        "{{cloud_map: {{namespace_name: demo.local, service_name: v1, port_value: {port}, allow_loopback: true, \
         full_poll: 500ms, revision_poll: 100ms, dns_fallback: {{resolvers: ['{}']}}}}}}",
        dns.addr()
    );
    Spec::new(folder, "gateway", &[("v1", 1)]).discovery("v1", text).envs(&standin.envs())
}

fn deny(standin: &Standin) {
    standin.faults().set(Fault::of(Service::CloudMap, Kind::Status { status: 403 }));
}

async fn until_fallen_back(gateway: &Gateway, wanted: bool) {
    let what = format!("DNS asked in place of the API: {wanted}");
    until(&what, || async {
        let now = gateway.stat("gateway.discovery.v1.dns_fallback").await;
        (now == u64::from(wanted)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_api_is_replaced_by_dns_says_so_and_is_taken_again_when_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (standin, dns) = (Standin::start().unwrap(), Dns::start().unwrap());
    let one = upstream("v1");
    register(&standin, "v1", "v1-1", one.addr());
    dns.addresses(NAME, &[home()], 1);
    deny(&standin);
    let gateway = spec(folder.path(), &standin, &dns, one.port()).live().await;
    gateway.until_endpoints("v1", &[one.addr()]).await;
    assert_eq!(gateway.ask().await.status, 200);
    until_fallen_back(&gateway, true).await;
    let shown = client::get(gateway.admin, "/clusters").await.unwrap().text();
    assert!(shown.contains("v1::discovery::source::dns"), "{shown}");
    let notice = shown.lines().find(|line| line.contains("discovery::notice")).unwrap();
    assert!(notice.contains(NAME) && notice.contains("servicediscovery:DiscoverInstances"), "{notice}");
    let asked = standin.requests_for("DiscoverInstances").len();
    standin.until_requests("DiscoverInstances", asked + 2).await.unwrap();
    let said = gateway.process.stderr().matches("is asked in DNS instead").count();
    assert_eq!(said, 1, "once: {}", gateway.process.tail());

    standin.faults().clear_all();
    until_fallen_back(&gateway, false).await;
    gateway.process.line("answers again").await.unwrap();
    gateway.until_endpoints("v1", &[one.addr()]).await;
    let shown = client::get(gateway.admin, "/clusters").await.unwrap().text();
    assert!(!shown.contains("discovery::notice"), "{shown}");
    let asked = dns.queries(NAME);
    let polled = standin.requests_for("DiscoverInstances").len();
    standin.until_requests("DiscoverInstances", polled + 3).await.unwrap();
    assert_eq!(dns.queries(NAME), asked, "DNS is left alone again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_without_names_in_dns_takes_no_endpoint_away() {
    let folder = tempfile::tempdir().unwrap();
    let (standin, dns) = (Standin::start().unwrap(), Dns::start().unwrap());
    let mut one = upstream("v1");
    register(&standin, "v1", "v1-1", one.addr());
    dns.set(NAME, Zone::NxDomain(1));
    let gateway = spec(folder.path(), &standin, &dns, one.port()).live().await;
    deny(&standin);
    until_fallen_back(&gateway, true).await;
    let failures = gateway.stat("cluster.v1.update_failure").await;
    until("three answers that there is no such name", || async {
        (gateway.stat("cluster.v1.update_failure").await >= failures + 3).then_some(())
    })
    .await;
    assert_eq!(gateway.stat("cluster.v1.update_empty").await, 0, "nobody said that nobody is there");
    // Not even a refused connection takes it away then.
    one.stop();
    let connects = gateway.stat("cluster.v1.update_failure").await;
    until("more answers", || async {
        (gateway.stat("cluster.v1.update_failure").await >= connects + 3).then_some(())
    })
    .await;
    gateway.until_endpoints("v1", &[one.addr()]).await;
    one.restart().unwrap();
    until("an answer", || async { (gateway.ask().await.status == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_and_failures_of_the_service_do_not_lead_to_dns() {
    let folder = tempfile::tempdir().unwrap();
    let (standin, dns) = (Standin::start().unwrap(), Dns::start().unwrap());
    let one = upstream("v1");
    register(&standin, "v1", "v1-1", one.addr());
    dns.addresses(NAME, &[IpAddr::from([127, 0, 0, 9])], 1);
    let gateway = spec(folder.path(), &standin, &dns, one.port()).live().await;
    for kind in [Kind::Throttle, Kind::Status { status: 503 }] {
        let failures = gateway.stat("cluster.v1.update_failure").await;
        standin.faults().set(Fault::of(Service::CloudMap, kind));
        until("more failures than lead to DNS where the API is shut off", || async {
            (gateway.stat("cluster.v1.update_failure").await >= failures + 4).then_some(())
        })
        .await;
        let successes = gateway.stat("cluster.v1.update_success").await;
        standin.faults().clear_all();
        until("a good answer", || async {
            (gateway.stat("cluster.v1.update_success").await > successes).then_some(())
        })
        .await;
    }
    assert_eq!(dns.queries(NAME), 0);
    gateway.until_endpoints("v1", &[one.addr()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_to_the_api_leads_to_dns_before_live_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let (standin, dns) = (Standin::start().unwrap(), Dns::start().unwrap());
    let one = upstream("v1");
    dns.addresses(NAME, &[home()], 1);
    // Taken and never answered, as by a subnet without a way out.
    standin.faults().set(Fault::of(Service::CloudMap, Kind::Timeout));
    let gateway = spec(folder.path(), &standin, &dns, one.port()).live().await;
    gateway.until_endpoints("v1", &[one.addr()]).await;
    until_fallen_back(&gateway, true).await;
    assert!(!gateway.process.stderr().contains("not everything has answered"), "{}", gateway.process.tail());
}
