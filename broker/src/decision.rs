//! The whole decision, from a received request to a verdict on each item. It reads top to bottom: [`Judge::decide`].
//!
//! Two kinds of no: a [`Rejection`] means that the request or its evidence is not genuine, fresh or well formed, and whoever
//! sent it learns a code; a refused item means that the guest is genuine and may not have it, and the guest learns its own
//! found values. Neither releases anything; nor does a yes: it makes a [`Permit`], which must be recorded first.

use std::sync::Arc;

use attestation::{Anchors, ChainCache, Evidence, PreparedCollateral, SnpEvidence, TdxEvidence, VerifiedClaims};
use policies::{Ask, Check, Decision, Permit, Verdict};
use protocol::admin::PolicyReference;
use protocol::challenge::{ChallengeError, ChallengeKey};
use protocol::hpke::RecipientKey;
use protocol::ids::{DecisionId, Digest, NoRandomness, Nonce, Platform};
use protocol::keys::PublicKey;
use protocol::messages::{EvidenceMessage, Item, Purpose, ReceivedRequest, ReleaseRequest};
use protocol::time::UnixTime;
use protocol::transcript::Transcript;

use crate::collateral::Leaves;
use crate::documents::{ActiveDocuments, Record};
use crate::guests::{Guests, HeldGuest};

/// What a decision stands on, besides the request and the time.
pub struct Judge<'a> {
    /// The installation that guests pin.
    pub installation: PublicKey,
    /// Whose challenges count.
    pub challenges: &'a ChallengeKey,
    /// The roots of the platforms.
    pub anchors: &'a Anchors,
    /// What the operator has of the vendors' certificates, revocation lists and signed documents.
    pub collateral: &'a PreparedCollateral,
    /// The certificates of VCEKs that it has.
    pub leaves: &'a Leaves,
    /// Verified chains.
    pub chains: &'a dyn ChainCache,
    /// Guests verified before.
    pub guests: &'a Guests,
    /// The documents in force.
    pub documents: &'a Arc<ActiveDocuments>,
}

/// What was decided about a verified guest's request. Only [`Judge::decide`] makes one; it is used up by being recorded.
#[must_use = "a decision is recorded before anything is released"]
pub struct Verdicts {
    /// The decision's number.
    pub(crate) id: DecisionId,
    /// When.
    pub(crate) at: UnixTime,
    /// The nonce to spend.
    pub(crate) nonce: Nonce,
    /// The request's digest.
    pub(crate) request: Digest,
    /// Whether to release or only to decide.
    pub(crate) purpose: Purpose,
    /// The attested key.
    pub(crate) guest: RecipientKey,
    /// The digest of the documents that it stands on.
    pub(crate) documents: Digest,
    /// What the evidence proved.
    pub(crate) claims: Arc<VerifiedClaims>,
    /// SHA-256 of the evidence.
    pub(crate) evidence: Digest,
    /// One an item, in the order of the request.
    pub(crate) items: Vec<ItemVerdict>,
}

/// What was decided about one item.
pub(crate) struct ItemVerdict {
    /// What was asked for, with the version that was found.
    pub(crate) item: Item,
    /// The record, where there is one.
    pub(crate) record: Option<Arc<Record>>,
    /// The policy that decided, where one did.
    pub(crate) policy: Option<PolicyReference>,
    /// Every check that ran.
    pub(crate) checks: Vec<Check>,
    /// The permit, exactly where every check passed.
    pub(crate) permit: Option<Permit>,
}

impl Judge<'_> {
    /// Decides about a request.
    ///
    /// # Errors
    /// [`Rejection`], where nothing about the guest is proven.
    pub fn decide(&self, request: &ReceivedRequest, at: UnixTime) -> Result<(Verdicts, HeldGuest), Rejection> {
        let body = &request.body;
        // 1. The request is for this installation, and fresh: the challenge is ours and has not expired.
        //    That its nonce was never spent is what recording finds out.
        if body.installation != self.installation {
            return Err(Rejection::Installation { expected: self.installation, found: body.installation });
        }
        let challenge = self.challenges.check(&body.challenge, at)?;
        // 2. The evidence is genuine, and proves the keys that signed and that will be sealed to.
        let guest = self.verify(body, challenge.nonce(), at)?;
        let claims = Arc::clone(guest.claims());
        // 3. Each item on its own.
        let items = body.items.iter().map(|item| self.item(item, &claims, at)).collect();
        let verdicts = Verdicts {
            id: DecisionId::random()?,
            at,
            nonce: *challenge.nonce(),
            request: request.digest,
            purpose: body.purpose,
            guest: body.hpke_key.clone(),
            documents: *self.documents.digest(),
            evidence: *guest.evidence_digest(),
            claims,
            items,
        };
        Ok((verdicts, guest))
    }

    /// Verifies fresh evidence over the transcript that the request makes, or held evidence over the one that it proved.
    fn verify(&self, body: &ReleaseRequest, nonce: &Nonce, at: UnixTime) -> Result<HeldGuest, Rejection> {
        if let Some(expected) = body.evidence.platform().filter(|platform| *platform != body.platform) {
            return Err(Rejection::Platform { expected, found: body.platform });
        }
        let transcript = self.transcript(body, nonce);
        let evidence = match &body.evidence {
            EvidenceMessage::Held {} => {
                let held = self.guests.find(&body.signing_key).ok_or(Rejection::AttestAgain)?;
                let was = held.claims().transcript();
                // The nonce is fresh, and the event log is the one that is held; everything else must be what was attested.
                if (Transcript { nonce: was.nonce, event_log: was.event_log, ..transcript }) != *was {
                    return Err(Rejection::AttestAgain);
                }
                return Ok(held.verify_again(self.collateral, self.anchors, self.chains, at)?);
            }
            EvidenceMessage::SevSnp { report, certificate_table } => {
                let mut evidence = SnpEvidence::from_certificate_table(report.clone(), certificate_table)?;
                self.leaves.complete(&mut evidence);
                Evidence::Snp(evidence)
            }
            EvidenceMessage::Tdx { quote, event_log } => Evidence::Tdx(TdxEvidence { quote: quote.clone(), event_log: event_log.clone() }),
        };
        let claims = attestation::verify(&evidence, self.collateral, self.anchors, &transcript, self.chains, at)?;
        Ok(HeldGuest::new(evidence, claims))
    }

    fn transcript(&self, body: &ReleaseRequest, nonce: &Nonce) -> Transcript {
        Transcript {
            platform: body.platform,
            installation: self.installation,
            nonce: *nonce,
            hpke_key: body.hpke_key.clone(),
            signing_key: body.signing_key,
            role: body.role.clone(),
            configuration: body.configuration,
            gpu_evidence: None,
            event_log: body.evidence.event_log_digest(),
        }
    }

    /// Decides about one item: there is a record; it is not revoked; it may be judged under these roots; the policy that it
    /// demands, by the authority that it demands, is in force; and that policy says yes.
    fn item(&self, item: &Item, claims: &VerifiedClaims, at: UnixTime) -> ItemVerdict {
        let wanted = item.version.map_or_else(|| "any version".to_owned(), |version| format!("version {version}"));
        let subject = format!("{} {}, {wanted}", item.kind.as_str(), item.name);
        let Some(record) = self.documents.record(item.kind, &item.name, item.version) else {
            let checks = vec![check("record-known", "a published record", format!("no {subject}"), Verdict::Failed)];
            return ItemVerdict { item: item.clone(), record: None, policy: None, checks, permit: None };
        };
        let statement = record.statement.body();
        let item = Item { version: Some(statement.version), ..item.clone() };
        let mut checks = vec![check("record-known", "a published record", format!("version {}", statement.version), Verdict::Passed)];
        let revocation = self.documents.revocation(&statement.name, statement.version);
        let found = revocation.map_or_else(|| "not revoked".to_owned(), |entry| format!("revoked: {}", entry.reason));
        checks.push(check("record-revoked", "not revoked", found, passed(revocation.is_none())));
        let same_class = passed(statement.anchors == claims.anchors());
        checks.push(check("anchor-class", statement.anchors.as_str(), claims.anchors().as_str().to_owned(), same_class));
        let Some(policy) = self.documents.policy(&statement.authority, &statement.policy) else {
            let expected = format!("policy {} by {}", statement.policy, statement.authority);
            checks.push(check("policy-present", &expected, "none in force".to_owned(), Verdict::Failed));
            return ItemVerdict { item, record: Some(Arc::clone(record)), policy: None, checks, permit: None };
        };
        let document = &policy.document;
        let reference =
            PolicyReference { name: document.body().name.clone(), version: document.body().version, document: *document.digest() };
        checks.push(check("policy-present", statement.policy.as_str(), format!("version {}", reference.version), Verdict::Passed));
        let ask = Ask { record: *record.statement.digest(), documents: *self.documents.digest() };
        // The calendar that counts is by the authority that signed the policy.
        let calendar = policy.policy.calendar().and_then(|name| self.documents.calendar(document.signer(), name));
        let (permit, ran) = match policy.policy.decide(claims, &ask, calendar.map(|calendar| &calendar.calendar), at) {
            Decision::Permit(permit, ran) => (Some(permit), ran),
            Decision::Denial(ran) => (None, ran),
        };
        checks.extend(ran);
        let permit = permit.filter(|_| checks.iter().all(|check| check.verdict == Verdict::Passed));
        ItemVerdict { item, record: Some(Arc::clone(record)), policy: Some(reference), checks, permit }
    }
}

fn check(code: &'static str, expected: &str, found: String, verdict: Verdict) -> Check {
    Check { code, expected: expected.to_owned(), found, verdict }
}

const fn passed(holds: bool) -> Verdict {
    if holds { Verdict::Passed } else { Verdict::Failed }
}

/// Why a request proves nothing. Whoever sent it learns the code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The request is for another installation.
    #[error("the request is for installation {found}, not for {expected}")]
    Installation {
        /// This installation.
        expected: PublicKey,
        /// What the request names.
        found: PublicKey,
    },
    /// The challenge is not ours, or too old.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// The evidence is of another platform than the request says.
    #[error("the evidence is of platform {expected}, the request says {found}")]
    Platform {
        /// What the evidence is.
        expected: Platform,
        /// What the request says.
        found: Platform,
    },
    /// This broker holds no evidence under these keys.
    #[error("this broker holds no evidence for these keys")]
    AttestAgain,
    /// The evidence is not genuine.
    #[error(transparent)]
    Evidence(Box<attestation::Rejection>),
    /// No random bytes for the decision's number.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl From<attestation::Rejection> for Rejection {
    fn from(rejection: attestation::Rejection) -> Self {
        Self::Evidence(Box::new(rejection))
    }
}

impl Rejection {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Installation { .. } => "other-installation",
            Self::Challenge(ChallengeError::Form) => "challenge-form",
            Self::Challenge(ChallengeError::NotOurs) => "challenge-not-ours",
            Self::Challenge(ChallengeError::Expired { .. }) => "challenge-expired",
            Self::Platform { .. } => "platform-mismatch",
            Self::AttestAgain => "attest-again",
            Self::Evidence(rejection) => rejection.code(),
            Self::NoRandomness(_) => "no-randomness",
        }
    }

    /// What may help whoever sent it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Installation { .. } => "the guest pins another installation root than this broker's: compare `root` on both sides",
            Self::Challenge(_) => "ask for a challenge and use it within its life; all replicas must share keys/challenge.key",
            Self::Platform { .. } => "the request must name the platform that its evidence is of",
            Self::AttestAgain => "send fresh evidence; this replica does not hold it",
            Self::Evidence(_) => "the evidence is not genuine, not fresh or not for these keys; `portcullis verify` shows each step",
            Self::NoRandomness(_) => "the broker's operating system gives no random bytes",
        }
    }
}
