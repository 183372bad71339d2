//! Every path, with every method, by every role.

use super::support::{FakeGateway, Local, ROUTES, config_text};
use serde_json::json;

const GATEWAY: &str = "gateway-token-0001";
const OPERATOR: &str = "operator-token-001";
const VIEWER: &str = "viewer-token-00001";
const STRANGER: &str = "stranger-token-001";

/// Which role a request needs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    Nothing,
    Gateway,
    Reading,
    Operator,
}

/// Every path that is served, and one under /v1 that is not.
const PATHS: [&str; 15] = [
    "/healthz",
    "/metrics",
    "/v3/discovery:routes",
    "/v3/discovery:listeners",
    "/v3/discovery:clusters",
    "/v1/routes",
    "/v1/routes/svc1",
    "/v1/routes/svc1/history",
    "/v1/routes/svc1/rollback",
    "/v1/routes/svc1/stable",
    "/v1/weights",
    "/v1/adopt",
    "/v1/gateways",
    "/v1/gateways/g1",
    "/v1/nothing",
];

fn needs(method: &str, path: &str) -> Needs {
    match (method, path) {
        (_, "/healthz" | "/metrics") => Needs::Nothing,
        (_, path) if path.starts_with("/v3") || path.ends_with("/report") => Needs::Gateway,
        ("GET" | "HEAD", _) => Needs::Reading,
        _ => Needs::Operator,
    }
}

async fn control(folder: &tempfile::TempDir, roles: &[(&str, &str)]) -> Local {
    let mut tokens = String::new();
    for (kind, token) in roles {
        let file = folder.path().join(kind);
        std::fs::write(&file, token).unwrap();
        tokens += &format!("  {kind}: [{{name: the-{kind}, file: {}}}]\n", file.display());
    }
    let text = format!("tokens:\n{tokens}{ROUTES}");
    Local::start(&config_text(&folder.path().join("state.json"), &text)).await
}

#[tokio::test(start_paused = true)]
async fn each_role_may_do_what_it_is_for_on_every_path_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let roles = [("gateway", GATEWAY), ("operator", OPERATOR), ("viewer", VIEWER)];
    let control = control(&folder, &roles).await;
    let mut paths: Vec<&str> = PATHS.to_vec();
    paths.push("/v1/gateways/g1/report");
    for path in paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            for token in [GATEWAY, OPERATOR, VIEWER, STRANGER, ""] {
                let value = format!("Bearer {token}");
                let headers = if token.is_empty() { vec![] } else { vec![("authorization", value.as_str())] };
                // A wish that is refused for its content: nothing is to change here.
                let answer = control.target.send(method, path, &headers, "[]").await.unwrap();
                let wanted = match (needs(method, path), token) {
                    (Needs::Nothing, _)
                    | (Needs::Gateway, GATEWAY)
                    | (Needs::Reading, VIEWER | OPERATOR)
                    | (Needs::Operator, OPERATOR) => None,
                    (Needs::Gateway | Needs::Operator, VIEWER) => Some(403),
                    _ => Some(401),
                };
                let refused = matches!(answer.status, 401 | 403).then_some(answer.status);
                assert_eq!(refused, wanted, "{method} {path} by {token}: {}", answer.text);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_viewer_reads_and_its_refusal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let roles = [("gateway", GATEWAY), ("operator", OPERATOR), ("viewer", VIEWER)];
    let control = control(&folder, &roles).await;
    let value = format!("Bearer {VIEWER}");
    let viewer = [("authorization", value.as_str())];
    for path in ["/v1/routes", "/v1/routes/svc1", "/v1/routes/svc1/history", "/v1/gateways"] {
        assert_eq!(control.target.send("GET", path, &viewer, "").await.unwrap().status, 200, "{path}");
    }
    let body = json!({"routes": {"svc1": "v2=10"}, "force": true}).to_string();
    let before = control.shared.with_core(|core| core.document().clone());
    let answer = control.target.send("POST", "/v1/weights", &viewer, &body).await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(
        answer.text.contains("`the-viewer` is a viewer's: it reads and changes nothing"),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("operator token") && !answer.text.contains(VIEWER), "{}", answer.text);
    assert_eq!(control.shared.with_core(|core| core.document().clone()), before);
}

#[tokio::test(start_paused = true)]
async fn without_viewer_tokens_reading_is_the_operators_and_without_any_it_is_open_to_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = control(&folder, &[("gateway", GATEWAY), ("operator", OPERATOR)]).await;
    assert_eq!(tokens.target.get("/v1/routes").await.status, 401);
    let value = format!("Bearer {OPERATOR}");
    let operator = [("authorization", value.as_str())];
    assert_eq!(tokens.target.send("GET", "/v1/routes", &operator, "").await.unwrap().status, 200);
    let folder = tempfile::tempdir().unwrap();
    let open = control(&folder, &[("viewer", VIEWER)]).await;
    assert_eq!(open.target.get("/v1/routes").await.status, 200);
    let value = format!("Bearer {VIEWER}");
    let viewer = [("authorization", value.as_str())];
    let answer = open.target.send("POST", "/v1/weights", &viewer, "{}").await.unwrap();
    assert_eq!(answer.status, 403, "who says that it is a viewer is one: {}", answer.text);
    let gateway = FakeGateway::fresh("g1");
    assert_ne!(gateway.ask(&open.target, 0).await.unwrap().status, 401);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_of_what_a_stranger_sends_to_an_open_path() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(&folder, &[("gateway", GATEWAY), ("operator", OPERATOR)]).await;
    let endless = "x".repeat(2 * control::api::MAX_BODY_BYTES);
    for (path, status) in [("/healthz", 200), ("/metrics", 200), ("/", 404)] {
        let answer = control.target.send("GET", path, &[], &endless).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
    assert_eq!(control.target.send("POST", "/healthz", &[], &endless).await.unwrap().status, 405);
}

#[tokio::test(start_paused = true)]
async fn what_names_a_build_is_bounded_and_has_no_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let control = Local::start(&config_text(&folder.path().join("state.json"), ROUTES)).await;
    let body = json!({"routes": {"svc1": "v2=30"}, "force": true, "timeout_ms": 1});
    assert_eq!(control.target.post("/v1/weights", &body).await.status, 200);
    let body =
        json!({"target": "v1", "build": format!("b\u{1b}[2J{}", "x".repeat(500_000)), "timeout_ms": 1});
    assert_eq!(control.target.post("/v1/routes/svc1/stable", &body).await.status, 200);
    let view = control.target.get("/v1/routes/svc1").await.json();
    let build = view["routes"][0]["build"].as_str().unwrap();
    assert!(build.len() <= 1_000 && !build.contains('\u{1b}'), "{} bytes", build.len());
}
