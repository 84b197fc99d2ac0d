//! Files and folders of collateral, in whatever form, as pieces.

use std::fs;
use std::path::{Path, PathBuf};

use attestation::forms::{self, CollateralFile, FormError, Gathered};
use protocol::collateral::{CollateralBundleBody, CollateralPiece};
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::keys::{KeyId, PublicKey};
use protocol::limits;
use protocol::time::UnixTime;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files::{self, FileError};

/// How deep folders may lie in each other.
const DEPTH: usize = 8;

/// Files that are read at most: each of a bundle's pieces in one, and as many beside them.
const FILES: usize = 2 * limits::COLLATERAL_PIECES;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Each piece once.
    pub(crate) pieces: Vec<CollateralPiece>,
    /// Files that gave nothing, and why.
    pub(crate) left_out: Vec<LeftOut>,
    /// The bundles among the files.
    pub(crate) bundles: Vec<Bundle>,
}

/// A file that gave nothing.
#[derive(Debug)]
pub(crate) struct LeftOut {
    pub(crate) path: PathBuf,
    pub(crate) why: FormError,
}

/// A bundle: who signed it, when.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) signed: SignedDocument,
    pub(crate) created: UnixTime,
    pub(crate) signer: Signer,
}

/// How far the carrier is known. The pieces are verified either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The authority that was named.
    Verified(PublicKey),
    /// Whoever; the key id is what the signature says.
    NotChecked(KeyId),
}

/// Why there is nothing to go on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A folder cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Folder { path: PathBuf, error: std::io::Error },
    /// Too much.
    #[error("{path} holds more than {FILES} files, or folders more than {DEPTH} deep", path = path.display())]
    TooMany { path: PathBuf },
    /// A bundle that the named authority did not sign.
    #[error("{path}: {error}", path = path.display())]
    Bundle { path: PathBuf, error: DocumentError },
    /// A file that was named itself, and is none.
    #[error("{path} holds no collateral: {why}", path = path.display())]
    NoForm { path: PathBuf, why: FormError },
    /// Nothing at all.
    #[error("no collateral in {path}", path = path.display())]
    Nothing { path: PathBuf },
}

impl From<FormsError> for Failure {
    fn from(error: FormsError) -> Self {
        match error {
            FormsError::File(error) => error.into(),
            FormsError::Bundle { error: DocumentError::UnknownSigner { .. } | DocumentError::BadSignature { .. }, .. } => {
                Self::failed(error).hint("the bundle came from somebody else than the authority that --authority names")
            }
            FormsError::Bundle { .. } => Self::failed(error),
            FormsError::NoForm { why: FormError::NoChain, .. } => {
                Self::usage(error).hint("name the folder that holds the body and the PEM chain of its signer, as its HTTP header had it")
            }
            FormsError::NoForm { .. } | FormsError::Nothing { .. } => Self::usage(error)
                .hint("bundles, DER, PEM, bodies of Intel's collateral service with their chains, dcap-qvl's JSON and the PCS client tool's are read"),
            FormsError::Folder { .. } | FormsError::TooMany { .. } => Self::usage(error),
        }
    }
}

/// Reads files and folders. Of a folder, what is no collateral is left out; a file that is named must be some.
pub(crate) fn read(paths: &[PathBuf], authority: Option<&PublicKey>) -> Result<Found, FormsError> {
    let mut found = Found::default();
    for path in paths {
        let before = found.pieces.len();
        if path.is_dir() {
            let mut read = 0;
            folder(path, DEPTH, &mut read, authority, &mut found)?;
        } else {
            let at = found.left_out.len();
            gather(vec![path.clone()], authority, &mut found)?;
            if let Some(LeftOut { path, why }) = found.left_out.drain(at..).next() {
                return Err(FormsError::NoForm { path, why });
            }
        }
        if found.pieces.len() == before && found.bundles.is_empty() {
            return Err(FormsError::Nothing { path: path.clone() });
        }
    }
    Ok(found)
}

/// A folder's files lie beside each other; its folders stand for themselves.
fn folder(path: &Path, depth: usize, read: &mut usize, authority: Option<&PublicKey>, found: &mut Found) -> Result<(), FormsError> {
    let failed = |error| FormsError::Folder { path: path.to_owned(), error };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let list = if path.is_dir() { &mut folders } else { &mut files };
        list.push(path);
    }
    *read += files.len();
    if *read > FILES || (depth == 0 && !folders.is_empty()) {
        return Err(FormsError::TooMany { path: path.to_owned() });
    }
    files.sort();
    folders.sort();
    gather(files, authority, found)?;
    folders.iter().try_for_each(|path| folder(path, depth - 1, read, authority, found))
}

/// Reads files that lie beside each other.
fn gather(paths: Vec<PathBuf>, authority: Option<&PublicKey>, found: &mut Found) -> Result<(), FormsError> {
    let read = |path: &PathBuf| files::read(path, "collateral", limits::COLLATERAL_BUNDLE);
    let contents: Vec<Zeroizing<Vec<u8>>> = paths.iter().map(read).collect::<Result<_, _>>()?;
    let names: Vec<String> = paths.iter().map(|path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()).collect();
    let files: Vec<_> = names.iter().zip(&contents).map(|(name, bytes)| CollateralFile { name, bytes }).collect();
    let Gathered { pieces, files } = forms::gather(&files);
    for ((path, bytes), file) in paths.into_iter().zip(&contents).zip(files) {
        match file.read {
            Ok(forms::Form::Bundle) => found.bundles.push(bundle(path, bytes, authority)?),
            Ok(_) => {}
            Err(why) => found.left_out.push(LeftOut { path, why }),
        }
    }
    for piece in pieces {
        if !found.pieces.iter().any(|known| known.kind == piece.kind && known.bytes == piece.bytes) {
            found.pieces.push(piece);
        }
    }
    Ok(())
}

/// Who signed a bundle, as far as anybody asks.
fn bundle(path: PathBuf, bytes: &[u8], authority: Option<&PublicKey>) -> Result<Bundle, FormsError> {
    let read = || -> Result<_, DocumentError> {
        let signed = SignedDocument::parse::<CollateralBundleBody>(bytes)?;
        let signer = match authority {
            Some(authority) => Signer::Verified(*signed.authenticate::<CollateralBundleBody>(&[*authority])?.signer()),
            None => Signer::NotChecked(signed.signatures[0].keyid),
        };
        let created = CollateralBundleBody::of_anybody(&signed)?.created;
        Ok((signed, created, signer))
    };
    match read() {
        Ok((signed, created, signer)) => Ok(Bundle { path, signed, created, signer }),
        Err(error) => Err(FormsError::Bundle { path, error }),
    }
}
