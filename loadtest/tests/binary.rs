//! The binary as it is typed: exit codes, messages with their cure, the ready line, signals, registration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const DEADLINE: Duration = Duration::from_secs(20);

fn loadtest(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn output(args: &[&str]) -> (i32, String, String) {
    let output = tokio::time::timeout(DEADLINE, loadtest(args).output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Starts a backend and waits for its ready line: the process and its address.
async fn upstream(args: &[&str]) -> (Child, String) {
    let mut child = loadtest(&[&["upstream", "--name", "v1"], args].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
    let line = line.expect("it ended without a ready line");
    let address = line.strip_prefix("ready: v1 on ").expect("not a ready line").to_owned();
    (child, address)
}

async fn terminate(child: &mut Child) -> Option<i32> {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    tokio::time::timeout(DEADLINE, child.wait()).await.unwrap().unwrap().code()
}

#[tokio::test]
async fn usage_faults_exit_with_2_and_say_the_cure() {
    let url = "http://127.0.0.1:1/";
    for (args, cure) in [
        (vec!["split", "localhost:9080", "--expect", "v1=100"], "http://localhost:9080/"),
        (vec!["split", "https://localhost/", "--expect", "v1=100"], "plain HTTP only"),
        (vec!["split", url, "--expect", "v1=90,v2=20"], "sum up to 110"),
        (vec!["split", url, "--expect", "v1"], "v1=90,v2=10"),
        (vec!["split", url], "--expect"),
        (vec!["split", url, "--expect", "v1=100", "--rate", "fast"], "1000/s"),
        (vec!["split", url, "--expect", "v1=100", "--requests", "0"], "from 1 to"),
        (vec!["split", url, "--expect", "v1=100", "--by", "x-v"], "header:x-v"),
        (vec!["split", url, "--expect", "v1=100", "--connections", "0"], "1..="),
        (vec!["split", url, "--expect", "v1=100", "-H", "x"], "name: value"),
        (vec!["run", url, "--rate", "10", "--duration", "5"], "with its unit"),
        (vec!["upstream", "--name", "v1", "--port", "70000"], "0..=65535"),
        (vec!["upstream", "--name", "v1", "--register", "id=a"], "namespace="),
        (vec!["upstream", "--name", "v1", "--error-rate", "5%"], "0.05"),
        (vec![], "Usage"),
    ] {
        let (code, out, err) = output(&args).await;
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(cure) && out.is_empty(), "{args:?}: {err}");
    }
}

#[tokio::test]
async fn nobody_listening_exits_with_1_and_says_what_to_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let (code, _, err) = output(&["split", &url, "--expect", "v1=100", "--requests", "1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("cannot connect") && err.contains("curl -v"), "{err}");
    let url = "http://no-such-host.invalid/";
    let (code, _, err) = output(&["split", url, "--expect", "v1=100", "--requests", "1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("check the name"), "{err}");
}

#[tokio::test]
async fn a_split_prints_json_and_its_exit_code_is_the_verdict() {
    let (mut child, address) = upstream(&[]).await;
    let url = format!("http://{address}/");
    let args = ["split", &url, "--requests", "200", "--rate", "2000/s", "--json", "--expect"];
    let (code, out, err) = output(&[&args[..], &["v1=100,v2=0"]].concat()).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["ok"], err.as_str()), (0, &true.into(), ""), "{out}");
    assert_eq!((&report["answered"], &report["versions"][0]["count"]), (&200.into(), &200.into()));

    let (code, out, _) = output(&[&args[..], &["v1=50,v2=50"]].concat()).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["split"]["accepted"]), (1, &false.into()), "{out}");
    assert_eq!(terminate(&mut child).await, Some(0));
}

#[tokio::test]
async fn a_run_reports_latency_and_fails_on_error_answers() {
    let (_child, address) = upstream(&["--keep-alive", "5s", "--keep-alive-header"]).await;
    let url = format!("http://{address}/");
    let args = ["run", &url, "--rate", "500/s", "--duration", "200ms", "--browser"];
    let (code, out, err) = output(&args).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("from intended send") && out.contains("ok: 100 requests, no error"), "{out}");
    let url = format!("http://{address}/?status=500");
    let (code, out, _) =
        output(&["run", &url, "--rate", "500/s", "--duration", "20ms", "--post", "10"]).await;
    assert_eq!(code, 1);
    assert!(out.contains("10 answers had status 500"), "{out}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (code, _, err) = output(&["upstream", "--name", "v1", "--port", &port]).await;
    assert_eq!(code, 1);
    assert!(err.contains(&port) && err.contains("--port"), "{err}");
}

/// A registry with one namespace and one service; it records the calls.
async fn registry() -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let recorded = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let calls = Arc::clone(&recorded);
            let service = service_fn(move |request| reply(Arc::clone(&calls), request));
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    (url, calls)
}

async fn reply(
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.headers()["x-amz-target"].to_str().unwrap().to_owned();
    let operation = target.strip_prefix("Route53AutoNaming_v20170314.").unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let answer = match (operation.as_str(), body.get("NextToken").is_some()) {
        ("ListNamespaces", false) => {
            json!({"Namespaces": [{"Name": "other", "Id": "ns-0"}], "NextToken": "2"})
        }
        ("ListNamespaces", true) => json!({"Namespaces": [{"Name": "demo.local", "Id": "ns-1"}]}),
        ("ListServices", _) => json!({"Services": [{"Name": "svc1-v1", "Id": "srv-1"}]}),
        _ => json!({"OperationId": "op-1"}),
    };
    calls.lock().unwrap().push((operation.clone(), body));
    // The first call of all finds it starting up.
    if calls.lock().unwrap().len() == 1 {
        return Ok(Response::builder().status(503).body(Full::new(Bytes::from("starting"))).unwrap());
    }
    Ok(Response::new(Full::new(Bytes::from(answer.to_string()))))
}

#[tokio::test]
async fn a_backend_registers_before_it_is_ready_and_deregisters_at_sigterm() {
    let (url, calls) = registry().await;
    let register = "namespace=demo.local,service=svc1-v1,id=v1-1,attr.version=v1";
    let (mut child, address) = upstream(&["--register", register, "--registry", &url, "--drain", "0s"]).await;
    let names = || calls.lock().unwrap().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let once = ["ListNamespaces", "ListNamespaces", "ListNamespaces", "ListServices", "RegisterInstance"];
    assert_eq!(names(), once, "one that is refused, two pages, then the rest");
    let registered = calls.lock().unwrap()[4].1.clone();
    let port = address.rsplit(':').next().unwrap();
    assert_eq!((&registered["ServiceId"], &registered["InstanceId"]), (&"srv-1".into(), &"v1-1".into()));
    let attributes = json!({"version": "v1", "AWS_INSTANCE_IPV4": "127.0.0.1", "AWS_INSTANCE_PORT": port});
    assert_eq!(registered["Attributes"], attributes);
    assert_eq!(calls.lock().unwrap()[3].1["Filters"][0]["Values"][0], "ns-1");

    assert_eq!(terminate(&mut child).await, Some(0));
    let last = calls.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last, ("DeregisterInstance".into(), json!({"ServiceId": "srv-1", "InstanceId": "v1-1"})));
}

#[tokio::test]
async fn a_registry_without_the_service_ends_the_backend_with_a_cure() {
    let (url, _) = registry().await;
    let register = "namespace=demo.local,service=svc9,id=v1-1";
    let (code, out, err) =
        output(&["upstream", "--name", "v1", "--register", register, "--registry", &url]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no service named `svc9`") && err.contains("create it"), "{err}");
}

/// A splitter whose choice is a file: the port that stands in it.
async fn front(choice: std::path::PathBuf, reread: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let old = std::fs::read_to_string(&choice).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (choice, old) = (choice.clone(), old.clone());
            let service = service_fn(move |_| {
                let name = if reread { std::fs::read_to_string(&choice).unwrap() } else { old.clone() };
                let response = Response::builder().header("x-v", name.trim()).body(Full::new(Bytes::new()));
                async { Ok::<_, Infallible>(response.unwrap()) }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    url
}

async fn switched(reread: bool) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    let choice = folder.path().join("choice");
    std::fs::write(&choice, "v1").unwrap();
    let url = front(choice.clone(), reread).await;
    // A rename, so that nobody ever reads half a file.
    let set = |name: &str| {
        let file = choice.display();
        format!("{name}=printf {name} > {file}.new && mv {file}.new {file}")
    };
    let args = [
        "switch",
        &url,
        "--to",
        &set("v1"),
        "--to",
        &set("v2"),
        "--switches",
        "4",
        "--every",
        "50ms",
        "--json",
    ];
    let (code, out, err) = output(&args).await;
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

#[tokio::test]
async fn a_switch_that_takes_effect_at_once_has_no_stale_answer() {
    let (code, report) = switched(true).await;
    assert_eq!((code, &report["stale"], &report["ok"]), (0, &0.into(), &true.into()), "{report}");
    let to: Vec<&str> =
        report["changes"].as_array().unwrap().iter().map(|c| c["to"][0].as_str().unwrap()).collect();
    assert_eq!(to, ["v2", "v1", "v2", "v1"]);
    assert!(report["changes"][0]["first_new_after_ms"].is_number(), "{report}");
    assert_eq!(report["not_sent"], 0);
}

#[tokio::test]
async fn a_switch_that_never_takes_effect_is_caught() {
    let (code, report) = switched(false).await;
    assert_eq!((code, &report["ok"]), (1, &false.into()), "{report}");
    assert!(report["stale"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["changes"][1]["stale"], 0, "back at v1 all is right: {report}");
}

#[tokio::test]
async fn a_switch_whose_command_fails_says_so() {
    let (_child, address) = upstream(&[]).await;
    let url = format!("http://{address}/");
    let to_v2 = "v2=echo no such route >&2; exit 7";
    let args = ["switch", &url, "--to", "v1=true", "--to", to_v2, "--switches", "1", "--every", "20ms"];
    let (code, out, _) = output(&args).await;
    assert!(code == 1 && out.contains("no such route") && out.contains("exit status: 7"), "{out}");
    let (code, _, err) = output(&["switch", &url, "--to", "v1=true"]).await;
    assert!(code == 2 && err.contains("at least twice"), "{err}");
    let (code, _, err) = output(&["switch", &url, "--to", "v1=false", "--to", "v2=true"]).await;
    assert!(code == 1 && err.contains("first setting failed"), "{err}");
}
