//! Handshakes over pipes: who is believed, what a changed file does, and what goes wrong in which words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tls::{ServerCertificate, TlsError, accept, client_config, connect, http1_only, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

struct Pair {
    certificate: String,
    key: String,
}

fn pair(name: &str) -> Pair {
    let CertifiedKey { cert, signing_key }: CertifiedKey<KeyPair> =
        generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Pair { certificate: cert.pem(), key: signing_key.serialize_pem() }
}

fn write(folder: &Path, pair: &Pair) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate, &pair.certificate).unwrap();
    std::fs::write(&key, &pair.key).unwrap();
    (certificate, key)
}

/// What both sides of one handshake say; `Ok` = the protocol that was agreed.
async fn shake(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    host: &str,
) -> (Result<Option<Vec<u8>>, TlsError>, Result<(), TlsError>) {
    let (here, there) = duplex(64 * 1024);
    let server = async {
        // Reads on, so that the client's alert is seen.
        let mut stream = accept(server, "the peer", there).await?;
        let _ = stream.write_all(b"x").await;
        let _ = stream.read(&mut [0; 1]).await;
        Ok(())
    };
    let client = async {
        let mut stream = connect(client, host, here).await?;
        // Only then has the server said all of its handshake.
        stream.read_exact(&mut [0; 1]).await.unwrap();
        Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    tokio::join!(client, server)
}

#[tokio::test]
async fn both_sides_agree_on_http2_unless_the_client_has_only_http1() {
    let folder = tempfile::tempdir().unwrap();
    let own = pair("localhost");
    let (certificate, key) = write(folder.path(), &own);
    let server = server_config(&certificate, &key).unwrap();
    let client = client_config(Some(&own.certificate)).unwrap();
    let (agreed, served) = shake(Arc::clone(&server), Arc::clone(&client), "localhost").await;
    assert_eq!(agreed.unwrap().as_deref(), Some(b"h2".as_slice()));
    served.unwrap();
    let (agreed, _) = shake(server, http1_only(&client), "localhost").await;
    assert_eq!(agreed.unwrap().as_deref(), Some(b"http/1.1".as_slice()));
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_for_another_name_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let own = pair("localhost");
    let (certificate, key) = write(folder.path(), &own);
    let server = server_config(&certificate, &key).unwrap();
    let stranger = client_config(Some(&pair("localhost").certificate)).unwrap();
    let (refused, _) = shake(Arc::clone(&server), stranger, "localhost").await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("not known here") && error.contains("name the CA"), "{error}");
    let client = client_config(Some(&own.certificate)).unwrap();
    let (refused, served) = shake(server, client, "10.0.0.1").await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("for another name"), "{error}");
    assert!(matches!(served, Err(TlsError::Handshake { .. }) | Ok(())), "{served:?}");
}

#[tokio::test]
async fn plain_http_on_either_side_is_told_as_that() {
    let folder = tempfile::tempdir().unwrap();
    let own = pair("localhost");
    let (certificate, key) = write(folder.path(), &own);
    let (mut here, there) = duplex(4_096);
    here.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let error = accept(server_config(&certificate, &key).unwrap(), "10.0.0.9", there).await.unwrap_err();
    assert!(matches!(error, TlsError::Plain { .. }), "{error}");
    assert!(error.to_string().contains("10.0.0.9 speaks no TLS"), "{error}");
    let (here, mut there) = duplex(4_096);
    there.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let client = client_config(Some(&own.certificate)).unwrap();
    let error = connect(client, "localhost", here).await.unwrap_err();
    assert!(error.to_string().contains("ask by http://"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let own = pair("localhost");
    let (certificate, key) = write(folder.path(), &own);
    let (_silent, there) = duplex(64);
    let error = accept(server_config(&certificate, &key).unwrap(), "p", there).await.unwrap_err();
    assert!(matches!(error, TlsError::Slow { .. }), "{error}");
    let (here, _silent) = duplex(4_096);
    let error = connect(client_config(Some(&own.certificate)).unwrap(), "h", here).await.unwrap_err();
    assert!(matches!(error, TlsError::Slow { .. }), "{error}");
}

#[tokio::test]
async fn a_changed_pair_counts_and_a_bad_one_keeps_the_last_good() {
    let folder = tempfile::tempdir().unwrap();
    let old = pair("localhost");
    let (certificate, key) = write(folder.path(), &old);
    let shown = ServerCertificate::load(&certificate, &key).unwrap();
    let believes = async |pair: &Pair| {
        let client = client_config(Some(&pair.certificate)).unwrap();
        shake(shown.current(), client, "localhost").await.0.is_ok()
    };
    assert!(!shown.read_again().unwrap(), "nothing has changed");
    let new = pair("localhost");
    // Half of a pair: the new certificate before its key.
    std::fs::write(&certificate, &new.certificate).unwrap();
    let error = shown.read_again().unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.contains("tls.crt"), "{error}");
    assert!(!shown.read_again().unwrap(), "told once");
    assert!(believes(&old).await && !believes(&new).await);
    std::fs::write(&key, &new.key).unwrap();
    assert!(shown.read_again().unwrap());
    assert!(believes(&new).await && !believes(&old).await);
    std::fs::remove_file(&key).unwrap();
    assert!(shown.read_again().is_err());
    assert!(!shown.read_again().unwrap(), "told once");
    assert!(believes(&new).await);
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_followed_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write(folder.path(), &pair("localhost"));
    let shown = ServerCertificate::load(&certificate, &key).unwrap();
    let first = shown.current();
    let follows = tokio::spawn(Arc::clone(&shown).follow_files());
    write(folder.path(), &pair("localhost"));
    while Arc::ptr_eq(&first, &shown.current()) {
        tokio::time::sleep(tls::POLL).await;
    }
    follows.abort();
}

#[test]
fn what_is_wrong_with_files_is_told_with_the_file_and_never_with_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let own = pair("localhost");
    let (certificate, key) = write(folder.path(), &own);
    let gone = folder.path().join("gone");
    let error = server_config(&gone, &key).unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("readable"), "{error}");
    for (certificate, key, why) in
        [(&key, &key, "no certificate"), (&certificate, &certificate, "no private key")]
    {
        let error = server_config(certificate, key).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("PEM"), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
    let other = tempfile::tempdir().unwrap();
    let (_, other_key) = write(other.path(), &pair("localhost"));
    assert!(matches!(server_config(&certificate, &other_key), Err(TlsError::Pair { .. })));
}
