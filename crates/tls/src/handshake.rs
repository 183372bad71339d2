//! The handshake, bounded in time, and its failures in words that lead somewhere.
//!
//! Owns [`connect`] and [`accept`]; it must never retry. Next: `error.rs`.

use crate::{TlsError, server_name};
use rustls::{CertificateError, ClientConfig, InvalidMessage, ServerConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Two round trips and an expensive signature take a tenth of this even on a small machine.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Speaks TLS with `host` over a connection that is open. `host` is what the certificate must be for.
///
/// # Errors
/// Why not, with the cure.
pub async fn connect<S>(
    config: Arc<ClientConfig>,
    host: &str,
    stream: S,
) -> Result<client::TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = server_name(host)?;
    let handshake = TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(client_error(host, error)),
        Err(_) => Err(TlsError::Slow { peer: host.to_owned() }),
    }
}

/// Speaks TLS with a client that has connected; `peer` is for the error.
///
/// # Errors
/// Why not; [`TlsError::Plain`] for a client that speaks plain HTTP.
pub async fn accept<S>(
    config: Arc<ServerConfig>,
    peer: &str,
    stream: S,
) -> Result<server::TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if is_plain(&error) => {
            Err(TlsError::Plain { peer: peer.to_owned(), cure: "let it ask by https://" })
        }
        Ok(Err(source)) => Err(TlsError::Handshake { peer: peer.to_owned(), source }),
        Err(_) => Err(TlsError::Slow { peer: peer.to_owned() }),
    }
}

fn inner(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is_plain(error: &std::io::Error) -> bool {
    matches!(inner(error), Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn client_error(host: &str, error: std::io::Error) -> TlsError {
    let untrusted = |what: &str, cure: &'static str| TlsError::Untrusted {
        host: host.to_owned(),
        what: what.to_owned(),
        cure,
    };
    if is_plain(&error) {
        return TlsError::Plain { peer: host.to_owned(), cure: "ask by http://, or let it speak TLS" };
    }
    match inner(&error) {
        Some(rustls::Error::InvalidCertificate(bad)) => match bad {
            // A bad signature: a CA of that name is known, but it is another one.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                untrusted("it was issued by a CA that is not known here", "name the CA that issued it")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                untrusted("it is for another name", "ask by a name that is in it, or issue it for this one")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                untrusted("it has expired", "renew it there; the port reads its files again by itself")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                untrusted("it is not valid yet", "compare the clocks of both machines")
            }
            other => untrusted(&other.to_string(), "issue another one for the server"),
        },
        _ => TlsError::Handshake { peer: host.to_owned(), source: error },
    }
}
