//! Signed documents: the envelope as it came, and each type of body under a good signature.
//!
//! Input: a byte that chooses what the rest is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{NOW, Signer, documents, forms};
use protocol::documents::{Certificate, CertificateBody, PolicyBody, RevocationsBody, StatementBody, TcbBaselinesBody};
use protocol::dsse::{Body, SignedDocument};
use protocol::messages::AnswerBody;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 7 {
        0 => envelope(bytes),
        1 => drop(documents::read::<StatementBody>(bytes, Signer::Publisher)),
        2 => drop(documents::read::<PolicyBody>(bytes, Signer::Authority)),
        3 => drop(documents::read::<RevocationsBody>(bytes, Signer::Authority)),
        4 => certificate(bytes),
        5 => drop(documents::read::<AnswerBody>(bytes, Signer::Identity)),
        _ => drop(documents::read::<TcbBaselinesBody>(bytes, Signer::Authority)),
    }
});

fn envelope(bytes: &[u8]) {
    let Ok(document) = SignedDocument::parse::<StatementBody>(bytes) else { return };
    assert_eq!(forms::json(bytes).as_ref(), Some(&document));
    let Ok(authentic) = document.authenticate::<StatementBody>(&[*Signer::Publisher.key().public()]) else { return };
    // The one statement of the fixtures' that this key ever signed.
    assert_eq!(*authentic.body(), documents::statement());
    assert_eq!(*authentic.digest(), document.digest());
}

fn certificate(bytes: &[u8]) {
    let root = *Signer::Root.key().public();
    let Ok(document) = documents::read::<CertificateBody>(bytes, Signer::Root) else { return };
    let body = document.body();
    if let Ok(certificate) = Certificate::verify(document.signed(), &root, NOW) {
        assert!(body.installation == root && body.not_before <= NOW && NOW <= body.not_after);
        let purposes = [certificate.identity().is_ok(), certificate.log().is_ok(), certificate.sealing().is_ok()];
        assert_eq!(purposes.iter().filter(|serves| **serves).count(), 1, "a key serves one purpose");
    }
    assert_eq!(document.signed().payload_type, CertificateBody::PAYLOAD_TYPE);
}
