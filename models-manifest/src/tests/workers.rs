//! Many threads do what one does: the same files, the same refusals, nothing left behind, within the same memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::vectors::{files, write};
use super::{Counter, content, publisher};
use crate::folder::{OpenFolder, Opening, SealFolder, open_folder, open_model, seal_folder_in};
use crate::geometry::ENTRY;
use crate::source::{Meter, OpenPlaces, PlainSource, SealPlaces};
use crate::{
    Advance, Backend, ChunkSize, Manifest, ModelKey, ModelPath, OpenError, Progress, RangeSource, SealError, Sealed, SealedModel, Sealing,
    SharedSink, Silent, Workers,
};
use protocol::ids::Version;
use zeroize::Zeroizing;

const C: usize = 65_536;

fn threads(count: usize) -> Workers {
    Workers::new(NonZero::new(count).unwrap())
}

struct Room(tempfile::TempDir);

impl Room {
    fn with(files: &[(&str, usize)]) -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        for (index, (path, size)) in files.iter().enumerate() {
            write(&room.at("source"), path, &content(index as u64, *size));
        }
        room
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// With the same keys and salts each time.
    fn seal(&self, to: &str, workers: Workers, backend: Backend, progress: &mut dyn Progress) -> Result<Sealed, SealError> {
        let order = SealFolder {
            source: &self.at("source"),
            destination: &self.at(to),
            name: "acme/tiny".parse().unwrap(),
            version: Version::FIRST,
            chunk_size: ChunkSize::SMALLEST,
            backend,
            workers,
        };
        seal_folder_in(Sealing::begin_with(ChunkSize::SMALLEST, backend, Counter::new(4)).unwrap(), &order, &publisher(), progress)
    }

    fn sealed(&self) -> Sealed {
        self.seal("sealed", Workers::one(), Backend::AwsLc, &mut Silent).unwrap()
    }

    fn open(&self, sealed: &Sealed, workers: Workers, backend: Backend, progress: &mut dyn Progress) -> Result<(), OpenError> {
        let (publishers, released) = ([*publisher().public()], sealed.document.digest());
        let order = OpenFolder { sealed: &self.at("sealed"), publishers: &publishers, released: &released, backend };
        open_folder(order, key(sealed), Opening { workers, ..Opening::to(&self.at("opened")) }, progress).map(drop)
    }
}

fn key(sealed: &Sealed) -> ModelKey {
    ModelKey::from_bytes(Zeroizing::new(*sealed.key.as_bytes()))
}

/// Sizes on both sides of a chunk's border, of a thread's share and of a block of the table; and small files among them.
const MIXED: [(&str, usize); 8] = [
    ("a/config.json", 20),
    ("a/empty", 0),
    ("b.safetensors", 70 * C + 5),
    ("c.safetensors", 1025 * C),
    ("d.safetensors", 32 * C),
    ("d2.safetensors", 32 * C + 1),
    ("e/f/g.txt", C),
    ("z", 1),
];

#[test]
fn many_threads_seal_the_same_bytes_as_one_and_open_them_by_either_cipher() {
    let room = Room::with(&MIXED);
    let one = room.sealed();
    let expected = files(&room.at("sealed"));
    for (count, backend) in [(2, Backend::AwsLc), (5, Backend::Portable), (16, Backend::AwsLc)] {
        let many = room.seal("many", threads(count), backend, &mut Silent).unwrap();
        assert_eq!(many.document.digest(), one.document.digest());
        assert!(files(&room.at("many")) == expected, "{count} threads, {backend:?}");
        fs::remove_dir_all(room.at("many")).unwrap();
    }
    let plaintext = files(&room.at("source"));
    for (count, backend) in [(1, Backend::AwsLc), (2, Backend::Portable), (3, Backend::AwsLc), (16, Backend::Portable)] {
        room.open(&one, threads(count), backend, &mut Silent).unwrap();
        assert!(files(&room.at("opened")) == plaintext, "{count} threads, {backend:?}");
        fs::remove_dir_all(room.at("opened")).unwrap();
    }
    assert_eq!(room.names(), ["sealed", "source"]);
}

#[test]
fn a_thousand_small_files_are_sealed_and_opened() {
    let names: Vec<String> = (0..1000).map(|index| format!("folder{}/{index}.txt", index % 30)).collect();
    let small: Vec<(&str, usize)> = names.iter().enumerate().map(|(index, name)| (name.as_str(), index % 100)).collect();
    let room = Room::with(&small);
    let one = room.sealed();
    let many = room.seal("many", threads(4), Backend::AwsLc, &mut Silent).unwrap();
    assert_eq!(many.contents, one.contents);
    assert!(files(&room.at("many")) == files(&room.at("sealed")));
    room.open(&one, threads(4), Backend::AwsLc, &mut Silent).unwrap();
    assert!(files(&room.at("opened")) == files(&room.at("source")));
}

#[test]
fn a_large_file_with_holes_is_sealed_and_opened() {
    let room = Room::with(&[("config.json", 2)]);
    let size = 1100 * C as u64 + 7;
    let sparse = fs::File::create(room.at("source/model.bin")).unwrap();
    sparse.set_len(size).unwrap();
    sparse.write_all_at(b"end", size - 3).unwrap();
    assert!(sparse.metadata().unwrap().blocks() < 1024, "the file system makes no holes");
    let sealed = room.seal("sealed", threads(3), Backend::AwsLc, &mut Silent).unwrap();
    room.open(&sealed, threads(3), Backend::AwsLc, &mut Silent).unwrap();
    assert!(files(&room.at("opened")) == files(&room.at("source")));
}

/// Changes one byte of a file of the sealed folder.
fn flip(path: &Path, at: usize) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
}

/// Whether an error is the expected one.
type Expected<'a> = &'a dyn Fn(&OpenError) -> bool;

#[test]
fn of_several_failures_the_first_in_the_order_of_the_manifest_is_named() {
    let room = Room::with(&MIXED);
    let sealed = room.sealed();
    let refused = |workers| room.open(&sealed, workers, Backend::AwsLc, &mut Silent).unwrap_err();
    // From behind to the front, each change is the one that is named, whoever meets another one earlier.
    let table = |path: &str| MIXED.iter().find(|(name, _)| *name == path).unwrap().1;
    let changes: [(&str, usize, Expected); 5] = [
        ("z", 0, &|error| matches!(error, OpenError::ChunkHash { path, chunk: 0 } if path.as_str() == "z")),
        ("e/f/g.txt", table("e/f/g.txt"), &|error| matches!(error, OpenError::TreeRoot { path, .. } if path.as_str() == "e/f/g.txt")),
        ("c.safetensors", 900 * C, &|error| matches!(error, OpenError::ChunkHash { chunk: 900, .. })),
        ("c.safetensors", 33 * C, &|error| matches!(error, OpenError::ChunkHash { path, chunk: 33 } if path.as_str() == "c.safetensors")),
        ("b.safetensors", 69 * C, &|error| matches!(error, OpenError::ChunkHash { path, chunk: 69 } if path.as_str() == "b.safetensors")),
    ];
    for (path, at, expected) in changes {
        flip(&room.at("sealed").join(path), at);
        for count in [1, 2, 3, 8, 8, 8] {
            let error = refused(threads(count));
            assert!(expected(&error), "{count} threads: {error}");
            assert_eq!(room.names(), ["sealed", "source"]);
        }
    }
}

/// Ends the work as soon as it hears of it.
struct Impatient;

impl Progress for Impatient {
    fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

#[test]
fn work_that_is_ended_leaves_nothing_behind() {
    let room = Room::with(&MIXED);
    for count in [2, 3, 8] {
        let ended = room.seal("sealed", threads(count), Backend::AwsLc, &mut Impatient).err();
        assert!(matches!(ended, Some(SealError::Cancelled(_))), "{ended:?}");
        assert_eq!(room.names(), ["source"]);
    }
    let sealed = room.sealed();
    for count in [2, 3, 8] {
        let ended = room.open(&sealed, threads(count), Backend::AwsLc, &mut Impatient).err();
        assert!(matches!(ended, Some(OpenError::Cancelled(_))), "{ended:?}");
        assert_eq!(room.names(), ["sealed", "source"]);
    }
}

#[test]
fn the_last_thing_that_progress_hears_is_that_all_is_done() {
    struct Watch(Vec<(u64, u64)>);
    impl Progress for Watch {
        fn advance(&mut self, at: Advance<'_>) -> ControlFlow<()> {
            assert!(at.file_done <= at.file_total);
            self.0.push((at.done, at.total));
            ControlFlow::Continue(())
        }
    }
    let room = Room::with(&MIXED);
    let sealed = room.sealed();
    let total = sealed.contents.total();
    for count in [1, 2, 6] {
        let mut watch = Watch(Vec::new());
        room.open(&sealed, threads(count), Backend::AwsLc, &mut watch).unwrap();
        assert!(watch.0.is_sorted(), "{count}");
        assert_eq!(watch.0.last(), Some(&(total, total)), "{count}");
        fs::remove_dir_all(room.at("opened")).unwrap();
    }
}

#[test]
fn the_bound_on_memory_is_kept_by_fewer_threads() {
    let of = |chunk: u64, count: usize, memory: usize| threads(count).within(memory).count(ChunkSize::try_from(chunk).unwrap()).get();
    assert_eq!(of(256 << 10, 64, Workers::MEMORY), 64);
    assert_eq!(of(16 << 20, 64, Workers::MEMORY), 3);
    assert_eq!(of(16 << 20, 2, Workers::MEMORY), 2);
    assert_eq!(of(16 << 20, 64, 0), 1);
}

/// A storage in memory that counts who reads at once and how much, and fails where it is told to.
struct Store {
    files: BTreeMap<String, Vec<u8>>,
    reading: AtomicUsize,
    most: AtomicUsize,
    read: Mutex<Vec<u64>>,
    expected: Mutex<Vec<(u64, u64)>>,
    fails: Option<(&'static str, u64)>,
}

impl RangeSource for Store {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        Ok(self.files.get(path.as_str()).ok_or(ErrorKind::NotFound)?.len() as u64)
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let now = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        if buffer.len() == C {
            self.read.lock().unwrap().push(offset);
            // Somebody else gets a turn while this one reads.
            std::thread::yield_now();
        }
        self.reading.fetch_sub(1, Ordering::SeqCst);
        if self.fails.is_some_and(|(file, at)| file == path.as_str() && at == offset) {
            return Err(ErrorKind::TimedOut.into());
        }
        let bytes = self.files.get(path.as_str()).ok_or(ErrorKind::NotFound)?;
        buffer.copy_from_slice(bytes.get(offset as usize..offset as usize + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn will_read(&self, _: &ModelPath, offset: u64, length: u64) {
        self.expected.lock().unwrap().push((offset, length));
    }
}

fn over(room: &Room, sealed: &Sealed, fails: Option<(&'static str, u64)>) -> SealedModel<Store> {
    let store = Store {
        files: files(&room.at("sealed")),
        reading: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        read: Mutex::default(),
        expected: Mutex::default(),
        fails,
    };
    let (json, digest) = (sealed.document.to_json(), sealed.document.digest());
    let manifest = Manifest::authenticate(&json, &[*publisher().public()], &digest).unwrap();
    SealedModel::unlock(store, manifest, key(sealed), Backend::AwsLc).unwrap()
}

#[test]
fn every_chunk_is_read_once_from_any_storage_and_no_more_threads_read_than_were_asked_for() {
    let room = Room::with(&[("a.bin", 500 * C)]);
    let sealed = room.sealed();
    for count in [1, 4] {
        let model = over(&room, &sealed, None);
        let to = room.at("opened");
        let opened = open_model(&model, Opening { workers: threads(count), ..Opening::to(&to) }, &mut Silent).unwrap();
        assert_eq!(opened.kept, 0);
        assert!(files(&to) == files(&room.at("source")));
        fs::remove_dir_all(&to).unwrap();
        let store = model.source();
        assert!(store.most.load(Ordering::SeqCst) <= count);
        let mut read = store.read.lock().unwrap().clone();
        read.sort_unstable();
        assert_eq!(read, (0..500).map(|index| index * C as u64).collect::<Vec<_>>());
        // What is announced is in the file, and announced once.
        let mut expected = store.expected.lock().unwrap().clone();
        expected.sort_unstable();
        assert!(!expected.is_empty() && expected.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
        assert!(expected.iter().all(|(offset, length)| offset + length <= 500 * C as u64));
    }
}

#[test]
fn storage_that_fails_for_one_thread_ends_the_work_of_all() {
    let room = Room::with(&[("a.bin", 100 * C), ("b.bin", 400 * C)]);
    let sealed = room.sealed();
    for count in [1, 2, 8] {
        let model = over(&room, &sealed, Some(("b.bin", 40 * C as u64)));
        let failed = open_model(&model, Opening { workers: threads(count), ..Opening::to(&room.at("opened")) }, &mut Silent);
        assert!(matches!(&failed, Err(OpenError::Io { action: "read the sealed", path, .. }) if path == "b.bin"), "{failed:?}");
        assert_eq!(room.names(), ["sealed", "source"]);
        let read = model.source().read.lock().unwrap().len();
        assert!(count > 1 || read == 100 + 41, "one thread reads nothing behind the failure: {read}");
    }
}

/// Plaintext and sealed files that are not there: the source gives zeros, the sink counts.
#[derive(Default)]
struct Nowhere(AtomicUsize);

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

struct Full(usize);

impl SharedSink for Full {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset as usize + bytes.len() > self.0 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl SealPlaces for Nowhere {
    fn plaintext(&self, _: &ModelPath, _: u64) -> Result<Box<dyn PlainSource>, SealError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Zeros))
    }
    fn sealed(&self, path: &ModelPath, size: u64) -> Result<Box<dyn SharedSink>, SealError> {
        let room = if path.as_str() == "b" { size as usize - ENTRY } else { size as usize };
        Ok(Box::new(Full(room)))
    }
}

impl OpenPlaces for Nowhere {
    fn opened(&self, _: &ModelPath, _: u64) -> io::Result<Box<dyn SharedSink>> {
        Err(ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_place_without_room_is_named_by_file() {
    let begin = || Sealing::begin_with(ChunkSize::SMALLEST, Backend::AwsLc, Counter::new(4)).unwrap();
    let list = |names: &[&str]| names.iter().map(|name| (name.parse().unwrap(), 3 * C as u64)).collect::<Vec<(ModelPath, u64)>>();
    for count in [1, 4] {
        let seal = |names| begin().files(&list(names), &Nowhere::default(), threads(count), &mut Meter::new(0, &mut Silent));
        // The table's only block is written last, and finds no room.
        let failed = seal(&["a", "b", "c"]);
        assert!(matches!(&failed, Err(SealError::Io { action: "write the sealed", path, .. }) if path == "b"), "{failed:?}");
        assert_eq!(seal(&["a", "c"]).unwrap().len(), 2);
        let room = Room::with(&[("a", 10), ("b", 10)]);
        let model = over(&room, &room.sealed(), None);
        let failed = model.copy_all(&Nowhere::default(), threads(count), &mut Meter::new(0, &mut Silent));
        assert!(matches!(&failed, Err(OpenError::Io { action: "create the opened", path, .. }) if path == "a"), "{failed:?}");
    }
}
