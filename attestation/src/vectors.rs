//! Real evidence, made by real hardware, for tests to read. It is no part of the project: the folder is named by `PORTCULLIS_EVIDENCE`,
//! or lies beside the repository.

use std::path::{Path, PathBuf};

/// The folder of vectors, where there is one.
pub(crate) fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"));
    if folder.join("vectors.json").is_file() {
        return Some(folder);
    }
    println!("skipped: no folder of evidence (set PORTCULLIS_EVIDENCE)");
    None
}

pub(crate) fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
