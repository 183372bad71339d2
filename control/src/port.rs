//! The one port: connections, TLS where it is configured, and their bounds.
//!
//! Owns a connection from its accept to its end; it must never look into a request (that is `api/`). Next: `api/`.

use crate::api::{Api, Peer};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use lifecycle::drain::DrainWatch;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tls::{ServerCertificate, TlsError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Connections at once: a fleet of the largest size holds two each, and people come beside it.
const MAX_CONNECTIONS: usize = 2_560;
/// HTTP/2 streams at once per connection: a gateway has one held request and its reports.
const MAX_STREAMS: u32 = 100;
/// From the first byte of a head to its last.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// HTTP/2 pings, so that a vanished gateway frees its connection.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered pings close the connection after so long.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers may take to leave after SIGTERM.
pub const DRAIN: Duration = Duration::from_secs(5);

/// What every connection of the port needs.
#[derive(Clone)]
struct Door {
    api: Api,
    certificate: Option<Arc<ServerCertificate>>,
    // One sentence about plain HTTP is a help; one per health check of a wrong load balancer fills the log.
    told_plain: Arc<AtomicBool>,
    drain: DrainWatch,
}

/// Serves connections until the drain, then until they are done or its deadline has passed. With a certificate the
/// port speaks TLS only.
pub async fn accept(
    listener: &TcpListener,
    api: &Api,
    certificate: Option<&Arc<ServerCertificate>>,
    drain: &DrainWatch,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let door = Door {
        api: api.clone(),
        certificate: certificate.cloned(),
        told_plain: Arc::default(),
        drain: drain.clone(),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.draining() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: without a pause this loop would spin.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tracing::warn!(%peer, "over {MAX_CONNECTIONS} connections");
            continue;
        };
        let door = door.clone();
        tokio::spawn(async move {
            door.serve(stream, peer).await;
            drop(permit);
        });
    }
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    tokio::select! {
        _ = permits.acquire_many(all) => {}
        () = tokio::time::sleep(DRAIN) => tracing::warn!("connections were cut at the end of the drain"),
        () = drain.closed() => {}
    }
}

impl Door {
    async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "set_nodelay");
        }
        let Some(certificate) = &self.certificate else {
            return connection(stream, peer, self.api, self.drain).await;
        };
        let name = peer.ip().to_string();
        let shaken = tokio::select! {
            shaken = tls::accept(certificate.current(), &name, stream) => shaken,
            () = self.drain.draining() => return,
        };
        match shaken {
            Ok(stream) => connection(stream, peer, self.api, self.drain).await,
            Err(error @ TlsError::Plain { .. }) if !self.told_plain.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "closed; others of this kind are told at level debug only");
            }
            Err(error) => tracing::debug!(%error, "closed"),
        }
    }
}

async fn connection<S>(stream: S, peer: SocketAddr, api: Api, drain: DrainWatch)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let service = api.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        asks.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(peer));
        request
    });
    // Before the first byte no timer of the server runs.
    let silent = async {
        tokio::time::sleep(HEADER_PATIENCE).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = silent => {
            tracing::debug!(%peer, "a connection without a request");
            return;
        }
        () = drain.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection");
    }
}
