//! Credentials that are held: released, renewed, rotated, and gone when they end.
//!
//! ```text
//!  who needs one ──► Credentials ──start──► keeper (a thread, a session of its own) ──► broker
//!   standing, value ◄── watch ◄───────────────┤
//!   files in tmpfs  ◄── replaced or removed ◄─┘
//! ```
//!
//! Whoever needs a credential names it before the keeper starts, and gets a [`watch`] receiver: of how it stands ([`Standing`]), or of its
//! bare value ([`CredentialSource`]), which the credential proxy takes. A credential of one name is held once, however many ask for it.
//!
//! A credential ends by the broker's word (a refusal that it sealed and signed: policy, revocation), when the lease runs out because no
//! renewal succeeded, or by its own end, which its publisher set and the broker does not know. Then it is withdrawn at once: files are
//! removed, sources are empty. A refusal that is not sealed to this guest could be anybody's on the way, and ends nothing before its time.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`keeper`] | the thread: when the broker is asked, and for what |
//! | `kept` | one credential: what each answer and each second does to it |
//! | [`files`] | credentials as files |

pub mod files;
pub mod keeper;
mod kept;

use std::sync::Arc;

use protocol::credential::CredentialBody;
use protocol::documents::Kind;
use protocol::ids::{Digest, Name, Version};
use protocol::keys::PublicKey;
use protocol::messages::{Item, ItemOutcome, Secret};
use protocol::time::UnixTime;
use tokio::sync::watch;

use crate::clock;
use crate::sidecar::catalog::Denial;
use files::{Files, Place};
use kept::Kept;

pub use keeper::{Keeping, Settings, StartError};
pub use kept::{Grant, Unusable};

/// Credentials at most: what one request may ask for.
pub const CREDENTIALS: usize = protocol::limits::ASKS;

/// The value of a credential at this moment: none before the first release, none once it has ended.
pub type CredentialSource = watch::Receiver<Option<Arc<Secret>>>;

/// A credential as it was released.
#[derive(Debug)]
pub struct Held {
    /// Its version.
    pub version: Version,
    /// The digest of its statement.
    pub statement: Digest,
    /// Who published it.
    pub publisher: PublicKey,
    /// What it holds.
    pub body: CredentialBody,
}

/// How a credential stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Not released yet; the last answer, if it was no.
    Awaited(Option<Denial>),
    /// It may be used.
    Held {
        /// The credential.
        held: Arc<Held>,
        /// The last second at which the broker's permit holds.
        lease: UnixTime,
    },
    /// It may no longer be used.
    Ended {
        /// The version that was held.
        version: Version,
        /// Why.
        why: Ended,
    },
}

impl Standing {
    /// The credential, while it may be used.
    #[must_use]
    pub const fn held(&self) -> Option<&Arc<Held>> {
        match self {
            Self::Held { held, .. } => Some(held),
            Self::Awaited(_) | Self::Ended { .. } => None,
        }
    }
}

/// Why a credential may no longer be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The broker says no: by policy, or because it was revoked.
    #[error("the broker denies it: {}, found {}", .0.code, .0.found)]
    Denied(Denial),
    /// No renewal succeeded in time.
    #[error("the lease has run out")]
    Lease,
    /// The end that its publisher set has come.
    #[error("it was to be used until {0}")]
    Expired(UnixTime),
}

impl Ended {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Denied(denial) => &denial.code,
            Self::Lease => "lease-expired",
            Self::Expired(_) => "credential-expired",
        }
    }
}

/// Credentials that are to be held, before the keeper starts.
pub struct Credentials {
    kept: Vec<Kept>,
    files: Arc<Files>,
    changes: watch::Sender<()>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self::new()
    }
}

impl Credentials {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { kept: Vec::new(), files: Arc::default(), changes: watch::Sender::new(()) }
    }

    /// Whether there is nothing to hold.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many are to be held: the broker is asked for [`CREDENTIALS`] at most.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.kept.len()
    }

    /// How the credential stands, from now on. Without a version, the newest is followed.
    pub fn watch(&mut self, name: &Name, version: Option<Version>) -> watch::Receiver<Standing> {
        self.entry(name, version).watch()
    }

    /// Its value, from now on. A set of several variables has none.
    pub fn source(&mut self, name: &Name, version: Option<Version>) -> CredentialSource {
        self.entry(name, version).source()
    }

    /// Keeps it as a file too.
    pub fn place(&mut self, name: &Name, version: Option<Version>, place: Place) {
        self.entry(name, version).place(place);
    }

    /// Learns of every change to any of them.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes what was released already, before the keeper starts, where this was asked for: also its files are written.
    ///
    /// # Errors
    /// [`Unusable`]: it is no credential, or too old, or a file cannot be written.
    pub fn accept(&mut self, name: &Name, version: Option<Version>, outcome: ItemOutcome) -> Result<(), Unusable> {
        let Some(grant) = Grant::of(outcome) else { return Ok(()) };
        let files = Arc::clone(&self.files);
        self.entry(name, version).granted(grant, &files, clock::moment())
    }

    fn entry(&mut self, name: &Name, version: Option<Version>) -> &mut Kept {
        let item = Item { kind: Kind::Credential, name: name.clone(), version };
        let at = self.kept.iter().position(|kept| *kept.item() == item).unwrap_or_else(|| {
            self.kept.push(Kept::new(item, self.changes.clone()));
            self.kept.len() - 1
        });
        &mut self.kept[at]
    }
}
