//! The whole decision, from a received request to a verdict on each item. It reads top to bottom: [`Judge::decide`].
//!
//! Two kinds of no: a [`Rejection`] means that the request or its evidence is not genuine, fresh or well formed, and whoever
//! sent it learns a code; a refused item means that the guest is genuine and may not have it, and the guest learns its own
//! found values. Neither releases anything; nor does a yes: it makes a [`Permit`], which must be recorded first.

use std::sync::Arc;

use attestation::{Anchors, ChainCache, Evidence, PreparedCollateral, SnpEvidence, TdxEvidence, VerifiedClaims};
use policies::{Ask, Audience, Check, Decision, Permit, Verdict};
use protocol::admin::PolicyReference;
use protocol::challenge::{ChallengeError, ChallengeKey};
use protocol::documents::Kind;
use protocol::hpke::RecipientKey;
use protocol::ids::{DecisionId, Digest, NoRandomness, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::messages::{EvidenceMessage, Item, Purpose, ReceivedRequest, ReleaseRequest};
use protocol::spiffe::Variables;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;

use crate::collateral::Leaves;
use crate::documents::{ActiveDocuments, PolicyInForce, Record};
use crate::guests::{Guests, HeldGuest};
use crate::identity::{Assigned, Realm};

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
    /// Where guests are given identities; `None` where this broker gives none.
    pub realm: Option<&'a Realm>,
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

impl Verdicts {
    /// The last second at which anything that was asked for is permitted; `None`: nothing is.
    #[must_use]
    pub fn permitted_until(&self) -> Option<UnixTime> {
        self.items.iter().filter_map(|item| item.permit.as_ref()).map(Permit::expires).max()
    }
}

/// What was decided about one item.
pub(crate) struct ItemVerdict {
    /// What was asked for, with the version that was found.
    pub(crate) item: Item,
    /// What stands behind the name.
    pub(crate) subject: Subject,
    /// The policy that decided, where one did.
    pub(crate) policy: Option<PolicyReference>,
    /// Every check that ran.
    pub(crate) checks: Vec<Check>,
    /// The permit, exactly where every check passed.
    pub(crate) permit: Option<Permit>,
}

/// What stands behind the name of an item.
pub(crate) enum Subject {
    /// Nothing that this broker knows.
    Unknown,
    /// A record.
    Record(Arc<Record>),
    /// The policy that gives an identity. What that consists of is drawn before it is recorded, and signed after: there exactly for a
    /// permit to release.
    Identity(Arc<PolicyInForce>, Option<Box<Assigned>>),
}

impl ItemVerdict {
    /// The record, where there is one.
    pub(crate) fn record(&self) -> Option<&Arc<Record>> {
        match &self.subject {
            Subject::Record(record) => Some(record),
            Subject::Unknown | Subject::Identity(..) => None,
        }
    }

    /// The authority whose policy decides about it.
    pub(crate) fn authority(&self) -> Option<&PublicKey> {
        match &self.subject {
            Subject::Unknown => None,
            Subject::Record(record) => Some(&record.statement.body().authority),
            Subject::Identity(policy, _) => Some(policy.document.signer()),
        }
    }

    /// The identity, where one is to be given.
    pub(crate) fn assigned(&self) -> Option<&Assigned> {
        match &self.subject {
            Subject::Identity(_, assigned) => assigned.as_deref(),
            Subject::Unknown | Subject::Record(_) => None,
        }
    }
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
        let decide = |item: &Item| match item.kind {
            Kind::Model | Kind::Credential => Ok(self.item(item, &claims, at)),
            Kind::Identity => self.identity(item, body, &claims, at),
        };
        let items = body.items.iter().map(decide).collect::<Result<_, _>>()?;
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
            return ItemVerdict { item: item.clone(), subject: Subject::Unknown, policy: None, checks, permit: None };
        };
        let statement = record.statement.body();
        let item = Item { version: Some(statement.version), ..item.clone() };
        let mut checks = vec![check("record-known", "a published record", format!("version {}", statement.version), Verdict::Passed)];
        let revocation = self.documents.revocation(statement.kind, &statement.name, statement.version);
        let found = revocation.map_or_else(|| "not revoked".to_owned(), |entry| format!("revoked: {}", entry.reason));
        checks.push(check("record-revoked", "not revoked", found, passed(revocation.is_none())));
        let same_class = passed(statement.anchors == claims.anchors());
        checks.push(check("anchor-class", statement.anchors.as_str(), claims.anchors().as_str().to_owned(), same_class));
        let Some(policy) = self.documents.policy(&statement.authority, &statement.policy) else {
            let expected = format!("policy {} by {}", statement.policy, statement.authority);
            checks.push(check("policy-present", &expected, "none in force".to_owned(), Verdict::Failed));
            return ItemVerdict { item, subject: Subject::Record(Arc::clone(record)), policy: None, checks, permit: None };
        };
        let reference = reference(policy);
        checks.push(check("policy-present", statement.policy.as_str(), format!("version {}", reference.version), Verdict::Passed));
        let ask = Ask { record: *record.statement.digest(), publisher: *record.statement.signer(), documents: *self.documents.digest() };
        let permit = self.ask_policy(policy, &ask, claims, at, &mut checks);
        let permit = permit.filter(|_| all_passed(&checks));
        ItemVerdict { item, subject: Subject::Record(Arc::clone(record)), policy: Some(reference), checks, permit }
    }

    /// Decides about an identity: one policy of this name gives one; it is not revoked; that policy says yes; the SPIFFE ID that it makes
    /// is one that its authority may assign in this trust domain; and what is asked for with it is what the policy gives.
    fn identity(&self, item: &Item, body: &ReleaseRequest, claims: &VerifiedClaims, at: UnixTime) -> Result<ItemVerdict, Rejection> {
        // 1. There is one such policy in force, whoever signed it. Two are none: neither authority may speak for the other.
        let giving: Vec<_> = self.documents.policies(&item.name).filter(|policy| policy.policy.identity().is_some()).collect();
        let (Some((policy, rules)), Some(ask)) =
            (giving.first().and_then(|policy| Some((*policy, policy.policy.identity()?))), &body.identity)
        else {
            let checks = vec![check("identity-unknown", "a policy with [identity]", format!("none named {}", item.name), Verdict::Failed)];
            return Ok(ItemVerdict { item: item.clone(), subject: Subject::Unknown, policy: None, checks, permit: None });
        };
        if giving.len() > 1 {
            let found = format!("{} by this name", giving.len());
            let checks = vec![check("identity-ambiguous", "a policy of one authority", found, Verdict::Failed)];
            return Ok(ItemVerdict { item: item.clone(), subject: Subject::Unknown, policy: None, checks, permit: None });
        }
        let (document, reference) = (&policy.document, reference(policy));
        let mut checks =
            vec![check("identity-unknown", "a policy with [identity]", format!("version {}", reference.version), Verdict::Passed)];
        checks.push(check("identity-ambiguous", "a policy of one authority", document.signer().to_string(), Verdict::Passed));
        // 2. Nobody who speaks for the name has revoked it.
        let revocation = self.documents.revocation(Kind::Identity, &item.name, reference.version);
        let found = revocation.map_or_else(|| "not revoked".to_owned(), |entry| format!("revoked: {}", entry.reason));
        checks.push(check("identity-revoked", "not revoked", found, passed(revocation.is_none())));
        // 3. The policy says yes to the guest.
        let to_policy = Ask { record: *document.digest(), publisher: *document.signer(), documents: *self.documents.digest() };
        let permit = self.ask_policy(policy, &to_policy, claims, at, &mut checks);
        // 4. The SPIFFE ID is made of the policy's template and of what is proven, lies in this broker's trust domain, and is one that the
        //    authority may assign.
        let ours = self.realm.map_or_else(|| "none: [identity] is not configured".to_owned(), |realm| realm.trust_domain.to_string());
        let found = rules.template().trust_domain();
        checks.push(check(
            "identity-trust-domain",
            &ours,
            found.to_string(),
            passed(self.realm.is_some_and(|realm| realm.trust_domain == *found)),
        ));
        let variables = Variables {
            workload: match &claims.transcript().role {
                Role::WholeVm => None,
                Role::Workload(name) => Some(name),
            },
            platform: claims.transcript().platform,
            policy: &item.name,
            anchors: claims.anchors(),
        };
        let id = rules.template().render(&variables);
        let found = id.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        checks.push(check("identity-template", &rules.template().to_string(), found, passed(id.is_ok())));
        let assigns = match policy.assigns.as_slice() {
            [] => "none: the authority has no identities to assign".to_owned(),
            patterns => format!("one of {}", patterns.join(", ")),
        };
        let (found, covered) = match &id {
            Ok(id) => (id.path().trim_start_matches('/').to_owned(), policy.assigns.iter().any(|pattern| id.is_covered_by(pattern))),
            Err(_) => ("no SPIFFE ID".to_owned(), false),
        };
        checks.push(check("identity-path", &assigns, found, passed(covered)));
        // 5. What is asked for with it: a certificate for a key that the guest has, tokens for audiences of the policy's lists.
        let key = ask.x509.as_ref().map(|key| key.check(&self.installation, &body.request, &body.signing_key)).transpose();
        let found = match &key {
            Ok(None) => "no certificate asked for".to_owned(),
            Ok(Some(_)) => "its possession is proven".to_owned(),
            Err(error) => error.to_string(),
        };
        checks.push(check("identity-key", "a P-256 key whose possession this request proves", found, passed(key.is_ok())));
        for audience in &ask.jwt_audiences {
            let given = match (rules.jwt_audience(audience), self.realm.and_then(|realm| realm.issuer.as_ref())) {
                (Some(Audience::Federation), None) => Err("this broker has no issuer to federate with"),
                (Some(_), _) => Ok(()),
                (None, _) => Err("not one of the policy's"),
            };
            let found = given.map_or_else(|why| format!("{audience}: {why}"), |()| audience.clone());
            checks.push(check("identity-audience", &rules.jwt_audiences_in_words(), found, passed(given.is_ok())));
        }
        if let Some(audience) = &ask.result_audience {
            let given = passed(rules.gives_results_to(audience));
            checks.push(check("identity-audience", &rules.result_audiences_in_words(), audience.clone(), given));
        }
        // 6. Only where all of that holds is anything drawn, and nothing is signed before it stands in the log.
        let permit = permit.filter(|_| all_passed(&checks));
        let assigned = match (&permit, id, key, body.purpose) {
            (Some(_), Ok(id), Ok(key), Purpose::Release) => Some(Box::new(Assigned::draw(id, key, ask, rules)?)),
            _ => None,
        };
        let subject = Subject::Identity(Arc::clone(policy), assigned);
        Ok(ItemVerdict { item: item.clone(), subject, policy: Some(reference), checks, permit })
    }

    /// Asks a policy about the guest, and notes every check that it runs.
    fn ask_policy(
        &self,
        policy: &PolicyInForce,
        ask: &Ask,
        claims: &VerifiedClaims,
        at: UnixTime,
        checks: &mut Vec<Check>,
    ) -> Option<Permit> {
        // The calendar that counts is by the authority that signed the policy.
        let calendar = policy.policy.calendar().and_then(|name| self.documents.calendar(policy.document.signer(), name));
        let (permit, ran) = match policy.policy.decide(claims, ask, calendar.map(|calendar| &calendar.calendar), at) {
            Decision::Permit(permit, ran) => (Some(permit), ran),
            Decision::Denial(ran) => (None, ran),
        };
        checks.extend(ran);
        permit
    }
}

fn reference(policy: &PolicyInForce) -> PolicyReference {
    let body = policy.document.body();
    PolicyReference { name: body.name.clone(), version: body.version, document: *policy.document.digest() }
}

fn all_passed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.verdict == Verdict::Passed)
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
