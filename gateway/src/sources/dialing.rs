//! How a connection to control is made.
//!
//! Owns the resolving of the name, anew for each connection, the order in which its addresses are tried, and TLS. It
//! must never keep an address: a control that moved is found by the next attempt. Next: `backoff.rs`.

use super::link::{LinkError, failed};
use gateway_config::model::Control;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tls::rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

/// Name, connection and TLS together take less, or are given up.
const CONNECT: Duration = Duration::from_secs(5);
/// Addresses tried of one name. A task that was replaced may still be among them, and does not answer.
const TRIED: usize = 3;
/// Control's port when the URL has none.
const DEFAULT_PORT: u16 = 18_000;

/// What HTTP is spoken over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where control is.
pub struct Dialer {
    authority: String,
    host: String,
    tls: Option<Arc<ClientConfig>>,
    names: Names,
    /// Rises with each connection, so that an address that does not answer is not the first one every time.
    turn: Cell<usize>,
}

/// Who knows addresses.
enum Names {
    System,
    /// One answer for each question, in this order.
    #[cfg(test)]
    Scripted(std::cell::RefCell<std::collections::VecDeque<Vec<SocketAddr>>>),
}

impl Names {
    async fn look_up(&self, authority: &str) -> std::io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(lookup_host(authority).await?.collect()),
            #[cfg(test)]
            Self::Scripted(answers) => {
                let _ = authority;
                Ok(answers.borrow_mut().pop_front().unwrap_or_default())
            }
        }
    }
}

impl Dialer {
    /// Nothing is resolved yet.
    ///
    /// # Errors
    /// A URL without host, or certificates that cannot be used.
    pub fn new(url: &http::Uri, control: &Control) -> Result<Self, LinkError> {
        let host = url.host().ok_or_else(|| failed("the URL of control", "no host"))?.to_owned();
        let authority = format!("{host}:{}", url.port_u16().unwrap_or(DEFAULT_PORT));
        let tls = if url.scheme_str() == Some("https") { Some(config(control)?) } else { None };
        Ok(Self { authority, host, tls, names: Names::System, turn: Cell::new(0) })
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A new connection, and whether HTTP/2 may be spoken on it; `http2`: whether it is wanted.
    ///
    /// # Errors
    /// When none of the name's addresses could be connected to in time, or control's certificate is not believed.
    pub async fn connect(&self, http2: bool) -> Result<(Box<dyn Io>, bool), LinkError> {
        match tokio::time::timeout(CONNECT, self.open(http2)).await {
            Ok(result) => result,
            Err(_) => Err(failed(
                &format!("connect to {}", self.authority),
                format!(
                    "no answer within {} s; does its name resolve, does it run, and does its security group let this \
                     task in?",
                    CONNECT.as_secs()
                ),
            )),
        }
    }

    async fn open(&self, http2: bool) -> Result<(Box<dyn Io>, bool), LinkError> {
        let reached = self.reach().await;
        let socket = reached.map_err(|error| failed(&format!("connect to {}", self.authority), error))?;
        crate::io::set_options(&socket);
        let Some(config) = &self.tls else { return Ok((Box::new(socket), true)) };
        let config = if http2 { Arc::clone(config) } else { tls::http1_only(config) };
        let stream = tls::connect(config, &self.host, socket).await;
        let stream = stream.map_err(|error| failed("TLS with control", error))?;
        // Without a word about it, it is HTTP/1.1 (RFC 9113 section 3.2).
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
        Ok((Box::new(stream), agreed))
    }

    async fn reach(&self) -> std::io::Result<TcpStream> {
        let mut addresses = self.names.look_up(&self.authority).await?;
        if addresses.is_empty() {
            return Err(std::io::Error::other("its name has no address"));
        }
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let length = addresses.len();
        addresses.rotate_left(turn % length);
        addresses.truncate(TRIED);
        let each = CONNECT / u32::try_from(addresses.len()).unwrap_or(1);
        let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
        for address in addresses {
            match tokio::time::timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }
}

/// Whom to believe: the certificates of the variable, else of the file, else those of the system.
fn config(control: &Control) -> Result<Arc<ClientConfig>, LinkError> {
    let file = match (&control.ca, &control.ca_file) {
        (None, Some(file)) => Some(
            std::fs::read_to_string(file)
                .map_err(|error| failed(&format!("control.ca_file {file}"), error))?,
        ),
        _ => None,
    };
    let place = match (&control.ca, &control.ca_file) {
        (Some(_), _) => "GATEWAY_CONTROL_CA",
        (None, Some(_)) => "control.ca_file",
        (None, None) => "the certificates that control's is checked against",
    };
    tls::client_config(control.ca.as_deref().or(file.as_deref())).map_err(|error| failed(place, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn dialer(answers: &[&[SocketAddr]]) -> Dialer {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        Dialer {
            authority: "control.test:18000".to_owned(),
            host: "control.test".to_owned(),
            tls: None,
            names: Names::Scripted(std::cell::RefCell::new(answers)),
            turn: Cell::new(0),
        }
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_control_that_moved_is_found_by_the_next_connection() {
        let ((before, here), (after, there)) = (listener().await, listener().await);
        let dialer = dialer(&[&[here], &[there]]);
        let (_first, http2) = dialer.connect(true).await.unwrap();
        assert!(http2);
        before.accept().await.unwrap();
        drop(before);
        let _second = dialer.connect(true).await.unwrap();
        after.accept().await.unwrap();
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_any_more_does_not_hide_the_others() {
        let (gone, old) = listener().await;
        drop(gone);
        let (live, new) = listener().await;
        let dialer = dialer(&[&[old, new], &[old, new]]);
        for _ in 0..2 {
            let _connection = dialer.connect(true).await.unwrap();
            live.accept().await.unwrap();
        }
    }

    /// An address whose queue of connections is full: the kernel answers no more of them, as a task that is gone.
    fn black_hole() -> (socket2::Socket, SocketAddr, Vec<std::net::TcpStream>) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let fill = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
        let filling = std::iter::from_fn(|| fill().ok()).take(1_000).collect();
        (socket, address, filling)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_is_given_up_after_5_seconds() {
        let (_socket, hole, _filling) = black_hole();
        let begun = tokio::time::Instant::now();
        let Err(error) = dialer(&[&[hole]]).connect(true).await else { panic!("connected to nobody") };
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(4) && took <= Duration::from_secs(6), "after {took:?}: {error}");
        assert!(error.to_string().contains("connect to control.test:18000"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_leaves_time_for_the_others() {
        let (_socket, hole, _filling) = black_hole();
        let (live, address) = listener().await;
        let begun = tokio::time::Instant::now();
        let _connection = dialer(&[&[hole, address]]).connect(true).await.unwrap();
        live.accept().await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(1), "the first one was tried");
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_said_to_be_that() {
        let Err(error) = dialer(&[&[]]).connect(true).await else { panic!("connected to nobody") };
        assert_eq!(error.to_string(), "connect to control.test:18000: its name has no address");
    }
}
