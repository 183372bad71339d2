//! A DNS server for tests: a few names whose answers can be changed while it runs, over UDP and TCP, with every way to fail.
//!
//! Written from RFC 1035 (and 2308 for negative answers). Must never forward a question anywhere. One question per message, no
//! compression but the pointer to the question's name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use crate::clock::{DEADLINE, within};
use crate::host::Host;
use crate::net::{ANY_PORT, lock};

/// Record types (RFC 1035 section 3.2.2, RFC 3596).
const A: u16 = 1;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const OPT: u16 = 41;
/// Answer codes (RFC 1035 section 4.1.1).
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
/// The largest UDP answer for who does not say EDNS.
const PLAIN_UDP: usize = 512;
/// How often a UDP port equal to the TCP port is tried for.
const BIND_TRIES: u32 = 32;

/// What the server says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// These addresses: A records for IPv4, AAAA for IPv6, all with this time to live in seconds. An empty list, or none of the
    /// type asked for, is an empty answer without error (NODATA).
    Addresses(Vec<IpAddr>, u32),
    /// The name does not exist, and that may be remembered for so many seconds.
    NxDomain(u32),
    /// The server cannot tell.
    ServFail,
    /// No answer at all; a TCP connection is closed.
    Silence,
    /// Over UDP only "ask again over TCP"; over TCP these addresses.
    TcpOnly(Vec<IpAddr>, u32),
}

#[derive(Default)]
struct Shared {
    zones: Mutex<HashMap<String, Zone>>,
    queries: watch::Sender<HashMap<String, u64>>,
}

/// The running server; dropping it stops it. A name that was never set does not exist.
pub struct Dns {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _host: Host,
}

impl Dns {
    /// Starts it on one loopback port for both UDP and TCP.
    ///
    /// # Errors
    /// When the system gives no port or thread.
    pub fn start() -> Result<Self> {
        let (tcp, udp) = bind()?;
        Self::serve_on(tcp, udp)
    }

    fn serve_on(tcp: std::net::TcpListener, udp: std::net::UdpSocket) -> Result<Self> {
        let addr = tcp.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let host = Host::spawn("dns", move || serve(tcp, udp, serving))?;
        Ok(Self { addr, shared, _host: host })
    }

    /// Starts it on a given address, within network namespaces of its own.
    ///
    /// # Errors
    /// When the address is taken or not there.
    pub fn start_on(addr: SocketAddr) -> Result<Self> {
        let (tcp, udp) = (std::net::TcpListener::bind(addr)?, std::net::UdpSocket::bind(addr)?);
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Self::serve_on(tcp, udp)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what is said of a name from the next question on.
    pub fn set(&self, name: &str, zone: Zone) {
        lock(&self.shared.zones).insert(canonical(name), zone);
    }

    /// Sets a name's addresses.
    pub fn addresses(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        self.set(name, Zone::Addresses(addresses.to_vec(), ttl));
    }

    /// How many questions about a name have come, of any type, answered or not.
    #[must_use]
    pub fn queries(&self, name: &str) -> u64 {
        self.shared.queries.borrow().get(&canonical(name)).copied().unwrap_or(0)
    }

    /// Waits until so many questions about a name have come.
    ///
    /// # Errors
    /// When they have not within [`DEADLINE`].
    pub async fn until_queries(&self, name: &str, count: u64) -> Result<()> {
        let name = canonical(name);
        let mut watch = self.shared.queries.subscribe();
        let asked = async { watch.wait_for(|all| all.get(&name).is_some_and(|n| *n >= count)).await.is_ok() };
        within(DEADLINE, &format!("{count} questions about {name}"), asked).await.map(|_| ())
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dns on {}: {:?}", self.addr, *self.shared.queries.borrow())
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn bind() -> Result<(std::net::TcpListener, std::net::UdpSocket)> {
    let mut last = None;
    for _ in 0..BIND_TRIES {
        let tcp = std::net::TcpListener::bind(ANY_PORT)?;
        match std::net::UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => {
                tcp.set_nonblocking(true)?;
                udp.set_nonblocking(true)?;
                return Ok((tcp, udp));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("no try"), Into::into)).context("a port for both UDP and TCP")
}

async fn serve(tcp: std::net::TcpListener, udp: std::net::UdpSocket, shared: Arc<Shared>) {
    let (Ok(tcp), Ok(udp)) = (TcpListener::from_std(tcp), UdpSocket::from_std(udp)) else { return };
    let over_tcp = async {
        while let Ok((stream, _)) = tcp.accept().await {
            tokio::spawn(serve_tcp(stream, Arc::clone(&shared)));
        }
    };
    tokio::join!(over_tcp, serve_udp(&udp, &shared));
}

async fn serve_udp(udp: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    loop {
        // A client whose port is closed already shows as an error here; the next question is another client's.
        let Ok((len, peer)) = udp.recv_from(&mut buffer).await else { continue };
        let question = Question::parse(buffer.get(..len).unwrap_or_default());
        let answer = question.and_then(|question| shared.answer(&question, true));
        if let Some(answer) = answer {
            let _best_effort = udp.send_to(&answer, peer).await;
        }
    }
}

async fn serve_tcp(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    loop {
        let len = stream.read_u16().await.ok()?;
        let mut message = vec![0; usize::from(len)];
        stream.read_exact(&mut message).await.ok()?;
        let answer = shared.answer(&Question::parse(&message)?, false)?;
        let mut framed = u16::try_from(answer.len()).ok()?.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        stream.write_all(&framed).await.ok()?;
    }
}

/// The one question of a message.
struct Question {
    id: u16,
    /// Recursion desired: copied into the answer.
    recursion: bool,
    name: String,
    kind: u16,
    /// Name, type and class as they came.
    section: Vec<u8>,
    /// How large a UDP answer may be.
    room: usize,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let short = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        let (id, flags, questions) = (short(0)?, short(2)?, short(4)?);
        // An answer, or a message without exactly one question, is not for us.
        if flags & 0x8000 != 0 || questions != 1 {
            return None;
        }
        let (mut at, mut labels) = (12, Vec::new());
        loop {
            let len = usize::from(*message.get(at)?);
            at += 1;
            match len {
                0 => break,
                1..=63 => {
                    labels.push(String::from_utf8_lossy(message.get(at..at + len)?).to_ascii_lowercase())
                }
                _ => return None,
            }
            at += len;
        }
        let kind = short(at)?;
        let section = message.get(12..at + 4)?.to_vec();
        // Requestors put OPT alone into the additional section (RFC 6891): root name, type, then the size.
        let extra = at + 4;
        let edns = short(10)? > 0 && message.get(extra) == Some(&0) && short(extra + 1) == Some(OPT);
        let room = if edns { usize::from(short(extra + 3)?).max(PLAIN_UDP) } else { PLAIN_UDP };
        Some(Self { id, recursion: flags & 0x0100 != 0, name: labels.join("."), kind, section, room })
    }
}

impl Shared {
    /// Counts the question and encodes its answer; None is silence.
    fn answer(&self, question: &Question, udp: bool) -> Option<Vec<u8>> {
        self.queries.send_modify(|all| *all.entry(question.name.clone()).or_default() += 1);
        let zone = lock(&self.zones).get(&question.name).cloned().unwrap_or(Zone::NxDomain(1));
        let answer = match &zone {
            Zone::Silence => return None,
            Zone::ServFail => encode(question, SERVFAIL, false, &[], None),
            Zone::NxDomain(ttl) => encode(question, NXDOMAIN, false, &[], Some(*ttl)),
            Zone::TcpOnly(..) if udp => encode(question, 0, true, &[], None),
            Zone::Addresses(addresses, ttl) | Zone::TcpOnly(addresses, ttl) => {
                let records = records(question.kind, addresses, *ttl);
                let negative = records.is_empty().then_some(*ttl);
                encode(question, 0, false, &records, negative)
            }
        };
        let too_long = udp && answer.len() > question.room;
        Some(if too_long { encode(question, 0, true, &[], None) } else { answer })
    }
}

/// The address records of the type asked for, each pointing at the question's name.
fn records(kind: u16, addresses: &[IpAddr], ttl: u32) -> Vec<Vec<u8>> {
    let data = |address: &IpAddr| match (address, kind) {
        (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
        (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
        _ => None,
    };
    addresses.iter().filter_map(data).map(|data| record(kind, ttl, &data)).collect()
}

fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    // 0xc00c points at byte 12, where the question's name begins; class 1 is IN.
    let mut bytes = vec![0xc0, 0x0c];
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&1u16.to_be_bytes());
    bytes.extend_from_slice(&ttl.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A whole message. A negative answer carries an SOA whose minimum tells how long it may be remembered (RFC 2308).
fn encode(
    question: &Question,
    code: u8,
    truncated: bool,
    answers: &[Vec<u8>],
    negative: Option<u32>,
) -> Vec<u8> {
    let mut flags = 0x8400 | 0x0080 | u16::from(code);
    if truncated {
        flags |= 0x0200;
    }
    if question.recursion {
        flags |= 0x0100;
    }
    let count = u16::try_from(answers.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(PLAIN_UDP);
    for number in [question.id, flags, 1, count, u16::from(negative.is_some()), 0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&question.section);
    bytes.extend_from_slice(&answers.concat());
    if let Some(ttl) = negative {
        // Primary server and mailbox: the root; then serial, refresh, retry, expire, minimum.
        let mut data = vec![0, 0];
        for number in [1, 60, 60, 60, ttl] {
            data.extend_from_slice(&u32::to_be_bytes(number));
        }
        bytes.extend_from_slice(&record(SOA, ttl, &data));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::TokioResolver;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::net::{DnsError, NetError};
    use std::time::{Duration, Instant};

    /// A real resolver, so that what is tested is DNS and not our own idea of it.
    fn resolver(dns: &Dns, timeout: Duration) -> TokioResolver {
        let connection = |mut config: ConnectionConfig| {
            config.port = dns.addr().port();
            config
        };
        let mut server = NameServerConfig::udp_and_tcp(dns.addr().ip());
        server.connections = server.connections.into_iter().map(connection).collect();
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().cache_size = 0;
        builder.options_mut().attempts = 0;
        builder.options_mut().timeout = timeout;
        builder.build().unwrap()
    }

    fn ips(from: u8, count: u8) -> Vec<IpAddr> {
        (from..from + count).map(|n| IpAddr::from([127, 0, 0, n])).collect()
    }

    async fn look_up(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let mut found: Vec<IpAddr> = resolver.lookup_ip(name).await?.iter().collect();
        found.sort_unstable();
        Ok(found)
    }

    fn negative(error: &NetError) -> Option<(bool, Option<u32>)> {
        let NetError::Dns(DnsError::NoRecordsFound(none)) = error else { return None };
        Some((error.is_nx_domain(), none.negative_ttl))
    }

    #[tokio::test]
    async fn several_addresses_with_their_ttl_and_changes_while_it_runs() {
        let dns = Dns::start().unwrap();
        let resolver = resolver(&dns, DEADLINE);
        dns.addresses("v1.demo.local", &ips(1, 3), 10);
        assert_eq!(look_up(&resolver, "V1.demo.local.").await.unwrap(), ips(1, 3));
        let ttl = resolver.lookup_ip("v1.demo.local.").await.unwrap().valid_until() - Instant::now();
        assert!((Duration::from_secs(5)..=Duration::from_secs(10)).contains(&ttl), "{ttl:?}");
        dns.addresses("v1.demo.local", &ips(7, 1), 10);
        assert_eq!(look_up(&resolver, "v1.demo.local.").await.unwrap(), ips(7, 1));
        assert!(dns.queries("v1.demo.local") >= 3);
        dns.until_queries("v1.demo.local.", 3).await.unwrap();
        let six = vec![IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        dns.addresses("six.demo.local", &six, 10);
        assert_eq!(look_up(&resolver, "six.demo.local.").await.unwrap(), six);
    }

    #[tokio::test]
    async fn no_name_no_data_failure_and_silence_are_told_apart() {
        let dns = Dns::start().unwrap();
        let resolver = resolver(&dns, DEADLINE);
        dns.set("no.local", Zone::NxDomain(7));
        dns.addresses("empty.local", &[], 7);
        dns.set("broken.local", Zone::ServFail);
        dns.set("silent.local", Zone::Silence);
        let mut errors = Vec::new();
        let impatient = self::resolver(&dns, Duration::from_millis(100));
        for name in ["no.local.", "never-set.local.", "empty.local.", "broken.local.", "silent.local."] {
            let resolver = if name == "silent.local." { &impatient } else { &resolver };
            errors.push(look_up(resolver, name).await.unwrap_err());
            assert!(dns.queries(name) > 0, "{name}");
        }
        let [no, never, empty, broken, silent] = errors.as_slice() else { panic!() };
        assert_eq!(negative(no), Some((true, Some(7))));
        assert_eq!(negative(never), Some((true, Some(1))));
        assert_eq!(negative(empty), Some((false, Some(7))));
        assert!(broken.to_string().contains("Server Failure"), "{broken}");
        assert!(matches!(silent, NetError::Timeout), "{silent}");
    }

    #[tokio::test]
    async fn what_does_not_fit_a_datagram_comes_over_tcp() {
        let dns = Dns::start().unwrap();
        let resolver = resolver(&dns, DEADLINE);
        dns.addresses("many.local", &ips(1, 200), 10);
        assert_eq!(look_up(&resolver, "many.local.").await.unwrap(), ips(1, 200));
        dns.set("tcp.local", Zone::TcpOnly(ips(1, 2), 10));
        assert_eq!(look_up(&resolver, "tcp.local.").await.unwrap(), ips(1, 2));
    }
}
