//! Collateral in every form, and the bundle that it is carried in. Whatever is read is a bundle's piece, and keeps its bytes on the way.
//!
//! Input: a byte that chooses what the rest is; for two files, a byte more that says where the first ends; for files with names, of each the
//! length of its name, its name, its length in two bytes, and itself.

#![no_main]

use attestation::forms::{self, CollateralFile, Form, Gathered, PieceSummary};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{NOW, Signer, documents};
use protocol::collateral::CollateralBundleBody;
use protocol::dsse::SignedDocument;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 4 {
        0 => drop(documents::read::<CollateralBundleBody>(bytes, Signer::Authority)),
        1 => carried(&forms::gather(&[CollateralFile { name: "tcb_info.json", bytes }])),
        2 => {
            let Some((at, bytes)) = bytes.split_first() else { return };
            let (first, second) = bytes.split_at(bytes.len() * usize::from(*at) / 256);
            let file = |name, bytes| CollateralFile { name, bytes };
            carried(&forms::gather(&[file("tcb_info.json", first), file("tcb_signing_chain.pem", second)]));
        }
        _ => {
            let files = named(bytes);
            let all = forms::gather(&files);
            paired(&files, &all);
            carried(&all);
        }
    }
});

/// Up to eight files, each with its name.
fn named(mut bytes: &[u8]) -> Vec<CollateralFile<'_>> {
    let mut files = Vec::new();
    while let (Some((file, rest)), true) = (named_file(bytes), files.len() < 8) {
        files.push(file);
        bytes = rest;
    }
    files
}

fn named_file(bytes: &[u8]) -> Option<(CollateralFile<'_>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((CollateralFile { name: std::str::from_utf8(name).ok()?, bytes }, rest))
}

/// A signed body travels with a chain that lies beside it, and of those with one that is named most like it.
fn paired(files: &[CollateralFile<'_>], all: &Gathered) {
    let read = || files.iter().zip(all.files.iter().map(|file| file.read.as_ref().ok().copied()));
    // Others bring bodies with chains of their own, or write chains in escapes.
    let plain = read().all(|(file, form)| match form {
        Some(Form::QuoteCollateral | Form::PlatformCollaterals | Form::Bundle) => false,
        Some(Form::SigningChain) => !file.bytes.contains(&b'%'),
        _ => true,
    });
    if !plain {
        return;
    }
    let common = |one: &str, other: &str| one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let chains: Vec<&CollateralFile<'_>> = read().filter(|(_, form)| *form == Some(Form::SigningChain)).map(|(file, _)| file).collect();
    let mut seen: Vec<&[u8]> = Vec::new();
    for (file, form) in read() {
        let body = file.bytes.trim_ascii();
        if !matches!(form, Some(Form::TcbInfo | Form::QeIdentity)) || seen.contains(&body) {
            continue;
        }
        // The same body again is the same piece, with the chain of the first.
        seen.push(body);
        let nearest = chains.iter().map(|chain| common(chain.name, file.name)).max().expect("a body that was taken has a chain");
        let piece = all.pieces.iter().find(|piece| piece.bytes == body).expect("a body that was taken is a piece");
        let chain = piece.issuer_chain.as_deref().expect("its chain").as_bytes();
        let mut nearest = chains.iter().filter(|other| common(other.name, file.name) == nearest);
        assert!(nearest.any(|other| other.bytes == chain), "{:?} has the chain of another name", file.name);
    }
}

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
