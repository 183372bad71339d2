//! The one port: connections, TLS where it is configured, and their bounds.
//!
//! Owns a connection from its accept to its end; it must never look into a request (that is `api/`). Next: `api/`.

use crate::api::{Api, Peer};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use lifecycle::drain::DrainWatch;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tls::{ServerCertificate, TlsError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Connections at once: a fleet of the largest size holds two each, and people come beside it.
const MAX_CONNECTIONS: usize = 2_560;
/// Of those from one address: a gateway has two, so one machine that opens them without end leaves room for the fleet.
const MAX_OF_ONE: usize = MAX_CONNECTIONS / 4;
/// HTTP/2 streams at once per connection: a gateway has one held request and its reports.
const MAX_STREAMS: u32 = 100;
/// Between two words about connections that are closed at once.
const TELL_AGAIN: Duration = Duration::from_secs(10);
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

/// How many connections each address has.
#[derive(Clone, Debug, Default)]
struct Guests(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection of an address; ends with it.
#[derive(Debug)]
struct Guest {
    guests: Guests,
    address: IpAddr,
}

impl Guests {
    /// None = the address has all that one may have.
    fn admit(&self, address: IpAddr) -> Option<Guest> {
        let address = address.to_canonical();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = known.entry(address).or_default();
        if *number >= MAX_OF_ONE {
            return None;
        }
        *number += 1;
        Some(Guest { guests: self.clone(), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut known = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.get_mut(&self.address) {
            *number = number.saturating_sub(1);
            if *number == 0 {
                known.remove(&self.address);
            }
        }
    }
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
    let guests = Guests::default();
    let mut told: Option<Instant> = None;
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
        let room = Arc::clone(&permits).try_acquire_owned().ok();
        let Some(room) = room.and_then(|permit| Some((permit, guests.admit(peer.ip())?))) else {
            // Whoever opens them without end must not fill the log with it.
            if told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                told = Some(Instant::now());
                tracing::warn!(%peer, "closed: over {MAX_CONNECTIONS} connections, or {MAX_OF_ONE} of this address");
            }
            continue;
        };
        let door = door.clone();
        tokio::spawn(async move {
            door.serve(stream, peer).await;
            drop(room);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_quarter_of_the_connections_and_gets_back_what_it_gives_back() {
        let guests = Guests::default();
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut held: Vec<Guest> = (0..MAX_OF_ONE).filter_map(|_| guests.admit(one)).collect();
        assert_eq!(held.len(), MAX_OF_ONE);
        assert!(guests.admit(one).is_none());
        assert!(guests.admit("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same one");
        let another = guests.admit(other).unwrap();
        held.pop();
        held.extend(guests.admit(one));
        assert_eq!(held.len(), MAX_OF_ONE);
        drop((held, another));
        assert!(guests.0.lock().unwrap().is_empty());
    }
}
