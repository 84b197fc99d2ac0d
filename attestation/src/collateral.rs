//! What the operator holds of the vendors': certificates, revocation lists, Intel's signed documents. Not trusted: verified like the rest.

use protocol::encoding::Fields;
use protocol::encoding::sha256;
use protocol::ids::Digest;
use protocol::time::UnixTime;

use crate::anchors::Anchors;
use crate::claims::PckAuthority;
use crate::rejection::Rejection;
use crate::tdx::rejection::TdxRejection;
use crate::tdx::standing::{TdxStanding, TdxTcb};
use crate::{snp, tdx};

/// Raw collateral, as it was fetched or carried in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collateral {
    /// Certificates for SNP, DER, in any order.
    pub certificates: Vec<Vec<u8>>,
    /// Revocation lists for SNP, DER. One that is ill-formed or wrongly signed is a rejection; one of another line is left alone.
    pub crls: Vec<Vec<u8>>,
    /// For TDX.
    pub tdx: TdxCollateral,
}

/// What Intel's provisioning certification service hands out (PCS API version 4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TdxCollateral {
    /// Bodies of `/tdx/certification/v4/tcb`, of any platforms and dates.
    pub tcb_infos: Vec<SignedBody>,
    /// Bodies of `/tdx/certification/v4/qe/identity`, of any dates.
    pub qe_identities: Vec<SignedBody>,
    /// Revocation lists, DER: the root's and PCK authorities'. The issuer is read from each.
    pub crls: Vec<Vec<u8>>,
    /// Certificates, DER: PCK authorities that came with their lists. A cache.
    pub certificates: Vec<Vec<u8>>,
    /// Documents of either kind that later ones have replaced. No platform is judged by them: they tell when a level was first dated.
    pub replaced: Vec<SignedBody>,
}

/// A signed JSON body exactly as received, with the chain of its signer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedBody {
    /// The body.
    pub body: Vec<u8>,
    /// Signer and root, plain PEM (the service's header has it URL-encoded).
    pub issuer_chain: Vec<u8>,
}

/// Collateral parsed and its signatures verified once, under given anchors.
///
/// Preparing never fails: a piece that is bad is kept as the [`Rejection`] that it causes where, and only where, it would have been used;
/// [`Self::problems`] lists them. A TDX piece that says nothing of where it would have been used stands in the way of every chain, if it
/// is a revocation list, or of every platform that has no other document. Times are judged at each use. (Lists and certificates for SNP
/// are few and judged at each use altogether, unless the chain is kept.)
pub struct PreparedCollateral {
    anchors: Digest,
    snp: SnpCollateral,
    tdx: tdx::collateral::Prepared,
    problems: Vec<(String, Rejection)>,
}

/// The part for SNP.
pub(crate) struct SnpCollateral {
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) crls: Vec<Vec<u8>>,
    /// Over all of it.
    pub(crate) digest: Digest,
}

impl PreparedCollateral {
    /// Prepares `collateral` to be used under `anchors`. Under others, TDX evidence is rejected.
    #[must_use]
    pub fn prepare(collateral: Collateral, anchors: &Anchors) -> Self {
        let Collateral { certificates, crls, tdx } = collateral;
        let mut fields = Fields::new("portcullis/snp-collateral/v1");
        for list in [&certificates, &crls] {
            fields = list.iter().fold(fields.field("list"), |fields, item| fields.field(sha256(item)));
        }
        let snp = SnpCollateral { certificates, crls, digest: fields.sha256() };
        let tdx = tdx::collateral::Prepared::prepare(&tdx, anchors.intel().ok());
        let mut problems = snp::problems(&snp, anchors);
        problems.extend(tdx.problems().into_iter().map(|(piece, rejection)| (piece, Rejection::Tdx(rejection))));
        Self { anchors: anchors.digest(), snp, tdx, problems }
    }

    /// What is wrong with which piece. A piece counts from 0 within its list.
    pub fn problems(&self) -> impl Iterator<Item = (String, &Rejection)> {
        self.problems.iter().map(|(piece, rejection)| (piece.clone(), rejection))
    }

    /// What is held for TDX, and until when: pieces whose signatures hold, and lists of PCK authorities that are not at hand, which say so.
    /// Whether such a list is the authority's own, the first PCK chain shows; if it is not, every chain of that authority is rejected.
    #[must_use]
    pub fn tdx_pieces(&self) -> Vec<TdxPiece> {
        self.tdx.pieces()
    }

    /// What is said at `at` of a platform that was seen earlier. Past their due, documents and lists are claims.
    ///
    /// # Errors
    /// The [`TdxRejection`] that evidence of such a platform would meet.
    pub fn tdx_standing(&self, of: &TdxTcb, at: UnixTime) -> Result<TdxStanding, TdxRejection> {
        self.tdx.standing(of, at)
    }

    pub(crate) const fn snp(&self) -> &SnpCollateral {
        &self.snp
    }

    /// The part for TDX, if it was prepared under these anchors.
    pub(crate) fn tdx(&self, anchors: &Anchors) -> Option<&tdx::collateral::Prepared> {
        (self.anchors == anchors.digest()).then_some(&self.tdx)
    }
}

/// A piece of TDX collateral that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdxPiece {
    /// What it is.
    pub kind: TdxPieceKind,
    /// Of a TCB info: which platforms it is about.
    pub fmspc: Option<[u8; 6]>,
    /// Of a list of PCK certificates: whose it is.
    pub authority: Option<PckAuthority>,
    /// Whether its signature was judged.
    pub signature: TdxSignature,
    /// Of a document: `tcbEvaluationDataNumber`.
    pub evaluation: Option<u32>,
    /// When it was issued.
    pub issued: UnixTime,
    /// When the next one is due.
    pub next_update: UnixTime,
}

/// Whether a piece's signature was judged. What was judged and found bad is no piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TdxSignature {
    /// It verified.
    Verified,
    /// A list of a PCK authority of whose name none is at hand: it may be anybody's.
    NotJudged,
}

/// Kinds of TDX collateral.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TdxPieceKind {
    /// A TCB info.
    TcbInfo,
    /// The quoting enclave's identity.
    QeIdentity,
    /// The root's revocation list.
    RootCrl,
    /// A PCK authority's revocation list.
    PckCrl,
}

/// What becomes of TDX collateral past its nextUpdate (TCB info, QE identity, revocation lists), and of a revocation list that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapsed {
    /// A rejection: for judging without a policy.
    Rejected,
    /// A claim that the policy judges by its maximum age.
    Claimed,
}
