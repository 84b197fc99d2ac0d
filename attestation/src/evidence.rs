//! What comes in: evidence from whoever wants something, collateral from the operator. Neither is trusted.

use crate::rejection::Rejection;

/// What a platform hands out to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// AMD SEV-SNP.
    Snp(SnpEvidence),
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

/// Certificates and revocation lists that the operator provides. Verified like the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collateral {
    /// Certificates, DER, in any order.
    pub certificates: Vec<Vec<u8>>,
    /// Revocation lists, DER. One that is ill-formed or wrongly signed is a rejection; one of another line is left alone.
    pub crls: Vec<Vec<u8>>,
    /// Intel's, for TDX.
    pub tdx: TdxCollateral,
}

/// Intel's collateral for TDX, raw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TdxCollateral {
    /// TCB infos: bodies of `/tdx/certification/v4/tcb`.
    pub tcb_infos: Vec<SignedBody>,
    /// Identities of the quoting enclave: bodies of `/tdx/certification/v4/qe/identity`.
    pub qe_identities: Vec<SignedBody>,
    /// Revocation lists, DER: of the root, and of the authorities over PCK certificates. The issuer is read from each.
    pub crls: Vec<Vec<u8>>,
    /// Certificates, DER: of authorities and signers that came with revocation lists. A cache.
    pub certificates: Vec<Vec<u8>>,
}

/// A signed JSON body exactly as received, with the chain of its signer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedBody {
    /// The body.
    pub body: Vec<u8>,
    /// Signer and root, PEM.
    pub issuer_chain: Vec<u8>,
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
