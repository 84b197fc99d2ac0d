//! The directory of a zip archive (APPNOTE 6.3, sections 4.3.12 to 4.3.16), for one question: is a pickle among its files.
//!
//! Readers find the directory from the archive's end, whatever stands before it; so it is looked for in every file.

use super::Plaintext;
use super::pickle::{PickleSign, extension};
use crate::error::SealError;

/// The record at the end: 22 bytes, and a comment of at most 65 535.
const END: usize = 22;
const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const ZIP64_LOCATOR: usize = 20;
const ZIP64_LOCATOR_SIGNATURE: [u8; 4] = *b"PK\x06\x07";
const ZIP64_END: usize = 56;
const ZIP64_END_SIGNATURE: [u8; 4] = *b"PK\x06\x06";
const ENTRY: usize = 46;
const ENTRY_SIGNATURE: [u8; 4] = *b"PK\x01\x02";

/// The largest directory that is read (bytes): over 100 000 entries.
const DIRECTORY: u64 = 16 * 1024 * 1024;

/// Whether a file is an archive with a pickle in it. One that starts as an archive and has no directory is not to be told.
pub(crate) fn look(file: &dyn Plaintext, starts_as_archive: bool) -> Result<Option<PickleSign>, SealError> {
    let most = END.saturating_add(usize::from(u16::MAX)).saturating_add(ZIP64_LOCATOR);
    let start = file.size().saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
    let tail = file.read(start, most)?;
    let Some(end) = find_end(&tail) else {
        return Ok(starts_as_archive.then_some(PickleSign::UnreadableArchive));
    };
    let Some(directory) = directory(file, &tail, end, start)? else { return Ok(Some(PickleSign::UnreadableArchive)) };
    Ok(match names(&directory) {
        None => Some(PickleSign::UnreadableArchive),
        Some(names) => names.into_iter().find(|name| is_pickle(name)).map(|entry| PickleSign::Archive { entry }),
    })
}

/// Of a whole file in memory.
///
/// # Errors
/// None: memory is always read.
pub fn look_at(bytes: &[u8]) -> Result<Option<PickleSign>, SealError> {
    look(&Memory(bytes), bytes.starts_with(b"PK\x03\x04"))
}

/// `data.pkl` as `torch.save` names it, or whatever else is named as a pickle.
fn is_pickle(entry: &str) -> bool {
    let name = entry.rsplit(['/', '\\']).next().unwrap_or_default();
    // `.bin` in an archive is as often an ELF file or a table of a tokenizer.
    extension(name).is_some_and(|found| found != "bin")
}

/// Where in the file's last bytes the end record stands: one whose comment goes just to the end.
fn find_end(tail: &[u8]) -> Option<usize> {
    let last = tail.len().checked_sub(END)?;
    (0..=last).rev().find(|at| {
        let record = tail.get(*at..).unwrap_or_default();
        let behind = record.len().saturating_sub(END);
        record.starts_with(&END_SIGNATURE) && number::<2>(record, 20).is_some_and(|comment| usize::try_from(comment) == Ok(behind))
    })
}

/// The directory's bytes; `None` where there is none at the place that the end record names, nor just before the record.
fn directory(file: &dyn Plaintext, tail: &[u8], end: usize, start: u64) -> Result<Option<Vec<u8>>, SealError> {
    let record = tail.get(end..).unwrap_or_default();
    let fields = number::<4>(record, 12).zip(number::<4>(record, 16));
    let Some((mut length, mut offset)) = fields else { return Ok(None) };
    let mut before = start.saturating_add(u64::try_from(end).unwrap_or(u64::MAX));
    let locator = end.checked_sub(ZIP64_LOCATOR).and_then(|at| tail.get(at..)).filter(|bytes| bytes.starts_with(&ZIP64_LOCATOR_SIGNATURE));
    if let Some(locator) = locator {
        let at = number::<8>(locator, 8).unwrap_or(u64::MAX);
        let long = file.read(at.min(file.size()), ZIP64_END)?;
        let fields = number::<8>(&long, 40).zip(number::<8>(&long, 48)).filter(|_| long.starts_with(&ZIP64_END_SIGNATURE));
        let Some((long_length, long_offset)) = fields else { return Ok(None) };
        (length, offset, before) = (long_length, long_offset, at);
    }
    if length > DIRECTORY {
        return Ok(None);
    }
    if length == 0 {
        return Ok(Some(Vec::new()));
    }
    // Where something stands before the archive, offsets may count from the file's start or from the archive's.
    for at in [offset, before.saturating_sub(length)] {
        let bytes = file.read(at.min(file.size()), usize::try_from(length).unwrap_or(0))?;
        if bytes.starts_with(&ENTRY_SIGNATURE) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The entries' names; `None` where the directory is not made of entries.
fn names(directory: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = directory;
    while !rest.is_empty() {
        if !rest.starts_with(&ENTRY_SIGNATURE) {
            return None;
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| number::<2>(rest, at).and_then(|length| usize::try_from(length).ok()));
        let (name, extra, comment) = (name?, extra?, comment?);
        let behind = rest.get(ENTRY..)?;
        names.push(String::from_utf8_lossy(behind.get(..name)?).into_owned());
        rest = behind.get(name.checked_add(extra)?.checked_add(comment)?..)?;
    }
    Some(names)
}

/// A little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.first_chunk::<N>()?;
    Some(field.iter().rev().fold(0, |sum, byte| sum.wrapping_shl(8) | u64::from(*byte)))
}

/// A file in memory.
struct Memory<'a>(&'a [u8]);

impl Plaintext for Memory<'_> {
    fn size(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SealError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(from..).unwrap_or_default();
        for (to, from) in buffer.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(())
    }
}
