//! Sending the load balancer past Weir and back.
//!
//! Next: `release.rs`.

use crate::fake_aws::{Ended, Fake, flag};
use serde_json::{Value, json};

const GATEWAYS: &str = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/gateway/1";
const STABLE: &str = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/stable/2";

fn account() -> Fake {
    let mut fake = Fake::new(&["aws"]);
    fake.set("WEIR_LISTENER", "arn:listener").set("WEIR_GATEWAY_TARGET_GROUP", GATEWAYS);
    fake.set("WEIR_STABLE_TARGET_GROUP", STABLE);
    fake.answers("aws-elbv2-describe-listeners.1", "forward\n100\n0\narn:other\n");
    fake.answers("aws-elbv2-describe-listeners", "forward\n0\n100\n\n");
    fake.answers("aws-elbv2-describe-target-health", "healthy\nunhealthy\n");
    fake.answers("aws-elbv2-modify-listener", "arn:listener\n");
    fake.answers("aws-elbv2-modify-rule", "arn:rule\n");
    fake
}

fn weir(fake: &Fake, args: &[&str]) -> Ended {
    fake.run("config/ecs/weir", args)
}

fn weights(action: &str) -> Vec<(String, u64)> {
    let action: Value = serde_json::from_str(action).unwrap();
    assert_eq!(action.as_array().unwrap().len(), 1);
    assert_eq!(action[0]["Type"], json!("forward"));
    let groups = action[0]["ForwardConfig"]["TargetGroups"].as_array().unwrap();
    let one = |group: &Value| {
        (group["TargetGroupArn"].as_str().unwrap().to_owned(), group["Weight"].as_u64().unwrap())
    };
    groups.iter().map(one).collect()
}

#[test]
fn on_sends_everything_to_the_stable_group_and_keeps_both_checked() {
    let fake = account();
    weir(&fake, &["bypass", "on"]).code(0).says("1 healthy target(s)").says("ON: the load balancer");
    let call = fake.calls_of(&["aws", "elbv2", "modify-listener"]).remove(0);
    assert_eq!(flag(&call, "--listener-arn"), "arn:listener");
    let expected = [(GATEWAYS.to_owned(), 0), (STABLE.to_owned(), 100), ("arn:other".to_owned(), 0)];
    assert_eq!(weights(flag(&call, "--default-actions")), expected);
}

/// Who made customers stick to a group keeps that; and the group that is meant is named, as a swap exchanges the two.
#[test]
fn stickiness_stays_and_the_group_is_named() {
    let fake = account();
    let sticky = r#"{"Enabled":true,"DurationSeconds":300}"#;
    fake.answers("aws-elbv2-describe-listeners.1", &format!("forward\n100\n0\narn:other\n{sticky}\n"));
    weir(&fake, &["bypass", "on"]).code(0).says("stable group stable/2").says("stable service (stable/2)");
    let call = fake.calls_of(&["aws", "elbv2", "modify-listener"]).remove(0);
    let action: Value = serde_json::from_str(flag(&call, "--default-actions")).unwrap();
    let kept: Value = serde_json::from_str(sticky).unwrap();
    assert_eq!(action[0]["ForwardConfig"]["TargetGroupStickinessConfig"], kept);
}

#[test]
fn off_sends_everything_to_the_gateways() {
    let fake = account();
    fake.answers("aws-elbv2-describe-listeners.1", "forward\n0\n100\n\n");
    fake.answers("aws-elbv2-describe-listeners", "forward\n100\n0\narn:other\n");
    weir(&fake, &["bypass", "off"]).code(0).says("off: the load balancer");
    let call = fake.calls_of(&["aws", "elbv2", "modify-listener"]).remove(0);
    let expected = [(GATEWAYS.to_owned(), 100), (STABLE.to_owned(), 0)];
    assert_eq!(weights(flag(&call, "--default-actions")), expected);
}

#[test]
fn a_rule_is_changed_where_the_listener_has_rules() {
    let mut fake = account();
    fake.set("WEIR_LISTENER_RULE", "arn:rule");
    fake.answers("aws-elbv2-describe-rules.1", "forward\n100\n0\narn:other\n");
    fake.answers("aws-elbv2-describe-rules", "forward\n0\n100\n\n");
    weir(&fake, &["bypass", "on"]).code(0);
    let call = fake.calls_of(&["aws", "elbv2", "modify-rule"]).remove(0);
    assert_eq!(flag(&call, "--rule-arn"), "arn:rule");
    assert!(fake.calls_of(&["aws", "elbv2", "modify-listener"]).is_empty());
}

#[test]
fn customers_are_not_sent_to_a_group_without_healthy_targets() {
    for health in ["", "unhealthy\ndraining\n", "None\n"] {
        let fake = account();
        fake.answers("aws-elbv2-describe-target-health", health);
        weir(&fake, &["bypass", "on"]).code(1).says("customers would get 503").says("--force");
        assert!(fake.calls_of(&["aws", "elbv2", "modify-listener"]).is_empty());
        let fake = account();
        fake.answers("aws-elbv2-describe-target-health", health);
        weir(&fake, &["bypass", "on", "--force"]).code(0);
    }
    let fake = account();
    fake.answers("aws-elbv2-describe-target-health", "unused\n");
    weir(&fake, &["bypass", "on"]).code(0).says("never checked");
}

#[test]
fn an_action_that_does_more_is_not_overwritten() {
    let fake = account();
    fake.answers("aws-elbv2-describe-listeners.1", "authenticate-oidc,forward\n100\n0\narn:other\n");
    weir(&fake, &["bypass", "on"]).code(1).says("authenticate-oidc,forward");
    assert!(fake.calls_of(&["aws", "elbv2", "modify-listener"]).is_empty());
}

#[test]
fn a_change_that_is_not_seen_afterwards_is_a_failure() {
    let fake = account();
    fake.answers("aws-elbv2-describe-listeners", "forward\n100\n0\narn:other\n");
    weir(&fake, &["bypass", "on"]).code(1).says("does not show the change");
    let fake = account();
    fake.fails("aws-elbv2-modify-listener", "An error occurred (AccessDenied): no\n");
    weir(&fake, &["bypass", "on"]).code(69).says("nothing is changed");
}

#[test]
fn without_a_word_it_only_looks() {
    let fake = account();
    weir(&fake, &["bypass"]).code(0).says("everything to the gateways");
    assert_eq!(fake.calls().len(), 1);
    let mut fake = account();
    fake.set("WEIR_LISTENER", "");
    weir(&fake, &["bypass", "on"]).code(2).says("WEIR_LISTENER");
}
