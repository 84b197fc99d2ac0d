//! A real server that speaks S3: s3rver, a process of its own on loopback. It checks who signs and until when; what is signed is
//! checked in `signatures.rs`. `npm install --global s3rver@3.7.1`
//! installs it; where it is not found, these tests are skipped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use guest_client::mount::order::Order;
use guest_client::sources::settings::{Addressing, Credentials, S3};
use guest_client::sources::{FetchError, ReachError, Reached, SealedLocation, Storage};
use models_manifest::folder::SealFolder;
use models_manifest::{Backend, ChunkSize, ModelKey, Opening, Silent, Workers, open_model, seal_folder};
use protocol::ids::{Digest, Version};
use protocol::keys::{PublicKey, SigningKey};
use tempfile::TempDir;

/// The one account that s3rver knows.
const ACCOUNT: &str = "S3RVER";

/// The server, with a sealed model in bucket `models` under `acme/llama v1`.
struct Server {
    process: Child,
    address: String,
    folder: TempDir,
    released: Digest,
    publisher: PublicKey,
    key: Vec<u8>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn server() -> Option<Server> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("s3rver");
    command.arg("--directory").arg(folder.path().join("objects")).args(["--address", "127.0.0.1", "--port", "0"]);
    fs::create_dir(folder.path().join("objects")).unwrap();
    let spawned = command.args(["--configure-bucket", "models"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut process) = spawned else {
        println!("skipped: no s3rver on this machine (npm install --global s3rver@3.7.1)");
        return None;
    };
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address =
        lines.find_map(|line| line.unwrap().strip_prefix("S3rver listening on ").map(str::to_owned)).expect("it says where it is");
    // What it logs is read to the end, or it would stand still.
    std::thread::spawn(move || lines.for_each(drop));
    let sealed = seal(folder.path());
    let server = Server { process, address, released: sealed.1, publisher: sealed.2, key: sealed.3, folder };
    for (name, path) in files(&sealed.0) {
        server.put(&name, &fs::read(path).unwrap());
    }
    Some(server)
}

fn seal(folder: &Path) -> (PathBuf, Digest, PublicKey, Vec<u8>) {
    let (source, sealed) = (folder.join("model"), folder.join("sealed"));
    fs::create_dir_all(source.join("weights")).unwrap();
    fs::write(source.join("config.json"), "{}").unwrap();
    fs::write(source.join("weights/part 1+2.safetensors"), vec![0x5a; 3_000_000]).unwrap();
    let order = SealFolder {
        source: &source,
        destination: &sealed,
        name: "llama".parse().unwrap(),
        version: Version::FIRST,
        chunk_size: ChunkSize::default(),
        backend: Backend::AwsLc,
        workers: Workers::one(),
    };
    let signer = SigningKey::from_seed(&[5; 32]).unwrap();
    let made = seal_folder(&order, &signer, &mut Silent).unwrap();
    (sealed, made.document.digest(), *signer.public(), made.key.as_bytes().to_vec())
}

fn files(sealed: &Path) -> Vec<(String, PathBuf)> {
    ["portcullis-manifest.json", "config.json", "weights/part 1+2.safetensors"].map(|name| (name.to_owned(), sealed.join(name))).into()
}

impl Server {
    /// Writes an object, as nobody, which s3rver allows.
    fn put(&self, name: &str, bytes: &[u8]) {
        let name = name.replace(' ', "%20").replace('+', "%2B");
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "PUT /models/acme/llama%20v1/{name} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            bytes.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn settings(&self, credentials: Credentials) -> Storage {
        let s3 = S3 {
            endpoint: Some(format!("http://{}", self.address)),
            region: Some("eu-west-1".into()),
            addressing: Addressing::Path,
            credentials,
        };
        // One range of the weights is several requests.
        Storage { range: 512 * 1024, memory: 4 * 1024 * 1024, s3, ..Storage::default() }
    }

    fn credentials(&self, id: &str, secret: &str) -> Credentials {
        let path = self.folder.path().join("credentials.toml");
        fs::write(&path, format!("access-key-id = \"{id}\"\nsecret-access-key = \"{secret}\"\n")).unwrap();
        Credentials::File(path)
    }

    fn reach(&self, place: &str, credentials: Credentials) -> Result<Reached, FetchError> {
        let location: SealedLocation = place.parse().unwrap();
        Reached::at(&location, &self.settings(credentials)).map_err(|error| match error {
            ReachError::Fetch(error) => error,
            ReachError::Open(error) => panic!("{error}"),
        })
    }

    fn opens(&self, credentials: Credentials) {
        let reached = self.reach("s3://models/acme/llama v1", credentials).unwrap();
        reached.prefetch();
        let key = ModelKey::from_secret(zeroize::Zeroizing::new(self.key.clone())).unwrap();
        let model = reached.unlock(&[self.publisher], &self.released, key).unwrap();
        let to = self.folder.path().join("opened");
        open_model(&model, Opening::to(&to), &mut Silent).unwrap();
        assert!(fs::read(to.join("weights/part 1+2.safetensors")).unwrap() == vec![0x5a; 3_000_000]);
        assert_eq!(fs::read(to.join("config.json")).unwrap(), b"{}");
        fs::remove_dir_all(to).unwrap();
    }
}

#[test]
fn a_model_is_opened_from_a_bucket_with_credentials_or_as_nobody() {
    let Some(server) = server() else { return };
    server.opens(server.credentials(ACCOUNT, ACCOUNT));
    server.opens(Credentials::Anonymous);
}

#[test]
fn credentials_that_the_store_does_not_take_are_named() {
    let Some(server) = server() else { return };
    let refused = |id| server.reach("s3://models/acme/llama v1", server.credentials(id, ACCOUNT)).err();
    assert_eq!(refused("another id"), Some(FetchError::Forbidden { status: 403 }));
    assert_eq!(refused(ACCOUNT), None);
}

#[test]
fn a_model_is_mounted_from_a_bucket_and_no_secret_is_an_argument() {
    use guest_client::mount::place::{PlaceError, ready};
    if let Err(error @ (PlaceError::NoDevice { .. } | PlaceError::NotPermitted)) = ready(Path::new("/nonexistent")) {
        return println!("skipped: {error}");
    }
    let Some(server) = server() else { return };
    let secret = "S3RVER";
    let order = Order {
        sealed: "s3://models/acme/llama v1".parse().unwrap(),
        storage: server.settings(server.credentials(ACCOUNT, secret)),
        manifest: server.released,
        publishers: vec![server.publisher],
        key: ModelKey::from_secret(zeroize::Zeroizing::new(server.key.clone())).unwrap(),
    };
    let mut told = Vec::new();
    order.write(&mut told).unwrap();
    assert!(!String::from_utf8_lossy(&told).contains(secret), "the order names the file of credentials, and holds none");
    let at = server.folder.path().join("mounted");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-guest"));
    let mut mounted = command.arg("mount-server").arg("--at").arg(&at).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Its end, also where this test fails, is the end of the server.
    let mut orders = mounted.stdin.take().unwrap();
    order.write(&mut orders).unwrap();
    let mut ready = String::new();
    BufReader::new(mounted.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains("\"ready\""), "{ready}");
    assert!(fs::read(at.join("weights/part 1+2.safetensors")).unwrap() == vec![0x5a; 3_000_000]);
    assert_eq!(fs::read(at.join("config.json")).unwrap(), b"{}");
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", mounted.id())).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(secret), "{file}");
    }
    drop(orders);
    assert!(mounted.wait().unwrap().success());
    assert!(!at.exists());
}

#[test]
fn a_bucket_or_prefix_without_a_manifest_has_no_model() {
    let Some(server) = server() else { return };
    for place in ["s3://models/acme", "s3://models", "s3://no-such-bucket/acme/llama v1"] {
        let refused = server.reach(place, server.credentials(ACCOUNT, ACCOUNT)).err();
        assert_eq!(refused, Some(FetchError::Missing { status: 404 }), "{place}");
    }
}
