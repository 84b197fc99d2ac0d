//! The socket: connections are judged as they come, and neither the workload nor a stranger can take all places.

use std::io;
use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use protocol::ids::Name;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::authority::Authority;
use super::generated::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use super::peer::{Callers, Stranger};
use super::service::WorkloadApi;
use crate::identity::view::View;
use crate::seldom::Seldom;

/// Connections of the workload at a time: each of its processes may have some.
const CONNECTIONS: usize = 256;
/// Connections of strangers at a time: they get one answer, which is no.
const STRANGERS: usize = 16;
/// Streams at a time on a connection.
const STREAMS: u32 = 128;
/// The largest message (bytes): a token that is to be validated.
const MESSAGE: usize = 64 * 1024;
/// The largest head of a request (bytes).
const HEAD: u32 = 16 * 1024;
/// A connection whose other end has gone without a word is noticed after this and as long again.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// The wait after a failed `accept`, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who a connection is from, as every request on it finds it.
#[derive(Clone, Debug)]
pub struct Caller(pub Result<(), Stranger>);

/// Serves the Workload API of one identity until the task is ended.
///
/// # Errors
/// The system's.
pub fn serve(socket: UnixListener, callers: Callers, view: View) -> io::Result<JoinHandle<()>> {
    socket.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(socket)?;
    let policy = view.policy.clone();
    let service = SpiffeWorkloadApiServer::new(WorkloadApi::new(view)).max_decoding_message_size(MESSAGE);
    let (sender, connections) = mpsc::channel(1);
    let accepting = accept(listener, callers, policy.clone(), sender);
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEAD)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(connections));
    Ok(tokio::spawn(async move {
        let (served, ()) = tokio::join!(serving, accepting);
        if let Err(error) = served {
            tracing::error!(identity = %policy, %error, "the Workload API has ended");
        }
    }))
}

async fn accept(listener: tokio::net::UnixListener, callers: Callers, policy: Name, connections: mpsc::Sender<io::Result<Connection>>) {
    let (places, strangers) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(STRANGERS)));
    let refusals = Seldom::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let judged = callers.judge(stream.peer_cred().ok());
        if let Err(stranger) = &judged
            && let Some(untold) = refusals.happened(stranger.code(), Instant::now())
        {
            tracing::warn!(identity = %policy, code = stranger.code(), what = %stranger, untold, "a caller of the Workload API was refused");
        }
        let room = if judged.is_ok() { &places } else { &strangers };
        // Without a place the connection ends at once.
        let Ok(place) = Arc::clone(room).try_acquire_owned() else { continue };
        if connections
            .send(Ok(Connection { stream, authority: Authority::default(), caller: Caller(judged), _place: place }))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// A connection, who it is from, and its place.
struct Connection {
    stream: UnixStream,
    authority: Authority,
    caller: Caller,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(new) = buffer.filled_mut().get_mut(before..) {
            self.authority.pass(new);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::bind;
    use crate::identity::view::Standing;
    use crate::seldom::tests::assert_told_seldom;
    use tokio::sync::watch;

    #[tokio::test]
    async fn strangers_are_told_of_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workload.sock");
        let (_standing, seen) = watch::channel(Standing::Unknown);
        let (orders, _queue) = std::sync::mpsc::sync_channel(1);
        let view = View::new("agents/research".parse().unwrap(), seen, Arc::default(), orders);
        let serving = serve(bind(&path, 0o600).unwrap(), Callers { users: vec![], cgroup: None }, view).unwrap();
        assert_told_seldom("a caller of the Workload API was refused", async || {
            drop(UnixStream::connect(&path).await.unwrap());
            // There is room in the queue again.
            tokio::task::yield_now().await;
        })
        .await;
        serving.abort();
    }
}
