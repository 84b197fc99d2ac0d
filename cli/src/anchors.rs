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
}

impl From<AnchorsError> for Failure {
    fn from(error: AnchorsError) -> Self {
        match error {
            AnchorsError::Pem(error) => error.into(),
            AnchorsError::Root { .. } => {
                Self::usage(error).hint("test roots are self-signed certificates named ARK-Milan, ARK-Genoa or ARK-Turin")
            }
        }
    }
}

/// The vendors' roots, or those in a file. Which each stands for is what its own name says.
pub(crate) fn read(path: Option<&Path>) -> Result<Anchors, AnchorsError> {
    let Some(path) = path else { return Ok(Anchors::vendor()) };
    let refuse = |error| AnchorsError::Root { path: path.to_owned(), error };
    let mut arks = Vec::new();
    for der in pem::read(path, Content::Certificates)? {
        arks.push((line_of(&der).map_err(refuse)?, der));
    }
    Anchors::test(arks).map_err(refuse)
}

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
