//! Vendor collateral that the operator carried here: a folder of files in any form that [`attestation::forms`] reads, read again when it
//! changes.
//!
//! Not trusted: every piece is verified where it is used. A file that is none is named in the log and left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use attestation::Collateral;
use attestation::forms::{self, CollateralFile, FileRead, Gathered};
use protocol::limits;
use protocol::time::UnixTime;

use super::{FILE, Origin, Refused};

/// Files of which it is remembered that nothing was taken from them.
const LEFT_OUT: usize = 8;

/// The collateral in use.
pub struct CollateralFolder {
    path: Option<PathBuf>,
    current: RwLock<Read>,
}

/// What was read.
#[derive(Default)]
struct Read {
    /// By which a change is noticed.
    files: Fingerprint,
    collateral: Arc<Collateral>,
    left_out: Vec<Refused>,
}

/// Of each file in the folder, by its name, size and time of modification; `None` where they cannot be told. Links to files count as the
/// files that they lead to: volumes of Kubernetes are made of them.
type Fingerprint = BTreeMap<String, Option<(u64, Option<SystemTime>)>>;

impl CollateralFolder {
    /// Reads the folder; no folder is no collateral.
    ///
    /// # Errors
    /// The operating system's, naming the folder.
    pub fn open(path: Option<PathBuf>, at: UnixTime) -> Result<Self, String> {
        let first = path.as_deref().map_or_else(|| Ok(Read::default()), |path| read(path, at));
        let first = first.map_err(|error: std::io::Error| format!("cannot read the collateral folder: {error}"))?;
        Ok(Self { path, current: RwLock::new(first) })
    }

    /// The collateral in use.
    #[must_use]
    pub fn current(&self) -> Arc<Collateral> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).collateral)
    }

    /// The files from which nothing was taken, some at most.
    #[must_use]
    pub fn left_out(&self) -> Vec<Refused> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).left_out.clone()
    }

    /// Reads the folder again where it changed, and says whether it did. What cannot be read changes nothing.
    pub fn refresh(&self, at: UnixTime) -> bool {
        let Some(path) = self.path.as_deref() else { return false };
        if fingerprint(path).is_ok_and(|files| files == self.current.read().unwrap_or_else(PoisonError::into_inner).files) {
            return false;
        }
        match read(path, at) {
            Ok(read) => {
                let Collateral { certificates, crls, .. } = &*read.collateral;
                tracing::info!(certificates = certificates.len(), crls = crls.len(), "collateral read again");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the collateral folder cannot be read; the old collateral stays in use");
                false
            }
        }
    }
}

fn fingerprint(path: &Path) -> std::io::Result<Fingerprint> {
    let mut files = Fingerprint::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let of = match std::fs::metadata(entry.path()) {
            Ok(of) if of.is_dir() => continue,
            of => of.ok().map(|of| (of.len(), of.modified().ok())),
        };
        files.insert(entry.file_name().to_string_lossy().into_owned(), of);
    }
    Ok(files)
}

fn read(path: &Path, at: UnixTime) -> std::io::Result<Read> {
    let found = fingerprint(path)?;
    let (mut contents, mut left_out) = (Vec::new(), Vec::new());
    let mut leave_out = |file: String, why: String| {
        tracing::warn!(file, why, "no collateral; left out");
        if left_out.len() < LEFT_OUT {
            left_out.push(Refused { kind: FILE, subject: file, origin: Origin::Carried, why, at });
        }
    };
    for name in found.keys() {
        match content(&path.join(name)) {
            Ok(bytes) => contents.push((name.clone(), bytes)),
            Err(why) => leave_out(name.clone(), why),
        }
    }
    let files: Vec<_> = contents.iter().map(|(name, bytes)| CollateralFile { name, bytes }).collect();
    let Gathered { pieces, files } = forms::gather(&files);
    for FileRead { name, read } in files {
        if let Err(why) = read {
            leave_out(name, why.to_string());
        }
    }
    Ok(Read { files: found, collateral: Arc::new(forms::collateral(&pieces)), left_out })
}

/// What a file holds, or why it is left out.
fn content(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let of = std::fs::metadata(path).map_err(unreadable)?;
    // Whatever blocks who opens it, such as a pipe, holds no collateral.
    if !of.is_file() {
        return Err("not a file".to_owned());
    }
    if of.len() > u64::try_from(limits::COLLATERAL_BUNDLE).unwrap_or(u64::MAX) {
        return Err("larger than any collateral".to_owned());
    }
    std::fs::read(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use testbed::snp::{Line, SoftPlatform};

    use super::*;

    #[test]
    fn a_folder_is_read_in_every_form_and_again_when_it_changes() {
        let (folder, platform) = (tempfile::tempdir().unwrap(), SoftPlatform::new(Line::Genoa));
        let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
        let (vcek, ask, list) = (platform.vcek_der(), platform.ask_der(), platform.crl_der(&[]));
        write("a.der", &vcek);
        write("b.crl", &list);
        let text = protocol::encoding::to_base64(&ask);
        write("c.pem", format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").as_bytes());
        write("notes.txt", b"not collateral");
        let at = UnixTime::from_seconds(7);
        let collateral = CollateralFolder::open(Some(folder.path().to_owned()), at).unwrap();
        assert_eq!((collateral.current().certificates.clone(), collateral.current().crls.clone()), (vec![vcek, ask.clone()], vec![list]));
        let left_out =
            Refused { kind: FILE, subject: "notes.txt".to_owned(), origin: Origin::Carried, why: "no form of collateral".to_owned(), at };
        assert_eq!(collateral.left_out(), [left_out]);
        std::fs::remove_file(folder.path().join("a.der")).unwrap();
        assert!(collateral.refresh(at) && !collateral.refresh(at));
        assert_eq!(collateral.current().certificates, vec![ask]);
    }

    #[test]
    fn a_file_that_takes_the_place_of_another_is_noticed_however_old_it_is() {
        let (folder, platform) = (tempfile::tempdir().unwrap(), SoftPlatform::new(Line::Genoa));
        let (first, second) = (platform.crl_der(&[]), platform.crl_der(&[7]));
        let write = |name: &str, list: &[u8], modified: u64| {
            let path = folder.path().join(name);
            std::fs::write(&path, list).unwrap();
            let modified = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(modified);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        };
        write("new.crl", &first, 2_000_000_000);
        write("list.crl", &first, 1_000_000_000);
        let at = UnixTime::from_seconds(7);
        let collateral = CollateralFolder::open(Some(folder.path().to_owned()), at).unwrap();
        write("list.crl", &second, 999_999_999);
        assert!(collateral.refresh(at) && !collateral.refresh(at));
        assert_eq!(collateral.current().crls, vec![second, first]);
    }

    #[test]
    fn links_are_followed_to_files_and_what_cannot_be_read_is_named() {
        use std::os::unix::fs::symlink;
        let (folder, platform) = (tempfile::tempdir().unwrap(), SoftPlatform::new(Line::Genoa));
        let path = |name: &str| folder.path().join(name);
        // As Kubernetes lays out a volume.
        for (version, list) in [("..1", platform.crl_der(&[])), ("..2", platform.crl_der(&[7]))] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("list.crl"), list).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/list.crl", path("list.crl")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        let at = UnixTime::from_seconds(7);
        let collateral = CollateralFolder::open(Some(folder.path().to_owned()), at).unwrap();
        assert_eq!(collateral.current().crls, vec![platform.crl_der(&[])]);
        let left_out: Vec<_> = collateral.left_out().into_iter().map(|refused| (refused.subject, refused.why)).collect();
        let why = "it cannot be read: No such file or directory (os error 2)";
        assert_eq!(left_out, [("dangling".to_owned(), why.to_owned())]);
        assert!(!collateral.refresh(at));
        symlink("..2", path("..new")).unwrap();
        std::fs::rename(path("..new"), path("..data")).unwrap();
        assert!(collateral.refresh(at));
        assert_eq!(collateral.current().crls, vec![platform.crl_der(&[7])]);
    }
}
