//! One installation for one test: real processes in a folder of their own, gone when the test ends.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use portcullis_tests::arguments;
use portcullis_tests::installation::{Installation, MODEL};
use portcullis_tests::machine::{SoftMachine, Tee};
use portcullis_tests::memory::{Kind, Room};
use portcullis_tests::policy;
use portcullis_tests::programs::{Ended, Programs, Server};
use protocol::admin::{CheckVerdict, Ending};
use serde_json::Value;
use tempfile::TempDir;
use testbed::model::{self, Extras, ModelFile, ModelShape};

/// The one executable that is all programs.
pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_portcullis-demo");

/// The socket of the agent on [`Tee::genuine`].
pub const GENUINE: &str = "genuine.sock";

/// What every test begins with; dropped from top to bottom.
pub struct World {
    /// Keys, a running broker, `guest.toml`, a policy that accepts the genuine guest.
    pub installation: Installation,
    /// The evidence agent on the genuine machine.
    pub agent: Server,
    /// Where plaintext goes.
    pub room: Room,
    _folder: TempDir,
}

impl World {
    /// A fresh one for SEV-SNP.
    pub fn new() -> Self {
        Self::of(Tee::Snp)
    }

    /// A fresh one for guests of this kind.
    pub fn of(tee: Tee) -> Self {
        Self::made(tee, |programs| Installation::ready(programs, tee).unwrap())
    }

    /// A fresh one for guests of this kind with a small model, whose broker starts with these files as its collateral.
    pub fn with_collateral(tee: Tee, files: Vec<(&'static str, Vec<u8>)>) -> Self {
        let world = Self::made(tee, |programs| Installation::ready_with_collateral(programs, tee, files).unwrap());
        world.publish(MODEL, 1, "sealed", 1);
        world
    }

    fn made(tee: Tee, installation: impl FnOnce(Programs) -> Installation) -> Self {
        let folder = tempfile::Builder::new().prefix("portcullis-test-").tempdir().unwrap();
        let programs = Programs::new(EXECUTABLE, folder.path());
        let room = Room::find(64 << 20).unwrap();
        let installation = installation(programs);
        if room.kind() == Kind::Disk {
            println!("no memory file system here: plaintext goes to disk, by configuration");
            installation.write_guest("guest.toml", plaintext(&room)).unwrap();
            let digest = installation.config_digest("guest.toml").unwrap();
            installation.put_policy_text(2, &policy::accepting(tee, &[&digest])).unwrap();
        }
        let agent = tee.genuine().start_agent(installation.programs(), GENUINE).unwrap();
        Self { installation, agent, room, _folder: folder }
    }

    /// The same with a small model, sealed to `sealed` and published as version 1 of [`MODEL`].
    pub fn with_model() -> Self {
        Self::with_model_of(Tee::Snp)
    }

    /// The same for guests of this kind.
    pub fn with_model_of(tee: Tee) -> Self {
        let world = Self::of(tee);
        world.publish(MODEL, 1, "sealed", 1);
        world
    }

    /// Makes a model from `seed`, seals it to `out` and publishes it.
    pub fn publish(&self, name: &str, version: u32, out: &str, seed: u64) -> Vec<ModelFile> {
        let source = self.installation.path(&format!("{out}.plain"));
        let mut files = model::write(&source, &ModelShape { seed, shard_bytes: 300_000, extras: Extras::Nested }).unwrap();
        // A sealed folder has no names outside ASCII.
        for file in files.extract_if(.., |file| !file.path.is_ascii()) {
            fs::remove_file(source.join(file.path)).unwrap();
        }
        self.installation.seal(&source, name, version, out).unwrap();
        self.installation.publish(&format!("{out}.record.json")).unwrap();
        files
    }

    /// Rewrites `guest.toml` for the broker that runs now.
    pub fn follow_broker(&self) {
        self.installation.write_guest("guest.toml", plaintext(&self.room)).unwrap();
    }

    /// Lets every user into the folder, and to the evidence agent on the genuine machine.
    pub fn open_to_all(&self) {
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        open(self.installation.programs().folder(), 0o755);
        open(&self.installation.path(GENUINE), 0o666);
    }

    /// The programs' executable, in the world's folder: another user may be kept out of where it was built.
    pub fn executable(&self) -> PathBuf {
        let path = self.installation.path("portcullis-demo");
        if !path.exists() && fs::hard_link(EXECUTABLE, &path).is_err() {
            fs::copy(EXECUTABLE, &path).unwrap();
        }
        path
    }

    /// Where a test writes plaintext.
    pub fn to(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// The genuine guest asks for [`MODEL`], with nothing released.
    pub fn check(&self) -> Ended {
        self.check_as("guest.toml", GENUINE, MODEL)
    }

    /// A guest asks for a model, with nothing released.
    pub fn check_as(&self, config: &str, socket: &str, model: &str) -> Ended {
        let how = arguments!["check", "--config", config, "--evidence", format!("agent:{socket}"), "--json", "--retry-for", "0"];
        self.installation.guest(how.into_iter().chain(arguments!["--model", model])).unwrap()
    }

    /// A guest on another machine asks for [`MODEL`].
    pub fn check_on(&self, machine: &dyn SoftMachine) -> Ended {
        let socket = "other.sock";
        let _agent = machine.start_agent(self.installation.programs(), socket).unwrap();
        self.check_as("guest.toml", socket, MODEL)
    }

    /// The codes of the checks that failed, as `portcullis explain` shows them to the operator.
    pub fn failed_checks(&self, denied: &Ended) -> Vec<String> {
        let decision = text(denied, "/decision");
        match self.installation.explain(&decision).unwrap().ending {
            Ending::Decided { items, .. } => {
                let failed = items.into_iter().flat_map(|item| item.checks).filter(|check| check.verdict == CheckVerdict::Failed);
                failed.map(|check| check.code).collect()
            }
            Ending::Rejected { code, .. } => panic!("rejected by {code}"),
        }
    }
}

/// The user that a container's processes run as.
pub const CONTAINER_USER: u32 = 10_001;

/// What starts a program as a container's first process: a mount and a PID namespace of its own, another user, no capabilities,
/// `no_new_privs`. `None`, and one line, where this machine has not what that takes.
pub fn container() -> Option<Vec<String>> {
    let user = CONTAINER_USER;
    let words = format!(
        "unshare --mount --propagation slave --pid --fork --kill-child=SIGKILL --mount-proc \
         setpriv --reuid={user} --regid={user} --clear-groups --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs"
    );
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let tried = std::process::Command::new(&words[0]).args(&words[1..]).arg("true").output();
    if tried.is_ok_and(|output| output.status.success()) {
        return Some(words);
    }
    println!("skipped: no namespaces for a container here, so the program runs as the test does");
    None
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

/// The line of a guest's configuration where there is no memory to write to.
pub fn plaintext(room: &Room) -> &'static str {
    match room.kind() {
        Kind::Memory => "",
        Kind::Disk => "plaintext = \"disk\"\n",
    }
}

/// A text in what a program printed as JSON.
pub fn text(ended: &Ended, pointer: &str) -> String {
    let json = ended.json().unwrap();
    json.pointer(pointer).and_then(Value::as_str).map(str::to_owned).unwrap_or_else(|| panic!("no {pointer} in {json}"))
}

/// That a program ended like this, with its whole output where it did not.
pub fn assert_exit(ended: &Ended, code: i32) {
    assert_eq!(ended.code, code, "{}\n{}{}", ended.line, ended.stdout, ended.stderr);
}
