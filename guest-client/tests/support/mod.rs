//! A broker in miniature: it keeps the protocol to the letter, but for the one thing that a test tells it to do wrong. It judges
//! no evidence; that is the real broker's, in the end-to-end tests.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod issuer;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use guest_client::evidence::{Collected, EvidenceError, Source};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use issuer::Authority;
use protocol::challenge::{Challenge, ChallengeKey};
use protocol::documents::{CertificateBody, CertifiedKey, Kind};
use protocol::dsse::SignedDocument;
use protocol::entries::{Decided, Entry, Event, Verdict, nonce_digest};
use protocol::hpke::RecipientSecret;
use protocol::ids::{AnchorClass, DecisionId, Digest, Platform, Version};
use protocol::keys::SigningKey;
use protocol::log::checkpoint::Checkpoint;
use protocol::log::tree::{inclusion_proof, root};
use protocol::log::{MemoryTree, Receipt, TilePath, TileTree, leaf_hash};
use protocol::messages::{
    ChallengeAnswer, EvidenceMessage, InstallationAnswer, Item, ItemOutcome, Outcome, Problem, Purpose, Reason, ReceivedRequest,
    ReleaseAnswer, ReleaseRequest, Secret,
};
use protocol::spiffe::SpiffeId;
use protocol::time::UnixTime;
use std::time::{SystemTime, UNIX_EPOCH};
use testbed::snp::{GuestShape, Line, SoftGuest, SoftPlatform};
use zeroize::Zeroizing;

/// What the broker does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mischief {
    #[default]
    None,
    /// The identity is certified by another root.
    OtherRoot,
    /// The identity's certificate has run out.
    ExpiredIdentity,
    /// The answer is signed by a key that nobody certified.
    UncertifiedSigner,
    /// The identity that signs is certified for the log.
    LogKeySigns,
    /// The answer names another request.
    OtherRequest,
    /// The first answer, again.
    Replay,
    /// The answer is sealed to somebody else.
    OtherGuest,
    /// The receipt is empty.
    NoReceipt,
    /// The receipt's proof is another entry's.
    OtherProof,
    /// The checkpoint is signed by a key that nobody certified.
    OtherLogKey,
    /// No certificate of a log.
    NoLogCertificate,
    /// The entry is of another decision, request, nonce, guest, purpose, installation, verdict, or of no decision.
    OtherEntry(Field),
    /// One item more than was asked for.
    ExtraItem,
    /// Another name than was asked for.
    OtherItem,
    /// Another version than was asked for.
    OtherVersion,
    /// A grant where only a decision was asked for, and a permit where a release was.
    OtherKind,
    /// A model without its manifest.
    NoManifest,
    /// More bytes than any answer has.
    Oversized,
    /// Not a broker's answer.
    Garbage,
    /// 503 this often, with this Retry-After in seconds.
    Unavailable { times: u32, after: u64 },
    /// Slower than anybody waits.
    Slow,
    /// The connection ends before the answer.
    HangUp,
    /// A rejection: nothing was verified.
    Reject,
    /// The log begins anew.
    RollBack,
    /// The log's history is another.
    Rewrite,
    /// What is issued for an identity is wrong.
    Identity(Forged),
}

/// What is wrong about what is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// The certificate: none, unasked, for another key, with another number, with two names, another's, a CA's, not yet valid, shorter than
    /// is said, only for clients, under another CA.
    NoCertificate,
    Unasked,
    OtherKey,
    OtherSerial,
    TwoNames,
    OtherName,
    Authority,
    Future,
    Shorter,
    OnlyClient,
    OtherAuthority,
    /// The bundle: of another trust domain's keys, its own among the federated ones, no bundle.
    OtherBundle,
    OwnFederated,
    NoBundle,
    /// The token: none, for another audience, of another subject, by another key, for another audience than it says.
    NoToken,
    OtherAudience,
    OtherSubject,
    OtherSigner,
    MisnamedAudience,
    /// The attestation result: of another subject, for another audience, bound to another key, a token of another type.
    ResultSubject,
    ResultAudience,
    ResultKey,
    ResultType,
    /// The log: nothing issued, another name, number, key or `jti`; one `jti` fewer, or more.
    LogNothing,
    LogName,
    LogSerial,
    LogKey,
    LogJti,
    LogLacksResult,
    LogMore,
    /// A version, which an identity does not have.
    Versioned,
}

/// Which field of the entry is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Decision,
    Request,
    Nonce,
    Guest,
    Purpose,
    Installation,
    Verdict,
    Statement,
    Kind,
}

/// What there is to be released.
#[derive(Clone)]
pub struct Record {
    pub secret: Vec<u8>,
    pub publisher: Key,
    pub manifest: Option<Digest>,
}

/// A signing key by its seed: keys themselves are not cloned.
#[derive(Clone, Copy)]
pub struct Key(pub u8);

impl Key {
    pub fn key(self) -> SigningKey {
        SigningKey::from_seed(&[self.0; 32]).unwrap()
    }
}

pub const ROOT: Key = Key(1);
pub const IDENTITY: Key = Key(2);
pub const LOG: Key = Key(3);
pub const STRANGER: Key = Key(9);
pub const PUBLISHER: Key = Key(5);

pub fn now() -> UnixTime {
    UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

#[derive(Default)]
pub struct State {
    pub mischief: Mischief,
    pub records: BTreeMap<String, Record>,
    /// Names that are refused, and what is found then.
    pub refused: BTreeMap<String, String>,
    /// Every request that was read.
    pub requests: Vec<ReleaseRequest>,
    /// How many requests of any kind came.
    pub calls: u32,
    /// The last request's `Authorization`.
    pub authorization: Option<String>,
    /// Whether evidence is remembered.
    pub holds: bool,
    /// Who issues identities, and who everybody is.
    pub issuer: Option<Arc<(Authority, SpiffeId)>>,
    /// Audiences that there are no tokens for.
    pub refused_audiences: Vec<String>,
    entries: Vec<Vec<u8>>,
    first: Option<Vec<u8>>,
}

/// A running broker.
pub struct Broker {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Broker {
    /// Starts one that has these credentials.
    pub fn start(credentials: &[(&str, &str)]) -> Self {
        let mut state = State::default();
        for (name, secret) in credentials {
            let record = Record { secret: secret.as_bytes().to_vec(), publisher: PUBLISHER, manifest: None };
            state.records.insert((*name).to_owned(), record);
        }
        state.entries = (0..5).map(|index| format!("earlier entry {index}").into_bytes()).collect();
        let state = Arc::new(Mutex::new(state));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || run(listener, &shared));
        Self { address, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is asked for an identity here is `id`.
    pub fn identify(&self, id: &str) {
        let id: SpiffeId = id.parse().unwrap();
        self.state().issuer = Some(Arc::new((Authority::new(id.trust_domain().as_str()), id)));
    }

    pub fn misbehave(&self, mischief: Mischief) {
        self.state().mischief = mischief;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn run(listener: std::net::TcpListener, state: &Arc<Mutex<State>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let state = Arc::clone(state);
            tokio::spawn(async move {
                let service = service_fn(|request| serve(request, Arc::clone(&state)));
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

type Answer = Response<Full<Bytes>>;

async fn serve(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Answer, io::Error> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let slow = state.lock().unwrap().mischief == Mischief::Slow;
    if slow {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.calls += 1;
    state.authorization = authorization;
    if (state.mischief, path.as_str()) == (Mischief::HangUp, "/v1/release") {
        return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    }
    Ok(state.answer(&method, &path, &body))
}

fn json(value: &impl serde::Serialize) -> Answer {
    Response::builder().header("content-type", "application/json").body(Full::from(serde_json::to_vec(value).unwrap())).unwrap()
}

fn problem(problem: &Problem, retry_after: Option<u64>) -> Answer {
    let mut response = Response::builder().status(problem.status).header("content-type", Problem::MEDIA_TYPE);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(Full::from(serde_json::to_vec(problem).unwrap())).unwrap()
}

pub fn certificate(by: Key, certified: CertifiedKey, not_after: UnixTime) -> SignedDocument {
    let body = CertificateBody {
        installation: *by.key().public(),
        name: "acme".parse().unwrap(),
        anchors: AnchorClass::Test,
        certified,
        not_before: UnixTime::from_seconds(0),
        not_after,
    };
    SignedDocument::sign(&body, &by.key()).unwrap()
}

fn later() -> UnixTime {
    now().plus(Duration::from_secs(3600))
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Answer {
        if let Mischief::Unavailable { times, after } = self.mischief
            && times > 0
        {
            self.mischief = Mischief::Unavailable { times: times - 1, after };
            return problem(&Problem::new(503, "overloaded", "too much to do"), Some(after));
        }
        match (method, path) {
            (&Method::GET, "/v1/installation") => json(&self.installation()),
            (&Method::POST, "/v1/challenge") => json(&challenge()),
            (&Method::POST, "/v1/release") => self.release(body),
            (&Method::GET, "/elsewhere") => {
                Response::builder().status(307).header("location", "/v1/installation").body(Full::default()).unwrap()
            }
            (&Method::GET, path) => self.tile(path),
            _ => problem(&Problem::new(404, "no-such-route", "there is nothing here"), None),
        }
    }

    fn installation(&self) -> InstallationAnswer {
        let mut certificates = vec![certificate(ROOT, CertifiedKey::Identity(*IDENTITY.key().public()), later())];
        if self.mischief != Mischief::NoLogCertificate {
            certificates.push(certificate(ROOT, CertifiedKey::Log(*LOG.key().public()), later()));
        }
        InstallationAnswer { root: *ROOT.key().public(), certificates }
    }

    fn tile(&self, path: &str) -> Answer {
        let mut tree = TileTree::default();
        for entry in &self.entries {
            tree.append(leaf_hash(entry)).unwrap();
        }
        let bytes = path.strip_prefix("/log/").and_then(|path| path.parse::<TilePath>().ok()).and_then(|path| tree.tile_bytes(&path));
        match bytes {
            Some(bytes) => Response::new(Full::from(bytes)),
            None => problem(&Problem::new(404, "tile-unknown", "no such tile"), None),
        }
    }

    fn release(&mut self, body: &[u8]) -> Answer {
        match self.mischief {
            Mischief::Oversized => return Response::new(Full::from(vec![b' '; protocol::limits::REPLY_BODY + 1])),
            Mischief::Garbage => return Response::new(Full::from("<html>hello</html>")),
            Mischief::Reject => {
                let mut refusal = Problem::new(403, "snp-signature", "the evidence is not genuine");
                refusal.decision = Some(DecisionId::from([0xdd; 16]));
                refusal.hint = Some("see portcullis verify".to_owned());
                return problem(&refusal, None);
            }
            _ => {}
        }
        let request = ReceivedRequest::read(body).unwrap();
        self.requests.push(request.body.clone());
        if request.body.evidence == (EvidenceMessage::Held {}) && !self.holds {
            return problem(&Problem::new(409, "attest-again", "attest again"), None);
        }
        let answer = serde_json::to_vec(&self.decide(&request)).unwrap();
        let answer = match (&self.first, self.mischief) {
            (Some(first), Mischief::Replay) => first.clone(),
            _ => answer,
        };
        self.first.get_or_insert_with(|| answer.clone());
        Response::builder().header("content-type", "application/json").body(Full::from(answer)).unwrap()
    }

    fn decide(&mut self, request: &ReceivedRequest) -> ReleaseAnswer {
        let decision = DecisionId::random().unwrap();
        let mut items: Vec<ItemOutcome> = request.body.items.iter().map(|item| self.outcome(item, request)).collect();
        if self.mischief == Mischief::ExtraItem {
            items.push(self.outcome(&request.body.items[0], request));
        }
        let receipt = self.receipt(request, decision, &items);
        let outcome = Outcome { decision, at: now(), items, receipt };
        let digest = if self.mischief == Mischief::OtherRequest { Digest::from([1; 32]) } else { request.digest };
        let stranger = RecipientSecret::from_seed(&[4; 32]).unwrap();
        let guest = if self.mischief == Mischief::OtherGuest { stranger.public() } else { &request.body.hpke_key };
        let (signer, identity) = match self.mischief {
            Mischief::OtherRoot => (IDENTITY, certificate(STRANGER, CertifiedKey::Identity(*IDENTITY.key().public()), later())),
            Mischief::ExpiredIdentity => {
                (IDENTITY, certificate(ROOT, CertifiedKey::Identity(*IDENTITY.key().public()), UnixTime::from_seconds(9)))
            }
            Mischief::UncertifiedSigner => (STRANGER, certificate(ROOT, CertifiedKey::Identity(*IDENTITY.key().public()), later())),
            Mischief::LogKeySigns => (LOG, certificate(ROOT, CertifiedKey::Log(*LOG.key().public()), later())),
            _ => (IDENTITY, certificate(ROOT, CertifiedKey::Identity(*IDENTITY.key().public()), later())),
        };
        ReleaseAnswer::write(&outcome, digest, guest, &signer.key(), &identity).unwrap()
    }

    fn outcome(&self, asked: &Item, request: &ReceivedRequest) -> ItemOutcome {
        let purpose = request.body.purpose;
        let mut item = Item { version: Some(asked.version.unwrap_or(Version::FIRST)), ..asked.clone() };
        match self.mischief {
            Mischief::OtherItem => item.name = "other".parse().unwrap(),
            Mischief::OtherVersion => item.version = Some(Version::try_from(7).unwrap()),
            _ => {}
        }
        if let Some(found) = self.refused.get(asked.name.as_str()) {
            let reason =
                Reason { code: "snp-measurement".into(), found: found.clone(), hint: "boot the image that the policy names".into() };
            return ItemOutcome::Refused { item: asked.clone(), reasons: vec![reason] };
        }
        if let (Kind::Identity, Some(issuer)) = (asked.kind, &self.issuer) {
            let forged = if let Mischief::Identity(forged) = self.mischief { Some(forged) } else { None };
            return issuer::outcome(issuer, asked, &request.body, forged, &self.refused_audiences);
        }
        let Some(record) = self.records.get(asked.name.as_str()) else {
            let reason = Reason { code: "record-unknown".into(), found: "no such record".into(), hint: String::new() };
            return ItemOutcome::Refused { item: asked.clone(), reasons: vec![reason] };
        };
        let granting = (purpose == Purpose::Release) != (self.mischief == Mischief::OtherKind);
        if !granting {
            return ItemOutcome::Permitted { item, expires: later() };
        }
        let manifest = if self.mischief == Mischief::NoManifest { None } else { record.manifest };
        let secret = Secret::new(Zeroizing::new(record.secret.clone()));
        ItemOutcome::Granted {
            item,
            publisher: *record.publisher.key().public(),
            statement: Digest::from([6; 32]),
            manifest,
            expires: later(),
            secret,
        }
    }

    fn receipt(&mut self, request: &ReceivedRequest, decision: DecisionId, items: &[ItemOutcome]) -> Receipt {
        if self.mischief == Mischief::NoReceipt {
            return Receipt { entry: Vec::new(), proof: String::new() };
        }
        match self.mischief {
            Mischief::RollBack => self.entries.truncate(1),
            Mischief::Rewrite => self.entries[0] = b"another entry".to_vec(),
            _ => {}
        }
        let entry = self.entry(request, decision, items).to_bytes().unwrap();
        self.entries.push(entry.clone());
        let tree: MemoryTree = self.entries.iter().map(|entry| leaf_hash(entry)).collect();
        let size = tree.size();
        let index = if self.mischief == Mischief::OtherProof { size - 2 } else { size - 1 };
        let key = if self.mischief == Mischief::OtherLogKey { STRANGER } else { LOG };
        let note = Checkpoint { origin: "acme/log".parse().unwrap(), size, root: root(&tree, size).unwrap() }.sign(&key.key());
        Receipt::new(entry, index, inclusion_proof(&tree, index, size).unwrap(), &note)
    }

    fn entry(&self, request: &ReceivedRequest, decision: DecisionId, items: &[ItemOutcome]) -> Entry {
        let wrong = |field| self.mischief == Mischief::OtherEntry(field);
        let nonce = *Challenge::parse(&request.body.challenge).unwrap().nonce();
        let other = Digest::from([0xee; 32]);
        let purpose = match (request.body.purpose, wrong(Field::Purpose)) {
            (Purpose::Release, false) | (Purpose::Check, true) => Purpose::Release,
            _ => Purpose::Check,
        };
        let event = Event::Decision {
            decision: if wrong(Field::Decision) { DecisionId::from([0; 16]) } else { decision },
            request: if wrong(Field::Request) { other } else { request.digest },
            nonce: if wrong(Field::Nonce) { other } else { nonce_digest(&nonce) },
            guest: if wrong(Field::Guest) { other } else { request.body.hpke_key.id() },
            purpose,
            items: items.iter().map(|item| self.decided(item)).collect(),
            details: Digest::from([8; 32]),
        };
        Entry {
            origin: "acme/log".into(),
            installation: if wrong(Field::Installation) { *STRANGER.key().public() } else { *ROOT.key().public() },
            anchors: AnchorClass::Test,
            at: now(),
            documents: Digest::from([9; 32]),
            event: if wrong(Field::Kind) { Event::Initialised {} } else { event },
        }
    }

    fn decided(&self, outcome: &ItemOutcome) -> Decided {
        let item = outcome.item();
        let refused = matches!(outcome, ItemOutcome::Refused { .. }) != (self.mischief == Mischief::OtherEntry(Field::Verdict));
        let issued = if let ItemOutcome::Identified(identified) = outcome { issuer::issued(identified, self.mischief) } else { None };
        let statement = match outcome {
            ItemOutcome::Granted { .. } if self.mischief == Mischief::OtherEntry(Field::Statement) => Some(Digest::from([0; 32])),
            ItemOutcome::Granted { statement, .. } => Some(*statement),
            _ => None,
        };
        Decided {
            kind: item.kind,
            name: item.name.clone(),
            version: item.version,
            statement,
            policy: None,
            verdict: if refused { Verdict::Refused } else { Verdict::Permitted },
            reasons: Vec::new(),
            issued,
        }
    }
}

fn challenge() -> ChallengeAnswer {
    let key = ChallengeKey::new(Zeroizing::new([1; 32]), *ROOT.key().public());
    let challenge = key.mint(now(), Duration::from_secs(60)).unwrap();
    ChallengeAnswer { challenge: challenge.as_bytes().to_vec(), expires: challenge.expires() }
}

/// A guest of the soft platform, as the owner of its interface.
pub struct Soft(pub SoftGuest);

impl Soft {
    pub fn new() -> Self {
        Self(SoftPlatform::new(Line::Milan).guest(GuestShape::default()))
    }
}

impl Source for Soft {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        Ok(Platform::SevSnp)
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        let evidence = self.0.attest(report_data);
        Ok(Collected { platform: Platform::SevSnp, report: evidence.report, certificate_table: evidence.certificate_table })
    }
}

pub fn credential(name: &str) -> Item {
    Item { kind: Kind::Credential, name: name.parse().unwrap(), version: None }
}

/// The identity that this policy gives.
pub fn identity(policy: &str) -> Item {
    Item { kind: Kind::Identity, name: policy.parse().unwrap(), version: None }
}
