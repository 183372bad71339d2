//! The CLI's side of the REST API.
//!
//! Owns one request at a time over one connection; it must never print. Next: `mod.rs`.

use super::Failure;
use crate::rest::ErrorBody;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest answer: a history of a thousand changes is under one.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// A control that does not accept within this is not there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// An answer may take as long as its change waits, and this.
const ANSWER_SLACK: Duration = Duration::from_secs(45);

/// Where control is and who asks.
#[derive(Clone)]
pub struct Client {
    authority: String,
    shown: String,
    token: Option<String>,
    actor: String,
}

impl Client {
    /// Reads the address and the token.
    pub fn new(url: &str, token_file: Option<&PathBuf>) -> Result<Self, Failure> {
        let usage = |what: String| Failure::usage(what, "write --url http://HOST:18000");
        let uri: Uri = url.parse().map_err(|error| usage(format!("--url {url}: {error}")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(scheme) => {
                return Err(usage(format!("--url {url}: {scheme} is not spoken here, only http")));
            }
            None => return Err(usage(format!("--url {url}: no http:// in front"))),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(usage(format!(
                "--url {url}: control answers at the root of its port, not under a path"
            )));
        }
        let authority = uri.authority().ok_or_else(|| usage(format!("--url {url}: no host")))?;
        let authority =
            if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
        Ok(Self {
            shown: url.trim_end_matches('/').to_owned(),
            authority,
            token: token(token_file)?,
            actor: actor(),
        })
    }

    /// Asks, and reads the answer's JSON.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        patience: Duration,
    ) -> Result<serde_json::Value, Failure> {
        let request = self.request(method, path, body)?;
        let exchange = tokio::time::timeout(patience + ANSWER_SLACK, self.exchange(request)).await;
        let (status, bytes) =
            exchange.map_err(|_| self.unreachable("it did not answer in time".to_owned()))??;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| {
                Failure::error(
                    format!("{}: the answer is not JSON: {error}", self.shown),
                    "is this a control?",
                )
            });
        }
        let body: ErrorBody = serde_json::from_slice(&bytes).unwrap_or_default();
        let error = if body.error.is_empty() { format!("{}: {status}", self.shown) } else { body.error };
        let usage = matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
        Err(if usage { Failure::usage(error, body.cure) } else { Failure::error(error, body.cure) })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-actor", &self.actor);
        if let Some(token) = &self.token {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = body.map(serde_json::Value::to_string).unwrap_or_default();
        builder.body(Full::new(Bytes::from(bytes))).map_err(|error| {
            Failure::usage(
                format!("the request cannot be made: {error}"),
                "check names and token for odd characters",
            )
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let connect = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(&self.authority)).await;
        let stream = connect
            .map_err(|_| self.unreachable("no connection in time".to_owned()))?
            .map_err(|error| self.unreachable(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error.to_string()))?;
        let driver = tokio::spawn(connection);
        let response =
            sender.send_request(request).await.map_err(|error| self.unreachable(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        driver.abort();
        Ok((status, body.map_err(|error| self.unreachable(error.to_string()))?.to_bytes()))
    }

    fn unreachable(&self, why: String) -> Failure {
        Failure::error(
            format!("{}: {why}", self.shown),
            "is `control serve` running there? --url or CONTROL_URL names another one",
        )
    }
}

/// The token of --token-file, else of CONTROL_TOKEN.
fn token(file: Option<&PathBuf>) -> Result<Option<String>, Failure> {
    let Some(file) = file else {
        return Ok(std::env::var("CONTROL_TOKEN").ok().filter(|token| !token.trim().is_empty()));
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("--token-file {}: {error}", file.display()), "its first line is the token")
    })?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(Some(token.to_owned())),
        _ => Err(Failure::usage(
            format!("--token-file {} is empty", file.display()),
            "its first line is the token",
        )),
    }
}

/// `user@host`, as history shows it.
fn actor() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
    format!("{user}@{host}").chars().filter(char::is_ascii_graphic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for good in ["http://localhost:18000", "http://10.0.0.1:18000/", "http://[::1]:1"] {
            assert!(Client::new(good, None).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://h:1/v1", "under a path"),
            ("http://h:1/?a=b", "under a path"),
            ("https://h:1", "only http"),
            ("h:1", "is not spoken"),
        ] {
            let failure = Client::new(bad, None).err().unwrap();
            assert!(failure.error.contains(bad), "{}", failure.error);
            assert!(failure.error.contains(why) || bad == "h:1", "{}", failure.error);
        }
    }
}
