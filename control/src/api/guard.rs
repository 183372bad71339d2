//! Who is let in.
//!
//! Owns the check of tokens, and, where no token exists (loopback only), the check that no web page is asking: a
//! browser can be made to send requests to a loopback port, but not without an Origin or under a loopback Host.
//! Next: `../tokens.rs`.

use super::Peer;
use super::error::ApiError;
use crate::tokens::{Kind, Tokens, Verdict};
use http::{StatusCode, header, request::Parts};
use std::net::IpAddr;

/// Lets a request in, with the name of its token, or refuses it. Whoever may change may also read.
pub fn admit(tokens: &Tokens, kind: Kind, parts: &Parts) -> Result<Option<String>, ApiError> {
    let authorization = parts.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let owner = if kind == Kind::Viewer { Kind::Operator } else { kind };
    let verdict = tokens.judge(owner, authorization);
    if let Verdict::Allowed(name) = verdict {
        return Ok(Some(name));
    }
    if let Verdict::Allowed(name) = tokens.judge(Kind::Viewer, authorization) {
        return if kind == Kind::Viewer { Ok(Some(name)) } else { Err(reads_only(kind, &name)) };
    }
    match verdict {
        Verdict::Open => open_to_loopback(kind, parts).map(|()| None),
        Verdict::Missing => Err(unauthorized(kind, "a token is needed here")),
        Verdict::Allowed(_) | Verdict::Wrong => Err(unauthorized(kind, "the token is not known here")),
    }
}

fn reads_only(kind: Kind, name: &str) -> ApiError {
    let cure = match kind {
        Kind::Gateway => "give the gateway a gateway token",
        Kind::Operator | Kind::Viewer => {
            "give an operator token by --token-file, --token-env or CONTROL_TOKEN"
        }
    };
    let error = format!("the token `{name}` is a viewer's: it reads and changes nothing");
    ApiError::new(StatusCode::FORBIDDEN, error, cure)
}

fn unauthorized(kind: Kind, error: &str) -> ApiError {
    let cure = match kind {
        Kind::Gateway => {
            "give the gateway a gateway token: GATEWAY_TOKEN, or `token_file` in its control section"
        }
        Kind::Operator => "give an operator token by --token-file, --token-env or CONTROL_TOKEN",
        Kind::Viewer => "give a viewer or operator token by --token-file, --token-env or CONTROL_TOKEN",
    };
    ApiError::new(StatusCode::UNAUTHORIZED, error, cure)
}

fn open_to_loopback(kind: Kind, parts: &Parts) -> Result<(), ApiError> {
    let forbidden = |error: &str| {
        ApiError::new(
            StatusCode::FORBIDDEN,
            error,
            "configure tokens, then send one as `Authorization: Bearer`",
        )
    };
    if parts.extensions.get::<Peer>().is_some_and(|peer| !is_loopback(peer.0.ip())) {
        return Err(forbidden("without tokens only loopback is served"));
    }
    if parts.headers.contains_key(header::ORIGIN) {
        return Err(forbidden("without tokens no web page is served"));
    }
    // A stock Envoy sends the name of its cluster as Host.
    if kind == Kind::Gateway {
        return Ok(());
    }
    let host = parts.uri.host().map(str::to_owned).or_else(|| {
        let value = parts.headers.get(header::HOST)?.to_str().ok()?;
        value.parse::<http::uri::Authority>().ok().map(|authority| authority.host().to_owned())
    });
    match host {
        Some(host) if is_loopback_name(&host) => Ok(()),
        _ => Err(forbidden("without tokens only a loopback Host is served")),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(is_loopback)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
