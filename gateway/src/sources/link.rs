//! The connection to control.
//!
//! Owns one HTTP/2 connection that everything shares, with pings, or one HTTP/1.1 connection per caller where
//! control (or what stands between) does not speak HTTP/2, and the token. It must never retry, since its callers have
//! their own rhythm, and never show the token. Next: `dialing.rs`, how a connection is made.

use super::dialing::{Dialer, Io};
use bytes::Bytes;
use gateway_config::model::{Control, Secret};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// A ping on the shared connection; with the time-out below a silent connection is given up after 35 s.
const PING: Duration = Duration::from_secs(25);
/// How long a ping may go unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Any answer takes less, for discovery is held for 30 s at most; so a connection by HTTP/1.1 is given up after the
/// same time as one with pings.
const ANSWER: Duration = Duration::from_secs(35);
/// Of a refusal, for logs.
const MAX_WORDS: usize = 300;
/// Most bytes of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Why control could not be asked. The text is for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct LinkError(String);

pub(super) fn failed(what: &str, why: impl std::fmt::Display) -> LinkError {
    LinkError(format!("{what}: {why}"))
}

/// Where control is, and the connection that callers share.
#[derive(Clone)]
pub struct Link {
    shared: Rc<Shared>,
    /// This caller's own, when control speaks HTTP/1.1 only.
    own: Rc<RefCell<Option<http1::SendRequest<Full<Bytes>>>>>,
}

struct Shared {
    dialer: Dialer,
    base: String,
    token: Option<Secret>,
    token_file: Option<String>,
    http2: RefCell<Option<http2::SendRequest<Full<Bytes>>>>,
    speaks: Cell<Speaks>,
}

/// What control, or what stands before it, is known to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// Nothing was answered yet: HTTP/2 is tried, then HTTP/1.1.
    Unknown,
    /// It answered by HTTP/2, and failed so many times in a row since.
    Http2(u32),
    /// It answered by HTTP/1.1 where HTTP/2 failed.
    Http1,
}

/// A control that answered by HTTP/2 is asked by HTTP/1.1 after so many failures over open connections: a proxy may
/// have come between.
const DOUBTS: u32 = 3;

impl Shared {
    /// Silence is a failure too: HTTP/2 that was never answered by now is followed by HTTP/1.1 at the next call.
    fn doubt(&self) {
        let next = match self.speaks.get() {
            Speaks::Http2(failures) => Speaks::Http2(failures.saturating_add(1)),
            Speaks::Unknown => Speaks::Http1,
            Speaks::Http1 => Speaks::Unknown,
        };
        self.speaks.set(next);
    }
}

impl Link {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL is not `http://host:port` or `https://host:port`, or the certificates cannot be used.
    pub fn new(control: &Control) -> Result<Self, LinkError> {
        let url: http::Uri = control.url.parse().map_err(|error| failed("the URL of control", error))?;
        let dialer = Dialer::new(&url, control)?;
        let shared = Shared {
            base: format!(
                "{}://{}{}",
                url.scheme_str().unwrap_or("http"),
                dialer.authority(),
                url.path().trim_end_matches('/')
            ),
            dialer,
            token: control.token.clone(),
            token_file: control.token_file.clone(),
            http2: RefCell::default(),
            speaks: Cell::new(Speaks::Unknown),
        };
        Ok(Self { shared: Rc::new(shared), own: Rc::default() })
    }

    /// A refusal in words, with where the token is when it is about the token.
    pub fn refusal(&self, status: StatusCode, body: &[u8]) -> String {
        let text: String = String::from_utf8_lossy(body).chars().take(MAX_WORDS).collect();
        let text = format!("control answers {status}: {}", text.trim());
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return text;
        }
        let cure = match (&self.shared.token, &self.shared.token_file) {
            (Some(_), _) => {
                "the token is in the variable GATEWAY_TOKEN, which is read at the start: put a gateway \
                             token of control into the secret, then start a new task"
                    .to_owned()
            }
            (None, Some(file)) => format!(
                "the token is in the file {file}, which is read with each request: put a gateway token of control into it"
            ),
            (None, None) => {
                "this gateway has no token: put a gateway token of control into the variable GATEWAY_TOKEN \
                             or name a file with control.token_file"
                    .to_owned()
            }
        };
        format!("{text}; {cure}")
    }

    /// For another caller: shares HTTP/2, has its own HTTP/1.1.
    pub fn another(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), own: Rc::default() }
    }

    /// Posts JSON and reads the whole answer.
    ///
    /// # Errors
    /// When control cannot be reached or does not answer in time.
    pub async fn post(
        &self,
        path: &str,
        hold: bool,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), LinkError> {
        let ask = async {
            let response = self.send(self.request(path, hold, body)?).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(|error| failed("the answer broke off", error))?.to_bytes()))
        };
        match tokio::time::timeout(ANSWER, ask).await {
            Ok(result) => result,
            Err(_) => {
                self.forget();
                self.shared.doubt();
                Err(failed("no answer", format!("within {} s", ANSWER.as_secs())))
            }
        }
    }

    /// The next call connects anew.
    fn forget(&self) {
        self.shared.http2.replace(None);
        self.own.replace(None);
    }

    fn request(&self, path: &str, hold: bool, body: Vec<u8>) -> Result<Request<Full<Bytes>>, LinkError> {
        let mut request = Request::post(format!("{}{path}", self.shared.base))
            .header(header::HOST, self.shared.dialer.authority())
            .header(header::CONTENT_TYPE, "application/json");
        if hold {
            request = request.header("prefer", "wait=30");
        }
        if let Some(token) = &self.shared.token {
            request = request.header(header::AUTHORIZATION, bearer(&token.0)?);
        } else if let Some(file) = &self.shared.token_file {
            // Read each time: a rotated token needs no restart.
            let text = std::fs::read_to_string(file)
                .map_err(|error| failed(&format!("token file {file}"), error))?;
            let token = text.lines().next().unwrap_or_default().trim();
            request = request.header(header::AUTHORIZATION, bearer(token)?);
        }
        request.body(Full::new(Bytes::from(body))).map_err(|error| failed("request", error))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, LinkError> {
        let speaks = self.shared.speaks.get();
        if speaks == Speaks::Http1 {
            // After a failure HTTP/2 gets its chance again: what stood between may be gone.
            let sent = self.send_http1(request).await;
            return sent.inspect_err(|_| self.shared.speaks.set(Speaks::Unknown));
        }
        let failure = match self.send_http2(request.clone()).await {
            Ok(response) => {
                self.shared.speaks.set(Speaks::Http2(0));
                return Ok(response);
            }
            Err(failure) => failure,
        };
        let failures = match (speaks, &failure) {
            // Nobody listens: that says nothing about what is spoken.
            (_, Failed::Connect(error)) => return Err(error.clone()),
            (Speaks::Http2(failures), _) => failures.saturating_add(1),
            (Speaks::Unknown | Speaks::Http1, _) => DOUBTS,
        };
        if failures < DOUBTS {
            self.shared.speaks.set(Speaks::Http2(failures));
            return Err(failure.into());
        }
        let Ok(response) = self.send_http1(request).await else { return Err(failure.into()) };
        tracing::info!(http2 = %LinkError::from(failure), "control answers by HTTP/1.1 where HTTP/2 fails");
        self.shared.speaks.set(Speaks::Http1);
        Ok(response)
    }

    async fn send_http2(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        let existing = self.shared.http2.borrow().clone().filter(|sender| !sender.is_closed());
        let mut sender = match existing {
            Some(sender) => sender,
            None => {
                let sender = self.open_http2().await?;
                self.shared.http2.replace(Some(sender.clone()));
                sender
            }
        };
        sender.send_request(request).await.map_err(|error| {
            self.shared.http2.replace(None);
            Failed::Exchange(failed("request to control", describe(&error)))
        })
    }

    async fn open_http2(&self) -> Result<http2::SendRequest<Full<Bytes>>, Failed> {
        let (io, http2) = self.shared.dialer.connect(true).await.map_err(Failed::Connect)?;
        if !http2 {
            return Err(Failed::Exchange(failed("TLS with control", "it offers HTTP/1.1 only")));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake::<TokioIo<Box<dyn Io>>, Full<Bytes>>(TokioIo::new(io))
            .await
            .map_err(|error| Failed::Exchange(failed("HTTP/2 with control", describe(&error))))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to control ended");
            }
        });
        Ok(sender)
    }

    async fn send_http1(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, LinkError> {
        let mut kept = self.own.borrow_mut().take();
        if let Some(sender) = &mut kept
            // The last answer was read to its end, so this is soon ready, or the connection is over.
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.open_http1().await?,
        };
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| failed("request to control", describe(&error)))?;
        self.own.replace(Some(sender));
        Ok(response)
    }

    async fn open_http1(&self) -> Result<http1::SendRequest<Full<Bytes>>, LinkError> {
        let (io, _) = self.shared.dialer.connect(false).await?;
        let handshake = http1::handshake(TokioIo::new(io)).await;
        let (sender, connection) =
            handshake.map_err(|error| failed("HTTP/1.1 with control", describe(&error)))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to control ended");
            }
        });
        Ok(sender)
    }
}

/// A header that neither logs nor HPACK tables show.
fn bearer(token: &str) -> Result<HeaderValue, LinkError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| failed("the token for control", "it holds characters that no header may carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where an exchange by HTTP/2 ended.
enum Failed {
    /// Before the first byte.
    Connect(LinkError),
    /// After it.
    Exchange(LinkError),
}

impl From<Failed> for LinkError {
    fn from(failure: Failed) -> Self {
        match failure {
            Failed::Connect(error) | Failed::Exchange(error) => error,
        }
    }
}

fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
