//! Peak memory of sealing and opening, at 1 GiB and at 140 GiB: the source is generated and the sink counts, so that only the table of tags
//! and hashes touches a disk.
//!
//! Goal: under 64 MiB, and within 8 MiB of each other. `GIBS=1,140` names the sizes, `THREADS=2` how many threads work; each step is a process of
//! its own.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use models_manifest::cipher::ChunkCipher;
use models_manifest::geometry::Geometry;
use models_manifest::{
    Backend, ChunkSize, Inspection, Meter, ModelKey, ModelPath, OpenPlaces, PlainSource, RangeSource, SealError, SealPlaces, SealedModel,
    Sealing, SharedSink, Silent, Workers,
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
    println!("{}; {} threads", process::machine(), workers().1);
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

/// As many threads as `THREADS` says.
fn workers() -> (Workers, usize) {
    let threads = std::env::var("THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(NonZero::<usize>::MIN.saturating_add(1));
    (Workers::new(threads), threads.get())
}

fn path() -> ModelPath {
    "model.safetensors".parse().expect("a path")
}

fn publisher() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).expect("a seed")
}

/// Bytes without end.
struct Generated;

impl PlainSource for Generated {
    fn read_at(&self, _: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(BYTE);
        Ok(())
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// Keeps the table, which stands behind the ciphertext, and counts all bytes.
struct Counted {
    size: u64,
    table: Option<File>,
    count: Arc<AtomicU64>,
}

impl SharedSink for Counted {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match &self.table {
            Some(table) if offset >= self.size => table.write_all_at(bytes, offset - self.size),
            _ => Ok(()),
        }
    }
}

/// One file: where its table goes when it is sealed, and what was written of it.
struct Places {
    table: PathBuf,
    count: Arc<AtomicU64>,
}

impl Places {
    fn in_folder(folder: &Path) -> Self {
        Self { table: folder.join("table"), count: Arc::default() }
    }

    fn written(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl SealPlaces for Places {
    fn plaintext(&self, _: &ModelPath, _: u64) -> Result<Box<dyn PlainSource>, SealError> {
        Ok(Box::new(Generated))
    }

    fn sealed(&self, _: &ModelPath, size: u64) -> Result<Box<dyn SharedSink>, SealError> {
        let chunk = u64::from(ChunkSize::default().bytes());
        // Chunks of full size alone: of so many bytes, 48 in each chunk are the table's.
        let size = size / (chunk + 48) * chunk;
        Ok(Box::new(Counted { size, table: Some(File::create(&self.table).expect("a file")), count: Arc::clone(&self.count) }))
    }
}

impl OpenPlaces for Places {
    fn opened(&self, _: &ModelPath, size: u64) -> io::Result<Box<dyn SharedSink>> {
        Ok(Box::new(Counted { size, table: None, count: Arc::clone(&self.count) }))
    }
}

fn seal(folder: &Path, size: u64) {
    let start = Instant::now();
    let mut sealing = Sealing::begin(ChunkSize::default(), Backend::AwsLc).expect("randomness");
    let (places, mut silent) = (Places::in_folder(folder), Silent);
    let mut meter = Meter::new(size, &mut silent);
    let mut entries = sealing.files(&[(path(), size)], &places, workers().0, &mut meter).expect("sealed");
    let entry = entries.pop().expect("one file");
    assert_eq!(places.written(), entry.geometry().sealed_size());
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
    let (places, mut silent) = (Places::in_folder(folder), Silent);
    model.copy_all(&places, workers().0, &mut Meter::new(size, &mut silent)).expect("opened");
    assert_eq!(places.written(), size);
    print("open", size, start);
}
