//! Decrypted chunks on their way to the page cache: however many threads want a chunk, it is decrypted once; and where a file is
//! read forward, the next chunks are decrypted while the kernel copies this one.
//!
//! What is held here is little and short-lived: the page cache is what keeps a model. Whether a file is read forward is told by
//! what is held: if the chunk before the wanted one is here too, or the wanted one is a file's first, somebody walks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use models_manifest::geometry::Chunk;
use models_manifest::{Contents, OpenError, RangeSource, Reader};

use super::events::Events;

/// Which chunk of which file.
type Key = (usize, u64);

/// How much is held and done ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Decrypted bytes that are held at most, but for chunks in use.
    pub held: usize,
    /// Bytes ahead of a reader who walks; 0 is none.
    pub ahead: usize,
    /// Threads that decrypt ahead.
    pub threads: usize,
}

impl Default for Limits {
    /// 32 MiB held, 4 MiB ahead, two threads: by measurement enough for the kernel never to wait (`benches/RESULTS.md`).
    fn default() -> Self {
        Self { held: 32 << 20, ahead: 4 << 20, threads: 2 }
    }
}

/// A decrypted chunk.
pub type Plain = Arc<Vec<u8>>;

enum Slot {
    /// Somebody decrypts it.
    Coming,
    /// Decrypted, and when it was last wanted.
    Here(Plain, u64),
}

#[derive(Default)]
struct State {
    slots: HashMap<Key, Slot>,
    /// Bytes in [`Slot::Here`].
    held: usize,
    turn: u64,
    /// Buffers whose chunk has gone.
    spare: Vec<Vec<u8>>,
    /// What shall be decrypted ahead, first things first.
    ahead: VecDeque<Key>,
    ended: bool,
}

/// The chunks of one mounted model.
pub struct Chunks<S> {
    reader: Reader<S>,
    events: Arc<Events>,
    limits: Limits,
    state: Mutex<State>,
    /// A chunk came, or will not.
    came: Condvar,
    /// There is something to do ahead.
    work: Condvar,
}

impl<S: RangeSource + Send + Sync + 'static> Chunks<S> {
    /// Over a reader. Nothing is decrypted ahead until [`Self::walk_ahead`].
    pub fn new(reader: Reader<S>, events: Arc<Events>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { reader, events, limits, state: Mutex::default(), came: Condvar::new(), work: Condvar::new() })
    }

    /// Starts the threads that decrypt ahead; they end with the result.
    pub fn walk_ahead(self: &Arc<Self>) -> Ahead<S> {
        let threads = (0..self.limits.threads).filter_map(|number| {
            let chunks = Arc::clone(self);
            thread::Builder::new().name(format!("ahead-{number}")).spawn(move || chunks.work_ahead()).ok()
        });
        Ahead { threads: threads.collect(), chunks: Arc::clone(self) }
    }

    /// What the manifest says.
    pub fn contents(&self) -> &Contents {
        self.reader.contents()
    }

    /// The plaintext of chunk `index` of file `file` of the manifest.
    ///
    /// # Errors
    /// As [`Reader::read_file_at`].
    pub fn chunk(&self, file: usize, index: u64) -> Result<Plain, OpenError> {
        let key = (file, index);
        let mut state = self.state();
        self.look_ahead(&mut state, key);
        loop {
            state.turn = state.turn.wrapping_add(1);
            let turn = state.turn;
            match state.slots.get_mut(&key) {
                Some(Slot::Here(plain, wanted)) => {
                    *wanted = turn;
                    return Ok(Arc::clone(plain));
                }
                Some(Slot::Coming) => state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner),
                None => return self.fetch(state, key),
            }
        }
    }

    /// Decrypts a chunk that nobody else does.
    fn fetch(&self, mut state: MutexGuard<'_, State>, key: Key) -> Result<Plain, OpenError> {
        state.slots.insert(key, Slot::Coming);
        let spare = state.spare.pop().unwrap_or_default();
        drop(state);
        // Where decrypting panics, whoever waits must not wait for ever.
        let mut coming = Coming { chunks: self, key, plain: None };
        let plain = Arc::new(self.decrypt(key, spare)?);
        coming.plain = Some(Arc::clone(&plain));
        drop(coming);
        self.events.chunk();
        Ok(plain)
    }

    fn decrypt(&self, (file, index): Key, mut buffer: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        let chunk = self.geometry(file, index).ok_or_else(|| OpenError::NoSuchFile { path: format!("number {file}") })?;
        buffer.resize(chunk.length, 0);
        let read = self.reader.read_file_at(file, chunk.offset, &mut buffer)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    fn geometry(&self, file: usize, index: u64) -> Option<Chunk> {
        self.contents().files().get(file)?.geometry().chunk(index)
    }

    /// Plans what comes behind `key`, if somebody walks there.
    fn look_ahead(&self, state: &mut State, (file, index): Key) {
        let walks = index.checked_sub(1).is_none_or(|before| state.slots.contains_key(&(file, before)));
        let Some(geometry) = self.contents().files().get(file).map(|file| file.geometry()).filter(|_| walks) else { return };
        let size = usize::try_from(geometry.chunk_size().bytes()).unwrap_or(usize::MAX).max(1);
        let depth = self.limits.ahead.div_ceil(size);
        let mut planned = false;
        for next in (index.saturating_add(1)..geometry.chunks()).take(depth) {
            if !state.slots.contains_key(&(file, next)) && !state.ahead.contains(&(file, next)) {
                state.ahead.push_back((file, next));
                planned = true;
            }
        }
        // More than fits would push itself out again; what was planned first was for a reader who has gone elsewhere.
        let most = self.limits.held.div_euclid(size).div_euclid(2).max(1);
        while state.ahead.len() > most {
            state.ahead.pop_front();
        }
        if planned {
            self.work.notify_all();
        }
    }

    fn work_ahead(&self) {
        let mut state = self.state();
        loop {
            match state.ahead.pop_front() {
                _ if state.ended => return,
                Some(key) if state.slots.contains_key(&key) => {}
                Some(key) => {
                    // What cannot be read is said when it is asked for.
                    let _ = self.fetch(state, key);
                    state = self.state();
                }
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Lets go of the chunks that were not wanted for the longest time.
    fn make_room(&self, state: &mut State) {
        while state.held > self.limits.held {
            let oldest = state.slots.iter().filter_map(|(key, slot)| match slot {
                Slot::Here(_, wanted) => Some((*wanted, *key)),
                Slot::Coming => None,
            });
            let Some((_, key)) = oldest.min() else { return };
            if let Some(Slot::Here(plain, _)) = state.slots.remove(&key) {
                state.held = state.held.saturating_sub(plain.len());
                let room = self.limits.held.div_euclid(8).div_euclid(plain.capacity().max(1));
                if let (true, Ok(buffer)) = (state.spare.len() < room, Arc::try_unwrap(plain)) {
                    state.spare.push(buffer);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is coming; when this goes, it is here or nowhere, and whoever waits is woken.
struct Coming<'c, S: RangeSource + Send + Sync + 'static> {
    chunks: &'c Chunks<S>,
    key: Key,
    plain: Option<Plain>,
}

impl<S: RangeSource + Send + Sync + 'static> Drop for Coming<'_, S> {
    fn drop(&mut self) {
        let mut state = self.chunks.state();
        match self.plain.take() {
            Some(plain) => {
                state.turn = state.turn.wrapping_add(1);
                state.held = state.held.saturating_add(plain.len());
                let turn = state.turn;
                state.slots.insert(self.key, Slot::Here(plain, turn));
                self.chunks.make_room(&mut state);
            }
            None => {
                state.slots.remove(&self.key);
            }
        }
        drop(state);
        self.chunks.came.notify_all();
    }
}

/// The threads that decrypt ahead.
pub struct Ahead<S: RangeSource + Send + Sync + 'static> {
    threads: Vec<JoinHandle<()>>,
    chunks: Arc<Chunks<S>>,
}

impl<S: RangeSource + Send + Sync + 'static> Drop for Ahead<S> {
    fn drop(&mut self) {
        self.chunks.state().ended = true;
        self.chunks.work.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
