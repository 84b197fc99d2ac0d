//! The client over TLS: a host is believed for the authorities that were named, and for no others.

use std::path::PathBuf;
use std::sync::Arc;

use connection::{Client, Endpoint, HttpError};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// Starts a server for `name` that says hello to everybody; gives its port and its certificate, PEM.
fn server(name: &str) -> (u16, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let (chain, secret) = (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_single_cert(chain, secret).unwrap()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
                let _ = stream.shutdown().await;
            }
        });
    });
    (port, certificate.pem())
}

fn client(port: u16, ca_file: Option<PathBuf>) -> Client {
    Client::new(&Endpoint { ca_file, ..Endpoint::new(&format!("https://localhost:{port}")) }).unwrap()
}

#[test]
fn a_host_is_believed_under_the_named_authority_only() {
    let folder = tempfile::tempdir().unwrap();
    let ((port, pem), (_, other_pem)) = (server("localhost"), server("localhost"));
    let (good, other) = (folder.path().join("good.pem"), folder.path().join("other.pem"));
    std::fs::write(&good, pem).unwrap();
    std::fs::write(&other, other_pem).unwrap();
    assert_eq!(client(port, Some(good)).get("/", None).unwrap().body, b"hello");
    for refused in [client(port, Some(other)).get("/", None), client(port, None).get("/", None)] {
        assert!(matches!(&refused, Err(HttpError::Unreachable { what, .. }) if what.contains("certificate")), "{refused:?}");
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (port, pem) = server("elsewhere.example");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let refused = client(port, Some(file)).get("/", None);
    assert!(
        matches!(&refused, Err(HttpError::Unreachable { what, .. }) if what.contains("NotValidForName") || what.contains("not valid for name")),
        "{refused:?}"
    );
}
