//! What the command asks of a broker, and what it makes of the answers.

mod server;
mod terminal;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cli::Exit;
use protocol::admin::{Accepted, CheckVerdict, Ending, ExplainedCheck, ExplainedItem, Explanation, RecordSummary};
use protocol::documents::{CertificateBody, CertifiedKey, Kind, PolicyBody, RevocationsBody, StatementBody, TcbBaseline, TcbBaselinesBody};
use protocol::dsse::SignedDocument;
use protocol::entries::{Entry, Event, Verdict};
use protocol::envelope::RecordFile;
use protocol::hpke::RecipientSecret;
use protocol::ids::{AnchorClass, DecisionId, Digest, Platform, Role, Version};
use protocol::keyfile::{KeyFile, Unlock};
use protocol::keys::{PublicKey, SigningKey};
use protocol::log::checkpoint::Checkpoint;
use protocol::log::tiles::encode_bundle;
use protocol::log::tree::{self, MemoryTree, leaf_hash};
use protocol::messages::{InstallationAnswer, Item, Problem, Purpose};
use protocol::spiffe::published::{PublishedAnswer, PublishedBody, PublishedFederation};
use protocol::spiffe::{Bundle, TrustDomain};
use protocol::time::UnixTime;
use protocol::tokens::{EcKey, KeySet};
use server::{Answer, Server, TOKEN};
use tempfile::TempDir;
use terminal::{Ran, portcullis};

/// A folder with keys, and a broker that knows their installation.
struct Desk {
    folder: TempDir,
    server: Server,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn log_key() -> SigningKey {
    SigningKey::from_seed(&[2; 32]).unwrap()
}

const ACCEPTED: u64 = 41;

fn accepted() -> Answer {
    Answer::json(&Accepted { document: Digest::from([7; 32]), entry: ACCEPTED, documents: Digest::from([8; 32]) })
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap(), server: Server::start() };
        for kind in ["root", "publisher", "authority"] {
            desk.run_bare(&format!("keygen --kind {kind} --out ./{kind}")).done();
        }
        desk.write("token", format!("{TOKEN}\n"));
        let sealing = RecipientSecret::from_seed(&[3; 32]).unwrap();
        let keys = [CertifiedKey::Log(*log_key().public()), CertifiedKey::Sealing(sealing.public().clone())];
        let certificates = keys.map(|certified| desk.certificate(certified)).to_vec();
        desk.server.on("GET /v1/installation", Answer::json(&InstallationAnswer { root: desk.root(), certificates }));
        desk
    }

    fn certificate(&self, certified: CertifiedKey) -> SignedDocument {
        let body = CertificateBody {
            installation: self.root(),
            name: "acme".parse().unwrap(),
            anchors: AnchorClass::Test,
            certified,
            not_before: UnixTime::from_seconds(now() - 60),
            not_after: UnixTime::from_seconds(now()).plus(Duration::from_secs(3600)),
        };
        SignedDocument::sign(&body, &self.key("root")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn key(&self, kind: &str) -> SigningKey {
        let file = KeyFile::parse(self.text(&format!("{kind}.key")).as_bytes()).unwrap();
        SigningKey::from_seed(&file.open(kind, &Unlock::Nothing).unwrap()).unwrap()
    }

    fn root(&self) -> PublicKey {
        self.text("root.pub").trim().parse().unwrap()
    }

    /// Words that begin with `./` are paths in the folder; `'a b'` is one word.
    fn run_bare(&self, words: &str) -> Ran {
        let folder = self.folder.path().display().to_string();
        portcullis(words.split_whitespace().map(|word| word.replace("./", &format!("{folder}/"))))
    }

    /// As an administrator of the broker.
    fn run(&self, words: &str) -> Ran {
        self.run_bare(&format!("{words} --broker {} --token-file ./token", self.server.url()))
    }

    /// As an auditor.
    fn audit(&self, words: &str) -> Ran {
        self.run_bare(&format!("audit {words} --broker {} --root ./root.pub", self.server.url()))
    }

    /// A credential's record, sealed over HTTP.
    fn seal_credential(&self) {
        self.write("secret", "sk-1");
        self.run_bare(&format!(
            "credential seal openai --version 1 --secret-file ./secret --record ./openai.json --publisher-key ./publisher.key --policy agents \
             --authority ./authority.pub --root ./root.pub --installation {}",
            self.server.url()
        ))
        .done();
    }
}

#[test]
fn publish_sends_the_record_as_it_is() {
    let desk = Desk::new();
    desk.seal_credential();
    desk.server.on("PUT /v1/records", accepted());
    let ran = desk.run("publish ./openai.json").done();
    assert_eq!(ran.out, format!("published  {}\nlog entry  {ACCEPTED}\n", Digest::from([7; 32])));
    let sent: serde_json::Value = serde_json::from_slice(&desk.server.received("PUT /v1/records")[0]).unwrap();
    assert_eq!(sent, serde_json::from_str::<serde_json::Value>(&desk.text("openai.json")).unwrap());
    assert_eq!(desk.run("publish ./openai.json --json").done().json()["entry"], ACCEPTED);
}

#[test]
fn a_refusal_is_the_brokers_in_its_own_words() {
    let desk = Desk::new();
    desk.seal_credential();
    let mut problem = Problem::new(409, "version-not-higher", "the version is not higher");
    problem.hint = Some("publish a higher version".to_owned());
    desk.server.on("PUT /v1/records", Answer::problem(&problem));
    let err = "error: the broker refused (version-not-higher): the version is not higher\nhint: publish a higher version\n";
    desk.run("publish ./openai.json").refused(Exit::Failed, err);
}

#[test]
fn the_token_is_needed_and_never_shown() {
    let desk = Desk::new();
    desk.write("token", "wrong-token\n");
    let ran = desk.run("list");
    assert!(!ran.err.contains("wrong-token"));
    let err = "error: the broker refused (unauthorised): an administrative token is needed\n\
               hint: the token is not one that this broker knows; see --token-file\n";
    ran.refused(Exit::Failed, err);
    desk.write("token", "\n");
    desk.run("list").refused(Exit::Usage, &format!("error: {} holds no token\n", desk.path("token").display()));
    desk.write("token", "two\nlines\n");
    assert_eq!(desk.run("list").exit, Exit::Usage);
}

#[test]
fn a_broker_that_cannot_be_reached_is_a_failure_and_a_bad_url_is_wrong_use() {
    let desk = Desk::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = desk.run_bare(&format!("list --broker http://{free} --token-file ./token"));
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("cannot be reached"), "{}", ran.err);
    assert!(ran.err.ends_with("hint: is the broker running, and does the network let this machine reach it?\n"), "{}", ran.err);
    let err = "error: plain HTTP to broker.example.com is not allowed\nhint: use https, or --allow-plain-http\n";
    desk.run_bare("list --broker http://broker.example.com --token-file ./token").refused(Exit::Usage, err);
    assert_eq!(desk.run_bare("list --broker ftp://broker.example.com --token-file ./token").exit, Exit::Usage);
    assert_eq!(desk.run_bare("list --token-file ./token").exit, Exit::Usage);
}

#[test]
fn whatever_is_no_record_is_not_sent() {
    let desk = Desk::new();
    desk.write("other.json", "{}");
    let ran = desk.run("publish ./other.json");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("other.json is not a record file"), "{}", ran.err);
    assert!(desk.server.received("PUT /v1/records").is_empty());
}

/// A credential's record, as a broker lists it.
fn openai(number: u64, revoked: Option<&str>) -> RecordSummary {
    RecordSummary {
        kind: Kind::Credential,
        name: "openai".parse().unwrap(),
        version: Version::try_from(number).unwrap(),
        policy: "agents".parse().unwrap(),
        policy_present: true,
        publisher: PublicKey::from_bytes([1; 32]),
        statement: Digest::from([2; 32]),
        manifest: None,
        revoked: revoked.map(str::to_owned),
    }
}

#[test]
fn a_credential_is_put_as_the_next_version_and_sealed_before_it_leaves() {
    let desk = Desk::new();
    desk.write("secret", "sk-very-secret");
    desk.server.on("PUT /v1/records", accepted());
    let put = "credential put openai --from ./secret --policy agents --authority ./authority.pub --publisher-key ./publisher.key --root ./root.pub";
    let model = RecordSummary { kind: Kind::Model, ..openai(9, None) };
    for (records, more, version) in
        [(vec![], "", 1), (vec![openai(1, None), openai(4, Some("leaked")), model], "", 5), (vec![openai(1, None)], " --version 7", 7)]
    {
        desk.server.on("GET /v1/records", Answer::json(&records));
        let put = desk.run(&format!("{put}{more} --json")).done().json();
        assert_eq!((&put["version"], &put["kind"], &put["entry"]), (&version.into(), &"opaque".into(), &ACCEPTED.into()));
        let sent = desk.server.received("PUT /v1/records").pop().unwrap();
        let record: RecordFile = serde_json::from_slice(&sent).unwrap();
        let statement = record.statement.authenticate::<StatementBody>(&[*desk.key("publisher").public()]).unwrap();
        assert_eq!((statement.body().version.number(), statement.body().kind), (version, Kind::Credential));
        assert!(!String::from_utf8(sent).unwrap().contains("sk-very-secret"));
    }
}

#[test]
fn credentials_are_listed_and_shown_with_the_version_that_guests_get() {
    let desk = Desk::new();
    let model = RecordSummary { kind: Kind::Model, ..openai(9, None) };
    desk.server.on("GET /v1/records", Answer::json(&[openai(1, None), openai(2, None), openai(3, Some("leaked")), model]));
    let expected = "\
NAME    VERSION  POLICY  STATE
openai  1        agents  released to who names it
openai  2        agents  current
openai  3        agents  revoked: leaked
";
    assert_eq!(desk.run("credential list").done().out, expected);
    let shown = desk.run("credential show openai").done().out;
    assert!(shown.contains("guests get  version 2"), "{shown}");
    assert_eq!(desk.run("credential show openai --json").done().json().as_array().unwrap().len(), 3);
    let ran = desk.run("credential show other");
    assert!(ran.exit == Exit::Failed && ran.err.contains("no credential other"), "{}", ran.err);
}

#[test]
fn a_rollback_revokes_every_later_version_in_one_list() {
    let desk = Desk::new();
    desk.server.on("GET /v1/records", Answer::json(&[openai(1, None), openai(2, None), openai(3, None)]));
    desk.server.on("GET /v1/revocations", Answer::json(&[] as &[SignedDocument]));
    desk.server.on("PUT /v1/revocations", accepted());
    let rollback = "credential rollback openai --authority-key ./authority.key --root ./root.pub --reason wrong";
    let json = desk.run(&format!("{rollback} --to 1 --json")).done().json();
    assert_eq!((&json["version"], &json["revoked"], &json["list"]["now"]), (&1.into(), &serde_json::json!([2, 3]), &1.into()));
    let list: SignedDocument = serde_json::from_slice(&desk.server.received("PUT /v1/revocations")[0]).unwrap();
    let list = list.authenticate::<RevocationsBody>(&[*desk.key("authority").public()]).unwrap();
    let revoked: Vec<_> = list.body().revoked.iter().map(|entry| entry.version.map(Version::number)).collect();
    assert_eq!((list.body().version, revoked), (Version::FIRST, vec![Some(2), Some(3)]));
    desk.server.on("GET /v1/records", Answer::json(&[openai(1, None), openai(2, Some("wrong"))]));
    let ran = desk.run(rollback);
    assert!(ran.exit == Exit::Failed && ran.err.contains("no earlier version"), "{}", ran.err);
    let ran = desk.run(&format!("{rollback} --to 2"));
    assert!(ran.exit == Exit::Failed && ran.err.contains("version 2 of openai is revoked"), "{}", ran.err);
    assert_eq!(desk.server.received("PUT /v1/revocations").len(), 1);
}

#[test]
fn list_shows_records_and_their_state() {
    let desk = Desk::new();
    desk.server.on("GET /v1/records", Answer::json(&[openai(1, None)]));
    assert_eq!(desk.run("list").done().out, "KIND        NAME    VERSION  POLICY  STATE\ncredential  openai  1        agents  ready\n");
    assert_eq!(desk.run("list --json").done().json()[0]["name"], "openai");
    desk.server.on("GET /v1/records", Answer::json(&[] as &[RecordSummary]));
    assert_eq!(desk.run("list").done().err, "no records\n");
}

fn example() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policies/examples/inference.toml");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_policy_is_checked_signed_and_sent() {
    let desk = Desk::new();
    desk.write("inference.toml", example());
    desk.server.on("PUT /v1/policies", accepted());
    let put = "policy put ./inference.toml --name inference --version 2 --authority-key ./authority.key --root ./root.pub";
    desk.run(put).done();
    let sent = SignedDocument::parse::<PolicyBody>(&desk.server.received("PUT /v1/policies")[0]).unwrap();
    let document = sent.authenticate::<PolicyBody>(&[*desk.key("authority").public()]).unwrap();
    let expected = PolicyBody {
        installation: desk.root(),
        name: "inference".parse().unwrap(),
        version: Version::try_from(2).unwrap(),
        toml: example(),
    };
    assert_eq!(document.body(), &expected);

    desk.write("inference.toml", "format = 1\nrolle = 1\n");
    let ran = desk.run(put);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("inference.toml: line 2, column 1: "), "{}", ran.err);
    assert_eq!(desk.server.received("PUT /v1/policies").len(), 1);
}

#[test]
fn a_policy_comes_back_with_who_vouches_for_it() {
    let desk = Desk::new();
    let name = "teams/inference";
    let body = PolicyBody { installation: desk.root(), name: name.parse().unwrap(), version: Version::FIRST, toml: example() };
    desk.server.on(&format!("GET /v1/policies/{name}"), Answer::json(&SignedDocument::sign(&body, &desk.key("authority")).unwrap()));
    let text = desk.run(&format!("policy get {name} --authority ./authority.pub")).done().out;
    assert!(text.contains("verified by ed25519:") && text.ends_with(&example()), "{text}");
    let toml = desk.run(&format!("policy get {name} --toml")).done();
    assert_eq!((toml.out, toml.err.as_str()), (example(), "warning: the signature is not checked; give --authority\n"));
    let json = desk.run(&format!("policy get {name} --json --authority ./authority.pub")).done();
    assert_eq!((json.json()["version"].as_u64(), json.err.as_str()), (Some(1), ""));
    let ran = desk.run(&format!("policy get {name} --authority ./root.pub"));
    ran.refused(Exit::Failed, &format!("error: the policy is not signed by {}\n", desk.root()));
    desk.run("policy get other").refused(Exit::Failed, "error: the broker refused (not-found): there is no such thing\n");
}

#[test]
fn a_broker_that_answers_with_another_policy_is_caught() {
    let desk = Desk::new();
    let body = PolicyBody { installation: desk.root(), name: "lax".parse().unwrap(), version: Version::FIRST, toml: example() };
    desk.server.on("GET /v1/policies/strict", Answer::json(&SignedDocument::sign(&body, &desk.key("authority")).unwrap()));
    let ran = desk.run("policy get strict --authority ./authority.pub");
    ran.refused(Exit::Failed, "error: the broker answered with policy lax, not strict\n");
}

const BASELINES: &str = r#"[
  {"product":"genoa","published":"2026-01-10T00:00:00Z","bootloader":10,"tee":0,"snp":22,"microcode":80},
  {"product":"genoa","published":"2026-03-10T00:00:00Z","bootloader":10,"tee":0,"snp":23,"microcode":84},
  {"product":"turin","published":"2026-03-10T00:00:00Z","fmc":1,"bootloader":1,"tee":1,"snp":4,"microcode":81}
]"#;

#[test]
fn a_tcb_calendar_is_checked_signed_and_sent() {
    let desk = Desk::new();
    desk.write("amd.json", BASELINES);
    assert!(desk.run_bare("calendar check ./amd.json").done().out.ends_with("/amd.json\nbaselines  3\n"));
    desk.server.on("PUT /v1/tcb-baselines", accepted());
    let put = "calendar put ./amd.json --name amd --version 2 --authority-key ./authority.key --root ./root.pub";
    desk.run(put).done();
    let sent = SignedDocument::parse::<TcbBaselinesBody>(&desk.server.received("PUT /v1/tcb-baselines")[0]).unwrap();
    let document = sent.authenticate::<TcbBaselinesBody>(&[*desk.key("authority").public()]).unwrap();
    assert_eq!((document.body().installation, document.body().version.number()), (desk.root(), 2));
    assert_eq!(document.body().baselines, serde_json::from_str::<Vec<TcbBaseline>>(BASELINES).unwrap());

    for wrong in [BASELINES.replace("\"snp\":23", "\"snp\":21"), BASELINES.replace("genoa", "rome"), "[]".to_owned()] {
        desk.write("amd.json", &wrong);
        assert_eq!(desk.run_bare("calendar check ./amd.json").exit, Exit::Failed, "{wrong}");
        let ran = desk.run(put);
        assert_eq!(ran.exit, Exit::Failed, "{wrong}");
        assert!(ran.err.contains("amd.json: ") && ran.err.contains("hint: "), "{}", ran.err);
    }
    assert_eq!(desk.server.received("PUT /v1/tcb-baselines").len(), 1);
}

#[test]
fn a_tcb_calendar_comes_back_with_who_vouches_for_it() {
    let desk = Desk::new();
    let baselines: Vec<TcbBaseline> = serde_json::from_str(BASELINES).unwrap();
    let body =
        TcbBaselinesBody { installation: desk.root(), name: "amd".parse().unwrap(), version: Version::FIRST, baselines: baselines.clone() };
    let signed = SignedDocument::sign(&body, &desk.key("authority")).unwrap();
    desk.server.on("GET /v1/tcb-baselines/amd", Answer::json(&signed));
    desk.server.on("GET /v1/tcb-baselines/strict", Answer::json(&signed));
    let text = desk.run("calendar get amd --authority ./authority.pub").done().out;
    assert!(text.contains("verified by ed25519:"), "{text}");
    assert!(text.ends_with("turin  2026-03-10T00:00:00Z  fmc 1 bootloader 1 tee 1 snp 4 microcode 81\n"), "{text}");
    let list = desk.run("calendar get amd --baselines").done();
    assert_eq!(serde_json::from_str::<Vec<TcbBaseline>>(&list.out).unwrap(), baselines);
    assert_eq!(list.err, "warning: the signature is not checked; give --authority\n");
    let ran = desk.run("calendar get amd --authority ./root.pub");
    ran.refused(Exit::Failed, &format!("error: the calendar is not signed by {}\n", desk.root()));
    let ran = desk.run("calendar get strict --authority ./authority.pub");
    ran.refused(Exit::Failed, "error: the broker answered with calendar amd, not strict\n");
}

#[test]
fn revoke_extends_the_authoritys_list_and_says_what_changed() {
    let desk = Desk::new();
    desk.server.on("GET /v1/revocations", Answer::json(&[] as &[SignedDocument]));
    desk.server.on("PUT /v1/revocations", accepted());
    let revoke = "--authority-key ./authority.key --root ./root.pub --reason leaked";
    let ran = desk.run(&format!("revoke llama@1 {revoke}")).done();
    let expected = format!("revoked    llama@1\nreason     leaked\nlist       none -> 1, now 1 revoked\nlog entry  {ACCEPTED}\n");
    assert_eq!(ran.out, expected);
    let first: SignedDocument = serde_json::from_slice(&desk.server.received("PUT /v1/revocations")[0]).unwrap();
    desk.server.on("GET /v1/revocations", Answer::json(&[first]));

    assert_eq!(desk.run(&format!("revoke llama@1 {revoke}")).done().err, "llama@1 is revoked already; nothing was changed\n");
    let json = desk.run(&format!("revoke llama {revoke} --json")).done().json();
    assert_eq!((json["list"]["before"].as_u64(), json["list"]["now"].as_u64()), (Some(1), Some(2)));
    let second: SignedDocument = serde_json::from_slice(&desk.server.received("PUT /v1/revocations")[1]).unwrap();
    let list = second.authenticate::<RevocationsBody>(&[*desk.key("authority").public()]).unwrap();
    assert_eq!((list.body().version.number(), list.body().revoked.len()), (2, 2));
}

#[test]
fn a_list_that_the_authority_did_not_sign_so_is_not_extended() {
    let desk = Desk::new();
    let body = RevocationsBody { installation: desk.root(), version: Version::FIRST, revoked: vec![] };
    let mut forged = SignedDocument::sign(&body, &desk.key("authority")).unwrap();
    forged.payload.push(b' ');
    desk.server.on("GET /v1/revocations", Answer::json(&[forged]));
    let ran = desk.run("revoke llama --authority-key ./authority.key --root ./root.pub --reason leaked");
    assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
    assert!(desk.server.received("PUT /v1/revocations").is_empty());
}

#[test]
fn explain_shows_every_check_and_knows_what_it_does_not_know() {
    let desk = Desk::new();
    let (id, zero) = (DecisionId::from([0xab; 16]), Digest::from([0; 32]));
    let check = ExplainedCheck {
        code: "snp-debug".to_owned(),
        expected: "debugging not allowed".to_owned(),
        found: "debugging allowed".to_owned(),
        verdict: CheckVerdict::Failed,
    };
    let item = ExplainedItem {
        item: Item { kind: Kind::Model, name: "llama".parse().unwrap(), version: None },
        verdict: Verdict::Refused,
        policy: None,
        checks: vec![check],
    };
    let ending = Ending::Decided {
        entry: 3,
        purpose: Purpose::Release,
        platform: Platform::SevSnp,
        role: Role::WholeVm,
        configuration: zero,
        guest: zero,
        evidence: zero,
        claims: vec![],
        items: vec![item],
    };
    let explanation = Explanation { decision: id, at: UnixTime::from_seconds(0), anchors: AnchorClass::Test, request: None, ending };
    desk.server.on(&format!("GET /v1/decisions/{id}"), Answer::json(&explanation));
    let text = desk.run(&format!("explain {id}")).done().out;
    assert!(
        text.ends_with(
            "model llama: refused\n  FAIL  snp-debug  expected debugging not allowed\n                   found    debugging allowed\n                   hint     launch the guest without the debug bit; no policy can accept it\n"
        ),
        "{text}"
    );
    assert_eq!(desk.run(&format!("explain {id} --json")).done().json()["ending"]["entry"], 3);
    let other = DecisionId::from([1; 16]);
    let err = format!(
        "error: the broker knows no decision {other}\nhint: requests that were rejected before anything was verified are kept in memory only, and only for a while\n"
    );
    desk.run(&format!("explain {other}")).refused(Exit::Failed, &err);
    assert_eq!(desk.run("explain 12").exit, Exit::Usage);
}

impl Desk {
    /// Shows a log of these versions' starts.
    fn show_log(&self, versions: &[&str]) {
        let entry = |(at, version): (usize, &&str)| {
            let event = Event::Started { version: (*version).to_owned() };
            let at = UnixTime::from_seconds(at as u64);
            let entry = Entry {
                origin: "acme/log".to_owned(),
                installation: self.root(),
                anchors: AnchorClass::Test,
                at,
                documents: Digest::from([0; 32]),
                event,
            };
            entry.to_bytes().unwrap()
        };
        let entries: Vec<Vec<u8>> = versions.iter().enumerate().map(entry).collect();
        let tree: MemoryTree = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let size = entries.len() as u64;
        let root = tree::root(&tree, size).unwrap();
        self.server.forget("GET /log/");
        let note = Checkpoint { origin: "acme/log".parse().unwrap(), size, root }.sign(&log_key());
        self.server.on("GET /log/checkpoint", Answer::bytes(note));
        let hashes: Vec<u8> = entries.iter().flat_map(|entry| *leaf_hash(entry).as_bytes()).collect();
        self.server.on(&format!("GET /log/tile/0/000.p/{size}"), Answer::bytes(hashes));
        self.server.on(&format!("GET /log/tile/entries/000.p/{size}"), Answer::bytes(encode_bundle(&entries).unwrap()));
    }
}

#[test]
fn an_audit_keeps_the_checkpoint_and_holds_the_next_log_to_it() {
    let desk = Desk::new();
    desk.show_log(&["1.0", "1.1"]);
    let first = desk.audit("verify --state ./kept").done();
    assert!(first.out.contains("no earlier checkpoint was kept") && first.out.ends_with("\nthe log is whole\n"), "{}", first.out);
    assert!(first.err.starts_with("hint: "), "{}", first.err);

    desk.show_log(&["1.0", "1.1", "1.2"]);
    let second = desk.audit("verify --state ./kept --json").done();
    assert_eq!((second.json()["size"].as_u64(), second.json()["kept"].as_u64()), (Some(3), Some(2)));
    let kept = desk.text("kept");

    for (rewritten, error) in [
        (["1.0", "9.9", "1.2", "1.3"].as_slice(), "the first 3 entries give root "),
        (&["1.0"], "the log has 1 entries; it had 3 when the kept checkpoint was signed"),
    ] {
        desk.show_log(rewritten);
        let ran = desk.audit("verify --state ./kept");
        assert_eq!(ran.exit, Exit::Failed);
        assert!(ran.err.starts_with(&format!("error: {error}")), "{}", ran.err);
        assert!(ran.err.contains("\nhint: keep both checkpoints"), "{}", ran.err);
        assert_eq!(desk.text("kept"), kept);
    }
    desk.write("kept", "not a note");
    assert_eq!(desk.audit("verify --state ./kept").exit, Exit::Failed);
}

#[test]
fn the_tail_shows_the_last_entries() {
    let desk = Desk::new();
    desk.show_log(&["1.0", "1.1", "1.2"]);
    let expected = "       1  1970-01-01T00:00:01Z  started, version 1.1\n       2  1970-01-01T00:00:02Z  started, version 1.2\n";
    assert_eq!(desk.audit("tail -n 2").done().out, expected);
    let json = desk.audit("tail -n 1 --json").done().json();
    assert_eq!((json["index"].as_u64(), json["entry"]["event"]["version"].as_str()), (Some(2), Some("1.2")));
    assert_eq!(desk.audit("tail -n 9").done().out.lines().count(), 3);
}

#[test]
fn a_proof_is_made_online_and_checked_offline() {
    let desk = Desk::new();
    desk.show_log(&["1.0", "1.1", "1.2"]);
    desk.audit("prove 1 --out ./proof.json").done();
    let ran = desk.run_bare("audit check-proof ./proof.json --root ./root.pub").done();
    assert!(ran.out.ends_with("started, version 1.1\nthe log has this entry: index 1 of 3\n"), "{}", ran.out);
    assert_eq!(desk.audit("prove 3 --out ./none.json").refused_with(Exit::Usage), "error: the log has 3 entries; there is no entry 3\n");
    assert!(!desk.path("none.json").exists());
    let forged = desk.text("proof.json").replace("index 1", "index 2");
    desk.write("forged.json", forged);
    let ran = desk.run_bare("audit check-proof ./forged.json --root ./root.pub");
    assert_eq!(ran.exit, Exit::Failed);
    let ran = desk.run_bare("audit check-proof ./proof.json --root ./authority.pub");
    assert_eq!(ran.exit, Exit::Failed);
    let ran = desk.run_bare("audit check-proof ./proof.json --root ./root.pub --at 2099-01-01T00:00:00Z");
    assert!(ran.err.ends_with("hint: to check a proof as of the time that it was made, add --at\n"), "{}", ran.err);
    desk.write("other.json", "{}");
    assert_eq!(desk.run_bare("audit check-proof ./other.json --root ./root.pub").exit, Exit::Usage);
}

#[test]
fn the_auditor_trusts_the_pinned_root_and_not_the_brokers_word() {
    let desk = Desk::new();
    desk.show_log(&["1.0"]);
    let ran = desk.run_bare(&format!("audit verify --broker {} --root ./authority.pub", desk.server.url()));
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.starts_with("error: the pinned root has certified no log key for now: "), "{}", ran.err);
    assert!(ran.err.contains("hint: is --root the root of this installation?"), "{}", ran.err);
}

/// The key that signs what the broker says of itself.
fn identity_key() -> SigningKey {
    SigningKey::from_seed(&[5; 32]).unwrap()
}

impl Desk {
    /// Shows what an issuer publishes that has this number and these keys.
    fn show_identities(&self, sequence: u64, keys: &[&EcKey]) -> PublishedBody {
        let trust_domain: TrustDomain = "acme.example".parse().unwrap();
        let jwks: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        let bundle = Bundle::new(trust_domain.clone(), sequence, Duration::from_secs(300), vec![], jwks.clone()).unwrap();
        let set = KeySet::new(jwks).unwrap().to_json();
        let federation = PublishedFederation {
            issuer: "https://id.acme.example".to_owned(),
            discovery: "{\"issuer\":\"https://id.acme.example\"}".to_owned(),
            jwks: set.clone(),
        };
        let body = PublishedBody {
            installation: self.root(),
            anchors: AnchorClass::Test,
            trust_domain,
            at: UnixTime::from_seconds(now()),
            bundle: bundle.to_json(),
            results: set,
            federation: Some(federation),
        };
        self.publish_identities(&body);
        body
    }

    fn publish_identities(&self, body: &PublishedBody) {
        let certificate = self.certificate(CertifiedKey::Identity(*identity_key().public()));
        self.server.on("GET /v1/identity", Answer::json(&PublishedAnswer::write(body, &identity_key(), &certificate).unwrap()));
    }

    fn identity(&self, words: &str) -> Ran {
        self.run_bare(&format!("identity {words} --broker {} --root ./root.pub", self.server.url()))
    }
}

#[test]
fn what_an_issuer_publishes_is_exported_as_it_is_served() {
    let desk = Desk::new();
    let key = EcKey::generate().unwrap();
    let body = desk.show_identities(1, &[&key]);
    let ran = desk.identity("export --out ./www").done();
    assert!(ran.err.contains("TEST roots"), "{}", ran.err);
    let federation = body.federation.as_ref().unwrap();
    for (place, text) in [
        ("identity/bundle", &body.bundle),
        ("identity/results/jwks", &body.results),
        ("identity/jwks", &federation.jwks),
        (".well-known/openid-configuration", &federation.discovery),
    ] {
        assert_eq!(desk.text(&format!("www/{place}")), *text, "{place}");
    }
    let json = desk.identity("show --json").done().json();
    assert_eq!((json["trust_domain"].as_str(), json["sequence"].as_u64()), (Some("acme.example"), Some(1)));
    assert_eq!(json["keys"][0]["kid"].as_str(), key.jwk().kid());
    assert!(desk.identity("show").done().out.contains("https://id.acme.example"));
}

#[test]
fn an_older_bundle_is_never_written_over_a_newer() {
    let desk = Desk::new();
    let (first, second) = (EcKey::generate().unwrap(), EcKey::generate().unwrap());
    let newer = desk.show_identities(2, &[&first, &second]);
    desk.identity("export --out ./www").done();
    desk.identity("export --out ./www").done();
    desk.show_identities(1, &[&first]);
    let err = "error: what is there already is not older: the bundle's number is 1, and 2 was seen before\n\
               hint: was an older state of the broker put back? ask its operator\n";
    desk.identity("export --out ./www").refused(Exit::Failed, err);
    assert_eq!(desk.text("www/identity/bundle"), newer.bundle);
    desk.show_identities(3, &[&second]);
    desk.identity("export --out ./www").done();
    desk.write("www/identity/bundle", "{}");
    assert_eq!(desk.identity("export --out ./www").exit, Exit::Usage);
}

#[test]
fn keys_that_the_pinned_root_does_not_vouch_for_are_not_exported() {
    let desk = Desk::new();
    let body = desk.show_identities(1, &[&EcKey::generate().unwrap()]);
    let ran = desk.run_bare(&format!("identity export --out ./www --broker {} --root ./authority.pub", desk.server.url()));
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("hint: is --root the root of this installation?"), "{}", ran.err);
    desk.publish_identities(&PublishedBody { at: UnixTime::from_seconds(now() - 3600), ..body });
    let ran = desk.identity("export --out ./www");
    assert!(ran.err.ends_with("hint: compare this machine's clock with the broker's\n"), "{}", ran.err);
    assert!(!desk.path("www").exists());
}
