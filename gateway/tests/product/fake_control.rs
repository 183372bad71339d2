//! A control that says what a test tells it to: answers that do not fit, other epochs, HTTP/1.1 only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_config::wire::DiscoveryRequest;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::world::{Gateway, Spec, until, upstream};

/// How connections are served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http2,
    /// Anything but HTTP/1.1 gets 400 and the end.
    Http1,
    /// HTTP/2's preface gets the end without a word.
    Http1Silently,
}

/// One discovery request.
#[derive(Clone, Debug)]
struct Asked {
    at: Instant,
    request: DiscoveryRequest,
    held: bool,
}

/// What is told: `None` holds the request for ever.
type Script = dyn Fn(usize, &DiscoveryRequest) -> Option<(u16, Value)> + Send + Sync;

struct FakeControl {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    reports: Arc<Mutex<usize>>,
    connections: Arc<AtomicUsize>,
}

impl FakeControl {
    async fn start(
        speaks: Speaks,
        script: impl Fn(usize, &DiscoveryRequest) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let fake = Self { addr, asked: Arc::default(), reports: Arc::default(), connections: Arc::default() };
        let connections = Arc::clone(&fake.connections);
        let (asked, reports) = (Arc::clone(&fake.asked), Arc::clone(&fake.reports));
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                let (asked, reports, script) =
                    (Arc::clone(&asked), Arc::clone(&reports), Arc::clone(&script));
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&asked), Arc::clone(&reports), Arc::clone(&script))
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    if speaks == Speaks::Http2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ended = server.serve_connection(io, service).await;
                    } else if speaks == Speaks::Http1 || !is_http2(io.inner()).await {
                        let server = hyper::server::conn::http1::Builder::new();
                        let _ended = server.serve_connection(io, service).await;
                    }
                });
            }
        });
        fake
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    async fn gateway(&self, folder: &Path) -> Gateway {
        let address = upstream("v1").addr();
        let spec = Spec::new(folder, "gateway", &[("v1", 50), ("v2", 50)]);
        let spec = spec.fixed("v1", &[address]).fixed("v2", &[address]);
        spec.control(format!("http://{}", self.addr)).start().await
    }
}

/// Whether the client's first bytes are HTTP/2's preface.
async fn is_http2(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    matches!(stream.peek(&mut first).await, Ok(3)) && &first == b"PRI"
}

async fn answer(
    request: Request<Incoming>,
    asked: Arc<Mutex<Vec<Asked>>>,
    reports: Arc<Mutex<usize>>,
    script: Arc<Script>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let held = request.headers().contains_key("prefer");
    let is_report = request.uri().path().ends_with("/report");
    let at = Instant::now();
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if is_report {
        *reports.lock().unwrap() += 1;
        return Ok(Response::new(Full::from("{}")));
    }
    let request: DiscoveryRequest = serde_json::from_slice(&body).unwrap();
    let count = {
        let mut asked = asked.lock().unwrap();
        asked.push(Asked { at, request: request.clone(), held });
        asked.len()
    };
    match script(count, &request) {
        None => std::future::pending().await,
        Some((status, body)) => {
            let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
        }
    }
}

/// A discovery answer.
pub fn weights(version: &str, weights: &[(&str, u32)]) -> (u16, Value) {
    let cluster = |(name, weight): &(&str, u32)| json!({"name": name, "weight": weight});
    let clusters: Vec<Value> = weights.iter().map(cluster).collect();
    let route = json!({"name": "svc1", "match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}},
        "a_field_of_tomorrow": 1});
    let resource = json!({"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "svc1",
        "virtual_hosts": [{"name": "svc1", "domains": ["*"], "routes": [route]}]});
    (200, json!({"version_info": version, "nonce": format!("n-{version}"), "resources": [resource]}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_compile_is_refused_with_its_reason_at_most_twice_in_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let good = Arc::new(Mutex::new(false));
    let now_good = Arc::clone(&good);
    let fake = FakeControl::start(Speaks::Http2, move |count, request| {
        if *now_good.lock().unwrap() {
            return (request.version_info != "1.9-x").then(|| weights("1.9-x", &[("v1", 60), ("v2", 40)]));
        }
        // A control that holds nothing and insists, with another version each time.
        Some(match count {
            1 => weights("1.1-x", &[("v1", 90), ("v2", 10)]),
            _ => weights(&format!("1.{count}-x"), &[("v1", 90), ("v9", 10)]),
        })
    })
    .await;
    let gateway = fake.gateway(folder.path()).await;
    gateway.until_live().await;
    let asked =
        until("seven requests", || async { Some(fake.asked()).filter(|asked| asked.len() >= 7) }).await;
    let refusal = &asked[2].request;
    let detail = refusal.error_detail.as_ref().expect("the refusal is told with the next request");
    assert_eq!(detail.message, "route `svc1` has no target `v9`; its targets are: v1, v2");
    assert_eq!((refusal.version_info.as_str(), refusal.response_nonce.as_str()), ("1.1-x", "n-1.2-x"));
    for window in asked[1..].windows(3) {
        let span = window[2].at - window[0].at;
        assert!(span >= Duration::from_millis(4_900), "three requests within {span:?}");
    }
    assert_eq!(gateway.weights().await.0, [90, 10], "the old snapshot is kept");
    assert!(gateway.stat("gateway.discovery_update_rejected").await >= 5);
    *good.lock().unwrap() = true;
    gateway.until_weights(&[60, 40]).await;
    let last = until("an acknowledgement", || async {
        fake.asked().pop().filter(|asked| asked.request.version_info == "1.9-x")
    })
    .await;
    assert!(last.request.error_detail.is_none() && last.held, "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_epoch_or_another_control_of_the_same_epoch_is_refused_with_both_named() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(Speaks::Http2, |count, _| match count {
        1 => Some(weights("4.7-x", &[("v1", 90), ("v2", 10)])),
        2 => Some(weights("3.99-y", &[("v1", 0), ("v2", 1)])),
        3 => Some(weights("4.8-y", &[("v1", 0), ("v2", 1)])),
        4 => Some(weights("5.1-y", &[("v1", 30), ("v2", 70)])),
        _ => None,
    })
    .await;
    let gateway = fake.gateway(folder.path()).await;
    let asked =
        until("a fifth request", || async { Some(fake.asked()).filter(|asked| asked.len() >= 5) }).await;
    for (refused, stranger) in [(2, "3.99-y"), (3, "4.8-y")] {
        let detail = asked[refused].request.error_detail.as_ref().unwrap();
        assert!(detail.message.contains(stranger) && detail.message.contains("4.7-x"), "{detail:?}");
        assert_eq!(asked[refused].request.version_info, "4.7-x");
    }
    assert_eq!(asked[4].request.version_info, "5.1-y", "a higher epoch is followed");
    assert_eq!(gateway.weights().await, (vec![30, 70], "control".to_owned(), "5.1-y".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_discovery_at_all_is_refused_too() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(Speaks::Http2, |count, _| match count {
        1 => Some(weights("1.1-x", &[("v1", 90), ("v2", 10)])),
        2 => Some((200, "<html>hello</html>".into())),
        3 => Some(weights("not-a-version", &[("v1", 0), ("v2", 1)])),
        4 => Some(weights("1.5-x", &[("v1", 50), ("v2", 50)])),
        _ => None,
    })
    .await;
    let gateway = fake.gateway(folder.path()).await;
    gateway.until_weights(&[50, 50]).await;
    let asked = fake.asked();
    let why = |n: usize| asked[n].request.error_detail.as_ref().unwrap().message.clone();
    assert!(why(2).contains("no discovery"), "{}", why(2));
    assert!(why(3).contains("not-a-version"), "{}", why(3));
}

async fn works_by_http1(speaks: Speaks) {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(speaks, |count, _| match count {
        1 => Some(weights("1.1-x", &[("v1", 90), ("v2", 10)])),
        2 => Some(weights("1.2-x", &[("v1", 80), ("v2", 20)])),
        _ => None,
    })
    .await;
    let gateway = fake.gateway(folder.path()).await;
    gateway.until_live().await;
    gateway.until_weights(&[80, 20]).await;
    until("a report beside the held request", || async {
        (fake.asked().len() == 3 && *fake.reports.lock().unwrap() >= 3).then_some(())
    })
    .await;
    assert!(gateway.process.stderr().contains("answers by HTTP/1.1"), "{}", gateway.process.tail());
    // Two callers tried HTTP/2, then each keeps one connection.
    let connections = fake.connections.load(SeqCst);
    assert!(connections <= 4, "{connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_behind_http1_is_followed_all_the_same() {
    works_by_http1(Speaks::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_that_drops_http2_without_a_word_is_followed_all_the_same() {
    works_by_http1(Speaks::Http1Silently).await;
}
