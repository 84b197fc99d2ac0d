//! The exchange from the guest's side: challenge, fresh keys, evidence, signed request; then the answer, believed only where all
//! of it holds together.
//!
//! 1. The broker's certificates are asked for, and those of its log taken that the pinned root has signed.
//! 2. A challenge is asked for; its nonce goes into the transcript with fresh keys, role, and the configuration's digest.
//! 3. The request, signed by the attested key, goes out.
//! 4. The answer opens: certified identity, its signature, this request's digest, sealed to this guest ([`ReleaseAnswer::open`]).
//! 5. It answers what was asked, item by item, and nothing else; what was issued for an identity verifies ([`IdentityError`]).
//! 6. Its receipt holds: the log has the entry, and the entry is this decision on this request, with these verdicts.
//! 7. The log has only grown since this guest last saw it, where it remembers.
//!
//! Only then is there an [`Answered`].

mod error;
mod identity;

use std::path::PathBuf;

use protocol::challenge::Challenge;
use protocol::documents::{Certificate, Kind};
use protocol::dsse::SignedDocument;
use protocol::entries::{Decided, Entry, Event, Verdict, nonce_digest};
use protocol::hpke::RecipientSecret;
use protocol::ids::{AnchorClass, Digest, Name, Nonce, Platform, RequestId, Role};
use protocol::keys::{PublicKey, SigningKey};
use protocol::log::{Origin, TilePath, VerifiedReceipt};
use protocol::messages::{
    ChallengeAnswer, EvidenceMessage, Identified, InstallationAnswer, Item, ItemOutcome, Outcome, Problem, Purpose, Reason, ReleaseAnswer,
    ReleaseRequest,
};
use protocol::time::UnixTime;
use serde::de::DeserializeOwned;

use crate::checkpoints::{Memory, Tiles};
use crate::clock;
use crate::evidence::{AttestInputs, Attested, Attester};
use crate::identity::bundles::Bundles;
use connection::{Client, Reply};

pub use error::{Class, ExchangeError};
pub use identity::{AskFor, IdentityError};

/// The code by which a broker says that it does not hold a guest's evidence.
const ATTEST_AGAIN: &str = "attest-again";

/// What a session is under.
#[derive(Clone)]
pub struct Terms {
    /// The pinned installation root.
    pub root: PublicKey,
    /// The digest of the effective configuration.
    pub configuration: Digest,
    /// Where checkpoints are kept; `None`: they are not.
    pub state: Option<PathBuf>,
}

/// One guest and one broker. Its keys are made at the first exchange and serve until the broker no longer holds the evidence over them, or
/// turns it away. An outage, and an answer that is not believed, say nothing about the evidence: a broker that has too much to do for a
/// renewal has too much to do for another attestation.
pub struct Session<'a> {
    client: &'a Client,
    attester: &'a dyn Attester,
    terms: Terms,
    held: Option<Identity>,
}

/// What the guest is known by: attested keys.
struct Identity {
    hpke: RecipientSecret,
    signing: SigningKey,
    platform: Platform,
    role: Role,
}

/// An answer that was believed: opened, about these items, recorded in the log. Only a [`Session`] makes one.
#[derive(Debug)]
pub struct Answered {
    outcome: Outcome,
    index: u64,
    size: u64,
    bundles: Option<Bundles>,
}

impl Answered {
    /// What the broker decided.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The same, with its secrets.
    #[must_use]
    pub fn into_outcome(self) -> Outcome {
        self.outcome
    }

    /// What was issued for the identity that was asked for, and the bundles that came with it; or why it was not.
    ///
    /// # Errors
    /// The reasons of the refusal; none where no identity was asked for.
    pub fn into_identity(self) -> Result<(Identified, Bundles), Vec<Reason>> {
        let Self { outcome, bundles, .. } = self;
        let about_identity = outcome.items.into_iter().find(|item| item.item().kind == Kind::Identity);
        match (about_identity, bundles) {
            (Some(ItemOutcome::Identified(identified)), Some(bundles)) => Ok((*identified, bundles)),
            (Some(ItemOutcome::Refused { reasons, .. }), _) => Err(reasons),
            _ => Err(Vec::new()),
        }
    }

    /// The index of the decision's entry in the audit log.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.index
    }

    /// How many entries the log had.
    #[must_use]
    pub const fn log_size(&self) -> u64 {
        self.size
    }

    /// Whether everything that was asked for was granted, or would have been.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        !self.outcome.items.iter().any(|item| matches!(item, ItemOutcome::Refused { .. }))
    }
}

impl<'a> Session<'a> {
    /// Over these. Nothing is asked for yet.
    #[must_use]
    pub const fn new(client: &'a Client, attester: &'a dyn Attester, terms: Terms) -> Self {
        Self { client, attester, terms, held: None }
    }

    /// Forgets the attested keys: the next exchange attests anew, and with it the attestation's lifetime begins anew.
    pub fn forget(&mut self) {
        self.held = None;
    }

    /// Asks for `items`: to be released, or only to be decided about. One exchange; whether to try again is the caller's.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub fn release(&mut self, purpose: Purpose, items: &[Item]) -> Result<Answered, ExchangeError> {
        self.exchange(&Ask { purpose, items, identity: AskFor::default() })
    }

    /// Asks for the identity that `policy` gives, for what is to be issued for it, and for `more` to be released with it.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub fn identify(&mut self, policy: &Name, more: &[Item], ask: &AskFor<'_>) -> Result<Answered, ExchangeError> {
        let identity = Item { kind: Kind::Identity, name: policy.clone(), version: None };
        let items: Vec<Item> = std::iter::once(identity).chain(more.iter().cloned()).collect();
        self.exchange(&Ask { purpose: Purpose::Release, items: &items, identity: *ask })
    }

    fn exchange(&mut self, ask: &Ask<'_>) -> Result<Answered, ExchangeError> {
        let memory = self.terms.state.as_deref().map(|folder| Memory::hold(folder, &self.terms.root)).transpose()?;
        let logs = self.logs()?;
        if let Some(identity) = &self.held {
            let challenge = self.challenge()?;
            match self.ask(identity, &challenge, EvidenceMessage::Held {}, ask) {
                Err(ExchangeError::Rejected(problem)) => {
                    self.held = None;
                    if problem.code != ATTEST_AGAIN {
                        return Err(ExchangeError::Rejected(problem));
                    }
                }
                Err(error) => return Err(error),
                Ok(asked) => return self.believe(identity, asked, &logs, memory),
            }
        }
        let challenge = self.challenge()?;
        let (identity, evidence) = self.attest(&challenge)?;
        let asked = self.ask(&identity, &challenge, evidence, ask)?;
        let answered = self.believe(&identity, asked, &logs, memory);
        // Whoever answered has the evidence, whether or not the answer is believed.
        self.held = Some(identity);
        answered
    }

    /// The broker's logs, as certified by the pinned root.
    fn logs(&self) -> Result<Vec<Log>, ExchangeError> {
        let answer: InstallationAnswer = self.success("/v1/installation", &self.client.get("/v1/installation", None)?)?;
        let at = clock::now();
        let certified = answer.certificates.iter().filter_map(|signed| Certificate::verify(signed, &self.terms.root, at).ok());
        let logs: Vec<Log> = certified.filter_map(|certificate| Log::of(&certificate)).collect();
        if logs.is_empty() { Err(ExchangeError::NoLogCertificate { found: answer.certificates.len() }) } else { Ok(logs) }
    }

    fn challenge(&self) -> Result<Challenge, ExchangeError> {
        let answer: ChallengeAnswer = self.success("/v1/challenge", &self.client.post("/v1/challenge", Vec::new(), None)?)?;
        Ok(Challenge::parse(&answer.challenge)?)
    }

    fn attest(&self, challenge: &Challenge) -> Result<(Identity, EvidenceMessage), ExchangeError> {
        let (hpke, signing) = (RecipientSecret::generate()?, SigningKey::generate()?);
        let inputs = AttestInputs {
            nonce: *challenge.nonce(),
            installation: self.terms.root,
            hpke_key: hpke.public().clone(),
            signing_key: *signing.public(),
            configuration: self.terms.configuration,
        };
        let Attested { transcript, evidence } = self.attester.attest(&inputs)?;
        Ok((Identity { hpke, signing, platform: transcript.platform, role: transcript.role }, evidence))
    }

    fn ask<'q>(
        &self,
        identity: &Identity,
        challenge: &Challenge,
        evidence: EvidenceMessage,
        ask: &Ask<'q>,
    ) -> Result<Asked<'q>, ExchangeError> {
        let number = RequestId::random()?;
        let names_identity = ask.items.iter().any(|item| item.kind == Kind::Identity);
        let issue = names_identity.then(|| ask.identity.message(&self.terms.root, &number, identity.signing.public())).transpose()?;
        let request = ReleaseRequest {
            request: number,
            installation: self.terms.root,
            challenge: challenge.as_bytes().to_vec(),
            platform: identity.platform,
            evidence,
            hpke_key: identity.hpke.public().clone(),
            signing_key: *identity.signing.public(),
            role: identity.role.clone(),
            configuration: self.terms.configuration,
            purpose: ask.purpose,
            items: ask.items.to_vec(),
            identity: issue,
        };
        let signed = SignedDocument::sign(&request, &identity.signing)?;
        let reply = self.client.post("/v1/release", signed.to_json(), None)?;
        let answer: ReleaseAnswer = self.success("/v1/release", &reply)?;
        Ok(Asked { digest: signed.digest(), nonce: *challenge.nonce(), guest: identity.hpke.public().id(), ask: *ask, answer })
    }

    /// Steps 4 to 7.
    fn believe(&self, identity: &Identity, asked: Asked<'_>, logs: &[Log], memory: Option<Memory>) -> Result<Answered, ExchangeError> {
        let outcome = asked.answer.open(&asked.digest, &self.terms.root, &identity.hpke, clock::now())?;
        asked.check_items(&outcome)?;
        let bundles = asked.check_identity(&outcome, identity.signing.public(), clock::now())?;
        let (receipt, log) = verified(&outcome, logs)?;
        asked.check_entry(&outcome, &Entry::parse(receipt.entry())?, &self.terms.root, log)?;
        if let Some(mut memory) = memory {
            memory.advance(&receipt, &outcome.receipt.proof, &BrokerTiles(self.client))?;
        }
        Ok(Answered { outcome, index: receipt.index(), size: receipt.size(), bundles })
    }

    /// The body of a successful reply, or what the reply says instead.
    fn success<T: DeserializeOwned>(&self, path: &'static str, reply: &Reply) -> Result<T, ExchangeError> {
        if reply.is_success() {
            return serde_json::from_slice(&reply.body).map_err(|error| ExchangeError::Reply {
                path,
                status: reply.status,
                what: error.to_string(),
            });
        }
        let problem = match reply.content_type.as_deref() {
            Some(Problem::MEDIA_TYPE) => serde_json::from_slice::<Problem>(&reply.body).ok().map(Box::new),
            _ => None,
        };
        match (reply.status, problem) {
            (408 | 429 | 500.., problem) => {
                Err(ExchangeError::Unavailable { path, status: reply.status, problem, retry_after: reply.retry_after })
            }
            // Not the way to a broker, whoever says so.
            (status @ (404 | 405), problem) => {
                let what = problem.map_or_else(|| "there is nothing here".to_owned(), |problem| problem.title);
                Err(ExchangeError::Reply { path, status, what })
            }
            (_, Some(problem)) => Err(ExchangeError::Rejected(problem)),
            (status, None) => Err(ExchangeError::Reply { path, status, what: "expected a broker's answer".to_owned() }),
        }
    }
}

/// A log that the pinned root vouches for.
struct Log {
    origin: Origin,
    key: PublicKey,
    anchors: AnchorClass,
}

impl Log {
    fn of(certificate: &Certificate) -> Option<Self> {
        let key = *certificate.log().ok()?;
        let body = certificate.body();
        Some(Self { origin: format!("{}/log", body.name).parse().ok()?, key, anchors: body.anchors })
    }
}

/// The receipt under the first log that it holds under.
fn verified<'l>(outcome: &Outcome, logs: &'l [Log]) -> Result<(VerifiedReceipt, &'l Log), ExchangeError> {
    let mut refused = None;
    for log in logs {
        match outcome.receipt.verify(&log.origin, &log.key) {
            Ok(receipt) => return Ok((receipt, log)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.map_or(ExchangeError::NoLogCertificate { found: 0 }, ExchangeError::Receipt))
}

/// What is asked.
#[derive(Clone, Copy)]
struct Ask<'q> {
    purpose: Purpose,
    items: &'q [Item],
    /// What is to be issued, where an identity is among the items.
    identity: AskFor<'q>,
}

/// What was asked, and what came back.
struct Asked<'q> {
    digest: Digest,
    nonce: Nonce,
    guest: Digest,
    ask: Ask<'q>,
    answer: ReleaseAnswer,
}

impl Asked<'_> {
    /// Each item is answered, in its place, by what this purpose allows.
    fn check_items(&self, outcome: &Outcome) -> Result<(), ExchangeError> {
        if outcome.items.len() != self.ask.items.len() {
            return Err(ExchangeError::ItemCount { expected: self.ask.items.len(), found: outcome.items.len() });
        }
        for (asked, answered) in self.ask.items.iter().zip(&outcome.items) {
            let item = answered.item();
            let permitted = !matches!(answered, ItemOutcome::Refused { .. });
            let version_fits = match (permitted, asked.kind) {
                (false, _) => true,
                // An identity is asked for by a policy's name, and has no version.
                (true, Kind::Identity) => item.version.is_none(),
                (true, _) => item.version.is_some() && (asked.version.is_none() || asked.version == item.version),
            };
            if (item.kind, &item.name) != (asked.kind, &asked.name) || !version_fits {
                return Err(ExchangeError::OtherItem { expected: Box::new(asked.clone()), found: Box::new(item.clone()) });
            }
            let fits = match (self.ask.purpose, answered) {
                (_, ItemOutcome::Refused { .. }) | (Purpose::Check, ItemOutcome::Permitted { .. }) => true,
                (Purpose::Release, ItemOutcome::Granted { manifest, .. }) => {
                    item.kind != Kind::Identity && manifest.is_some() == (item.kind == Kind::Model)
                }
                (Purpose::Release, ItemOutcome::Identified(_)) => item.kind == Kind::Identity,
                _ => false,
            };
            if !fits {
                return Err(ExchangeError::OtherKindOfAnswer { item: Box::new(item.clone()) });
            }
        }
        Ok(())
    }

    /// What was issued for an identity is what was asked for.
    fn check_identity(&self, outcome: &Outcome, signing_key: &PublicKey, at: UnixTime) -> Result<Option<Bundles>, ExchangeError> {
        let identified = outcome.items.iter().find_map(identified);
        Ok(identified.map(|identified| identity::check(identified, &self.ask.identity, signing_key, at)).transpose()?)
    }

    /// The log's entry is this decision on this request.
    fn check_entry(&self, outcome: &Outcome, entry: &Entry, root: &PublicKey, log: &Log) -> Result<(), ExchangeError> {
        let other = |what| Err(ExchangeError::OtherEntry { what });
        if (entry.origin.as_str(), &entry.installation, entry.anchors) != (log.origin.as_str(), root, log.anchors) {
            return other("log, installation or anchor class");
        }
        let Event::Decision { decision, request, nonce, guest, purpose, items, details: _ } = &entry.event else {
            return other("kind: it is no decision");
        };
        match () {
            () if *decision != outcome.decision => other("decision"),
            () if *request != self.digest => other("request"),
            () if *nonce != nonce_digest(&self.nonce) => other("nonce"),
            () if *guest != self.guest => other("guest key"),
            () if *purpose != self.ask.purpose => other("purpose"),
            () if items.len() != outcome.items.len() => other("number of items"),
            () if !items.iter().zip(&outcome.items).all(|(decided, answered)| records(decided, answered)) => other("verdict on an item"),
            () => {
                let pairs = items.iter().zip(&outcome.items).filter_map(|(decided, answered)| Some((decided, identified(answered)?)));
                for (decided, identified) in pairs {
                    identity::check_issued(decided, identified, &self.ask.identity)?;
                }
                Ok(())
            }
        }
    }
}

fn identified(outcome: &ItemOutcome) -> Option<&Identified> {
    if let ItemOutcome::Identified(identified) = outcome { Some(identified) } else { None }
}

/// Whether the log's word on an item is the answer's.
fn records(decided: &Decided, answered: &ItemOutcome) -> bool {
    let item = answered.item();
    let same = (decided.kind, &decided.name) == (item.kind, &item.name);
    same && match answered {
        ItemOutcome::Granted { statement, .. } => {
            decided.verdict == Verdict::Permitted && decided.statement.as_ref() == Some(statement) && decided.version == item.version
        }
        ItemOutcome::Identified(_) => decided.verdict == Verdict::Permitted,
        ItemOutcome::Permitted { .. } => decided.verdict == Verdict::Permitted && decided.version == item.version,
        // A broker that cannot release what it permitted says so after the log has the permit: the log then says too much, never too little.
        ItemOutcome::Refused { .. } => true,
    }
}

/// The tiles that the broker serves.
struct BrokerTiles<'a>(&'a Client);

impl Tiles for BrokerTiles<'_> {
    fn fetch(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
        let reply = self.0.get(&format!("/log/{path}"), None).map_err(|error| error.to_string())?;
        match reply.status {
            200 => Ok(Some(reply.body)),
            404 => Ok(None),
            status => Err(format!("HTTP status {status}")),
        }
    }
}
