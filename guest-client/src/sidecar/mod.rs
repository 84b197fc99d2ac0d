//! The sidecar: one process that keeps a pod's models open for as long as the broker permits it.
//!
//! ```text
//!             orders                     answers
//!  local API ────────► keeper (a thread) ────────► broker           readers
//!  probes, /metrics ──► catalog ◄── openers (a thread a version) ──► folders in tmpfs, mount servers
//! ```
//!
//! Identities have keepers of their own ([`crate::identity`]), which serve the Workload API and token files beside all this.
//!
//! The keeper alone talks to the broker about models: it attests once, asks for keys, and renews. What it learns goes into the catalog, which
//! everybody else reads: probes, metrics and the local API never wait for the broker. A version is opened by a thread of its own; a
//! mounted one is served by a process of its own, which goes on when the keeper waits for a broker that does not answer.
//!
//! Where the configuration names no folder of models, there is no such keeper, and nothing of all that lies anywhere.
//!
//! Under the folder of models there is, of a model `acme/llama` in version 3:
//!
//! ```text
//! acme/llama@3          the version's files
//! acme/llama@current    a link to the version that is current, replaced at once
//! ```
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`config`] | what the sidecar is told: `sidecar.toml` |
//! | [`catalog`] | the models, their versions, and how each stands |
//! | [`keeper`] | releases and renewals: whom to ask, when, and what was answered |
//! | `holding` | what lies there in plaintext; which version is current; what expiry does |
//! | [`lease`] | how long a permit holds, by two clocks |
//! | [`notes`] | what a later sidecar may believe of what lies there |
//! | [`version`] | one version: opened to a folder or mounted, and put away when nobody uses it |
//! | [`place`] | names under the folder of models, and the link |
//! | [`in_use`] | whether somebody still has files of a folder open |
//! | [`credentials`] | credentials of the pod: held, written to files, given out by the local API |
//! | [`hook`] | a command that is run on a change |
//! | [`api`] | the local API on a Unix socket |
//! | [`listen`] | connections, bounded in number and time |
//! | [`probes`] | startup, readiness, liveness, and metrics, over HTTP |
//! | [`metrics`] | what `/metrics` shows |
//! | [`shown`] | what the last three read |

pub mod api;
pub mod catalog;
pub mod config;
pub mod credentials;
mod holding;
pub mod hook;
#[allow(unsafe_code, reason = "fcntl has no safe form for leases")]
pub mod in_use;
pub mod keeper;
pub mod lease;
pub mod listen;
pub mod metrics;
pub mod notes;
pub mod place;
pub mod probes;
pub mod shown;
#[cfg(test)]
mod tests;
pub mod version;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use rustix::io::Errno;

use crate::agent::{ServeError, bind};
use crate::config::Config;
use crate::credentials::{Credentials, StartError};
use crate::destination::DestinationError;
use crate::evidence::EvidenceError;
use crate::exchange::Terms;
use crate::huge_pages::{self, HugePages};
use crate::identity::config::WantedIdentity;
use crate::identity::files::{Closer, TokenFiles};
use crate::identity::keeper::{Kept, Plan};
use crate::identity::view::View;
use crate::identity::workload_api;
use crate::identity::workload_api::peer::Callers;
use crate::proxy::{self, ProxyError};
use crate::signals::{Asked, Signals};
use catalog::Catalog;
use config::SidecarConfig;
use connection::HttpError;
use credentials::Pod;
use hook::Hook;
use keeper::{Keeper, ORDERS, Thread};
use notes::Notes;
use shown::Shown;

/// Why a sidecar does not start. Once it runs, nothing of the broker's or the storage's ends it.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// No client of the broker.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No way to evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The local API's socket cannot be served.
    #[error(transparent)]
    Socket(#[from] ServeError),
    /// The probes' address cannot be served.
    #[error("cannot serve probes on {address}: {error}")]
    Probes {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The folder of models cannot be used.
    #[error("cannot use {} as the folder of models: {error}", path.display())]
    Models {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file of a credential or token would not lie in memory.
    #[error("{0} ({code})", code = .0.code())]
    Destination(#[from] DestinationError),
    /// Credentials cannot be kept.
    #[error(transparent)]
    Credentials(#[from] StartError),
    /// A credential proxy cannot be served.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The keeper has ended without being asked to.
    #[error("the keeper of the models has ended: its last words are in the log")]
    KeeperEnded,
    /// No runtime or no thread.
    #[error("the system gives no thread: {0}")]
    Threads(io::Error),
}

impl SidecarError {
    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Http(error) => error.hint(),
            Self::Evidence(error) => error.hint(),
            Self::Socket(_) => "the folder of the socket must exist, and no other sidecar serve there",
            Self::Probes { .. } => "another process may have the port: probes = \"ADDRESS:PORT\" names another",
            Self::Models { .. } => "models = \"/PATH\" names a folder that this user may write, such as an emptyDir in memory",
            Self::Destination(error) => error.hint(),
            Self::Credentials(error) => error.hint(),
            Self::Proxy(error) => error.hint(),
            Self::KeeperEnded => "a sidecar that is started again takes in what lies there, under the leases that it has",
            Self::Threads(_) => "a limit on processes or memory may be too low",
        }
    }
}

/// Runs until the process is asked to end (`SIGTERM`, `SIGINT`): then puts every version away, and returns.
///
/// # Errors
/// [`SidecarError`].
pub fn run(guest: Config, terms: Terms, sidecar: SidecarConfig) -> Result<(), SidecarError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(SidecarError::Threads)?;
    // Before anybody can know that this runs: as a container's first process, it would not be ended by a signal that it does not listen for.
    let mut signals = {
        let _entered = runtime.enter();
        Signals::listen().map_err(SidecarError::Threads)?
    };
    let claim = |models: &Path| Notes::claim(models).map_err(|error| SidecarError::Models { path: models.to_owned(), error });
    let notes = sidecar.models.as_deref().map(claim).transpose()?;
    if let Some(models) = sidecar.models.as_deref() {
        ask_for_huge_pages(models);
    }
    let socket = sidecar.socket.as_deref().map(|path| bind(path, sidecar.socket_mode)).transpose()?;
    let address = sidecar.probes;
    let probes = TcpListener::bind(address).map_err(|error| SidecarError::Probes { address, error })?;
    tracing::info!(%address, "serving probes");
    let catalog = Arc::new(Catalog::new(&sidecar));
    let (orders, queue) = mpsc::sync_channel(ORDERS);
    let peers = sidecar.peers.clone();
    let hook = Hook::new(sidecar.on_change.clone()).map_err(SidecarError::Threads)?;
    let Identities { kept, served, tokens } = identities(&guest, &terms, &sidecar)?;
    // Whoever else needs a credential names it here, before it starts.
    let mut wanted = Credentials::new();
    let proxies = proxy::bind_all(&sidecar.proxies, &mut wanted)?;
    let credentials = Arc::new(Pod::start(wanted, &guest, terms.clone(), &sidecar, &catalog)?);
    let shown = Shown {
        catalog: Arc::clone(&catalog),
        identities: kept.iter().map(|kept| kept.view.clone()).collect(),
        credentials: Arc::clone(&credentials),
        proxies: proxies.iter().map(proxy::Proxy::counts).collect(),
    };
    let keep: Box<dyn FnOnce() + Send> = match notes {
        Some(notes) => {
            let keeper = Keeper::new(guest, terms, sidecar, notes, catalog, (orders.clone(), queue), hook.clone())?;
            Box::new(move || keeper.run())
        }
        None => Box::new(move || keeper::keep_none(&queue)),
    };
    let mut keeping = Thread::start(keep).map_err(SidecarError::Threads)?;
    let ended = runtime.block_on(async {
        let telling = tokio::spawn(Arc::clone(&credentials).tell(hook));
        let probing = probes::serve(probes, shown.clone()).map_err(|error| SidecarError::Probes { address, error })?;
        let serving = socket.map(|socket| api::serve(socket, peers, shown, orders.clone())).transpose();
        let serving = serving.map_err(SidecarError::Threads)?;
        let apis = served.into_iter().map(|(socket, callers, view)| workload_api::serve::serve(socket, callers, view));
        let apis = apis.collect::<io::Result<Vec<_>>>().map_err(SidecarError::Threads)?;
        // Their tasks go on by themselves, and end with the runtime.
        proxies.into_iter().try_for_each(|proxy| proxy.serve().map(drop)).map_err(SidecarError::Threads)?;
        let asked = until_asked(signals.next(), &mut keeping).await?;
        tracing::info!(signal = asked.name(), "asked to end: putting the models away");
        // New orders find a closed door; what is under way ends in order.
        telling.abort();
        probing.abort();
        serving.inspect(tokio::task::JoinHandle::abort);
        apis.iter().for_each(tokio::task::JoinHandle::abort);
        Ok::<_, SidecarError>(())
    });
    // A probe that waits for a storage is not waited for.
    runtime.shutdown_background();
    // Secrets in files go first: a keeper may wait for a broker for longer than whoever asked this to end waits before it kills. Connections
    // that are still open hold credentials too: what is left of them ends with the process.
    credentials.close();
    tokens.iter().for_each(Closer::close);
    kept.into_iter().for_each(Kept::stop);
    keeping.stop(&orders);
    ended
}

/// Models may open faster onto huge pages: whoever may have them is given them, whoever may not learns what would help.
fn ask_for_huge_pages(models: &Path) {
    match huge_pages::ask(models) {
        Ok(HugePages::There | HugePages::NoTmpfs) => {}
        Ok(HugePages::Given) => tracing::info!("the folder of models has huge pages now (huge=within_size)"),
        Ok(HugePages::Refused(error)) if error != Errno::PERM => {
            tracing::info!(%error, "the kernel has no huge pages for the folder of models")
        }
        Ok(HugePages::Shared | HugePages::Refused(_)) => {
            tracing::info!(
                "models may open faster onto huge pages: the tmpfs of the folder of models can be mounted with huge=within_size"
            );
        }
        Err(error) => tracing::warn!(%error, "cannot tell whether the folder of models has huge pages"),
    }
}

/// Waits until the process is asked to end. Where the keeper ends before that, nobody looks after leases any more, and nobody would notice.
async fn until_asked(asked: impl Future<Output = Asked>, keeper: &mut Thread) -> Result<Asked, SidecarError> {
    tokio::select! {
        asked = asked => Ok(asked),
        () = keeper.ended() => Err(SidecarError::KeeperEnded),
    }
}

/// A socket of the Workload API, who may ask it, and what it tells.
type Served = (UnixListener, Callers, View);

/// The keepers of identities, what they are served on, and what ends their token files.
#[derive(Default)]
struct Identities {
    kept: Vec<Kept>,
    served: Vec<Served>,
    tokens: Vec<Closer>,
}

/// Starts the keepers, and makes the sockets.
fn identities(guest: &Config, terms: &Terms, sidecar: &SidecarConfig) -> Result<Identities, SidecarError> {
    let mut all = Identities::default();
    for WantedIdentity { policy, socket, evidence, tokens } in &sidecar.identities {
        let guest = Config { evidence: evidence.clone().unwrap_or_else(|| guest.evidence.clone()), ..guest.clone() };
        let terms = terms.clone();
        let files = TokenFiles::new(tokens.clone(), guest.plaintext)?;
        all.tokens.push(files.closer());
        let plan = Plan { policy: policy.clone(), check_every: sidecar.check_every };
        let listener = socket.as_ref().map(|socket| bind(&socket.path, socket.mode)).transpose()?;
        let keeper = Kept::start(&guest, terms, plan, files)?;
        if let (Some(listener), Some(socket)) = (listener, socket) {
            tracing::info!(identity = %policy, path = %socket.path.display(), users = ?socket.callers.users, "serving the Workload API");
            all.served.push((listener, socket.callers.clone(), keeper.view.clone()));
        }
        all.kept.push(keeper);
    }
    Ok(all)
}

/// Until `SIGTERM` or `SIGINT`.
pub(crate) async fn end_asked() -> io::Result<()> {
    Signals::listen()?.next().await;
    Ok(())
}
