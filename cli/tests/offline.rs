//! Keys, certificates, sealing and inspecting, without a broker.

mod offline_models;
mod terminal;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cli::Exit;
use models_manifest::folder::{OpenFolder, Opening};
use models_manifest::{Backend, ModelKey, Silent, open_folder};
use protocol::documents::{Certificate, CertificateBody, CertifiedKey, StatementBody};
use protocol::dsse::SignedDocument;
use protocol::envelope::{self, RecordFile};
use protocol::hpke::RecipientSecret;
use protocol::ids::AnchorClass;
use protocol::keyfile::{KeyFile, Unlock};
use protocol::keys::{PublicKey, SigningKey};
use protocol::messages::InstallationAnswer;
use protocol::time::UnixTime;
use tempfile::TempDir;
use terminal::{Ran, portcullis};
use testbed::model::{Extras, ModelShape};
use zeroize::Zeroizing;

/// A folder to work in; words that begin with `./` are paths in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, words: &str) -> Ran {
        let root = self.0.path().display().to_string();
        portcullis(words.split_whitespace().map(|word| word.replace("./", &format!("{root}/"))))
    }

    /// The names of everything here.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn key(&self, name: &str, kind: &str) -> SigningKey {
        let file = KeyFile::parse(self.text(name).as_bytes()).unwrap();
        SigningKey::from_seed(&file.open(kind, &Unlock::Nothing).unwrap()).unwrap()
    }
}

fn now() -> UnixTime {
    UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

const CLEAR: &str = "hint: protect it with --passphrase or --key-file, or keep it where nobody else reads\n";

#[test]
fn keygen_writes_a_pair_and_prints_the_public_half() {
    let desk = Desk::new();
    for (kind, prefix) in
        [("root", "ed25519:"), ("publisher", "ed25519:"), ("authority", "ed25519:"), ("sealing", "x-wing:"), ("recovery", "x-wing:")]
    {
        let ran = desk.run(&format!("keygen --kind {kind} --out ./{kind}")).done();
        assert!(ran.out.starts_with(prefix), "{}", ran.out);
        assert_eq!(ran.out, desk.text(&format!("{kind}.pub")));
        assert_eq!(ran.err, format!("warning: {} lies in the clear\n{CLEAR}", desk.path(&format!("{kind}.key")).display()));
        assert_eq!(desk.path(&format!("{kind}.key")).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let inspected = desk.run(&format!("inspect ./{kind}.key --json")).done().json();
        assert_eq!(inspected["key_kind"], kind);
    }
    assert_eq!(desk.key("root.key", "root").public().to_string() + "\n", desk.text("root.pub"));
    let secret = KeyFile::parse(desk.text("recovery.key").as_bytes()).unwrap().open("recovery", &Unlock::Nothing).unwrap();
    let public = protocol::encoding::to_base64(RecipientSecret::from_seed(&secret).unwrap().public().as_bytes());
    assert_eq!(desk.text("recovery.pub"), format!("x-wing:{public}\n"));
}

#[test]
fn a_challenge_secret_has_no_public_half() {
    let desk = Desk::new();
    assert_eq!(desk.run("keygen --kind challenge --out ./challenge").done().out, "");
    assert_eq!(desk.names(), ["challenge.key"]);
}

#[test]
fn keygen_never_writes_over_a_key() {
    let desk = Desk::new();
    desk.write("one.pub", "kept");
    let err =
        format!("error: {} exists already\nhint: choose another name, or move the existing file away\n", desk.path("one.pub").display());
    desk.run("keygen --kind root --out ./one").refused(Exit::Usage, &err);
    assert_eq!(desk.names(), ["one.pub"]);
}

#[test]
fn keys_are_protected_by_passphrase_or_file_and_open_by_nothing_else() {
    let desk = Desk::new();
    desk.write("pass", "correct horse\nsecond line\n");
    desk.write("unlock", [7; 32]);
    desk.write("short", [7; 31]);
    assert_eq!(desk.run("keygen --kind root --out ./phrase --passphrase-file ./pass").done().err, "");
    assert_eq!(desk.run("keygen --kind root --out ./file --key-file ./unlock").done().err, "");
    let phrase = KeyFile::parse(desk.text("phrase.key").as_bytes()).unwrap();
    assert!(phrase.open("root", &Unlock::Passphrase(Zeroizing::new("correct horse".to_owned()))).is_ok());
    assert!(phrase.open("root", &Unlock::Nothing).is_err());
    let file = KeyFile::parse(desk.text("file.key").as_bytes()).unwrap();
    assert!(file.open("root", &Unlock::KeyFile(Zeroizing::new(vec![7; 32]))).is_ok());
    let err = "error: the protecting key file has 31 bytes, expected at least 32\nhint: make one with: head -c 32 /dev/urandom > FILE\n";
    desk.run("keygen --kind root --out ./weak --key-file ./short").refused(Exit::Usage, err);
    desk.write("blank", "\n");
    desk.run("keygen --kind root --out ./weak --passphrase-file ./blank").refused(Exit::Usage, "error: the passphrase is empty\n");
    assert!(!desk.path("weak.key").exists());
    assert_eq!(desk.run("keygen --kind root --out ./both --passphrase --key-file ./unlock").exit, Exit::Usage);
    let inspected = desk.run("inspect ./file.key").done().out;
    assert!(inspected.ends_with("unlocked by  a key file\n"), "{inspected}");
}

/// An installation: root and broker keys, and the certificates as the broker shows them.
struct Installation {
    desk: Desk,
    sealing: RecipientSecret,
}

fn requests(root: PublicKey, sealing: &RecipientSecret) -> Vec<CertificateBody> {
    let identity = SigningKey::from_seed(&[9; 32]).unwrap();
    let request = |certified| CertificateBody {
        installation: root,
        name: "acme".parse().unwrap(),
        anchors: AnchorClass::Test,
        certified,
        not_before: UnixTime::from_seconds(now().seconds() - 60),
        not_after: now().plus(Duration::from_secs(86_400)),
    };
    vec![
        request(CertifiedKey::Identity(*identity.public())),
        request(CertifiedKey::Log(*identity.public())),
        request(CertifiedKey::Sealing(sealing.public().clone())),
    ]
}

impl Installation {
    fn new() -> Self {
        let desk = Desk::new();
        let sealing = RecipientSecret::generate().unwrap();
        for kind in ["root", "publisher", "authority", "recovery"] {
            desk.run(&format!("keygen --kind {kind} --out ./{kind}")).done();
        }
        let root = *desk.key("root.key", "root").public();
        desk.write("requests.json", serde_json::to_vec(&requests(root, &sealing)).unwrap());
        let ran = desk.run("certify --root-key ./root.key --requests ./requests.json --out ./certificates.json").done();
        assert!(ran.out.contains("acme") && ran.out.contains("x-wing key "), "{}", ran.out);
        assert!(ran.err.starts_with("warning: TEST ROOTS"), "{}", ran.err);
        let installation = Self { desk, sealing };
        installation.show(root);
        installation
    }

    /// Writes the file that stands for what the broker answers.
    fn show(&self, root: PublicKey) {
        let certificates: Vec<SignedDocument> = serde_json::from_str(&self.desk.text("certificates.json")).unwrap();
        let answer = InstallationAnswer { root, certificates };
        self.desk.write("installation.json", serde_json::to_vec(&answer).unwrap());
    }

    fn root(&self) -> PublicKey {
        self.desk.text("root.pub").trim().parse().unwrap()
    }

    fn seal(&self, more: &str) -> Ran {
        self.desk.run(&format!(
            "seal ./model --model acme/llama --version 3 --out ./sealed --publisher-key ./publisher.key --policy inference \
             --authority ./authority.pub --installation ./installation.json --root ./root.pub --recovery ./recovery.pub {more}"
        ))
    }

    fn model(&self) -> Vec<testbed::model::ModelFile> {
        testbed::model::write(&self.desk.path("model"), &ModelShape { shard_bytes: 2_500_000, extras: Extras::None, seed: 3 }).unwrap()
    }

    fn record(&self, name: &str) -> RecordFile {
        serde_json::from_str(&self.desk.text(name)).unwrap()
    }

    fn secret(&self, name: &str, key: &RecipientSecret) -> Zeroizing<Vec<u8>> {
        let record = self.record(name);
        let publisher = *self.desk.key("publisher.key", "publisher").public();
        envelope::unwrap(&record.envelope, &record.statement.authenticate::<StatementBody>(&[publisher]).unwrap(), key).unwrap()
    }
}

#[test]
fn certify_signs_what_it_shows_for_its_own_root_only() {
    let installation = Installation::new();
    let certificates: Vec<SignedDocument> = serde_json::from_str(&installation.desk.text("certificates.json")).unwrap();
    assert_eq!(certificates.len(), 3);
    for certificate in &certificates {
        Certificate::verify(certificate, &installation.root(), now()).unwrap();
    }
    let stranger = PublicKey::from_bytes([5; 32]);
    installation.desk.write("stray.json", serde_json::to_vec(&requests(stranger, &installation.sealing)).unwrap());
    let ran = installation.desk.run("certify --root-key ./root.key --requests ./stray.json --out ./stray.out");
    let expected = format!(
        "error: the identity key is requested for installation {stranger}, this root is {}\n\
         hint: initialise the broker with this root's public key, or use the other root's secret key\n",
        installation.root()
    );
    ran.refused(Exit::Failed, &expected);
    assert!(!installation.desk.path("stray.out").exists());
}

#[test]
fn certify_refuses_what_is_no_request_and_other_keys_than_a_root() {
    let installation = Installation::new();
    let desk = &installation.desk;
    desk.write("none.json", "[]");
    let err = format!(
        "error: {} holds no certificate requests: the list is empty\nhint: give the file that `portcullis-broker init` wrote\n",
        desk.path("none.json").display()
    );
    desk.run("certify --root-key ./root.key --requests ./none.json --out ./out").refused(Exit::Usage, &err);
    let mut mixed = requests(installation.root(), &installation.sealing);
    mixed[1].anchors = AnchorClass::Vendor;
    desk.write("mixed.json", serde_json::to_vec(&mixed).unwrap());
    let ran = desk.run("certify --root-key ./root.key --requests ./mixed.json --out ./out");
    ran.refused(Exit::Failed, "error: the requests do not agree on the installation's anchor class\n");
    let err = format!(
        "error: {}: expected a key of kind root, found one of kind publisher\nhint: each kind of key has its own file; `portcullis keygen --help` lists them\n",
        desk.path("publisher.key").display()
    );
    desk.run("certify --root-key ./publisher.key --requests ./requests.json --out ./out").refused(Exit::Usage, &err);
    assert!(!desk.path("out").exists());
}

#[test]
fn days_replace_the_requested_window() {
    let installation = Installation::new();
    installation.desk.run("certify --root-key ./root.key --requests ./requests.json --out ./ten.json --days 10").done();
    let certificates: Vec<SignedDocument> = serde_json::from_str(&installation.desk.text("ten.json")).unwrap();
    let certificate = Certificate::verify(&certificates[0], &installation.root(), now()).unwrap();
    assert_eq!(certificate.body().not_after.since(certificate.body().not_before), Duration::from_secs(864_000));
    assert_eq!(installation.desk.run("certify --root-key ./root.key --requests ./requests.json --out ./x --days 0").exit, Exit::Usage);
}

#[test]
fn what_seal_makes_opens_with_the_brokers_key_and_with_the_recovery_key() {
    let installation = Installation::new();
    let files = installation.model();
    let ran = installation.seal("").done();
    assert!(ran.out.contains("acme/llama version 3"), "{}", ran.out);
    let recovery = KeyFile::parse(installation.desk.text("recovery.key").as_bytes()).unwrap().open("recovery", &Unlock::Nothing).unwrap();
    let recovery = RecipientSecret::from_seed(&recovery).unwrap();
    let secret = installation.secret("sealed.record.json", &installation.sealing);
    assert_eq!(*secret, *installation.secret("sealed.record.json", &recovery));

    let publisher = *installation.desk.key("publisher.key", "publisher").public();
    let statement = installation.record("sealed.record.json").statement.authenticate::<StatementBody>(&[publisher]).unwrap();
    let body = statement.body();
    assert_eq!((body.installation, body.anchors), (installation.root(), AnchorClass::Test));
    assert_eq!((body.name.as_str(), body.version.number(), body.policy.as_str()), ("acme/llama", 3, "inference"));
    let sealed = installation.desk.path("sealed");
    let order = OpenFolder { sealed: &sealed, publishers: &[publisher], released: &body.manifest.unwrap(), backend: Backend::default() };
    open_folder(order, ModelKey::from_secret(secret).unwrap(), Opening::to(&installation.desk.path("opened")), &mut Silent).unwrap();
    assert_eq!(testbed::model::read(&installation.desk.path("opened")).unwrap(), files);
}

#[test]
fn seal_speaks_json_where_asked() {
    let installation = Installation::new();
    installation.model();
    let ran = installation.seal("--json").done();
    let events: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.first().unwrap()["event"], "sealing");
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["name"].as_str()), (Some("sealed"), Some("acme/llama")));
    assert_eq!(last["record"].as_str(), installation.desk.path("sealed.record.json").to_str());
}

#[test]
fn a_failed_seal_leaves_nothing() {
    let installation = Installation::new();
    installation.model();
    std::os::unix::fs::symlink("config.json", installation.desk.path("model/link.json")).unwrap();
    let before = installation.desk.names();
    let ran = installation.seal("");
    assert_eq!(ran.exit, Exit::Failed);
    assert!(
        ran.err.ends_with("is a symbolic link; a model consists of files\nhint: copy the folder with links followed: cp -rL FROM TO\n"),
        "{}",
        ran.err
    );
    std::fs::remove_file(installation.desk.path("model/link.json")).unwrap();
    // The record cannot be written: its folder is not there.
    let ran = installation.seal("--record ./nowhere/record.json");
    assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
    assert_eq!(installation.desk.names(), before);
    installation.seal("").done();
}

#[test]
fn seal_refuses_what_would_be_written_over_or_among_the_sealed_files() {
    let installation = Installation::new();
    installation.model();
    let ran = installation.seal("--record ./sealed/record.json");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("the record would lie inside the sealed folder"), "{}", ran.err);
    installation.desk.write("sealed.record.json", "kept");
    assert_eq!(installation.seal("").exit, Exit::Usage);
    assert_eq!(installation.desk.text("sealed.record.json"), "kept");
    assert!(!installation.desk.path("sealed").exists());
}

#[test]
fn seal_trusts_the_pinned_root_and_no_other() {
    let installation = Installation::new();
    installation.model();
    let certificates = installation.desk.text("certificates.json");
    installation.desk.run("keygen --kind root --out ./other").done();
    let ran = installation.desk.run(
        "seal ./model --model llama --version 1 --out ./sealed --publisher-key ./publisher.key --policy p --authority ./authority.pub \
         --installation ./installation.json --root ./other.pub",
    );
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.starts_with("error: the pinned root has certified no sealing key for now: "), "{}", ran.err);
    // Without the sealing certificate there is nobody to seal to.
    let mut few: Vec<SignedDocument> = serde_json::from_str(&certificates).unwrap();
    few.pop();
    installation
        .desk
        .write("installation.json", serde_json::to_vec(&InstallationAnswer { root: installation.root(), certificates: few }).unwrap());
    installation.seal("").refused(Exit::Failed, "error: the installation has no certified sealing key\n");
    assert!(!installation.desk.path("sealed").exists());
}

#[test]
fn an_expired_sealing_certificate_is_refused() {
    let installation = Installation::new();
    installation.model();
    let mut requests = requests(installation.root(), &installation.sealing);
    requests[2].not_after = UnixTime::from_seconds(now().seconds() - 1);
    installation.desk.write("requests.json", serde_json::to_vec(&requests).unwrap());
    std::fs::remove_file(installation.desk.path("certificates.json")).unwrap();
    installation.desk.run("certify --root-key ./root.key --requests ./requests.json --out ./certificates.json").done();
    installation.show(installation.root());
    let ran = installation.seal("");
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("the certificate holds from"), "{}", ran.err);
    assert!(
        ran.err.ends_with("hint: the operator renews certificates with `portcullis certify`; check this machine's clock too\n"),
        "{}",
        ran.err
    );
}

#[test]
fn a_recipient_stands_once_and_keys_are_keys() {
    let installation = Installation::new();
    installation.model();
    let ran = installation.seal("--recovery ./recovery.pub");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("is named twice"), "{}", ran.err);
    let ran = installation.seal("--recovery ./root.pub");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("not a recipient key: expected x-wing: and 1216 bytes of base64"), "{}", ran.err);
}

#[test]
fn a_credential_is_sealed_byte_for_byte() {
    let installation = Installation::new();
    let seal = "credential seal openai/prod --version 1 --publisher-key ./publisher.key --policy agents --authority ./authority.pub \
                --installation ./installation.json --root ./root.pub";
    installation.desk.write("secret", "sk-very-secret\n");
    let ran = installation.desk.run(&format!("{seal} --secret-file ./secret --record ./openai.json")).done();
    assert!(ran.out.contains("openai/prod version 1"), "{}", ran.out);
    assert_eq!(installation.secret("openai.json", &installation.sealing).as_slice(), b"sk-very-secret\n");
    assert!(!installation.desk.text("openai.json").contains("sk-very-secret"));
    installation.desk.write("empty", "");
    let ran = installation.desk.run(&format!("{seal} --secret-file ./empty --record ./empty.json"));
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.ends_with("error: the secret has 0 bytes, expected 1 to 32768\n"), "{}", ran.err);
    installation.desk.write("large", vec![0; 32_769]);
    assert_eq!(installation.desk.run(&format!("{seal} --secret-file ./large --record ./large.json")).exit, Exit::Usage);
    assert!(!installation.desk.path("empty.json").exists() && !installation.desk.path("large.json").exists());
}

#[test]
fn a_credential_is_bytes_or_a_file_or_variables_and_may_have_an_end() {
    use protocol::credential::{Content, CredentialBody};

    let installation = Installation::new();
    let seal = "credential seal openai/prod --version 1 --publisher-key ./publisher.key --policy agents --authority ./authority.pub \
                --installation ./installation.json --root ./root.pub";
    installation.desk.write("secret", "{}");
    installation.desk.write("env", "B='two'\nexport A=one\n");
    let body = |record: &str, how: &str| {
        installation.desk.run(&format!("{seal} --record ./{record} {how}")).done();
        CredentialBody::read(&installation.secret(record, &installation.sealing)).unwrap()
    };
    let file = body("file.json", "--from ./secret --file-name sa.json --expires 2099-01-01T00:00:00Z");
    assert_eq!(file.expires.map(|expires| expires.to_string()), Some("2099-01-01T00:00:00Z".into()));
    assert!(matches!(&file.content, Content::File { name, value } if name.as_str() == "sa.json" && value.expose() == b"{}"));
    let Content::Variables(variables) = body("env.json", "--env-file ./env").content else { panic!("no variables") };
    let pairs: Vec<_> = variables.iter().map(|variable| (variable.name.as_str(), variable.value.expose())).collect();
    assert_eq!(pairs, [("A", &b"one"[..]), ("B", b"two")]);
    assert!(body("ends.json", "--secret-file ./secret --expires 90d").expires.is_some());

    installation.desk.write("loader", "LD_PRELOAD=/x.so\n");
    for (how, part) in [
        ("--env-file ./loader", "line 1: the variable LD_PRELOAD decides which code a program runs"),
        ("--from ./secret --expires 2020-01-01T00:00:00Z", "has passed"),
        ("--from ./secret --expires soon", "expected a time"),
        ("--from ./secret --file-name ../sa.json", "not a file name"),
        ("--from ./secret --env-file ./env", "cannot be used with"),
        ("--file-name a", "required"),
    ] {
        let ran = installation.desk.run(&format!("{seal} --record ./refused.json {how}"));
        assert!(ran.exit == Exit::Usage && ran.err.contains(part), "{how}: {}", ran.err);
        assert!(!installation.desk.path("refused.json").exists());
    }
}

#[test]
fn inspect_says_what_is_verified_and_what_is_not() {
    let installation = Installation::new();
    installation.model();
    installation.seal("").done();
    let desk = &installation.desk;
    for path in ["./sealed", "./sealed.record.json"] {
        let unchecked = desk.run(&format!("inspect {path} --json")).done().json();
        assert_eq!(unchecked["signature"], "not-checked");
        let verified = desk.run(&format!("inspect {path} --json --publisher ./publisher.pub")).done().json();
        assert_eq!(verified["signature"], "verified");
    }
    let folder = desk.run("inspect ./sealed --publisher ./publisher.pub").done().out;
    assert!(folder.contains("acme/llama version 3") && folder.contains("config.json"), "{folder}");
    let record = desk.run("inspect ./sealed.record.json").done().out;
    assert!(record.contains("not checked: key id ") && record.contains("sealed to"), "{record}");
    desk.run("inspect ./model --publisher ./publisher.pub")
        .refused(Exit::Usage, "error: there is no manifest\nhint: a sealed folder has its manifest at the top; is this the plaintext?\n");
    desk.write("stray.txt", "hello");
    assert_eq!(desk.run("inspect ./stray.txt").exit, Exit::Usage);
    assert_eq!(desk.run("inspect ./missing").exit, Exit::Usage);
}

#[test]
fn inspect_finds_what_does_not_belong() {
    let installation = Installation::new();
    installation.model();
    installation.seal("").done();
    let desk = &installation.desk;
    desk.write("sealed/extra.bin", "x");
    let ran = desk.run("inspect ./sealed");
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Failed, "error: \"extra.bin\" is not in the manifest\n"));
    std::fs::remove_file(desk.path("sealed/extra.bin")).unwrap();
    // An envelope of another record.
    let mut record = installation.record("sealed.record.json");
    record.envelope.statement = protocol::ids::Digest::from([0; 32]);
    desk.write("moved.json", serde_json::to_vec(&record).unwrap());
    let ran = desk.run("inspect ./moved.json");
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.starts_with("error: the envelope belongs to statement 0000"), "{}", ran.err);
    // A statement that was changed behind its signature.
    let mut record = installation.record("sealed.record.json");
    let text = String::from_utf8(record.statement.payload.clone()).unwrap();
    record.statement.payload = text.replace("inference", "anything!").into_bytes();
    desk.write("forged.json", serde_json::to_vec(&record).unwrap());
    let ran = desk.run("inspect ./forged.json --publisher ./publisher.pub");
    assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
}

#[test]
fn policy_check_names_line_and_column() {
    let desk = Desk::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/examples");
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            portcullis(["policy".into(), "check".into(), path.into_os_string()]).done();
        }
    }
    desk.write("bad.toml", "format = 1\nrolle = \"whole-vm\"\n");
    let ran = desk.run("policy check ./bad.toml");
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.starts_with(&format!("error: {}: line 2, column 1: ", desk.path("bad.toml").display())), "{}", ran.err);
    assert!(ran.err.contains("\nhint: "), "{}", ran.err);
}

#[test]
fn help_version_and_completions_go_to_standard_output() {
    for words in ["--help", "--version", "verify --help", "policy put --help", "completions bash"] {
        let ran = portcullis(words.split(' ')).done();
        assert!(!ran.out.is_empty() && ran.err.is_empty(), "{words}: {ran:?}");
    }
    let bare = portcullis([] as [&str; 0]);
    assert_eq!((bare.exit, bare.out.as_str()), (Exit::Usage, ""));
    assert_eq!(portcullis(["frobnicate"]).exit, Exit::Usage);
}
