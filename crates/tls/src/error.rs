//! What can be wrong with certificates, keys and handshakes, each with its cure.
//!
//! Owns the sentences; it must never repeat the content of a file. Next: `client.rs`.

use std::path::PathBuf;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{}: {source}; the file must exist and be readable by this process", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file or text without what belongs there.
    #[error("{place}: {what}; it must be PEM: {wanted}")]
    Pem {
        /// A file, or what the text is.
        place: String,
        /// What is wrong.
        what: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A certificate and a key that do not belong together.
    #[error(
        "{}: {source}; the certificate must be the first in {}, and the key the one that it was issued for",
        key.display(),
        certificate.display()
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The machine trusts nobody.
    #[error(
        "the machine has no CA certificates{why}; install them (Debian: ca-certificates), set SSL_CERT_FILE, or name \
         the CA of the other side"
    )]
    NoRoots {
        /// What was wrong with those that were found; empty when there were none.
        why: String,
    },
    /// A host that no certificate can be for.
    #[error("`{0}` is neither a host name nor an address, so no certificate can be for it")]
    Name(String),
    /// The other side's certificate is not believed.
    #[error("{host}: its certificate is not good: {what}; {cure}")]
    Untrusted {
        /// Who was asked.
        host: String,
        /// Why not.
        what: String,
        /// What to do.
        cure: &'static str,
    },
    /// The other side does not speak TLS.
    #[error("{peer} speaks no TLS here: {cure}")]
    Plain {
        /// Who.
        peer: String,
        /// What to do.
        cure: &'static str,
    },
    /// A handshake that came to nothing otherwise.
    #[error("{peer}: the TLS handshake failed: {source}")]
    Handshake {
        /// The other side.
        peer: String,
        /// Why.
        source: std::io::Error,
    },
    /// A handshake that took too long.
    #[error("{peer}: the TLS handshake did not end in time; is it TLS that is spoken there?")]
    Slow {
        /// The other side.
        peer: String,
    },
    /// The provider does not fit to the protocol versions; cannot happen with the one that is built in.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}
