//! The ECS task metadata endpoint over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use aws::ecs::task_metadata_at;
use support::{Server, nobody, silence};

#[tokio::test]
async fn the_task_is_asked_for_below_the_path_that_the_agent_gave() {
    let server = Server::start(|_| (200, "", r#"{"TaskARN":"a/b","Limits":{"CPU":0.5}}"#.to_owned())).await;
    let found = task_metadata_at(&format!("{}/v4/abc", server.url)).await.unwrap();
    assert_eq!((found.task_id.as_str(), found.cpu_limit), ("b", Some(0.5)));
    assert_eq!(server.asked()[0].target, "/v4/abc/task");
}

#[tokio::test]
async fn a_refusal_a_wrong_address_and_nobody_there_are_none() {
    let server = Server::start(|_| (500, "", r#"{"TaskARN":"a/b"}"#.to_owned())).await;
    for base in [server.url.as_str(), &nobody().await, "", "nonsense", "http://"] {
        assert_eq!(task_metadata_at(base).await, None, "{base}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let server = Server::start(|_| (200, "", "a".repeat(2 << 20))).await;
    assert_eq!(task_metadata_at(&server.url).await, None);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_a_second() {
    let started = tokio::time::Instant::now();
    assert_eq!(task_metadata_at(&silence().await).await, None);
    assert_eq!(started.elapsed().as_secs(), 1);
}
