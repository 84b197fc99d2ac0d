//! The roots that evidence and collateral are judged under: the vendors', or test roots from a file.

use std::path::{Path, PathBuf};

use attestation::{Anchors, BadAnchor, ProductLine};

use crate::failure::Failure;
use crate::pem::{self, Content, PemError};

/// Why there are no roots.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnchorsError {
    /// The file.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A root that is none.
    #[error("{path}: {error}", path = path.display())]
    Root {
        /// The file of roots.
        path: PathBuf,
        /// What is wrong with it.
        error: BadAnchor,
    },
    /// Intel has one root.
    #[error("{path} holds two roots in the place of Intel's", path = path.display())]
    TwoOfIntel {
        /// The file of roots.
        path: PathBuf,
    },
}

impl From<AnchorsError> for Failure {
    fn from(error: AnchorsError) -> Self {
        match error {
            AnchorsError::Pem(error) => error.into(),
            AnchorsError::Root { .. } => Self::usage(error)
                .hint("test roots are self-signed certificates named ARK-Milan, ARK-Genoa or ARK-Turin, or Intel SGX Root CA"),
            AnchorsError::TwoOfIntel { .. } => Self::usage(error),
        }
    }
}

/// The vendors' roots, or those in a file. Which each stands for is what its own name says.
pub(crate) fn read(path: Option<&Path>) -> Result<Anchors, AnchorsError> {
    let Some(path) = path else { return Ok(Anchors::vendor()) };
    let refuse = |error| AnchorsError::Root { path: path.to_owned(), error };
    let (mut arks, mut intel) = (Vec::new(), None);
    for der in pem::read(path, Content::Certificates)? {
        match (line_of(&der), Anchors::test_with_intel(Vec::new(), der.clone())) {
            (Ok(line), _) => arks.push((line, der)),
            (Err(_), Ok(_)) if intel.is_none() => intel = Some(der),
            (Err(_), Ok(_)) => return Err(AnchorsError::TwoOfIntel { path: path.to_owned() }),
            // Of what is neither, the refusal that says more: of a root of Intel's name, Intel's.
            (Err(ark), Err(root)) => return Err(refuse(if is_named_as_intels(&der) { root } else { ark })),
        }
    }
    match intel {
        Some(root) => Anchors::test_with_intel(arks, root),
        None => Anchors::test(arks),
    }
    .map_err(refuse)
}

fn is_named_as_intels(der: &[u8]) -> bool {
    der.windows(INTEL.len()).any(|window| window == INTEL)
}

/// The name of Intel's root, as it stands in its certificate.
const INTEL: &[u8] = b"Intel SGX Root CA";

/// The line whose root this is: the one that it passes as. Where there is none, the refusal that is not merely about another line's name.
fn line_of(der: &[u8]) -> Result<ProductLine, BadAnchor> {
    let mut refused = BadAnchor::None;
    for line in ProductLine::ALL {
        match Anchors::test(vec![(line, der.to_vec())]) {
            Ok(_) => return Ok(line),
            Err(error) if matches!(refused, BadAnchor::None | BadAnchor::Name { .. }) => refused = error,
            Err(_) => {}
        }
    }
    Err(refused)
}
