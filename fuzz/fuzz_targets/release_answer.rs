//! What a guest receives from whoever answers in the broker's place: answers, problems, challenges, certificates; and the outcome
//! inside an answer.
//!
//! Input: a byte that chooses which, then JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{NOW, Signer, documents, forms, recipient};
use protocol::documents::{Certificate, CertificateBody, CertifiedKey};
use protocol::dsse::SignedDocument;
use protocol::encoding::Fields;
use protocol::hpke;
use protocol::ids::{AnchorClass, Digest};
use protocol::messages::{AnswerBody, AnswerError, ChallengeAnswer, InstallationAnswer, Outcome, Problem, ReleaseAnswer};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 5 {
        0 => answer(bytes),
        1 => outcome(bytes),
        2 => drop(forms::json::<Problem>(bytes)),
        3 => installation(bytes),
        _ => drop(forms::json::<ChallengeAnswer>(bytes)),
    }
});

const REQUEST: [u8; 32] = [9; 32];

fn answer(bytes: &[u8]) {
    let Some(answer) = forms::json::<ReleaseAnswer>(bytes) else { return };
    let opened = answer.open(&Digest::from(REQUEST), Signer::Root.key().public(), &recipient(), NOW);
    // No answer of the fixtures' identity leaves this process.
    assert!(opened.is_err(), "an answer that nobody gave");
}

fn outcome(bytes: &[u8]) {
    let request = Digest::from(REQUEST);
    let identity = SignedDocument::sign(&certificate(), &Signer::Root.key()).expect("a certificate");
    let sealed =
        hpke::seal(recipient().public(), Fields::new("portcullis/answer/v1").field(request).as_bytes(), &[], bytes).expect("sealed");
    let answer = SignedDocument::sign(&AnswerBody { request, sealed }, &Signer::Identity.key()).expect("an answer");
    let answer = ReleaseAnswer { answer, identity };
    match answer.open(&request, Signer::Root.key().public(), &recipient(), NOW) {
        Ok(outcome) => assert_eq!(forms::json::<Outcome>(bytes), Some(outcome)),
        Err(error) => assert!(matches!(error, AnswerError::Outcome(_)), "{error}"),
    }
    let other = answer.open(&Digest::from([0; 32]), Signer::Root.key().public(), &recipient(), NOW);
    assert!(matches!(other, Err(AnswerError::OtherRequest { .. })));
}

fn certificate() -> CertificateBody {
    CertificateBody {
        installation: *Signer::Root.key().public(),
        name: "acme".parse().expect("a name"),
        anchors: AnchorClass::Test,
        certified: CertifiedKey::Identity(*Signer::Identity.key().public()),
        not_before: NOW,
        not_after: NOW,
    }
}

fn installation(bytes: &[u8]) {
    let Some(answer) = forms::json::<InstallationAnswer>(bytes) else { return };
    for signed in &answer.certificates {
        drop(Certificate::verify(signed, Signer::Root.key().public(), NOW));
        drop(documents::read::<CertificateBody>(&signed.payload, Signer::Root));
    }
}
