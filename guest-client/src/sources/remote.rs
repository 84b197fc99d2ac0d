//! A sealed model that is fetched: ranges of several MiB, ahead of who reads, over several connections, in bounded memory.
//!
//! An object is cut into ranges of one size, counted from its start. A reader that needs a range which is not there has it fetched
//! and waits; readers of the same range wait for one fetch. Who reads on where he or another ended has the next ranges fetched
//! before he asks. The fetching runs on threads of its own, so any thread may read: an engine's workers, a file system's.
//!
//! Ranges that are held or under way take at most the memory of the settings; the one that was used least lately goes first. A
//! reader that copies from a range which goes meanwhile holds it a moment longer.
//!
//! ```text
//! all of it is read (an opening)         any part of it is read (a mount)
//! ranges of several MiB                  pieces of one chunk: what one read needs, and the piece with the table
//! the next ones from the first on        as much ahead as its reader has read on for: never more than twice what is read,
//!                                        and several MiB a request for who reads far
//! the object may not change              it has the size that the manifest gives it, each time anew
//! ```

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use models_manifest::manifest::Contents;
use models_manifest::{MANIFEST_NAME, ModelPath, RangeSource};
use protocol::limits;
use tokio::runtime::{Builder, Runtime};

use super::address::Address;
use super::answer::Asked;
use super::error::FetchError;
use super::fetch::{Expected, Fetcher};
use super::location::SealedLocation;
use super::settings::Storage;
use super::transport::Transport;

/// Threads that drive the connections: one that decrypts TLS, and one more.
const THREADS: usize = 2;
/// How far back a reader who reads on is looked for (pieces): several threads read for one, and not quite in order.
const GAP: u64 = 4;

/// A sealed model at a web server or an object store.
pub struct Remote {
    shared: Arc<Shared>,
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
}

/// Ends the fetching of a [`Remote`] from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Every read that waits, and every later one, fails with [`FetchError::Stopped`].
    pub fn stop(&self) {
        self.0.fetcher.stop();
        // Whoever looks at the flag under the lock either sees it or is woken.
        drop(self.0.state());
        self.0.changed.notify_all();
    }
}

struct Shared {
    fetcher: Arc<Fetcher>,
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes of one range.
    range: usize,
    /// Bytes of all.
    memory: usize,
    /// Ranges that are fetched before they are asked for, at most.
    ahead: u64,
    access: Access,
}

/// How a model is read.
enum Access {
    /// All of it.
    Whole,
    /// Any part of it.
    Parts {
        /// The size of each sealed file, by the manifest.
        sizes: HashMap<String, u64>,
        /// Ranges that one request asks for, at most.
        most: u64,
    },
}

/// An object's name and the number of a range in it.
type Place = (Arc<str>, u64);

#[derive(Default)]
struct State {
    slots: HashMap<Place, Slot>,
    /// Counts uses.
    tick: u64,
    /// Counts fetches.
    fetches: u64,
    /// Bytes that slots stand for.
    held: usize,
}

struct Slot {
    content: Content,
    /// Which fetch it is of: what another one brings is not for it.
    fetch: u64,
    /// How far its reader had read on when it was read, itself included; 0: nobody has.
    run: u64,
    /// When it was used last.
    used: u64,
    /// Whether anybody has read it.
    read: bool,
    /// Readers that wait for it.
    waiting: usize,
}

enum Content {
    Fetching,
    Ready(Bytes),
    Failed(FetchError),
}

impl Remote {
    /// At `location`, which is no folder. Nothing is fetched yet.
    ///
    /// # Errors
    /// As [`Address::of`]; [`FetchError::Settings`] where no client can be made.
    pub fn new(location: &SealedLocation, storage: &Storage) -> Result<Self, FetchError> {
        let address = Address::of(location, storage)?;
        let builder = Builder::new_multi_thread().worker_threads(THREADS).thread_name("storage").enable_all().build();
        let runtime = builder.map_err(|error| FetchError::Settings { what: error.to_string() })?;
        let transport = Transport::new(connection::pool(storage.ca_file.as_deref())?, storage.idle);
        let fetcher = Fetcher::new(address, transport, storage.connections, storage.patience, Arc::clone(&storage.pace));
        let range = storage.range.max(1);
        // Half of the memory is for what is read now and was read lately.
        let ahead = storage.memory.div_euclid(range).div_euclid(2).min(storage.connections);
        let ahead = u64::try_from(ahead).unwrap_or(1);
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Shared { fetcher: Arc::new(fetcher), state, changed, range, memory: storage.memory, ahead, access: Access::Whole };
        Ok(Self { shared: Arc::new(shared), runtime: Some(runtime) })
    }

    /// The same for a reader of any part, who knows by the manifest how large each file is. It then fetches chunk by chunk, and at most
    /// `ahead` bytes, and half of the memory, before they are asked for.
    #[must_use]
    pub fn in_parts(mut self, contents: &Contents, ahead: Option<usize>) -> Self {
        let files = contents.files().iter();
        let piece = files.clone().map(|file| file.geometry().chunk_size().length()).max().unwrap_or(self.shared.range);
        let memory = self.shared.memory.max(piece.saturating_mul(2));
        let ahead = ahead.unwrap_or(memory).min(memory.div_euclid(2)).div_euclid(piece);
        let most = self.shared.range.div_euclid(piece).max(1);
        let shared = Shared {
            fetcher: Arc::clone(&self.shared.fetcher),
            state: Mutex::default(),
            changed: Condvar::new(),
            range: piece,
            memory,
            ahead: u64::try_from(ahead).unwrap_or(u64::MAX),
            access: Access::Parts {
                sizes: files.map(|file| (file.path().to_string(), file.geometry().sealed_size())).collect(),
                most: u64::try_from(most).unwrap_or(1),
            },
        };
        // What was fetched before goes with the old ranges.
        Self { shared: Arc::new(shared), runtime: self.runtime.take() }
    }

    /// What ends the fetching.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// The manifest, no larger than its limit.
    ///
    /// # Errors
    /// [`FetchError`]; [`FetchError::ManifestTooLarge`] before more than one range of it is fetched.
    pub fn manifest(&self) -> Result<Vec<u8>, FetchError> {
        let name: Arc<str> = Arc::from(MANIFEST_NAME);
        let first = self.get(&name, 0)?;
        let total = self.shared.fetcher.total(&name).unwrap_or_default();
        let limit = u64::try_from(limits::MANIFEST).unwrap_or(u64::MAX);
        if total > limit {
            return Err(FetchError::ManifestTooLarge { limit, found: total });
        }
        let mut manifest = first.to_vec();
        for number in 1..total.div_ceil(self.range()) {
            manifest.extend_from_slice(&self.get(&name, number)?);
        }
        Ok(manifest)
    }

    /// Begins to fetch each file's table and first range, in the manifest's order, up to half of the memory. The manifest need not be
    /// believed: what it says only decides which ranges of the same storage are fetched.
    pub fn prefetch(&self, contents: &Contents) {
        let most = self.shared.memory.div_euclid(2);
        let mut planned: usize = 0;
        for file in contents.files() {
            let (name, geometry) = (Arc::from(file.path().as_str()), file.geometry());
            let table = geometry.size().div_euclid(self.range());
            let last = geometry.sealed_size().saturating_sub(1).div_euclid(self.range());
            // A table lies at the end; of a huge one, its beginning is enough to begin with.
            let places: BTreeSet<u64> = [0].into_iter().chain((table..=last).take(2)).collect();
            for number in places {
                planned = planned.saturating_add(self.shared.range);
                if planned > most {
                    return;
                }
                self.begin(&name, number);
            }
        }
    }

    fn range(&self) -> u64 {
        u64::try_from(self.shared.range).unwrap_or(u64::MAX)
    }

    /// Fills `buffer` from byte `offset` on of the object `name`.
    fn read(&self, name: &Arc<str>, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            if self.shared.total(name).is_some_and(|total| at >= total) {
                return Err(ReadError::End);
            }
            let number = at.div_euclid(self.range());
            let bytes = self.get(name, number)?;
            self.read_ahead(name, number);
            let within = usize::try_from(at.rem_euclid(self.range())).unwrap_or(usize::MAX);
            let there = bytes.get(within..).filter(|there| !there.is_empty()).ok_or(ReadError::End)?;
            let length = there.len().min(rest.len());
            let Some((to, more)) = rest.split_at_mut_checked(length) else { break };
            to.copy_from_slice(there.get(..length).unwrap_or_default());
            at = at.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            rest = more;
        }
        Ok(())
    }

    /// Has the next ranges fetched, where somebody reads on: from the start of an object, or behind a range that is here.
    fn read_ahead(&self, name: &Arc<str>, number: u64) {
        if let Access::Parts { most, .. } = self.shared.access {
            return self.follow(name, number, most);
        }
        let reads_on = number.checked_sub(1).is_none_or(|before| self.shared.state().slots.contains_key(&(Arc::clone(name), before)));
        let Some(total) = self.shared.fetcher.total(name).filter(|_| reads_on) else { return };
        let end = total.div_ceil(self.range()).min(number.saturating_add(self.shared.ahead).saturating_add(1));
        for next in number.saturating_add(1)..end {
            if !self.begin(name, next) {
                return;
            }
        }
    }

    /// Has as much fetched behind piece `number` as its reader has read on for before it. It is asked for when half of that is used up, in
    /// requests of `most` pieces: whoever reads far has large requests under way, whoever reads here and there has none.
    fn follow(&self, name: &Arc<str>, number: u64, most: u64) {
        let place = |number| (Arc::clone(name), number);
        let pieces = self.shared.total(name).unwrap_or_default().div_ceil(self.range());
        let mut state = self.shared.state();
        let run = state.run(name, number);
        if let Some(slot) = state.slots.get_mut(&place(number)) {
            slot.run = slot.run.max(run);
        }
        let window = run.saturating_sub(1).min(self.shared.ahead);
        let end = number.saturating_add(1).saturating_add(window).min(pieces);
        let half = number.saturating_add(window.div_ceil(2));
        if window == 0 || half < end && state.slots.contains_key(&place(half)) {
            return;
        }
        let mut next = number.saturating_add(1);
        while next < end && !self.shared.fetcher.is_stopped() {
            let absent = (next..end.min(next.saturating_add(most))).take_while(|number| !state.slots.contains_key(&place(*number)));
            let wanted = u64::try_from(absent.count()).unwrap_or(0);
            let pieces = usize::try_from(wanted).unwrap_or(usize::MAX);
            if wanted > 0 {
                if !state.make_room(self.shared.range.saturating_mul(pieces), self.shared.memory, For::Ahead) {
                    return;
                }
                self.start(&mut state, place(next), wanted, 0);
            }
            next = next.saturating_add(wanted.max(1));
        }
    }

    /// Has a range fetched that nobody waits for, if there is room; whether there was.
    fn begin(&self, name: &Arc<str>, number: u64) -> bool {
        let place = (Arc::clone(name), number);
        let mut state = self.shared.state();
        if state.slots.contains_key(&place) {
            return true;
        }
        if self.shared.fetcher.is_stopped() || !state.make_room(self.shared.range, self.shared.memory, For::Ahead) {
            return false;
        }
        self.start(&mut state, place, 1, 0);
        true
    }

    /// The bytes of a range, fetched now or before.
    fn get(&self, name: &Arc<str>, number: u64) -> Result<Bytes, FetchError> {
        let place = (Arc::clone(name), number);
        let mut state = self.shared.state();
        let mut waits = false;
        loop {
            state.tick = state.tick.saturating_add(1);
            let tick = state.tick;
            if self.shared.fetcher.is_stopped() {
                return Err(FetchError::Stopped);
            }
            if let Some(slot) = state.slots.get_mut(&place) {
                match &slot.content {
                    Content::Ready(bytes) => {
                        let bytes = bytes.clone();
                        (slot.used, slot.read) = (tick, true);
                        slot.leave(waits);
                        return Ok(bytes);
                    }
                    Content::Failed(error) => {
                        let error = error.clone();
                        slot.leave(waits);
                        if slot.waiting == 0 {
                            state.remove(&place, self.shared.range);
                        }
                        return Err(error);
                    }
                    Content::Fetching => slot.waiting = slot.waiting.saturating_add(usize::from(!waits)),
                }
                waits = true;
            } else if state.make_room(self.shared.range, self.shared.memory, For::Now) {
                self.start(&mut state, place.clone(), 1, 1);
                waits = true;
            }
            // Else all of the memory is under way, and one of those ends before long.
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes room for `count` ranges from `place` on, and has them fetched by one request.
    fn start(&self, state: &mut State, place: Place, count: u64, waiting: usize) {
        state.fetches = state.fetches.wrapping_add(1);
        let (fetch, used) = (state.fetches, state.tick);
        for number in (0..count).map(|index| place.1.saturating_add(index)) {
            state.held = state.held.saturating_add(self.shared.range);
            let slot = Slot { content: Content::Fetching, fetch, run: 0, used, read: false, waiting };
            state.slots.insert((Arc::clone(&place.0), number), slot);
        }
        let (shared, range) = (Arc::clone(&self.shared), self.range());
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                let asked = Asked { start: place.1.saturating_mul(range), length: range.saturating_mul(count) };
                let fetched = shared.fetcher.fetch(&place.0, asked, shared.expected(&place.0)).await;
                shared.arrived(place, count, fetch, fetched);
            });
        }
    }
}

/// What room is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// Somebody waits.
    Now,
    /// Somebody may come.
    Ahead,
}

impl Shared {
    /// A thread that panicked leaves whole slots behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long an object is: by the manifest where it is read in parts, else where an answer has said so.
    fn total(&self, name: &str) -> Option<u64> {
        match &self.access {
            Access::Whole => self.fetcher.total(name),
            Access::Parts { sizes, .. } => sizes.get(name).copied(),
        }
    }

    fn expected(&self, name: &str) -> Expected {
        match &self.access {
            Access::Whole => Expected::First,
            Access::Parts { sizes, .. } => sizes.get(name).map_or(Expected::First, |size| Expected::Size(*size)),
        }
    }

    /// What was fetched, in its ranges. Each has its own memory, so that each can go alone.
    fn arrived(&self, (name, first): Place, count: u64, fetch: u64, fetched: Result<Bytes, FetchError>) {
        if count == 1 {
            return self.finish(&(name, first), fetch, fetched);
        }
        for index in 0..count {
            let part = |bytes: &Bytes| {
                let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(self.range).min(bytes.len());
                let end = start.saturating_add(self.range).min(bytes.len());
                Bytes::copy_from_slice(bytes.get(start..end).unwrap_or_default())
            };
            let number = first.saturating_add(index);
            self.finish(&(Arc::clone(&name), number), fetch, fetched.as_ref().map(part).map_err(Clone::clone));
        }
    }

    fn finish(&self, place: &Place, fetch: u64, fetched: Result<Bytes, FetchError>) {
        let mut state = self.state();
        // One that was forgotten meanwhile is nobody's, also where it is fetched anew.
        let Some(waiting) = state.slots.get(place).filter(|slot| slot.fetch == fetch).map(|slot| slot.waiting) else { return };
        match fetched {
            Ok(bytes) => {
                // It took room for a whole range; an object's last one is shorter.
                state.held = state.held.saturating_sub(self.range.saturating_sub(bytes.len()));
                let tick = state.tick;
                if let Some(slot) = state.slots.get_mut(place) {
                    (slot.content, slot.used) = (Content::Ready(bytes), tick);
                }
            }
            // Nobody asked: whoever does has it fetched again.
            Err(_) if waiting == 0 => state.remove(place, self.range),
            Err(error) => {
                if let Some(slot) = state.slots.get_mut(place) {
                    slot.content = Content::Failed(error);
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    /// How many pieces were read on for to reach `number`, itself included. Who leaves some out has read on for as many less.
    fn run(&self, name: &Arc<str>, number: u64) -> u64 {
        let before = (1..=GAP).filter_map(|distance| {
            let slot = self.slots.get(&(Arc::clone(name), number.checked_sub(distance)?)).filter(|slot| slot.run > 0)?;
            Some(slot.run.saturating_add(1).saturating_sub(distance.saturating_sub(1).saturating_mul(2)))
        });
        before.max().unwrap_or(1).max(1)
    }

    /// Room for `bytes` more, made by forgetting what was used least lately; whether it could be. What was fetched ahead and nobody has
    /// read yet goes last, and never for more of its kind: else several readers would undo each other's reading ahead.
    fn make_room(&mut self, bytes: usize, memory: usize, purpose: For) -> bool {
        while self.held.saturating_add(bytes) > memory {
            let idle = self.slots.iter().filter(|(_, slot)| matches!(slot.content, Content::Ready(_)) && slot.waiting == 0);
            let idle = idle.filter(|(_, slot)| slot.read || purpose == For::Now);
            let least = idle.min_by_key(|(_, slot)| (!slot.read, slot.used));
            let Some(place) = least.map(|(place, _)| place.clone()) else { return false };
            // What is idle is here, and so counts its own bytes.
            self.remove(&place, 0);
        }
        true
    }

    /// Forgets a slot, which without bytes stands for a whole `range`.
    fn remove(&mut self, place: &Place, range: usize) {
        if let Some(slot) = self.slots.remove(place) {
            let size = if let Content::Ready(bytes) = &slot.content { bytes.len() } else { range };
            self.held = self.held.saturating_sub(size);
        }
    }
}

impl Slot {
    /// A reader has what it waited for.
    fn leave(&mut self, waited: bool) {
        self.waiting = self.waiting.saturating_sub(usize::from(waited));
    }
}

enum ReadError {
    Fetch(FetchError),
    End,
}

impl From<FetchError> for ReadError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl RangeSource for Remote {
    fn length(&self, path: &ModelPath) -> io::Result<u64> {
        let name = Arc::from(path.as_str());
        if self.shared.total(&name).is_none() {
            self.get(&name, 0)?;
        }
        Ok(self.shared.total(&name).unwrap_or_default())
    }

    fn read_at(&self, path: &ModelPath, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.read(&Arc::from(path.as_str()), offset, buffer) {
            Ok(()) => Ok(()),
            Err(ReadError::Fetch(error)) => Err(error.into()),
            Err(ReadError::End) => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// What is under way is forgotten too: it may come from the same wrong place. Who waits for it finds out by himself.
    fn forget(&self, path: &ModelPath) {
        let mut state = self.shared.state();
        let of_it = state.slots.iter().filter(|((name, _), slot)| **name == *path.as_str() && slot.waiting == 0);
        let places: Vec<Place> = of_it.map(|(place, _)| place.clone()).collect();
        for place in places {
            state.remove(&place, self.shared.range);
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.shared.fetcher.stop();
            // What is under way is nobody's any more; whoever drops this does not wait for it.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testbed::services::storage::Storage as Server;

    const RANGE: usize = 64 * 1024;

    impl Shared {
        /// What slots stand for, counted anew.
        #[track_caller]
        fn check(&self) {
            let state = self.state();
            let size = |slot: &Slot| if let Content::Ready(bytes) = &slot.content { bytes.len() } else { self.range };
            assert_eq!(state.held, state.slots.values().map(size).sum::<usize>());
            assert!(state.held <= self.memory, "{} of {}", state.held, self.memory);
        }
    }

    fn remote(server: &Server, memory: usize) -> Remote {
        let storage = Storage { range: RANGE, memory, connections: 4, ..Storage::default() };
        Remote::new(&server.url().parse().unwrap(), &storage).unwrap()
    }

    /// As a mount reads it: the objects of [`server`] as a manifest would name them.
    fn parts(server: &Server, ahead: u64) -> Remote {
        let mut remote = remote(server, 16 * RANGE);
        let sizes = [("a", 20 * RANGE + 7), ("b", 100), ("c", 5)].map(|(name, size)| (name.to_owned(), u64::try_from(size).unwrap()));
        let access = Access::Parts { sizes: sizes.into(), most: 4 };
        let (fetcher, state, changed) = (Arc::clone(&remote.shared.fetcher), Mutex::default(), Condvar::new());
        let shared = Shared { fetcher, state, changed, range: RANGE, memory: 16 * RANGE, ahead, access };
        Remote { shared: Arc::new(shared), runtime: remote.runtime.take() }
    }

    /// The pieces that were asked for of `a`, as first and last.
    fn asked(server: &Server) -> Vec<(u64, u64)> {
        let range = u64::try_from(RANGE).unwrap();
        let mut asked: Vec<_> = server.asked().into_iter().filter_map(|asked| asked.range).collect();
        asked.sort_unstable();
        asked.into_iter().map(|(first, last)| (first / range, last / range)).collect()
    }

    /// Reads a byte of piece `number` of `a`, and waits until nothing is under way.
    fn touch(remote: &Remote, number: usize) {
        let mut byte = [0];
        remote.read_at(&"a".parse().unwrap(), u64::try_from(number * RANGE + 5).unwrap(), &mut byte).unwrap();
        assert_eq!(byte[0], u8::try_from((number * RANGE + 5) % 251).unwrap());
        remote.shared.check();
        while remote.shared.state().slots.values().any(|slot| matches!(slot.content, Content::Fetching)) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    #[test]
    fn who_reads_on_has_as_much_fetched_ahead_as_he_has_read_and_others_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _) = server(&folder);
        let here_and_there = parts(&server, 8);
        for number in [0, 18, 5, 12, 9] {
            touch(&here_and_there, number);
        }
        assert_eq!(asked(&server), [0, 5, 9, 12, 18].map(|piece| (piece, piece)));
        let (server, _) = self::server(&folder);
        let walks = parts(&server, 8);
        for (number, seen) in [(2, 2), (3, 4), (4, 6), (5, 8), (6, 8), (7, 12)] {
            touch(&walks, number);
            assert_eq!(asked(&server).last().map(|(_, last)| *last), Some(seen), "after piece {number}: {:?}", asked(&server));
        }
        for number in 8..=20 {
            touch(&walks, number);
        }
        let asked = asked(&server);
        assert!(asked.windows(2).all(|pair| pair[0].1 < pair[1].0), "nothing twice: {asked:?}");
        assert!(asked.iter().any(|(first, last)| last - first == 3), "four pieces by one request: {asked:?}");
        assert_eq!(asked.iter().map(|(first, last)| last - first + 1).sum::<u64>(), 19);
    }

    #[test]
    fn who_leaves_out_every_other_piece_does_not_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _) = server(&folder);
        let remote = parts(&server, 8);
        for number in (0..20).step_by(2) {
            touch(&remote, number);
        }
        assert_eq!(asked(&server), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18].map(|piece| (piece, piece)));
    }

    #[test]
    fn what_is_forgotten_is_fetched_anew_also_while_it_is_under_way() {
        use testbed::services::storage::Trick;
        let folder = tempfile::tempdir().unwrap();
        let (server, bytes) = server(&folder);
        let remote = parts(&server, 8);
        let (path, mut read) = ("a".parse().unwrap(), [0; 4]);
        server.always(Trick::Flipped);
        remote.read_at(&path, 8, &mut read).unwrap();
        assert_ne!(read, bytes[8..12]);
        server.always(Trick::Well);
        remote.read_at(&path, 8, &mut read).unwrap();
        assert_ne!(read, bytes[8..12], "it is held");
        server.next("a", [Trick::Slow(RANGE / 4, std::time::Duration::from_millis(50))]);
        assert!(remote.begin(&Arc::from("a"), 3));
        remote.forget(&path);
        assert!(remote.shared.state().slots.is_empty() && remote.shared.state().held == 0);
        remote.read_at(&path, 8, &mut read).unwrap();
        assert_eq!(read, bytes[8..12]);
        let third = u64::try_from(3 * RANGE).unwrap();
        remote.read_at(&path, third, &mut read).unwrap();
        assert_eq!(read, bytes[3 * RANGE..3 * RANGE + 4]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        remote.shared.check();
        // Another's ranges stay.
        let other = "b".parse().unwrap();
        remote.read_at(&other, 0, &mut read).unwrap();
        remote.forget(&path);
        assert_eq!(remote.shared.state().held, 100);
    }

    #[test]
    fn an_object_has_the_size_that_the_manifest_gives_it_or_is_an_error_of_that_name() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _) = server(&folder);
        let remote = parts(&server, 8);
        let error = |name: &str, offset| {
            let refused = remote.read_at(&name.parse().unwrap(), offset, &mut [0]).unwrap_err();
            refused.get_ref().and_then(|inner| inner.downcast_ref::<FetchError>()).cloned()
        };
        assert_eq!(remote.length(&"c".parse().unwrap()).unwrap(), 5, "nobody was asked");
        assert!(server.asked().is_empty());
        assert_eq!(error("c", 0), Some(FetchError::Missing { status: 404 }));
        std::fs::write(folder.path().join("c"), "123456").unwrap();
        assert_eq!(error("c", 0), Some(FetchError::OtherSize { expected: 5, found: 6 }));
        std::fs::write(folder.path().join("c"), "").unwrap();
        assert_eq!(error("c", 0), Some(FetchError::OtherSize { expected: 5, found: 0 }));
        std::fs::write(folder.path().join("a"), "short").unwrap();
        assert_eq!(error("a", 70_000), Some(FetchError::OtherSize { expected: 20 * 65_536 + 7, found: 5 }));
        std::fs::write(folder.path().join("c"), "12345").unwrap();
        assert_eq!(error("c", 5), None, "behind the end");
        assert!(remote.read_at(&"c".parse().unwrap(), 4, &mut [0]).is_ok());
    }

    fn server(folder: &tempfile::TempDir) -> (Server, Vec<u8>) {
        let bytes: Vec<u8> = (0..20 * RANGE + 7).map(|index| u8::try_from(index % 251).unwrap()).collect();
        std::fs::write(folder.path().join("a"), &bytes).unwrap();
        std::fs::write(folder.path().join("b"), &bytes[..100]).unwrap();
        (Server::start(folder.path()), bytes)
    }

    #[test]
    fn what_is_held_and_under_way_stays_within_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (server, bytes) = server(&folder);
        let (remote, path) = (remote(&server, 5 * RANGE), "a".parse().unwrap());
        std::thread::scope(|scope| {
            for reader in 0..6_usize {
                let (remote, bytes, path) = (&remote, &bytes, &path);
                scope.spawn(move || {
                    for at in (reader * 3 * RANGE..bytes.len()).step_by(RANGE / 2) {
                        let mut read = vec![0; 1000.min(bytes.len() - at)];
                        remote.read_at(path, u64::try_from(at).unwrap(), &mut read).unwrap();
                        assert!(read == bytes[at..at + read.len()]);
                        remote.shared.check();
                    }
                });
            }
        });
    }

    #[test]
    fn a_short_object_takes_the_room_of_its_bytes_and_a_missing_one_none() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _) = server(&folder);
        let remote = remote(&server, 2 * RANGE);
        assert_eq!(remote.length(&"b".parse().unwrap()).unwrap(), 100);
        assert_eq!(remote.shared.state().held, 100);
        assert!(remote.length(&"c".parse().unwrap()).is_err());
        remote.shared.check();
        assert_eq!(remote.shared.state().held, 100);
    }

    #[test]
    fn what_was_fetched_ahead_gives_way_to_a_reader_and_not_to_more_of_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _) = server(&folder);
        let remote = remote(&server, 2 * RANGE);
        let name: Arc<str> = Arc::from("a");
        let ready =
            |number| matches!(remote.shared.state().slots.get(&(Arc::clone(&name), number)), Some(Slot { content: Content::Ready(_), .. }));
        assert!(remote.begin(&name, 3) && remote.begin(&name, 4));
        while !ready(3) || !ready(4) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!remote.begin(&name, 5), "nobody has read what is here");
        remote.get(&name, 9).unwrap();
        assert!(ready(3) != ready(4) && ready(9), "one of those that nobody has read");
        assert!(remote.begin(&name, 5), "what was read may go");
        remote.shared.check();
    }
}
