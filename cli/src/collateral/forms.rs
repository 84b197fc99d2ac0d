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
    pub(crate) why: Why,
}

/// Why a file gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    /// By what it holds.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The operating system refused to read it.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// A queue, socket or device, that may never end.
    #[error("no regular file")]
    Special,
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
            FormsError::Bundle { error: DocumentError::UnknownSigner { .. }, .. } => {
                Self::failed(error).hint("the bundle came from somebody else than the authority that --authority names")
            }
            FormsError::Bundle { error: DocumentError::BadSignature { .. }, .. } => {
                Self::failed(error).hint("the bundle was changed or damaged after that authority signed it: carry it anew")
            }
            FormsError::Bundle { .. } => Self::failed(error),
            FormsError::NoForm { why: FormError::NoChain, .. } => {
                Self::usage(error).hint("name the folder that holds the body and the PEM chain of its signer, as its HTTP header had it")
            }
            FormsError::NoForm { why: FormError::BrokenJson(_), .. } => Self::usage(error).hint("was it cut off on its way? carry it anew"),
            FormsError::NoForm { why: FormError::HttpAnswer, .. } => {
                Self::usage(error).hint("save the body alone, and the signing chain of its head in a PEM file beside it (curl -D HEAD -o BODY)")
            }
            FormsError::NoForm { .. } | FormsError::Nothing { .. } => Self::usage(error)
                .hint("bundles, DER, PEM, bodies of Intel's collateral service with their chains, dcap-qvl's JSON and the PCS client tool's are read"),
            FormsError::Folder { .. } | FormsError::TooMany { .. } => Self::usage(error),
        }
    }
}

/// Reads files and folders. Files that are named lie beside each other, wherever they are; one of them that is damaged is an error, and so is
/// a single one that is no collateral. Of a folder, and of several files, what is no collateral is left out.
pub(crate) fn read(paths: &[PathBuf], authority: Option<&PublicKey>) -> Result<Found, FormsError> {
    let mut reading = Reading { authority, found: Found::default(), files: 0, folders: Vec::new() };
    let (folders, files): (Vec<&PathBuf>, Vec<&PathBuf>) = paths.iter().partition(|path| path.is_dir());
    if let Some(first) = files.first() {
        some(reading.named(&files)?, first)?;
    }
    for path in folders {
        if let Some(taken) = reading.folder(path, DEPTH)? {
            some(taken, path)?;
        }
    }
    Ok(reading.found)
}

/// That something came out of a path.
fn some(taken: usize, path: &Path) -> Result<(), FormsError> {
    if taken == 0 { Err(FormsError::Nothing { path: path.to_owned() }) } else { Ok(()) }
}

/// What is being read.
struct Reading<'a> {
    authority: Option<&'a PublicKey>,
    found: Found,
    /// Files seen so far.
    files: usize,
    /// Folders read so far, by where they really are: a link may lead back into one.
    folders: Vec<PathBuf>,
}

impl Reading<'_> {
    /// Files that were named themselves, `-` among them. Gives how many pieces and bundles they held.
    fn named(&mut self, paths: &[&PathBuf]) -> Result<usize, FormsError> {
        let read = |path: &&PathBuf| Ok((path.to_path_buf(), files::read(path, "collateral", limits::COLLATERAL_BUNDLE)?));
        let contents = paths.iter().map(read).collect::<Result<Vec<_>, FileError>>()?;
        let before = self.found.left_out.len();
        let taken = self.gather(contents)?;
        let alone = paths.len() == 1;
        for left in self.found.left_out.split_off(before) {
            match left {
                LeftOut { path, why: Why::Form(why) } if alone || !is_something_else(&why) => return Err(FormsError::NoForm { path, why }),
                left => self.found.left_out.push(left),
            }
        }
        Ok(taken)
    }

    /// A folder's files lie beside each other; its folders stand for themselves. Gives how many pieces and bundles they held; `None` where it was
    /// read before.
    fn folder(&mut self, path: &Path, depth: usize) -> Result<Option<usize>, FormsError> {
        let failed = |error| FormsError::Folder { path: path.to_owned(), error };
        let real = fs::canonicalize(path).map_err(failed)?;
        if self.folders.contains(&real) {
            return Ok(None);
        }
        self.folders.push(real);
        let entries = fs::read_dir(path).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()));
        let mut entries = entries.collect::<std::io::Result<Vec<PathBuf>>>().map_err(failed)?;
        entries.sort();
        let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.into_iter().partition(|path| path.is_dir());
        self.files = self.files.saturating_add(files.len());
        if self.files > FILES || (depth == 0 && !folders.is_empty()) {
            return Err(FormsError::TooMany { path: path.to_owned() });
        }
        let mut contents = Vec::with_capacity(files.len());
        for path in files {
            match regular(&path) {
                Ok(bytes) => contents.push((path, bytes)),
                Err(why) => self.found.left_out.push(LeftOut { path, why }),
            }
        }
        let mut taken = self.gather(contents)?;
        for path in folders {
            taken += self.folder(&path, depth - 1)?.unwrap_or(0);
        }
        Ok(Some(taken))
    }

    /// Takes what files held that lie beside each other. Gives how many pieces and bundles that was, also where they were found before.
    fn gather(&mut self, contents: Vec<(PathBuf, Zeroizing<Vec<u8>>)>) -> Result<usize, FormsError> {
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let names: Vec<String> = contents.iter().map(|(path, _)| name(path)).collect();
        let files: Vec<_> = names.iter().zip(&contents).map(|(name, (_, bytes))| CollateralFile { name, bytes }).collect();
        let Gathered { pieces, files } = forms::gather(&files);
        let mut taken = pieces.len();
        for ((path, bytes), file) in contents.into_iter().zip(files) {
            match file.read {
                Ok(forms::Form::Bundle) => {
                    taken += 1;
                    self.found.bundles.push(bundle(path, &bytes, self.authority)?);
                }
                Ok(_) => {}
                Err(why) => self.found.left_out.push(LeftOut { path, why: why.into() }),
            }
        }
        for piece in pieces {
            match self.found.pieces.iter_mut().find(|known| known.kind == piece.kind && known.bytes == piece.bytes) {
                Some(known) => known.issuer_chain = known.issuer_chain.take().or(piece.issuer_chain),
                None => self.found.pieces.push(piece),
            }
        }
        Ok(taken)
    }
}

/// Whether a file is whole and no collateral, so that nothing is lost by leaving it out.
const fn is_something_else(why: &FormError) -> bool {
    matches!(why, FormError::Unknown | FormError::OtherPem | FormError::Root | FormError::PckCertificate | FormError::Sgx)
}

/// A regular file of a folder, also behind a link, within the size of any collateral.
fn regular(path: &Path) -> Result<Zeroizing<Vec<u8>>, Why> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Why::Special);
    }
    let (limit, found) = (limits::COLLATERAL_BUNDLE, usize::try_from(metadata.len()).unwrap_or(usize::MAX));
    if found > limit {
        return Err(FormError::TooLarge { limit, found }.into());
    }
    files::read(path, "collateral", limit).map_err(|error| match error {
        FileError::Read { error, .. } => error.into(),
        // It grew since.
        _ => FormError::TooLarge { limit, found: limit + 1 }.into(),
    })
}

/// Who signed a bundle, as far as anybody asks.
fn bundle(path: PathBuf, bytes: &[u8], authority: Option<&PublicKey>) -> Result<Bundle, FormsError> {
    let read = || -> Result<_, DocumentError> {
        let signed = SignedDocument::parse::<CollateralBundleBody>(forms::without_byte_order_mark(bytes))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn a_folder_that_is_gone_by_the_time_it_is_read_is_named() {
        let mut reading = Reading { authority: None, found: Found::default(), files: 0, folders: Vec::new() };
        let gone = Path::new("/nonexistent/folder");
        let error = reading.folder(gone, DEPTH).unwrap_err();
        assert!(matches!(&error, FormsError::Folder { path, .. } if path == gone));
        assert_eq!(error.to_string(), "cannot read /nonexistent/folder: No such file or directory (os error 2)");
        assert_eq!(Failure::from(error).exit(), Exit::Usage);
    }
}
