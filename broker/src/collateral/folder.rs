//! Vendor collateral that the operator carried here: a folder of files in any form that [`attestation::forms`] reads, read again when it
//! changes.
//!
//! Not trusted: every piece is verified where it is used. A file that is none is named in the log and left out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use attestation::Collateral;
use attestation::forms::{self, CollateralFile, FileRead, Gathered};
use protocol::limits;

/// The collateral in use.
pub struct CollateralFolder {
    path: Option<PathBuf>,
    current: RwLock<(Option<SystemTime>, Arc<Collateral>)>,
}

impl CollateralFolder {
    /// Reads the folder; no folder is no collateral.
    ///
    /// # Errors
    /// The operating system's, naming the folder.
    pub fn open(path: Option<PathBuf>) -> Result<Self, String> {
        let collateral = path.as_deref().map_or_else(|| Ok((None, Collateral::default())), |path| Ok((newest(path), read(path)?)));
        let (changed, collateral) = collateral.map_err(|error: std::io::Error| format!("cannot read the collateral folder: {error}"))?;
        Ok(Self { path, current: RwLock::new((changed, Arc::new(collateral))) })
    }

    /// The collateral in use.
    #[must_use]
    pub fn current(&self) -> Arc<Collateral> {
        Arc::clone(&self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).1)
    }

    /// Reads the folder again where it changed, and says whether it did. What cannot be read changes nothing.
    pub fn refresh(&self) -> bool {
        let Some(path) = self.path.as_deref() else { return false };
        let changed = newest(path);
        if changed == self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).0 {
            return false;
        }
        match read(path) {
            Ok(collateral) => {
                tracing::info!(certificates = collateral.certificates.len(), crls = collateral.crls.len(), "collateral read again");
                *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = (changed, Arc::new(collateral));
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

fn read(path: &Path) -> std::io::Result<Collateral> {
    let mut files: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::path);
    let mut contents = Vec::new();
    for file in files {
        if !file.file_type()?.is_file() {
            continue;
        }
        let name = file.file_name().to_string_lossy().into_owned();
        if file.metadata()?.len() > u64::try_from(limits::COLLATERAL_BUNDLE).unwrap_or(u64::MAX) {
            tracing::warn!(file = name, "larger than any collateral; left out");
            continue;
        }
        contents.push((name, std::fs::read(file.path())?));
    }
    let files: Vec<_> = contents.iter().map(|(name, bytes)| CollateralFile { name, bytes }).collect();
    let Gathered { pieces, files } = forms::gather(&files);
    for FileRead { name, read } in files {
        if let Err(why) = read {
            tracing::warn!(file = name, %why, "no collateral; left out");
        }
    }
    Ok(forms::collateral(&pieces))
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
        let collateral = CollateralFolder::open(Some(folder.path().to_owned())).unwrap();
        assert_eq!((collateral.current().certificates.clone(), collateral.current().crls.clone()), (vec![vcek, ask.clone()], vec![list]));
        std::fs::remove_file(folder.path().join("a.der")).unwrap();
        std::fs::File::open(folder.path().join("b.crl"))
            .unwrap()
            .set_modified(SystemTime::now() + std::time::Duration::from_secs(9))
            .unwrap();
        assert!(collateral.refresh() && !collateral.refresh());
        assert_eq!(collateral.current().certificates, vec![ask]);
    }
}
