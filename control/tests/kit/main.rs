//! `control init ecs`: what it writes is whole, fits together, and is what `config/ecs/example` shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod command;
mod external;
mod run;
mod template;
mod yaml;

use control::kit::{File, Flags, Names, Properties, files};
use serde_json::Value;
use std::path::{Path, PathBuf};

const CHECK: &str = "curl -s http://localhost:9901/server_info | grep state | grep -q LIVE";

/// The flags of the example.
pub const EXAMPLE: [&str; 26] = [
    "--account",
    "123456789012",
    "--region",
    "ap-south-1",
    "--prefix",
    "my-app",
    "--vpc",
    "vpc-0123456789abcdef0",
    "--public-subnet",
    "subnet-0a123456789abcdef,subnet-0b123456789abcdef",
    "--private-subnet",
    "subnet-0c123456789abcdef,subnet-0d123456789abcdef",
    "--namespace",
    "dev.my-app.local",
    "--service1",
    "svc1-v1",
    "--service2",
    "svc1-v2",
    "--port",
    "3000",
    "--image",
    "123456789012.dkr.ecr.ap-south-1.amazonaws.com/weir:0.1.0",
    "--service1-image",
    "123456789012.dkr.ecr.ap-south-1.amazonaws.com/my-app:1",
    "--service2-image",
    "123456789012.dkr.ecr.ap-south-1.amazonaws.com/my-app:2",
];

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub fn example() -> Flags {
    let at = |flag: &str| EXAMPLE.iter().position(|word| *word == flag).map(|at| EXAMPLE[at + 1].to_owned());
    let many = |flag: &str| at(flag).unwrap().split(',').map(str::to_owned).collect();
    Flags {
        account: at("--account"),
        region: at("--region"),
        prefix: at("--prefix"),
        vpc: at("--vpc"),
        public_subnets: many("--public-subnet"),
        private_subnets: many("--private-subnet"),
        namespace: at("--namespace"),
        service1: at("--service1"),
        service2: at("--service2"),
        port: at("--port"),
        image: at("--image"),
        service1_image: at("--service1-image"),
        service2_image: at("--service2-image"),
        ..Flags::default()
    }
}

/// Everything that can be there already is there; other names, another partition, images from elsewhere.
fn other() -> Flags {
    Flags {
        account: text("210987654321"),
        region: text("us-gov-west-1"),
        prefix: text("the-wednesday-super-app"),
        vpc: text("vpc-89abcdef"),
        public_subnets: vec!["subnet-00000001".into(), "subnet-00000002".into(), "subnet-00000003".into()],
        private_subnets: vec!["subnet-00000004".into()],
        namespace: text("production.the-wednesday-super-app.local"),
        namespace_id: text("ns-abcdefgh12345678"),
        cluster: text("Shared_Cluster-1"),
        service1: text("true"),
        service2: text("0"),
        port: text("9000"),
        image: text(
            "ghcr.io/example/weir@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ),
        service1_image: text("docker.io/library/httpd:2"),
        service2_image: None,
        route: text("null"),
        canary_weight: text("0.25"),
        certificate: text(
            "arn:aws-us-gov:acm:us-gov-west-1:210987654321:certificate/01234567-89ab-cdef-0123-456789abcdef",
        ),
        health_path: text("/health/live"),
    }
}

pub fn kit(flags: Flags) -> Vec<File> {
    files(&Names::new(flags, &Properties::default()).unwrap()).unwrap()
}

pub fn kits() -> [Vec<File>; 2] {
    [kit(example()), kit(other())]
}

pub fn file<'a>(kit: &'a [File], path: &str) -> &'a str {
    &kit.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}")).text
}

pub fn json(kit: &[File], path: &str) -> Value {
    serde_json::from_str(file(kit, path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files below a folder, as paths with `/`.
fn below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// `UPDATE=1 cargo test -p control --test kit` writes them again.
#[test]
fn the_example_in_config_ecs_is_what_the_kit_writes() {
    let folder = root().join("config/ecs/example");
    let kit = kit(example());
    if std::env::var_os("UPDATE").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        control::kit::write(&folder, &kit, true).unwrap();
    }
    let paths: Vec<&str> = kit.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(below(&folder), paths, "UPDATE=1 cargo test -p control --test kit");
    for file in &kit {
        let there = std::fs::read_to_string(folder.join(&file.path)).unwrap();
        assert!(there == file.text, "{} differs: UPDATE=1 cargo test -p control --test kit", file.path);
    }
}

#[test]
fn no_file_has_a_placeholder_left_or_a_blank_at_the_end_of_a_line() {
    for file in kits().iter().flatten() {
        for (index, line) in file.text.lines().enumerate() {
            assert!(
                !line.contains("{{") && !line.ends_with([' ', '\t']),
                "{}:{}: {line}",
                file.path,
                index + 1
            );
        }
        assert!(file.text.ends_with('\n') && !file.text.ends_with("\n\n"), "{}", file.path);
    }
}

#[test]
fn the_readme_names_every_file_and_no_other() {
    for kit in kits() {
        let readme = file(&kit, "README.md");
        let table: Vec<&str> =
            readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        for named in &table {
            assert!(kit.iter().any(|file| file.path.starts_with(named)), "{named} is not in the kit");
        }
        for file in &kit {
            let known = file.path == "README.md" || table.iter().any(|named| file.path.starts_with(named));
            assert!(known, "{} is not in the table of README.md", file.path);
        }
    }
}

#[test]
fn the_settings_are_those_of_the_script_and_name_what_the_template_makes() {
    let kit = kit(example());
    let script = std::fs::read_to_string(root().join("config/ecs/weir")).unwrap();
    let template = yaml::read(file(&kit, "weir.yaml"));
    let settings: Vec<(&str, &str)> = file(&kit, "weir.env")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap())
        .collect();
    assert!(settings.len() >= 8);
    for (name, _) in &settings {
        assert!(script.contains(name), "config/ecs/weir knows no {name}");
    }
    let setting = |name: &str| settings.iter().find(|(n, _)| *n == name).unwrap().1;
    for (name, service, container, task) in [
        ("WEIR_CONTROL_SERVICE", "ControlService", "WEIR_CONTROL_CONTAINER", "ControlTask"),
        ("WEIR_GATEWAY_SERVICE", "GatewayService", "WEIR_GATEWAY_CONTAINER", "GatewayTask"),
    ] {
        let made = template["Resources"][service]["Properties"]["ServiceName"]["!Sub"].as_str().unwrap();
        assert_eq!(setting(name), yaml::substituted(&template, made));
        assert_eq!(
            setting(container),
            template["Resources"][task]["Properties"]["ContainerDefinitions"][0]["Name"]
        );
    }
    let control = template["Resources"]["ControlTask"].to_string();
    assert!(control.contains(setting("WEIR_TOKEN_VARIABLE")));
}

fn tasks(kit: &[File]) -> Vec<Value> {
    ["gateway", "control", "v1", "v2"].map(|name| json(kit, &format!("task-definitions/{name}.json"))).into()
}

#[test]
fn the_task_definitions_are_those_of_the_template() {
    for kit in kits() {
        let template = yaml::read(file(&kit, "weir.yaml"));
        let resources = ["GatewayTask", "ControlTask", "Service1Task", "Service2Task"];
        for (task, resource) in tasks(&kit).iter().zip(resources) {
            let properties = &template["Resources"][resource]["Properties"];
            let family = yaml::substituted(&template, properties["Family"]["!Sub"].as_str().unwrap());
            assert_eq!(task["family"], family);
            assert_eq!((&task["cpu"], &task["memory"]), (&properties["Cpu"], &properties["Memory"]));
            let (one, other) = (&task["containerDefinitions"][0], &properties["ContainerDefinitions"][0]);
            assert_eq!(one["name"], other["Name"]);
            assert_eq!(one["stopTimeout"].to_string(), other["StopTimeout"].as_str().unwrap());
            assert_eq!(one["healthCheck"]["command"], other["HealthCheck"]["Command"]);
            for (small, big) in [("environment", "Environment"), ("secrets", "Secrets")] {
                assert_eq!(names(&one[small], "name"), names(&other[big], "Name"), "{family} {small}");
            }
        }
    }
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_versions_have_one_container_and_nothing_of_app_mesh() {
    for kit in kits() {
        for task in &tasks(&kit)[2..] {
            assert_eq!(task["containerDefinitions"].as_array().unwrap().len(), 1);
            assert!(task.get("proxyConfiguration").is_none());
        }
        for file in &kit {
            let is_text =
                file.path.ends_with(".md") || file.path.ends_with(".yaml") || file.path.ends_with(".yml");
            let without_comments: String =
                file.text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
            assert!(is_text || !without_comments.to_lowercase().contains("appmesh"), "{}", file.path);
        }
    }
}

#[test]
fn the_copilot_manifests_have_the_documented_checks_and_values() {
    for kit in kits() {
        let gateway = yaml::read(file(&kit, "copilot/service-gateway/manifest.yml"));
        assert_eq!(gateway["image"]["healthcheck"]["command"][1], CHECK);
        let check = &gateway["http"]["healthcheck"];
        assert_eq!((&check["path"], &check["port"]), (&"/server_info".into(), &"9901".into()));
        assert_eq!((&check["success_codes"], &check["interval"]), (&"200".into(), &"15s".into()));
        assert_eq!(gateway["taskdef_overrides"][0]["value"], "30");
        let control = yaml::read(file(&kit, "copilot/control/manifest.yml"));
        assert_eq!((&control["count"], &control["deployment"]["rolling"]), (&"1".into(), &"recreate".into()));
        for manifest in [&gateway, &control] {
            for variable in manifest["variables"].as_object().unwrap().keys() {
                assert!(!variable.contains("TOKEN"), "{variable} is a secret");
            }
        }
        let config = control["variables"]["CONTROL_CONFIG"].as_str().unwrap();
        assert_eq!(config.trim_end(), file(&kit, "control.yaml").trim_end());
    }
}
