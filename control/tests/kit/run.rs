//! What the kit's task definitions say, given to the programs: environment, secrets, health checks as they stand there.

use super::external::Account;
use super::{example, json, kit};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use testkit::client::{get, once, poll};
use testkit::process::{Process, bin};
use testkit::upstream::Upstream;

/// A container of the kit, on this machine.
struct Container {
    definition: Value,
    environment: Vec<(String, String)>,
}

impl Container {
    fn new(definition: Value, account: &Account) -> Self {
        let container = definition["containerDefinitions"][0].clone();
        let mut environment = account.moto.envs();
        // Fargate says it to every container.
        environment.push(("AWS_REGION".into(), "ap-south-1".into()));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for variable in container["environment"].as_array().unwrap() {
            environment.push((text(&variable["name"]), text(&variable["value"])));
        }
        for secret in container["secrets"].as_array().unwrap() {
            // As ECS does: the secret behind the ARN becomes the variable.
            let token = format!("{:0<48}", text(&secret["valueFrom"]).rsplit('/').next().unwrap());
            environment.push((text(&secret["name"]), token));
        }
        Self { definition: container, environment }
    }

    fn variable(&mut self, name: &str) -> &mut String {
        &mut self.environment.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    fn start(&self, program: &str, args: &[&str]) -> Process {
        Process::ours(program, args, &self.environment).unwrap()
    }

    /// The container's own health check, with the port that it has here.
    fn is_healthy(&self, from: &str, address: SocketAddr) -> bool {
        let check = self.definition["healthCheck"]["command"].as_array().unwrap();
        assert_eq!(check[0], "CMD-SHELL");
        let here = check[1].as_str().unwrap().replace(from, &format!("localhost:{}", address.port()));
        Command::new("sh").args(["-c", &here]).status().unwrap().success()
    }
}

/// The address at the end of a line of the log.
async fn address(process: &Process, words: &str) -> SocketAddr {
    let line = process.line(words).await.unwrap();
    let at = line.find("address=").unwrap() + "address=".len();
    let port = line[at..].split_whitespace().next().unwrap().rsplit(':').next().unwrap();
    format!("127.0.0.1:{port}").parse().unwrap()
}

fn register(account: &Account, service: &str, address: &str) {
    let by_name = |kind: &str, name: &str, list: &str| {
        let query = format!("{list}[?Name=='{name}'].Id | [0]");
        account.aws(&["servicediscovery", kind, "--query", &query])
    };
    let namespace = by_name("list-namespaces", "dev.my-app.local", "Namespaces");
    let made = [
        "servicediscovery",
        "create-service",
        "--name",
        service,
        "--namespace-id",
        &namespace,
        "--query",
        "Service.Id",
    ];
    let id = account.aws(&made);
    let attributes = format!("AWS_INSTANCE_IPV4={address}");
    account.aws(&[
        "servicediscovery",
        "register-instance",
        "--service-id",
        &id,
        "--instance-id",
        service,
        "--attributes",
        &attributes,
    ]);
}

#[tokio::test]
#[ignore = "needs moto"]
async fn control_and_gateway_of_the_kit_run_with_nothing_but_their_task_definitions() {
    let account = Account::start().await;
    account.aws(&[
        "servicediscovery",
        "create-private-dns-namespace",
        "--name",
        "dev.my-app.local",
        "--vpc",
        "vpc-1",
    ]);
    let v1 = Upstream::start("v1").unwrap();
    let port = v1.port();
    let _v2 = Upstream::start_on("v2", format!("127.0.0.2:{port}").parse().unwrap()).unwrap();
    register(&account, "svc1-v1", "127.0.0.1");
    register(&account, "svc1-v2", "127.0.0.2");
    account.aws(&[
        "dynamodb",
        "create-table",
        "--table-name",
        "my-app-weir-state",
        "--billing-mode",
        "PAY_PER_REQUEST",
        "--attribute-definitions",
        "AttributeName=key,AttributeType=S",
        "--key-schema",
        "AttributeName=key,KeyType=HASH",
    ]);
    let kit = kit(example());

    let mut control = Container::new(json(&kit, "task-definitions/control.json"), &account);
    let config = control.variable("CONTROL_CONFIG");
    for (there, here) in [
        ("0.0.0.0:18000", "127.0.0.1:0".to_owned()),
        ("{address: 0.0.0.0, port_value: 9080}", "{address: 127.0.0.1, port_value: 0}".to_owned()),
        ("port_value: 3000}", format!("port_value: {port}, allow_loopback: true}}")),
    ] {
        assert!(config.contains(there), "{there}");
        *config = config.replace(there, &here);
    }
    let running = control.start("control", &["serve"]);
    let control_address = address(&running, "listening").await;
    assert!(control.is_healthy("localhost:18000", control_address));

    let mut gateway = Container::new(json(&kit, "task-definitions/gateway.json"), &account);
    *gateway.variable("GATEWAY_CONTROL") = format!("http://{control_address}");
    gateway.environment.push(("ENVOY_ADMIN_ACCESS_PORT".into(), "0".into()));
    let carrying = gateway.start("gateway", &[]);
    let admin = address(&carrying, "admin listening").await;
    poll(admin, "/server_info", |answer| answer.status == 200).await.unwrap();
    assert!(gateway.is_healthy("localhost:9901", admin), "{}", carrying.tail());

    let traffic = address(&carrying, "name=\"ingress\"").await;
    assert!(get(traffic, "/").await.unwrap().text().contains("v1"));
    let tester = once(traffic, "GET", "/", &[("x-canary", "v2")], b"").await.unwrap();
    assert!(tester.text().contains("v2"), "{} {}", tester.status, tester.text());

    // As `control set-weight` in a one-off task: same task definition, another command.
    *control.variable("CONTROL_URL") = format!("http://{control_address}");
    let one_off = |args: &[&str]| {
        Command::new(bin("control").unwrap()).args(args).envs(control.environment.clone()).output().unwrap()
    };
    let changed = one_off(&["set-weight", "svc1", "v2=100", "--json"]);
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    assert!(get(traffic, "/").await.unwrap().text().contains("v2"));
    let item = [
        "dynamodb",
        "get-item",
        "--table-name",
        "my-app-weir-state",
        "--key",
        r#"{"key": {"S": "weir"}}"#,
        "--query",
        "Item.document.S",
    ];
    assert!(account.aws(&item).contains("svc1"));
}
