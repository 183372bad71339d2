//! The pipeline's `release.sh`: the order of its steps, and what is true when one fails.
//!
//! The fault that matters: a share of the customers on a build that nobody saw answering. Next: `workflow.rs`.

use crate::fake_aws::{Ended, Fake, command_of, flag, root};
use serde_json::{Value, json};

const RELEASE: &str = "config/ecs/github/release.sh";
const OLD: &str = "repo/app:old";
const CANARY: &str = "repo/app:canary";
const NEW: &str = "repo/app:new";

fn properties(once: bool, always: bool) -> String {
    format!(
        "{{\n  \"app_name\": \"shop\",\n  \"service1_name\": \"svc1-v1\",\n  \"service1_port\": 3000,\n  \"service2_name\": \"svc1-v2\",\n  \
         \"traffic_weight_route1\": 70,\n  \"traffic_weight_route2\": 30,\n  \"setLatestStableOnce\": {once},\n  \"setLatestStable\": {always}\n}}\n"
    )
}

fn route(stable: &str, canary: &str, weight: u32) -> String {
    let route = json!({
        "control": {"id": "c", "revision": 7},
        "routes": [{"name": "svc1", "targets": ["v1", "v2"], "stable": stable,
            "weights": {stable: 10_000 - weight, canary: weight},
            "gateways": [{"id": "g", "weights": {"v1": 1, "v2": 0}}],
            "traffic": {"v1": {"requests": 1}}}],
    });
    format!("{route:#}\n")
}

fn services(fake: &Fake, kind: &str, definition: &str, desired: u32) {
    fake.answers(kind, &format!("ACTIVE\n{definition}\n{desired}\n"));
}

fn steady(fake: &Fake, kind: &str, definition: &str) {
    fake.answers(kind, &format!("{definition}\nCOMPLETED\n2\n2\n"));
}

fn definition(fake: &Fake, number: u32, image: &str) {
    fake.answers(&format!("aws-ecs-describe-task-definition.{number}"), &format!("app\t{image}\n"));
}

/// The second question about a task definition, of which the new one is made.
fn template(fake: &Fake, number: u32, family: &str, image: &str) {
    let containers =
        json!([{"name": "app", "image": image, "environment": [{"name": "A", "value": "a \"b\"\tc"}]}]);
    fake.answers(
        &format!("aws-ecs-describe-task-definition.{number}"),
        &format!(
            "{family}\n{containers}\narn:task-role\narn:execution-role\nawsvpc\n512\n1024\nnull\nnull\n[\"FARGATE\"]\n[]\n[]\n\
             {{\"cpuArchitecture\":\"ARM64\"}}\nnull\nnull\n[{{\"key\":\"team\",\"value\":\"shop\"}}]\n"
        ),
    );
}

fn answer_of(target: &str, status: u16) -> String {
    format!(
        "HTTP/1.1 200 Connection established\r\n\r\nHTTP/2 {status} \r\nserver: envoy\r\nX-Weir-Target: {target}\r\n\r\n"
    )
}

/// Nothing but what every release needs.
fn site(text: &str) -> Fake {
    let mut fake = Fake::new(&["aws", "curl", "weir"]);
    let weir = fake.path("bin/weir").display().to_string();
    fake.set("WEIR", &weir).set("WEIR_CLUSTER", "shop").set("IMAGE", NEW);
    fake.set("SMOKE_URL", "https://shop.example/").set("SMOKE_REQUESTS", "1").set("POLL_SECONDS", "0");
    fake.file("app.properties.json", text);
    for change in ["apply", "set-weight", "stable"] {
        fake.answers(&format!("weir-{change}"), "done\n");
    }
    fake.answers("aws-ecs-update-service", "arn:service\n");
    fake.answers("aws-ecs-wait", "");
    // What weights alone are told about the canary.
    services(&fake, "aws-ecs-describe-services", "v2:4", 1);
    fake.answers("aws-ecs-describe-task-definition", &format!("app\t{CANARY}\n"));
    fake
}

/// A canary with 30 %, and answers for the whole of `copy`.
fn copy() -> Fake {
    let mut fake = site(&properties(true, false));
    fake.set("MODE", "copy").answers("weir-get", &route("v1", "v2", 3000));
    // v2 before anything, v2 for its image, v1, v1 steady, v2, v2 steady.
    services(&fake, "aws-ecs-describe-services.1", "v2:4", 1);
    services(&fake, "aws-ecs-describe-services.2", "v2:4", 1);
    services(&fake, "aws-ecs-describe-services.3", "v1:8", 2);
    steady(&fake, "aws-ecs-describe-services.4", "v1:9");
    services(&fake, "aws-ecs-describe-services.5", "v2:4", 1);
    steady(&fake, "aws-ecs-describe-services.6", "v2:5");
    definition(&fake, 1, CANARY);
    definition(&fake, 2, CANARY);
    definition(&fake, 3, OLD);
    template(&fake, 4, "v1", CANARY);
    definition(&fake, 5, CANARY);
    template(&fake, 6, "v2", NEW);
    fake.answers("aws-ecs-register-task-definition.1", "v1:9\n");
    fake.answers("aws-ecs-register-task-definition.2", "v2:5\n");
    fake.answers("curl.1", &answer_of("v2", 200));
    fake.answers("curl.2", &answer_of("v1", 200));
    fake.answers("curl.3", &answer_of("v2", 200));
    fake
}

/// A canary with 30 % on one task beside a stable service of two, and answers for the whole of `swap`.
fn swap() -> Fake {
    let mut fake = site(&properties(false, true));
    fake.set("MODE", "swap").answers("weir-get", &route("v1", "v2", 3000));
    // v2 before anything, v1 for its size, v2 for its image, v2 steady, v1, v1 steady.
    services(&fake, "aws-ecs-describe-services.1", "v2:4", 1);
    services(&fake, "aws-ecs-describe-services.2", "v1:8", 2);
    services(&fake, "aws-ecs-describe-services.3", "v2:4", 1);
    steady(&fake, "aws-ecs-describe-services.4", "v2:4");
    services(&fake, "aws-ecs-describe-services.5", "v1:8", 2);
    steady(&fake, "aws-ecs-describe-services.6", "v1:9");
    definition(&fake, 1, CANARY);
    definition(&fake, 2, OLD);
    definition(&fake, 3, CANARY);
    definition(&fake, 4, OLD);
    template(&fake, 5, "v1", NEW);
    fake.answers("aws-ecs-register-task-definition", "v1:9\n");
    fake.answers("curl.1", &answer_of("v2", 200));
    fake.answers("curl.2", &answer_of("v1", 200));
    fake
}

fn release(fake: &Fake) -> Ended {
    fake.run(RELEASE, &["release"])
}

/// What was done, in order: changes and smoke tests, no questions.
fn deeds(fake: &Fake) -> Vec<String> {
    let mut deeds = Vec::new();
    for call in fake.calls() {
        let words: Vec<&str> = call.iter().map(String::as_str).collect();
        match words[..] {
            ["weir", "get", ..] | ["aws", "ecs", "describe-services" | "describe-task-definition", ..] => {}
            ["weir", ..] => {
                let end = words.iter().position(|word| *word == "--reason").unwrap();
                deeds.push(words[..end].join(" "));
            }
            ["curl", ..] => deeds.push(format!("smoke {}", flag(&call, "-H"))),
            ["aws", "ecs", "register-task-definition", ..] => {
                let containers: Value = serde_json::from_str(flag(&call, "--container-definitions")).unwrap();
                deeds.push(format!(
                    "register {} {}",
                    flag(&call, "--family"),
                    containers[0]["image"].as_str().unwrap()
                ));
            }
            ["aws", "ecs", "update-service", ..] => {
                let what =
                    if words.contains(&"--desired-count") { "--desired-count" } else { "--task-definition" };
                deeds.push(format!("update {} {}", flag(&call, "--service"), flag(&call, what)));
            }
            ["aws", "ecs", "wait", "services-stable", ..] => {
                deeds.push(format!("wait {}", flag(&call, "--services")))
            }
            _ => panic!("{words:?}"),
        }
    }
    deeds
}

fn flags(fake: &Fake) -> (Value, Value) {
    let text = std::fs::read_to_string(fake.path("work/app.properties.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    (value["setLatestStableOnce"].clone(), value["setLatestStable"].clone())
}

#[test]
fn the_plan_is_read_from_the_two_flags() {
    for (once, always, plan) in [
        (false, false, "weights\n"),
        (true, false, "promote\n"),
        (false, true, "promote\n"),
        (true, true, "promote\n"),
    ] {
        let fake = site(&properties(once, always));
        assert_eq!(fake.run(RELEASE, &["plan"]).code(0).out, plan);
    }
    let fake = site("{\"service1_name\": \"a\"}");
    assert_eq!(fake.run(RELEASE, &["plan"]).code(0).out, "weights\n");
}

#[test]
fn weights_alone_are_one_command_and_no_deployment() {
    let mut fake = site(&properties(false, false));
    fake.set("SMOKE_URL", "");
    release(&fake).code(0);
    assert_eq!(
        deeds(&fake),
        [format!(
            "weir apply app.properties.json --route svc1 --map service1=v1,service2=v2 --build {CANARY}"
        )]
    );
    assert_eq!(fake.calls().len(), 3, "two questions about the canary's image");
}

/// IMAGE is what a promotion would deploy; weights alone name what is there.
#[test]
fn weights_alone_name_the_build_that_the_canary_runs_and_are_set_without_it_too() {
    for (mode, canary) in [("copy", "v2"), ("swap", "v1")] {
        let mut fake = site(&properties(false, false));
        fake.set("MODE", mode).answers("weir-get", &route("v2", "v1", 3000));
        fake.answers("curl", &answer_of(canary, 200));
        release(&fake).code(0);
        let asked = fake.calls_of(&["aws", "ecs", "describe-services"]);
        assert_eq!(flag(&asked[0], "--services"), format!("svc1-{canary}"), "{mode}");
        assert!(deeds(&fake).pop().unwrap().ends_with(&format!(" --build {CANARY}")), "{mode}");
    }
    for (is_idle, words) in
        [(false, "describing the service svc1-v2: the aws CLI failed"), (true, "scaled to 0 tasks")]
    {
        let mut fake = site(&properties(false, false));
        fake.set("SMOKE_URL", "");
        if is_idle {
            services(&fake, "aws-ecs-describe-services", "v2:4", 0);
        } else {
            fake.fails("aws-ecs-describe-services", "AccessDenied");
        }
        release(&fake).code(0).says("which build v2 runs is not known").says(words);
        assert_eq!(deeds(&fake).len(), 1);
        assert!(!deeds(&fake)[0].contains("--build"), "{words}");
    }
}

/// What a release left behind with 0 % because it did not answer.
#[test]
fn weights_do_not_raise_a_canary_that_does_not_answer_but_lower_it() {
    let apply = |stable, canary| {
        format!("weir apply app.properties.json --route svc1 --map service1={stable},service2={canary}")
    };
    let named = |stable, canary| format!("{} --build {CANARY}", apply(stable, canary));
    for (mode, stable, canary) in [("copy", "v1", "v2"), ("swap", "v2", "v1")] {
        for (now, is_set) in [(0, false), (2999, false), (3000, true), (5000, true)] {
            let mut fake = site(&properties(false, false));
            fake.set("MODE", mode).answers("weir-get", &route(stable, canary, now));
            fake.answers("curl", &answer_of(canary, 503));
            let ended = release(&fake);
            let smoke = format!("smoke x-canary: {canary}");
            if is_set {
                ended.code(0);
                assert_eq!(deeds(&fake), [smoke, named(stable, canary)], "{mode} {now}");
            } else {
                ended.code(1).says(&format!("{canary} fails its smoke test and is not raised to 30"));
                assert_eq!(deeds(&fake), [smoke], "{mode} {now}");
            }
        }
        let mut fake = site(&properties(false, false));
        fake.set("MODE", mode).answers("weir-get", &route(stable, canary, 0));
        fake.answers("curl", &answer_of(canary, 200));
        release(&fake).code(0);
        assert_eq!(deeds(&fake), [format!("smoke x-canary: {canary}"), named(stable, canary)]);
        // Nothing to look at when it is to have nothing.
        let mut fake = site(&properties(false, false).replace(": 30", ": 0").replace(": 70", ": 100"));
        fake.set("MODE", mode).answers("weir-get", &route(stable, canary, 3000));
        release(&fake).code(0);
        assert_eq!(deeds(&fake), [apply(stable, canary)]);
    }
}

/// Control raises another build after a rollback, and not the one that was rolled back: it must be told which it is.
/// `--force` would also raise a version without endpoints.
#[test]
fn after_a_rollback_control_is_told_the_build_and_never_forced() {
    let promote = |image: &str| {
        let fake = site(&properties(false, true));
        fake.answers("weir-get", &route("v1", "v2", 0));
        services(&fake, "aws-ecs-describe-services", "v2:4", 1);
        steady(&fake, "aws-ecs-describe-services.3", if image == NEW { "v2:4" } else { "v2:5" });
        definition(&fake, 1, image);
        definition(&fake, 2, image);
        template(&fake, 3, "v2", NEW);
        fake.answers("aws-ecs-register-task-definition", "v2:5\n").answers("curl", &answer_of("v2", 200));
        release(&fake).code(0);
        deeds(&fake).pop().unwrap()
    };
    for image in ["repo/app:broken", NEW] {
        let deed = promote(image);
        assert!(deed.ends_with(&format!(" --build {NEW}")) && !deed.contains("--force"), "{image}: {deed}");
    }
}

#[test]
fn a_deployment_that_is_nearly_done_is_awaited() {
    let fake = copy();
    fake.answers("aws-ecs-describe-services.4", "v1:9\nIN_PROGRESS\n2\n2\n");
    steady(&fake, "aws-ecs-describe-services.5", "v1:9");
    services(&fake, "aws-ecs-describe-services.6", "v2:4", 1);
    steady(&fake, "aws-ecs-describe-services.7", "v2:5");
    release(&fake).code(0);
}

/// Each step of a swap that fails, and then the same run again: the old build never becomes the stable one.
#[test]
fn a_swap_that_stopped_half_way_is_finished_by_a_second_run() {
    for (fault, stable, canary, weight) in
        [("weir-set-weight", "v1", "v2", 3000), ("weir-stable", "v1", "v2", 10_000)]
    {
        let fake = swap();
        fake.ends(fault, 1);
        release(&fake).code(1);
        let again = swap();
        again.answers("weir-get", &route(stable, canary, weight));
        release(&again).code(0);
        assert!(deeds(&again).contains(&"weir stable svc1 v2 --build repo/app:canary".to_owned()), "{fault}");
    }
    // Between the change of the stable target and the new build.
    let mut fake = site(&properties(false, true));
    fake.set("MODE", "swap").answers("weir-get", &route("v2", "v1", 0));
    services(&fake, "aws-ecs-describe-services", "v1:8", 2);
    steady(&fake, "aws-ecs-describe-services.3", "v1:9");
    definition(&fake, 1, OLD);
    definition(&fake, 2, OLD);
    template(&fake, 3, "v1", NEW);
    fake.answers("aws-ecs-register-task-definition", "v1:9\n").answers("curl", &answer_of("v1", 200));
    release(&fake).code(0).says("it is not promoted");
    assert!(deeds(&fake).iter().all(|deed| !deed.starts_with("weir stable")));
}

#[test]
fn in_swap_the_second_weight_is_the_canarys_whoever_it_is() {
    for (stable, canary) in [("v1", "v2"), ("v2", "v1")] {
        let mut fake = site(&properties(false, false));
        fake.set("MODE", "swap").set("SMOKE_URL", "").answers("weir-get", &route(stable, canary, 0));
        release(&fake).code(0);
        assert_eq!(
            deeds(&fake),
            [format!(
                "weir apply app.properties.json --route svc1 --map service1={stable},service2={canary} --build {CANARY}"
            )]
        );
    }
}

#[test]
fn copy_makes_the_canarys_image_stable_and_the_new_build_the_canary() {
    let fake = copy();
    release(&fake).code(0).says("setLatestStableOnce is false");
    assert_eq!(
        deeds(&fake),
        [
            "smoke x-canary: v2",
            "weir set-weight svc1 v2=0",
            "register v1 repo/app:canary",
            "update svc1-v1 v1:9",
            "wait svc1-v1",
            "smoke x-canary: v1",
            "weir stable svc1 v1 --build repo/app:canary",
            "register v2 repo/app:new",
            "update svc1-v2 v2:5",
            "wait svc1-v2",
            "smoke x-canary: v2",
            "weir apply app.properties.json --route svc1 --map service1=v1,service2=v2 --build repo/app:new",
        ]
    );
    assert_eq!(flags(&fake), (json!(false), json!(false)));
}

#[test]
fn swap_makes_the_canary_stable_with_as_many_tasks_and_the_other_service_the_canary() {
    let fake = swap();
    release(&fake).code(0).says("WEIR_STABLE_TARGET_GROUP must be the target group of svc1-v2");
    assert_eq!(
        deeds(&fake),
        [
            "smoke x-canary: v2",
            "update svc1-v2 2",
            "wait svc1-v2",
            "weir set-weight svc1 v2=100",
            "weir stable svc1 v2 --build repo/app:canary",
            "register v1 repo/app:new",
            "update svc1-v1 v1:9",
            "wait svc1-v1",
            "smoke x-canary: v1",
            "weir apply app.properties.json --route svc1 --map service1=v2,service2=v1 --build repo/app:new",
        ]
    );
    assert_eq!(flags(&fake), (json!(false), json!(true)), "setLatestStable stays");
}

#[test]
fn a_new_task_definition_differs_in_the_image_only() {
    let fake = copy();
    release(&fake).code(0);
    let call = fake.calls_of(&["aws", "ecs", "register-task-definition"]).remove(0);
    let expected = [
        ("--family", "v1"),
        ("--task-role-arn", "arn:task-role"),
        ("--execution-role-arn", "arn:execution-role"),
        ("--network-mode", "awsvpc"),
        ("--cpu", "512"),
        ("--memory", "1024"),
        ("--requires-compatibilities", "[\"FARGATE\"]"),
        ("--runtime-platform", "{\"cpuArchitecture\":\"ARM64\"}"),
        ("--tags", "[{\"key\":\"team\",\"value\":\"shop\"}]"),
    ];
    for (name, value) in expected {
        assert_eq!(flag(&call, name), value);
    }
    for absent in ["--pid-mode", "--volumes", "--ephemeral-storage", "--proxy-configuration"] {
        assert!(!call.contains(&absent.to_owned()), "{absent}");
    }
    let containers: Value = serde_json::from_str(flag(&call, "--container-definitions")).unwrap();
    assert_eq!(containers[0]["environment"][0]["value"], "a \"b\"\tc");
    let asked = &fake.calls_of(&["aws", "ecs", "describe-task-definition"])[3];
    assert!(flag(asked, "--query").contains(r#"merge(@,`{"image":"repo/app:canary"}`)"#));
}

/// Every step that can fail, and the last thing that was done before it stopped.
#[test]
fn a_failing_step_stops_the_release_with_the_canary_at_zero() {
    type Break = for<'a> fn(&'a Fake) -> &'a Fake;
    let faults: &[(&str, Break, &str, &str)] = &[
        (
            "the canary does not answer",
            |fake| fake.answers("curl.1", &answer_of("v2", 503)),
            "nothing was changed",
            "smoke x-canary: v2",
        ),
        (
            "the weights are refused",
            |fake| fake.ends("weir-set-weight", 1),
            "nothing was changed",
            "weir set-weight svc1 v2=0",
        ),
        (
            "register is refused",
            |fake| fake.fails("aws-ecs-register-task-definition.1", "AccessDenied"),
            "v2 has 0 %",
            "register v1 repo/app:canary",
        ),
        (
            "update is refused",
            |fake| fake.fails("aws-ecs-update-service.1", "AccessDenied"),
            "v2 has 0 %",
            "update svc1-v1 v1:9",
        ),
        (
            "v1 is not steady",
            |fake| fake.fails("aws-ecs-wait.1", "Max attempts exceeded"),
            "v2 has 0 %",
            "wait svc1-v1",
        ),
        (
            "ECS went back",
            |fake| {
                steady(fake, "aws-ecs-describe-services.4", "v1:8");
                fake
            },
            "v2 has 0 %",
            "wait svc1-v1",
        ),
        (
            "v1 does not answer",
            |fake| fake.answers("curl.2", &answer_of("v1", 500)),
            "v2 has 0 %; v1 runs repo/app:canary",
            "smoke x-canary: v1",
        ),
        (
            "the header is not obeyed",
            |fake| fake.answers("curl.2", &answer_of("v2", 200)),
            "v2 has 0 %; v1 runs repo/app:canary",
            "smoke x-canary: v1",
        ),
        (
            "v2 is not steady",
            |fake| fake.fails("aws-ecs-wait.2", "Max attempts exceeded"),
            "v2 has 0 %, all requests go to v1",
            "wait svc1-v2",
        ),
        (
            "v2 has no task",
            |fake| fake.answers("aws-ecs-describe-services.6", "v2:5\nCOMPLETED\n0\n2\n"),
            "v2 has 0 %, all requests go to v1",
            "wait svc1-v2",
        ),
        (
            "v2 fails its rollout",
            |fake| fake.answers("aws-ecs-describe-services.6", "v2:5\nFAILED\n2\n2\n"),
            "v2 has 0 %, all requests go to v1",
            "wait svc1-v2",
        ),
        (
            "the new build does not answer",
            |fake| fake.answers("curl.3", &answer_of("v2", 502)),
            "v2 has 0 %, all requests go to v1",
            "smoke x-canary: v2",
        ),
        (
            "curl fails",
            |fake| fake.ends("curl.3", 28),
            "v2 has 0 %, all requests go to v1",
            "smoke x-canary: v2",
        ),
    ];
    for (fault, breaks, state, last) in faults {
        let fake = copy();
        breaks(&fake);
        let ended = release(&fake);
        ended.code(1).says("STOPPED").says(&format!("state: {state}"));
        let deeds = deeds(&fake);
        assert_eq!(deeds.last().unwrap(), last, "{fault}: {deeds:?}");
        assert!(!deeds.iter().any(|deed| deed.starts_with("weir apply")), "{fault}");
        let canary_is_stable = deeds.iter().any(|deed| deed.starts_with("weir stable"));
        assert_eq!(flags(&fake).0, json!(!canary_is_stable), "{fault}: a second run must promote once only");
    }
}

#[test]
fn a_failing_swap_leaves_no_share_on_what_was_not_tested() {
    let fake = swap();
    fake.fails("aws-ecs-wait.1", "Max attempts exceeded");
    release(&fake).code(1).says("svc1-v2 is scaled to 2 tasks, the weights are as before");
    let fake = swap();
    fake.answers("curl.2", &answer_of("v1", 503));
    release(&fake).code(1).says("v1 has 0 %, all requests go to v2");
    assert_eq!(deeds(&fake).last().unwrap(), "smoke x-canary: v1");
    let fake = swap();
    fake.ends("weir-stable", 3);
    release(&fake).code(1).says("weir ended with 3");
    assert_eq!(deeds(&fake).last().unwrap(), "weir stable svc1 v2 --build repo/app:canary");
    assert_eq!(deeds(&fake)[3], "weir set-weight svc1 v2=100", "{:?}", deeds(&fake));
}

/// After a rollback, or after a release that stopped half way.
#[test]
fn a_canary_without_traffic_is_replaced_and_not_promoted() {
    for mode in ["copy", "swap"] {
        let mut fake = site(&properties(true, true));
        fake.set("MODE", mode).answers("weir-get", &route("v1", "v2", 0));
        services(&fake, "aws-ecs-describe-services", "v2:4", 1);
        steady(&fake, "aws-ecs-describe-services.3", "v2:5");
        definition(&fake, 1, "repo/app:broken");
        definition(&fake, 2, "repo/app:broken");
        template(&fake, 3, "v2", NEW);
        fake.answers("aws-ecs-register-task-definition", "v2:5\n");
        fake.answers("curl", &answer_of("v2", 200));
        release(&fake).code(0).says("it is not promoted");
        let deeds = deeds(&fake);
        assert_eq!(
            deeds[..4],
            ["register v2 repo/app:new", "update svc1-v2 v2:5", "wait svc1-v2", "smoke x-canary: v2"]
        );
        assert_eq!(deeds.len(), 5);
        assert_eq!(flags(&fake).0, json!(false));
    }
}

#[test]
fn the_same_build_is_not_promoted_a_second_time() {
    let fake = site(&properties(false, true));
    fake.answers("weir-get", &route("v1", "v2", 3000));
    services(&fake, "aws-ecs-describe-services", "v2:5", 2);
    steady(&fake, "aws-ecs-describe-services.3", "v2:5");
    fake.answers("aws-ecs-describe-task-definition", &format!("app\t{NEW}\n"));
    fake.answers("curl", &answer_of("v2", 200));
    release(&fake).code(0).says("there is nothing to promote");
    assert_eq!(
        deeds(&fake),
        [
            "wait svc1-v2",
            "smoke x-canary: v2",
            "weir apply app.properties.json --route svc1 --map service1=v1,service2=v2 --build repo/app:new"
        ]
    );
}

#[test]
fn the_exit_code_of_the_last_weights_is_weirs() {
    for (code, state) in
        [(3, "not every gateway serves them"), (1, "nothing was changed"), (69, "nothing was changed")]
    {
        let mut fake = site(&properties(false, false));
        fake.set("SMOKE_URL", "").ends("weir-apply", code);
        release(&fake).code(code).says(&format!("weir ended with {code}")).says(state);
    }
}

#[test]
fn a_control_that_cannot_be_asked_changes_nothing() {
    let answers: &[(&str, i32, &str)] = &[
        ("", 69, "exit code 69"),
        ("not json\n", 0, "is not JSON"),
        ("{\"routes\": [{\"stable\": \"v3\", \"weights\": {}}]}\n", 0, "neither v1 nor v2"),
        ("{\"routes\": [{\"stable\": \"v1\"}]}\n", 0, "does not know the weights"),
    ];
    for (answer, code, words) in answers {
        let fake = copy();
        fake.answers("weir-get", answer).ends("weir-get", *code);
        release(&fake).code(1).says(words).says("nothing was changed");
        assert!(deeds(&fake).is_empty());
    }
    let mut fake = copy();
    fake.answers("weir-get", &route("v2", "v1", 3000));
    fake.set("V1_SERVICE", "svc1-v1").set("V2_SERVICE", "svc1-v2");
    release(&fake).code(1).says("MODE=swap");
    assert!(deeds(&fake).is_empty());
}

#[test]
fn wrong_settings_are_told_before_anything_is_called() {
    let files: &[(&str, &str)] = &[
        ("{", "is not JSON"),
        ("{\"a\": 1} x", "something follows the end"),
        ("{\"a\" 1}", "a colon is expected"),
        ("{\"a\": \"b}", "a string has no end"),
        ("{\"a\": 01x}", "not JSON: 01x"),
        ("{\"setLatestStable\": \"yes\"}", "true or false, not yes"),
    ];
    for (text, words) in files {
        let fake = site(text);
        release(&fake).code(2).says(words);
        assert!(fake.calls().is_empty(), "{text}");
    }
    let settings = [
        ("IMAGE", "", "no new build"),
        ("WEIR_CLUSTER", "", "no cluster"),
        ("SMOKE_URL", "", "smoke test"),
        ("SMOKE_REQUESTS", "0", "from 1"),
        ("MODE", "move", "copy or swap"),
    ];
    for (name, value, words) in settings {
        let mut fake = copy();
        fake.set(name, value);
        release(&fake).code(2).says(words);
        assert!(fake.calls().is_empty(), "{name}");
    }
    let mut fake = site("{}");
    fake.set("PROPERTIES", "other.json");
    release(&fake).code(2).says("other.json cannot be read");
    fake.run(RELEASE, &[]).code(2).says("Usage: release.sh");
}

#[test]
fn of_several_containers_the_one_with_the_image_must_be_named() {
    let two = format!("app\t{CANARY}\nlogs\trepo/logs:1\n");
    let fake = copy();
    fake.answers("aws-ecs-describe-task-definition.1", &two);
    release(&fake).code(1).says("several containers").says("nothing was changed");
    let mut fake = copy();
    fake.set("V2_CONTAINER", "app").set("V1_CONTAINER", "app");
    for number in [1, 2, 5] {
        fake.answers(&format!("aws-ecs-describe-task-definition.{number}"), &two);
    }
    release(&fake).code(0);
    fake.set("V2_CONTAINER", "web");
    let mut fake = copy();
    fake.set("V2_CONTAINER", "web");
    release(&fake).code(1).says("no container web");
}

#[test]
fn a_service_that_is_off_or_unknown_is_not_deployed_to() {
    for (answer, words) in
        [("None\nNone\nNone\n", "no active service svc1-v2"), ("ACTIVE\nv2:4\n0\n", "scaled to 0")]
    {
        let fake = copy();
        fake.answers("aws-ecs-describe-services.1", answer);
        release(&fake).code(1).says(words).says("nothing was changed");
        assert!(deeds(&fake).is_empty());
    }
}

/// release.sh with the real weir: the text of the file arrives in the task.
#[test]
fn release_and_weir_fit_together() {
    let mut fake = site(&properties(false, false));
    let weir = root().join("config/ecs/weir").display().to_string();
    fake.set("SMOKE_URL", "")
        .set("WEIR", &weir)
        .set("WEIR_POLL_SECONDS", "0")
        .set("WEIR_NAMESPACE", "shop.local");
    services(&fake, "aws-ecs-describe-services.1", "v2:4", 1);
    definition(&fake, 1, CANARY);
    fake.answers(
        "aws-ecs-describe-services",
        "ACTIVE\ncontrol:7\nFARGATE\n{\"awsvpcConfiguration\":{}}\nnull\n",
    );
    let definition = "control\nawslogs\n/ecs/c\neu-west-1\ncontrol\nWEIR_OPERATOR_TOKEN\nNone\nNone\n";
    fake.answers("aws-ecs-describe-task-definition", definition);
    fake.answers("aws-ecs-run-task", "arn:task/shop/1\nNone\nNone\n");
    fake.answers("aws-ecs-describe-tasks", "STOPPED\n0\n");
    fake.answers("aws-logs-get-log-events", "f/1\nsvc1: v1 70 %, v2 30 %\n");
    let ended = release(&fake);
    assert_eq!(ended.code(0).out, "svc1: v1 70 %, v2 30 %\n");
    let command = command_of(&fake.calls_of(&["aws", "ecs", "run-task"])[0]);
    let text = properties(false, false);
    assert_eq!(command[3..6], ["apply", "--text", text.trim_end()]);
    let words = ["--route", "svc1", "--map", "service1=v1,service2=v2", "--build", CANARY];
    assert_eq!(command[6..12], words);
}

const COMMIT: &str = "config/ecs/github/commit.sh";

#[test]
fn a_file_that_is_as_it_was_is_not_committed() {
    let fake = Fake::new(&["git"]);
    fake.answers("git-diff", "");
    fake.run(COMMIT, &[]).code(0).says("is as it was");
    assert_eq!(fake.calls().len(), 1);
}

#[test]
fn a_flag_that_cannot_be_pushed_is_told_and_never_forced() {
    let fake = Fake::new(&["git"]);
    fake.ends("git-diff", 1).ends("git-push", 1);
    for call in ["config", "commit", "fetch", "reset"] {
        fake.answers(&format!("git-{call}"), "");
    }
    fake.file("app.properties.json", &properties(true, false));
    fake.run(COMMIT, &[]).code(1).says("set it to false by hand");
    assert!(!fake.calls().iter().flatten().any(|word| word.contains("force")));
    assert_eq!(fake.calls_of(&["git", "push"]).len(), 5);
}

fn git(folder: &std::path::Path, args: &[&str]) {
    let mut command = std::process::Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]).args(args);
    let output = command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Someone pushed weights while the release ran: the lines beside the flag. Both changes stay.
#[test]
fn the_commit_of_the_flag_goes_on_top_of_what_someone_else_pushed() {
    let old = properties(true, false);
    for (theirs, wanted) in [
        (old.replace(": 30", ": 5"), properties(false, false).replace(": 30", ": 5")),
        (properties(false, false), properties(false, false)),
    ] {
        let fake = Fake::new(&[]);
        let (work, other, store) = (fake.path("work"), fake.path("other"), fake.path("store.git"));
        git(&fake.path("."), &["init", "--quiet", "--bare", "store.git"]);
        let clone = |name: &str| git(&fake.path("."), &["clone", "--quiet", store.to_str().unwrap(), name]);
        clone("other");
        std::fs::write(other.join("app.properties.json"), &old).unwrap();
        git(&other, &["add", "."]);
        git(&other, &["commit", "--quiet", "-m", "one"]);
        git(&other, &["push", "--quiet", "origin", "HEAD:main"]);
        std::fs::remove_dir(&work).unwrap();
        // As shallow as the workflow's.
        let address = format!("file://{}", store.display());
        git(&fake.path("."), &["clone", "--quiet", "--depth", "1", "--branch", "main", &address, "work"]);
        std::fs::write(work.join("app.properties.json"), properties(false, false)).unwrap();
        std::fs::write(other.join("app.properties.json"), theirs).unwrap();
        git(&other, &["commit", "--quiet", "-am", "two"]);
        git(&other, &["push", "--quiet", "origin", "HEAD:main"]);
        fake.run(COMMIT, &[]).code(0);
        git(&other, &["pull", "--quiet", "origin", "main"]);
        assert_eq!(std::fs::read_to_string(other.join("app.properties.json")).unwrap(), wanted);
    }
}
