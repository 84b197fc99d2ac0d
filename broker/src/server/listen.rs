//! Accepting connections: TLS or plain, slow handshakes cut off, and an orderly end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// How long a TLS handshake or the headers of a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may live: who reads an answer byte by byte gives its place back in the end. Clients connect again.
const LIFETIME: Duration = Duration::from_secs(600);
/// Connections at once at most, whatever is configured: what a semaphore of this runtime counts.
const MOST: u32 = 1 << 20;
/// How long requests under way may take once the broker stops.
const FAREWELL: Duration = Duration::from_secs(20);

/// Reads TLS material.
///
/// # Errors
/// What is wrong with which file.
pub fn acceptor(tls: &Tls) -> Result<TlsAcceptor, String> {
    let explain = |path: &std::path::Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(&tls.certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| explain(&tls.certificates, &error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| explain(&tls.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| explain(&tls.certificates, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop` turns true, then lets requests under way finish. At most `most` connections are open at once; more wait
/// in the operating system's queue.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, most: usize, mut stop: watch::Receiver<bool>) {
    let most = u32::try_from(most).unwrap_or(u32::MAX).min(MOST);
    let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                tokio::spawn(attend(stream, peer, tls.clone(), router.clone(), stop.clone(), place));
            }
            // Out of file descriptors, most likely: they come back.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    // Every place is free again: every connection has ended.
    drop(tokio::time::timeout(FAREWELL, places.acquire_many(most)).await);
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

async fn attend(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    drop(stream.set_nodelay(true));
    match tls {
        None => converse(stream, peer, router, stop).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                converse(stream, peer, router, stop).await;
            }
        }
    }
}

/// HTTP/1.1 alone: each connection waits for one request head at a time, within [`PATIENCE`], and for nothing else.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
        () = tokio::time::sleep(LIFETIME) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(FAREWELL, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}
