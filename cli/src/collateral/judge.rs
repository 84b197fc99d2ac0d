//! Each piece by itself under the roots, as of a time.

use std::collections::BTreeMap;

use attestation::{
    Anchors, Collateral, PreparedCollateral, Rejection, SigningKeyKind, VcekName, forms, judge_amd_authority, judge_amd_crl,
};
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
    let of = |kind: CollateralKind| pieces.iter().filter(move |piece| piece.kind == kind);
    let amd: Vec<Vec<u8>> = of(CollateralKind::SnpCertificate).map(|piece| piece.bytes.clone()).collect();
    let mut intel = Intel::prepare(pieces, anchors);
    let problem = |piece: &CollateralPiece| match piece.kind {
        CollateralKind::SnpCertificate => certificate(piece, &amd, anchors, at),
        CollateralKind::SnpCrl => list(piece, anchors),
        CollateralKind::TdxTcbInfo | CollateralKind::TdxQeIdentity | CollateralKind::TdxCrl => intel.next(piece.kind),
        CollateralKind::TdxCertificate => Some(not_judged("an authority's certificate counts beside the list or the quote that it signed")),
    };
    pieces.iter().map(problem).collect()
}

/// Intel's pieces, prepared together: a signer may be revoked by a list that came with it.
struct Intel {
    problems: BTreeMap<String, Problem>,
    seen: BTreeMap<CollateralKind, usize>,
}

impl Intel {
    fn prepare(pieces: &[CollateralPiece], anchors: &Anchors) -> Self {
        let Collateral { tdx, .. } = forms::collateral(pieces);
        let prepared = PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, anchors);
        let unjudged =
            || not_judged("the certificate of its PCK authority is not here: nobody can tell whether the list is the authority's own");
        let problems = prepared.problems().map(|(piece, rejection)| (piece, Problem::from(rejection.clone())));
        let problems = problems.chain(prepared.unjudged().into_iter().map(|piece| (piece, unjudged()))).collect();
        Self { problems, seen: BTreeMap::new() }
    }

    /// What is wrong with the next piece of a kind.
    fn next(&mut self, kind: CollateralKind) -> Option<Problem> {
        let number = self.seen.entry(kind).or_insert(0);
        let name = match kind {
            CollateralKind::TdxTcbInfo => "TDX TCB info",
            CollateralKind::TdxQeIdentity => "TDX QE identity",
            _ => "TDX revocation list",
        };
        let problem = self.problems.remove(&format!("{name} {number}"));
        *number += 1;
        problem
    }
}

fn not_judged(detail: &str) -> Problem {
    Problem { code: "not-judged", detail: detail.to_owned() }
}

/// A certificate of AMD's: an authority under its root, or a chip's under the authorities beside it.
fn certificate(piece: &CollateralPiece, beside: &[Vec<u8>], anchors: &Anchors, at: UnixTime) -> Option<Problem> {
    let der = &piece.bytes;
    if let Some(chip) = VcekName::of_certificate(der) {
        return chip.judge(der, beside, anchors, at).err().map(Problem::from);
    }
    if forms::is_of_a_chip(der) {
        return Some(not_judged("a provider's certificate counts beside a report that it signed: portcullis verify --cert"));
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
