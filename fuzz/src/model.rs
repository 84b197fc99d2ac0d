//! A small sealed model in memory.

use std::collections::BTreeMap;
use std::io;

use models_manifest::{Backend, ChunkSize, FileEntry, Meter, ModelKey, ModelPath, RangeSink, RangeSource, SealedModel, Sealing, Silent};
use protocol::dsse::SignedDocument;
use protocol::ids::Version;
use zeroize::Zeroizing;

use crate::Signer;

/// Plaintext of each file: an empty one, one of a single byte, one of exactly one chunk, one of two chunks and a rest.
const FILES: [(&str, usize); 4] = [("config.json", 1), ("empty", 0), ("one/chunk.bin", 65_536), ("weights.bin", 2 * 65_536 + 4321)];

/// The model, in the clear and sealed.
pub struct Model {
    /// Path and content.
    pub plain: BTreeMap<ModelPath, Vec<u8>>,
    /// Path and sealed content.
    pub sealed: BTreeMap<ModelPath, Vec<u8>>,
    /// The signed manifest.
    pub manifest: SignedDocument,
    key: [u8; 32],
}

struct Sink<'a>(&'a mut Vec<u8>);

impl RangeSink for Sink<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + bytes.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

impl Model {
    /// Seals it; the key is fresh.
    ///
    /// # Panics
    /// Where sealing fails.
    #[must_use]
    pub fn seal() -> Self {
        let mut sealing = Sealing::begin(ChunkSize::SMALLEST, Backend::AwsLc).expect("randomness");
        let (mut plain, mut sealed) = (BTreeMap::new(), BTreeMap::new());
        let mut entries: Vec<FileEntry> = Vec::new();
        for (name, size) in FILES {
            let path: ModelPath = name.parse().expect("a path");
            let content: Vec<u8> = (0..size).map(|at| (at * 31 + at / 251) as u8).collect();
            let mut bytes = Vec::new();
            let mut silent = Silent;
            let mut meter = Meter::new(size as u64, &mut silent);
            entries.push(sealing.file(&path, size as u64, &mut content.as_slice(), &mut Sink(&mut bytes), &mut meter).expect("sealed"));
            plain.insert(path.clone(), content);
            sealed.insert(path, bytes);
        }
        let name = "acme/llama".parse().expect("a name");
        let made = sealing.finish(name, Version::FIRST, entries, &Signer::Publisher.key()).expect("a manifest");
        Self { plain, sealed, key: *made.key.as_bytes(), manifest: made.document }
    }

    /// Unlocks it over another storage.
    ///
    /// # Panics
    /// Never: manifest and key are genuine.
    pub fn over<S: RangeSource>(&self, storage: S) -> SealedModel<S> {
        let key = ModelKey::from_bytes(Zeroizing::new(self.key));
        let publishers = [*Signer::Publisher.key().public()];
        let digest = self.manifest.digest();
        SealedModel::authenticate(storage, &self.manifest.to_json(), &publishers, &digest, key, Backend::AwsLc)
            .expect("the genuine manifest")
    }
}
