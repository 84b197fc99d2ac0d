//! An installation for tests, made by `init` like any other, and guests that attest to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attestation::Anchors;
use broker::clock;
use broker::collateral::{CollateralHouse, Vendors};
use broker::config::{self, Limits, Signer};
use broker::custody::{Installation, Keys, TestAnchor, read_token};
use broker::decision::{Judge, Rejection};
use broker::documents::{Admitted, Trust};
use broker::feed::{self, Feed};
use broker::guests::HeldGuest;
use broker::identity::Issuer;
use broker::init::{Plan, Root, anchors, init, store_path};
use broker::ledger::{Identity, Ledger, OpenError, RecordError};
use broker::release::release;
use broker::server::{Broker, Parts};
use broker::sightings::Sightings;
use broker::store::Store;
use broker::store::sqlite::SqliteStore;
use protocol::documents::{BaselineProduct, Kind, PolicyBody, Revocation, RevocationsBody, TcbBaseline, TcbBaselinesBody};
use protocol::dsse::SignedDocument;
use protocol::envelope::{Draft, RecordFile, write_record};
use protocol::hpke::{RecipientKey, RecipientSecret};
use protocol::ids::{AnchorClass, Digest, Name, Platform, RequestId, Role, Version};
use protocol::keyfile::Unlock;
use protocol::keys::{PublicKey, SigningKey};
use protocol::messages::{
    EvidenceMessage, IdentityAsk, InstallationAnswer, Item, ItemOutcome, Outcome, Purpose, ReceivedRequest, ReleaseAnswer, ReleaseRequest,
    SvidKey,
};
use protocol::time::UnixTime;
use protocol::tokens::EcKey;
use protocol::transcript::Transcript;
use tempfile::TempDir;
use testbed::snp::{GuestShape, Line, SoftGuest, SoftPlatform};
use testbed::tdx::SoftTdx;

/// What is released; it must never be seen anywhere else.
pub const SECRET: &[u8] = b"portcullis-secret-0123456789abcd";
/// The configuration that the test policy demands.
pub fn configuration() -> Digest {
    Digest::from([0xc1; 32])
}
pub const HOUR: Duration = Duration::from_secs(3600);

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub fn root() -> SigningKey {
    key(1)
}
pub fn publisher() -> SigningKey {
    key(2)
}
pub fn authority() -> SigningKey {
    key(3)
}
/// Another authority, which speaks for `other/*` alone.
pub fn other_authority() -> SigningKey {
    key(4)
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn version(number: u64) -> Version {
    Version::try_from(number).unwrap()
}

pub fn platform() -> SoftPlatform {
    SoftPlatform::new(Line::Genoa)
}

/// The data folder of an installation, and what its configuration would say.
pub struct House {
    folder: TempDir,
    pub trust: Trust,
    pub limits: Limits,
    /// Whom the feed asks: nobody, unless a test says so.
    pub feed: feed::Settings,
    pub vendors: Vendors,
    /// Where guests are given identities: nowhere, unless a test says so.
    pub identity: Option<config::Identity>,
    pub at: UnixTime,
}

fn signer(key: &SigningKey, names: &[&str]) -> Signer {
    Signer { key: *key.public(), names: names.iter().map(|name| (*name).to_owned()).collect(), identities: Vec::new() }
}

impl House {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = clock::now();
        let data = folder.path().join("data");
        let test_anchors = vec![
            TestAnchor { product: "Genoa".into(), certificate: platform().ark_der() },
            TestAnchor { product: TestAnchor::INTEL.into(), certificate: SoftTdx::new().root_der() },
        ];
        let (root, unlock) = (Root::Here(root()), Unlock::Nothing);
        let plan = Plan { data: data.clone(), name: name("acme"), root, test_anchors, unlock, validity: 100 * HOUR, at };
        init(plan).await.unwrap();
        std::fs::create_dir(data.join("collateral")).unwrap();
        std::fs::write(data.join("collateral/genoa.crl"), platform().crl_der(&[])).unwrap();
        let trust = Trust {
            installation: *self::root().public(),
            anchors: AnchorClass::Test,
            publishers: vec![signer(&publisher(), &["acme/*", "other/*"])],
            authorities: vec![signer(&authority(), &["*"]), signer(&other_authority(), &["other/*"])],
        };
        let (limits, feed, vendors) = (Limits::default(), feed::Settings::default(), Vendors::default());
        Self { folder, trust, limits, feed, vendors, identity: None, at }
    }

    /// With a record `acme/llama` version 1 and the policy `acme/strict` that permits the testbed's image.
    pub async fn with_llama() -> Self {
        let house = Self::new().await;
        // The log alone: what lies in the folder is kept once the broker is opened.
        let ledger = house.open_ledger(None).await.unwrap();
        ledger.put(house.trust.policy(&policy_document(&authority(), "acme/strict", 1, &policy())).unwrap()).await.unwrap();
        ledger.put(house.record("acme/llama", 1)).await.unwrap();
        house
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn installation(&self) -> Installation {
        Installation::read(&self.data()).unwrap()
    }

    pub fn keys(&self) -> (Keys, SigningKey) {
        Keys::open(&self.data(), &self.installation(), &Unlock::Nothing, self.at).unwrap()
    }

    pub fn identity(&self) -> Identity {
        let installation = self.installation();
        let origin = installation.origin().parse().unwrap();
        Identity { origin, installation: installation.root, anchors: installation.anchors }
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&store_path(&self.data())).await.unwrap())
    }

    pub async fn open_ledger(&self, kept: Option<&str>) -> Result<Ledger, OpenError> {
        Ledger::open(self.store().await, self.keys().1, self.identity(), &self.trust, kept).await
    }

    /// What `serve` puts together.
    pub async fn open(&self) -> Arc<Broker> {
        self.open_on(self.store().await).await
    }

    pub async fn open_on(&self, store: Arc<dyn Store>) -> Arc<Broker> {
        let (keys, log_key) = self.keys();
        let ledger = Ledger::open(Arc::clone(&store), log_key, self.identity(), &self.trust, None).await.unwrap();
        let installation = self.installation();
        let anchors = Arc::new(anchors(&installation).unwrap());
        let folder = Some(self.data().join("collateral"));
        let collateral = CollateralHouse::open(folder, self.vendors, Arc::clone(&anchors), Arc::clone(&store), self.at).await;
        let collateral = Arc::new(collateral.unwrap());
        let feed = Arc::new(Feed::new(&self.feed, Arc::clone(&collateral)).unwrap());
        let sightings = Sightings::new(store.sightings().await.unwrap(), clock::now());
        let issuer = match &self.identity {
            None => None,
            Some(identity) => {
                let issuer = Issuer::open(identity, &self.data(), &installation, &Unlock::Nothing).unwrap();
                issuer.rotate(&ledger, self.at).await.unwrap();
                Some(Arc::new(issuer))
            }
        };
        Arc::new(Broker::new(Parts {
            keys,
            installation: InstallationAnswer { root: installation.root, certificates: installation.certificates.clone() },
            anchors,
            collateral,
            feed,
            trust: self.trust.clone(),
            ledger,
            store,
            sightings,
            issuer,
            limits: self.limits.clone(),
            token: read_token(&self.data()).unwrap(),
        }))
    }

    pub fn sealing_key(&self) -> RecipientKey {
        self.keys().0.sealing.public().clone()
    }

    pub fn draft(&self, record: &str, number: u64) -> Draft {
        Draft {
            installation: *root().public(),
            name: name(record),
            version: version(number),
            kind: Kind::Credential,
            manifest: None,
            policy: name("acme/strict"),
            authority: *authority().public(),
            anchors: AnchorClass::Test,
        }
    }

    pub fn record_file(&self, record: &str, number: u64) -> RecordFile {
        write_record(self.draft(record, number), SECRET, &[self.sealing_key()], &publisher()).unwrap()
    }

    pub fn record(&self, record: &str, number: u64) -> Admitted {
        self.trust.record(self.record_file(record, number)).unwrap()
    }

    pub fn revocations(&self, number: u64, revoked: &[(&str, Option<u64>)]) -> Admitted {
        self.trust.revocations(&revocation_document(&authority(), number, revoked)).unwrap()
    }

    /// Every byte of the store, its side files too.
    pub fn store_bytes(&self) -> Vec<u8> {
        let files = ["store.sqlite", "store.sqlite-wal"].map(|file| std::fs::read(self.data().join(file)).unwrap_or_default());
        files.concat()
    }

    /// The store's files, as a backup has them.
    pub fn folder_copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for file in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
            drop(std::fs::copy(self.data().join(file), copy.path().join(file)));
        }
        copy
    }

    /// Puts a backup in the place of the store.
    pub fn put_back(&self, copy: &TempDir) {
        for file in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
            drop(std::fs::remove_file(self.data().join(file)));
            drop(std::fs::copy(copy.path().join(file), self.data().join(file)));
        }
    }

    pub fn store_path(&self) -> PathBuf {
        store_path(&self.data())
    }
}

/// A policy for the testbed's image on its Genoa machine.
pub fn policy() -> String {
    let measurement: String = platform().report().measurement.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = [\"{}\"]\nattestation-lifetime = \"1 hour\"\n[snp]\nvmpl = [0]\n\
         [snp.measurements]\ntestbed = [\"{measurement}\"]\n[snp.guest-policy]\nsmt = \"allowed\"\n[snp.products.genoa]\n\
         minimum-tcb = {{ bootloader = 10, tee = 0, snp = 27, microcode = 88 }}\n",
        "c1".repeat(32)
    )
}

pub fn policy_document(authority: &SigningKey, policy: &str, number: u64, toml: &str) -> SignedDocument {
    let body = PolicyBody { installation: *root().public(), name: name(policy), version: version(number), toml: toml.to_owned() };
    SignedDocument::sign(&body, authority).unwrap()
}

pub fn revocation_document(authority: &SigningKey, number: u64, revoked: &[(&str, Option<u64>)]) -> SignedDocument {
    revocation_document_of(None, authority, number, revoked)
}

/// The same, of one kind alone.
pub fn revocation_document_of(kind: Option<Kind>, authority: &SigningKey, number: u64, revoked: &[(&str, Option<u64>)]) -> SignedDocument {
    let entry = |(record, number): &(&str, Option<u64>)| Revocation {
        kind,
        name: name(record),
        version: number.map(version),
        reason: "leaked".to_owned(),
    };
    let revoked = revoked.iter().map(entry).collect();
    SignedDocument::sign(&RevocationsBody { installation: *root().public(), version: version(number), revoked }, authority).unwrap()
}

/// A TCB calendar of the Genoa line: each baseline a time and its microcode.
pub fn calendar_document(authority: &SigningKey, calendar: &str, number: u64, baselines: &[(UnixTime, u8)]) -> SignedDocument {
    let baseline = |&(published, microcode): &(UnixTime, u8)| TcbBaseline {
        product: BaselineProduct::Genoa,
        published,
        fmc: None,
        bootloader: 10,
        tee: 0,
        snp: 27,
        microcode,
    };
    let baselines = baselines.iter().map(baseline).collect();
    let body = TcbBaselinesBody { installation: *root().public(), name: name(calendar), version: version(number), baselines };
    SignedDocument::sign(&body, authority).unwrap()
}

/// The policy, with its minimum from the calendar `acme/amd`.
pub fn dated_policy() -> String {
    let fixed = "minimum-tcb = { bootloader = 10, tee = 0, snp = 27, microcode = 88 }";
    policy().replace(fixed, "minimum-tcb = \"calendar\"\ngrace = \"30 days\"").replace("vmpl = [0]", "vmpl = [0]\ncalendar = \"acme/amd\"")
}

/// A guest with its keys.
pub struct Guest {
    pub hpke: RecipientSecret,
    pub signing: SigningKey,
    pub role: Role,
    pub configuration: Digest,
    pub purpose: Purpose,
    pub items: Vec<Item>,
    /// In which forms it wants an identity, where it asks for one.
    pub forms: Option<Forms>,
    pub soft: SoftGuest,
}

/// In which forms a guest wants its identity.
#[derive(Default)]
pub struct Forms {
    pub key: Option<EcKey>,
    pub audiences: Vec<String>,
    pub result: Option<String>,
}

pub fn credential(record: &str) -> Item {
    Item { kind: Kind::Credential, name: name(record), version: None }
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            hpke: RecipientSecret::generate().unwrap(),
            signing: SigningKey::generate().unwrap(),
            role: Role::WholeVm,
            configuration: configuration(),
            purpose: Purpose::Release,
            items: vec![credential("acme/llama")],
            forms: None,
            soft: platform().guest(GuestShape::default()),
        }
    }
}

impl Guest {
    pub fn asking(items: &[&str]) -> Self {
        Self { items: items.iter().map(|item| credential(item)).collect(), ..Self::default() }
    }

    pub fn transcript(&self, challenge: &[u8]) -> Transcript {
        Transcript {
            platform: Platform::SevSnp,
            installation: *root().public(),
            nonce: challenge[1..33].try_into().map(|nonce: [u8; 32]| nonce.into()).unwrap(),
            hpke_key: self.hpke.public().clone(),
            signing_key: *self.signing.public(),
            role: self.role.clone(),
            configuration: self.configuration,
            gpu_evidence: None,
            event_log: None,
        }
    }

    /// A request with fresh evidence over the challenge.
    pub fn request(&self, challenge: &[u8]) -> ReleaseRequest {
        let soft = self.soft.attest(&self.transcript(challenge).report_data());
        let evidence = EvidenceMessage::SevSnp { report: soft.report, certificate_table: soft.certificate_table };
        self.request_with(challenge, evidence)
    }

    pub fn request_with(&self, challenge: &[u8], evidence: EvidenceMessage) -> ReleaseRequest {
        let request = RequestId::random().unwrap();
        let (root, signing) = (root(), self.signing.public());
        let prove = |key: &EcKey| SvidKey::prove(key, root.public(), &request, signing).unwrap();
        let identity = self.forms.as_ref().map(|forms| IdentityAsk {
            x509: forms.key.as_ref().map(prove),
            jwt_audiences: forms.audiences.clone(),
            result_audience: forms.result.clone(),
        });
        ReleaseRequest {
            request,
            installation: *root.public(),
            challenge: challenge.to_vec(),
            platform: Platform::SevSnp,
            evidence,
            hpke_key: self.hpke.public().clone(),
            signing_key: *self.signing.public(),
            role: self.role.clone(),
            configuration: self.configuration,
            purpose: self.purpose,
            items: self.items.clone(),
            identity,
        }
    }

    pub fn sign(&self, body: &ReleaseRequest) -> ReceivedRequest {
        ReceivedRequest::read(&SignedDocument::sign(body, &self.signing).unwrap().to_json()).unwrap()
    }

    /// What this guest reads in an answer to its request.
    pub fn open(&self, answer: &ReleaseAnswer, request: &Digest, at: UnixTime) -> Outcome {
        answer.open(request, root().public(), &self.hpke, at).unwrap()
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum No {
    Rejected(Rejection),
    NotRecorded(RecordError),
}

impl No {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::NotRecorded(error) => panic!("not recorded: {error}"),
        }
    }
}

pub fn challenge(broker: &Broker, at: UnixTime) -> Vec<u8> {
    broker.keys.challenge.mint(at, Duration::from_secs(120)).unwrap().as_bytes().to_vec()
}

/// The verdicts on a request, as the server has them made.
pub fn decide(broker: &Broker, request: &ReceivedRequest, at: UnixTime) -> Result<(broker::decision::Verdicts, HeldGuest), Rejection> {
    decide_under(broker, &broker.anchors, request, at)
}

pub fn decide_under(
    broker: &Broker,
    anchors: &Anchors,
    request: &ReceivedRequest,
    at: UnixTime,
) -> Result<(broker::decision::Verdicts, HeldGuest), Rejection> {
    let judge = Judge {
        installation: broker.installation.root,
        challenges: &broker.keys.challenge,
        anchors,
        collateral: &broker.collateral.current(),
        leaves: broker.collateral.leaves(),
        chains: &broker.chains,
        guests: &broker.guests,
        documents: &broker.ledger.published().documents,
        realm: broker.issuer.as_deref().map(Issuer::realm),
    };
    judge.decide(request, at)
}

/// Decide, record, release, and what the guest reads. As in the server, a decision on documents that changed is made again.
pub async fn exchange(broker: &Broker, guest: &Guest, request: &ReleaseRequest, at: UnixTime) -> Result<Outcome, No> {
    let request = guest.sign(request);
    loop {
        let (verdicts, held) = decide(broker, &request, at).map_err(No::Rejected)?;
        let until = verdicts.permitted_until();
        let recorded = match broker.ledger.record(verdicts).await {
            Err(RecordError::DocumentsChanged) => continue,
            recorded => recorded.map_err(No::NotRecorded)?,
        };
        if let Some(until) = until {
            broker.guests.keep(held, until, at);
        }
        let sealed = release(recorded, &broker.keys, broker.issuer.as_deref(), at).unwrap();
        return Ok(guest.open(sealed.answer(), &request.digest, at));
    }
}

/// A whole genuine exchange of this guest, now.
pub async fn ask(broker: &Broker, guest: &Guest) -> Outcome {
    let at = clock::now();
    exchange(broker, guest, &guest.request(&challenge(broker, at)), at).await.unwrap()
}

/// The codes of an item's refusal; none where it was granted or permitted.
pub fn codes(outcome: &ItemOutcome) -> Vec<&str> {
    match outcome {
        ItemOutcome::Refused { reasons, .. } => reasons.iter().map(|reason| reason.code.as_str()).collect(),
        ItemOutcome::Granted { .. } | ItemOutcome::Permitted { .. } | ItemOutcome::Identified(_) => Vec::new(),
    }
}

/// Runs SQL on a store behind the broker's back.
pub async fn behind_its_back(path: &Path, sql: &str) {
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let changed = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    assert!(changed.rows_affected() > 0, "{sql} changed nothing");
    connection.close().await.unwrap();
}

pub fn log_key(house: &House) -> PublicKey {
    *house.keys().1.public()
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
