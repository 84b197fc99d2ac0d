//! What comes in from whoever wants something. Not trusted.

use protocol::encoding::sha256;
use protocol::ids::Digest;

use crate::rejection::Rejection;

/// What a platform hands out to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// AMD SEV-SNP.
    Snp(SnpEvidence),
    /// Intel TDX.
    Tdx(TdxEvidence),
}

/// An SNP report and what came with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnpEvidence {
    /// The report: [`protocol::limits::SNP_REPORT`] bytes.
    pub report: Vec<u8>,
    /// Certificates, DER, in any order: leaf, ASK or ASVK, ARK. A cache, never trusted.
    pub certificates: Vec<Vec<u8>>,
    /// Revocation lists, DER, if the host handed any out. A cache: one that is of no use is dropped.
    pub crls: Vec<Vec<u8>>,
}

/// A TD quote, and what came with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TdxEvidence {
    /// The quote: at most [`protocol::limits::TD_QUOTE`] bytes. The certificate chain in it is a cache, never trusted.
    pub quote: Vec<u8>,
    /// The event log (CCEL, TCG2), as the guest handed it out: it has to replay to the quote's registers.
    pub event_log: Option<Vec<u8>>,
}

/// What the report data has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportDataRule {
    /// These 64 bytes.
    Exactly([u8; 64]),
    /// Anything: the result says nothing of who asked for the report, or when.
    NotCompared,
}

impl Evidence {
    /// The kind of platform.
    #[must_use]
    pub const fn platform(&self) -> protocol::ids::Platform {
        match self {
            Self::Snp(_) => protocol::ids::Platform::SevSnp,
            Self::Tdx(_) => protocol::ids::Platform::Tdx,
        }
    }

    /// SHA-256 of the event log, as [`protocol::transcript::Transcript::event_log`] has it.
    pub(crate) fn event_log(&self) -> Option<Digest> {
        match self {
            Self::Snp(_) => None,
            Self::Tdx(evidence) => evidence.event_log.as_deref().map(sha256),
        }
    }
}

/// Why evidence was rejected, and what had passed by then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rejection}")]
pub struct Rejected {
    /// The check that said no.
    #[source]
    pub rejection: Rejection,
    /// The steps before it, in order.
    pub passed: Vec<crate::Step>,
}
