//! Many threads on the files of one model, with the result of one.
//!
//! Each thread has a file of its own, the next in the order of the manifest, and does its chunks in order, `JOB` bytes at a time: the system
//! lets one thread at a time write to a file. Who finds no file to begin helps with the one that has most left. So of small files many are under way
//! at once, and the last large one is done by all.
//!
//! What fails has a place: the file, then its beginning, its chunks in order, its end. After a failure nothing behind it is handed out and
//! everything before it still is; so the failure that remains is the lowest, the one that a single thread would have met first.

use std::num::NonZero;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::geometry::{BLOCK, Chunk, ChunkSize, Geometry};
use crate::path::ModelPath;
use crate::source::{Cancelled, Meter};

/// Bytes that a thread takes at once: a huge page, so that no two threads write into the same one.
const JOB: u64 = 2 << 20;

/// What a thread takes beside its chunk and its block of a table: the touched part of its stack, and what the allocator keeps for it (bytes).
const THREAD: usize = 128 * 1024;

/// How many threads work, and how much memory their buffers may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    threads: NonZero<usize>,
    memory: usize,
}

impl Workers {
    /// What buffers may take together if nobody says otherwise (bytes). With chunks of 256 KiB more than 100 threads fit in, with chunks of
    /// 16 MiB three.
    pub const MEMORY: usize = 64 << 20;

    /// So many threads, the caller's among them.
    #[must_use]
    pub const fn new(threads: NonZero<usize>) -> Self {
        Self { threads, memory: Self::MEMORY }
    }

    /// The caller's thread alone.
    #[must_use]
    pub const fn one() -> Self {
        Self::new(NonZero::<usize>::MIN)
    }

    /// The same with another bound on memory, in bytes: fewer threads work where it is too small for all, and one in any case.
    #[must_use]
    pub const fn within(self, memory: usize) -> Self {
        Self { memory, ..self }
    }

    /// How many threads the bound lets work on chunks of this size.
    #[must_use]
    pub fn count(self, chunk_size: ChunkSize) -> NonZero<usize> {
        let each = chunk_size.length().saturating_add(BLOCK).saturating_add(THREAD);
        let fitting = NonZero::new(self.memory.checked_div(each).unwrap_or(0)).unwrap_or(NonZero::<usize>::MIN);
        self.threads.min(fitting)
    }
}

impl Default for Workers {
    /// One for each processor that this process may use.
    fn default() -> Self {
        Self::new(thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN))
    }
}

/// What is done to the files of a list.
pub(crate) trait Task: Sync {
    /// What a thread has of its own: buffers.
    type Room: Default;
    /// A file that is worked on.
    type File: Send + Sync;
    /// What becomes of a file.
    type Output: Send;
    /// Why it does not.
    type Error: From<Cancelled> + Send;

    /// How many files there are.
    fn files(&self) -> usize;

    /// File `index`, below [`Self::files`], before it is begun.
    fn file(&self, index: usize) -> Option<(&ModelPath, u64)>;

    /// Begins a file.
    fn begin(&self, index: usize) -> Result<(Self::File, Geometry), Self::Error>;

    /// That the chunks in this range of bytes come up soon.
    fn expect(&self, _file: &Self::File, _offset: u64, _length: u64) {}

    /// Does one chunk. Others may be done at the same time, by others.
    fn chunk(&self, file: &Self::File, chunk: Chunk, room: &mut Self::Room) -> Result<(), Self::Error>;

    /// Ends a file, all chunks of which are done.
    fn end(&self, file: &Self::File) -> Result<Self::Output, Self::Error>;
}

/// Does all of `task`, with so many threads, the caller's among them; what became of each file, in order. `meter` hears from the caller's
/// thread, after each chunk that this one did.
pub(crate) fn run<T: Task>(task: &T, threads: NonZero<usize>, meter: &mut Meter<'_>) -> Result<Vec<T::Output>, T::Error> {
    let crew = Crew { task, state: Mutex::default(), changed: Condvar::new(), done: AtomicU64::new(0) };
    let before = meter.done();
    thread::scope(|scope| {
        for _ in 1..threads.get() {
            // Whom the system does not give is done without.
            let _ = thread::Builder::new().name("portcullis-chunks".to_owned()).spawn_scoped(scope, || crew.work(&mut |_, _, _, _| Ok(())));
        }
        crew.work(&mut |path, done, file_done, file_total| meter.reach(path, before.saturating_add(done), file_done, file_total));
    });
    let done = before.saturating_add(crew.done.into_inner());
    let mut state = crew.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, error)) = state.failed {
        return Err(error);
    }
    if let Some((path, size)) = task.files().checked_sub(1).and_then(|last| task.file(last)).filter(|_| meter.done() < done) {
        // What others did since the caller's last chunk.
        meter.reach(path, done, size, size)?;
    }
    state.outputs.sort_by_key(|(index, _)| *index);
    Ok(state.outputs.into_iter().map(|(_, output)| output).collect())
}

/// Where in the order of one thread something stands: the file, then 0 for its beginning, 1 for its first chunk, the highest for its end.
type Place = (usize, u64);

/// Before everything: nothing is handed out any more.
const FIRST: Place = (0, 0);

/// A file that was begun.
struct Active<F> {
    index: usize,
    geometry: Geometry,
    file: F,
    /// Chunks that are not done.
    left: AtomicU64,
    /// Bytes that are.
    done: AtomicU64,
}

impl<F> Active<F> {
    /// Chunks in one job.
    fn batch(&self) -> u64 {
        JOB.div_ceil(u64::from(self.geometry.chunk_size().bytes()))
    }
}

/// What a thread does next.
enum Job<F> {
    Begin(usize),
    /// These chunks, from the first up to the one before the second.
    Chunks(Arc<Active<F>>, u64, u64),
}

/// What the threads share.
struct State<T: Task> {
    /// The next file to begin.
    next: usize,
    /// How many are being begun.
    beginning: usize,
    /// Files with chunks that nobody has, with the first of these; no more than there are threads.
    ready: Vec<(Arc<Active<T::File>>, u64)>,
    outputs: Vec<(usize, T::Output)>,
    /// The lowest failure.
    failed: Option<(Place, T::Error)>,
}

impl<T: Task> Default for State<T> {
    fn default() -> Self {
        Self { next: 0, beginning: 0, ready: Vec::new(), outputs: Vec::new(), failed: None }
    }
}

impl<T: Task> State<T> {
    /// Whether something at `place` would have come before the lowest failure.
    fn is_before_failure(&self, place: Place) -> bool {
        self.failed.as_ref().is_none_or(|(failed, _)| place < *failed)
    }

    /// Which of the ready files to go on with: `own`, if it is one; else the one with most left; none behind the lowest failure.
    fn best(&self, own: Option<usize>) -> Best {
        let open =
            self.ready.iter().enumerate().filter(|(_, (active, next))| self.is_before_failure((active.index, next.saturating_add(1))));
        let left = |active: &Active<T::File>, next: u64| {
            let chunks = active.geometry.chunks().saturating_sub(next);
            chunks.saturating_mul(u64::from(active.geometry.chunk_size().bytes()))
        };
        let ranked = open.map(|(at, (active, next))| (Some(active.index) == own, left(active, *next), at));
        ranked.max().map_or(Best::None, |(own, _, at)| if own { Best::Own(at) } else { Best::Other(at) })
    }

    /// Takes chunks of the ready file at this place in the list.
    fn take(&mut self, at: usize) -> Option<Job<T::File>> {
        let (active, next) = self.ready.get_mut(at)?;
        let (first, chunks) = (*next, active.geometry.chunks());
        let end = first.saturating_add(active.batch()).min(chunks);
        let active = Arc::clone(active);
        *next = end;
        if end == chunks {
            self.ready.remove(at);
        }
        Some(Job::Chunks(active, first, end))
    }
}

/// Where in the list of ready files the best one for a thread is.
enum Best {
    Own(usize),
    Other(usize),
    None,
}

/// Called after a chunk with its path, all bytes done, the file's bytes done, and its size.
type Tell<'a> = dyn FnMut(&ModelPath, u64, u64, u64) -> Result<(), Cancelled> + 'a;

struct Crew<'t, T: Task> {
    task: &'t T,
    state: Mutex<State<T>>,
    /// A file was begun, or will not be.
    changed: Condvar,
    done: AtomicU64,
}

impl<T: Task> Crew<'_, T> {
    fn work(&self, tell: &mut Tell<'_>) {
        let (mut room, mut own) = (T::Room::default(), None);
        while let Some(job) = self.next(own) {
            match job {
                Job::Begin(index) => {
                    own = Some(index);
                    self.begin(index);
                }
                Job::Chunks(active, first, end) => self.chunks(&active, first, end, &mut room, tell),
            }
        }
    }

    /// The next job of the thread whose file this is; none when everything is done or in others' hands.
    fn next(&self, own: Option<usize>) -> Option<Job<T::File>> {
        let mut state = self.state();
        loop {
            let best = state.best(own);
            if let Best::Own(at) = best {
                return state.take(at);
            }
            // Every file that failed was begun, so none that is to be begun comes before it.
            if state.failed.is_none() && state.next < self.task.files() {
                let index = state.next;
                state.next = index.saturating_add(1);
                state.beginning = state.beginning.saturating_add(1);
                return Some(Job::Begin(index));
            }
            match best {
                Best::Own(at) | Best::Other(at) => return state.take(at),
                Best::None if state.beginning == 0 => return None,
                Best::None => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(&self, index: usize) {
        let _beginning = Beginning(self);
        let (file, geometry) = match self.task.begin(index) {
            Ok(begun) => begun,
            Err(error) => return self.fail((index, 0), error),
        };
        let active = Active { index, geometry, file, left: AtomicU64::new(geometry.chunks()), done: AtomicU64::new(0) };
        self.state().ready.push((Arc::new(active), 0));
    }

    fn chunks(&self, active: &Active<T::File>, first: u64, end: u64, room: &mut T::Room, tell: &mut Tell<'_>) {
        let Some((path, size)) = self.task.file(active.index) else { return };
        self.expect(active, end);
        for chunk in (first..end).map_while(|index| active.geometry.chunk(index)) {
            let place = (active.index, chunk.position.index.saturating_add(1));
            if !self.state().is_before_failure(place) {
                return;
            }
            if let Err(error) = self.task.chunk(&active.file, chunk, room) {
                return self.fail(place, error);
            }
            let length = u64::try_from(chunk.length).unwrap_or(u64::MAX);
            let more = |sum: &AtomicU64| sum.fetch_add(length, Ordering::Relaxed).saturating_add(length);
            let (file_done, done) = (more(&active.done), more(&self.done));
            if let Err(cancelled) = tell(path, done, file_done, size) {
                return self.fail(FIRST, cancelled.into());
            }
            if active.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.end(active);
            }
        }
    }

    /// Says what comes up after this job: the one that begins with chunk `next`.
    fn expect(&self, active: &Active<T::File>, next: u64) {
        let Some(chunk) = active.geometry.chunk(next) else { return };
        let length = active.geometry.size().saturating_sub(chunk.offset).min(JOB);
        self.task.expect(&active.file, chunk.offset, length);
    }

    fn end(&self, active: &Active<T::File>) {
        match self.task.end(&active.file) {
            Ok(output) => self.state().outputs.push((active.index, output)),
            Err(error) => self.fail((active.index, u64::MAX), error),
        }
    }

    fn fail(&self, place: Place, error: T::Error) {
        let mut state = self.state();
        if state.is_before_failure(place) {
            state.failed = Some((place, error));
        }
    }

    /// A thread that panics ends the whole work; nobody looks at what it left.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being begun: whatever comes of it, nobody waits for it any longer than it lasts.
struct Beginning<'c, 't, T: Task>(&'c Crew<'t, T>);

impl<T: Task> Drop for Beginning<'_, '_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.beginning = state.beginning.saturating_sub(1);
        self.0.changed.notify_all();
    }
}
