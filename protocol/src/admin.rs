//! What operators and publishers ask a broker over its administrative interface. No secret ever crosses it: records come
//! sealed ([`crate::envelope::RecordFile`]), everything else is a signed document or a view.
//!
//! | HTTP | body | answer |
//! | --- | --- | --- |
//! | `PUT /v1/records` | [`crate::envelope::RecordFile`] | [`Accepted`] |
//! | `GET /v1/records` | | a list of [`RecordSummary`] |
//! | `PUT /v1/policies` | a signed [`crate::documents::PolicyBody`] | [`Accepted`] |
//! | `GET /v1/policies/NAME` | | the signed policy |
//! | `PUT /v1/revocations` | a signed [`crate::documents::RevocationsBody`] | [`Accepted`] |
//! | `GET /v1/revocations` | | a list of signed documents, one an authority |
//! | `PUT /v1/tcb-baselines` | a signed [`crate::documents::TcbBaselinesBody`] | [`Accepted`] |
//! | `GET /v1/tcb-baselines/NAME` | | the signed TCB calendar |
//! | `GET /v1/decisions/ID` | | [`Explanation`] |
//! | `PUT /v1/collateral` | a signed [`crate::collateral::CollateralBundleBody`] | [`CollateralImported`] |
//! | `GET /v1/collateral` | | [`CollateralHeld`] |
//! | `GET /v1/collateral/forecast` | | [`CollateralForecast`] |
//!
//! All of them want `Authorization: Bearer TOKEN`.

use serde::{Deserialize, Serialize};

use crate::collateral::{CollateralKind, CollateralPiece};
use crate::documents::Kind;
use crate::entries::Verdict;
use crate::ids::{AnchorClass, DecisionId, Digest, Name, Platform, Role, Version};
use crate::keys::PublicKey;
use crate::messages::{Item, Purpose};
use crate::time::UnixTime;

/// A document was taken and stands in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The document's digest.
    pub document: Digest,
    /// The index of the log entry about it.
    pub entry: u64,
    /// The digest of the whole active document set behind it.
    pub documents: Digest,
}

/// One record, as `portcullis list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSummary {
    /// What it releases.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// The policy that decides about it.
    pub policy: Name,
    /// Whether a policy of that name by the authority that the statement demands is there.
    pub policy_present: bool,
    /// Who signed the statement.
    pub publisher: PublicKey,
    /// The statement's digest.
    pub statement: Digest,
    /// The digest of the model's signed manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Why it is revoked, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
}

/// Everything about one decision: what the operator sees and the guest does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// Its number.
    pub decision: DecisionId,
    /// The broker's time of deciding.
    pub at: UnixTime,
    /// The class of roots.
    pub anchors: AnchorClass,
    /// The request's digest, where a request could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Digest>,
    /// What became of it.
    pub ending: Ending,
}

/// The two ways a request can end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ending {
    /// Nothing was verified: kept in memory for a while, counted in the log.
    Rejected {
        /// The stable code.
        code: String,
        /// What was expected and found.
        detail: String,
        /// What may help.
        hint: String,
    },
    /// The evidence is genuine, and each item was decided about.
    Decided {
        /// The index of its entry in the audit log.
        entry: u64,
        /// Whether to release or only to decide.
        purpose: Purpose,
        /// The kind of confidential VM.
        platform: Platform,
        /// For whom in the VM the evidence spoke.
        role: Role,
        /// The digest of the guest's configuration.
        configuration: Digest,
        /// The id of the guest's HPKE key.
        guest: Digest,
        /// SHA-256 of the evidence.
        evidence: Digest,
        /// What the evidence proves, by name.
        claims: Vec<Claim>,
        /// One an item.
        items: Vec<ExplainedItem>,
    },
}

/// One claim, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What was decided about one item, and every check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainedItem {
    /// What was asked for, with the version that was found.
    pub item: Item,
    /// What was decided.
    pub verdict: Verdict,
    /// The policy that decided, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyReference>,
    /// Every check that ran.
    pub checks: Vec<ExplainedCheck>,
}

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyReference {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// Its digest.
    pub document: Digest,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainedCheck {
    /// A stable code.
    pub code: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// Whether it passed.
    pub verdict: CheckVerdict,
}

/// Whether a check passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckVerdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
}

/// A bundle of collateral was taken and stands in the audit log; what became of each of its pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralImported {
    /// The bundle's digest.
    pub document: Digest,
    /// The index of the log entry about it.
    pub entry: u64,
    /// One a piece, in the order of the bundle.
    pub pieces: Vec<PieceOutcome>,
}

/// What became of one piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PieceOutcome {
    /// SHA-256 of its bytes.
    pub piece: Digest,
    /// What the bundle says it is.
    pub kind: CollateralKind,
    /// What it is about, by its own words.
    pub subject: String,
    /// Why it is not held; absent where it verified under the broker's roots and is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The collateral that a broker holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralHeld {
    /// The pieces: those that many platforms need before those of one chip.
    pub pieces: Vec<CollateralPiece>,
    /// How many certificates of chips had no room in the answer.
    pub left_out: u64,
    /// What was brought lately and is not held: the last of each kind, and files of the collateral folder that are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedPiece>,
}

/// A piece that a broker did not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedPiece {
    /// Its kind, such as `tcb-info`; `file` for what is no piece at all.
    pub kind: String,
    /// Which one, as far as that is known; or the file's name.
    pub subject: String,
    /// Where it came from, in words.
    pub origin: String,
    /// Why it is not held.
    pub why: String,
    /// When it came.
    pub at: UnixTime,
}

/// Which platforms seen lately will be denied, and when: what the broker remembers of them, under the policies and the collateral of now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralForecast {
    /// The broker's time.
    pub at: UnixTime,
    /// Since when it remembers.
    pub since: UnixTime,
    /// Those that are denied first come first.
    pub platforms: Vec<ForecastPlatform>,
}

/// One platform under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastPlatform {
    /// The kind of confidential VM.
    pub platform: Platform,
    /// The machine, as far as its evidence names one; else its family.
    pub machine: String,
    /// When its evidence was last verified.
    pub seen: UnixTime,
    /// The policy.
    pub policy: PolicyReference,
    /// What denies it or will, if neither it nor what is published about it changes: the earliest first. Empty where nothing is in sight.
    pub denials: Vec<ForecastDenial>,
}

/// A check on dates or TCBs that fails, or that time alone will fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastDenial {
    /// The first second of it; the broker's time where the check fails already and no date says since when.
    pub from: UnixTime,
    /// The code of the check or of the rejection.
    pub check: String,
    /// What will have happened.
    pub why: String,
}
