//! A load balancer that is taken for the clients, and one that is not.

use testkit::client::RawClient;

use super::world::{Gateway, Spec, until, upstream};

const GAUGE: &str = "gateway.listener.127.0.0.1_0.few_client_addresses";

/// A thousand requests on one connection, as a load balancer sends them for its clients.
async fn send_thousand(gateway: &Gateway) {
    let mut balancer = RawClient::connect(gateway.data).await.unwrap();
    for n in 0..1000 {
        let text =
            format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-forwarded-for: 203.0.113.{}\r\n\r\n", n % 250);
        balancer.send(text).await.unwrap();
        assert_eq!(balancer.response("GET").await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_balancer_that_is_taken_for_the_clients_is_named_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let backend = upstream("v1");
    let mut spec = Spec::new(folder.path(), "gateway", &[("v1", 1)]).fixed("v1", &[backend.addr()]);
    spec.manager_more = "      xff_num_trusted_hops: 0\n".to_owned();
    let gateway = spec.live().await;
    assert_eq!(gateway.stat(GAUGE).await, 0);
    send_thousand(&gateway).await;
    assert_eq!(gateway.stat(GAUGE).await, 1);
    let line = gateway.process.line("nearly all requests").await.unwrap();
    for part in ["`ingress`", "one address (127.0.0.1)", "`xff_num_trusted_hops: 1`"] {
        assert!(line.contains(part), "{line}");
    }

    // With the cure each client is believed, and the suspicion is taken back.
    spec.manager_more = String::new();
    spec.write();
    until("a reload", || async { (gateway.stat("gateway.config_reload_success").await >= 1).then_some(()) })
        .await;
    send_thousand(&gateway).await;
    assert_eq!(gateway.stat(GAUGE).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_believed_are_never_taken_for_a_load_balancer() {
    let folder = tempfile::tempdir().unwrap();
    let backend = upstream("v1");
    let spec = Spec::new(folder.path(), "gateway", &[("v1", 1)]).fixed("v1", &[backend.addr()]);
    let gateway = spec.live().await;
    send_thousand(&gateway).await;
    assert_eq!(gateway.stat(GAUGE).await, 0);
}
