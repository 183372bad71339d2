//! The scripts with the real aws command: it takes their parameters, and their queries fit what AWS answers.
//!
//! Owns a server that answers with documents in the shapes of the ECS, CloudWatch Logs, SSM and ELBv2 APIs. It must
//! never be reached from elsewhere than loopback. Next: `../../../config/ecs/weir`.

use crate::fake_aws::Fake;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const ARN: &str = "arn:aws:ecs:eu-west-1:111122223333";

/// Answers by the name of the operation; every request is kept.
struct Account {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The last one of a list is repeated.
    answers: BTreeMap<String, Vec<String>>,
    asked: Vec<(String, Value)>,
}

impl Account {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A caller that goes away is no fault of the account.
                let _ = serve(&stream, &shared);
            }
        });
        Self { url, state }
    }

    fn answers(&self, operation: &str, answers: &[Value]) -> &Self {
        let text = |answer: &Value| answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
        self.state.lock().unwrap().answers.insert(operation.to_owned(), answers.iter().map(text).collect());
        self
    }

    /// What was asked of an operation, in order.
    fn asked(&self, operation: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut operation, mut line) = (0, String::new(), String::new());
    while reader.read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        } else if lower.starts_with("x-amz-target:") {
            operation = line.trim().rsplit('.').next().unwrap().to_owned();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).unwrap();
    // ELBv2 speaks forms and XML.
    let form = body.split('&').find_map(|field| field.strip_prefix("Action="));
    let asked = match form {
        Some(name) => (name.to_owned(), Value::from(body.clone())),
        None => (operation, serde_json::from_str(&body).unwrap_or_default()),
    };
    let mut state = state.lock().unwrap();
    let answer = match state.answers.get_mut(&asked.0) {
        Some(answers) if answers.len() > 1 => Some(answers.remove(0)),
        Some(answers) => answers.first().cloned(),
        None => None,
    };
    state.asked.push(asked);
    let (status, text) = match answer {
        Some(text) => ("200 OK", text),
        None => (
            "400 Bad Request",
            "{\"__type\":\"AccessDeniedException\",\"message\":\"not written\"}".to_owned(),
        ),
    };
    let kind = if form.is_some() { "text/xml" } else { "application/x-amz-json-1.1" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    let mut stream = stream;
    stream.write_all((head + &text).as_bytes())
}

/// Scripts find the real aws command first, and this account behind it.
fn site(account: &Account, programs: &[&str]) -> Fake {
    let mut fake = Fake::new(programs);
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", fake.path("bin").display());
    fake.set("PATH", &path).set("AWS_ENDPOINT_URL", &account.url).set("AWS_REGION", "eu-west-1");
    fake.set("AWS_ACCESS_KEY_ID", "test")
        .set("AWS_SECRET_ACCESS_KEY", "test")
        .set("AWS_EC2_METADATA_DISABLED", "true");
    fake.set("AWS_MAX_ATTEMPTS", "1")
        .set("WEIR_CLUSTER", "shop")
        .set("WEIR_POLL_SECONDS", "0")
        .set("WEIR_LOG_WAIT", "0");
    let home = fake.path("work").display().to_string();
    fake.set("HOME", &home);
    fake
}

fn control_definition() -> Value {
    json!({"taskDefinition": {
    "taskDefinitionArn": format!("{ARN}:task-definition/control:7"), "family": "control", "revision": 7, "status": "ACTIVE",
    "containerDefinitions": [
        {"name": "logs", "image": "x", "environment": [], "secrets": []},
        {"name": "control", "image": "weir:1", "essential": true,
         "environment": [{"name": "A", "value": "b"}, {"name": "CONTROL_URL", "value": "http://control.shop.local:18000"}],
         "secrets": [{"name": "WEIR_GATEWAY_TOKEN", "valueFrom": "arn:1"}, {"name": "WEIR_OPERATOR_TOKEN", "valueFrom": "arn:2"}],
         "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/control",
            "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "weir"}}},
    ]}})
}

fn task(status: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("control");
    json!({"tasks": [{"taskArn": format!("{ARN}:task/shop/0123"), "lastStatus": status, "stopCode": "TaskFailedToStart",
        "stoppedReason": "CannotPullContainerError: no such image", "containers": [{"name": "logs"}, container]}], "failures": []})
}

fn one_off_account() -> Account {
    let account = Account::new();
    let network = json!({"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}});
    account.answers("DescribeServices", &[json!({"services": [{"status": "ACTIVE", "launchType": "FARGATE",
        "taskDefinition": format!("{ARN}:task-definition/control:7"), "networkConfiguration": network}], "failures": []})]);
    account.answers("DescribeTaskDefinition", &[control_definition()]);
    account.answers(
        "RunTask",
        &[json!({"tasks": [{"taskArn": format!("{ARN}:task/shop/0123")}], "failures": []})],
    );
    account.answers("DescribeTasks", &[task("PENDING", json!({})), task("STOPPED", json!({"exitCode": 3}))]);
    let page = |token: &str, messages: &[&str]| {
        let events: Vec<Value> = messages
            .iter()
            .map(|text| json!({"timestamp": 1, "message": text, "ingestionTime": 2}))
            .collect();
        json!({"events": events, "nextForwardToken": token, "nextBackwardToken": "b"})
    };
    let pages = [page("f/1", &["one \"1\"", "\ttwo"]), page("f/2", &["three"]), page("f/2", &[])];
    account.answers("GetLogEvents", &pages);
    account
}

#[test]
#[ignore = "needs the aws command"]
fn a_one_off_task_with_the_real_cli() {
    let account = one_off_account();
    let fake = site(&account, &[]);
    let ended =
        fake.run("config/ecs/weir", &["set-weight", "svc1", "v2=10", "--reason", "it's \"so\" \\ größer\n"]);
    assert_eq!(ended.code(3).out, "one \"1\"\n\ttwo\nthree\n");
    let asked = account.asked("RunTask").remove(0);
    assert_eq!(asked["networkConfiguration"]["awsvpcConfiguration"]["subnets"], json!(["subnet-1"]));
    assert_eq!(asked["launchType"], "FARGATE");
    let container = &asked["overrides"]["containerOverrides"][0];
    let command = json!([
        "control",
        "--token-env",
        "WEIR_OPERATOR_TOKEN",
        "set-weight",
        "svc1",
        "v2=10",
        "--reason",
        "it's \"so\" \\ größer\n"
    ]);
    assert_eq!(container["command"], command);
    assert_eq!(
        container["environment"],
        json!([{"name": "CONTROL_URL", "value": "http://control.shop.local:18000"}])
    );
    let logs = account.asked("GetLogEvents");
    assert_eq!(logs[0]["logStreamName"], "weir/control/0123");
    assert_eq!(logs[0]["startFromHead"], true);
    assert_eq!(logs[1]["nextToken"], "f/1");
}

#[test]
#[ignore = "needs the aws command"]
fn a_task_that_never_ran_with_the_real_cli() {
    let account = one_off_account();
    account.answers("DescribeTasks", &[task("STOPPED", json!({"reason": "CannotPullContainerError"}))]);
    site(&account, &[])
        .run("config/ecs/weir", &["get"])
        .code(70)
        .says("TaskFailedToStart CannotPullContainerError: no such image");
    let account = one_off_account();
    account.answers(
        "RunTask",
        &[json!({"tasks": [], "failures": [{"reason": "RESOURCE:ENI", "detail": "full"}]})],
    );
    site(&account, &[]).run("config/ecs/weir", &["get"]).code(70).says("RESOURCE:ENI: full");
    let account = one_off_account();
    account.answers("DescribeServices", &[json!({"services": [], "failures": [{"reason": "MISSING"}]})]);
    site(&account, &[]).run("config/ecs/weir", &["get"]).code(69).says("has no service control");
    let account = Account::new();
    site(&account, &[])
        .run("config/ecs/weir", &["get"])
        .code(69)
        .says("AccessDeniedException")
        .says("give the role");
}

#[test]
#[ignore = "needs the aws command"]
fn sessions_with_the_real_cli() {
    let account = Account::new();
    account.answers(
        "ListTasks",
        &[json!({"taskArns": [format!("{ARN}:task/shop/aaaa"), format!("{ARN}:task/shop/bbbb")]})],
    );
    let cluster = format!("{ARN}:cluster/shop");
    account.answers("ExecuteCommand", &[json!({"clusterArn": cluster, "taskArn": format!("{ARN}:task/shop/aaaa"), "containerName": "gateway",
        "interactive": true, "session": {"sessionId": "s", "streamUrl": "wss://x", "tokenValue": "t"}})]);
    let containers =
        json!([{"name": "gateway", "runtimeId": "aaaa-1"}, {"name": "control", "runtimeId": "aaaa-2"}]);
    account.answers("DescribeTasks", &[json!({"tasks": [{"containers": containers}]})]);
    account.answers("StartSession", &[json!({"SessionId": "s", "TokenValue": "t", "StreamUrl": "wss://x"})]);
    let fake = site(&account, &["session-manager-plugin"]);
    // Called by the aws command with a document of its own as the first word.
    std::fs::write(fake.path("bin/session-manager-plugin"), "#!/bin/sh\necho weir-override-done\n").unwrap();
    fake.run("config/ecs/weir", &["override", "svc1", "v1", "--for", "60m"]).code(0).says("bbbb: done");
    let asked = account.asked("ExecuteCommand");
    assert_eq!(
        asked[1]["command"],
        "/bin/sh -c 'gateway override svc1 v1 --for 60m && echo weir-override-done'"
    );
    fake.run("config/ecs/weir", &["tunnel", "8080"]).code(0);
    let asked = account.asked("StartSession").remove(0);
    assert_eq!(asked["Target"], "ecs:shop_aaaa_aaaa-2");
    assert_eq!(asked["Parameters"], json!({"portNumber": ["18000"], "localPortNumber": ["8080"]}));
}

fn forward(operation: &str, list: &str, actions: &str, weights: [u32; 3]) -> Value {
    let group = |(name, weight): (&str, u32)| {
        format!("<member><TargetGroupArn>{name}</TargetGroupArn><Weight>{weight}</Weight></member>")
    };
    let groups: String = ["gateways", "other", "stable"].into_iter().zip(weights).map(group).collect();
    json!(format!(
        "<{operation}Response xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><{operation}Result><{list}><member>\
         <{actions}><member><Type>forward</Type><ForwardConfig><TargetGroups>{groups}</TargetGroups>\
         <TargetGroupStickinessConfig><Enabled>true</Enabled><DurationSeconds>60</DurationSeconds></TargetGroupStickinessConfig></ForwardConfig></member></{actions}>\
         </member></{list}></{operation}Result></{operation}Response>"
    ))
}

#[test]
#[ignore = "needs the aws command"]
fn bypass_with_the_real_cli() {
    for (rule, describe, modify, list, actions) in [
        (false, "DescribeListeners", "ModifyListener", "Listeners", "DefaultActions"),
        (true, "DescribeRules", "ModifyRule", "Rules", "Actions"),
    ] {
        let account = Account::new();
        account.answers(
            describe,
            &[forward(describe, list, actions, [100, 0, 0]), forward(describe, list, actions, [0, 0, 100])],
        );
        account.answers(modify, &[forward(modify, list, actions, [0, 0, 100])]);
        account.answers("DescribeTargetHealth", &[json!(
            "<DescribeTargetHealthResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><DescribeTargetHealthResult>\
             <TargetHealthDescriptions><member><TargetHealth><State>healthy</State></TargetHealth></member>\
             <member><TargetHealth><State>unhealthy</State></TargetHealth></member></TargetHealthDescriptions>\
             </DescribeTargetHealthResult></DescribeTargetHealthResponse>"
        )]);
        let mut fake = site(&account, &[]);
        fake.set(if rule { "WEIR_LISTENER_RULE" } else { "WEIR_LISTENER" }, "arn");
        fake.set("WEIR_GATEWAY_TARGET_GROUP", "gateways").set("WEIR_STABLE_TARGET_GROUP", "stable");
        fake.run("config/ecs/weir", &["bypass", "on"])
            .code(0)
            .says("1 healthy target(s)")
            .says("ON: the load balancer");
        let asked = account.asked(modify).remove(0);
        let asked = asked.as_str().unwrap();
        assert!(asked.contains("TargetGroups.member.2.TargetGroupArn=stable"), "{asked}");
        assert!(asked.contains("TargetGroups.member.3.TargetGroupArn=other"), "{asked}");
        assert!(asked.contains("TargetGroupStickinessConfig.DurationSeconds=60"), "{asked}");
        assert!(
            asked.contains("TargetGroups.member.2.Weight=100")
                && asked.contains("TargetGroups.member.1.Weight=0"),
            "{asked}"
        );
    }
}

/// Everything that the API tells about a task definition goes back but for what it does not take, and the image.
#[test]
#[ignore = "needs the aws command"]
fn a_release_with_the_real_cli() {
    let account = Account::new();
    let definition = json!({"taskDefinition": {
        "taskDefinitionArn": format!("{ARN}:task-definition/v2:4"), "family": "v2", "revision": 4, "status": "ACTIVE",
        "requiresAttributes": [{"name": "x"}], "compatibilities": ["EC2", "FARGATE"], "registeredAt": 1.5, "registeredBy": "me",
        "taskRoleArn": "arn:task", "executionRoleArn": "arn:execution", "networkMode": "awsvpc", "cpu": "512", "memory": "1024",
        "requiresCompatibilities": ["FARGATE"], "volumes": [], "placementConstraints": [],
        "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
        "ephemeralStorage": {"sizeInGiB": 30},
        "containerDefinitions": [
            {"name": "logs", "image": "repo/logs:1", "cpu": 0, "essential": false},
            {"name": "app", "image": "repo/app:broken", "cpu": 0, "essential": true, "portMappings": [{"containerPort": 3000}],
             "environment": [{"name": "TEXT", "value": "a \"b\"\n\tc `d` größer"}]}]},
        "tags": [{"key": "team", "value": "shop"}]});
    account.answers("DescribeTaskDefinition", std::slice::from_ref(&definition));
    account.answers("RegisterTaskDefinition", &[json!({"taskDefinition": {"taskDefinitionArn": "v2:5"}})]);
    account.answers("UpdateService", &[json!({"service": {"serviceArn": "arn"}})]);
    let service = |definition: &str| {
        json!({"services": [{"status": "ACTIVE", "taskDefinition": definition, "desiredCount": 2, "runningCount": 2,
            "deployments": [{"status": "PRIMARY", "taskDefinition": definition, "rolloutState": "COMPLETED"}]}], "failures": []})
    };
    account.answers("DescribeServices", &[service("v2:4"), service("v2:4"), service("v2:5")]);
    let mut fake = site(&account, &["weir", "curl"]);
    let weir = fake.path("bin/weir").display().to_string();
    fake.set("WEIR", &weir)
        .set("IMAGE", "repo/app:new")
        .set("SMOKE_URL", "http://shop")
        .set("V2_CONTAINER", "app");
    fake.file(
        "app.properties.json",
        "{\"service1_name\": \"a\", \"service2_name\": \"b\", \"setLatestStable\": true}",
    );
    fake.answers("weir-get", "{\"routes\": [{\"stable\": \"v1\", \"weights\": {\"v1\": 10000, \"v2\": 0}}]}");
    fake.answers("weir-apply", "").answers("curl", "HTTP/1.1 200 OK\r\nx-weir-target: v2\r\n\r\n");
    fake.run("config/ecs/github/release.sh", &["release"]).code(0);

    let asked = account.asked("RegisterTaskDefinition").remove(0);
    let mut expected = definition["taskDefinition"].clone();
    for left_out in [
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "registeredBy",
        "volumes",
        "placementConstraints",
    ] {
        expected.as_object_mut().unwrap().remove(left_out);
    }
    let containers = expected["containerDefinitions"].as_array_mut().unwrap();
    containers.swap(0, 1);
    containers[0]["image"] = json!("repo/app:new");
    expected["tags"] = definition["tags"].clone();
    assert_eq!(asked, expected);
    assert_eq!(account.asked("UpdateService")[0]["taskDefinition"], "v2:5");
}
