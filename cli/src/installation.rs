//! The installation that a publisher or auditor has pinned: its root, and the certified keys that hold now.

use std::path::Path;

use clap::Args;
use protocol::documents::{Certificate, CertificateError};
use protocol::dsse::SignedDocument;
use protocol::hpke::RecipientKey;
use protocol::ids::{AnchorClass, Name};
use protocol::keys::PublicKey;
use protocol::limits;
use protocol::messages::InstallationAnswer;
use protocol::time::UnixTime;

use crate::broker::{BrokerError, TransportArguments};
use crate::failure::Failure;
use crate::files::{self, FileError};
use crate::keys;

/// The pinned root.
#[derive(Args)]
pub(crate) struct RootArgument {
    /// The installation root's public key, `ed25519:…` or a .pub file: whoever certifies the broker's keys
    #[arg(long, value_name = "KEY", env = "PORTCULLIS_ROOT", value_parser = keys::public_key)]
    pub(crate) root: PublicKey,
}

/// Where the certified keys come from.
#[derive(Args)]
pub(crate) struct InstallationArguments {
    #[command(flatten)]
    pub(crate) pinned: RootArgument,

    /// The broker's certified keys: its URL, or a file with what it answers at /v1/installation
    #[arg(long, value_name = "URL|FILE", env = "PORTCULLIS_BROKER")]
    installation: String,

    #[command(flatten)]
    transport: TransportArguments,
}

impl InstallationArguments {
    /// Fetches or reads the certificates; nothing about them is believed yet.
    pub(crate) fn certificates(&self) -> Result<Vec<SignedDocument>, InstallationError> {
        let answer = if self.installation.starts_with("https://") || self.installation.starts_with("http://") {
            self.transport.connect(&self.installation)?.installation()?
        } else {
            read(Path::new(&self.installation))?
        };
        Ok(answer.certificates)
    }
}

fn read(path: &Path) -> Result<InstallationAnswer, InstallationError> {
    let json = files::read(path, "an installation's certificates", limits::DOCUMENT)?;
    serde_json::from_slice(&json).map_err(|error| InstallationError::Form { path: path.display().to_string(), what: error.to_string() })
}

/// The key that a broker opens records with, as the pinned root certified it.
#[derive(Debug)]
pub(crate) struct SealingKey {
    /// What the installation is called.
    pub(crate) name: Name,
    /// The class of roots under which it judges evidence.
    pub(crate) anchors: AnchorClass,
    /// The key.
    pub(crate) key: RecipientKey,
}

/// The sealing key that holds at `at`; of several, the one that was certified last.
pub(crate) fn sealing_key(certificates: &[SignedDocument], root: &PublicKey, at: UnixTime) -> Result<SealingKey, InstallationError> {
    let found = certified(certificates, root, at, Certificate::sealing, "sealing")?;
    let certificates = found.into_iter().map(|(certificate, _)| certificate);
    let newest =
        certificates.max_by_key(|certificate| certificate.body().not_before).ok_or(InstallationError::NoKey { purpose: "sealing" })?;
    let body = newest.body();
    Ok(SealingKey { name: body.name.clone(), anchors: body.anchors, key: newest.sealing()?.clone() })
}

/// A certificate that holds, and the document that it is.
pub(crate) type Certified = (Certificate, SignedDocument);

/// The keys that sign the log at `at`, with the certificate of each.
pub(crate) fn log_certificates(
    certificates: &[SignedDocument],
    root: &PublicKey,
    at: UnixTime,
) -> Result<Vec<Certified>, InstallationError> {
    certified(certificates, root, at, Certificate::log, "log")
}

/// The certificates of keys for one purpose that hold at `at`: at least one. Where none does, the reason is that of the last refused one.
fn certified<K>(
    certificates: &[SignedDocument],
    root: &PublicKey,
    at: UnixTime,
    key: impl Fn(&Certificate) -> Result<&K, CertificateError>,
    purpose: &'static str,
) -> Result<Vec<Certified>, InstallationError> {
    let mut found = Vec::new();
    let mut refused = InstallationError::NoKey { purpose };
    for signed in certificates {
        match Certificate::verify(signed, root, at) {
            Ok(certificate) if key(&certificate).is_ok() => found.push((certificate, signed.clone())),
            Ok(_) => {}
            Err(error) => refused = InstallationError::NotCertified { purpose, error },
        }
    }
    if found.is_empty() { Err(refused) } else { Ok(found) }
}

/// Why there is no key to seal to or to check the log by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallationError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds something else.
    #[error("{path} does not hold an installation's certificates: {what}")]
    Form { path: String, what: String },
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No certificate for this purpose at all.
    #[error("the installation has no certified {purpose} key")]
    NoKey { purpose: &'static str },
    /// Some certificate was refused, and no other is for this purpose.
    #[error("the pinned root has certified no {purpose} key for now: {error}")]
    NotCertified { purpose: &'static str, error: CertificateError },
    /// Not for this purpose.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl From<InstallationError> for Failure {
    fn from(error: InstallationError) -> Self {
        match error {
            InstallationError::File(error) => error.into(),
            InstallationError::Broker(error) => error.into(),
            InstallationError::Form { .. } => Self::usage(error).hint("save what the broker answers at /v1/installation"),
            InstallationError::NotCertified { error: CertificateError::Document(_), .. } => {
                Self::failed(error).hint("is --root the root of this installation? ask its operator by another way than the broker itself")
            }
            InstallationError::NotCertified { error: CertificateError::Window { .. }, .. } => {
                Self::failed(error).hint("the operator renews certificates with `portcullis certify`; check this machine's clock too")
            }
            InstallationError::NotCertified { .. } | InstallationError::NoKey { .. } | InstallationError::Certificate(_) => {
                Self::failed(error)
            }
        }
    }
}
