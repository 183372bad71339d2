//! `gateway --mode doctor`: each thing that can be closed, and the sentence that opens it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use testkit::client;
use testkit::dns::Dns;
use testkit::free_port;
use testkit::net::{ANY_PORT, Reservation};
use testkit::process::{Process, bin};
use testkit::standin::{Fault, Kind, Service, Standin};

use super::world::{Ran, gateway_command, register, run, upstream, write_whole};

const TOKEN: &str = "a-gateway-token-of-the-test";

type Envs = Vec<(String, String)>;

fn envs(pairs: &[(&str, &str)]) -> Envs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn doctor(variables: &Envs) -> Ran {
    let mut command = gateway_command(variables);
    command.args(["--mode", "doctor"]);
    let ran = run(command).await;
    assert!(!ran.stdout.contains(TOKEN) && !ran.stderr.contains(TOKEN), "the token is shown: {ran:?}");
    ran
}

/// The line of a check with what stands below it.
fn finding(ran: &Ran, begin: &str) -> String {
    let at = ran.stdout.find(begin).unwrap_or_else(|| panic!("no `{begin}` in\n{}", ran.stdout));
    let mut lines = ran.stdout[at..].lines();
    let first = lines.next().unwrap().to_owned();
    lines.take_while(|line| line.starts_with("      ")).fold(first, |all, line| all + "\n" + line)
}

fn clusters(clusters: &[(&str, String)]) -> String {
    let one = |(name, discovery): &(&str, String)| format!("{{name: {name}, discovery: {discovery}}}");
    clusters.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn fixed(address: SocketAddr) -> String {
    format!(
        "{{static: {{endpoints: [{{socket_address: {{address: {}, port_value: {}}}}}]}}}}",
        address.ip(),
        address.port()
    )
}

fn listeners(port: u16, targets: &str) -> String {
    format!(
        "[{{name: ingress, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, \
         http_connection_manager: {{route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{name: svc1, \
         match: {{prefix: /}}, route: {{weighted_clusters: {{clusters: [{targets}], stable: v1}}}}}}]}}]}}}}}}]"
    )
}

/// A configuration of the gateway's own, with one target `v1`.
fn own(port: u16, discovery: &str) -> String {
    format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}\n\
         static_resources: {{listeners: {}, clusters: [{{name: v1, discovery: {discovery}}}]}}\n",
        free_port().unwrap(),
        listeners(port, "{name: v1, weight: 1}")
    )
}

async fn control(folder: &Path, gateway: &str) -> (Process, SocketAddr) {
    let text = format!(
        "listen: 127.0.0.1:0\nstate: {{file: {}}}\n\
         tokens: {{gateway: [{{name: g, env: TEST_GATEWAY_TOKEN}}], operator: [{{name: o, env: TEST_OPERATOR_TOKEN}}]}}\n\
         {gateway}routes: {{svc1: {{targets: [v1, v2], stable: v1, weights: {{v2: 1}}}}}}\n",
        folder.join("state.json").display()
    );
    let file = folder.join("control.yaml");
    write_whole(&file, &text);
    let mut command = Command::new(bin("control").unwrap());
    command.env("TEST_GATEWAY_TOKEN", TOKEN).env("TEST_OPERATOR_TOKEN", "an-operator-token-of-the-test");
    command.args(["serve", "--config"]).arg(&file);
    let process = Process::spawn("control", &mut command).unwrap();
    let line = process.line("control listens on http://").await.unwrap();
    let addr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    (process, addr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_gateway_that_serves_all_is_well_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start().unwrap();
    let (one, two) = (upstream("v1"), upstream("v2"));
    register(&standin, "v1", "v1-1", one.addr());
    let cloud_map =
        "{cloud_map: {namespace_name: demo.local, service_name: v1, allow_loopback: true}}".to_owned();
    let port = free_port().unwrap();
    let section = format!(
        "gateway: {{listeners: {}, clusters: [{}]}}\n",
        listeners(port, "{name: v1, weight: 1}, {name: v2, weight: 0}"),
        clusters(&[("v1", cloud_map), ("v2", fixed(two.addr()))])
    );
    let (_control, addr) = control(folder.path(), &section).await;
    let mut variables = envs(&[
        ("GATEWAY_CONTROL", &format!("http://{addr}")),
        ("GATEWAY_TOKEN", TOKEN),
        ("ENVOY_ADMIN_ACCESS_PORT", &free_port().unwrap().to_string()),
        ("ECS_CONTAINER_METADATA_URI_V4", &standin.ecs_metadata_uri()),
    ]);
    variables.extend(standin.envs());
    // As a one-off task: nothing of a gateway is there yet.
    let ran = doctor(&variables).await;
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    assert!(finding(&ran, "skip  port ").contains("no gateway runs in this task"), "{}", ran.stdout);

    let gateway = Process::spawn("gateway", &mut gateway_command(&variables)).unwrap();
    gateway.line("live").await.unwrap();
    let ran = doctor(&variables).await;
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    for (begin, part) in [
        ("ok    environment:", "GATEWAY_TOKEN=(27 characters)"),
        ("ok    control name:", "127.0.0.1"),
        ("ok    control port:", "accepts connections"),
        ("ok    control answer:", "the token is accepted"),
        ("ok    clock:", "within"),
        ("ok    configuration:", "listeners: 1, clusters: 2"),
        ("ok    credentials:", "AWS_ACCESS_KEY_ID"),
        ("ok    cluster v1, Cloud Map:", "127.0.0.1:"),
        ("ok    cluster v1, backends:", "1 of 1 accept"),
        ("ok    cluster v2, backends:", "1 of 1 accept"),
        ("skip  state item:", "GATEWAY_STATE_TABLE"),
        ("ok    ECS metadata:", "task "),
        ("(admin): a gateway runs here", "LIVE"),
        ("(ingress): ", "the gateway accepts connections"),
    ] {
        assert!(finding(&ran, begin).contains(part), "{begin} {part}:\n{}", ran.stdout);
    }
    assert!(ran.stdout.trim_end().ends_with("0 failed, 2 skipped"), "{}", ran.stdout);
    let answer = client::get(([127, 0, 0, 1], port).into(), "/").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(!gateway.stderr().contains("WARN"), "{}", gateway.tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_an_empty_secret_and_a_control_without_listeners_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (_control, addr) = control(folder.path(), "").await;
    let url = format!("http://{addr}");
    let ran = doctor(&envs(&[("GATEWAY_CONTROL", &url), ("GATEWAY_TOKEN", "another")])).await;
    let failed = finding(&ran, "FAIL  control token: 401");
    assert!(
        ran.code == 1 && failed.contains("the token is refused") && failed.contains("secret"),
        "{failed}"
    );

    let ran = doctor(&envs(&[("GATEWAY_CONTROL", &url), ("GATEWAY_TOKEN", "")])).await;
    assert!(finding(&ran, "FAIL  environment: GATEWAY_TOKEN is set and empty").contains("put-secret-value"));
    assert!(finding(&ran, "FAIL  control token: 401").contains("no token was sent"));

    let ran = doctor(&envs(&[("GATEWAY_CONTROL", &url), ("GATEWAY_TOKEN", TOKEN)])).await;
    assert!(finding(&ran, "ok    control answer").contains("accepted"), "{}", ran.stdout);
    let failed = finding(&ran, "FAIL  configuration: control has no listeners");
    assert!(ran.code == 1 && failed.contains("section `gateway`"), "{}", ran.stdout);

    // With listeners of its own the gateway needs only weights of it.
    let backend = upstream("v1");
    let config = own(free_port().unwrap(), &fixed(backend.addr()));
    let ran =
        doctor(&envs(&[("GATEWAY_CONTROL", &url), ("GATEWAY_TOKEN", TOKEN), ("GATEWAY_CONFIG", &config)]))
            .await;
    assert!(ran.code == 0 && finding(&ran, "ok    control answer").contains("accepted"), "{}", ran.stdout);

    let ran = doctor(&Envs::new()).await;
    assert!(
        ran.code == 1 && finding(&ran, "FAIL  configuration").contains("GATEWAY_CONTROL"),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_port_is_told_from_a_silent_one_and_from_a_name_that_is_not() {
    let closed = Reservation::new(ANY_PORT).unwrap();
    let hole = Reservation::new(ANY_PORT).unwrap();
    let _silent = hole.black_hole().unwrap();
    let with = |control: String, backend: SocketAddr| {
        envs(&[
            ("GATEWAY_CONTROL", &control),
            ("GATEWAY_CONFIG", &own(free_port().unwrap(), &fixed(backend))),
        ])
    };
    let ran = doctor(&with(format!("http://{}", closed.addr()), hole.addr())).await;
    let failed = finding(&ran, "FAIL  control port:");
    assert!(failed.contains("nothing listens") && failed.contains("control running"), "{failed}");
    let failed = finding(&ran, "FAIL  cluster v1, backends:");
    let rule = format!("--group-id <group of v1> --protocol tcp --port {}", hole.addr().port());
    assert!(ran.code == 1 && failed.contains(&rule), "{failed}");

    let ran = doctor(&with(format!("http://{}", hole.addr()), closed.addr())).await;
    let failed = finding(&ran, "FAIL  control port:");
    let rule =
        format!("control must allow TCP {} from the security group of the gateway", hole.addr().port());
    assert!(failed.contains(&rule), "{failed}");
    assert!(finding(&ran, "FAIL  cluster v1, backends:").contains("containerPort"), "{}", ran.stdout);

    let ran = doctor(&with("http://control.invalid:18000".to_owned(), closed.addr())).await;
    assert!(finding(&ran, "FAIL  control name: control.invalid").contains("desired count"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_closed_in_aws_is_named_with_the_statement_or_the_endpoint_that_opens_it() {
    let standin = Standin::start().unwrap();
    let dns = Dns::start().unwrap();
    let backend = upstream("v1");
    let cloud_map = |more: &str| {
        format!("{{cloud_map: {{namespace_name: demo.local, service_name: v1, allow_loopback: true{more}}}}}")
    };
    let with = |discovery: &str| {
        let mut all = envs(&[("GATEWAY_CONFIG", &own(free_port().unwrap(), discovery))]);
        all.extend(standin.envs());
        all
    };
    let alone = with(&cloud_map(""));
    standin.faults().set(Fault::of(Service::CloudMap, Kind::Status { status: 403 }));
    let ran = doctor(&alone).await;
    let failed = finding(&ran, "FAIL  cluster v1, Cloud Map:");
    let statement = "\"Action\": [\"servicediscovery:DiscoverInstances\", \"servicediscovery:DiscoverInstancesRevision\"]";
    assert!(ran.code == 1 && failed.contains(statement) && failed.contains("port_value"), "{failed}");

    let fallback =
        format!(", port_value: {}, dns_fallback: {{resolvers: ['{}']}}", backend.port(), dns.addr());
    dns.addresses("v1.demo.local", &[backend.addr().ip()], 1);
    let ran = doctor(&with(&cloud_map(&fallback))).await;
    assert!(
        finding(&ran, "FAIL  cluster v1, Cloud Map:").contains("asks DNS for v1.demo.local"),
        "{}",
        ran.stdout
    );
    assert!(finding(&ran, "ok    cluster v1, DNS:").contains("127.0.0.1"), "{}", ran.stdout);
    assert!(finding(&ran, "ok    cluster v1, backends:").contains("1 of 1"), "{}", ran.stdout);

    standin.faults().set(Fault::of(Service::CloudMap, Kind::Timeout));
    let ran = doctor(&alone).await;
    assert!(
        finding(&ran, "FAIL  cluster v1, Cloud Map:").contains("data-servicediscovery"),
        "{}",
        ran.stdout
    );
    standin.faults().set(Fault::of(Service::CloudMap, Kind::NotFound));
    let ran = doctor(&alone).await;
    assert!(finding(&ran, "FAIL  cluster v1, Cloud Map:").contains("list-namespaces"), "{}", ran.stdout);
    standin.faults().clear_all();
    standin.create_service("demo.local", "v1");
    let ran = doctor(&alone).await;
    assert!(finding(&ran, "FAIL  cluster v1, Cloud Map:").contains("serviceRegistries"), "{}", ran.stdout);

    // No role, and no way to DynamoDB.
    let closed = Reservation::new(ANY_PORT).unwrap();
    let mut variables = alone.clone();
    variables.retain(|(name, _)| !name.starts_with("AWS_ACCESS") && !name.starts_with("AWS_SECRET"));
    variables.extend(envs(&[("AWS_EC2_METADATA_DISABLED", "true")]));
    let ran = doctor(&variables).await;
    assert!(finding(&ran, "FAIL  credentials:").contains("taskRoleArn"), "{}", ran.stdout);
    let mut variables = alone;
    variables.extend(envs(&[
        ("GATEWAY_CONTROL", &format!("http://{}", closed.addr())),
        ("GATEWAY_STATE_TABLE", "weir-state"),
        ("AWS_ENDPOINT_URL_DYNAMODB", &format!("http://{}", closed.addr())),
    ]));
    let ran = doctor(&variables).await;
    assert!(finding(&ran, "FAIL  state item:").contains("com.amazonaws.<region>.dynamodb"), "{}", ran.stdout);
}
