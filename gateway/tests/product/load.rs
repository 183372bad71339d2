//! Requests that can be told apart afterwards: each has a path of its own, which the access log names too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use testkit::client::RawClient;
use tokio::task::JoinHandle;

/// One request.
#[derive(Debug)]
pub struct Sent {
    pub path: String,
    /// What `floor` was just before it was sent.
    pub floor: u64,
    /// Body, or what went wrong.
    pub answer: Result<String, String>,
}

/// Requests on kept-alive connections until the end.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Sent>>>,
}

impl Load {
    /// Each of `connections` sends a request `every` so often, as long as it gets answers in time.
    pub fn start(addr: SocketAddr, connections: usize, every: Duration, floor: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one =
            |connection| tokio::spawn(send(addr, connection, every, Arc::clone(floor), Arc::clone(&stop)));
        let tasks = (0..connections).map(one).collect();
        Self { stop, tasks }
    }

    /// Ends it; all requests.
    pub async fn end(self) -> Vec<Sent> {
        self.stop.store(true, SeqCst);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        all
    }
}

async fn send(
    addr: SocketAddr,
    connection: usize,
    every: Duration,
    floor: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut client = None;
    let mut tick = tokio::time::interval(every);
    while !stop.load(SeqCst) {
        tick.tick().await;
        let path = format!("/{connection}-{}", sent.len());
        let floor = floor.load(SeqCst);
        let answer = one(addr, &mut client, &path).await;
        sent.push(Sent { path, floor, answer: answer.map_err(|error| format!("{error:#}")) });
    }
    sent
}

async fn one(addr: SocketAddr, kept: &mut Option<RawClient>, path: &str) -> anyhow::Result<String> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => RawClient::connect(addr).await?,
    };
    let answer = client.get(path).await?;
    if !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *kept = Some(client);
    }
    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    Ok(answer.text())
}
