//! Storage that is worse than a folder: it changes its answers, lies about sizes, fails, and is asked for no more than needed.

use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind};
use std::ops::ControlFlow;
use std::sync::Mutex;
use zeroize::Zeroizing;

use protocol::ids::NoRandomness;
use protocol::limits;

use super::{Counter, Memory, content, publisher, stranger};
use crate::geometry::{BLOCK, ENTRY, Geometry};
use crate::keys::Salt;
use crate::manifest::{ManifestError, Signer};
use crate::open::ChunkBuffer;
use crate::seal::Entropy;
use crate::source::Meter;
use crate::tree::TreeRoot;
use crate::{
    Advance, Backend, ChunkSize, FileEntry, Inspection, Manifest, ModelPath, OpenError, Progress, RangeSink, RangeSource, Reader,
    SealError, Sealed, SealedModel, Sealing, Silent,
};

const C: usize = 65_536;

type Tamper = Box<dyn Fn(usize, &ModelPath, u64, &mut [u8]) -> io::Result<()> + Send>;

/// Sealed files in memory; `tamper` sees every answer before it goes out, with its number.
struct Store {
    files: BTreeMap<String, Vec<u8>>,
    lengths: BTreeMap<String, u64>,
    tamper: Tamper,
    reads: Mutex<Vec<usize>>,
    forgotten: Mutex<Vec<String>>,
}

impl RangeSource for Store {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        let length = self.files.get(path.as_str()).map(|bytes| bytes.len() as u64);
        self.lengths.get(path.as_str()).copied().or(length).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let number = {
            let mut reads = self.reads.lock().unwrap();
            reads.push(buffer.len());
            reads.len() - 1
        };
        let bytes = self.files.get(path.as_str()).ok_or(ErrorKind::NotFound)?;
        let range = bytes.get(offset as usize..offset as usize + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(range);
        (self.tamper)(number, path, offset, buffer)
    }

    fn forget(&self, path: &ModelPath) {
        self.forgotten.lock().unwrap().push(path.to_string());
    }
}

fn honest() -> Tamper {
    Box::new(|_, _, _, _| Ok(()))
}

fn path(text: &str) -> ModelPath {
    text.parse().unwrap()
}

fn begin() -> Sealing {
    Sealing::begin_with(ChunkSize::SMALLEST, Backend::AwsLc, Counter::new(99)).unwrap()
}

fn sealed(size: usize) -> (Sealed, Store) {
    let mut sealing = begin();
    let mut files = BTreeMap::new();
    let mut entries = Vec::new();
    for (name, size) in [("a.bin", size), ("b.bin", 10)] {
        let mut memory = Memory::default();
        let mut source = Cursor::new(content(5, size));
        entries.push(sealing.file(&path(name), size as u64, &mut source, &mut memory, &mut Meter::new(0, &mut Silent)).unwrap());
        files.insert(name.to_owned(), memory.0);
    }
    let sealed = sealing.finish("acme/tiny".parse().unwrap(), protocol::ids::Version::FIRST, entries, &publisher()).unwrap();
    (sealed, Store { files, lengths: BTreeMap::new(), tamper: honest(), reads: Mutex::default(), forgotten: Mutex::default() })
}

fn unlock(sealed: Sealed, store: Store) -> SealedModel<Store> {
    let json = sealed.document.to_json();
    let released = sealed.document.digest();
    SealedModel::authenticate(store, &json, &[*publisher().public()], &released, sealed.key, Backend::AwsLc).unwrap()
}

#[test]
fn a_table_of_several_blocks_opens_and_reads() {
    let size = 1025 * C + 3;
    let (sealed, store) = sealed(size);
    let plaintext = content(5, size);
    let model = unlock(sealed, store);
    let mut opened = Memory::default();
    model.file("a.bin").unwrap().copy_to(&mut opened, &mut ChunkBuffer::new(), &mut Meter::new(0, &mut Silent)).unwrap();
    assert!(opened.0 == plaintext);
    let reader = Reader::new(model);
    let mut buffer = vec![0; 10];
    let offset = 1024 * C - 5;
    assert_eq!(reader.read_at("a.bin", offset as u64, &mut buffer).unwrap(), 10);
    assert_eq!(buffer, plaintext[offset..offset + 10]);
}

#[test]
fn a_table_that_changes_between_two_reads_is_refused() {
    let size = 1025 * C;
    let table = size as u64;
    let change_after = |reads: usize, block: u64| {
        let (sealed, mut store) = sealed(size);
        store.tamper = Box::new(move |number, _, offset, buffer| {
            if number >= reads && offset == table + block * BLOCK as u64 {
                buffer[ENTRY - 1] ^= 1;
            }
            Ok(())
        });
        let model = unlock(sealed, store);
        let file = model.file("a.bin")?;
        file.copy_to(&mut Memory::default(), &mut ChunkBuffer::new(), &mut Meter::new(0, &mut Silent))
    };
    // The first pass reads two blocks; each is read once more.
    assert!(matches!(change_after(0, 0), Err(OpenError::TreeRoot { .. })));
    assert!(matches!(change_after(2, 0), Err(OpenError::TableChanged { block: 0, .. })));
    assert!(matches!(change_after(2, 1), Err(OpenError::TableChanged { block: 1, .. })));
    assert!(change_after(2000, 1).is_ok());
}

#[test]
fn a_chunk_that_changes_between_two_reads_is_refused() {
    let (sealed, mut store) = sealed(2 * C);
    store.tamper = Box::new(|number, _, offset, buffer| {
        if number > 3 && offset == 0 {
            buffer[7] ^= 1;
        }
        Ok(())
    });
    let reader = Reader::new(unlock(sealed, store));
    let read = |offset: usize| reader.read_at("a.bin", offset as u64, &mut [0; 4]);
    // Table, block, chunk 0; then chunk 1 takes the buffer, and chunk 0 is read anew.
    assert_eq!(read(0).unwrap(), 4);
    assert_eq!(read(C).unwrap(), 4);
    assert!(matches!(read(0), Err(OpenError::ChunkHash { chunk: 0, .. })));
    assert_eq!(read(C).unwrap(), 4);
}

#[test]
fn a_refused_chunk_gives_no_byte_to_the_reader() {
    let (sealed, mut store) = sealed(2 * C);
    store.tamper = Box::new(|_, _, offset, buffer| {
        if offset == C as u64 {
            buffer[0] ^= 1;
        }
        Ok(())
    });
    let reader = Reader::new(unlock(sealed, store));
    let mut buffer = vec![0xaa; 20];
    assert!(matches!(reader.read_at("a.bin", C as u64 - 10, &mut buffer), Err(OpenError::ChunkHash { chunk: 1, .. })));
    assert_eq!(buffer[..10], content(5, C)[C - 10..]);
    assert_eq!(buffer[10..], [0xaa; 10]);
}

#[test]
fn a_source_is_told_to_forget_what_did_not_hold_and_not_what_did_not_come() {
    let told = |at: usize, failing: Option<ErrorKind>| {
        let (sealed, mut store) = sealed(2 * C);
        store.tamper = Box::new(move |_, path, offset, buffer| {
            if path.as_str() == "a.bin" && offset == at as u64 {
                buffer[0] ^= 1;
                return failing.map_or(Ok(()), |kind| Err(kind.into()));
            }
            Ok(())
        });
        let reader = Reader::new(unlock(sealed, store));
        assert_eq!(reader.read_at("b.bin", 0, &mut [0; 4]).unwrap(), 4);
        let refused = reader.read_at("a.bin", C as u64, &mut [0; 4]).unwrap_err();
        (refused.code(), std::mem::take(&mut *reader.model().source().forgotten.lock().unwrap()))
    };
    assert_eq!(told(C, None), ("chunk-hash", vec!["a.bin".to_owned()]));
    assert_eq!(told(2 * C, None), ("tree-root", vec!["a.bin".to_owned()]));
    assert_eq!(told(C, Some(ErrorKind::UnexpectedEof)), ("cut-short", vec!["a.bin".to_owned()]));
    assert_eq!(told(C, Some(ErrorKind::TimedOut)), ("io", vec![]));
    assert_eq!(told(C, Some(ErrorKind::NotFound)), ("file-missing", vec![]));
}

#[test]
fn random_access_reads_one_block_and_one_chunk() {
    let (sealed, store) = sealed(1025 * C);
    let reader = Reader::new(unlock(sealed, store));
    let reads = || std::mem::take(&mut *reader.model().source().reads.lock().unwrap());
    reader.read_at("a.bin", 3 * C as u64, &mut [0; 1]).unwrap();
    assert_eq!(reads(), [BLOCK, ENTRY, BLOCK, C]);
    reader.read_at("a.bin", 3 * C as u64 + 9, &mut [0; 100]).unwrap();
    assert_eq!(reads(), [0; 0]);
    reader.read_at("a.bin", 4 * C as u64, &mut [0; 1]).unwrap();
    assert_eq!(reads(), [C]);
    reader.read_at("a.bin", 1024 * C as u64, &mut [0; 1]).unwrap();
    assert_eq!(reads(), [ENTRY, C]);
}

#[test]
fn storage_that_ends_early_is_missing_or_fails_is_named() {
    let attempt = |prepare: &dyn Fn(&mut Store)| {
        let (sealed, mut store) = sealed(2 * C);
        prepare(&mut store);
        let model = unlock(sealed, store);
        let file = model.file("a.bin")?;
        file.copy_to(&mut Memory::default(), &mut ChunkBuffer::new(), &mut Meter::new(0, &mut Silent))
    };
    let size = (2 * C + 2 * ENTRY) as u64;
    let lie = attempt(&|store| {
        store.files.get_mut("a.bin").unwrap().pop();
        store.lengths.insert("a.bin".into(), size);
    });
    assert!(matches!(lie, Err(OpenError::CutShort { .. })));
    let other = attempt(&|store| {
        store.lengths.insert("a.bin".into(), u64::MAX);
    });
    assert!(matches!(other, Err(OpenError::FileSize { expected, found: u64::MAX, .. }) if expected == size));
    let missing = attempt(&|store| {
        store.files.remove("a.bin");
    });
    assert!(matches!(missing, Err(OpenError::FileMissing { .. })));
    let fails = attempt(&|store| store.tamper = Box::new(|_, _, _, _| Err(ErrorKind::PermissionDenied.into())));
    assert!(matches!(fails, Err(OpenError::Io { action: "read the sealed", .. })));
    assert!(attempt(&|_| ()).is_ok());
}

#[test]
fn a_file_that_the_manifest_does_not_list_is_not_there() {
    let (sealed, store) = sealed(10);
    let reader = Reader::new(unlock(sealed, store));
    assert!(matches!(reader.read_at("c.bin", 0, &mut [0]), Err(OpenError::NoSuchFile { path }) if path == "c.bin"));
    assert!(matches!(reader.read_file_at(2, 0, &mut [0]), Err(OpenError::NoSuchFile { .. })));
    assert!(matches!(reader.model().file("A.bin").err(), Some(OpenError::NoSuchFile { .. })));
    assert_eq!(reader.read_at("b.bin", 0, &mut [0]).unwrap(), 1);
}

#[test]
fn a_source_of_another_size_is_refused() {
    let seal = |size: u64, given: usize| {
        begin().file(&path("a"), size, &mut Cursor::new(content(1, given)), &mut Memory::default(), &mut Meter::new(0, &mut Silent))
    };
    assert!(matches!(seal(C as u64 + 1, C), Err(SealError::SourceChanged { .. })));
    assert!(matches!(seal(C as u64, C + 1), Err(SealError::SourceChanged { .. })));
    assert!(matches!(seal(0, 1), Err(SealError::SourceChanged { .. })));
    assert!(matches!(seal(u64::MAX, 1), Err(SealError::Manifest(ManifestError::FileTooLarge { .. }))));
    assert!(seal(C as u64, C).is_ok());
    assert!(seal(0, 0).is_ok());
}

#[test]
fn another_attempt_at_a_file_has_another_salt_and_other_ciphertext() {
    let mut sealing = begin();
    let mut attempt =
        |sink: &mut dyn RangeSink| sealing.file(&path("a"), 100, &mut Cursor::new(content(1, 100)), sink, &mut Meter::new(0, &mut Silent));
    struct Full;
    impl RangeSink for Full {
        fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
            Err(ErrorKind::StorageFull.into())
        }
    }
    assert!(matches!(attempt(&mut Full), Err(SealError::Io { action: "write the sealed", .. })));
    let (mut one, mut two) = (Memory::default(), Memory::default());
    let (first, second) = (attempt(&mut one).unwrap(), attempt(&mut two).unwrap());
    assert_ne!(first.salt(), second.salt());
    assert_ne!(first.root(), second.root());
    assert_ne!(one.0[..100], two.0[..100]);
}

#[test]
fn two_sealings_share_neither_key_nor_id() {
    let seal = || {
        let mut sealing = Sealing::begin(ChunkSize::default(), Backend::AwsLc).unwrap();
        let entry = sealing.file(&path("a"), 0, &mut io::empty(), &mut Memory::default(), &mut Meter::new(0, &mut Silent)).unwrap();
        sealing.finish("a".parse().unwrap(), protocol::ids::Version::FIRST, vec![entry], &publisher()).unwrap()
    };
    let (one, two) = (seal(), seal());
    assert_ne!(one.key.as_bytes(), two.key.as_bytes());
    assert_ne!(one.contents.sealing(), two.contents.sealing());
    assert_ne!(one.contents.files()[0].salt(), two.contents.files()[0].salt());
}

#[test]
fn progress_adds_up_and_can_end_the_work() {
    struct Watch {
        seen: Vec<(u64, u64, u64, u64)>,
        most: usize,
    }
    impl Progress for Watch {
        fn advance(&mut self, at: Advance<'_>) -> ControlFlow<()> {
            self.seen.push((at.file_done, at.file_total, at.done, at.total));
            if self.seen.len() < self.most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
    let (sealed, store) = sealed(C + 1);
    let model = unlock(sealed, store);
    let total = model.contents().total();
    let open = |watch: &mut Watch| {
        let mut meter = Meter::new(total, watch);
        ["a.bin", "b.bin"]
            .iter()
            .try_for_each(|name| model.file(name)?.copy_to(&mut Memory::default(), &mut ChunkBuffer::new(), &mut meter))
    };
    let mut watch = Watch { seen: Vec::new(), most: 100 };
    open(&mut watch).unwrap();
    let (size, total) = (C as u64 + 1, C as u64 + 11);
    assert_eq!(watch.seen, [(C as u64, size, C as u64, total), (size, size, size, total), (10, 10, total, total)]);
    let mut watch = Watch { seen: Vec::new(), most: 2 };
    assert!(matches!(open(&mut watch), Err(OpenError::Cancelled(_))));
    assert_eq!(watch.seen.len(), 2);
}

#[test]
fn a_manifest_is_inspected_without_key_and_says_who_signed_it() {
    let (sealed, _) = sealed(10);
    let json = sealed.document.to_json();
    let unknown = Inspection::read(&json, &[*stranger().public()]).unwrap();
    assert_eq!(unknown.signer, Signer::Unknown(publisher().public().id()));
    assert_eq!(unknown.contents, sealed.contents);
    let known = Inspection::read(&json, &[*publisher().public()]).unwrap();
    assert_eq!((known.signer, known.digest), (Signer::Publisher(*publisher().public()), sealed.document.digest()));
    let mut changed = sealed.document.clone();
    changed.payload[20] ^= 1;
    assert_eq!(Inspection::read(&changed.to_json(), &[*publisher().public()]).unwrap_err().code(), "manifest-signature");
    let manifest = Manifest::authenticate(&json, &[*publisher().public()], &known.digest).unwrap();
    assert_eq!((manifest.publisher(), manifest.digest()), (publisher().public(), &known.digest));
}

/// A list of so many files with paths of so many bytes.
fn entries(count: usize, length: usize) -> Vec<FileEntry> {
    let geometry = Geometry::new(0, ChunkSize::default()).unwrap();
    let (salt, root) = (Salt::from_bytes([0; 32]), TreeRoot::from_bytes([0; 32]));
    let segment = "d".repeat(250) + "/";
    let name = |index| segment.repeat(length.saturating_sub(10) / 251) + &format!("{index:06}");
    (0..count).map(|index| FileEntry::new(path(&name(index)), geometry, salt, root)).collect()
}

#[test]
fn a_manifest_is_never_larger_than_openers_read() {
    let finish = |entries| begin().finish("a".parse().unwrap(), protocol::ids::Version::FIRST, entries, &publisher());
    let most = limits::MANIFEST_FILES;
    let too_many = finish(entries(most + 1, 6)).err();
    assert!(
        matches!(too_many, Some(SealError::Manifest(ManifestError::TooManyFiles { limit, found })) if limit == most && found == most + 1)
    );
    assert!(matches!(finish(entries(most, 1000)).err(), Some(SealError::ManifestTooLarge { limit: limits::MANIFEST, .. })));
    assert!(finish(entries(most, 6)).unwrap().document.to_json().len() < limits::MANIFEST);
}

#[test]
fn without_random_numbers_nothing_is_sealed() {
    /// Has so many random numbers left.
    struct Left(usize);
    impl Entropy for Left {
        fn draw(&mut self) -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
            self.0 = self.0.checked_sub(1).ok_or(NoRandomness)?;
            Ok(Zeroizing::new([7; 32]))
        }
    }
    let seal = |left| {
        let mut sealing = Sealing::begin_with(ChunkSize::default(), Backend::AwsLc, Box::new(Left(left)))?;
        sealing.file(&path("a"), 0, &mut io::empty(), &mut Memory::default(), &mut Meter::new(0, &mut Silent))
    };
    for left in 0..3 {
        assert!(matches!(seal(left), Err(SealError::NoRandomness(_))));
    }
    assert!(seal(3).is_ok());
}
