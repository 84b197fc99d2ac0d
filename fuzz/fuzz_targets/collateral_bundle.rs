//! Collateral in every form, and the bundle that it is carried in. Whatever is read is a bundle's piece, and keeps its bytes on the way.
//!
//! Input: a byte that chooses what the rest is; for two files, a byte more that says where the first ends.

#![no_main]

use attestation::forms::{self, CollateralFile, Gathered, PieceSummary};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{NOW, Signer, documents};
use protocol::collateral::CollateralBundleBody;
use protocol::dsse::SignedDocument;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 3 {
        0 => drop(documents::read::<CollateralBundleBody>(bytes, Signer::Authority)),
        1 => carried(&forms::gather(&[CollateralFile { name: "tcb_info.json", bytes }])),
        _ => {
            let Some((at, bytes)) = bytes.split_first() else { return };
            let (first, second) = bytes.split_at(bytes.len() * usize::from(*at) / 256);
            let file = |name, bytes| CollateralFile { name, bytes };
            carried(&forms::gather(&[file("tcb_info.json", first), file("tcb_signing_chain.pem", second)]));
        }
    }
});

/// What was gathered can be carried, comes back the same, and becomes collateral and pieces again.
fn carried(all: &Gathered) {
    let body = CollateralBundleBody { created: NOW, pieces: all.pieces.clone() };
    let signed = SignedDocument::sign(&body, &Signer::Authority.key()).expect("what was gathered can be signed");
    let json = signed.to_json();
    let again = forms::gather(&[CollateralFile { name: "bundle.json", bytes: &json }]);
    assert_eq!(again.pieces, all.pieces);
    let collateral = forms::collateral(&all.pieces);
    for piece in forms::pieces(&collateral, "") {
        drop(PieceSummary::of(&piece));
    }
    all.pieces.iter().map(PieceSummary::of).for_each(drop);
}
