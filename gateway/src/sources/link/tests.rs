//! A link whose other side is silent, or refuses.

use super::*;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::Instant;

fn control(url: String) -> Control {
    Control { url, token_file: None, token: None, ca_file: None, ca: None, state_dir: None, state_item: None }
}

/// Accepts connections and never says a word; how many came.
async fn silent() -> (String, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    tokio::task::spawn_local(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            seen.set(seen.get() + 1);
            kept.push(stream);
        }
    });
    (url, count)
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_given_up_after_35_seconds_whatever_is_spoken_on_it() {
    LocalSet::new()
        .run_until(async {
            let (url, connections) = silent().await;
            let link = Link::new(&control(url)).unwrap();
            for speaks in [Speaks::Http2(0), Speaks::Http1] {
                link.shared.speaks.set(speaks);
                let (begun, before) = (Instant::now(), connections.get());
                link.post("/", true, Vec::new()).await.unwrap_err();
                let took = begun.elapsed();
                assert!(took <= Duration::from_secs(36), "{speaks:?}: given up after {took:?}");
                assert!(
                    took >= Duration::from_secs(30),
                    "{speaks:?}: a held request was given up after {took:?}"
                );
                assert!(connections.get() > before, "{speaks:?}: a connection of its own");
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_answers_is_given_up_after_5_seconds() {
    LocalSet::new()
        .run_until(async {
            // 192.0.2.0/24 is for documentation: nobody is there (RFC 5737).
            let link = Link::new(&control("http://192.0.2.1:18000".to_owned())).unwrap();
            let begun = Instant::now();
            let error = link.post("/", true, Vec::new()).await.unwrap_err();
            assert!(
                begun.elapsed() <= Duration::from_secs(6),
                "given up after {:?}: {error}",
                begun.elapsed()
            );
        })
        .await;
}

#[test]
fn who_refuses_the_token_makes_its_place_known_and_not_the_token() {
    let mut control = control("http://control.test:18000".to_owned());
    let text = |control: &Control, status| Link::new(control).unwrap().refusal(status, b"no such token\n");
    let none = text(&control, StatusCode::UNAUTHORIZED);
    assert!(none.contains("this gateway has no token") && none.contains("no such token"), "{none}");
    control.token_file = Some("/run/token".to_owned());
    let file = text(&control, StatusCode::FORBIDDEN);
    assert!(file.contains("/run/token") && file.contains("read with each request"), "{file}");
    control.token = Some(Secret("s3cret".to_owned()));
    let variable = text(&control, StatusCode::UNAUTHORIZED);
    assert!(variable.contains("GATEWAY_TOKEN") && !variable.contains("s3cret"), "{variable}");
    let other = text(&control, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!other.contains("token is"), "{other}");
}

/// A control that speaks TLS and what was agreed on, and answers with the protocol that it was asked by. Its
/// certificate is the second value.
async fn secure(http1_only: bool) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut config = (*tls::server_config(&certificate, &key).unwrap()).clone();
    if http1_only {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = tls::accept(std::sync::Arc::clone(&config), "gateway", stream).await else {
                continue;
            };
            let version = |request: Request<Incoming>| async move {
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(format!(
                    "{:?} {}",
                    request.version(),
                    request.uri().path()
                )))))
            };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
            tokio::task::spawn_local(async move {
                let (io, service) = (TokioIo::new(stream), service_fn(version));
                let _ended = if http2 {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                };
            });
        }
    });
    (url, made.cert.pem())
}

#[tokio::test]
async fn a_control_with_tls_is_asked_by_what_both_speak() {
    LocalSet::new()
        .run_until(async {
            for (http1_only, answer) in [(false, "HTTP/2.0 /here"), (true, "HTTP/1.1 /here")] {
                let (url, certificate) = secure(http1_only).await;
                let mut control = control(url);
                control.ca = Some(certificate);
                let link = Link::new(&control).unwrap();
                for _ in 0..2 {
                    let (status, body) = link.post("/here", false, Vec::new()).await.unwrap();
                    assert_eq!((status, &body[..]), (StatusCode::OK, answer.as_bytes()));
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_believed() {
    LocalSet::new()
        .run_until(async {
            let ((url, _), (_, stranger)) = (secure(false).await, secure(false).await);
            let mut control = control(url);
            control.ca = Some(stranger);
            let error =
                Link::new(&control).unwrap().post("/", false, Vec::new()).await.unwrap_err().to_string();
            assert!(error.contains("TLS with control") && error.contains("issued by a CA"), "{error}");
        })
        .await;
}
