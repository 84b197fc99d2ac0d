//! The credential proxy: adds a credential to requests to one upstream, so that whoever makes them never holds it.
//!
//! ```text
//!   agent ── socket or loopback port ──► proxy ── TLS ──► the one upstream
//!            a request without the       the request,      api.example.com
//!            credential, off a list      with it
//! ```
//!
//! The agent is hostile here. It is not to learn the credential, and not to make it go anywhere but to the upstream, on a method and path that the
//! operator listed. So a request is read to the letter and judged before any HTTP library sees it; what goes on is a new request, made of the parts
//! that were judged; a connection carries one request; redirects, cookies and what the upstream says of other ways go nowhere by themselves; and answers are
//! looked through for the credential.
//!
//! Not promised: that the upstream keeps it. An allowed request whose answer holds the credential in another form than its own bytes, or that makes
//! the upstream send it elsewhere, gives it away. And whoever may use the proxy may do with the upstream what the list allows.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`config`] | `[[proxy]]` |
//! | [`head`] | a request's head, to the letter |
//! | [`target`] | paths with one reading |
//! | [`allow`] | the allow-list |
//! | [`asked`] | the checks on a request, in their order, and what of it goes on |
//! | [`upstream`] | the one place that the credential goes to |
//! | [`body`] | bodies on their way |
//! | [`echo`] | looks for the credential in answers |
//! | [`serve`] | a connection, from accept to its end |
//! | [`refusal`] | what an agent is told |
//! | [`counts`] | what was done |

pub mod allow;
pub mod asked;
pub mod body;
pub mod config;
pub mod counts;
pub mod echo;
pub mod head;
pub mod refusal;
pub mod serve;
pub mod target;
pub mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use connection::HttpError;
use tokio::task::JoinHandle;

use crate::agent::{ServeError, bind};
use crate::credentials::Credentials;
use crate::sidecar::end_asked;
use config::{Listen, ProxyConfig};
use counts::Counts;
use serve::{Caller, Door};
use upstream::Upstream;

pub use crate::credentials::CredentialSource;

/// The wait after a failed `accept`, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Its socket cannot be served.
    #[error(transparent)]
    Socket(#[from] ServeError),
    /// Its port cannot be served.
    #[error("cannot serve {address}: {error}")]
    Port {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// No client of the upstream.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No runtime.
    #[error("the system gives no thread: {0}")]
    Threads(io::Error),
}

impl ProxyError {
    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Socket(_) => "the folder of the socket must exist, and no other proxy serve there",
            Self::Port { .. } => "another process may have the port: listen = \"127.0.0.1:PORT\" names another, a socket needs none",
            Self::Http(error) => error.hint(),
            Self::Threads(_) => "a limit on processes or memory may be too low",
        }
    }
}

/// Takes the places of all of them, and names their credentials to whoever is going to keep those.
///
/// # Errors
/// [`ProxyError`].
pub fn bind_all(configs: &[ProxyConfig], credentials: &mut Credentials) -> Result<Vec<Proxy>, ProxyError> {
    configs.iter().map(|config| Proxy::bind(config, credentials.source(&config.credential, config.version))).collect()
}

/// Serves until the process is asked to end (`SIGTERM`, `SIGINT`).
///
/// # Errors
/// [`ProxyError::Threads`].
pub fn run(proxies: Vec<Proxy>) -> Result<(), ProxyError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(ProxyError::Threads)?;
    runtime.block_on(async {
        // Tasks go on by themselves, and end with the runtime.
        proxies.into_iter().try_for_each(|proxy| proxy.serve().map(drop)).map_err(ProxyError::Threads)?;
        end_asked().await.map_err(ProxyError::Threads)
    })
}

enum Bound {
    Socket(UnixListener),
    Port(TcpListener),
}

/// A proxy that has its place, and serves nobody yet.
pub struct Proxy {
    bound: Bound,
    door: Arc<Door>,
}

impl Proxy {
    /// Takes the place that is configured.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn bind(config: &ProxyConfig, source: CredentialSource) -> Result<Self, ProxyError> {
        let upstream = Upstream::new(config)?;
        let mut names = vec!["localhost".to_owned()];
        let bound = match &config.listen {
            Listen::Socket(path) => Bound::Socket(bind(path, config.socket_mode)?),
            Listen::Loopback(address) => {
                let refused = |error| ProxyError::Port { address: *address, error };
                let listener = TcpListener::bind(address).map_err(refused)?;
                let bound = listener.local_addr().map_err(refused)?;
                names = vec![bound.to_string(), format!("localhost:{}", bound.port())];
                Bound::Port(listener)
            }
        };
        tracing::info!(proxy = %config.listen, upstream = %config.upstream, credential = %config.credential, "serving a proxy");
        Ok(Self { bound, door: Arc::new(Door::new(config, names, upstream, source)) })
    }

    /// What it does, counted.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(self.door.counts())
    }

    /// Its port, where it has one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.bound {
            Bound::Socket(_) => None,
            Bound::Port(listener) => listener.local_addr().ok(),
        }
    }

    /// Serves until the task is ended. Needs a runtime around it.
    ///
    /// # Errors
    /// The system's.
    pub fn serve(self) -> io::Result<JoinHandle<()>> {
        let Self { bound, door } = self;
        match bound {
            Bound::Socket(listener) => {
                listener.set_nonblocking(true)?;
                Ok(tokio::spawn(accept_users(tokio::net::UnixListener::from_std(listener)?, door)))
            }
            Bound::Port(listener) => {
                listener.set_nonblocking(true)?;
                Ok(tokio::spawn(accept_anybody(tokio::net::TcpListener::from_std(listener)?, door)))
            }
        }
    }
}

async fn accept_users(listener: tokio::net::UnixListener, door: Arc<Door>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let user = stream.peer_cred().ok().map(|peer| peer.uid());
                door.welcome(stream, Caller::User(user));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_anybody(listener: tokio::net::TcpListener, door: Arc<Door>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Pieces of an answer go on at once; where the system does not do that, they still go on.
                let _ = stream.set_nodelay(true);
                door.welcome(stream, Caller::Anybody);
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
