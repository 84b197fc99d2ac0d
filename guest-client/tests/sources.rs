//! Sealed models fetched from storages that fail and lie: what was asked for is had in the end, or the error says what is wrong.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_client::retry::Pace;
use guest_client::sources::{FetchError, LocationError, Reached, Remote, SealedLocation, Storage};
use models_manifest::folder::SealFolder;
use models_manifest::{
    Advance, Backend, ChunkSize, MANIFEST_NAME, ModelKey, ModelPath, OpenError, Opening, Progress, RangeSource, Silent, Workers,
    open_model, seal_folder,
};
use protocol::ids::{Digest, Version};
use protocol::keys::{PublicKey, SigningKey};
use tempfile::TempDir;
use testbed::services::storage::{Asked, Storage as Server, Trick};

/// What one request asks for here.
const RANGE: usize = 128 * 1024;
/// Plaintext bytes of the large file: eight ranges and a bit.
const WEIGHTS: usize = 8 * RANGE + 1000;

/// No time passes in waiting, and a second with each lot that is drawn: patience is a number of attempts.
struct Lots(AtomicU64);

impl Pace for Lots {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
    fn sleep(&self, _: Duration) {}
    fn below(&self, _: Duration) -> Duration {
        self.0.fetch_add(1, Ordering::SeqCst);
        Duration::ZERO
    }
}

fn settings() -> Storage {
    Storage {
        connections: 4,
        range: RANGE,
        memory: 8 * RANGE,
        idle: Duration::from_millis(400),
        patience: Duration::from_secs(20),
        pace: Arc::new(Lots(AtomicU64::new(0))),
        ..Storage::default()
    }
}

/// A sealed model and the server that has it.
struct World {
    folder: TempDir,
    server: Server,
    released: Digest,
    publisher: PublicKey,
    key: Vec<u8>,
}

fn weights() -> Vec<u8> {
    (0..WEIGHTS).map(|index| u8::try_from((index * 31 + index / 251) % 256).unwrap()).collect()
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model");
    fs::create_dir_all(source.join("weights")).unwrap();
    fs::write(source.join("config.json"), "{\"hidden_size\": 8}").unwrap();
    fs::write(source.join("a b+c%41.txt"), "a name with all that a URL would take for something else").unwrap();
    fs::write(source.join("weights/empty"), "").unwrap();
    fs::write(source.join("weights/model.safetensors"), weights()).unwrap();
    let sealed = folder.path().join("sealed");
    let order = SealFolder {
        source: &source,
        destination: &sealed,
        name: "llama".parse().unwrap(),
        version: Version::FIRST,
        chunk_size: ChunkSize::SMALLEST,
        backend: Backend::AwsLc,
        workers: Workers::one(),
    };
    let signer = SigningKey::from_seed(&[5; 32]).unwrap();
    let made = seal_folder(&order, &signer, &mut Silent).unwrap();
    let server = Server::start(&sealed);
    World { server, released: made.document.digest(), publisher: *signer.public(), key: made.key.as_bytes().to_vec(), folder }
}

impl World {
    fn location(&self) -> SealedLocation {
        self.server.url().parse().unwrap()
    }

    fn key(&self) -> ModelKey {
        ModelKey::from_secret(zeroize::Zeroizing::new(self.key.clone())).unwrap()
    }

    fn open_with(&self, settings: &Storage, progress: &mut dyn Progress) -> Result<std::path::PathBuf, OpenError> {
        let to = self.folder.path().join("opened");
        let reached = Reached::at(&self.location(), settings).map_err(|error| match error {
            guest_client::sources::ReachError::Open(error) => error,
            guest_client::sources::ReachError::Fetch(error) => panic!("{error}"),
        })?;
        let model = reached.unlock(&[self.publisher], &self.released, self.key())?;
        open_model(&model, Opening::to(&to), progress)?;
        Ok(to)
    }

    /// Opens the model and compares it with what was sealed.
    #[track_caller]
    fn opens(&self) {
        let to = self.open_with(&settings(), &mut Silent).unwrap();
        for name in ["config.json", "a b+c%41.txt", "weights/empty", "weights/model.safetensors"] {
            assert!(fs::read(to.join(name)).unwrap() == fs::read(self.folder.path().join("model").join(name)).unwrap(), "{name}");
        }
        fs::remove_dir_all(to).unwrap();
    }

    /// Opening fails by this error of the storage, and leaves nothing.
    #[track_caller]
    fn fails(&self) -> FetchError {
        let refused = self.open_with(&settings(), &mut Silent).unwrap_err();
        assert!(!self.folder.path().join("opened").exists());
        let left = fs::read_dir(self.folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".portcullis"));
        assert_eq!(left.count(), 0);
        FetchError::below(&refused).unwrap_or_else(|| panic!("{refused}")).clone()
    }

    fn remote(&self) -> Remote {
        Remote::new(&self.location(), &settings()).unwrap()
    }

    fn sealed(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("sealed").join(name)).unwrap()
    }

    fn asked_for(&self, name: &str) -> Vec<(u64, u64)> {
        self.server.asked().into_iter().filter(|asked| asked.path.ends_with(name)).filter_map(|asked| asked.range).collect()
    }
}

fn path(name: &str) -> ModelPath {
    name.parse().unwrap()
}

const LARGE: &str = "model.safetensors";

#[test]
fn a_model_is_opened_from_a_web_server_byte_for_byte() {
    let world = world();
    world.opens();
    let paths: std::collections::BTreeSet<String> = world.server.asked().into_iter().map(|asked| asked.path).collect();
    let listed = [MANIFEST_NAME, "a b+c%41.txt", "config.json", "weights/empty", "weights/model.safetensors"];
    assert_eq!(paths.into_iter().collect::<std::collections::BTreeSet<_>>(), listed.into_iter().map(str::to_owned).collect());
}

#[test]
fn an_unlisted_object_is_never_asked_for_and_does_no_harm() {
    let world = world();
    fs::write(world.folder.path().join("sealed/evil.py"), "import os").unwrap();
    world.opens();
    assert!(world.server.asked().iter().all(|asked| asked.path != "evil.py"));
    let folder = SealedLocation::Folder(world.folder.path().join("sealed"));
    let reached = Reached::at(&folder, &settings()).unwrap();
    let refused = reached.unlock(&[world.publisher], &world.released, world.key()).err().unwrap();
    assert!(matches!(refused, OpenError::Unlisted { path } if path == "evil.py"), "a folder is listed");
}

#[test]
fn whatever_passes_is_waited_out() {
    for trick in [
        Trick::Status(503, None),
        Trick::Status(429, None),
        Trick::Status(500, None),
        Trick::Status(408, None),
        Trick::HangsUp,
        Trick::Garbage,
        Trick::CutAfter(0),
        Trick::CutAfter(70_000),
        Trick::StallsAfter(100),
        Trick::Halved,
        Trick::Shorter(1000),
        Trick::Endless,
        Trick::OtherRange,
        Trick::Coded("gzip"),
    ] {
        let world = world();
        world.server.next(LARGE, vec![trick.clone(); 2]);
        world.server.next(MANIFEST_NAME, [trick.clone()]);
        println!("{trick:?}");
        world.opens();
    }
}

#[test]
fn a_slow_storage_is_waited_for_as_long_as_something_comes() {
    let world = world();
    world.server.next(LARGE, [Trick::Slow(16 * 1024, Duration::from_millis(100))]);
    world.opens();
    assert!(settings().idle < Duration::from_millis(800), "the range took longer than the idle limit");
}

#[test]
fn a_range_that_was_cut_is_resumed_where_it_ended() {
    let world = world();
    let remote = world.remote();
    world.server.next(LARGE, [Trick::CutAfter(1000), Trick::CutAfter(70_000), Trick::Shorter(20)]);
    let mut bytes = vec![0; RANGE];
    remote.read_at(&path("weights/model.safetensors"), 0, &mut bytes).unwrap();
    assert!(bytes == world.sealed("weights/model.safetensors")[..RANGE]);
    let last = u64::try_from(RANGE - 1).unwrap();
    let of_first: Vec<_> = world.asked_for(LARGE).into_iter().filter(|(_, to)| *to == last).collect();
    assert_eq!(of_first, [(0, last), (1000, last), (71_000, last), (71_020, last)]);
}

#[test]
fn a_storage_is_left_alone_for_as_long_as_it_asks() {
    let world = world();
    world.server.next(MANIFEST_NAME, [Trick::Status(429, Some(1))]);
    let began = Instant::now();
    world.opens();
    assert!(began.elapsed() >= Duration::from_secs(1));
    world.server.next(MANIFEST_NAME, [Trick::Status(503, Some(500))]);
    let refused = world.remote().manifest();
    assert_eq!(refused, Err(FetchError::Busy { status: 503, retry_after: Some(Duration::from_secs(500)) }), "longer than patience");
}

#[test]
fn what_does_not_pass_is_an_error_that_names_it() {
    let large = u64::try_from(world().sealed("weights/model.safetensors").len()).unwrap();
    let first = FetchError::WrongRange { expected: format!("0-{}", RANGE - 1), found: format!("bytes 1-{RANGE}/{}", large + 1) };
    for (trick, expected) in [
        (Trick::Status(503, None), FetchError::Busy { status: 503, retry_after: None }),
        (Trick::Status(403, None), FetchError::Forbidden { status: 403 }),
        (Trick::Status(400, None), FetchError::Status { status: 400 }),
        (Trick::StallsAfter(0), FetchError::Idle { after: settings().idle }),
        (Trick::OtherRange, first),
        (Trick::Coded("gzip"), FetchError::Coded { coding: "gzip".into() }),
        (Trick::Unmeasured, FetchError::NoLength),
        (Trick::Halved, FetchError::CutShort { expected: 1, found: 0 }),
        (Trick::Redirect("/weights/model.safetensors".into()), redirected(&world(), "it was redirected too often")),
    ] {
        let world = world();
        world.server.next(LARGE, vec![trick.clone(); 200]);
        match (world.fails(), expected) {
            (FetchError::Redirect { what, .. }, FetchError::Redirect { what: expected, .. }) => assert_eq!(what, expected),
            (found, expected) => assert_eq!(found, expected, "{trick:?}"),
        }
    }
}

fn redirected(world: &World, what: &'static str) -> FetchError {
    FetchError::Redirect { to: world.server.url(), what }
}

#[test]
fn a_connection_that_never_holds_is_unreachable() {
    for trick in [Trick::HangsUp, Trick::Garbage] {
        let world = world();
        world.server.next(LARGE, vec![trick; 200]);
        let error = world.fails();
        assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    }
    let nobody: SealedLocation = "http://127.0.0.1:1".parse().unwrap();
    let refused = Remote::new(&nobody, &settings()).unwrap().manifest().unwrap_err();
    assert!(matches!(&refused, FetchError::Unreachable { what } if what.contains("refused")), "{refused}");
}

#[test]
fn an_object_that_is_not_there_is_missing() {
    let world = world();
    fs::remove_file(world.folder.path().join("sealed/weights/empty")).unwrap();
    let refused = world.open_with(&settings(), &mut Silent).unwrap_err();
    assert!(matches!(&refused, OpenError::FileMissing { path } if path.as_str() == "weights/empty"), "{refused}");
    fs::remove_file(world.folder.path().join("sealed").join(MANIFEST_NAME)).unwrap();
    assert_eq!(world.remote().manifest(), Err(FetchError::Missing { status: 404 }));
}

#[test]
fn an_empty_object_has_the_wrong_size() {
    let world = world();
    fs::write(world.folder.path().join("sealed/weights/empty"), "").unwrap();
    let refused = world.open_with(&settings(), &mut Silent).unwrap_err();
    assert!(matches!(&refused, OpenError::FileSize { found: 0, .. }), "{refused}");
}

#[test]
fn a_server_without_ranges_serves_what_fits_in_one_and_is_named_for_the_rest() {
    let world = world();
    world.server.always(Trick::Whole);
    let error = world.fails();
    assert!(matches!(error, FetchError::NoRanges { .. }), "{error}");
    let remote = world.remote();
    let small = path("config.json");
    let mut bytes = vec![0; world.sealed("config.json").len()];
    remote.read_at(&small, 0, &mut bytes).unwrap();
    assert_eq!((remote.length(&small).unwrap(), bytes), (66, world.sealed("config.json")));
    // Cut in the middle it is had from its start again.
    let other = world.remote();
    world.server.next("config.json", [Trick::CutAfter(20), Trick::Whole]);
    let mut bytes = vec![0; 66];
    other.read_at(&small, 0, &mut bytes).unwrap();
    assert_eq!(bytes, world.sealed("config.json"));
}

#[test]
fn an_object_that_changes_between_ranges_is_noticed_at_once() {
    let length = world().sealed("weights/model.safetensors").len();
    for (tricks, expected) in [
        (
            vec![Trick::Well, Trick::OtherTotal],
            FetchError::Changed { what: "length", expected: length.to_string(), found: (length + 1).to_string() },
        ),
        (
            vec![Trick::Tagged("\"a\""), Trick::Tagged("\"b\"")],
            FetchError::Changed { what: "entity tag", expected: "\"a\"".into(), found: "\"b\"".into() },
        ),
    ] {
        let world = world();
        let remote = world.remote();
        world.server.next(LARGE, tricks);
        let large = path("weights/model.safetensors");
        let mut byte = [0; 1];
        let far = u64::try_from(4 * RANGE).unwrap();
        remote.length(&large).unwrap();
        let refused = remote.read_at(&large, far, &mut byte).unwrap_err();
        assert_eq!(refused.get_ref().and_then(|inner| inner.downcast_ref::<FetchError>()), Some(&expected));
        // Near misses: the same tag, and tags that say nothing.
        for tags in [["\"a\"", "\"a\""], ["W/\"a\"", "W/\"b\""]] {
            let remote = world.remote();
            world.server.next(LARGE, tags.map(Trick::Tagged));
            remote.length(&large).unwrap();
            remote.read_at(&large, far, &mut byte).unwrap();
        }
    }
}

#[test]
fn a_redirect_is_followed_on_the_same_host_and_not_to_another_without_tls() {
    let world = world();
    let elsewhere = Server::start(&world.folder.path().join("sealed"));
    world.server.next(LARGE, [Trick::Redirect("/weights/model.safetensors?token=1".into())]);
    world.opens();
    world.server.next(LARGE, [Trick::Redirect(format!("{}/weights/model.safetensors?token=secret", elsewhere.url()))]);
    let to = format!("{}/weights/model.safetensors", elsewhere.url());
    let expected = FetchError::Redirect { to, what: "it leads elsewhere, and not by HTTPS" };
    assert_eq!(world.fails(), expected);
    assert_eq!(elsewhere.asked(), Vec::<Asked>::new());
}

#[test]
fn other_bytes_are_never_handed_out() {
    let world = world();
    world.server.next(LARGE, vec![Trick::Flipped; 200]);
    let refused = world.open_with(&settings(), &mut Silent).unwrap_err();
    assert!(matches!(refused, OpenError::TreeRoot { .. }), "{refused}");
    // The table is genuine and one range is not.
    let world = self::world();
    let settings = Storage { connections: 1, memory: 2 * RANGE, ..settings() };
    world.server.next(LARGE, [Trick::Well, Trick::Well, Trick::Flipped, Trick::Flipped, Trick::Flipped, Trick::Flipped]);
    let refused = world.open_with(&settings, &mut Silent).unwrap_err();
    assert!(matches!(refused, OpenError::ChunkHash { .. } | OpenError::TableChanged { .. }), "{refused}");
}

#[test]
fn a_manifest_without_end_is_not_read() {
    let world = world();
    let huge = fs::File::create(world.folder.path().join("sealed").join(MANIFEST_NAME)).unwrap();
    huge.set_len(64 * 1024 * 1024 + 1).unwrap();
    let expected = FetchError::ManifestTooLarge { limit: 64 * 1024 * 1024, found: 64 * 1024 * 1024 + 1 };
    // The server reads all of it for each request.
    let patient = Storage { idle: Duration::from_secs(30), ..settings() };
    assert_eq!(Remote::new(&world.location(), &patient).unwrap().manifest(), Err(expected));
    assert_eq!(world.asked_for(MANIFEST_NAME).len(), 1);
}

#[test]
fn plain_http_to_another_machine_is_refused_before_it_is_asked() {
    let location: SealedLocation = "http://storage.example.com/a".parse().unwrap();
    let refused = Remote::new(&location, &settings()).err();
    assert_eq!(refused, Some(FetchError::PlainHttp { host: "storage.example.com".into() }));
    assert_eq!("ftp://a/b".parse::<SealedLocation>(), Err(LocationError::Scheme { found: "ftp".into() }));
}

#[test]
fn each_byte_is_fetched_once_in_ranges_over_several_connections_and_no_more() {
    let world = world();
    world.server.always(Trick::Slow(RANGE / 4, Duration::from_millis(10)));
    let remote = world.remote();
    let large = path("weights/model.safetensors");
    let sealed = world.sealed("weights/model.safetensors");
    let mut read = vec![0; sealed.len()];
    for (index, part) in read.chunks_mut(1000).enumerate() {
        remote.read_at(&large, u64::try_from(index * 1000).unwrap(), part).unwrap();
    }
    assert!(read == sealed);
    assert_eq!(world.asked_for(LARGE).len(), sealed.len().div_ceil(RANGE));
    let most = world.server.most_at_once();
    assert!((2..=4).contains(&most), "{most} requests at once; 4 are allowed");
}

#[test]
fn many_threads_read_at_once_through_little_memory() {
    let world = world();
    let settings = Storage { memory: 2 * RANGE, ..settings() };
    let remote = Remote::new(&world.location(), &settings).unwrap();
    let (large, sealed) = (path("weights/model.safetensors"), world.sealed("weights/model.safetensors"));
    thread::scope(|scope| {
        for thread in 0..12_usize {
            let (remote, large, sealed) = (&remote, &large, &sealed);
            scope.spawn(move || {
                for step in 0..20 {
                    let at = (thread * 99_991 + step * 65_537) % (sealed.len() - 5000);
                    let mut bytes = vec![0; 5000];
                    remote.read_at(large, u64::try_from(at).unwrap(), &mut bytes).unwrap();
                    assert!(bytes == sealed[at..at + 5000]);
                }
            });
        }
    });
}

#[test]
fn a_read_behind_the_end_says_so() {
    let world = world();
    let (remote, small) = (world.remote(), path("config.json"));
    let mut bytes = [0; 10];
    remote.read_at(&small, 56, &mut bytes).unwrap();
    for offset in [57, 66, 1 << 40] {
        let refused = remote.read_at(&small, offset, &mut bytes).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof, "{offset}");
    }
}

#[test]
fn what_is_read_first_is_fetched_before_the_key_is_there() {
    let world = world();
    let roomy = Storage { memory: 16 * RANGE, ..settings() };
    let reached = Reached::at(&world.location(), &roomy).unwrap();
    reached.prefetch();
    let until = Instant::now() + Duration::from_secs(20);
    while world.asked_for(LARGE).is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!world.asked_for(LARGE).is_empty(), "nobody has asked to open anything");
    let model = reached.unlock(&[world.publisher], &world.released, world.key()).unwrap();
    open_model(&model, Opening::to(&world.folder.path().join("opened")), &mut Silent).unwrap();
    let mut ranges = world.asked_for(LARGE);
    let asked = ranges.len();
    ranges.sort_unstable();
    ranges.dedup();
    assert_eq!(ranges.len(), asked, "nothing was fetched twice");
}

/// Ends the fetching at the first chunk, as a signal does.
struct Impatient(guest_client::sources::Stopper);

impl Progress for Impatient {
    fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
        self.0.stop();
        ControlFlow::Continue(())
    }
}

#[test]
fn who_waits_for_a_storage_can_be_ended() {
    let world = world();
    let reached = Reached::at(&world.location(), &settings()).unwrap();
    let mut impatient = Impatient(reached.stopper().unwrap());
    let model = reached.unlock(&[world.publisher], &world.released, world.key()).unwrap();
    let to = world.folder.path().join("opened");
    let refused = open_model(&model, Opening::to(&to), &mut impatient).unwrap_err();
    assert_eq!(FetchError::below(&refused), Some(&FetchError::Stopped));
    assert!(!to.exists());
    // One that is stuck is woken.
    let remote = world.remote();
    world.server.next("config.json", vec![Trick::StallsAfter(0); 200]);
    let stopper = remote.stopper();
    thread::scope(|scope| {
        scope.spawn(|| {
            while world.asked_for("config.json").len() < 2 {
                thread::sleep(Duration::from_millis(10));
            }
            stopper.stop();
        });
        let refused = remote.length(&path("config.json")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Interrupted);
    });
}

#[test]
fn a_folder_is_a_place_too() {
    let world = world();
    let place: SealedLocation = world.folder.path().join("sealed").to_str().unwrap().parse().unwrap();
    let reached = Reached::at(&place, &settings()).unwrap();
    assert!(reached.stopper().is_none());
    reached.prefetch();
    let model = reached.unlock(&[world.publisher], &world.released, world.key()).unwrap();
    let to = world.folder.path().join("opened");
    open_model(&model, Opening { apart_from: Some(&world.folder.path().join("sealed")), ..Opening::to(&to) }, &mut Silent).unwrap();
    assert!(fs::read(to.join("weights/model.safetensors")).unwrap() == weights());
    assert!(Path::new(&to).join("config.json").exists());
}
