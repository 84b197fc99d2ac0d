//! Releasing: the one function that sees a secret in the clear on its way to a guest. It takes a decision that stands in the
//! audit log, rechecks each permit, unwraps or signs, and seals the whole answer to the attested key.

use attestation::VerifiedClaims;
use policies::{Check, Permit, Verdict};
use protocol::envelope::{self, EnvelopeError};
use protocol::hpke::RecipientKey;
use protocol::messages::{AnswerError, Item, ItemOutcome, Outcome, Purpose, Reason, ReleaseAnswer, Secret};
use protocol::time::UnixTime;

use crate::custody::Keys;
use crate::decision::{ItemVerdict, Subject};
use crate::documents::Record;
use crate::identity::{Assigned, Issuer, Known};
use crate::ledger::Recorded;

/// A whole answer, sealed to the guest and signed.
pub struct SealedGrant(ReleaseAnswer);

impl SealedGrant {
    /// What goes over the wire.
    #[must_use]
    pub const fn answer(&self) -> &ReleaseAnswer {
        &self.0
    }
}

/// Answers a recorded decision. A secret that does not unwrap is refused by name, and the other items are not hurt.
///
/// # Errors
/// [`AnswerError`] where the guest's key cannot be sealed to.
pub fn release(recorded: Recorded, keys: &Keys, issuer: Option<&Issuer>, at: UnixTime) -> Result<SealedGrant, AnswerError> {
    let Recorded { verdicts, receipt } = recorded;
    let with = With { purpose: verdicts.purpose, guest: &verdicts.guest, claims: &verdicts.claims, keys, issuer, at };
    let items = verdicts.items.into_iter().map(|verdict| with.outcome(verdict)).collect();
    let outcome = Outcome { decision: verdicts.id, at: verdicts.at, items, receipt };
    ReleaseAnswer::write(&outcome, verdicts.request, &verdicts.guest, &keys.identity, &keys.identity_certificate).map(SealedGrant)
}

/// What every item of an answer is released with.
struct With<'a> {
    purpose: Purpose,
    guest: &'a RecipientKey,
    claims: &'a VerifiedClaims,
    keys: &'a Keys,
    issuer: Option<&'a Issuer>,
    at: UnixTime,
}

impl With<'_> {
    fn outcome(&self, verdict: ItemVerdict) -> ItemOutcome {
        let ItemVerdict { item, subject, checks, permit, .. } = verdict;
        let (permit, subject) = match (permit, subject) {
            (Some(permit), subject @ (Subject::Record(_) | Subject::Identity(..))) => (permit, subject),
            _ => {
                let failed = checks.into_iter().filter(|check| check.verdict == Verdict::Failed);
                return ItemOutcome::Refused { item, reasons: failed.map(|check| reason(check.code, check.found)).collect() };
            }
        };
        if let Err(reason) = still_holds(&permit, &subject, self.guest, self.at) {
            return ItemOutcome::Refused { item, reasons: vec![reason] };
        }
        let expires = permit.expires();
        match subject {
            _ if self.purpose == Purpose::Check => ItemOutcome::Permitted { item, expires },
            Subject::Record(record) => granted(item, &record, expires, self.keys),
            Subject::Identity(_, Some(assigned)) => self.identified(item, &assigned, &checks, expires),
            Subject::Identity(_, None) | Subject::Unknown => not_issued(item),
        }
    }

    /// Signs an identity. Its serial number and token ids stand in the log already; where the issuer fails, none of them was used.
    fn identified(&self, item: Item, assigned: &Assigned, checks: &[Check], expires: UnixTime) -> ItemOutcome {
        let Some(issuer) = self.issuer else { return not_issued(item) };
        match issuer.issue(item.clone(), assigned, Known { claims: self.claims, checks }, expires, self.at) {
            Ok(identified) => ItemOutcome::Identified(Box::new(identified)),
            Err(error) => {
                tracing::error!(item = %item.name, %error, "a permitted identity could not be signed");
                not_issued(item)
            }
        }
    }
}

fn not_issued(item: Item) -> ItemOutcome {
    ItemOutcome::Refused { item, reasons: vec![reason("identity-not-issued", "the issuer did not sign".to_owned())] }
}

fn granted(item: Item, record: &Record, expires: UnixTime, keys: &Keys) -> ItemOutcome {
    match envelope::unwrap(&record.envelope, &record.statement, &keys.sealing) {
        Ok(secret) => ItemOutcome::Granted {
            item,
            publisher: *record.statement.signer(),
            statement: *record.statement.digest(),
            manifest: record.statement.body().manifest,
            expires,
            secret: Secret::new(secret),
        },
        Err(error) => {
            tracing::error!(item = %item.name, %error, "a permitted secret does not unwrap");
            let (code, found) = unwrap_failure(&error);
            ItemOutcome::Refused { item, reasons: vec![reason(code, found.to_owned())] }
        }
    }
}

/// The permit is for this record or policy, this guest, and now. It came this far through our own hands: a mismatch is a bug of ours.
fn still_holds(permit: &Permit, subject: &Subject, guest: &RecipientKey, at: UnixTime) -> Result<(), Reason> {
    let document = match subject {
        Subject::Record(record) => Some(record.statement.digest()),
        Subject::Identity(policy, _) => Some(policy.document.digest()),
        Subject::Unknown => None,
    };
    if Some(permit.record()) != document || permit.guest_key() != guest {
        return Err(reason("permit-mismatch", "another record or guest".to_owned()));
    }
    let expires = permit.expires();
    if at > expires { Err(reason("permit-expired", format!("expired at {expires}"))) } else { Ok(()) }
}

const fn unwrap_failure(error: &EnvelopeError) -> (&'static str, &'static str) {
    match error {
        EnvelopeError::NotARecipient { .. } => ("envelope-not-for-this-broker", "sealed to other keys"),
        EnvelopeError::Commitment => ("envelope-commitment", "not what the statement commits to"),
        _ => ("envelope-does-not-open", "changed, or sealed in another context"),
    }
}

fn reason(code: &str, found: String) -> Reason {
    Reason { code: code.to_owned(), found, hint: hint(code).to_owned() }
}

/// What may help, by code: the broker's own here, the policies' in their table.
#[must_use]
pub fn hint(code: &str) -> &'static str {
    match code {
        "record-known" => "publish the record first, or ask for a name and version that `portcullis list` shows",
        "record-revoked" => "an authority revoked it; ask for another version, or ask whoever revoked it",
        "identity-unknown" => "ask by the name of a policy that is in force and has an [identity] table",
        "identity-ambiguous" => "let one authority alone put a policy of this name with an [identity] table",
        "identity-revoked" => "an authority revoked it; put a newer version of the policy, or ask whoever revoked it",
        "identity-trust-domain" => "the policy's `spiffe-id` and the broker's `identity.trust-domain` must name the same trust domain",
        "identity-template" => "the policy's `spiffe-id` needs a value that this guest has not, or one without a slash",
        "identity-path" => "let the operator give the policy's authority this path: `identities` of its [[authority]]",
        "identity-key" => "prove possession of a P-256 key in this very request, signed by the attested key",
        "identity-audience" => "ask for an audience that the policy lists; for federation the broker needs `identity.issuer`",
        "identity-not-issued" => "the broker's log says why its issuer did not sign; ask again",
        "anchor-class" => "records of class vendor are released under the vendors' roots only",
        "policy-present" => "put the policy that the record names, signed by the authority that it names",
        "permit-expired" => "attest again",
        "envelope-not-for-this-broker" => "the record was sealed to other keys; its publisher must seal it to this broker's",
        "envelope-commitment" | "envelope-does-not-open" => "the stored envelope was changed; its publisher must publish it again",
        code => policies::codes::find(code).map_or("ask the operator, who sees every check by `portcullis explain`", |code| code.hint),
    }
}
