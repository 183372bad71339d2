//! One command of control as a one-off task: what is asked of ECS, what is printed, and every way to fail.
//!
//! Next: `sessions.rs`.

use crate::fake_aws::{Ended, Fake, command_of, flag};
use serde_json::{Value, json};

const WEIR: &str = "config/ecs/weir";
const TASK: &str = "arn:aws:ecs:eu-west-1:111122223333:task/shop/0123456789abcdef";
const NETWORK: &str = r#"{"awsvpcConfiguration":{"subnets":["subnet-1"],"securityGroups":["sg-1"],"assignPublicIp":"DISABLED"}}"#;

/// An account in which everything goes well: the task prints two lines and ends with 0.
fn account() -> Fake {
    let mut fake = Fake::new(&["aws", "session-manager-plugin"]);
    fake.set("WEIR_CLUSTER", "shop").set("AWS_REGION", "eu-west-1");
    fake.set("WEIR_POLL_SECONDS", "0").set("WEIR_LOG_WAIT", "0");
    fake.answers("aws-ecs-describe-services", &format!("ACTIVE\ncontrol:7\nFARGATE\n{NETWORK}\nnull\n"));
    fake.answers(
        "aws-ecs-describe-task-definition",
        "control\nawslogs\n/ecs/shop-control\neu-west-1\ncontrol\nWEIR_OPERATOR_TOKEN\nNone\nhttp://control.shop.local:18000\n",
    );
    fake.answers("aws-ecs-run-task", &format!("{TASK}\nNone\nNone\n"));
    fake.answers("aws-ecs-describe-tasks.1", "PROVISIONING\nNone\n");
    fake.answers("aws-ecs-describe-tasks.2", "RUNNING\nNone\n");
    fake.answers("aws-ecs-describe-tasks", "STOPPED\n0\n");
    fake.answers("aws-logs-get-log-events.1", "f/1\nsvc1: v1 99 %, v2 1 %\n\tv2  healthy\n");
    fake.answers("aws-logs-get-log-events", "f/1\n");
    fake.answers("aws-ecs-stop-task", "STOPPED\n");
    fake
}

fn weir(fake: &Fake, args: &[&str]) -> Ended {
    fake.run(WEIR, args)
}

/// The task's command behind the words that every command has.
fn command(fake: &Fake) -> Vec<String> {
    let call = fake.calls_of(&["aws", "ecs", "run-task"]).pop().expect("a task");
    let words = command_of(&call);
    assert_eq!(words[..3], ["control", "--token-env", "WEIR_OPERATOR_TOKEN"]);
    words[3..].to_vec()
}

#[test]
fn get_runs_as_a_task_of_controls_service_and_its_log_is_printed() {
    let fake = account();
    let ended = weir(&fake, &["get", "svc1"]);
    ended.code(0).says("0123456789abcdef: PROVISIONING").says("0123456789abcdef: STOPPED");
    assert_eq!(ended.out, "svc1: v1 99 %, v2 1 %\n\tv2  healthy\n");
    assert_eq!(command(&fake), ["get", "svc1"]);

    let call = fake.calls_of(&["aws", "ecs", "run-task"]).remove(0);
    assert_eq!(flag(&call, "--cluster"), "shop");
    assert_eq!(flag(&call, "--task-definition"), "control:7");
    assert_eq!(flag(&call, "--launch-type"), "FARGATE");
    assert_eq!(flag(&call, "--network-configuration"), NETWORK);
    let overrides: Value = serde_json::from_str(flag(&call, "--overrides")).unwrap();
    let container = &overrides["containerOverrides"][0];
    assert_eq!(container["name"], "control");
    let url = json!([{"name": "CONTROL_URL", "value": "http://control.shop.local:18000"}]);
    assert_eq!(container["environment"], url);
    let logs = fake.calls_of(&["aws", "logs"]);
    assert_eq!(flag(&logs[0], "--log-group-name"), "/ecs/shop-control");
    assert_eq!(flag(&logs[0], "--log-stream-name"), "control/control/0123456789abcdef");
}

#[test]
fn every_command_of_control_is_passed_on() {
    let lines: &[&[&str]] = &[
        &["set-weight", "svc1", "v1=90", "v2=10", "--reason", "canary"],
        &["rollback", "svc1"],
        &["history", "svc1", "--limit", "5"],
        &["stable", "svc1", "v2", "--build", "repo/app@sha256:12"],
        &["gateways", "forget", "task-1"],
        &["adopt"],
        &["export", "envoy"],
        &["init-store"],
    ];
    for line in lines {
        let fake = account();
        weir(&fake, line).code(0);
        assert_eq!(command(&fake), *line);
    }
}

#[test]
fn arguments_arrive_unchanged_whatever_is_in_them() {
    let nasty = [
        r#"it's "quoted" \ and \\ and \n"#,
        "  spaces  ",
        "",
        "line\nbreak\tand tab\u{1}\u{7f}\n",
        "$(touch broken) `touch broken` ${HOME} $1",
        "{\"a\": [1, \"2\"]}",
        "größer als 1 % – 日本",
        "*",
        "&;|<>",
        "-n",
        "--",
        "100%s%d\\u0041",
        "x=1",
    ];
    let fake = account();
    let mut line = vec!["set-weight"];
    line.extend(nasty);
    weir(&fake, &line).code(0);
    assert_eq!(command(&fake)[1..], nasty);
    assert!(!fake.path("work/broken").exists());
}

#[test]
fn the_exit_code_is_the_containers() {
    for code in [0, 1, 2, 3, 4, 137] {
        let fake = account();
        fake.answers("aws-ecs-describe-tasks", &format!("STOPPED\n{code}\n"));
        let ended = weir(&fake, &["set-weight", "svc1", "v2=10"]);
        ended.code(code);
        assert!(ended.out.starts_with("svc1"), "{}", ended.out);
    }
    let fake = account();
    fake.answers("aws-ecs-describe-tasks", "STOPPED\n137\n");
    weir(&fake, &["get"]).says("out of memory");
}

#[test]
fn a_log_of_many_pages_is_printed_in_order() {
    let fake = account();
    fake.answers("aws-logs-get-log-events.1", "f/1\none\n");
    fake.answers("aws-logs-get-log-events.2", "f/2\n");
    fake.answers("aws-logs-get-log-events.3", "f/3\ntwo\n\nthree\n");
    fake.answers("aws-logs-get-log-events", "f/3\n");
    assert_eq!(weir(&fake, &["get"]).code(0).out, "one\ntwo\n\nthree\n");
    let calls = fake.calls_of(&["aws", "logs", "get-log-events"]);
    assert!(!calls[0].contains(&"--next-token".to_owned()));
    let tokens: Vec<&str> = calls[1..].iter().map(|call| flag(call, "--next-token")).collect();
    assert_eq!(tokens, ["f/1", "f/2", "f/3", "f/3"]);
}

/// The first lines may be there while the last are under way.
#[test]
fn lines_that_arrive_after_others_are_not_lost() {
    let fake = account();
    fake.answers("aws-logs-get-log-events.1", "f/1\n{\n");
    fake.answers("aws-logs-get-log-events.2", "f/1\n");
    fake.answers("aws-logs-get-log-events.3", "f/2\n}\n");
    fake.answers("aws-logs-get-log-events", "f/2\n");
    assert_eq!(weir(&fake, &["get", "--json"]).code(0).out, "{\n}\n");
}

/// A task's log is both outputs in one.
#[test]
fn what_is_exported_has_no_notes_in_it() {
    let fake = account();
    fake.answers("aws-logs-get-log-events", "f/1\n")
        .answers("aws-logs-get-log-events.1", "f/1\nnote: cluster `v1`: DNS\nnode:\n  id: weir-export\n");
    let ended = weir(&fake, &["export", "envoy"]);
    assert_eq!(ended.code(0).says("note: cluster `v1`: DNS").out, "node:\n  id: weir-export\n");
}

#[test]
fn lines_that_arrive_late_are_waited_for() {
    let mut fake = account();
    fake.set("WEIR_LOG_WAIT", "600");
    fake.fails("aws-logs-get-log-events.1", "An error occurred (ResourceNotFoundException): no stream\n");
    fake.answers("aws-logs-get-log-events.2", "f/0\n");
    fake.answers("aws-logs-get-log-events.3", "f/0\n");
    fake.answers("aws-logs-get-log-events.4", "f/1\nat last\n");
    assert_eq!(weir(&fake, &["get"]).code(0).out, "at last\n");
}

#[test]
fn an_output_that_cannot_be_read_is_never_a_success() {
    let fake = account();
    fake.fails(
        "aws-logs-get-log-events.1",
        "An error occurred (AccessDeniedException): no logs:GetLogEvents\n",
    );
    weir(&fake, &["get"])
        .code(73)
        .says("ended with 0")
        .says("logs:GetLogEvents on the log group /ecs/shop-control");
    let fake = account();
    fake.answers("aws-logs-get-log-events.1", "f/1\n");
    weir(&fake, &["get"]).code(73).says("no line arrived in 0 s");
    let fake = account();
    fake.answers(
        "aws-ecs-describe-task-definition",
        "control\nfluentd\nNone\nNone\nNone\nWEIR_OPERATOR_TOKEN\nNone\nhttp://c:1\n",
    );
    weir(&fake, &["get"]).code(73).says("the container logs to fluentd");
    // What the command said itself is worth more.
    let fake = account();
    fake.fails("aws-logs-get-log-events.1", "An error occurred (AccessDeniedException)\n");
    fake.answers("aws-ecs-describe-tasks", "STOPPED\n3\n");
    weir(&fake, &["get"]).code(3).says("ended with 3, but its output could not be read");
}

#[test]
fn a_task_that_never_ran_says_why_and_what_to_do() {
    let reasons = [
        (
            "TaskFailedToStart\tCannotPullContainerError: pull image manifest has been retried 1 time(s)\tNone",
            "execution role may pull it",
        ),
        (
            "TaskFailedToStart\tResourceInitializationError: unable to pull secrets or registry auth: secret x\tNone",
            "read the secrets",
        ),
        (
            "TaskFailedToStart\tResourceInitializationError: failed to validate logger args: CreateLogStream\tNone",
            "log group must exist",
        ),
        (
            "TaskFailedToStart\tTask failed to start\tCannotStartContainerError: exec: \"control\": not found",
            "image of Weir",
        ),
        ("SpotInterruption\tYour Spot Task was interrupted: capacity\tNone", "no capacity"),
        (
            "EssentialContainerExited\tsomething new\tNone",
            "describe-tasks --cluster shop --tasks 0123456789abcdef",
        ),
    ];
    for (reason, cure) in reasons {
        let fake = account();
        fake.answers("aws-ecs-describe-tasks.2", "STOPPED\nNone\n");
        fake.answers("aws-ecs-describe-tasks", &format!("{reason}\n"));
        let ended = weir(&fake, &["rollback", "svc1"]);
        ended.code(70).says("ended before its container ran").says(cure).says(&reason.replace('\t', " "));
        assert_eq!(ended.out, "");
        assert!(fake.calls_of(&["aws", "logs"]).is_empty());
    }
}

#[test]
fn a_task_that_ecs_does_not_take_says_why() {
    let fake = account();
    fake.answers("aws-ecs-run-task", "None\nRESOURCE:ENI\nno free address in subnet-1\n");
    weir(&fake, &["get"]).code(70).says("RESOURCE:ENI: no free address in subnet-1").says("WEIR_NETWORK");
}

#[test]
fn a_task_that_does_not_end_is_stopped() {
    let mut fake = account();
    fake.set("WEIR_TIMEOUT", "0");
    fake.answers("aws-ecs-describe-tasks.1", "PENDING\nNone\n");
    let ended = weir(&fake, &["set-weight", "svc1", "v2=50"]);
    ended
        .code(71)
        .says("did not end in 0 s (last seen PENDING)")
        .says("weir get tells whether a change was made");
    let stopped = fake.calls_of(&["aws", "ecs", "stop-task"]);
    assert_eq!(stopped.len(), 1);
    assert_eq!(flag(&stopped[0], "--task"), TASK);
}

#[test]
fn an_interrupted_weir_stops_its_task() {
    let fake = account();
    std::fs::remove_file(fake.path("answers/aws-ecs-describe-tasks")).unwrap();
    fake.answers("aws-ecs-describe-tasks", "RUNNING\nNone\n");
    let mut child = fake.spawn(WEIR, &["set-weight", "svc1", "v2=50"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fake.calls_of(&["aws", "ecs", "describe-tasks"]).is_empty() {
        assert!(std::time::Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    let kill = std::process::Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fake.calls_of(&["aws", "ecs", "stop-task"]).len(), 1);
}

#[test]
fn what_aws_refuses_is_one_sentence_with_a_cure() {
    let words = [
        (
            "An error occurred (AccessDeniedException) when calling the RunTask operation: User: x is not authorized to perform: ecs:RunTask",
            "give the role",
        ),
        (
            "Unable to locate credentials. You can configure credentials by running \"aws configure\".",
            "sign in to AWS",
        ),
        (
            "An error occurred (ExpiredTokenException) when calling the RunTask operation: The security token has expired",
            "sign in to AWS",
        ),
        (
            "You must specify a region. You can also configure your region by running \"aws configure\".",
            "set AWS_REGION",
        ),
        (
            "An error occurred (ClusterNotFoundException) when calling the RunTask operation: Cluster not found.",
            "check WEIR_CLUSTER (shop)",
        ),
        (
            "An error occurred (ThrottlingException) when calling the RunTask operation: Rate exceeded",
            "wait a little",
        ),
        (
            "Could not connect to the endpoint URL: \"https://ecs.eu-west-1.amazonaws.com/\"",
            "not reached from here",
        ),
        ("aws: error: argument operation: Invalid choice, valid choices are:", "install version 2"),
    ];
    for (text, cure) in words {
        for kind in
            ["ecs-describe-services", "ecs-describe-task-definition", "ecs-run-task", "ecs-describe-tasks.1"]
        {
            let fake = account();
            fake.fails(&format!("aws-{kind}"), &format!("\n{text}\n"));
            let ended = weir(&fake, &["get"]);
            ended.code(69).says(text).says(cure);
            assert_eq!(ended.err.lines().filter(|line| line.starts_with("  cure: ")).count(), 1);
        }
    }
}

#[test]
fn what_is_missing_in_the_account_is_named() {
    let fake = account();
    fake.answers("aws-ecs-describe-services", "None\nNone\nNone\nnull\nnull\n");
    weir(&fake, &["get"]).code(69).says("has no service control").says("WEIR_CONTROL_SERVICE");
    let fake = account();
    fake.answers("aws-ecs-describe-services", &format!("INACTIVE\ncontrol:7\nFARGATE\n{NETWORK}\nnull\n"));
    weir(&fake, &["get"]).code(69).says("control is INACTIVE");
    let fake = account();
    fake.answers("aws-ecs-describe-services", "ACTIVE\ncontrol:7\nFARGATE\nnull\nnull\n");
    weir(&fake, &["get"]).code(69).says("no network configuration").says("WEIR_NETWORK");
    let definitions = [
        ("None\nNone\nNone\nNone\nNone\nNone\nNone\nNone\n", "has no container control"),
        ("control\nawslogs\ng\nr\np\nNone\nNone\nhttp://c:1\n", "has no secret WEIR_OPERATOR_TOKEN"),
        (
            "control\nawslogs\ng\nr\np\nWEIR_OPERATOR_TOKEN\nNone\nNone\n",
            "address inside the VPC is not known",
        ),
    ];
    for (definition, words) in definitions {
        let fake = account();
        fake.answers("aws-ecs-describe-task-definition", definition);
        weir(&fake, &["get"]).code(2).says(words).says("cure: ");
        assert!(fake.calls_of(&["aws", "ecs", "run-task"]).is_empty());
    }
}

#[test]
fn settings_come_from_variables_or_flags() {
    let mut fake = account();
    fake.set("WEIR_NAMESPACE", "dev.shop.local").set("WEIR_CONTROL_CONTAINER", "brain");
    fake.set("WEIR_TOKEN_VARIABLE", "PIPELINE").set("WEIR_NETWORK", r#"{"awsvpcConfiguration":{}}"#);
    weir(&fake, &["--cluster", "other", "--service", "other-control", "--task-definition", "mine:3", "get"])
        .code(0);
    let service = fake.calls_of(&["aws", "ecs", "describe-services"]).remove(0);
    assert_eq!((flag(&service, "--cluster"), flag(&service, "--services")), ("other", "other-control"));
    let call = fake.calls_of(&["aws", "ecs", "run-task"]).remove(0);
    assert_eq!(flag(&call, "--task-definition"), "mine:3");
    assert_eq!(flag(&call, "--network-configuration"), r#"{"awsvpcConfiguration":{}}"#);
    assert_eq!(command_of(&call), ["control", "--token-env", "PIPELINE", "get"]);
    let overrides: Value = serde_json::from_str(flag(&call, "--overrides")).unwrap();
    assert_eq!(overrides["containerOverrides"][0]["name"], "brain");
    let url = &overrides["containerOverrides"][0]["environment"][0]["value"];
    assert_eq!(url, "http://control.dev.shop.local:18000");
}

#[test]
fn a_service_on_a_capacity_provider_keeps_it() {
    let fake = account();
    let strategy = r#"[{"capacityProvider":"FARGATE_SPOT","weight":1,"base":0}]"#;
    fake.answers("aws-ecs-describe-services", &format!("ACTIVE\ncontrol:7\nNone\n{NETWORK}\n{strategy}\n"));
    weir(&fake, &["get"]).code(0);
    let call = fake.calls_of(&["aws", "ecs", "run-task"]).remove(0);
    assert_eq!(flag(&call, "--capacity-provider-strategy"), strategy);
    assert!(!call.contains(&"--launch-type".to_owned()));
}

#[test]
fn apply_sends_the_text_of_the_file() {
    let text = "{\n  \"traffic_weight_route1\": 70,\n  \"app_name\": \"it's \\\"x\\\"\"\n}";
    for line in [
        ["apply", "app.properties.json", "--route", "svc1", "--force"],
        ["apply", "--route", "svc1", "app.properties.json", "--force"],
        ["apply", "--force", "--route", "svc1", "app.properties.json"],
    ] {
        let fake = account();
        fake.file("app.properties.json", text);
        weir(&fake, &line).code(0);
        let command = command(&fake);
        assert_eq!(command[..3], ["apply", "--text", text]);
        let mut rest = command[3..].to_vec();
        rest.sort();
        assert_eq!(rest, ["--force", "--route", "svc1"]);
    }
    // The value of an option is not the file, wherever it stands.
    for line in [
        ["apply", "--build", "repo/app:1", "app.properties.json", "--route", "svc1"],
        ["apply", "app.properties.json", "--route", "svc1", "--build", "repo/app:1"],
    ] {
        let fake = account();
        fake.file("app.properties.json", text);
        weir(&fake, &line).code(0);
        let command = command(&fake);
        assert_eq!(command[..3], ["apply", "--text", text]);
        let at = command.iter().position(|word| word == "--build").unwrap();
        assert_eq!(command[at + 1], "repo/app:1");
        assert_eq!(command.len(), 7);
    }
    let fake = account();
    fake.run_with(WEIR, &["apply", "-", "--route", "svc1"], text).code(0);
    assert_eq!(command(&fake), ["apply", "--text", text, "--route", "svc1"]);
}

#[test]
fn apply_without_a_usable_file_starts_nothing() {
    let long = "x".repeat(9000);
    let fake = account();
    fake.file("long.json", &long);
    weir(&fake, &["apply", "long.json", "--route", "svc1"]).code(2).says("ECS takes 8192");
    weir(&fake, &["apply", "missing.json", "--route", "svc1"]).code(1).says("missing.json cannot be read");
    weir(&fake, &["apply", "--route", "svc1"]).code(2).says("needs a file");
    weir(&fake, &["apply", "a", "b", "--route", "svc1"]).code(2).says("one file");
    weir(&fake, &["apply", "--text", "{}"]).code(2).says("not --text");
    assert!(fake.calls_of(&["aws", "ecs", "run-task"]).is_empty());
}

#[test]
fn a_wrong_command_line_calls_nothing() {
    let lines: &[(&[&str], &str)] = &[
        (&[], "Usage: weir"),
        (&["frobnicate"], "does not know the command frobnicate"),
        (&["serve"], "runs as the service"),
        (&["get", "--watch"], "weir tunnel"),
        (&["--cluster"], "needs a value"),
        (&["--wrong", "get"], "does not know --wrong"),
        (&["--timeout", "soon", "get"], "soon is not a number"),
        (&["--cluster", "", "get"], "no cluster is named"),
        (&["bypass", "maybe"], "on, off, or nothing"),
        (&["tunnel", "99999"], "99999 is not a port"),
    ];
    for (line, words) in lines {
        let fake = account();
        weir(&fake, line).code(2).says(words);
        assert!(fake.calls().is_empty(), "{line:?}");
    }
    let mut fake = account();
    fake.set("WEIR_CONTROL_CONTAINER", "x' || 'y");
    weir(&fake, &["get"]).code(2).says("not the name of a container");
    let help = weir(&account(), &["--help"]);
    assert!(help.code(0).out.contains("Exit codes") && help.err.is_empty());
}

#[test]
fn without_the_aws_cli_it_says_so() {
    let fake = account();
    std::fs::remove_file(fake.path("bin/aws")).unwrap();
    let mut fake = fake;
    // Tools without a real aws CLI among them.
    for tool in ["sh", "mktemp", "rm", "cat", "awk", "sed", "tr", "grep", "date", "sleep"] {
        let real = ["/usr/bin", "/bin"]
            .iter()
            .map(|dir| format!("{dir}/{tool}"))
            .find(|path| std::path::Path::new(path).exists());
        std::os::unix::fs::symlink(real.unwrap(), fake.path("bin").join(tool)).unwrap();
    }
    let bin = fake.path("bin").display().to_string();
    fake.set("PATH", &bin);
    weir(&fake, &["get"]).code(69).says("the aws CLI is not installed");
}

#[test]
fn nothing_is_left_behind() {
    let fake = account();
    weir(&fake, &["get"]).code(0);
    fake.fails("aws-ecs-run-task", "An error occurred (AccessDenied)");
    weir(&fake, &["get"]).code(69);
    assert_eq!(std::fs::read_dir(fake.path("work")).unwrap().count(), 0);
}
