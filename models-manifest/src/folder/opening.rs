//! A sealed model to a folder of plaintext.

use protocol::ids::Digest;
use protocol::keys::PublicKey;
use std::io;
use std::path::Path;

use super::partial::{Partial, PublishError};
use super::source::FolderSource;
use super::{read_manifest, shown};
use crate::cipher::Backend;
use crate::error::OpenError;
use crate::keys::ModelKey;
use crate::manifest::{Contents, Manifest};
use crate::open::{Opened, SealedModel};
use crate::path::ModelPath;
use crate::source::{Meter, OpenPlaces, Progress, RangeSource, SharedSink};
use crate::work::Workers;

/// What to open, and whose word for it to take.
#[derive(Clone, Copy, Debug)]
pub struct OpenFolder<'a> {
    /// The sealed folder.
    pub sealed: &'a Path,
    /// Whose manifests are believed.
    pub publishers: &'a [PublicKey],
    /// The digest of the manifest that was released.
    pub released: &'a Digest,
    /// Which implementation decrypts.
    pub backend: Backend,
}

/// Where plaintext goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// A new or empty folder. The file system that it lies on is the caller's to judge.
    pub destination: &'a Path,
    /// A folder, such as the sealed one, that the destination must neither lie in nor hold.
    pub apart_from: Option<&'a Path>,
    /// How many threads decrypt.
    pub workers: Workers,
    /// What becomes of work that does not come to its end.
    pub attempt: Attempt,
}

impl<'a> Opening<'a> {
    /// To `destination`, by all processors, once.
    #[must_use]
    pub fn to(destination: &'a Path) -> Self {
        Self { destination, apart_from: None, workers: Workers::default(), attempt: Attempt::Once }
    }
}

/// What becomes of an opening that fails or is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing is left of it.
    Once,
    /// What was opened stays beside the destination, under the name that [`Attempt::place`] says, and the next attempt of this kind goes on
    /// from there, even where this one was killed. Each chunk that lies there counts only after it was checked against the signed root again;
    /// any other is opened anew.
    Resumed,
}

impl Attempt {
    /// Where a resumed attempt at `destination` keeps its work.
    ///
    /// # Errors
    /// [`OpenError::Destination`] where no folder can be made there.
    pub fn place(destination: &Path) -> Result<std::path::PathBuf, OpenError> {
        Ok(super::partial::kept_place(destination)?)
    }
}

/// Opens a sealed folder, by [`unlock_folder`] and [`open_model`].
///
/// # Errors
/// [`OpenError`], by its variants; the destination is then as it was.
pub fn open_folder(order: OpenFolder<'_>, key: ModelKey, opening: Opening<'_>, progress: &mut dyn Progress) -> Result<Contents, OpenError> {
    let model = unlock_folder(order, key)?;
    open_model(&model, Opening { apart_from: Some(order.sealed), ..opening }, progress)?;
    Ok(model.contents().clone())
}

/// Opens a model to a folder, from wherever its files come.
///
/// # Errors
/// As [`SealedModel::copy_all`]; [`OpenError::Destination`]; the destination is then as it was.
pub fn open_model<S: RangeSource + Sync>(
    model: &SealedModel<S>,
    opening: Opening<'_>,
    progress: &mut dyn Progress,
) -> Result<Opened, OpenError> {
    let partial = Partial::to_open(opening.destination, opening.apart_from, opening.attempt)?;
    let io = |action| move |error| OpenError::Io { action, path: shown(opening.destination), error };
    partial.keep_only(model.contents()).map_err(io("tidy what an earlier attempt left beside"))?;
    let mut meter = Meter::new(model.contents().total(), progress);
    let opened = model.copy_all(&partial, opening.workers, &mut meter)?;
    partial.publish().map_err(|error| match error {
        PublishError::Destination(error) => error.into(),
        PublishError::Io(error) => io("rename to")(error),
    })?;
    Ok(opened)
}

impl OpenPlaces for Partial {
    fn opened(&self, path: &ModelPath, size: u64) -> io::Result<Box<dyn SharedSink>> {
        Ok(Box::new(self.file(path, size)?))
    }
}

/// Everything that can be known of a sealed folder before its first chunk: manifest, key, and that the folder holds the listed
/// files, in their sizes, and nothing else. For random access, give the result to [`crate::Reader::new`].
///
/// # Errors
/// In this order: as [`Manifest::authenticate`]; [`OpenError::WrongKey`]; [`OpenError::Symlink`], [`OpenError::SpecialFile`],
/// [`OpenError::Unlisted`], [`OpenError::FileSize`], [`OpenError::FileMissing`].
pub fn unlock_folder(order: OpenFolder<'_>, key: ModelKey) -> Result<SealedModel<FolderSource>, OpenError> {
    let json = read_manifest(order.sealed)?;
    let manifest = Manifest::authenticate(&json, order.publishers, order.released)?;
    let model = SealedModel::unlock(FolderSource::new(order.sealed), manifest, key, order.backend)?;
    model.source().check_listing(model.contents())?;
    Ok(model)
}
