//! The ECS task that this process runs in.
//!
//! Owns the question to the task metadata endpoint (version 4). It must never hold up a start for longer than
//! its limit: outside ECS there is nobody to ask. Source: Amazon ECS developer guide, task metadata endpoint
//! version 4.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::time::Duration;
use tokio::net::TcpStream;

/// The variable in which the ECS agent hands the address to each container.
const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// The endpoint is on the same host and answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A task has at most 10 containers, of some kilobytes each.
const MAX_ANSWER: usize = 1024 * 1024;

/// What a process wants to know of its task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskMetadata {
    /// The last part of the task's ARN; unique among all tasks.
    pub task_id: String,
    /// Where the task runs.
    pub availability_zone: Option<String>,
    /// vCPUs that the task may use, for instance 0.25. Invisible from inside the container otherwise.
    pub cpu_limit: Option<f64>,
}

/// Asks the endpoint that `ECS_CONTAINER_METADATA_URI_V4` names; `None` outside ECS or when it does not answer
/// within 1 s.
pub async fn task_metadata() -> Option<TaskMetadata> {
    let base = std::env::var(VARIABLE).ok()?;
    task_metadata_at(&base).await
}

/// Asks the metadata endpoint at `base`.
pub async fn task_metadata_at(base: &str) -> Option<TaskMetadata> {
    match tokio::time::timeout(TIMEOUT, fetch(base)).await {
        Ok(Ok(body)) => {
            let metadata = parse_task(&body);
            if metadata.is_none() {
                tracing::warn!(base, "the ECS task metadata cannot be read; going on without it");
            }
            metadata
        }
        Ok(Err(error)) => {
            tracing::warn!(base, error, "no ECS task metadata; going on without it");
            None
        }
        Err(_) => {
            tracing::warn!(base, "no ECS task metadata within 1 s; going on without it");
            None
        }
    }
}

/// Reads the answer of `${ECS_CONTAINER_METADATA_URI_V4}/task`; `None` when it names no task.
pub fn parse_task(body: &[u8]) -> Option<TaskMetadata> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Task {
        #[serde(rename = "TaskARN")]
        task_arn: String,
        availability_zone: Option<String>,
        limits: Option<Limits>,
    }
    #[derive(Deserialize)]
    struct Limits {
        #[serde(rename = "CPU")]
        cpu: Option<f64>,
    }
    let task: Task = serde_json::from_slice(body).ok()?;
    let (_, task_id) = task.task_arn.rsplit_once('/')?;
    Some(TaskMetadata {
        task_id: (!task_id.is_empty()).then(|| task_id.to_owned())?,
        availability_zone: task.availability_zone.filter(|zone| !zone.is_empty()),
        cpu_limit: task.limits.and_then(|limits| limits.cpu).filter(|cpu| cpu.is_finite() && *cpu > 0.0),
    })
}

async fn fetch(base: &str) -> Result<Bytes, String> {
    let uri: Uri = format!("{}/task", base.trim_end_matches('/')).parse().map_err(text)?;
    let authority = uri.authority().ok_or("the address names no host")?;
    let port = authority.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((authority.host(), port)).await.map_err(text)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let path = uri.path_and_query().map_or("/task", |path| path.as_str());
    let request = hyper::Request::get(path)
        .header(HOST, authority.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(text)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(text)?;
        Ok(body.to_bytes())
    };
    // Polled here, not in a task of its own, so that nothing outlives the question.
    tokio::pin!(answer, connection);
    let mut connected = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = &mut connection, if connected => connected = false,
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fargate_task_tells_id_zone_and_cpu() {
        let body = br#"{"Cluster":"default","TaskARN":"arn:aws:ecs:us-west-2:111122223333:task/default/158d1c80",
            "Limits":{"CPU":0.25,"Memory":512},"AvailabilityZone":"us-west-2d","LaunchType":"FARGATE","Containers":[]}"#;
        let expected = TaskMetadata {
            task_id: "158d1c80".to_owned(),
            availability_zone: Some("us-west-2d".to_owned()),
            cpu_limit: Some(0.25),
        };
        assert_eq!(parse_task(body), Some(expected));
    }

    #[test]
    fn a_task_without_limits_or_zone_still_has_an_id() {
        let found = parse_task(br#"{"TaskARN":"arn:aws:ecs:eu-west-1:1:task/158d","Limits":{}}"#);
        let expected = TaskMetadata { task_id: "158d".to_owned(), availability_zone: None, cpu_limit: None };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_names_no_task_is_none() {
        for body in ["", "{}", "[]", r#"{"TaskARN":""}"#, r#"{"TaskARN":"a/"}"#, r#"{"TaskARN":7}"#, "<html>"]
        {
            assert_eq!(parse_task(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_cpu_limit_that_is_no_limit_is_none() {
        for cpu in ["0", "-1", "null"] {
            let body = format!(r#"{{"TaskARN":"a/b","Limits":{{"CPU":{cpu}}}}}"#);
            assert_eq!(parse_task(body.as_bytes()).and_then(|task| task.cpu_limit), None, "{cpu}");
        }
    }
}
