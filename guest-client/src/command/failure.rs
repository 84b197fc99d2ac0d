//! How a command can end badly, what it says then, and with which exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use models_manifest::OpenError;
use protocol::ids::NoRandomness;

use crate::agent::ServeError;
use crate::checkpoints::CheckpointsError;
use crate::config::ConfigError;
use crate::destination::DestinationError;
use crate::evidence::EvidenceError;
use crate::exchange::{Class, ExchangeError};
use crate::report::{Report, plain};
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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
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
    /// The released model is not what lies there, or cannot be opened.
    Open(Box<OpenError>),
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
impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}
impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::Serve(error)
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
        eprintln!("hint: {}", self.hint());
        self.exit()
    }

    const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Reported(exit, ..) => *exit,
            Self::Evidence(_) => Exit::NoEvidence,
            Self::ModelKey => Exit::Untrusted,
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
            Self::Open(error) => format!("the sealed model was not opened: {error} ({})", error.code()),
            Self::ModelKey => "the released secret is no model key (model-key)".to_owned(),
            Self::Write { path, error } => format!("cannot write {}: {error}", path.display()),
            Self::Serve(error) => error.to_string(),
            Self::Keys(what) => what.clone(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Usage(_) => "see --help",
            Self::Config(_) => "a configuration needs root = \"ed25519:...\" and broker = \"https://...\"; --config names another file",
            Self::Http(error) => error.hint(),
            Self::Evidence(error) => error.hint(),
            Self::Reported(..) => "",
            Self::Destination(error) => error.hint(),
            Self::Open(_) => {
                "nothing was left at the destination; the sealed folder is not the released one, or was changed, or there is no room"
            }
            Self::ModelKey => "was the record published by portcullis publish?",
            Self::Write { .. } => "the folder must exist, be writable, and have room",
            Self::Serve(_) => "each socket needs a path of its own in a folder that exists",
            Self::Keys(_) => "the kernel's random generator may not be ready",
        }
    }
}
