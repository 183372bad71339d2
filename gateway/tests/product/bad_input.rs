//! What a gateway says to configuration that it cannot use: all of it at once, where it is, and the cure.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use super::world::{Ran, Spec, gateway_command, run};

/// A configuration without fault, on ports that the kernel chooses.
fn good() -> String {
    let folder = std::env::temp_dir();
    let address = "127.0.0.1:1".parse().unwrap();
    let spec = Spec::new(&folder, "bad-input", &[("v1", 90), ("v2", 10)]);
    let spec = spec.fixed("v1", &[address]).fixed("v2", &[address]);
    spec.yaml().replace(&spec.access_log().display().to_string(), "/dev/null")
}

async fn gateway(words: &[&str], envs: &[(&str, &str)]) -> Ran {
    let envs: Vec<_> = envs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut command = gateway_command(&envs);
    command.args(words);
    run(command).await
}

async fn with_text(text: &str, words: &[&str]) -> (Ran, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let mut all = vec!["--config", &file];
    all.extend_from_slice(words);
    (gateway(&all, &[]).await, file)
}

/// The last line with `needle`, counted from 1.
fn line_of(text: &str, needle: &str) -> usize {
    let lines = text.lines().zip(1..).filter(|(line, _)| line.contains(needle));
    lines.last().unwrap().1
}

const LAST_CLUSTER: &str = "- {name: v2, discovery: ";

#[tokio::test]
async fn every_fault_is_named_with_file_line_and_cure_and_nothing_starts() {
    let good = good();
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("misspelt weight", "weight: 90", "wieght: 90", &["wieght", "did you mean `weight`"]),
        ("wrong type", "weight: 90", "weight: many", &["many"]),
        ("negative weight", "weight: 90", "weight: -90", &["-90"]),
        ("unknown cluster", "{name: v2, weight: 10}", "{name: v9, weight: 10}", &["v9", "v1"]),
        (
            "port out of range",
            "port_value: 0}}\n    http",
            "port_value: 70000}}\n    http",
            &["70000", "65535"],
        ),
        ("duplicate name", LAST_CLUSTER, "- {name: v1, discovery: ", &["a second cluster `v1`"]),
        ("unknown field", "node: {id: gw,", "nodes: 3\nnode: {id: gw,", &["nodes", "did you mean `node`"]),
    ];
    for (what, from, to, needles) in cases {
        assert!(good.contains(from), "{what}");
        let text = good.replace(from, to);
        let (ran, file) = with_text(&text, &[]).await;
        assert_eq!(ran.code, 78, "{what}: {ran:?}");
        let line = line_of(&text, to.lines().next().unwrap());
        assert!(ran.stderr.contains(&format!("{file}:{line}:")), "{what} at line {line}: {}", ran.stderr);
        for needle in *needles {
            assert!(ran.stderr.contains(needle), "{what}: {needle} in {}", ran.stderr);
        }
        assert!(ran.stdout.is_empty() && !ran.stderr.contains("listening"), "{what}: {ran:?}");
    }
}

#[tokio::test]
async fn all_faults_of_a_file_come_at_once() {
    let text = good()
        .replace("weight: 90", "weight: 0")
        .replace("weight: 10", "weight: 0")
        .replace("domains: ['*']", "domain: ['*']")
        .replace("stable: v1", "stable: v7");
    let (ran, file) = with_text(&text, &[]).await;
    assert_eq!(ran.code, 78, "{ran:?}");
    for needle in ["domains", "v7", "weight"] {
        assert!(ran.stderr.contains(needle), "{needle} in {}", ran.stderr);
    }
    assert!(ran.stderr.matches(&format!("{file}:")).count() >= 3, "{}", ran.stderr);
}

#[tokio::test]
async fn weights_that_are_all_zero_are_refused() {
    let text = good().replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 0");
    let (ran, _) = with_text(&text, &[]).await;
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stderr.contains("weight"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_file_that_is_no_configuration_is_refused_quickly_with_the_reason() {
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..40 {
            let one = format!("*a{}", n - 1);
            text += &format!("a{n}: &a{n} [{}]\n", [one.as_str(); 9].join(", "));
        }
        text
    };
    let deep = "[".repeat(100_000);
    let large = format!("{}# {}\n", good(), "x".repeat(10 << 20));
    for (what, text, needle) in [
        ("empty", "", "empty"),
        ("10 MB", large.as_str(), "1 MiB"),
        ("bomb", bomb.as_str(), "too large"),
        ("deep", deep.as_str(), "deep"),
        ("no YAML", "{]", "1:"),
    ] {
        let (ran, file) = with_text(text, &[]).await;
        assert_eq!(ran.code, 78, "{what}: {ran:?}");
        assert!(ran.stderr.contains(&file), "{what}: {}", ran.stderr);
        assert!(ran.stderr.to_lowercase().contains(&needle.to_lowercase()), "{what}: {}", ran.stderr);
        assert!(ran.stderr.len() < 20_000, "{what}: {} bytes of errors", ran.stderr.len());
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.yaml").display().to_string();
    let locked = folder.path().join("locked.yaml");
    std::fs::write(&locked, good()).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut files = vec![missing, folder.path().display().to_string()];
    if std::fs::read(&locked).is_err() {
        // Root reads everything.
        files.push(locked.display().to_string());
    }
    for file in files {
        let ran = gateway(&["--config", &file], &[]).await;
        assert_eq!(ran.code, 78, "{ran:?}");
        assert!(ran.stderr.contains(&file), "{ran:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_ends_with_71_and_names_port_and_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (admin, listener) = (
        good().replacen("port_value: 0", &format!("port_value: {port}"), 1),
        good().replace("port_value: 0}}\n    http", &format!("port_value: {port}}}}}\n    http")),
    );
    for (what, text) in [("admin", admin), ("listener `ingress`", listener)] {
        let (ran, _) = with_text(&text, &[]).await;
        assert_eq!(ran.code, 71, "{what}: {ran:?}");
        let says =
            [what, &format!("127.0.0.1:{port}"), "another process listens there", "choose another port"];
        for needle in says {
            assert!(ran.stderr.contains(needle), "{needle} in {}", ran.stderr);
        }
    }
}

#[tokio::test]
async fn without_a_configuration_the_usage_is_told_with_64() {
    let ran = gateway(&[], &[]).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(ran.stderr.contains("--config FILE") && ran.stderr.contains("GATEWAY_CONFIG"), "{ran:?}");
    let ran = gateway(&["--confg", "x"], &[]).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(ran.stderr.contains("--config"), "{ran:?}");
}

#[tokio::test]
async fn validate_says_yes_or_all_that_is_wrong_and_opens_no_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port_value: {}", taken.local_addr().unwrap().port());
    let (ran, _) = with_text(&good().replacen("port_value: 0", &port, 1), &["--mode", "validate"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "configuration OK\n"), "{ran:?}");
    let (ran, file) = with_text(&good().replace("stable: v1", "stable: v3"), &["--mode", "validate"]).await;
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stderr.contains(&format!("{file}:")) && ran.stderr.contains("v3"), "{ran:?}");
}

#[tokio::test]
async fn the_text_may_come_from_the_environment() {
    let ran = gateway(&["--mode", "validate"], &[("GATEWAY_CONFIG", &good())]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = gateway(&[], &[("GATEWAY_CONFIG", "admin: 7")]).await;
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stderr.contains("GATEWAY_CONFIG:1:"), "{ran:?}");
}
