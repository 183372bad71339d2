//! Loopback addresses: ports that stay ours, listeners on them, and an address where nobody ever answers.
//!
//! Must never bind anything but 127.0.0.1. Read `wire` next.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::{Domain, SockAddr, Socket, Type};

/// 127.0.0.1 with a port that the kernel chooses.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Locks a mutex whose holder may have panicked: in a test the first panic is the news, not the second.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that is bound but not listened on: connections to it are refused, the kernel gives it to nobody else, and whoever
/// binds it by number with SO_REUSEADDR (std, tokio, Go, Python and Envoy all do) can listen on it.
#[derive(Debug)]
pub struct Reservation {
    _socket: Socket,
    addr: SocketAddr,
}

impl Reservation {
    /// Reserves the port of `addr` (0: any).
    ///
    /// # Errors
    /// When somebody listens on the port, or none is left.
    pub fn new(addr: SocketAddr) -> io::Result<Self> {
        let socket = bound(addr)?;
        let addr = local(&socket)?;
        Ok(Self { _socket: socket, addr })
    }

    /// The reserved address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens on the reserved port; dropping the listener leaves the port reserved.
    ///
    /// # Errors
    /// When somebody listens on it already.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.addr)?;
        socket.listen(1024)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// Makes connection attempts to the port hang, as if every packet to it were lost, until the result is dropped.
    ///
    /// # Errors
    /// When somebody listens on the port already.
    pub fn black_hole(&self) -> io::Result<BlackHole> {
        let socket = bound(self.addr)?;
        // Room for one connection that nobody accepts; Linux then drops every further SYN.
        socket.listen(0)?;
        let filler = TcpStream::connect(self.addr)?;
        Ok(BlackHole { _listener: socket, _filler: filler })
    }
}

/// A listener whose queue is full for ever. See [`Reservation::black_hole`].
#[derive(Debug)]
pub struct BlackHole {
    _listener: Socket,
    _filler: TcpStream,
}

fn bound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP address"))
}

/// A free loopback port for a process that must be told its port. It stays reserved for the life of this process, so neither
/// the kernel nor another `free_port` call gives it out again; until somebody listens, connections to it are refused.
///
/// # Errors
/// When no port is left.
pub fn free_port() -> io::Result<u16> {
    static KEPT: Mutex<Vec<Reservation>> = Mutex::new(Vec::new());
    let reservation = Reservation::new(ANY_PORT)?;
    let port = reservation.addr().port();
    lock(&KEPT).push(reservation);
    Ok(port)
}

/// Sets SO_LINGER to 0, so that dropping the stream sends RST instead of FIN.
///
/// # Errors
/// When the kernel refuses.
pub fn reset_on_drop(stream: &tokio::net::TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_free_port_refuses_connections_until_somebody_listens_on_it() {
        let port = free_port().unwrap();
        let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(listener);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    #[test]
    fn a_reserved_port_can_be_listened_on_again_and_again() {
        let port = Reservation::new(ANY_PORT).unwrap();
        for _ in 0..3 {
            let listener = port.listen().unwrap();
            TcpStream::connect(port.addr()).unwrap();
            assert!(port.listen().is_err(), "two listeners on one port");
            drop(listener);
        }
    }

    #[test]
    fn a_black_hole_neither_accepts_nor_refuses() {
        let port = Reservation::new(ANY_PORT).unwrap();
        let hole = port.black_hole().unwrap();
        let error = TcpStream::connect_timeout(&port.addr(), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(hole);
        let error = TcpStream::connect(port.addr()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
