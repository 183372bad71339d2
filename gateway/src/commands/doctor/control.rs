//! Whether control can be reached: its name, its port, TLS, the token, what it gives, its clock.
//!
//! Owns the steps in their order; the first that fails ends them, for the others would fail for the same reason. It must
//! never look to control like the gateway of this task. Next: `cluster.rs`.

use super::finding::{Closed, Finding, connect, millis, open_port};
use crate::commands::client::{self, Answer};
use crate::sources::dialing::Dialer;
use gateway_config::discovered::GatewayResources;
use gateway_config::model::Control;
use gateway_config::wire::{
    CLUSTER_TYPE_URL, ConfigDiscoveryResponse, DiscoveryNode, DiscoveryRequest, GatewayStatus,
    LISTENER_TYPE_URL, NodeMetadata, WIRE_VERSION,
};
use http::{StatusCode, Uri, header};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A look-up, or a connect.
const STEP: Duration = Duration::from_secs(3);
/// Addresses of control's name that are tried.
const TRIED: usize = 4;
/// Control's port when the URL has none.
const DEFAULT_PORT: u16 = 18_000;
/// Seconds by which clocks may differ. AWS refuses signatures from 5 minutes on; well before that something is wrong.
const SKEW_SECONDS: i64 = 60;
/// Characters of an answer that are shown.
const SHOWN: usize = 300;

/// What came of the talk with control.
pub struct Heard {
    /// A line per step.
    pub findings: Vec<Finding>,
    /// Listeners and clusters, when the gateway gets them from control.
    pub resources: Option<GatewayResources>,
}

/// Without a control.
pub fn absent() -> Heard {
    let why = "no control is configured (GATEWAY_CONTROL): the weights are those of the file";
    Heard { findings: vec![Finding::skip("control", why)], resources: None }
}

/// Asks control; `own`: the gateway has listeners of its own and needs only weights.
pub async fn check(control: &Control, own: bool) -> Heard {
    let mut findings = Vec::new();
    let resources = talk(control, own, &mut findings).await;
    Heard { findings, resources }
}

async fn talk(control: &Control, own: bool, findings: &mut Vec<Finding>) -> Option<GatewayResources> {
    let url: Uri = match control.url.parse() {
        Ok(url) => url,
        Err(error) => {
            findings.push(Finding::fail("control", error_of("the URL", &error), "write http://host:18000"));
            return None;
        }
    };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_u16().unwrap_or(DEFAULT_PORT);
    let addresses = resolve(&host, port, findings).await?;
    if !reach(&addresses, port, findings).await {
        return None;
    }
    let dialer = match Dialer::new(&url, control) {
        Ok(dialer) => dialer,
        Err(error) => {
            let cure = "GATEWAY_CONTROL_CA (or control.ca_file) holds the PEM certificates that control's is checked against";
            findings.push(Finding::fail("control TLS", error.to_string(), cure));
            return None;
        }
    };
    let token = match token_of(control) {
        Ok(token) => token,
        Err(error) => {
            findings.push(Finding::fail(
                "control token",
                error,
                "make the file readable for the gateway's user",
            ));
            return None;
        }
    };
    let asking = Asking { dialer, base: url.path().trim_end_matches('/').to_owned(), token };
    if own {
        // Refused as no Weir gateway: after the token was looked at, and without a trace in the fleet.
        let answer = asking.post("/v3/discovery:listeners", LISTENER_TYPE_URL, None).await;
        asking.judge(answer, &[StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND], findings)?;
        return None;
    }
    configuration(&asking, findings).await
}

async fn resolve(host: &str, port: u16, findings: &mut Vec<Finding>) -> Option<Vec<SocketAddr>> {
    let started = Instant::now();
    let found = tokio::time::timeout(STEP, tokio::net::lookup_host((host, port))).await;
    let text = match found {
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses.take(TRIED).collect();
            if !addresses.is_empty() {
                let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                let measured = format!("{host} is {} ({})", list.join(", "), millis(started.elapsed()));
                findings.push(Finding::ok("control name", measured));
                return Some(addresses);
            }
            "no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", STEP.as_secs()),
    };
    let cure = "check the host in GATEWAY_CONTROL; a name of Cloud Map is there while a task of control runs (ECS: \
                desired count 1, and its log), and in the VPC that the private zone belongs to (enableDnsSupport and \
                enableDnsHostnames on)";
    findings.push(Finding::fail("control name", format!("{host}: {text}"), cure));
    None
}

async fn reach(addresses: &[SocketAddr], port: u16, findings: &mut Vec<Finding>) -> bool {
    let mut reached = false;
    for address in addresses {
        let finding = match connect(*address, STEP / 2).await {
            Ok(time) => {
                reached = true;
                Finding::ok("control port", format!("{address} accepts connections ({})", millis(time)))
            }
            Err((Closed::Silence, text)) => {
                Finding::fail("control port", format!("{address}: {text}"), open_port("control", port))
            }
            Err((Closed::Refused, text)) => {
                let cure = format!(
                    "the address is reached and nothing listens on {port}: is control running there (its task's log), \
                     with `listen` on 0.0.0.0:{port}?"
                );
                Finding::fail("control port", format!("{address}: {text}"), cure)
            }
            Err((Closed::Unreachable | Closed::Local, text)) => {
                let cure = "there is no way from this subnet to that address: control and gateway belong into one VPC, \
                            or into peered ones with routes both ways";
                Finding::fail("control port", format!("{address}: {text}"), cure)
            }
        };
        findings.push(finding);
        if reached {
            break;
        }
    }
    reached
}

fn token_of(control: &Control) -> Result<Option<String>, String> {
    if let Some(token) = &control.token {
        return Ok(Some(token.0.clone()));
    }
    let Some(file) = &control.token_file else { return Ok(None) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}

/// Who asks control.
struct Asking {
    dialer: Dialer,
    base: String,
    token: Option<String>,
}

impl Asking {
    async fn post(
        &self,
        path: &str,
        type_url: &str,
        status: Option<GatewayStatus>,
    ) -> Result<(Answer, Duration), String> {
        let request = DiscoveryRequest {
            type_url: type_url.to_owned(),
            node: DiscoveryNode {
                id: "doctor".to_owned(),
                cluster: "doctor".to_owned(),
                metadata: NodeMetadata { hold: false, weir: status },
            },
            ..DiscoveryRequest::default()
        };
        let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
        let started = Instant::now();
        let exchange = async {
            let (io, _) = self.dialer.connect(false).await.map_err(|error| error.to_string())?;
            let mut request = http::Request::post(format!("{}{path}", self.base))
                .header(header::HOST, self.dialer.authority())
                .header(header::CONTENT_TYPE, "application/json");
            if let Some(token) = &self.token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            client::over(io, request, body).await
        };
        match tokio::time::timeout(client::LIMIT, exchange).await {
            Ok(answer) => answer.map(|answer| (answer, started.elapsed())),
            Err(_) => Err(format!("no answer within {} s", client::LIMIT.as_secs())),
        }
    }

    /// Token and clock; the answer when it has one of the statuses.
    fn judge(
        &self,
        answer: Result<(Answer, Duration), String>,
        good: &[StatusCode],
        findings: &mut Vec<Finding>,
    ) -> Option<Answer> {
        let (answer, time) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let cure = "its port accepts connections: does GATEWAY_CONTROL say https where control has `tls`, and http \
                            where it has not, and does GATEWAY_CONTROL_CA hold the certificate that signed control's?";
                findings.push(Finding::fail("control answer", error, cure));
                return None;
            }
        };
        let said: String = answer.body.trim().chars().take(SHOWN).collect();
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let given = if self.token.is_some() { "the token is refused" } else { "no token was sent" };
            let cure = "GATEWAY_TOKEN must be one of control's gateway tokens (`tokens: {gateway: [...]}`): compare the \
                        secrets of both task definitions, then start new gateway tasks, since a secret is read at the start";
            findings.push(Finding::fail(
                "control token",
                format!("{}: {given} ({said})", answer.status),
                cure,
            ));
            return None;
        }
        if !good.contains(&answer.status) {
            let cure = "look at control's log; its words say what it lacks";
            findings.push(Finding::fail("control answer", format!("{}: {said}", answer.status), cure));
            findings.extend(clock(&answer));
            return None;
        }
        let token = if self.token.is_some() { "the token is accepted" } else { "no token was needed" };
        findings.push(Finding::ok("control answer", format!("{token} ({})", millis(time))));
        findings.extend(clock(&answer));
        Some(answer)
    }
}

/// This clock against the answer's Date (RFC 9110, 6.6.1), which has whole seconds.
fn clock(answer: &Answer) -> Option<Finding> {
    let date = answer.headers.get(header::DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date).ok()?;
    let now = SystemTime::now();
    let ahead = match now.duration_since(theirs) {
        Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
        Err(behind) => -i64::try_from(behind.duration().as_secs()).unwrap_or(i64::MAX),
    };
    Some(if ahead.abs() <= SKEW_SECONDS {
        Finding::ok("clock", format!("within {} s of control's", ahead.abs().max(1)))
    } else {
        let cure = "one of the two clocks is wrong; AWS refuses requests that are signed 5 minutes off. On Fargate replace \
                    the task, on EC2 look at chrony";
        let word = if ahead > 0 { "ahead of" } else { "behind" };
        Finding::fail("clock", format!("{} s {word} control's", ahead.abs()), cure)
    })
}

async fn configuration(asking: &Asking, findings: &mut Vec<Finding>) -> Option<GatewayResources> {
    // A gateway of its own that says goodbye with its first word: control awaits it for nothing.
    let mut id = crate::request::headers::uuid4(&mut rand::rng()).to_vec();
    id.truncate(8);
    let status = GatewayStatus {
        wire: WIRE_VERSION,
        instance_id: format!("doctor-{}", String::from_utf8_lossy(&id)),
        boot_id: String::from_utf8_lossy(&id).into_owned(),
        state: "DRAINING".to_owned(),
        goodbye: true,
        ..GatewayStatus::default()
    };
    let good = [StatusCode::OK, StatusCode::NOT_FOUND];
    let listeners = asking.post("/v3/discovery:listeners", LISTENER_TYPE_URL, Some(status.clone())).await;
    let listeners = asking.judge(listeners, &good, findings)?;
    if listeners.status == StatusCode::NOT_FOUND {
        let cure = "this gateway has no listeners of its own: add the section `gateway` with listeners and clusters to \
                    control's configuration, or give the gateway GATEWAY_CONFIG";
        findings.push(Finding::fail("configuration", "control has no listeners for gateways", cure));
        return None;
    }
    let clusters = asking.post("/v3/discovery:clusters", CLUSTER_TYPE_URL, Some(status)).await;
    let read = |answer: &Answer| serde_json::from_str::<ConfigDiscoveryResponse>(&answer.body);
    let clusters = clusters.and_then(|(answer, _)| read(&answer).map_err(|error| error.to_string()));
    let listeners = read(&listeners).map_err(|error| error.to_string());
    let (listeners, clusters) = match (listeners, clusters) {
        (Ok(listeners), Ok(clusters)) => (listeners, clusters),
        (Err(error), _) | (_, Err(error)) => {
            let cure = "what answers there is no control of this version";
            findings.push(Finding::fail("configuration", error, cure));
            return None;
        }
    };
    let measured = format!(
        "from control, listeners: {}, clusters: {} (version {})",
        listeners.resources.len(),
        clusters.resources.len(),
        listeners.version_info
    );
    findings.push(Finding::ok("configuration", measured));
    Some(GatewayResources { listeners: listeners.resources, clusters: clusters.resources })
}

fn error_of(what: &str, error: &dyn std::fmt::Display) -> String {
    format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_minutes_off_is_named() {
        let of = |seconds: i64| {
            let theirs =
                SystemTime::now() - Duration::from_secs(3600) + Duration::from_secs((3600 - seconds) as u64);
            let mut headers = http::HeaderMap::new();
            headers.insert(header::DATE, httpdate::fmt_http_date(theirs).parse().unwrap());
            clock(&Answer { status: StatusCode::OK, headers, body: String::new() }).unwrap().to_string()
        };
        assert!(of(1).starts_with("ok    clock: within "), "{}", of(1));
        assert!(of(400).contains("s ahead of control's"), "{}", of(400));
        assert!(
            of(-400).starts_with("FAIL  clock:") && of(-400).contains("s behind control's"),
            "{}",
            of(-400)
        );
    }
}
