//! Collateral by hand: what was carried here comes in, what is held goes out, and what the policies will say of it.
//!
//! A bundle is believed for nothing but who carried it: each of its pieces is verified under this broker's roots, and is kept or
//! refused by itself. That it came is an entry of the log before any of it is in use.

use std::sync::Arc;

use attestation::forms::{self, PieceSummary};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use protocol::admin::{CollateralHeld, CollateralImported, PieceOutcome, RefusedPiece};
use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::dsse::{Document, SignedDocument};
use protocol::entries::Event;
use protocol::limits;
use protocol::time::UnixTime;

use super::Broker;
use super::admin::refused;
use super::problem::{no_body, refuse};
use crate::clock;
use crate::collateral::{Piece, PieceKey, Refused};
use crate::documents::PutError;

/// What pieces may weigh in one answer (bytes, before base64 makes a third more of them): it has to fit [`limits::REPLY_BODY`].
const ANSWER: usize = limits::REPLY_BODY / 2;

pub async fn put(State(broker): State<Arc<Broker>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&rejection).into_response(),
    };
    let admitted = SignedDocument::parse::<CollateralBundleBody>(&body).map_err(PutError::from);
    match admitted.and_then(|signed| broker.trust.collateral(&signed)) {
        // By itself: a client that hangs up does not leave half of it done.
        Ok(bundle) => tokio::spawn(async move { import(&broker, &bundle).await }).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an import of collateral did not come to its end");
            refuse(500, "import-failed", "the import did not come to its end; what was kept is kept")
        }),
        Err(error) => refused(&error),
    }
}

/// Recorded, then verified and kept, piece by piece.
async fn import(broker: &Broker, bundle: &Document<CollateralBundleBody>) -> Response {
    let (document, authority, all) = (*bundle.digest(), *bundle.signer(), &bundle.body().pieces);
    let pieces = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let entry = match broker.ledger.note(Event::CollateralImported { document, authority, pieces }).await {
        Ok(entry) => entry,
        Err(error) => {
            tracing::error!(%error, "an import of collateral could not be recorded");
            return refuse(503, "not-recorded", "the import could not be recorded, so nothing was taken");
        }
    };
    let at = clock::now();
    let authorities = pck_authorities(broker, all);
    let mut outcomes: Vec<Option<PieceOutcome>> = vec![None; all.len()];
    for index in authorities_first(all) {
        let (Some(piece), Some(outcome)) = (all.get(index), outcomes.get_mut(index)) else { continue };
        let refused = keep(broker, piece, &authorities, at).await.err();
        let subject = PieceSummary::of(piece).subject;
        *outcome = Some(PieceOutcome { piece: piece.digest(), kind: piece.kind, subject, refused });
    }
    let imported = CollateralImported { document, entry, pieces: outcomes.into_iter().flatten().collect() };
    let refused = imported.pieces.iter().filter(|piece| piece.refused.is_some()).count();
    tracing::info!(%document, %authority, entry, pieces, refused, "collateral imported");
    Json(imported).into_response()
}

/// The order in which pieces can be verified: certificates before what they signed, a chip's own last.
fn authorities_first(pieces: &[CollateralPiece]) -> Vec<usize> {
    let rank = |piece: &CollateralPiece| match piece.kind {
        CollateralKind::TdxCertificate => 0,
        CollateralKind::SnpCertificate if !forms::is_of_a_chip(&piece.bytes) => 1,
        CollateralKind::TdxTcbInfo | CollateralKind::TdxQeIdentity | CollateralKind::TdxCrl | CollateralKind::SnpCrl => 2,
        CollateralKind::SnpCertificate => 3,
    };
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|index| pieces.get(*index).map(rank));
    order
}

pub async fn held(State(broker): State<Arc<Broker>>) -> Response {
    let mut all = pieces(&broker);
    let chip = |piece: &CollateralPiece| piece.kind == CollateralKind::SnpCertificate && forms::is_of_a_chip(&piece.bytes);
    all.sort_by_key(chip);
    let (mut weight, before) = (0_usize, all.len());
    all.retain(|piece| {
        weight = weight.saturating_add(piece.bytes.len()).saturating_add(piece.issuer_chain.as_ref().map_or(0, String::len));
        weight <= ANSWER
    });
    let left_out = u64::try_from(before.saturating_sub(all.len())).unwrap_or(u64::MAX);
    let refused = broker.collateral.refused().into_iter().map(|refused| {
        let Refused { kind, subject, origin, why, at } = refused;
        RefusedPiece { kind: kind.to_owned(), subject, origin: origin.to_string(), why, at }
    });
    Json(CollateralHeld { pieces: all, left_out, refused: refused.collect() }).into_response()
}

pub async fn forecast(State(broker): State<Arc<Broker>>) -> Response {
    Json(broker.sightings.forecast(&broker.ledger.published().documents, &broker.collateral, clock::now())).into_response()
}

/// The certificates of PCK authorities among some pieces, DER: any list of the bundle may be by one of them.
fn pck_authorities(broker: &Broker, pieces: &[CollateralPiece]) -> Vec<Vec<u8>> {
    let certificates = pieces.iter().filter(|piece| piece.kind == CollateralKind::TdxCertificate).map(|piece| &piece.bytes);
    certificates.filter(|der| attestation::is_pck_authority(der, &broker.anchors)).cloned().collect()
}

/// Verifies one piece and keeps it, durably; or says why not. The certificate of an authority of Intel's is no piece of its own: one that
/// verifies is kept with the list that it signed.
async fn keep(broker: &Broker, piece: &CollateralPiece, authorities: &[Vec<u8>], at: UnixTime) -> Result<(), String> {
    let mut collateral = forms::collateral(std::slice::from_ref(piece));
    match piece.kind {
        CollateralKind::TdxCertificate if authorities.contains(&piece.bytes) => return Ok(()),
        CollateralKind::TdxCertificate => return Err("no authority over PCK certificates under the root in force".to_owned()),
        CollateralKind::TdxCrl => collateral.tdx.certificates.extend_from_slice(authorities),
        _ => {}
    }
    let outcomes = broker.collateral.import(collateral, at).await;
    if outcomes.is_empty() {
        return Err("it is nothing that is kept".to_owned());
    }
    match outcomes.into_iter().find_map(|(_, kept)| kept.err()) {
        None => Ok(()),
        Some(why) => Err(why.to_string()),
    }
}

/// Everything that is held, all of it judged when it came: another broker under the same roots takes all of it. The certificates of
/// Intel's authorities go with their lists.
fn pieces(broker: &Broker) -> Vec<CollateralPiece> {
    let mut all: Vec<CollateralPiece> = broker.collateral.pieces().iter().map(|piece| carried(piece)).collect();
    // Nothing goes out that a bundle could not carry.
    all.retain(|piece| piece.check().is_ok());
    all
}

/// A piece that is kept, as a bundle carries it.
fn carried(piece: &Piece) -> CollateralPiece {
    let kind = match piece.key {
        PieceKey::AmdAuthority(..) | PieceKey::Vcek(_) => CollateralKind::SnpCertificate,
        PieceKey::AmdCrl(_) => CollateralKind::SnpCrl,
        PieceKey::TcbInfo(_) => CollateralKind::TdxTcbInfo,
        PieceKey::QeIdentity => CollateralKind::TdxQeIdentity,
        PieceKey::PckCrl(_) | PieceKey::RootCrl => CollateralKind::TdxCrl,
    };
    let chain = String::from_utf8_lossy(&piece.raw.issuer_chain).into_owned();
    let issuer_chain = (!chain.is_empty()).then_some(chain);
    CollateralPiece { kind, bytes: piece.raw.bytes.clone(), issuer_chain, source: format!("a broker: {}", piece.key) }
}

#[cfg(test)]
mod tests {
    use testbed::snp::{Line, SoftPlatform};

    use super::*;

    #[test]
    fn authorities_are_verified_before_what_they_signed() {
        let platform = SoftPlatform::new(Line::Milan);
        let piece = |kind, bytes: &[u8]| CollateralPiece { kind, bytes: bytes.to_vec(), issuer_chain: None, source: String::new() };
        let pieces = [
            piece(CollateralKind::SnpCertificate, &platform.vcek_der()),
            piece(CollateralKind::SnpCrl, &platform.crl_der(&[])),
            piece(CollateralKind::SnpCertificate, &platform.ask_der()),
            piece(CollateralKind::TdxCertificate, &[1]),
        ];
        assert_eq!(authorities_first(&pieces), [3, 2, 1, 0]);
    }
}
