//! Where region, credentials and endpoint come from. Each test runs the clients in a process of its own, since the
//! environment belongs to the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use aws::app_mesh::{AppMesh, RouteRef};
use aws::cloud_map::{CloudMap, Query};
use aws::ecs::task_metadata;
use serde_json::json;
use std::process::Command;
use testkit::standin::{Instance, Standin};

/// What the other process is asked to do; its answer is a line `answer: ...`.
const TASK: &str = "WEIR_AWS_TEST_TASK";
const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "not-a-secret")];

/// The other process: does what it is asked to, or nothing when the tests are run as usual.
#[tokio::test]
async fn the_other_process() {
    let answer = match std::env::var(TASK).as_deref() {
        Ok("discover") => {
            let cloud_map = CloudMap::from_env().await;
            let query =
                Query { namespace_name: "dev.local".into(), service_name: "v1".into(), ..Query::default() };
            cloud_map.discover(&query).await.map(|found| format!("{} found", found.instances.len()))
        }
        Ok("describe") => {
            let app_mesh = AppMesh::from_env().await;
            let name = RouteRef {
                mesh: "mesh".into(),
                virtual_router: "svc1".into(),
                route: "main".into(),
                mesh_owner: None,
            };
            app_mesh.describe_route(&name).await.map(|route| format!("version {}", route.version))
        }
        Ok("task") => Ok(task_metadata().await.map_or("no task".to_owned(), |task| task.task_id)),
        _ => return,
    };
    println!("answer: {}", answer.unwrap_or_else(|error| format!("{error:?} {error}")));
}

/// Does `task` in another process that has these variables and no others, on a machine without metadata.
fn run(task: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_other_process", "--nocapture"]).env_clear();
    command.env(TASK, task).env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nowhere");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answer = text.lines().find_map(|line| line.split_once("answer: "));
    answer.unwrap_or_else(|| panic!("no answer in {text}")).1.to_owned()
}

fn standin() -> Standin {
    let standin = Standin::start().unwrap();
    standin.register("dev.local", "v1", Instance::at("a", ([127, 0, 0, 1], 3000).into()));
    let spec = json!({"httpRoute": {"match": {"prefix": "/"},
        "action": {"weightedTargets": [{"virtualNode": "v1", "weight": 100}]}}});
    standin.set_route("mesh", "svc1", "main", spec);
    standin
}

#[test]
fn one_variable_redirects_every_service_and_needs_no_region() {
    let standin = standin();
    let url = standin.url();
    let variables = [KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", url.as_str())];
    assert_eq!(run("discover", &variables), "1 found");
    assert_eq!(run("describe", &variables), "version 1");
}

#[test]
fn a_services_own_variable_goes_before_the_common_one() {
    let standin = standin();
    let url = standin.url();
    let nobody = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let services =
        [("discover", "AWS_ENDPOINT_URL_SERVICEDISCOVERY"), ("describe", "AWS_ENDPOINT_URL_APP_MESH")];
    for (task, variable) in services {
        let answer = run(task, &[KEYS[0], KEYS[1], nobody, (variable, &url)]);
        assert!(answer == "1 found" || answer == "version 1", "{answer}");
        assert!(run(task, &[KEYS[0], KEYS[1], nobody]).starts_with("Unreachable"), "{task}");
    }
}

#[test]
fn the_credentials_of_an_ecs_task_are_used() {
    let standin = standin();
    let url = standin.url();
    let credentials = format!("{url}/ecs/credentials");
    let endpoint = ("AWS_ENDPOINT_URL", url.as_str());
    let answer = run("discover", &[endpoint, ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &credentials)]);
    assert_eq!(answer, "1 found");
    let asked = standin.requests().iter().any(|request| request.path.starts_with("/ecs/credentials"));
    assert!(asked);
}

#[test]
fn without_credentials_access_is_denied_and_the_text_says_what_to_set() {
    let answer = run("discover", &[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]);
    assert!(answer.starts_with("AccessDenied"), "{answer}");
    for words in ["no credentials", "AWS_ACCESS_KEY_ID", "servicediscovery:DiscoverInstances"] {
        assert!(answer.contains(words), "{answer}");
    }
}

#[test]
fn without_a_region_the_text_says_what_to_set() {
    let answer = run("describe", &KEYS);
    assert!(answer.contains("no AWS region is known: set AWS_REGION"), "{answer}");
}

#[test]
fn the_task_is_known_only_inside_ecs() {
    let standin = standin();
    assert_eq!(run("task", &[]), "no task");
    let uri = standin.ecs_metadata_uri();
    assert_eq!(run("task", &[("ECS_CONTAINER_METADATA_URI_V4", &uri)]), "0123456789abcdef0123456789abcdef");
}
