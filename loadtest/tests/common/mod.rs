//! What the tests share: backends in this process, a small splitter before them, a raw exchange.
#![allow(dead_code)]

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadtest::client::{Client, Protocol, Recipe, Target, parse_url};
use loadtest::upstream::{Options, Upstream};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Generous: only a broken test ever waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A backend in this process; it stops when `stop` is sent true or dropped.
pub struct Backend {
    pub address: SocketAddr,
    pub stop: watch::Sender<bool>,
    pub served: JoinHandle<()>,
}

pub fn backend(options: Options) -> Backend {
    let upstream = Upstream::bind(any_port(), options).unwrap();
    let (stop, stopped) = watch::channel(false);
    Backend { address: upstream.address(), served: tokio::spawn(upstream.serve(stopped)), stop }
}

pub async fn recipe(address: SocketAddr, path: &str, protocol: Protocol) -> Recipe {
    let target = Target::resolve(&parse_url(&format!("http://{address}{path}")).unwrap()).await.unwrap();
    Recipe { target, method: Method::GET, headers: vec![], body: Bytes::new(), protocol, close: false }
}

/// A splitter that hands request n to `pick(n)`, over HTTP/1.1 or HTTP/2.
pub async fn splitter(backends: Vec<SocketAddr>, pick: fn(u64) -> usize, protocol: Protocol) -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (backends, seen) = (backends.clone(), Arc::clone(&seen));
            let service = service_fn(move |request: Request<Incoming>| {
                let backend = backends[pick(seen.fetch_add(1, Ordering::Relaxed))];
                forward(backend, request)
            });
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                let _ = match protocol {
                    Protocol::Http1 => {
                        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                    }
                    Protocol::Http2 => {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        builder.serve_connection(io, service).await
                    }
                };
            });
        }
    });
    address
}

async fn forward(
    backend: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let mut recipe = recipe(backend, path, Protocol::Http1).await;
    recipe.close = true;
    let answer = Client::http1(Arc::new(recipe), Arc::default()).exchange(DEADLINE).await;
    let Ok(answer) = answer else {
        return Ok(Response::builder().status(503).body(Full::new(Bytes::from("no backend"))).unwrap());
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    response.headers_mut().insert("x-v", answer.headers["x-v"].clone());
    Ok(response)
}

/// Sends bytes and reads until the peer closes: the bytes, and the error that ended them if any.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut got = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut got)).await.expect("no end in time");
    (got, read.err().map(|e| e.kind()))
}
