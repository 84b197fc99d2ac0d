//! A sealed model on a storage that changes what it likes, also between two reads: whatever is handed out is what was sealed.
//!
//! Input: a list of changes, and of ranges to read ([`Case`]).

#![no_main]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use models_manifest::{ChunkBuffer, Meter, ModelPath, RangeSink, RangeSource, Reader, Silent};
use portcullis_fuzz::model::Model;

/// What the storage does to a file.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Change {
    /// Changes bits of one byte.
    Flip { at: u32, bits: u8 },
    /// Ends the file earlier.
    Cut { to: u32 },
    /// Adds a byte at the end.
    Extend { byte: u8 },
    /// Copies a stretch of the file over another one.
    Copy { from: u32, to: u32, length: u16 },
    /// Exchanges two chunks, or two entries of the table.
    Swap { one: u8, other: u8, what: Unit },
    /// Takes the content of another file.
    Other { file: u8 },
    /// Is gone.
    Remove,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Unit {
    Chunk,
    Entry,
}

/// A change to one file, in force from one read on.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Deed {
    file: u8,
    after_reads: u8,
    change: Change,
}

/// A hostile storage, and ranges to read from it.
#[derive(Arbitrary, Debug)]
struct Case {
    deeds: Vec<Deed>,
    ranges: Vec<(u8, u32, u16)>,
}

/// A storage that begins genuine and turns.
struct Hostile<'a> {
    files: Vec<(&'a ModelPath, Vec<(u32, Option<Vec<u8>>)>)>,
    reads: AtomicU32,
}

impl Hostile<'_> {
    fn content(&self, path: &ModelPath) -> io::Result<&[u8]> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        let (_, versions) = self.files.iter().find(|(name, _)| *name == path).ok_or(ErrorKind::NotFound)?;
        let now = versions.iter().rev().find(|(from, _)| *from <= reads).and_then(|(_, content)| content.as_deref());
        now.ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl RangeSource for Hostile<'_> {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        Ok(self.content(path)?.len() as u64)
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let content = self.content(path)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start.checked_add(buffer.len()).and_then(|end| content.get(start..end));
        buffer.copy_from_slice(range.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Holds what is handed out to what was sealed.
struct Checker<'a> {
    genuine: &'a [u8],
    written: usize,
}

impl RangeSink for Checker<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset, self.written as u64, "in order");
        assert_eq!(self.genuine.get(self.written..self.written + bytes.len()), Some(bytes), "bytes that were never sealed");
        self.written += bytes.len();
        Ok(())
    }
}

fuzz_target!(|case: Case| {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let model = MODEL.get_or_init(Model::seal);
    let opened = model.over(hostile(model, &case.deeds));
    for (path, genuine) in &model.plain {
        let mut checker = Checker { genuine, written: 0 };
        let mut silent = Silent;
        let mut meter = Meter::new(genuine.len() as u64, &mut silent);
        let copied = opened.file(path.as_str()).and_then(|file| file.copy_to(&mut checker, &mut ChunkBuffer::new(), &mut meter));
        assert!(copied.is_err() || checker.written == genuine.len(), "an end before the end");
        assert!(copied.is_ok() || !case.deeds.is_empty(), "a genuine model: {:?}", copied.map(drop));
    }
    let reader = Reader::new(model.over(hostile(model, &case.deeds)));
    for (file, offset, length) in case.ranges.iter().take(16) {
        let (path, genuine) = model.plain.iter().nth(usize::from(*file) % model.plain.len()).expect("one of the files");
        let offset = *offset as usize % (genuine.len() + 2);
        let mut buffer = vec![0xa5; usize::from(*length)];
        if let Ok(read) = reader.read_at(path.as_str(), offset as u64, &mut buffer) {
            let expected = genuine.get(offset..).unwrap_or_default();
            assert_eq!(read, expected.len().min(buffer.len()));
            assert_eq!(buffer[..read], expected[..read], "bytes that were never sealed");
        }
    }
});

fn hostile<'a>(model: &'a Model, deeds: &[Deed]) -> Hostile<'a> {
    let all: Vec<&Vec<u8>> = model.sealed.values().collect();
    let mut versions: BTreeMap<&ModelPath, Vec<(u32, Option<Vec<u8>>)>> =
        model.sealed.iter().map(|(path, content)| (path, vec![(0, Some(content.clone()))])).collect();
    let mut deeds = deeds.to_vec();
    deeds.truncate(8);
    deeds.sort_by_key(|deed| deed.after_reads);
    for deed in deeds {
        let index = usize::from(deed.file) % all.len();
        let Some((path, history)) = versions.iter_mut().nth(index) else { continue };
        let Some((_, Some(now))) = history.last().cloned() else { continue };
        history.push((u32::from(deed.after_reads), changed(now, deed.change, &all, model.plain[*path].len())));
    }
    Hostile { files: versions.into_iter().collect(), reads: AtomicU32::new(0) }
}

fn changed(mut file: Vec<u8>, change: Change, all: &[&Vec<u8>], size: usize) -> Option<Vec<u8>> {
    let within = |at: u32, length: usize| at as usize % length.max(1);
    let length = file.len();
    match change {
        Change::Flip { at, bits } => {
            if let Some(byte) = file.get_mut(within(at, length)) {
                *byte ^= bits;
            }
        }
        Change::Cut { to } => file.truncate(within(to, length)),
        Change::Extend { byte } => file.push(byte),
        Change::Copy { from, to, length: wanted } => {
            let (from, to) = (within(from, length), within(to, length));
            let span = usize::from(wanted).min(length - from.max(to));
            file.copy_within(from..from + span, to);
        }
        Change::Swap { one, other, what } => {
            let (start, unit) = match what {
                Unit::Chunk => (0, 65_536),
                Unit::Entry => (size, 48),
            };
            let units = length.saturating_sub(start) / unit;
            let place = |index: u8| start + usize::from(index) % units.max(1) * unit;
            let (one, other) = (place(one), place(other));
            if units > 1 && one != other {
                (0..unit).for_each(|at| file.swap(one + at, other + at));
            }
        }
        Change::Other { file: index } => file = all[usize::from(index) % all.len()].clone(),
        Change::Remove => return None,
    }
    Some(file)
}
