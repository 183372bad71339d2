//! Rules for texts: what may stand in a name, a header name, a path, an address.
//!
//! Owns one rule per kind of text, as a check with a cure and as a pattern for the JSON schema; a rule must never
//! depend on another field. Next: `shape.rs`, which names the rule of each field.

use std::net::{IpAddr, SocketAddr};

use crate::scalar::shorten;

/// Longest name, header name or domain, in bytes (a DNS name has 253).
pub const MAX_NAME: usize = 255;
/// Longest other text, in bytes: a path of Linux, half of the longest request line.
pub const MAX_TEXT: usize = 4_096;

/// What a text field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anything printable, empty included.
    Any,
    /// At least one character.
    Filled,
    /// A name for commands, statistics and URLs: visible ASCII without blanks and ``"\=,%/?#` ``.
    Name,
    /// A header name (RFC 9110, 5.1: a token); compared without case.
    HeaderName,
    /// A path or a prefix of one: starts with `/`, visible ASCII without `?` and `#`.
    UrlPath,
    /// A Host header: host and, if need be, port.
    Authority,
    /// An IPv4 or IPv6 address.
    Ip,
    /// Address and port: `127.0.0.1:53`, `[::1]:53`.
    SocketAddress,
    /// A DNS name.
    HostName,
    /// `http://host:port` or `https://host:port`.
    HttpUrl,
    /// Any URL of http or https, with path and query.
    Url,
    /// The name of an environment variable.
    Variable,
    /// A virtual host's domain: `*`, exact, `*.suffix` or `prefix.*`.
    Domain,
    /// A protocol name for `Upgrade` (RFC 9110, 7.8), compared without case.
    Protocol,
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFault {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub cure: String,
}

impl Rule {
    /// Checks a text.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn check(self, text: &str) -> Result<(), TextFault> {
        let most = if matches!(self, Self::Any | Self::Filled | Self::UrlPath | Self::Url) {
            MAX_TEXT
        } else {
            MAX_NAME
        };
        if text.len() > most {
            return Err(TextFault {
                message: format!("a text of {} bytes; at most {most} are allowed", text.len()),
                cure: "shorten it".to_owned(),
            });
        }
        if text.chars().any(char::is_control) {
            return Err(TextFault {
                message: "a control character in a text".to_owned(),
                cure: "remove line breaks, tabs and escapes such as \\n from it".to_owned(),
            });
        }
        if text.is_empty() && self != Self::Any {
            return Err(TextFault {
                message: "an empty text".to_owned(),
                cure: format!("write {}, or remove the field if it is optional", self.wanted()),
            });
        }
        if self.holds(text) {
            return Ok(());
        }
        Err(TextFault {
            message: format!("`{}` is not {}", shorten(text), self.wanted()),
            cure: self.cure(text),
        })
    }

    fn holds(self, text: &str) -> bool {
        match self {
            Self::Any | Self::Filled => true,
            Self::Name => text.bytes().all(is_name_byte),
            Self::HeaderName => is_token(text),
            Self::Protocol => {
                text.split_once('/').map_or_else(|| is_token(text), |(a, b)| is_token(a) && is_token(b))
            }
            Self::UrlPath => {
                text.starts_with('/')
                    && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'))
            }
            Self::Authority => is_authority(text),
            Self::Ip => text.parse::<IpAddr>().is_ok(),
            Self::SocketAddress => text.parse::<SocketAddr>().is_ok(),
            Self::HostName => is_host_name(text.strip_suffix('.').unwrap_or(text)),
            Self::HttpUrl => {
                after_scheme(text).is_some_and(|rest| is_authority(rest.strip_suffix('/').unwrap_or(rest)))
            }
            Self::Url => after_scheme(text).is_some_and(|rest| {
                rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
                    && rest.split(['/', '?']).next().is_some_and(is_authority)
            }),
            Self::Variable => is_variable(text),
            Self::Domain => is_domain(text),
        }
    }

    /// The rule in words, with its article: `a header name`.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Any | Self::Filled => "a text",
            Self::Name => "a name",
            Self::HeaderName => "a header name",
            Self::UrlPath => "a path that starts with `/`",
            Self::Authority => "a host with an optional port",
            Self::Ip => "an IP address",
            Self::SocketAddress => "an IP address with a port",
            Self::HostName => "a DNS name",
            Self::HttpUrl => "a URL of the form http://host:port",
            Self::Url => "a URL of http or https",
            Self::Variable => "the name of a variable",
            Self::Domain => "a domain",
            Self::Protocol => "a protocol name",
        }
    }

    fn cure(self, text: &str) -> String {
        match self {
            Self::Any | Self::Filled => "write a text".to_owned(),
            Self::Name => "use letters, digits, `-`, `_`, `.`, `:` and the like; no blanks, quotes, `=`, `,`, `%`, `/`".to_owned(),
            Self::HeaderName if text.starts_with(':') => {
                "pseudo-headers cannot be named here: use `domains` for the host, `prefix` or `path` for the path".to_owned()
            }
            Self::HeaderName => "use letters, digits and `-`, as in `x-canary`; no blank and no colon".to_owned(),
            Self::UrlPath if !text.starts_with('/') => format!("write `/{}`", shorten(text)),
            Self::UrlPath => "leave out `?` and `#` (the query is not matched) and percent-encode what is not ASCII".to_owned(),
            Self::Authority => "write it as in a URL: `b.test` or `b.test:8080`".to_owned(),
            Self::Ip => "write an address such as 0.0.0.0 or 127.0.0.1; a host name goes under `discovery: {dns: ..}`".to_owned(),
            Self::SocketAddress => "write `127.0.0.1:18000` or `[::1]:18000`".to_owned(),
            Self::HostName => "labels of letters, digits, `-` and `_`, joined by dots, as in `svc1.demo.local`".to_owned(),
            Self::HttpUrl => "write it without path and user name, as in `http://control:18000`".to_owned(),
            Self::Url => "write it as in `https://hooks.test/path`; without user name and fragment".to_owned(),
            Self::Variable => "letters, digits and `_`, not starting with a digit, as in WEIR_GATEWAY_TOKEN".to_owned(),
            Self::Domain => "write `*`, `a.test`, `*.a.test` or `a.*`; a `*` stands only at one end".to_owned(),
            Self::Protocol => "write the protocol's name, as in `websocket`".to_owned(),
        }
    }

    /// A pattern for the JSON schema, where a pattern can say it. Never stricter than [`Rule::check`].
    pub fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Filled | Self::HostName => Some("^.+$"),
            Self::Name => Some("^[!$&'()*+.0-9:;<>@A-Z\\[\\]^_a-z{|}~-]+$"),
            Self::HeaderName => Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
            Self::Protocol => Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+(/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?$"),
            Self::UrlPath => Some("^/[^?#\\s]*$"),
            Self::Authority | Self::Domain => Some("^[^\\s/]+$"),
            Self::Ip => Some("^[0-9A-Fa-f:.]+$"),
            Self::SocketAddress => Some("^[0-9A-Fa-f:.\\[\\]%]+:[0-9]+$"),
            Self::HttpUrl => Some("^https?://[^/\\s]+/?$"),
            Self::Url => Some("^https?://[^\\s#]+$"),
            Self::Variable => Some("^[A-Za-z_][A-Za-z0-9_]*$"),
        }
    }
}

fn after_scheme(url: &str) -> Option<&str> {
    url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))
}

fn is_variable(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=' | b',' | b'%' | b'/' | b'?' | b'#' | b'`')
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn is_authority(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && port_good;
    }
    match text.split_once(':') {
        Some((host, port)) => is_host_name(host) && is_port(port),
        None => is_host_name(text),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_domain(text: &str) -> bool {
    let middle = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
    text == "*"
        || (!middle.is_empty()
            && middle.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'/' | b'?' | b'#')))
}

/// Headers that a route must not set or match by our own means: they frame or route the message itself.
pub(crate) fn is_reserved_header(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "host"
            | "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
    )
}
