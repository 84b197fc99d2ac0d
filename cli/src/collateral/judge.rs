//! Each piece by itself under the roots, as of a time.

use attestation::{Anchors, Rejection, SigningKeyKind, VcekName, forms, judge_amd_authority, judge_amd_crl};
use protocol::collateral::{CollateralKind, CollateralPiece};
use protocol::time::UnixTime;

use super::view::Problem;

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self { code: rejection.code(), detail: rejection.to_string() }
    }
}

/// What is wrong with each piece, in their order.
pub(super) fn problems(pieces: &[CollateralPiece], anchors: &Anchors, at: UnixTime) -> Vec<Option<Problem>> {
    let amd: Vec<Vec<u8>> =
        pieces.iter().filter(|piece| piece.kind == CollateralKind::SnpCertificate).map(|piece| piece.bytes.clone()).collect();
    let problem = |piece: &CollateralPiece| match piece.kind {
        CollateralKind::SnpCertificate => certificate(piece, &amd, anchors, at),
        CollateralKind::SnpCrl => list(piece, anchors),
        CollateralKind::TdxTcbInfo | CollateralKind::TdxQeIdentity | CollateralKind::TdxCrl | CollateralKind::TdxCertificate => None,
    };
    pieces.iter().map(problem).collect()
}

/// A certificate of AMD's: an authority under its root, or a chip's under the authorities beside it.
fn certificate(piece: &CollateralPiece, beside: &[Vec<u8>], anchors: &Anchors, at: UnixTime) -> Option<Problem> {
    let der = &piece.bytes;
    if let Some(chip) = VcekName::of_certificate(der) {
        return chip.judge(der, beside, anchors, at).err().map(Problem::from);
    }
    if forms::is_of_a_chip(der) {
        let detail = "the certificate of a provider's key is judged with a report that it signed: portcullis verify --cert".to_owned();
        return Some(Problem { code: "needs-a-report", detail });
    }
    let kinds = [SigningKeyKind::Vcek, SigningKeyKind::Vlek];
    let authorities = anchors.lines().flat_map(|line| kinds.map(|kind| (line, kind)));
    best(authorities.map(|(line, kind)| judge_amd_authority(der, line, kind, anchors, at).map(drop)))
}

/// A revocation list of AMD's. Its dates are looked at elsewhere.
fn list(piece: &CollateralPiece, anchors: &Anchors) -> Option<Problem> {
    best(anchors.lines().map(|line| judge_amd_crl(&piece.bytes, line, anchors).map(drop)))
}

/// Nothing where one of several says yes; else the refusal that is not merely about another name.
fn best(judged: impl Iterator<Item = Result<(), Rejection>>) -> Option<Problem> {
    let mut refused = None;
    for judged in judged {
        match judged {
            Ok(()) => return None,
            Err(error) if refused.as_ref().is_none_or(is_about_a_name) => refused = Some(error),
            Err(_) => {}
        }
    }
    let nobody = || Problem { code: "not-anchored", detail: "no root in force is its vendor's".to_owned() };
    Some(refused.map_or_else(nobody, Problem::from))
}

const fn is_about_a_name(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::CrlIssuer { .. } | Rejection::IntermediateMissing { .. } | Rejection::ChainUnknownIssuer { .. })
}
