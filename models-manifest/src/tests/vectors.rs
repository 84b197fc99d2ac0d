//! Runs every vector of the folder `vectors`: through opening a folder, through the reader, and by both ciphers.

use protocol::encoding::sha256;
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

use super::Memory;
use crate::folder::{OpenFolder, Opening, open_folder, unlock_folder};
use crate::open::ChunkBuffer;
use crate::source::Meter;
use crate::{Backend, ModelKey, OpenError, Reader, Silent, Workers};

/// One vector: a sealed folder, what the storage did to it, what the opener is given, and how it ends.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vector {
    pub(super) about: String,
    /// The folder of `vectors/sealed` that everything starts from.
    pub(super) sealed: String,
    /// Done to a copy of it, in order.
    pub(super) edits: Vec<Edit>,
    #[serde(with = "protocol::encoding::hex")]
    pub(super) key: [u8; 32],
    pub(super) publishers: Vec<PublicKey>,
    pub(super) released: Digest,
    pub(super) expect: Expect,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "edit")]
pub(super) enum Edit {
    /// Replaces bytes from `at` on (hex).
    Write { file: String, at: usize, bytes: String },
    /// Exchanges `length` bytes at two places.
    Swap { file: String, at: usize, with: usize, length: usize },
    /// Cuts to `length` bytes.
    Truncate { file: String, length: usize },
    /// Adds bytes at the end (hex).
    Append { file: String, bytes: String },
    /// Writes a whole file.
    Put { file: String, text: String },
    /// Takes a whole file from another folder of `vectors/sealed`.
    Copy { file: String, from: String },
    /// Exchanges two files.
    SwapFiles { file: String, with: String },
    /// Removes a file.
    Remove { file: String },
    /// Makes an empty folder.
    Folder { file: String },
    /// Puts a symbolic link in a file's place; the file itself moves to where the link leads, outside the folder.
    Symlink { file: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "verdict")]
pub(super) enum Expect {
    /// All files open.
    Opened { files: BTreeMap<String, Plaintext> },
    /// The refusal's code, and how many plaintext bytes of which files an opener may have handed out before, that opens the files in
    /// the manifest's order and each from its start.
    Refused { error: String, emitted: BTreeMap<String, usize> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plaintext {
    size: usize,
    sha256: Digest,
}

impl Plaintext {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len(), sha256: sha256(bytes) }
    }
}

pub(super) fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// All files of the folder at `root`, by their paths in it.
pub(super) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

pub(super) fn write(root: &Path, file: &str, bytes: &[u8]) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

impl Edit {
    fn apply(&self, root: &Path) {
        let change = |file: &String, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = fs::read(root.join(file)).unwrap();
            change(&mut bytes);
            fs::write(root.join(file), bytes).unwrap();
        };
        match self {
            Self::Write { file, at, bytes } => {
                let new = hex::decode(bytes).unwrap();
                change(file, &|bytes| {
                    assert_ne!(bytes[*at..at + new.len()], new, "an edit must change something");
                    bytes[*at..at + new.len()].copy_from_slice(&new);
                });
            }
            Self::Swap { file, at, with, length } => change(file, &|bytes| {
                for i in 0..*length {
                    bytes.swap(at + i, with + i);
                }
            }),
            Self::Truncate { file, length } => change(file, &|bytes| bytes.truncate(*length)),
            Self::Append { file, bytes: more } => change(file, &|bytes| bytes.extend(hex::decode(more).unwrap())),
            Self::Put { file, text } => write(root, file, text.as_bytes()),
            Self::Copy { file, from } => write(root, file, &fs::read(vectors().join("sealed").join(from)).unwrap()),
            Self::SwapFiles { file, with } => {
                let (one, two) = (fs::read(root.join(file)).unwrap(), fs::read(root.join(with)).unwrap());
                assert_ne!(one, two);
                fs::write(root.join(file), two).unwrap();
                fs::write(root.join(with), one).unwrap();
            }
            Self::Remove { file } => fs::remove_file(root.join(file)).unwrap(),
            Self::Folder { file } => fs::create_dir_all(root.join(file)).unwrap(),
            Self::Symlink { file } => {
                let outside = root.parent().unwrap().join("outside");
                fs::rename(root.join(file), &outside).unwrap();
                symlink(outside, root.join(file)).unwrap();
            }
        }
    }
}

impl Vector {
    fn prepare(&self, root: &Path) {
        for (path, bytes) in files(&vectors().join("sealed").join(&self.sealed)) {
            write(root, &path, &bytes);
        }
        self.edits.iter().for_each(|edit| edit.apply(root));
    }

    fn key(&self) -> ModelKey {
        ModelKey::from_bytes(Zeroizing::new(self.key))
    }

    fn order<'a>(&'a self, sealed: &'a Path, backend: Backend) -> OpenFolder<'a> {
        OpenFolder { sealed, publishers: &self.publishers, released: &self.released, backend }
    }

    /// Opens to memory and notes all that was handed out.
    fn stream(&self, root: &Path, backend: Backend) -> (BTreeMap<String, Memory>, Result<(), OpenError>) {
        let mut emitted = BTreeMap::new();
        let result = (|| {
            let model = unlock_folder(self.order(root, backend), self.key())?;
            let mut buffer = ChunkBuffer::new();
            for file in model.contents().files() {
                let sealed = model.file(file.path().as_str())?;
                let memory: &mut Memory = emitted.entry(file.path().to_string()).or_default();
                sealed.copy_to(memory, &mut buffer, &mut Meter::new(0, &mut Silent))?;
            }
            Ok(())
        })();
        (emitted, result)
    }

    /// Reads each file in pieces that cross chunk borders.
    fn read(&self, root: &Path) -> Result<BTreeMap<String, Vec<u8>>, OpenError> {
        let reader = Reader::new(unlock_folder(self.order(root, Backend::default()), self.key())?);
        let mut read = BTreeMap::new();
        for file in reader.contents().files() {
            let mut bytes = Vec::new();
            let mut piece = vec![0; 40_000];
            loop {
                let length = reader.read_at(file.path().as_str(), bytes.len() as u64, &mut piece)?;
                bytes.extend_from_slice(&piece[..length]);
                if length < piece.len() {
                    break;
                }
            }
            read.insert(file.path().to_string(), bytes);
        }
        Ok(read)
    }

    fn check(&self, name: &str) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sealed");
        fs::create_dir(&root).unwrap();
        self.prepare(&root);
        let before = fs::read_dir(folder.path()).unwrap().count();
        let open = |workers, name| {
            let destination = folder.path().join(name);
            open_folder(self.order(&root, Backend::default()), self.key(), Opening { workers, ..Opening::to(&destination) }, &mut Silent)
        };
        let many = Workers::new(4.try_into().unwrap());
        let (opened, alone) = (open(many, "opened"), open(Workers::one(), "alone"));
        match &self.expect {
            Expect::Opened { files: expected } => {
                opened.and(alone).unwrap_or_else(|error| panic!("{name}: {error}"));
                let hashes =
                    |files: BTreeMap<String, Vec<u8>>| files.into_iter().map(|(path, bytes)| (path, Plaintext::of(&bytes))).collect();
                let opened: BTreeMap<_, _> = hashes(files(&folder.path().join("opened")));
                assert_eq!(&opened, expected, "{name}");
                assert_eq!(files(&folder.path().join("alone")), files(&folder.path().join("opened")), "{name}");
                let read: BTreeMap<_, _> = hashes(self.read(&root).unwrap());
                assert_eq!(&read, expected, "{name}");
                for backend in [Backend::AwsLc, Backend::Portable] {
                    let (streamed, result) = self.stream(&root, backend);
                    result.unwrap();
                    assert_eq!(&hashes(streamed.into_iter().map(|(path, memory)| (path, memory.0)).collect()), expected, "{name}");
                }
            }
            Expect::Refused { error, emitted } => {
                let (opened, alone) = (opened.unwrap_err(), alone.unwrap_err());
                assert_eq!((opened.code(), opened.to_string()), (error.as_str(), alone.to_string()), "{name}");
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "{name} leaves something behind");
                assert_eq!(self.read(&root).unwrap_err().code(), error, "{name}");
                for backend in [Backend::AwsLc, Backend::Portable] {
                    let (streamed, result) = self.stream(&root, backend);
                    assert_eq!(result.unwrap_err().code(), error, "{name}");
                    let lengths: BTreeMap<_, _> = streamed.into_iter().map(|(path, memory)| (path, memory.0.len())).collect();
                    assert_eq!(&lengths, emitted, "{name}");
                }
            }
        }
    }
}

#[test]
fn every_vector_ends_as_it_says() {
    let mut checked = 0;
    for entry in fs::read_dir(vectors()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let vector: Vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
            vector.check(&name);
            checked += 1;
        }
    }
    assert!(checked >= 50, "only {checked} vectors");
}
