//! Each piece under the roots, as of a time, with what lies beside it.

use std::collections::BTreeMap;

use attestation::{
    Anchors, Collateral, PreparedCollateral, Rejection, SigningKeyKind, forms, judge_amd_authority, judge_amd_crl, judge_amd_leaf,
    judge_amd_revocation, judge_intel_certificate, judge_intel_crl,
};
use protocol::collateral::{CollateralKind, CollateralPiece};
use protocol::time::UnixTime;

use super::view::Problem;

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self { code: rejection.code(), detail: rejection.to_string() }
    }
}

/// What is wrong with each piece, in their order. A list beside a certificate says whether that is revoked.
pub(super) fn problems(pieces: &[CollateralPiece], anchors: &Anchors, at: UnixTime) -> Vec<Option<Problem>> {
    let Collateral { certificates, crls, tdx } = forms::collateral(pieces);
    let amd = Amd { certificates: &certificates, crls: &crls, anchors, at };
    let mut documents = Documents::prepare(pieces, anchors);
    let problem = |piece: &CollateralPiece| match piece.kind {
        CollateralKind::SnpCertificate => amd.certificate(&piece.bytes),
        CollateralKind::SnpCrl => amd.list(&piece.bytes),
        CollateralKind::TdxTcbInfo | CollateralKind::TdxQeIdentity => documents.next(piece.kind),
        CollateralKind::TdxCrl => match judge_intel_crl(&piece.bytes, &tdx.certificates, &tdx.crls, anchors) {
            Ok(Some(_)) => None,
            Ok(None) => Some(not_judged("no authority of its name is at hand")),
            Err(rejection) => Some(rejection.into()),
        },
        CollateralKind::TdxCertificate => judge_intel_certificate(&piece.bytes, &tdx.crls, anchors, at).err().map(Problem::from),
    };
    pieces.iter().map(problem).collect()
}

/// Intel's signed documents, prepared together with the lists: a signer may be revoked by one that came with it.
struct Documents {
    problems: BTreeMap<String, Problem>,
    seen: BTreeMap<CollateralKind, usize>,
}

impl Documents {
    fn prepare(pieces: &[CollateralPiece], anchors: &Anchors) -> Self {
        let Collateral { tdx, .. } = forms::collateral(pieces);
        let prepared = PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, anchors);
        let problems = prepared.problems().map(|(piece, rejection)| (piece, Problem::from(rejection.clone()))).collect();
        Self { problems, seen: BTreeMap::new() }
    }

    /// What is wrong with the next piece of a kind.
    fn next(&mut self, kind: CollateralKind) -> Option<Problem> {
        let number = self.seen.entry(kind).or_insert(0);
        let name = match kind {
            CollateralKind::TdxTcbInfo => "TDX TCB info",
            _ => "TDX QE identity",
        };
        let problem = self.problems.remove(&format!("{name} {number}"));
        *number += 1;
        problem
    }
}

fn not_judged(detail: &str) -> Problem {
    Problem { code: Problem::NOT_JUDGED, detail: detail.to_owned() }
}

/// What AMD's pieces are judged beside.
struct Amd<'a> {
    certificates: &'a [Vec<u8>],
    crls: &'a [Vec<u8>],
    anchors: &'a Anchors,
    at: UnixTime,
}

impl Amd<'_> {
    /// An authority under its root, or a chip's or provider's certificate under the authorities beside it.
    fn certificate(&self, der: &[u8]) -> Option<Problem> {
        let Self { certificates, crls, anchors, at } = *self;
        if forms::is_of_a_chip(der) {
            return judge_amd_leaf(der, certificates, crls, anchors, at).err().map(Problem::from);
        }
        let kinds = [SigningKeyKind::Vcek, SigningKeyKind::Vlek];
        let authorities = anchors.lines().flat_map(|line| kinds.map(|kind| (line, kind)));
        best(authorities.map(|(line, kind)| {
            judge_amd_authority(der, line, kind, anchors, at)?;
            judge_amd_revocation(der, crls, line, anchors)
        }))
    }

    /// A revocation list. Its dates are looked at elsewhere.
    fn list(&self, der: &[u8]) -> Option<Problem> {
        best(self.anchors.lines().map(|line| judge_amd_crl(der, line, self.anchors).map(drop)))
    }
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
