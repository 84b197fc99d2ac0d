//! Certificates and revocation lists from files, as DER or PEM.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{PemObject as _, SectionKind};

use crate::failure::Failure;
use crate::files::{self, FileError};

/// The largest file of certificates or revocation lists that is read (bytes): a list at its own limit, in base64.
const LIMIT: usize = 512 * 1024;

/// What a file should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Certificates,
    RevocationLists,
}

impl Content {
    const fn section(self) -> SectionKind {
        match self {
            Self::Certificates => SectionKind::Certificate,
            Self::RevocationLists => SectionKind::Crl,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::RevocationLists => "revocation lists",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Certificates => "CERTIFICATE",
            Self::RevocationLists => "X509 CRL",
        }
    }
}

/// Why a file holds no certificates or revocation lists.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PemError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing in it.
    #[error("{path} is empty; expected {what} as DER or PEM", path = path.display())]
    Empty { path: PathBuf, what: &'static str },
    /// PEM that is none.
    #[error("{path} is damaged PEM: {why}", path = path.display())]
    Damaged { path: PathBuf, why: String },
    /// PEM of something else.
    #[error("{path} holds PEM, but no block `{label}`", path = path.display())]
    OtherContent { path: PathBuf, label: &'static str },
}

impl From<PemError> for Failure {
    fn from(error: PemError) -> Self {
        match error {
            PemError::File(error) => error.into(),
            PemError::OtherContent { .. } => {
                Self::usage(error).hint("certificates go to --cert, revocation lists to --crl, test roots to --anchors")
            }
            PemError::Empty { .. } | PemError::Damaged { .. } => Self::usage(error),
        }
    }
}

/// All certificates, or revocation lists, of one file, as DER. What is not PEM is taken for DER; whether it is any is the verifier's to judge.
pub(crate) fn read(path: &Path, content: Content) -> Result<Vec<Vec<u8>>, PemError> {
    let bytes = files::read(path, content.what(), LIMIT)?;
    if bytes.is_empty() {
        return Err(PemError::Empty { path: path.to_owned(), what: content.what() });
    }
    if !bytes.windows(PEM.len()).any(|window| window == PEM) {
        return Ok(vec![bytes.to_vec()]);
    }
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
        let (kind, der) = section.map_err(|error| PemError::Damaged { path: path.to_owned(), why: error.to_string() })?;
        if kind == content.section() {
            found.push(der);
        }
    }
    if found.is_empty() { Err(PemError::OtherContent { path: path.to_owned(), label: content.label() }) } else { Ok(found) }
}

/// How every PEM block starts; no DER certificate of the profiles contains it.
const PEM: &[u8] = b"-----BEGIN ";
