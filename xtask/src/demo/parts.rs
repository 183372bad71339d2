//! How each part of the demo is started: its program, its words, its environment, its configuration.
//!
//! Owns every word that the demo says to a part, so that a change of a command line is a change here only; it must
//! never start anything (that is `children.rs`). Next: `../../../config/samples`, whose files these are like.

use std::path::Path;
use std::process::Command;

use super::Options;
use super::ports::Wanted;

/// What is built; each has one of the programs.
pub const PACKAGES: [&str; 4] = ["gateway", "control", "loadtest", "testkit"];
/// Answers 200 once the stand-in serves.
pub const STANDIN_READY: &str = "/_standin/instances";

/// Names in Cloud Map and App Mesh.
const NAMESPACE: &str = "demo.local";
/// The demo's mesh.
const MESH: &str = "demo";

/// Every port, with the flag that changes it.
pub fn ports(options: &Options) -> [Wanted; 6] {
    let wanted = |port, what, flag| Wanted { port, what, flag };
    [
        wanted(options.port, "the gateway", "--port"),
        wanted(options.admin_port, "the gateway's admin", "--admin-port"),
        wanted(options.control_port, "control", "--control-port"),
        wanted(options.standin_port, "the Cloud Map and App Mesh stand-in", "--standin-port"),
        wanted(options.v1_port, "v1's backend", "--v1-port"),
        wanted(options.v2_port, "v2's backend", "--v2-port"),
    ]
}

/// Everything that would lead a part to the real AWS, or to another demo, is taken from its environment.
fn aws(command: &mut Command, options: &Options) {
    for name in [
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_ENDPOINT_URL_SERVICEDISCOVERY",
        "AWS_ENDPOINT_URL_APP_MESH",
        "ECS_CONTAINER_METADATA_URI_V4",
        "GATEWAY_CONFIG",
        "CONTROL_URL",
        "CONTROL_TOKEN",
    ] {
        command.env_remove(name);
    }
    command
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", options.standin_port))
        .env("AWS_ACCESS_KEY_ID", "demo")
        .env("AWS_SECRET_ACCESS_KEY", "demo")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
}

/// The stand-in for AWS.
pub fn standin(command: &mut Command, options: &Options) {
    command.args(["--port", &options.standin_port.to_string()]);
}

/// A backend that registers itself.
pub fn backend(command: &mut Command, options: &Options, name: &str) {
    let port = if name == "v1" { options.v1_port } else { options.v2_port };
    command.args(["upstream", "--name", name, "--port", &port.to_string()]);
    aws(command, options);
}

/// Control.
pub fn control(command: &mut Command, options: &Options, config: &Path) {
    command.args(["serve", "--config"]).arg(config);
    aws(command, options);
}

/// The gateway.
pub fn gateway(command: &mut Command, options: &Options, config: &Path) {
    command.arg("--config").arg(config);
    aws(command, options);
}

/// The change that the script makes.
pub fn set_weight(binaries: &Path, options: &Options) -> Command {
    let mut command = Command::new(binaries.join("control"));
    command.args(["--url", &format!("http://127.0.0.1:{}", options.control_port)]);
    command.args(["set-weight", "svc1", "v1=90", "v2=10", "--reason", "the demo's script"]);
    command.env_remove("CONTROL_TOKEN");
    command
}

/// Control's configuration.
pub fn control_config(options: &Options, folder: &Path) -> String {
    format!(
        "listen: 127.0.0.1:{}
state: {}
routes:
  svc1:
    targets: [v1, v2]
    stable: v1
    weights: {{v1: 99, v2: 1}}
    app_mesh:
      mesh: {MESH}
      virtual_router: svc1-router
      route: svc1-route
      targets: {{v1: svc1-v1, v2: svc1-v2}}
",
        options.control_port,
        folder.join("control-state.json").display()
    )
}

/// The gateway's configuration.
pub fn gateway_config(options: &Options) -> String {
    let cluster = |name: &str| {
        format!(
            "  - name: {name}
    discovery:
      cloud_map:
        namespace_name: {NAMESPACE}
        service_name: svc1-{name}
        allow_loopback: true
        revision_poll: 1s
"
        )
    };
    format!(
        "node: {{id: demo, cluster: demo}}
admin:
  address: {{address: 127.0.0.1, port: {admin}}}
control:
  url: http://127.0.0.1:{control}
listeners:
  - name: ingress
    address: {{address: 0.0.0.0, port: {port}}}
    http_connection_manager:
      route_config:
        virtual_hosts:
          - name: all
            domains: ['*']
            routes:
              - name: svc1
                match: {{prefix: /}}
                route:
                  weighted_clusters:
                    stable: v1
                    clusters:
                      - {{name: v1, weight: 99}}
                      - {{name: v2, weight: 1}}
clusters:
{v1}{v2}",
        admin = options.admin_port,
        control = options.control_port,
        port = options.port,
        v1 = cluster("v1"),
        v2 = cluster("v2"),
    )
}

/// What runs where.
pub fn picture(options: &Options) -> String {
    let Options { port, admin_port, control_port, standin_port, v1_port, v2_port, .. } = options;
    format!(
        "
  you --> gateway :{port} ---99 %--> v1 :{v1_port}  {{\"data\":\"This is service v1\"}}
             |  |       \\-- 1 %--> v2 :{v2_port}  {{\"data\":\"This is service v2\"}}
             |  |
             |  +--- where are v1 and v2? ---> Cloud Map stand-in :{standin_port} <-- both register there
             |                                                |
             +--- which weights? --> control :{control_port} ------+--> App Mesh stand-in, same port
                                     (you change them there)

  gateway's admin :{admin_port}/server_info, /stats, /clusters, /stats/prometheus
"
    )
}

/// The next three commands, as they can be typed.
pub fn commands(options: &Options) -> String {
    let url = if options.control_port == 18000 {
        String::new()
    } else {
        format!(" --url http://127.0.0.1:{}", options.control_port)
    };
    format!(
        "  curl http://localhost:{}/
  cargo control{url} set-weight svc1 v1=90 v2=10
  cargo control{url} get",
        options.port
    )
}
