//! The scripted backend against the raw client: both are written from the grammar, neither shares code with the gateway.

use super::*;
use crate::client::{RawClient, get, once};
use crate::wire::Framing;

#[tokio::test]
async fn a_backend_says_its_name_and_keeps_what_it_received() {
    let v1 = Upstream::start("v1").unwrap();
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    let answer = client.request("POST", "/a?b", &[("X-One", "1"), ("x-one", "2")], b"hello").await.unwrap();
    assert_eq!(answer.text(), r#"{"data":"This is service v1"}"#);
    assert_eq!(answer.header("X-V"), Some("v1"));
    client.get("/second").await.unwrap();
    let seen = v1.received();
    let first = seen.first().unwrap();
    assert_eq!(
        (first.method(), first.target(), first.body.as_slice()),
        ("POST", "/a?b", b"hello".as_slice())
    );
    assert_eq!(first.head.all("x-one").collect::<Vec<_>>(), ["1", "2"]);
    let raw = "POST /a?b HTTP/1.1\r\nhost: test\r\nX-One: 1\r\nx-one: 2\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(String::from_utf8_lossy(&first.raw), raw);
    assert!(first.complete);
    assert_eq!((v1.last().unwrap().connection, v1.last().unwrap().nth), (1, 2));
    assert_eq!(v1.seen().open(), 1);
}

#[tokio::test]
async fn chunks_and_trailers_go_both_ways() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::status(200).chunked(["ab", "cde"]).trailer("x-sum", "5"));
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    let chunks = "3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nx-end: yes\r\n\r\n";
    client
        .send(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"))
        .await
        .unwrap();
    let answer = client.response("POST").await.unwrap();
    assert_eq!((answer.framing, answer.text().as_str()), (Framing::Chunked, "abcde"));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "5".to_owned())]);
    let got = v1.last().unwrap();
    assert_eq!((got.body.as_slice(), got.body_len), (b"abcd".as_slice(), 4));
    assert_eq!(got.trailers, [("x-end".to_owned(), "yes".to_owned())]);
    assert!(got.raw.ends_with(chunks.as_bytes()));
}

#[tokio::test]
async fn interim_answers_come_first_and_a_body_is_asked_for() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::ok("done").interim(103, &[("link", "</a>")]));
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client
        .send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.head().await.unwrap().first_line, "HTTP/1.1 103 Early Hints");
    assert_eq!(client.head().await.unwrap().first_line, "HTTP/1.1 100 Continue");
    client.send("ok").await.unwrap();
    assert_eq!(client.response("PUT").await.unwrap().text(), "done");
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::status(413).before_body());
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    assert_eq!(client.response("PUT").await.unwrap().status, 413);
    assert!(!v1.last().unwrap().complete);
    client.send("late").await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status, 200);
    assert_eq!(v1.received().first().unwrap().body, b"late");
}

#[tokio::test]
async fn an_answer_waits_at_its_gates() {
    let v1 = Upstream::start("v1").unwrap();
    let (head, body) = (Gate::new(), Gate::new());
    let reply = Reply::ok("0123456789");
    let at = reply.head_len() + 4;
    v1.push(reply.after(&head).pause_at(at, &body));
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    head.until_arrived(1).await.unwrap();
    assert!(client.is_quiet());
    head.open();
    client.head().await.unwrap();
    assert_eq!(client.read(4).await.unwrap(), b"0123");
    body.until_arrived(1).await.unwrap();
    assert!(client.is_quiet());
    body.open();
    assert_eq!(client.read(6).await.unwrap(), b"456789");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_wait() {
    let v1 = Upstream::start("v1").unwrap();
    v1.push(Reply::ok("never").after(Gate::new()));
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    v1.until(|seen| seen.requests == 1).await.unwrap();
    client.abort().unwrap();
    let seen = v1.until(|seen| seen.closed == 1).await.unwrap();
    assert_eq!(seen.replies, 0);
}

#[tokio::test]
async fn close_reset_hang_and_cut_are_told_apart() {
    let v1 = Upstream::start("v1").unwrap();
    let text = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let whole = Reply::ok("0123456789");
    let cut = whole.head_len() + 3;
    let replies = [Reply::close(), Reply::reset(), whole.clone().cut_at(cut).end(End::Close)];
    let mut ends = Vec::new();
    for reply in replies {
        v1.push(reply);
        let mut client = RawClient::connect(v1.addr()).await.unwrap();
        client.send(text).await.unwrap();
        ends.push(client.read_to_end().await.map(|bytes| bytes.len()).map_err(|error| error.to_string()));
    }
    assert_eq!(ends.first().unwrap(), &Ok(0));
    assert!(ends.get(1).unwrap().as_ref().unwrap_err().contains("reset"), "{ends:?}");
    assert_eq!(ends.get(2).unwrap(), &Ok(cut));
    v1.push(Reply::hang());
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.send(text).await.unwrap();
    v1.until(|seen| seen.replies == 4).await.unwrap();
    assert!(client.is_quiet());
}

#[tokio::test]
async fn connections_end_after_so_many_requests_with_or_without_a_word() {
    let v1 = Upstream::start("v1").unwrap();
    for announce in [true, false] {
        v1.set_keep_alive(KeepAlive { max_requests: Some(2), idle: None, announce });
        let mut client = RawClient::connect(v1.addr()).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().header("connection"), None);
        let second = client.get("/").await.unwrap();
        assert_eq!(second.header("connection").is_some(), announce);
        client.closed().await.unwrap();
    }
}

#[tokio::test]
async fn idle_connections_end_when_told() {
    let v1 = Upstream::start("v1").unwrap();
    v1.set_keep_alive(KeepAlive { idle: Some(Duration::from_millis(20)), ..KeepAlive::default() });
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.get("/").await.unwrap();
    client.closed().await.unwrap();
}

#[tokio::test]
async fn a_stopped_backend_refuses_and_comes_back_on_the_same_port() {
    let mut v1 = Upstream::start("v1").unwrap();
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.get("/").await.unwrap();
    v1.stop();
    assert!(client.get("/").await.is_err());
    assert!(RawClient::connect(v1.addr()).await.is_err());
    assert!(!v1.is_up());
    v1.restart().unwrap();
    assert_eq!(get(v1.addr(), "/").await.unwrap().status, 200);
    assert_eq!(v1.seen().connections, 2);
}

#[tokio::test]
async fn an_upgraded_connection_comes_back_byte_for_byte() {
    let v1 = Upstream::start_with("v1", |_| Reply::upgrade_echo("websocket")).unwrap();
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    assert_eq!(client.request("GET", "/chat", &upgrade, b"").await.unwrap().status, 101);
    client.send([0x81, 0, 255]).await.unwrap();
    assert_eq!(client.read(3).await.unwrap(), [0x81, 0, 255]);
    client.half_close().await.unwrap();
    client.closed().await.unwrap();
}

#[tokio::test]
async fn odd_bytes_leave_as_they_are() {
    let odd = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    let v1 = Upstream::start_with("v1", move |_| Reply::raw(odd).end(End::Close)).unwrap();
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(client.read_to_end().await.unwrap(), odd.as_bytes());
}

#[tokio::test]
async fn no_body_follows_head_204_and_304() {
    let v1 = Upstream::start("v1").unwrap();
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    let head = client.request("HEAD", "/", &[], b"").await.unwrap();
    assert_eq!((head.header("content-length"), head.body_len), (Some("29"), 0));
    for status in [204, 304] {
        v1.push(Reply::status(status));
        assert_eq!(client.get("/").await.unwrap().header("content-length"), None);
    }
    assert_eq!(v1.seen().connections, 1);
    assert_eq!(once(v1.addr(), "GET", "/", &[], b"").await.unwrap().body_len, 29);
}

#[tokio::test]
async fn a_request_cut_in_its_body_is_recorded_as_cut() {
    let v1 = Upstream::start("v1").unwrap();
    let mut client = RawClient::connect(v1.addr()).await.unwrap();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    v1.until(|seen| seen.requests == 1).await.unwrap();
    client.half_close().await.unwrap();
    v1.until(|seen| seen.closed == 1).await.unwrap();
    let got = v1.last().unwrap();
    assert_eq!((got.complete, got.body.as_slice()), (false, b"abc".as_slice()));
    assert!(got.error.unwrap().contains("inside a body"));
}
