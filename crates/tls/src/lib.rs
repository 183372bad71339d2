//! TLS for both programs: whom a client believes, what a server shows, and the handshake between them.
//!
//! Owns the choice of rustls, its provider and its settings, so that every port and every connection of Weir has the
//! same; it must never turn verification off, and never show a private key. Reading order: [`TlsError`]
//! (`error.rs`), `client.rs`, `server.rs` (a certificate that is read again when its files change), `handshake.rs`
//! (bounded in time).

#![forbid(unsafe_code)]

mod client;
mod error;
mod handshake;
mod server;

pub use client::{client_config, http1_only, server_name};
pub use error::TlsError;
pub use handshake::{HANDSHAKE_PATIENCE, accept, connect};
pub use server::{POLL, ServerCertificate, server_config};

pub use rustls;
pub use tokio_rustls::{client::TlsStream as ClientStream, server::TlsStream as ServerStream};

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// RFC 9113 section 3.2 and RFC 7301 section 6: HTTP/2 where both sides have it, else HTTP/1.1.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The provider is named at each use and never installed for the process: two crates that install one race.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn protocols() -> Vec<Vec<u8>> {
    ALPN.iter().map(|name| name.to_vec()).collect()
}
