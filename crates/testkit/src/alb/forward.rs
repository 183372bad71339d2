//! One request through the load balancer: choose a target, take or make a connection, pass it on once, count how it ended.
//!
//! Must never send a request twice. A connection that the target closed while it was idle is found out before anything is written
//! to it, as an ALB does; that is not a retry.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::handshake;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Counts, Idle, Shared, TargetHealth};
use crate::net::lock;

/// Accepts for ever.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, peer)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _best_effort = stream.set_nodelay(true);
            let service = service_fn(move |request| forward(Arc::clone(&shared), peer, request));
            // A client that goes away is its own affair.
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Answer = Response<Either<Watched, Full<Bytes>>>;

/// What went wrong before the target's answer began.
#[derive(Clone, Copy)]
enum Failure {
    NoTarget,
    Connect,
    ResetReused,
    ResetFresh,
    Timeout,
}

async fn forward(shared: Arc<Shared>, peer: SocketAddr, mut request: Request<Incoming>) -> Result<Answer> {
    shared.count(|counts| counts.requests += 1);
    stamp(request.headers_mut(), peer, shared.port)?;
    let Some(flight) = choose(&shared) else { return refuse(&shared, Failure::NoTarget) };
    let sent = send(&shared, flight.target, request);
    let response = match tokio::time::timeout(shared.settings.idle_timeout, sent).await {
        Err(_) => return refuse(&shared, Failure::Timeout),
        Ok(Err(failure)) => return refuse(&shared, failure),
        Ok(Ok(response)) => response,
    };
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    shared.count(|counts| match parts.status.is_server_error() {
        true => counts.target_5xx += 1,
        false => counts.passed += 1,
    });
    Ok(Response::from_parts(parts, Either::Left(Watched { inner: body, flight })))
}

fn refuse(shared: &Shared, failure: Failure) -> Result<Answer> {
    let count = |change: fn(&mut Counts)| shared.count(change);
    let status = match failure {
        Failure::NoTarget => {
            count(|counts| counts.no_target += 1);
            503
        }
        Failure::Connect => {
            count(|counts| counts.connect_failed += 1);
            502
        }
        Failure::ResetReused => {
            count(|counts| counts.reset_reused += 1);
            502
        }
        Failure::ResetFresh => {
            count(|counts| counts.reset_fresh += 1);
            502
        }
        Failure::Timeout => {
            count(|counts| counts.timeout += 1);
            504
        }
    };
    let response = Response::builder().status(status).header("server", "awselb/2.0");
    Ok(response.body(Either::Right(Full::default()))?)
}

/// A request in flight to a target; dropping it ends that.
struct Flight {
    shared: Arc<Shared>,
    target: SocketAddr,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.with(self.target, |entry| entry.in_flight -= 1);
    }
}

/// Round robin over the healthy; over the unhealthy when none is healthy.
fn choose(shared: &Arc<Shared>) -> Option<Flight> {
    let mut targets = lock(&shared.targets);
    let with = |health: TargetHealth| -> Vec<SocketAddr> {
        targets.iter().filter(|entry| entry.health == health).map(|entry| entry.target.data).collect()
    };
    let mut able = with(TargetHealth::Healthy);
    if able.is_empty() {
        able = with(TargetHealth::Unhealthy);
    }
    let mut next = lock(&shared.next);
    *next = next.wrapping_add(1);
    let target = *able.get(next.checked_rem(able.len())?)?;
    targets.iter_mut().find(|entry| entry.target.data == target)?.in_flight += 1;
    Some(Flight { shared: Arc::clone(shared), target })
}

async fn send(
    shared: &Arc<Shared>,
    target: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Failure> {
    loop {
        // The oldest first: the one that its target is likeliest to have closed.
        let idle = shared.with(target, |entry| entry.idle.pop_front()).flatten();
        let reused = idle.is_some();
        let mut connection = match idle {
            Some(connection) if connection.is_closed() => {
                shared.count(|counts| counts.closed_idle += 1);
                continue;
            }
            Some(connection) => connection,
            None => connect(shared, target).await.map_err(|_| Failure::Connect)?,
        };
        match connection.try_send_request(request).await {
            Ok(response) => {
                tokio::spawn(keep(Arc::clone(shared), target, connection));
                return Ok(response);
            }
            Err(mut error) => match (error.take_message(), reused) {
                (Some(unsent), true) => {
                    shared.count(|counts| counts.closed_idle += 1);
                    request = unsent;
                }
                (None, true) => return Err(Failure::ResetReused),
                (_, false) => return Err(Failure::ResetFresh),
            },
        }
    }
}

async fn connect(shared: &Shared, target: SocketAddr) -> Result<Idle> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    shared.count(|counts| counts.connections += 1);
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its end shows in the sender.
        let _ended = connection.await;
    });
    Ok(sender)
}

/// Puts a connection back once its answer has been read.
async fn keep(shared: Arc<Shared>, target: SocketAddr, mut connection: Idle) {
    if connection.ready().await.is_ok() {
        shared.with(target, |entry| {
            if entry.health != TargetHealth::Draining {
                entry.idle.push_back(connection);
            }
        });
    }
}

/// Adds what an ALB adds (its user guide, "HTTP headers and Application Load Balancers").
fn stamp(headers: &mut HeaderMap, peer: SocketAddr, port: u16) -> Result<()> {
    strip(headers);
    let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let forwarded = before.map_or_else(|| peer.ip().to_string(), |before| format!("{before}, {}", peer.ip()));
    headers.insert("x-forwarded-for", HeaderValue::try_from(forwarded)?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    headers.insert("x-forwarded-port", HeaderValue::try_from(port.to_string())?);
    if !headers.contains_key("x-amzn-trace-id") {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let unique: u128 = rand::random();
        let trace = format!("Root=1-{seconds:08x}-{:024x}", unique >> 32);
        headers.insert("x-amzn-trace-id", HeaderValue::try_from(trace)?);
    }
    Ok(())
}

/// Removes what is for one hop only.
fn strip(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(HeaderName::from_static("keep-alive"));
}

/// An answer's body, which counts its breaking off and ends the flight with it.
struct Watched {
    inner: Incoming,
    flight: Flight,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = &frame {
            self.flight.shared.count(|counts| counts.cut += 1);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
