//! The checks that a syntactically complete request head has to pass beyond what `httparse` looks at.
//!
//! Owns: method, target, Host and Connection. What Envoy's codec refuses comes first, then what its connection
//! manager refuses, because the two answer differently. Must never: change a message, but for the joined Hosts of
//! lenient mode. Read next: `framing.rs`.

use crate::error::RequestError;
use crate::fields::Fields;
use crate::framing::request_framing;
use crate::head::RequestHead;
use crate::target::is_authority;
use crate::tokens::members;

/// Envoy refuses a Connection header that nominates this many headers or more.
const MAX_NOMINATED: usize = 10;

/// Headers whose removal by nomination would hide where a request came from, or where its body ends (a body that
/// is sent on without its length is the next request on that connection).
const NEVER_NOMINATED: [&[u8]; 5] =
    [b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"content-length", b"transfer-encoding"];

/// Checks the head of a request whose lines are well formed.
pub(crate) fn check_request(head: &mut RequestHead, lenient: bool) -> Result<(), RequestError> {
    check_method(head.method())?;
    check_target(head)?;
    let hosts = head.fields.get_all("host").count();
    if hosts > 1 && !lenient {
        return Err(RequestError::ManyHosts);
    }
    if hosts > 1 {
        head.fields.join("host", b",");
    }
    if !lenient && head.fields.get("host").is_some_and(|host| !is_authority(host)) {
        return Err(RequestError::Host);
    }
    let nominates_host = check_connection(&head.fields)?;
    request_framing(head)?;
    // From here on Envoy's codec is content and its connection manager looks.
    if nominates_host {
        return Err(RequestError::ConnectionNominatesHost);
    }
    if hosts == 0 && !head.http10() {
        return Err(RequestError::NoHost);
    }
    if head.target().contains('#') {
        return Err(RequestError::Fragment);
    }
    Ok(())
}

fn check_method(method: &str) -> Result<(), RequestError> {
    // That it is a token, httparse has made sure of.
    if method.is_empty() || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(RequestError::Method);
    }
    Ok(())
}

fn check_target(head: &RequestHead) -> Result<(), RequestError> {
    if head.target().bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(RequestError::Target);
    }
    head.authority_and_path().map(|_| ())
}

/// Whether Connection nominates Host.
fn check_connection(fields: &Fields) -> Result<bool, RequestError> {
    let (mut nominated, mut host) = (0, false);
    for member in fields.get_all("connection").flat_map(members) {
        nominated += 1;
        let forbidden = NEVER_NOMINATED.iter().any(|name| member.eq_ignore_ascii_case(name));
        if forbidden || member.starts_with(b":") || nominated >= MAX_NOMINATED {
            return Err(RequestError::ConnectionNominates);
        }
        host |= member.eq_ignore_ascii_case(b"host");
    }
    Ok(host)
}
