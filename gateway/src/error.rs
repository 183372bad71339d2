//! Why a request gets no upstream answer, and what the client sees instead.
//!
//! Owns the one exhaustive table from failure to status, body and response flag (Envoy 1.40's local replies).
//! It must never write anything. Next: `request/reply.rs`.

use crate::response_flags::ResponseFlags;

/// A request that the gateway answers by itself, or cannot answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The head was refused by the codec or the checks behind it.
    #[error("malformed request: {0}")]
    Malformed(http1::RequestError),
    /// The body broke the rules of its framing.
    #[error("malformed request body")]
    MalformedBody,
    /// Not all of the head came in time.
    #[error("request header timeout")]
    HeadTimeout,
    /// An upgrade that is not configured.
    #[error("upgrade not configured")]
    UpgradeRefused,
    /// Nothing matched.
    #[error("no route")]
    NoRoute,
    /// The cluster has no endpoint.
    #[error("no healthy upstream")]
    NoHealthyUpstream,
    /// A circuit breaker is open.
    #[error("circuit breaker open")]
    Overflow,
    /// This worker has as much in flight as it may.
    #[error("too many requests in flight")]
    Overloaded,
    /// Every endpoint that was tried refused the connection.
    #[error("connect failed")]
    ConnectFailed,
    /// The last endpoint that was tried did not answer the connect in time.
    #[error("connect timeout")]
    ConnectTimeout,
    /// The upstream closed or reset before an answer.
    #[error("upstream closed the connection before an answer")]
    UpstreamTerminated,
    /// The upstream's answer is no HTTP/1.
    #[error("upstream protocol error")]
    UpstreamProtocol,
    /// The route's time was over.
    #[error("upstream request timeout")]
    RouteTimeout,
    /// One try's time was over.
    #[error("upstream per try timeout")]
    PerTryTimeout,
    /// The last of several tries failed.
    #[error("retries exhausted")]
    RetriesExhausted(Reset),
    /// The client sent no byte of its body for the stream idle time.
    #[error("stream idle timeout")]
    IdleTimeout,
    /// The upstream sent nothing for the stream idle time.
    #[error("upstream stream idle timeout")]
    UpstreamIdleTimeout,
    /// The client left.
    #[error("the client left")]
    ClientGone,
}

/// How the last of several tries failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The upstream closed or reset before an answer.
    Terminated,
    /// The connection was refused.
    Refused,
    /// The connect was not answered in time.
    ConnectTimeout,
    /// The upstream's answer is no HTTP/1.
    Protocol,
}

impl Reset {
    /// The failures that a try is repeated for and that are no answer.
    pub fn of(failure: Failure) -> Option<Self> {
        match failure {
            Failure::UpstreamTerminated => Some(Self::Terminated),
            Failure::ConnectFailed => Some(Self::Refused),
            Failure::ConnectTimeout => Some(Self::ConnectTimeout),
            Failure::UpstreamProtocol => Some(Self::Protocol),
            _ => None,
        }
    }
}

/// What is written instead of an upstream answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// Status; 0 = nobody is left to write to.
    pub status: u16,
    /// text/plain; may be empty.
    pub body: &'static str,
    /// Why, in Envoy's flags.
    pub flags: ResponseFlags,
    /// Adds `x-envoy-overloaded: true`.
    pub overloaded: bool,
    /// The connection cannot be used afterwards.
    pub close: bool,
}

const TERMINATION: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
const REFUSED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
const CONNECT_TIMEOUT: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection timeout";
const PROTOCOL: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
const RETRIED_TERMINATION: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
     connection termination";
const RETRIED_REFUSED: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote \
     connection failure";
const RETRIED_CONNECT_TIMEOUT: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
     connection timeout";
const RETRIED_PROTOCOL: &str = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: protocol error";
const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

impl Failure {
    /// The reply of Envoy 1.40 to this failure.
    pub fn reply(self) -> LocalReply {
        let plain = |status, body, flags| LocalReply { status, body, flags, overloaded: false, close: false };
        let closing = |status, body, flags| LocalReply { close: true, ..plain(status, body, flags) };
        let overloaded = |body, flags| LocalReply { overloaded: true, ..plain(503, body, flags) };
        match self {
            Self::Malformed(error) => {
                let codec = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
                let flags = if error.from_codec() { codec } else { ResponseFlags::NONE };
                closing(error.status(), error.body(), flags)
            }
            Self::MalformedBody => closing(400, "Bad Request", ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR),
            Self::HeadTimeout => closing(408, "request header timeout", ResponseFlags::NONE),
            Self::UpgradeRefused => closing(403, "", ResponseFlags::NONE),
            Self::NoRoute => plain(404, "", ResponseFlags::NO_ROUTE),
            Self::NoHealthyUpstream => plain(503, "no healthy upstream", ResponseFlags::NO_HEALTHY_UPSTREAM),
            Self::Overflow => overloaded(OVERFLOW, ResponseFlags::UPSTREAM_OVERFLOW),
            Self::Overloaded => overloaded("envoy overloaded", ResponseFlags::OVERLOAD),
            Self::ConnectFailed => plain(503, REFUSED, ResponseFlags::UPSTREAM_CONNECTION_FAILURE),
            Self::ConnectTimeout => plain(503, CONNECT_TIMEOUT, ResponseFlags::UPSTREAM_CONNECTION_FAILURE),
            Self::UpstreamTerminated => plain(503, TERMINATION, ResponseFlags::UPSTREAM_TERMINATION),
            Self::UpstreamProtocol => plain(502, PROTOCOL, ResponseFlags::UPSTREAM_PROTOCOL_ERROR),
            Self::RouteTimeout | Self::PerTryTimeout => {
                plain(504, "upstream request timeout", ResponseFlags::UPSTREAM_TIMEOUT)
            }
            Self::RetriesExhausted(reset) => exhausted(reset),
            Self::IdleTimeout => closing(408, "stream timeout", ResponseFlags::STREAM_IDLE_TIMEOUT),
            Self::UpstreamIdleTimeout => plain(504, "stream timeout", ResponseFlags::STREAM_IDLE_TIMEOUT),
            Self::ClientGone => closing(0, "", ResponseFlags::DOWNSTREAM_TERMINATION),
        }
    }
}

/// The reply of Envoy 1.40 when the last of several tries failed; the flag for that is set by the record.
fn exhausted(reset: Reset) -> LocalReply {
    let (status, body, flags) = match reset {
        Reset::Terminated => (503, RETRIED_TERMINATION, ResponseFlags::UPSTREAM_TERMINATION),
        Reset::Refused => (503, RETRIED_REFUSED, ResponseFlags::UPSTREAM_CONNECTION_FAILURE),
        Reset::ConnectTimeout => (503, RETRIED_CONNECT_TIMEOUT, ResponseFlags::UPSTREAM_CONNECTION_FAILURE),
        Reset::Protocol => (502, RETRIED_PROTOCOL, ResponseFlags::UPSTREAM_PROTOCOL_ERROR),
    };
    LocalReply { status, body, flags, overloaded: false, close: false }
}
