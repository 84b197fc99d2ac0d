//! Evidence bytes become verified claims, or a [`Rejection`] that names the check.
//!
//! This crate is pure: bytes and a time in, a named value or a named reason out. It has no clock, no I/O, no runtime, no logging.
//! Our own verifier decides; an independent parser has to agree with it ([`SecondOpinion`]).
//!
//! [`verify`] is for a release: the report data must answer the session's [`Transcript`], and the result is a [`VerifiedClaims`].
//! [`judge`] is for people and tests: the result is a [`GenuineEvidence`], which nothing is released on.
//!
//! # The steps
//! In a session ([`verify`]) the transcript first has to be of the evidence's platform, and of the event log that came with it. Each step
//! has rejections of its own ([`Rejection::step`]).
//!
//! AMD SEV-SNP evidence passes these, in this order.
//!
//! | step | what it checks |
//! | --- | --- |
//! | 1 format | report of exactly 1184 bytes, version 2 to 5, VMPL 0 to 3, every reserved field zero; sizes and counts within limits |
//! | 2 signature algorithm and signing key | ECDSA P-384 with SHA-384, by a VCEK or a VLEK, chip key not masked |
//! | 3 product line | CPUID family and model are of a line whose root is in force (version 2 has none: step 4 names the line) |
//! | 4 leaf certificate | common name, issuer, productName, structVersion, HWID or CSP_ID, each extension once and none unknown, P-384 key |
//! | 5 chain to the pinned root | leaf, ASK or ASVK, pinned ARK: names, RSASSA-PSS parameters, signatures, CA flags, key usage, path length, validity |
//! | 6 revocation | no list of the root names the ASK or ASVK; how fresh the lists are is a claim, [`Revocation`] |
//! | 7 signature | over the received bytes; r and s within range, every unused byte zero |
//! | 8 TCB of the signing key | unused TCB bytes zero; the certificate's SPLs are REPORTED_TCB, part by part; spl4 to spl7 zero |
//! | 9 chip identity | HWID of the VCEK is CHIP_ID; a report without chip id, or under a VLEK, proves no chip |
//! | 10 report data | exactly the 64 bytes that the transcript asks for |
//! | 11 guest policy, structure | bit 17 set, reserved bits clear |
//! | 12 TCB relations | CURRENT_TCB not below REPORTED_TCB, nor below COMMITTED_TCB |
//! | 13 platform info, structure | no unknown bit |
//! | 14 second opinion | the `sev` crate's parser reads the same in every field of the report that a policy can read |
//!
//! Intel TDX evidence passes these, in this order (that of Intel's quote verification library).
//!
//! | step | what it checks |
//! | --- | --- |
//! | 1 format | quote of version 4 or 5, ECDSA P-256, TDX, Intel's quoting enclave, a TD report of exactly its size; certification data of types 6 and 5, every part ending with its last field; only zero behind it, and not much |
//! | 2 PCK certificate chain | exactly PCK certificate, PCK authority, pinned root: exact names, raw issuer names, CA flags, key usage, path length, signatures, validity; the SGX extension with each part once and of its type |
//! | 3 revocation | lists verified under the issuer of their name; the root's does not name the authority, nor the authority's the PCK certificate; how fresh each is is a claim, [`Revocation`]; by [`Lapsed`] one that is missing or past its due is a rejection |
//! | 4 signed collateral | TCB info and QE identity: no JSON key twice, signed over the bytes as received by exactly Intel SGX TCB Signing under the pinned root, not revoked, valid; version, sixteen components, no level twice, no unknown status; issued by then |
//! | 5 platform of the TCB info | FMSPC and PCEID are the PCK certificate's |
//! | 6 TDX module | the TCB info has its major version; MRSIGNERSEAM is that identity's, SEAMATTRIBUTES too, and zero |
//! | 7 quoting enclave's report | signature by the PCK certificate's key; report data is SHA-256 over attestation key and authentication data, then zero |
//! | 8 quoting enclave's identity | MISCSELECT and ATTRIBUTES under their masks, MRSIGNER, ISVPRODID |
//! | 9 quote signature | over the received bytes, by the attestation key |
//! | 10 TCB evaluation | every part reaches a level that is not revoked, at launch and, where the report says, now; the merged status is a claim, [`TcbVerdict`] |
//! | 11 report data | exactly the 64 bytes that the transcript asks for |
//! | 12 event log | where one came, it replays to RTMR0 to RTMR3 |
//! | 13 second opinion | an independent verifier finds the signatures good and reads the same TD report, where it is built in and the quote is of version 4 |
//!
//! What is *allowed* (measurements, debug, minimum TCB, TCB status, VMPL, attributes, host data, chips) is policy and not decided here.
//!
//! # Trusted and not trusted
//! Trusted: the roots in [`Anchors`], the time that the caller gives, and no more. Not trusted: every byte of evidence and collateral. A
//! certificate that the attester brings is a cache entry: a chain counts because it ends in a pinned root, wherever it came from.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions))]

mod anchors;
mod chains;
mod claims;
mod collateral;
mod event_log;
mod evidence;
pub mod forms;
mod rejection;
mod snp;
mod steps;
mod tdx;
#[cfg(test)]
mod vectors;
mod words;
mod x509;

pub use anchors::Anchors;
pub use chains::{ChainCache, ChainKey, NoCache, VerifiedChain};
pub use claims::{
    CollateralSource, EventLog, FirmwareVersion, GenuineEvidence, GuestPolicy, MeasuredEvent, PckAuthority, PckClaims, PlatformClaims,
    ProductLine, ProductSource, Revocation, SecondOpinion, SigningKeyKind, SnpClaims, Step, Tcb, TcbPart, TcbStatus, TcbVerdict,
    TdAttributes, TdBody, TdExtended, TdxClaims, VerifiedClaims,
};
pub use collateral::{Collateral, Lapsed, PreparedCollateral, SignedBody, TdxCollateral, TdxPiece, TdxPieceKind, TdxSignature};
pub use event_log::EventLogError;
pub use evidence::{Evidence, Rejected, ReportDataRule, SnpEvidence, TdxEvidence};
pub use rejection::{BadAnchor, HexBytes, Rejection};
pub use snp::pieces::{PieceWindow, VcekName, judge_amd_authority, judge_amd_crl, judge_amd_leaf, judge_amd_revocation};
pub use tdx::pieces::{is_pck_authority, judge_intel_certificate, judge_intel_crl};
pub use tdx::rejection::TdxRejection;
pub use tdx::standing::{TdxStanding, TdxTcb};

use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use steps::Steps;

/// The names of the steps of SNP evidence, in order: step 1 is the first.
pub const STEPS: [&str; 14] = [
    "format",
    "signature algorithm and signing key",
    "product line",
    "leaf certificate",
    "chain to the pinned root",
    "revocation",
    "signature",
    "TCB of the signing key",
    "chip identity",
    "report data",
    "guest policy, structure",
    "TCB relations",
    "platform info, structure",
    "second opinion",
];

/// The names of the steps of TDX evidence, in order: step 1 is the first.
pub const TDX_STEPS: [&str; 13] = [
    "format",
    "PCK certificate chain",
    "revocation",
    "signed collateral",
    "platform of the TCB info",
    "TDX module",
    "quoting enclave's report",
    "quoting enclave's identity",
    "quote signature",
    "TCB evaluation",
    "report data",
    "event log",
    "second opinion",
];

/// Verifies that `evidence` is genuine at `at` and answers `transcript`. The only way to [`VerifiedClaims`].
///
/// `cache` keeps chains that passed; [`NoCache`] keeps none. A kept chain is judged again at `at` on every use.
///
/// # Errors
/// The [`Rejection`] of the first step that says no.
pub fn verify(
    evidence: &Evidence,
    collateral: &PreparedCollateral,
    anchors: &Anchors,
    transcript: &Transcript,
    cache: &dyn ChainCache,
    at: UnixTime,
) -> Result<VerifiedClaims, Rejection> {
    if transcript.platform != evidence.platform() {
        return Err(Rejection::PlatformMismatch { expected: transcript.platform, found: evidence.platform() });
    }
    let event_log = evidence.event_log();
    if transcript.event_log != event_log {
        return Err(Rejection::EventLogMismatch { expected: transcript.event_log, found: event_log });
    }
    let expected = ReportDataRule::Exactly(transcript.report_data());
    let terms = Terms { collateral, anchors, expected: &expected, lapsed: Lapsed::Claimed, at };
    let platform = terms.judge(evidence, cache, &mut Steps::Unread)?;
    Ok(VerifiedClaims::new(platform, transcript.clone(), anchors.class(), at))
}

/// Verifies again, for a renewal, the evidence that `earlier` came from: the same steps against the collateral, anchors and time of now,
/// and the same transcript. [`VerifiedClaims::verified_at`] stays that of the first time, so that renewing makes no attestation younger.
///
/// # Errors
/// As [`verify`].
pub fn verify_again(
    earlier: &VerifiedClaims,
    evidence: &Evidence,
    collateral: &PreparedCollateral,
    anchors: &Anchors,
    cache: &dyn ChainCache,
    at: UnixTime,
) -> Result<VerifiedClaims, Rejection> {
    verify(evidence, collateral, anchors, earlier.transcript(), cache, at).map(|claims| claims.since(earlier.verified_at()))
}

/// Judges `evidence` at `at` without a session: good for data, not for a release.
///
/// # Errors
/// The [`Rejection`] of the first step that says no. [`judge_with_steps`] also gives the steps before it.
pub fn judge(
    evidence: &Evidence,
    collateral: &PreparedCollateral,
    anchors: &Anchors,
    expected: ReportDataRule,
    lapsed: Lapsed,
    at: UnixTime,
) -> Result<GenuineEvidence, Rejection> {
    judge_with_steps(evidence, collateral, anchors, expected, lapsed, at).map_err(|rejected| rejected.rejection)
}

/// Like [`judge`], for people: a rejection comes with the steps that had passed.
///
/// # Errors
/// [`Rejected`]: the rejection of the first step that says no, and the steps before it.
pub fn judge_with_steps(
    evidence: &Evidence,
    collateral: &PreparedCollateral,
    anchors: &Anchors,
    expected: ReportDataRule,
    lapsed: Lapsed,
    at: UnixTime,
) -> Result<GenuineEvidence, Rejected> {
    let mut steps = Steps::noted(match evidence {
        Evidence::Snp(_) => &STEPS,
        Evidence::Tdx(_) => &TDX_STEPS,
    });
    let judged = Terms { collateral, anchors, expected: &expected, lapsed, at }.judge(evidence, &NoCache, &mut steps);
    match judged {
        Ok(platform) => Ok(GenuineEvidence::new(platform, anchors.class(), steps.into_noted())),
        Err(rejection) => Err(Rejected { rejection, passed: steps.into_noted() }),
    }
}

/// Under what evidence is judged.
struct Terms<'a> {
    collateral: &'a PreparedCollateral,
    anchors: &'a Anchors,
    expected: &'a ReportDataRule,
    lapsed: Lapsed,
    at: UnixTime,
}

impl Terms<'_> {
    /// All steps of the evidence's kind.
    fn judge(&self, evidence: &Evidence, cache: &dyn ChainCache, steps: &mut Steps) -> Result<PlatformClaims, Rejection> {
        let Self { collateral, anchors, expected, lapsed, at } = *self;
        match evidence {
            Evidence::Snp(evidence) => snp::judge(evidence, collateral.snp(), anchors, expected, cache, at, steps).map(PlatformClaims::Snp),
            Evidence::Tdx(evidence) => {
                let terms = tdx::Terms { collateral: collateral.tdx(anchors), anchors, expected, lapsed, at };
                Ok(PlatformClaims::Tdx(tdx::judge(evidence, terms, cache, steps)?))
            }
        }
    }
}
