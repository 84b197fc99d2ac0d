//! Sealing and opening a model on tmpfs, one thread, beside `cp`, `age` and `rage`.
//!
//! Goals: at least 3 times as fast as `rage -d`, and not slower than `cp`.
//!
//! `GIB=4` says how large the model is, `ROUNDS=5` how many rounds. `age` and `rage` take part where they are installed. Every contender
//! makes new files of the same model on the same file system in each round, and they are removed outside the clock. Before each, also
//! outside the clock, as much memory is touched and given back: under a hypervisor that takes idle pages away, whoever writes first
//! would otherwise pay for fetching them back, and which contender that is depends on the order.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use models_manifest::{Backend, ChunkSize, ModelKey, OpenFolder, SealFolder, Silent, open_folder, seal_folder};
use portcullis_benches::rounds::median;
use portcullis_benches::{insist_on_release, process};
use protocol::ids::Version;
use protocol::keys::SigningKey;
use zeroize::Zeroizing;

const MIB: usize = 1 << 20;

fn main() {
    insist_on_release();
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (gib, rounds) = (number("GIB", 4), number("ROUNDS", 5));
    println!("{}; {gib} GiB in /dev/shm, {rounds} rounds after one to warm up", process::machine());
    let folder = tempfile::Builder::new().prefix("seal-bench-").tempdir_in("/dev/shm").expect("a folder on tmpfs");
    let bench = Bench::new(folder.path(), gib);
    let mut times: Vec<(&str, Vec<f64>)> = Vec::new();
    for round in 0..=rounds {
        for (name, time) in bench.round() {
            match times.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) if round > 0 => times.push(time.as_secs_f64()),
                Some(_) => {}
                None => times.push((name, Vec::new())),
            }
        }
    }
    print(&times, gib);
}

fn print(times: &[(&str, Vec<f64>)], gib: usize) {
    let of = |wanted: &str| times.iter().find(|(name, _)| *name == wanted).map(|(_, times)| times);
    let relative = |own: &[f64], other: &str| {
        let ratios = of(other).map(|other| median(other.iter().zip(own).map(|(other, own)| other / own).collect()));
        ratios.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
    };
    println!("\n| what | median s | GB/s | times as fast as cp | as age -d | as rage -d |\n| --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, own) in times {
        let seconds = median(own.clone());
        let rate = gib as f64 * 1.073_741_824 / seconds;
        let [cp, age, rage] = ["cp", "age -d", "rage -d"].map(|other| relative(own, other));
        println!("| {name} | {seconds:.2} | {rate:.2} | {cp} | {age} | {rage} |");
    }
}

/// A model, and where copies of it go.
struct Bench {
    folder: PathBuf,
    model: PathBuf,
    gib: usize,
    publisher: SigningKey,
    peers: Vec<Peer>,
}

/// `age`, or a program that is used like it.
struct Peer {
    names: [&'static str; 2],
    program: &'static str,
    recipient: String,
    identity: PathBuf,
}

impl Bench {
    /// One file of bytes that no file system can shorten.
    fn new(folder: &Path, gib: usize) -> Self {
        let model = folder.join("model");
        fs::create_dir(&model).expect("a folder");
        let mut file = File::create(model.join("model.safetensors")).expect("a file");
        let mut block = vec![0; 16 * MIB];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut block)).expect("random bytes");
        for part in 0..gib * 64 {
            block[..8].copy_from_slice(&(part as u64).to_le_bytes());
            file.write_all(&block).expect("room on tmpfs");
        }
        let peer = |names, program, keygen| Peer::new(names, program, keygen, folder);
        let peers = [peer(["age -e", "age -d"], "age", "age-keygen"), peer(["rage -e", "rage -d"], "rage", "rage-keygen")];
        let publisher = SigningKey::from_seed(&[1; 32]).expect("a seed");
        Self { folder: folder.to_owned(), model, gib, publisher, peers: peers.into_iter().flatten().collect() }
    }

    fn round(&self) -> Vec<(&'static str, Duration)> {
        let mut times = Vec::new();
        let copy = self.folder.join("copy");
        times.push(("cp", self.timed(|| run(Command::new("cp").arg("-r").arg(&self.model).arg(&copy)))));
        fs::remove_dir_all(&copy).expect("the copy");

        let sealed = self.folder.join("sealed");
        let order = SealFolder {
            source: &self.model,
            destination: &sealed,
            name: "acme/llama".parse().expect("a name"),
            version: Version::FIRST,
            chunk_size: ChunkSize::default(),
            backend: Backend::AwsLc,
        };
        let mut made = None;
        times.push(("seal", self.timed(|| made = Some(seal_folder(&order, &self.publisher, &mut Silent).expect("sealed")))));
        let made = made.expect("sealed");
        let opened = self.folder.join("opened");
        let digest = made.document.digest();
        let publishers = [*self.publisher.public()];
        let order = OpenFolder { sealed: &sealed, publishers: &publishers, released: &digest, backend: Backend::AwsLc };
        let key = ModelKey::from_bytes(Zeroizing::new(*made.key.as_bytes()));
        times.push(("open", self.timed(|| drop(open_folder(order, key, &opened, &mut Silent).expect("opened")))));
        [&sealed, &opened].into_iter().for_each(|folder| fs::remove_dir_all(folder).expect("a folder"));

        for peer in &self.peers {
            let (from, to, back) = (self.model.join("model.safetensors"), self.folder.join("encrypted"), self.folder.join("decrypted"));
            let [encrypt, decrypt] = peer.names;
            times.push((
                encrypt,
                self.timed(|| run(Command::new(peer.program).args(["-e", "-r", &peer.recipient, "-o"]).args([&to, &from]))),
            ));
            times.push((
                decrypt,
                self.timed(|| run(Command::new(peer.program).arg("-d").arg("-i").arg(&peer.identity).arg("-o").args([&back, &to]))),
            ));
            [to, back].into_iter().for_each(|file| fs::remove_file(file).expect("a file"));
        }
        times
    }
}

impl Bench {
    /// Times one contender, on pages that the machine has at hand.
    fn timed(&self, operation: impl FnOnce()) -> Duration {
        touch(self.gib);
        let start = Instant::now();
        operation();
        start.elapsed()
    }
}

/// Touches so many GiB of memory, and gives them back.
fn touch(gib: usize) {
    let mut pages = vec![0_u8; gib << 30];
    pages.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&pages);
}

impl Peer {
    /// Where it is installed.
    fn new(names: [&'static str; 2], program: &'static str, keygen: &'static str, folder: &Path) -> Option<Self> {
        let identity = folder.join(format!("{program}.key"));
        let made = Command::new(keygen).arg("-o").arg(&identity).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: {program} is not installed");
            return None;
        }
        let text = fs::read_to_string(&identity).expect("a key");
        let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a public key").to_owned();
        let version =
            Command::new(program).arg("--version").output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        println!("{program}: {}", version.unwrap_or_default());
        Some(Self { names, program, recipient, identity })
    }
}

fn run(command: &mut Command) {
    assert!(command.status().expect("a program").success(), "{command:?}");
}
