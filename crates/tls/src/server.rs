//! What a server shows: a certificate that is read again when its files change.
//!
//! Owns the reading of the pair and what is kept when a new pair is no good: the last good one stays in force,
//! because a port that closes itself is worse than an old certificate. It must never take half of a pair.
//! Next: `handshake.rs`.

use crate::{TlsError, protocols, provider};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Between two looks at the files. Polled because mounted secrets are swapped by symlinks and over network file
/// systems, where notifications are lost.
pub const POLL: Duration = Duration::from_secs(2);
/// Of one file: a long chain is a tenth of that.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A server that shows the certificate in `certificate_file` (then those between it and the CA) with the key in
/// `private_key_file`, and speaks HTTP/2 and HTTP/1.1.
///
/// # Errors
/// A file that cannot be read or holds something else, or a pair that does not belong together.
pub fn server_config(
    certificate_file: &Path,
    private_key_file: &Path,
) -> Result<Arc<ServerConfig>, TlsError> {
    build(&Files::read(certificate_file, private_key_file)?, certificate_file, private_key_file)
}

/// The certificate of one port, as it is now.
pub struct ServerCertificate {
    certificate_file: PathBuf,
    private_key_file: PathBuf,
    state: RwLock<State>,
}

struct State {
    config: Arc<ServerConfig>,
    // What was looked at last, good or not: the same bytes are not judged and not complained about again.
    seen: Seen,
}

#[derive(PartialEq)]
enum Seen {
    Read(Files),
    Unreadable(String),
}

#[derive(PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate")
            .field("certificate_file", &self.certificate_file)
            .finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// Reads the pair for the first time.
    ///
    /// # Errors
    /// As [`server_config`].
    pub fn load(certificate_file: &Path, private_key_file: &Path) -> Result<Arc<Self>, TlsError> {
        let files = Files::read(certificate_file, private_key_file)?;
        let config = build(&files, certificate_file, private_key_file)?;
        Ok(Arc::new(Self {
            certificate_file: certificate_file.to_owned(),
            private_key_file: private_key_file.to_owned(),
            state: RwLock::new(State { config, seen: Seen::Read(files) }),
        }))
    }

    /// What the next handshake shows.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Looks at the files once: true when another pair is in force now.
    ///
    /// # Errors
    /// What is wrong with new files, once for the same content; the last good pair stays.
    pub fn read_again(&self) -> Result<bool, TlsError> {
        let read = Files::read(&self.certificate_file, &self.private_key_file);
        let seen = |seen: &Seen| self.state.read().unwrap_or_else(PoisonError::into_inner).seen == *seen;
        let files = match read {
            Ok(files) => files,
            Err(error) => {
                let now = Seen::Unreadable(error.to_string());
                if seen(&now) {
                    return Ok(false);
                }
                self.state.write().unwrap_or_else(PoisonError::into_inner).seen = now;
                return Err(error);
            }
        };
        let now = Seen::Read(files);
        if seen(&now) {
            return Ok(false);
        }
        let Seen::Read(files) = &now else { return Ok(false) };
        let built = build(files, &self.certificate_file, &self.private_key_file);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.seen = now;
        state.config = built?;
        Ok(true)
    }

    /// Looks at the files for as long as the process runs. Connections that are open keep the pair they began with.
    pub async fn follow_files(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL).await;
            // A file system that hangs must not stop the port with it.
            let certificate = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || certificate.read_again()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    tracing::info!(file = %self.certificate_file.display(), "the certificate was changed");
                }
                Ok(Err(error)) => tracing::warn!(%error, "the last good certificate stays in force"),
                Err(error) => tracing::error!(%error, "the certificate files could not be looked at"),
            }
        }
    }
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self { certificate: read_file(certificate)?, key: read_file(key)? })
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|open| open.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

fn build(files: &Files, certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let unfit = |path: &Path, what: String, wanted: &'static str| TlsError::Pem {
        place: path.display().to_string(),
        what,
        wanted,
    };
    let wanted = "the CERTIFICATE of the server, then those between it and the CA";
    let chain = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unfit(certificate, error.to_string(), wanted))?;
    if chain.is_empty() {
        return Err(unfit(certificate, "there is no certificate in it".to_owned(), wanted));
    }
    let wanted = "the PRIVATE KEY of the certificate, not encrypted";
    let private = PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| {
        let what = match error {
            pem::Error::NoItemsFound => "there is no private key in it".to_owned(),
            other => other.to_string(),
        };
        unfit(key, what, wanted)
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|source| TlsError::Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        })?;
    config.alpn_protocols = protocols();
    Ok(Arc::new(config))
}
