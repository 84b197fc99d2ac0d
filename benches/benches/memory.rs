//! Peak memory of sealing and opening, at 1 GiB and at 140 GiB: the source is generated and the sink counts, so that only the table of tags
//! and hashes touches a disk.
//!
//! Goal: under 64 MiB, and within 8 MiB of each other. `GIBS=1,140` names the sizes; each step is a process of its own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use models_manifest::cipher::ChunkCipher;
use models_manifest::geometry::Geometry;
use models_manifest::{
    Backend, ChunkBuffer, ChunkSize, Inspection, Meter, ModelKey, ModelPath, RangeSink, RangeSource, SealedModel, Sealing, Silent,
};
use portcullis_benches::{insist_on_release, process};
use protocol::ids::Version;
use protocol::keys::SigningKey;
use zeroize::Zeroizing;

/// Every plaintext byte.
const BYTE: u8 = 7;

fn main() {
    insist_on_release();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "--seal", folder, gib] => seal(Path::new(folder), bytes(gib)),
        [_, "--open", folder, gib] => open(Path::new(folder), bytes(gib)),
        _ => measure(),
    }
}

fn bytes(gib: &str) -> u64 {
    gib.parse::<u64>().expect("a number of GiB") << 30
}

fn measure() {
    println!("{}", process::machine());
    println!("\n| what | GiB | seconds | peak resident MiB |\n| --- | ---: | ---: | ---: |");
    let sizes = std::env::var("GIBS").unwrap_or_else(|_| "1,140".to_owned());
    for gib in sizes.split(',') {
        let folder = tempfile::tempdir().expect("a folder");
        for step in ["--seal", "--open"] {
            let program = std::env::current_exe().expect("this program");
            assert!(Command::new(program).arg(step).arg(folder.path()).arg(gib).status().expect("a process").success(), "{step} {gib}");
        }
    }
}

fn print(what: &str, size: u64, start: Instant) {
    let peak = process::peak_memory().expect("/proc");
    println!("| {what} | {} | {:.1} | {:.1} |", size >> 30, start.elapsed().as_secs_f64(), peak as f64 / f64::from(1 << 20));
}

fn path() -> ModelPath {
    "model.safetensors".parse().expect("a path")
}

fn publisher() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).expect("a seed")
}

/// So many bytes.
struct Generated(u64);

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.0).unwrap_or(usize::MAX).min(buffer.len());
        self.0 -= count as u64;
        buffer[..count].fill(BYTE);
        Ok(count)
    }
}

/// Keeps the table, which stands behind the ciphertext, and counts the rest.
struct Counted {
    size: u64,
    table: File,
    count: u64,
}

impl RangeSink for Counted {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.count += bytes.len() as u64;
        if offset >= self.size { self.table.write_all_at(bytes, offset - self.size) } else { Ok(()) }
    }
}

fn seal(folder: &Path, size: u64) {
    let start = Instant::now();
    let mut sealing = Sealing::begin(ChunkSize::default(), Backend::AwsLc).expect("randomness");
    let mut sink = Counted { size, table: File::create(folder.join("table")).expect("a file"), count: 0 };
    let mut silent = Silent;
    let mut meter = Meter::new(size, &mut silent);
    let entry = sealing.file(&path(), size, &mut Generated(size), &mut sink, &mut meter).expect("sealed");
    assert_eq!(sink.count, entry.geometry().sealed_size());
    let made = sealing.finish("acme/llama".parse().expect("a name"), Version::FIRST, vec![entry], &publisher()).expect("a manifest");
    print("seal", size, start);
    fs::write(folder.join("manifest"), made.document.to_json()).expect("a file");
    fs::write(folder.join("key"), made.key.as_bytes()).expect("a file");
}

/// The sealed file: its ciphertext is made anew, its table is read.
struct Resealed {
    geometry: Geometry,
    table: File,
    cipher: Box<dyn ChunkCipher>,
}

impl RangeSource for Resealed {
    fn length(&self, _: &ModelPath) -> io::Result<u64> {
        Ok(self.geometry.sealed_size())
    }

    fn read_at(&self, _: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(offset) = offset.checked_sub(self.geometry.size()) {
            return self.table.read_exact_at(buffer, offset);
        }
        buffer.fill(BYTE);
        let (index, _) = self.geometry.locate(offset);
        let chunk = self.geometry.chunk(index).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.cipher.seal(chunk.position, buffer).map(drop).map_err(io::Error::other)
    }
}

/// Counts.
struct Count(u64);

impl RangeSink for Count {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset, self.0, "in order");
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

fn open(folder: &Path, size: u64) {
    let start = Instant::now();
    let manifest = fs::read(folder.join("manifest")).expect("a file");
    let key = || ModelKey::from_bytes(Zeroizing::new(fs::read(folder.join("key")).expect("a file").try_into().expect("a key")));
    let publishers = [*publisher().public()];
    let Inspection { contents, digest, .. } = Inspection::read(&manifest, &publishers).expect("a manifest");
    let entry = &contents.files()[0];
    let file_key = key().file_key(contents.sealing(), entry.path(), entry.salt()).expect("a key");
    let source = Resealed {
        geometry: entry.geometry(),
        table: File::open(folder.join("table")).expect("a file"),
        cipher: Backend::AwsLc.cipher(file_key).expect("a cipher"),
    };
    let model = SealedModel::authenticate(source, &manifest, &publishers, &digest, key(), Backend::AwsLc).expect("our model");
    let (mut sink, mut silent) = (Count(0), Silent);
    let mut meter = Meter::new(size, &mut silent);
    model.file(path().as_str()).and_then(|file| file.copy_to(&mut sink, &mut ChunkBuffer::new(), &mut meter)).expect("opened");
    assert_eq!(sink.0, size);
    print("open", size, start);
}
