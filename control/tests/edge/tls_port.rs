//! TLS on the port: people, gateways, and those who speak something else.

use super::support::{ROUTES, binary, config_text};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use testkit::process::Process;
use tokio::net::TcpStream;

struct Pair {
    certificate: String,
    key: String,
}

fn write(folder: &Path) -> Pair {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let pair = Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() };
    std::fs::write(folder.join("tls.crt"), &pair.certificate).unwrap();
    std::fs::write(folder.join("tls.key"), &pair.key).unwrap();
    pair
}

async fn start(folder: &Path) -> (Process, SocketAddr) {
    let rest = format!(
        "tls: {{certificate_file: {0}/tls.crt, private_key_file: {0}/tls.key}}\n{ROUTES}",
        folder.display()
    );
    let file = folder.join("control.yaml");
    std::fs::write(&file, config_text(&folder.join("state.json"), &rest)).unwrap();
    let mut command = std::process::Command::new(binary());
    command.args(["serve", "--config"]).arg(&file);
    let process = Process::spawn("control", &mut command).unwrap();
    let line = process.line("control listens on https://").await.unwrap();
    let address = line.rsplit("https://").next().unwrap().trim().parse().unwrap();
    (process, address)
}

async fn cli(url: &str, args: &[&str], envs: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(binary());
    command.args(["--url", url]).args(args).env_remove("CONTROL_TOKEN").env_remove("CONTROL_CA");
    command.envs(envs.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn people_ask_by_https_with_the_ca_of_a_file_or_a_variable_and_nobody_else_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let pair = write(folder.path());
    let (_control, address) = start(folder.path()).await;
    let ca = folder.path().join("tls.crt").display().to_string();
    let url = format!("https://localhost:{}", address.port());
    // 4: no gateway is there.
    let (code, out, err) = cli(&url, &["--ca-file", &ca, "get"], &[]).await;
    assert_eq!((code, err.as_str()), (4, ""), "{out}");
    let (code, ..) = cli(&format!("https://{address}"), &["get"], &[("CONTROL_CA", &pair.certificate)]).await;
    assert_eq!(code, 4);
    let other = tempfile::tempdir().unwrap();
    write(other.path());
    let wrong = other.path().join("tls.crt").display().to_string();
    for args in [vec!["--ca-file", wrong.as_str(), "get"], vec!["get"]] {
        let (code, _, err) = cli(&url, &args, &[]).await;
        assert!(code == 1 || code == 2, "{err}");
        assert!(
            err.contains("CA") && err.contains("--ca-file") || err.contains("no CA certificates"),
            "{err}"
        );
    }
    let (code, _, err) = cli(&format!("http://{address}"), &["get"], &[]).await;
    assert_eq!(code, 1);
    assert!(err.contains("https://"), "{err}");
}

#[tokio::test]
async fn who_asks_a_plain_port_by_https_is_told_to_ask_by_http_and_nothing_of_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control.yaml");
    std::fs::write(&file, config_text(&folder.path().join("state.json"), ROUTES)).unwrap();
    let control = super::support::Remote::start(&file, &[]).await;
    let pair = write(folder.path());
    let url = format!("https://{}", control.addr);
    let (code, _, err) = cli(&url, &["get"], &[("CONTROL_CA", &pair.certificate)]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("http://") && !err.contains("--ca-file"), "{err}");
}

#[tokio::test]
async fn plain_http_is_closed_and_told_once_and_both_http_versions_are_spoken_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let pair = write(folder.path());
    let (control, address) = start(folder.path()).await;
    for _ in 0..3 {
        assert!(testkit::client::get(address, "/healthz").await.is_err(), "closed");
    }
    control.line("speaks no TLS here: let it ask by https://").await.unwrap();
    let config = tls::client_config(Some(&pair.certificate)).unwrap();
    for (config, protocol) in [(tls::http1_only(&config), "http/1.1"), (config, "h2")] {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = tls::connect(config, "localhost", stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        let request = http::Request::get("http://localhost/healthz").header("host", "localhost");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let io = TokioIo::new(stream);
        let response = if protocol == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(response.status(), 200, "{protocol}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "OK\n");
    }
    assert_eq!(control.stderr().matches("speaks no TLS").count(), 1, "{}", control.stderr());
}

#[tokio::test]
async fn a_certificate_that_is_not_good_ends_the_start_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let rest = format!(
        "tls: {{certificate_file: {0}/tls.crt, private_key_file: {0}/gone.key}}\n{ROUTES}",
        folder.path().display()
    );
    let file = folder.path().join("control.yaml");
    std::fs::write(&file, config_text(&folder.path().join("state.json"), &rest)).unwrap();
    let mut command = std::process::Command::new(binary());
    command.args(["serve", "--config"]).arg(&file);
    let process = Process::spawn("control", &mut command).unwrap();
    assert_eq!(process.exit().await.unwrap().code(), Some(1));
    assert!(
        process.stderr().contains("gone.key") && process.stderr().contains("readable"),
        "{}",
        process.stderr()
    );
}

#[tokio::test]
async fn a_token_comes_out_of_a_named_variable() {
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("tokens: {{operator: [{{name: ops, env: OPERATOR_TOKENS}}]}}\n{ROUTES}");
    let file = folder.path().join("control.yaml");
    std::fs::write(&file, config_text(&folder.path().join("state.json"), &rest)).unwrap();
    let mut command = std::process::Command::new(binary());
    let tokens = "operator-token-new\noperator-token-old";
    command.args(["serve", "--config"]).arg(&file).env("OPERATOR_TOKENS", tokens);
    let process = Process::spawn("control", &mut command).unwrap();
    let line = process.line("control listens on http://").await.unwrap();
    let url = format!("http://{}", line.rsplit("http://").next().unwrap().trim());
    let (code, _, err) = cli(&url, &["--token-env", "MINE", "get"], &[("MINE", tokens)]).await;
    assert_eq!(code, 4, "{err}");
    let (code, _, err) = cli(&url, &["--token-env", "MINE", "get"], &[("MINE", "operator-token-old")]).await;
    assert_eq!(code, 4, "{err}");
    let (code, _, err) = cli(&url, &["--token-env", "MINE", "get"], &[]).await;
    assert_eq!(code, 2);
    assert!(err.contains("--token-env MINE: the variable is not set"), "{err}");
    let (code, _, err) = cli(&url, &["get"], &[]).await;
    assert_eq!(code, 1);
    assert!(err.contains("--token-env"), "{err}");
}
