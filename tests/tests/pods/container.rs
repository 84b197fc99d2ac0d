//! Containers: processes in mount and PID namespaces of their own, with as little privilege as a pod would leave them. What sets them
//! up is `unshare` and `setpriv` of util-linux and a shell, as a runtime would.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_tests::programs::Ended;
use testbed::model::ModelFile;

use crate::world::World;

/// The user of a container that is not root.
pub const USER: u32 = 1000;
/// How long anything may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether this machine has what containers are made of; says so where it has not.
pub fn can_contain() -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: containers are set up by root");
        return false;
    }
    let runs = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    for program in ["unshare", "setpriv"] {
        if !runs(program) {
            println!("skipped: no {program} (util-linux)");
            return false;
        }
    }
    use std::os::unix::fs::FileTypeExt;
    if !fs::metadata("/dev/fuse").is_ok_and(|device| device.file_type().is_char_device()) {
        println!("skipped: no /dev/fuse");
        return false;
    }
    true
}

/// What a container's processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Root with all capabilities: `privileged: true`.
    All,
    /// Root of a user namespace of the container's own, without capabilities in it, `no_new_privs`.
    UserNamespace,
    /// Another user, without capabilities, `no_new_privs`.
    None,
}

/// How mounts pass between the container and the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the node to the container: `HostToContainer`.
    Slave,
    /// Both ways: `Bidirectional`.
    Shared,
}

/// A container to be.
#[derive(Clone, Debug)]
pub struct Container {
    privilege: Privilege,
    propagation: Propagation,
    setup: String,
    cgroup: Option<PathBuf>,
}

impl Container {
    pub fn new(privilege: Privilege, propagation: Propagation) -> Self {
        Self { privilege, propagation, setup: String::new(), cgroup: None }
    }

    /// A command of the runtime, as root in the container's namespaces, before its processes start.
    pub fn setup(mut self, command: &str) -> Self {
        writeln!(self.setup, "{command}").unwrap();
        self
    }

    /// With a tmpfs at `path`, as an `emptyDir` of medium `Memory`, for everybody.
    pub fn with_tmpfs(self, path: &Path, options: &str) -> Self {
        self.setup(&format!("mkdir -p {0} && mount -t tmpfs -o mode=1777{options} portcullis-test {0}", path.display()))
    }

    /// With `/dev/fuse` for everybody, as device plugins give it; `scratch` is an empty folder.
    pub fn with_fuse(self, scratch: &Path) -> Self {
        let at = scratch.display();
        self.setup(&format!("mkdir -p {at} && mount -t tmpfs -o mode=755 portcullis-test {at}"))
            .setup(&format!("mknod -m 666 {at}/fuse c 10 229 && mount --bind {at}/fuse /dev/fuse"))
    }

    /// Its processes in this cgroup.
    pub fn within(self, cgroup: &Path) -> Self {
        Self { cgroup: Some(cgroup.to_owned()), ..self }
    }

    /// A program in it.
    pub fn command(&self, world: &World, program: &[&str]) -> Command {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child=SIGKILL"]);
        unshare.args(match self.propagation {
            Propagation::Private => ["--propagation", "private"],
            Propagation::Slave => ["--propagation", "slave"],
            Propagation::Shared => ["--propagation", "unchanged"],
        });
        let strip = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"];
        let mut line = vec!["exec".to_owned()];
        match self.privilege {
            Privilege::All => {}
            Privilege::UserNamespace => {
                line.extend(["unshare", "--user", "--map-root-user", "--mount", "--propagation", "slave", "setpriv"].map(str::to_owned));
                line.extend(strip.map(str::to_owned));
            }
            Privilege::None => {
                line.extend(["setpriv".to_owned(), format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".to_owned()]);
                line.extend(strip.map(str::to_owned));
            }
        }
        line.push("\"$@\"".to_owned());
        let join = self.cgroup.as_ref().map(|cgroup| format!("echo $$ > {}/cgroup.procs\n", cgroup.display())).unwrap_or_default();
        unshare.args(["sh", "-ec", &format!("{join}{}{}", self.setup, line.join(" ")), "container"]).args(program);
        unshare.current_dir(world.installation.programs().folder());
        unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        unshare.env("TERMINATION_LOG", "/dev/null");
        unshare
    }

    /// A program in it, to its end.
    pub fn run(&self, world: &World, program: &[&str]) -> Ended {
        ended(self.start(world, program))
    }

    /// A program in it, started.
    pub fn start(&self, world: &World, program: &[&str]) -> Running {
        Running(self.command(world, program).spawn().unwrap())
    }
}

/// A container that runs; dropping it kills it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a container's end, and gives what it said.
pub fn ended(mut running: Running) -> Ended {
    use std::io::Read;
    let mut streams = [None, None];
    let (stdout, stderr) = (running.0.stdout.take().unwrap(), running.0.stderr.take().unwrap());
    let readers: [Box<dyn Read + Send>; 2] = [Box::new(stdout), Box::new(stderr)];
    let threads = readers.map(|mut reader| {
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = reader.read_to_string(&mut text);
            text
        })
    });
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            let _ = running.0.kill();
            panic!("a container does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    for (stream, thread) in streams.iter_mut().zip(threads) {
        *stream = Some(thread.join().unwrap());
    }
    let [stdout, stderr] = streams.map(Option::unwrap_or_default);
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ended { line: "a container".to_owned(), code, stdout, stderr }
}

/// The arguments of a guest command, the program first.
pub fn guest(world: &World, words: &str) -> Vec<String> {
    let mut arguments = vec![world.executable().to_str().unwrap().to_owned(), "--as".to_owned(), "portcullis-guest".to_owned()];
    arguments.extend(words.split(' ').map(str::to_owned));
    arguments
}

/// What says who an engine is, and what it sees in the folder `at`, which it waits for.
pub fn engine(at: &Path) -> String {
    format!(
        "until [ -e {0}/config.json ]; do sleep 0.02; done; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; \
         cd {0} && find . -type f -exec sha256sum '{{}}' +",
        at.display()
    )
}

/// That an engine has no privilege, and that it sees exactly these files.
pub fn assert_served(ended: &Ended, files: &[ModelFile]) {
    let output = format!("exit code {}\n{}{}", ended.code, ended.stdout, ended.stderr);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(ended.stdout.contains(&format!("{set}:\t0000000000000000\n")), "{set} in {output}");
    }
    assert!(ended.stdout.contains("NoNewPrivs:\t1\n"), "{output}");
    let mut seen: Vec<String> = ended.stdout.lines().filter(|line| line.contains("  ./")).map(str::to_owned).collect();
    let hex = |file: &ModelFile| file.sha256.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut expected: Vec<String> = files.iter().map(|file| format!("{}  ./{}", hex(file), file.path)).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected, "{output}");
}
