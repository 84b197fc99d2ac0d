//! What is kept of a decision: the entry's verdicts, and everything else beside it.

use attestation::VerifiedClaims;
use policies::{Check, Verdict as CheckEnded};
use protocol::admin::{CheckVerdict, Claim, Ending, ExplainedCheck, ExplainedItem, Explanation};
use protocol::encoding::Fields;
use protocol::entries::{Decided, Verdict};
use protocol::ids::{AnchorClass, Digest};

use crate::decision::{ItemVerdict, Verdicts};
use crate::identity::Assigned;

/// Failing checks that an entry names of each item; the details have all of them. So 64 refused items fit into one entry,
/// and nobody keeps a refusal out of the log by asking for much.
const REASONS: usize = 8;

/// What the entry commits to: the salt keeps details that are easily guessed from being confirmed by the log.
#[must_use]
pub(super) fn commitment(salt: &[u8; 32], details: &[u8]) -> Digest {
    Fields::new("portcullis/decision-details/v1").field(salt).field(details).sha256()
}

/// Everything about a decision, as the operator sees it.
pub(super) fn explain(verdicts: &Verdicts, anchors: AnchorClass, entry: u64) -> Explanation {
    let transcript = verdicts.claims.transcript();
    let item = |item: &ItemVerdict| ExplainedItem {
        item: item.item.clone(),
        verdict: item.verdict(),
        policy: item.policy.clone(),
        checks: item.checks.iter().map(check).collect(),
    };
    let ending = Ending::Decided {
        entry,
        purpose: verdicts.purpose,
        platform: transcript.platform,
        role: transcript.role.clone(),
        configuration: transcript.configuration,
        guest: verdicts.guest.id(),
        evidence: verdicts.evidence,
        claims: claims(&verdicts.claims),
        items: verdicts.items.iter().map(item).collect(),
    };
    Explanation { decision: verdicts.id, at: verdicts.at, anchors, request: Some(verdicts.request), ending }
}

fn check(check: &Check) -> ExplainedCheck {
    let verdict = match check.verdict {
        CheckEnded::Passed => CheckVerdict::Passed,
        CheckEnded::Failed => CheckVerdict::Failed,
    };
    ExplainedCheck { code: check.code.to_owned(), expected: check.expected.clone(), found: check.found.clone(), verdict }
}

/// What the evidence proves, by name, in words.
fn claims(claims: &VerifiedClaims) -> Vec<Claim> {
    claims.platform().in_words().into_iter().map(|(name, value)| Claim { name: name.to_owned(), value }).collect()
}

/// What the entry says of one item.
pub(super) fn decided(item: &ItemVerdict) -> Decided {
    Decided {
        kind: item.item.kind,
        name: item.item.name.clone(),
        version: item.record().map(|record| record.statement.body().version),
        statement: item.record().map(|record| *record.statement.digest()),
        policy: item.policy.as_ref().map(|policy| policy.document),
        verdict: item.verdict(),
        reasons: item.failed().take(REASONS).map(|check| check.code.to_owned()).collect(),
        issued: item.assigned().map(Assigned::to_issued),
    }
}

impl ItemVerdict {
    /// What was decided.
    pub(crate) const fn verdict(&self) -> Verdict {
        if self.permit.is_some() { Verdict::Permitted } else { Verdict::Refused }
    }

    /// The checks that failed.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.verdict == CheckEnded::Failed)
    }
}
