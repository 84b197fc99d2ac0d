//! Where sealed models lie: a folder, a web server, an object store. None of them is trusted: each gives bytes by ranges, and
//! `models_manifest` holds every chunk of them against what the publisher signed.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`location`] | what people write: a path, `https://…`, `s3://…` |
//! | [`settings`] | `[storage]` of `guest.toml` |
//! | [`remote`] | ranges of several MiB, fetched ahead over several connections, in bounded memory |
//! | [`fetch`] | one range, asked for again until it is whole |
//! | [`transport`] | one request: redirects, the idle limit, the body up to what was asked for |
//! | [`answer`] | whether an HTTP answer is the range that was asked for |
//! | [`address`] | an object's URL, signed where the store wants that |
//! | [`error`] | why a range was not fetched |
//!
//! A folder is listed, and a file that the manifest does not name refuses it. A web server or an object store is not listed: only
//! what the manifest names is ever asked for, so there is nothing that an unlisted object could do.

pub mod address;
pub mod answer;
pub mod error;
pub mod fetch;
pub mod location;
pub mod remote;
pub mod settings;
pub mod transport;

use std::io;

use models_manifest::folder::read_manifest;
use models_manifest::{Backend, FolderSource, Inspection, ModelKey, ModelPath, OpenError, RangeSource, SealedModel};
use protocol::ids::Digest;
use protocol::keys::PublicKey;

pub use error::FetchError;
pub use location::{LocationError, SealedLocation};
pub use remote::{Remote, Stopper};
pub use settings::Storage;

/// Where a sealed model's bytes come from, whichever it is.
pub enum Source<F = FolderSource> {
    /// A folder.
    Folder(F),
    /// A web server or an object store.
    Remote(Remote),
}

impl<F: RangeSource> RangeSource for Source<F> {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        match self {
            Self::Folder(folder) => folder.length(path),
            Self::Remote(remote) => remote.length(path),
        }
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Folder(folder) => folder.read_at(path, offset, buffer),
            Self::Remote(remote) => remote.read_at(path, offset, buffer),
        }
    }

    fn will_read(&self, path: &ModelPath, offset: u64, length: u64) {
        match self {
            Self::Folder(folder) => folder.will_read(path, offset, length),
            // It fetches ahead by itself.
            Self::Remote(_) => {}
        }
    }

    fn forget(&self, path: &ModelPath) {
        match self {
            Self::Folder(folder) => folder.forget(path),
            Self::Remote(remote) => remote.forget(path),
        }
    }
}

/// A sealed model that was reached: its manifest is here, and parses. Nothing of it is believed yet.
pub struct Reached {
    source: Source,
    manifest: Vec<u8>,
    inspection: Inspection,
}

impl Reached {
    /// Reads the manifest at `location`. That needs no key, so it is done before one is asked for.
    ///
    /// # Errors
    /// [`ReachError::Fetch`] where the storage cannot be used; [`ReachError::Open`] where there is no manifest, or it is none.
    pub fn at(location: &SealedLocation, storage: &Storage) -> Result<Self, ReachError> {
        Self::at_until(location, storage, drop)
    }

    /// The same, and before anything is fetched, `stoppable` is given what ends the fetching from another thread; a folder has nothing to end.
    ///
    /// # Errors
    /// As [`Self::at`]; once it was stopped, [`FetchError::Stopped`].
    pub fn at_until(location: &SealedLocation, storage: &Storage, stoppable: impl FnOnce(Stopper)) -> Result<Self, ReachError> {
        let (source, manifest) = match location {
            SealedLocation::Folder(folder) => (Source::Folder(FolderSource::new(folder)), read_manifest(folder)?),
            SealedLocation::Http(_) | SealedLocation::Bucket { .. } => {
                let remote = Remote::new(location, storage)?;
                stoppable(remote.stopper());
                let manifest = remote.manifest()?;
                (Source::Remote(remote), manifest)
            }
        };
        let inspection = Inspection::read(&manifest, &[])?;
        Ok(Self { source, manifest, inspection })
    }

    /// What the manifest says, signed or not.
    #[must_use]
    pub const fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Begins to fetch what is read first: the files' tables and first ranges, as the manifest says they are, up to half of the
    /// memory. Returns at once; a folder has nothing to fetch. What a wrong manifest makes us fetch is bytes of the same storage.
    pub fn prefetch(&self) {
        if let Source::Remote(remote) = &self.source {
            remote.prefetch(&self.inspection.contents);
        }
    }

    /// What ends the fetching from another thread; a folder has nothing to end.
    #[must_use]
    pub fn stopper(&self) -> Option<Stopper> {
        match &self.source {
            Source::Folder(_) => None,
            Source::Remote(remote) => Some(remote.stopper()),
        }
    }

    /// Everything that can be known before the first chunk: the manifest is the released one by a publisher that is believed, the key
    /// is its, and a folder holds the listed files and nothing else.
    ///
    /// # Errors
    /// As [`SealedModel::authenticate`], then as [`FolderSource::check_listing`].
    pub fn unlock(self, publishers: &[PublicKey], released: &Digest, key: ModelKey) -> Result<SealedModel<Source>, OpenError> {
        let model = SealedModel::authenticate(self.source, &self.manifest, publishers, released, key, Backend::default())?;
        if let Source::Folder(folder) = model.source() {
            folder.check_listing(model.contents())?;
        }
        Ok(model)
    }
}

/// Why a sealed model was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The storage cannot be used, or did not give the manifest.
    #[error("the manifest was not fetched: {0}")]
    Fetch(#[from] FetchError),
    /// There is no manifest, or it is none.
    #[error(transparent)]
    Open(#[from] OpenError),
}
