//! docs/metrics.md lists what `/metrics` of control prints, in its own words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

mod ext_parts;

use ext_parts::{GATEWAY_TOKEN, SOON, Site};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use testkit::client;

const BEGIN: &str =
    "<!-- table of control/src/metrics.rs: UPDATE=1 cargo test -p control --test ext_metrics_doc -->\n";
const END: &str = "<!-- end of the table -->\n";
const ROUTES: &str = "  svc1:\n    targets: [v1, v2]\n    stable: v1\n    app_mesh: {mesh: m, virtual_router: r, \
                      route: r, targets: {v1: v1, v2: v2}}\n\
                      webhooks: [{name: team, url: \"http://127.0.0.1:9/\"}]\n";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md")
}

async fn say(site: &Site, path: &str, body: &Value) -> u16 {
    let token = format!("Bearer {GATEWAY_TOKEN}");
    let headers = [("authorization", token.as_str())];
    client::once(site.addr, "POST", path, &headers, body.to_string().as_bytes()).await.unwrap().status
}

/// The text of `/metrics` once a gateway was heard, so that nothing is left out for want of a value.
async fn metrics() -> String {
    let site = Site::new();
    let nowhere = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
    let _control = site.control(ROUTES, &testkit::standin::envs(&nowhere)).await;
    let status = json!({"wire": 1, "instance_id": "g", "boot_id": "b", "state": "LIVE",
        "routes": {"svc1": {"weights": {"v1": 1, "v2": 0}, "stable": "v1", "source": "file"}}});
    let request = json!({"node": {"metadata": {"weir": status}}, "resource_names": ["svc1"]});
    say(&site, "/v3/discovery:routes", &request).await;
    site.route(SOON, |route| route["weights"].is_object()).await;
    assert_eq!(say(&site, "/v3/discovery:routes", &request).await, 200);
    let target =
        json!({"requests": 1, "errors": 1, "latency": [[1000, 1]], "endpoints": 1, "endpoints_healthy": 1});
    let report = json!({"wire": 1, "boot_id": "b", "uptime_ms": 1, "status": status,
        "routes": {"svc1": {"v1": target, "v2": target}}});
    assert_eq!(say(&site, "/v1/gateways/g/report", &report).await, 204);
    client::get(site.addr, "/metrics").await.unwrap().text()
}

fn table(metrics: &str) -> String {
    let mut out = "\n| Prometheus | | labels | |\n|---|---|---|---|\n".to_owned();
    for help in metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = help.split_once(' ').unwrap();
        let kind = metrics.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let series =
            metrics.lines().find_map(|line| line.strip_prefix(name)?.split_once('{')?.1.split_once('}'));
        let labels: Vec<String> = series
            .iter()
            .flat_map(|(labels, _)| labels.split(','))
            .filter_map(|label| label.split('=').next())
            .filter(|label| *label != "le")
            .map(|label| format!("`{label}`"))
            .collect();
        out += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
    }
    out + "\n"
}

#[tokio::test]
async fn the_page_lists_what_control_measures() {
    let metrics = metrics().await;
    let wanted = table(&metrics);
    let before = std::fs::read_to_string(page()).unwrap();
    let (head, rest) = before.split_once(BEGIN).expect("the page has the begin mark");
    let (found, tail) = rest.split_once(END).expect("the page has the end mark");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(page(), format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "docs/metrics.md is old; `UPDATE=1 cargo test -p control --test ext_metrics_doc` writes it"
    );
    let families = control_families();
    assert_eq!(
        wanted.matches("| `control_").count(),
        families,
        "a family without a value is not on the page"
    );
}

/// How many names the source has.
fn control_families() -> usize {
    let source = include_str!("../src/metrics.rs").split("#[cfg(test)]").next().unwrap();
    source.matches("\"control_").count()
}
