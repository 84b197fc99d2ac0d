//! The model: shards of one GiB and a small file, in plaintext and sealed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use models_manifest::{Backend, ChunkSize, ModelKey, OpenFolder, SealFolder, Silent, Workers, seal_folder};
use protocol::ids::{Digest, Version};
use protocol::keys::{PublicKey, SigningKey};
use zeroize::Zeroizing;

const MIB: usize = 1 << 20;

pub struct Model {
    pub plaintext: PathBuf,
    pub sealed: PathBuf,
    pub publisher: SigningKey,
    publishers: [PublicKey; 1],
    released: Digest,
    key: Zeroizing<[u8; 32]>,
}

impl Model {
    /// Of bytes that no file system can shorten.
    pub fn new(folder: &Path, gib: usize) -> Self {
        let plaintext = folder.join("model");
        fs::create_dir(&plaintext).expect("a folder");
        fs::write(plaintext.join("config.json"), "{}").expect("a file");
        let mut block = vec![0; 16 * MIB];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut block)).expect("random bytes");
        for shard in 0..gib {
            let mut file = File::create(plaintext.join(format!("model-{shard:05}.safetensors"))).expect("a file");
            for part in 0..64_usize {
                block[..8].copy_from_slice(&(shard * 64 + part).to_le_bytes());
                file.write_all(&block).expect("room on tmpfs");
            }
        }
        let publisher = SigningKey::from_seed(&[1; 32]).expect("a seed");
        let sealed = folder.join("sealed");
        let made = seal_folder(&order(&plaintext, &sealed, Workers::default()), &publisher, &mut Silent).expect("sealed");
        let (released, key) = (made.document.digest(), Zeroizing::new(*made.key.as_bytes()));
        Self { plaintext, sealed, publishers: [*publisher.public()], publisher, released, key }
    }

    pub fn order<'a>(&'a self, destination: &'a Path, workers: Workers) -> SealFolder<'a> {
        order(&self.plaintext, destination, workers)
    }

    pub fn opening(&self) -> OpenFolder<'_> {
        OpenFolder { sealed: &self.sealed, publishers: &self.publishers, released: &self.released, backend: Backend::AwsLc }
    }

    pub fn key(&self) -> ModelKey {
        ModelKey::from_bytes(self.key.clone())
    }

    /// The plaintext's files.
    pub fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.plaintext).expect("the model").map(|entry| entry.expect("an entry").path()).collect()
    }
}

fn order<'a>(source: &'a Path, destination: &'a Path, workers: Workers) -> SealFolder<'a> {
    SealFolder {
        source,
        destination,
        name: "acme/llama".parse().expect("a name"),
        version: Version::FIRST,
        chunk_size: ChunkSize::default(),
        backend: Backend::AwsLc,
        workers,
    }
}

/// `cp -r`.
pub fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-r").arg(from).arg(to));
}

pub fn run(command: &mut Command) {
    assert!(command.status().expect("a program").success(), "{command:?}");
}
