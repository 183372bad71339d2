//! `control export envoy`, and the real Envoy that serves what it printed: the same routes, rewrites and split.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use testkit::client::{RawClient, Response, poll};
use testkit::process::{Envoy, Process, bin, test_env};
use testkit::upstream::{Reply, Upstream};

/// Runs `control export envoy --config FILE`.
fn export(config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
    command.args(["export", "envoy", "--config"]).arg(config).args(more);
    command.output().unwrap()
}

fn imported(folder: &TempDir, names: &[&str]) -> std::path::PathBuf {
    let out = folder.path().join("control.yaml");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
    command.arg("import").args(names.iter().map(|name| fixtures.join(name))).arg("-o").arg(&out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// Two names, one of them with a rewrite, one with a split; `EXTRA` stands in `weighted_clusters`.
const CONFIG: &str = r#"
listen: 127.0.0.1:18000
gateway:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    http_connection_manager:
      access_log: {path: /dev/null, format: json, filter: errors_and_canary}
      route_config:
        virtual_hosts:
        - name: all
          domains: ["*"]
          routes:
          - name: one
            match: {path: /one, headers: [{name: x-a, string_match: {prefix: b}, invert_match: true}]}
            route: {cluster: v1, prefix_rewrite: /uno, host_rewrite_literal: uno.test, timeout: 2s}
          - name: svc1
            match: {prefix: /p/}
            route:
              timeout: 1.5s
              retry_policy: {retry_on: "reset,connect-failure,refused-stream,retriable-status-codes,unavailable", num_retries: 2, retriable_status_codes: [503]}
              prefix_rewrite: /
              host_rewrite_literal: s.test
              weighted_clusters:
                clusters: [{name: v1, weight: 1}, {name: v2, weight: 1}]
                stable: v1
                override_header: x-canary
                target_header: x-served-by
  clusters:
  - {name: v1, discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: V1}}]}}}
  - {name: v2, lb_policy: LEAST_REQUEST, discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: V2}}]}}}
routes:
  svc1: {targets: [v1, v2], stable: v1, weights: {v1: 75, v2: 25}}
"#;

#[tokio::test]
#[ignore = "needs envoy"]
async fn envoy_serves_what_was_exported_with_the_same_rewrites_split_and_override() {
    let (v1, v2) = (Upstream::start("v1").unwrap(), Upstream::start("v2").unwrap());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("control.yaml");
    let text = CONFIG.replace("V1", &v1.port().to_string()).replace("V2", &v2.port().to_string());
    std::fs::write(&file, text).unwrap();
    for format in ["yaml", "json"] {
        let output = export(&file, &["--admin", "127.0.0.1:0", "--format", format]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("not the canary") && said.contains("no endpoints"), "{said}");
        let envoy = Envoy::start(&String::from_utf8(output.stdout).unwrap()).await.unwrap();
        let addr = listener(&envoy).await;

        let mut client = RawClient::connect(addr).await.unwrap();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..400 {
            let answer = client.get("/p/a?b=c").await.unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("x-served-by"), answer.header("x-v"), "each target names itself");
            *seen.entry(answer.header("x-v").unwrap().to_owned()).or_default() += 1;
        }
        // 25 % of 400 is 100 with a standard deviation under 9.
        assert!((50..150).contains(&seen["v2"]) && seen.len() == 2, "{seen:?}");
        let last = v1.last().unwrap();
        assert_eq!((last.target(), last.header("host")), ("/a?b=c", Some("s.test")));

        v2.forget();
        for _ in 0..20 {
            let answer = client.request("GET", "/p/x", &[("x-canary", "v2")], b"").await.unwrap();
            assert_eq!((answer.header("x-v"), answer.header("x-served-by")), (Some("v2"), Some("v2")));
        }
        assert_eq!(v2.last().unwrap().target(), "/x");
        let one = client.request("GET", "/one", &[("x-a", "c")], b"").await.unwrap();
        assert_eq!(one.header("x-v"), Some("v1"), "{one:?}");
        let without = client.get("/one").await.unwrap();
        assert_eq!(without.status, 404, "an inverted condition on a value needs the header, as in Weir");
        assert_eq!(
            (v1.last().unwrap().target(), v1.last().unwrap().header("host")),
            ("/uno", Some("uno.test"))
        );
        let other = client.request("GET", "/one", &[("x-a", "bc")], b"").await.unwrap();
        assert_eq!(other.status, 404, "its header must not begin so");
        // App Mesh's default: 503 is tried again.
        for _ in 0..2 {
            v1.push(Reply::status(503));
            v2.push(Reply::status(503));
        }
        assert_eq!(client.get("/p/").await.unwrap().status, 200);
    }
}

/// An imported configuration on loopback, with one backend behind every cluster.
fn on_loopback(config: &Path, backend: SocketAddr) -> String {
    let text = std::fs::read_to_string(config).unwrap();
    let endpoint = format!(
        "      static: {{endpoints: [{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}]}}",
        backend.port()
    );
    let line = |line: &str| {
        if line.starts_with("      dns: ") || line.starts_with("      cloud_map: ") {
            endpoint.clone()
        } else if line.contains("address: 0.0.0.0, port_value") {
            "    address: {socket_address: {address: 127.0.0.1, port_value: 0}}".to_owned()
        } else {
            line.to_owned()
        }
    };
    text.lines().map(line).map(|line| line + "\n").collect()
}

/// What the client and the backend saw of a request: status, target, host.
async fn seen(
    addr: SocketAddr,
    backend: &Upstream,
    target: &str,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    backend.forget();
    let mut client = RawClient::connect(addr).await.unwrap();
    let host = headers.iter().find(|(name, _)| *name == "host").map_or("test", |(_, value)| value);
    let mut request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        request += &format!("{name}: {value}\r\n");
    }
    client.send(request + "\r\n").await.unwrap();
    let answer = client.response("GET").await.unwrap();
    let last = backend.last();
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let last = last.as_ref();
    (answer.status, text(last.map(|last| last.target())), text(last.and_then(|last| last.header("host"))))
}

#[tokio::test]
#[ignore = "needs envoy"]
async fn a_gateway_serves_an_imported_mesh_and_an_envoy_its_export_alike() {
    for (name, host, requests) in [
        (
            "config_dump.json",
            None,
            &[
                // What the client asks, and what App Mesh made of it.
                ("/cart/x?y=z", "", 200, "/x?y=z"),
                ("/cart/", "", 200, "/"),
                ("/cart", "", 200, "/"),
                ("/cartoon", "", 200, "/oon"),
                ("/other", "", 404, ""),
            ][..],
        ),
        (
            "describe.json",
            Some("www.bank.test"),
            &[
                ("/api/reports/1", "gold", 200, "/reports/1"),
                ("/api/reports/1", "tin", 200, "/reports/1"),
                ("/api", "", 200, "/"),
                ("/anything", "", 404, ""),
                ("/", "", 404, ""),
            ],
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let backend = Upstream::start("any").unwrap();
        let text = on_loopback(&imported(&folder, &[name]), backend.addr());
        let control = folder.path().join("loopback.yaml");
        std::fs::write(&control, &text).unwrap();
        let output = export(&control, &["--admin", "127.0.0.1:0"]);
        assert!(output.status.success(), "{output:?}");
        let envoy = Envoy::start(&String::from_utf8(output.stdout).unwrap()).await.unwrap();
        let envoy_addr = listener(&envoy).await;

        let section = text.split_once("\ngateway:\n").unwrap().1.split_once("\nroutes:\n").unwrap().0;
        let file = folder.path().join("gateway.yaml");
        let admin = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}";
        std::fs::write(&file, format!("{admin}\nstatic_resources:\n{section}\n")).unwrap();
        let mut command = Command::new(bin("gateway").unwrap());
        command.arg("--config").arg(&file).args(["--concurrency", "1"]);
        let gateway = Process::spawn("gateway", &mut command).unwrap();
        let line = gateway.line("name=\"lds_ingress_0.0.0.0_8088\" address=").await.unwrap();
        let weir: SocketAddr = line.rsplit("address=").next().unwrap().trim().parse().unwrap();
        gateway.line("live").await.unwrap();

        for (target, tier, status, wanted) in requests {
            let headers: Vec<(&str, &str)> = if tier.is_empty() { vec![] } else { vec![("x-tier", *tier)] };
            let by_weir = seen(weir, &backend, target, &headers).await;
            assert_eq!((by_weir.0, by_weir.1.as_str()), (*status, *wanted), "{name} {target}: {by_weir:?}");
            assert_eq!(by_weir, seen(envoy_addr, &backend, target, &headers).await, "{name} {target}");
        }
        if let Some(host) = host {
            let by_weir = seen(weir, &backend, "/page", &[("host", host)]).await;
            assert_eq!(by_weir, (200, "/page".to_owned(), host.to_owned()), "its Host is kept");
            assert_eq!(by_weir, seen(envoy_addr, &backend, "/page", &[("host", host)]).await);
        }
    }
}

#[test]
#[ignore = "needs envoy"]
fn envoy_accepts_what_every_imported_mesh_is_exported_as() {
    for names in [&["mesh-and-nodes.yml", "route.yml", "app.properties.json"][..], &["config_dump.json"]] {
        let folder = TempDir::new().unwrap();
        let config = imported(&folder, names);
        for format in ["yaml", "json"] {
            let output = export(&config, &["--format", format]);
            assert!(output.status.success(), "{names:?}: {output:?}");
            let file = folder.path().join(format!("envoy.{format}"));
            std::fs::write(&file, &output.stdout).unwrap();
            let mut envoy = Command::new(test_env("bin/envoy").unwrap());
            envoy.args(["--mode", "validate", "-c"]).arg(&file);
            let checked = envoy.output().unwrap();
            assert!(checked.status.success(), "{names:?}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn weights_of_control_stand_in_the_export_and_cloud_map_becomes_dns() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("control.yaml");
    let text = CONFIG.replace(
        "{static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: V2}}]}}",
        "{cloud_map: {namespace_name: demo.local, service_name: svc1-v2, port_value: 3000}}",
    );
    std::fs::write(&file, text.replace("V1", "3000")).unwrap();
    let output = export(&file, &["--format", "json"]);
    assert!(output.status.success(), "{output:?}");
    let bootstrap: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let routes = &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        ["route_config"]["virtual_hosts"][0]["routes"];
    let split = routes.as_array().unwrap().last().unwrap();
    let weights: Vec<_> = split["route"]["weighted_clusters"]["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["weight"].clone())
        .collect();
    assert_eq!(weights, [7_500, 2_500], "the file's `routes`, not the listener's 1 and 1");
    let cluster = &bootstrap["static_resources"]["clusters"][1];
    assert_eq!(cluster["type"], "STRICT_DNS");
    assert_eq!(
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
            ["address"],
        "svc1-v2.demo.local"
    );
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("Envoy has no Cloud Map, so it asks DNS for svc1-v2.demo.local")
    );
}

#[test]
fn what_envoy_would_send_to_the_wrong_version_is_not_exported() {
    let folder = TempDir::new().unwrap();
    let config = imported(&folder, &["describe.json"]);
    let output = export(&config, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("told apart by attributes, which DNS does not have") && output.stdout.is_empty(),
        "{said}"
    );
    let file = folder.path().join("plain.yaml");
    std::fs::write(&file, "routes: {a: {targets: [v1], stable: v1}}\n").unwrap();
    let said = export(&file, &[]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("there is no section `gateway`"), "{said:?}");
}

#[tokio::test]
async fn a_running_control_is_exported_with_the_weights_of_now() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("control.yaml");
    let port = testkit::free_port().unwrap();
    let state = format!("state: {{file: {}}}\n", folder.path().join("state.json").display());
    let text = CONFIG.replace("V1", "3001").replace("V2", "3002").replace("18000", &port.to_string());
    std::fs::write(&file, state + &text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
    command.args(["serve", "--config"]).arg(&file);
    let control = Process::spawn("control", &mut command).unwrap();
    control.line("control listens on http://").await.unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
        command.args(["--url", &url]).args(args).env_remove("CONTROL_TOKEN").output().unwrap()
    };
    let changed = run(&["set-weight", "svc1", "v2=12.5", "--force", "--timeout", "1s"]);
    assert_eq!(changed.status.code(), Some(4), "stored, and no gateway is there: {changed:?}");
    let output = run(&["export", "envoy", "--format", "json"]);
    assert!(output.status.success(), "{output:?}");
    let live = String::from_utf8(output.stdout).unwrap();
    assert!(live.contains("8750") && live.contains("1250"), "{live}");
    // The same as from the file, but for the weights.
    let from_file = String::from_utf8(export(&file, &["--format", "json"]).stdout).unwrap();
    assert_eq!(live.replace("8750", "7500").replace("1250", "2500"), from_file);
}

#[test]
fn an_import_that_fails_writes_no_file_and_one_that_is_asked_for_json_says_it_once() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("control.yaml");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import/mesh-and-nodes.yml");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
        command.arg("import").arg(&fixture).arg("-o").arg(&out).args(args).output().unwrap()
    };
    let failed = run(&[]);
    assert_eq!((failed.status.code(), failed.stdout.len()), (Some(1), 0));
    assert!(!out.exists());
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("--parameter Env=VALUE") && said.contains("nothing was written: 3 errors"),
        "{said}"
    );
    let json = run(&["--json"]);
    assert_eq!((json.status.code(), json.stderr.len()), (Some(1), 0));
    let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer["config"], serde_json::Value::Null);
    assert!(
        answer["notes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|note| note["kind"] == "error" && note["place"]["line"] == 37)
    );
    let missing =
        Command::new(env!("CARGO_BIN_EXE_control")).args(["import", "nowhere.yml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert_eq!(run(&["--parameter", "novalue"]).status.code(), Some(2));
}

/// Where the one listener of an Envoy is.
async fn listener(envoy: &Envoy) -> SocketAddr {
    let admin = envoy.admin.unwrap();
    let address = |answer: &Response| {
        let json = answer.json().ok()?;
        let socket = &json["listener_statuses"][0]["local_address"]["socket_address"];
        format!("{}:{}", socket["address"].as_str()?, socket["port_value"].as_u64()?).parse().ok()
    };
    let answer = poll(admin, "/listeners?format=json", |answer| address(answer).is_some()).await.unwrap();
    address(&answer).unwrap()
}
