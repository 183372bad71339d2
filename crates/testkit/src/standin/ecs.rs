//! The ECS task metadata endpoint, version 4, and the container credentials endpoint.
//!
//! Shapes follow the ECS documentation ("Task metadata available for tasks on Fargate"). Must never hold a real credential.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Answer;

/// What the endpoint tells about the task.
pub(super) struct Ecs {
    pub(super) task: Value,
    /// Tasks of their own, by id.
    tasks: BTreeMap<String, Value>,
}

impl Ecs {
    /// Adds a task; returns its id.
    pub(super) fn add(&mut self, family: &str, zone: &str) -> String {
        let id = format!("{:032x}", 0xfeed_0000_u32 + u32::try_from(self.tasks.len()).unwrap_or_default());
        let mut task = self.task.clone();
        let arn = format!("arn:aws:ecs:eu-west-1:123456789012:task/demo/{id}");
        let own = [("TaskARN", arn.as_str()), ("Family", family), ("AvailabilityZone", zone)];
        if let Some(task) = task.as_object_mut() {
            task.extend(own.map(|(name, value)| (name.to_owned(), json!(value))));
        }
        self.tasks.insert(id.clone(), task);
        id
    }
}

impl Default for Ecs {
    fn default() -> Self {
        let arn = "arn:aws:ecs:eu-west-1:123456789012:task/demo/0123456789abcdef0123456789abcdef";
        let task = json!({
            "Cluster": "demo", "TaskARN": arn, "Family": "gateway", "Revision": "1",
            "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
            "Limits": {"CPU": 0.25, "Memory": 512}, "AvailabilityZone": "eu-west-1a", "LaunchType": "FARGATE",
            "ServiceName": "gateway", "Containers": [],
        });
        Self { task, tasks: BTreeMap::new() }
    }
}

/// Answers a path below `/ecs/`.
pub(super) fn answer(ecs: &Ecs, path: &str) -> Answer {
    match path {
        "/ecs/v4/task" => Answer::ok(ecs.task.clone()),
        "/ecs/v4" => Answer::ok(json!({"DockerId": "0123", "Name": "envoy", "KnownStatus": "RUNNING"})),
        "/ecs/credentials" => Answer::ok(json!({
            "AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "not-a-secret", "Token": "not-a-token",
            "Expiration": "2099-01-01T00:00:00Z",
        })),
        _ => of_one_task(ecs, path).unwrap_or_else(|| Answer::error(404, "NotFoundException", path)),
    }
}

/// `/ecs/v4/ID` and `/ecs/v4/ID/task`.
fn of_one_task(ecs: &Ecs, path: &str) -> Option<Answer> {
    let rest = path.strip_prefix("/ecs/v4/")?;
    let task = ecs.tasks.get(rest.strip_suffix("/task").unwrap_or(rest))?;
    let container = json!({"DockerId": "0123", "Name": "envoy", "KnownStatus": "RUNNING"});
    Some(Answer::ok(if rest.ends_with("/task") { task.clone() } else { container }))
}
