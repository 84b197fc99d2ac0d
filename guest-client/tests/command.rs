//! The command as people run it: a process of its own, against a broker and an evidence agent of this one.

mod model_signers;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest_client::agent::{Served, bind, serve};
use models_manifest::folder::SealFolder;
use models_manifest::{Backend, ChunkSize, Silent, Workers, seal_folder};
use protocol::ids::{Role, Version};
use rustix::process::{Pid, Signal, kill_process};
use support::{Broker, Key, Mischief, PUBLISHER, ROOT, Record, STRANGER, Soft};
use tempfile::TempDir;
use testbed::services::storage::{Storage, Trick};
use testbed::tdx::{EventLog, SoftTdx, TdShape};

/// A guest: its configuration, its agent's socket, and a folder in memory.
struct Guest {
    folder: TempDir,
    memory: TempDir,
    broker: Broker,
}

/// A broker with one credential, an agent, and a configuration that names both.
fn guest() -> Guest {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(&[("openai", "sk-sesame")]);
    let socket = folder.path().join("agent.sock");
    let listener = bind(&socket, 0o600).unwrap();
    drop(serve(vec![Served { listener, role: Role::Workload("vllm".parse().unwrap()) }], Soft::new()).unwrap());
    let config = format!("root = \"{}\"\nbroker = \"{}\"\nevidence = \"agent:{}\"\n", ROOT.key().public(), broker.url(), socket.display());
    fs::write(folder.path().join("guest.toml"), config).unwrap();
    let memory = if Path::new("/dev/shm").is_dir() { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() };
    Guest { folder, memory: memory.unwrap(), broker }
}

impl Guest {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-guest"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("guest.toml")).env_remove("TERMINATION_LOG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn in_memory(&self, name: &str) -> PathBuf {
        self.memory.path().join(name)
    }

    /// Whether this machine has a tmpfs that takes plaintext; else a line and the test ends.
    fn has_memory(&self) -> bool {
        let judged = guest_client::destination::in_memory(&self.in_memory("x"));
        if let Err(error) = &judged {
            println!("skipped: no memory to write to here ({error})");
        }
        judged.is_ok()
    }

    /// Seals a small model, and gives the broker its record by `publisher`.
    fn model(&self, publisher: Key) -> PathBuf {
        let source = self.folder.path().join("model");
        fs::create_dir_all(source.join("weights")).unwrap();
        fs::write(source.join("config.json"), "{\"hidden_size\": 8}").unwrap();
        fs::write(source.join("weights/model.safetensors"), vec![0x5a; 300_000]).unwrap();
        let sealed = self.folder.path().join("sealed");
        let order = SealFolder {
            source: &source,
            destination: &sealed,
            name: "llama".parse().unwrap(),
            version: Version::FIRST,
            chunk_size: ChunkSize::try_from(65_536).unwrap(),
            backend: Backend::AwsLc,
            workers: Workers::default(),
        };
        let made = seal_folder(&order, &PUBLISHER.key(), &mut Silent).unwrap();
        let record = Record { secret: made.key.as_bytes().to_vec(), publisher, manifest: Some(made.document.digest()) };
        self.broker.state().records.insert("llama".into(), record);
        sealed
    }

    fn unseal(&self, sealed: &Path, to: &Path, more: &[&str]) -> Output {
        let arguments = ["unseal", "--model", "llama", "--sealed", sealed.to_str().unwrap(), "--to", to.to_str().unwrap()];
        self.run(&[&arguments, more].concat())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// Names in a folder.
fn list(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_credential_goes_to_a_file_of_its_owner_and_nowhere_else() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let path = guest.in_memory("openai");
    let output = guest.run(&["release", "--credential", "openai", "--out", path.to_str().unwrap()]);
    assert_exit(&output, 0);
    assert_eq!(fs::read(&path).unwrap(), b"sk-sesame");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(list(guest.memory.path()), ["openai"]);
    assert!(!text(&output.stdout).contains("sesame") && !text(&output.stderr).contains("sesame"));
    let request = &guest.broker.state().requests[0];
    assert_eq!(request.role.to_string(), "workload:vllm");
}

#[test]
fn all_secrets_are_written_or_none() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let folder = guest.in_memory("secrets");
    let arguments = ["release", "--credential", "openai", "--credential", "absent", "--out-dir", folder.to_str().unwrap()];
    assert_exit(&guest.run(&arguments), 3);
    assert!(!folder.exists());
    let record = Record { secret: b"two".to_vec(), publisher: PUBLISHER, manifest: None };
    guest.broker.state().records.insert("absent".into(), record);
    assert_exit(&guest.run(&arguments), 0);
    assert_eq!(fs::read(folder.join("credential/absent")).unwrap(), b"two");
    assert_eq!(fs::read(folder.join("credential/openai")).unwrap(), b"sk-sesame");
}

#[test]
fn a_secret_on_a_disk_or_on_standard_output_needs_a_word_that_changes_the_configuration() {
    let guest = guest();
    let disk = guest.folder.path().join("openai");
    let to_disk = ["release", "--credential", "openai", "--out", disk.to_str().unwrap()];
    if guest_client::destination::in_memory(&disk).is_err() {
        assert_exit(&guest.run(&to_disk), 1);
        assert!(guest.broker.state().requests.is_empty(), "refused before anything was asked for");
    }
    assert_exit(&guest.run(&[&to_disk[..], &["--to-disk"]].concat()), 0);
    assert_eq!(fs::read(&disk).unwrap(), b"sk-sesame");
    let output = guest.run(&["release", "--credential", "openai", "--stdout"]);
    assert_exit(&output, 0);
    assert_eq!(output.stdout, b"sk-sesame");
    let digest = |more: &[&str]| text(&guest.run(&[&["config-digest"], more].concat()).stdout).trim().to_owned();
    let sent: Vec<String> = guest.broker.state().requests.iter().map(|request| request.configuration.to_string()).collect();
    assert_eq!(sent, [digest(&["--to-disk"]), digest(&["--stdout"])]);
    assert_ne!(digest(&[]), digest(&["--to-disk"]));
    assert_eq!(digest(&[]), digest(&["--broker", "https://other.example.com"]));
}

#[test]
fn a_denial_is_told_on_standard_output_and_in_the_termination_log() {
    let guest = guest();
    guest.broker.state().refused.insert("openai".into(), "beef".into());
    let log = guest.folder.path().join("termination-log");
    let arguments = ["check", "--credential", "openai", "--termination-log", log.to_str().unwrap()];
    let output = guest.run(&arguments);
    assert_exit(&output, 3);
    for place in [text(&output.stdout), fs::read_to_string(&log).unwrap()] {
        for part in ["denied", "snp-measurement", "found beef", "hint: boot the image", "portcullis explain "] {
            assert!(place.contains(part), "{part}: {place}");
        }
    }
    let json: serde_json::Value = serde_json::from_slice(&guest.run(&[&arguments[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!((&json["result"], &json["code"]), (&"denied".into(), &"snp-measurement".into()));
    assert_eq!(json["items"][0]["reasons"][0]["found"], "beef");
    // Standard output is the secret's, if it is anybody's.
    let output = guest.run(&["release", "--credential", "openai", "--stdout"]);
    assert_exit(&output, 3);
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("snp-measurement"));
}

#[test]
fn a_rejection_before_verification_is_a_denial_with_its_number() {
    let guest = guest();
    guest.broker.misbehave(Mischief::Reject);
    let output = guest.run(&["check", "--credential", "openai"]);
    assert_exit(&output, 3);
    let said = text(&output.stdout);
    assert!(said.contains("snp-signature") && said.contains(&"dd".repeat(16)) && said.contains("see portcullis verify"), "{said}");
}

#[test]
fn each_way_to_fail_has_its_exit_code() {
    let guest = guest();
    let check = |more: &[&str]| guest.run(&[&["check", "--credential", "openai", "--retry-for", "0"], more].concat());
    assert_exit(&check(&[]), 0);
    assert_exit(&check(&["--broker", "http://127.0.0.1:1"]), 4);
    assert_exit(&check(&["--evidence", "agent:/nonexistent"]), 6);
    assert_exit(&check(&["--broker", "http://broker.example.com"]), 1);
    assert_exit(&check(&["--unknown"]), 2);
    assert_exit(&guest.run(&["release", "--credential", "a", "--credential", "b", "--out", "/run/x"]), 2);
    guest.broker.misbehave(Mischief::Unavailable { times: 1, after: 1 });
    assert_exit(&check(&[]), 4);
    guest.broker.misbehave(Mischief::OtherRoot);
    assert_exit(&check(&[]), 5);
    let mut elsewhere = guest.command(&["check", "--credential", "openai"]);
    assert_exit(&elsewhere.env("HOME", "/").arg("--ca").arg("/nonexistent").output().unwrap(), 1);
}

#[test]
fn an_outage_is_waited_out() {
    let guest = guest();
    guest.broker.misbehave(Mischief::Unavailable { times: 2, after: 1 });
    let began = Instant::now();
    let output = guest.run(&["check", "--credential", "openai"]);
    assert_exit(&output, 0);
    assert!(began.elapsed() >= Duration::from_secs(2), "Retry-After was 1 s, twice");
    assert_eq!(text(&output.stderr).matches("trying again").count(), 2);
}

#[test]
fn a_guest_that_waits_gets_what_is_permitted_later() {
    let guest = guest();
    guest.broker.state().refused.insert("openai".into(), "beef".into());
    thread::scope(|scope| {
        scope.spawn(|| {
            while guest.broker.state().requests.is_empty() {
                thread::sleep(Duration::from_millis(10));
            }
            guest.broker.state().refused.clear();
        });
        let output = guest.run(&["check", "--credential", "openai", "--wait", "--wait-interval", "1s"]);
        assert_exit(&output, 0);
        assert!(text(&output.stderr).contains("snp-measurement"));
    });
    guest.broker.state().refused.insert("openai".into(), "beef".into());
    assert_exit(&guest.run(&["check", "--credential", "openai", "--wait", "--wait-interval", "1s", "--wait-for", "1"]), 3);
}

#[test]
fn a_rolled_back_log_is_noticed_by_a_guest_with_a_state() {
    let guest = guest();
    let state = guest.folder.path().join("state");
    let check = || guest.run(&["check", "--credential", "openai", "--state", state.to_str().unwrap()]);
    assert_exit(&check(), 0);
    assert_exit(&check(), 0);
    guest.broker.misbehave(Mischief::RollBack);
    let output = check();
    assert_exit(&output, 5);
    assert!(text(&output.stdout).contains("log-rolled-back"));
}

#[test]
fn a_sealed_model_is_opened_byte_for_byte() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let (sealed, to) = (guest.model(PUBLISHER), guest.in_memory("llama"));
    let output = guest.unseal(&sealed, &to, &["--json"]);
    assert_exit(&output, 0);
    assert_eq!(fs::read(to.join("weights/model.safetensors")).unwrap(), vec![0x5a; 300_000]);
    assert_eq!(fs::read_to_string(to.join("config.json")).unwrap(), "{\"hidden_size\": 8}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["model"], &json["files"]), (&"llama".into(), &2.into()));
    assert_eq!(list(guest.memory.path()), ["llama"]);
}

#[test]
fn an_opening_that_failed_is_resumed_and_its_progress_is_told() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let (sealed, to) = (guest.model(PUBLISHER), guest.in_memory("llama"));
    let weights = sealed.join("weights/model.safetensors");
    let good = fs::read(&weights).unwrap();
    let mut bad = good.clone();
    bad[250_000] ^= 1;
    fs::write(&weights, bad).unwrap();
    let output = guest.unseal(&sealed, &to, &["--resume", "--threads", "1"]);
    assert_exit(&output, 1);
    let [kept] = list(guest.memory.path()).try_into().expect("what was opened, alone");
    assert!(kept.starts_with(".portcullis-partial-") && text(&output.stderr).contains(&format!("/{kept}; the same command goes on")));
    fs::write(&weights, good).unwrap();
    let output = guest.unseal(&sealed, &to, &["--resume", "--json", "--progress", "json", "--memory", "1"]);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // The small file, and three chunks of 64 KiB before the bad one.
    assert_eq!((&json["kept"], &json["bytes"]), (&(18 + 3 * 65_536).into(), &300_018.into()));
    let events: Vec<serde_json::Value> =
        text(&output.stderr).lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = events.first().expect("progress");
    assert_eq!((&first["event"], &first["total"]), (&"opening".into(), &300_018.into()));
    assert_eq!(fs::read(to.join("weights/model.safetensors")).unwrap(), vec![0x5a; 300_000]);
    assert_eq!(list(guest.memory.path()), ["llama"]);
    assert_exit(&guest.unseal(&sealed, &guest.in_memory("other"), &["--threads", "0"]), 2);
}

#[test]
fn a_model_of_another_publisher_manifest_or_key_is_not_opened_and_nothing_is_left() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let (sealed, to) = (guest.model(STRANGER), guest.in_memory("llama"));
    let refused = |code: &str| {
        let output = guest.unseal(&sealed, &to, &[]);
        assert_exit(&output, 1);
        assert!(text(&output.stderr).contains(code), "{}", text(&output.stderr));
        assert_eq!(list(guest.memory.path()), Vec::<String>::new());
    };
    refused("manifest-signer");
    let change = |change: &dyn Fn(&mut Record)| {
        let mut state = guest.broker.state();
        let record = state.records.get_mut("llama").unwrap();
        record.publisher = PUBLISHER;
        change(record);
    };
    let (good, manifest) = {
        let state = guest.broker.state();
        (state.records["llama"].secret.clone(), state.records["llama"].manifest)
    };
    change(&|record| record.manifest = Some(protocol::ids::Digest::from([1; 32])));
    refused("manifest-not-released");
    change(&|record| (record.manifest, record.secret) = (manifest, vec![1; 32]));
    refused("wrong-key");
    let weights = sealed.join("weights/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[250_000] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    change(&|record| record.secret = good.clone());
    refused("chunk-hash");
    bytes[250_000] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    assert_exit(&guest.unseal(&sealed, &to, &[]), 0);
}

#[test]
fn a_destination_outside_memory_is_refused_before_the_key_is_asked_for() {
    let guest = guest();
    let (sealed, to) = (guest.model(PUBLISHER), guest.folder.path().join("plain"));
    if guest_client::destination::in_memory(&to).is_ok() {
        println!("skipped: the temporary folder is in memory here");
        return;
    }
    let output = guest.unseal(&sealed, &to, &[]);
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("destination-not-memory") && text(&output.stderr).contains("--to-disk"));
    assert!(guest.broker.state().requests.is_empty() && !to.exists());
    assert_exit(&guest.unseal(&sealed, &to, &["--to-disk"]), 0);
    assert!(to.join("config.json").exists());
}

#[test]
fn a_denied_model_leaves_nothing() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let sealed = guest.model(PUBLISHER);
    guest.broker.state().refused.insert("llama".into(), "beef".into());
    assert_exit(&guest.unseal(&sealed, &guest.in_memory("llama"), &[]), 3);
    assert_eq!(list(guest.memory.path()), Vec::<String>::new());
}

#[test]
fn a_sealed_model_is_opened_from_a_web_server_while_the_key_is_asked_for() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let (sealed, to) = (guest.model(PUBLISHER), guest.in_memory("llama"));
    let server = Storage::start(&sealed);
    let place = PathBuf::from(server.url());
    assert_exit(&guest.unseal(&place, &to, &[]), 0);
    assert_eq!(fs::read(to.join("weights/model.safetensors")).unwrap(), vec![0x5a; 300_000]);
    let weights = || server.asked().iter().filter(|asked| asked.path == "weights/model.safetensors").count();
    assert_eq!(weights(), 1, "all of it is one range");
    // Whoever is denied has nothing, but what is read first was under way.
    guest.broker.state().refused.insert("llama".into(), "beef".into());
    assert_exit(&guest.unseal(&place, &guest.in_memory("denied"), &[]), 3);
    assert_eq!((weights(), list(guest.memory.path())), (2, vec!["llama".to_owned()]));
}

#[test]
fn a_storage_that_has_no_model_or_cannot_serve_is_named_before_the_key_is_asked_for() {
    let guest = guest();
    let sealed = guest.model(PUBLISHER);
    let server = Storage::start(&sealed);
    let config = guest.folder.path().join("guest.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "[storage]\nretry-seconds = 0\n").unwrap();
    let refused = |place: &str, code: &str, hint: &str| {
        let output = guest.unseal(Path::new(place), &guest.in_memory("llama"), &["--to-disk"]);
        assert_exit(&output, 1);
        let said = text(&output.stderr);
        assert!(said.contains(&format!("({code})")) && said.contains(hint), "{said}");
    };
    refused(&format!("{}/nothing", server.url()), "storage-missing", "portcullis-manifest.json");
    server.always(Trick::Status(503, None));
    refused(&server.url(), "storage-busy", "retry-seconds");
    refused("http://storage.example.com/llama", "storage-plain-http", "--allow-plain-http");
    refused("http://127.0.0.1:1/llama", "storage-unreachable", "is the address right");
    refused("gs://acme/llama", "storage-settings", "[storage]");
    assert!(guest.broker.state().requests.is_empty());
    assert_exit(&guest.unseal(Path::new("ftp://h/llama"), &guest.in_memory("llama"), &[]), 2);
    // What breaks behind the manifest is named too.
    server.always(Trick::Well);
    server.next("model.safetensors", vec![Trick::Status(403, None); 9]);
    refused(&server.url(), "storage-forbidden", "credentials");
    assert_eq!(list(guest.memory.path()), Vec::<String>::new());
}

/// How a process ended, and what it said.
fn ended(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn until(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "it does not come to that");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process listens for a signal.
fn catches(child: &Child, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn an_opening_that_a_signal_ends_says_so_by_its_exit_code_and_leaves_nothing() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let sealed = guest.model(PUBLISHER);
    let to = guest.in_memory("llama").display().to_string();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // One that waits for its storage, and one to which something comes.
        for trick in [Trick::StallsAfter(100), Trick::Slow(2000, Duration::from_millis(20))] {
            for more in [&[][..], &["--json"], &["--resume"]] {
                let server = Storage::start(&sealed);
                server.next("model.safetensors", [trick.clone()]);
                let arguments = ["unseal", "--model", "llama", "--sealed", &server.url(), "--to", &to];
                let mut command = guest.command(&[&arguments, more].concat());
                let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                until(|| list(guest.memory.path()).iter().any(|name| name.starts_with(".portcullis")));
                kill_process(Pid::from_child(&child), signal).unwrap();
                let (status, out, err) = ended(child);
                assert_eq!((status, out.as_str()), (Some(code), ""), "{trick:?} {more:?} {err}");
                let name = if code == 130 { "SIGINT" } else { "SIGTERM" };
                assert!(err.contains(&format!("error: ended by {name}\n")), "{err}");
                if more == ["--resume"] {
                    assert!(err.contains("; the same command goes on from there"), "{err}");
                    let [kept] = list(guest.memory.path()).try_into().unwrap();
                    fs::remove_dir_all(guest.in_memory(&kept)).unwrap();
                } else {
                    assert!(err.contains("hint: nothing was left at the destination\n"), "{err}");
                    assert_eq!(list(guest.memory.path()), [""; 0]);
                }
            }
        }
        // Before the key is there.
        guest.broker.misbehave(Mischief::Slow);
        let calls = guest.broker.state().calls;
        let mut command = guest.command(&["unseal", "--model", "llama", "--sealed", sealed.to_str().unwrap(), "--to", &to, "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until(|| catches(&child, signal));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let (status, out, err) = ended(child);
        assert_eq!((status, out.as_str(), guest.broker.state().calls), (Some(code), "", calls), "{err}");
        assert_eq!(list(guest.memory.path()), [""; 0]);
        guest.broker.misbehave(Mischief::None);
    }
    // The near miss: nobody asks it to end.
    assert_exit(&guest.unseal(&sealed, &guest.in_memory("llama"), &[]), 0);
}

/// Whether this machine lets us mount; says so where it does not.
fn can_mount() -> bool {
    use guest_client::mount::place::{PlaceError, ready};
    match ready(Path::new("/nonexistent")) {
        Err(error @ (PlaceError::NoDevice { .. } | PlaceError::NotPermitted)) => {
            println!("skipped: {error}");
            false
        }
        _ => true,
    }
}

impl Guest {
    /// Mounts what lies at a place, hands the mount to `then`, and ends it; how it ended otherwise.
    fn mounts(&self, place: &str, then: impl FnOnce(&Path)) -> Result<(), (Option<i32>, String)> {
        let at = self.folder.path().join("mounted");
        let mut command = self.command(&["mount", "--model", "llama", "--sealed", place, "--at", at.to_str().unwrap()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if !line.starts_with("mounted: llama at ") {
            let (code, _, err) = ended(child);
            assert!(!at.exists(), "nothing is left behind");
            return Err((code, err));
        }
        then(&at);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let (code, _, err) = ended(child);
        assert_eq!((code, at.exists()), (Some(0), false), "{err}");
        Ok(())
    }
}

#[test]
fn a_sealed_model_is_mounted_from_a_web_server() {
    if !can_mount() {
        return;
    }
    let guest = guest();
    let sealed = guest.model(PUBLISHER);
    let server = Storage::start(&sealed);
    let mounted = guest.mounts(&server.url(), |at| {
        assert_eq!(fs::read(at.join("weights/model.safetensors")).unwrap(), vec![0x5a; 300_000]);
        assert_eq!(fs::read_to_string(at.join("config.json")).unwrap(), "{\"hidden_size\": 8}");
        // Where it lies and how it is fetched came with the order.
        let servers = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
        let words: Vec<String> = servers.map(|words| text_of(&words)).filter(|words| words.contains(at.to_str().unwrap())).collect();
        let own: Vec<_> = words.iter().filter(|words| words.contains("mount-server")).collect();
        assert!(own.len() == 1 && !own[0].contains(&server.url()), "{words:?}");
    });
    mounted.unwrap();
    // A place without a model is named before the key is asked for.
    let asked = guest.broker.state().requests.len();
    let (code, said) = guest.mounts(&format!("{}/nothing", server.url()), |_| {}).unwrap_err();
    assert!(code == Some(1) && said.contains("(storage-missing)"), "{said}");
    assert_eq!(guest.broker.state().requests.len(), asked);
    // Nothing of a model by another publisher is served.
    guest.broker.state().records.get_mut("llama").unwrap().publisher = STRANGER;
    let (code, said) = guest.mounts(&server.url(), |_| {}).unwrap_err();
    assert!(code == Some(1) && said.contains("(manifest-signer)"), "{said}");
}

#[test]
fn an_engine_reads_a_model_that_lies_on_a_web_server() {
    if !can_mount() {
        return;
    }
    let guest = guest();
    let server = Storage::start(&guest.model(PUBLISHER));
    let at = guest.folder.path().join("mounted");
    let (mount, file) = (format!("llama={}", at.display()), at.join("config.json"));
    let config = guest.folder.path().join("guest.toml").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-guest"));
    // Where it cannot be read, the test says how things stand there.
    let engine = "cat \"$0\" && exit; d=${0%/*}; { ls -land / /tmp \"${d%/*}\"; ls -land \"$d/..\" \"$d\"; ls -lan \"$d\"; cat \"$0\"; grep fuse /proc/self/mountinfo; \
                  cat /proc/self/uid_map; grep -E 'Uid|Cap' /proc/self/status; } >&2; exit 1";
    command.args(["exec", "--config", &config, "--mount", &mount, "--sealed", &server.url(), "--", "sh", "-c", engine]).arg(&file);
    let output = command.output().unwrap();
    if text(&output.stderr).contains("(isolation-") {
        return println!("skipped: {}", text(&output.stderr));
    }
    assert_exit(&output, 0);
    assert_eq!(text(&output.stdout), "{\"hidden_size\": 8}");
}

fn text_of(words: &[u8]) -> String {
    String::from_utf8_lossy(words).replace('\0', " ")
}

#[test]
fn evidence_is_shown_with_all_that_it_binds() {
    let guest = guest();
    let (report, table) = (guest.folder.path().join("report.bin"), guest.folder.path().join("certs.bin"));
    let nonce = "ab".repeat(32);
    let arguments = ["evidence", "--nonce", &nonce, "--report", report.to_str().unwrap(), "--certificate-table", table.to_str().unwrap()];
    let output = guest.run(&arguments);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["nonce"], &json["role"], &json["platform"]), (&nonce.into(), &"workload:vllm".into(), &"sev-snp".into()));
    let bytes = fs::read(&report).unwrap();
    let bound: String = bytes[0x50..0x90].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(json["report_data"], bound.as_str());
    assert!(!fs::read(&table).unwrap().is_empty());
    assert_eq!(json["configuration"], text(&guest.run(&["config-digest"]).stdout).trim());
    assert_exit(&guest.run(&["evidence", "--challenge", "AAAA"]), 2);
}

#[test]
fn a_quote_is_shown_and_written_with_its_event_log() {
    let guest = guest();
    let mounted = tempfile::tempdir().unwrap();
    let soft = SoftTdx::new().guest(TdShape::default());
    let fake = match testbed::configfs::FakeConfigfs::new(soft).mount(mounted.path()) {
        Ok(fake) => fake,
        Err(reason) => return println!("{reason}"),
    };
    let path = |name: &str| guest.folder.path().join(name).display().to_string();
    let (area, quote, log, table) = (path("CCEL"), path("quote.bin"), path("log.bin"), path("certs.bin"));
    fs::write(&area, testbed::configfs::ccel(&EventLog::boot())).unwrap();
    let where_from = ["evidence", "--unpinned", "--evidence", "configfs", "--configfs", fake.path().to_str().unwrap()];
    let run = |more: &[&str]| guest.run(&[&where_from, more].concat());
    let output = run(&["--event-log-source", &area, "--report", &quote, "--event-log", &log, "--certificate-table", &table]);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["platform"], &json["evidence"]["type"]), (&"tdx".into(), &"tdx".into()));
    let bound: String = fs::read(&quote).unwrap()[568..632].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(json["report_data"], bound.as_str());
    assert!(fs::read(&area).unwrap().starts_with(&fs::read(&log).unwrap()));
    // What a TD does not have is said, and no file stands for it.
    assert!(text(&output.stderr).contains("no certificate table") && !Path::new(&table).exists());
    fs::remove_file(&log).unwrap();
    let without = run(&["--event-log-source", "none", "--event-log", &log]);
    assert_exit(&without, 0);
    assert!(text(&without.stderr).contains("no event log") && !Path::new(&log).exists());
    assert_exit(&run(&["--event-log-source", "/nonexistent"]), 6);
    assert_exit(&run(&["--event-log-source", "relative"]), 2);
}

#[test]
fn the_agent_command_serves_its_sockets() {
    let guest = guest();
    let mounted = tempfile::tempdir().unwrap();
    let fake = match testbed::configfs::FakeConfigfs::new(Soft::new().0).mount(mounted.path()) {
        Ok(fake) => fake,
        Err(reason) => return println!("{reason}"),
    };
    let socket = guest.folder.path().join("tgi.sock");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_portcullis-guest"))
        .arg("evidence-agent")
        .arg("--socket")
        .arg(format!("workload:tgi={}", socket.display()))
        .args(["--evidence", "configfs", "--configfs"])
        .arg(fake.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !socket.exists() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    let output = guest.run(&["check", "--credential", "openai", "--evidence", &format!("agent:{}", socket.display())]);
    agent.kill().unwrap();
    let log = text(&agent.wait_with_output().unwrap().stderr);
    assert_exit(&output, 0);
    assert_eq!(guest.broker.state().requests[0].role.to_string(), "workload:tgi");
    assert!(log.contains("workload:tgi") && log.contains("pid=") && log.contains("uid=") && log.contains("attested"), "{log}");
    assert_eq!(fake.instances(), Vec::<String>::new());
}

#[test]
fn help_lists_the_exit_codes_and_a_shell_gets_its_completions() {
    let run = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_portcullis-guest")).args(arguments).output().unwrap();
    let help = run(&["--help"]);
    assert_exit(&help, 0);
    for part in ["Exit codes:", "3  denied", "Examples:", "evidence-agent"] {
        assert!(text(&help.stdout).contains(part), "{part}");
    }
    let completions = run(&["completions", "bash"]);
    assert_exit(&completions, 0);
    assert!(text(&completions.stdout).contains("portcullis-guest"));
}
