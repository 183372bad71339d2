//! Wrong tokens, missing variables, secrets that cannot be read, items from the future: each is named, none does harm.

use crate::world::{NAMESPACE, TABLE, World, secret, until};
use std::process::Command;
use testkit::account::kit_task;
use testkit::account::network::inside;
use testkit::client;
use testkit::process::test_env;

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn a_gateway_with_a_wrong_token_never_becomes_healthy_and_says_which_variable() {
    inside(
        "bad_input::a_gateway_with_a_wrong_token_never_becomes_healthy_and_says_which_variable",
        async || {
            let mut world = World::prepare().await;
            world.start_control(&kit_task("control").unwrap(), "10.77.3.1").await;
            world.account.secrets.insert(secret("gateway"), "a-wrong-gateway-token-01".to_owned());
            let gateway = world.account.run(&kit_task("gateway").unwrap(), "10.77.1.1").unwrap();
            let line = gateway.process.line("GATEWAY_TOKEN").await.unwrap();
            println!("{line}");
            let page = client::get(gateway.at(9901), "/server_info").await.unwrap();
            assert_eq!(page.status, 503, "the load balancer gives it nothing");
            assert!(page.text().contains("\"state\""), "{}", page.text());
            assert!(!gateway.is_healthy().unwrap());
            let doctor = gateway.exec(&["gateway", "--mode", "doctor"]).unwrap();
            let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
            println!("{said}");
            assert_eq!(doctor.status.code(), Some(1));
            assert!(said.contains("FAIL") && said.contains("token"), "{said}");
            assert!(!said.contains("a-wrong-gateway-token"), "a token is shown: {said}");
        },
    )
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn a_gateway_with_the_variable_of_app_mesh_alone_ends_and_says_what_to_add() {
    inside(
        "bad_input::a_gateway_with_the_variable_of_app_mesh_alone_ends_and_says_what_to_add",
        async || {
            let mut world = World::prepare().await;
            let seeds = "mesh/the-wednesday-super-app/virtualGateway/the-wednesday-super-app-virtual-gateway";
            let definition = kit_task("gateway")
                .unwrap()
                .without("GATEWAY_CONTROL")
                .without("GATEWAY_TOKEN")
                .without("GATEWAY_STATE_TABLE")
                .without("GATEWAY_STATE_KEY")
                .with("APPMESH_VIRTUAL_NODE_NAME", seeds);
            let gateway = world.account.run(&definition, "10.77.1.1").unwrap();
            let started = std::time::Instant::now();
            let status = gateway.process.exit().await.unwrap();
            println!("it ended after {:?}", started.elapsed());
            assert!(!status.success());
            let said = gateway.process.stderr();
            assert!(said.contains("GATEWAY_CONTROL") && said.contains("GATEWAY_TOKEN"), "{said}");
        },
    )
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn a_task_whose_secret_cannot_be_read_is_not_started() {
    inside("bad_input::a_task_whose_secret_cannot_be_read_is_not_started", async || {
        let mut world = World::prepare().await;
        world.account.secrets.remove(&secret("gateway"));
        let error = world.account.run(&kit_task("gateway").unwrap(), "10.77.1.1").unwrap_err().to_string();
        assert!(error.contains("unable to pull secrets"), "{error}");
        // A definition that forgot the secret altogether is started, and the program names the variable.
        let forgot = kit_task("control").unwrap().without("WEIR_GATEWAY_TOKEN");
        let control = world.account.run(&forgot, "10.77.3.1").unwrap();
        assert!(!control.process.exit().await.unwrap().success());
        let said = control.process.stderr();
        assert!(said.contains("WEIR_GATEWAY_TOKEN") && said.contains("secrets"), "{said}");
    })
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn a_state_item_from_a_newer_version_is_refused_and_kept() {
    inside("bad_input::a_state_item_from_a_newer_version_is_refused_and_kept", async || {
        let mut world = World::prepare().await;
        let item = r#"{"key": {"S": "weir"}, "revision": {"N": "7"}, "document": {"S": "{\"format\": {\"major\": 99, \"minor\": 0}, \"future\": true}"}}"#;
        aws(&world, &["put-item", "--table-name", TABLE, "--item", item]);
        let control = world.account.run(&kit_task("control").unwrap(), "10.77.3.1").unwrap();
        assert!(!control.process.exit().await.unwrap().success(), "{}", control.process.tail());
        let said = control.process.stderr();
        assert!(said.contains("99"), "the format is named: {said}");
        let gateway = world.account.run(&kit_task("gateway").unwrap(), "10.77.1.1").unwrap();
        gateway.process.line("99").await.unwrap();
        assert_eq!(client::get(gateway.at(9901), "/server_info").await.unwrap().status, 503);
        let kept = aws(&world, &["get-item", "--table-name", TABLE, "--key", r#"{"key": {"S": "weir"}}"#]);
        assert!(kept.contains("future") && kept.contains("\"7\""), "{kept}");
    }).unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn a_gateway_that_started_with_nothing_serves_as_soon_as_control_is_there() {
    inside("bad_input::a_gateway_that_started_with_nothing_serves_as_soon_as_control_is_there", async || {
        let mut world = World::prepare().await;
        let gateway = world.account.run(&kit_task("gateway").unwrap(), "10.77.1.1").unwrap();
        until("its admin interface", async || client::get(gateway.at(9901), "/server_info").await.ok()).await;
        assert!(!gateway.is_healthy().unwrap());
        world.start_control(&kit_task("control").unwrap(), "10.77.3.1").await;
        gateway.healthy().await.unwrap();
        world.account.register(NAMESPACE, "gateway", &gateway);
        assert_eq!(client::get(gateway.at(9080), "/").await.unwrap().header("x-v"), Some("v1"));
        let doctor = gateway.exec(&["gateway", "--mode", "doctor"]).unwrap();
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        println!("{said}");
        assert!(doctor.status.success(), "{said}");
    })
    .unwrap();
}

/// `aws dynamodb …` against the account's DynamoDB.
fn aws(world: &World, words: &[&str]) -> String {
    let output = Command::new(test_env("bin/aws").unwrap())
        .args([
            "dynamodb",
            "--endpoint-url",
            &world.account.dynamodb.url(),
            "--output",
            "json",
            "--region",
            "eu-west-1",
        ])
        .args(words)
        .envs(world.account.dynamodb.envs())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
