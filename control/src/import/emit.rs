//! The configuration as text, each of App Mesh's invisible defaults on a line of its own with a comment.
//!
//! Owns layout, quoting and comments; it must never decide anything. Next: `../../../config/src/control_config.rs`,
//! which reads it.

use super::model::{HeaderRule, HostRule, NodeDiscovery, PathRule, Retry, ValueRule};
use super::plan::{Cluster, Host, Plan, RouteEntry};
use gateway_config::scalar::{Plain, classify};
use gateway_config::weights::format_percent;

/// App Mesh's retry policy for routes without one (user guide, "Envoy defaults").
const DEFAULT_RETRY: &str = "reset,connect-failure,refused-stream,retriable-status-codes,unavailable";
/// The circuit breakers of App Mesh's Envoy: none that ever opens.
const OFF: u32 = 2_147_483_647;

/// The text of control's configuration.
pub(super) fn text(plan: &Plan, files: &[String]) -> String {
    let mut out = Text::default();
    out.line(
        0,
        &format!("# The virtual gateway {} of the mesh {}, as App Mesh had it.", plan.gateway, plan.mesh),
    );
    out.line(0, &format!("# Imported from {}.", files.join(", ")));
    out.line(0, "listen: 0.0.0.0:18000");
    out.line(0, "# A Fargate task has an empty disk: there write `state: {dynamodb: {table: weir-state}}`.");
    out.line(0, "state: {file: weir-state.json}");
    out.line(0, "# Variables that hold the tokens; in a task definition they are secrets.");
    out.line(0, "tokens:");
    out.line(0, "  gateway: [{name: gateways, env: WEIR_GATEWAY_TOKEN}]");
    out.line(0, "  operator: [{name: operators, env: WEIR_OPERATOR_TOKEN}]");
    out.line(0, "# What App Mesh did by itself stands here as if it had been written. `weighted_clusters` can also have what App");
    out.line(0, "# Mesh had not: `override_header: x-canary` (a request names its target) and `target_header: x-served-by`.");
    out.line(0, "gateway:");
    out.line(0, "  listeners:");
    for listener in &plan.listeners {
        let port = listener.port;
        out.line(0, &format!("  - name: lds_ingress_0.0.0.0_{port}"));
        out.line(0, &format!("    address: {{socket_address: {{address: 0.0.0.0, port_value: {port}}}}}"));
        out.line(0, "    http_connection_manager:");
        manager(&mut out, plan);
        out.line(0, "      route_config:");
        out.line(0, &format!("        name: rds_ingress_http_{port}"));
        out.line(0, "        virtual_hosts:");
        for host in &listener.hosts {
            virtual_host(&mut out, host);
        }
    }
    out.line(0, "  clusters:");
    for cluster in &plan.clusters {
        self::cluster(&mut out, cluster);
    }
    out.line(0, "routes:");
    for route in &plan.routes {
        out.line(2, &format!("{}:", quoted(&route.name)));
        let names: Vec<String> = route.targets.iter().map(|(name, _)| quoted(name)).collect();
        out.line(4, &format!("targets: [{}]", names.join(", ")));
        out.line(4, &format!("stable: {}", quoted(&route.stable)));
        out.line(
            4,
            "# Percent; they count once, at the very first start. Then `control set-weight` changes them.",
        );
        out.line(4, "weights:");
        for (name, share) in &route.targets {
            out.line(6, &format!("{}: {}", quoted(name), format_percent(*share)));
        }
    }
    out.text
}

#[derive(Default)]
struct Text {
    text: String,
}

impl Text {
    fn line(&mut self, indent: usize, text: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn said(&mut self, indent: usize, text: &str, comment: &str) {
        self.line(indent, &format!("{text} # {comment}"));
    }
}

/// A scalar that is read back as this text.
fn quoted(text: &str) -> String {
    let tame = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '*');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_');
    if starts && text.chars().all(tame) && classify(text) == Plain::Text {
        return text.to_owned();
    }
    serde_json::Value::String(text.to_owned()).to_string()
}

fn manager(out: &mut Text, plan: &Plan) {
    out.said(6, "stat_prefix: ingress", "App Mesh's: the statistics keep their names");
    out.said(6, "use_remote_address: false", "App Mesh did not add the caller to x-forwarded-for");
    out.said(
        6,
        "xff_num_trusted_hops: 0",
        "so the last address of x-forwarded-for, the load balancer's word, is the client",
    );
    match &plan.idle {
        Some(idle) => out.line(6, &format!("stream_idle_timeout: {idle}")),
        None => out.said(6, "stream_idle_timeout: 300s", "App Mesh's default for routes without `idle`"),
    }
    out.said(6, "upgrade_configs: [{upgrade_type: websocket}]", "App Mesh passed websockets on");
    match &plan.access_log {
        Some(path) => {
            out.line(6, &format!("access_log: {{path: {}, format: text, filter: all}}", quoted(path)));
        }
        None => {
            out.line(6, "# App Mesh wrote no access log here, as none was configured. To have one:");
            out.line(6, "# access_log: {path: /dev/stdout, format: text, filter: errors_and_canary}");
        }
    }
}

fn virtual_host(out: &mut Text, host: &Host) {
    // With a port or without: load balancers add one that is not the default.
    let (name, domains) = match &host.rule {
        None => ("self_redirect".to_owned(), vec!["*".to_owned()]),
        Some(HostRule::Exact(name)) => (name.clone(), vec![name.clone(), format!("{name}:*")]),
        Some(HostRule::Suffix(suffix)) => {
            let suffix = suffix.trim_start_matches('*');
            let mut domains = vec![format!("*{suffix}")];
            if !suffix.starts_with('.') {
                domains.push(suffix.to_owned());
            }
            (format!("any-{}", suffix.trim_start_matches('.')), domains)
        }
    };
    let domains: Vec<String> = domains.iter().map(|domain| quoted(domain)).collect();
    out.line(8, &format!("- name: {}", quoted(&name)));
    out.line(8, &format!("  domains: [{}]", domains.join(", ")));
    out.line(8, "  routes:");
    for entry in &host.routes {
        route(out, entry);
    }
}

fn route(out: &mut Text, entry: &RouteEntry) {
    out.line(10, &format!("- name: {}", quoted(&entry.name)));
    let path = match &entry.path {
        PathRule::Prefix(prefix) => format!("prefix: {}", quoted(prefix)),
        PathRule::Exact(path) => format!("path: {}", quoted(path)),
    };
    let headers: Vec<String> = entry.headers.iter().map(header).collect();
    if headers.is_empty() {
        out.line(12, &format!("match: {{{path}}}"));
    } else {
        out.line(12, &format!("match: {{{path}, headers: [{}]}}", headers.join(", ")));
    }
    out.line(12, "route:");
    match &entry.timeout {
        Some(time) => out.line(14, &format!("timeout: {time}")),
        None => out.said(14, "timeout: 15s", "App Mesh's default for routes without `perRequest`"),
    }
    retry(out, &entry.retry);
    if let Some(service) = &entry.host_rewrite {
        let line = format!("host_rewrite_literal: {}", quoted(service));
        out.said(14, &line, "App Mesh rewrote Host to the virtual service's name");
    }
    if let Some(rewrite) = &entry.prefix_rewrite {
        out.said(
            14,
            &format!("prefix_rewrite: {}", quoted(rewrite)),
            "App Mesh's rewrite of what was matched",
        );
    }
    out.line(14, "weighted_clusters:");
    out.line(16, "clusters:");
    for (name, weight) in &entry.targets {
        out.line(16, &format!("- {{name: {}, weight: {weight}}}", quoted(name)));
    }
    out.line(16, &format!("stable: {}", quoted(&entry.stable)));
    out.said(
        16,
        "override_header: x-canary",
        "Weir's: `x-canary: NAME` goes to the target of that name at any weight",
    );
    out.said(16, "target_header: x-served-by", "Weir's: names the target that answered");
}

fn retry(out: &mut Text, retry: &Retry) {
    let policy = match retry {
        Retry::Off => return out.line(14, "# No retries, as App Mesh was told."),
        Retry::Default => {
            out.line(14, "# App Mesh's default for routes without `retryPolicy`: it repeated POST too.");
            let text = format!(
                "retry_policy: {{retry_on: \"{DEFAULT_RETRY}\", num_retries: 2, retriable_status_codes: [503]}}"
            );
            return out.line(14, &text);
        }
        Retry::Policy(policy) => policy,
    };
    let mut parts =
        vec![format!("retry_on: \"{}\"", policy.retry_on), format!("num_retries: {}", policy.num_retries)];
    parts.extend(policy.per_try_timeout.iter().map(|time| format!("per_try_timeout: {time}")));
    if !policy.codes.is_empty() {
        let codes: Vec<String> = policy.codes.iter().map(u64::to_string).collect();
        parts.push(format!("retriable_status_codes: [{}]", codes.join(", ")));
    }
    out.line(14, &format!("retry_policy: {{{}}}", parts.join(", ")));
}

fn header(rule: &HeaderRule) -> String {
    let value = match &rule.value {
        ValueRule::Present => "present_match: true".to_owned(),
        ValueRule::Exact(text) => format!("string_match: {{exact: {}}}", quoted(text)),
        ValueRule::Prefix(text) => format!("string_match: {{prefix: {}}}", quoted(text)),
        ValueRule::Suffix(text) => format!("string_match: {{suffix: {}}}", quoted(text)),
    };
    let name = quoted(&rule.name);
    match (rule.invert, &rule.value) {
        (false, _) => format!("{{name: {name}, {value}}}"),
        (true, ValueRule::Present) => format!("{{name: {name}, present_match: false}}"),
        (true, _) => format!("{{name: {name}, {value}, invert_match: true}}"),
    }
}

fn cluster(out: &mut Text, cluster: &Cluster) {
    out.said(
        2,
        &format!("- name: {}", quoted(&cluster.name)),
        "Envoy's name under App Mesh: the statistics keep their names",
    );
    out.said(4, "connect_timeout: 1s", "App Mesh's");
    out.said(4, "lb_policy: ROUND_ROBIN", "App Mesh's");
    out.line(4, "# App Mesh's circuit breakers never open. Envoy's defaults are 1024 and 3 retries.");
    out.line(
        4,
        &format!(
            "circuit_breakers: {{thresholds: [{{max_connections: {OFF}, max_pending_requests: {OFF}, max_requests: {OFF}, max_retries: {OFF}}}]}}"
        ),
    );
    out.line(4, "discovery:");
    let port = cluster.port;
    match &cluster.discovery {
        NodeDiscovery::Dns { hostname } => {
            out.line(6, "# App Mesh's Envoy (LOGICAL_DNS) used one address at a time; Weir uses all A and AAAA records.");
            let host = quoted(hostname.trim_end_matches('.'));
            out.line(6, &format!("dns: {{hostname: {host}, port_value: {port}}}"));
        }
        NodeDiscovery::CloudMap { namespace, service, attributes } => {
            out.line(6, "# Without port_value each instance's AWS_INSTANCE_PORT is taken, and there is no fallback to DNS.");
            let mut parts = vec![
                format!("namespace_name: {}", quoted(namespace)),
                format!("service_name: {}", quoted(service)),
            ];
            if !attributes.is_empty() {
                let pairs: Vec<String> = attributes
                    .iter()
                    .map(|(key, value)| format!("{}: {}", quoted(key), quoted(value)))
                    .collect();
                parts.push(format!("attributes: {{{}}}", pairs.join(", ")));
            }
            parts.push(format!("port_value: {port}"));
            out.line(6, &format!("cloud_map: {{{}}}", parts.join(", ")));
        }
        // A cluster without discovery is never planned.
        NodeDiscovery::None => {}
    }
}
