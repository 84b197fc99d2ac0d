//! What a mount reads from, looked at anew for each range: what lies at a path may be another file than a moment ago.
//!
//! A file that was opened once would go on being readable after somebody deleted or replaced it. Its bytes would still be the
//! sealed ones, but the folder no longer the sealed model, and a restart would find that out at a worse time. So before each
//! range the path is looked at without following links: it must be the file that is open, regular, and of the sealed size.
//! What is read is checked by [`models_manifest`] all the same.
//!
//! A web server or an object store says with each range how long the object is; it must be the sealed size ([`Remote::in_parts`]).

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use models_manifest::folder::{FolderSource, read_manifest};
use models_manifest::signature::SignatureError;
use models_manifest::{Backend, Contents, Manifest, ModelKey, ModelPath, OpenError, Progress, RangeSource, SealedModel};
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use zeroize::Zeroizing;

use super::order::Order;
use crate::config::RequiredModelSigner;
use crate::sources::{ReachError, Reached, Remote, SealedLocation, Source, Stopper, Storage};

/// Files kept open at most: a process may have 1024.
const OPEN_FILES: usize = 256;

/// What lies at a file's path is not what was sealed, whatever its bytes are. Comes inside an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageChanged {
    /// The file has another size.
    #[error("it has {found} bytes; sealed it has {expected}")]
    Size {
        /// The size of the sealed file by the manifest.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// A link, a folder, a device: no file.
    #[error("no regular file lies there")]
    NotAFile,
}

impl StorageChanged {
    /// A stable name, the same that an [`OpenError`] has for it where the folder is checked before it is mounted.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Size { .. } => "file-size",
            Self::NotAFile => "special-file",
        }
    }

    /// The one inside an error, if there is one.
    #[must_use]
    pub fn inside(error: &OpenError) -> Option<Self> {
        match error {
            OpenError::Io { error, .. } => error.get_ref()?.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// A sealed folder as a [`RangeSource`] that notices what becomes of it.
pub struct LiveFolder {
    root: PathBuf,
    sizes: HashMap<String, u64>,
    open: Mutex<HashMap<String, Arc<File>>>,
}

impl LiveFolder {
    /// Over the sealed folder at `root`, whose files shall have the sizes that `contents` gives them. Reads nothing yet.
    #[must_use]
    pub fn new(root: &Path, contents: &Contents) -> Self {
        let sizes = contents.files().iter().map(|file| (file.path().to_string(), file.geometry().sealed_size())).collect();
        Self { root: root.to_owned(), sizes, open: Mutex::default() }
    }

    /// The file at `path`, as it is now.
    fn file(&self, path: &ModelPath) -> io::Result<Arc<File>> {
        let full = self.root.join(path.to_path());
        let there = self.acceptable(path, fs::symlink_metadata(&full)?)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(path.as_str())
            && same(&file.metadata()?, &there)
        {
            return Ok(Arc::clone(file));
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&full)?;
        self.acceptable(path, file.metadata()?)?;
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        let file = Arc::new(file);
        open.insert(path.to_string(), Arc::clone(&file));
        Ok(file)
    }

    fn acceptable(&self, path: &ModelPath, there: Metadata) -> io::Result<Metadata> {
        let expected = self.sizes.get(path.as_str()).copied().ok_or(ErrorKind::NotFound)?;
        if !there.is_file() {
            return Err(io::Error::other(StorageChanged::NotAFile));
        }
        if there.len() != expected {
            return Err(io::Error::other(StorageChanged::Size { expected, found: there.len() }));
        }
        Ok(there)
    }
}

/// Whether both are one file.
fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

impl RangeSource for LiveFolder {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        Ok(self.file(path)?.metadata()?.len())
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(path)?.read_exact_at(buffer, offset)
    }
}

/// What a mount serves, and whose word for it is believed.
#[derive(Clone, Copy, Debug)]
pub struct Believed<'a> {
    /// Whose manifests are believed.
    pub publishers: &'a [PublicKey],
    /// The digest of the manifest that was released.
    pub released: &'a Digest,
}

/// Where the bytes of a mounted model come from, looked at anew for each range.
pub type Live = Source<LiveFolder>;

/// Everything that can be known of a sealed model before its first chunk: manifest, key, and where it lies in a folder, that this holds
/// the listed files, in their sizes, and nothing else. Of a model that lies elsewhere, `ahead` bytes at most are fetched before they are
/// asked for. Before anything is fetched, `stoppable` is given what ends the fetching from another thread.
///
/// # Errors
/// [`ReachError::Fetch`] where the storage does not give the manifest; else as [`models_manifest::unlock_folder`].
pub fn unlock(
    (sealed, storage): (&SealedLocation, &Storage),
    believed: Believed<'_>,
    key: ModelKey,
    ahead: Option<usize>,
    stoppable: impl FnOnce(Stopper),
) -> Result<SealedModel<Live>, ReachError> {
    let authenticate = |json: &[u8]| Manifest::authenticate(json, believed.publishers, believed.released);
    let SealedLocation::Folder(folder) = sealed else {
        let remote = Remote::new(sealed, storage)?;
        stoppable(remote.stopper());
        let manifest = authenticate(&remote.manifest()?)?;
        let source = Source::Remote(remote.in_parts(manifest.contents(), ahead));
        return Ok(SealedModel::unlock(source, manifest, key, Backend::default())?);
    };
    let manifest = authenticate(&read_manifest(folder)?)?;
    let source = Source::Folder(LiveFolder::new(folder, manifest.contents()));
    let model = SealedModel::unlock(source, manifest, key, Backend::default())?;
    FolderSource::new(folder).check_listing(model.contents())?;
    Ok(model)
}

/// Why a model's signer was not found to be the required one.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The sealed model was not reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// It does not bear the signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Holds what `order` is about to the signer that the configuration requires of it, before anything of it is served: the server
/// then serves what leads to the same roots, or nothing. Where the files are to be hashed, all of them are read for that, in order.
/// Before anything is fetched, `stoppable` is given what ends the fetching from another thread, as by [`Reached::at_until`]: `progress`
/// alone ends nothing that waits for the storage.
///
/// # Errors
/// [`SignerError`].
pub fn check_signer(
    order: &Order,
    required: &RequiredModelSigner,
    stoppable: impl FnOnce(Stopper),
    progress: &mut dyn Progress,
) -> Result<(), SignerError> {
    let key = ModelKey::from_bytes(Zeroizing::new(*order.key.as_bytes()));
    let reached = Reached::at_until(&order.sealed, &order.storage, stoppable)?;
    let model = reached.unlock(&order.publishers, &order.manifest, key).map_err(SignatureError::Open)?;
    Ok(required.verify(&model, progress)?)
}
