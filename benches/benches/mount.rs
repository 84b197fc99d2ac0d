//! Reading through the mount: beside a FUSE file system that serves zeros under the same settings, which is what FUSE itself costs, and
//! beside the plaintext on tmpfs; and the time to the first tensor, beside opening first.
//!
//! Goals: first touch and again at least 0.9 of the zeros; the first tensor in less than 100 ms.
//!
//! The CPU time is of this process, which serves and reads: over the time, it says how busy the cores were, and so what more work must cost.
//!
//! `MIB=2048` says how large the model is, `ROUNDS=5` how many rounds. The model and its sealed form lie in `/dev/shm`. Each round mounts
//! anew, so that no page is cached; the file is read by one thread in pieces of 1 MiB, and read again.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request, SessionACL,
};
use guest_client::mount::place::Place;
use guest_client::mount::server::{Mounted, Tuning, mount};
use guest_client::mount::storage::{Believed, Live, unlock};
use guest_client::sources::{SealedLocation, Storage};
use models_manifest::{Backend, ChunkSize, ModelKey, OpenFolder, Opening, SealFolder, Silent, open_folder, seal_folder};
use portcullis_benches::rounds::median;
use portcullis_benches::{insist_on_release, process};
use protocol::ids::{Digest, Version};
use protocol::keys::{PublicKey, SigningKey};
use testbed::model::{self, Extras, ModelShape, SHARDS};
use zeroize::Zeroizing;

const PIECE: usize = 1 << 20;

fn main() {
    insist_on_release();
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (mib, rounds) = (number("MIB", 2048), number("ROUNDS", 5));
    println!("{}; {mib} MiB in /dev/shm, {rounds} rounds after one to warm up", process::machine());
    let bench = Bench::new(mib << 20);
    let mut runs: Vec<(&str, Vec<Took>)> = Vec::new();
    for round in 0..=rounds {
        for (name, took) in bench.round() {
            match runs.iter_mut().find(|(known, _)| *known == name) {
                Some((_, runs)) if round > 0 => runs.push(took),
                Some(_) => {}
                None => runs.push((name, Vec::new())),
            }
        }
    }
    let seconds = |runs: &[Took]| runs.iter().map(|took| took.time.as_secs_f64()).collect::<Vec<_>>();
    println!("\n| what | median s | CPU s | GB/s | of the first touch of zeros |\n| --- | ---: | ---: | ---: | ---: |");
    let zeros = runs.iter().find(|(name, _)| *name == ZEROS_FIRST).map(|(_, runs)| seconds(runs)).unwrap_or_default();
    for (name, own) in runs.iter().filter(|(name, _)| !name.starts_with(TENSOR)) {
        let ratio = median(zeros.iter().zip(seconds(own)).map(|(zeros, own)| zeros / own).collect());
        let cpu = median(own.iter().map(|took| took.cpu.as_secs_f64()).collect());
        let seconds = median(seconds(own));
        println!("| {name} | {seconds:.3} | {cpu:.2} | {:.2} | {ratio:.2} |", bench.shard as f64 / seconds / 1e9);
    }
    println!("\n| what | median ms |\n| --- | ---: |");
    for (name, own) in runs.iter().filter(|(name, _)| name.starts_with(TENSOR)) {
        println!("| {name} | {:.1} |", median(seconds(own)) * 1e3);
    }
    println!("\npeak memory of this process, which serves and reads: {} MiB", process::peak_memory().expect("/proc") >> 20);
}

const ZEROS_FIRST: &str = "FUSE that serves zeros, first touch";
const TENSOR: &str = "first tensor";

struct Bench {
    folder: tempfile::TempDir,
    shard: u64,
    key: ModelKey,
    manifest: Digest,
    publisher: PublicKey,
}

impl Bench {
    /// Two shards; the reads are of the first.
    fn new(bytes: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("mount-bench-").tempdir_in("/dev/shm").expect("a folder on tmpfs");
        let shape = ModelShape { seed: 1, shard_bytes: bytes / 2, extras: Extras::None };
        let source = folder.path().join("plain");
        model::write(&source, &shape).expect("a model");
        let publisher = SigningKey::from_seed(&[1; 32]).expect("a seed");
        let order = SealFolder {
            source: &source,
            destination: &folder.path().join("sealed"),
            name: "acme/llama".parse().expect("a name"),
            version: Version::FIRST,
            chunk_size: ChunkSize::default(),
            backend: Backend::default(),
            workers: models_manifest::Workers::default(),
        };
        let sealed = seal_folder(&order, &publisher, &mut Silent).expect("sealed");
        Self { folder, shard: bytes / 2, key: sealed.key, manifest: sealed.document.digest(), publisher: *publisher.public() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self) -> ModelKey {
        ModelKey::from_bytes(Zeroizing::new(*self.key.as_bytes()))
    }

    fn mounted(&self) -> Mounted<Live> {
        let place = Place::take(&self.path("mounted")).expect("a mount point");
        let publishers = [self.publisher];
        let believed = Believed { publishers: &publishers, released: &self.manifest };
        let sealed = SealedLocation::Folder(self.path("sealed"));
        let model = unlock((&sealed, &Storage::default()), believed, self.key(), None, drop);
        mount(model.expect("our model"), place, Tuning::default()).expect("mounted")
    }

    fn round(&self) -> Vec<(&'static str, Took)> {
        let mut times = Vec::new();
        let plain = self.path("plain").join(SHARDS[0]);
        times.push(("plaintext on tmpfs", timed(|| read_all(&plain, self.shard))));
        {
            let zeros = Zeros::mount(&self.path("zeros"), self.shard);
            let file = self.path("zeros").join("zeros");
            times.push((ZEROS_FIRST, timed(|| read_all(&file, self.shard))));
            times.push(("FUSE that serves zeros, again", timed(|| read_all(&file, self.shard))));
            end(zeros, &self.path("zeros"));
        }
        {
            let mounted = self.mounted();
            let file = mounted.path().join(SHARDS[0]);
            times.push(("mount, first touch", timed(|| read_all(&file, self.shard))));
            times.push(("mount, again", timed(|| read_all(&file, self.shard))));
            drop(mounted);
        }
        {
            let zeros = Zeros::mount(&self.path("zeros"), self.shard);
            let file = self.path("zeros").join("zeros");
            times.push(("FUSE that serves zeros, first touch, two readers", timed(|| read_halves(&file, self.shard))));
            end(zeros, &self.path("zeros"));
        }
        {
            let mounted = self.mounted();
            let file = mounted.path().join(SHARDS[0]);
            times.push(("mount, first touch, two readers", timed(|| read_halves(&file, self.shard))));
        }
        let mut mounted = None;
        times.push((
            "first tensor, mounting first",
            timed(|| {
                let mount = mounted.insert(self.mounted());
                first_tensor(&mount.path().join(SHARDS[0]));
            }),
        ));
        drop(mounted);
        times.push((
            "first tensor, opening first",
            timed(|| {
                let publishers = [self.publisher];
                let sealed = self.path("sealed");
                let order = OpenFolder { sealed: &sealed, publishers: &publishers, released: &self.manifest, backend: Backend::default() };
                open_folder(order, self.key(), Opening::to(&self.path("opened")), &mut Silent).expect("opened");
                first_tensor(&self.path("opened").join(SHARDS[0]));
            }),
        ));
        fs::remove_dir_all(self.path("opened")).expect("removed");
        times
    }
}

/// What an operation took.
struct Took {
    time: Duration,
    cpu: Duration,
}

fn timed(operation: impl FnOnce()) -> Took {
    let cpu = || process::cpu(std::process::id()).expect("/proc");
    let (start, cpu_before) = (Instant::now(), cpu());
    operation();
    Took { time: start.elapsed(), cpu: cpu() - cpu_before }
}

fn read_all(path: &Path, size: u64) {
    let mut file = File::open(path).expect("a file");
    let mut piece = vec![0; PIECE];
    let mut read = 0;
    loop {
        match file.read(&mut piece).expect("bytes") {
            0 => break,
            more => read += more as u64,
        }
    }
    assert_eq!(read, size);
}

fn read_halves(path: &Path, size: u64) {
    let half = size / 2 / PIECE as u64 * PIECE as u64;
    std::thread::scope(|scope| {
        for (start, end) in [(0, half), (half, size)] {
            scope.spawn(move || {
                let file = File::open(path).expect("a file");
                let mut piece = vec![0; PIECE];
                let mut at = start;
                while at < end {
                    at += file.read_at(&mut piece, at).expect("bytes") as u64;
                }
            });
        }
    });
}

/// What a loader does first: the header's length, the header, and the bytes of the first tensor in it.
fn first_tensor(path: &Path) {
    let file = File::open(path).expect("a file");
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0).expect("a header");
    let length = u64::from_le_bytes(length);
    let mut header = vec![0; usize::try_from(length).expect("a length")];
    file.read_exact_at(&mut header, 8).expect("a header");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    let tensor = header["model.embed_tokens.weight"]["data_offsets"].as_array().expect("a tensor");
    let offsets: Vec<u64> = tensor.iter().filter_map(serde_json::Value::as_u64).collect();
    // A loader takes tensors whole; this model's are as large as it is, so a row of one stands for one of a real model: 64 MiB.
    let size = (offsets[1] - offsets[0]).min(64 << 20);
    let mut bytes = vec![0; usize::try_from(size).expect("a size")];
    file.read_exact_at(&mut bytes, 8 + length + offsets[0]).expect("a tensor");
}

fn end(session: BackgroundSession, at: &Path) {
    session.umount_and_join().expect("unmounted");
    fs::remove_dir(at).expect("removed");
}

/// One file of zeros, over FUSE, with the settings of the mount: what the kernel and `fuser` cost without a cipher.
struct Zeros {
    size: u64,
    zeros: Vec<u8>,
}

impl Zeros {
    fn mount(at: &Path, size: u64) -> BackgroundSession {
        fs::create_dir_all(at).expect("a folder");
        let mut options = Config::default();
        options.mount_options = vec![MountOption::RO, MountOption::NoExec, MountOption::DefaultPermissions];
        options.acl = SessionACL::All;
        options.n_threads = Some(Tuning::default().threads);
        options.clone_fd = true;
        fuser::spawn_mount(Self { size, zeros: vec![0; PIECE] }, at, &options).expect("mounted")
    }

    fn attributes(&self, number: u64) -> FileAttr {
        let (kind, perm, size) = if number == 1 { (FileType::Directory, 0o555, 0) } else { (FileType::RegularFile, 0o444, self.size) };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

const TTL: Duration = Duration::from_secs(3600);

impl Filesystem for Zeros {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _ = config.set_max_write(PIECE as u32);
        let _ = config.set_max_background(64);
        let _ = config.set_max_readahead(PIECE as u32).or_else(|most| config.set_max_readahead(most));
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &std::ffi::OsStr, reply: ReplyEntry) {
        if name == "zeros" { reply.entry(&TTL, &self.attributes(2), Generation(0)) } else { reply.error(Errno::ENOENT) }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(number.0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, size: u32, _: OpenFlags, _: Option<LockOwner>, reply: ReplyData) {
        let length = self.size.saturating_sub(offset).min(size.into());
        reply.data(&self.zeros[..usize::try_from(length).expect("a size")]);
    }
}
