//! A link whose other side is silent, or refuses.

use super::*;
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
