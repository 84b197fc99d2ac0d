//! Intel's collateral, parsed and its signatures verified once. What is bad is kept as the rejection that it causes where it would have
//! been used. Nothing here depends on the time of judging: that is asked at each use.

mod json;
pub(super) mod levels;
pub(super) mod lists;
pub(super) mod qe_identity;
pub(super) mod signer;
pub(super) mod tcb_info;

use std::collections::BTreeMap;

use protocol::encoding::{Fields, sha256};
use protocol::ids::Digest;
use protocol::time::UnixTime;

use self::levels::{LevelName, Verdict};
use self::lists::Lists;
use self::qe_identity::QeIdentity;
use self::signer::Signers;
use self::tcb_info::TcbInfo;
use super::pck::{Authority, authorities};
use super::rejection::TdxRejection;
use super::root::IntelRoot;
use crate::claims::CollateralSource;
use crate::collateral::{Lapsed, SignedBody, TdxCollateral, TdxPiece, TdxPieceKind, TdxSignature};
use crate::rejection::HexBytes;
use crate::x509::Window;

/// What a TCB info is called in rejections.
pub(super) const TCB_INFO: &str = "tcb-info";
/// What a QE identity is called in rejections.
pub(super) const QE_IDENTITY: &str = "qe-identity";

/// Collateral prepared under one root.
pub(crate) struct Prepared {
    pub(super) authorities: Vec<Authority>,
    pub(super) lists: Lists,
    tcb_infos: Vec<Document<TcbInfo>>,
    qe_identities: Vec<Document<QeIdentity>>,
    /// Over everything that the verdict on a PCK chain depends on.
    pub(super) digest: Digest,
}

/// What a signed value says.
pub(super) trait Content: Sized {
    const DOCUMENT: &'static str;
    /// Its key in the outer object.
    const NAME: &'static str;
    fn read(value: &str) -> Result<Self, TdxRejection>;
    fn source(&self) -> &CollateralSource;
    /// Every level of every part.
    fn levels(&mut self) -> Vec<(LevelName, &mut Verdict)>;
}

/// A signed document.
enum Document<T> {
    /// It can be read: its signer's certificate, and where signature or signer are bad, why.
    Read { content: T, signer: Result<Window, TdxRejection> },
    /// It cannot, so that nobody knows what it would have been used for.
    Refused(TdxRejection),
}

impl<T: Content> Document<T> {
    fn prepare<'a>(signed: &'a SignedBody, signers: &mut Signers<'a>) -> Self {
        let content = json::split(&signed.body, T::NAME, T::DOCUMENT).and_then(|parts| {
            let signer = signers.verify(&signed.issuer_chain, parts.value.as_bytes(), &parts.signature, T::DOCUMENT);
            Ok((T::read(parts.value)?, signer))
        });
        match content {
            Ok((content, signer)) => Self::Read { content, signer },
            Err(rejection) => Self::Refused(rejection),
        }
    }

    fn problem(&self) -> Option<&TdxRejection> {
        match self {
            Self::Read { signer: Err(rejection), .. } | Self::Refused(rejection) => Some(rejection),
            Self::Read { signer: Ok(_), .. } => None,
        }
    }

    /// What it says, where its signature holds.
    const fn trusted(&self) -> Option<&T> {
        match self {
            Self::Read { content, signer: Ok(_) } => Some(content),
            _ => None,
        }
    }

    const fn trusted_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Read { content, signer: Ok(_) } => Some(content),
            _ => None,
        }
    }
}

fn documents<'a, T: Content>(bodies: &'a [SignedBody], signers: &mut Signers<'a>) -> Vec<Document<T>> {
    bodies.iter().map(|body| Document::prepare(body, signers)).collect()
}

/// Gives each level the earliest date that a document at hand gives it, one that was replaced included.
fn date_back<T: Content>(documents: &mut [Document<T>], replaced: &mut [Document<T>]) {
    let mut trusted: Vec<&mut T> = documents.iter_mut().chain(replaced).filter_map(Document::trusted_mut).collect();
    let mut earliest: BTreeMap<LevelName, UnixTime> = BTreeMap::new();
    for (name, verdict) in trusted.iter_mut().flat_map(|content| content.levels()) {
        let first = earliest.entry(name).or_insert(verdict.date);
        *first = verdict.date.min(*first);
    }
    for (name, verdict) in trusted.iter_mut().flat_map(|content| content.levels()) {
        verdict.first_dated = earliest.get(&name).copied().unwrap_or(verdict.date);
    }
}

/// That a document can be used at a time.
fn timely<T: Content>(content: &T, signer: &Window, lapsed: Lapsed, at: UnixTime) -> Result<(), TdxRejection> {
    let document = T::DOCUMENT;
    signer::timely(signer, document, at)?;
    let CollateralSource { issued, next_update, .. } = *content.source();
    if at < issued {
        return Err(TdxRejection::DocumentNotYetIssued { document, issued, at });
    }
    match lapsed {
        Lapsed::Rejected if at > next_update => Err(TdxRejection::DocumentLapsed { document, next_update, at }),
        _ => Ok(()),
    }
}

/// Chooses among the documents that `concerns` says are of the platform: of those that can be used at the time the one of the highest
/// evaluation number, then the newest. Where none can, the best one's rejection says why.
fn choose<T: Content>(
    documents: &[Document<T>],
    concerns: impl Fn(&T) -> bool,
    lapsed: Lapsed,
    at: UnixTime,
    missing: TdxRejection,
) -> Result<&T, TdxRejection> {
    let mut chosen: Option<&T> = None;
    let mut refused: Option<(CollateralSource, TdxRejection)> = None;
    let rank = |source: &CollateralSource| (source.evaluation, source.issued, source.next_update);
    for document in documents {
        let Document::Read { content, signer } = document else { continue };
        if !concerns(content) {
            continue;
        }
        let source = content.source();
        match signer.clone().and_then(|signer| timely(content, &signer, lapsed, at)) {
            Ok(()) if chosen.is_none_or(|best| rank(source) > rank(best.source())) => chosen = Some(content),
            Ok(()) => {}
            Err(rejection) if refused.as_ref().is_none_or(|(best, _)| rank(source) > rank(best)) => refused = Some((*source, rejection)),
            Err(_) => {}
        }
    }
    let unread =
        || documents.iter().find_map(|document| if let Document::Refused(rejection) = document { Some(rejection.clone()) } else { None });
    chosen.ok_or_else(|| refused.map(|(_, rejection)| rejection).or_else(unread).unwrap_or(missing))
}

impl Prepared {
    pub(crate) fn prepare(collateral: &TdxCollateral, root: Option<&IntelRoot>) -> Self {
        let authorities = root.map(|root| authorities(&collateral.certificates, root)).unwrap_or_default();
        let lists = Lists::prepare(&collateral.crls, root, &authorities);
        let mut signers = Signers::new(root, &lists);
        let mut tcb_infos = documents(&collateral.tcb_infos, &mut signers);
        let mut qe_identities = documents(&collateral.qe_identities, &mut signers);
        date_back(&mut tcb_infos, &mut documents(&collateral.replaced, &mut signers));
        date_back(&mut qe_identities, &mut documents(&collateral.replaced, &mut signers));
        let mut fields = Fields::new("portcullis/tdx-lists/v1");
        for pieces in [&collateral.crls, &collateral.certificates] {
            fields = pieces.iter().fold(fields.field("list"), |fields, piece| fields.field(sha256(piece)));
        }
        let digest = fields.sha256();
        Self { authorities, lists, tcb_infos, qe_identities, digest }
    }

    /// The TCB info for a platform.
    pub(super) fn tcb_info(&self, fmspc: [u8; 6], lapsed: Lapsed, at: UnixTime) -> Result<&TcbInfo, TdxRejection> {
        let missing = TdxRejection::CollateralMissing { what: TCB_INFO, fmspc: HexBytes::from(fmspc) };
        choose(&self.tcb_infos, |info| info.fmspc == fmspc, lapsed, at, missing)
    }

    /// The quoting enclave's identity, which is the same for every platform; `fmspc` is for people.
    pub(super) fn qe_identity(&self, fmspc: [u8; 6], lapsed: Lapsed, at: UnixTime) -> Result<&QeIdentity, TdxRejection> {
        let missing = TdxRejection::CollateralMissing { what: QE_IDENTITY, fmspc: HexBytes::from(fmspc) };
        choose(&self.qe_identities, |_| true, lapsed, at, missing)
    }

    /// Everything that is bad, with its place.
    pub(crate) fn problems(&self) -> Vec<(String, TdxRejection)> {
        let infos = self.tcb_infos.iter().map(Document::problem).enumerate().map(|found| ("TDX TCB info", found));
        let identities = self.qe_identities.iter().map(Document::problem).enumerate().map(|found| ("TDX QE identity", found));
        let lists = self.lists.problems().map(|(index, problem)| ("TDX revocation list", (index, Some(problem))));
        let all = infos.chain(identities).chain(lists);
        all.filter_map(|(kind, (index, problem))| problem.map(|problem| (format!("{kind} {index}"), problem.clone()))).collect()
    }

    /// What is held, all of it trusted but for lists that wait for their authority.
    pub(crate) fn pieces(&self) -> Vec<TdxPiece> {
        let piece = |kind, fmspc, source: &CollateralSource| TdxPiece {
            kind,
            fmspc,
            authority: None,
            signature: TdxSignature::Verified,
            evaluation: Some(source.evaluation),
            issued: source.issued,
            next_update: source.next_update,
        };
        let infos = self.tcb_infos.iter().filter_map(Document::trusted);
        let mut pieces: Vec<TdxPiece> = infos.map(|info| piece(TdxPieceKind::TcbInfo, Some(info.fmspc), info.source())).collect();
        let identities = self.qe_identities.iter().filter_map(Document::trusted);
        pieces.extend(identities.map(|identity| piece(TdxPieceKind::QeIdentity, None, identity.source())));
        pieces.extend(self.lists.pieces());
        pieces
    }
}
