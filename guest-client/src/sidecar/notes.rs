//! Notes of what lies in plaintext under the folder of models: what each version was opened under, and until when it is permitted.
//!
//! A sidecar that was killed leaves its versions behind. The next one believes of them what is noted, and nothing that is not: a noted version is
//! under the lease that it had, and need not be opened anew; anything else is removed. So a note must be this user's own word. It is
//! believed only where
//!
//! * the folder of notes is this user's alone, and no link; so is the note, and it is a file;
//! * what it speaks of lies in memory: a note on a disk could be its host's;
//! * the version's folder is this user's, and the very one that was noted (device and inode).

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::ids::{Digest, Name, Version};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::config::Way;
use super::lease::Lease;
use crate::clock::Moment;
use crate::config::RequiredModelSigner;
use crate::mount::supervised::ServerIdentity;

/// The folder of notes, under that of models.
pub const FOLDER: &str = ".portcullis";
/// The largest note (bytes): a name of a signer, digests, numbers.
const NOTE: u64 = 4096;

/// What a version was opened under. What lies there counts as open only where the same is wanted again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Under {
    /// The digest of the manifest that was released.
    pub manifest: Digest,
    /// The publisher whose manifest it is.
    pub publisher: PublicKey,
    /// Whose signature of the model was verified, and how deep.
    pub signer: Option<String>,
    /// How it was opened.
    pub way: Way,
}

impl Under {
    /// What is released now, under what the configuration requires.
    #[must_use]
    pub fn new(manifest: Digest, publisher: PublicKey, signer: Option<&RequiredModelSigner>, way: Way) -> Self {
        let signer = signer.map(|required| format!("{} {}", required.key.id(), required.contents.as_str()));
        Self { manifest, publisher, signer, way }
    }
}

/// A version's folder, by which another in its place is told from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FolderIdentity {
    device: u64,
    inode: u64,
}

impl FolderIdentity {
    /// Of this user's folder at `path`; `None` for anything else.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        (found.is_dir() && is_own(&found)).then(|| Self { device: found.dev(), inode: found.ino() })
    }
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Note {
    /// What the version was opened under.
    pub under: Under,
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The last second at which it is permitted.
    pub until: UnixTime,
    /// The same as seconds since boot.
    pub until_since_boot: u64,
    /// Of an opened folder: which.
    pub folder: Option<FolderIdentity>,
    /// Of a mount: the process that serves it.
    pub server: Option<ServerIdentity>,
}

impl Note {
    /// The lease that was noted.
    #[must_use]
    pub fn lease(&self, at: Moment) -> Lease {
        Lease::noted(self.until, Duration::from_secs(self.until_since_boot), at)
    }
}

/// The folder of notes, which is this process's as long as this lives.
pub struct Notes {
    models: PathBuf,
    folder: PathBuf,
    /// Locked.
    _lock: File,
}

impl Notes {
    /// Makes the folder of models and that of notes in it, or takes over what an earlier life left of it, if that is this user's alone. What
    /// somebody else put in its place is removed.
    ///
    /// # Errors
    /// The system's; [`ErrorKind::ResourceBusy`] while another sidecar has it.
    pub fn claim(models: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o755).create(models)?;
        let folder = models.join(FOLDER);
        if fs::symlink_metadata(&folder).is_ok_and(|found| !(found.is_dir() && is_own(&found) && is_alone(&found))) {
            remove(&folder)?;
        }
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let lock = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(&folder)?;
        let found = lock.metadata()?;
        if !(is_own(&found) && is_alone(&found)) {
            return Err(io::Error::new(ErrorKind::PermissionDenied, format!("{FOLDER} in it is another user's")));
        }
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(ErrorKind::ResourceBusy, "another sidecar keeps its models there"),
            TryLockError::Error(error) => error,
        })?;
        Ok(Self { models: models.to_owned(), folder, _lock: lock })
    }

    /// The folder of models that they are about.
    #[must_use]
    pub fn models(&self) -> &Path {
        &self.models
    }

    /// Where something may be written that then takes its place in one step: nobody else can write there.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.folder.join("new")
    }

    /// Notes a version, in one step.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, name: &Name, version: Version, note: &Note) -> io::Result<()> {
        let scratch = self.scratch();
        remove_file(&scratch)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        fs::rename(scratch, self.path(name, version))
    }

    /// The note of a version, where there is one that is this user's own.
    #[must_use]
    pub fn read(&self, name: &Name, version: Version) -> Option<Note> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(name, version)).ok()?;
        let found = file.metadata().ok()?;
        if !(found.is_file() && is_own(&found) && is_alone(&found)) {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(NOTE + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= NOTE).then(|| serde_json::from_slice(&bytes).ok())?
    }

    /// Forgets the note of a version, if there is one.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&self, name: &Name, version: Version) -> io::Result<()> {
        remove(&self.path(name, version))
    }

    /// Forgets every note but those that `keeps` says, and whatever else lies there.
    ///
    /// # Errors
    /// The system's.
    pub fn keep_only(&self, keeps: &[(Name, Version)]) -> io::Result<()> {
        let kept: Vec<PathBuf> = keeps.iter().map(|(name, version)| self.path(name, *version)).collect();
        let others = fs::read_dir(&self.folder)?.collect::<io::Result<Vec<_>>>()?.into_iter().map(|entry| entry.path());
        others.filter(|path| !kept.contains(path)).try_for_each(|path| remove(&path))
    }

    /// A name has slashes; a note's file name has `%` in their place, which no name has.
    fn path(&self, name: &Name, version: Version) -> PathBuf {
        self.folder.join(format!("{}@{version}", name.as_str().replace('/', "%")))
    }
}

fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Whether nobody else may read or write it.
fn is_alone(found: &Metadata) -> bool {
    found.mode() & 0o077 == 0
}

/// Removes a file or link, if it is there.
///
/// # Errors
/// The system's.
pub fn remove_file(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

/// Removes whatever is there; links are not followed.
///
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => absent_is_fine(fs::remove_dir_all(path)),
        _ => remove_file(path),
    }
}

fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::SignedContents;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n\
        -----END PUBLIC KEY-----\n";

    /// What tests open versions under.
    fn under() -> Under {
        Under::new(Digest::from([1; 32]), PublicKey::from_bytes([2; 32]), None, Way::Open)
    }

    fn note() -> Note {
        let until = UnixTime::from_seconds(1_000);
        Note { under: under(), files: 3, bytes: 9, until, until_since_boot: 7, folder: None, server: None }
    }

    fn llama() -> (Name, Version) {
        ("acme/llama".parse().unwrap(), Version::FIRST)
    }

    #[test]
    fn a_note_is_read_as_it_was_written_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::claim(folder.path()).unwrap();
        let (name, version) = llama();
        assert_eq!(notes.read(&name, version), None);
        notes.write(&name, version, &note()).unwrap();
        notes.write(&name, version, &Note { bytes: 10, ..note() }).unwrap();
        assert_eq!(notes.read(&name, version), Some(Note { bytes: 10, ..note() }));
        assert_eq!(notes.read(&name, "2".parse().unwrap()), None);
        notes.keep_only(&[llama()]).unwrap();
        assert!(notes.read(&name, version).is_some());
        notes.keep_only(&[]).unwrap();
        assert_eq!(notes.read(&name, version), None);
        notes.forget(&name, version).unwrap();
    }

    #[test]
    fn a_note_that_others_may_write_or_that_is_a_link_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::claim(folder.path()).unwrap();
        let (name, version) = llama();
        notes.write(&name, version, &note()).unwrap();
        let path = notes.path(&name, version);
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o620);
        assert_eq!(notes.read(&name, version), None);
        mode(0o600);
        assert!(notes.read(&name, version).is_some());
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert_eq!(notes.read(&name, version), None);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "{}").unwrap();
        mode(0o600);
        assert_eq!(notes.read(&name, version), None, "no note");
        if rustix::process::geteuid().is_root() {
            notes.write(&name, version, &note()).unwrap();
            std::os::unix::fs::chown(&path, Some(10_001), None).unwrap();
            assert_eq!(notes.read(&name, version), None, "another user's");
        }
    }

    #[test]
    fn a_folder_of_notes_that_others_may_write_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (name, version) = llama();
        Notes::claim(folder.path()).unwrap().write(&name, version, &note()).unwrap();
        assert!(Notes::claim(folder.path()).unwrap().read(&name, version).is_some());
        fs::set_permissions(folder.path().join(FOLDER), fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(Notes::claim(folder.path()).unwrap().read(&name, version), None);
        // Nor is a link to one's own followed.
        Notes::claim(folder.path()).unwrap().write(&name, version, &note()).unwrap();
        fs::rename(folder.path().join(FOLDER), folder.path().join("elsewhere")).unwrap();
        symlink(folder.path().join("elsewhere"), folder.path().join(FOLDER)).unwrap();
        assert_eq!(Notes::claim(folder.path()).unwrap().read(&name, version), None);
    }

    #[test]
    fn a_folder_of_models_is_one_sidecars() {
        let folder = tempfile::tempdir().unwrap();
        let first = Notes::claim(folder.path()).unwrap();
        assert_eq!(Notes::claim(folder.path()).err().unwrap().kind(), ErrorKind::ResourceBusy);
        drop(first);
        assert!(Notes::claim(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_is_known_by_more_than_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        let first = FolderIdentity::of(&path).unwrap();
        assert_eq!(FolderIdentity::of(&path), Some(first));
        fs::rename(&path, folder.path().join("b")).unwrap();
        fs::create_dir(&path).unwrap();
        assert_ne!(FolderIdentity::of(&path), Some(first));
        fs::remove_dir(&path).unwrap();
        symlink(folder.path().join("b"), &path).unwrap();
        assert_eq!(FolderIdentity::of(&path), None, "a link");
    }

    #[test]
    fn what_lies_there_counts_only_under_what_it_was_opened_under() {
        let signer = |contents| RequiredModelSigner { model: "a".parse().unwrap(), key: KEY.parse().unwrap(), contents };
        let (hashed, vouched) = (signer(SignedContents::Hashed), signer(SignedContents::PublisherVouches));
        let (one, other, publisher) = (Digest::from([1; 32]), Digest::from([2; 32]), PublicKey::from_bytes([2; 32]));
        let unders = [
            Under::new(one, publisher, None, Way::Open),
            Under::new(one, publisher, None, Way::Mount),
            Under::new(one, publisher, Some(&hashed), Way::Open),
            Under::new(one, publisher, Some(&vouched), Way::Open),
            Under::new(other, publisher, Some(&hashed), Way::Open),
            Under::new(one, PublicKey::from_bytes([3; 32]), None, Way::Open),
        ];
        for (at, under) in unders.iter().enumerate() {
            assert!(unders.iter().skip(at + 1).all(|other| other != under), "{under:?}");
        }
        assert_eq!(Under::new(one, publisher, Some(&hashed), Way::Open), unders[2]);
    }
}
