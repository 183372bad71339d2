//! How an event leaves.
//!
//! Owns the tries, their time and their errors; it must never put a URL, or a part of one, into an error. Next: none.

use bytes::Bytes;
use gateway_config::control_config::WebhookUrl;
use gateway_config::model::Secret;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tls::rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// One try: name, connection, TLS, answer.
pub const TRY_PATIENCE: Duration = Duration::from_secs(5);
/// Before the second and the third try: a restart of the other side takes seconds.
const BACK_OFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Of a file with a URL.
const MAX_URL_BYTES: u64 = 4_096;

/// Why a try failed, and whether another one makes sense.
struct Failed {
    why: String,
    lasting: bool,
}

/// The URL, read anew each time: secrets are changed.
pub(super) fn url(from: &WebhookUrl) -> Result<Secret, String> {
    let (place, text) = match from {
        WebhookUrl::Given(secret) => return Ok(secret.clone()),
        WebhookUrl::File(path) => {
            let mut text = String::new();
            let read =
                std::fs::File::open(path).and_then(|open| open.take(MAX_URL_BYTES).read_to_string(&mut text));
            let place = format!("url_file {}", path.display());
            read.map_err(|error| format!("{place}: {error}; its first line must be the URL"))?;
            (place, text)
        }
        WebhookUrl::Env(variable) => {
            let place = format!("url_env {variable}");
            let text = std::env::var(variable)
                .map_err(|_| format!("{place}: the variable is not set; let it hold the URL"))?;
            (place, text)
        }
    };
    let line = text.lines().next().unwrap_or_default().trim();
    match line.parse::<Uri>() {
        Ok(uri) if uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {
            Ok(Secret(line.to_owned()))
        }
        _ => Err(format!("{place}: its first line is no URL that begins with https:// or http://")),
    }
}

/// Sends a body, three times at most.
pub(super) async fn deliver(url: &str, tls: Option<Arc<ClientConfig>>, body: Vec<u8>) -> Result<(), String> {
    let body = Bytes::from(body);
    let mut pauses = BACK_OFF.into_iter();
    loop {
        let tried = tokio::time::timeout(TRY_PATIENCE, one_try(url, tls.clone(), body.clone())).await;
        let failed = match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failed)) => failed,
            Err(_) => passing(format!("no answer within {} s", TRY_PATIENCE.as_secs())),
        };
        match pauses.next() {
            Some(pause) if !failed.lasting => tokio::time::sleep(pause).await,
            _ => return Err(failed.why),
        }
    }
}

async fn one_try(url: &str, tls: Option<Arc<ClientConfig>>, body: Bytes) -> Result<(), Failed> {
    let uri: Uri = url.parse().map_err(|_| lasting("its URL is not well formed"))?;
    let authority = uri.authority().ok_or_else(|| lasting("its URL has no host"))?;
    if authority.as_str().contains('@') {
        // It would travel in the Host header, where every proxy logs it.
        let why = "its URL has a user or a password in front of the host, which is not sent: use one whose path holds \
                   the secret";
        return Err(lasting(why));
    }
    let secure = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "weir-control")
        .body(Full::new(body))
        .map_err(|_| lasting("its URL is not well formed"))?;
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| passing(format!("no connection: {}", without(&error.to_string(), &host))))?;
    if !secure {
        return exchange(stream, request).await;
    }
    let config = match tls {
        Some(config) => config,
        None => tls::client_config(None).map_err(|error| lasting(&error.to_string()))?,
    };
    let shaken = tls::connect(tls::http1_only(&config), &host, stream).await;
    let stream = shaken.map_err(|error| passing(without(&error.to_string(), &host)))?;
    exchange(stream, request).await
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| passing(format!("the connection broke: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async { sender.send_request(request).await.map(|response| response.status()) };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    // Driven here, so that it ends with this function: nothing is kept open.
    let mut ended = false;
    let status = loop {
        tokio::select! {
            status = &mut answer => break status.map_err(broken)?,
            end = &mut connection, if !ended => {
                end.map_err(broken)?;
                ended = true;
            }
        }
    };
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_redirection() => {
            Err(lasting(&format!("it answers {status}: name the URL that it leads to")))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(passing(format!("it answers {status}")))
        }
        status if status.is_client_error() => {
            Err(lasting(&format!("it answers {status}: is its URL still good?")))
        }
        status => Err(passing(format!("it answers {status}"))),
    }
}

/// Hosts name tenants in some services: they are part of what is not shown.
fn without(text: &str, host: &str) -> String {
    text.replace(host, "its host")
}

fn lasting(why: &str) -> Failed {
    Failed { why: why.to_owned(), lasting: true }
}

fn passing(why: String) -> Failed {
    Failed { why, lasting: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_read_is_told_by_its_place_and_never_by_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        let from = WebhookUrl::File(file.clone());
        assert!(url(&from).unwrap_err().contains("first line must be the URL"));
        for wrong in ["", "hunter2", "ftp://hunter2/", "/hunter2"] {
            std::fs::write(&file, wrong).unwrap();
            let error = url(&from).unwrap_err();
            assert!(error.contains("https://") && !error.contains("hunter2"), "{error}");
        }
        std::fs::write(&file, "https://hooks.example/hunter2\nmore\n").unwrap();
        assert_eq!(url(&from).unwrap(), Secret("https://hooks.example/hunter2".to_owned()));
        let error = url(&WebhookUrl::Env("WEIR_TEST_NOT_SET".to_owned())).unwrap_err();
        assert!(error.contains("WEIR_TEST_NOT_SET") && error.contains("not set"), "{error}");
    }
}
