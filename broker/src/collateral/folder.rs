//! Vendor collateral that the operator carried here: a folder of files in any form that [`attestation::forms`] reads, read again when it
//! changes.
//!
//! Not trusted: every piece is verified where it is used. A file that is none is named in the log and left out.

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
    /// The newest modification in the folder.
    changed: Option<SystemTime>,
    collateral: Arc<Collateral>,
    left_out: Vec<Refused>,
}

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
        if newest(path) == self.current.read().unwrap_or_else(PoisonError::into_inner).changed {
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

/// The newest modification in the folder.
fn newest(path: &Path) -> Option<SystemTime> {
    let files = std::fs::read_dir(path).ok()?.filter_map(Result::ok).filter_map(|entry| entry.metadata().ok()?.modified().ok());
    files.chain(std::fs::metadata(path).and_then(|folder| folder.modified()).ok()).max()
}

fn read(path: &Path, at: UnixTime) -> std::io::Result<Read> {
    let changed = newest(path);
    let mut files: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::path);
    let (mut contents, mut left_out) = (Vec::new(), Vec::new());
    let mut leave_out = |file: String, why: String| {
        tracing::warn!(file, why, "no collateral; left out");
        if left_out.len() < LEFT_OUT {
            left_out.push(Refused { kind: FILE, subject: file, origin: Origin::Carried, why, at });
        }
    };
    for file in files {
        if !file.file_type()?.is_file() {
            continue;
        }
        let name = file.file_name().to_string_lossy().into_owned();
        if file.metadata()?.len() > u64::try_from(limits::COLLATERAL_BUNDLE).unwrap_or(u64::MAX) {
            leave_out(name, "larger than any collateral".to_owned());
            continue;
        }
        contents.push((name, std::fs::read(file.path())?));
    }
    let files: Vec<_> = contents.iter().map(|(name, bytes)| CollateralFile { name, bytes }).collect();
    let Gathered { pieces, files } = forms::gather(&files);
    for FileRead { name, read } in files {
        if let Err(why) = read {
            leave_out(name, why.to_string());
        }
    }
    Ok(Read { changed, collateral: Arc::new(forms::collateral(&pieces)), left_out })
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
        std::fs::File::open(folder.path().join("b.crl"))
            .unwrap()
            .set_modified(SystemTime::now() + std::time::Duration::from_secs(9))
            .unwrap();
        assert!(collateral.refresh(at) && !collateral.refresh(at));
        assert_eq!(collateral.current().certificates, vec![ask]);
    }
}
