//! Who may speak to control.
//!
//! Owns the tokens, their files and variables; it must never log one, and never tell by its timing how much of one was right.
//! A file that cannot be read any more keeps its last good token: a broken deploy of a secret must not lock the
//! fleet out. Next: `api/`.

use gateway_config::control_config::{self as config, TokenSource};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Between two looks at the token files. Polled because mounted secrets are swapped by symlinks and over network
/// file systems, where notifications are lost.
pub const POLL: Duration = Duration::from_secs(2);
/// Shorter ones can be guessed.
pub const MIN_TOKEN_BYTES: usize = 16;
/// A token travels in one header line.
const MAX_TOKEN_BYTES: usize = 4_096;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Discovery and reports.
    Gateway,
    /// Everything that people do.
    Operator,
    /// Reading.
    Viewer,
}

/// Why a token file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not readable.
    #[error("token {name}: {}: {source}; the file must be readable by control", path.display())]
    Io {
        /// The token's name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Too short or too long.
    #[error(
        "token {name}: the first line of {} is {found} bytes long; write a random token of {MIN_TOKEN_BYTES} to \
         {MAX_TOKEN_BYTES} visible characters (`openssl rand -hex 32`)",
        path.display()
    )]
    Unfit {
        /// The token's name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Length of its first line.
        found: usize,
    },
    /// The variable is not set, or a line of it is too short or too long.
    #[error(
        "token {name}: the variable {variable} {why}; let it hold a random token of {MIN_TOKEN_BYTES} to \
         {MAX_TOKEN_BYTES} visible characters (`openssl rand -hex 32`), several one a line; in an ECS task definition \
         it is an entry of `secrets`, which the execution role must be allowed to read"
    )]
    Variable {
        /// The token's name.
        name: String,
        /// The variable.
        variable: String,
        /// What is wrong with it.
        why: String,
    },
}

struct Token {
    config: config::Token,
    /// Any of them is right; at least one.
    secrets: Vec<Vec<u8>>,
}

/// All tokens. A kind without any is open: control binds only loopback then.
pub struct Tokens {
    gateway: RwLock<Vec<Token>>,
    operator: RwLock<Vec<Token>>,
    viewer: RwLock<Vec<Token>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

/// Whether a request may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By the token of this name.
    Allowed(String),
    /// No token of this kind exists: open to loopback.
    Open,
    /// No token was sent.
    Missing,
    /// Another one.
    Wrong,
}

impl Tokens {
    /// Reads all files and variables.
    ///
    /// # Errors
    /// The first token that is missing or unfit.
    pub fn load(tokens: &config::Tokens) -> Result<Self, TokenError> {
        let load = |tokens: &[config::Token]| -> Result<_, TokenError> {
            let read = |config: &config::Token| Ok(Token { config: config.clone(), secrets: read(config)? });
            Ok(RwLock::new(tokens.iter().map(read).collect::<Result<Vec<_>, TokenError>>()?))
        };
        Ok(Self {
            gateway: load(&tokens.gateway)?,
            operator: load(&tokens.operator)?,
            viewer: load(&tokens.viewer)?,
        })
    }

    /// Judges an `authorization` header.
    pub fn judge(&self, kind: Kind, authorization: Option<&[u8]>) -> Verdict {
        let tokens = self.of(kind).read().unwrap_or_else(PoisonError::into_inner);
        if tokens.is_empty() {
            return Verdict::Open;
        }
        let Some(sent) = authorization.and_then(bearer) else { return Verdict::Missing };
        // Every token is compared, whichever is right.
        let mut right: Option<&Token> = None;
        for token in tokens.iter() {
            for secret in &token.secrets {
                if bool::from(secret.ct_eq(sent)) {
                    right = Some(token);
                }
            }
        }
        right.map_or(Verdict::Wrong, |token| Verdict::Allowed(token.config.name.clone()))
    }

    /// Looks whether files changed, for as long as control runs.
    pub async fn follow_files(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL).await;
            // A file system that hangs must not stop control with it.
            let tokens = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || tokens.read_again()).await {
                tracing::error!(%error, "the token files could not be looked at");
            }
        }
    }

    /// Takes over what changed in the files.
    pub fn read_again(&self) {
        for kind in [Kind::Gateway, Kind::Operator, Kind::Viewer] {
            let configs: Vec<config::Token> = {
                let tokens = self.of(kind).read().unwrap_or_else(PoisonError::into_inner);
                tokens.iter().map(|token| token.config.clone()).collect()
            };
            // The variables of a process do not change.
            for config in configs.iter().filter(|token| matches!(token.source, TokenSource::File(_))) {
                let secrets = match read(config) {
                    Ok(secrets) => secrets,
                    Err(error) => {
                        tracing::warn!(%error, "the last good token stays in force");
                        continue;
                    }
                };
                let mut tokens = self.of(kind).write().unwrap_or_else(PoisonError::into_inner);
                for token in tokens.iter_mut().filter(|token| token.config == *config) {
                    if token.secrets != secrets {
                        tracing::info!(token = config.name, "the token was changed");
                        token.secrets.clone_from(&secrets);
                    }
                }
            }
        }
    }

    fn of(&self, kind: Kind) -> &RwLock<Vec<Token>> {
        match kind {
            Kind::Gateway => &self.gateway,
            Kind::Operator => &self.operator,
            Kind::Viewer => &self.viewer,
        }
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn read(token: &config::Token) -> Result<Vec<Vec<u8>>, TokenError> {
    match &token.source {
        TokenSource::File(path) => Ok(vec![read_file(&token.name, path)?]),
        TokenSource::Env(variable) => read_lines(std::env::var(variable).ok().as_deref()).map_err(|why| {
            TokenError::Variable { name: token.name.clone(), variable: variable.clone(), why }
        }),
    }
}

/// The tokens in a variable's text.
fn read_lines(text: Option<&str>) -> Result<Vec<Vec<u8>>, String> {
    let text = text.ok_or("is not set")?;
    let lines: Vec<&[u8]> =
        text.lines().map(|line| line.trim().as_bytes()).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return Err("is empty".to_owned());
    }
    for (index, line) in lines.iter().enumerate() {
        if !is_fit(line) {
            return Err(format!("has {} bytes in its line {}", line.len(), index + 1));
        }
    }
    Ok(lines.into_iter().map(<[u8]>::to_vec).collect())
}

fn is_fit(secret: &[u8]) -> bool {
    (MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&secret.len()) && secret.iter().all(u8::is_ascii_graphic)
}

fn read_file(name: &str, path: &Path) -> Result<Vec<u8>, TokenError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|open| open.take(MAX_TOKEN_BYTES as u64 + 2).read_to_end(&mut bytes))
        .map_err(|source| TokenError::Io { name: name.to_owned(), path: path.to_owned(), source })?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    if !is_fit(line) {
        return Err(TokenError::Unfit { name: name.to_owned(), path: path.to_owned(), found: line.len() });
    }
    Ok(line.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(folder: &Path, name: &str, text: &str) -> config::Token {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        config::Token { name: name.to_owned(), source: TokenSource::File(file) }
    }

    fn load(gateway: &[config::Token], operator: &[config::Token]) -> Result<Tokens, TokenError> {
        Tokens::load(&config::Tokens {
            gateway: gateway.to_vec(),
            operator: operator.to_vec(),
            viewer: vec![],
        })
    }

    #[test]
    fn a_variable_holds_several_tokens_one_a_line_and_each_must_be_fit() {
        let two = read_lines(Some("an-old-token-00001\n\n  a-new-token-000001 \n")).unwrap();
        assert_eq!(two, [b"an-old-token-00001".to_vec(), b"a-new-token-000001".to_vec()]);
        for (text, why) in [
            (None, "not set"),
            (Some(" \n"), "empty"),
            (Some("an-old-token-00001\nshort"), "5 bytes in its line 2"),
        ] {
            let error = read_lines(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("short"), "{error}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_the_cure() {
        let source = TokenSource::Env("WEIR_TEST_NOT_SET".to_owned());
        let error = load(&[config::Token { name: "fleet".to_owned(), source }], &[]).unwrap_err().to_string();
        assert!(error.contains("WEIR_TEST_NOT_SET is not set") && error.contains("secrets"), "{error}");
    }

    #[test]
    fn a_token_is_good_only_for_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let gateway = token(folder.path(), "fleet", "gateway-token-0001\n");
        let operator = token(folder.path(), "alice", "operator-token-001\n");
        let tokens = load(&[gateway], &[operator]).unwrap();
        let sent = Some(b"Bearer operator-token-001".as_slice());
        assert_eq!(tokens.judge(Kind::Operator, sent), Verdict::Allowed("alice".to_owned()));
        assert_eq!(tokens.judge(Kind::Gateway, sent), Verdict::Wrong);
        assert_eq!(tokens.judge(Kind::Gateway, None), Verdict::Missing);
        assert_eq!(tokens.judge(Kind::Gateway, Some(b"Basic x")), Verdict::Missing);
    }

    #[test]
    fn several_tokens_of_one_kind_are_good_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let old = token(folder.path(), "old", "an-old-token-00001");
        let new = token(folder.path(), "new", "a-new-token-000001");
        let tokens = load(&[], &[old, new]).unwrap();
        for (sent, name) in [("bearer an-old-token-00001", "old"), ("Bearer a-new-token-000001", "new")] {
            let verdict = tokens.judge(Kind::Operator, Some(sent.as_bytes()));
            assert_eq!(verdict, Verdict::Allowed(name.to_owned()));
        }
    }

    #[test]
    fn a_changed_file_counts_and_a_lost_one_keeps_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = token(folder.path(), "fleet", "gateway-token-0001");
        let path = folder.path().join("fleet");
        let tokens = load(std::slice::from_ref(&file), &[]).unwrap();
        std::fs::write(&path, "gateway-token-0002").unwrap();
        tokens.read_again();
        assert_eq!(tokens.judge(Kind::Gateway, Some(b"Bearer gateway-token-0001")), Verdict::Wrong);
        std::fs::remove_file(&path).unwrap();
        tokens.read_again();
        let verdict = tokens.judge(Kind::Gateway, Some(b"Bearer gateway-token-0002"));
        assert_eq!(verdict, Verdict::Allowed("fleet".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_file_that_hangs_stops_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = token(folder.path(), "fleet", "gateway-token-0001\n");
        let path = folder.path().join("fleet");
        let tokens = Arc::new(load(std::slice::from_ref(&file), &[]).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let follows = tokio::spawn(Arc::clone(&tokens).follow_files());
        tokio::task::yield_now().await;
        tokio::time::advance(POLL).await;
        tokio::task::yield_now().await;
        // The reader hangs now; everything else goes on, so that this line is reached.
        let sent = Some(b"Bearer gateway-token-0001".as_slice());
        assert_eq!(tokens.judge(Kind::Gateway, sent), Verdict::Allowed("fleet".to_owned()));
        follows.abort();
        // A reader that hangs finds its end, one that comes later finds no file.
        let writer = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(writer);
    }

    #[test]
    fn a_short_or_missing_token_is_refused_by_name_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(&[token(folder.path(), "fleet", "short")], &[]).unwrap_err().to_string();
        assert!(error.contains("fleet") && error.contains("openssl") && !error.contains("short"), "{error}");
        let missing =
            config::Token { name: "gone".to_owned(), source: TokenSource::File(folder.path().join("none")) };
        assert!(load(&[missing], &[]).is_err());
    }
}
