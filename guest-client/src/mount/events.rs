//! What a mount tells and counts: one JSON line on standard error for each thing found wrong, and for whoever supervises the
//! mount server the same line, `ready` and the counters on standard output.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use models_manifest::OpenError;
use serde::Serialize;

use super::storage::StorageChanged;
use crate::clock;
use crate::sources::FetchError;

/// Different findings that are told. Whoever tries the same chunk again and again, and whoever changes all of a model, must not
/// fill a log: each finding is told once, and counted every time.
const TOLD: usize = 4096;

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The folder is there and its files can be read.
    Ready {
        /// The mount point.
        at: String,
        /// The model, `NAME@VERSION`.
        model: String,
        /// Its files.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A read failed because what the storage gave is not what was sealed; the reader got `EIO`.
    Tampered {
        /// Seconds since 1970.
        time: u64,
        /// The model, `NAME@VERSION`.
        model: &'a str,
        /// The file's path in the model.
        file: &'a str,
        /// The first chunk of the read that failed, counted from 0.
        chunk: u64,
        /// The check: the code of an [`OpenError`] or of a [`StorageChanged`].
        reason: &'static str,
        /// The same in words.
        message: String,
    },
    /// A read failed because the storage could not be read; the reader got `EIO`.
    Unreadable {
        /// Seconds since 1970.
        time: u64,
        /// The model, `NAME@VERSION`.
        model: &'a str,
        /// The file's path in the model.
        file: &'a str,
        /// The first chunk of the read that failed, counted from 0.
        chunk: u64,
        /// Of a model that is fetched, the code of a [`FetchError`]; else `io`.
        reason: &'static str,
        /// The system's words, or the storage's.
        message: String,
    },
    /// What was counted so far.
    Counters(Counted),
    /// The mount is gone and the server ends.
    Ended,
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Reads that the kernel asked for.
    pub reads: u64,
    /// Bytes that were given for them.
    pub bytes: u64,
    /// Chunks that were read, checked and decrypted.
    pub chunks: u64,
    /// Reads that failed because the storage gave something else than what was sealed.
    pub tampered: u64,
    /// Reads that failed because the storage could not be read.
    pub unreadable: u64,
}

/// The counters, and who is told.
#[derive(Debug, Default)]
pub struct Events {
    model: String,
    reads: AtomicU64,
    bytes: AtomicU64,
    chunks: AtomicU64,
    tampered: AtomicU64,
    unreadable: AtomicU64,
    told: Mutex<HashSet<(usize, u64, &'static str)>>,
}

impl Events {
    /// Of a model, `NAME@VERSION`.
    #[must_use]
    pub fn of(model: String) -> Self {
        Self { model, ..Self::default() }
    }

    /// The model, `NAME@VERSION`.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// A read was answered.
    pub fn read(&self, bytes: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A chunk was decrypted.
    pub fn chunk(&self) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
    }

    /// A read of `file`, file number `index` of the manifest, failed at or behind `chunk`.
    pub fn failed(&self, index: usize, file: &str, chunk: u64, error: &OpenError) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let (reason, is_tampering) = judge(error);
        let counter = if is_tampering { &self.tampered } else { &self.unreadable };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD || !told.insert((index, chunk, reason)) {
            return;
        }
        drop(told);
        let (time, model, message) = (clock::now().seconds(), self.model.as_str(), error.to_string());
        let event = if is_tampering {
            Event::Tampered { time, model, file, chunk, reason, message }
        } else {
            Event::Unreadable { time, model, file, chunk, reason, message }
        };
        tell(&event, &mut io::stderr().lock());
        tell(&event, &mut io::stdout().lock());
    }

    /// What was counted so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            reads: value(&self.reads),
            bytes: value(&self.bytes),
            chunks: value(&self.chunks),
            tampered: value(&self.tampered),
            unreadable: value(&self.unreadable),
        }
    }
}

/// The name of what is wrong, and whether it is that the storage gave something else than what was sealed.
fn judge(error: &OpenError) -> (&'static str, bool) {
    if let Some(changed) = StorageChanged::inside(error) {
        return (changed.code(), true);
    }
    match (FetchError::below(error), error) {
        (Some(fetch @ FetchError::OtherSize { .. }), _) => (fetch.code(), true),
        (Some(fetch), _) => (fetch.code(), false),
        (None, OpenError::Io { .. } | OpenError::Cipher(_) | OpenError::Cancelled(_)) => (error.code(), false),
        (None, _) => (error.code(), true),
    }
}

/// Writes an event as a line. Where nobody listens any more, there is nobody to tell.
pub fn tell(event: &Event<'_>, to: &mut impl Write) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let _ = to.write_all(&line).and_then(|()| to.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(chunk: u64) -> OpenError {
        OpenError::ChunkHash { path: "a.bin".parse().unwrap(), chunk }
    }

    #[test]
    fn a_finding_is_counted_each_time_and_told_once() {
        let events = Events::of("acme/llama@1".to_owned());
        events.read(5);
        for _ in 0..3 {
            events.failed(0, "a.bin", 7, &hash(7));
        }
        events.failed(0, "a.bin", 8, &OpenError::Io { action: "read", path: String::new(), error: io::ErrorKind::TimedOut.into() });
        assert_eq!(events.counted(), Counted { reads: 5, bytes: 5, chunks: 0, tampered: 3, unreadable: 1 });
        assert_eq!(events.told.lock().unwrap().len(), 2);
    }

    #[test]
    fn what_changed_in_storage_is_tampering_and_an_error_of_the_disk_is_not() {
        let io = |error| OpenError::Io { action: "read the sealed", path: "a".to_owned(), error };
        let size = StorageChanged::Size { expected: 1, found: 2 };
        assert_eq!(judge(&io(io::Error::other(size))), ("file-size", true));
        assert_eq!(judge(&io(io::Error::other(StorageChanged::NotAFile))), ("special-file", true));
        assert_eq!(judge(&io(io::ErrorKind::TimedOut.into())), ("io", false));
        assert_eq!(judge(&hash(1)), ("chunk-hash", true));
        assert_eq!(judge(&OpenError::FileMissing { path: "a".parse().unwrap() }), ("file-missing", true));
    }

    #[test]
    fn an_event_is_one_line_of_json_with_its_name() {
        let mut line = Vec::new();
        tell(&Event::Counters(Counted { reads: 1, ..Counted::default() }), &mut line);
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, "{\"event\":\"counters\",\"reads\":1,\"bytes\":0,\"chunks\":0,\"tampered\":0,\"unreadable\":0}\n");
    }
}
