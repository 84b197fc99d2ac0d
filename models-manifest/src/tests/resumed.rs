//! An opening that is ended and goes on: what lies there counts only as far as it is what was sealed, whoever wrote it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::vectors::{files, write};
use super::{Counter, content, publisher};
use crate::error::DestinationError;
use crate::folder::{Attempt, OpenFolder, Opening, SealFolder, open_model, remove_abandoned, seal_folder_in, unlock_folder};
use crate::{Advance, Backend, ChunkSize, ModelKey, OpenError, Opened, Progress, Sealed, Sealing, Silent, Workers};
use protocol::ids::Version;
use zeroize::Zeroizing;

const C: usize = 65_536;
const FILES: [(&str, usize); 4] = [("a/one.bin", 5 * C), ("b.bin", 3 * C + 9), ("c/empty", 0), ("d.bin", 2 * C)];
/// Chunks of the first file and one of the second.
const ENDED_AFTER: usize = 6;

struct Room {
    folder: tempfile::TempDir,
    sealed: Sealed,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (index, (path, size)) in FILES.iter().enumerate() {
            write(&folder.path().join("source"), path, &content(index as u64, *size));
        }
        let sealed = seal(folder.path(), 1);
        Self { folder, sealed }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn place(&self) -> PathBuf {
        Attempt::place(&self.at("opened")).unwrap()
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.place().join("model").join(path)
    }

    fn open(&self, attempt: Attempt, workers: Workers, progress: &mut dyn Progress) -> Result<Opened, OpenError> {
        let (publishers, released) = ([*publisher().public()], self.sealed.document.digest());
        let order = OpenFolder { sealed: &self.at("sealed"), publishers: &publishers, released: &released, backend: Backend::AwsLc };
        let model = unlock_folder(order, ModelKey::from_bytes(Zeroizing::new(*self.sealed.key.as_bytes())))?;
        open_model(&model, Opening { workers, attempt, ..Opening::to(&self.at("opened")) }, progress)
    }

    fn resume(&self) -> Result<Opened, OpenError> {
        self.open(Attempt::Resumed, Workers::new(3.try_into().unwrap()), &mut Silent)
    }

    /// Ends after [`ENDED_AFTER`] chunks.
    fn begin(&self) {
        let ended = self.open(Attempt::Resumed, Workers::one(), &mut Impatient(ENDED_AFTER));
        assert!(matches!(ended, Err(OpenError::Cancelled(_))), "{ended:?}");
        assert!(!self.at("opened").exists());
    }

    fn expect_opened(&self) {
        assert!(files(&self.at("opened")) == files(&self.at("source")));
        assert!(!self.place().exists());
    }
}

fn seal(folder: &Path, seed: u64) -> Sealed {
    let order = SealFolder {
        source: &folder.join("source"),
        destination: &folder.join("sealed"),
        name: "acme/tiny".parse().unwrap(),
        version: Version::FIRST,
        chunk_size: ChunkSize::SMALLEST,
        backend: Backend::AwsLc,
        workers: Workers::one(),
    };
    let sealing = Sealing::begin_with(order.chunk_size, order.backend, Counter::new(seed)).unwrap();
    seal_folder_in(sealing, &order, &publisher(), &mut Silent).unwrap()
}

struct Impatient(usize);

impl Progress for Impatient {
    fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
        self.0 -= 1;
        if self.0 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn what_was_opened_stays_if_asked_for_and_is_not_opened_again() {
    let room = Room::new();
    room.begin();
    assert_eq!(room.resume().unwrap().kept, (ENDED_AFTER * C) as u64);
    room.expect_opened();
    fs::remove_dir_all(room.at("opened")).unwrap();
    assert_eq!(room.resume().unwrap().kept, 0, "nothing is left of what was finished");
}

#[test]
fn the_sealed_chunks_of_what_stays_are_not_read_again() {
    let room = Room::new();
    room.begin();
    // Whatever is done to their sealed form: the table says what they are.
    let sealed = File::options().write(true).open(room.at("sealed/a/one.bin")).unwrap();
    sealed.write_all_at(&[0; 5 * C], 0).unwrap();
    assert_eq!(room.resume().unwrap().kept, (ENDED_AFTER * C) as u64);
    room.expect_opened();
}

#[test]
fn a_chunk_that_is_not_what_was_sealed_is_opened_anew() {
    let room = Room::new();
    room.begin();
    let file = File::options().write(true).open(room.kept("a/one.bin")).unwrap();
    // One half written, one with a bit of another, one cut off with all behind it.
    file.write_all_at(&[0; C / 2], C as u64).unwrap();
    file.write_all_at(b"!", 2 * C as u64 + 77).unwrap();
    file.set_len(4 * C as u64 - 1).unwrap();
    assert_eq!(room.resume().unwrap().kept, ((ENDED_AFTER - 4) * C) as u64);
    room.expect_opened();
}

#[test]
fn a_file_that_is_too_long_is_cut_and_one_that_is_not_the_models_goes_with_all() {
    let room = Room::new();
    room.begin();
    File::options().append(true).open(room.kept("a/one.bin")).unwrap().set_len(9 * C as u64).unwrap();
    assert_eq!(room.resume().unwrap().kept, (ENDED_AFTER * C) as u64);
    room.expect_opened();
    let strange: [&dyn Fn(&Room); 4] = [
        &|room| fs::write(room.kept("run.py"), "import os").unwrap(),
        &|room| fs::create_dir(room.kept("empty")).unwrap(),
        &|room| symlink(room.at("source/d.bin"), room.kept("d.bin")).unwrap(),
        &|room| fs::create_dir(room.kept("d.bin")).unwrap(),
    ];
    for put in strange {
        let room = Room::new();
        room.begin();
        put(&room);
        assert_eq!(room.resume().unwrap().kept, 0);
        room.expect_opened();
    }
}

#[test]
fn what_another_version_left_is_of_no_use_and_does_no_harm() {
    let mut room = Room::new();
    room.begin();
    fs::remove_dir_all(room.at("sealed")).unwrap();
    write(&room.at("source"), "a/one.bin", &content(99, 5 * C));
    room.sealed = seal(room.folder.path(), 2);
    // What did not change in plaintext is still what is sealed, under whatever key.
    assert_eq!(room.resume().unwrap().kept, C as u64);
    room.expect_opened();
}

#[test]
fn a_failure_leaves_what_was_opened_before_it_and_nothing_if_not_asked_to() {
    let room = Room::new();
    room.begin();
    let sealed = File::options().write(true).open(room.at("sealed/d.bin")).unwrap();
    sealed.write_all_at(&[0], C as u64).unwrap();
    assert!(matches!(room.resume(), Err(OpenError::ChunkHash { chunk: 1, .. })));
    assert!(room.kept("b.bin").exists() && !room.at("opened").exists());
    // An attempt of the other kind neither uses nor removes it.
    assert!(matches!(room.open(Attempt::Once, Workers::one(), &mut Silent), Err(OpenError::ChunkHash { .. })));
    let mut names: Vec<_> = fs::read_dir(room.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [room.place().file_name().unwrap(), "sealed".as_ref(), "source".as_ref()]);
    sealed.write_all_at(&fs::read(room.at("source/d.bin")).unwrap()[C..=C], C as u64).unwrap();
    assert!(matches!(room.resume(), Err(OpenError::ChunkHash { chunk: 1, .. })), "plaintext is not ciphertext");
}

#[test]
fn what_others_could_write_to_is_not_taken_over() {
    let refused = |room: &Room| match room.resume() {
        Err(OpenError::Destination(error)) => error,
        other => panic!("{other:?}"),
    };
    let room = Room::new();
    DirBuilder::new().mode(0o770).create(room.place()).unwrap();
    fs::set_permissions(room.place(), Permissions::from_mode(0o770)).unwrap();
    assert_eq!(refused(&room), DestinationError::KeptByOther);
    assert!(room.place().exists(), "it is not ours to remove");
    fs::remove_dir(room.place()).unwrap();
    symlink(room.at("source"), room.place()).unwrap();
    assert_eq!(refused(&room), DestinationError::KeptByOther);
    fs::remove_file(room.place()).unwrap();
    fs::write(room.place(), "").unwrap();
    assert_eq!(refused(&room), DestinationError::KeptByOther);
    fs::remove_file(room.place()).unwrap();
    DirBuilder::new().mode(0o700).create(room.place()).unwrap();
    room.resume().unwrap();
    room.expect_opened();
}

#[test]
fn two_processes_do_not_resume_the_same() {
    let room = Room::new();
    room.begin();
    let other = File::open(room.place()).unwrap();
    other.lock().unwrap();
    assert!(matches!(room.resume(), Err(OpenError::Destination(DestinationError::InUse))));
    assert!(room.kept("a/one.bin").exists());
    drop(other);
    room.resume().unwrap();
    room.expect_opened();
}

#[test]
fn what_killed_attempts_left_is_removed_unless_somebody_fills_it_or_it_is_another_users() {
    let room = Room::new();
    let folder = room.folder.path();
    let make = |name: &str, mode| {
        let path = folder.join(name);
        DirBuilder::new().mode(mode).create(&path).unwrap();
        fs::create_dir(path.join("model")).unwrap();
        path
    };
    let (left, busy, shared) =
        (make(".portcullis-partial-a", 0o700), make(".portcullis-partial-b", 0o700), make(".portcullis-partial-c", 0o755));
    let lock = File::open(&busy).unwrap();
    lock.lock().unwrap();
    symlink(folder.join("source"), folder.join(".portcullis-partial-d")).unwrap();
    assert_eq!(remove_abandoned(folder).unwrap(), 1);
    assert!(!left.exists() && busy.exists() && shared.exists() && folder.join("source").exists());
    drop(lock);
    assert_eq!(remove_abandoned(folder).unwrap(), 1);
    assert!(!busy.exists() && remove_abandoned(&folder.join("absent")).is_err());
}
