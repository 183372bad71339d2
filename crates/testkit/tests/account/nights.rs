//! Control dies, forgets, moves; DynamoDB is away; a token is changed; a gateway vanishes.

use crate::world::{NAMESPACE, World, secret, until};
use serde_json::json;
use testkit::account::kit_task;
use testkit::account::network::inside;
use testkit::alb::TargetHealth;

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn control_dies_and_another_one_that_knows_nothing_takes_over_without_a_lost_request() {
    inside(
        "nights::control_dies_and_another_one_that_knows_nothing_takes_over_without_a_lost_request",
        async || {
            let mut world = World::deploy().await;
            let customers = world.customers().await;
            world.set_weight(&["v1=70", "v2=30"]).await;
            assert!(world.answers(60).await.contains(&"v2".to_owned()));

            // The machine under control is gone, and with it everything that control had: the next one looks at an empty item.
            let dead = world.control.take().unwrap();
            world.account.deregister(NAMESPACE, "control", &dead);
            dead.vanish().await.unwrap();
            let mut empty = kit_task("control").unwrap();
            let config = empty.environment["CONTROL_CONFIG"].replace("key: weir", "key: elsewhere");
            empty = empty.with("CONTROL_CONFIG", &config);
            world.start_control(&empty, "10.77.3.2").await;

            let seen = until("both gateways at the new control", async || {
                let seen = world.control_command(&["get", "svc1", "--json"]).await;
                let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).ok()?;
                let weights = &seen["routes"][0]["weights"];
                (*weights == json!({"v1": 7000, "v2": 3000})).then_some(seen)
            })
            .await;
            println!("{seen:#}");
            let history = world.control_json(&["history", "svc1"]).await.to_string();
            assert!(history.contains("recovered from gateway"), "{history}");
            world.set_weight(&["v2=40"]).await;
            for gateway in &world.gateways {
                assert_eq!(gateway.process.ended(), None, "no gateway was restarted");
            }
            customers.leave().await;
        },
    )
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn without_dynamodb_a_rollback_works_and_a_raise_is_refused_until_it_is_back() {
    inside("nights::without_dynamodb_a_rollback_works_and_a_raise_is_refused_until_it_is_back", async || {
        let mut world = World::deploy().await;
        let customers = world.customers().await;
        world.set_weight(&["v2=30"]).await;
        world.account.dynamodb.process.signal("STOP").unwrap();
        let lowered = world.control_command(&["rollback", "svc1"]).await;
        assert!(lowered.status.success(), "{lowered:?}\n{}", world.tails());
        assert_eq!(world.answers(40).await, vec!["v1"; 40]);
        let raised = world.control_command(&["set-weight", "svc1", "v2=50"]).await;
        assert_eq!(raised.status.code(), Some(1), "{raised:?}");
        world.account.dynamodb.process.signal("CONT").unwrap();
        world.set_weight_when_heard(&["v2=50"]).await;
        customers.leave().await;
    })
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn a_gateway_that_starts_while_control_is_dead_serves_the_weights_of_the_state_item() {
    inside(
        "nights::a_gateway_that_starts_while_control_is_dead_serves_the_weights_of_the_state_item",
        async || {
            let mut world = World::deploy().await;
            world.set_weight(&["v1=0", "v2=100"]).await;
            world.stop_control().await;
            let customers = world.customers().await;
            let third = world.start_gateway(&kit_task("gateway").unwrap(), "10.77.1.3").await;
            let address = world.gateways[third].at(9080);
            // While v2's endpoint has not accepted a first connection, the other version helps out.
            until("the first answer of v2", async || {
                let answer = testkit::client::get(address, "/").await.unwrap();
                assert_eq!(answer.status, 200);
                (answer.header("x-v") == Some("v2")).then_some(())
            })
            .await;
            for _ in 0..20 {
                let answer = testkit::client::get(address, "/").await.unwrap();
                assert_eq!((answer.status, answer.header("x-v")), (200, Some("v2")), "{}", world.tails());
            }
            world.start_control(&kit_task("control").unwrap(), "10.77.3.2").await;
            world.set_weight_when_heard(&["v2=50"]).await;
            customers.leave().await;
        },
    )
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn the_override_sends_everything_to_stable_while_control_is_dead_and_ends_when_released() {
    inside(
        "nights::the_override_sends_everything_to_stable_while_control_is_dead_and_ends_when_released",
        async || {
            let mut world = World::deploy().await;
            let customers = world.customers().await;
            world.set_weight(&["v1=0", "v2=100"]).await;
            world.stop_control().await;
            for gateway in &world.gateways {
                let done = gateway.exec(&["gateway", "override", "svc1", "stable", "--for", "60m"]).unwrap();
                assert!(done.status.success(), "{done:?}");
            }
            assert_eq!(world.answers(40).await, vec!["v1"; 40]);
            world.start_control(&kit_task("control").unwrap(), "10.77.3.2").await;
            let shown = until("control that shows the override", async || {
                let shown = world.control_command(&["get", "svc1"]).await;
                let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
                shown.contains("override").then_some(shown)
            })
            .await;
            println!("{shown}");
            for gateway in &world.gateways {
                let done = gateway.exec(&["gateway", "override", "svc1", "--release"]).unwrap();
                assert!(done.status.success(), "{done:?}");
            }
            assert_eq!(world.answers(40).await, vec!["v2"; 40], "what control says counts again");
            customers.leave().await;
        },
    )
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn the_token_of_the_gateways_is_changed_step_by_step_without_a_lost_request() {
    inside("nights::the_token_of_the_gateways_is_changed_step_by_step_without_a_lost_request", async || {
        let mut world = World::deploy().await;
        let customers = world.customers().await;
        let (old, new) = ("the-first-gateway-token-0001", "the-second-gateway-token-0002");
        world.set_weight(&["v2=20"]).await;
        // Each step is the one that the kit's README has: control takes all lines, a gateway shows the first.
        world.account.secrets.insert(secret("gateway"), format!("{old}\n{new}"));
        world.stop_control().await;
        world.start_control(&kit_task("control").unwrap(), "10.77.3.2").await;
        world.set_weight_when_heard(&["v2=21"]).await;
        world.account.secrets.insert(secret("gateway"), format!("{new}\n{old}"));
        for address in ["10.77.1.3", "10.77.1.4"] {
            world.start_gateway(&kit_task("gateway").unwrap(), address).await;
            world.stop_gateway(0).await;
        }
        world.account.secrets.insert(secret("gateway"), new.to_owned());
        world.stop_control().await;
        world.start_control(&kit_task("control").unwrap(), "10.77.3.3").await;
        world.set_weight_when_heard(&["v2=22"]).await;
        customers.leave().await;
    })
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn a_gateway_that_vanishes_is_named_and_holds_nobody_up() {
    inside("nights::a_gateway_that_vanishes_is_named_and_holds_nobody_up", async || {
        let mut world = World::deploy().await;
        let gone = world.gateways.remove(0);
        let id = gone.id.clone();
        world.account.deregister(NAMESPACE, "gateway", &gone);
        gone.vanish().await.unwrap();
        until("the load balancer takes it out", async || {
            let health = world.alb.health(gone.at(9080));
            (health == Some(TargetHealth::Unhealthy)).then_some(())
        })
        .await;
        // What was under way there is lost with it; who comes now meets the other one.
        let customers = world.customers().await;
        let changed = world.control_command(&["set-weight", "svc1", "v2=30", "--timeout", "3s"]).await;
        assert_eq!(changed.status.code(), Some(3), "not everybody has it: {changed:?}");
        let said = String::from_utf8_lossy(&changed.stderr).into_owned();
        assert!(said.contains(&id), "the missing one is named: {said}");
        assert!(world.answers(60).await.contains(&"v2".to_owned()), "the other one has it");
        world.start_gateway(&kit_task("gateway").unwrap(), "10.77.1.3").await;
        let forgotten = world.control_command(&["gateways", "forget", &id]).await;
        assert!(forgotten.status.success(), "{forgotten:?}");
        world.set_weight(&["v2=31"]).await;
        customers.leave().await;
    })
    .unwrap();
}
