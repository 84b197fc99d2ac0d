//! Tests of the crate as a whole.

use protocol::encoding::Fields;
use protocol::ids::NoRandomness;
use protocol::keys::SigningKey;
use std::io;
use zeroize::Zeroizing;

use crate::seal::Entropy;
use crate::source::RangeSink;

mod caches;
mod content;
mod described;
mod folders;
mod forge;
mod make_vectors;
mod models;
mod resumed;
mod round_trips;
mod signatures;
mod storage;
mod vectors;
mod worked_example;
mod workers;

/// The publisher whom the tests trust.
fn publisher() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).unwrap()
}

/// Somebody else with a signing key.
fn stranger() -> SigningKey {
    SigningKey::from_seed(&[2; 32]).unwrap()
}

/// Random numbers that are the same each time.
struct Counter {
    seed: u64,
    drawn: u64,
}

impl Counter {
    fn new(seed: u64) -> Box<Self> {
        Box::new(Self { seed, drawn: 0 })
    }
}

impl Entropy for Counter {
    fn draw(&mut self) -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
        self.drawn += 1;
        Ok(Zeroizing::new(*Fields::new("test entropy").number(self.seed).number(self.drawn).sha256().as_bytes()))
    }
}

/// A file in memory.
#[derive(Default)]
struct Memory(Vec<u8>);

impl RangeSink for Memory {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        self.0.resize(self.0.len().max(to), 0);
        self.0[from..to].copy_from_slice(bytes);
        Ok(())
    }
}

/// Bytes that look like weights.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
