//! A broker process with one published record and one policy that gives identities, and requests that it will grant.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::custody::Installation as Fixed;
use protocol::challenge::ChallengeKey;
use protocol::documents::{Certificate, Kind, PolicyBody};
use protocol::dsse::SignedDocument;
use protocol::envelope::{Draft, write_record};
use protocol::hpke::RecipientSecret;
use protocol::ids::{AnchorClass, Digest, Name, Nonce, Platform, RequestId, Role, Version};
use protocol::keyfile::{KeyFile, Unlock};
use protocol::keys::{PublicKey, SigningKey};
use protocol::messages::{EvidenceMessage, IdentityAsk, Item, ItemOutcome, Purpose, ReleaseAnswer, ReleaseRequest};
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use tempfile::TempDir;

use crate::AS_BROKER;
use crate::drive::Connection;
use crate::machine::Machine;

/// What is released: as long as a model's key.
const SECRET: [u8; 32] = [42; 32];
/// The trust domain of identities, and who is to believe the tokens.
const DOMAIN: &str = "acme.example";
const AUDIENCE: &str = "tools.acme.example";

/// A running broker; dropping it ends it and removes its folder.
pub struct Installation {
    broker: Child,
    address: String,
    root: PublicKey,
    challenges: ChallengeKey,
    machine: Machine,
    _folder: TempDir,
}

/// A request as it goes over the wire, and what opens its answer.
pub struct Prepared {
    /// The body.
    pub body: Vec<u8>,
    digest: Digest,
    secret: Arc<RecipientSecret>,
}

/// A guest with keys of its own, which it keeps.
pub struct Agent {
    secret: Arc<RecipientSecret>,
    signing: SigningKey,
}

impl Agent {
    pub fn new() -> Self {
        let secret = RecipientSecret::generate().expect("a key").into();
        Self { secret, signing: SigningKey::generate().expect("a key") }
    }
}

/// What a guest asks for.
#[derive(Clone, Copy)]
pub enum Wish {
    /// The model's key.
    Model,
    /// A JWT-SVID.
    Token,
}

fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    UnixTime::from_seconds(since.as_secs())
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

impl Installation {
    /// Initialises a broker in a folder on disk, starts it, publishes a record and its policy.
    pub fn start() -> Self {
        // Durable means a disk: the working folder's, not /tmp, which may be memory.
        let folder =
            tempfile::Builder::new().prefix("release-bench-").tempdir_in(std::env::current_dir().expect("a folder")).expect("a folder");
        let path = folder.path().to_owned();
        let (root, publisher, authority) = (key(1), key(2), key(3));
        let machine = Machine::named();
        let write = |name: &str, bytes: &[u8]| fs::write(path.join(name), bytes).expect("a file");
        let file = KeyFile::protect("root", &root.public().to_string(), &[1; 32], &Unlock::Nothing).expect("a key file");
        write("root.key", file.to_json().as_bytes());
        let anchor = machine.carry(&path);
        let init = ["init", "--data", "data", "--name", "acme", "--root-key", "root.key", "--test-anchor", anchor];
        assert!(this_program(&path).args(init).stdout(Stdio::null()).status().expect("init").success(), "init");
        configure(&path, publisher.public(), authority.public());
        let (broker, address) = serve(&path);
        let challenges = stored_key(&path, "challenge");
        let installation = Self {
            broker,
            address,
            root: *root.public(),
            challenges: ChallengeKey::new(challenges, *root.public()),
            machine,
            _folder: folder,
        };
        installation.publish(&path, &publisher, &authority);
        installation
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Of which kind the guests are.
    pub const fn platform(&self) -> Platform {
        self.machine.platform()
    }

    /// The broker's process.
    pub fn pid(&self) -> u32 {
        self.broker.id()
    }

    fn publish(&self, path: &Path, publisher: &SigningKey, authority: &SigningKey) {
        let token = fs::read_to_string(path.join("data/admin.token")).expect("a token");
        let mut connection = Connection::open(self.address());
        let mut put = |what: &str, body: &[u8]| {
            let answer = connection.send("PUT", what, Some(token.trim()), body);
            assert_eq!(answer.status, 201, "{what}: {}", String::from_utf8_lossy(&answer.body));
        };
        let rules = self.machine.rules();
        let toml =
            format!("format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n{rules}");
        let policy = PolicyBody { installation: self.root, name: name("inference"), version: Version::FIRST, toml };
        put("/v1/policies", &SignedDocument::sign(&policy, authority).expect("a policy").to_json());
        let toml =
            format!("{}\n[identity]\nspiffe-id = \"spiffe://{DOMAIN}/agents/{{policy}}\"\naudiences = [\"{AUDIENCE}\"]\n", policy.toml);
        let identities = PolicyBody { name: name("agents"), toml, ..policy };
        put("/v1/policies", &SignedDocument::sign(&identities, authority).expect("a policy").to_json());
        let fixed: Fixed =
            serde_json::from_slice(&fs::read(path.join("data/installation.json")).expect("a file")).expect("an installation");
        let certificates = fixed.certificates.iter().map(|signed| Certificate::verify(signed, &self.root, now()).expect("a certificate"));
        let sealing = certificates.filter_map(|certificate| certificate.sealing().ok().cloned()).next().expect("a sealing key");
        let draft = Draft {
            installation: self.root,
            name: name("acme/llama"),
            version: Version::FIRST,
            kind: Kind::Model,
            manifest: Some(Digest::from([6; 32])),
            policy: name("inference"),
            authority: *authority.public(),
            anchors: AnchorClass::Test,
        };
        let record = write_record(draft, &SECRET, &[sealing], publisher).expect("a record");
        put("/v1/records", &serde_json::to_vec(&record).expect("JSON"));
    }

    /// A request over fresh evidence. Nothing of it needs the broker: the challenge is minted with the broker's key.
    pub fn attested(&self, agent: &Agent, wish: Wish) -> Prepared {
        let (challenge, nonce) = self.mint();
        let evidence = self.machine.attest(&self.transcript(agent, nonce).report_data());
        self.request(agent, wish, challenge, evidence)
    }

    /// A request of an agent that this broker has verified before, over a challenge of its own making.
    pub fn renewal(&self, agent: &Agent, wish: Wish) -> Prepared {
        self.renewal_over(agent, wish, self.mint().0)
    }

    /// The same, over a challenge that the broker gave.
    pub fn renewal_over(&self, agent: &Agent, wish: Wish, challenge: Vec<u8>) -> Prepared {
        self.request(agent, wish, challenge, EvidenceMessage::Held {})
    }

    fn mint(&self) -> (Vec<u8>, Nonce) {
        let challenge = self.challenges.mint(now(), Duration::from_secs(600)).expect("randomness");
        (challenge.as_bytes().to_vec(), *challenge.nonce())
    }

    fn transcript(&self, agent: &Agent, nonce: Nonce) -> Transcript {
        Transcript {
            platform: self.machine.platform(),
            installation: self.root,
            nonce,
            hpke_key: agent.secret.public().clone(),
            signing_key: *agent.signing.public(),
            role: Role::WholeVm,
            configuration: Digest::from([5; 32]),
            gpu_evidence: None,
            event_log: None,
        }
    }

    fn request(&self, agent: &Agent, wish: Wish, challenge: Vec<u8>, evidence: EvidenceMessage) -> Prepared {
        let (kind, wanted, identity) = match wish {
            Wish::Model => (Kind::Model, "acme/llama", None),
            Wish::Token => {
                let ask = IdentityAsk { jwt_audiences: vec![AUDIENCE.to_owned()], ..IdentityAsk::default() };
                (Kind::Identity, "agents", Some(ask))
            }
        };
        let request = ReleaseRequest {
            request: RequestId::random().expect("randomness"),
            installation: self.root,
            challenge,
            platform: self.machine.platform(),
            evidence,
            hpke_key: agent.secret.public().clone(),
            signing_key: *agent.signing.public(),
            role: Role::WholeVm,
            configuration: Digest::from([5; 32]),
            purpose: Purpose::Release,
            items: vec![Item { kind, name: name(wanted), version: None }],
            identity,
        };
        let signed = SignedDocument::sign(&request, &agent.signing).expect("a request");
        Prepared { body: signed.to_json(), digest: signed.digest(), secret: Arc::clone(&agent.secret) }
    }

    /// That an answer grants what was asked for, and opens.
    pub fn check(&self, prepared: &Prepared, answer: &[u8]) {
        let answer: ReleaseAnswer = serde_json::from_slice(answer).expect("an answer");
        let outcome = answer.open(&prepared.digest, &self.root, &prepared.secret, now()).expect("our answer");
        match outcome.items.as_slice() {
            [ItemOutcome::Granted { secret, .. }] => assert_eq!(secret.expose(), SECRET),
            [ItemOutcome::Identified(identified)] => assert_eq!(identified.jwt.len(), 1),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        drop(self.broker.kill());
        drop(self.broker.wait());
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("a seed")
}

fn stored_key(path: &Path, kind: &str) -> zeroize::Zeroizing<[u8; 32]> {
    let file = KeyFile::parse(&fs::read(path.join(format!("data/keys/{kind}.key"))).expect("a key file")).expect("a key file");
    file.open(kind, &Unlock::Nothing).expect("an open key")
}

fn this_program(path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(AS_BROKER).current_dir(path);
    command
}

/// Any free port; limits that do not stand in the way; who may publish and who decides.
fn configure(path: &Path, publisher: &PublicKey, authority: &PublicKey) {
    let file: PathBuf = path.join("data/broker.toml");
    let written = fs::read_to_string(&file).expect("the file that init wrote");
    let more = format!(
        "\n[[publisher]]\nkey = \"{publisher}\"\nnames = [\"acme/*\"]\n\n[[authority]]\nkey = \"{authority}\"\nnames = [\"*\"]\nidentities = [\"agents/*\"]\n\n\
         [identity]\ntrust-domain = \"{DOMAIN}\"\n\n[collateral]\nfolder = \"../collateral\"\n\n[limits]\nrequests_per_second = 1000000\nburst = 1000000\nchallenge_seconds = 600\n"
    );
    fs::write(&file, written.replace("127.0.0.1:8443", "127.0.0.1:0") + &more).expect("a file");
}

/// Starts the broker; its address, once it listens.
fn serve(path: &Path) -> (Child, String) {
    let log = path.join("broker.log");
    let mut command = this_program(path);
    command.args(["serve", "--config", "data/broker.toml"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(fs::File::create(&log).expect("a file")).spawn().expect("a broker");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let lines = BufReader::new(fs::File::open(&log).expect("a file")).lines().map_while(Result::ok);
        let events = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
        let mut urls = events.filter(|event| event["message"] == "listening").filter_map(|event| event["url"].as_str().map(str::to_owned));
        if let Some(url) = urls.next() {
            return (child, url.trim_start_matches("http://").trim_end_matches('/').to_owned());
        }
        let ended = child.try_wait().expect("a process");
        assert!(ended.is_none() && Instant::now() < until, "no broker: {}", fs::read_to_string(&log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}
