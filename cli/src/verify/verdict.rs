//! What `verify` found, in the shape of its JSON; README.md of this crate documents it.

use attestation::{GenuineEvidence, PlatformClaims, Rejected, Rejection, Revocation, SecondOpinion, Step};
use policies::{Calendar, Check, Policy};
use protocol::ids::AnchorClass;
use protocol::time::UnixTime;
use serde::Serialize;

use crate::collateral::LeftOutView;
use crate::failure::Exit;

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// Genuine, and permitted where a policy was asked.
    Genuine,
    /// Not genuine, or not well formed.
    Rejected,
    /// Genuine, and the policy says no.
    Denied,
}

/// A policy that is asked of genuine evidence, and the TCB calendar beside it.
pub(super) struct Asked {
    pub(super) policy: Policy,
    pub(super) calendar: Option<Calendar>,
}

/// Everything about one judgement.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// The answer.
    pub(super) verdict: Answer,
    /// Under whose roots.
    pub(super) anchors: AnchorClass,
    /// The time of judging.
    pub(super) at: UnixTime,
    /// The steps that passed; all of them where the evidence is genuine.
    pub(super) steps: Vec<Step>,
    /// The step that did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rejection: Option<RejectedStep>,
    /// What the evidence proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<PlatformClaims>,
    /// What the policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<PolicyVerdict>,
    /// The codes of whatever failed: one of a rejection, or every failing check of the policy.
    pub(super) reason: Vec<&'static str>,
    /// Files of collateral that gave nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) left_out: Vec<LeftOutView>,
}

/// The step that rejected the evidence.
#[derive(Debug, Serialize)]
pub(super) struct RejectedStep {
    /// A stable code.
    pub(super) code: &'static str,
    /// The number of the step.
    pub(super) step: u8,
    /// The step's name.
    pub(super) name: &'static str,
    /// What was expected and found.
    pub(super) detail: String,
}

/// What the policy says of genuine evidence.
#[derive(Debug, Serialize)]
pub(super) struct PolicyVerdict {
    /// Whether every check passed.
    pub(super) verdict: PolicyAnswer,
    /// Every check that ran.
    pub(super) checks: Vec<Check>,
    /// The codes of the rules that could not be asked here: of a guest's session, and of a second verifier that this build lacks.
    pub(super) left_out: Vec<&'static str>,
}

/// A policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PolicyAnswer {
    /// Every check that ran passed.
    Permitted,
    /// At least one failed.
    Denied,
}

/// The code of the rule on what an independent reader makes of the evidence.
pub(super) const SECOND_OPINION: &str = "second-opinion";

impl PolicyVerdict {
    fn new(asked: &Asked, claims: &PlatformClaims, at: UnixTime) -> Self {
        let Asked { policy, calendar } = asked;
        let mut checks = policy.examine(claims, None, calendar.as_ref(), at);
        let mut left_out = policy.left_out();
        // Nobody is here to ask; in the broker there may be somebody.
        if matches!(claims, PlatformClaims::Tdx(claims) if claims.second_opinion == (SecondOpinion::Unavailable { why: SecondOpinion::NOT_BUILT_IN }))
        {
            checks.retain(|check| check.code != SECOND_OPINION);
            left_out.push(SECOND_OPINION);
        }
        let passed = !checks.is_empty() && checks.iter().all(|check| check.verdict == policies::Verdict::Passed);
        let verdict = if passed { PolicyAnswer::Permitted } else { PolicyAnswer::Denied };
        Self { verdict, checks, left_out }
    }

    pub(super) fn is_denied(&self) -> bool {
        self.verdict == PolicyAnswer::Denied
    }

    fn failing(&self) -> Vec<&'static str> {
        let failing = self.checks.iter().filter(|check| check.verdict == policies::Verdict::Failed);
        failing.map(|check| check.code).collect()
    }
}

impl Verdict {
    /// From what the verifier said, and the policy where one is asked.
    pub(super) fn new(anchors: AnchorClass, at: UnixTime, judged: Result<GenuineEvidence, Rejected>, asked: Option<&Asked>) -> Self {
        match judged {
            Ok(genuine) => Self::genuine(anchors, at, &genuine, asked),
            Err(rejected) => Self::rejected(anchors, at, rejected),
        }
    }

    fn rejected(anchors: AnchorClass, at: UnixTime, rejected: Rejected) -> Self {
        let Rejected { rejection, passed } = rejected;
        let (code, step) = (rejection.code(), rejection.step());
        let steps: &[&str] = if matches!(rejection, Rejection::Tdx(_)) { &attestation::TDX_STEPS } else { &attestation::STEPS };
        let name = usize::from(step).checked_sub(1).and_then(|index| steps.get(index)).copied().unwrap_or_default();
        let failed = RejectedStep { code, step, name, detail: rejection.to_string() };
        Self {
            verdict: Answer::Rejected,
            anchors,
            at,
            steps: passed,
            rejection: Some(failed),
            claims: None,
            policy: None,
            reason: vec![code],
            left_out: Vec::new(),
        }
    }

    fn genuine(anchors: AnchorClass, at: UnixTime, genuine: &GenuineEvidence, asked: Option<&Asked>) -> Self {
        let policy = asked.map(|asked| PolicyVerdict::new(asked, genuine.platform(), at));
        let denied = policy.as_ref().is_some_and(PolicyVerdict::is_denied);
        Self {
            verdict: if denied { Answer::Denied } else { Answer::Genuine },
            anchors,
            at,
            steps: genuine.steps().to_vec(),
            rejection: None,
            claims: Some(genuine.platform().clone()),
            reason: policy.as_ref().map(PolicyVerdict::failing).unwrap_or_default(),
            policy,
            left_out: Vec::new(),
        }
    }

    /// With the files of collateral that gave nothing.
    pub(super) fn with_left_out(self, left_out: Vec<LeftOutView>) -> Self {
        Self { left_out, ..self }
    }

    /// Whether SNP evidence is genuine and nobody knows whether its authority was revoked.
    pub(super) fn revocation_is_unknown(&self) -> bool {
        matches!(&self.claims, Some(PlatformClaims::Snp(claims)) if claims.revocation == Revocation::Unknown)
    }

    /// The exit code of the answer.
    pub(super) const fn exit(&self) -> Exit {
        match self.verdict {
            Answer::Genuine => Exit::Done,
            Answer::Rejected => Exit::Failed,
            Answer::Denied => Exit::Denied,
        }
    }
}

/// What may help against a rejection, where something may.
pub(super) fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "snp-report-length" => {
            "an SNP report has exactly 1184 bytes; a vTPM quote, a TDX quote or a text form of a report is something else"
        }
        "snp-report-version" => "is this an SNP report? a report inside another structure must be cut out first",
        "snp-certificate-table" => "a certificate table may follow the report; any other bytes behind it are refused",
        "snp-leaf-missing" => "give the chip's VCEK or the provider's VLEK with --cert, or the host's table with --cert-table",
        "snp-leaf-kind" => "a report under a VLEK needs the provider's VLEK, one under a VCEK the chip's VCEK",
        "snp-intermediate-missing" => "give the ASK or ASVK with --cert",
        "snp-chain-not-yet-valid" | "snp-chain-expired" => "to judge evidence as of its own time, add --at",
        "snp-chain-unknown-issuer" => "evidence of a soft platform is judged under its own roots, with --anchors",
        "snp-tcb-mismatch" | "snp-chip-id-mismatch" => "this certificate is of another chip or of another firmware level than the report",
        "snp-authority-revoked" => "the authority was revoked by AMD; get the chip's certificate anew from its key distribution service",
        "tdx-collateral-missing" | "tdx-crl-missing" => "give TCB info, QE identity and revocation lists with --collateral",
        "tdx-document-lapsed" | "tdx-crl-lapsed" => {
            "to judge as of a time when the collateral held, add --at; a policy says how old it may be, with --policy"
        }
        "tdx-certificate-not-yet-valid"
        | "tdx-certificate-expired"
        | "tdx-document-not-yet-issued"
        | "tdx-signer-not-yet-valid"
        | "tdx-signer-expired" => "to judge evidence as of its own time, add --at",
        "tdx-root-mismatch" | "tdx-not-anchored" => {
            "evidence of a soft or pre-production platform is judged under its own root, with --anchors"
        }
        "tdx-tcb-not-supported" => "the platform is below every TCB level that Intel lists; or the TCB info is older than the platform",
        "tdx-event-log-replay" => "the log is not what was measured: of another TD, or changed",
        "tdx-padding-not-zero" | "tdx-padding-too-long" => "behind a quote there may be the zeros of its buffer, and nothing else",
        "tdx-report-data" | "snp-report-data" => "the evidence is genuine or not apart from this; without --report-data it is not compared",
        _ => return None,
    })
}
