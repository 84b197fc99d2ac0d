//! Vendor collateral that the operator carried here: a folder of certificates and revocation lists, read again when it changes.
//!
//! Not trusted: every piece is verified where it is used. A file that is neither is named in the log and left out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use attestation::Collateral;
use protocol::limits;
use rustls_pki_types::pem::{PemObject, SectionKind};

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
    let mut collateral = Collateral::default();
    for file in files {
        if !file.file_type()?.is_file() || file.metadata()?.len() > u64::try_from(limits::REVOCATION_LIST).unwrap_or(u64::MAX) {
            continue;
        }
        if !add(&mut collateral, &file.path(), &std::fs::read(file.path())?) {
            tracing::warn!(file = %file.path().display(), "neither certificate nor revocation list; left out");
        }
    }
    Ok(collateral)
}

/// Adds what a file holds: DER by its ending, PEM by its labels.
fn add(collateral: &mut Collateral, path: &Path, bytes: &[u8]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let sections: Vec<_> = <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(bytes).filter_map(Result::ok).collect();
    for (kind, der) in &sections {
        match kind {
            SectionKind::Certificate => collateral.certificates.push(der.clone()),
            SectionKind::Crl => collateral.crls.push(der.clone()),
            _ => {}
        }
    }
    match ending {
        _ if !sections.is_empty() => {}
        "crl" => collateral.crls.push(bytes.to_vec()),
        "der" | "crt" | "cer" => collateral.certificates.push(bytes.to_vec()),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_by_content_and_ending_and_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.der"), [1]).unwrap();
        std::fs::write(folder.path().join("b.crl"), [2]).unwrap();
        std::fs::write(folder.path().join("c.pem"), "-----BEGIN CERTIFICATE-----\nAw==\n-----END CERTIFICATE-----\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not collateral").unwrap();
        let collateral = CollateralFolder::open(Some(folder.path().to_owned())).unwrap();
        assert_eq!((collateral.current().certificates.clone(), collateral.current().crls.clone()), (vec![vec![1], vec![3]], vec![vec![2]]));
        std::fs::remove_file(folder.path().join("a.der")).unwrap();
        std::fs::File::open(folder.path().join("b.crl"))
            .unwrap()
            .set_modified(SystemTime::now() + std::time::Duration::from_secs(9))
            .unwrap();
        collateral.refresh();
        assert_eq!(collateral.current().certificates, vec![vec![3]]);
    }
}
