//! Who is told about events, by an HTTP POST.
//!
//! Owns one task per webhook: what it has heard, what waits, what is on its way. It must never hold up who emits an
//! event (it listens to a broadcast, and what it misses is counted), and never show a URL: it may hold a secret.
//! Next: `queue.rs` (what waits), `message.rs` (what is said), `post.rs` (how it is sent).

mod message;
mod post;
mod queue;

use crate::core::event::Event;
use gateway_config::control_config::Webhook;
use gateway_config::model::Secret;
use lifecycle::drain::DrainWatch;
use prometheus::IntCounterVec;
use queue::Queue;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tls::rustls::ClientConfig;
use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// After the end of control, for what waits: beside [`crate::port::DRAIN`] it costs nothing.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// What becomes of events, as the label `result` of the metric.
mod result {
    /// The other side took it.
    pub const SENT: &str = "sent";
    /// Given up after all tries.
    pub const FAILED: &str = "failed";
    /// Too many waited.
    pub const DROPPED: &str = "dropped";
    /// The same within a minute.
    pub const REPEATED: &str = "repeated";
    /// Came faster than they could be looked at.
    pub const MISSED: &str = "missed";
    pub const ALL: [&str; 5] = [SENT, FAILED, DROPPED, REPEATED, MISSED];
}

/// The stable target of a route now.
pub type StableOf = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What all webhooks need of the running control.
#[derive(Clone)]
pub struct Surroundings {
    /// Labels `webhook` and `result`.
    pub counted: IntCounterVec,
    /// For the commands in messages.
    pub stable_of: StableOf,
    /// The end.
    pub drain: DrainWatch,
    /// Whom `https://` URLs are believed by; none = the machine's CAs.
    pub tls: Option<Arc<ClientConfig>>,
}

struct Task {
    config: Webhook,
    queue: Queue,
    around: Surroundings,
}

type Sending = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Starts one task per webhook. They end by themselves after the drain has begun.
pub fn spawn(
    webhooks: &[Webhook],
    around: &Surroundings,
    subscribe: impl Fn() -> Receiver<Event>,
) -> Vec<JoinHandle<()>> {
    let mut handles = Vec::new();
    for config in webhooks {
        for result in result::ALL {
            around.counted.with_label_values(&[config.name.as_str(), result]).inc_by(0);
        }
        if let Err(error) = post::url(&config.url) {
            // Control goes on: who moves traffic must not depend on who is told.
            tracing::error!(
                webhook = config.name,
                error,
                "nobody is told by this webhook until that is cured"
            );
        }
        let task = Task { config: config.clone(), queue: Queue::default(), around: around.clone() };
        handles.push(tokio::spawn(task.run(subscribe())));
    }
    handles
}

impl Task {
    async fn run(mut self, mut events: Receiver<Event>) {
        let mut sending: Option<Sending> = None;
        let drain = self.around.drain.clone();
        loop {
            if sending.is_none() {
                sending = self.queue.next().map(|event| self.send(event));
            }
            tokio::select! {
                heard = events.recv() => match heard {
                    Ok(event) => self.hear(event),
                    Err(RecvError::Lagged(missed)) => self.count(result::MISSED, missed),
                    Err(RecvError::Closed) => break,
                },
                done = poll(&mut sending) => {
                    sending = None;
                    self.note(done);
                }
                () = drain.draining() => break,
            }
        }
        loop {
            match events.try_recv() {
                Ok(event) => self.hear(event),
                Err(TryRecvError::Lagged(missed)) => self.count(result::MISSED, missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let last_words = async {
            loop {
                let Some(current) =
                    sending.take().or_else(|| self.queue.next().map(|event| self.send(event)))
                else {
                    return;
                };
                let done = current.await;
                self.note(done);
            }
        };
        if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
            tracing::warn!(webhook = self.config.name, "the end came before all events were told");
        }
    }

    fn hear(&mut self, event: Event) {
        if !self.config.events.contains(&event.kind) {
            return;
        }
        match self.queue.push(event, Instant::now()) {
            queue::Pushed::Waits => {}
            queue::Pushed::Repeated => self.count(result::REPEATED, 1),
            queue::Pushed::DroppedOldest => self.count(result::DROPPED, 1),
        }
    }

    fn send(&self, event: Event) -> Sending {
        let stable = event.route.as_deref().and_then(|route| (self.around.stable_of)(route));
        let body = message::body(self.config.format, &event, stable.as_deref());
        let (url, tls) = (self.config.url.clone(), self.around.tls.clone());
        Box::pin(async move {
            let Secret(url) = tokio::task::spawn_blocking(move || post::url(&url))
                .await
                .map_err(|_| "its URL could not be read".to_owned())??;
            post::deliver(&url, tls, body).await
        })
    }

    fn note(&self, done: Result<(), String>) {
        match done {
            Ok(()) => self.count(result::SENT, 1),
            Err(error) => {
                self.count(result::FAILED, 1);
                tracing::warn!(webhook = self.config.name, error, "an event could not be told");
            }
        }
    }

    fn count(&self, result: &str, number: u64) {
        self.around.counted.with_label_values(&[self.config.name.as_str(), result]).inc_by(number);
    }
}

/// The end of what is on its way; never, when nothing is.
async fn poll(sending: &mut Option<Sending>) -> Result<(), String> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}
