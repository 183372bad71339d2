//! Gateways that are told nothing but where control is: listeners, clusters and weights come from it.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_config::wire::DiscoveryRequest;
use serde_json::{Value, json};
use testkit::client;
use testkit::upstream::Upstream;

use super::config_control::{
    ConfigControl, TOKEN, admin_of, clusters, configuration, environment, launch, listeners, live,
    server_info,
};
use super::world::{assert_clean, loadtest, until, upstream, write_whole};

fn both(backends: &[Upstream; 2]) -> Value {
    clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr())])
}

async fn served_by(data: SocketAddr, path: &str) -> String {
    let answer = client::get(data, path).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-v").unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environment_variables_alone_make_a_gateway_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = ConfigControl::start(Some(("1.1-x", listeners(0, &[]), both(&backends)))).await;
    // Exactly what a task definition has; the port for admin is the test's only addition.
    let mut variables = environment(&control.url());
    variables.remove("GATEWAY_CONFIG");
    for (name, value) in
        [("APPMESH_VIRTUAL_NODE_NAME", "mesh/m/virtualGateway/g"), ("ENVOY_ADMIN_ACCESS_PORT", "0")]
    {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let gateway = live(launch("gateway", &variables, &[]), folder.path()).await;
    assert_eq!(served_by(gateway.data, "/").await, "v1");
    assert_eq!(gateway.weights().await, (vec![100, 0], "control".to_owned(), "1.1-x".to_owned()));

    let (status, info) = server_info(gateway.admin).await;
    assert_eq!((status, &info["node"]["id"]), (200, &json!("mesh/m/virtualGateway/g")));
    let from = configuration(&info);
    assert_eq!((&from["source"], &from["version_info"]), (&json!("control"), &json!("1.1-x")), "{info:#}");
    let dump = client::get(gateway.admin, "/config_dump").await.unwrap().text();
    for part in ["dynamic_listeners", "dynamic_active_clusters", "\"version_info\": \"1.1-x\""] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
    let told = control.until_asked("the version in force", |request| request.version_info == "1.1-x").await;
    let status = told.node.metadata.weir.unwrap();
    assert_eq!(status.config_version, "1.1-x");
    assert_eq!((status.clusters["v1"].endpoints, status.clusters["v1"].source.as_str()), (1, "static"));
    let shown = format!("{info}{dump}{}", gateway.process.tail());
    assert!(!shown.contains(TOKEN), "the token is never shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_info_is_503_until_the_first_live_and_200_for_ever_after() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = ConfigControl::start(None).await;
    let process = launch("gateway", &environment(&control.url()), &[]);
    let admin = admin_of(&process).await;
    let info = until("what is missing", || async {
        let (status, info) = server_info(admin).await;
        assert_eq!((status, &info["state"]), (503, &json!("INITIALIZING")), "{info:#}");
        let waiting = configuration(&info)["waiting"]["control"].clone();
        waiting.as_str().is_some_and(|why| why.contains("section `gateway`")).then_some(info)
    })
    .await;
    assert_eq!(configuration(&info)["source"], "awaited");
    process.line("nothing to serve yet").await.unwrap();

    control.configure("1.1-x", listeners(0, &[]), both(&backends));
    let gateway = live(process, folder.path()).await;
    assert_eq!(server_info(gateway.admin).await.0, 200);
    assert_eq!(served_by(gateway.data, "/").await, "v1");
    gateway.process.terminate().unwrap();
    until("DRAINING", || async {
        let (status, info) = server_info(gateway.admin).await;
        assert_eq!(status, 200, "{info:#}");
        (info["state"] == "DRAINING").then_some(())
    })
    .await;
    assert_eq!(gateway.process.exit_within(Duration::from_secs(40)).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_waits_for_its_listeners_ends_at_once_when_it_is_told_to() {
    let control = ConfigControl::start(None).await;
    let process = launch("gateway", &environment(&control.url()), &[]);
    process.line("nothing to serve yet").await.unwrap();
    process.terminate().unwrap();
    // Far below the 20 s that a drain may take.
    assert_eq!(process.exit_within(Duration::from_secs(10)).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_end_while_it_starts_ends_in_order() {
    // The first thing that a task asks, and nobody answers.
    let metadata = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = ConfigControl::start(None).await;
    let mut variables = environment(&control.url());
    let url = format!("http://{}/v4/task", metadata.local_addr().unwrap());
    variables.insert("ECS_CONTAINER_METADATA_URI_V4".to_owned(), url);
    let process = launch("gateway", &variables, &[]);
    let _asked = metadata.accept().await.unwrap();
    process.terminate().unwrap();
    assert_eq!(process.exit().await.unwrap().code(), Some(0), "{}", process.tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_is_taken_while_requests_run_and_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let third = upstream("third");
    let control = ConfigControl::start(Some(("1.1-x", listeners(0, &[]), both(&backends)))).await;
    control.say(|word| word.weights = Some(("1.1-x".to_owned(), vec![("v1", 70), ("v2", 30)])));
    let gateway = live(launch("gateway", &environment(&control.url()), &[]), folder.path()).await;
    gateway.until_weights(&[70, 30]).await;
    let load = loadtest(&["run", &gateway.url(), "--rate", "200/s", "--duration", "4s"]);
    let more = json!({"name": "third", "match": {"prefix": "/third"}, "route": {"cluster": "third"}});
    let all = clusters(&[("third", third.addr()), ("v1", backends[0].addr()), ("v2", backends[1].addr())]);
    control.configure("1.2-x", listeners(0, &[more]), all);
    control.until_asked("the new version in force", |request| request.version_info == "1.2-x").await;
    assert_eq!(served_by(gateway.data, "/third").await, "third");
    let (code, report) = load.await.unwrap();
    assert_clean(code, &report);
    assert_eq!(gateway.weights().await.0, [70, 30], "the weights of a managed route are not changed by it");
    assert_eq!(gateway.stat("gateway.config_reload_success").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_is_refused_with_its_reason_and_the_last_good_one_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = ConfigControl::start(Some(("4.1-x", listeners(0, &[]), both(&backends)))).await;
    control.say(|word| word.weights = Some(("4.1-x".to_owned(), vec![("v1", 70), ("v2", 30)])));
    let gateway = live(launch("gateway", &environment(&control.url()), &[]), folder.path()).await;
    gateway.until_weights(&[70, 30]).await;

    let mut typing_error = both(&backends);
    typing_error[0]["conect_timeout"] = json!("1s");
    control.configure("4.2-x", listeners(0, &[]), typing_error);
    let reason = control.until_refused("did you mean `connect_timeout`").await;
    let dump = client::get(gateway.admin, "/config_dump").await.unwrap().json().unwrap();
    let shown = dump["configs"][0]["error_state"]["details"].as_str().unwrap();
    assert_eq!(shown, reason, "admin shows the same");

    control.configure("4.3-x", listeners(19_080, &[]), both(&backends));
    let reason = control.until_refused("start a new gateway task").await;
    assert!(reason.contains("addresses"), "{reason}");

    control.configure("3.9-x", listeners(0, &[]), both(&backends));
    let reason = control.until_refused("3.9-x").await;
    assert!(reason.contains("4.1-x"), "both are named: {reason}");

    // v2 has 30 %: it cannot be taken away yet.
    let mut less = listeners(0, &[]);
    less[0]["http_connection_manager"]["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["weighted_clusters"]
        ["clusters"] = json!([{"name": "v1", "weight": 1}]);
    control.configure("4.4-x", less, both(&backends));
    control.until_refused("take the target to 0 first").await;
    assert_eq!(served_by(gateway.data, "/").await.len(), 2, "served all the time");
    assert_eq!(configuration(&server_info(gateway.admin).await.1)["version_info"], "4.1-x");

    // What it did not fit is gone: nobody has to send it again.
    control.say(|word| word.weights = Some(("4.5-x".to_owned(), vec![("v1", 100), ("v2", 0)])));
    control.until_asked("the refused version in force", |request| request.version_info == "4.4-x").await;
    let dump = client::get(gateway.admin, "/config_dump").await.unwrap().json().unwrap();
    assert!(dump["configs"][0]["error_state"].is_null(), "nothing is refused any more");
    assert_eq!(served_by(gateway.data, "/").await, "v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_that_come_before_their_target_are_in_force_when_the_target_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let (backends, third) = ([upstream("v1"), upstream("v2")], upstream("v3"));
    let control = ConfigControl::start(Some(("4.1-x", listeners(0, &[]), both(&backends)))).await;
    let gateway = live(launch("gateway", &environment(&control.url()), &[]), folder.path()).await;
    gateway.until_weights(&[100, 0]).await;

    control.say(|word| word.weights = Some(("4.2-x".to_owned(), vec![("v1", 60), ("v3", 40)])));
    gateway.process.line("no target `v3`").await.unwrap();
    assert_eq!(gateway.weights().await.0, [100, 0], "nothing of it is taken");

    // A route that is new comes with it: its weights were not asked for before.
    let other = json!({"name": "svc2", "match": {"path": "/other"}, "route": {"weighted_clusters": {
        "clusters": [{"name": "v1", "weight": 1}, {"name": "v2", "weight": 1}], "stable": "v1"}}});
    let mut more = listeners(0, &[other]);
    more[0]["http_connection_manager"]["route_config"]["virtual_hosts"][0]["routes"][1]["route"]["weighted_clusters"]
        ["clusters"] =
        json!([{"name": "v1", "weight": 1}, {"name": "v2", "weight": 1}, {"name": "v3", "weight": 1}]);
    let all = clusters(&[("v1", backends[0].addr()), ("v2", backends[1].addr()), ("v3", third.addr())]);
    control.configure("4.2-x", more, all);
    gateway.until_weights(&[60, 0, 40]).await;
    assert_eq!(gateway.weights().await.1, "control");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_and_clusters_of_two_versions_are_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = ConfigControl::start(Some(("1.2-x", listeners(0, &[]), both(&backends)))).await;
    control.say(|word| word.clusters_version = Some("1.1-x".to_owned()));
    let process = launch("gateway", &environment(&control.url()), &[]);
    let admin = admin_of(&process).await;
    until("the gateway says why it waits", || async {
        let why = configuration(&server_info(admin).await.1)["waiting"]["control"].clone();
        why.as_str().is_some_and(|why| why.contains("not of version 1.2-x")).then_some(())
    })
    .await;
    control.say(|word| word.clusters_version = None);
    let gateway = live(process, folder.path()).await;
    assert_eq!(served_by(gateway.data, "/").await, "v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_told_and_taken_when_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let control = ConfigControl::start(Some(("1.1-x", listeners(port, &[]), both(&backends)))).await;
    let process = launch("gateway", &environment(&control.url()), &[]);
    control.until_refused("another process listens there").await;
    drop(taken);
    // Control says the same: the gateway tries again by itself, and is LIVE although no more news comes.
    control.say(|word| word.insists = true);
    let gateway = live(process, folder.path()).await;
    assert_eq!(gateway.data.port(), port);
    assert_eq!(served_by(gateway.data, "/").await, "v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_control_dead_the_saved_copy_serves_with_its_listeners_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = ConfigControl::start(Some(("2.1-x", listeners(0, &[]), both(&backends)))).await;
    control.say(|word| word.weights = Some(("2.5-x".to_owned(), vec![("v1", 0), ("v2", 100)])));
    let variables = environment(&control.url());
    let state = folder.path().join("state").display().to_string();
    let args = ["--state-dir", state.as_str()];
    let gateway = live(launch("gateway", &variables, &args), folder.path()).await;
    gateway.until_weights(&[0, 100]).await;
    let copy = folder.path().join("state/weights.json");
    until("the copy is saved", || async {
        let text = std::fs::read_to_string(&copy).ok()?;
        (text.contains("2.5-x") && text.contains("2.1-x")).then_some(())
    })
    .await;
    drop(control);
    gateway.process.kill().await.unwrap();

    let gateway = live(launch("gateway", &variables, &args), folder.path()).await;
    assert_eq!(gateway.weights().await, (vec![0, 100], "saved".to_owned(), "2.5-x".to_owned()));
    assert_eq!(served_by(gateway.data, "/").await, "v2");
    let from = configuration(&server_info(gateway.admin).await.1);
    assert_eq!((&from["source"], &from["version_info"]), (&json!("saved"), &json!("2.1-x")), "{from}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_word_of_control_stays_refused_and_shown_while_the_saved_copy_serves() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let copy = json!({"format": 1, "version_info": "", "saved_at": 0, "routes": {}, "configuration": {
        "version_info": "5.1-x", "saved_at": 1_700_000_000, "listeners": listeners(0, &[]), "clusters": both(&backends)}});
    std::fs::write(folder.path().join("weights.json"), copy.to_string()).unwrap();
    let mut typing_error = both(&backends);
    typing_error[0]["conect_timeout"] = json!("1s");
    let control = ConfigControl::start(Some(("5.2-x", listeners(0, &[]), typing_error))).await;
    let args = ["--state-dir", folder.path().to_str().unwrap()];
    let gateway = live(launch("gateway", &environment(&control.url()), &args), folder.path()).await;
    assert_eq!(configuration(&server_info(gateway.admin).await.1)["version_info"], "5.1-x");
    let told = |request: &DiscoveryRequest| request.version_info == "5.1-x" && request.error_detail.is_some();
    control.until_asked("the refusal is told with what is served", told).await;
    let dump = client::get(gateway.admin, "/config_dump").await.unwrap().json().unwrap();
    let shown = dump["configs"][0]["error_state"]["details"].as_str().unwrap_or_default().to_owned();
    assert!(shown.contains("did you mean `connect_timeout`"), "{shown}");

    control.configure("5.3-x", listeners(0, &[]), both(&backends));
    control.until_asked("the next one in force", |request| request.version_info == "5.3-x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_refused_is_named_by_its_place_and_a_rotated_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let backends = [upstream("v1"), upstream("v2")];
    let control = ConfigControl::start(Some(("1.1-x", listeners(0, &[]), both(&backends)))).await;
    let file = folder.path().join("token");
    write_whole(&file, TOKEN);
    let mut variables = environment(&control.url());
    variables.remove("GATEWAY_TOKEN");
    let text = format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\n\
         control: {{url: 'http://127.0.0.1:1', token_file: {}}}\n",
        file.display()
    );
    variables.insert("GATEWAY_CONFIG".to_owned(), text);
    let gateway = live(launch("gateway", &variables, &[]), folder.path()).await;
    let new = "a-token-that-came-later";
    control.say(|word| {
        word.token = new.to_owned();
        word.weights = Some(("1.2-x".to_owned(), vec![("v1", 60), ("v2", 40)]));
    });
    let line = gateway.process.line("answers 401").await.unwrap();
    assert!(line.contains(&file.display().to_string()), "{line}");
    assert_eq!(served_by(gateway.data, "/").await, "v1", "it serves on");
    write_whole(&file, new);
    gateway.until_weights(&[60, 40]).await;
    gateway.process.line("control is heard again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_of_a_variable_is_told_while_the_gateway_waits() {
    let control = ConfigControl::start(Some(("1.1-x", listeners(0, &[]), json!([])))).await;
    let mut variables = environment(&control.url());
    variables.insert("GATEWAY_TOKEN".to_owned(), "yesterdays".to_owned());
    let process = launch("gateway", &variables, &[]);
    let admin = admin_of(&process).await;
    let why = until("the refusal", || async {
        let (status, info) = server_info(admin).await;
        assert_eq!(status, 503);
        let why = configuration(&info)["waiting"]["control"].clone();
        why.as_str().filter(|why| why.contains("401")).map(str::to_owned)
    })
    .await;
    assert!(why.contains("GATEWAY_TOKEN") && !why.contains("yesterdays"), "{why}");
}
