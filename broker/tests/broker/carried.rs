//! Collateral that is carried to a broker without a network, and what it hands out to be carried.

use axum::http::StatusCode;
use broker::clock;
use protocol::admin::{CollateralForecast, CollateralHeld, CollateralImported};
use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::dsse::SignedDocument;
use protocol::entries::{Entry, Event};
use protocol::ids::{Digest, Platform};
use protocol::keys::SigningKey;
use testbed::snp::{GuestShape, Root};

use crate::house::*;
use crate::http::{Answer, Served, problem, serve_house};

fn piece(kind: CollateralKind, bytes: Vec<u8>) -> CollateralPiece {
    CollateralPiece { kind, bytes, issuer_chain: None, source: "a stick".to_owned() }
}

/// What a guest without certificates needs, a chip's own first.
fn pieces() -> Vec<CollateralPiece> {
    let platform = platform();
    vec![
        piece(CollateralKind::SnpCertificate, platform.vcek_der()),
        piece(CollateralKind::SnpCrl, platform.crl_der(&[])),
        piece(CollateralKind::SnpCertificate, platform.ask_der()),
    ]
}

fn bundle(pieces: Vec<CollateralPiece>, key: &SigningKey) -> SignedDocument {
    SignedDocument::sign(&CollateralBundleBody { created: clock::now(), pieces }, key).unwrap()
}

/// A broker that has nothing, and nobody to ask.
async fn bare() -> Served {
    let house = House::with_llama().await;
    std::fs::remove_file(house.data().join("collateral/genoa.crl")).unwrap();
    serve_house(house, None).await
}

async fn put(served: &Served, bundle: &SignedDocument) -> Answer {
    served.admin("PUT", "/v1/collateral", bundle.to_json()).await
}

async fn import(served: &Served, bundle: &SignedDocument) -> CollateralImported {
    let answer = put(served, bundle).await;
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    serde_json::from_slice(answer.body()).unwrap()
}

async fn entries(served: &Served) -> Vec<Event> {
    let size = served.broker.ledger.published().edge.size();
    let entries = served.broker.store.entries(0..size).await.unwrap();
    entries.iter().map(|bytes| Entry::parse(bytes).unwrap().event).collect()
}

async fn release(served: &Served) -> Answer {
    let mut soft = platform().guest(GuestShape::default());
    soft.certificate_table = Vec::new();
    let guest = Guest { soft, ..Guest::default() };
    let body = guest.request(&served.challenge().await);
    served.release(&guest, &body).await
}

#[tokio::test]
async fn a_broker_with_nothing_but_an_imported_bundle_releases() {
    let served = bare().await;
    problem(&release(&served).await, 403, "snp-leaf-missing");
    let signed = bundle(pieces(), &authority());
    let imported = import(&served, &signed).await;
    assert_eq!(imported.document, signed.digest());
    let refused: Vec<_> = imported.pieces.iter().map(|piece| piece.refused.clone()).collect();
    assert_eq!(refused, [None, None, None], "in the order of the bundle");
    assert!(imported.pieces[0].subject.starts_with("SEV-VCEK by SEV-Genoa, chip "), "{}", imported.pieces[0].subject);
    assert_eq!(release(&served).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_import_is_an_entry_of_the_log() {
    let served = bare().await;
    let signed = bundle(pieces(), &authority());
    let imported = import(&served, &signed).await;
    let expected = Event::CollateralImported { document: signed.digest(), authority: *authority().public(), pieces: 3 };
    assert_eq!(entries(&served).await[usize::try_from(imported.entry).unwrap()], expected);
}

#[tokio::test]
async fn nobody_but_an_authority_of_the_configuration_carries_anything_in() {
    let served = bare().await;
    let before = entries(&served).await;
    problem(&put(&served, &bundle(pieces(), &publisher())).await, 403, "document-refused");
    let mut changed = bundle(pieces(), &authority());
    changed.payload.push(b' ');
    problem(&put(&served, &changed).await, 403, "document-refused");
    let body = bundle(pieces(), &authority()).to_json();
    problem(&served.call("PUT", "/v1/collateral", body).await, 401, "admin-token");
    assert_eq!((entries(&served).await, served.broker.collateral.pieces().len()), (before, 0));
    assert_eq!(import(&served, &bundle(pieces(), &other_authority())).await.pieces.len(), 3, "any authority, whatever its names");
}

#[tokio::test]
async fn a_piece_that_does_not_verify_is_refused_and_the_others_are_taken() {
    let served = bare().await;
    let mut mixed = pieces();
    let forged = platform().under(Root::Other);
    mixed.push(piece(CollateralKind::SnpCrl, forged.crl_der(&[])));
    mixed.push(piece(CollateralKind::SnpCertificate, vec![0x30, 0]));
    let imported = import(&served, &bundle(mixed, &authority())).await;
    let refused: Vec<_> = imported.pieces.iter().map(|piece| piece.refused.is_some()).collect();
    assert_eq!(refused, [false, false, false, true, true]);
    assert_eq!(served.broker.collateral.pieces().len(), 3);
}

#[tokio::test]
async fn what_one_broker_holds_another_can_be_given() {
    let connected = bare().await;
    import(&connected, &bundle(pieces(), &authority())).await;
    let answer = connected.admin("GET", "/v1/collateral", Vec::new()).await;
    let held: CollateralHeld = serde_json::from_slice(answer.body()).unwrap();
    let digests = |pieces: &[CollateralPiece]| {
        let mut digests: Vec<Digest> = pieces.iter().map(CollateralPiece::digest).collect();
        digests.sort();
        digests
    };
    assert_eq!((digests(&held.pieces), held.left_out), (digests(&pieces()), 0));
    let apart = bare().await;
    import(&apart, &bundle(held.pieces, &authority())).await;
    assert_eq!(release(&apart).await.status(), StatusCode::OK);
    problem(&apart.call("GET", "/v1/collateral", Vec::new()).await, 401, "admin-token");
}

#[tokio::test]
async fn a_forecast_names_each_platform_that_was_seen_and_when_its_policy_will_deny_it() {
    let served = bare().await;
    import(&served, &bundle(pieces(), &authority())).await;
    let forecast = async || {
        let answer = served.admin("GET", "/v1/collateral/forecast", Vec::new()).await;
        serde_json::from_slice::<CollateralForecast>(answer.body()).unwrap()
    };
    assert_eq!(forecast().await.platforms, []);
    for _ in 0..2 {
        assert_eq!(release(&served).await.status(), StatusCode::OK);
    }
    let found = forecast().await;
    let [seen] = found.platforms.as_slice() else { panic!("one machine under one policy: {found:?}") };
    assert_eq!((seen.platform, seen.policy.name.as_str()), (Platform::SevSnp, "acme/strict"));
    assert!(seen.machine.starts_with("Genoa ") && seen.seen >= found.since && seen.seen <= found.at, "{seen:?}");
    let [denied] = seen.denials.as_slice() else { panic!("{seen:?}") };
    assert_eq!(denied.check, "revocation-age");
    assert!(denied.from > found.at, "{denied:?}");
    // What was written, another start remembers; it is one platform still.
    served.broker.sightings.write(&*served.broker.store).await.unwrap();
    let again = served.house.open().await;
    let remembered = again.sightings.forecast(&again.ledger.published().documents, &again.collateral, found.at);
    assert_eq!((&remembered.platforms, remembered.since), (&found.platforms, seen.seen));
    problem(&served.call("GET", "/v1/collateral/forecast", Vec::new()).await, 401, "admin-token");
}

#[tokio::test]
async fn a_bundle_in_the_folder_serves_as_well_however_many_chips_it_has() {
    let house = House::with_llama().await;
    let chip = |number: u8| piece(CollateralKind::SnpCertificate, platform().with_chip(&number.to_string()).vcek_der());
    let all = pieces().into_iter().chain((0..40).map(chip)).collect();
    std::fs::write(house.data().join("collateral/bundle.json"), bundle(all, &authority()).to_json()).unwrap();
    let served = serve_house(house, None).await;
    assert_eq!(release(&served).await.status(), StatusCode::OK);
}
