//! How each part of the demo is started: its program, its words, its environment, its configuration.
//!
//! Owns every word that the demo says to a part, so that a change of a command line is a change here only; it must
//! never start anything (that is `children.rs`). Next: `../../../config/samples`, whose files these are like.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::Options;
use super::ports::Wanted;

/// Answers 200 once the stand-in serves.
pub const STANDIN_READY: &str = "/_standin/state";

/// What is replaced in the samples; a test checks that each is there.
const LISTENER_PORT: &str = "port_value: 9080";
const ADMIN_PORT: &str = "port_value: 9901";
const CONTROL_ADDRESS: &str = "127.0.0.1:18000";
const STATE_FILE: &str = "weir-state.json";

/// Names in Cloud Map and App Mesh, as the samples have them.
const NAMESPACE: &str = "demo.local";
/// The demo's mesh.
const MESH: &str = "demo";
/// Its virtual router.
const ROUTER: &str = "svc1";
/// Its route.
const ROUTE: &str = "svc1";

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
        .env("AWS_ENDPOINT_URL", standin_url(options))
        .env("AWS_ACCESS_KEY_ID", "demo")
        .env("AWS_SECRET_ACCESS_KEY", "demo")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
}

/// The stand-in for AWS.
pub fn standin(command: &mut Command, options: &Options) {
    command.args(["--port", &options.standin_port.to_string()]);
}

/// What an operator would have created in AWS before: two Cloud Map services, and the App Mesh route with the
/// weights that it starts with. Paths and bodies for the stand-in's own interface.
pub fn standin_setup() -> [(&'static str, String); 3] {
    let service = |name: &str| json!({"namespace": NAMESPACE, "service": name}).to_string();
    let target = |name: &str, weight: u32| json!({"virtualNode": name, "weight": weight, "port": 80});
    let spec = json!({"httpRoute": {
        "match": {"prefix": "/"},
        "action": {"weightedTargets": [target("svc1-v1", 99), target("svc1-v2", 1)]}
    }});
    let route = json!({"mesh": MESH, "virtualRouter": ROUTER, "route": ROUTE, "spec": spec});
    [
        ("/_standin/services", service("svc1-v1")),
        ("/_standin/services", service("svc1-v2")),
        ("/_standin/routes", route.to_string()),
    ]
}

/// A backend that registers itself as an instance of its Cloud Map service.
pub fn backend(command: &mut Command, options: &Options, name: &str) {
    let port = if name == "v1" { options.v1_port } else { options.v2_port };
    command
        .args(["upstream", "--name", name, "--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--register", &format!("namespace={NAMESPACE},service=svc1-{name},id={name}-1")])
        .args(["--registry", &standin_url(options)])
        // It is the demo that ends; nobody is left to be told.
        .args(["--drain", "0s"]);
    aws(command, options);
}

fn standin_url(options: &Options) -> String {
    format!("http://127.0.0.1:{}", options.standin_port)
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

/// The demo runs on the samples that an operator reads, with its own ports in them.
const CONTROL_SAMPLE: &str = include_str!("../../../config/samples/demo-control.yaml");
const GATEWAY_SAMPLE: &str = include_str!("../../../config/samples/demo-gateway.yaml");

/// Control's configuration.
pub fn control_config(options: &Options, folder: &Path) -> String {
    CONTROL_SAMPLE
        .replace(CONTROL_ADDRESS, &format!("127.0.0.1:{}", options.control_port))
        .replace(STATE_FILE, &folder.join(STATE_FILE).display().to_string())
}

/// The gateway's configuration.
pub fn gateway_config(options: &Options) -> String {
    GATEWAY_SAMPLE
        .replace(LISTENER_PORT, &format!("port_value: {}", options.port))
        .replace(ADMIN_PORT, &format!("port_value: {}", options.admin_port))
        .replace(CONTROL_ADDRESS, &format!("127.0.0.1:{}", options.control_port))
}

/// What runs where.
pub fn picture(options: &Options) -> String {
    let Options { port, admin_port, control_port, standin_port, v1_port, v2_port, .. } = options;
    format!(
        "
  you --> gateway :{port:<5} --99 %--> v1 :{v1_port:<5}  {{\"data\":\"This is service v1\"}}
             | |            `- 1 %--> v2 :{v2_port:<5}  {{\"data\":\"This is service v2\"}}
             | |
             | `-- where are v1 and v2? --> Cloud Map stand-in :{standin_port}, where both have registered
             |
             `-- which weights? --> control :{control_port} --> App Mesh stand-in :{standin_port}, whose route is kept in step
                                       ^
                                       your set-weight

  admin of the gateway: http://localhost:{admin_port}/ (/server_info, /stats, /clusters, /config_dump, /stats/prometheus)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_hold_what_the_demo_replaces() {
        for (sample, texts) in [
            (GATEWAY_SAMPLE, [LISTENER_PORT, ADMIN_PORT, CONTROL_ADDRESS].as_slice()),
            (CONTROL_SAMPLE, [CONTROL_ADDRESS, STATE_FILE].as_slice()),
        ] {
            for text in texts {
                assert_eq!(sample.matches(text).count(), 1, "{text}");
            }
        }
    }

    #[test]
    fn the_samples_and_the_stand_in_use_the_same_names() {
        for name in ["v1", "v2"] {
            assert!(
                GATEWAY_SAMPLE.contains(&format!("namespace_name: {NAMESPACE}, service_name: svc1-{name}"))
            );
            assert!(CONTROL_SAMPLE.contains(&format!("{name}: svc1-{name}")));
        }
        for line in [format!("mesh: {MESH}"), format!("virtual_router: {ROUTER}"), format!("route: {ROUTE}")]
        {
            assert!(CONTROL_SAMPLE.contains(&line), "{line}");
        }
    }
}
