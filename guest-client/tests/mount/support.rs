//! A sealed model, and mount servers over it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use guest_client::mount::order::Order;
use guest_client::sources::{SealedLocation, Storage};
use models_manifest::{Backend, ChunkSize, ModelKey, SealFolder, Silent, Workers, seal_folder};
use protocol::ids::{Digest, Version};
use protocol::keys::{PublicKey, SigningKey};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// The chunk size of everything here: the smallest, so that small files have several.
pub const CHUNK: u64 = 65_536;
/// What a chunk takes in the table behind the ciphertext.
pub const ENTRY: u64 = 48;
/// Bytes of `a.bin` and of `b.bin`: 17 chunks, the last with 5 bytes.
pub const SIZE: u64 = 16 * CHUNK + 5;
/// How long a server may take for anything: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that differ from place to place and from file to file.
pub fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(usize::try_from(length).unwrap()).collect()
}

/// A model, sealed.
pub struct Model {
    folder: TempDir,
    key: ModelKey,
    manifest: Digest,
    publisher: PublicKey,
}

impl Model {
    /// `a.bin` and `b.bin` of the same size, a file in folders, an empty one, a small one.
    pub fn new(seed: u64) -> Self {
        Self::of(&[
            ("a.bin", noise(seed, SIZE)),
            ("b.bin", noise(seed + 100, SIZE)),
            ("config.json", b"{}\n".to_vec()),
            ("empty.txt", Vec::new()),
            ("nested/deep/c.bin", noise(seed + 200, 3 * CHUNK)),
        ])
    }

    pub fn of(files: &[(&str, Vec<u8>)]) -> Self {
        let folder = tempfile::Builder::new().prefix("portcullis-mount-").tempdir().unwrap();
        let source = folder.path().join("plain");
        for (path, bytes) in files {
            let path = source.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let publisher = SigningKey::from_seed(&[1; 32]).unwrap();
        let destination = folder.path().join("sealed");
        let order = SealFolder {
            source: &source,
            destination: &destination,
            name: "acme/llama".parse().unwrap(),
            version: Version::FIRST,
            chunk_size: ChunkSize::SMALLEST,
            backend: Backend::default(),
            workers: Workers::default(),
        };
        let made = seal_folder(&order, &publisher, &mut Silent).unwrap();
        let manifest = made.document.digest();
        Self { folder, key: made.key, manifest, publisher: *publisher.public() }
    }

    pub fn plain(&self, path: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("plain").join(path)).unwrap()
    }

    pub fn sealed(&self, path: &str) -> PathBuf {
        self.folder.path().join("sealed").join(path)
    }

    /// Where it is mounted; made by the server.
    pub fn at(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    pub fn order(&self) -> Order {
        let key = ModelKey::from_bytes(Zeroizing::new(*self.key.as_bytes()));
        let sealed = SealedLocation::Folder(self.sealed(""));
        Order { sealed, storage: Storage::default(), manifest: self.manifest, publishers: vec![self.publisher], key }
    }

    /// Mounted, with nothing read ahead. `None`, and one line, where nothing can be mounted here.
    pub fn mount(&self) -> Option<Server> {
        self.mount_with(&["--ahead", "0"])
    }

    pub fn mount_with(&self, more: &[&str]) -> Option<Server> {
        if !can_mount() {
            return None;
        }
        Some(Server::start(&self.at(), &self.order(), more).unwrap_or_else(|(status, said)| panic!("{status}: {said}")))
    }
}

/// Whether this machine lets us mount; says so where it does not.
pub fn can_mount() -> bool {
    use guest_client::mount::place::{PlaceError, ready};
    match ready(Path::new("/nonexistent")) {
        Err(error @ (PlaceError::NoDevice { .. } | PlaceError::NotPermitted)) => {
            println!("skipped: {error}");
            false
        }
        _ => true,
    }
}

/// A running mount server; dropping it kills it and detaches what it mounted.
pub struct Server {
    pub child: Child,
    pub orders: Option<ChildStdin>,
    pub at: PathBuf,
    events: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Server {
    /// Until it is ready; or how it ended, and what it said.
    pub fn start(at: &Path, order: &Order, more: &[&str]) -> Result<Self, (ExitStatus, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-guest"));
        command.arg("mount-server").arg("--at").arg(at).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut orders = child.stdin.take().unwrap();
        order.write(&mut orders).unwrap();
        let (sender, events) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut stderr = child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut server = Self { child, orders: Some(orders), at: at.to_owned(), events, errors: Some(errors) };
        match server.event() {
            Some(event) => {
                assert_eq!(event["event"], "ready");
                Ok(server)
            }
            None => Err((server.child.wait().unwrap(), server.said())),
        }
    }

    /// Its next line; `None` when it has said its last.
    pub fn event(&self) -> Option<Value> {
        match self.events.recv_timeout(PATIENCE) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap()),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the server says nothing"),
        }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.at.join(path)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: the status, and all that it said on standard error.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.said());
            }
            assert!(std::time::Instant::now() < until, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn said(&mut self) -> String {
        self.errors.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }

    /// As `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // Its mount stays.
        std::mem::forget(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

/// Reads a range, as a program would.
pub fn read(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match file.read_at(&mut bytes[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// The number of the error that a read of one page ends with.
pub fn errno(path: &Path, offset: u64) -> Option<i32> {
    read(path, offset, 4096).err().map(|error| error.raw_os_error().unwrap())
}
