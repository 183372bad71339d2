//! The request target: which of its four forms it has, and its authority and path (RFC 9112 section 3.2).
//!
//! Owns: splitting and validating targets and authorities. Must never: normalise a path (that is a route option of
//! the gateway). Read next: `check.rs`.

use std::borrow::Cow;

use crate::error::RequestError;
use crate::head::RequestHead;

/// The form of a request target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`, or `https://` when `https` is set.
    Absolute {
        /// Whether the scheme is `https`.
        https: bool,
    },
    /// `host:port`, of CONNECT only.
    Authority,
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// A request target, split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// Which form it had.
    pub form: TargetForm,
    /// The authority, in absolute and authority form; it wins over Host.
    pub authority: Option<&'a str>,
    /// Path and query. `/` for an absolute form without a path, `*` in asterisk form, empty in authority form.
    pub path: Cow<'a, str>,
}

impl RequestHead {
    /// Splits the target into authority, path and form.
    ///
    /// # Errors
    /// [`RequestError::Target`] when the target is of no form that fits the method; a parsed head never is.
    pub fn authority_and_path(&self) -> Result<Target<'_>, RequestError> {
        split(self.method(), self.target())
    }

    /// Brings an absolute form into the origin form that goes upstream, as Envoy does: the authority replaces Host
    /// (in front), the path becomes the target. The other forms stay. `tls`: the request came over TLS.
    ///
    /// # Errors
    /// [`RequestError::HttpsOnPlaintext`] for `https://` without TLS; [`RequestError::Target`] as
    /// [`RequestHead::authority_and_path`].
    pub fn to_origin_form(&mut self, tls: bool) -> Result<(), RequestError> {
        if self.target().starts_with('/') {
            return Ok(());
        }
        let target = self.authority_and_path()?;
        let TargetForm::Absolute { https } = target.form else { return Ok(()) };
        if https && !tls {
            return Err(RequestError::HttpsOnPlaintext);
        }
        let authority = target.authority.unwrap_or_default().to_owned();
        let path = target.path.into_owned();
        self.set_target(&path);
        self.fields.remove("host");
        self.fields.push_front("host", authority.as_bytes());
        Ok(())
    }
}

fn split<'a>(method: &str, target: &'a str) -> Result<Target<'a>, RequestError> {
    if method == "CONNECT" {
        return authority_form(target);
    }
    if target.starts_with('/') {
        return Ok(Target { form: TargetForm::Origin, authority: None, path: Cow::Borrowed(target) });
    }
    if target == "*" && method == "OPTIONS" {
        return Ok(Target { form: TargetForm::Asterisk, authority: None, path: Cow::Borrowed(target) });
    }
    absolute_form(target)
}

fn authority_form(target: &str) -> Result<Target<'_>, RequestError> {
    let (host, port) = target.rsplit_once(':').ok_or(RequestError::Target)?;
    let numeric = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    // A colon belongs into a host only as part of an address in brackets.
    let host_fits = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(address) => address.is_some_and(|address| !address.is_empty() && !address.contains(']')),
        None => !host.is_empty() && !host.contains(':'),
    };
    if !numeric || !host_fits || !is_authority(host.as_bytes()) {
        return Err(RequestError::Target);
    }
    Ok(Target { form: TargetForm::Authority, authority: Some(target), path: Cow::Borrowed("") })
}

fn absolute_form(target: &str) -> Result<Target<'_>, RequestError> {
    let (scheme, rest) = target.split_once("://").ok_or(RequestError::Target)?;
    let https = scheme.eq_ignore_ascii_case("https");
    if !https && !scheme.eq_ignore_ascii_case("http") {
        return Err(RequestError::Target);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(RequestError::Target)?;
    // RFC 9110 section 4.2.1: an http URI without a host is invalid; 4.2.4: so is one with user information.
    if authority.is_empty() || authority.starts_with(':') || !is_authority(authority.as_bytes()) {
        return Err(RequestError::Target);
    }
    let path = match path {
        "" => Cow::Borrowed("/"),
        path if path.starts_with('/') => Cow::Borrowed(path),
        query => Cow::Owned(format!("/{query}")),
    };
    Ok(Target { form: TargetForm::Absolute { https }, authority: Some(authority), path })
}

/// Whether every byte may stand in `uri-host [":" port]` (RFC 3986 section 3.2.2). No `@`: user information in an
/// authority serves only to deceive.
pub(crate) fn is_authority(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
}
