//! What people do by ECS Exec: exec, tunnel, and the override with control dead.
//!
//! Next: `bypass.rs`.

use crate::fake_aws::{Ended, Fake, flag};

fn account() -> Fake {
    let mut fake = Fake::new(&["aws", "session-manager-plugin"]);
    fake.set("WEIR_CLUSTER", "shop").set("WEIR_POLL_SECONDS", "0");
    let arn = "arn:aws:ecs:eu-west-1:111122223333:task/shop";
    fake.answers("aws-ecs-list-tasks", &format!("{arn}/aaaa\n{arn}/bbbb\n"));
    fake.answers("aws-ecs-execute-command", "Starting session with SessionId: x\nweir-override-done\n");
    fake.answers("aws-ecs-describe-tasks", "aaaa-265927825\n");
    fake.answers("aws-ssm-start-session", "Port 18000 opened\n");
    fake
}

fn weir(fake: &Fake, args: &[&str]) -> Ended {
    fake.run("config/ecs/weir", args)
}

fn session(fake: &Fake, number: usize) -> Vec<String> {
    fake.calls_of(&["aws", "ecs", "execute-command"]).remove(number)
}

#[test]
fn exec_opens_a_session_and_says_what_its_exit_code_is_worth() {
    let fake = account();
    weir(&fake, &["exec", "--", "gateway", "--mode", "doctor"]).code(0).says("by AWS's doing");
    let call = session(&fake, 0);
    assert_eq!(flag(&call, "--task"), "aaaa");
    assert_eq!(flag(&call, "--container"), "gateway");
    assert_eq!(flag(&call, "--command"), "gateway --mode doctor");
    assert!(call.contains(&"--interactive".to_owned()));
    assert_eq!(flag(&fake.calls_of(&["aws", "ecs", "list-tasks"])[0], "--service-name"), "gateway");
}

#[test]
fn exec_goes_to_control_or_to_a_named_task_and_opens_a_shell_by_itself() {
    let fake = account();
    weir(&fake, &["exec", "--control"]).code(0);
    let call = session(&fake, 0);
    assert_eq!((flag(&call, "--container"), flag(&call, "--command")), ("control", "/bin/sh"));
    weir(&fake, &["exec", "--task", "bbbb", "ls"]).code(0);
    assert_eq!(flag(&session(&fake, 1), "--task"), "bbbb");
}

#[test]
fn the_words_of_a_session_are_quoted_for_the_agent_that_splits_them() {
    let fake = account();
    weir(&fake, &["exec", "--", "sh", "-c", "echo \"it's\" $HOME", "", "a b"]).code(0);
    assert_eq!(flag(&session(&fake, 0), "--command"), r#"sh -c 'echo "it'\''s" $HOME' '' 'a b'"#);
}

#[test]
fn a_session_that_cannot_be_opened_says_why() {
    let fake = account();
    fake.fails(
        "aws-ecs-execute-command",
        "An error occurred (InvalidParameterException) when calling the ExecuteCommand operation: The execute command failed because execute command was not enabled when the task was run\n",
    );
    weir(&fake, &["exec", "ls"]).code(69).says("enableExecuteCommand");
    let fake = account();
    fake.answers("aws-ecs-list-tasks", "");
    weir(&fake, &["exec", "ls"]).code(4).says("no running task");
    let fake = account();
    std::fs::remove_file(fake.path("bin/session-manager-plugin")).unwrap();
    for line in [&["exec", "ls"][..], &["tunnel"], &["override", "svc1", "v1", "--for", "60m"]] {
        weir(&fake, line).code(69).says("session-manager-plugin is not installed");
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn a_tunnel_goes_to_controls_port_by_the_tasks_runtime_id() {
    let mut fake = account();
    fake.set("WEIR_CLUSTER", "arn:aws:ecs:eu-west-1:111122223333:cluster/shop");
    weir(&fake, &["tunnel", "8080"]).code(0).says("CONTROL_URL=http://127.0.0.1:8080");
    let call = fake.calls_of(&["aws", "ssm", "start-session"]).remove(0);
    assert_eq!(flag(&call, "--target"), "ecs:shop_aaaa_aaaa-265927825");
    assert_eq!(flag(&call, "--document-name"), "AWS-StartPortForwardingSession");
    assert_eq!(flag(&call, "--parameters"), r#"{"portNumber":["18000"],"localPortNumber":["8080"]}"#);
    assert_eq!(flag(&fake.calls_of(&["aws", "ecs", "list-tasks"])[0], "--service-name"), "control");

    weir(&fake, &["tunnel", "--gateway"]).code(0);
    let call = fake.calls_of(&["aws", "ssm", "start-session"]).remove(1);
    assert_eq!(flag(&call, "--parameters"), r#"{"portNumber":["9901"],"localPortNumber":["9901"]}"#);
}

#[test]
fn a_tunnel_that_fails_is_not_a_success() {
    let fake = account();
    fake.answers("aws-ecs-describe-tasks", "None\n");
    weir(&fake, &["tunnel"]).code(69).says("no running container control");
    let fake = account();
    fake.fails(
        "aws-ssm-start-session",
        "An error occurred (TargetNotConnected) when calling the StartSession operation\n",
    );
    weir(&fake, &["tunnel"]).code(69).says("enableExecuteCommand");
}

#[test]
fn an_override_is_set_in_every_gateway() {
    let fake = account();
    let ended = weir(&fake, &["override", "svc1", "v1", "--for", "60m"]);
    ended
        .code(0)
        .says("aaaa: done")
        .says("bbbb: done")
        .says("gateways that start from now on do not have it");
    for (number, task) in ["aaaa", "bbbb"].into_iter().enumerate() {
        let call = session(&fake, number);
        assert_eq!(flag(&call, "--task"), task);
        let command = "/bin/sh -c 'gateway override svc1 v1 --for 60m && echo weir-override-done'";
        assert_eq!(flag(&call, "--command"), command);
    }
    weir(&fake, &["override", "svc1", "--release"]).code(0);
    assert!(flag(&session(&fake, 2), "--command").contains("gateway override svc1 --release &&"));
}

/// A session ends with 0 even when the gateway refused.
#[test]
fn an_override_that_some_gateway_did_not_take_is_told() {
    let fake = account();
    fake.answers("aws-ecs-execute-command.2", "Starting session\nerror: there is no route svc1\n");
    let ended = weir(&fake, &["override", "svc1", "v1", "--for", "60m"]);
    ended
        .code(3)
        .says("aaaa: done")
        .says("bbbb: NOT done")
        .says("there is no route svc1")
        .says("weir exec --task ID");
    let fake = account();
    fake.fails("aws-ecs-execute-command.1", "An error occurred (TargetNotConnected)\n");
    weir(&fake, &["override", "svc1", "v1", "--for", "60m"])
        .code(3)
        .says("aaaa: NOT done")
        .says("bbbb: done");
    let fake = account();
    fake.answers("aws-ecs-list-tasks", "");
    weir(&fake, &["override", "svc1", "v1", "--for", "60m"]).code(4);
}

/// The words end up in a command line of another shell.
#[test]
fn an_override_takes_names_and_times_only() {
    let fake = account();
    let wrong: &[&[&str]] = &[
        &["svc1"],
        &["svc1", "v1"],
        &["svc1", "v1", "--for", "soon"],
        &["svc1", "v1", "--for", "60m;x"],
        &["svc1;x", "v1", "--for", "60m"],
        &["svc1", "v'1", "--for", "60m"],
        &["svc1", "--release", "now"],
        &["-x", "v1", "--for", "60m"],
    ];
    for words in wrong {
        let line: Vec<&str> = ["override"].iter().chain(*words).copied().collect();
        weir(&fake, &line).code(2);
    }
    assert!(fake.calls().is_empty());
}
