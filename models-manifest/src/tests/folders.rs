//! Folders in and out: what is refused, and that a failure leaves nothing behind.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::vectors::{files, write};
use super::{content, publisher};
use crate::error::DestinationError;
use crate::folder::{OpenFolder, Opening, SealFolder, inspect_folder, open_folder, seal_folder};
use crate::manifest::{ManifestError, Signer};
use crate::path::PathError;
use crate::{Advance, Backend, ChunkSize, Contents, MANIFEST_NAME, ModelKey, OpenError, Progress, SealError, Sealed, Silent, Workers};
use protocol::dsse::DocumentError;
use protocol::limits;

/// A folder of plaintext, and room beside it.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        write(&room.at("source"), "config.json", b"{}");
        write(&room.at("source"), "shards/1.bin", &content(1, 200_000));
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

    fn seal(&self) -> Result<Sealed, SealError> {
        self.seal_to(&self.at("sealed"), &mut Silent)
    }

    fn seal_to(&self, destination: &Path, progress: &mut dyn Progress) -> Result<Sealed, SealError> {
        let order = SealFolder {
            source: &self.at("source"),
            destination,
            name: "acme/tiny".parse().unwrap(),
            version: protocol::ids::Version::FIRST,
            chunk_size: ChunkSize::SMALLEST,
            backend: Backend::AwsLc,
            workers: Workers::one(),
        };
        seal_folder(&order, &publisher(), progress)
    }

    fn open_to(&self, sealed: Sealed, destination: &Path, progress: &mut dyn Progress) -> Result<Contents, OpenError> {
        let (publishers, released) = ([*publisher().public()], sealed.document.digest());
        let order = OpenFolder { sealed: &self.at("sealed"), publishers: &publishers, released: &released, backend: Backend::AwsLc };
        open_folder(order, sealed.key, Opening { workers: Workers::one(), ..Opening::to(destination) }, progress)
    }

    fn open(&self, sealed: Sealed) -> Result<Contents, OpenError> {
        self.open_to(sealed, &self.at("opened"), &mut Silent)
    }
}

/// Ends the work after so many chunks.
struct Impatient(usize);

impl Progress for Impatient {
    fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
        self.0 -= 1;
        if self.0 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_sealed_folder_has_the_same_names_and_the_manifest() {
    let room = Room::new();
    let sealed = room.seal().unwrap();
    let names: Vec<_> = files(&room.at("sealed")).into_keys().collect();
    assert_eq!(names, ["config.json", MANIFEST_NAME, "shards/1.bin"]);
    assert_eq!(room.names(), ["sealed", "source"]);
    let inspection = inspect_folder(&room.at("sealed"), &[]).unwrap();
    assert_eq!(inspection.signer, Signer::Unknown(publisher().public().id()));
    assert_eq!(inspection.contents, sealed.contents);
    room.open(sealed).unwrap();
    assert_eq!(files(&room.at("opened")), files(&room.at("source")));
    assert_eq!(room.names(), ["opened", "sealed", "source"]);
}

#[test]
fn a_plaintext_range_is_the_same_range_of_the_sealed_file() {
    let room = Room::new();
    let sealed = room.seal().unwrap();
    let file = &sealed.contents.files()[1];
    assert_eq!(file.path().as_str(), "shards/1.bin");
    assert_eq!(fs::metadata(room.at("sealed/shards/1.bin")).unwrap().len(), 200_000 + 4 * 48);
    assert_eq!(file.geometry().chunk(3).unwrap().offset, 3 * 65_536);
}

#[test]
fn what_is_no_file_or_folder_is_not_sealed() {
    let room = Room::new();
    symlink(room.at("source/config.json"), room.at("source/link")).unwrap();
    assert!(matches!(room.seal().err(), Some(SealError::Symlink { path }) if path == "link"));
    fs::remove_file(room.at("source/link")).unwrap();
    let socket = UnixListener::bind(room.at("source/shards/socket")).unwrap();
    assert!(matches!(room.seal().err(), Some(SealError::SpecialFile { path }) if path == "shards/socket"));
    drop(socket);
    fs::remove_file(room.at("source/shards/socket")).unwrap();
    assert_eq!(room.names(), ["source"]);
    assert!(room.seal().is_ok());
}

#[test]
fn a_source_that_is_no_folder_is_refused() {
    let room = Room::new();
    fs::rename(room.at("source"), room.at("elsewhere")).unwrap();
    assert!(matches!(room.seal().err(), Some(SealError::SourceNotAFolder { .. })));
    fs::write(room.at("source"), "file").unwrap();
    assert!(matches!(room.seal().err(), Some(SealError::SourceNotAFolder { .. })));
    fs::remove_file(room.at("source")).unwrap();
    fs::create_dir_all(room.at("source/empty")).unwrap();
    assert!(matches!(room.seal().err(), Some(SealError::Manifest(ManifestError::NoFiles))));
    write(&room.at("source"), "a", b"");
    assert!(room.seal().is_ok());
}

#[test]
fn names_outside_the_format_are_not_sealed() {
    for (name, expected) in [
        ("modèle.bin", PathError::Character { found: 'è' }),
        ("a\\b", PathError::Character { found: '\\' }),
        ("a.", PathError::SegmentEdge),
        (MANIFEST_NAME, PathError::Reserved),
        ("PORTCULLIS-manifest.json", PathError::Reserved),
        ("portcullis-manifest.json/a", PathError::Reserved),
    ] {
        let room = Room::new();
        write(&room.at("source"), name, b"");
        assert!(matches!(room.seal().err(), Some(SealError::Path { error, .. }) if error == expected), "{name}");
        assert_eq!(room.names(), ["source"]);
    }
    let room = Room::new();
    write(&room.at("source"), "sub/portcullis-manifest.json", b"");
    write(&room.at("source"), "Config.json", b"");
    assert!(matches!(room.seal().err(), Some(SealError::Manifest(ManifestError::Duplicate { .. }))));
    fs::remove_file(room.at("source/Config.json")).unwrap();
    assert!(room.seal().is_ok());
}

#[test]
fn a_destination_is_new_or_empty_and_apart_from_the_source() {
    let room = Room::new();
    let refused = |destination: &str| match room.seal_to(&room.at(destination), &mut Silent) {
        Err(SealError::Destination(error)) => error,
        Err(error) => panic!("{destination}: {error}"),
        Ok(_) => panic!("{destination}: sealed"),
    };
    write(&room.at("full"), "kept", b"kept");
    assert_eq!(refused("full"), DestinationError::NotEmpty);
    assert_eq!(refused("full/kept"), DestinationError::NotAFolder);
    assert_eq!(refused("nowhere/sealed"), DestinationError::Parent);
    assert_eq!(refused("source/sealed"), DestinationError::Overlap);
    assert_eq!(refused("source"), DestinationError::Overlap);
    assert_eq!(refused(""), DestinationError::Overlap);
    symlink(room.at("source"), room.at("link")).unwrap();
    assert_eq!(refused("link/sealed"), DestinationError::Overlap);
    assert_eq!(files(&room.at("full")).len(), 1);
    assert_eq!(room.names(), ["full", "link", "source"]);
    fs::create_dir(room.at("empty")).unwrap();
    fs::set_permissions(room.at("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    let sealed = room.seal_to(&room.at("empty"), &mut Silent).unwrap();
    assert_eq!(fs::metadata(room.at("empty")).unwrap().permissions().mode() & 0o777, 0o700);
    fs::rename(room.at("empty"), room.at("sealed")).unwrap();
    assert!(matches!(room.open_to(sealed, &room.at("full"), &mut Silent), Err(OpenError::Destination(DestinationError::NotEmpty))));
    assert_eq!(room.names(), ["full", "link", "sealed", "source"]);
}

#[test]
fn a_mount_point_is_no_destination() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let empty = |path: &&str| *path != "/" && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let Some(mount) = mounts.lines().filter_map(|line| line.split(' ').nth(1)).find(empty) else {
        println!("skipped: no empty mount point here");
        return;
    };
    let refused = Room::new().seal_to(Path::new(mount), &mut Silent).err();
    assert!(matches!(refused, Some(SealError::Destination(DestinationError::MountPoint))), "{mount}: {refused:?}");
}

#[test]
fn cancelled_work_leaves_nothing_behind() {
    let room = Room::new();
    for chunks in 1..=5 {
        assert!(matches!(room.seal_to(&room.at("sealed"), &mut Impatient(chunks)).err(), Some(SealError::Cancelled(_))), "{chunks}");
        assert_eq!(room.names(), ["source"]);
    }
    for chunks in 1..=5 {
        let sealed = room.seal_to(&room.at("sealed"), &mut Impatient(6)).unwrap();
        assert!(matches!(room.open_to(sealed, &room.at("opened"), &mut Impatient(chunks)), Err(OpenError::Cancelled(_))), "{chunks}");
        assert_eq!(room.names(), ["sealed", "source"]);
        fs::remove_dir_all(room.at("sealed")).unwrap();
    }
}

#[test]
fn what_is_no_file_or_folder_is_not_opened() {
    let room = Room::new();
    let sealed = room.seal().unwrap();
    let _socket = UnixListener::bind(room.at("sealed/socket")).unwrap();
    assert!(matches!(room.open(sealed), Err(OpenError::SpecialFile { path }) if path == "socket"));
    let room = Room::new();
    let sealed = room.seal().unwrap();
    fs::rename(room.at("sealed/shards"), room.at("shards")).unwrap();
    symlink(room.at("shards"), room.at("sealed/shards")).unwrap();
    assert!(matches!(room.open(sealed), Err(OpenError::Symlink { path }) if path == "shards"));
    assert_eq!(room.names(), ["sealed", "shards", "source"]);
}

#[test]
fn a_sealed_model_is_a_folder_with_a_manifest() {
    let room = Room::new();
    assert!(matches!(inspect_folder(&room.at("sealed"), &[]), Err(OpenError::SealedNotAFolder { .. })));
    assert!(matches!(inspect_folder(&room.at("source"), &[]), Err(OpenError::ManifestMissing)));
    fs::create_dir(room.at("source").join(MANIFEST_NAME)).unwrap();
    assert!(matches!(inspect_folder(&room.at("source"), &[]), Err(OpenError::Io { action: "read", .. })));
}

#[test]
fn a_manifest_larger_than_its_limit_is_not_read() {
    let room = Room::new();
    let manifest = fs::File::create(room.at("source").join(MANIFEST_NAME)).unwrap();
    manifest.set_len(limits::MANIFEST as u64 + 1).unwrap();
    let refused = inspect_folder(&room.at("source"), &[]).unwrap_err();
    assert!(matches!(refused, OpenError::Document(DocumentError::TooLarge { limit: limits::MANIFEST, .. })));
    manifest.set_len(limits::MANIFEST as u64).unwrap();
    assert!(matches!(inspect_folder(&room.at("source"), &[]), Err(OpenError::Document(DocumentError::Envelope(_)))));
}

#[test]
fn a_wrong_key_opens_nothing() {
    let room = Room::new();
    let mut sealed = room.seal().unwrap();
    let key = std::mem::replace(&mut sealed.key, ModelKey::from_bytes(zeroize::Zeroizing::new([0; 32])));
    let document = sealed.document.clone();
    let contents = sealed.contents.clone();
    assert!(matches!(room.open(sealed), Err(OpenError::WrongKey)));
    assert_eq!(room.names(), ["sealed", "source"]);
    room.open(Sealed { key, document, contents }).unwrap();
}

#[test]
fn a_file_that_changes_while_it_is_sealed_is_refused() {
    /// Changes a file of the source when the first chunk is done.
    struct Meddler<'a>(&'a dyn Fn(), bool);
    impl Progress for Meddler<'_> {
        fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
            if std::mem::take(&mut self.1) {
                (self.0)();
            }
            ControlFlow::Continue(())
        }
    }
    let room = Room::new();
    fs::remove_file(room.at("source/config.json")).unwrap();
    let shard = || fs::OpenOptions::new().write(true).open(room.at("source/shards/1.bin")).unwrap();
    let changes: [&dyn Fn(); 3] = [&|| shard().set_len(199_999).unwrap(), &|| shard().set_len(200_001).unwrap(), &|| {
        shard().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap()
    }];
    for change in changes {
        write(&room.at("source"), "shards/1.bin", &content(1, 200_000));
        let refused = room.seal_to(&room.at("sealed"), &mut Meddler(change, true)).err();
        assert!(matches!(refused, Some(SealError::SourceChanged { .. })), "{refused:?}");
        assert_eq!(room.names(), ["source"]);
    }
    assert!(room.seal_to(&room.at("sealed"), &mut Meddler(&|| (), true)).is_ok());
}
