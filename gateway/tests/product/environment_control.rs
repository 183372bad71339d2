//! Gateways that know control by their environment alone, with the real control: its restarts and its lost state.

use std::path::Path;

use serde_json::{Value, json};
use testkit::client;
use testkit::free_port;
use testkit::process::{Moto, Process, bin};
use testkit::upstream::Upstream;

use super::config_control::{
    TOKEN, admin_of, clusters, configuration, environment, launch, listeners, live, server_info,
};
use super::world::{Control, Gateway, assert_clean, loadtest, until, upstream};

async fn control(folder: &Path, port: u16, listeners: &Value, clusters: &Value) -> Control {
    let routes = format!(
        "{{svc1: {{targets: [v1, v2], stable: v1, weights: {{v1: 90, v2: 10}}}}}}\n\
         gateway: {{listeners: {listeners}, clusters: {clusters}}}"
    );
    Control::start(folder, "control", port, &routes, &[]).await
}

async fn version(gateway: &Gateway) -> String {
    let from = configuration(&server_info(gateway.admin).await.1);
    assert_eq!(from["source"], "control", "{from}");
    from["version_info"].as_str().unwrap().to_owned()
}

async fn set(control: &Control, weights: &[&str]) {
    let ran = control.cli(&[&["set-weight", "svc1"], weights].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_of_control_reaches_a_gateway_that_has_variables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let backends: [Upstream; 2] = [upstream("v1"), upstream("v2")];
    let third = upstream("third");
    let port = free_port().unwrap();
    let both = clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr())]);
    let first = control(folder.path(), port, &listeners(0, &[]), &both).await;
    let mut variables = environment(&first.url());
    variables.remove("GATEWAY_TOKEN");
    let gateway = live(launch("gateway", &variables, &[]), folder.path()).await;
    gateway.until_weights(&[9000, 1000]).await;
    first.until_agreed(1).await;
    first.until_endpoints(1, &["v1", "v2"]).await;
    set(&first, &["v1=70", "v2=30"]).await;
    let before = version(&gateway).await;

    let load = loadtest(&["run", &gateway.url(), "--rate", "200/s", "--duration", "6s"]);
    first.process.kill().await.unwrap();
    let more = json!({"name": "third", "match": {"prefix": "/third"}, "route": {"cluster": "third"}});
    let mut all = both.clone();
    all.as_array_mut().unwrap().extend(clusters(&[("third", third.addr())]).as_array().unwrap().clone());
    let second = control(folder.path(), port, &listeners(0, &[more]), &all).await;
    until("the new route", || async {
        let answer = client::get(gateway.data, "/third").await.unwrap();
        (answer.header("x-v") == Some("third")).then_some(())
    })
    .await;
    assert_ne!(version(&gateway).await, before);
    second.until_agreed(1).await;
    assert_eq!(gateway.weights().await.0, [7000, 3000], "a new configuration moves no weight");

    // Its state is lost: it goes on from what the gateway serves, under a version that the gateway follows.
    second.process.kill().await.unwrap();
    std::fs::remove_file(&second.state).unwrap();
    let before = version(&gateway).await;
    let control = control(folder.path(), port, &listeners(0, &[]), &both).await;
    control.until_agreed(1).await;
    until("the configuration of the control without state", || async {
        (version(&gateway).await != before).then_some(())
    })
    .await;
    assert_eq!(gateway.weights().await.0, [7000, 3000]);
    control.until_endpoints(1, &["v1", "v2"]).await;
    set(&control, &["v1=100", "v2=0"]).await;
    gateway.until_weights(&[10_000, 0]).await;
    assert_eq!(
        client::get(gateway.data, "/third").await.unwrap().header("x-v"),
        Some("v1"),
        "the route is gone"
    );
    let (code, report) = load.await.unwrap();
    assert_clean(code, &report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls_and_a_token_of_a_variable_a_gateway_follows_the_control_that_it_believes() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(place("crt"), made.cert.pem()).unwrap();
    std::fs::write(place("key"), made.signing_key.serialize_pem()).unwrap();
    let both = clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr())]);
    let text = format!(
        "listen: 127.0.0.1:0\nstate: {{file: {}}}\ntls: {{certificate_file: {}, private_key_file: {}}}\n\
         tokens: {{gateway: [{{name: gateways, env: WEIR_GATEWAY_TOKEN}}], operator: [{{name: us, env: WEIR_OPERATOR}}]}}\n\
         routes: {{svc1: {{targets: [v1, v2], stable: v1, weights: {{v1: 40, v2: 60}}}}}}\n\
         gateway: {{listeners: {}, clusters: {both}}}\n",
        place("state.json"),
        place("crt"),
        place("key"),
        listeners(0, &[]),
    );
    std::fs::write(place("control.yaml"), text).unwrap();
    let mut command = std::process::Command::new(bin("control").unwrap());
    command.args(["serve", "--config", &place("control.yaml")]);
    command
        .env("WEIR_GATEWAY_TOKEN", format!("the-token-of-yesterday\n{TOKEN}"))
        .env("WEIR_OPERATOR", "an-operator-of-the-test");
    let control = Process::spawn("control", &mut command).unwrap();
    let line = control.line("control listens on https://").await.unwrap();
    let url = format!("https://{}", line.rsplit("https://").next().unwrap().trim());

    let mut variables = environment(&url);
    let stranger = launch("stranger", &variables, &[]);
    variables.insert("GATEWAY_CONTROL_CA".to_owned(), made.cert.pem());
    let gateway = live(launch("gateway", &variables, &[]), folder.path()).await;
    gateway.until_weights(&[4000, 6000]).await;
    assert!(version(&gateway).await.starts_with("1."), "{}", version(&gateway).await);
    let admin = admin_of(&stranger).await;
    let why = until("the refusal of the certificate", || async {
        let (status, info) = server_info(admin).await;
        assert_eq!(status, 503);
        configuration(&info)["waiting"]["control"]
            .as_str()
            .filter(|why| why.contains("TLS"))
            .map(str::to_owned)
    })
    .await;
    assert!(why.contains("CA"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn a_task_that_is_replaced_while_control_is_dead_goes_on_from_controls_item() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let moto = Moto::start().await.unwrap();
    let mut aws = moto.envs();
    aws.push(("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), moto.url()));
    let both = clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr())]);
    let config = folder.path().join("control.yaml");
    let text = format!(
        "listen: 127.0.0.1:0\nstate: {{dynamodb: {{table: weir-state}}}}\n\
         routes: {{svc1: {{targets: [v1, v2], stable: v1, weights: {{v1: 40, v2: 60}}}}}}\n\
         gateway: {{listeners: {}, clusters: {both}}}\n",
        listeners(0, &[]),
    );
    std::fs::write(&config, text).unwrap();
    let store = Process::ours("control", &["init-store", "--table", "weir-state"], &aws).unwrap();
    assert_eq!(store.exit().await.unwrap().code(), Some(0), "{}", store.tail());
    let config = config.display().to_string();
    let control = Process::ours("control", &["serve", "--config", &config], &aws).unwrap();
    let line = control.line("control listens on http://").await.unwrap();
    let url = format!("http://{}", line.rsplit("http://").next().unwrap().trim());

    let mut variables = environment(&url);
    variables.remove("GATEWAY_TOKEN");
    variables.extend(aws);
    variables.insert("GATEWAY_STATE_TABLE".to_owned(), "weir-state".to_owned());
    let gateway = live(launch("before", &variables, &[]), folder.path()).await;
    gateway.until_weights(&[4000, 6000]).await;
    let (served, configured) = (gateway.weights().await.2, version(&gateway).await);
    control.kill().await.unwrap();
    gateway.process.kill().await.unwrap();

    let gateway = live(launch("after", &variables, &[]), folder.path()).await;
    assert_eq!(gateway.weights().await, (vec![4000, 6000], "saved".to_owned(), served));
    let from = configuration(&server_info(gateway.admin).await.1);
    assert_eq!(
        (&from["source"], &from["version_info"]),
        (&json!("state_item"), &json!(configured)),
        "{from}"
    );
}
