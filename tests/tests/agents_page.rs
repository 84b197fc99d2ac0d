//! docs/agents.md, step by step: what is printed there is done as it is printed, by a shell, and what it says happens.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_tests::memory::{Kind, Room};
use portcullis_tests::programs::Part;
use rustix::process::{Pid, Signal, kill_process_group};

const DEMO: &str = env!("CARGO_BIN_EXE_portcullis-demo");
/// How long all of it may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(240);

/// The shell's lines below a heading.
fn commands(page: &str, heading: &str) -> String {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.collect()
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// The programs under their own names, and `cargo demo` as what it starts.
fn programs(folder: &Path) {
    for part in [Part::Broker, Part::Guest, Part::Command] {
        symlink(DEMO, folder.join(part.program())).unwrap();
    }
    let cargo = folder.join("cargo");
    fs::write(&cargo, format!("#!/bin/sh\nshift 2\nexec '{DEMO}' \"$@\"\n")).unwrap();
    fs::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// A shell and all that it started, ended with it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn what_the_page_prints_does_what_the_page_says() {
    let room = Room::find(1 << 20).unwrap();
    if room.kind() == Kind::Disk {
        println!("skipped: no memory file system for tokens");
        return;
    }
    let folder = tempfile::Builder::new().prefix("portcullis-page-").tempdir().unwrap();
    let (bin, temporary) = (folder.path().join("bin"), folder.path().join("temporary"));
    for folder in [&bin, &temporary] {
        fs::create_dir(folder).unwrap();
    }
    programs(&bin);
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/agents.md")).unwrap();
    let port = free_port();
    let script = commands(&page, "## Step by step")
        .replace("/dev/shm", room.path().to_str().unwrap())
        .replace("127.0.0.1:8443", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:9901", "127.0.0.1:0")
        // The configuration that `init` writes names that port too.
        .replace("\nportcullis-broker serve", &format!("\nsed -i s/8443/{port}/ broker/broker.toml\nportcullis-broker serve"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", &script])
        .env("PATH", path)
        .env("TMPDIR", &temporary)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PORTCULLIS_")) {
        shell.env_remove(name);
    }
    let (out, log) = (folder.path().join("out"), folder.path().join("log"));
    let shell = shell.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut running = Group(shell);
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match running.0.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > until => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let said = read(&out);
    let place = fs::read_dir(&temporary).unwrap().next().unwrap().unwrap().path();
    let logs: String =
        ["broker.log", "sidecar.log", "exec.log", "agent.log"].map(|name| format!("{name}:\n{}", read(&place.join(name)))).concat();
    let everything = format!("{said}{}\n{logs}", read(&log));
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{everything}");
    let mut rest = said.as_str();
    for part in [
        "spiffe://acme.example/agents/research",
        "I use the key sk-acme-first",
        "I use the key sk-acme-second",
        "exec ended with exit code 3",
    ] {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} behind what came before in:\n{everything}")).1;
    }
    assert!(!logs.split("agent.log:").next().unwrap().contains("sk-acme"), "a key is in a log of ours");
    let memory = fs::read_dir(room.path()).unwrap().next().unwrap().unwrap().path();
    assert!(!memory.join("token").exists());
}
