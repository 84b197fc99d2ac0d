//! What `seal` and `credential seal` have in common: who may release the secret, to whom it is sealed, and the record file.

use std::path::{Path, PathBuf};

use clap::Args;
use protocol::documents::Kind;
use protocol::dsse::SignedDocument;
use protocol::envelope::{Draft, EnvelopeError, RecordFile, write_record};
use protocol::hpke::RecipientKey;
use protocol::ids::{AnchorClass, Digest, Name, Version};
use protocol::keys::{PublicKey, SigningKey};

use crate::clock;
use crate::console::Console;
use crate::failure::Failure;
use crate::files::{self, Access, FileError};
use crate::installation::{InstallationArguments, InstallationError, SealingKey, sealing_key};
use crate::keys::{self, KeyError, KeyKind, UnlockArguments};

/// Under which rules a secret is released, and who vouches for it.
#[derive(Args)]
pub(crate) struct RuleArguments {
    /// The policy that decides who gets it
    #[arg(long, value_name = "NAME")]
    policy: Name,

    /// Whose signature that policy must bear: an authority's public key, `ed25519:…` or a .pub file
    #[arg(long, value_name = "KEY", value_parser = keys::public_key)]
    authority: PublicKey,

    /// The publisher's secret key
    #[arg(long, value_name = "FILE")]
    publisher_key: PathBuf,

    /// A further recipient, `x-wing:…` or a .pub file, such as an offline recovery key
    #[arg(long = "recovery", value_name = "KEY", value_parser = keys::recipient_key)]
    recovery: Vec<RecipientKey>,

    #[command(flatten)]
    unlock: UnlockArguments,
}

/// The same for a record that becomes a file: which version it is, and whose broker may open it.
#[derive(Args)]
pub(crate) struct ReleaseArguments {
    /// The version: a whole number that only grows
    #[arg(long, value_name = "N")]
    pub(crate) version: Version,

    #[command(flatten)]
    rules: RuleArguments,

    #[command(flatten)]
    installation: InstallationArguments,
}

/// Everything that a record needs but the secret: had before any work begins.
pub(crate) struct Prepared {
    publisher: SigningKey,
    broker: SealingKey,
    recovery: Vec<RecipientKey>,
    root: PublicKey,
    version: Version,
    policy: Name,
    authority: PublicKey,
}

/// Why no record can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The publisher's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The broker's sealing key.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// The record itself.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A recipient that stands there twice.
    #[error("recipient {id} is named twice, or is the broker's own sealing key")]
    RecipientTwice { id: Digest },
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::File(error) => error.into(),
            RecordError::Key(error) => error.into(),
            RecordError::Installation(error) => error.into(),
            RecordError::Envelope(EnvelopeError::SecretSize { .. } | EnvelopeError::Recipients { .. })
            | RecordError::RecipientTwice { .. } => Self::usage(error),
            RecordError::Envelope(_) => Self::failed(error),
        }
    }
}

impl ReleaseArguments {
    /// Gets key and certificates; asks for the passphrase where one is needed.
    pub(crate) fn prepare(self, console: &mut Console<'_>) -> Result<Prepared, RecordError> {
        let root = self.installation.pinned.root;
        self.rules.prepare(console, root, self.version, &self.installation.certificates()?)
    }
}

impl RuleArguments {
    /// The broker's key comes from these certificates, of which nothing is believed but what `root` has signed; asks for the passphrase
    /// where one is needed.
    pub(crate) fn prepare(
        self,
        console: &mut Console<'_>,
        root: PublicKey,
        version: Version,
        certificates: &[SignedDocument],
    ) -> Result<Prepared, RecordError> {
        let broker = sealing_key(certificates, &root, clock::now())?;
        let mut recipients = vec![broker.key.id()];
        for key in &self.recovery {
            if recipients.contains(&key.id()) {
                return Err(RecordError::RecipientTwice { id: key.id() });
            }
            recipients.push(key.id());
        }
        if broker.anchors == AnchorClass::Test {
            console.warning(&format!("TEST ROOTS: installation {} trusts soft platforms; seal nothing of value for it", broker.name));
        }
        let publisher = keys::signing_key(&self.publisher_key, KeyKind::Publisher, &self.unlock)?;
        Ok(Prepared { publisher, broker, recovery: self.recovery, root, version, policy: self.policy, authority: self.authority })
    }
}

impl Prepared {
    /// The key that signs manifest and statement.
    pub(crate) const fn publisher(&self) -> &SigningKey {
        &self.publisher
    }

    /// What the installation is called.
    pub(crate) const fn installation(&self) -> &Name {
        &self.broker.name
    }

    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Commits to the secret, signs, seals to the broker and every further recipient.
    pub(crate) fn record(self, kind: Kind, name: Name, manifest: Option<Digest>, secret: &[u8]) -> Result<RecordFile, RecordError> {
        let draft = Draft {
            installation: self.root,
            name,
            version: self.version,
            kind,
            manifest,
            policy: self.policy,
            authority: self.authority,
            anchors: self.broker.anchors,
        };
        let recipients: Vec<RecipientKey> = std::iter::once(self.broker.key).chain(self.recovery).collect();
        Ok(write_record(draft, secret, &recipients, &self.publisher)?)
    }
}

/// Writes a new record file.
pub(crate) fn write(path: &Path, record: &RecordFile) -> Result<(), FileError> {
    let mut json = serde_json::to_vec_pretty(record).unwrap_or_default();
    json.push(b'\n');
    files::write_new(path, Access::Public, &json)
}
