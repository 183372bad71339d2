//! Who is told what, and what happens when nobody listens.

use super::support::{Local, ROUTES, Remote, config_text};
use control::core::event::{Event, EventKind};
use control::metrics::Metrics;
use control::webhooks::{self, Surroundings};
use gateway_config::control_config::{Webhook, WebhookFormat, WebhookUrl};
use gateway_config::model::Secret;
use lifecycle::drain::Drain;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use testkit::upstream::{Reply, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

/// Somebody who is told: answers with the statuses in turn (0 = hangs), then with 200.
async fn listener<const N: usize>(
    statuses: [u16; N],
) -> (SocketAddr, mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = mpsc::unbounded_channel();
    let mut statuses = statuses.into_iter();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, body) = loop {
                let mut part = [0; 4_096];
                let read = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str::<Value>(body)
                {
                    break (head.to_owned(), body);
                }
            };
            heard.send((head, body)).unwrap();
            match statuses.next().unwrap_or(200) {
                0 => drop(tokio::spawn(async move {
                    let _held = stream;
                    std::future::pending::<()>().await;
                })),
                status => {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        }
    });
    (address, hears)
}

struct Told {
    events: broadcast::Sender<Event>,
    metrics: Metrics,
    drain: Drain,
    tasks: Vec<JoinHandle<()>>,
}

fn tell(url: &str, format: WebhookFormat, events: &[EventKind]) -> Told {
    let (metrics, drain) = (Metrics::new(), Drain::new());
    let around = Surroundings {
        counted: metrics.webhook_events.clone(),
        stable_of: Arc::new(|_| Some("v1".to_owned())),
        drain: drain.watch(),
        tls: None,
    };
    let webhook = Webhook {
        name: "team".to_owned(),
        url: WebhookUrl::Given(Secret(url.to_owned())),
        format,
        events: events.iter().copied().collect(),
    };
    let events = broadcast::Sender::new(4);
    let tasks = webhooks::spawn(&[webhook], &around, || events.subscribe());
    Told { events, metrics, drain, tasks }
}

impl Told {
    fn counted(&self, result: &str) -> u64 {
        self.metrics.webhook_events.with_label_values(&["team", result]).get()
    }

    async fn until(&self, result: &str, number: u64) {
        let counted = async {
            while self.counted(result) < number {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(300), counted).await;
        assert!(waited.is_ok(), "{result} is {}, not {number}", self.counted(result));
    }
}

fn changed(number: u64) -> Event {
    Event {
        kind: EventKind::WeightsChanged,
        route: Some("svc1".to_owned()),
        gateway: None,
        text: format!("svc1: change {number}"),
        at: "2026-10-20T03:04:05Z".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_told_as_json_with_the_next_command() {
    let (address, mut hears) = listener([]).await;
    let told =
        tell(&format!("http://{address}/hook?key=1"), WebhookFormat::Json, &[EventKind::WeightsChanged]);
    told.events.send(Event { kind: EventKind::Drift, ..changed(0) }).unwrap();
    told.events.send(changed(1)).unwrap();
    let (head, body) = hears.recv().await.unwrap();
    assert!(head.starts_with("POST /hook?key=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        body,
        json!({"event": "weights_changed", "at": "2026-10-20T03:04:05Z", "route": "svc1", "gateway": null,
               "text": "svc1: change 1", "next": ["control get svc1", "control rollback svc1"]}),
        "what it did not ask for is not told"
    );
    told.until("sent", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_down_is_asked_three_times_and_then_given_up() {
    let (address, mut hears) = listener([500, 0, 503, 500, 200]).await;
    let told = tell(&format!("http://{address}/"), WebhookFormat::Slack, &EventKind::ALL);
    told.events.send(changed(1)).unwrap();
    told.until("failed", 1).await;
    told.events.send(changed(2)).unwrap();
    told.until("sent", 1).await;
    let mut texts = Vec::new();
    while let Ok((_, body)) = hears.try_recv() {
        texts.push(body["text"].as_str().unwrap().chars().filter(char::is_ascii_digit).collect::<String>());
    }
    assert_eq!(texts.len(), 5, "three tries of the first, two of the second: {texts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_to_repeat_is_given_up_at_once() {
    for status in [301, 400, 404] {
        let (address, mut hears) = listener([status]).await;
        let told = tell(&format!("http://{address}/"), WebhookFormat::Json, &EventKind::ALL);
        told.events.send(changed(1)).unwrap();
        told.until("failed", 1).await;
        assert!(hears.recv().await.is_some());
        assert!(hears.try_recv().is_err(), "{status}: once");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_event_is_told_once_a_minute_and_too_many_are_counted() {
    let (address, mut hears) = listener([]).await;
    let told = tell(&format!("http://{address}/"), WebhookFormat::Json, &EventKind::ALL);
    for _ in 0..3 {
        told.events.send(changed(1)).unwrap();
    }
    told.until("repeated", 2).await;
    told.until("sent", 1).await;
    // More than the broadcast holds, before the task runs once.
    for number in 10..20 {
        told.events.send(changed(number)).unwrap();
    }
    told.until("missed", 6).await;
    told.until("sent", 5).await;
    let mut last = String::new();
    while let Ok((_, body)) = hears.try_recv() {
        last = body["text"].as_str().unwrap().to_owned();
    }
    assert_eq!(last, "svc1: change 19", "the newest are told");
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_hangs_costs_the_oldest_events_and_holds_nobody_up() {
    let (address, _hears) = listener([0; 64]).await;
    let told = tell(&format!("http://{address}/"), WebhookFormat::Json, &EventKind::ALL);
    for number in 0..300 {
        told.events.send(changed(number)).unwrap();
        // So that the broadcast is read; no timer has fired.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    told.until("dropped", 20).await;
    assert_eq!(told.counted("missed"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_told_within_bounds() {
    let (address, mut hears) = listener([]).await;
    let mut told = tell(&format!("http://{address}/"), WebhookFormat::Json, &EventKind::ALL);
    told.events.send(changed(1)).unwrap();
    told.events.send(changed(2)).unwrap();
    told.drain.start(Duration::from_secs(5));
    for task in told.tasks.drain(..) {
        task.await.unwrap();
    }
    assert_eq!(told.counted("sent"), 2);
    assert!(hears.recv().await.is_some() && hears.recv().await.is_some());
}

#[tokio::test]
async fn https_is_spoken_and_a_stranger_is_not_told() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = tls::server_config(&certificate, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, mut hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = tls::accept(Arc::clone(&server), "peer", stream).await else { continue };
            let mut bytes = [0; 8_192];
            let read = stream.read(&mut bytes).await.unwrap_or_default();
            heard.send(String::from_utf8_lossy(&bytes[..read]).into_owned()).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let metrics = Metrics::new();
    let drain = Drain::new();
    let around = Surroundings {
        counted: metrics.webhook_events.clone(),
        stable_of: Arc::new(|_| None),
        drain: drain.watch(),
        tls: Some(tls::client_config(Some(&made.cert.pem())).unwrap()),
    };
    let webhook = Webhook {
        name: "team".to_owned(),
        url: WebhookUrl::Given(Secret(format!("https://localhost:{port}/hook"))),
        format: WebhookFormat::Slack,
        events: EventKind::ALL.into_iter().collect(),
    };
    let events = broadcast::Sender::new(4);
    let _tasks = webhooks::spawn(&[webhook], &around, || events.subscribe());
    events.send(changed(1)).unwrap();
    let text = hears.recv().await.unwrap();
    assert!(text.starts_with("POST /hook HTTP/1.1"), "{text}");
}

#[tokio::test]
async fn a_change_is_told_and_its_webhook_is_named_without_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let team = Upstream::start("team").unwrap();
    team.set_reply(Reply::status(404));
    let rest = format!(
        "{ROUTES}webhooks: [{{name: team, url: \"http://{}/services/hunter2\", format: slack}}]\n",
        team.addr()
    );
    let file = folder.path().join("control.yaml");
    std::fs::write(&file, config_text(&folder.path().join("state.json"), &rest)).unwrap();
    let control = Remote::start(&file, &[]).await;
    let body = json!({"routes": {"svc1": "v2=10"}, "force": true, "timeout_ms": 1});
    assert_eq!(control.target.post("/v1/weights", &body).await.status, 200);
    control.process.line("an event could not be told").await.unwrap();
    let received = team.last().unwrap();
    assert_eq!(received.target(), "/services/hunter2");
    let said: Value = serde_json::from_slice(&received.body).unwrap();
    assert!(said["text"].as_str().unwrap().contains("`control rollback svc1`"), "{said}");
    let metrics = control.target.get("/metrics").await.text;
    assert!(
        metrics.contains("control_webhook_events_total{result=\"failed\",webhook=\"team\"} 1"),
        "{metrics}"
    );
    let stderr = control.process.stderr();
    assert!(stderr.contains("404") && stderr.contains("team"), "{stderr}");
    for shown in [stderr.as_str(), metrics.as_str(), &control.process.stdout()] {
        assert!(!shown.contains("hunter2") && !shown.contains(&team.addr().to_string()), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_hangs_does_not_hold_up_a_change() {
    let (address, mut hears) = listener([0; 64]).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("{ROUTES}webhooks: [{{name: team, url: \"http://{address}/\"}}]\n");
    let text = config_text(&folder.path().join("state.json"), &rest);
    let control = Local::start(&text).await;
    let config = gateway_config::control_config::parse_control("c", text.as_bytes()).unwrap();
    let _tasks = control::serve::spawn_tellers(&config, &control.shared, &control.drain);
    for weight in 1..=20 {
        let body = json!({"routes": {"svc1": format!("v2={weight}")}, "force": true, "timeout_ms": 1});
        assert_eq!(control.target.post("/v1/weights", &body).await.status, 200);
    }
    let (_, body) = hears.recv().await.unwrap();
    assert_eq!(body["event"], "weights_changed");
}

#[tokio::test(start_paused = true)]
async fn the_last_events_are_told_at_the_end_although_older_ones_were_missed() {
    let (address, mut hears) = listener([]).await;
    let told = tell(&format!("http://{address}/"), WebhookFormat::Json, &[EventKind::WeightsChanged]);
    for number in 0..10 {
        told.events.send(changed(number)).unwrap();
    }
    told.drain.start(Duration::from_secs(5));
    for number in 6..10 {
        let heard = tokio::time::timeout(Duration::from_secs(300), hears.recv()).await;
        let (_, body) = heard.expect("it is told").unwrap();
        assert_eq!(body["text"], format!("svc1: change {number}"));
    }
    assert_eq!(told.counted("missed"), 6);
}

#[tokio::test(start_paused = true)]
async fn a_url_with_a_password_in_front_of_its_host_is_refused_and_not_shown() {
    let (address, mut hears) = listener([]).await;
    let url = format!("http://user:hunter2@{address}/");
    let told = tell(&url, WebhookFormat::Json, &[EventKind::WeightsChanged]);
    told.events.send(changed(1)).unwrap();
    told.until("failed", 1).await;
    assert!(hears.try_recv().is_err(), "nothing was sent");
}
