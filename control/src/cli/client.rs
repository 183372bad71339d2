//! The CLI's side of the REST API.
//!
//! Owns one request at a time over one connection; it must never print. Next: `mod.rs`.

use super::{Failure, Global};
use crate::rest::ErrorBody;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls::{TlsError, rustls::ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest answer: a history of a thousand changes is under one.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// A control that does not accept within this is not there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// An answer may take as long as its change waits, and this.
const ANSWER_SLACK: Duration = Duration::from_secs(45);

/// The variable whose text is the CA to believe.
const CA_VARIABLE: &str = "CONTROL_CA";
/// The variable that holds the token, when nothing else is said.
const TOKEN_VARIABLE: &str = "CONTROL_TOKEN";

/// Where control is and who asks.
#[derive(Clone)]
pub struct Client {
    authority: String,
    host: String,
    /// None = plain HTTP.
    tls: Option<Arc<ClientConfig>>,
    shown: String,
    token: Option<String>,
    actor: String,
}

impl Client {
    /// Reads the address, the CA and the token.
    pub(super) fn new(global: &Global) -> Result<Self, Failure> {
        let url = &global.url;
        let usage =
            |what: String| Failure::usage(what, "write --url http://HOST:18000, or https:// with TLS");
        let uri: Uri = url.parse().map_err(|error| usage(format!("--url {url}: {error}")))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(scheme) => {
                return Err(usage(format!("--url {url}: {scheme} is not spoken here, only http and https")));
            }
            None => return Err(usage(format!("--url {url}: no http:// or https:// in front"))),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(usage(format!(
                "--url {url}: control answers at the root of its port, not under a path"
            )));
        }
        let authority = uri.authority().ok_or_else(|| usage(format!("--url {url}: no host")))?;
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self {
            shown: url.trim_end_matches('/').to_owned(),
            authority: format!("{}:{port}", authority.host()),
            host: authority.host().to_owned(),
            tls: if secure { Some(trust(global.ca_file.as_ref())?) } else { None },
            token: token(global)?,
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
        match &self.tls {
            None => self.exchange_over(stream, request).await,
            Some(config) => {
                let shaken = tls::connect(Arc::clone(config), &self.host, stream).await;
                let stream = shaken.map_err(|error| Failure::error(error.to_string(), tls_cure(&error)))?;
                self.exchange_over(stream, request).await
            }
        }
    }

    async fn exchange_over<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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
            if self.tls.is_some() {
                "is `control serve` running there? --url or CONTROL_URL names another one"
            } else {
                "is `control serve` running there? --url or CONTROL_URL names another one; with `tls` in its \
                 configuration it is asked by https://"
            },
        )
    }
}

fn tls_cure(error: &TlsError) -> &'static str {
    match error {
        TlsError::Plain { .. } | TlsError::Slow { .. } => {
            "write --url http://... (or CONTROL_URL) when `tls` is not in control's configuration"
        }
        _ => {
            "name the CA of control's certificate by --ca-file or CONTROL_CA (PEM), and ask by a name that the \
             certificate has"
        }
    }
}

/// The CA of --ca-file, else the text of CONTROL_CA, else those of the machine.
fn trust(file: Option<&PathBuf>) -> Result<Arc<ClientConfig>, Failure> {
    let cure = "it must hold the CA of control's certificate in PEM";
    let pem = match file {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .map_err(|error| Failure::usage(format!("--ca-file {}: {error}", file.display()), cure))?,
        ),
        None => std::env::var(CA_VARIABLE).ok().filter(|text| !text.trim().is_empty()),
    };
    let config =
        tls::client_config(pem.as_deref()).map_err(|error| Failure::usage(error.to_string(), cure))?;
    Ok(tls::http1_only(&config))
}

/// The token of --token-file, else of the variable that --token-env names, else of CONTROL_TOKEN.
fn token(global: &Global) -> Result<Option<String>, Failure> {
    let (place, text) = match (&global.token_file, &global.token_env) {
        (Some(file), _) => {
            let place = format!("--token-file {}", file.display());
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::usage(format!("{place}: {error}"), "its first line is the token")
            })?;
            (place, text)
        }
        (None, Some(name)) => {
            let text = std::env::var(name).map_err(|_| {
                let cure = "set it to the token, or name the variable that holds it";
                Failure::usage(format!("--token-env {name}: the variable is not set"), cure)
            })?;
            (format!("--token-env {name}"), text)
        }
        (None, None) => match std::env::var(TOKEN_VARIABLE) {
            Ok(text) if !text.trim().is_empty() => (TOKEN_VARIABLE.to_owned(), text),
            _ => return Ok(None),
        },
    };
    // A variable may hold several, for a change of tokens: any of them is good.
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(token) => Ok(Some(token.to_owned())),
        None => Err(Failure::usage(format!("{place} is empty"), "its first line is the token")),
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

    fn client(url: &str) -> Result<Client, Failure> {
        let global =
            Global { url: url.to_owned(), token_file: None, token_env: None, ca_file: None, json: false };
        Client::new(&global)
    }

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for (good, authority) in [
            ("http://localhost:18000", "localhost:18000"),
            ("http://10.0.0.1:18000/", "10.0.0.1:18000"),
            ("http://[::1]:1", "[::1]:1"),
            ("http://weir", "weir:80"),
        ] {
            assert_eq!(client(good).ok().unwrap().authority, authority);
        }
        for (bad, why) in [
            ("http://h:1/v1", "under a path"),
            ("http://h:1/?a=b", "under a path"),
            ("ftp://h:1", "only http and https"),
            ("h:1", "is not spoken"),
        ] {
            let failure = client(bad).err().unwrap();
            assert!(failure.error.contains(bad), "{}", failure.error);
            assert!(failure.error.contains(why) || bad == "h:1", "{}", failure.error);
        }
    }

    #[test]
    fn a_ca_file_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        for (text, why) in [(None, "No such file"), (Some("hello"), "no certificate in it")] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let failure = trust(Some(&file)).err().unwrap();
            assert!(failure.error.contains(why) && failure.cure.contains("PEM"), "{}", failure.error);
        }
    }
}
