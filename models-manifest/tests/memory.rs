//! Sealing and opening take the same memory whatever the model's size, and no more than the workers' bound: counted by the allocator itself.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use models_manifest::geometry::Geometry;
use models_manifest::{
    Backend, ChunkSize, Meter, ModelKey, ModelPath, OpenPlaces, PlainSource, RangeSource, SealError, SealPlaces, Sealed, SealedModel,
    Sealing, SharedSink, Silent, Workers,
};
use protocol::ids::Version;
use protocol::keys::SigningKey;
use zeroize::Zeroizing;

/// The system's allocator, which leaves no other way to count what it gives.
#[allow(unsafe_code)]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub struct Counting;

    /// Bytes in use.
    pub static NOW: AtomicUsize = AtomicUsize::new(0);
    /// The most that ever were.
    pub static PEAK: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: hands every call on to the system's allocator as it is, and counts.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
            PEAK.fetch_max(now, Ordering::Relaxed);
            // SAFETY: the caller's promises are those that the system's allocator asks for.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            NOW.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: as above; the memory came from there.
            unsafe { System.dealloc(memory, layout) }
        }
    }
}

use counting::{Counting, NOW, PEAK};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes in use during an operation, beyond those before it.
fn peak_of<T>(operation: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = operation();
    (PEAK.load(Ordering::Relaxed) - before, result)
}

/// A file of zeros on the one side; on the other a sealed file whose table alone is kept.
struct Places {
    table: File,
    geometry: Geometry,
}

struct Zeros;

impl PlainSource for Zeros {
    fn read_at(&self, _: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }
    fn is_unchanged(&self) -> io::Result<bool> {
        Ok(true)
    }
}

struct Table(File, u64);

impl SharedSink for Table {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        offset.checked_sub(self.1).map_or(Ok(()), |at| self.0.write_all_at(bytes, at))
    }
}

struct Nowhere;

impl SharedSink for Nowhere {
    fn write_at(&self, _: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.iter().all(|byte| *byte == 0), "what was sealed");
        Ok(())
    }
}

impl SealPlaces for Places {
    fn plaintext(&self, _: &ModelPath, _: u64) -> Result<Box<dyn PlainSource>, SealError> {
        Ok(Box::new(Zeros))
    }
    fn sealed(&self, _: &ModelPath, _: u64) -> Result<Box<dyn SharedSink>, SealError> {
        Ok(Box::new(Table(self.table.try_clone().unwrap(), self.geometry.size())))
    }
}

impl OpenPlaces for Places {
    fn opened(&self, _: &ModelPath, _: u64) -> io::Result<Box<dyn SharedSink>> {
        Ok(Box::new(Nowhere))
    }
}

/// Makes the ciphertext anew where it is asked for.
struct Resealed<'p> {
    places: &'p Places,
    cipher: Box<dyn models_manifest::cipher::ChunkCipher>,
}

impl RangeSource for Resealed<'_> {
    fn length(&self, _: &ModelPath) -> io::Result<u64> {
        Ok(self.places.geometry.sealed_size())
    }

    fn read_at(&self, _: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(at) = offset.checked_sub(self.places.geometry.size()) {
            return self.places.table.read_exact_at(buffer, at);
        }
        buffer.fill(0);
        let chunk = self.places.geometry.chunk(self.places.geometry.locate(offset).0).unwrap();
        self.cipher.seal(chunk.position, buffer).map(drop).map_err(io::Error::other)
    }
}

/// Peaks of sealing and opening one file of this size.
fn peaks(size: u64, chunk_size: ChunkSize, workers: Workers) -> [usize; 2] {
    let geometry = Geometry::new(size, chunk_size).unwrap();
    let places = Places { table: tempfile::tempfile().unwrap(), geometry };
    let path: ModelPath = "model.safetensors".parse().unwrap();
    let publisher = SigningKey::from_seed(&[1; 32]).unwrap();
    let mut sealing = Sealing::begin(chunk_size, Backend::AwsLc).unwrap();
    let files = [(path.clone(), size)];
    let (sealed, entries) = peak_of(|| sealing.files(&files, &places, workers, &mut Meter::new(size, &mut Silent)).unwrap());
    let Sealed { key, document, contents } = sealing.finish("a".parse().unwrap(), Version::FIRST, entries, &publisher).unwrap();
    let file_key = key.file_key(contents.sealing(), &path, contents.files()[0].salt()).unwrap();
    let source = Resealed { places: &places, cipher: Backend::AwsLc.cipher(file_key).unwrap() };
    let key = ModelKey::from_bytes(Zeroizing::new(*key.as_bytes()));
    let model =
        SealedModel::authenticate(source, &document.to_json(), &[*publisher.public()], &document.digest(), key, Backend::AwsLc).unwrap();
    let (opened, _) = peak_of(|| model.copy_all(&places, workers, &mut Meter::new(size, &mut Silent)).unwrap());
    [sealed, opened]
}

#[test]
fn memory_does_not_grow_with_the_model_and_stays_within_the_bound() {
    let workers = |threads: usize| Workers::new(NonZero::new(threads).unwrap());
    let (small, large) = (ChunkSize::SMALLEST, ChunkSize::try_from(16 << 20).unwrap());
    for threads in [1, 4] {
        let [one, sixteen] = [64 << 20, 1 << 30].map(|size| peaks(size, small, workers(threads)));
        for (one, sixteen) in one.into_iter().zip(sixteen) {
            // Of several threads, some may not have begun before a small file was done.
            let idle = (threads - 1) * (128 << 10);
            assert!(sixteen < one + idle + (64 << 10), "{threads} threads take {one} bytes for 64 MiB and {sixteen} for 1 GiB");
            assert!(sixteen < threads * (512 << 10), "{threads} threads take {sixteen} bytes");
        }
    }
    // Sixteen threads of 16 MiB each would be four times the bound.
    for peak in peaks(1 << 30, large, workers(16)) {
        assert!(peak <= Workers::MEMORY, "{peak} bytes");
    }
    // One chunk has to be somewhere.
    for peak in peaks(64 << 20, large, workers(16).within(0)) {
        assert!((16 << 20..20 << 20).contains(&peak), "{peak} bytes");
    }
}
