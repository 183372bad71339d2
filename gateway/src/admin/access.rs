//! Who may change state through admin.
//!
//! Owns the one rule: a loopback peer that came for a loopback Host and not from a web page, or the admin token. It
//! must never say which part of a token was wrong, nor take longer for a better guess. Next: `endpoints.rs`.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use subtle::ConstantTimeEq;

/// Bytes of the token file that are read; a token is its first line.
const MAX_TOKEN_BYTES: u64 = 4096;

/// Why a change was refused, with what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Not from this host, and no token given.
    #[error(
        "changes are only taken from this host (you are {0}): call http://localhost on the gateway itself, for \
         example with `aws ecs execute-command`, or send `Authorization: Bearer TOKEN` with the token of the file \
         in admin.token_file"
    )]
    NotLoopback(IpAddr),
    /// A browser that was sent here under another name (DNS rebinding).
    #[error(
        "changes are only taken for the Host localhost, 127.0.0.1 or [::1]: call http://localhost, or send the admin token"
    )]
    WrongHost,
    /// A web page.
    #[error(
        "changes are not taken from web pages (the request has an Origin header): use curl, or send the admin token"
    )]
    FromWebPage,
    /// A token that is not ours.
    #[error("the admin token is wrong, or this gateway has no admin.token_file")]
    WrongToken,
}

/// The rule and where the token is.
#[derive(Debug)]
pub struct Gate {
    token_file: Option<String>,
}

impl Gate {
    /// The rule; without a token file only loopback may change state.
    pub fn new(token_file: Option<String>) -> Self {
        Self { token_file }
    }

    /// Whether a POST from `peer` may change state.
    ///
    /// # Errors
    /// [`Refusal`], for the caller to read.
    pub fn check(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        if let Some(given) = headers.get(AUTHORIZATION) {
            // Whoever sends a token relies on it: a wrong one is not made good by loopback.
            return if self.is_token(given.as_bytes()) { Ok(()) } else { Err(Refusal::WrongToken) };
        }
        let address = peer.ip().to_canonical();
        if !address.is_loopback() {
            return Err(Refusal::NotLoopback(address));
        }
        if headers.contains_key(ORIGIN) {
            return Err(Refusal::FromWebPage);
        }
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if host.to_str().is_ok_and(is_loopback_host) => Ok(()),
            _ => Err(Refusal::WrongHost),
        }
    }

    fn is_token(&self, authorization: &[u8]) -> bool {
        let Some((scheme, given)) = authorization.split_at_checked(7) else { return false };
        // Read at every use, so that a rotated token counts at once.
        let Some(token) = self.token_file.as_deref().and_then(read_token) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(token.as_bytes().ct_eq(given))
    }
}

/// The first line of the file; `None` when it cannot be read or is empty, which lets nobody in.
fn read_token(path: &str) -> Option<String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned),
        Err(error) => {
            tracing::warn!(path, %error, "admin.token_file cannot be read: no token is accepted");
            None
        }
    }
}

fn is_loopback_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return is_port(port) && address.parse() == Ok(Ipv6Addr::LOCALHOST);
    }
    let (name, port) = host.find(':').map_or((host, ""), |colon| host.split_at(colon));
    is_port(port) && (name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1")
}

/// Nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const HERE: &str = "127.0.0.1:40000";
    const AWAY: &str = "10.0.0.9:40000";

    fn check(gate: &Gate, peer: &str, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        gate.check(peer.parse().expect("an address"), &map)
    }

    #[test]
    fn loopback_with_a_loopback_host_may() {
        let gate = Gate::new(None);
        for host in ["localhost", "LOCALHOST:9901", "127.0.0.1:9901", "[::1]:9901", "[::1]"] {
            assert_eq!(check(&gate, HERE, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check(&gate, "[::ffff:127.0.0.1]:1", &[("host", "localhost")]), Ok(()));
    }

    #[test]
    fn another_peer_host_or_a_web_page_may_not() {
        let gate = Gate::new(None);
        assert!(matches!(check(&gate, AWAY, &[("host", "localhost")]), Err(Refusal::NotLoopback(_))));
        for host in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "localhost:x", "[::2]", ""] {
            assert_eq!(check(&gate, HERE, &[("host", host)]), Err(Refusal::WrongHost), "{host}");
        }
        assert_eq!(check(&gate, HERE, &[]), Err(Refusal::WrongHost));
        let two = [("host", "localhost"), ("host", "evil.test")];
        assert_eq!(check(&gate, HERE, &two), Err(Refusal::WrongHost));
        let page = [("host", "localhost"), ("origin", "http://evil.test")];
        assert_eq!(check(&gate, HERE, &page), Err(Refusal::FromWebPage));
    }

    #[test]
    fn the_token_opens_from_anywhere_and_a_rotated_one_counts_at_once() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let gate = Gate::new(file.path().to_str().map(str::to_owned));
        std::fs::write(file.path(), "first\nsecond line\n").expect("written");
        assert_eq!(check(&gate, AWAY, &[("authorization", "Bearer first")]), Ok(()));
        assert_eq!(check(&gate, AWAY, &[("authorization", "Bearer first\u{20}")]), Err(Refusal::WrongToken));
        assert_eq!(check(&gate, AWAY, &[("authorization", "Basic first")]), Err(Refusal::WrongToken));
        std::fs::write(file.path(), "rotated\n").expect("written");
        assert_eq!(check(&gate, AWAY, &[("authorization", "Bearer first")]), Err(Refusal::WrongToken));
        assert_eq!(check(&gate, AWAY, &[("authorization", "Bearer rotated")]), Ok(()));
    }

    #[test]
    fn an_empty_or_missing_token_file_lets_nobody_in() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let gate = Gate::new(file.path().to_str().map(str::to_owned));
        assert_eq!(check(&gate, AWAY, &[("authorization", "Bearer ")]), Err(Refusal::WrongToken));
        assert_eq!(check(&Gate::new(None), AWAY, &[("authorization", "Bearer x")]), Err(Refusal::WrongToken));
        let here = [("host", "localhost"), ("authorization", "Bearer wrong")];
        assert_eq!(check(&gate, HERE, &here), Err(Refusal::WrongToken));
    }
}
