//! docs/metrics.md says what there is: its tables are written from the table of names, and nothing that is printed is
//! missing from the page.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use gateway::stats::names::{ClusterStat, HttpStat, Kind, ListenerStat, Row, ServerStat, TargetStat};
use gateway::stats::registry::Registry;
use gateway::stats::render::collect::{Naming, registry, target_naming};
use gateway::stats::render::{Label, Value, prometheus};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

const BEGIN: &str =
    "<!-- tables of gateway/src/stats/names.rs: UPDATE=1 cargo test -p gateway --test scrape_docs -->\n";
const END: &str = "<!-- end of the tables -->\n";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md")
}

/// Everything of the gateway's source that can count: not the table of names, not what prints it, no tests.
fn counting_source(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("stats/render") || path.ends_with("stats/names.rs") {
            continue;
        }
        if path.is_dir() {
            text += &counting_source(&path);
        } else {
            let file = std::fs::read_to_string(&path).unwrap();
            text += file.split("#[cfg(test)]").next().unwrap();
        }
    }
    text
}

fn is_counted(source: &str, member: &str) -> bool {
    source.match_indices(member).any(|(at, _)| {
        let next = source[at + member.len()..].chars().next().unwrap_or(' ');
        !next.is_ascii_alphanumeric()
    })
}

struct Family<'a> {
    title: &'a str,
    name: &'a str,
    naming: Naming,
    rows: &'static [Row],
    members: Vec<String>,
}

fn members<S: Debug>(all: &[S]) -> Vec<String> {
    all.iter().map(|member| format!("{member:?}")).collect()
}

fn families() -> Vec<Family<'static>> {
    let naming = |scope: &str, family: &'static str, label: Option<(&'static str, &str)>| Naming {
        scope: scope.to_owned(),
        family,
        labels: label.map(|(name, value)| vec![(name, value.to_owned())]).unwrap_or_default(),
    };
    vec![
        Family {
            title: "One HttpConnectionManager (label `envoy_http_conn_manager_prefix`, its stat_prefix)",
            name: "HttpStat",
            naming: naming("http.PREFIX.", "http.", Some(("envoy_http_conn_manager_prefix", "PREFIX"))),
            rows: HttpStat::ROWS,
            members: members(HttpStat::ALL),
        },
        Family {
            title: "One cluster (label `envoy_cluster_name`)",
            name: "ClusterStat",
            naming: naming("cluster.NAME.", "cluster.", Some(("envoy_cluster_name", "NAME"))),
            rows: ClusterStat::ROWS,
            members: members(ClusterStat::ALL),
        },
        Family {
            title: "One listener (label `envoy_listener_address`)",
            name: "ListenerStat",
            naming: naming("listener.ADDRESS.", "listener.", Some(("envoy_listener_address", "ADDRESS"))),
            rows: ListenerStat::ROWS,
            members: members(ListenerStat::ALL),
        },
        Family {
            title: "The process",
            name: "ServerStat",
            naming: naming("", "", None),
            rows: ServerStat::ROWS,
            members: members(ServerStat::ALL),
        },
        Family {
            title: "One target of one route (labels `route`, `target`)",
            name: "TargetStat",
            naming: target_naming("ROUTE", "TARGET"),
            rows: TargetStat::ROWS,
            members: members(TargetStat::ALL),
        },
    ]
}

fn tables() -> String {
    let source = counting_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let mut out = String::new();
    for family in families() {
        out += &format!("### {}\n\n| `/stats` | Prometheus | | |\n|---|---|---|---|\n", family.title);
        for (row, member) in family.rows.iter().zip(&family.members) {
            let counted = is_counted(&source, &format!("{}::{member}", family.name));
            out += &line(&family.naming, row, counted);
        }
        out += "\n";
    }
    out
}

fn line(naming: &Naming, row: &Row, counted: bool) -> String {
    let (value, kind) = match row.kind {
        Kind::Counter => (Value::Counter(0), "counter"),
        Kind::Gauge => (Value::Gauge(0), "gauge"),
    };
    let sample = naming.sample(row.name, value, true);
    let own: Vec<Label> =
        sample.labels.iter().filter(|label| !naming.labels.contains(label)).cloned().collect();
    let name = sample.name.clone();
    let text = prometheus(&mut [sample], &[]);
    let series = text.split(' ').nth(2).unwrap();
    let labels: Vec<String> = own.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" `{{{}}}`", labels.join(",")) };
    let always = if counted { "" } else { "always 0" };
    format!("| `{name}` | `{series}`{labels} | {kind} | {always} |\n")
}

#[test]
fn the_page_lists_every_name_and_says_which_ones_are_never_counted() {
    let before = std::fs::read_to_string(page()).unwrap();
    let (head, rest) = before.split_once(BEGIN).expect("the page has the begin mark");
    let (found, tail) = rest.split_once(END).expect("the page has the end mark");
    let wanted = format!("\n{}", tables());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(page(), format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "docs/metrics.md is old; `UPDATE=1 cargo test -p gateway --test scrape_docs` writes it"
    );
}

#[test]
fn every_family_that_is_printed_is_on_the_page() {
    let page = std::fs::read_to_string(page()).unwrap();
    let all = Registry::new(1);
    all.http("ingress");
    all.cluster("v1").scope.code(gateway::stats::cells::Shard::worker(0), 503);
    all.listener("0.0.0.0_9080");
    all.target("svc1", "v1");
    let text = prometheus(&mut registry(&all), &[]);
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
