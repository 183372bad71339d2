//! What must be true of the CloudFormation template and the IAM policies, whatever the names.

use super::{CHECK, file, json, kits, yaml};
use gateway_config::control_config::{StateConfig, parse_control};
use gateway_config::model::RouteTarget;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// `aws cloudformation deploy` takes a longer one only by way of a bucket.
const MAX_TEMPLATE_BYTES: usize = 51_200;

/// Actions for which AWS knows no resource.
const WITHOUT_RESOURCE: [&str; 5] = [
    "ecr:GetAuthorizationToken",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
];
/// The same, but a condition takes its place.
const WITH_CONDITION: [&str; 2] =
    ["servicediscovery:DiscoverInstances", "servicediscovery:DiscoverInstancesRevision"];

fn templates() -> Vec<Value> {
    kits().iter().map(|kit| yaml::read(file(kit, "weir.yaml"))).collect()
}

fn of_type<'a>(template: &'a Value, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let resources = template["Resources"].as_object().unwrap();
    let found: BTreeMap<_, _> = resources
        .iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
        .collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

fn variable<'a>(container: &'a Value, name: &str) -> &'a Value {
    let list = container["Environment"].as_array().unwrap();
    &list.iter().find(|variable| variable["Name"] == name).unwrap_or_else(|| panic!("no {name}"))["Value"]
}

fn container<'a>(template: &'a Value, task: &str) -> &'a Value {
    &template["Resources"][task]["Properties"]["ContainerDefinitions"][0]
}

fn attribute<'a>(list: &'a Value, key: &str) -> &'a Value {
    &list.as_array().unwrap().iter().find(|attribute| attribute["Key"] == key).unwrap()["Value"]
}

#[test]
fn the_template_is_short_enough_for_a_deployment_without_a_bucket() {
    for kit in kits() {
        assert!(file(&kit, "weir.yaml").len() <= MAX_TEMPLATE_BYTES);
    }
}

#[test]
fn every_name_that_the_template_uses_is_in_it() {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(entries) => {
                for (key, value) in entries {
                    match (key.as_str(), value) {
                        ("!Ref", Value::String(name)) => _ = found.insert(name.clone()),
                        ("!GetAtt", Value::String(name)) => {
                            _ = found.insert(name.split('.').next().unwrap().into())
                        }
                        ("!Sub", Value::String(text)) => {
                            let parts =
                                text.split("${").skip(1).filter_map(|part| part.split(['}', '.']).next());
                            found.extend(parts.map(str::to_owned));
                        }
                        _ => walk(value, found),
                    }
                }
            }
            _ => {}
        }
    }
    for template in templates() {
        let mut used = BTreeSet::new();
        walk(&template["Resources"], &mut used);
        for name in used.iter().filter(|name| !name.starts_with("AWS::")) {
            let known = template["Resources"].get(name).or(template["Parameters"].get(name));
            assert!(known.is_some(), "{name}");
        }
        for parameter in template["Parameters"].as_object().unwrap().keys() {
            let conditions = template["Conditions"].to_string();
            assert!(
                used.contains(parameter) || conditions.contains(parameter.as_str()),
                "{parameter} is not used"
            );
        }
    }
}

#[test]
fn the_configuration_of_control_is_good_wherever_it_stands() {
    for kit in kits() {
        let template = yaml::read(file(&kit, "weir.yaml"));
        let text = variable(container(&template, "ControlTask"), "CONTROL_CONFIG")["!Sub"].as_str().unwrap();
        let in_template = yaml::substituted(&template, text);
        let task = json(&kit, "task-definitions/control.json");
        let variables = task["containerDefinitions"][0]["environment"].as_array().unwrap();
        let in_task =
            variables.iter().find(|v| v["name"] == "CONTROL_CONFIG").unwrap()["value"].as_str().unwrap();
        let read = |name, text: &str| {
            parse_control(name, text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
        };
        let config = read("control.yaml", file(&kit, "control.yaml"));
        assert_eq!(read("weir.yaml", &in_template), config);
        assert_eq!(read("control.json", in_task), config);

        let StateConfig::DynamoDb(item) = &config.state else { panic!("{:?}", config.state) };
        let gateway = container(&template, "GatewayTask");
        assert_eq!(variable(gateway, "GATEWAY_STATE_KEY"), item.key.as_str());
        assert_eq!(variable(gateway, "GATEWAY_STATE_TABLE")["!Ref"], "StateTable");
        assert_eq!(
            (config.tokens.gateway.len(), config.tokens.operator.len(), config.tokens.viewer.len()),
            (1, 1, 1)
        );
        let (name, route) = config.routes.iter().next().unwrap();
        assert_eq!(
            (route.targets.as_slice(), route.stable.as_str()),
            (&["v1".to_owned(), "v2".to_owned()][..], "v1")
        );
        assert!(in_template.contains(&format!("- name: \"{name}\"")), "the route has the name of control's");
    }
}

#[test]
fn the_gateway_is_told_everything_by_its_environment() {
    for template in templates() {
        let gateway = container(&template, "GatewayTask");
        let url =
            yaml::substituted(&template, variable(gateway, "GATEWAY_CONTROL")["!Sub"].as_str().unwrap());
        let namespace = template["Parameters"]["NamespaceName"]["Default"].as_str().unwrap();
        assert_eq!(url, format!("http://control.{namespace}:18000"));
        assert_eq!(template["Resources"]["ControlName"]["Properties"]["Name"], "control");
        for mount in ["MountPoints", "VolumesFrom"] {
            assert!(gateway.get(mount).is_none());
        }
    }
}

#[test]
fn every_secret_is_a_secret_and_no_plain_variable() {
    for template in templates() {
        let made: BTreeSet<&str> = of_type(&template, "AWS::SecretsManager::Secret").into_keys().collect();
        assert_eq!(made, BTreeSet::from(["GatewayToken", "OperatorToken", "ViewerToken"]));
        let mut given = BTreeSet::new();
        for (task, properties) in of_type(&template, "AWS::ECS::TaskDefinition") {
            for container in properties["ContainerDefinitions"].as_array().unwrap() {
                for variable in container["Environment"].as_array().into_iter().flatten() {
                    let name = variable["Name"].as_str().unwrap();
                    let text = variable["Value"].to_string();
                    assert!(
                        !name.contains("TOKEN") && !name.contains("SECRET"),
                        "{task}: {name} is a plain variable"
                    );
                    assert!(
                        made.iter().all(|secret| !text.contains(secret)),
                        "{task}: {name} shows a secret"
                    );
                }
                for secret in container["Secrets"].as_array().into_iter().flatten() {
                    given.insert(secret["ValueFrom"]["!Ref"].as_str().unwrap());
                }
            }
        }
        assert_eq!(given, made);
    }
}

#[test]
fn both_health_checks_of_the_gateway_are_the_documented_ones() {
    for template in templates() {
        let command = &container(&template, "GatewayTask")["HealthCheck"]["Command"];
        assert_eq!((&command[0], &command[1]), (&"CMD-SHELL".into(), &CHECK.into()));
        let group = &template["Resources"]["GatewayTargetGroup"]["Properties"];
        assert_eq!(
            (&group["HealthCheckPath"], &group["HealthCheckPort"]),
            (&"/server_info".into(), &"9901".into())
        );
        assert_eq!(group["Matcher"]["HttpCode"], "200");
        let numbers = [
            "HealthCheckIntervalSeconds",
            "HealthCheckTimeoutSeconds",
            "HealthyThresholdCount",
            "UnhealthyThresholdCount",
        ];
        assert_eq!(numbers.map(|name| number(&group[name])), [15, 10, 3, 2]);
    }
}

#[test]
fn the_times_fit_together() {
    for kit in kits() {
        let template = yaml::read(file(&kit, "weir.yaml"));
        let gateway = container(&template, "GatewayTask");
        let drain = number(variable(gateway, "LISTENER_DRAIN_WAIT_TIME_S"));
        let stop = number(&gateway["StopTimeout"]);
        assert!((5..=110).contains(&drain) && drain < stop && stop <= 120, "drain {drain}, stop {stop}");
        let group = &template["Resources"]["GatewayTargetGroup"]["Properties"];
        assert!(
            drain
                <= number(attribute(&group["TargetGroupAttributes"], "deregistration_delay.timeout_seconds"))
        );
        let alb = &template["Resources"]["Alb"]["Properties"]["LoadBalancerAttributes"];
        let idle = yaml::read(file(&kit, "control.yaml"))["gateway"]["listeners"][0]["http_connection_manager"]
            ["common_http_protocol_options"]["idle_timeout"]
            .as_str()
            .and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok())
            .unwrap();
        assert!(idle > number(attribute(alb, "idle_timeout.timeout_seconds")));
        let service = &template["Resources"]["GatewayService"]["Properties"];
        let until_healthy =
            number(&group["HealthCheckIntervalSeconds"]) * number(&group["HealthyThresholdCount"]);
        assert!(number(&service["HealthCheckGracePeriodSeconds"]) > until_healthy);
    }
}

#[test]
fn deployments_are_undone_by_themselves_and_control_is_never_two() {
    for template in templates() {
        for (name, service) in of_type(&template, "AWS::ECS::Service") {
            let deployment = &service["DeploymentConfiguration"];
            let breaker = &deployment["DeploymentCircuitBreaker"];
            assert_eq!(
                (&breaker["Enable"], &breaker["Rollback"]),
                (&"true".into(), &"true".into()),
                "{name}"
            );
            let percent =
                (number(&deployment["MinimumHealthyPercent"]), number(&deployment["MaximumPercent"]));
            assert_eq!(percent, if name == "ControlService" { (0, 100) } else { (100, 200) }, "{name}");
        }
    }
}

#[test]
fn the_load_balancer_knows_the_way_past_weir_and_sends_nothing_there() {
    for template in templates() {
        let rule = &template["Resources"]["KeepTheWayPastWeir"]["Properties"];
        let never = rule["Conditions"][0]["SourceIpConfig"]["Values"][0].as_str().unwrap();
        assert_eq!((never, rule["Conditions"].as_array().unwrap().len()), ("192.0.2.1/32", 1));
        let kept = rule["Actions"].to_string();
        assert!(kept.contains("Service1TargetGroup") && kept.contains("Service2TargetGroup"));
        let listener = &template["Resources"]["Listener"]["Properties"]["DefaultActions"][0];
        let weights: BTreeMap<&str, u64> = listener["ForwardConfig"]["TargetGroups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| (group["TargetGroupArn"]["!Ref"].as_str().unwrap(), number(&group["Weight"])))
            .collect();
        let wanted = [("GatewayTargetGroup", 100), ("Service1TargetGroup", 0), ("Service2TargetGroup", 0)];
        assert_eq!(weights, BTreeMap::from(wanted));
        for (name, service) in of_type(&template, "AWS::ECS::Service") {
            for balancer in service["LoadBalancers"].as_array().into_iter().flatten() {
                let Some(group) = balancer["TargetGroupArn"]["!Ref"].as_str() else {
                    assert_eq!(balancer["!If"][0], "HasOtherTargetGroup");
                    continue;
                };
                assert!(weights.contains_key(group), "{name}: {group} is with no load balancer");
            }
            let registered = name == "ControlService" || service.get("LoadBalancers").is_some();
            assert!(registered, "{name} has no target group");
        }
    }
}

/// The smoke test of a release asks for a version by one header and learns by the other who answered.
#[test]
fn the_route_has_the_headers_that_a_release_asks_for() {
    let script = std::fs::read_to_string(super::root().join("config/ecs/github/release.sh")).unwrap();
    for kit in kits() {
        let config = parse_control("control.yaml", file(&kit, "control.yaml").as_bytes()).unwrap();
        let listeners = config.gateway.unwrap().listeners;
        let route = &listeners[0].http_connection_manager.route_config.virtual_hosts[0].routes[0];
        let RouteTarget::Weighted(weighted) = &route.action.target else { panic!("{route:?}") };
        for (variable, header) in
            [("OVERRIDE_HEADER", &weighted.override_header), ("TARGET_HEADER", &weighted.target_header)]
        {
            let header = header.as_ref().unwrap();
            assert!(script.contains(&format!("{variable}=${{{variable}:-{header}}}")), "{variable}");
        }
    }
}

/// A certificate that comes later moves the one listener to 443 and puts the other on 80, in this order.
#[test]
fn two_listeners_never_want_one_port() {
    for template in templates() {
        assert_eq!(template["Resources"]["ToHttps"]["DependsOn"], "Listener");
    }
}

#[test]
fn break_glass_works_on_gateways_and_control() {
    for template in templates() {
        for name in ["GatewayService", "ControlService"] {
            assert_eq!(template["Resources"][name]["Properties"]["EnableExecuteCommand"], "true");
        }
        for role in ["GatewayTaskRole", "ControlTaskRole"] {
            assert!(template["Resources"][role].to_string().contains("ssmmessages:OpenDataChannel"));
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

/// Actions by statement id, after each was looked at.
fn examined(place: &str, policy: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for statement in policy["Statement"].as_array().unwrap() {
        let actions: BTreeSet<String> = texts(&statement["Action"]).into_iter().collect();
        for action in &actions {
            assert!(!action.contains('*'), "{place}: {action}");
        }
        for resource in texts(&statement["Resource"]) {
            if resource != "*" {
                let of_log =
                    resource.starts_with("arn:") && resource.ends_with(":*") && resource.contains(":logs:");
                assert!(of_log || !resource.contains('*'), "{place}: {resource}");
                continue;
            }
            for action in &actions {
                let action = action.as_str();
                let conditioned = WITH_CONDITION.contains(&action) && statement.get("Condition").is_some();
                assert!(conditioned || WITHOUT_RESOURCE.contains(&action), "{place}: {action} on everything");
            }
        }
        found.insert(statement["Sid"].as_str().unwrap().to_owned(), actions);
    }
    found
}

#[test]
fn permissions_name_their_resources_and_are_the_same_in_every_form() {
    for kit in kits() {
        let template = yaml::read(file(&kit, "weir.yaml"));
        let policy = |role: &str| &template["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"];
        let roles =
            ["GatewayExecution", "GatewayTask", "ControlExecution", "ControlTask", "ServiceExecution"];
        assert_eq!(of_type(&template, "AWS::IAM::Role").len(), roles.len());
        let paths =
            ["gateway-execution", "gateway-task", "control-execution", "control-task", "service-execution"];
        for (role, path) in roles.into_iter().zip(paths) {
            let path = format!("iam/{path}.json");
            assert_eq!(
                examined(role, policy(&format!("{role}Role"))),
                examined(&path, &json(&kit, &path)),
                "{role}"
            );
        }
        for (name, role) in [("service-gateway", "GatewayTask"), ("control", "ControlTask")] {
            let path = format!("copilot/{name}/addons/weir.yml");
            let addon = yaml::read(file(&kit, &path));
            let (_, managed) = of_type(&addon, "AWS::IAM::ManagedPolicy").into_iter().next().unwrap();
            let mut wanted = examined(role, policy(&format!("{role}Role")));
            // Copilot gives it to every service with `exec: true`.
            wanted.remove("EcsExec").unwrap();
            assert_eq!(examined(&path, &managed["PolicyDocument"]), wanted);
        }
    }
}

#[test]
fn an_image_from_elsewhere_needs_no_permission_of_ecr() {
    let [example, other] = kits();
    assert!(file(&example, "weir.yaml").contains("arn:aws:ecr:ap-south-1:123456789012:repository/weir"));
    assert!(!file(&other, "weir.yaml").contains("ecr:"));
    assert!(
        file(&other, "iam/gateway-task.json").contains("arn:aws-us-gov:dynamodb:us-gov-west-1:210987654321")
    );
}
