//! What changes in a head on its way through, both ways, as Envoy's connection manager and router do it.
//!
//! Owns hop-by-hop removal, sanitising, forwarding headers, request ids and the answer's stamps. It must never look
//! at bodies or pick a route. Next: `attempt.rs`.

use crate::error::Failure;
use crate::few_clients::Seen;
use crate::router::Route;
use crate::worker::Worker;
use gateway_config::model::HttpConnectionManager;
use http1::{Fields, Framing, RequestHead, ResponseHead, has_token};
use rand::Rng;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Never believed from a client (Envoy: `ConnectionManagerUtility::cleanInternalHeaders`).
const INTERNAL: [&str; 20] = [
    "x-envoy-internal",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-decorator-operation",
    "x-envoy-original-path",
    "x-envoy-original-host",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-is-timeout-retry",
];

/// What the connection headers of a request ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// The connection stays open after the answer.
    pub keep_alive: bool,
    /// A configured upgrade.
    pub upgrade: bool,
    /// `expect: 100-continue`: the client waits for a 100.
    pub expects_continue: bool,
}

/// Reads and removes what concerns this connection only (RFC 9110, 7.6.1).
///
/// # Errors
/// [`Failure::UpgradeRefused`] for an upgrade that is not configured.
pub fn take_connection_headers(
    head: &mut RequestHead,
    config: &HttpConnectionManager,
) -> Result<Wishes, Failure> {
    let fields = &mut head.fields;
    let keep_alive = http1::connection_persists(fields, false);
    let upgrade = wanted_upgrade(fields, config)?;
    if fields.contains("connection") {
        remove_nominated(fields);
    }
    if !upgrade {
        fields.remove("connection");
        fields.remove("upgrade");
    }
    for name in ["keep-alive", "proxy-connection", "transfer-encoding"] {
        fields.remove(name);
    }
    if fields.contains("te") {
        let trailers = has_token(fields, "te", "trailers");
        if trailers {
            fields.set("te", b"trailers")
        } else {
            let _ = fields.remove("te");
        }
    }
    let expects_continue = fields.get("expect").is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
    if expects_continue {
        fields.remove("expect");
    }
    Ok(Wishes { keep_alive, upgrade, expects_continue })
}

fn wanted_upgrade(fields: &Fields, config: &HttpConnectionManager) -> Result<bool, Failure> {
    let Some(value) = fields.get("upgrade") else { return Ok(false) };
    if !has_token(fields, "connection", "upgrade") || value.eq_ignore_ascii_case(b"h2c") {
        return Ok(false);
    }
    if config.upgrade_types.iter().any(|kind| value.eq_ignore_ascii_case(kind.as_bytes())) {
        return Ok(true);
    }
    Err(Failure::UpgradeRefused)
}

/// Removes the headers that Connection names; `te` and `upgrade` have rules of their own. Framing cannot be named
/// away: the codec has refused that.
fn remove_nominated(fields: &mut Fields) {
    let ruled = |token: &[u8]| {
        const RULED: [&[u8]; 5] = [b"keep-alive", b"close", b"upgrade", b"te", b""];
        RULED.iter().any(|name| token.eq_ignore_ascii_case(name))
    };
    let tokens = |fields: &Fields| -> Vec<String> {
        let values = fields.get_all("connection").flat_map(|value| value.split(|b| *b == b','));
        let named = values.map(<[u8]>::trim_ascii).filter(|token| !ruled(token));
        named.map(|token| String::from_utf8_lossy(token).to_ascii_lowercase()).collect()
    };
    // Nearly every request names nothing but keep-alive, and an empty list costs no allocation.
    for name in tokens(fields) {
        if name != "connection" {
            fields.remove(&name);
        }
    }
}

/// Stamps a request on its way in: who sent it, over what, under which id. Whom it was taken to be from.
pub fn stamp_request(
    head: &mut RequestHead,
    config: &HttpConnectionManager,
    peer: SocketAddr,
    worker: &Worker,
) -> Seen {
    let fields = &mut head.fields;
    // One pass over the names finds nothing in nearly every request.
    if fields.iter().any(|(name, _)| name.starts_with("x-envoy-")) {
        fields.retain(|name, _| !INTERNAL.contains(&name));
    }
    fields.join("accept", b",");
    let hops = config.xff_num_trusted_hops;
    let external = external_address(fields, hops, peer.ip());
    let forwarded = config.use_remote_address && fields.contains("x-forwarded-for");
    if config.use_remote_address {
        with_text(peer.ip(), |text| fields.append_to("x-forwarded-for", b",", text));
    }
    let believed = !config.use_remote_address || hops > 0;
    if !(believed && fields.contains("x-forwarded-proto")) {
        fields.set("x-forwarded-proto", b"http");
    }
    if config.use_remote_address {
        with_text(external, |text| fields.set("x-envoy-external-address", text));
    } else {
        fields.remove("x-envoy-external-address");
    }
    // At the edge an id from outside is not believed.
    if config.use_remote_address || !fields.contains("x-request-id") {
        fields.set("x-request-id", &worker.with_rng(uuid4));
    }
    Seen::of(external, peer.ip(), forwarded)
}

/// The client as the trusted proxies in front saw it (Envoy: `xff_num_trusted_hops`).
fn external_address(fields: &Fields, hops: u32, peer: IpAddr) -> IpAddr {
    if hops == 0 {
        return peer;
    }
    let entries = |value: &[u8]| value.split(|b| *b == b',').count();
    let total: usize = fields.get_all("x-forwarded-for").map(entries).sum();
    let Some(mut skip) = total.checked_sub(hops as usize) else { return peer };
    for value in fields.get_all("x-forwarded-for") {
        for entry in value.split(|b| *b == b',') {
            if skip == 0 {
                let text = std::str::from_utf8(entry.trim_ascii()).unwrap_or_default();
                return text.parse().unwrap_or(peer);
            }
            skip -= 1;
        }
    }
    peer
}

fn with_text(address: IpAddr, job: impl FnOnce(&[u8])) {
    let mut text = [0u8; 48];
    let free = {
        let mut rest = text.as_mut_slice();
        // The longest IPv6 text has 45 characters.
        let _ = write!(rest, "{address}");
        rest.len()
    };
    job(text.get(..text.len() - free).unwrap_or_default());
}

/// A random UUID (RFC 9562, 5.4) as text.
pub fn uuid4(rng: &mut impl Rng) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0u8; 16];
    rng.fill_bytes(&mut bytes);
    let mut text = [b'-'; 36];
    let mut places =
        text.iter_mut().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23)).map(|(_, b)| b);
    for (position, byte) in bytes.into_iter().enumerate() {
        let byte = match position {
            6 => (byte & 0x0f) | 0x40,
            8 => (byte & 0x3f) | 0x80,
            _ => byte,
        };
        for digit in [byte >> 4, byte & 15] {
            if let (Some(place), Some(letter)) = (places.next(), HEX.get(usize::from(digit))) {
                *place = *letter;
            }
        }
    }
    text
}

/// Rewrites a request for the route that takes it.
pub fn apply_route(head: &mut RequestHead, route: &Route, remaining: Option<Duration>, worker: &Worker) {
    if let Some(remaining) = remaining {
        with_number(remaining.as_millis(), |text| head.fields.set("x-envoy-expected-rq-timeout-ms", text));
    }
    if route.host_rewrite.is_some() || route.prefix_rewrite.is_some() {
        let mut space = worker.take_buffer();
        rewrite(head, route, &mut space);
        worker.give_buffer(space);
    }
}

/// `space` is an empty buffer: what a value is made of cannot stay where the value goes.
fn rewrite(head: &mut RequestHead, route: &Route, space: &mut Vec<u8>) {
    if let Some(host) = &route.host_rewrite {
        space.extend_from_slice(head.fields.get("host").unwrap_or_default());
        head.fields.set("host", host.as_bytes());
        head.fields.set("x-envoy-original-host", space);
        space.clear();
    }
    if let Some(prefix) = &route.prefix_rewrite {
        space.extend_from_slice(head.target().as_bytes());
        head.fields.set("x-envoy-original-path", space);
        let before = space.len();
        space.extend_from_slice(prefix.as_bytes());
        space.extend_from_within(route.matched_len().min(before)..before);
        let after = space.get(before..).and_then(|after| std::str::from_utf8(after).ok());
        head.set_target(after.filter(|after| after.starts_with('/')).unwrap_or("/"));
    }
}

fn with_number(number: u128, job: impl FnOnce(&[u8])) {
    let mut text = [0u8; 40];
    let free = {
        let mut rest = text.as_mut_slice();
        let _ = write!(rest, "{number}");
        rest.len()
    };
    job(text.get(..text.len() - free).unwrap_or_default());
}

/// Gives the request the framing that it has on the upstream connection.
pub fn frame_request(head: &mut RequestHead, framing: Framing) {
    match framing {
        // Said once and as it was understood, whatever the client's protocol let through.
        Framing::Length(length) => {
            with_number(u128::from(length), |text| head.fields.set("content-length", text))
        }
        Framing::Chunked => head.fields.push("transfer-encoding", b"chunked"),
        Framing::None if !matches!(head.method(), "GET" | "HEAD" | "TRACE" | "CONNECT") => {
            head.fields.set("content-length", b"0");
        }
        _ => {}
    }
}

/// What an upstream's answer becomes for the client, whatever the client's protocol: hop-by-hop headers removed,
/// stamps added. `service_time` is `None` for an upgrade, which Envoy does not stamp.
pub fn stamp_response(
    head: &mut ResponseHead,
    config: &HttpConnectionManager,
    service_time: Option<Duration>,
    worker: &Worker,
) {
    let fields = &mut head.fields;
    for name in ["connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"] {
        fields.remove(name);
    }
    if let Some(time) = service_time {
        with_number(time.as_millis(), |text| fields.set("x-envoy-upstream-service-time", text));
    }
    if !fields.contains("date") {
        fields.push("date", &worker.date());
    }
    fields.set("server", config.server_name.as_bytes());
}

/// How long a server lets this connection be idle, less a second for what is on its way; `None` = close it.
pub fn reuse_time(fields: &Fields, http10: bool) -> Option<Duration> {
    if !http1::connection_persists(fields, http10) {
        return None;
    }
    let Some(value) = fields.get("keep-alive") else { return Some(crate::upstream::DEFAULT_REUSE) };
    let timeout = value.split(|b| *b == b',').find_map(|part| {
        let (name, seconds) = std::str::from_utf8(part.trim_ascii()).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.trim().parse::<u64>().ok())?
    });
    // Above a day the server means for ever, and the clock's arithmetic stays safe.
    let seconds = timeout.map(|s| s.min(86_400));
    Some(seconds.map_or(crate::upstream::DEFAULT_REUSE, |s| Duration::from_secs(s.saturating_sub(1))))
}
