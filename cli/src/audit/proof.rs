//! The proof of one entry as a file that is checked offline.

use protocol::documents::{Certificate, CertificateError};
use protocol::dsse::SignedDocument;
use protocol::entries::{Entry, EntryError};
use protocol::keys::PublicKey;
use protocol::log::note::BadOrigin;
use protocol::log::proof::{LogError, Receipt};
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::entries;
use crate::console::Console;
use crate::failure::Failure;
use crate::records::Form;

/// An entry, the proof that the log has it, and the certificate of the log's key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofFile {
    /// The root's word for the log's key.
    pub(super) certificate: SignedDocument,
    /// The entry, and its tlog-proof.
    pub(super) receipt: Receipt,
}

/// Why a proof does not hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    /// The log's key is not certified by the root, or not at this time.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The installation's name makes no log name.
    #[error(transparent)]
    Origin(#[from] BadOrigin),
    /// The receipt does not hold.
    #[error(transparent)]
    Receipt(#[from] LogError),
    /// The log has these bytes, and they are no entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The entry is of another installation than the one whose log has it.
    #[error("the entry names installation {found}, not {expected}")]
    Installation {
        /// The pinned root.
        expected: PublicKey,
        /// What the entry names.
        found: PublicKey,
    },
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Certificate(CertificateError::Window { .. }) => {
                Self::failed(error).hint("to check a proof as of the time that it was made, add --at")
            }
            other => Self::failed(other),
        }
    }
}

/// An entry that the log has.
#[derive(Debug)]
pub(super) struct Proven {
    index: u64,
    size: u64,
    entry: Entry,
}

impl ProofFile {
    /// Checks certificate, checkpoint, inclusion and entry under the pinned root.
    pub(super) fn check(&self, root: &PublicKey, at: UnixTime) -> Result<Proven, CheckError> {
        let certificate = Certificate::verify(&self.certificate, root, at)?;
        let origin = format!("{}/log", certificate.body().name).parse()?;
        let receipt = self.receipt.verify(&origin, certificate.log()?)?;
        let entry = Entry::parse(receipt.entry())?;
        if entry.installation != *root {
            return Err(CheckError::Installation { expected: *root, found: entry.installation });
        }
        Ok(Proven { index: receipt.index(), size: receipt.size(), entry })
    }
}

impl Proven {
    pub(super) fn print(&self, form: Form, console: &mut Console<'_>) {
        match form {
            Form::Json => console.json(&json!({ "index": self.index, "size": self.size, "entry": self.entry })),
            Form::Text => {
                entries::print(self.index, &self.entry, Form::Text, console);
                console.line(format!("the log has this entry: index {} of {}", self.index, self.size));
            }
        }
    }
}
