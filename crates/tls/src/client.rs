//! Whom a client believes.
//!
//! Owns the choice between the machine's CAs and a named one. It must never believe both at once: who names a CA
//! means that one. Next: `handshake.rs`.

use crate::{TlsError, protocols, provider};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// A client that offers HTTP/2 and HTTP/1.1, and believes the CAs in `ca_pem`, or without it those of the machine
/// (`SSL_CERT_FILE` and `SSL_CERT_DIR` count as everywhere).
///
/// # Errors
/// [`TlsError::Pem`] for a text without a usable certificate, [`TlsError::NoRoots`] on a machine without any.
pub fn client_config(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match ca_pem {
        Some(pem) => named_roots(pem)?,
        None => machine_roots()?,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols();
    Ok(Arc::new(config))
}

/// The same client for who speaks HTTP/1.1 only.
pub fn http1_only(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The name that a certificate of `host` must carry: a host name, or an address with or without brackets.
///
/// # Errors
/// [`TlsError::Name`].
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

fn named_roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let unfit = |what: String| TlsError::Pem {
        place: "the CA".to_owned(),
        what,
        wanted: "one or more CERTIFICATE sections",
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| unfit(error.to_string()))?;
        roots.add(certificate).map_err(|error| unfit(error.to_string()))?;
    }
    if roots.is_empty() { Err(unfit("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

fn machine_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some machines have a CA that is older than today's rules: the others count.
    let (good, bad) = roots.add_parsable_certificates(found.certs);
    if bad > 0 {
        tracing::debug!(good, bad, "CA certificates of the machine");
    }
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(TlsError::NoRoots { why });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_that_is_none_is_named_with_what_belongs_there() {
        for (text, why) in [
            ("", "no certificate"),
            ("hello", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "the CA:"),
            ("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "the CA:"),
        ] {
            let error = client_config(Some(text)).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("CERTIFICATE sections"), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_is_a_host_or_an_address() {
        for good in ["localhost", "weir.example.com", "10.0.0.1", "::1", "[::1]"] {
            assert!(server_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "[x"] {
            assert!(server_name(bad).unwrap_err().to_string().contains("no certificate"), "{bad}");
        }
    }
}
