//! The ECS task metadata endpoint, version 4, and the container credentials endpoint.
//!
//! Shapes follow the ECS documentation ("Task metadata available for tasks on Fargate"). Must never hold a real credential.

use serde_json::{Value, json};

use super::Answer;

/// What the endpoint tells about the task.
pub(super) struct Ecs {
    pub(super) task: Value,
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
        Self { task }
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
        _ => Answer::error(404, "NotFoundException", path),
    }
}
