//! The workflow and the roles beside the scripts: what they may do, and that they fit the scripts.
//!
//! Owns no run on GitHub. Next: `real_cli.rs`.

use crate::fake_aws::root;
use gateway_config::diagnostic::Collector;
use gateway_config::tree;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn workflow() -> Value {
    let text = text("config/ecs/github/weir.yml");
    let mut out = Collector::new("weir.yml", &text);
    let node = tree::read(&text, &mut out);
    node.unwrap_or_else(|| panic!("weir.yml is not YAML")).to_json()
}

fn steps() -> Vec<Value> {
    workflow()["jobs"]["release"]["steps"].as_array().unwrap().clone()
}

fn runs() -> Vec<String> {
    steps().iter().filter_map(|step| step["run"].as_str()).map(str::to_owned).collect()
}

#[test]
fn it_starts_when_the_properties_change_and_by_hand() {
    let on = &workflow()["on"];
    assert_eq!(on["push"], json!({"branches": ["main"], "paths": ["app.properties.json"]}));
    assert!(on.get("workflow_dispatch").is_some());
    assert_eq!(workflow()["concurrency"]["cancel-in-progress"], json!(false));
}

#[test]
fn it_takes_a_role_by_oidc_and_holds_no_key() {
    assert_eq!(workflow()["permissions"], json!({"contents": "write", "id-token": "write"}));
    let text = text("config/ecs/github/weir.yml");
    for word in ["secrets.", "aws-access-key-id", "aws-secret-access-key", "AWS_SECRET"] {
        assert!(!text.contains(word), "{word}");
    }
    let takes = |step: &&Value| {
        step["uses"].as_str().is_some_and(|uses| uses.starts_with("aws-actions/configure-aws-"))
    };
    let step = steps().iter().find(takes).unwrap().clone();
    assert_eq!(step["with"]["role-to-assume"], "${{ env.ROLE }}");
}

#[test]
fn every_action_is_pinned_to_a_major_version() {
    for step in steps() {
        let Some(uses) = step["uses"].as_str() else { continue };
        let (_, version) = uses.split_once("@v").unwrap_or_else(|| panic!("{uses}"));
        assert!(version.parse::<u32>().is_ok(), "{uses}");
    }
}

/// What is decided is decided in the scripts, which are tested.
#[test]
fn every_run_is_a_script_or_docker() {
    let known = [
        "sh weir/github/",
        "IMAGE=",
        "docker ",
        "plan=$(sh weir/github/",
        "echo \"plan=",
        "echo \"commit=$(git",
    ];
    for run in runs() {
        for line in run.lines() {
            assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
        }
        let check = Command::new("sh").args(["-n", "-c", &run]).status().unwrap();
        assert!(check.success(), "{run}");
        // What an attacker names (a branch, a title) would be run by the shell.
        assert!(!run.contains("${{"), "{run}");
    }
    let all = runs().join("\n");
    for script in ["release.sh plan", "release.sh release", "commit.sh"] {
        assert!(all.contains(&format!("weir/github/{script}")), "{script}");
    }
}

/// A run that waited was started by an older commit, in which the flag is true still.
#[test]
fn a_run_takes_the_branch_as_it_is_and_builds_that() {
    let checkout = steps().into_iter().find(|step| step["uses"].to_string().contains("checkout")).unwrap();
    assert_eq!(checkout["with"]["ref"], "${{ github.ref }}");
    assert!(runs().iter().all(|run| !run.contains("GITHUB_SHA")));
}

#[test]
fn the_flag_is_committed_also_after_a_failure() {
    let last = steps().pop().unwrap();
    assert_eq!(
        (last["if"].as_str(), last["run"].as_str()),
        (Some("always()"), Some("sh weir/github/commit.sh"))
    );
    for step in steps() {
        let builds = step["run"].as_str().is_some_and(|run| run.contains("docker"));
        assert!(!builds || step["if"] == json!("steps.plan.outputs.plan == 'promote'"));
    }
}

#[test]
fn every_setting_is_one_that_a_script_or_the_workflow_reads() {
    let scripts =
        text("config/ecs/weir") + &text("config/ecs/github/release.sh") + &text("config/ecs/github/weir.yml");
    for name in workflow()["env"].as_object().unwrap().keys() {
        let read = ["${NAME:-", "$NAME:", "${{ env.NAME }}"]
            .iter()
            .any(|form| scripts.contains(&form.replace("NAME", name)));
        assert!(read, "{name}");
    }
}

fn actions(file: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(&text(file)).unwrap();
    let mut all = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        all.extend(
            statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned()),
        );
    }
    all
}

/// `run-task` is the action `RunTask`.
fn action(service: &str, operation: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let service = if service == "elbv2" { "elasticloadbalancing" } else { service };
    format!("{service}:{}", operation.split('-').map(capital).collect::<String>())
}

/// Every `SERVICE OPERATION` of the aws CLI that a script has.
fn calls(script: &str) -> BTreeSet<String> {
    let text = text(script);
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut found = BTreeSet::new();
    for pair in words.windows(2) {
        let operation = pair[1].contains('-') && pair[1].chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if ["ecs", "logs", "elbv2", "ssm"].contains(&pair[0]) && operation && !pair[1].starts_with('-') {
            found.insert(action(pair[0], pair[1]));
        }
    }
    found
}

#[test]
fn the_pipelines_role_has_what_its_scripts_call() {
    let allowed = actions("config/ecs/github/role.json");
    let mut needed: BTreeSet<String> = calls("config/ecs/github/release.sh");
    assert!(needed.contains("ecs:RegisterTaskDefinition") && needed.len() >= 4, "{needed:?}");
    let people = ["ecs:ExecuteCommand", "ecs:ListTasks", "ssm:StartSession"];
    let weir = calls("config/ecs/weir");
    assert!(weir.len() >= 12, "{weir:?}");
    needed.extend(weir.into_iter().filter(|action| {
        !people.contains(&action.as_str())
            && !action.starts_with("elasticloadbalancing")
            && action != "ecs:ListServices"
    }));
    let missing: Vec<&String> = needed.difference(&allowed).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Beyond: to hand roles to tasks, to keep tags, and to push the image.
    let beyond = |action: &&String| {
        !["iam:PassRole", "ecs:TagResource"].contains(&action.as_str()) && !action.starts_with("ecr:")
    };
    let superfluous: Vec<&String> = allowed.difference(&needed).filter(beyond).collect();
    assert!(superfluous.is_empty(), "{superfluous:?}");
}

#[test]
fn an_operators_role_has_what_weir_calls_and_no_more() {
    let mut needed = calls("config/ecs/weir");
    // Only named in a sentence.
    needed.remove("ecs:ListServices");
    needed.insert("iam:PassRole".to_owned());
    let allowed = actions("config/ecs/operator-role.json");
    assert_eq!(allowed, needed);
}

/// Every text of a JSON document.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(entries) => entries.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The kit's example, these roles and the workflow are one account: what one makes, the others name.
#[test]
fn the_roles_name_what_the_kit_makes() {
    let example = "config/ecs/example";
    let template = text(&format!("{example}/weir.yaml"));
    let mut seen = BTreeSet::new();
    for file in ["config/ecs/operator-role.json", "config/ecs/github/role.json"] {
        let policy: Value = serde_json::from_str(&text(file)).unwrap();
        for arn in texts(&policy).into_iter().filter(|text| text.starts_with("arn:")) {
            let (head, name) = arn
                .rsplit_once(":my-app")
                .map_or_else(|| arn.split_once('/').unwrap_or((&arn, "")), |(head, _)| (head, ""));
            let kind = head.rsplit(':').next().unwrap();
            seen.insert(kind.to_owned());
            let made = match kind {
                "role" => {
                    let role = name.strip_prefix("my-app-").unwrap();
                    root().join(format!("{example}/iam/{role}.json")).is_file()
                        && template.contains(&format!("RoleName: !Sub \"${{Prefix}}-{role}\""))
                }
                "service" if name == "my-app/*" => true,
                "service" => {
                    let service = name.strip_prefix("my-app/my-app-").unwrap();
                    template.contains(&format!("Default: \"{service}\""))
                }
                "task-definition" => ["my-app-control:*", "my-app-*"].contains(&name),
                "cluster" | "repository" => name == "my-app",
                "task" => name == "my-app/*",
                // The load balancer has a name of ours only because the template gives it one.
                "listener" | "listener-rule" => {
                    name == "app/my-app/*" && template.contains("Name: !Ref Prefix\n      Type: application")
                }
                "document" => name == "AWS-StartPortForwardingSession",
                _ => arn.contains(":log-group:/ecs/my-app-control:"),
            };
            assert!(made, "{file}: {arn}");
        }
    }
    assert!(seen.contains("role") && seen.contains("listener") && seen.contains("service"), "{seen:?}");
    let services = workflow()["env"].clone();
    for (setting, name) in
        [("V1_SERVICE", "svc1-v1"), ("V2_SERVICE", "svc1-v2"), ("WEIR_CONTROL_SERVICE", "control")]
    {
        assert_eq!(services[setting], format!("my-app-{name}"));
        assert!(template.contains(name));
    }
}

#[test]
fn one_account_and_one_region_stand_in_all_samples() {
    let mut files = vec![root().join("config/ecs")];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        looked_at += 1;
        let is_account = |word: &&str| word.len() == 12 && word.bytes().all(|b| b.is_ascii_digit());
        for account in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(is_account) {
            assert_eq!(account, "123456789012", "{}", path.display());
        }
        for region in ["eu-west-", "us-east-", "us-west-", "eu-central-"] {
            assert!(!text.contains(region), "{}: {region}", path.display());
        }
    }
    assert!(looked_at > 20);
}

#[test]
fn only_the_named_repository_and_branch_may_take_the_role() {
    let trust: Value = serde_json::from_str(&text("config/ecs/github/trust.json")).unwrap();
    let condition = &trust["Statement"][0]["Condition"]["StringEquals"];
    assert_eq!(condition["token.actions.githubusercontent.com:aud"], "sts.amazonaws.com");
    assert_eq!(
        condition["token.actions.githubusercontent.com:sub"],
        "repo:my-organisation/my-app:ref:refs/heads/main"
    );
    assert_eq!(trust["Statement"][0]["Action"], "sts:AssumeRoleWithWebIdentity");
}

fn passes(program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program}: {}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
#[ignore = "needs shellcheck"]
fn shellcheck_has_nothing_to_say_about_the_scripts() {
    let scripts = [
        "config/ecs/weir",
        "config/ecs/github/release.sh",
        "config/ecs/github/commit.sh",
        "loadtest/tests/weir_script/fake.sh",
    ];
    passes("shellcheck", &[&["--shell=sh"][..], &scripts].concat());
}

#[test]
#[ignore = "needs check-jsonschema"]
fn the_workflow_keeps_to_githubs_schema() {
    passes(
        "check-jsonschema",
        &["--builtin-schema", "vendor.github-workflows", "config/ecs/github/weir.yml"],
    );
}

#[test]
#[ignore = "needs zizmor"]
fn the_workflow_has_no_known_weakness() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("zizmor.yml");
    // A sample that people copy names major versions; those who want hashes have a tool that writes them.
    std::fs::write(&config, "rules: {unpinned-uses: {config: {policies: {\"*\": ref-pin}}}}\n").unwrap();
    passes(
        "zizmor",
        &["--offline", "--no-progress", "--config", config.to_str().unwrap(), "config/ecs/github/weir.yml"],
    );
}
