//! How a command can end badly, what it says then, and with which exit code.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use models_manifest::signature::SignatureError;
use models_manifest::{Attempt, OpenError};
use protocol::ids::NoRandomness;

use super::given::GivenError;
use crate::agent::ServeError;
use crate::capacity::CapacityError;
use crate::checkpoints::CheckpointsError;
use crate::config::ConfigError;
use crate::credentials::{StartError, Unusable};
use crate::destination::DestinationError;
use crate::evidence::EvidenceError;
use crate::exchange::{Class, ExchangeError};
use crate::isolation::IsolationError;
use crate::mount::order::OrderError;
use crate::mount::place::PlaceError;
use crate::mount::storage::SignerError;
use crate::mount::supervised::ServerError;
use crate::proxy::ProxyError;
use crate::report::{Report, plain};
use crate::sidecar::SidecarError;
use crate::signals::Asked;
use crate::sources::{FetchError, ReachError};
use connection::HttpError;

/// The exit codes, as `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something here does not work.
    Failure = 1,
    /// Wrong use.
    Usage = 2,
    /// The answer is no.
    Denied = 3,
    /// Nobody answers.
    Outage = 4,
    /// Whoever answers is not believed.
    Untrusted = 5,
    /// No evidence.
    NoEvidence = 6,
    /// Ended by `SIGINT`: 128 and the signal's number, as shells have it.
    Interrupted = 130,
    /// Ended by `SIGTERM`.
    Terminated = 143,
}

impl From<Asked> for Exit {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Interrupt => Self::Interrupted,
            Asked::Terminate => Self::Terminated,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// As the system takes it.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

/// Where a report goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, as text.
    Text,
    /// Standard output, as JSON.
    Json,
    /// Standard error, as text: standard output is the secret's.
    Error,
}

/// How a command ended badly.
#[derive(Debug)]
pub enum Failure {
    /// The arguments do not fit together.
    Usage(&'static str),
    /// No configuration.
    Config(ConfigError),
    /// No client.
    Http(HttpError),
    /// No evidence.
    Evidence(EvidenceError),
    /// The exchange ended in a denial or a failure, which was reported.
    Reported(Exit, Box<Report>, Stream),
    /// The destination is not in memory.
    Destination(DestinationError),
    /// The model does not fit there.
    Capacity(CapacityError),
    /// Nothing can be mounted there.
    Place(PlaceError),
    /// There is no namespace to mount in.
    Isolation(IsolationError),
    /// A mount server got no order.
    Order(OrderError),
    /// A mount server did not start.
    Server(ServerError),
    /// A mount server ended by itself, with this exit code.
    ServerEnded(i32),
    /// An engine cannot be started.
    Engine(io::Error),
    /// The released model is not what lies there, or cannot be opened.
    Open(Box<OpenError>),
    /// The released model does not bear the signature that the configuration requires.
    Signature(Box<SignatureError>),
    /// The same, and what was opened is kept there for the next attempt.
    Kept(Box<OpenError>, PathBuf),
    /// A signal ended it, and what was opened is kept there, or nowhere.
    Ended(Asked, Option<PathBuf>),
    /// The sealed model's storage did not give it.
    Storage(FetchError),
    /// The released secret is no model key.
    ModelKey,
    /// A file cannot be written.
    Write {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A socket cannot be served.
    Serve(ServeError),
    /// The sidecar does not start.
    Sidecar(SidecarError),
    /// What was released cannot be used as a credential.
    Credential(Unusable),
    /// A credential cannot be given in the way that was asked for.
    Given(GivenError),
    /// Credentials cannot be kept.
    Credentials(StartError),
    /// A credential proxy cannot be served.
    Proxy(ProxyError),
    /// No fresh keys.
    Keys(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}
impl From<EvidenceError> for Failure {
    fn from(error: EvidenceError) -> Self {
        Self::Evidence(error)
    }
}
impl From<DestinationError> for Failure {
    fn from(error: DestinationError) -> Self {
        Self::Destination(error)
    }
}
impl From<CapacityError> for Failure {
    fn from(error: CapacityError) -> Self {
        Self::Capacity(error)
    }
}
impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}
impl From<IsolationError> for Failure {
    fn from(error: IsolationError) -> Self {
        Self::Isolation(error)
    }
}
impl From<OrderError> for Failure {
    fn from(error: OrderError) -> Self {
        Self::Order(error)
    }
}
impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}
impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}
impl From<SignatureError> for Failure {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Open(error) => error.into(),
            SignatureError::Cancelled(error) => OpenError::Cancelled(error).into(),
            error => Self::Signature(Box::new(error)),
        }
    }
}
impl From<ReachError> for Failure {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Fetch(error) => Self::Storage(error),
            ReachError::Open(error) => error.into(),
        }
    }
}
impl From<SignerError> for Failure {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Reach(error) => error.into(),
            SignerError::Signature(error) => error.into(),
        }
    }
}
impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::Serve(error)
    }
}
impl From<SidecarError> for Failure {
    fn from(error: SidecarError) -> Self {
        Self::Sidecar(error)
    }
}
impl From<Unusable> for Failure {
    fn from(error: Unusable) -> Self {
        Self::Credential(error)
    }
}
impl From<GivenError> for Failure {
    fn from(error: GivenError) -> Self {
        Self::Given(error)
    }
}
impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}
impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Credentials(error)
    }
}
impl From<NoRandomness> for Failure {
    fn from(error: NoRandomness) -> Self {
        Self::Keys(error.to_string())
    }
}

/// The exit code of an exchange that gave no decision.
#[must_use]
pub const fn exit_of(error: &ExchangeError) -> Exit {
    match error.class() {
        Class::Outage(_) => match error {
            ExchangeError::Evidence(_) => Exit::NoEvidence,
            _ => Exit::Outage,
        },
        Class::Denied => Exit::Denied,
        Class::Untrusted => Exit::Untrusted,
        Class::NoEvidence => Exit::NoEvidence,
        Class::Local => match error {
            ExchangeError::Checkpoints(CheckpointsError::Form { .. }) => Exit::Untrusted,
            _ => Exit::Failure,
        },
    }
}

impl Failure {
    /// An attempt that is to be resumed ended: kept, unless it ended before anything was.
    pub fn kept(error: OpenError, destination: &Path) -> Self {
        match Attempt::place(destination) {
            Ok(place) if place.exists() => Self::Kept(Box::new(error), place),
            _ => error.into(),
        }
    }

    /// The same, where it is that a signal ended what was done.
    pub fn ended_by(self, asked: Option<Asked>) -> Self {
        let is_end =
            |error: &OpenError| matches!(error, OpenError::Cancelled(_)) || matches!(FetchError::below(error), Some(FetchError::Stopped));
        match (asked, self) {
            (Some(asked), Self::Open(error)) if is_end(&error) => Self::Ended(asked, None),
            (Some(asked), Self::Kept(error, place)) if is_end(&error) => Self::Ended(asked, Some(place)),
            (_, other) => other,
        }
    }

    /// Says it, and gives the exit code.
    pub fn tell(&self) -> Exit {
        if let Self::Reported(exit, report, stream) = self {
            match stream {
                Stream::Text => print!("{}", report.to_text()),
                Stream::Json => println!("{}", report.to_json()),
                Stream::Error => eprint!("{}", report.to_text()),
            }
            return *exit;
        }
        eprintln!("error: {}", plain(&self.message()));
        eprintln!("hint: {}", plain(&self.hint()));
        self.exit()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Ended(asked, _) => (*asked).into(),
            Self::Reported(exit, ..) => *exit,
            Self::Evidence(_) => Exit::NoEvidence,
            Self::ModelKey | Self::Signature(_) | Self::Credential(Unusable::Form { .. }) => Exit::Untrusted,
            Self::Credential(Unusable::Expired { .. }) => Exit::Denied,
            _ => Exit::Failure,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Usage(what) => (*what).to_owned(),
            Self::Config(error) => error.to_string(),
            Self::Http(error) => error.to_string(),
            Self::Evidence(error) => format!("{error} ({})", error.code()),
            Self::Reported(_, report, _) => report.message.clone(),
            Self::Destination(error) => format!("{error} ({})", error.code()),
            Self::Capacity(error) => format!("{error} ({})", error.code()),
            Self::Place(error) => format!("{error} ({})", error.code()),
            Self::Isolation(error) => format!("{error} ({})", error.code()),
            Self::Order(error) => error.to_string(),
            Self::Server(error) => error.to_string(),
            Self::ServerEnded(code) => format!("the mount server ended by itself with exit code {code}"),
            Self::Engine(error) => format!("cannot start the engine: {error}"),
            Self::Open(error) | Self::Kept(error, _) => {
                let code = FetchError::below(error).map_or(error.code(), FetchError::code);
                format!("the sealed model was not opened: {error} ({code})")
            }
            Self::Ended(asked, _) => format!("ended by {}", asked.name()),
            Self::Storage(error) => format!("the manifest was not fetched: {error} ({})", error.code()),
            Self::Signature(error) => format!("the model was not opened: {error} ({})", error.code()),
            Self::ModelKey => "the released secret is no model key (model-key)".to_owned(),
            Self::Write { path, error } => format!("cannot write {}: {error}", path.display()),
            Self::Serve(error) => error.to_string(),
            Self::Sidecar(error) => error.to_string(),
            Self::Credential(error) => format!("the credential cannot be used: {error} ({})", error.code()),
            Self::Given(error) => format!("the credential cannot be given: {error} ({})", error.code()),
            Self::Credentials(error) => error.to_string(),
            Self::Proxy(error) => error.to_string(),
            Self::Keys(what) => what.clone(),
        }
    }

    fn hint(&self) -> Cow<'static, str> {
        let hint = match self {
            Self::Ended(_, None) => "nothing was left at the destination",
            Self::Kept(_, place) | Self::Ended(_, Some(place)) => {
                return format!("what was opened is kept in {}; the same command goes on from there", place.display()).into();
            }
            Self::Usage(_) => "see --help",
            Self::Config(_) => "a configuration needs root = \"ed25519:...\" and broker = \"https://...\"; --config names another file",
            Self::Http(error) => error.hint(),
            Self::Evidence(error) => error.hint(),
            Self::Reported(..) => "",
            Self::Destination(error) => error.hint(),
            Self::Capacity(error) => error.hint(),
            Self::Place(error) => error.hint(),
            Self::Isolation(error) => error.hint(),
            Self::Order(_) => "mount-server is started by mount, exec and the sidecar, which give it the key",
            Self::Server(_) => "it has said why above",
            Self::ServerEnded(_) => "start it again: a dead mount is detached and mounted anew",
            Self::Engine(_) => "the command behind -- must be a program that exists in this container",
            Self::Storage(error) => error.hint(),
            Self::Open(error) => FetchError::below(error).map_or(
                "nothing was left at the destination; the sealed model is not the released one, or was changed, or there is no room",
                FetchError::hint,
            ),
            Self::Signature(error) => error.hint(),
            Self::ModelKey => "was the record published by portcullis publish?",
            Self::Write { .. } => "the folder must exist, be writable, and have room",
            Self::Serve(_) => "each socket needs a path of its own in a folder that exists",
            Self::Sidecar(error) => error.hint(),
            Self::Credential(Unusable::Form { .. }) => "was the record published by portcullis credential put?",
            Self::Credential(Unusable::Expired { .. }) => "its publisher puts a new version: portcullis credential put",
            Self::Credential(Unusable::File { .. }) => "the folder must exist, be writable, and have room",
            Self::Given(error) => error.hint(),
            Self::Credentials(error) => error.hint(),
            Self::Proxy(error) => error.hint(),
            Self::Keys(_) => "the kernel's random generator may not be ready",
        };
        hint.into()
    }
}
