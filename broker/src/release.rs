//! Releasing: the one function that sees a secret in the clear on its way to a guest. It takes a decision that stands in the
//! audit log, rechecks each permit, unwraps, and seals the whole answer to the attested key.

use policies::{Permit, Verdict};
use protocol::envelope::{self, EnvelopeError};
use protocol::hpke::RecipientKey;
use protocol::messages::{AnswerError, ItemOutcome, Outcome, Purpose, Reason, ReleaseAnswer, Secret};
use protocol::time::UnixTime;

use crate::custody::Keys;
use crate::decision::ItemVerdict;
use crate::documents::Record;
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
pub fn release(recorded: Recorded, keys: &Keys, at: UnixTime) -> Result<SealedGrant, AnswerError> {
    let Recorded { verdicts, receipt } = recorded;
    let (purpose, guest) = (verdicts.purpose, verdicts.guest);
    let items = verdicts.items.into_iter().map(|verdict| outcome(verdict, purpose, &guest, keys, at)).collect();
    let outcome = Outcome { decision: verdicts.id, at: verdicts.at, items, receipt };
    ReleaseAnswer::write(&outcome, verdicts.request, &guest, &keys.identity, &keys.identity_certificate).map(SealedGrant)
}

fn outcome(verdict: ItemVerdict, purpose: Purpose, guest: &RecipientKey, keys: &Keys, at: UnixTime) -> ItemOutcome {
    let ItemVerdict { item, record, checks, permit, .. } = verdict;
    let (Some(permit), Some(record)) = (permit, record) else {
        let failed = checks.into_iter().filter(|check| check.verdict == Verdict::Failed);
        return ItemOutcome::Refused { item, reasons: failed.map(|check| reason(check.code, check.found)).collect() };
    };
    if let Err(reason) = still_holds(&permit, &record, guest, at) {
        return ItemOutcome::Refused { item, reasons: vec![reason] };
    }
    let expires = permit.expires();
    if purpose == Purpose::Check {
        return ItemOutcome::Permitted { item, expires };
    }
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

/// The permit is for this record, this guest, and now. It came this far through our own hands: a mismatch is a bug of ours.
fn still_holds(permit: &Permit, record: &Record, guest: &RecipientKey, at: UnixTime) -> Result<(), Reason> {
    if permit.record() != record.statement.digest() || permit.guest_key() != guest {
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
        "anchor-class" => "records of class vendor are released under the vendors' roots only",
        "policy-present" => "put the policy that the record names, signed by the authority that it names",
        "permit-expired" => "attest again",
        "envelope-not-for-this-broker" => "the record was sealed to other keys; its publisher must seal it to this broker's",
        "envelope-commitment" | "envelope-does-not-open" => "the stored envelope was changed; its publisher must publish it again",
        code => policies::codes::find(code).map_or("ask the operator, who sees every check by `portcullis explain`", |code| code.hint),
    }
}
