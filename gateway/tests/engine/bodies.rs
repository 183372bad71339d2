//! Bodies both ways, whatever their framing, and back-pressure.

use crate::common::{Setup, chunked, pattern, until};
use testkit::upstream::{Gate, Reply, Upstream};
use testkit::wire::Framing;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_body_with_a_length_goes_up_and_down_byte_for_byte() {
    let v1 = Upstream::start_with("v1", |_| Reply::echo()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for length in [1, 1000, 70_000, 5 * MIB] {
        let body = pattern(length);
        let answer = client.request("POST", "/", &[], &body).await.unwrap();
        assert_eq!((answer.status, answer.framing), (200, Framing::Length(length as u64)));
        assert!(answer.body == body, "{length} bytes");
    }
    let received = v1.received();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|r| r.complete && r.header("transfer-encoding").is_none()));
    let log = gateway.log(4).await;
    assert_eq!(
        (log[3]["bytes_received"].as_u64(), log[3]["bytes_sent"].as_u64()),
        (Some(5 << 20), Some(5 << 20))
    );
}

#[tokio::test]
async fn a_chunked_body_stays_chunked_both_ways_and_loses_its_extensions() {
    let body = pattern(3 * MIB);
    let answer = Reply::status(200).chunked(body.chunks(50_000));
    let v1 = Upstream::start_with("v1", move |_| answer.clone()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n")
        .await
        .unwrap();
    client.send(chunked(&body, 70_000)).await.unwrap();
    let answer = client.response("POST").await.unwrap();
    assert_eq!(answer.framing, Framing::Chunked);
    assert!(answer.body == body);
    let received = v1.last().unwrap();
    assert_eq!(received.header("transfer-encoding"), Some("chunked"));
    assert!(received.body.starts_with(b"hello") && received.body[5..] == body);
    assert!(!String::from_utf8_lossy(&received.raw).contains("a=\"b\""));
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_becomes_chunked_and_the_client_stays() {
    let body = pattern(2 * MIB);
    let answer = Reply::status(200).until_close(body.clone());
    let v1 = Upstream::start_with("v1", move |_| answer.clone()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.framing), (200, Framing::Chunked));
        assert!(answer.body == body);
    }
    assert_eq!(v1.seen().connections, 2, "such a connection is not used again");
}

#[tokio::test]
async fn an_answer_arrives_piece_by_piece_as_the_backend_sends_it() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    let answer = Reply::status(200).chunked(["first", "second"]);
    v1.push(answer.clone().pause_at(answer.head_len() + "5\r\nfirst\r\n".len(), &gate));
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    client.head().await.unwrap();
    assert_eq!(client.read(10).await.unwrap(), b"5\r\nfirst\r\n");
    assert!(client.is_quiet());
    gate.open();
    assert_eq!(client.read(16).await.unwrap(), b"6\r\nsecond\r\n0\r\n\r\n".as_slice()[..16]);
}

#[tokio::test]
async fn a_request_body_arrives_piece_by_piece_as_the_client_sends_it() {
    let v1 = Upstream::start_with("v1", |_| Reply::echo()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 11\r\n\r\nhello").await.unwrap();
    v1.until(|seen| seen.requests == 1).await.unwrap();
    until("the first piece", async || v1.last().filter(|r| r.body == b"hello")).await;
    client.send(" world").await.unwrap();
    assert_eq!(client.response("POST").await.unwrap().body, b"hello world");
}

#[tokio::test]
async fn clients_that_do_not_read_stop_their_backend_and_cost_bounded_memory() {
    // More than the socket buffers of both hops take in.
    const SLOW: usize = 24;
    const BODY: usize = 24 * MIB;
    let body = pattern(BODY);
    let answer = Reply::ok(body.clone());
    let v1 =
        Upstream::start_with("v1", move |r| if r.target() == "/" { answer.clone() } else { Reply::ok("x") })
            .unwrap();
    let gateway = Setup::to(&v1).start().await;
    gateway.get("/warm").await;
    let before = gateway.resident();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = gateway.client().await;
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        client.head().await.unwrap();
        slow.push(client);
    }
    // Others are served meanwhile, and give the slow ones' bytes time to arrive.
    let mut other = gateway.client().await;
    for _ in 0..300 {
        assert_eq!(other.get("/other").await.unwrap().status, 200);
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < (SLOW * 300 * 1024) as u64, "{} KiB for {SLOW} slow clients", grown / 1024);
    let seen = v1.seen();
    assert!(seen.replies < 301 + SLOW as u64, "backends of slow clients were not stopped: {seen:?}");
    for mut client in slow {
        assert!(client.read(BODY).await.unwrap() == body);
    }
}

#[tokio::test]
async fn a_backend_that_does_not_read_stops_its_client() {
    let v1 = Upstream::start("v1").unwrap();
    let gate = Gate::new();
    // Answers nothing and reads nothing of the body until the gate opens.
    v1.push(Reply::ok("done").before_body().after(&gate));
    let gateway = Setup::to(&v1).start().await;
    let before = gateway.resident();
    let mut client = gateway.client().await;
    let length = 64 * MIB;
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n")).await.unwrap();
    gate.until_arrived(1).await.unwrap();
    let chunk = pattern(MIB);
    let mut sent = 0;
    // The kernel's buffers and the backend's 256 KiB take a few MiB, then sending stalls.
    while sent < 64 {
        let stalled = tokio::time::timeout(std::time::Duration::from_millis(300), client.send(&chunk)).await;
        if stalled.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 40, "{sent} MiB were taken of a body that nobody reads");
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{} KiB", grown / 1024);
}

#[tokio::test]
async fn trailers_are_dropped_by_default() {
    let v1 =
        Upstream::start_with("v1", |_| Reply::status(200).chunked(["hi"]).trailer("x-sum", "1")).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-req: 1\r\n\r\n")
        .await
        .unwrap();
    let answer = client.response("POST").await.unwrap();
    assert_eq!((answer.body.as_slice(), answer.trailers.len()), (b"hi".as_slice(), 0));
    assert!(v1.last().unwrap().trailers.is_empty());
    assert_eq!(client.get("/").await.unwrap().status, 200, "what follows is read right");
}

#[tokio::test]
async fn trailers_pass_both_ways_when_enabled() {
    let v1 =
        Upstream::start_with("v1", |_| Reply::status(200).chunked(["hi"]).trailer("x-sum", "1")).unwrap();
    let gateway = Setup::to(&v1).manager("http_protocol_options: {enable_trailers: true}").start().await;
    let mut client = gateway.client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-req: 1\r\n\r\n")
        .await
        .unwrap();
    let answer = client.response("POST").await.unwrap();
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    assert_eq!(v1.last().unwrap().trailers, [("x-req".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let v1 = Upstream::start_with("v1", |r| match r.target() {
        "/204" => Reply::status(204),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\netag: \"a\"\r\n\r\n"),
        "/head" => Reply::ok("123456789"),
        "/chunked" => Reply::status(200).chunked(["abc"]),
        _ => Reply::ok("ok"),
    })
    .unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    let answer = client.get("/204").await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    let answer = client.get("/304").await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (304, Some("9")));
    let answer = client.request("HEAD", "/head", &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("9")));
    let answer = client.request("HEAD", "/chunked", &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(client.get("/last").await.unwrap().body, b"ok");
    assert_eq!(v1.seen().connections, 1, "all of it on one upstream connection");
}

#[tokio::test]
async fn interim_answers_are_swallowed() {
    let v1 = Upstream::start_with("v1", |_| {
        Reply::ok("ok").interim(100, &[]).interim(103, &[("link", "</a.css>")])
    })
    .unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.interim.len(), answer.body.as_slice()), (200, 0, b"ok".as_slice()));
    }
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_at_once_and_the_backend_is_not_asked() {
    let v1 = Upstream::start_with("v1", |_| Reply::echo()).unwrap();
    let gateway = Setup::to(&v1).start().await;
    let mut client = gateway.client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    let interim = client.head().await.unwrap();
    assert_eq!(interim.first_line, "HTTP/1.1 100 Continue");
    client.send("body").await.unwrap();
    assert_eq!(client.response("POST").await.unwrap().body, b"body");
    assert_eq!(v1.last().unwrap().header("expect"), None);
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_route_timeout() {
    let hang_or_echo =
        |r: &testkit::upstream::Received| if r.target() == "/hang" { Reply::hang() } else { Reply::echo() };
    let v1 = Upstream::start_with("v1", hang_or_echo).unwrap();
    let gateway =
        Setup::new().cluster("v1", &[v1.addr()], "").everything_to("v1", "timeout: 0.2s").start().await;
    let mut client = gateway.client().await;
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    v1.until(|seen| seen.requests == 1).await.unwrap();
    // Twice the timeout, measured by the gateway's own clock: another request runs into it meanwhile.
    for _ in 0..2 {
        assert_eq!(gateway.get("/hang").await.status, 504);
    }
    client.send("body").await.unwrap();
    assert_eq!(client.response("POST").await.unwrap().status, 200);
}
