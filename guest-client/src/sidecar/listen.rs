//! Accepting connections for probes and the local API: a bounded number at once, each for a bounded time. Whoever may connect and says
//! nothing takes places for a while, and never the descriptors that opening and putting away need.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// How long a connection may wait for the head of a request, also of the next one.
const HEAD: Duration = Duration::from_secs(10);
/// How long to wait where no connection can be accepted: descriptors come back.
const PAUSE: Duration = Duration::from_millis(50);

/// What a listener gives at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; more wait in the system's queue.
    pub connections: usize,
    /// How long one may live.
    pub lifetime: Duration,
}

/// A socket that connections come from.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves until the task is ended, each connection by the routes that it is given.
pub async fn serve<L: Listener>(listener: L, bounds: Bounds, routes: impl Fn(&L::Stream) -> Router + Send + 'static) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    // Nobody closes it.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.next().await {
            Ok(stream) => {
                let service = TowerToHyperService::new(routes(&stream));
                tokio::spawn(async move {
                    let mut builder = http1::Builder::new();
                    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
                    // How it ends is the other side's affair.
                    let _ = tokio::time::timeout(bounds.lifetime, builder.serve_connection(TokioIo::new(stream), service)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::io::{Read, Write};
    use std::time::Instant;

    #[test]
    fn connections_that_say_nothing_are_bounded_and_leave_in_the_end() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let bounds = Bounds { connections: 2, lifetime: Duration::from_secs(1) };
        let routes = Router::new().route("/", get(|| async { "here" }));
        let _entered = runtime.enter();
        runtime.spawn(serve(TcpListener::from_std(listener).unwrap(), bounds, move |_| routes.clone()));
        let idle: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let began = Instant::now();
        let mut late = std::net::TcpStream::connect(address).unwrap();
        late.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("here"), "{answer}");
        assert!(began.elapsed() >= Duration::from_secs(3), "two at once, a second each");
        drop(idle);
    }
}
