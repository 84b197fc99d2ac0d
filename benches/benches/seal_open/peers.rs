//! The tools that people would encrypt a model with instead, each as its manual says, file by file, into memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::model::{Model, copy, run};

/// Which tool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Age,
    Rage,
    /// AES-256 in counter mode: encrypts and does not authenticate.
    Openssl,
    /// A FUSE file system with AES-256-GCM: the model is copied out of its mount.
    Gocryptfs,
}

pub const KINDS: [Kind; 4] = [Kind::Age, Kind::Rage, Kind::Openssl, Kind::Gocryptfs];

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Rage => "rage",
            Self::Openssl => "openssl",
            Self::Gocryptfs => "gocryptfs",
        }
    }

    /// Where it is installed.
    pub fn find(self, folder: &Path) -> Option<Peer> {
        let question = if self == Self::Openssl { "version" } else { "--version" };
        let Ok(answer) = Command::new(self.name()).arg(question).output() else {
            println!("skipped: {} is not installed", self.name());
            return None;
        };
        println!("{}: {}", self.name(), String::from_utf8_lossy(&answer.stdout).trim().lines().next().unwrap_or_default());
        let identity = folder.join(format!("{}.key", self.name()));
        let recipient = match self {
            Self::Age | Self::Rage => {
                run(Command::new(format!("{}-keygen", self.name())).arg("-o").arg(&identity).stderr(Stdio::null()));
                let text = fs::read_to_string(&identity).expect("a key");
                text.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a public key").to_owned()
            }
            Self::Openssl | Self::Gocryptfs => {
                fs::write(&identity, "a passphrase").expect("a file");
                String::new()
            }
        };
        Some(Peer { kind: self, folder: folder.join(self.name()), identity, recipient })
    }
}

pub struct Peer {
    kind: Kind,
    folder: PathBuf,
    identity: PathBuf,
    recipient: String,
}

impl Peer {
    /// Encrypts, outside the clock, and decrypts.
    pub fn round(&self, model: &Model, turn: &mut dyn FnMut(String, Duration)) {
        let (encrypted, decrypted) = (self.folder.join("encrypted"), self.folder.join("decrypted"));
        fs::create_dir_all(&encrypted).expect("a folder");
        if self.kind == Kind::Gocryptfs {
            let mount = self.folder.join("mount");
            fs::create_dir_all(&mount).expect("a folder");
            run(self.gocryptfs("-init").arg(&encrypted));
            run(self.gocryptfs("-q").arg(&encrypted).arg(&mount));
            copy(&model.plaintext, &mount.join("model"));
            let start = Instant::now();
            copy(&mount.join("model"), &decrypted);
            turn("gocryptfs, copied out".to_owned(), start.elapsed());
            run(Command::new("fusermount").arg("-u").arg(&mount));
        } else {
            fs::create_dir_all(&decrypted).expect("a folder");
            let files = model.files();
            let name = |file: &PathBuf| file.file_name().expect("a name").to_owned();
            files.iter().for_each(|file| run(&mut self.crypt("-e", file, &encrypted.join(name(file)))));
            let start = Instant::now();
            files.iter().map(name).for_each(|name| run(&mut self.crypt("-d", &encrypted.join(&name), &decrypted.join(&name))));
            let word = if self.kind == Kind::Openssl { "openssl enc" } else { self.kind.name() };
            turn(format!("{word} -d"), start.elapsed());
        }
        fs::remove_dir_all(&self.folder).expect("the folder");
    }

    fn crypt(&self, direction: &str, from: &Path, to: &Path) -> Command {
        let mut command = Command::new(self.kind.name());
        match (self.kind, direction) {
            (Kind::Openssl, _) => {
                let pass = format!("file:{}", self.identity.display());
                command.args(["enc", direction, "-aes-256-ctr", "-pbkdf2", "-iter", "10000", "-pass", &pass, "-in"]);
                command.arg(from).arg("-out").arg(to);
            }
            (_, "-e") => {
                command.args(["-e", "-r", &self.recipient, "-o"]).arg(to).arg(from);
            }
            _ => {
                command.arg("-d").arg("-i").arg(&self.identity).arg("-o").arg(to).arg(from);
            }
        }
        command
    }

    fn gocryptfs(&self, first: &str) -> Command {
        let mut command = Command::new("gocryptfs");
        command.arg(first).arg("-passfile").arg(&self.identity).stdout(Stdio::null());
        command
    }
}
