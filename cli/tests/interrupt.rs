//! The binary itself: Ctrl-C while it seals leaves nothing.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::documents::{CertificateBody, CertifiedKey};
use protocol::dsse::SignedDocument;
use protocol::hpke::RecipientSecret;
use protocol::ids::AnchorClass;
use protocol::keyfile::{KeyFile, Unlock};
use protocol::keys::SigningKey;
use protocol::messages::InstallationAnswer;
use protocol::time::UnixTime;

fn portcullis(folder: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).args(words.split_whitespace()).stdin(Stdio::null());
    command
}

/// Keys, an installation's certificates, and a model that takes a while: one sparse file.
fn prepare(folder: &Path) {
    for kind in ["root", "publisher", "authority"] {
        let made = portcullis(folder, &format!("keygen --kind {kind} --out {kind}")).output().unwrap();
        assert!(made.status.success());
    }
    let file = KeyFile::parse(&fs::read(folder.join("root.key")).unwrap()).unwrap();
    let root = SigningKey::from_seed(&file.open("root", &Unlock::Nothing).unwrap()).unwrap();
    let now = UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let body = CertificateBody {
        installation: *root.public(),
        name: "acme".parse().unwrap(),
        anchors: AnchorClass::Test,
        certified: CertifiedKey::Sealing(RecipientSecret::from_seed(&[3; 32]).unwrap().public().clone()),
        not_before: now,
        not_after: now.plus(Duration::from_secs(3600)),
    };
    let answer = InstallationAnswer { root: *root.public(), certificates: vec![SignedDocument::sign(&body, &root).unwrap()] };
    fs::write(folder.join("installation.json"), serde_json::to_vec(&answer).unwrap()).unwrap();
    fs::create_dir(folder.join("model")).unwrap();
    File::create(folder.join("model/weights.dat")).unwrap().set_len(1 << 40).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_interrupted_seal_leaves_neither_folder_nor_record() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let before = names(folder.path());
    let seal = "seal model --model llama --version 1 --out sealed --publisher-key publisher.key --policy p --authority authority.pub \
                --installation installation.json --root root.pub --json";
    for signal in ["INT", "TERM"] {
        let mut child = portcullis(folder.path(), seal).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let event: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["event"], "sealing");
        assert_ne!(names(folder.path()), before, "it works somewhere");
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        // Read to the end, so that the child never waits for us.
        assert!(lines.all(|line| line.is_ok()));
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130));
        assert!(String::from_utf8(ended.stderr).unwrap().ends_with("error: interrupted; nothing is left behind\n"));
        assert_eq!(names(folder.path()), before);
    }
}
